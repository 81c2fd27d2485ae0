//! Places a runner into a directory that cannot be renamed: it is a mount point, or the work directory in it is one.
//!
//! The new tree is staged in the directory itself, and its entries are moved one by one. So the journal alone tells
//! whether that was completed: after a cut, everything in the directory is deleted, and it is placed again.

use crate::host::{account, mounts};
use crate::lifecycle::context::error::{Error, TreeError};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::{Act, Entry, EntryState, Journal, Step};
use crate::lifecycle::step::recorded;
use crate::lifecycle::step::work;
use crate::runner::{Keeper, guard};
use crate::transfer::place;
use std::path::{Path, PathBuf};

pub(super) const ROOT: Keeper = Keeper { uid: 0, gid: 0 };

/// Refuses what is mounted in the runner's directory, because it would be emptied. The directory itself may be a mount
/// point, and so may its work directory.
///
/// # Errors
/// `TreeError::MountedInside`; the journal cannot be read.
pub fn check_mounts(site: &Site<'_>) -> Result<(), Error> {
    let dir = site.dir();
    let mut mounts = mounts::within(&dir);
    if let Ok(real) = fs_err::canonicalize(&dir) {
        let journal = site.read_journal()?;
        let requested = work::locate(&dir, site.work()).map(|place| place.path().to_owned());
        let requested = requested.filter(|work| work::of_others(site, &journal, work).is_none());
        let recorded = journal.work().map(|work| work.path.clone());
        let works: Vec<PathBuf> = [requested, recorded]
            .into_iter()
            .flatten()
            .filter_map(|work| Some(real.join(work.strip_prefix(&dir).ok()?)))
            .collect();
        mounts.retain(|mount| *mount != real && !works.contains(mount));
    }
    if mounts.is_empty() {
        Ok(())
    } else {
        Err(TreeError::MountedInside { dir: site.request.dir.clone(), mounts }.into())
    }
}

/// Whether the runner's directory is one of these.
///
/// # Errors
/// `TreeError::MountedInside`: something else is mounted in it.
pub(crate) fn applies(site: &Site<'_>) -> Result<bool, Error> {
    check_mounts(site)?;
    Ok(!mounts::within(&site.dir()).is_empty())
}

/// Refuses to exchange the tree where that is not possible.
///
/// # Errors
/// `TreeError::NotExchanged`, or `MountedInside`.
pub fn check_exchange(site: &Site<'_>) -> Result<(), Error> {
    check_mounts(site)?;
    match mounts::within(&site.dir()).into_iter().next() {
        Some(mount) => Err(TreeError::NotExchanged { dir: site.request.dir.clone(), mount }.into()),
        None => Ok(()),
    }
}

pub(super) fn own(dir: &Path, keeper: Keeper) -> Result<(), Error> {
    if account::is_root() {
        guard::give_dir(dir, keeper)?;
    }
    Ok(())
}

/// After a failure that has an error of its own.
pub(super) fn give_back(dir: &Path, keeper: Keeper) {
    if let Err(error) = own(dir, keeper) {
        tracing::warn!("{}", crate::error::chain(&error));
    }
}

/// Deletes what is in the directory, and leaves it to root.
///
/// # Errors
/// Something stays.
pub(super) fn empty(site: &Site<'_>) -> Result<(), Error> {
    let dir = site.dir();
    own(&dir, ROOT)?;
    Ok(place::empty(&dir)?)
}

/// After an interruption: empties the directory that a runner was being placed into. Returns whether there was one.
///
/// # Errors
/// Something stays; the journal cannot be written.
pub(super) fn recover(site: &Site<'_>, journal: &mut Journal) -> Result<bool, Error> {
    let Some(Entry { state: EntryState::Begun, act: Act::PlaceRunner { in_place: true, .. } }) =
        journal.entry(Step::PlaceRunner)
    else {
        return Ok(false);
    };
    // Below a mount point that is not mounted now are other files.
    if !applies(site)? {
        return Ok(false);
    }
    tracing::warn!(
        "placing the runner in {} was cut off: deleting what is there",
        site.request.dir.display()
    );
    empty(site)?;
    recorded::never_happened(journal, Step::PlaceRunner)?;
    Ok(true)
}
