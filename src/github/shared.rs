//! What the runners of one machine that are installed together ask only once.

use super::client::Client;
use super::document::{Application, Runner, RunnerToken};
use super::error::Error;
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

/// For how long an answer counts: the addresses of archives expire, and a token is to outlive `config.sh`.
const FRESH: Duration = Duration::from_secs(10 * 60);

/// The same for a list of runners, to which other machines add theirs.
const FRESH_LIST: Duration = Duration::from_secs(30);

/// Answers of the server for several clients of one scope and one credential.
#[derive(Debug, Default)]
pub struct Shared {
    downloads: OnceCell<(Instant, Vec<Application>)>,
    token: OnceCell<(Instant, RunnerToken)>,
    /// `None` if there are more than one page has.
    runners: OnceCell<(Instant, Option<Vec<Runner>>)>,
}

impl Client {
    /// The runner with this name, as it was a moment ago at the latest.
    pub async fn runner_named_lately(&self, name: &str) -> Result<Option<Runner>, Error> {
        if let Some(shared) = self.shared() {
            let ask = async || Ok::<_, Error>((Instant::now(), self.runners_of_one_page().await?));
            let (at, runners) = shared.runners.get_or_try_init(ask).await?;
            if let Some(runners) = runners.as_ref().filter(|_| at.elapsed() < FRESH_LIST) {
                return Ok(runners.iter().find(|runner| runner.is_named(name)).cloned());
            }
        }
        self.runner_named(name).await
    }
}

impl Shared {
    pub(super) async fn downloads(&self, client: &Client) -> Result<Vec<Application>, Error> {
        let ask = async || Ok::<_, Error>((Instant::now(), client.downloads_now().await?));
        let (at, found) = self.downloads.get_or_try_init(ask).await?;
        if at.elapsed() < FRESH { Ok(found.clone()) } else { client.downloads_now().await }
    }

    pub(super) async fn registration_token(&self, client: &Client) -> Result<RunnerToken, Error> {
        let ask = async || Ok::<_, Error>((Instant::now(), client.registration_token_now().await?));
        let (at, token) = self.token.get_or_try_init(ask).await?;
        if at.elapsed() < FRESH { Ok(token.clone()) } else { client.registration_token_now().await }
    }
}
