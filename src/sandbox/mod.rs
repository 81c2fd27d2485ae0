//! A fake GitHub server for testing: the REST calls for self-hosted runners, archives with a small but faithful fake
//! runner, the protocol by which that runner registers, and faults on request.
//!
//! It runs inside this process, on loopback, and keeps its state in memory. It does not use the modules that it tests:
//! it follows GitHub's documentation and the runner's behaviour, not the expectations of runup's client. Tests can
//! inspect and change everything through [`Sandbox`] in this process and, in other processes, under `/_sandbox` with
//! the API token:
//!
//! | call | does |
//! |---|---|
//! | `GET state`, `GET requests` | the current state; every request so far |
//! | `POST faults`, `DELETE faults` | adds a fault; removes all faults |
//! | `POST jobs` | queues a job: `{"scope": "orgs/acme", "name": "build", "seconds": 3}`, or one that runs a shell script as the runner's user: `{"scope": "orgs/acme", "script": "id", "runner": "NAME"}` |
//! | `GET tokens` | every registration, remove and download token that was issued, for a search for leaks |
//! | `POST runners` | adds a runner of another machine: `{"scope": "orgs/acme", "name": "victim"}` |
//! | `PATCH runners/ID` | changes or deletes a runner on the server: `{"deleted": true}` |
//! | `POST versions` | makes a newer version available: `{"version": "2.340.0"}` |
//! | `POST deprecations` | ends the support of one: `{"version": "2.336.0", "registration_deprecates_at": "2026-01-01T00:00:00Z"}` |
//!
//! The name of an organization or repository decides what its owner forbids: `missing…` is hidden (404), `sso-…` requires
//! single sign-on, `walled-…` has an IP allow list, `modern-…` accepts no classic token, `closed-…` has no runners (403).
//!
//! A version whose `registration_deprecates_at` has passed cannot register, one whose `runtime_deprecates_at` has
//! passed gets no session. `GET .../deprecations/VERSION` answers 404, as github.com does, until a date was set that is
//! not `"silent": true`.

mod app;
mod archive;
mod background;
mod base64;
mod body;
mod clock;
mod conduct;
mod control;
mod deprecation;
mod download;
mod error;
mod fault;
mod job;
mod layout;
mod limit;
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

pub use app::App;
pub use background::{Background, spawn_in_thread};
pub use deprecation::Deprecation;
pub use error::Error;
pub use fault::{Act, Fault, FaultKind, FaultTextError, Unsupported};
pub use job::{JobRecord, JobResult, NewJob};
pub use route::NAMES as ROUTES;
pub use scope::Scope;
pub use token::{CredentialKind, TokenRecord};
pub use update::Update;
pub use world::{RequestRecord, RunnerChange, RunnerRecord, Snapshot};

use crate::secret::Secret;
use archive::Archives;
use axum::handler::Handler as _;
use server::Shared;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use token::Tokens;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::Url;
use world::{NewRunner, World};

/// The settings of the sandbox.
#[derive(Debug, Clone)]
pub struct Options {
    /// The address to listen on; port 0 takes any free port.
    pub listen: SocketAddr,
    /// Whether it may listen on an address that other machines can reach.
    pub allow_remote: bool,
    /// More loopback addresses, at the same port: clients that each use another one are told apart by the host of their
    /// requests.
    pub also: Vec<IpAddr>,
    /// The API token; `None` for a random one.
    pub token: Option<String>,
    /// The newest available runner version.
    pub runner_version: String,
    /// Older versions, available for linux-x64.
    pub versions: Vec<String>,
    /// The lifetime of registration, remove and download tokens.
    pub token_life: Duration,
    /// Whether the served `config.sh` requires libicu, like GitHub's.
    pub require_libicu: bool,
    /// The initial faults.
    pub faults: Vec<Fault>,
    /// Enforces GitHub's rate limits, with a minute that lasts as long as this, and an hour of sixty of them.
    pub limit_window: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            allow_remote: false,
            also: Vec::new(),
            token: None,
            runner_version: "2.336.0".to_owned(),
            versions: vec!["2.328.0".to_owned()],
            token_life: Duration::from_secs(3600),
            require_libicu: false,
            faults: Vec::new(),
            limit_window: None,
        }
    }
}

