//! Leaves the server and keeps the tree: what `run` does at its end, and between two jobs of an ephemeral runner.

use super::journal::{Act, Journal, Registered};
use super::site::Site;
use super::{Error, create_user, look, ownership, remove};
use crate::deadline::Deadline;
use crate::github::{self, Client, Deletion};
use crate::host::file::read_untrusted_in;
use crate::host::process::{self, Which};
use crate::host::{self, Command};
use crate::runner::{Guard, config_sh, guard, listener, state};
use crate::transfer::place;
use std::path::{Component, Path};
use std::time::Duration;

/// The server needs a moment to see that a job's runner is gone.
pub(super) const BUSY_POLL: Duration = Duration::from_secs(1);

/// How long a server is waited for that does not answer, when the network may be going down as well.
pub(super) const SILENCE: Duration = Duration::from_secs(14);

/// How often the server is asked whether it has forgotten the runner of a finished job, before it is told to.
const LOOKS: u32 = 5;

/// How long what a job left running gets to end.
const LEFTOVERS: Duration = Duration::from_secs(20);

/// What steers the runner's next start, and so the next job.
const STEERING: [&str; 2] = [".env", ".path"];
const LIMIT: u64 = 256 * 1024;

/// What a start leaves for the next one, besides.
const LITTER: [&str; 3] = [".setup_info", "run-helper.sh", listener::UPDATE_FINISHED];

/// Takes the runner of the journal off the server. Until that is done, the journal says that it was begun.
///
/// # Errors
/// The server may still have it.
pub(super) async fn deregister(site: &Site<'_>) -> Result<(), Error> {
    let (_lock, mut journal) = site.open_journal("run").await?;
    let Some((_, registered)) = journal.registered() else { return Ok(()) };
    let registered = registered.clone();
    journal.begin(Act::Register(registered.clone()))?;
    let Some(client) = site.eyes() else {
        if let Some(account) = site.account()? {
            create_user::end_processes(site, &journal, &account).await?;
        }
        let site = site.until(site.deadline.within(SILENCE), site.stop.clone());
        return remove::deregister(&site, &mut journal, &registered).await;
    };
    // By id at once: config.sh would take three calls more, and there may be little time.
    let phase = site.phase("leave");
    phase.end(take_off(site, client, &registered, SILENCE).await?);
    remove::clean(site, &mut journal)
}

/// Deletes the runner of the journal, if the server still has it; in words.
async fn take_off(
    site: &Site<'_>,
    client: &Client,
    registered: &Registered,
    silence: Duration,
) -> Result<String, Error> {
    let site = &site.until(site.deadline.within(silence), site.stop.clone());
    let name = &registered.name;
    let Some(runner) = ownership::ours(site, client, registered, silence).await? else {
        return Ok(format!("the server has no {name} of this machine any more"));
    };
    Ok(match delete(site, client, runner.id, silence).await? {
        Deletion::Deleted => format!("took {name} (id {}) off the server", runner.id),
        Deletion::AlreadyGone => format!("the server has no {name} (id {}) any more", runner.id),
    })
}

/// After the one job of an ephemeral runner: the server forgets it by itself, or is told to.
///
/// # Errors
/// The server may still have it.
pub(super) async fn forgotten(site: &Site<'_>) -> Result<(), Error> {
    let (_lock, mut journal) = site.open_journal("run").await?;
    let Some((_, registered)) = journal.registered() else { return Ok(()) };
    if let (Some(client), Some(id)) = (site.eyes(), registered.agent_id) {
        let registered = registered.clone();
        let phase = site.phase("forget");
        let mut looks = 0;
        let doing = "asking whether the runner is gone";
        let still = |found: &github::Runner| found.is_named(&registered.name);
        while site.within(doing, client.runner(id)).await?.as_ref().is_some_and(still) {
            looks += 1;
            if looks == LOOKS {
                take_off(site, client, &registered, SILENCE).await?;
                break;
            }
            tokio::time::sleep(BUSY_POLL.min(site.deadline.left())).await;
        }
        phase.end(format!("the server has no {} (id {id}) any more", registered.name));
    }
    remove::clean(site, &mut journal)
}

/// Before the server makes a new just-in-time runner: whatever an earlier run left of one goes.
///
/// # Errors
/// The server may still have it.
pub(super) async fn take_back(site: &Site<'_>, journal: &mut Journal) -> Result<(), Error> {
    let Some((_, registered)) = journal.registered() else { return Ok(()) };
    let registered = registered.clone();
    if look::is_copy(site, journal) {
        // The runner is the machine's that this disk was copied from.
        return remove::clean(site, journal);
    }
    check_same_server(site, &registered)?;
    tracing::info!("an earlier run has left {} to be taken off the server", registered.name);
    let Some(client) = site.eyes() else {
        return remove::deregister(site, journal, &registered).await;
    };
    take_off(site, client, &registered, site.deadline.left()).await?;
    remove::clean(site, journal)
}

fn check_same_server(site: &Site<'_>, registered: &Registered) -> Result<(), Error> {
    let same = site.request.target.as_ref().is_some_and(|target| target.is_same_as(&registered.url));
    if same {
        return Ok(());
    }
    Err(Error::ConfiguredOtherwise {
        dir: site.request.dir.clone(),
        found: format!("{} at {}", registered.name, registered.url),
        wanted: "a just-in-time runner elsewhere".into(),
    })
}

/// Deletes by id; a server that takes the runner for busy is asked again, one that does not answer for `silence` is not.
async fn delete(site: &Site<'_>, client: &Client, id: u64, silence: Duration) -> Result<Deletion, Error> {
    loop {
        let attempt = site.until(site.deadline.within(silence), site.stop.clone());
        match attempt.within("deleting the runner", client.delete(id)).await {
            Err(Error::Github(github::Error::Busy { .. })) if !site.deadline.passed() => {
                tokio::time::sleep(BUSY_POLL.min(site.deadline.left())).await;
            }
            other => return other,
        }
    }
}

/// The files that steer the next start, as they were before a job could change them.
pub(super) struct Snapshot([Option<Vec<u8>>; 2]);

impl Snapshot {
    /// Reads them.
    pub(super) fn take(dir: &Path) -> Self {
        Self(STEERING.map(|name| read_untrusted_in(dir, name, LIMIT).ok().flatten()))
    }
}

/// Cleans the tree for the next job: what the last one left running, its work folder, and what it changed of the files
/// that steer the next start. The logs stay.
///
/// # Errors
/// Something stays that the next job could see.
pub(super) async fn clean_tree(site: &Site<'_>, before: &Snapshot) -> Result<(), Error> {
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
        create_user::end_processes(site, &journal, &account).await?;
    }
    state::clean_identity(&dir)?;
    if journal.guard() != Guard::Open {
        // Whatever the job created at the top of the tree; the rest it could not change.
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

/// Empties the work folder. The folder is the jobs': one that lies right in the runner's folder can be deleted without
/// following anything; anywhere else, it is emptied by the runner's user, who can delete there what is its own.
async fn clean_work(site: &Site<'_>, work: &str) -> Result<(), Error> {
    let dir = site.dir();
    let path = dir.join(work);
    let parts: Vec<Component<'_>> = Path::new(work).components().collect();
    if let [Component::Normal(name)] = parts[..] {
        let ours = ["bin", "externals", state::LOG_DIR].iter().any(|folder| name == *folder);
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
