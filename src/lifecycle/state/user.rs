//! Which user a runner has, and which runners share one: what the journals of this machine say.

use crate::error::{Class, Failure as _, chain};
use crate::host::account::{self, Account, Marked};
use crate::host::{lock, systemd};
use crate::lifecycle::context::error::{Error, UserError};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::by_hand;
use crate::lifecycle::state::journal::{EntryState, Journal, Step};
use crate::runner::unit;
use std::path::{Path, PathBuf};

/// More runners than any machine has.
const MOST_USERS: u32 = 1000;

/// The user of this runner, as it is known or would be chosen now; `None` for the one who runs this.
///
/// # Errors
/// A journal or the user data base cannot be read.
pub(crate) fn name(site: &Site<'_>, journal: &Journal) -> Result<Option<String>, Error> {
    let request = &site.request;
    let Some(wanted) = request.user.as_ref().filter(|_| request.user_is_default) else {
        return Ok(request.user.clone());
    };
    if let Some(known) = known(site, journal)? {
        return Ok(Some(known));
    }
    let taken: Vec<String> =
        others(site, journal)?.iter().filter_map(|other| other.user().map(str::to_owned)).collect();
    for number in 1..=MOST_USERS {
        let name = if number == 1 { wanted.clone() } else { format!("{wanted}-{number}") };
        if !taken.contains(&name) && account::find(&request.root, &name)?.is_none() {
            return Ok(Some(name));
        }
    }
    Ok(Some(wanted.clone()))
}

/// Why the named user is to be waited for: it does not exist, and a directory service could have it. One that runup has
/// created before is local.
///
/// # Errors
/// The user database cannot be read.
pub(crate) fn not_found_yet(site: &Site<'_>, journal: &Journal) -> Result<Option<UserError>, Error> {
    let Some(name) = site.user.clone().filter(|_| site.may_be_in_a_service()) else { return Ok(None) };
    if journal.created_user() == Some(name.as_str()) {
        return Ok(None);
    }
    let root = &site.request.root;
    match account::find(root, &name) {
        Ok(Some(_)) => return Ok(None),
        Err(error) if error.class() == Class::TempFail => tracing::debug!("{}", chain(&error)),
        found => drop(found?),
    }
    let services = account::directory_services(root);
    Ok(Some(if root.is_host() {
        UserError::NotFoundYet { name, services }
    } else {
        UserError::NotInImage { name, services }
    }))
}

/// The user of an existing runner. An older runup did not record a user that already existed; then it is the one that
/// this runup gave the tree to, which only root can do.
pub(crate) fn known(site: &Site<'_>, journal: &Journal) -> Result<Option<String>, Error> {
    if let Some(user) = journal.user() {
        return Ok(Some(user.to_owned()));
    }
    if journal.entry(Step::PlaceRunner).is_none() {
        return Ok(None);
    }
    let Ok(metadata) = std::fs::symlink_metadata(site.dir()) else { return Ok(None) };
    let uid = owner(&metadata);
    Ok(account::find_by_id(&site.request.root, uid)?.filter(|_| uid != 0).map(|account| account.name))
}

/// The journals of the other runners of this machine.
pub(crate) fn others(site: &Site<'_>, journal: &Journal) -> Result<Vec<Journal>, Error> {
    let mut journals = Journal::all(&site.state)?;
    journals.retain(|other| other.path() != journal.path());
    Ok(journals)
}

/// Another runner of the same user that runs: its directory, and what runs it.
///
/// # Errors
/// A journal or systemd cannot be read.
pub(crate) async fn running_neighbour(
    site: &Site<'_>,
    journal: &Journal,
    account: &Account,
) -> Result<Option<(PathBuf, String)>, Error> {
    if !site.isolates(account) {
        return Ok(None);
    }
    for other in others(site, journal)? {
        if !may_need(site, &other, other.dir(), account) {
            continue;
        }
        let dir = other.dir().to_owned();
        if lock::is_held(&Journal::run_lock_for(&site.state, other.dir()))? {
            return Ok(Some((dir, "`runup run`".to_owned())));
        }
        let Some(unit) = other.unit().filter(|_| site.request.root.is_host() && systemd::is_running()) else {
            continue;
        };
        if systemd::show(unit, &site.stop).await?.runs() {
            return Ok(Some((dir, unit.to_owned())));
        }
    }
    for (dir, unit) in by_hand::others_of(site, &account.name) {
        if by_hand::runs(site, &unit).await? {
            return Ok(Some((dir, unit)));
        }
    }
    Ok(None)
}

/// Whether runup created the user for this runner: the journal says so, or its mark, which another runner that is removed
/// before this one leaves to it. A user that was created for another runner is that one's, whether or not its journal is
/// found.
///
/// # Errors
/// The user database cannot be read.
pub(crate) fn is_created(site: &Site<'_>, journal: &Journal, account: &Account) -> Result<bool, Error> {
    let root = &site.request.root;
    if account::find_local(root, &account.name)?.as_ref() != Some(account) {
        return Ok(false);
    }
    Ok(journal.created_user() == Some(account.name.as_str())
        || account::mark(root, account, &site.request.dir)? == Marked::ForThis)
}

/// Another runner that has a claim on the user: its directory. Only who holds the lock of the users can rely on it. One
/// that the user is marked for has a claim while its directory exists, wherever its journal is.
///
/// # Errors
/// A journal or the user database cannot be read.
pub(crate) fn claimant(
    site: &Site<'_>,
    journal: &Journal,
    account: &Account,
) -> Result<Option<PathBuf>, Error> {
    let root = &site.request.root;
    if let Marked::ForOther(dir) = account::mark(root, account, &site.request.dir)? {
        // Of a digest it is not known.
        let may_exist =
            dir.is_relative() || root.locate(&dir).is_none_or(|path| std::fs::symlink_metadata(path).is_ok());
        if may_exist {
            return Ok(Some(dir));
        }
    }
    let mut journals = others(site, journal)?;
    // With another --state-dir, the usual one still counts.
    if let Some(usual) = root.locate(Path::new(unit::USUAL_STATE))
        && account::is_root()
        && usual != site.state
    {
        journals.extend(Journal::all(&usual)?);
    }
    let claims = journals
        .iter()
        .find(|other| other.dir() != site.request.dir && may_need(site, other, other.dir(), account));
    if let Some(other) = claims {
        return Ok(Some(other.dir().to_owned()));
    }
    Ok(by_hand::others_of(site, &account.name).into_iter().next().map(|(dir, _)| dir))
}

/// Whether the runner of this journal works as the user, or may be about to.
pub(crate) fn may_need(site: &Site<'_>, journal: &Journal, dir: &Path, account: &Account) -> bool {
    if let Some(user) = journal.user() {
        return user == account.name;
    }
    // An older runup did not always record that.
    let Some(placed) = journal.entry(Step::PlaceRunner) else { return false };
    let metadata = site.request.root.locate(dir).and_then(|dir| std::fs::symlink_metadata(dir).ok());
    match metadata {
        Some(metadata) => owner(&metadata) == account.uid,
        None => placed.state == EntryState::Begun,
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
