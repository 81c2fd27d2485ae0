//! Deregisters a runner: one way for every occasion, and one table of each occasion's limits.
//!
//! `config.sh remove` with a remove token is the documented way, if its program can be trusted with one. The server is
//! asked afterwards in any case: the script reports success without having done anything when its files are missing,
//! and failure when the server's entry was gone already. The other way is by an id that the server confirmed. Local
//! files go last: while they are there, a later run can still do what this one could not.

use crate::github::{self, Client, Deletion, Runner};
use crate::lifecycle::context::error::{Error, RegistrationError, ServiceError, TreeError, TrustError};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::checkpoint::{Checkpoint, reach};
use crate::lifecycle::state::journal::{Act, Journal, Registered, Step};
use crate::lifecycle::state::ownership;
use crate::lifecycle::step::recorded::{self, Begin};
use crate::lifecycle::step::registration::{script, token};
use crate::lifecycle::step::user;
use crate::runner::state;
use std::sync::Arc;
use std::time::Duration;

/// How often a busy runner is checked again while a person waits.
const JOB_POLL: Duration = Duration::from_secs(5);

/// The server needs a moment to see that a job's runner is gone.
pub(crate) const BUSY_POLL: Duration = Duration::from_secs(1);

/// How long to wait for a server that does not answer, when the network may be going down as well.
pub(crate) const SILENCE: Duration = Duration::from_secs(14);

/// Why a runner is taken off the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// `remove`.
    Removal,
    /// `run` ends, on a machine that may be going down, or be taken away.
    Shutdown,
    /// The one job of an ephemeral runner is over. The server deletes its runner by itself, or on request.
    JobDone,
    /// An earlier run was interrupted, and left a runner where the server is to create another.
    Leftover,
    /// This run registered it, and failed later. It has never started.
    Unwinding,
}

/// The limits of an occasion.
struct Limits {
    /// For all of it; `None` is what is left of the deadline.
    whole: Option<Duration>,
    /// Until a runner that should be offline is: the server notices late that a session is over.
    offline: Duration,
    /// Until a second check whether a request that was on its way has arrived.
    in_flight: Option<Duration>,
    /// How often to check whether the server has deleted the runner by itself.
    looks: u32,
}

impl Occasion {
    const fn limits(self) -> Limits {
        const fn seconds(seconds: u64) -> Duration {
            Duration::from_secs(seconds)
        }
        let (whole, offline, in_flight, looks) = match self {
            Self::Removal => (None, seconds(90), None, 0),
            Self::Shutdown => (Some(SILENCE), SILENCE, None, 0),
            Self::JobDone => (None, SILENCE, None, 5),
            Self::Leftover => (None, Duration::MAX, None, 0),
            Self::Unwinding => (Some(seconds(60)), Duration::ZERO, Some(seconds(2)), 0),
        };
        Limits { whole, offline, in_flight, looks }
    }

    const fn phase(self) -> &'static str {
        match self {
            Self::JobDone => "forget",
            _ => "leave",
        }
    }
}

/// Takes the runner of the journal off the server, and its identity out of the tree and the journal.
///
/// # Errors
/// The server may still have it; the journal says so.
pub(crate) async fn deregister(
    site: &Site<'_>,
    journal: &mut Journal,
    occasion: Occasion,
) -> Result<(), Error> {
    let Some((_, registered)) = journal.registered() else { return Ok(()) };
    let registered = registered.clone();
    if occasion == Occasion::Shutdown
        && site.eyes().is_none()
        && let Some(account) = site.account()?
    {
        // Whatever the script does, processes that a job left running end with its runner.
        user::end_processes(site, journal, &account).await?;
    }
    let limits = occasion.limits();
    let until = limits.whole.map_or(site.deadline, |whole| site.deadline.within(whole));
    let site = &site.until(until, site.stop.clone());
    match (occasion, site.eyes()) {
        (Occasion::Removal, _) => return by_script(site, journal, &registered, &limits).await,
        (Occasion::Unwinding, None) => return unseen(site, journal, &registered, &limits).await,
        (Occasion::Shutdown, _) => recorded::begin(journal, Act::Register(registered.clone()), Begin::New)?,
        _ => {}
    }
    match site.eyes() {
        // By id at once: config.sh would take three calls more, and there may be little time.
        Some(client) => {
            let phase = site.phase(occasion.phase());
            let gone = by_id(site, client, &registered, &limits).await;
            let may_remain = matches!(gone, Err(Error::Registration(RegistrationError::MayRemain { .. })));
            if may_remain {
                no_proof(site, journal, &registered)?;
            }
            phase.end(gone.map_err(|error| {
                match occasion {
                    // Whatever kept it from being deleted, the operator has to know which runner may be left.
                    _ if may_remain => error,
                    Occasion::Unwinding if !error.is_stop() => RegistrationError::StillOnServer {
                        name: registered.name.clone(),
                        id: registered.agent_id,
                        source: Some(Box::new(error)),
                    }
                    .into(),
                    _ => error,
                }
            })?);
        }
        // The server deletes it by itself.
        None if occasion == Occasion::JobDone => {}
        None => return by_script(site, journal, &registered, &limits).await,
    }
    clean(site, journal).await
}

