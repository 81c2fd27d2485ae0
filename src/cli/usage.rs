//! Errors of the command line: what is wrong, where it was set, and what was probably meant.

use super::interface;
use super::output::{self, Failed};
use crate::error::situation::{self, Situation};
use crate::error::{Class, Failure};
use crate::secret;
use crate::settings::flags::Common;
use crate::settings::{Environment, Origin, layers, suggestion};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::borrow::Cow;
use std::ffi::OsString;
use std::process::ExitCode;

/// A hint names at most this many commands.
const MOST_COMMANDS: usize = 4;

/// A command line, variable or file that sets what no option takes.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Usage {
    message: String,
    hint: String,
    class: Class,
}

impl Failure for Usage {
    fn class(&self) -> Class {
        self.class
    }

    fn hint(&self) -> Option<String> {
        Some(self.hint.clone())
    }

    fn situation(&self) -> &'static Situation {
        &situation::COMMAND_LINE
    }
}

/// Where the value that clap refuses was set; clap knows the option, but not the layer.
pub(super) fn origin(
    error: &clap::Error,
    file: &layers::File,
    arguments: &[OsString],
    environment: &Environment,
) -> Origin {
    if !matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue) {
        return Origin::Flag;
    }
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else { return Origin::Flag };
    let option = shown.trim_start_matches('-').split([' ', '=', '[']).next().unwrap_or_default();
    let (flag, joined) = (format!("--{option}"), format!("--{option}="));
    let is_it = |argument: &OsString| *argument == *flag || argument.to_string_lossy().starts_with(&joined);
    let variable = layers::variable(option);
    if arguments.iter().any(is_it) {
        Origin::Flag
    } else if environment.get(&variable).is_some() {
        Origin::Variable(variable)
    } else if file.has(option) {
        Origin::File(file.path().to_owned())
    } else {
        Origin::Flag
    }
}

/// Help and version go to stdout and are a success; anything else is a failure.
pub(super) fn clap_says(
    error: &clap::Error,
    origin: &Origin,
    arguments: &[OsString],
    common: &Common,
) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let needs_command = matches!(
        error.kind(),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand
    );
    if needs_command && !common.json {
        let _ = error.print();
        return ExitCode::from(Class::Usage.exit_code());
    }
    let class = if matches!(origin, Origin::File(_)) { Class::Config } else { Class::Usage };
    let path = path_of(error, arguments);
    let (message, meant) = match error.kind() {
        ErrorKind::UnknownArgument => unknown_argument(&text(error, ContextKind::InvalidArg), &path),
        ErrorKind::InvalidSubcommand => unknown_command(&text(error, ContextKind::InvalidSubcommand), &path),
        ErrorKind::TooManyValues => not_a_switch(error).unwrap_or_else(|| (first_paragraph(error), None)),
        _ if needs_command => (format!("`{}` needs a command", shown(&path)), None),
        _ => (first_paragraph(error), None),
    };
    let help = || match error.kind() {
        ErrorKind::MissingRequiredArgument => text(error, ContextKind::Usage),
        _ => format!("`{} --help` shows what it takes.", shown(&path)),
    };
    let hint = match origin {
        Origin::File(path) => format!("The value is from the configuration file {}.", path.display()),
        Origin::Variable(name) => format!("The value is from the environment variable {name}."),
        Origin::Flag | Origin::Default => meant.unwrap_or_else(help),
    };
    output::finish(Err(Failed::from(Usage { message, hint, class })), common, None)
}

/// The words after `runup` of the command that the error is about. Its usage begins with them; if the error has none, they
/// are the first words of the command line that name a command.
fn path_of(error: &clap::Error, arguments: &[OsString]) -> String {
    let usage = text(error, ContextKind::Usage);
    if usage.is_empty() {
        let root = interface::command();
        let (mut command, mut path) = (&root, Vec::new());
        for argument in arguments {
            if let Some(next) = argument.to_str().and_then(|word| command.find_subcommand(word)) {
                command = next;
                path.push(next.get_name());
            }
        }
        return path.join(" ");
    }
    let words = usage.split_whitespace().skip_while(|word| *word != "runup").skip(1);
    let words = words.take_while(|word| word.starts_with(|first: char| first.is_ascii_lowercase()));
    words.collect::<Vec<_>>().join(" ")
}

/// The command as it is written.
fn shown(path: &str) -> String {
    format!("runup {path}").trim_end().to_owned()
}

/// A piece of what clap knows about the error.
fn text(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::StyledStr(text)) => text.to_string(),
        _ => String::new(),
    }
}

