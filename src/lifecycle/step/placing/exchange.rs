//! Exchanges a sealed tree for a staged one, and reverts that. Both trees are root's, and no link in them is followed.

use crate::host::account::Account;
use crate::host::lock;
use crate::lifecycle::context::error::{Error, TreeError};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::{Act, Entry, EntryState, Journal, Step};
use crate::runner::{Guard, guard, state, tree};
use crate::transfer::place;
use std::ffi::OsString;
use std::path::{Component, Path};

/// The runner's user.
pub(crate) fn account(site: &Site<'_>) -> Result<Account, Error> {
    site.account()?.ok_or_else(|| Error::Tree(TreeError::NothingThere { dir: site.request.dir.clone() }))
}

/// The work directory of the runner of the journal.
fn work(site: &Site<'_>, journal: &Journal) -> String {
    let asked = journal.registered().and_then(|(_, registered)| registered.asked.as_ref());
    asked.map_or_else(|| site.work().to_owned(), |asked| asked.work.clone())
}

/// Exchanges the tree for the staged one; the old one is then at the staged path. The staged one gets the identity,
/// settings, logs, work directory and whatever else root has put beside the runner's own files, and is sealed first.
///
/// # Errors
/// The old tree stands as before.
pub(crate) fn put(site: &Site<'_>, journal: &Journal, staging: &Path) -> Result<(), Error> {
    let dir = site.dir();
    let keeper = site.keeper(&account(site)?, journal);
    let work = work(site, journal);
    guard::carry(&dir, staging, keeper)?;
    guard::seal(staging, keeper, &work)?;
    if journal.guard() == Guard::Locked {
        // It was deregistered when its service stopped, and is about to register again.
        guard::lock(staging, keeper)?;
    }
    bring(&dir, staging, &work);
    place::replace(staging, &dir).inspect_err(|_| bring(staging, &dir, &work))?;
    Ok(())
}

/// Puts back the old tree, which stands beside the new one.
///
/// # Errors
/// The new one stays.
pub(crate) fn back(site: &Site<'_>, journal: &Journal) -> Result<(), Error> {
    let dir = site.dir();
    let staging = place::staging_path(&dir);
    let work = work(site, journal);
    bring(&dir, &staging, &work);
    place::replace(&staging, &dir).inspect_err(|_| bring(&staging, &dir, &work))?;
    Ok(())
}

/// After an interrupted upgrade: moves the logs and the work directory into the tree that is in place.
///
/// # Errors
/// None so far.
#[expect(clippy::unnecessary_wraps, reason = "it is one of the steps of a recovery, which can fail")]
pub(crate) fn take_along(site: &Site<'_>, journal: &Journal) -> Result<(), Error> {
    if let Some(Entry { state: EntryState::Begun, act }) = journal.entry(Step::PlaceRunner)
        && let Act::PlaceRunner { replaces: Some(_), guard: Guard::Sealed | Guard::Locked, .. } = act
    {
        let dir = site.dir();
        bring(&place::staging_path(&dir), &dir, &work(site, journal));
    }
    Ok(())
}

/// Moves what is not of the archive from one tree to the other, if the other has nothing of that name or an empty
/// directory. What cannot be moved is logged: that loss must not stop an exchange.
fn bring(from: &Path, to: &Path, work: &str) {
    if !from.is_dir() || !to.is_dir() {
        return;
    }
    let mut names: Vec<OsString> = vec![state::LOG_DIR.into()];
    let parts: Vec<Component<'_>> = Path::new(work).components().collect();
    if let Some(Component::Normal(first)) = parts.first()
        && parts.iter().all(|part| matches!(part, Component::Normal(_)))
    {
        names.push((*first).to_owned());
        // The directory just created for it may have more than one component.
        for directory in Path::new(work).ancestors().filter(|part| !part.as_os_str().is_empty()) {
            let _ = std::fs::remove_dir(to.join(directory));
        }
    }
    let first = names.get(1).map(|name| name.to_string_lossy().into_owned());
    match tree::others(from, first.as_deref()) {
        Ok(others) => names.extend(others.into_iter().map(OsString::from)),
        Err(error) => tracing::warn!("{}", crate::error::chain(&error)),
    }
    for name in names {
        let (old, new) = (from.join(&name), to.join(&name));
        let Ok(there) = std::fs::symlink_metadata(&old) else { continue };
        if std::fs::symlink_metadata(&new).is_ok() && (!there.is_dir() || std::fs::remove_dir(&new).is_err())
        {
            tracing::debug!(name = %name.display(), "stays where it is");
            continue;
        }
        if let Err(error) = std::fs::rename(&old, &new) {
            tracing::warn!("{} of the runner does not go along: {error}", name.display());
        }
    }
}

/// Whether another process is upgrading this runner.
///
/// # Errors
/// Its lock cannot be checked.
pub(crate) fn upgrade_is_running(site: &Site<'_>) -> Result<bool, Error> {
    let path = Journal::upgrade_lock_for(&site.request.root.join(&site.request.state), &site.request.dir);
    Ok(lock::is_held(&path)?)
}
