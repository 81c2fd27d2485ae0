//! Shows the runner's state here and on the server.

use crate::deadline::Deadline;
use crate::error::{Class, Failure as _, chain};
use crate::github::{Client, Runner};
use crate::host::{Account, systemd};
use crate::lifecycle::command::upgrade::support::{Support, support};
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::{Act, EntryState, Journal, Registered, Step};
use crate::lifecycle::state::service::unit_path;
use crate::lifecycle::state::{drift, environment, isolation, limit, machine, observed};
use crate::lifecycle::step::placing::stored::{self, StoredCopies, Stores};
use crate::runner::{Guard, LocalState, RunnerVersion, listener, state, tree};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::time::Duration;

/// The state of one runner directory.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Its state, in one word.
    pub state: RunnerState,
    /// The runner's directory.
    pub dir: std::path::PathBuf,
    /// Its version, as far as its files tell it.
    pub version: Option<String>,
    /// Whether runup set it up.
    pub journal: bool,
    /// The runner's user.
    pub user: Option<String>,
    /// How its tree is guarded from its jobs, if runup set it up as root.
    pub guard: Option<Guard>,
    /// Whether its user is kept from what is root's; `None` if runup did not set it up as root.
    pub isolated: Option<bool>,
    /// How its user can become root.
    pub ways_to_root: Vec<String>,
    /// Why jobs can change the runner's programs, if they could be kept from it.
    pub not_locked: Option<String>,
    /// Its name, as registered.
    pub name: Option<String>,
    /// Its id on the server.
    pub id: Option<u64>,
    /// Where it is registered.
    pub url: Option<String>,
    /// `online` or `offline`, if the server was asked and has it.
    pub server: Option<String>,
    /// Whether it is running a job, if the server was asked and has it.
    pub busy: Option<bool>,
    /// Why the server could not be asked.
    pub not_asked: Option<String>,
    /// The class of that, if it should have been possible.
    #[serde(skip)]
    pub unreachable: Option<Class>,
    /// Until when `runup run` waits for the server's rate limit, if it does.
    pub waits_until: Option<String>,
    /// Whether the listener of the runner has a process; `None` where that cannot be seen.
    pub listener: Option<bool>,
    /// Whether a job runs on this machine.
    pub job: Option<bool>,
    /// The service, if runup installed one.
    pub service: Option<ServiceStatus>,
    /// How long the version is supported, if a newer one is available and the runner does not update itself.
    pub support: Option<Support>,
    /// The verified copies beside it, from which more runners are made.
    pub store: Option<StoredCopies>,
    /// The names of what is set for the runner and its jobs.
    pub environment: Vec<String>,
    /// What differs from what was requested of `install`, or from what it left: changed since by other means.
    pub drift: Vec<String>,
}

/// The service as systemd sees it.
#[derive(Debug, Clone, Serialize)]
pub struct ServiceStatus {
    /// The unit's name.
    pub unit: String,
    /// `active`, `inactive`, `failed` and so on.
    pub active: String,
    /// `enabled`, `disabled`, `masked`.
    pub enabled: String,
    /// How often systemd restarted it.
    pub restarts: u32,
    /// Why it last ended.
    pub result: String,
    /// Since when it is as it is, in systemd's words.
    pub since: Option<String>,
    /// The last lines of its log, if it is not well.
    pub log: Vec<String>,
}

/// The state in one word, for machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunnerState {
    /// No runner.
    Absent,
    /// Placed, not registered.
    Placed,
    /// A run was interrupted; the next `install` or `remove` finishes it.
    Unfinished,
    /// Registered here, and the server has it (or was not asked).
    Registered,
    /// Registered here, but deleted on the server.
    Forgotten,
    /// Registered, or about to be, and its service does not run.
    Stopped,
    /// Registered, its service runs, and the server does not see it.
    Offline,
    /// Registered, and the server cannot be asked.
    Unreachable,
    /// Registered by the machine that this disk is a copy of; the next `install` creates a runner of its own.
    Copied,
}

impl fmt::Display for RunnerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "absent",
            Self::Placed => "placed",
            Self::Unfinished => "unfinished",
            Self::Registered => "registered",
            Self::Forgotten => "forgotten",
            Self::Stopped => "stopped",
            Self::Offline => "offline",
            Self::Unreachable => "unreachable",
            Self::Copied => "copied",
        })
    }
}

