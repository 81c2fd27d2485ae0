//! Between two jobs: the tree is as the verified copy that it was made from.
//!
//! Jobs cannot change a locked tree, which is root's, so this finds what should not be possible, or what an operator has
//! done meanwhile. What an operator had changed before the first job stays: it is recorded then. Without a copy, or
//! without that record, nothing is compared.

use crate::deadline::Deadline;
use crate::host::{Lock, account};
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::finding::few;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::{Changed, Journal};
use crate::lifecycle::step::placing::stored;
use crate::runner::Guard;
use crate::transfer::store::{Compared, Entry, Failed, Prints, Unclear};
use crate::transfer::{self, Sha256Digest, place};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::spawn_blocking;

/// The timeout of a comparison. It takes milliseconds if the disk is not asked.
const LIMIT: Duration = Duration::from_secs(10);

/// How many differences of an operator's are recorded. A tree with more is not compared: a filesystem that does not keep
/// modes or owners has as many as files.
const MOST: usize = 200;

/// What the tree was like when it was last as its copy.
#[derive(Debug, Clone, Default)]
pub(crate) struct Last(Arc<Mutex<Option<Prints>>>);

/// The copy of the tree that is placed.
struct Copy {
    sha256: Sha256Digest,
    entry: Entry,
}

fn find(site: &Site<'_>, journal: &Journal) -> Option<Copy> {
    if !account::is_root() || journal.guard() != Guard::Locked || site.request.self_update {
        return None;
    }
    let sha256: Sha256Digest = journal.placed()?.sha256?.parse().ok()?;
    let entry = stored::store(site).find(sha256)?;
    Some(Copy { sha256, entry })
}

/// Before the first job in a tree: records what an operator has changed in it.
///
/// # Errors
/// The journal cannot be read or written.
pub(crate) async fn note(site: &Site<'_>, last: &Last) -> Result<(), Error> {
    let journal = site.read_journal()?;
    let Some(copy) = find(site, &journal).filter(|_| journal.used().is_none()) else { return Ok(()) };
    let sha256 = copy.sha256.to_string();
    if journal.changed(&sha256).is_some() {
        return Ok(());
    }
    let compared = match compare(site, &copy).await? {
        // A name that is no text could not be recorded.
        Ok(compared)
            if compared.different.len() <= MOST
                && compared.different.iter().all(|path| path.to_str().is_some()) =>
        {
            compared
        }
        Ok(Compared { different, .. }) => {
            tracing::debug!("{} files are not as in {}", different.len(), copy.entry.path().display());
            return Ok(());
        }
        Err(why) => {
            tracing::debug!("{}", text(&why));
            return Ok(());
        }
    };
    let paths = compared.different.clone();
    remember(site, &copy, compared, last).await?;
    if !paths.is_empty() {
        tracing::info!("{} in the runner's directory stay as they are between jobs", few(&paths));
    }
    let (_lock, mut journal) = site.open_journal("run").await?;
    Ok(journal.set_changed(Changed { sha256, paths })?)
}

/// Between two jobs: compares the tree with its copy, and puts back what differs, but for what an operator had changed
/// before. If it cannot be put back, the next start places a new tree.
///
/// # Errors
/// Something stays that the next job could use.
pub(crate) async fn restore(site: &Site<'_>, journal: &Journal, last: &Last) -> Result<(), Error> {
    let Some(copy) = find(site, journal) else { return Ok(()) };
    let Some(theirs) = journal.changed(&copy.sha256.to_string()) else { return Ok(()) };
    if is_unchanged(site, &copy, last).await? {
        return Ok(());
    }
    let (found, held) = differences_but_mended(site, &copy, theirs).await?;
    let compared = match found {
        Ok(compared) => compared,
        // The store is held since then.
        Err(Unclear::Damaged(what)) => return abandon(site, &copy, &what),
        Err(why) => {
            tracing::warn!("the runner's files are not compared with their copy: {}", text(&why));
            return Ok(());
        }
    };
    if compared.different.is_empty() {
        return remember(site, &copy, compared, last).await;
    }
    let different = compared.different;
    tracing::warn!(
        "{} in {} changed during the job: as in the verified copy again",
        few(&different),
        site.request.dir.display()
    );
    let _lock = match held {
        Some(lock) => lock,
        None => stored::hold(site).await?,
    };
    let (entry, sha256, tree) = (copy.entry.clone(), copy.sha256, site.dir());
    let restored = spawn_blocking(move || entry.restore(sha256, &tree, &different)).await;
    match restored.map_err(transfer::Error::Bug)? {
        Err(Failed::Damaged(what)) => return abandon(site, &copy, &what),
        Err(Failed::Writing(error)) => return Err(error.into()),
        Ok(()) => {}
    }
    match differences(site, &copy, theirs).await? {
        Ok(Compared { different, .. }) if !different.is_empty() => {
            tracing::warn!("{} cannot be put back: the next start places a new runner", few(&different));
            make_incomplete(site)
        }
        Err(Unclear::Damaged(what)) => abandon(site, &copy, &what),
        Ok(compared) => remember(site, &copy, compared, last).await,
        Err(why) => {
            tracing::debug!("{}", text(&why));
            Ok(())
        }
    }
}

