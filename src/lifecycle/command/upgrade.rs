//! `upgrade`: puts a newer, verified version in the place of a sealed runner, which cannot update itself, and loses no job.
//!
//! The new tree is staged beside the old one first. Then an idle moment is waited for (see [`idle`]), the service is stopped,
//! the trees are exchanged in one step, and the service is started. The old tree stays until the server sees the new
//! runner, and comes back if it does not. The registration, and with it the runner's id, stays what it is.
//!
//! The journal says before the service is stopped what is going on. A run that is killed is finished by the next one: by
//! `upgrade` with the same proof, by `install` without it.

pub mod conclude;
pub mod idle;
pub mod start;
pub mod support;

pub(crate) use start::before_start;
pub use support::Support;
pub(crate) use support::support;

use crate::deadline::Deadline;
use crate::github::{Application, Target};
use crate::host::file::create_private_dir;
use crate::host::freeze::Frozen;
use crate::host::lock::{self, Lock};
use crate::host::systemd;
use crate::lifecycle::context::checkpoint::{Checkpoint, reach};
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::{Act, Asked, Entry, Journal, State, Step};
use crate::lifecycle::state::observed::is_copy;
use crate::lifecycle::step::placing;
use crate::lifecycle::step::placing::{Fresh, discard};
use crate::lifecycle::step::placing::{archive, exchange};
use crate::runner::{Guard, RunnerVersion, asset, tree};
use conclude::{conclude, resume};
use idle::Watched;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long another upgrade of the same runner is waited for.
const HOLD: Duration = Duration::from_secs(5);

/// How long the exchange may take from the stop of the service to the end, whatever asks us to stop meanwhile: what is
/// begun is finished or put back.
const SWITCH: Duration = Duration::from_secs(540);

/// How long a listener that is stopped for a look waits for the journal.
const FROZEN: Duration = Duration::from_secs(10);

/// How long a unit's stop may take once its listener is idle, or gone.
const STOP: Duration = Duration::from_secs(180);

/// Less than the spread of the timer leaves between two days' looks.
const DAILY: jiff::SignedDuration = jiff::SignedDuration::from_hours(20);

/// How an upgrade goes about it.
#[derive(Debug, Clone, Default)]
pub struct Upgrading {
    /// How long an idle moment is waited for; `None` is what the deadline leaves.
    pub window: Option<Duration>,
    /// Do nothing if the last look was not a day ago, or where the operator has switched updates off; and when the end of
    /// the version's support is near, wait for the end of the job that runs however long that takes.
    pub daily: bool,
}

/// How an upgrade ended.
#[derive(Debug, Clone, Serialize)]
pub struct Upgraded {
    /// Whether there is another version now.
    pub changed: bool,
    /// The runner's directory.
    pub dir: std::path::PathBuf,
    /// The version before.
    pub from: Option<String>,
    /// The version now.
    pub version: Option<String>,
    /// Why nothing was done.
    pub reason: Option<String>,
    /// What the server says of the new runner; `None` if it was not started, or the server could not be asked.
    pub status: Option<String>,
}

/// What is available.
struct Offer {
    applications: Vec<Application>,
    newest: Option<RunnerVersion>,
}

/// Upgrades the runner of the journal, if there is a newer version.
///
/// # Errors
/// [`Error::NotIdle`]: nothing was done. [`Error::UpgradeTakenBack`]: the old version runs again. With any other error, the
/// runner is as it was.
pub async fn upgrade(site: &Site<'_>, how: &Upgrading) -> Result<Upgraded, Error> {
    site.check_parents()?;
    let journal = site.read_journal()?;
    if journal.entries().is_empty() {
        return Err(Error::NothingThere { dir: site.request.dir.clone() });
    }
    let _held = hold(site).await?;
    let site = &at_server(site, &journal)?;
    if let Some(watched) = Watched::of(site, &journal)? {
        watched.thaw();
    }
    if let Some(upgraded) = resume(site).await? {
        return Ok(upgraded);
    }
    let journal = site.read_journal()?;
    let version = tree::inspect(&site.dir(), site.platform())?.version;
    let nothing = |reason: String| Upgraded {
        changed: false,
        dir: site.request.dir.clone(),
        from: version.map(|version| version.to_string()),
        version: version.map(|version| version.to_string()),
        reason: Some(reason),
        status: None,
    };
    if let Some(reason) = kept(site, &journal, how) {
        return Ok(nothing(reason));
    }
    if journal.unit().is_none() && is_supervised(site)? {
        return Ok(nothing("`runup run` runs it, and upgrades it at its next start".into()));
    }
    let (Some(here), Some(watched)) = (version, Watched::of(site, &journal)?) else {
        return Ok(nothing("its files do not say which version it is".into()));
    };
    let offer = look(site).await?;
    note(site, here, offer.newest).await?;
    let Some(newest) = offer.newest.filter(|newest| *newest > here) else {
        return Ok(nothing(format!("runner {here} is the newest available")));
    };
    placing::check_mounts(site)?;
    tracing::info!("runner {newest} is available, and {here} is here");
    let unit = running_unit(site, &journal).await?;
    if unit.is_none() && watched.is_listening() {
        return Ok(nothing("something else than a service of runup runs its listener".into()));
    }
    let fresh = stage(site, &journal, &offer.applications).await?;
    let staging = fresh.staging.clone();
    let frozen = match &unit {
        Some(_) => {
            let until = until(site, &journal, how);
            let waiting = watched.wait(site, until).await;
            Some(waiting.inspect_err(|_| discard(&staging))?)
        }
        None => None,
    };
    // From here on, neither a signal nor the deadline leaves the runner off.
    let site = site.until(Deadline::after(SWITCH), CancellationToken::new());
    switch(&site, unit.as_deref(), &watched, frozen, fresh, here).await
}