/// What `status` asks.
#[derive(Debug, Clone, Default)]
pub struct Looking {
    /// Only what this machine knows.
    pub local: bool,
    /// Why there is no credential, although one was named.
    pub refused: Option<String>,
    /// Why the credential is not for this runner's server.
    pub withheld: Option<String>,
    /// What the runners share.
    pub stores: Stores,
}

/// How long the server may take. What this machine knows is known by then.
const ASKING: Duration = Duration::from_secs(10);

/// How much of the log is shown of a service that is not well.
const LOG_LINES: usize = 10;

/// Observes, and changes nothing.
///
/// # Errors
/// The directory or the journal cannot be read.
pub async fn status(site: &Site<'_>, looking: &Looking) -> Result<Status, Error> {
    let journal = site.read_journal()?;
    let dir = site.dir();
    let local = state::read(&dir)?;
    let tree = if dir.is_dir() { Some(tree::inspect(&dir, site.platform())?) } else { None };
    let version = tree.as_ref().and_then(|tree| tree.version);
    let store = stored::copies(site, &looking.stores);
    let mut status = Status { store, ..unknown(site, &journal, version) };
    look_at_guard(site, &journal, &mut status).await?;
    if version.is_some() {
        look_at_environment(site, &journal, &mut status)?;
    }
    if let Some((_, registered)) = journal.registered() {
        status.name = Some(registered.name.clone());
        status.id = registered.agent_id;
        status.url = Some(registered.url.clone());
    } else if let LocalState::Configured(file) = &local {
        status.name = Some(file.agent_name.clone());
        status.id = Some(file.agent_id);
        status.url.clone_from(&file.github_url);
    }
    status.state = state_here(site, &journal, &local, version.is_some());
    look_at_processes(site, &mut status);
    status.waits_until = limit::waits_until(site).map(|until| until.to_string());
    if looking.local {
        status.not_asked = Some("--local".into());
    } else if let Some(why) = &looking.withheld {
        status.not_asked = Some(why.clone());
    } else if let (RunnerState::Registered, Some(why)) = (status.state, &looking.refused) {
        (status.not_asked, status.unreachable) = (Some(why.clone()), Some(Class::NoPerm));
    } else if status.state == RunnerState::Registered {
        let site = &site.until(Deadline::after(ASKING.min(site.deadline.left())), site.stop.clone());
        let found = Found { local: &local, version, open: journal.guard() == Guard::Open };
        ask(site, &mut status, &found, journal.entry(Step::Register).map(|entry| &entry.act)).await;
    }
    if let Some(version) =
        version.filter(|_| status.state == RunnerState::Registered && status.not_asked.is_none())
    {
        status.support = support(site, &journal, version).await.unwrap_or_else(|error| {
            tracing::debug!("{}", chain(&error));
            None
        });
    }
    let lacks = tree.map(|tree| tree.lacks()).unwrap_or_default();
    if status.state == RunnerState::Registered && status.journal && !lacks.is_empty() {
        status.drift.push(format!(
            "the runner is incomplete, as a cut off update of its own leaves it ({}); `runup install` puts a complete \
             one in its place",
            lacks.join(", ")
        ));
    }
    look_at_service(site, &journal, &mut status, lacks.is_empty()).await?;
    let is_dead = looking.local && status.listener == Some(false);
    match status.state {
        RunnerState::Registered if is_dead => status.state = RunnerState::Stopped,
        RunnerState::Registered if status.unreachable.is_some() => status.state = RunnerState::Unreachable,
        _ => {}
    }
    Ok(status)
}

/// Whether the listener and a job of it run, whatever started them.
fn look_at_processes(site: &Site<'_>, status: &mut Status) {
    if cfg!(target_os = "linux") && site.request.root.is_host() {
        let (dir, uid) = (site.dir(), site.runner_uid());
        status.listener = Some(!listener::listeners(&dir, uid).find().is_empty());
        status.job = Some(!listener::workers(&dir, uid).find().is_empty());
    }
}

