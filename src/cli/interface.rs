//! The command line as it is shown: completes the help of each option with its default, environment variable and
//! configuration key, and the help of each command with notes and examples.
//!
//! Everything is derived from the definitions of the options, so help, man pages and the reference cannot disagree.

use super::args::Cli;
use super::manual;
use crate::settings::layers;
use clap::{Arg, ArgAction, Command, CommandFactory as _};

/// The heading of the options that every command has.
const GLOBAL: &str = "Global options";

/// One option, as its documentation shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Documented {
    /// The long name, without dashes.
    pub option: String,
    /// The short name.
    pub short: Option<char>,
    /// The placeholder of its value; `None` for a switch.
    pub value: Option<String>,
    /// What it does: one sentence without a full stop.
    pub text: String,
    /// Further paragraphs.
    pub details: Option<String>,
    /// The default, as text.
    pub default: Option<String>,
    /// The values that it takes, if these are few, each with its meaning.
    pub values: Vec<(String, String)>,
    /// The configuration key; `None` for an option that a file cannot set.
    pub key: Option<String>,
    /// The environment variable.
    pub variable: Option<String>,
    /// Whether the value may be omitted.
    pub value_is_optional: bool,
}

impl Documented {
    /// Documents an option; `None` for a positional argument.
    pub(super) fn of(argument: &Arg) -> Option<Self> {
        let option = argument.get_long()?.to_owned();
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        // The first paragraph is the help, and what completed help ends with is not a part of it.
        let long = argument.get_long_help().map(ToString::to_string).unwrap_or_default();
        let details = long.split_once("\n\n").map(|(_, details)| details);
        let details =
            details.map(|details| details.split_once("\n[").map_or(details, |(text, _)| text).to_owned());
        let (text, described) = split_default(&help);
        let takes_value = argument.get_action().takes_values();
        let literal = argument.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
        let key = layers::key(argument);
        let values = argument.get_possible_values();
        let meaning = |value: &clap::builder::PossibleValue| value.get_help().map(ToString::to_string);
        Some(Self {
            value: argument
                .get_value_names()
                .and_then(|names| Some(names.first()?.to_string()))
                .filter(|_| takes_value),
            text: text.to_owned(),
            details,
            default: described.map(str::to_owned).or(literal.filter(|_| takes_value)),
            values: values
                .iter()
                .filter(|_| takes_value)
                .map(|value| (value.get_name().to_owned(), meaning(value).unwrap_or_default()))
                .collect(),
            variable: key.as_deref().map(layers::variable),
            key: key.filter(|key| key != "config"),
            value_is_optional: argument.get_num_args().is_some_and(|range| range.min_values() == 0),
            short: argument.get_short(),
            option,
        })
    }

    /// The option with the placeholder of its value.
    pub(super) fn usage(&self) -> String {
        match &self.value {
            Some(value) if self.value_is_optional => format!("--{}[=<{value}>]", self.option),
            Some(value) => format!("--{} <{value}>", self.option),
            None => format!("--{}", self.option),
        }
    }

    /// `[default: …] [env: …] [config: …]`, with a default that is a phrase on a line of its own.
    fn brackets(&self) -> String {
        let is_phrase = self.default.as_ref().is_some_and(|default| default.contains(' '));
        let one = |what, value: Option<&String>, end| value.map(|value| format!("[{what}: {value}]{end}"));
        let all = [
            one("default", self.default.as_ref(), if is_phrase { "\n" } else { " " }),
            one("env", self.variable.as_ref(), " "),
            one("config", self.key.as_ref(), ""),
        ];
        all.into_iter().flatten().collect::<String>().trim_end().to_owned()
    }
}

/// A text that may end with `[default: …]`.
fn split_default(help: &str) -> (&str, Option<&str>) {
    match help.strip_suffix(']').and_then(|help| help.rsplit_once(" [default: ")) {
        Some((text, default)) => (text, Some(default)),
        None => (help, None),
    }
}

