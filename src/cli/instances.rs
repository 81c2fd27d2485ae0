//! The instances of a machine: the same command line and the same file, read for each of them.

use super::args::{Command, ConvergeFlags};
use super::output::Failed;
use super::whereabouts::whereabouts;
use super::{ParseError, Parsed, Session};
use crate::host::account;
use crate::lifecycle::{Instance, Instances};
use crate::settings::flags::Place;
use crate::settings::{Error, Origin};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The instance that a command is for, if one is chosen.
pub(super) fn number(command: &Command) -> Option<u32> {
    match command {
        Command::Run(flags) => flags.chosen.instance,
        Command::PrepareStart(flags) => flags.chosen.instance,
        Command::Drain(flags) => flags.chosen.instance,
        Command::Upgrade(flags) => flags.choice.chosen.instance,
        Command::Remove(flags) => flags.choice.chosen.instance,
        Command::Status(flags) => flags.chosen.instance,
        Command::Logs(flags) => flags.chosen.instance,
        _ => None,
    }
}

/// Where the runner is, for a command about one of this machine.
fn place(command: &mut Command) -> Option<&mut Place> {
    Some(match command {
        Command::Install(flags) | Command::Plan(flags) => &mut flags.converge.place,
        Command::Run(flags) => &mut flags.converge.place,
        Command::PrepareStart(flags) => &mut flags.place,
        Command::Drain(flags) => &mut flags.place,
        Command::Upgrade(flags) => &mut flags.place,
        Command::Remove(flags) => &mut flags.place,
        Command::Status(flags) => &mut flags.place,
        Command::Logs(flags) => &mut flags.place,
        _ => return None,
    })
}

/// Puts the directory and the user of the chosen instance into the options, for a command about a runner that is there. `run` may be
/// about to install it.
pub(super) fn choose(command: &mut Command, session: &Session) -> Result<(), Failed> {
    let Some(number) = session.number.filter(|_| !matches!(command, Command::Run(_))) else { return Ok(()) };
    let instances = session.instances()?;
    if let Some(place) = place(command) {
        place.dir = Some(instances.dir(number)?.to_owned());
        // What is set is the user of the first one.
        if number > 1 && place.user.is_some() {
            place.user = instances.user(number).map(str::to_owned);
        }
    }
    Ok(())
}

impl Session {
    /// The command and the settings of one instance.
    pub(super) fn of_instance(&self, number: u32) -> Result<(Command, Self), Failed> {
        let parsed = super::parse(&self.arguments, &self.environment, Some(number));
        let Parsed { cli, given, own, number } = parsed.map_err(|error| match error {
            ParseError::Settings(error) => error,
            // It was parsed before.
            ParseError::Clap(error, _) => Error::Contradiction(error.to_string()),
        })?;
        Ok((cli.command, Self { given, number, own, ..self.clone() }))
    }

    /// The instances of this machine, by the journals.
    pub(super) fn instances(&self) -> Result<Instances, Failed> {
        let (mut command, _) = self.of_instance(1)?;
        let place = place(&mut command).cloned();
        let Some(place) = place else { return Err(Error::UrlMissing.into()) };
        let (root, first, state) = whereabouts(&place, &self.environment)?;
        Ok(Instances::find(&root.locate(&state).unwrap_or(state), &first))
    }

    /// Which one this is.
    pub(super) fn instance(&self) -> Result<Option<Instance>, Failed> {
        let Some(number) = self.number else { return Ok(None) };
        Ok(Some(Instance { number, first: self.instances()?.first }))
    }

    /// Whether the units of this one pass its number: what is set for it alone would not be found without.
    pub(super) fn by_number(&self) -> bool {
        self.number.is_some_and(|number| number > 1 || !self.own.is_empty())
    }

    /// Whether a command without a number may be about any of several runners: a directory that the file or a variable
    /// sets is that of the first one.
    pub(super) fn is_open(&self) -> bool {
        let is_chosen = self.given.iter().any(|given| given.key == "dir" && given.origin == Origin::Flag);
        self.number.is_none() && !is_chosen && self.instances().is_ok_and(|instances| instances.are_several())
    }

    /// Whether this is set for all instances alike.
    fn shares(&self, key: &str) -> bool {
        let of_file = |origin: &Origin| matches!(origin, Origin::File(_));
        !(self.own.contains(key) && self.given.iter().any(|given| given.key == key && of_file(&given.origin)))
    }
}

/// Gives a further instance what it cannot share with the first one: directory, user, name and a work directory elsewhere.
pub(super) fn adapt(flags: &mut ConvergeFlags, session: &Session) -> Result<(), Failed> {
    let Some(number) = session.number.filter(|number| *number > 1) else { return Ok(()) };
    if session.shares("dir") {
        let (_, dir, _) = whereabouts(&flags.place, &session.environment)?;
        flags.place.dir = Some(numbered(&dir, number));
    }
    let user = flags.place.user.as_mut().filter(|user| user.as_str() != "root" && session.shares("user"));
    if let Some(user) = user.filter(|_| account::is_root()) {
        *user = format!("{user}-{number}");
    }
    let name = flags.runner.name.to_string();
    if session.shares("name") && !name.contains("{index}") {
        flags.runner.name = format!("{name}-{number}").parse()?;
    }
    let work = &mut flags.runner.work;
    if session.shares("work") && Path::new(work).is_absolute() {
        *work = format!("{}-{number}", work.trim_end_matches('/'));
    }
    for (key, is_set) in
        [("user-id", flags.jobs.user_id.is_some()), ("group-id", flags.jobs.group_id.is_some())]
    {
        if is_set && session.shares(key) {
            let message =
                format!("--{key} is for one runner; with several, set it below [instance.N] of the file");
            return Err(Error::Contradiction(message).into());
        }
    }
    Ok(())
}

/// The path with the number at its end.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(format!("-{number}"));
    PathBuf::from(name)
}
