//! The check of `runup run` at its start, if no timer upgrades its runner.

use crate::error::chain;
use crate::lifecycle::command::upgrade::idle::Watched;
use crate::lifecycle::command::upgrade::offer::{Upgrading, at_server, hold, kept, look, note};
use crate::lifecycle::command::upgrade::support;
use crate::lifecycle::command::upgrade::switch::{stage, switch};
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::step::placing;
use crate::runner::{RunnerVersion, tree};
use std::time::Duration;

/// How much of a start the check may take.
const LOOK: Duration = Duration::from_secs(5);

/// Before the listener starts: checks for a newer version, and installs it if the support of the installed one ends
/// soon. Otherwise the next start is as good, and a download would only delay this one. It never fails a start.
pub(crate) async fn before_start(site: &Site<'_>) {
    match Box::pin(try_upgrade(site)).await {
        Ok(Some((from, to))) => tracing::info!("runner {to} is in the place of {from}"),
        Ok(None) => {}
        Err(error) => tracing::warn!("the runner was not upgraded: {}", chain(&error)),
    }
}

async fn try_upgrade(site: &Site<'_>) -> Result<Option<(RunnerVersion, String)>, Error> {
    let journal = site.read_journal()?;
    // A service has its timer. The lock that `run` holds is our own.
    if journal.unit().is_some() || !site.request.supervised {
        return Ok(None);
    }
    let site = &at_server(site, &journal)?;
    let how = Upgrading { window: None, daily: true };
    if let Some(reason) = kept(site, &journal, &how) {
        tracing::debug!("no look for a newer version: {reason}");
        return Ok(None);
    }
    let (Some(here), Some(watched)) =
        (tree::inspect(&site.dir(), site.platform())?.version, Watched::of(site, &journal)?)
    else {
        return Ok(None);
    };
    let _held = hold(site).await?;
    let looking = site.until(site.deadline.within(LOOK), site.stop.clone());
    let offer = look(&looking).await?;
    note(&looking, here, offer.newest).await?;
    let Some(newest) = offer.newest.filter(|newest| *newest > here) else { return Ok(None) };
    let current_at = journal.placed().and_then(|placed| placed.current_at);
    if !support::is_urgent(site, current_at) {
        tracing::info!(
            "runner {newest} is available, and {here} is supported for some time: the next start looks again"
        );
        return Ok(None);
    }
    placing::into::check_exchange(site)?;
    let fresh = stage(site, &journal, &offer.applications).await?;
    let upgraded = switch(site, None, &watched, None, fresh, here).await?;
    Ok(upgraded.version.map(|to| (here, to)))
}
