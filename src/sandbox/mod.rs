//! A GitHub to rehearse against: the REST calls of self-hosted runners, the archives with a small but faithful runner
//! in them, the protocol by which that runner registers, and misbehaviour on request.
//!
//! It runs inside this process, on loopback, and forgets everything when it stops. It knows nothing of the rooms that
//! it is used to test: what it serves is written from GitHub's documentation and from the runner's behaviour, not from
//! what our client expects. Everything that a test may want to see or change can be reached in process through
//! [`Sandbox`] and, for other processes, under `/_sandbox`, with the API token:
//!
//! | call | does |
//! |---|---|
//! | `GET state`, `GET requests` | everything that is there; every request so far |
//! | `POST faults`, `DELETE faults` | adds a fault; ends them all |
//! | `POST jobs` | queues a job: `{"scope": "orgs/acme", "name": "build", "seconds": 3}`, or one that runs a shell script as the runner's user: `{"scope": "orgs/acme", "script": "id", "runner": "NAME"}` |
//! | `GET tokens` | every registration, remove and download token that was issued, for a search where none may be |
//! | `POST runners` | adds a runner of another machine: `{"scope": "orgs/acme", "name": "victim"}` |
//! | `PATCH runners/ID` | changes or deletes a runner behind its back: `{"deleted": true}` |
//! | `POST versions` | puts a newer version on offer: `{"version": "2.340.0"}` |
//! | `POST deprecations` | ends the support of one: `{"version": "2.336.0", "registration_deprecates_at": "2026-01-01T00:00:00Z"}` |
//!
//! A version whose `registration_deprecates_at` has passed cannot register, one whose `runtime_deprecates_at` has
//! passed gets no session. `GET .../deprecations/VERSION` answers 404, as github.com does, until a date was set that is
//! not `"silent": true`.

mod archive;
mod background;
mod base64;
mod body;
mod clock;
mod control;
mod deprecation;
mod download;
mod fault;
mod job;
mod layout;
mod registration;
mod reply;
mod request;
mod rest;
mod route;
mod scope;
mod server;
mod session;
mod token;
mod update;
mod world;

#[cfg(test)]
mod tests;

pub use background::{Background, spawn_in_thread};
pub use deprecation::Deprecation;
pub use fault::{Act, Fault, FaultKind, FaultTextError, Unsupported};
pub use job::{JobRecord, JobResult, NewJob};
pub use route::NAMES as ROUTES;
pub use scope::Scope;
pub use token::{CredentialKind, TokenRecord};
pub use update::Update;
pub use world::{RequestRecord, RunnerChange, RunnerRecord, Snapshot};

use crate::error::{Class, Failure};
use crate::secret::Secret;
use archive::Archives;
use server::Shared;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use token::Tokens;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::Url;
use world::{NewRunner, World};

/// How the sandbox is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Whether it may listen where other machines reach it.
    pub allow_remote: bool,
    /// The API token; a random one if there is none.
    pub token: Option<String>,
    /// The newest runner version on offer.
    pub runner_version: String,
    /// Older versions, on offer for linux-x64.
    pub versions: Vec<String>,
    /// How long registration, remove and download tokens live.
    pub token_life: Duration,
    /// Whether the served `config.sh` insists on libicu, as GitHub's does.
    pub require_libicu: bool,
    /// What goes wrong from the start.
    pub faults: Vec<Fault>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            allow_remote: false,
            token: None,
            runner_version: "2.336.0".to_owned(),
            versions: vec!["2.328.0".to_owned()],
            token_life: Duration::from_secs(3600),
            require_libicu: false,
            faults: Vec::new(),
        }
    }
}