/// Records that the server may have a runner of this name, and that nothing here shows whose it is: the key is the last
/// attempt's, and others may have used the name since it was free.
///
/// # Errors
/// The key stays; the journal cannot be written.
pub(crate) fn no_proof(site: &Site<'_>, journal: &mut Journal, registered: &Registered) -> Result<(), Error> {
    state::clean_identity(&site.dir())?;
    let registered = Registered { may_exist: true, name_was_free: false, ..registered.clone() };
    recorded::begin(journal, Act::Register(registered), Begin::Over)
}

/// Deletes what `config.sh` has just registered and then failed to finish; the journal still records it as begun.
///
/// # Errors
/// The server may still have it.
pub(crate) async fn take_back(site: &Site<'_>, registered: &Registered) -> Result<(), Error> {
    let Some(client) = site.eyes() else {
        return Err(may_remain(registered, None, None));
    };
    by_id(site, client, registered, &Occasion::Unwinding.limits()).await.map(drop)
}

/// Deletes the runner of the journal by its id, if the server still has it; returns the result in words.
async fn by_id(
    site: &Site<'_>,
    client: &Client,
    registered: &Registered,
    limits: &Limits,
) -> Result<String, Error> {
    let name = &registered.name;
    if let (1.., Some(id)) = (limits.looks, registered.agent_id)
        && is_forgotten(site, client, registered, id, limits.looks).await?
    {
        return Ok(format!("the server no longer has {name} (id {id})"));
    }
    let mut found = ownership::ours(site, client, registered, limits.offline).await?;
    if let (None, None, Some(pause)) = (&found, registered.agent_id, limits.in_flight)
        && state::has_key(&site.dir())
    {
        // The request of a killed config.sh may still be on its way. Waiting for it must leave the time to ask.
        tokio::time::sleep(pause.min(site.deadline.left() / 2)).await;
        found = ownership::ours(site, client, registered, limits.offline).await?;
    }
    let Some(runner) = found else {
        let was_tried = !registered.confirmed && (registered.may_exist || state::has_key(&site.dir()));
        if limits.in_flight.is_some()
            && was_tried
            && let Some(named) =
                site.within("asking for the runner's name", client.runner_named(name)).await?
        {
            return Err(may_remain(registered, Some(named.id), None));
        }
        return Ok(format!("the server no longer has {name} of this machine"));
    };
    Ok(match delete(site, client, runner.id).await? {
        Deletion::Deleted => format!("deregistered {name} (id {})", runner.id),
        Deletion::AlreadyGone => format!("the server no longer has {name} (id {})", runner.id),
    })
}

/// Whether the server has deleted the runner within that many checks.
async fn is_forgotten(
    site: &Site<'_>,
    client: &Client,
    registered: &Registered,
    id: u64,
    looks: u32,
) -> Result<bool, Error> {
    for look in 1..=looks {
        let found = site.within("asking whether the runner is gone", client.runner(id)).await?;
        if !found.is_some_and(|found| found.is_named(&registered.name)) {
            return Ok(true);
        }
        if look < looks {
            tokio::time::sleep(BUSY_POLL.min(site.deadline.left())).await;
        }
    }
    Ok(false)
}

/// Deletes by id; a server that considers the runner busy is asked again.
async fn delete(site: &Site<'_>, client: &Client, id: u64) -> Result<Deletion, Error> {
    loop {
        match site.within("deleting the runner", client.delete(id)).await {
            Err(Error::Github(github::Error::Busy { .. })) if !site.deadline.passed() => {
                tokio::time::sleep(BUSY_POLL.min(site.deadline.left())).await;
            }
            other => return other,
        }
    }
}

