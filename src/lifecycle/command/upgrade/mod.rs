//! `upgrade`: replaces a sealed runner, which cannot update itself, with a newer, verified version, and loses no job.
//!
//! The new tree is first staged beside the old one. After an idle moment (see [`idle`]), the service is stopped, the
//! trees are exchanged in one step, and the service is started. The old tree stays until the server sees the new
//! runner, and comes back if it does not. The registration, and with it the runner's id, stays the same.
//!
//! The journal records the upgrade before the service is stopped. A killed run is finished by the next one: by
//! `upgrade` with the same proof, by `install` without it.

pub mod conclude;
pub mod idle;
pub mod offer;
pub mod start;
pub mod support;
pub mod switch;

use crate::deadline::Deadline;
use crate::host::{lock, systemd};
use crate::lifecycle::context::error::{Error, TreeError};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::Journal;
use crate::lifecycle::state::machine;
use crate::lifecycle::step::placing;
use crate::lifecycle::step::placing::stage::discard;
use crate::runner::tree;
use conclude::{SWITCH, Upgraded, resume};
use idle::Watched;
use offer::{Upgrading, at_server, hold, kept, look, note};
use switch::{stage, switch};
use tokio_util::sync::CancellationToken;

/// Upgrades the runner of the journal, if there is a newer version.
///
/// # Errors
/// `ListenerError::NotIdle`: nothing was done. [`Error::UpgradeTakenBack`]: the old version runs again. With any other error,
/// the runner is as it was.
pub async fn upgrade(site: &Site<'_>, how: &Upgrading) -> Result<Upgraded, Error> {
    machine::refuse_to_choose(site, "upgrade")?;
    site.check_parents()?;
    let journal = site.read_journal()?;
    if journal.entries().is_empty() {
        return Err(TreeError::NothingThere { dir: site.request.dir.clone() }.into());
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
    placing::into::check_exchange(site)?;
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

/// Whether `runup run` supervises the runner.
fn is_supervised(site: &Site<'_>) -> Result<bool, Error> {
    let path = Journal::run_lock_for(&site.request.root.join(&site.request.state), &site.request.dir);
    Ok(lock::is_held(&path)?)
}

/// The unit of the journal, if it runs.
async fn running_unit(site: &Site<'_>, journal: &Journal) -> Result<Option<String>, Error> {
    let Some(unit) = journal.unit().filter(|_| site.request.root.is_host() && systemd::is_running()) else {
        return Ok(None);
    };
    Ok(systemd::show(unit, &site.stop).await?.runs().then(|| unit.to_owned()))
}

/// Until when to wait for an idle moment; `None` is for as long as it takes.
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
