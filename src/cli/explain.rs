//! `runup explain`: what an error or an exit code means, and what to do.

use super::manual::{self, Page};
use super::output::{Failed, Output};
use crate::error::situation::{self, Situation};
use crate::error::{Class, Failure};
use crate::settings::suggestion;
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The signals that runup obeys: SIGHUP, SIGINT, SIGTERM.
const OBEYED: [u8; 3] = [1, 2, 15];

pub(super) const PAGE: Page = Page {
    path: "explain",
    notes: &[
        "The last line of an error, and `error.name` in its JSON, tell the name to explain. Without a name, it lists all.",
    ],
    exit: &[],
    examples: &[
        ("Explain an error", "runup explain name-taken"),
        ("List the errors that end with an exit code", "runup explain 78"),
    ],
};

#[derive(Debug, Clone, Args)]
pub(super) struct ExplainFlags {
    /// Name of an error, or an exit code
    #[arg(value_name = "NAME|CODE")]
    pub what: Option<String>,
}

#[derive(Debug, thiserror::Error)]
#[error("{what:?} is neither the name of an error nor an exit code of runup")]
struct Unknown {
    what: String,
    similar: Option<String>,
}

impl Failure for Unknown {
    fn class(&self) -> Class {
        Class::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(match &self.similar {
            Some(similar) => format!("Did you mean `runup explain {similar}`?"),
            None => "`runup explain` lists the names.".to_owned(),
        })
    }

    fn situation(&self) -> &'static Situation {
        &situation::COMMAND_LINE
    }
}

pub(super) fn run(flags: &ExplainFlags) -> Result<Output, Failed> {
    let all = situation::all();
    let Some(what) = &flags.what else {
        let text = format!("{}\nExplain one with: runup explain NAME", table(&all));
        let errors: Vec<Value> = all.iter().map(|one| document(one)).collect();
        return Ok(Output::new(text, &json!({ "errors": errors })));
    };
    if let Some(one) = all.iter().find(|one| one.name() == *what) {
        return Ok(Output::new(text_of(one), &document(one)));
    }
    if let Some(class) = what.parse().ok().and_then(class_of) {
        return Ok(of_class(class));
    }
    let names: Vec<String> = all.iter().map(|one| one.name()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let similar = suggestion::name(what, &names).map(str::to_owned);
    Err(Failed::from(Unknown { what: what.clone(), similar }))
}

/// The class with an exit code.
fn class_of(code: u8) -> Option<Class> {
    let signal = (129..=192).contains(&code).then(|| Class::Signal(code - 128));
    Class::ALL.into_iter().find(|class| class.exit_code() == code).or(signal)
}

/// `75`, or `75 or 79`; a signal's is `128+n`.
pub(super) fn codes(situation: &Situation) -> String {
    let mut codes: Vec<String> = situation.classes.iter().map(|class| code_of(*class)).collect();
    codes.sort();
    codes.join(", ")
}

fn code_of(class: Class) -> String {
    match class {
        Class::Signal(_) => "128+n".to_owned(),
        class => class.exit_code().to_string(),
    }
}

fn text_of(one: &Situation) -> String {
    format!("{} (exit code {})\n\n{}\n\nWhat to do: {}", one.name(), codes(one), one.cause, one.fix)
}

fn document(one: &Situation) -> Value {
    let codes: Vec<Value> = one
        .classes
        .iter()
        .map(|class| match class {
            Class::Signal(_) => json!("128+n"),
            class => json!(class.exit_code()),
        })
        .collect();
    json!({ "name": one.name(), "exit_codes": codes, "cause": one.cause, "fix": one.fix })
}

/// One line for each: the name, the codes, and the first sentence of the cause.
fn table(all: &[&Situation]) -> String {
    let rows: Vec<(String, &str)> = all
        .iter()
        .map(|one| (one.name(), one.cause.split_inclusive(". ").next().unwrap_or(one.cause)))
        .collect();
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    rows.iter().fold(String::new(), |mut text, (name, cause)| {
        let _ = writeln!(text, "{name:width$}  {}", cause.trim_end());
        text
    })
}

/// An exit code: its meaning, what it means to single commands, and the errors that end with it.
fn of_class(class: Class) -> Output {
    let code = class.exit_code();
    let all: Vec<&Situation> = situation::all().into_iter().filter(|one| one.ends_with(class)).collect();
    let meaning = match class {
        Class::Signal(number) if !OBEYED.contains(&number) => {
            let text = format!(
                "exit code {code}: killed by signal {number}, so nothing was cleaned up. Run the same command again: it recovers."
            );
            let document = json!({ "exit_code": code, "meaning": format!("killed by signal {number}"), "commands": [], "errors": [] });
            return Output::new(text, &document);
        }
        Class::Signal(number) => format!("interrupted by signal {number}, after cleaning up"),
        class => class.meaning().to_owned(),
    };
    let commands: Vec<(&str, &str)> = manual::PAGES
        .iter()
        .flat_map(|page| page.exit.iter().map(|(own, meaning)| (page.path, *own, *meaning)))
        .filter(|(_, own, _)| *own == code_of(class))
        .map(|(path, _, meaning)| (path, meaning))
        .collect();
    let mut text = format!("exit code {code}: {meaning}\n");
    for (path, meaning) in &commands {
        let _ = write!(text, "\nof `runup {path}`: {meaning}");
    }
    if !commands.is_empty() {
        text.push('\n');
    }
    let _ = write!(text, "\n{}\nExplain one with: runup explain NAME", table(&all));
    let commands: Vec<Value> =
        commands.iter().map(|(path, meaning)| json!({ "command": path, "meaning": meaning })).collect();
    let errors: Vec<Value> = all.iter().map(|one| document(one)).collect();
    Output::new(
        text,
        &json!({ "exit_code": code, "meaning": meaning, "commands": commands, "errors": errors }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_is_explained_and_no_other_number() {
        for class in Class::ALL {
            assert_eq!(class_of(class.exit_code()), Some(class));
        }
        assert_eq!(class_of(143), Some(Class::Signal(15)));
        assert_eq!([0, 1, 72, 128, 255].map(class_of), [None; 5]);
    }
}
