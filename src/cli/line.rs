//! Reads the command line with the layers below it, for the machine and for each instance.

use super::args::Cli;
use super::{instances, interface, usage, uses_settings};
use crate::settings::layers::{self, File};
use crate::settings::{Environment, Error, Given, Origin};
use clap::error::ErrorKind;
use clap::{ArgMatches, Command, FromArgMatches as _};
use std::collections::BTreeSet;
use std::ffi::OsString;

/// Why a command line was not read.
pub(super) enum ParseError {
    Clap(clap::Error, Origin),
    Settings(Error),
}

/// A command line, with the layers below it.
pub(super) struct Parsed {
    pub cli: Cli,
    pub given: Vec<Given>,
    pub own: BTreeSet<String>,
    pub tables: BTreeSet<u32>,
    pub number: Option<u32>,
}

/// A command line, as far as it can be read without the layers below it.
pub(super) struct Line {
    /// Without the switches that it switches off.
    arguments: Vec<OsString>,
    off: BTreeSet<String>,
    /// The commands that it names, one below the other.
    chosen: Vec<String>,
    /// All commands, and the options of the chosen ones: those of the others take most of the time.
    command: Command,
    /// The keys of the options of all commands: what a file may set.
    keys: BTreeSet<String>,
}

impl Line {
    pub fn new(arguments: &[OsString]) -> Self {
        let command = interface::bare();
        let (arguments, off) = layers::switches(arguments, &command);
        let chosen = layers::chosen(&arguments, &command);
        let chosen: Vec<String> = chosen.iter().skip(1).map(|next| next.get_name().to_owned()).collect();
        let keys = layers::keys(&command);
        let command = only(command, &chosen);
        Self { arguments, off, chosen, command, keys }
    }

    /// Reads it for one instance, if the caller or the line chooses one.
    pub fn read(&self, environment: &Environment, number: Option<u32>) -> Result<Parsed, ParseError> {
        let read_over = |file: &File| self.read_over(file, environment);
        let file = File::find(&self.arguments, environment);
        let file = file.and_then(|file| file.check(&self.keys).map(|()| file)).map_err(ParseError::Settings);
        let parsed = file.and_then(|file| {
            let file = file.without(self.off.clone());
            let parsed = read_over(&file)?;
            // Whichever one this is about: a mistake in the file is not to appear with the next one only.
            file.instances().try_for_each(|number| read_over(&file.of_instance(number)).map(drop))?;
            match number.or_else(|| instances::number(&parsed.cli.command)) {
                Some(number) => Ok(Parsed { number: Some(number), ..read_over(&file.of_instance(number))? }),
                None => Ok(parsed),
            }
        });
        let Err(ParseError::Settings(error)) = parsed else { return parsed };
        // Whatever is wrong with the file, what uses no setting works.
        match read_over(&File::default().without(self.off.clone())) {
            Ok(parsed) if !uses_settings(&parsed.cli.command) => Ok(parsed),
            Err(ParseError::Clap(shown, origin)) if !shown.use_stderr() => {
                Err(ParseError::Clap(shown, origin))
            }
            _ => Err(ParseError::Settings(error)),
        }
    }

    fn read_over(&self, file: &File, environment: &Environment) -> Result<Parsed, ParseError> {
        let mut command = layers::lay_under(self.command.clone(), file);
        let mut matches = command.clone().try_get_matches_from(&self.arguments);
        let is_clear = match &matches {
            Ok(matches) => path(matches).eq(&self.chosen),
            Err(error) => error.kind() == ErrorKind::DisplayVersion,
        };
        if !is_clear {
            // The error may be the help.
            command = layers::lay_under(interface::command(), file);
            matches = command.clone().try_get_matches_from(&self.arguments);
        }
        let matches = matches.map_err(|error| {
            let origin = usage::origin(&error, file, &self.arguments, environment);
            ParseError::Clap(error, origin)
        })?;
        let (mut chosen, mut below) = (&command, &matches);
        while let Some((name, next)) = below.subcommand() {
            chosen = chosen.find_subcommand(name).expect("clap matched a subcommand that it knows");
            below = next;
        }
        let given = layers::given(chosen, below, file);
        let cli = Cli::from_arg_matches(&matches).map_err(|error| ParseError::Clap(error, Origin::Flag))?;
        let tables = file.instances().collect();
        Ok(Parsed { cli, given, own: file.own().clone(), tables, number: None })
    }
}

/// Leaves nothing but the names of the commands that are not on this path.
fn only(command: Command, path: &[String]) -> Command {
    command.mut_subcommands(|next| match path.split_first() {
        Some((name, [])) if next.get_name() == name => next,
        Some((name, rest)) if next.get_name() == name => only(next, rest),
        _ => Command::new(next.get_name().to_owned()),
    })
}

/// The names of the commands that were matched.
fn path(matches: &ArgMatches) -> impl Iterator<Item = &str> {
    let mut below = matches.subcommand();
    std::iter::from_fn(move || {
        let (name, next) = below?;
        below = next.subcommand();
        Some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_not_read_as_it_looks_is_read_with_every_option() {
        let arguments = ["runup", "status", "--local"].map(OsString::from);
        let mut line = Line::new(&arguments);
        line.chosen = vec!["install".to_owned()];
        line.command = only(interface::bare(), &line.chosen);
        let read = line.read(&Environment::default(), None);
        let Ok(parsed) = read else { panic!("it was not read") };
        assert!(parsed.given.iter().any(|given| given.key == "local" && given.origin == Origin::Flag));
    }
}
