//! Checks a work directory outside the runner's own: jobs write there, and it is emptied between jobs and at the end, so
//! it must hold nothing of anybody else.

use crate::host::account::Account;
use crate::lifecycle::context::error::{Error, JobsError};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::Journal;
use std::path::Path;

/// Refuses a work directory that the runner could not use, or must not have.
///
/// # Errors
/// `JobsError::WorkUnusable`; a journal cannot be read.
pub(crate) fn check(site: &Site<'_>, account: Option<&Account>) -> Result<(), Error> {
    let work = Path::new(site.work());
    if !work.is_absolute() || !site.request.root.is_host() {
        return Ok(());
    }
    let refused = |why: String| Err(JobsError::WorkUnusable { work: work.to_owned(), why }.into());
    for other in Journal::all(&site.state)? {
        let theirs = other.registered().and_then(|(_, registered)| registered.asked.as_ref());
        let same = theirs.is_some_and(|asked| Path::new(&asked.work) == work);
        if other.dir() != site.request.dir && same {
            return refused(format!("the jobs of the runner in {} work there", other.dir().display()));
        }
    }
    // If it is missing, it is created, with what is missing above it.
    let Ok(meta) = std::fs::symlink_metadata(work) else { return Ok(()) };
    if !meta.is_dir() {
        return refused("it is not a directory".into());
    }
    let journal = site.read_journal()?;
    let was_ours = journal.registered().and_then(|(_, registered)| registered.asked.as_ref());
    let is_ours = was_ours.is_some_and(|asked| Path::new(&asked.work) == work)
        || account.is_some_and(|account| is_owned_by(&meta, account));
    match (is_ours, first_entry(work)) {
        (false, Some(name)) => refused(format!("it contains other files, such as {name}")),
        _ => Ok(()),
    }
}

/// The name of something in the directory; what every new file system has does not count.
fn first_entry(dir: &Path) -> Option<String> {
    let names = std::fs::read_dir(dir).ok()?.flatten().map(|entry| entry.file_name());
    names.map(|name| name.to_string_lossy().into_owned()).find(|name| name != "lost+found")
}

#[cfg(unix)]
fn is_owned_by(meta: &std::fs::Metadata, account: &Account) -> bool {
    std::os::unix::fs::MetadataExt::uid(meta) == account.uid
}

#[cfg(not(unix))]
fn is_owned_by(_: &std::fs::Metadata, _: &Account) -> bool {
    true
}
