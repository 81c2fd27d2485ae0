//! Cleans the tree for the next job: at the end of `run`, and between two jobs of an ephemeral runner.

use crate::deadline::Deadline;
use crate::host::file::read_untrusted_in;
use crate::host::process::{self, Which};
use crate::host::{self, Command};
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::step::user;
use crate::runner::{Guard, config_sh, guard, listener, state};
use crate::transfer::place;
use std::path::{Component, Path};
use std::time::Duration;

/// How long processes that a job left running may take to end.
const LEFTOVERS: Duration = Duration::from_secs(20);

/// What affects the runner's next start, and so the next job.
const STEERING: [&str; 2] = [".env", ".path"];
const LIMIT: u64 = 256 * 1024;

/// What else a start leaves for the next one.
const LITTER: [&str; 3] = [".setup_info", "run-helper.sh", listener::UPDATE_FINISHED];

/// The files that affect the next start, as they were before a job could change them.
pub(crate) struct Snapshot([Option<Vec<u8>>; 2]);

impl Snapshot {
    /// Reads them.
    pub(crate) fn take(dir: &Path) -> Self {
        Self(STEERING.map(|name| read_untrusted_in(dir, name, LIMIT).ok().flatten()))
    }
}

/// Cleans the tree for the next job: the processes that the last one left, its work directory, and its changes to the
/// files that affect the next start. The logs stay.
///
/// # Errors
/// Something stays that the next job could see.
pub(crate) async fn clean_tree(site: &Site<'_>, before: &Snapshot) -> Result<(), Error> {
    let phase = site.phase("clean");
    let dir = site.dir();
    let left = Which::MarkedBy {
        uid: site.runner_uid(),
        key: listener::MARKER.to_owned(),
        value: dir.display().to_string(),
    };
    process::end(&left, process::Ask::Interrupt, Deadline::after(LEFTOVERS)).await?;
    let journal = site.read_journal()?;
    if let Some(account) = site.account()? {
        user::end_processes(site, &journal, &account).await?;
    }
    state::clean_identity(&dir)?;
    if journal.guard() != Guard::Open {
        // Whatever the job created at the top of the tree; it could not change the rest.
        guard::sweep(&dir, site.work())?;
        if let Some(account) = site.account()? {
            guard::make_ready(&dir, site.keeper(&account, &journal), site.work())?;
        }
    }
    let now = Snapshot::take(&dir);
    for (name, (before, now)) in STEERING.iter().zip(before.0.iter().zip(&now.0)) {
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
    clean_work(site, site.work()).await?;
    phase.end(format!("{} is clean for the next job", site.request.dir.display()));
    Ok(())
}

/// Empties the work directory, which jobs can write. If it lies directly in the runner's directory, it can be deleted
/// without following a link; elsewhere, the runner's user empties it, who can only delete its own files there.
async fn clean_work(site: &Site<'_>, work: &str) -> Result<(), Error> {
    let dir = site.dir();
    let path = dir.join(work);
    let parts: Vec<Component<'_>> = Path::new(work).components().collect();
    if let [Component::Normal(name)] = parts[..] {
        let ours = ["bin", "externals", state::LOG_DIR].iter().any(|dir| name == *dir);
        if !ours {
            place::sweep(&path)?;
            place::remove(&path)?;
        }
        return Ok(());
    }
    let outside = path != dir && parts.iter().any(|part| matches!(part, Component::Normal(_)));
    let climbs = parts.contains(&Component::ParentDir);
    let there = std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir());
    if !outside || climbs || !there || cfg!(windows) {
        return Ok(());
    }
    let Some(account) = site.account()? else { return Ok(()) };
    let command = Command::new("find")
        .arg(&path)
        .args(["-mindepth", "1", "-delete"])
        .env("PATH", config_sh::PATH)
        .account(&account)
        .groups_of(&site.request.root)
        .deadline(site.deadline);
    let shown = command.render();
    command
        .run(&site.stop, &mut |_, _| {})
        .await?
        .into_success(&shown)
        .map_err(|error: host::Error| error)?;
    Ok(())
}
