//! A child process that cannot hang us, sees nothing it need not, and does not outlive us.
//!
//! It gets a cleared environment, a null stdin, and a session of its own: no controlling terminal, no keys, no signals
//! ignored, no open files of ours. Its output is read as it comes, with the command's secrets scrubbed. On a deadline,
//! a stop or a dropped future the whole process group ends.

use super::account::{self, Account};
use super::output::{Pipe, Scrubber, Sink};
use super::{Error, Root, group::Group, sys};
use crate::deadline::Deadline;
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

/// How long a command may take that sets no deadline.
const DEFAULT_TIME: Duration = Duration::from_secs(600);

/// Between the polite signal and the final one.
const GRACE: Duration = Duration::from_secs(3);

/// Between two requests to end.
const INSIST: Duration = Duration::from_secs(2);

/// How long output is still read once the child has ended: something that it left behind may hold the pipes open.
const DRAIN: Duration = Duration::from_secs(1);

/// One word of a command line, or the value of a variable.
#[derive(Debug, Clone)]
pub enum Word {
    /// Anybody may see it.
    Plain(OsString),
    /// Shown as a mark, and scrubbed from whatever the command prints.
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

/// Where a line of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// A command line with its surroundings, built up and then [run](Command::run).
#[derive(Clone)]
pub struct Command {
    program: PathBuf,
    args: Vec<Word>,
    env: Vec<(String, Word)>,
    cwd: Option<PathBuf>,
    account: Option<Account>,
    /// Whose group database says in which groups the account is.
    groups_of: Root,
    deadline: Deadline,
    grace: Duration,
    /// Ends by SIGINT to the child alone.
    interrupts: bool,
    /// The exit codes after which its group is left alone.
    leaves: &'static [i32],
    /// What it prints on standard output is for whoever runs it alone.
    secret_output: bool,
    /// Every line is passed on, however many there are.
    all_lines: bool,
}

/// How a command ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it, which somebody else sent; never on Windows.
    pub signal: Option<i32>,
    /// The end of what it printed, both streams as they came, at most 4 KiB, scrubbed of its secrets.
    pub tail: String,
}

impl Outcome {
    /// Whether the exit code is 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// `exit code 3`, `signal 9`.
    #[must_use]
    pub fn how(&self) -> String {
        match (self.code, self.signal) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "an unknown status".into(),
        }
    }

    /// Itself after success; [`Error::Failed`] otherwise, with `command` as [`Command::render`] gave it.
    pub fn into_success(self, command: &str) -> Result<Self, Error> {
        if self.success() {
            return Ok(self);
        }
        Err(Error::Failed { command: command.into(), how: self.how(), tail: self.tail })
    }
}

impl Command {
    /// Runs `program`, best named by an absolute path. A name without a slash is looked up in the PATH that
    /// [`Command::env`] gives; a relative one starts at [`Command::cwd`].
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            account: None,
            groups_of: Root::host(),
            deadline: Deadline::after(DEFAULT_TIME),
            grace: GRACE,
            interrupts: false,
            leaves: &[],
            secret_output: false,
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

    /// Sets a variable of the environment, which has none but these.
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

    /// Sets the working directory; ours if not set.
    #[must_use]
    pub fn cwd(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cwd = Some(dir.into());
        self
    }

    /// Runs it as this user: with its uid, its gid and its supplementary groups. Nothing changes if that is who we are;
    /// if we are another user and not root, running it is refused.
    #[must_use]
    pub fn account(mut self, account: &Account) -> Self {
        self.account = Some(account.clone());
        self
    }

    /// The account is one of the image in this root, whose `/etc/group` says which supplementary groups it has.
    #[must_use]
    pub fn groups_of(mut self, root: &Root) -> Self {
        self.groups_of = root.clone();
        self
    }

    /// When it is ended if it has not by itself; ten minutes from its making if not set.
    #[must_use]
    pub fn deadline(mut self, deadline: Deadline) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long it has between SIGTERM and SIGKILL; three seconds if not set.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// It is asked to end by SIGINT to itself, again and again within its grace, and not by SIGTERM to its group: it
    /// winds its own children up. SIGTERM where there is no SIGINT.
    #[must_use]
    pub fn interrupts(mut self) -> Self {
        self.interrupts = true;
        self
    }

    /// After one of these exit codes, what it left behind in its group goes on.
    #[must_use]
    pub fn leaves_behind(mut self, codes: &'static [i32]) -> Self {
        self.leaves = codes;
        self
    }

    /// Keeps standard output out of [`Outcome::tail`]: the command prints a secret there.
    #[must_use]
    pub fn secret_output(mut self) -> Self {
        self.secret_output = true;
        self
    }

    /// Passes on every line, however many come in a second: for output that is read, not shown.
    #[must_use]
    pub fn all_lines(mut self) -> Self {
        self.all_lines = true;
        self
    }

