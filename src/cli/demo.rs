//! `runup demo`: the whole life of a runner against the sandbox, with every claim checked.
//!
//! Only the server is fake: the download, the digest, the user, `config.sh` and the REST calls are those of `install` and
//! `remove` on any machine.

use super::Session;
use super::output::{Failed, Output};
use crate::error::situation::{self, Situation};
use crate::error::{Class, Failure};
use crate::github::{Credential, Target};
use crate::host::{Root, account};
use crate::lifecycle::{
    Archive, Looking, Registration, RemoveScope, Request, RunnerState, Site, install, remove, status,
};
use crate::net::Http;
use crate::runner::config_sh;
use crate::sandbox::{Background, Options, spawn_in_thread};
use crate::settings::Credentials;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The demo failed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the demo expected that {claim}, but found: {instead}")]
    Claim { claim: &'static str, instead: String },
    #[error("failed to create a temporary directory")]
    TemporaryDir(#[source] std::io::Error),
}

impl Failure for Error {
    fn class(&self) -> Class {
        match self {
            Self::Claim { .. } => Class::Software,
            Self::TemporaryDir(source) => Class::of_io(source, Class::CantCreate),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Claim { .. } => Some("Please report it, with the lines above.".into()),
            Self::TemporaryDir(_) => Some("Set TMPDIR to a writable directory.".into()),
        }
    }

    fn situation(&self) -> &'static Situation {
        match self {
            Self::Claim { .. } => &situation::BUG,
            Self::TemporaryDir(source) => situation::of_io(source, &situation::FILE_FAILED),
        }
    }
}

fn claim(claim: &'static str, holds: bool, instead: impl std::fmt::Debug) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::Claim { claim, instead: format!("{instead:?}") }) }
}

pub(super) async fn run(session: Session) -> Result<Output, Failed> {
    let began = Instant::now();
    let sandbox = spawn_in_thread(Options::default())?;
    tracing::info!("fake GitHub at {}; nothing leaves this machine", sandbox.base_url());
    let dir = temporary_dir()?;
    let request = request_for(&sandbox, dir.path())?;
    let result = Box::pin(live(&request, &sandbox, &session)).await;
    if result.is_err() {
        // The directory is deleted when its guard is dropped, but the user and the rest are not.
        clean_up(&request, &session).await;
    }
    result?;
    let seconds = began.elapsed().as_secs_f64();
    let user = match &request.user {
        Some(user) => format!("as the user {user} (created, and deleted again)"),
        None => format!("as {}", account::current().name),
    };
    let text = format!(
        "proven in {seconds:.1} s: a verified runner was installed, registered by its own config.sh {user}, confirmed by \
         the API, installed again without a change, and removed without a trace"
    );
    Ok(Output::new(text, &json!({"proven": true, "seconds": seconds, "phases": session.screen.phases()})))
}

