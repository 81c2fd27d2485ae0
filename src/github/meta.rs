//! What a server says of itself (`GET /meta`): the hosts that jobs need.

use super::answer::read;
use super::client::Client;
use super::error::Error;
use super::listing::few;
use reqwest::Method;
use serde::Deserialize;

/// Hosts that GitHub's runner and its jobs connect to. Enterprise Server names none: it is all that they need.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct JobHosts {
    /// Names.
    #[serde(default, rename = "full_domains", deserialize_with = "few")]
    pub named: Vec<String>,
    /// Patterns, such as `*.actions.githubusercontent.com`.
    #[serde(default, rename = "wildcard_domains", deserialize_with = "few")]
    pub patterns: Vec<String>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    domains: Option<Domains>,
}

#[derive(Deserialize)]
struct Domains {
    #[serde(default)]
    actions_inbound: Option<JobHosts>,
}

/// What is left of the calls that the server allows in an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallsLeft {
    /// How many.
    pub left: u64,
    /// Of how many.
    pub limit: u64,
}

impl Client {
    /// The hosts that jobs need. No credential is sent.
    ///
    /// # Errors
    /// [`Error::RateLimited`]; an error if the answer is not that document.
    pub async fn job_hosts(&self) -> Result<JobHosts, Error> {
        let answer = self.get_public(self.target().meta()).await?;
        let meta: Meta = read(&Method::GET, &answer, "description of the server")?;
        Ok(meta.domains.and_then(|domains| domains.actions_inbound).unwrap_or_default())
    }
}
