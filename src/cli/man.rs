//! The man pages: one for each command, and runup.toml(5) for the configuration file.

use super::interface::{self, Documented};
use super::keys::{self, Key};
use super::{explain, manual};
use crate::error::situation;
use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use std::path::Path;

/// The name of the page for the configuration file.
const CONFIG_PAGE: &str = "runup.toml";

/// Writes every page into `dir`.
pub(super) fn write(dir: &Path) -> std::io::Result<()> {
    let mut root = interface::command().disable_help_subcommand(true);
    root.build();
    let commands = interface::commands(&root);
    for (path, command) in &commands {
        fs_err::write(dir.join(format!("{}.1", page_name(path))), page(path, command, &commands)?)?;
    }
    let source = Man::new(root.clone());
    fs_err::write(dir.join(format!("{CONFIG_PAGE}.5")), config_page(source, &keys::all(&root))?)?;
    Ok(())
}

/// `runup-runners-list` for `runners list`.
fn page_name(path: &str) -> String {
    if path.is_empty() { "runup".to_owned() } else { format!("runup-{}", path.replace(' ', "-")) }
}

/// Without a date, so that the same version has the same pages; a blank keeps its place in the title.
fn titled(man: Man) -> Man {
    man.date(" ").source(concat!("runup ", env!("CARGO_PKG_VERSION"))).manual("runup manual")
}

fn page(path: &str, command: &Command, commands: &[(String, &Command)]) -> std::io::Result<Vec<u8>> {
    let man = titled(Man::new((*command).clone()));
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    let mut roff = Roff::new();
    let usage = (*command).clone().render_usage().to_string();
    roff.control("SH", ["SYNOPSIS"]).text([bold(usage.trim_start_matches("Usage: "))]);
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([roman(format!("{}.", command.get_about().map(ToString::to_string).unwrap_or_default()))]);
    let page = manual::page_of(path);
    for note in page.map_or(&[][..], |page| page.notes) {
        roff.control("PP", []).text([roman(*note)]);
    }
    roff.to_writer(&mut out)?;
    man.render_options_section(&mut out)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut out)?;
    }
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    let exit = page.map_or(&[][..], |page| page.exit);
    for (code, meaning) in exit {
        entry(&mut roff, [bold(*code)], meaning);
    }
    if !exit.is_empty() {
        roff.control("PP", []).text([roman("Any command:")]);
    }
    for (code, meaning) in manual::exit_codes() {
        entry(&mut roff, [bold(code)], meaning);
    }
    if path == explain::PAGE.path {
        roff.control("SH", ["ERRORS"]);
        for one in situation::all() {
            let text = format!("{} {} Exit code: {}.", one.cause, one.fix, explain::codes(one));
            entry(&mut roff, [bold(one.name())], &text);
        }
    }
    roff.control("SH", ["ENVIRONMENT"]);
    for option in interface::options(command) {
        if let Some(variable) = &option.variable {
            entry(&mut roff, [bold(variable)], &format!("The value of --{}.", option.option));
        }
    }
    for (variables, meaning) in manual::ENVIRONMENT {
        entry(&mut roff, [bold(variables)], meaning);
    }
    files(&mut roff);
    roff.control("SH", ["EXAMPLES"]);
    for (meaning, line) in manual::examples_of(path) {
        entry(&mut roff, [roman(format!("{meaning}:"))], "");
        roff.text([bold(*line)]);
    }
    let others = commands
        .iter()
        .filter(|(other, _)| is_related(path, other))
        .map(|(other, _)| (page_name(other), "1"));
    see_also(&mut roff, others.chain([(CONFIG_PAGE.to_owned(), "5")]));
    roff.to_writer(&mut out)?;
    Ok(out)
}

/// A page refers to the root's, and to those beside and below its own.
fn is_related(path: &str, other: &str) -> bool {
    let parent = path.rsplit_once(' ').map_or("", |(parent, _)| parent);
    let other_parent = other.rsplit_once(' ').map_or("", |(parent, _)| parent);
    other != path && (other.is_empty() || other_parent == parent || other_parent == path)
}

fn config_page(source: Man, keys: &[Key]) -> std::io::Result<Vec<u8>> {
    let man = titled(source.title(CONFIG_PAGE).section("5"));
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    let mut roff = Roff::new();
    roff.control("SH", ["NAME"]).text([roman("runup.toml - configuration file of runup")]);
    roff.control("SH", ["SYNOPSIS"]).text([bold("/etc/runup/config.toml")]);
    roff.control("SH", ["DESCRIPTION"]);
    for (index, paragraph) in keys::INTRODUCTION.iter().enumerate() {
        if index > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(*paragraph)]);
    }
    roff.control("SH", ["KEYS"]);
    for key in keys {
        roff.control("TP", []).text([bold(&key.name), roman(" = "), italic(key.kind)]);
        for (index, use_) in key.uses.iter().enumerate() {
            if index > 0 {
                roff.control("IP", []);
            }
            roff.text(description(use_));
        }
        roff.control("IP", []).text([
            roman("Option: "),
            bold(&key.option),
            roman(". Environment: "),
            bold(&key.variable),
        ]);
    }
    files(&mut roff);
    roff.control("SH", ["EXAMPLES"]).control("EX", []);
    for line in keys::EXAMPLE.lines() {
        roff.text([roman(line)]);
    }
    roff.control("EE", []);
    see_also(
        &mut roff,
        [("runup", "1"), ("runup-install", "1"), ("runup-run", "1")].map(|(name, n)| (name.to_owned(), n)),
    );
    roff.to_writer(&mut out)?;
    Ok(out)
}

fn description(use_: &keys::Use) -> Vec<Inline> {
    let Documented { text, details, default, values, .. } = &use_.documented;
    let mut line = vec![italic(use_.few_commands().join(", ")), roman(format!(": {text}."))];
    if let Some(details) = details {
        line.push(roman(format!(" {}", details.replace("\n\n", " "))));
    }
    if let Some(values) = keys::values(values) {
        line.push(roman(format!(" {values}")));
    }
    line.push(roman(format!(" Default: {}.", default.as_deref().unwrap_or(use_.without_default))));
    line
}

fn files(roff: &mut Roff) {
    roff.control("SH", ["FILES"]);
    for (file, meaning) in manual::FILES {
        entry(roff, [italic(file)], meaning);
    }
}

fn see_also(roff: &mut Roff, pages: impl IntoIterator<Item = (String, &'static str)>) {
    let mut line = Vec::new();
    for (name, section) in pages {
        if !line.is_empty() {
            line.push(roman(", "));
        }
        line.extend([bold(name), roman(format!("({section})"))]);
    }
    roff.control("SH", ["SEE ALSO"]).text(line);
}

fn entry(roff: &mut Roff, term: impl Into<Vec<Inline>>, meaning: &str) {
    roff.control("TP", []).text(term.into());
    if !meaning.is_empty() {
        roff.text([roman(meaning)]);
    }
}