    /// The command line for people: quoted for a shell, secret variables before it, secrets marked. Plain variables,
    /// the directory and the user are left out.
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

    /// Runs it to its end, giving each line of output to `on_line`: lossy UTF-8 without control characters, cut after 8
    /// KiB, scrubbed. Of more than 2,000 lines or 1 MiB in a second the rest is left out, and its lines counted. Any
    /// exit code is an [`Outcome`]; not starting, [`Error::Deadline`] and [`Error::Stopped`] are errors.
    pub async fn run(
        self,
        stop: &CancellationToken,
        on_line: &mut (dyn FnMut(Stream, &str) + Send),
    ) -> Result<Outcome, Error> {
        let command = self.render();
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

    /// The same without a deadline, for a child that is meant to stay: how it ended is an [`Outcome`] even if `stop`
    /// asked for it.
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
        let mut group = Group::of(&child);

        let scrubber = self.scrubber();
        let mut sink = Sink::new(on_line, self.all_lines, self.secret_output.then_some(Stream::Out));
        let mut out = Pipe::new(child.stdout.take(), Stream::Out, &scrubber);
        let mut err = Pipe::new(child.stderr.take(), Stream::Err, &scrubber);
        let mut status: Option<ExitStatus> = None;
        let mut cut_short: Option<Cut> = None;
        // These are only looked at once they are set.
        let mut ask_at = Instant::now();
        let mut kill_at = Instant::now();
        let mut killed = false;
        let mut drained_at = Instant::now();
        let failed = |source| Error::Wait { command: command.clone(), source };

        while status.is_none() || out.open() || err.open() {
            let mut print = |stream, line: &str| sink.take(stream, line);
            let waits = status.is_none();
            let cut = tokio::select! {
                ended = child.wait(), if waits => {
                    status = Some(ended.map_err(failed)?);
                    drained_at = Instant::now() + DRAIN;
                    if cut_short.is_some() {
                        // Its own children had the same signal; what is left of the grace is not theirs.
                        group.kill();
                    }
                    None
                }
                count = out.read(), if out.open() => { out.take(count.map_err(failed)?, &mut print); None }
                count = err.read(), if err.open() => { err.take(count.map_err(failed)?, &mut print); None }
                () = sleep_until(drained_at), if !waits => break,
                () = stop.cancelled(), if cut_short.is_none() && waits => Some(Cut::Stop),
                () = sleep_until(self.deadline.instant()), if cut_short.is_none() && waits => Some(Cut::Deadline),
                () = sleep_until(kill_at), if cut_short.is_some() && !killed && waits => {
                    killed = true;
                    group.kill();
                    None
                }
                // One that is too young to have its handlers may lose the first request.
                () = sleep_until(ask_at), if self.interrupts && cut_short.is_some() && !killed && waits => {
                    ask_at = Instant::now() + INSIST;
                    group.interrupt_leader();
                    None
                }
            };
            if let Some(reason) = cut {
                tracing::debug!(command, ?reason, "ending the command");
                cut_short = Some(reason);
                ask_at = Instant::now();
                kill_at = Instant::now() + self.grace;
                if !self.interrupts {
                    group.terminate();
                }
            }
        }
        let mut print = |stream, line: &str| sink.take(stream, line);
        out.finish(&mut print);
        err.finish(&mut print);
        let code = status.and_then(|status| status.code());
        if !code.is_some_and(|code| self.leaves.contains(&code)) {
            // What the child left behind in its group does not outlive it.
            group.kill();
        }
        group.forget();
        Ok((cut_short, Outcome { code, signal: status.and_then(signal_of), tail: sink.finish() }))
    }

    fn spawn(&self, command: &str) -> Result<tokio::process::Child, Error> {
        let program = || self.program.display().to_string();
        let mut child = tokio::process::Command::new(&self.program);
        child.args(self.args.iter().map(Word::expose));
        child.env_clear();
        child.envs(self.env.iter().map(|(key, value)| (key, value.expose())));
        child.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        child.kill_on_drop(true);
        let mut identity = None;
        if let Some(account) = &self.account
            && account.uid != account::current().uid
        {
            if !account::is_root() {
                return Err(Error::CannotBecome { program: program(), account: account.name.clone() });
            }
            let groups = account::groups(&self.groups_of, account);
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

    /// The program's file, unless it is a name to be looked up.
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

/// Why a command was not left to end by itself.
#[derive(Debug, Clone, Copy)]
enum Cut {
    Deadline,
    Stop,
}

#[cfg(unix)]
fn signal_of(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[cfg(not(unix))]
fn signal_of(_: ExitStatus) -> Option<i32> {
    None
}

/// The word as a shell would have to be given it.
fn quote(word: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,@%+[]".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''")).into()
}

#[cfg(all(test, unix))]
mod tests;
