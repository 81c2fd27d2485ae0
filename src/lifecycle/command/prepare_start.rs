//! What root does before each start of a runner: what its user cannot do in a tree that it does not own, what keeps its
//! jobs from the machine's identity, and the tools that it shares with other runners.

use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::Journal;
use crate::lifecycle::step::{metadata, tools};
use crate::runner::{Guard, Keeper, LocalState, guard, state};

/// Denies the cloud's metadata to the runner's user, creates a guarded tree's log and work directories if missing, because
/// an operator may have deleted them, and links the shared tools. The lock is not taken: the process that starts the
/// service may hold it.
///
/// # Errors
/// They cannot be created; the metadata cannot be denied.
pub async fn prepare(site: &Site<'_>) -> Result<(), Error> {
    let mut journal = site.read_journal()?;
    let Some(account) = site.account()? else { return Ok(()) };
    metadata::deny(site, &account)?;
    let asked = journal.registered().and_then(|(_, registered)| registered.asked.as_ref());
    let work = asked.map_or_else(|| site.work(), |asked| asked.work.as_str()).to_owned();
    let persistent = asked.is_some_and(|asked| !asked.ephemeral);
    let keeper = site.keeper(&account, &journal);
    if site.isolates(&account) && journal.guard() != Guard::Open {
        make_ready(site, &mut journal, keeper, &work, persistent)?;
    }
    tools::link(site, &account, &work).await;
    Ok(())
}

fn make_ready(
    site: &Site<'_>,
    journal: &mut Journal,
    keeper: Keeper,
    work: &str,
    persistent: bool,
) -> Result<(), Error> {
    let dir = site.dir();
    if journal.guard() == Guard::Locked
        && persistent
        && matches!(state::read(&dir)?, LocalState::Configured(_))
    {
        // A run was interrupted between config.sh and this. No job has run since; after one, it would be too late.
        guard::seal(&dir, keeper, work)?;
        return Ok(journal.set_guard(Guard::Sealed)?);
    }
    Ok(guard::make_ready(&dir, keeper, work)?)
}