/// A running sandbox. It stops at [`Sandbox::shutdown`], or with its runtime.
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
    let address = listener.local_addr().map_err(failed)?;
    let base = base_url(address);
    let mut listeners = vec![listener];
    for ip in options.also.into_iter().filter(IpAddr::is_loopback) {
        let listen = SocketAddr::new(ip, address.port());
        listeners.push(TcpListener::bind(listen).await.map_err(|source| Error::Listen { listen, source })?);
    }
    let weak = prefixed("github_pat_weak");
    let tokens = Tokens::new(token.clone(), weak.clone(), options.token_life);
    let mut world = World::new(tokens, options.faults, versions);
    world.limiter = options.limit_window.map(limit::Limiter::new);
    let shared = Arc::new(Shared::new(base, world, Archives::new(options.require_libicu)));
    let service = server::answer.with_state(Arc::clone(&shared)).into_make_service();
    let mut servers = tokio::task::JoinSet::new();
    for listener in listeners {
        let stopped = shared.stop.clone().cancelled_owned();
        servers.spawn(axum::serve(listener, service.clone()).with_graceful_shutdown(stopped).into_future());
    }
    let server = tokio::spawn(async move {
        for served in servers.join_all().await {
            if let Err(error) = served {
                tracing::error!(%error, "the sandbox's server failed");
            }
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

/// The URL of the address on this machine.
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

    /// Every registration, remove and download token that was issued, so that a test can search for leaks.
    #[must_use]
    pub fn issued(&self) -> Vec<Secret> {
        self.shared.world().tokens.issued()
    }

    /// An API token without any permission.
    #[must_use]
    pub fn weak_token(&self) -> Secret {
        self.weak.clone()
    }

    /// The current state.
    #[must_use]
    pub fn state(&self) -> Snapshot {
        self.shared.world().snapshot()
    }

    /// The requests so far, in the order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.shared.world().requests.clone()
    }

    /// Forgets the requests so far.
    pub fn requests_clear(&self) {
        self.shared.world().forget_requests();
    }

    /// What no good client does and a client did, such as to delete a runner that no answer had told it of, or to send a
    /// credential to another host; one line each.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.shared.world().conduct.violations()
    }

    /// Adds a fault.
    ///
    /// # Panics
    ///
    /// If the fault's route does not exist: the fault would never apply, and a test would prove nothing.
    pub fn fault(&self, fault: Fault) {
        if let Err(error) = fault.check() {
            panic!("{error}");
        }
        self.shared.world().faults.push(fault);
    }

    /// Adds a GitHub App, or another installation of one.
    ///
    /// # Panics
    ///
    /// If its key cannot verify signatures: it would be refused for another reason than the tested one.
    pub fn add_app(&self, app: App) {
        assert!(app.is_valid(), "{:?} is not a public key", app.public_key);
        self.shared.world().apps.push(app);
    }

    /// Takes all Apps away.
    pub fn apps_clear(&self) {
        self.shared.world().apps.clear();
    }

    /// Ends every fault, and what a client that was told of it has to wait for.
    pub fn faults_clear(&self) {
        self.shared.world().end_faults();
    }

    /// Adds a runner as if another machine had registered it; `None` if the name is taken.
    #[must_use]
    pub fn add_runner(&self, scope: &Scope, name: &str, labels: &[&str]) -> Option<u64> {
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        let new = NewRunner::elsewhere(name, &self.runner_version(), labels);
        self.shared.world().register(scope.clone(), new).ok().map(|runner| runner.record.id)
    }

    /// Changes or deletes a runner on the server; returns whether it existed.
    #[expect(clippy::must_use_candidate, reason = "mostly called for its effect")]
    pub fn change_runner(&self, id: u64, change: RunnerChange) -> bool {
        self.shared.world().change(id, change)
    }

    /// Renames a runner on the server, as if its id were another machine's; returns whether it existed.
    #[expect(clippy::must_use_candidate, reason = "mostly called for its effect")]
    pub fn rename_runner(&self, id: u64, name: &str) -> bool {
        self.shared.world().rename(id, name)
    }

    /// Queues a job that only takes time, and returns its id.
    #[expect(clippy::must_use_candidate, reason = "mostly called for its effect")]
    pub fn add_job(&self, scope: &Scope, name: &str, seconds: u64) -> u64 {
        let job =
            NewJob { scope: scope.to_string(), name: name.to_owned(), seconds, script: None, runner: None };
        self.shared.world().add_job(scope.clone(), job)
    }

    /// Queues a job, which may run a script, and returns its id. [`JobRecord::log`] has the output of the script, and
    /// [`JobRecord::result`] its result.
    ///
    /// # Panics
    ///
    /// If its scope is not valid: it would never run.
    #[expect(clippy::must_use_candidate, reason = "mostly called for its effect")]
    pub fn queue(&self, job: NewJob) -> u64 {
        let scope: Scope = job.scope.parse().unwrap_or_else(|error| panic!("{error}"));
        self.shared.world().add_job(scope, job)
    }

    /// Sets how long after the last request of its listener a session ends; twenty seconds by default.
    pub fn end_sessions_after(&self, silence: Duration) {
        self.shared.world().session_life = silence;
    }

    /// Sets how long a request of an idle listener waits for a job: not at all by default, 50 seconds on GitHub. A job that
    /// is queued meanwhile is sent with the next request.
    pub fn hold_messages(&self, hold: Duration) {
        self.shared.world().message_hold = hold;
    }

    /// From now on, tells idle listeners of older versions to update themselves, except those that disabled updates.
    ///
    /// # Panics
    ///
    /// If the version is not valid.
    pub fn offer_update(&self, update: Update) {
        assert!(update.is_valid(), "{:?} is not a runner version", update.version);
        self.shared.world().updates.push(update);
    }

    /// Expires every registration, remove and download token.
    pub fn expire_tokens(&self) {
        self.shared.world().tokens.expire();
    }

    /// From now on, the API token is refused.
    pub fn revoke_api_token(&self) {
        self.shared.world().tokens.revoke_api();
    }

    /// The newest available runner version.
    #[must_use]
    pub fn runner_version(&self) -> String {
        self.shared.world().newest().to_owned()
    }

    /// Makes this version the newest; the previous ones stay available for linux-x64.
    ///
    /// # Panics
    ///
    /// If it is not a version.
    pub fn offer(&self, version: &str) {
        assert!(is_version(version), "{version:?} is not a runner version");
        self.shared.world().offer(version);
    }

    /// Sets the end of support of a version, which is refused from these dates on.
    ///
    /// # Panics
    ///
    /// If a date is not valid.
    pub fn deprecate(&self, deprecation: Deprecation) {
        if let Err(error) = deprecation.check() {
            panic!("{error}");
        }
        self.shared.world().deprecate(deprecation);
    }

    /// What a user needs to use the sandbox: `url`, `org_url`, `api_url`, `token`, `version`. The token is valid only
    /// for this sandbox, so it can be printed.
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

    /// Stops: no new request is answered, and stalled connections are closed. Returns when the server has stopped.
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
