//! Child processes with a deadline and a minimal environment, which do not outlive runup.
//!
//! A child gets a cleared environment, `/dev/null` as standard input unless it is given one, and its own session: no controlling terminal, no
//! keys, no ignored signals, no open files of runup. Its output is read as it is printed, with the command's secrets
//! masked. At the deadline, a stop or a dropped future, the whole process group is ended.

mod ending;
mod exchange;
mod outcome;

use self::ending::{Cut, Ending};
use self::exchange::Exchange;
pub use self::outcome::Outcome;
use super::account::{self, Account};
use super::output::{Pipe, Scrubber, Sink};
use super::{Error, Root, group::Group, sys};
use crate::deadline::{Deadline, Stop};
use crate::secret::{MARK, Secret};
use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// The default deadline of a command.
const DEFAULT_TIME: Duration = Duration::from_secs(600);

/// The default time between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(3);

/// The pause between two SIGINTs.
const INSIST: Duration = Duration::from_secs(2);

/// How long output is read after the child has exited: a process that it left can hold the pipes open.
const DRAIN: Duration = Duration::from_secs(1);

/// An argument, or the value of a variable.
#[derive(Debug, Clone)]
pub enum Word {
    /// It can be shown.
    Plain(OsString),
    /// It is masked in the command line, and in everything that the command prints.
    Secret(Secret),
}

impl Word {
    fn expose(&self) -> &OsStr {
        match self {
            Self::Plain(word) => word,
            Self::Secret(secret) => OsStr::new(secret.expose()),
        }
    }
}

/// The source of a line of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// A command with its environment, which is built up and then [run](Command::run).
#[derive(Clone)]
pub struct Command {
    program: PathBuf,
    args: Vec<Word>,
    env: Vec<(String, Word)>,
    cwd: Option<PathBuf>,
    account: Option<Account>,
    /// The root whose group database has the groups of the account.
    groups_of: Root,
    /// Groups of the child besides those of the account.
    more_groups: Vec<u32>,
    deadline: Deadline,
    grace: Duration,
    /// Ended by SIGINT to the child only.
    interrupts: bool,
    /// The exit codes after which its process group is not killed.
    leaves: &'static [i32],
    /// What it reads, and where its standard output goes instead of to the lines.
    exchange: Exchange,
    /// All lines are passed on, without a limit.
    all_lines: bool,
}

