//! The step `CreateUser`: the runner's own system user, made only if it is missing and deleted only if we made it.

use super::Error;
use super::checkpoint::{Checkpoint, reach};
use super::journal::{Act, Journal, Step};
use super::site::Site;
use crate::host::account::{self, Account};

/// Takes the step.
///
/// # Errors
/// The user could not be made.
pub async fn take(site: &Site<'_>, journal: &mut Journal, name: &str) -> Result<Account, Error> {
    let phase = site.phase("user");
    let act = Act::CreateUser { name: name.to_owned() };
    journal.begin(act.clone())?;
    reach(Checkpoint::UserBegun);
    let account = account::create(&site.request.root, name, &site.stop).await?;
    reach(Checkpoint::UserMade);
    journal.done(act)?;
    phase.end(format!("made the system user {name} (uid {})", account.uid));
    Ok(account)
}

/// Takes the step back, with whatever still runs as that user.
///
/// # Errors
/// The user stays.
pub async fn undo(site: &Site<'_>, journal: &mut Journal, name: &str) -> Result<(), Error> {
    account::delete(&site.request.root, name, &site.stop).await?;
    reach(Checkpoint::RemoveUserGone);
    journal.forget(Step::CreateUser)?;
    Ok(())
}
