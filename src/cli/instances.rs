//! The instances of a machine: the same command line and the same file, read for each of them.

use super::args::{Command, ConvergeFlags};
use super::line::{ParseError, Parsed};
use super::output::Failed;
use super::whereabouts::whereabouts;
use super::{Session, credential, jobs, request};
use crate::host::account;
use crate::lifecycle::{Instance, Instances, LocalRunner, Request};
use crate::net::Http;
use crate::settings::credential::Files;
use crate::settings::flags::{Place, Server};
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

/// How a command about runners that are there reaches their servers.
fn server(command: &Command) -> Option<(&Server, bool)> {
    match command {
        Command::Upgrade(flags) => Some((&flags.server, false)),
        Command::Remove(flags) => Some((&flags.server, flags.local)),
        Command::Status(flags) => Some((&flags.server, flags.local)),
        _ => None,
    }
}

/// One of the runners of this machine, for a command about all of them.
pub(super) struct OneOfAll {
    pub runner: LocalRunner,
    pub http: Http,
    /// The command, if the file sets something for this runner alone.
    pub command: Option<Command>,
}

impl OneOfAll {
    /// The runner with what is set for it alone, or else with what is set for all: `request` reads that. The session is
    /// the one before the first runner's way to its server was found.
    pub(super) fn of(
        mut runner: LocalRunner,
        (for_all, place, local): (&Server, &Place, bool),
        session: &Session,
        request: impl FnOnce(&Command, &Session) -> Result<Request, Failed>,
    ) -> Result<Self, Failed> {
        let Some((command, own)) = session.of_runner(&runner)? else {
            let dir = &runner.request.dir;
            let http = request::http_of_runner((for_all, place, local), &session.environment, dir)?;
            return Ok(Self { runner, http, command: None });
        };
        let (server, local) = server(&command).unwrap_or((for_all, local));
        let has_credential = own.has_own_credential(server)?;
        runner.set(request(&command, &own)?, has_credential);
        let dir = &runner.request.dir;
        let http = request::http_of_runner((server, place, local), &session.environment, dir)?;
        Ok(Self { runner, http, command: Some(command) })
    }
}

impl Session {
    /// The command and the settings of one of this machine's runners, if the file sets something for it alone.
    pub(super) fn of_runner(&self, runner: &LocalRunner) -> Result<Option<(Command, Self)>, Failed> {
        let Some(Instance { number, first }) = &runner.instance else { return Ok(None) };
        if !self.tables.contains(number) || *first != self.instances()?.first {
            return Ok(None);
        }
        let (mut command, mut own) = self.of_instance(*number)?;
        if let Some(place) = place(&mut command) {
            place.dir = Some(runner.request.dir.clone());
        }
        let place = place(&mut command).cloned();
        if let Some(((server, _), place)) = server(&command).zip(place) {
            own.environment = jobs::reach(&own.environment, server, Some(&place));
        }
        Ok(Some((command, own)))
    }

    /// The command and the settings of one instance.
    pub(super) fn of_instance(&self, number: u32) -> Result<(Command, Self), Failed> {
        let parsed = self.line.read(&self.environment, Some(number));
        let Parsed { cli, given, own, number, .. } = parsed.map_err(|error| match error {
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

    /// Whether the credential for the API is that of this instance's table, and not one that a flag or a variable puts
    /// before it.
    fn has_own_credential(&self, server: &Server) -> Result<bool, Failed> {
        let key = match credential::files(server, self)? {
            Files { api: Some(_), .. } => "token-file",
            Files { command: Some(_), .. } => "token-command",
            Files { app: Some(_), .. } => "app-id",
            _ => return Ok(false),
        };
        Ok(!self.shares(key))
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
