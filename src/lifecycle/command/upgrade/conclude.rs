//! The end of an upgrade: the proof that the new runner works, and the rollback if it does not.

use crate::deadline::Deadline;
use crate::host::systemd;
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::checkpoint::{Checkpoint, reach};
use crate::lifecycle::state::journal::{Act, Entry, EntryState, Journal, Step};
use crate::lifecycle::step::placing::exchange;
use crate::lifecycle::step::placing::stage::discard;
use crate::lifecycle::step::service;
use crate::runner::{Guard, tree};
use crate::transfer::place;
use serde::Serialize;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long the exchange may take from the stop of the service to the end, whatever requests a stop meanwhile: what is
/// begun is finished or put back.
pub(crate) const SWITCH: Duration = Duration::from_secs(540);

/// How long a unit's stop may take once its listener is idle, or gone.
pub(crate) const STOP: Duration = Duration::from_secs(180);

/// A unit that systemd has restarted so often since its start does not come up.
const RESTARTS: u32 = 2;

/// The result of an upgrade.
#[derive(Debug, Clone, Serialize)]
pub struct Upgraded {
    /// Whether the version has changed.
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

/// Starts the runner of the new tree, which is in its place; once it is online, deletes the old tree. Otherwise the old
/// tree comes back.
pub(crate) async fn conclude(
    site: &Site<'_>,
    unit: Option<&str>,
    act: Act,
    old: Act,
) -> Result<Upgraded, Error> {
    let staging = place::staging_path(&site.dir());
    let (from, to) = (old.version().map(str::to_owned), act.version().map(str::to_owned));
    let started = match unit {
        Some(unit) => start(site, unit, to.as_deref()).await,
        None => Ok(None),
    };
    let there = tree::inspect(&staging, site.platform()).is_ok_and(|report| report.is_runner());
    let status = match started {
        Ok(status) => status,
        Err(cause) if !there => {
            // The file system could not exchange the two, so nothing is left that could come back.
            finish(site, act, unit).await?;
            return Err(cause);
        }
        Err(cause) => return Err(put_back(site, unit.unwrap_or_default(), old, to, cause).await?),
    };
    reach(Checkpoint::UpgradeProven);
    finish(site, act, unit).await?;
    Ok(Upgraded { changed: true, dir: site.request.dir.clone(), from, version: to, reason: None, status })
}

/// Makes it durable that the upgrade is complete, and deletes what is left of the old tree.
async fn finish(site: &Site<'_>, mut act: Act, unit: Option<&str>) -> Result<(), Error> {
    let (_lock, mut journal) = site.open_journal("upgrade").await?;
    if let Act::PlaceRunner { replaces, .. } = &mut act {
        *replaces = None;
    }
    journal.done(act)?;
    if let Some(unit) = unit {
        journal.done(Act::StartService { unit: unit.to_owned() })?;
    }
    discard(&place::staging_path(&site.dir()));
    Ok(())
}

/// Starts the unit and waits until its runner is online.
async fn start(site: &Site<'_>, unit: &str, version: Option<&str>) -> Result<Option<String>, Error> {
    let phase = site.phase("start");
    let journal = site.read_journal()?;
    systemd::start(unit, &site.stop).await?;
    reach(Checkpoint::UpgradeStarted);
    let status = service::wait(site, &journal, unit, RESTARTS, version).await?;
    phase.end(match &status {
        Some(status) => format!("{unit} runs, and the server says {status}"),
        None => format!("{unit} runs"),
    });
    Ok(status)
}

/// Puts the old tree back and starts it; the error says how that went.
async fn put_back(
    site: &Site<'_>,
    unit: &str,
    old: Act,
    to: Option<String>,
    cause: Error,
) -> Result<Error, Error> {
    let site = &site.until(Deadline::after(SWITCH), site.stop.clone());
    tracing::warn!("the new runner does not come online; putting the old one back");
    systemd::stop_unit(unit, STOP, &site.stop).await?;
    let from = old.version().unwrap_or("the old version").to_owned();
    {
        let (_lock, mut journal) = site.open_journal("upgrade").await?;
        exchange::back(site, &journal)?;
        journal.done(old)?;
        discard(&place::staging_path(&site.dir()));
        journal.done(Act::StartService { unit: unit.to_owned() })?;
    }
    let back = start(site, unit, Some(&from)).await.err().map(Box::new);
    let to = to.unwrap_or_else(|| "of unknown version".into());
    Ok(Error::UpgradeTakenBack { dir: site.request.dir.clone(), from, to, cause: Box::new(cause), back })
}

/// Finishes an interrupted upgrade: with the missing proof, or by leaving the old version in place.
pub(crate) async fn resume(site: &Site<'_>) -> Result<Option<Upgraded>, Error> {
    let journal = site.read_journal()?;
    let Some(Entry { state, act }) = journal.entry(Step::PlaceRunner).cloned() else { return Ok(None) };
    let begun = |step| journal.entry(step).is_some_and(|entry: &Entry| entry.state == EntryState::Begun);
    let unit = journal.unit().filter(|_| begun(Step::StartService)).map(str::to_owned);
    let Act::PlaceRunner { replaces, guard: Guard::Sealed, .. } = &act else { return Ok(None) };
    // Neither a signal nor the deadline leaves the runner off.
    let site = &site.until(Deadline::after(SWITCH), CancellationToken::new());
    let found = tree::inspect(&site.dir(), site.platform())?.version.map(|version| version.to_string());
    match (state, replaces) {
        (EntryState::Begun, Some(old))
            if found.as_deref() == act.version() && old.version() != act.version() =>
        {
            tracing::warn!("finishing an upgrade that was cut off");
            let (lock, journal) = site.open_journal("upgrade").await?;
            exchange::take_along(site, &journal)?;
            drop(lock);
            let old = Act::clone(old);
            conclude(site, unit.as_deref(), act, old).await.map(Some)
        }
        (EntryState::Begun, Some(old)) => {
            tracing::warn!("an upgrade was cut off before it had changed anything");
            let (_lock, mut journal) = site.open_journal("upgrade").await?;
            exchange::take_along(site, &journal)?;
            place::sweep(&site.dir())?;
            journal.done(Act::clone(old))?;
            start_again(site, &mut journal, unit.as_deref()).await?;
            Ok(None)
        }
        (EntryState::Done, _)
            if unit.is_some() && journal.registered().is_some_and(|(at, _)| at == EntryState::Done) =>
        {
            let (_lock, mut journal) = site.open_journal("upgrade").await?;
            // An installation may have been in the middle of its start just now.
            if journal.entry(Step::StartService).is_some_and(|entry| entry.state == EntryState::Begun) {
                start_again(site, &mut journal, unit.as_deref()).await?;
            }
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// Starts the unit again after an interrupted start.
pub(crate) async fn start_again(
    site: &Site<'_>,
    journal: &mut Journal,
    unit: Option<&str>,
) -> Result<(), Error> {
    let Some(unit) = unit else { return Ok(()) };
    systemd::start(unit, &site.stop).await?;
    Ok(journal.done(Act::StartService { unit: unit.to_owned() })?)
}