impl Command {
    /// A command that runs `program`, which should be an absolute path. A name without a slash is looked up in the PATH
    /// set by [`Command::env`]; a relative path starts at [`Command::cwd`].
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            account: None,
            groups_of: Root::host(),
            more_groups: Vec::new(),
            deadline: Deadline::after(DEFAULT_TIME),
            grace: GRACE,
            interrupts: false,
            leaves: &[],
            exchange: Exchange::default(),
            all_lines: false,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, word: impl Into<OsString>) -> Self {
        self.args.push(Word::Plain(word.into()));
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<W: Into<OsString>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.args.extend(words.into_iter().map(|word| Word::Plain(word.into())));
        self
    }

    /// Adds an argument that is a secret. Every user of the machine can read a process's arguments: prefer
    /// [`Command::secret_env`].
    #[must_use]
    pub fn secret_arg(mut self, secret: Secret) -> Self {
        self.args.push(Word::Secret(secret));
        self
    }

    /// Sets a variable of the environment, which is otherwise empty.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.env.push((key.into(), Word::Plain(value.into())));
        self
    }

    /// Sets a variable to a secret.
    #[must_use]
    pub fn secret_env(mut self, key: impl Into<String>, secret: Secret) -> Self {
        self.env.push((key.into(), Word::Secret(secret)));
        self
    }

    /// Sets the working directory; runup's own by default.
    #[must_use]
    pub fn cwd(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cwd = Some(dir.into());
        self
    }

    /// Runs it as this user: with its uid, its gid and its supplementary groups. Has no effect if runup runs as this
    /// user; any other user needs root.
    #[must_use]
    pub fn account(mut self, account: &Account) -> Self {
        self.account = Some(account.clone());
        self
    }

    /// Takes the supplementary groups of the account from `/etc/group` in this root.
    #[must_use]
    pub fn groups_of(mut self, root: &Root) -> Self {
        self.groups_of = root.clone();
        self
    }

    /// Adds groups to those of the account.
    #[must_use]
    pub fn more_groups(mut self, gids: &[u32]) -> Self {
        self.more_groups.extend(gids);
        self
    }

    /// Sets the deadline, at which it is ended; ten minutes after the command was created by default.
    #[must_use]
    pub fn deadline(mut self, deadline: Deadline) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets the time between SIGTERM and SIGKILL; three seconds by default.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Ends it by repeated SIGINTs to the child within its grace period, instead of SIGTERM to its group: it ends its
    /// own children. SIGTERM on systems without SIGINT.
    #[must_use]
    pub fn interrupts(mut self) -> Self {
        self.interrupts = true;
        self
    }

    /// After one of these exit codes, the processes that it left in its group are not killed.
    #[must_use]
    pub fn leaves_behind(mut self, codes: &'static [i32]) -> Self {
        self.leaves = codes;
        self
    }

    /// Passes on every line without a rate limit, for output that is parsed and not shown.
    #[must_use]
    pub fn all_lines(mut self) -> Self {
        self.all_lines = true;
        self
    }

    /// The command line for display: quoted for a shell, after the secret variables, with secrets masked. Other
    /// variables, the directory and the user are omitted.
    #[must_use]
    pub fn render(&self) -> String {
        let secrets = self.scrubber();
        let mut words = Vec::new();
        for (key, value) in &self.env {
            if matches!(value, Word::Secret(_)) {
                words.push(format!("{key}={MARK}"));
            }
        }
        words.push(quote(&secrets.scrub(&self.program.to_string_lossy())).into_owned());
        for word in &self.args {
            words.push(match word {
                Word::Plain(word) => quote(&secrets.scrub(&word.to_string_lossy())).into_owned(),
                Word::Secret(_) => MARK.into(),
            });
        }
        words.join(" ")
    }

    /// Runs it to its end, and passes each line of output to `on_line`: lossy UTF-8 without control characters, cut
    /// after 8 KiB, with secrets masked. Beyond 2,000 lines or 1 MiB per second, lines are counted but not passed on.
    /// Any exit code is an [`Outcome`]; a failed start, [`Error::Deadline`] and [`Error::Stopped`] are errors.
    pub async fn run(
        mut self,
        stop: &Stop,
        on_line: &mut (dyn FnMut(Stream, &str) + Send),
    ) -> Result<Outcome, Error> {
        let command = self.render();
        self.deadline = self.deadline.or_earlier(stop.deadline());
        let total = self.deadline.total();
        if stop.is_cancelled() {
            return Err(Error::Stopped { doing: format!("running `{command}`") });
        }
        match self.drive(stop, on_line).await? {
            (None, outcome) => Ok(outcome),
            (Some(Cut::Stop), _) => Err(Error::Stopped { doing: format!("running `{command}`") }),
            (Some(Cut::Deadline), outcome) => Err(Error::Deadline { total, command, tail: outcome.tail }),
        }
    }

    /// The same without a deadline, for a long-running child: its end is an [`Outcome`] even if `stop` requested it.
    pub async fn supervise(
        mut self,
        stop: &CancellationToken,
        on_line: &mut (dyn FnMut(Stream, &str) + Send),
    ) -> Result<Outcome, Error> {
        self.deadline = Deadline::after(Duration::MAX);
        Ok(self.drive(stop, on_line).await?.1)
    }

    async fn drive(
        self,
        stop: &CancellationToken,
        on_line: &mut (dyn FnMut(Stream, &str) + Send),
    ) -> Result<(Option<Cut>, Outcome), Error> {
        let command = self.render();
        tracing::debug!(command, cwd = ?self.cwd, account = ?self.account.as_ref().map(|a| &a.name), "running");
        let mut child = self.spawn(&command)?;
        let group = Group::of(&child);

        let scrubber = self.scrubber();
        let mut sink = Sink::new(on_line, self.all_lines);
        let mut out =
            Pipe::new(child.stdout.take(), Stream::Out, &scrubber).into(self.exchange.output.clone());
        let mut err = Pipe::new(child.stderr.take(), Stream::Err, &scrubber);
        let mut status: Option<ExitStatus> = None;
        let mut ending = Ending::none();
        let mut drained_at = Instant::now();
        let failed = |source| Error::Wait { command: command.clone(), source };

        while status.is_none() || out.open() || err.open() {
            let mut print = |stream, line: &str| sink.take(stream, line);
            let waits = status.is_none();
            if !waits && drained_at <= Instant::now() {
                break;
            }
            let cut = if waits { self.overdue(&mut ending, &group, stop) } else { None };
            if let Some(reason) = cut {
                ending = self.end(reason, &command, &group);
            }
            let cut = tokio::select! {
                ended = child.wait(), if waits => {
                    status = Some(ended.map_err(failed)?);
                    drained_at = Instant::now() + DRAIN;
                    if ending.cut.is_some() {
                        // Its children got the same signal, and do not get the rest of the grace period.
                        group.kill();
                    }
                    None
                }
                count = out.read(), if out.open() => { out.take(count.map_err(failed)?, &mut print); None }
                count = err.read(), if err.open() => { err.take(count.map_err(failed)?, &mut print); None }
                () = sleep_until(drained_at), if !waits => break,
                () = stop.cancelled(), if ending.cut.is_none() && waits => Some(Cut::Stop),
                () = sleep_until(self.deadline.instant()), if ending.cut.is_none() && waits => Some(Cut::Deadline),
                () = sleep_until(ending.kill_at), if ending.goes_on() && waits => {
                    ending.killed = true;
                    group.kill();
                    None
                }
                // A child that has not installed its signal handlers yet can miss the first signal.
                () = sleep_until(ending.ask_at), if self.interrupts && ending.goes_on() && waits => {
                    ending.ask_at = Instant::now() + INSIST;
                    group.interrupt_leader();
                    None
                }
            };
            if let Some(reason) = cut {
                ending = self.end(reason, &command, &group);
            }
        }
        let mut print = |stream, line: &str| sink.take(stream, line);
        out.finish(&mut print);
        err.finish(&mut print);
        let code = status.and_then(|status| status.code());
        self.clear(group, code);
        Ok((ending.cut, Outcome { code, signal: status.and_then(signal_of), tail: sink.finish() }))
    }

    /// What the timers would tell. Output that comes faster than it is passed on keeps them from running for long.
    fn overdue(&self, ending: &mut Ending, group: &Group, stop: &CancellationToken) -> Option<Cut> {
        if ending.goes_on() && ending.kill_at <= Instant::now() {
            ending.killed = true;
            group.kill();
        }
        match ending.cut {
            None if stop.is_cancelled() => Some(Cut::Stop),
            None if self.deadline.passed() => Some(Cut::Deadline),
            _ => None,
        }
    }

    /// Asks the child to end, and kills it later if it does not.
    fn end(&self, reason: Cut, command: &str, group: &Group) -> Ending {
        tracing::debug!(command, ?reason, "ending the command");
        if !self.interrupts {
            group.terminate();
        }
        Ending::of(reason, self.grace)
    }

    /// Kills the processes that the child left in its group.
    fn clear(&self, mut group: Group, code: Option<i32>) {
        if !code.is_some_and(|code| self.leaves.contains(&code)) {
            group.kill();
        }
        group.forget();
    }

    fn spawn(&self, command: &str) -> Result<tokio::process::Child, Error> {
        let program = || self.program.display().to_string();
        let mut child = tokio::process::Command::new(&self.program);
        child.args(self.args.iter().map(Word::expose));
        child.env_clear();
        child.envs(self.env.iter().map(|(key, value)| (key, value.expose())));
        child.stdin(self.exchange.stdin()?).stdout(Stdio::piped()).stderr(Stdio::piped());
        child.kill_on_drop(true);
        let mut identity = None;
        if let Some(account) = &self.account
            && account.uid != account::current().uid
        {
            if !account::is_root() {
                return Err(Error::CannotBecome { program: program(), account: account.name.clone() });
            }
            let mut groups = account::groups(&self.groups_of, account);
            groups.extend(&self.more_groups);
            identity = Some(sys::Identity { uid: account.uid, gid: account.gid, groups });
        }
        sys::prepare(&mut child, identity, self.cwd.as_deref())
            .map_err(|source| Error::Spawn { command: command.into(), source })?;
        child.spawn().map_err(|source| match (source.kind(), &self.cwd) {
            (io::ErrorKind::NotFound, Some(dir)) if !dir.is_dir() => {
                Error::DirectoryMissing { program: program(), dir: dir.clone() }
            }
            (io::ErrorKind::NotFound, _) if self.program_file().is_some_and(|file| file.is_file()) => {
                Error::InterpreterMissing { program: program() }
            }
            (io::ErrorKind::NotFound, _) => Error::ProgramMissing { program: program() },
            (io::ErrorKind::PermissionDenied, _) => Error::NotExecutable { program: program(), source },
            _ => Error::Spawn { command: command.into(), source },
        })
    }

    /// The path of the program, unless it is a name to be looked up.
    fn program_file(&self) -> Option<PathBuf> {
        let searched = self.program.components().count() == 1 && !self.program.has_root();
        let here = Path::new(".");
        (!searched).then(|| self.cwd.as_deref().unwrap_or(here).join(&self.program))
    }

    fn scrubber(&self) -> Scrubber {
        let values = self.env.iter().map(|(_, value)| value).chain(&self.args);
        Scrubber::new(values.filter_map(|word| match word {
            Word::Secret(secret) => Some(secret.clone()),
            Word::Plain(_) => None,
        }))
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({})", self.render())
    }
}

#[cfg(unix)]
fn signal_of(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[cfg(not(unix))]
fn signal_of(_: ExitStatus) -> Option<i32> {
    None
}

/// The word, quoted for a shell.
fn quote(word: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,@%+[]".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''")).into()
}

#[cfg(all(test, unix))]
mod tests;