/// Before anything but the journal and the version was looked at.
fn unknown(site: &Site<'_>, journal: &Journal, version: Option<RunnerVersion>) -> Status {
    Status {
        state: RunnerState::Absent,
        dir: site.request.dir.clone(),
        version: version.map(|version| version.to_string()),
        journal: journal.exists(),
        user: journal.user().map(str::to_owned),
        guard: None,
        isolated: None,
        ways_to_root: Vec::new(),
        not_locked: None,
        name: None,
        id: None,
        url: None,
        server: None,
        busy: None,
        not_asked: None,
        unreachable: None,
        waits_until: None,
        listener: None,
        job: None,
        service: None,
        support: None,
        store: None,
        environment: Vec::new(),
        drift: Vec::new(),
    }
}

/// Compares the runner's directory with the record, whatever is set where `status` runs.
fn look_at_environment(site: &Site<'_>, journal: &Journal, status: &mut Status) -> Result<(), Error> {
    let recorded = environment::recorded(site)?;
    status.environment = recorded.names();
    if recorded.is_empty() {
        return Ok(());
    }
    let site = Site { environment: recorded.into(), ..site.clone() };
    for name in environment::drifted(&site, journal.guard())? {
        status.drift.push(format!("{name} is not as runup wrote it; `runup install` writes it again"));
    }
    Ok(())
}

/// How the tree is guarded from its jobs, and what they could do.
async fn look_at_guard(site: &Site<'_>, journal: &Journal, status: &mut Status) -> Result<(), Error> {
    if let (Some(_), Some(account)) = (journal.entry(Step::PlaceRunner), site.account()?)
        && site.isolates(&account)
    {
        status.guard = Some(journal.guard());
        status.ways_to_root = isolation::ways(site, journal, &account).await?;
        status.isolated = Some(status.ways_to_root.is_empty());
        status.not_locked = not_locked(site, journal, &account);
    }
    Ok(())
}

/// The runner's state, as far as this machine tells it.
fn state_here(site: &Site<'_>, journal: &Journal, local: &LocalState, placed: bool) -> RunnerState {
    match local {
        _ if observed::is_copy(site, journal) => RunnerState::Copied,
        _ if journal.entries().iter().any(|entry| entry.state == EntryState::Begun) => {
            RunnerState::Unfinished
        }
        LocalState::Configured(_) => RunnerState::Registered,
        _ if journal.registered().is_some() => RunnerState::Forgotten,
        _ if placed => RunnerState::Placed,
        LocalState::Unconfigured => RunnerState::Absent,
        LocalState::Partial { .. } | LocalState::Corrupt { .. } => RunnerState::Unfinished,
    }
}

/// Why jobs can change the runner, and how to end that. `status` does not know what the next `install` will request, so
/// it goes by what is there.
fn not_locked(site: &Site<'_>, journal: &Journal, account: &Account) -> Option<String> {
    let (_, registered) = journal.registered()?;
    if journal.guard() != Guard::Open {
        return None;
    }
    let asked = registered.asked.as_ref().is_some_and(|asked| asked.self_update);
    Some(if asked {
        format!(
            "--self-update was requested, so {} owns the runner's programs, and its jobs can change them",
            account.name
        )
    } else {
        format!(
            "{} owns the runner's programs, and its jobs can change them; `runup install` with a --token-file that stays \
             converts it{}",
            account.name,
            if site.request.root.is_host() { "" } else { " on the machine itself" }
        )
    })
}