/// Installs, checks and removes the runner.
async fn live(request: &Request, sandbox: &Background, session: &Session) -> Result<(), Failed> {
    let site = |request| -> Result<Site<'_>, Failed> {
        let http = Http::new(crate::net::HttpOptions::default())?;
        Ok(Site::new(request, http, session.signals.stop().clone(), &session.screen)?)
    };
    let placed = || request.dir.join("config.sh").exists();

    let installed = install(&site(request)?).await?;
    let state = sandbox.state();
    claim("install changed the machine", installed.changed, &installed)?;
    claim("the runner's files are in place", placed(), &request.dir)?;
    claim("the server has exactly one runner", state.runners.len() == 1, &state.runners)?;
    let runner = installed.runner.as_ref();
    let same = runner.is_some_and(|runner| runner.id == state.runners.first().map(|runner| runner.id));
    claim("it is the one that install reports", same, runner)?;
    let owner = owner_of(&request.dir);
    let wanted = match &request.user {
        Some(user) => account::find(&request.root, user)?.map(|account| account.uid),
        None => owner,
    };
    claim("its files belong to the runner's user", owner == wanted, (owner, wanted))?;

    let again = install(&site(request)?).await?;
    claim("install again does nothing", !again.changed, &again)?;
    let runners = sandbox.state().runners.len();
    claim("there is still exactly one runner", runners == 1, runners)?;

    let began = Instant::now();
    let status = status(&site(request)?, &Looking::default()).await?;
    claim("status says registered", status.state == RunnerState::Registered, &status)?;
    let said =
        format!("registered, {} according to the API", status.server.as_deref().unwrap_or("not asked"));
    crate::lifecycle::Watch::end(&session.screen, "status", &said, began.elapsed());

    let removed = remove(&site(request)?, RemoveScope::Server, Duration::ZERO).await?;
    claim("remove changed the machine", removed.changed, &removed)?;
    let left = sandbox.state().runners;
    claim("the server has no runner left", left.is_empty(), &left)?;
    claim("the runner's directory is gone", !request.dir.exists(), &request.dir)?;
    if let Some(user) = &request.user {
        let found = account::find(&request.root, user)?;
        claim("the runner's user is gone", found.is_none(), &found)?;
    }
    let journals = journals(&request.state);
    claim("the journal is gone", journals.is_empty(), &journals)?;
    Ok(())
}

fn request_for(sandbox: &Background, temporary: &Path) -> Result<Request, Failed> {
    let url = sandbox.base_url().join("octo-demo").expect("a word can be joined to a URL");
    let target = Target::parse(url.as_str(), None, false)?;
    let name = "{hostname}-{random}".parse().expect("the template is valid");
    let user = account::is_root().then(|| format!("runup-demo-{}", crate::runner::name::random_word()));
    Ok(Request {
        // No directory service has to be asked for it.
        user_is_default: true,
        dir_is_default: false,
        instance: None,
        shared: None,
        groups: Vec::new(),
        ids: account::WantedIds::default(),
        self_update: false,
        supervised: false,
        credential_lasts: false,
        confirmed_name: None,
        adopt: false,
        trust_tree: false,
        root: Root::host(),
        dir: temporary.join("actions-runner"),
        state: temporary.join("state"),
        user: user.filter(|_| cfg!(unix)),
        target: Some(target),
        credentials: Credentials {
            api: Some(Credential::token(sandbox.token(), "the demo")),
            ..Credentials::default()
        },
        token_files: Vec::new(),
        archive: Archive::default(),
        registration: Some(Registration {
            name,
            options: config_sh::ConfigOptions::default(),
            replace_offline: false,
        }),
        jit: false,
        service: None,
        no_service: false,
        deps: false,
        keep_on_failure: false,
        token_on_argv: false,
        allow_http: false,
        allow_metadata: false,
        cloud: None,
        environment: crate::runner::WantedEnvironment::default(),
        deadline: Duration::from_secs(60),
    })
}

/// A directory that the runner's user can enter, as GitHub's runner requires.
fn temporary_dir() -> Result<tempfile::TempDir, Error> {
    let dir = tempfile::Builder::new().prefix("runup-demo-").tempdir().map_err(Error::TemporaryDir)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path(), mode).map_err(Error::TemporaryDir)?;
    }
    Ok(dir)
}

async fn clean_up(request: &Request, session: &Session) {
    let stop = tokio_util::sync::CancellationToken::new();
    let Ok(http) = Http::new(crate::net::HttpOptions::default()) else { return };
    let Ok(site) = Site::new(request, http, stop, &session.screen) else { return };
    if let Err(error) = remove(&site, RemoveScope::Server, Duration::ZERO).await {
        tracing::warn!("failed to clean up after the demo: {}", crate::error::chain(&error));
    }
}

fn journals(state: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(state) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect()
}

#[cfg(unix)]
fn owner_of(path: &Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).ok().map(|metadata| metadata.uid())
}

#[cfg(not(unix))]
fn owner_of(_: &Path) -> Option<u32> {
    None
}
