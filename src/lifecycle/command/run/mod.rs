//! `run`: converges, then supervises the listener in the foreground until it is told to end, ends, or has had its job.
//!
//! The lock of the journal is held only for changes, so that `status` and `remove` can work meanwhile. A lock of its
//! own marks this runner as supervised: a listener found without it is an orphan.

pub mod adrift;
pub mod busy;
pub mod clean;
pub mod exposure;
pub mod handed;
pub mod jit;
pub mod leave;
pub mod running;
pub mod supervise;
pub mod trouble;

use crate::deadline::{Deadline, Stop};
use crate::host::lock::Lock;
use crate::host::{self, Command};
use crate::lifecycle::command::limit::wait_for_limit;
use crate::lifecycle::command::run::leave::{deregister, give_up, leave, leaving, quit, warn};
use crate::lifecycle::command::run::running::{
    AfterJob, ExitReason, RunResult, RunnerSource, Running, Surroundings,
};
use crate::lifecycle::command::run::supervise::supervise;
use crate::lifecycle::command::run::trouble::{Ended, LOOK, Lost, Trouble, once_more};
use crate::lifecycle::command::{install, upgrade};
use crate::lifecycle::context::error::{Error, InstanceError, ListenerError, TreeError};
use crate::lifecycle::context::request::Request;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::{Act, Journal, Registered};
use crate::lifecycle::step::listener::{HOLD, end_orphan, hold, refuse_beside_service};
use crate::lifecycle::step::registration::deregister::Occasion;
use crate::lifecycle::step::user::room;
use crate::runner::{Guard, JitIdentity, LocalState, config_sh, listener, state, tree};
use crate::secret::Secret;
use crate::settings::Credentials;
use tokio_util::sync::CancellationToken;

/// Converges, and runs the runner. The request is consumed: its credentials are wiped as soon as they are no longer
/// needed, if jobs run as our own user.
///
/// # Errors
/// It did not converge; the listener cannot work; a job was cut short; the runner could not be deregistered.
pub async fn run(
    mut request: Request,
    running: &Running,
    surroundings: &Surroundings<'_>,
) -> Result<RunResult, Error> {
    let site = surroundings.site(&request)?;
    site.check_parents()?;
    crate::lifecycle::step::metadata::check(&site)?;
    let mut held = hold(&site, Deadline::after(HOLD)).await?;
    refuse_beside_service(&site).await?;
    end_orphan(&site).await?;
    let mut known = clean::Known::default();
    clean_after_a_cut(&site, running, &mut known).await?;
    let mut trouble = Trouble::recorded(&site)?;
    drop(site);
    let mut result = RunResult::begun(request.dir.clone());
    let mut lost = Lost::default();
    let mut dropped = false;
    loop {
        if dropped {
            request.credentials = (running.credential.read_again)()?;
            if running.handed().is_none() && !can_register(&request) {
                return Err(ListenerError::CredentialDropped { dir: result.dir }.into());
            }
        }
        let site = surroundings.site(&request)?;
        let config = match Box::pin(converge_patiently(&site, running, &mut held)).await {
            Err(Error::Instance(InstanceError::Leaving { .. })) => {
                return Ok(RunResult { reason: ExitReason::Removed, ..result });
            }
            config => config?,
        };
        // That may have waited for a rate limit for longer than the deadline.
        let site = afresh(&site);
        upgrade::start::before_start(&site).await;
        let before = known.snapshot(&site, running).await?;
        if running.after_job == AfterJob::Again {
            known.note(&site).await?;
        }
        let shared = exposure::is_shared(&site)?;
        if shared && !dropped {
            exposure::warn(&site, running);
        }
        drop(site);
        if shared && exposure::needed_for(running).is_empty() {
            // A job has the same rights as runup. Wiped here, with the client's copy.
            request.credentials = Credentials::default();
            dropped = true;
        }
        let site = surroundings.site(&request)?;
        let listener = config.as_ref().or_else(|| running.handed().map(JitIdentity::encoded));
        let mut jobs = 0;
        let ended = match note_use(&site).await {
            Ok(()) => Box::pin(supervise(&site, running, listener, &mut jobs, &mut trouble)).await,
            Err(error) => Err(error),
        };
        drop(config);
        result.jobs += jobs;
        // The deadline was for the way up to here.
        let site = afresh(&site);
        let Some(reason) = finish(&site, running, ended, jobs, &before, &mut lost, &mut result).await? else {
            continue;
        };
        result.reason = reason;
        return Ok(result);
    }
}

/// How the listener ended. After one that failed, this run ends too.
async fn or_leave(
    site: &Site<'_>,
    running: &Running,
    ended: Result<Ended, Error>,
    before: &clean::Snapshot,
    result: &mut RunResult,
) -> Result<Ended, Error> {
    match ended {
        // A listener that failed while it was told to end counts as told to end.
        Err(error) if site.stop.is_cancelled() => {
            warn(&error);
            Ok(Ended::Told { cut: false, until: None })
        }
        Err(error) => Err(give_up(site, running, error, before, result).await),
        ended => ended,
    }
}