/// The service and the state of its unit, if the journal has one and systemd runs this machine. Only a `whole` runner
/// may come online by itself.
async fn look_at_service(
    site: &Site<'_>,
    journal: &Journal,
    status: &mut Status,
    whole: bool,
) -> Result<(), Error> {
    let Some(Act::WriteService { unit, sha256, upgrades }) =
        journal.entry(Step::WriteService).map(|entry| &entry.act)
    else {
        return Ok(());
    };
    if !systemd::is_running() || !site.request.root.is_host() {
        return Ok(());
    }
    let seen = systemd::show(unit, &site.stop).await?;
    match std::fs::read(unit_path(site, unit)) {
        Ok(text) if hex::encode(Sha256::digest(&text)) == *sha256 => {}
        Ok(_) => status.drift.push(format!("{unit} was changed; a change belongs into a drop-in")),
        Err(_) => status.drift.push(format!("{unit} is missing")),
    }
    if !seen.is_enabled() {
        let how = Some(seen.enabled.to_string()).filter(|how| !how.is_empty());
        let how = how.unwrap_or_else(|| "not there".into());
        status.drift.push(format!("{unit} is {how}, so it does not come back after a reboot"));
    }
    status
        .drift
        .extend(crate::lifecycle::step::service::upgrades::drift(site, unit, upgrades.as_ref()).await?);
    // Placed only, with a service that cannot work: a new registration failed.
    if matches!(status.state, RunnerState::Registered | RunnerState::Placed) && !seen.is_up() {
        status.state = RunnerState::Stopped;
    } else if status.state == RunnerState::Registered && status.server.as_deref() == Some("offline") && whole
    {
        status.state = RunnerState::Offline;
    }
    let is_well = seen.is_up() && seen.restarts == 0;
    let log = if is_well { String::new() } else { systemd::log_tail(unit, &site.stop).await };
    let log: Vec<String> = log.lines().map(str::to_owned).collect();
    status.service = Some(ServiceStatus {
        unit: unit.clone(),
        active: seen.active.to_string(),
        enabled: seen.enabled.to_string(),
        restarts: seen.restarts,
        result: seen.result,
        since: seen.since,
        log: log[log.len().saturating_sub(LOG_LINES)..].to_vec(),
    });
    Ok(())
}

/// What the directory says.
struct Found<'a> {
    local: &'a LocalState,
    version: Option<RunnerVersion>,
    open: bool,
}

/// The server's answer is welcome but not needed: a machine without network still has a state.
async fn ask(site: &Site<'_>, status: &mut Status, found: &Found<'_>, act: Option<&Act>) {
    let registered = match act {
        Some(Act::Register(registered)) => Some(registered),
        _ => None,
    };
    let client = match registered {
        // A credential is for the server that it was configured with.
        Some(Registered { api_url, .. })
            if site
                .client
                .as_ref()
                .is_some_and(|client| !api_url.is_empty() && client.target().api.as_str() != api_url) =>
        {
            status.not_asked = Some(machine::OTHER_SERVER.into());
            return;
        }
        Some(registered) if !registered.api_url.is_empty() => {
            site.client_at(&registered.url, &registered.api_url).ok().map(std::sync::Arc::new)
        }
        // Jobs can write the directory: a credential goes where the operator says, never where a file in it says.
        _ => site.client.clone(),
    };
    let client = client.filter(|client| client.has_token());
    let mut runner = None;
    let name = status.name.clone().unwrap_or_default();
    match (&client, status.id) {
        (Some(client), Some(id)) => {
            match site.within("asking for the runner", client.runner_or_listed(id, &name)).await {
                Ok(Some(found)) => runner = Some(found),
                Ok(None) => status.state = RunnerState::Forgotten,
                Err(error) => {
                    let refused = error.class() == Class::NoPerm;
                    status.unreachable = Some(if refused { Class::NoPerm } else { Class::TempFail });
                    status.not_asked = Some(chain(&error));
                }
            }
        }
        _ => status.not_asked = Some("no credential, or no --url".into()),
    }
    if let Some(runner) = &runner {
        status.server = Some(runner.status.to_string());
        status.busy = Some(runner.busy);
    }
    let Some(asked) = registered.and_then(|registered| registered.asked.as_ref()) else { return };
    let group = match (&client, &runner) {
        (Some(client), Some(runner)) if asked.group.is_some() => group(site, client, runner).await,
        _ => None,
    };
    let file = match found.local {
        LocalState::Configured(file) => Some(file),
        _ => None,
    };
    status.drift.extend(drift::of_registration(
        asked,
        runner.as_ref(),
        file,
        found.version,
        group.as_deref(),
        found.open,
    ));
}

/// The name of the runner's group, if the server returns it: older ones do not.
async fn group(site: &Site<'_>, client: &Client, runner: &Runner) -> Option<String> {
    let id = runner.runner_group_id?;
    site.within("asking for the runner groups", client.group_name(id)).await.unwrap_or_else(|error| {
        tracing::debug!("{}", chain(&error));
        None
    })
}
