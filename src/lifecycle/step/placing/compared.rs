//! Between two jobs: the tree is as the verified copy that it was made from.
//!
//! Jobs cannot change a locked tree, which is root's, so this finds what should not be possible, or what an operator has
//! done meanwhile. What an operator had changed before the first job stays: it is recorded then. Without a copy, or
//! without that record, nothing is compared.

use crate::deadline::Deadline;
use crate::host::account;
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::finding::few;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::{Changed, Journal};
use crate::lifecycle::step::placing::stored;
use crate::runner::Guard;
use crate::transfer::store::{Entry, Failed, Unclear};
use crate::transfer::{self, Sha256Digest, place};
use std::path::PathBuf;
use std::time::Duration;
use tokio::task::spawn_blocking;

/// The timeout of a comparison. It takes milliseconds if the disk is not asked.
const LIMIT: Duration = Duration::from_secs(10);

/// How many differences of an operator's are recorded. A tree with more is not compared: a filesystem that does not keep
/// modes or owners has as many as files.
const MOST: usize = 200;

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
pub(crate) async fn note(site: &Site<'_>) -> Result<(), Error> {
    let journal = site.read_journal()?;
    let Some(copy) = find(site, &journal).filter(|_| journal.used().is_none()) else { return Ok(()) };
    let sha256 = copy.sha256.to_string();
    if journal.changed(&sha256).is_some() {
        return Ok(());
    }
    let paths = match compare(site, &copy).await? {
        Ok(paths) if paths.len() <= MOST => paths,
        Ok(paths) => {
            tracing::debug!("{} files are not as in {}", paths.len(), copy.entry.path().display());
            return Ok(());
        }
        Err(why) => {
            tracing::debug!("{}", text(&why));
            return Ok(());
        }
    };
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
pub(crate) async fn restore(site: &Site<'_>, journal: &Journal) -> Result<(), Error> {
    let Some(copy) = find(site, journal) else { return Ok(()) };
    let Some(theirs) = journal.changed(&copy.sha256.to_string()) else { return Ok(()) };
    let different = match differences(site, &copy, theirs).await? {
        Ok(different) => different,
        Err(Unclear::Damaged(what)) => {
            let _lock = stored::hold(site).await?;
            return abandon(site, &copy, &what);
        }
        Err(why) => {
            tracing::warn!("the runner's files are not compared with their copy: {}", text(&why));
            return Ok(());
        }
    };
    if different.is_empty() {
        return Ok(());
    }
    tracing::warn!(
        "{} in {} changed during the job: as in the verified copy again",
        few(&different),
        site.request.dir.display()
    );
    let _lock = stored::hold(site).await?;
    let (entry, sha256, tree) = (copy.entry.clone(), copy.sha256, site.dir());
    let restored = spawn_blocking(move || entry.restore(sha256, &tree, &different)).await;
    match restored.map_err(transfer::Error::Bug)? {
        Err(Failed::Damaged(what)) => return abandon(site, &copy, &what),
        Err(Failed::Writing(error)) => return Err(error.into()),
        Ok(()) => {}
    }
    match differences(site, &copy, theirs).await? {
        Ok(left) if !left.is_empty() => {
            tracing::warn!("{} cannot be put back: the next start places a new runner", few(&left));
            make_incomplete(site)
        }
        Err(Unclear::Damaged(what)) => abandon(site, &copy, &what),
        _ => Ok(()),
    }
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
) -> Result<Result<Vec<PathBuf>, Unclear>, Error> {
    let mut found = compare(site, copy).await?;
    if let Ok(different) = &mut found {
        different.retain(|path| !theirs.contains(path));
        different.sort();
    }
    Ok(found)
}

async fn compare(site: &Site<'_>, copy: &Copy) -> Result<Result<Vec<PathBuf>, Unclear>, Error> {
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