/// The error itself; the other paragraphs are tips and the usage.
fn first_paragraph(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let message = text.split("\n\n").next().unwrap_or(&text).trim_start_matches("error: ");
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A word of the command line, unless it could be a secret. What has the form of a token is marked when it is printed.
fn repeatable(word: &str) -> Option<&str> {
    let is_marked = matches!(secret::mask(word), Cow::Owned(_));
    (is_marked || suggestion::is_plain(word.trim_start_matches('-'))).then_some(word)
}

/// A switch with a value that is neither true nor false.
fn not_a_switch(error: &clap::Error) -> Option<(String, Option<String>)> {
    let (option, value) = (text(error, ContextKind::InvalidArg), text(error, ContextKind::InvalidValue));
    let name = option.strip_prefix("--")?;
    let value = repeatable(&value).map(|value| format!(" {value:?}")).unwrap_or_default();
    let message = format!("invalid value{value} for {option}: it takes true or false");
    Some((message, Some(format!("Pass {option} or --no-{name}."))))
}

fn unknown_argument(argument: &str, path: &str) -> (String, Option<String>) {
    let Some(name) = argument.strip_prefix("--") else {
        let is_short = argument.starts_with('-') && argument.chars().count() == 2;
        let is_marked = matches!(secret::mask(argument), Cow::Owned(_));
        return match argument {
            _ if is_short => (format!("unknown option {argument} of `{}`", shown(path)), None),
            _ if is_marked => (format!("unexpected argument {argument}"), None),
            // It may be the value of an option that was misspelt, and so a secret.
            _ => {
                (format!("unexpected argument of `{}` (not shown, it could be a secret)", shown(path)), None)
            }
        };
    };
    let message = match repeatable(argument) {
        Some(argument) => format!("unknown option {argument} of `{}`", shown(path)),
        None => format!("unknown option of `{}` (not shown, it could be a secret)", shown(path)),
    };
    (message, meant_by(name, path))
}

/// The hint for an unknown option.
fn meant_by(name: &str, path: &str) -> Option<String> {
    let mut root = interface::command();
    root.build();
    let commands = interface::commands(&root);
    let command = commands.iter().find(|(known, _)| known == path)?.1;
    let own: Vec<String> = interface::options(command).into_iter().map(|option| option.option).collect();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let takes = |command: &clap::Command, name: &str| {
        interface::options(command).iter().any(|option| option.option == name)
    };
    // What switches off an option that another command has.
    let is_known = |name: &str| commands.iter().any(|(_, command)| takes(command, name));
    let name = name.strip_prefix("no-").filter(|off| !is_known(name) && is_known(off)).unwrap_or(name);
    let others: Vec<&str> =
        commands.iter().filter(|(_, command)| takes(command, name)).map(|(path, _)| path.as_str()).collect();
    if let Some(reason) = suggestion::why_not_needed(name) {
        return Some(format!("Omit it: {reason}."));
    }
    if name == "dry-run" && matches!(path, "install" | "run") {
        return Some("`runup plan` shows what install would do.".to_owned());
    }
    let similar = suggestion::option(name, &own);
    let usage = similar
        .and_then(|similar| interface::options(command).into_iter().find(|option| option.option == similar));
    match usage {
        Some(option) => Some(format!("Use {}: {}.", option.usage(), option.text)),
        None if !others.is_empty() => {
            let more = if others.len() > MOST_COMMANDS { ", and others" } else { "" };
            let some: Vec<String> =
                others.iter().take(MOST_COMMANDS).map(|path| format!("`{}`", shown(path))).collect();
            Some(format!("--{name} is an option of {}{more}.", some.join(", ")))
        }
        None => None,
    }
}

/// A summary begins with a verb, which goes on a sentence here.
fn lower(summary: &str) -> String {
    let (first, rest) = summary.split_at(summary.chars().next().map_or(0, char::len_utf8));
    first.to_lowercase() + rest
}

fn unknown_command(name: &str, path: &str) -> (String, Option<String>) {
    let mut root = interface::command();
    root.build();
    let commands = interface::commands(&root);
    let children: Vec<&str> = commands
        .iter()
        .find(|(known, _)| known == path)
        .map(|(_, command)| command.get_subcommands().map(clap::Command::get_name).collect())
        .unwrap_or_default();
    let message = match repeatable(name) {
        Some(name) => format!("unknown command {name}"),
        None => "unknown command (not shown, it could be a secret)".to_owned(),
    };
    let meant = suggestion::command(name, path, &children).map(|meant| {
        let about =
            commands.iter().find(|(path, _)| *path == meant).and_then(|(_, command)| command.get_about());
        let about = about.map(|about| format!(" to {}", lower(&about.to_string()))).unwrap_or_default();
        format!("Use `runup {meant}`{about}.")
    });
    (message, meant)
}