/// Why the sandbox did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address can be reached from outside.
    #[error("failed to start the sandbox at {listen}: it is not a loopback address")]
    NotLoopback {
        /// The address.
        listen: SocketAddr,
    },
    /// The token cannot be sent in a header.
    #[error(
        "failed to start the sandbox: its token is empty, or has characters that are not allowed in an HTTP header"
    )]
    Token,
    /// A version cannot be part of a path.
    #[error("failed to start the sandbox: {version:?} is not a runner version")]
    Version {
        /// The version.
        version: String,
    },
    /// A fault names no route.
    #[error("failed to start the sandbox with a fault")]
    Fault {
        /// What is wrong with it.
        #[source]
        source: FaultTextError,
    },
    /// The address is not available.
    #[error("failed to start the sandbox: cannot listen on {listen}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its thread or its runtime could not be started.
    #[error("failed to start the thread of the sandbox")]
    Thread {
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Failure for Error {
    fn class(&self) -> Class {
        match self {
            Self::NotLoopback { .. } | Self::Token | Self::Version { .. } | Self::Fault { .. } => {
                Class::Usage
            }
            Self::Listen { source, .. } => Class::of_io(source, Class::Os),
            Self::Thread { .. } => Class::Os,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotLoopback { .. } => Some(
                "Listen on 127.0.0.1, or allow remote clients: then anyone who reaches the port can use it."
                    .to_owned(),
            ),
            Self::Token => Some(
                "Use a token of letters, digits and punctuation, or omit it for a random one.".to_owned(),
            ),
            Self::Version { .. } => Some("Use three numbers, like 2.336.0.".to_owned()),
            Self::Listen { .. } => Some("Use port 0 for any free port.".to_owned()),
            Self::Fault { .. } | Self::Thread { .. } => None,
        }
    }
}

/// A running sandbox. It stops when it is shut down, or with the runtime that it runs on.
pub struct Sandbox {
    shared: Arc<Shared>,
    token: Secret,
    weak: Secret,
    server: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("url", &self.shared.base.as_str()).finish_non_exhaustive()
    }
}

/// Binds and starts the server on the current runtime.
pub async fn start(options: Options) -> Result<Sandbox, Error> {
    let listen = options.listen;
    if !listen.ip().is_loopback() && !options.allow_remote {
        return Err(Error::NotLoopback { listen });
    }
    let token = match options.token {
        Some(token) => Secret::new(&token).ok_or(Error::Token)?,
        None => prefixed("ghp_sandbox"),
    };
    for fault in &options.faults {
        fault.check().map_err(|source| Error::Fault { source })?;
    }
    let mut versions = vec![options.runner_version];
    versions.extend(options.versions);
    if let Some(version) = versions.iter().find(|version| !is_version(version)) {
        return Err(Error::Version { version: version.clone() });
    }
    let failed = |source| Error::Listen { listen, source };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let base = base_url(listener.local_addr().map_err(failed)?);
    let weak = prefixed("github_pat_weak");
    let tokens = Tokens::new(token.clone(), weak.clone(), options.token_life);
    let world = World::new(tokens, options.faults, versions);
    let shared = Arc::new(Shared::new(base, world, Archives::new(options.require_libicu)));
    let router = axum::Router::new().fallback(server::answer).with_state(Arc::clone(&shared));
    let stop = shared.stop.clone();
    let server = tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = served.await {
            tracing::error!(%error, "the sandbox's server failed");
        }
    });
    Ok(Sandbox { shared, token, weak, server: Some(server) })
}

fn prefixed(prefix: &str) -> Secret {
    let text = format!("{prefix}{}", token::random(32).expose());
    Secret::new(&text).expect("letters and digits fit in a header")
}

fn is_version(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// The URL by which this machine reaches the address.
fn base_url(address: SocketAddr) -> Url {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
    };
    let text = format!("http://{}/", SocketAddr::new(ip, address.port()));
    Url::parse(&text).expect("a socket address makes a URL")
}

impl Sandbox {
    /// `http://127.0.0.1:PORT/`: the host, to which a runner's URL adds the scope.
    #[must_use]
    pub fn base_url(&self) -> Url {
        self.shared.base.clone()
    }

    /// The base of the REST API, `http://127.0.0.1:PORT/api/v3`.
    #[must_use]
    pub fn api_url(&self) -> Url {
        let mut url = self.base_url();
        url.set_path("api/v3");
        url
    }

    /// The API token.
    #[must_use]
    pub fn token(&self) -> Secret {
        self.token.clone()
    }

    /// Every registration, remove and download token that was issued, so that a test can look for them where they must
    /// not be.
    #[must_use]
    pub fn issued(&self) -> Vec<Secret> {
        self.shared.world().tokens.issued()
    }

    /// An API token that lacks the permission for everything.
    #[must_use]
    pub fn weak_token(&self) -> Secret {
        self.weak.clone()
    }

    /// Everything that is there now.
    #[must_use]
    pub fn state(&self) -> Snapshot {
        self.shared.world().snapshot()
    }

