//! Cleans the tree and what else jobs can write to for the next job: at the end of `run`, and between two jobs of an
//! ephemeral runner.

use crate::deadline::Deadline;
use crate::host::account;
use crate::host::file::read_untrusted_in;
use crate::host::process::{self, Which};
use crate::lifecycle::command::run::running::{RunnerSource, Running};
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::Journal;
use crate::lifecycle::step::placing::compared;
use crate::lifecycle::step::user::cleaning::{self, Cleaning};
use crate::lifecycle::step::{user, work};
use crate::runner::{Guard, guard, kept_logs, listener, state};
use crate::transfer::place;
use std::path::PathBuf;
use std::time::Duration;

/// How long processes that a job left running may take to end.
const LEFTOVERS: Duration = Duration::from_secs(20);

/// What affects the runner's next start, and so the next job.
const STEERING: [&str; 2] = [".env", ".path"];
const LIMIT: u64 = 256 * 1024;

/// What else a start leaves for the next one.
const LITTER: [&str; 3] = [".setup_info", "run-helper.sh", listener::UPDATE_FINISHED];

/// What was there before a job could change it.
pub(crate) struct Snapshot {
    /// The files that affect the next start.
    steering: [Option<Vec<u8>>; 2],
    /// What is mounted in the work directory.
    mounts: Vec<PathBuf>,
    /// What a job can leave elsewhere.
    user: Option<Cleaning>,
    /// The runner's programs.
    last: compared::Last,
}

/// What is found out once in a run.
#[derive(Default)]
pub(crate) struct Known {
    user: Option<Cleaning>,
    has_looked: bool,
    last: compared::Last,
}

impl Known {
    /// Reads what is there before a job.
    ///
    /// # Errors
    /// A journal or the user database cannot be read.
    pub(crate) async fn snapshot(&mut self, site: &Site<'_>, running: &Running) -> Result<Snapshot, Error> {
        let user = self.user(site, running).await?;
        let mounts = work::mounted(site, site.work());
        Ok(Snapshot { steering: steering(site), mounts, user, last: self.last.clone() })
    }

    /// Records what differs in the runner's programs before their first job.
    ///
    /// # Errors
    /// The journal cannot be read or written.
    pub(crate) async fn note(&self, site: &Site<'_>) -> Result<(), Error> {
        Box::pin(compared::note(site, &self.last)).await
    }

    /// What is cleaned of the user: nothing if its jobs follow each other without that, in a persistent runner.
    async fn user(&mut self, site: &Site<'_>, running: &Running) -> Result<Option<Cleaning>, Error> {
        if self.has_looked {
            return Ok(self.user.clone());
        }
        let one_job = is_ephemeral(site) || !matches!(running.source, RunnerSource::ConfigSh);
        let Some(account) = site.account()?.filter(|_| one_job) else { return Ok(None) };
        self.user = cleaning::plan(site, &account).await?;
        self.has_looked = true;
        Ok(self.user.clone())
    }
}

/// Whether a runner for one job was requested.
pub(crate) fn is_ephemeral(site: &Site<'_>) -> bool {
    site.request.registration.as_ref().is_some_and(|wanted| wanted.options.ephemeral)
}

fn steering(site: &Site<'_>) -> [Option<Vec<u8>>; 2] {
    STEERING.map(|name| read_untrusted_in(&site.dir(), name, LIMIT).ok().flatten())
}

/// Cleans the tree for the next job: the processes that the last one left, its work directory, and its changes to the
/// files that affect the next start. The logs stay, for root where it cleans up after a user of its own.
///
/// # Errors
/// Something stays that the next job could see.
pub(crate) async fn clean_tree(site: &Site<'_>, before: &Snapshot) -> Result<(), Error> {
    let phase = site.phase("clean");
    let dir = site.dir();
    let journal = site.read_journal()?;
    end_leftovers(site, &journal).await?;
    state::clean_identity(&dir)?;
    // First, because the rest can take so long that it fails.
    clear_top(site, &journal, before.user.is_some())?;
    clean_rest(site, &journal, before.user.as_ref(), &before.last).await?;
    let now = steering(site);
    for (name, (before, now)) in STEERING.iter().zip(before.steering.iter().zip(&now)) {
        if before != now {
            tracing::warn!("{name} was changed while the job ran, and is deleted");
            place::remove(&dir.join(name))?;
        }
    }
    if journal.guard() == Guard::Open {
        for name in LITTER {
            place::remove(&dir.join(name))?;
        }
    }
    work::clean(site, &journal, site.work(), Some(&before.mounts))?;
    phase.end(format!("{} is clean for the next job", site.request.dir.display()));
    Ok(())
}