/// Without a credential for the API nothing can be checked. A remove token removes what `config.sh` has registered;
/// without one, the entry stays for a later run if there may be a runner.
async fn unseen(
    site: &Site<'_>,
    journal: &mut Journal,
    registered: &Registered,
    limits: &Limits,
) -> Result<(), Error> {
    let dir = site.dir();
    let has_token = site.request.credentials.remove.is_some();
    if has_token && script::is_configured(site, registered).is_ok_and(|is_configured| is_configured) {
        let removed = by_script(site, journal, registered, limits).await;
        return removed.map_err(|error| match error {
            error if error.is_stop() => error,
            error => may_remain(registered, registered.agent_id, Some(error)),
        });
    }
    let begun = registered.agent_id.is_some() || registered.may_exist || state::has_key(&dir);
    state::clean_identity(&dir)?;
    if begun {
        return Err(may_remain(registered, registered.agent_id, None));
    }
    recorded::never_happened(journal, Step::Register)
}

fn may_remain(registered: &Registered, id: Option<u64>, source: Option<Error>) -> Error {
    let (name, source) = (registered.name.clone(), source.map(Box::new));
    RegistrationError::MayRemain { name, id, source }.into()
}

/// By `config.sh remove` if that can be trusted with a token, then by id, then out of the tree.
async fn by_script(
    site: &Site<'_>,
    journal: &mut Journal,
    registered: &Registered,
    limits: &Limits,
) -> Result<(), Error> {
    check_means(site, journal, registered)?;
    check_service(site)?;
    let client = match &site.request.credentials.api {
        Some(_) => Some(client_of(site, registered)?),
        None => None,
    };
    let client = client.as_deref();
    let mut id = registered.agent_id;
    if let Some(client) = client {
        let phase = site.phase("look");
        match ownership::ours(site, client, registered, limits.offline).await? {
            None => {
                phase.end(format!("the server no longer has a runner {} of this machine", registered.name));
                reach(Checkpoint::RemoveDeregistered);
                return clean(site, journal).await;
            }
            Some(runner) => {
                phase.end(format!("the server has {} (id {}, {})", runner.name, runner.id, runner.status));
                id = Some(runner.id);
                if runner.busy {
                    wait_until_idle(site, client, &runner).await?;
                }
            }
        }
    }

    let script = script::remove(site, journal, registered, client).await;
    site.check("deregistering")?;
    let Some(client) = client else {
        return unchecked(site, journal, script).await;
    };
    match &script {
        Ok(()) | Err(Error::Tree(TreeError::NothingThere { .. })) => {}
        Err(error) if error.is_stop() => return Err(Error::Stopped),
        Err(Error::Trust(TrustError::TreeNotGuarded { .. })) => {
            tracing::info!("jobs could change the config.sh that is there; deleting by id instead");
        }
        Err(error) => tracing::warn!("{}; deleting by id instead", crate::error::chain(error)),
    }
    make_sure(site, client, registered, id, script.is_ok()).await?;
    reach(Checkpoint::RemoveDeregistered);
    clean(site, journal).await
}

/// After `config.sh remove`, if the server cannot be asked: the script's result counts, but only if it had something to
/// work with.
async fn unchecked(site: &Site<'_>, journal: &mut Journal, script: Result<(), Error>) -> Result<(), Error> {
    let phase = site.phase("check");
    match script {
        Ok(()) => {
            phase.end("config.sh says that the server deleted the runner; checking that needs a token");
            reach(Checkpoint::RemoveDeregistered);
            clean(site, journal).await
        }
        Err(Error::Tree(TreeError::NothingThere { .. })) => Err(RegistrationError::FilesGone.into()),
        Err(error) => Err(error),
    }
}

/// The client for the server of the registration. An adopted one has no address: only the operator can decide where the
/// credential goes.
fn client_of(site: &Site<'_>, registered: &Registered) -> Result<Arc<Client>, Error> {
    if registered.api_url.is_empty() {
        let dir = || site.request.dir.clone();
        return site
            .client
            .clone()
            .ok_or_else(|| Error::Registration(RegistrationError::UrlNeededToAdopt { dir: dir() }));
    }
    Ok(Arc::new(site.client_at(&registered.url, &registered.api_url)?))
}