    /// Every request so far, in the order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.shared.world().requests.clone()
    }

    /// Forgets the requests so far.
    pub fn requests_clear(&self) {
        self.shared.world().requests.clear();
    }

    /// Adds a fault.
    ///
    /// # Panics
    ///
    /// If the fault's route does not exist: it would never strike, and whatever it was to prove would not be proven.
    pub fn fault(&self, fault: Fault) {
        if let Err(error) = fault.check() {
            panic!("{error}");
        }
        self.shared.world().faults.push(fault);
    }

    /// Ends every fault.
    pub fn faults_clear(&self) {
        self.shared.world().faults.clear();
    }

    /// Adds a runner as if some other machine had registered it; `None` if the name is taken.
    #[must_use]
    pub fn add_runner(&self, scope: &Scope, name: &str, labels: &[&str]) -> Option<u64> {
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        let new = NewRunner::elsewhere(name, &self.runner_version(), labels);
        self.shared.world().register(scope.clone(), new).ok().map(|runner| runner.record.id)
    }

    /// Changes or deletes a runner behind everybody's back; whether it was there.
    #[expect(clippy::must_use_candidate, reason = "mostly called for its effect")]
    pub fn change_runner(&self, id: u64, change: RunnerChange) -> bool {
        self.shared.world().change(id, change)
    }

    /// Queues a pretend job of so many seconds; its id.
    #[expect(clippy::must_use_candidate, reason = "mostly called for its effect")]
    pub fn add_job(&self, scope: &Scope, name: &str, seconds: u64) -> u64 {
        let job =
            NewJob { scope: scope.to_string(), name: name.to_owned(), seconds, script: None, runner: None };
        self.shared.world().add_job(scope.clone(), job)
    }

    /// Queues a job, which may run a script; its id. What the script printed is [`JobRecord::log`], and how it ended
    /// [`JobRecord::result`].
    ///
    /// # Panics
    ///
    /// If its scope is none: it would never run.
    #[expect(clippy::must_use_candidate, reason = "mostly called for its effect")]
    pub fn queue(&self, job: NewJob) -> u64 {
        let scope: Scope = job.scope.parse().unwrap_or_else(|error| panic!("{error}"));
        self.shared.world().add_job(scope, job)
    }

    /// From now on, a session ends when its listener has not been heard of for so long; twenty seconds otherwise.
    pub fn end_sessions_after(&self, silence: Duration) {
        self.shared.world().session_life = silence;
    }

    /// From now on, tells idle listeners of older versions to update themselves, but for those that asked not to be.
    ///
    /// # Panics
    ///
    /// If the version is none.
    pub fn offer_update(&self, update: Update) {
        assert!(update.is_valid(), "{:?} is not a runner version", update.version);
        self.shared.world().updates.push(update);
    }

    /// Ends the life of every registration, remove and download token.
    pub fn expire_tokens(&self) {
        self.shared.world().tokens.expire();
    }

    /// From now on, the API token is refused.
    pub fn revoke_api_token(&self) {
        self.shared.world().tokens.revoke_api();
    }

    /// The newest runner version on offer.
    #[must_use]
    pub fn runner_version(&self) -> String {
        self.shared.world().newest().to_owned()
    }

    /// From now on, this version is the newest on offer; what was so far is still to be had for linux-x64.
    ///
    /// # Panics
    ///
    /// If it is no version.
    pub fn offer(&self, version: &str) {
        assert!(is_version(version), "{version:?} is not a runner version");
        self.shared.world().offer(version);
    }

    /// From now on, the support of a version ends when this says; from its dates on, it is refused.
    ///
    /// # Panics
    ///
    /// If a date is none.
    pub fn deprecate(&self, deprecation: Deprecation) {
        if let Err(error) = deprecation.check() {
            panic!("{error}");
        }
        self.shared.world().deprecate(deprecation);
    }

    /// What a user needs to rehearse: `url`, `org_url`, `api_url`, `token`, `version`. The token opens nothing but this
    /// sandbox, and is meant to be printed.
    #[must_use]
    pub fn ready(&self) -> serde_json::Value {
        let base = self.shared.base.as_str().trim_end_matches('/');
        serde_json::json!({
            "url": base,
            "org_url": format!("{base}/acme"),
            "api_url": format!("{base}/api/v3"),
            "token": self.token.expose(),
            "version": self.runner_version(),
        })
    }

    /// Stops: no new request is answered, and what stalls is cut. Returns when the server has ended.
    pub async fn shutdown(mut self) {
        self.shared.stop.cancel();
        if let Some(mut server) = self.server.take()
            && tokio::time::timeout(Duration::from_secs(2), &mut server).await.is_err()
        {
            server.abort();
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}
