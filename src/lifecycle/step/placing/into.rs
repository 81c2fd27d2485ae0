//! Places a runner into a directory that cannot be renamed: it is a mount point, or the work directory in it is one.
//!
//! The new tree is staged in the directory itself, and its entries are moved one by one. So the journal alone tells
//! whether that was completed: after a cut, everything in the directory is deleted, and it is placed again.

use crate::host::{account, mounts};
use crate::lifecycle::context::error::{Error, TreeError};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::checkpoint::{Checkpoint, reach};
use crate::lifecycle::state::journal::{Act, Entry, EntryState, Journal, Step};
use crate::lifecycle::step::placing::archive::Choice;
use crate::lifecycle::step::placing::stage::discard;
use crate::lifecycle::step::placing::{Placing, check_mounts};
use crate::lifecycle::step::recorded::{self, Begin};
use crate::lifecycle::step::work;
use crate::runner::{Keeper, guard};
use crate::transfer::{Format, place};
use std::path::Path;

const ROOT: Keeper = Keeper { uid: 0, gid: 0 };

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

impl Placing<'_> {
    /// Puts the new tree into the directory; one that is there stays until the new one is verified.
    pub(super) async fn put_into(
        &self,
        journal: &mut Journal,
        choice: Choice,
        format: Format,
        mut act: Act,
    ) -> Result<String, Error> {
        let (site, dir) = (self.site, self.site.dir());
        if let Act::PlaceRunner { in_place, .. } = &mut act {
            *in_place = true;
        }
        work::check(site, journal)?;
        // Root works in it from now on, so its user must not change it meanwhile.
        own(&dir, ROOT)?;
        let keeper = site.keeper(self.account, journal);
        let before = journal.entry(Step::PlaceRunner).is_some();
        let mut chosen = Some((choice, format));
        let mut staged = None;
        if self.replaces_done
            && let Some((choice, format)) = chosen.take()
        {
            let new = self.stage(journal, choice, format, &mut act).await;
            staged = Some(new.inspect_err(|_| give_back(&dir, keeper))?);
        }
        let how = if before { Begin::Over } else { Begin::New };
        recorded::take(journal, act, how, async |journal, act| {
            let new = match (staged, chosen) {
                (None, Some((choice, format))) => self.stage(journal, choice, format, act).await?,
                (staged, _) => staged.expect("it was staged, or is chosen"),
            };
            place::put_into(&new.staging, &dir).inspect_err(|_| discard(&new.staging))?;
            reach(Checkpoint::PlaceRenamed);
            if !self.guarded {
                own(&dir, keeper)?;
            }
            self.guard(journal)?;
            Ok(new.detail)
        })
        .await
    }
}

fn own(dir: &Path, keeper: Keeper) -> Result<(), Error> {
    if account::is_root() {
        guard::give_dir(dir, keeper)?;
    }
    Ok(())
}

/// After a failure that has an error of its own.
fn give_back(dir: &Path, keeper: Keeper) {
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
