//! What the runners of one machine that are installed together ask only once.

use super::client::Client;
use super::document::{Application, RunnerToken};
use super::error::Error;
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

/// For how long an answer counts: the addresses of archives expire, and a token is to outlive `config.sh`.
const FRESH: Duration = Duration::from_secs(10 * 60);

/// Answers of the server for several clients of one scope and one credential.
#[derive(Debug, Default)]
pub struct Shared {
    downloads: OnceCell<(Instant, Vec<Application>)>,
    token: OnceCell<(Instant, RunnerToken)>,
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
