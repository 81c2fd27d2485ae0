//! `run`: converge, then see to the listener in the foreground until it is told to end, has ended, or has had its job.
//!
//! The lock of the journal is held only while something is changed, so that `status` and `remove` can work meanwhile. A
//! lock of its own says that somebody sees to this runner: a listener that is found without it is nobody's.

use super::journal::Journal;
use super::notice::Notices;
use super::site::Site;
use super::supervise::{Ended, supervise};
use super::{Error, engine, jit, leave};
use crate::deadline::Deadline;
use crate::host::file::create_private_dir;
use crate::host::lock::{self, Lock};
use crate::host::process::{self, Which};
use crate::host::{self, Command, systemd};
use crate::net::Http;
use crate::runner::{LocalState, config_sh, listener, state, tree};
use crate::secret::Secret;
use serde::Serialize;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How long another `run` of the same runner gets to end.
const HOLD: Duration = Duration::from_secs(5);

/// How long a listener that outlived its supervisor gets to end.
const ORPHAN: Duration = Duration::from_secs(30);

/// So many times in [`LOST_WITHIN`] a deleted runner is registered again, or a broken one replaced.
const MOST_LOST: usize = 3;
const LOST_WITHIN: Duration = Duration::from_secs(600);

/// What `run` does besides what `install` does.
pub struct Running {
    /// Once told to end, so long a job that runs may go on.
    pub drain: Duration,
    /// Once told to end, the runner is taken off the server.
    pub remove_on_shutdown: bool,
    /// How long that may take, where the server answers and the machine stays.
    pub leaving: Duration,
    /// After the one job of an ephemeral runner.
    pub after_job: AfterJob,
    /// The server makes the runner, without `config.sh`.
    pub jit: bool,
    /// The second request to end: no draining.
    pub insist: CancellationToken,
    /// Who may announce that the machine is taken away, and the client that asks them.
    pub notices: Option<(Http, Notices)>,
}

/// What follows the one job of an ephemeral runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterJob {
    /// The end.
    Stop,
    /// The next registration, and the next job.
    Again,
    /// The machine is switched off.
    PowerOff,
}

/// How `run` ended.
#[derive(Debug, Clone, Serialize)]
pub struct Ran {
    /// The runner's folder.
    pub dir: std::path::PathBuf,
    /// How many jobs were taken.
    pub jobs: u32,
    /// Why it ended.
    pub because: Because,
    /// Whether the server has no runner of ours any more.
    pub deregistered: bool,
}

/// Why `run` ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Because {
    /// It was told to.
    Told,
    /// The one job is done.
    JobDone,
    /// The listener ended by itself.
    ListenerDone,
}

/// Converges, and runs the runner.
///
/// # Errors
/// It did not converge; the listener cannot work; a job was cut short; the runner could not be taken off the server.
pub async fn run(site: &Site<'_>, running: &Running) -> Result<Ran, Error> {
    site.check_parents()?;
    super::metadata::check(site)?;
    let _held = hold(site, Deadline::after(HOLD)).await?;
    refuse_beside_service(site).await?;
    end_orphan(site).await?;
    let ephemeral = site.request.registration.as_ref().is_some_and(|wanted| wanted.options.ephemeral);
    let mut ran = Ran { dir: site.request.dir.clone(), jobs: 0, because: Because::Told, deregistered: false };
    let (mut lost, mut broken) = (VecDeque::new(), VecDeque::new());
    loop {
        let config = converge(site, running).await?;
        let before = leave::Snapshot::take(&site.dir());
        let mut jobs = 0;
        let ended = supervise(&afresh(site), running, config.as_ref(), &mut jobs).await;
        drop(config);
        ran.jobs += jobs;
        let ended = match ended {
            // One that was told to end and failed at it has been told to end.
            Err(error) if !site.stop.is_cancelled() => {
                if running.remove_on_shutdown {
                    quit(site, running, None, before, &mut ran).await.unwrap_or_else(|error| warn(&error));
                }
                return Err(error);
            }
            Err(error) => {
                warn(&error);
                Ended::Told { cut: false, until: None }
            }
            Ok(ended) => ended,
        };
        match ended {
            Ended::Told { cut, until } => {
                if running.remove_on_shutdown {
                    quit(site, running, until, before, &mut ran).await?;
                }
                return if cut { Err(Error::CutShort { dir: ran.dir }) } else { Ok(ran) };
            }
            Ended::Itself if ephemeral && jobs > 0 => {
                leave::forgotten(&leaving(site, running, None)).await?;
                leave::clean_tree(site, &before).await?;
                ran.deregistered = true;
                ran.because = Because::JobDone;
                match running.after_job {
                    AfterJob::Again if !site.stop.is_cancelled() => continue,
                    AfterJob::PowerOff => power_off(&site.stop).await?,
                    _ => {}
                }
                return Ok(ran);
            }
            Ended::Itself if !is_lost(site).await? => {
                ran.because = Because::ListenerDone;
                return Ok(ran);
            }
            Ended::Broken => {
                if site.stop.is_cancelled() {
                    return Ok(ran);
                }
                if once_more(&mut broken).is_err() {
                    let missing = tree::inspect(&site.dir(), site.platform())?.lacks();
                    return Err(Error::TreeIncomplete { dir: ran.dir, missing });
                }
                tracing::warn!(
                    "an update of the runner by itself was cut off; putting a complete one in its place"
                );
                end_orphan(site).await?;
            }
            Ended::Itself | Ended::Deleted => {
                if site.stop.is_cancelled() {
                    return Ok(ran);
                }
                if let Err(times) = once_more(&mut lost) {
                    return Err(Error::DeletedAgain { dir: ran.dir, times });
                }
                tracing::warn!("the server has deleted the runner behind our back; registering it again");
                state::clean_identity(&site.dir())?;
            }
        }
    }
}

