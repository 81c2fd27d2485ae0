//! What root does before each start of a runner: what its user cannot do in a tree that it does not own, and what keeps
//! its jobs from the machine's identity.

use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::step::metadata;
use crate::runner::{Guard, LocalState, guard, state};

/// Denies the cloud's metadata to the runner's user, and creates a guarded tree's log and work directories if missing:
/// an operator may have deleted them. The lock is not taken: the process that starts the service may hold it.
///
/// # Errors
/// They cannot be created; the metadata cannot be denied.
pub fn prepare(site: &Site<'_>) -> Result<(), Error> {
    let mut journal = site.read_journal()?;
    let Some(account) = site.account()? else { return Ok(()) };
    metadata::deny(site, &account)?;
    if !site.isolates(&account) || journal.guard() == Guard::Open {
        return Ok(());
    }
    let asked = journal.registered().and_then(|(_, registered)| registered.asked.as_ref());
    let work = asked.map_or_else(|| site.work(), |asked| asked.work.as_str());
    let persistent = asked.is_some_and(|asked| !asked.ephemeral);
    let work = work.to_owned();
    if journal.guard() == Guard::Locked
        && persistent
        && matches!(state::read(&site.dir())?, LocalState::Configured(_))
    {
        // A run was interrupted between config.sh and this. No job has run since; after one, it would be too late.
        guard::seal(&site.dir(), site.keeper(&account, &journal), &work)?;
        journal.set_guard(Guard::Sealed)?;
        return Ok(());
    }
    guard::make_ready(&site.dir(), site.keeper(&account, &journal), &work)?;
    Ok(())
}
