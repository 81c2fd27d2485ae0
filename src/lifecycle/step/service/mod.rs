//! The steps `WriteService` and `StartService`: a unit of ours that runs, and whose runner the server sees online.

pub mod by_hand;
pub mod decide;
mod needrestart;
mod shared;
pub mod target;
pub mod upgrades;

use crate::deadline::{Deadline, Stop};
use crate::github::{Client, Runner, RunnerStatus};
use crate::host::account::Account;
use crate::host::{Command, file, systemd};
use crate::lifecycle::context::error::{Error, ServiceError};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::{Act, EntryState, Journal, Step};
use crate::lifecycle::state::limit;
use crate::lifecycle::state::observed::Seen;
use crate::lifecycle::state::plan::Plan;
use crate::lifecycle::state::service::{Extra, SeenService, UnitOwner, unit_owner, unit_path};
use crate::lifecycle::step::recorded::{self, Begin};
use crate::runner::{Guard, LocalState, listener, state};
use sha2::{Digest as _, Sha256};
use std::path::Path;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a service may take until the server sees its runner.
const ONLINE: Duration = Duration::from_secs(180);
/// How often the unit is checked.
const POLL: Duration = Duration::from_millis(500);
/// When the server is asked first, and the longest pause until it is asked again.
const FIRST_LOOK: Duration = Duration::from_millis(1500);
const LAST_LOOK: Duration = Duration::from_secs(15);
/// After this many restarts by systemd, a unit does not stay up.
const RESTARTS: u32 = 3;
/// How long a unit must stay up if the server cannot be asked.
const STEADY: Duration = Duration::from_secs(5);
/// The most that the runner takes to cancel a job, and systemd to stop what is left.
const CANCEL: Duration = Duration::from_secs(90);

/// The service as an earlier run left it.
#[derive(Debug, Clone)]
pub struct Before {
    /// Whether it was completely set up.
    pub there: bool,
    /// The unit, if it was running.
    ran: Option<String>,
}

impl Before {
    /// Observes what is known of it before anything is done.
    #[must_use]
    pub fn look(journal: &Journal, seen: &Seen) -> Self {
        let ran = seen.service.as_ref().filter(|service| service.state.runs());
        Self { there: is_done(journal, Step::StartService), ran: ran.map(|service| service.unit.clone()) }
    }

    /// Whether it was running.
    #[must_use]
    pub fn ran(&self) -> bool {
        self.ran.is_some()
    }

    /// Starts it again after a run that had to stop it and has failed: the earlier runner works as before, unless that
    /// run has already deregistered it.
    pub async fn resume(&self, site: &Site<'_>, journal: &Journal) {
        let Some(unit) = self.ran.as_ref().filter(|_| self.there && is_done(journal, Step::StartService))
        else {
            return;
        };
        let registered = matches!(state::read(&site.dir()), Ok(LocalState::Configured(_)));
        // Neither the signal nor the deadline that ended the run is a reason to leave it off.
        let stop = Stop::never();
        if !(site.request.registers_by_itself() || registered) {
            tracing::warn!("{unit} stays off, for its runner is not registered any more: run install again");
            return;
        }
        match systemd::enable_and_restart(unit, &stop).await {
            Ok(()) => tracing::info!("{unit} is started again, as it was"),
            Err(error) => tracing::warn!("{unit} stays off: {}", crate::error::chain(&error)),
        }
    }
}

fn is_done(journal: &Journal, step: Step) -> bool {
    journal.entry(step).is_some_and(|entry| entry.state == EntryState::Done)
}

/// A unit that existed before is not this run's work, which must not remove it when it fails.
fn how(journal: &Journal, step: Step) -> Begin {
    if is_done(journal, step) { Begin::Over } else { Begin::New }
}

/// Applies the step `WriteService`.
///
/// # Errors
/// The unit or the runner's `.service` cannot be written.
pub async fn write(
    site: &Site<'_>,
    journal: &mut Journal,
    service: &SeenService,
    account: &Account,
) -> Result<(), Error> {
    let phase = site.phase("unit");
    let sha256 = hex::encode(Sha256::digest(service.wanted.as_bytes()));
    let digest = |text: &String| hex::encode(Sha256::digest(text.as_bytes()));
    let upgrades = match &service.upgrades {
        [Extra { wanted: Some(service), .. }, Extra { wanted: Some(timer), .. }] => {
            Some([digest(service), digest(timer)])
        }
        _ => None,
    };
    let act = Act::WriteService { unit: service.unit.clone(), sha256, upgrades };
    let path = unit_path(site, &service.unit);
    let begin = how(journal, Step::WriteService);
    recorded::take(journal, act, begin, async |journal, _| {
        write_units(site, journal, service, account, &path).await
    })
    .await?;
    phase.end(format!("wrote {}", path.display()));
    Ok(())
}

