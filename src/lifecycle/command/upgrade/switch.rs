//! The exchange itself: stops the service in an idle moment, exchanges the trees, and starts the service.

use crate::deadline::Deadline;
use crate::github::Application;
use crate::host::freeze::Frozen;
use crate::host::systemd;
use crate::lifecycle::command::upgrade::conclude::{STOP, SWITCH, Upgraded, conclude, start_again};
use crate::lifecycle::command::upgrade::idle::Watched;
use crate::lifecycle::context::error::{Error, ListenerError};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::checkpoint::{Checkpoint, reach};
use crate::lifecycle::state::journal::{Act, Entry, EntryState, Journal, Step};
use crate::lifecycle::step::placing::exchange;
use crate::lifecycle::step::placing::stage::{Fresh, discard, stage_fresh};
use crate::lifecycle::step::recorded::{self, Begin};
use crate::runner::{Guard, RunnerVersion, tree};
use crate::transfer::place;
use std::time::Duration;

/// How long a listener that is stopped for a check waits for the journal.
const FROZEN: Duration = Duration::from_secs(10);

/// Stages the new tree, with the old one's identity in it.
pub(crate) async fn stage(
    site: &Site<'_>,
    journal: &Journal,
    listed: &[Application],
) -> Result<Fresh, Error> {
    let account = exchange::account(site)?;
    let keeper = site.keeper(&account, journal);
    sweep(site).await?;
    let phase = site.phase("stage");
    let fresh = stage_fresh(site, &account, keeper, Some(listed), true).await?;
    phase.end(format!("runner {}", fresh.act.version().unwrap_or("of unknown version")));
    Ok(fresh)
}

/// Deletes what a killed upgrade has left beside the runner's directory.
async fn sweep(site: &Site<'_>) -> Result<(), Error> {
    let (_lock, journal) = site.open_journal("upgrade").await?;
    // A tree that an unfinished exchange may need is not litter.
    if journal.entry(Step::PlaceRunner).is_some_and(|entry| entry.state == EntryState::Done) {
        place::sweep(&site.dir())?;
    }
    Ok(())
}

/// Stops the service, exchanges the trees, starts the service, and checks whether it comes online.
pub(crate) async fn switch(
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
        Some(Entry { state: EntryState::Done, act })
            if act.version() == Some(here.to_string().as_str())
                && journal.guard() == Guard::Sealed
                && tree::inspect(&staging, site.platform()).is_ok_and(|report| report.is_runner()) =>
        {
            act.clone()
        }
        _ => {
            discard(&staging);
            return Err(ListenerError::UpgradeOvertaken { dir: site.request.dir.clone() }.into());
        }
    };
    let mut act = fresh.act;
    if let Act::PlaceRunner { replaces, guard, .. } = &mut act {
        (*replaces, *guard) = (Some(Box::new(old.clone())), Guard::Sealed);
    }
    if let Some(unit) = unit {
        recorded::begin(&mut journal, Act::StartService { unit: unit.to_owned() }, Begin::Over)?;
    }
    recorded::begin(&mut journal, act.clone(), Begin::Tentatively)?;
    reach(Checkpoint::UpgradeBegun);
    // A service that registers by itself needs the lock to end.
    drop(lock);
    let stopped = match (unit, frozen) {
        (Some(unit), Some(frozen)) => stop(site, unit, watched, frozen).await,
        _ => Ok(()),
    };
    // If it had a job, it took as long as that.
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

/// Ends the listener, which is stopped and idle, and then its unit. If it has a job after all, waits for that.
async fn stop(site: &Site<'_>, unit: &str, watched: &Watched, frozen: Frozen) -> Result<(), Error> {
    let phase = site.phase("stop");
    frozen.interrupt();
    watched.gone().await;
    // The job may have taken longer than the deadline.
    let stop = site.stop.clone().until(Deadline::after(STOP));
    systemd::stop_unit(unit, STOP, &stop).await?;
    phase.end(format!("stopped {unit}"));
    Ok(())
}