/// The whole command line, with the texts of its help.
pub(super) fn command() -> Command {
    complete(bare(), "")
}

/// The same without what the help adds to each option, which takes longer to put together than to parse the rest.
pub(super) fn bare() -> Command {
    let flag = |name: &'static str, short, action, help| {
        Arg::new(name).long(name).short(short).action(action).help(help).help_heading(GLOBAL)
    };
    Cli::command()
        // Whatever a downloaded file is called.
        .bin_name("runup")
        .disable_help_flag(true)
        .disable_version_flag(true)
        .arg(flag("help", 'h', ArgAction::Help, "Print help; -h prints a summary").global(true))
        .arg(flag("version", 'V', ArgAction::Version, "Print the version"))
}

/// Every command that is not hidden, each with its words after `runup`.
pub(super) fn commands(root: &Command) -> Vec<(String, &Command)> {
    fn below<'a>(command: &'a Command, path: &str, list: &mut Vec<(String, &'a Command)>) {
        list.push((path.to_owned(), command));
        for next in command.get_subcommands().filter(|next| !next.is_hide_set() && next.get_name() != "help")
        {
            below(next, &joined(path, next.get_name()), list);
        }
    }
    let mut list = Vec::new();
    below(root, "", &mut list);
    list
}

/// The options of one command that are not hidden.
pub(super) fn options(command: &Command) -> Vec<Documented> {
    command.get_arguments().filter(|argument| !argument.is_hide_set()).filter_map(Documented::of).collect()
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path} {name}") }
}

fn complete(command: Command, path: &str) -> Command {
    let mut command = command.mut_args(with_brackets);
    if let Some(text) = manual::help_of(path) {
        command = command.after_long_help(text);
    }
    command.mut_subcommands(|next| {
        let path = joined(path, next.get_name());
        complete(next, &path)
    })
}