async fn write_units(
    site: &Site<'_>,
    journal: &Journal,
    service: &SeenService,
    account: &Account,
    path: &Path,
) -> Result<(), Error> {
    file::write_atomic(path, service.wanted.as_bytes(), 0o644)?;
    systemd::relabel(path, &site.stop).await;
    upgrades::write(site, service).await?;
    // Moved there from a download, it has kept the label of its origin, and systemd may not start it.
    if let Some(wanted) = &site.request.service {
        systemd::relabel(&wanted.program, &site.stop).await;
    }
    // `config.sh remove` refuses while `.service` exists, and a service that deregisters by itself needs it to work.
    if !site.request.registers_by_itself() {
        write_dot_service(site, journal, &service.unit, account).await?;
    }
    shared::write(site).await?;
    systemd::reload(&site.stop).await?;
    if service.is_written() && service.state.is_enabled() {
        // It is not restarted for a target that it belongs to now, and so not enabled again either.
        systemd::enable(&service.unit, &site.stop).await?;
    }
    upgrades::enable(site, service).await
}

/// Upstream's tools read the unit's name from `.service`. The runner's user can write the directory, so that user
/// writes it: root would follow what a job has put in its place.
async fn write_dot_service(
    site: &Site<'_>,
    journal: &Journal,
    unit: &str,
    account: &Account,
) -> Result<(), Error> {
    if journal.guard() != Guard::Open {
        // Replaces the file that its user may have created there; no link is followed.
        state::clean_service(&site.dir())?;
        return Ok(file::write_atomic(&site.dir().join(".service"), format!("{unit}\n").as_bytes(), 0o644)?);
    }
    let command = Command::new("/bin/sh")
        .arg("-c")
        .arg("rm -f .service && printf '%s\\n' \"$1\" > .service")
        .arg("sh")
        .arg(unit)
        .cwd(site.dir())
        .account(account)
        .groups_of(&site.request.root)
        .env("PATH", "/usr/bin:/bin")
        .deadline(site.deadline.within(Duration::from_secs(20)));
    let rendered = command.render();
    command.run(&site.stop, &mut |_, _| {}).await?.into_success(&rendered)?;
    Ok(())
}

/// Applies the step `StartService`. Whether the service comes up is checked by [`wait_until_online`].
///
/// # Errors
/// systemd refuses.
pub async fn start(site: &Site<'_>, journal: &mut Journal, service: &SeenService) -> Result<(), Error> {
    let act = Act::StartService { unit: service.unit.clone() };
    let begin = how(journal, Step::StartService);
    recorded::take(journal, act, begin, async |_, _| {
        Ok(systemd::enable_and_restart(&service.unit, &site.stop).await?)
    })
    .await
}

/// Records as done what an interrupted run had begun, if it stands.
///
/// # Errors
/// The journal cannot be written.
pub(crate) fn settle(journal: &mut Journal, plan: &Plan) -> Result<(), Error> {
    for step in [Step::WriteService, Step::StartService] {
        let stands = plan.steps.iter().any(|planned| planned.step == step && planned.stands());
        let begun = journal.entry(step).filter(|entry| stands && entry.state == EntryState::Begun);
        if let Some(act) = begun.map(|entry| entry.act.clone()) {
            journal.done(act)?;
        }
    }
    Ok(())
}

/// Waits until the server sees the runner of a service that was `started` just now, or ran already; returns what it
/// says, if it could be asked. The journal is not touched, and its lock must not be held: a service that registers by
/// itself needs it.
///
/// # Errors
/// The service does not stay up, or the server does not see its runner.
pub async fn wait_until_online(
    site: &Site<'_>,
    journal: &Journal,
    seen: &Seen,
    started: bool,
) -> Result<Option<String>, Error> {
    let phase = site.phase("start");
    let service = seen.service.as_ref().expect("a plan with this step has a service");
    let unit = service.unit.as_str();
    // Starting it has reset the count to zero.
    let restarts = if started { 0 } else { service.state.restarts };
    let online = wait(site, journal, unit, restarts + RESTARTS, None).await?;
    phase.end(match &online {
        Some(status) => format!("{unit} runs, and the server says {status}"),
        None => format!("{unit} runs; whether the server sees it takes a token to ask"),
    });
    Ok(online)
}