/// The lock that says that an upgrade of this runner is going on.
async fn hold(site: &Site<'_>) -> Result<Lock, Error> {
    let state = site.request.root.join(&site.request.state);
    create_private_dir(&state)?;
    let path = Journal::upgrade_lock_for(&state, &site.request.dir);
    Ok(lock::acquire(&path, "upgrade", Deadline::after(HOLD), &site.stop).await?)
}

/// The same place of work with the server of the journal: where the runner is registered is no question for the options.
fn at_server<'a>(site: &Site<'a>, journal: &Journal) -> Result<Site<'a>, Error> {
    let Some((_, registered)) = journal.registered().filter(|(_, it)| !it.api_url.is_empty()) else {
        return Ok(site.clone());
    };
    if let Some(given) = &site.request.target
        && !given.is_same_as(&registered.url)
    {
        let (dir, given) = (site.request.dir.clone(), given.url.to_string());
        return Err(Error::OtherUrl { dir, given, journal: registered.url.clone() });
    }
    let client = Arc::new(site.client_at(&registered.url, &registered.api_url)?);
    let target: Option<Target> = Some(client.target().clone());
    let request = crate::lifecycle::context::request::Request {
        target,
        ..crate::lifecycle::context::request::Request::clone(&site.request)
    };
    Ok(Site { request: Arc::new(request), client: Some(client), ..site.clone() })
}

/// Why this runner is not upgraded, if it is not.
fn kept(site: &Site<'_>, journal: &Journal, how: &Upgrading) -> Option<String> {
    let text = |text: &str| Some(text.to_owned());
    let Some((state, registered)) = journal.registered() else {
        return text("it is not registered; `runup install` brings it up to date");
    };
    if state == State::Begun || journal.entries().iter().any(|entry| entry.state == State::Begun) {
        return text("a run was cut off; `runup install` finishes it");
    }
    if is_copy(site, journal) {
        return text("it is another machine's, whose disk this one is a copy of; run `runup install`");
    }
    match journal.guard() {
        Guard::Sealed => {}
        Guard::Locked => return text("it takes one job, and is brought up to date when it registers again"),
        Guard::Open => return text("its user owns its programs, and it updates itself"),
    }
    let asked = registered.asked.as_ref();
    if let Some(pin) = asked.and_then(pinned) {
        return Some(format!("it was installed with {pin}"));
    }
    if how.daily && asked.is_some_and(|asked| asked.disable_update) {
        return text("it was installed with --disable-update");
    }
    let now = jiff::Timestamp::now();
    let recent = |then: jiff::Timestamp| then.duration_until(now).abs() < DAILY;
    // When it was placed or registered, there was a look as well.
    let looks = [journal.looked_at(), journal.placed().and_then(|placed| placed.current_at)];
    if how.daily && looks.into_iter().flatten().any(recent) {
        return text("the last look was less than a day ago");
    }
    None
}

/// What holds the version, in the words of the command line.
fn pinned(asked: &Asked) -> Option<String> {
    match &asked.version {
        Some(version) => Some(format!("--runner-version {version}")),
        None => asked.held.then(|| "--archive or --no-refresh".to_owned()),
    }
}

/// Whether `runup run` sees to the runner.
fn is_supervised(site: &Site<'_>) -> Result<bool, Error> {
    let path = Journal::run_lock_for(&site.request.root.join(&site.request.state), &site.request.dir);
    Ok(lock::is_held(&path)?)
}

/// What is available at the journal's server.
async fn look(site: &Site<'_>) -> Result<Offer, Error> {
    let client = site.client.as_ref().ok_or(crate::settings::Error::UrlMissing)?;
    let applications = archive::list(site, client).await?;
    let newest = asset::choose(&applications, site.platform(), None)?.version;
    Ok(Offer { applications, newest })
}

/// Writes down that there was a look, and when the version that is here was the newest.
async fn note(site: &Site<'_>, here: RunnerVersion, newest: Option<RunnerVersion>) -> Result<(), Error> {
    let (_lock, mut journal) = site.open_journal("upgrade").await?;
    let now = site.client.as_ref().map_or_else(jiff::Timestamp::now, |client| client.now());
    if newest.is_some_and(|newest| newest <= here)
        && let Some(Entry { state: State::Done, act }) = journal.entry(Step::PlaceRunner).cloned()
        && act.version() == Some(here.to_string().as_str())
    {
        let mut act = act;
        if let Act::PlaceRunner { current_at, .. } = &mut act {
            *current_at = Some(now.to_string());
        }
        journal.done(act)?;
    }
    Ok(journal.set_looked_at(jiff::Timestamp::now())?)
}