/// Whether the registration is gone; leaves if that cannot be told.
async fn lost_or_leave(
    site: &Site<'_>,
    running: &Running,
    before: &clean::Snapshot,
    result: &mut RunResult,
) -> Result<bool, Error> {
    match is_lost(site).await {
        Err(error) => Err(give_up(site, running, error, before, result).await),
        lost => lost,
    }
}

/// Handles the listener's end: returns why `run` ends, or `None` for another round.
async fn finish(
    site: &Site<'_>,
    running: &Running,
    ended: Result<Ended, Error>,
    jobs: u32,
    before: &clean::Snapshot,
    lost: &mut Lost,
    result: &mut RunResult,
) -> Result<Option<ExitReason>, Error> {
    let ephemeral = clean::is_ephemeral(site);
    let ended = or_leave(site, running, ended, before, result).await?;
    match ended {
        Ended::Told { cut, until } => {
            quit(site, running, until, before, result).await?;
            if cut {
                Err(Error::Listener(ListenerError::CutShort { dir: result.dir.clone() }))
            } else {
                Ok(Some(ExitReason::Told))
            }
        }
        // Its job is over, whatever ended the listener afterwards.
        Ended::Itself | Ended::Deleted if ephemeral && jobs > 0 => {
            job_done(site, running, before, result).await
        }
        // The server told it that this runner does not exist any more.
        Ended::Itself if running.handed().is_some() => {
            handed::end(&leaving(site, running, None), before).await?;
            result.deregistered = true;
            Ok(Some(ExitReason::ListenerDone))
        }
        Ended::Itself | Ended::Deleted if site.is_being_removed()? => Ok(Some(ExitReason::Removed)),
        Ended::Itself if !lost_or_leave(site, running, before, result).await? => {
            if ephemeral {
                leave(site, running, before, result).await;
            }
            Ok(Some(ExitReason::ListenerDone))
        }
        Ended::Broken if site.stop.is_cancelled() => {
            leave(site, running, before, result).await;
            Ok(Some(ExitReason::Told))
        }
        Ended::Broken => match mend(site, lost).await {
            Ok(()) => Ok(None),
            Err(error) => Err(give_up(site, running, error, before, result).await),
        },
        lost_by @ (Ended::Itself | Ended::Deleted) => {
            if site.stop.is_cancelled() {
                leave(site, running, before, result).await;
                return Ok(Some(ExitReason::Told));
            }
            // A job can forge the listener's output: the server's answer counts if it can be asked.
            let asked = matches!(lost_by, Ended::Deleted) && site.eyes().is_some();
            let is_there = asked && !lost_or_leave(site, running, before, result).await?;
            if let Err(times) = once_more(&mut lost.deleted) {
                let error = ListenerError::DeletedAgain { dir: site.request.dir.clone(), times };
                return Err(give_up(site, running, error.into(), before, result).await);
            }
            if !is_there {
                tracing::warn!("the server has deleted the runner; registering it again");
                state::clean_identity(&site.dir())?;
            }
            Ok(None)
        }
    }
}

/// The one job of an ephemeral runner is over: the runner goes, and what it left.
async fn job_done(
    site: &Site<'_>,
    running: &Running,
    before: &clean::Snapshot,
    result: &mut RunResult,
) -> Result<Option<ExitReason>, Error> {
    let free = room::free(site);
    if running.handed().is_some() {
        handed::end(&leaving(site, running, None), before).await?;
    } else {
        deregister(&leaving(site, running, None), Occasion::JobDone).await?;
        // A signal that came during the job ends the run, but only after this.
        let site = leaving(site, running, None);
        if running.after_job == AfterJob::Again {
            clean::clean_tree(&site, before).await?;
            clean::note_clean(&site).await?;
            room::tell(&site, free).await;
        } else if clean::leave_tree(&site, before).await {
            clean::note_clean(&site).await?;
        }
    }
    result.deregistered = true;
    match running.after_job {
        AfterJob::Again if !site.stop.is_cancelled() => return Ok(None),
        AfterJob::PowerOff => power_off(&site.stop).await?,
        _ => {}
    }
    Ok(Some(ExitReason::JobDone))
}

/// Before another round, which puts a complete runner in the place of one whose own update was interrupted.
async fn mend(site: &Site<'_>, lost: &mut Lost) -> Result<(), Error> {
    if once_more(&mut lost.broken).is_err() {
        let missing = tree::inspect(&site.dir(), site.platform())?.lacks();
        return Err(TreeError::TreeIncomplete { dir: site.request.dir.clone(), missing }.into());
    }
    tracing::warn!("an update of the runner by itself was cut off; putting a complete one in its place");
    end_orphan(site).await
}