/// Takes the logs out of a guarded tree if jobs may not see them, and deletes whatever they created at its top: they could
/// not change the rest.
fn clear_top(site: &Site<'_>, journal: &Journal, keeps_logs: bool) -> Result<(), Error> {
    if journal.guard() == Guard::Open {
        return Ok(());
    }
    let (dir, account) = (site.dir(), site.account()?);
    if let Some(account) = account.as_ref().filter(|_| keeps_logs)
        && let Some(logs) = Journal::logs_for(&site.request.root, &site.request.dir)
    {
        // What stays mounted is an error when the user is cleaned.
        let _ = account::unmount(&site.request.root, account);
        kept_logs::put_away(&dir, &logs, account)?;
    }
    guard::sweep(&dir, site.work())?;
    if let Some(account) = &account {
        guard::make_ready(&dir, site.keeper(account, journal), site.work())?;
    }
    Ok(())
}

/// Compares the tree with its copy, and cleans what the user has elsewhere.
async fn clean_rest(
    site: &Site<'_>,
    journal: &Journal,
    user: Option<&Cleaning>,
    last: &compared::Last,
) -> Result<(), Error> {
    let restored = Box::pin(compared::restore(site, journal, last));
    let Some(user) = user else { return restored.await };
    if !user.has_engine(site) {
        // Nothing can change the tree any more, so both at the same time.
        let (cleaned, restored) = tokio::join!(Box::pin(cleaning::clean(site, journal, user)), restored);
        return cleaned.and(restored);
    }
    restored.await?;
    // First what is left of killed containers in /tmp, with which Podman does not start, and how a job has configured it.
    Box::pin(cleaning::clean(site, journal, user)).await?;
    // It runs as the user, and leaves files of its own.
    Box::pin(cleaning::clear_engine(site, journal, user)).await?;
    if journal.registered().is_none() {
        clear_top(site, journal, true)?;
    }
    cleaning::clean(site, journal, user).await
}

/// The same where no job follows in this run: it does not fail because of what a job left, but the next start does.
pub(crate) async fn leave_tree(site: &Site<'_>, before: &Snapshot) -> bool {
    let cleaned = clean_tree(site, before).await;
    if let Err(error) = &cleaned {
        tracing::warn!("{}; the next start tries again", crate::error::chain(error));
    }
    cleaned.is_ok()
}

/// Records that nothing is left of a job.
///
/// # Errors
/// The journal cannot be written.
pub(crate) async fn note_clean(site: &Site<'_>) -> Result<(), Error> {
    let (_lock, mut journal) = site.open_journal("run").await?;
    Ok(journal.set_used(None)?)
}

/// Cleans up after the jobs of an earlier run that could not, or that was killed.
///
/// # Errors
/// Something stays that the next job could see.
pub(crate) async fn clean_after_earlier(
    site: &Site<'_>,
    running: &Running,
    known: &mut Known,
) -> Result<(), Error> {
    let journal = site.read_journal()?;
    let Some(used) = journal.used() else { return Ok(()) };
    end_leftovers(site, &journal).await?;
    let cleaned = known.user(site, running).await?;
    // What is registered still needs its identity, which is at the top too.
    if journal.registered().is_none() {
        clear_top(site, &journal, cleaned.is_some())?;
    }
    clean_rest(site, &journal, cleaned.as_ref(), &known.last).await?;
    work::clean(site, &journal, used, None)?;
    note_clean(site).await
}

/// Ends the processes that jobs have left.
async fn end_leftovers(site: &Site<'_>, journal: &Journal) -> Result<(), Error> {
    let left = Which::MarkedBy {
        uid: site.runner_uid(),
        key: listener::MARKER.to_owned(),
        value: site.dir().display().to_string(),
    };
    process::end(&left, process::Ask::Interrupt, Deadline::after(LEFTOVERS)).await?;
    if let Some(account) = site.account()? {
        user::end_processes(site, journal, &account).await?;
    }
    Ok(())
}