/// The unit of the journal, if it runs.
async fn running_unit(site: &Site<'_>, journal: &Journal) -> Result<Option<String>, Error> {
    let Some(unit) = journal.unit().filter(|_| site.request.root.is_host() && systemd::is_running()) else {
        return Ok(None);
    };
    Ok(systemd::show(unit, &site.stop).await?.runs().then(|| unit.to_owned()))
}

/// Until when an idle moment is waited for; `None` is for as long as it takes.
fn until(site: &Site<'_>, journal: &Journal, how: &Upgrading) -> Option<Deadline> {
    let current_at = journal.placed().and_then(|placed| placed.current_at);
    if how.daily && support::is_urgent(site, current_at) {
        tracing::warn!(
            "the support of this version ends soon: waiting for the end of the runner's job, however long"
        );
        return None;
    }
    Some(how.window.map_or(site.deadline, Deadline::after))
}

/// Stages the new tree, with the old one's identity in it.
async fn stage(site: &Site<'_>, journal: &Journal, listed: &[Application]) -> Result<Fresh, Error> {
    let account = exchange::account(site)?;
    let keeper = site.keeper(&account, journal);
    let phase = site.phase("stage");
    let fresh = placing::stage_fresh(site, &account, keeper, Some(listed)).await?;
    phase.end(format!("runner {}", fresh.act.version().unwrap_or("of unknown version")));
    Ok(fresh)
}

/// Stops the service, exchanges the trees, starts it, and sees whether it comes online.
async fn switch(
    site: &Site<'_>,
    unit: Option<&str>,
    watched: &Watched,
    frozen: Option<Frozen>,
    fresh: Fresh,
    here: RunnerVersion,
) -> Result<Upgraded, Error> {
    let staging = fresh.staging;
    let quick = site.until(site.deadline.within(FROZEN), site.stop.clone());
    let (lock, mut journal) = quick.open_journal("upgrade").await.inspect_err(|_| discard(&staging))?;
    let old = match journal.entry(Step::PlaceRunner) {
        Some(Entry { state: State::Done, act })
            if act.version() == Some(here.to_string().as_str())
                && journal.guard() == Guard::Sealed
                && tree::inspect(&staging, site.platform()).is_ok_and(|report| report.is_runner()) =>
        {
            act.clone()
        }
        _ => {
            discard(&staging);
            return Err(Error::UpgradeOvertaken { dir: site.request.dir.clone() });
        }
    };
    let mut act = fresh.act;
    if let Act::PlaceRunner { replaces, guard, .. } = &mut act {
        (*replaces, *guard) = (Some(Box::new(old.clone())), Guard::Sealed);
    }
    if let Some(unit) = unit {
        journal.begin_instead(Act::StartService { unit: unit.to_owned() })?;
    }
    journal.begin_instead(act.clone())?;
    reach(Checkpoint::UpgradeBegun);
    // A service that registers by itself needs the lock to end.
    drop(lock);
    let stopped = match (unit, frozen) {
        (Some(unit), Some(frozen)) => stop(site, unit, watched, frozen).await,
        _ => Ok(()),
    };
    // Should it have had a job, it took as long as that.
    let site = &site.until(Deadline::after(SWITCH), site.stop.clone());
    reach(Checkpoint::UpgradeStopped);
    let put = match stopped {
        Ok(()) => exchange_trees(site, &staging).await,
        Err(error) => Err(error),
    };
    if let Err(error) = put {
        let (_lock, mut journal) = site.open_journal("upgrade").await?;
        journal.done(old)?;
        discard(&staging);
        start_again(site, &mut journal, unit).await?;
        return Err(error);
    }
    reach(Checkpoint::UpgradeExchanged);
    conclude(site, unit, act, old).await
}

async fn exchange_trees(site: &Site<'_>, staging: &std::path::Path) -> Result<(), Error> {
    let (_lock, journal) = site.open_journal("upgrade").await?;
    exchange::put(site, &journal, staging)
}

/// Ends the listener, which is stopped and idle, and then its unit. Should it have a job after all, that is waited for.
async fn stop(site: &Site<'_>, unit: &str, watched: &Watched, frozen: Frozen) -> Result<(), Error> {
    let phase = site.phase("stop");
    frozen.interrupt();
    watched.gone().await;
    systemd::stop_unit(unit, STOP, &site.stop).await?;
    phase.end(format!("stopped {unit}"));
    Ok(())
}

async fn start_again(site: &Site<'_>, journal: &mut Journal, unit: Option<&str>) -> Result<(), Error> {
    let Some(unit) = unit else { return Ok(()) };
    systemd::start(unit, &site.stop).await?;
    Ok(journal.done(Act::StartService { unit: unit.to_owned() })?)
}
