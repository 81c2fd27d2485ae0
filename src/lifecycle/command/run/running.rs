//! The options and the result of `run`, as plain values.

use crate::cloud::Notices;
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::request::Request;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::context::watch::Watch;
use crate::net::Http;
use crate::runner::JitIdentity;
use crate::settings::{self, Credentials};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What `run` does in addition to `install`.
pub struct Running {
    /// How long a running job may go on once `run` is told to end.
    pub drain: Duration,
    /// Whether to wait until a rate limit is lifted, however long that takes.
    pub patient: bool,
    /// Whether the runner is deregistered once `run` is told to end.
    pub remove_on_shutdown: bool,
    /// How long that may take if the server answers and the machine stays.
    pub leaving: Duration,
    /// What follows the one job of an ephemeral runner.
    pub after_job: AfterJob,
    /// How the runner is registered.
    pub source: RunnerSource,
    /// Where the credential for the API comes from.
    pub credential: CredentialSource,
    /// The second request to end: no draining.
    pub insist: CancellationToken,
    /// Which provider may announce the machine's end, and the client to ask it with.
    pub notices: Option<(Http, Notices)>,
}

/// Where the credential for the API comes from.
pub struct CredentialSource {
    /// The option and its value, if the credential stays there and can be read again: `--token-file /etc/runup/token`.
    pub stays_at: Option<String>,
    /// Reads it again; empty if it does not stay anywhere.
    pub read_again: Box<dyn Fn() -> Result<Credentials, settings::Error> + Send + Sync>,
}

/// How the runner is registered.
#[derive(Debug, Clone)]
pub enum RunnerSource {
    /// `config.sh` registers it.
    ConfigSh,
    /// The server creates it on our request, without `config.sh`.
    Jit,
    /// The server has created it already, and its configuration was handed to us.
    JitConfig(Box<JitIdentity>),
}

impl Running {
    /// The configuration that was handed to us.
    pub(crate) fn handed(&self) -> Option<&JitIdentity> {
        if let RunnerSource::JitConfig(identity) = &self.source { Some(identity) } else { None }
    }
}

/// What `run` works with.
#[derive(Clone)]
pub struct Surroundings<'a> {
    /// The HTTP client.
    pub http: Http,
    /// A signal asks to stop.
    pub stop: CancellationToken,
    /// Receives the progress.
    pub watch: &'a dyn Watch,
}

impl<'a> Surroundings<'a> {
    pub(crate) fn site(&self, request: &'a Request) -> Result<Site<'a>, Error> {
        Site::new(request, self.http.clone(), self.stop.clone(), self.watch)
    }
}

/// What follows the one job of an ephemeral runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterJob {
    /// `run` ends.
    Stop,
    /// The next registration, and the next job.
    Again,
    /// The machine is powered off.
    PowerOff,
}

/// The result of `run`.
#[derive(Debug, Clone, Serialize)]
pub struct RunResult {
    /// The runner's directory.
    pub dir: PathBuf,
    /// The number of jobs taken.
    pub jobs: u32,
    /// Why it ended.
    #[serde(rename = "because")]
    pub reason: ExitReason,
    /// Whether the server has no runner of ours any more.
    pub deregistered: bool,
    /// The ephemeral runner that stays on the server, because deregistering it was not requested or lacks a credential.
    pub left_on_server: Option<LeftRunner>,
}

impl RunResult {
    /// Before anything has ended it.
    pub(crate) fn begun(dir: PathBuf) -> Self {
        Self { dir, jobs: 0, reason: ExitReason::Told, deregistered: false, left_on_server: None }
    }
}

/// A runner that stays on the server.
#[derive(Debug, Clone, Serialize)]
pub struct LeftRunner {
    /// Its name.
    pub name: String,
    /// Its id, if known.
    pub id: Option<u64>,
}

impl std::fmt::Display for LeftRunner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let id = self.id.map(|id| format!(" (id {id})")).unwrap_or_default();
        // Contract, section 5: "server removes idle ephemeral after 1 day".
        write!(
            f,
            "{}{id} stays on the server; GitHub deletes an idle ephemeral runner after a day",
            self.name
        )
    }
}

/// Why `run` ended with success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitReason {
    /// It was told to.
    Told,
    /// The one job is done.
    JobDone,
    /// The listener ended by itself.
    ListenerDone,
    /// A run with a lower count removes the runner.
    Removed,
}
