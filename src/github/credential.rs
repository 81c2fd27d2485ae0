//! The credential of the REST calls: a token, a command that prints one whenever one is needed, or a GitHub App.
//!
//! With a command or an App, no token need be stored on the machine, and a process that outlives a short-lived token can
//! get a new one.

use super::app::App;
use super::error::Error;
use super::shell::{CommandKind, ShellCommand, lines};
use crate::deadline::Deadline;
use crate::secret::Secret;
use std::fmt;
use std::sync::Arc;
use tokio::sync::Mutex;

/// The credential of the REST calls.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A fixed token, and where it came from: a variable's name, or `the file …`.
    Token(Secret, Arc<str>),
    /// A command that prints a token.
    Command(Arc<TokenCommand>),
    /// A GitHub App.
    App(Arc<App>),
}

/// A command that prints a token, with the token that it printed last.
pub struct TokenCommand {
    command: ShellCommand,
    last: Mutex<Option<Secret>>,
}

impl Credential {
    /// A fixed token; `source` is where it came from, in words that follow "from".
    #[must_use]
    pub fn token(token: Secret, source: &str) -> Self {
        Self::Token(token, source.into())
    }

    /// Where it comes from, in such words.
    #[must_use]
    pub fn source(&self) -> String {
        match self {
            Self::Token(_, source) => source.to_string(),
            Self::Command(command) => format!("the token command `{}`", command.command.text()),
            Self::App(app) => format!("the GitHub App {}", app.id),
        }
    }

    /// A shell command with its environment.
    #[must_use]
    pub fn command(text: &str, environment: Vec<(String, String)>) -> Self {
        let command = ShellCommand::new(CommandKind::Token, text, environment);
        Self::Command(Arc::new(TokenCommand { command, last: Mutex::default() }))
    }
}

impl TokenCommand {
    /// The token; the first call runs the command.
    pub(super) async fn token(&self, deadline: Deadline) -> Result<Secret, Error> {
        let mut last = self.last.lock().await;
        if let Some(token) = &*last {
            return Ok(token.clone());
        }
        let token = self.fetch(deadline).await?;
        Ok(last.insert(token).clone())
    }

    /// A token other than `refused`, which the server no longer accepts; `None` if there is none.
    pub(super) async fn renewed(
        &self,
        refused: &Secret,
        deadline: Deadline,
    ) -> Result<Option<Secret>, Error> {
        let mut last = self.last.lock().await;
        let is_other = |token: &Secret| token.expose() != refused.expose();
        if let Some(token) = last.as_ref().filter(|token| is_other(token)) {
            return Ok(Some(token.clone()));
        }
        let token = self.fetch(deadline).await?;
        Ok(Some(last.insert(token).clone()).filter(is_other))
    }

    async fn fetch(&self, deadline: Deadline) -> Result<Secret, Error> {
        let printed = self.command.persist(None, deadline).await?;
        let tokens: Vec<Secret> = lines(&printed).collect();
        <[Secret; 1]>::try_from(tokens).map(|[token]| token).map_err(|lines| Error::TokenCommandPrinted {
            command: self.command.text().to_owned(),
            lines: lines.len(),
        })
    }
}

impl fmt::Debug for TokenCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TokenCommand").field(&self.command.text()).finish()
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::error::{Class, Failure as _};
    use std::time::Duration;

    fn command(text: &str) -> Arc<TokenCommand> {
        match Credential::command(text, vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())]) {
            Credential::Command(command) => command,
            other => panic!("{other:?}"),
        }
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
