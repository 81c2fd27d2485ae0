//! The credential of the REST calls: a token, or a command that prints one whenever one is needed.
//!
//! With a command, the secret need not be stored on the machine, and a process that outlives a short-lived token can
//! get a new one.

use super::error::Error;
use crate::deadline::{Deadline, Stop};
use crate::error::{Class, Failure as _};
use crate::host::{self, Command, Stream};
use crate::secret::Secret;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// How long one run of the command may take.
const ONE_RUN: Duration = Duration::from_secs(60);
/// How long a failing command is retried: at boot, the network that it needs may not be up yet.
const ALL_RUNS: Duration = Duration::from_secs(180);
/// The longest pause between two runs; the first is one second.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How many of the last lines of its standard error are kept for the log.
const MOST_SAID: usize = 100;
/// The fewest characters of a token.
const SHORTEST: usize = 8;

/// The credential of the REST calls.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A fixed token.
    Token(Secret),
    /// A command that prints a token.
    Command(Arc<TokenCommand>),
}

/// A command that prints a token, with the token that it printed last.
pub struct TokenCommand {
    text: String,
    environment: Vec<(String, String)>,
    last: Mutex<Option<Secret>>,
}

impl Credential {
    /// A shell command with its environment.
    #[must_use]
    pub fn command(text: &str, environment: Vec<(String, String)>) -> Self {
        Self::Command(Arc::new(TokenCommand { text: text.to_owned(), environment, last: Mutex::default() }))
    }

    /// The token; the first call runs the command.
    pub(crate) async fn token(&self, deadline: Deadline) -> Result<Secret, Error> {
        let command = match self {
            Self::Token(token) => return Ok(token.clone()),
            Self::Command(command) => command,
        };
        let mut last = command.last.lock().await;
        if let Some(token) = &*last {
            return Ok(token.clone());
        }
        let token = command.persist(deadline).await?;
        Ok(last.insert(token).clone())
    }

    /// A token other than `refused`, which the server no longer accepts; `None` if there is none.
    pub(super) async fn renewed(
        &self,
        refused: &Secret,
        deadline: Deadline,
    ) -> Result<Option<Secret>, Error> {
        let Self::Command(command) = self else { return Ok(None) };
        let mut last = command.last.lock().await;
        let is_other = |token: &Secret| token.expose() != refused.expose();
        if let Some(token) = last.as_ref().filter(|token| is_other(token)) {
            return Ok(Some(token.clone()));
        }
        let token = command.persist(deadline).await?;
        Ok(Some(last.insert(token).clone()).filter(is_other))
    }
}

