//! The operator's commands: one prints a token, one the key of an App, one signs.

use super::error::Error;
use crate::deadline::{Deadline, Stop};
use crate::error::{Class, Failure as _};
use crate::host::{self, Command, Stream};
use crate::secret::Secret;
use secrecy::zeroize::Zeroizing;
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// How long a failing command is retried: at boot, the network that it needs may not be up yet.
const ALL_RUNS: Duration = Duration::from_secs(180);
/// The longest pause between two runs; the first is one second.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How many of the last lines of its standard error are kept for the log.
const MOST_SAID: usize = 100;
/// The fewest characters of a word that is masked: a shorter one can be part of any other word.
const SHORTEST: usize = 8;

/// What a command is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandKind {
    /// It prints a token for the REST API.
    Token,
    /// It prints the private key of a GitHub App.
    AppKey,
    /// It signs for a GitHub App.
    AppSign,
}

impl CommandKind {
    /// How long one run may take.
    fn one_run(self) -> Duration {
        match self {
            Self::Token | Self::AppKey => Duration::from_secs(60),
            Self::AppSign => Duration::from_secs(30),
        }
    }

    /// What it must print, for a hint.
    pub(super) fn prints(self) -> &'static str {
        match self {
            Self::Token => "the token",
            Self::AppKey => "the private key of the App (PEM)",
            Self::AppSign => "the PKCS#1 v1.5 SHA-256 signature of its standard input, raw or in base64",
        }
    }
}

impl fmt::Display for CommandKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token => "token command",
            Self::AppKey => "App key command",
            Self::AppSign => "App sign command",
        })
    }
}

/// A shell command with its environment.
#[derive(Clone)]
pub struct ShellCommand {
    kind: CommandKind,
    text: String,
    environment: Vec<(String, String)>,
}

impl ShellCommand {
    /// A command with the environment that it gets.
    #[must_use]
    pub fn new(kind: CommandKind, text: &str, environment: Vec<(String, String)>) -> Self {
        Self { kind, text: text.to_owned(), environment }
    }

    /// The command, as the operator wrote it.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Runs it, with pauses, until it succeeds or the deadline passes; returns what it printed.
    pub(super) async fn persist(
        &self,
        input: Option<&[u8]>,
        deadline: Deadline,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let deadline = deadline.within(ALL_RUNS);
        let mut pause = Duration::from_secs(1);
        loop {
            let error = match self.once(input, deadline).await {
                Err(error) if passes(&error) && deadline.left() > pause => error,
                result => return result,
            };
            tracing::warn!("{}; trying again in {} s", crate::error::chain(&error), pause.as_secs());
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn once(&self, input: Option<&[u8]>, deadline: Deadline) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (shell, flag) = if cfg!(windows) { ("cmd.exe", "/C") } else { ("/bin/sh", "-c") };
        let mut command = Command::new(shell).arg(flag).arg(&self.text);
        command = self.environment.iter().fold(command, |command, (key, value)| command.env(key, value));
        if let Some(input) = input {
            command = command.input(input.to_vec());
        }
        // Logged only after the secret is known and removed: a tracing shell (`set -x`) writes it before it prints it.
        let mut said = VecDeque::new();
        let mut listen = |_: Stream, line: &str| {
            said.push_back(line.to_owned());
            if said.len() > MOST_SAID {
                said.pop_front();
            }
        };
        // A caller that stops waiting drops this future, which kills the command.
        let stop = Stop::never();
        let limited = command.deadline(deadline.within(self.kind.one_run()));
        let (outcome, printed) = Box::pin(limited.capture(&stop, &mut listen)).await;
        // From here on, nothing prints these; the lines of a key as well.
        let words: Vec<Secret> = lines(&printed).filter(|word| word.expose().len() >= SHORTEST).collect();
        let scrub = |text: &str| words.iter().fold(text.to_owned(), |text, word| word.scrub(&text));
        for line in &said {
            tracing::debug!("{}", scrub(line));
        }
        let failed = |how, code, tail: String| {
            let (command, tail) = (self.text.clone(), scrub(&tail));
            Error::CommandFailed { kind: self.kind, command, how, code, tail }
        };
        match outcome {
            Ok(outcome) if !outcome.success() => Err(failed(outcome.how(), outcome.code, outcome.tail)),
            Ok(_) => Ok(printed),
            Err(host::Error::Deadline { total, tail, .. }) => {
                Err(failed(format!("timed out after {} s", total.as_secs()), None, tail))
            }
            Err(source) => Err(Error::CommandNotRun { kind: self.kind, command: self.text.clone(), source }),
        }
    }
}

/// The lines that could be secrets.
pub(super) fn lines(printed: &[u8]) -> impl Iterator<Item = Secret> + '_ {
    printed.split(|byte| *byte == b'\n').filter_map(|line| Secret::new(std::str::from_utf8(line).ok()?))
}

/// Whether a retry may succeed.
fn passes(error: &Error) -> bool {
    matches!(error, Error::CommandFailed { .. }) && error.class() == Class::TempFail
}

impl fmt::Debug for ShellCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ShellCommand").field(&self.text).finish()
    }
}