/// Whether nothing has changed since: then there is no need to look into the copy.
async fn is_unchanged(site: &Site<'_>, copy: &Copy, last: &Last) -> Result<bool, Error> {
    let (last, sha256, tree) = (last.clone(), copy.sha256, site.dir());
    let deadline = Deadline::after(LIMIT.min(site.deadline.left()));
    let look = move || {
        let prints = last.0.lock().unwrap_or_else(PoisonError::into_inner);
        prints.as_ref().is_some_and(|prints| prints.hold(sha256, &tree, &|| deadline.passed()))
    };
    Ok(spawn_blocking(look).await.map_err(transfer::Error::Bug)?)
}

async fn remember(site: &Site<'_>, copy: &Copy, compared: Compared, last: &Last) -> Result<(), Error> {
    let (last, sha256, tree) = (last.clone(), copy.sha256, site.dir());
    let take =
        move || *last.0.lock().unwrap_or_else(PoisonError::into_inner) = compared.prints(sha256, &tree);
    Ok(spawn_blocking(take).await.map_err(transfer::Error::Bug)?)
}

/// The same after owners, modes and times of the copy were put right, for which the store is held: the tree may share a
/// file that somebody has changed.
async fn differences_but_mended(
    site: &Site<'_>,
    copy: &Copy,
    theirs: &[PathBuf],
) -> Result<(Result<Compared, Unclear>, Option<Lock>), Error> {
    let found = differences(site, copy, theirs).await?;
    let Err(Unclear::Damaged(what)) = &found else { return Ok((found, None)) };
    tracing::warn!("the verified copy {} has changed: {what}", copy.entry.path().display());
    let lock = stored::hold(site).await?;
    let (entry, sha256) = (copy.entry.clone(), copy.sha256);
    let mended = spawn_blocking(move || entry.mend(sha256)).await;
    let found = match mended.map_err(transfer::Error::Bug)? {
        Err(Failed::Damaged(what)) => Err(Unclear::Damaged(what)),
        Err(Failed::Writing(error)) => return Err(error.into()),
        Ok(()) => differences(site, copy, theirs).await?,
    };
    Ok((found, Some(lock)))
}

/// The copy is no better than the tree, which may share its files: neither is used again. The store is held.
fn abandon(site: &Site<'_>, copy: &Copy, what: &str) -> Result<(), Error> {
    let path = copy.entry.path().display();
    tracing::warn!("the verified copy {path} is damaged ({what}): the next start downloads the runner");
    copy.entry.delete()?;
    make_incomplete(site)
}

/// Such a tree is replaced before it is registered, whatever happens meanwhile.
fn make_incomplete(site: &Site<'_>) -> Result<(), Error> {
    Ok(place::remove(&site.dir().join("bin"))?)
}

async fn differences(
    site: &Site<'_>,
    copy: &Copy,
    theirs: &[PathBuf],
) -> Result<Result<Compared, Unclear>, Error> {
    let mut found = compare(site, copy).await?;
    if let Ok(Compared { different, .. }) = &mut found {
        different.retain(|path| !theirs.contains(path));
        different.sort();
    }
    Ok(found)
}

async fn compare(site: &Site<'_>, copy: &Copy) -> Result<Result<Compared, Unclear>, Error> {
    let (entry, sha256, tree) = (copy.entry.clone(), copy.sha256, site.dir());
    let deadline = Deadline::after(LIMIT.min(site.deadline.left()));
    let begun = std::time::Instant::now();
    let compared = spawn_blocking(move || entry.compare(sha256, &tree, &|| deadline.passed())).await;
    tracing::debug!("compared the runner's files with their copy in {:?}", begun.elapsed());
    Ok(compared.map_err(transfer::Error::Bug)?)
}

fn text(why: &Unclear) -> String {
    match why {
        Unclear::Damaged(what) => what.clone(),
        Unclear::Unreadable(error) => error.to_string(),
        Unclear::GivenUp => format!("it took more than {} s", LIMIT.as_secs()),
    }
}