/// Deletes the runner by its id if it is still there after `config.sh remove`.
async fn make_sure(
    site: &Site<'_>,
    client: &Client,
    registered: &Registered,
    id: Option<u64>,
    removed: bool,
) -> Result<(), Error> {
    let phase = site.phase("check");
    let there = async |id| {
        if removed { client.runner(id).await } else { client.runner_unless_gone(id, &registered.name).await }
    };
    let doing = "asking whether the runner is gone";
    let detail = match id {
        Some(id) if site.within(doing, there(id)).await?.is_some() => {
            match site.within("deleting the runner", client.delete(id)).await? {
                Deletion::Deleted => format!("deleted {} (id {id}) from the server", registered.name),
                Deletion::AlreadyGone => format!("the server no longer has {} (id {id})", registered.name),
            }
        }
        _ => format!("the server no longer has {}", registered.name),
    };
    phase.end(detail);
    Ok(())
}

/// Whether the request has what deregistering needs: the right server, and a credential of some kind.
pub(crate) fn check_means(site: &Site<'_>, journal: &Journal, registered: &Registered) -> Result<(), Error> {
    let request = &site.request;
    if let Some(given) = &request.target
        && !registered.url.is_empty()
        && !given.is_same_as(&registered.url)
    {
        let (dir, given) = (request.dir.clone(), given.url.as_str().trim_end_matches('/').to_owned());
        return Err(RegistrationError::OtherUrl { dir, given, journal: registered.url.clone() }.into());
    }
    if request.credentials.api.is_none() {
        if !script::is_configured(site, registered)? {
            return Err(RegistrationError::FilesGone.into());
        }
        if request.credentials.remove.is_none() {
            return Err(RegistrationError::NoWayToDeregister { purpose: script::NO_REMOVE_TOKEN }.into());
        }
        token::check_remove(site)?;
        // A remove token is of use only to config.sh.
        script::check(site, journal, registered).map_err(|error| match error {
            Error::Tree(TreeError::NothingThere { .. }) => RegistrationError::FilesGone.into(),
            error => error,
        })?;
    }
    Ok(())
}

async fn wait_until_idle(site: &Site<'_>, client: &Client, runner: &Runner) -> Result<(), Error> {
    let phase = site.phase("drain");
    tracing::info!(
        "{} is running a job; waiting for its end, {} s at most",
        runner.name,
        site.deadline.left().as_secs()
    );
    loop {
        let busy =
            || Error::Registration(RegistrationError::Busy { name: runner.name.clone(), id: runner.id });
        let pause = JOB_POLL.min(site.deadline.left());
        tokio::select! {
            () = site.stop.cancelled() => return Err(Error::Stopped),
            () = tokio::time::sleep(pause) => {}
        }
        if site.deadline.passed() {
            return Err(busy());
        }
        match site.within("waiting for the end of its job", client.runner(runner.id)).await? {
            Some(now) if now.busy => {}
            _ => {
                phase.end(format!("{} has finished its job", runner.name));
                return Ok(());
            }
        }
    }
}

/// `config.sh remove` refuses while `.service` exists, even when the unit is long gone.
fn check_service(site: &Site<'_>) -> Result<(), Error> {
    let dir = site.dir();
    let Some(unit) = state::service(&dir)? else { return Ok(()) };
    // A job may have written any unit's name there; the unit's own file, which it cannot write, must agree.
    let unit_file = site.request.root.resolve(&std::path::Path::new("/etc/systemd/system").join(&unit));
    let text = unit_file.and_then(|file| fs_err::read(file).ok()).unwrap_or_default();
    if names_folder(&String::from_utf8_lossy(&text), &site.request.dir.to_string_lossy()) {
        return Err(ServiceError::ServiceInstalled { dir: site.request.dir.clone(), unit }.into());
    }
    tracing::info!("deleting the stale .service: this directory has no unit {unit}");
    state::clean_service(&dir)?;
    Ok(())
}

/// Whether a unit's text names the directory `dir` or something in it.
fn names_folder(unit: &str, dir: &str) -> bool {
    unit.match_indices(dir).any(|(at, _)| {
        unit[at + dir.len()..]
            .chars()
            .next()
            .is_none_or(|next| next == '/' || next == '"' || next.is_whitespace())
    })
}

/// Takes the identity out of the tree, and the registration out of the journal.
///
/// # Errors
/// Something of it stays.
pub(crate) async fn clean(site: &Site<'_>, journal: &mut Journal) -> Result<(), Error> {
    recorded::undo(journal, Step::Register, async |_| Ok(state::clean_identity(&site.dir())?)).await
}
