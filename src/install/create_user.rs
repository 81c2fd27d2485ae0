//! The step `CreateUser`: the runner's own system user, made only if it is missing and deleted only if we made it.
//!
//! Several runners may work as one user. Whoever made it wrote that down; when that runner goes and another one still
//! needs the user, the entry moves into the other one's journal, so that the last one deletes it.

use super::Error;
use super::checkpoint::{Checkpoint, reach};
use super::journal::{Act, Journal, State, Step};
use super::site::Site;
use crate::deadline::Deadline;
use crate::host::account::{self, Account};
use crate::host::lock;
use std::path::PathBuf;
use std::time::Duration;

/// How long the run of another runner, to which the user is handed, is waited for. It may be waiting for us.
const HANDING_OVER: Duration = Duration::from_secs(10);

/// How the step was taken back.
pub enum Undone {
    /// The user is gone.
    Deleted,
    /// The runner in this folder still needs it, and has it now.
    HandedTo(PathBuf),
}

/// Takes the step.
///
/// # Errors
/// The user could not be made.
pub async fn take(site: &Site<'_>, journal: &mut Journal, name: &str) -> Result<Account, Error> {
    let phase = site.phase("user");
    // Of two runs that see the user missing, one makes it; the other must not think that it did.
    let _users = site.lock_users().await?;
    if let Some(account) = account::find(&site.request.root, name)? {
        phase.end(format!("another run has made the user {name} (uid {})", account.uid));
        return Ok(account);
    }
    account::check_name(name)?;
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
pub async fn undo(site: &Site<'_>, journal: &mut Journal, name: &str) -> Result<Undone, Error> {
    let _users = site.lock_users().await?;
    let undone = if let Some(dir) = hand_over(site, journal, name).await? {
        Undone::HandedTo(dir)
    } else {
        if let Some(account) = account::find(&site.request.root, name)? {
            super::metadata::allow(site, &account);
        }
        account::delete(&site.request.root, name, &site.stop).await?;
        Undone::Deleted
    };
    reach(Checkpoint::RemoveUserGone);
    journal.forget(Step::CreateUser)?;
    Ok(undone)
}

/// Gives the user to another runner that works as it; the folder of that runner, if there is one.
async fn hand_over(site: &Site<'_>, journal: &Journal, name: &str) -> Result<Option<PathBuf>, Error> {
    let Some(account) = account::find(&site.request.root, name)? else { return Ok(None) };
    for dir in journal.others()? {
        if !may_need(site, &Journal::open(&site.state, &dir)?, &dir, &account) {
            continue;
        }
        let path = Journal::lock_for(&site.state, &dir);
        let deadline = Deadline::after(HANDING_OVER);
        let _lock = lock::acquire(&path, "handing over the user", deadline, &site.stop).await?;
        let mut other = Journal::open(&site.state, &dir)?;
        if may_need(site, &other, &dir, &account) {
            other.done(Act::CreateUser { name: name.to_owned() })?;
            return Ok(Some(dir));
        }
    }
    Ok(None)
}

/// Whether the runner of this journal works as the user, or may be about to.
fn may_need(site: &Site<'_>, journal: &Journal, dir: &std::path::Path, account: &Account) -> bool {
    let Some(placed) = journal.entry(Step::PlaceRunner) else { return false };
    let own = super::look::made_user(journal);
    if own.is_some_and(|own| own != account.name) {
        return false;
    }
    let metadata = site.request.root.locate(dir).and_then(|dir| std::fs::symlink_metadata(dir).ok());
    match metadata {
        Some(metadata) => owner(&metadata) == account.uid,
        None => placed.state == State::Begun,
    }
}

#[cfg(unix)]
fn owner(metadata: &std::fs::Metadata) -> u32 {
    std::os::unix::fs::MetadataExt::uid(metadata)
}

#[cfg(not(unix))]
fn owner(_: &std::fs::Metadata) -> u32 {
    0
}