fn with_brackets(argument: Arg) -> Arg {
    let Some(documented) = Documented::of(&argument).filter(|it| it.variable.is_some()) else {
        return argument;
    };
    let details = documented.details.as_ref().map(|details| format!("\n\n{details}")).unwrap_or_default();
    let (text, brackets) = (&documented.text, documented.brackets());
    let default =
        documented.default.as_ref().map(|default| format!(" [default: {default}]")).unwrap_or_default();
    argument
        .help(format!("{text}{default}"))
        .long_help(format!("{text}{details}\n{brackets}"))
        .hide_default_value(documented.value.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::suggestion;
    use std::collections::BTreeSet;

    fn built() -> Command {
        let mut command = command();
        command.build();
        command
    }

    fn help_of(root: &Command, path: &str) -> String {
        let mut command = root;
        for name in path.split_whitespace() {
            command = command.find_subcommand(name).unwrap();
        }
        command.clone().render_long_help().to_string()
    }

    /// clap itself checks only the command that is run.
    #[test]
    fn no_command_has_an_option_twice() {
        command().debug_assert();
    }

    #[test]
    fn the_help_of_every_option_names_its_variable_and_its_key() {
        let root = built();
        let mut seen = 0;
        for (path, command) in commands(&root) {
            let help = help_of(&root, &path).split_whitespace().collect::<Vec<_>>().join(" ");
            for option in
                options(command).iter().filter(|it| !["help", "version"].contains(&it.option.as_str()))
            {
                let is_choice = ["all", "instance"].contains(&option.option.as_str());
                if is_choice || path == "remove" && option.option == "name" {
                    // Only a person confirms a name, or decides which runners a command is about.
                    assert_eq!((&option.variable, &option.key), (&None, &None));
                    continue;
                }
                let variable = format!("RUNUP_{}", option.option.replace('-', "_").to_uppercase());
                let filter =
                    ["name", "status", "label"].contains(&option.option.as_str()) && path == "runners list";
                let variable = if filter { variable.replace("RUNUP_", "RUNUP_FILTER_") } else { variable };
                let key = variable.trim_start_matches("RUNUP_").replace('_', "-").to_lowercase();
                let named = if key == "config" {
                    format!("[env: {variable}]")
                } else {
                    format!("[env: {variable}] [config: {key}]")
                };
                assert!(help.contains(&named), "{path}: {named} is missing in {help}");
                seen += 1;
            }
        }
        assert!(seen > 200, "only {seen} options");
    }

    #[test]
    fn a_summary_begins_with_a_verb_and_fits_its_line() {
        for (path, command) in commands(&built()).iter().skip(1) {
            let about = command.get_about().unwrap().to_string();
            let verb = about.split(' ').next().unwrap().trim_end_matches(',');
            let verbs = [
                "Install", "Wait", "Upgrade", "Remove", "Show", "List", "Print", "Run", "Generate", "Delete",
                "Create", "Write", "Explain", "Check",
            ];
            assert!(verbs.contains(&verb), "{path}: {about}");
            assert!(about.chars().count() <= 66 && !about.ends_with('.'), "{path}: {about}");
        }
    }

    #[test]
    fn help_uses_the_words_of_the_project() {
        let root = built();
        for (path, command) in commands(&root) {
            let help = help_of(&root, &path);
            let words: Vec<String> =
                help.split(|letter: char| !letter.is_alphanumeric()).map(str::to_lowercase).collect();
            for word in
                ["folder", "nobody", "somebody", "whoever", "twin", "anew", "ghost", "ghosts", "say", "says"]
            {
                assert!(!words.iter().any(|found| found == word), "{path}: {word}");
            }
            assert!(
                !help.contains("<http") && !help.contains("on offer") && !help.contains("[else"),
                "{path}"
            );
            for option in options(command) {
                let first = option.text.chars().next().unwrap();
                assert!(first.is_uppercase() && !option.text.ends_with('.'), "{path} --{}", option.option);
            }
        }
    }

    #[test]
    fn global_options_come_last_under_their_own_heading() {
        let root = built();
        for (path, _) in commands(&root).iter().skip(1) {
            let help = help_of(&root, path);
            let (own, global) = help.split_once("\nGlobal options:\n").unwrap();
            for option in ["--config", "--json", "--log-format", "--verbose", "--quiet", "--help"] {
                assert!(
                    !own.contains(&format!("    {option} <")) && global.contains(option),
                    "{path}: {option}"
                );
            }
            let after = global.lines().filter(|line| line.ends_with("options:"));
            assert_eq!(after.count(), 0, "{path}");
        }
    }

    #[test]
    fn the_tables_suggest_only_what_exists() {
        let root = built();
        let all = commands(&root);
        let mut options_and_keys = BTreeSet::new();
        for (_, command) in &all {
            for option in options(command) {
                options_and_keys.extend(option.key.clone());
                options_and_keys.insert(option.option);
            }
        }
        let (meant, commands) = suggestion::suggested();
        for option in meant {
            assert!(options_and_keys.contains(option), "{option}");
        }
        for command in commands {
            assert!(all.iter().any(|(path, _)| path == command), "{command}");
        }
    }

    #[test]
    fn every_example_is_a_command_line_that_runup_takes() {
        let root = built();
        for (path, command) in commands(&root) {
            let examples = manual::examples_of(&path);
            assert!(
                command.has_subcommands() || examples.len() >= 2,
                "{path} has {} examples",
                examples.len()
            );
            for (meaning, line) in examples {
                assert!(!meaning.ends_with('.'), "{meaning}");
                let words = line.split(" | ").next().unwrap().split(" > ").next().unwrap();
                let words = words.split_whitespace().skip_while(|word| *word != "runup");
                let result = self::command().try_get_matches_from(words);
                let found = result.unwrap_or_else(|error| panic!("{line}: {error}"));
                let mut chosen = Vec::new();
                let mut below = &found;
                while let Some((name, next)) = below.subcommand() {
                    chosen.push(name);
                    below = next;
                }
                assert!(chosen.join(" ").starts_with(&path), "{path}: {line}");
            }
        }
    }
}
