//! How a runner lets go of its user: the last one that has a claim on a user of runup's deletes it, whichever created it.

use crate::host::account::{self, Account, Made};
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::by_hand;
use crate::lifecycle::state::journal::{Act, Entry, EntryState, Journal, Step};
use crate::lifecycle::state::user::{claimant, is_created, others};
use crate::lifecycle::step::{metadata, recorded};
use std::path::PathBuf;

/// What became of the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undone {
    /// The user is gone.
    Deleted,
    /// The runner in this directory still needs it, and deletes it if it is the last.
    HandedTo(PathBuf),
}

/// Undoes the step, and ends what still runs as that user.
///
/// # Errors
/// The user stays.
pub async fn undo(site: &Site<'_>, journal: &mut Journal, name: &str) -> Result<Undone, Error> {
    let _users = site.change_users().await?;
    let last = journal.entries().iter().all(|entry| entry.act.step() == Step::CreateUser);
    if last {
        delete_group(site, journal).await?;
    }
    let work = async |journal: &Journal| let_go(site, journal, name).await;
    let undone = recorded::undo(journal, Step::CreateUser, work).await?;
    if last {
        // Before the lock is released: another one that lets go of the user now must not leave it to this one.
        journal.release_user()?;
    }
    Ok(undone)
}

/// Lets go of what the journal still claims when nothing else of the runner is left: its group, and a user that runup
/// created for another one. The user of a runner that is left, as one that was set up by hand, is not deleted.
///
/// # Errors
/// Something stays.
pub(crate) async fn release(site: &Site<'_>, journal: &mut Journal) -> Result<Option<Undone>, Error> {
    let Some(name) = journal.user().map(str::to_owned).filter(|_| account::is_root()) else {
        return Ok(None);
    };
    let ours = || -> Result<bool, Error> {
        let Some(account) = account::find_local(&site.request.root, &name)? else { return Ok(false) };
        let is_left = !journal.entries().is_empty() || by_hand::find(site, journal)?.is_some();
        Ok(!is_left && is_created(site, journal, &account)?)
    };
    let mut users = site.lock_users().await?;
    if ours()? || journal.group().is_some() {
        drop(users);
        users = site.change_users().await?;
    }
    let ours = ours()?;
    delete_group(site, journal).await?;
    let undone = if ours { Some(let_go(site, journal, &name).await?) } else { None };
    // Before the lock is released, as above.
    journal.release_user()?;
    drop(users);
    Ok(undone)
}

/// Lets go of what an adoption has claimed beyond what the journal said `before`: its group. The user stays, whoever created
/// it: the runner that was to be adopted runs again.
///
/// # Errors
/// The group stays; the journal cannot be written.
pub(crate) async fn go_back_to(
    site: &Site<'_>,
    journal: &mut Journal,
    before: &Journal,
) -> Result<(), Error> {
    if journal.group().is_some() && journal.group() != before.group() {
        let _users = site.change_users().await?;
        delete_group(site, journal).await?;
        return Ok(journal.go_back_to(before)?);
    }
    Ok(journal.go_back_to(before)?)
}

/// Without a journal: the user that runup created for this directory is known by its mark, and is recorded, so that it
/// is deleted like any other. One that another runner needs becomes that one's.
///
/// # Errors
/// The user database or a journal cannot be read; the journal cannot be written.
pub(crate) async fn take_over(site: &Site<'_>, journal: &mut Journal) -> Result<(), Error> {
    let Some(account) = left(site, journal)? else { return Ok(()) };
    let _users = site.change_users().await?;
    if let Some(dir) = hand_over(site, journal, &account).await? {
        tracing::warn!(
            "the user {}, which runup had created for this runner, stays for the runner in {}",
            account.name,
            dir.display()
        );
        return Ok(());
    }
    tracing::warn!("the journal is missing, but runup had created the user {} for this runner", account.name);
    Ok(journal.done(Act::CreateUser { name: account.name, group_created: None })?)
}

/// The user that runup created for this directory, if no journal says so.
///
/// # Errors
/// The user database cannot be read.
pub(crate) fn left(site: &Site<'_>, journal: &Journal) -> Result<Option<Account>, Error> {
    if !account::is_root() || journal.created_user().is_some() {
        return Ok(None);
    }
    Ok(account::marked_for(&site.request.root, &site.request.dir)?)
}

/// What runup created with the user, as far as the journal tells.
pub(super) fn made<'a>(site: &'a Site<'_>, journal: &Journal, name: &str) -> Made<'a> {
    let dir = site.request.dir.as_path();
    match journal.entry(Step::CreateUser) {
        // The home directory of one that was created goes with it, and without it is what the operator has kept.
        Some(Entry { state, act: Act::CreateUser { group_created: Some(group), .. } }) => {
            Made { group: *group, home: *state == EntryState::Begun, dir }
        }
        _ => Made { group: account::seems_own_group(&site.request.root, name), home: false, dir },
    }
}

/// Deletes the user, unless another runner has a claim on it.
async fn let_go(site: &Site<'_>, journal: &Journal, name: &str) -> Result<Undone, Error> {
    if let Some(account) = account::find_local(&site.request.root, name)? {
        if let Some(dir) = hand_over(site, journal, &account).await? {
            return Ok(Undone::HandedTo(dir));
        }
        metadata::allow(site, &account);
    }
    account::delete(&site.request.root, name, made(site, journal, name), &site.stop).await?;
    Ok(Undone::Deleted)
}

/// Marks the user as that of another runner that has a claim on it; returns the directory of that runner, if there is
/// one. Its journal may be in use, and stays as it is.
async fn hand_over(site: &Site<'_>, journal: &Journal, account: &Account) -> Result<Option<PathBuf>, Error> {
    let Some(dir) = claimant(site, journal, account)? else { return Ok(None) };
    account::set_mark(&site.request.root, &account.name, &dir, &site.stop).await?;
    Ok(Some(dir))
}

/// Deletes the runner's own group, unless another runner uses it.
async fn delete_group(site: &Site<'_>, journal: &Journal) -> Result<(), Error> {
    let Some(group) = journal.group() else { return Ok(()) };
    if !others(site, journal)?.iter().any(|other| other.group() == Some(group)) {
        account::delete_group(&site.request.root, group, &site.stop).await?;
    }
    Ok(())
}