/// Waits until the unit is up, and the server, if it can be asked, sees its runner: of this version, if one is set and
/// the server tells it. Fails once systemd has restarted the unit `most` times in all.
///
/// # Errors
/// The unit does not stay up, or the server does not see the runner.
pub(crate) async fn wait(
    site: &Site<'_>,
    journal: &Journal,
    unit: &str,
    most: u32,
    version: Option<&str>,
) -> Result<Option<String>, Error> {
    let mut deadline = Deadline::after(ONLINE.min(site.deadline.left()));
    let mut steady = Deadline::after(STEADY);
    // Many machines may boot at once, and all share one rate limit: the unit is checked often, the server seldom.
    let mut pause = FIRST_LOOK;
    let mut look = Deadline::after(pause);
    loop {
        site.check("waiting for the service")?;
        if let Some(until) = limit::waits_until(site) {
            return Err(ServiceError::LimitReached { unit: unit.to_owned(), until }.into());
        }
        let state = systemd::show(unit, &site.stop).await?;
        if state.job {
            // The restart has not happened yet: the unit's state and the server's answer are still those of the old
            // process, which may be waiting for its job.
            deadline = Deadline::after(ONLINE.min(site.deadline.left()));
            steady = Deadline::after(STEADY);
            look = Deadline::after(pause);
        } else if !state.runs() || state.restarts >= most {
            let tail = systemd::log_tail(unit, &site.stop).await;
            let state = format!("{}, {}, restarted {} times", state.active, state.result, state.restarts);
            return Err(ServiceError::ServiceFailed { unit: unit.to_owned(), state, tail }.into());
        } else if let (Some(client), Some((_, registered))) = (site.eyes(), journal.registered()) {
            if look.passed() {
                pause = (pause * 2).min(LAST_LOOK);
                look = Deadline::after(pause);
                let left = deadline.left();
                if let Some(status) = online(site, client, unit, &registered.name, version).await? {
                    return Ok(Some(status));
                }
                // While the server does not answer, the service cannot come online either.
                deadline = Deadline::after(left);
            }
            if deadline.passed() {
                let (unit, name, after) = (unit.to_owned(), registered.name.clone(), ONLINE);
                let tail = systemd::log_tail(&unit, &site.stop).await;
                return Err(ServiceError::NotOnline { unit, name, after, tail }.into());
            }
        } else if let Some(version) = version
            && !deadline.passed()
            && let Some(listens) = listens(unit, version, &site.stop).await
        {
            // The unit's state does not show its listener, which may fail again and again; its log does.
            if listens && state.is_up() {
                return Ok(None);
            }
        } else if steady.passed() && state.is_up() {
            // One that is ending is about to be restarted by systemd, or to fail.
            return Ok(None);
        }
        tokio::select! {
            () = site.stop.cancelled() => return Err(Error::Stopped),
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

/// What the server says of the runner, once it is online.
async fn online(
    site: &Site<'_>,
    client: &Client,
    unit: &str,
    name: &str,
    version: Option<&str>,
) -> Result<Option<String>, Error> {
    let until = site.deadline.within(ONLINE);
    let client = client.clone().until(until);
    // By its name: a service that registers by itself may have another id by now.
    let asked = site.within("waiting for the runner to be online", client.runner_named(name)).await;
    let runner = match asked {
        Err(error) => match limit::asked(&error).map(limit::end) {
            Some(until) => {
                return Err(ServiceError::LimitReached { unit: unit.to_owned(), until }.into());
            }
            None if until.passed() && !site.deadline.passed() && !error.is_stop() => None,
            None => return Err(error),
        },
        Ok(runner) => runner,
    };
    // What the server says of the earlier runner is not about this one.
    let same = |runner: &Runner| {
        version.is_none_or(|version| runner.version.as_deref().is_none_or(|told| told == version))
    };
    let runner = runner.filter(|one| one.status == RunnerStatus::Online && same(one));
    Ok(runner.map(|runner| runner.status.to_string()))
}

/// Whether the unit's log ends with a connected listener of this version; `None` if there is no log to read.
async fn listens(unit: &str, version: &str, stop: &CancellationToken) -> Option<bool> {
    let tail = systemd::log_tail(unit, stop).await;
    if tail.trim().is_empty() {
        return None;
    }
    let begins = format!("Current runner version: '{version}'");
    Some(tail.rsplit_once(&begins).is_some_and(|(_, rest)| rest.contains("Listening for Jobs")))
}

/// Stops a service that runs with a registration that is about to be replaced.
///
/// # Errors
/// It does not stop.
pub async fn quiet(site: &Site<'_>, seen: &Seen) -> Result<(), Error> {
    if let Some(service) = seen.service.as_ref().filter(|service| service.state.runs()) {
        stop(site, &service.unit, Duration::ZERO).await?;
    }
    Ok(())
}

/// Stops the unit: waits `drain` for a running job, then lets the runner cancel it.
async fn stop(site: &Site<'_>, unit: &str, drain: Duration) -> Result<(), Error> {
    let worker = listener::workers(&site.dir(), site.runner_uid());
    // Canceling takes time as well.
    let left = site.deadline.left();
    let drained = Deadline::after(drain.min(left.saturating_sub(CANCEL.min(left / 4))));
    let running = || !worker.find().is_empty();
    while running() && !drained.passed() {
        tokio::select! {
            () = site.stop.cancelled() => return Err(Error::Stopped),
            () = tokio::time::sleep(POLL) => {}
        }
    }
    if running() {
        // The unit's own stop would wait for the job: told to end now, the runner cancels it, and the wait is over.
        systemd::begin_to_stop(unit, &site.stop).await?;
        systemd::terminate(unit, &site.stop).await?;
    }
    Ok(systemd::stop_unit(unit, CANCEL.min(site.deadline.left()), &site.stop).await?)
}

/// Stops the service of the journal, if it runs this runner, and leaves everything else to [`undo_start`]. The journal's lock must not be
/// held: a service that deregisters by itself needs it.
///
/// # Errors
/// It does not stop.
pub async fn stop_without_lock(site: &Site<'_>, journal: &Journal, drain: Duration) -> Result<(), Error> {
    if !systemd::is_running() || !site.request.root.is_host() {
        return Ok(());
    }
    if let Some(unit) = journal.unit()
        && systemd::show(unit, &site.stop).await?.runs()
        && (unit_owner(site, unit)? != UnitOwner::Operator || has_listener(site, unit))
    {
        upgrades::stop(site, unit).await?;
        stop(site, unit, drain).await?;
    }
    Ok(())
}

/// Whether the unit runs this runner, whatever its file says by now: systemd may not have read that yet.
fn has_listener(site: &Site<'_>, unit: &str) -> bool {
    let pids = listener::listeners(&site.dir(), site.runner_uid()).find();
    pids.into_iter().any(|pid| systemd::is_in(pid, unit))
}

/// Undoes the step `StartService`; returns whose the unit is. An operator's own one is left alone.
///
/// # Errors
/// The service does not stop.
pub async fn undo_start(site: &Site<'_>, journal: &mut Journal, drain: Duration) -> Result<UnitOwner, Error> {
    recorded::undo(journal, Step::StartService, async |journal| {
        let Some(unit) = journal.unit() else { return Ok(UnitOwner::Runup) };
        let owner = unit_owner(site, unit)?;
        if systemd::is_running() && site.request.root.is_host() {
            upgrades::disable(site, unit).await?;
            let known = systemd::show(unit, &site.stop).await?;
            if known.exists() && owner != UnitOwner::Operator {
                stop(site, unit, drain).await?;
                systemd::disable(unit, &site.stop).await?;
            }
        }
        Ok(owner)
    })
    .await
}

/// Undoes the step `WriteService`; returns whose the unit is. Only runup's own is deleted.
///
/// # Errors
/// The unit's file stays.
pub async fn undo_write(site: &Site<'_>, journal: &mut Journal) -> Result<UnitOwner, Error> {
    let owner = recorded::undo(journal, Step::WriteService, async |journal| {
        let mut owner = UnitOwner::Runup;
        if let Some(unit) = journal.unit() {
            owner = unit_owner(site, unit)?;
            if owner == UnitOwner::Runup {
                file::remove_written(&unit_path(site, unit))?;
            }
            upgrades::delete(site, unit)?;
            shared::delete_with_the_last(site, journal).await?;
            let dropins = unit_path(site, &format!("{unit}.d"));
            if dropins.is_dir() {
                tracing::info!("{} stays: runup did not write what is in it", dropins.display());
            }
            if systemd::is_running() && site.request.root.is_host() {
                systemd::reload(&site.stop).await?;
                systemd::reset_failed(unit, &site.stop).await;
            }
        }
        state::clean_service(&site.dir())?;
        Ok(owner)
    })
    .await?;
    shared::delete_with_the_last(site, journal).await?;
    Ok(owner)
}
