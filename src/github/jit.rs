//! Just-in-time runners: created by one call, for one job, without `config.sh`.

use super::access::Access;
use super::answer::{bad_document, read};
use super::client::Client;
use super::document::{JitConfig, RawJitConfig};
use super::error::Error;
use reqwest::Method;
use serde::Serialize;

/// A just-in-time runner to be created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewJitRunner {
    /// Its name.
    pub name: String,
    /// The id of its group; 1 is the default group.
    pub runner_group_id: u64,
    /// All of its labels: GitHub adds none.
    pub labels: Vec<String>,
    /// The work directory, below the runner's directory.
    pub work_folder: String,
}

impl Client {
    /// Creates a runner that takes one job and needs no `config.sh`. A name that is in use is [`Error::NameTaken`]; a
    /// server that does not support the call (Enterprise Server before 3.10) is [`Error::NoJit`].
    pub async fn generate_jitconfig(&self, new: &NewJitRunner) -> Result<JitConfig, Error> {
        let body = serde_json::json!(new).to_string().into_bytes();
        let tail = "/actions/runners/generate-jitconfig";
        match self.send(Method::POST, tail, &[], Access::Write, Some(body)).await {
            Ok(answer) => {
                let what = "just-in-time configuration";
                let raw: RawJitConfig = read(&Method::POST, &answer, what)?;
                JitConfig::try_from(raw).map_err(|source| bad_document(&Method::POST, &answer, what, source))
            }
            Err(Error::Odd(reply)) if reply.status == 409 => {
                Err(Error::NameTaken { name: new.name.clone(), reply })
            }
            // If the scope can be seen, it is the call that is missing.
            Err(Error::NotFound { reply, .. }) => self.prove_visible().await.and(Err(Error::NoJit { reply })),
            Err(error) => Err(error),
        }
    }

    /// The id of the runner group with this name; `None` if it does not exist. Repositories have no groups.
    pub async fn group_named(&self, name: &str) -> Result<Option<u64>, Error> {
        let group = self.group_where(|group| group.name.eq_ignore_ascii_case(name)).await?;
        Ok(group.map(|group| group.id))
    }

    /// The name of the runner group with this id; `None` if it does not exist or cannot be seen.
    pub async fn group_name(&self, id: u64) -> Result<Option<String>, Error> {
        Ok(self.group_where(|group| group.id == id).await?.map(|group| group.name))
    }
}