impl TokenCommand {
    /// Runs it, with pauses, until it succeeds or the deadline passes.
    async fn persist(&self, deadline: Deadline) -> Result<Secret, Error> {
        let deadline = deadline.within(ALL_RUNS);
        let mut pause = Duration::from_secs(1);
        loop {
            let error = match self.once(deadline).await {
                Err(error) if passes(&error) && deadline.left() > pause => error,
                result => return result,
            };
            tracing::warn!("{}; trying again in {} s", crate::error::chain(&error), pause.as_secs());
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn once(&self, deadline: Deadline) -> Result<Secret, Error> {
        let (shell, flag) = if cfg!(windows) { ("cmd.exe", "/C") } else { ("/bin/sh", "-c") };
        let command = Command::new(shell).arg(flag).arg(&self.text);
        let command = self.environment.iter().fold(command, |command, (key, value)| command.env(key, value));
        let mut printed = Vec::new();
        // Logged only after the token is known and removed: a tracing shell (`set -x`) writes the token before it prints it.
        let mut said = VecDeque::new();
        let mut listen = |stream, line: &str| match stream {
            Stream::Out => printed.extend(Secret::new(line)),
            Stream::Err => {
                said.push_back(line.to_owned());
                if said.len() > MOST_SAID {
                    said.pop_front();
                }
            }
        };
        // A caller that stops waiting drops this future, which kills the command.
        let stop = Stop::never();
        let outcome =
            command.secret_output().deadline(deadline.within(ONE_RUN)).run(&stop, &mut listen).await;
        // A shorter word is not a token, and can be part of any other word.
        let tokens = || printed.iter().filter(|token| token.expose().len() >= SHORTEST);
        let scrub = |text: &str| tokens().fold(text.to_owned(), |text, token| token.scrub(&text));
        for line in &said {
            tracing::debug!("{}", scrub(line));
        }
        let failed = |how, code, tail: String| {
            let (command, tail) = (self.text.clone(), scrub(&tail));
            Error::TokenCommandFailed { command, how, code, tail }
        };
        match outcome {
            Ok(outcome) if !outcome.success() => Err(failed(outcome.how(), outcome.code, outcome.tail)),
            Ok(_) => match <[Secret; 1]>::try_from(printed) {
                Ok([token]) => Ok(token),
                Err(lines) => {
                    Err(Error::TokenCommandPrinted { command: self.text.clone(), lines: lines.len() })
                }
            },
            Err(host::Error::Deadline { total, tail, .. }) => {
                Err(failed(format!("timed out after {} s", total.as_secs()), None, tail))
            }
            Err(source) => Err(Error::TokenCommandNotRun { command: self.text.clone(), source }),
        }
    }
}

/// Whether a retry may succeed.
fn passes(error: &Error) -> bool {
    matches!(error, Error::TokenCommandFailed { .. }) && error.class() == Class::TempFail
}

impl fmt::Debug for TokenCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TokenCommand").field(&self.text).finish()
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn command(text: &str) -> Credential {
        Credential::command(text, vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())])
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(20))
    }

    #[tokio::test]
    async fn a_command_is_run_once_and_again_when_its_token_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let count = dir.path().join("count");
        let text = format!("echo x >> {0}; echo token-$(wc -l < {0})", count.display());
        let credential = command(&text);
        let first = credential.token(soon()).await.unwrap();
        assert_eq!(first.expose(), "token-1");
        assert_eq!(credential.clone().token(soon()).await.unwrap().expose(), "token-1");
        let second = credential.renewed(&first, soon()).await.unwrap().unwrap();
        assert_eq!(second.expose(), "token-2");
        // Another caller whose first token was refused gets the second one, not a third.
        assert_eq!(credential.renewed(&first, soon()).await.unwrap().unwrap().expose(), "token-2");
    }

    #[tokio::test]
    async fn the_same_token_again_is_no_renewal() {
        let fixed = command("echo the-token");
        let token = fixed.token(soon()).await.unwrap();
        assert!(fixed.renewed(&token, soon()).await.unwrap().is_none());
        assert!(Credential::Token(token.clone()).renewed(&token, soon()).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_command_that_fails_is_tried_again_to_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let ready = dir.path().join("ready");
        let text = format!(
            "test -e {0} || {{ touch {0}; echo no network >&2; exit 3; }}; echo late",
            ready.display()
        );
        assert_eq!(command(&text).token(soon()).await.unwrap().expose(), "late");

        let error = command("echo no network >&2; echo half-a-token; exit 3")
            .token(Deadline::after(Duration::from_millis(300)))
            .await
            .unwrap_err();
        assert_eq!(error.class(), Class::TempFail);
        let text = format!("{error} {error:?}");
        assert!(text.contains("exit code 3") && text.contains("no network"), "{text}");
        assert!(!text.contains("half-a-token\""), "printed lines must not be in the message: {text}");
    }

    #[tokio::test]
    async fn what_no_time_mends_is_said_at_once() {
        for (text, class) in
            [("no-such-program", Class::Config), ("true", Class::NoPerm), ("echo a; echo b", Class::NoPerm)]
        {
            let began = std::time::Instant::now();
            let error = command(text).token(soon()).await.unwrap_err();
            assert_eq!(error.class(), class, "{error}");
            assert!(error.hint().is_some() && error.to_string().contains(text), "{error}");
            assert!(began.elapsed() < Duration::from_secs(10), "{text} was tried again");
        }
    }
}