/// Whether something may be put right once more; if it was too often lately, how often.
fn once_more(times: &mut VecDeque<Instant>) -> Result<(), usize> {
    let now = Instant::now();
    times.retain(|then| now.duration_since(*then) < LOST_WITHIN);
    if times.len() >= MOST_LOST {
        return Err(times.len());
    }
    times.push_back(now);
    Ok(())
}

/// What `install` does, or its counterpart for a runner that the server makes; the latter's configuration.
async fn converge(site: &Site<'_>, running: &Running) -> Result<Option<Secret>, Error> {
    let site = afresh(site);
    if running.jit {
        return jit::converge(&site).await.map(Some);
    }
    engine::install(&site).await?;
    Ok(None)
}

/// The same place of work with its deadline begun anew: `run` lasts, its parts do not.
pub(super) fn afresh<'a>(site: &Site<'a>) -> Site<'a> {
    site.until(Deadline::after(site.request.deadline), site.stop.clone())
}

/// For what has to be done although there was a signal.
fn leaving<'a>(site: &Site<'a>, running: &Running, until: Option<Deadline>) -> Site<'a> {
    let patience = until.map_or(running.leaving, |until| running.leaving.min(until.left()));
    site.until(Deadline::after(patience), CancellationToken::new())
}

/// Takes the runner off the server, and out of its folder.
async fn quit(
    site: &Site<'_>,
    running: &Running,
    until: Option<Deadline>,
    before: leave::Snapshot,
    ran: &mut Ran,
) -> Result<(), Error> {
    let site = leaving(site, running, until);
    leave::deregister(&site).await.inspect_err(|_| {
        tracing::warn!(
            "the server may still have the runner; the journal knows it, and the next run finishes this"
        );
    })?;
    ran.deregistered = true;
    leave::clean_tree(&site, &before).await
}

/// Whether the runner that ended by itself has no registration any more.
async fn is_lost(site: &Site<'_>) -> Result<bool, Error> {
    let LocalState::Configured(file) = state::read(&site.dir())? else { return Ok(true) };
    let Some(client) = site.eyes() else { return Ok(false) };
    let site = afresh(site);
    Ok(site.within("asking for the runner", client.runner(file.agent_id)).await?.is_none())
}

/// The lock that says that somebody sees to this runner.
async fn hold(site: &Site<'_>, deadline: Deadline) -> Result<Lock, Error> {
    let state = site.request.root.join(&site.request.state);
    create_private_dir(&state)?;
    let path = Journal::run_lock_for(&state, &site.request.dir);
    Ok(lock::acquire(&path, "run", deadline, &site.stop).await?)
}

/// Refuses to run a runner that a service of ours runs as well, unless we are that service: the server knows one session.
async fn refuse_beside_service(site: &Site<'_>) -> Result<(), Error> {
    let journal = site.read_journal()?;
    let Some(unit) = journal.unit().filter(|_| site.request.root.is_host() && systemd::is_running()) else {
        return Ok(());
    };
    if systemd::are_in(unit) || !systemd::show(unit, &site.stop).await?.runs() {
        return Ok(());
    }
    let (dir, unit) = (site.request.dir.clone(), unit.to_owned());
    Err(Error::ServiceThere { dir, unit, asked: "`runup run`" })
}

/// Ends a listener whose supervisor was killed, before anything is done to its runner.
async fn end_orphan(site: &Site<'_>) -> Result<(), Error> {
    let orphan = Which::MarkedBy {
        uid: None,
        key: listener::MARKER.to_owned(),
        value: site.dir().display().to_string(),
    };
    let pids = orphan.find();
    if pids.is_empty() {
        return Ok(());
    }
    tracing::warn!("ending a listener that outlived the run that had started it (process {pids:?})");
    process::end(&orphan, process::Ask::Interrupt, Deadline::after(ORPHAN)).await?;
    Ok(())
}

/// For `remove`: nobody sees to this runner, and no listener of a `run` that was killed is left.
pub(super) async fn end_if_orphaned(site: &Site<'_>) -> Result<(), Error> {
    let _held = hold(site, Deadline::after(HOLD).within(site.deadline.left())).await?;
    end_orphan(site).await
}

async fn power_off(stop: &CancellationToken) -> Result<(), Error> {
    tracing::info!("switching the machine off");
    let command = Command::new("systemctl").arg("poweroff").env("PATH", config_sh::PATH);
    let shown = command.render();
    command.run(stop, &mut |_, _| {}).await?.into_success(&shown)?;
    Ok(())
}

fn warn(error: &Error) {
    tracing::warn!("{}", crate::error::chain(error));
}

/// Waits until no job of the runner in `dir` runs on this machine.
///
/// # Errors
/// One still runs at the deadline, or a signal came.
pub async fn drain(dir: &std::path::Path, deadline: Deadline, stop: &CancellationToken) -> Result<(), Error> {
    let workers = listener::workers(dir);
    loop {
        let pids = workers.find();
        if pids.is_empty() {
            return Ok(());
        }
        if deadline.passed() {
            let what = workers.to_string();
            return Err(host::Error::StillRunning { what, pids, total: deadline.total() }.into());
        }
        tokio::select! {
            () = stop.cancelled() => return Err(Error::Stopped),
            () = tokio::time::sleep(super::supervise::LOOK.min(deadline.left())) => {}
        }
    }
}
