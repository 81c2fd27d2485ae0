//! What is cleaned of the runner's user between the jobs of an ephemeral runner, besides its processes: all that a job can
//! leave outside of the runner's tree.
//!
//! Only for a user that runup created for this runner alone, and that cannot become root: nothing else tells what is a
//! job's from what is somebody else's, and a job of root's can hide anywhere.

use crate::deadline::Deadline;
use crate::host::account::{self, Account, Writable};
use crate::host::mounts;
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::finding::few;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::isolation;
use crate::lifecycle::state::journal::Journal;
use crate::lifecycle::state::user::{claimant, is_created};
use crate::lifecycle::step::user::room;
use std::path::PathBuf;
use std::time::Duration;

/// The timeout of the search for directories in which jobs can create files.
const SEARCH: Duration = Duration::from_secs(10);

/// The timeout of the cleaning.
const LIMIT: Duration = Duration::from_secs(120);

/// What is cleaned.
#[derive(Debug, Clone)]
pub(crate) struct Cleaning {
    account: Account,
    /// Directories in which all users can create files.
    shared: Vec<PathBuf>,
    /// Also the home directory.
    home: bool,
}

impl Cleaning {
    /// Whether a container engine of the user's own keeps something.
    pub(crate) fn has_engine(&self, site: &Site<'_>) -> bool {
        account::podman(&site.request.root, &self.account, self.home).is_some()
    }
}

/// Finds out what is to be cleaned, before a job can change that; `None` if the user is not cleaned. Says what stays.
///
/// # Errors
/// A journal or the user database cannot be read; the journal cannot be written.
pub(crate) async fn plan(site: &Site<'_>, account: &Account) -> Result<Option<Cleaning>, Error> {
    let journal = site.read_journal()?;
    if !site.isolates(account) {
        return Ok(None);
    }
    let name = &account.name;
    if !is_ours(site, &journal, account)? {
        tracing::info!(
            "runup did not create the user {name} for this runner alone: between two jobs only the work directory is \
             cleaned"
        );
        return Ok(None);
    }
    let ways = isolation::ways(site, &journal, account).await?;
    if !ways.is_empty() {
        tracing::warn!(
            "jobs can become root ({}), so between two jobs only the work directory is cleaned",
            ways.join(", ")
        );
        return Ok(None);
    }
    let found = search(site, account).await;
    if !found.by_right.is_empty() {
        tracing::warn!("jobs can write to {}, which is not cleaned between two jobs", few(&found.by_right));
    }
    if !found.is_complete {
        tracing::warn!(
            "not all directories were searched for what jobs can write to; the usual ones are cleaned"
        );
    }
    let home = has_empty_home(site, &journal, account).await?;
    if !home {
        tracing::warn!(
            "{} had files before the first job, and is not cleaned between two jobs",
            account.home.display()
        );
    }
    keep_memory_apart(site);
    Ok(Some(Cleaning { account: account.clone(), shared: found.by_all, home }))
}

/// What an engine of the user's own keeps, before the rest, which its programs use.
///
/// # Errors
/// A process does not end.
pub(crate) async fn clear_engine(
    site: &Site<'_>,
    journal: &Journal,
    cleaning: &Cleaning,
) -> Result<(), Error> {
    room::clear_engine(site, journal, &cleaning.account, cleaning.home).await
}

/// Cleans it. The processes of the user have ended.
///
/// # Errors
/// Something stays that the next job could see.
pub(crate) async fn clean(site: &Site<'_>, journal: &Journal, cleaning: &Cleaning) -> Result<(), Error> {
    // No other runner comes to share the user meanwhile.
    let _users = site.hold_users().await?;
    let Cleaning { account, shared, home } = cleaning;
    if !is_ours(site, journal, account)? {
        return Ok(());
    }
    let deadline = Deadline::after(LIMIT.min(site.deadline.left()));
    let root = &site.request.root;
    Ok(account::clean(root, account, shared, *home, deadline, &site.stop).await?)
}

/// With a `/tmp` of its own, the service has a `/dev/shm` of its own as well. systemd would do both, but refuse to start
/// the service where it cannot.
fn keep_memory_apart(site: &Site<'_>) {
    let root = &site.request.root;
    if !root.is_host() || !mounts::has_private_tmp() {
        return;
    }
    if account::has_engine(root) {
        tracing::warn!(
            "a container engine was installed after the service, whose /tmp is its own: paths below it are others for the \
             engine; run install again"
        );
    }
    if let Err(error) = mounts::own_shared_memory() {
        tracing::warn!("jobs share /dev/shm with other users: {error}");
    }
}

fn is_ours(site: &Site<'_>, journal: &Journal, account: &Account) -> Result<bool, Error> {
    Ok(is_created(site, journal, account)? && claimant(site, journal, account)?.is_none())
}

/// The directories outside of the runner's tree in which a job can create files.
async fn search(site: &Site<'_>, account: &Account) -> Writable {
    let (root, account) = (site.request.root.clone(), account.clone());
    let dir = site.dir();
    let mut except = vec![dir.join(site.work()), dir, PathBuf::from(format!("/run/user/{}", account.uid))];
    except.extend(root.locate(&account.home));
    let deadline = Deadline::after(SEARCH.min(site.deadline.left()));
    let work = move || {
        let gids = account::groups(&root, &account);
        account::writable(&root, &account, &gids, &except, &|| deadline.passed())
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_default()
}

/// Whether the home directory is runup's to delete: it was as runup had created it when its first job was about to begin.
async fn has_empty_home(site: &Site<'_>, journal: &Journal, account: &Account) -> Result<bool, Error> {
    if journal.has_empty_home(&account.name) {
        return Ok(true);
    }
    if !account::is_as_created(&site.request.root, account) {
        return Ok(false);
    }
    let (_lock, mut journal) = site.open_journal("run").await?;
    journal.set_empty_home(&account.name)?;
    Ok(true)
}
