//! What the runner's user cannot do for itself before each start, because its tree is not its own.

use super::Error;
use super::site::Site;
use crate::runner::{Guard, guard};

/// Creates the logs' and the work directory of a guarded tree where they are missing: an operator may have deleted them. The
/// lock is not taken, because the one who starts the service may hold it.
///
/// # Errors
/// They cannot be created.
pub fn prepare(site: &Site<'_>) -> Result<(), Error> {
    let journal = site.read_journal()?;
    let Some(account) = site.account()? else { return Ok(()) };
    if !site.isolates(&account) || journal.guard() == Guard::Open {
        return Ok(());
    }
    let asked = journal.registered().and_then(|(_, registered)| registered.asked.as_ref());
    let work = asked.map_or_else(|| site.work(), |asked| asked.work.as_str());
    guard::make_ready(&site.dir(), site.keeper(&account, &journal), work)?;
    Ok(())
}