/// Whether the request has what a registration needs.
fn can_register(request: &Request) -> bool {
    request.credentials.api.is_some() || request.credentials.registration.is_some()
}

/// Converges. If the server's rate limit is used up, waits until it is lifted, if that is asked for; and for the
/// server to notice that a listener was killed during its job.
async fn converge_patiently(
    site: &Site<'_>,
    running: &Running,
    held: &mut Lock,
) -> Result<Option<Secret>, Error> {
    let mut idle = None;
    loop {
        let site = site.until(Deadline::after(site.request.deadline), site.stop.clone());
        match Box::pin(converge(&site, running)).await {
            Err(error) if busy::wait(&site, running, &error, &mut idle).await? => {}
            Err(error) if running.patient && wait_for_limit(&error, &site.stop, Some(&mut *held)).await => {}
            Err(_) if running.patient && site.stop.is_cancelled() => return Err(Error::Stopped),
            converged => return converged,
        }
    }
}

/// What `install` does, or its counterpart for a runner that the server creates; returns the latter's configuration.
async fn converge(site: &Site<'_>, running: &Running) -> Result<Option<Secret>, Error> {
    match &running.source {
        RunnerSource::Jit => return Box::pin(jit::converge(site)).await.map(Some),
        RunnerSource::JitConfig(identity) => Box::pin(handed::converge(site, identity)).await?,
        RunnerSource::ConfigSh => drop(install::install(site).await?),
    }
    Ok(None)
}

/// The same context with a new deadline: `run` has no time limit, its parts do.
pub(crate) fn afresh<'a>(site: &Site<'a>) -> Site<'a> {
    site.until(Deadline::after(site.request.deadline), site.stop.clone())
}

/// Whether the runner that ended by itself has no registration any more.
async fn is_lost(site: &Site<'_>) -> Result<bool, Error> {
    if !matches!(state::read(&site.dir())?, LocalState::Configured(_)) {
        return Ok(true);
    }
    let id = site.read_journal()?.registered().and_then(|(_, registered)| registered.agent_id);
    let site = afresh(site);
    let (Some(client), Some(id)) = (site.eyes(), id) else { return Ok(false) };
    Ok(site.within("asking for the runner", client.runner(id)).await?.is_none())
}

/// After a killed run, cleans up after its ephemeral runner: the next job must not meet what the last one left. Whether
/// there was a job is unknown; without a credential to re-register, the registration is left as it is.
async fn clean_after_a_cut(
    site: &Site<'_>,
    running: &Running,
    known: &mut clean::Known,
) -> Result<(), Error> {
    if clean::is_ephemeral(site) || !matches!(running.source, RunnerSource::ConfigSh) {
        clean::clean_after_earlier(site, running, known).await?;
    }
    let journal = site.read_journal()?;
    let asked = journal.registered().and_then(|(_, registered)| registered.asked.as_ref());
    let unused = journal.registered().is_some_and(|(_, registered)| registered.unused);
    if unused || journal.guard() != Guard::Locked || !asked.is_some_and(|asked| asked.ephemeral) {
        return Ok(());
    }
    if site.eyes().is_some() {
        clean::clean_tree(site, &known.snapshot(site, running).await?).await?;
    } else if let Some(account) = site.account()? {
        crate::lifecycle::step::user::end_processes(site, &journal, &account).await?;
    }
    Ok(())
}

/// Records that jobs may run in this runner's tree, before its listener starts.
async fn note_use(site: &Site<'_>) -> Result<(), Error> {
    let unused = |journal: &Journal| {
        journal.registered().map(|(_, registered)| registered).filter(|registered| registered.unused).cloned()
    };
    let journal = site.read_journal()?;
    if unused(&journal).is_none() && journal.used() == Some(site.work()) {
        return Ok(());
    }
    let (_lock, mut journal) = site.open_journal("run").await?;
    journal.set_used(Some(site.work()))?;
    if let Some(registered) = unused(&journal) {
        journal.done(Act::Register(Registered { unused: false, ..registered }))?;
    }
    Ok(())
}

async fn power_off(stop: &Stop) -> Result<(), Error> {
    tracing::info!("switching the machine off");
    let command = Command::new("systemctl").arg("poweroff").env("PATH", config_sh::PATH);
    let shown = command.render();
    command.run(stop, &mut |_, _| {}).await?.into_success(&shown)?;
    Ok(())
}

/// Waits until no job of the runner in `dir` runs on this machine. Any user can start a process of that name: only
/// those of the user `uid` count, if that is known.
///
/// # Errors
/// One still runs at the deadline, or a signal came.
pub async fn drain(
    dir: &std::path::Path,
    uid: Option<u32>,
    deadline: Deadline,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let workers = listener::workers(dir, uid);
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
            () = tokio::time::sleep(LOOK.min(deadline.left())) => {}
        }
    }
}
