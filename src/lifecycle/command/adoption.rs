//! `install --adopt`: takes over a runner that was set up by hand, as in GitHub's documentation.
//!
//! It is identified first (see [`examine`]), and what follows is checked as for every installation. Then the journal says
//! that the adoption has begun, the runner's own service ends in an idle moment, and the runner is converted like one of
//! an older runup: a verified tree, and a registration in the place of the one that jobs could change. At the end, the
//! unit of `svc.sh` is deleted. Until the server has given the registration to the new tree, any failure starts the old
//! service again, and the journal forgets the runner.

use crate::deadline::{Deadline, Stop};
use crate::host::lock::Lock;
use crate::host::systemd;
use crate::lifecycle::command::adopt::note_service;
use crate::lifecycle::command::convert;
use crate::lifecycle::command::install::{self, Installed, decide, make_ready, prepare, report};
use crate::lifecycle::command::upgrade::conclude::STOP;
use crate::lifecycle::command::upgrade::idle::Watched;
use crate::lifecycle::context::error::{AdoptionError, Error, ListenerError, ServiceError, TrustError};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::by_hand;
use crate::lifecycle::state::checkpoint::{Checkpoint, reach};
use crate::lifecycle::state::journal::{Act, EntryState, Journal, Registered, Step};
use crate::lifecycle::state::observed::Seen;
use crate::lifecycle::state::plan::{Change, Plan, Planned};
use crate::lifecycle::step::adoption::{Found, check_offline, examine};
use crate::lifecycle::step::precheck::Prepared;
use crate::lifecycle::step::registration::deregister::Occasion;
use crate::lifecycle::step::user::release;
use crate::lifecycle::step::{metadata, sequence, service};
use crate::runner::listener;
use std::fmt::Write as _;
use std::time::Duration;

/// What a new service gets to end at least, so that the old one can run again.
const ENDING: Duration = Duration::from_secs(30);

/// Converges this machine to what is requested, and takes over a runner that was set up by hand, if that is requested
/// or an earlier run has begun it.
///
/// # Errors
/// As for `install::install`. Unless the error says so, a runner that was to be adopted runs as before.
pub async fn install(site: &Site<'_>) -> Result<Installed, Error> {
    if is_adoption(site, &site.read_journal()?)? {
        Box::pin(adopt(site)).await
    } else {
        install::install(site).await
    }
}

/// What `install` would do, without doing any of it.
///
/// # Errors
/// What is there contradicts what was requested, as `install` would say.
pub async fn plan(site: &Site<'_>) -> Result<(Plan, Seen), Error> {
    let journal = site.read_journal()?;
    if !is_adoption(site, &journal)? {
        return install::plan(site).await;
    }
    check_place(site)?;
    let found = examine(site, &journal).await?;
    let site = &found.site(site);
    let (plan, seen) = decide(site, &journal.supposing(&found.record(site, &journal)?)).await?;
    Prepared::default().look(site, &plan, &seen).await?;
    Ok((shown(plan, &found), seen))
}

/// Whether a runner has to be taken over. One that was taken over before is not found again.
fn is_adoption(site: &Site<'_>, journal: &Journal) -> Result<bool, Error> {
    if journal.adopts() {
        return Ok(true);
    }
    let known = journal.registered().is_some();
    let by_hand = by_hand::find(site, journal)?;
    if site.request.adopt {
        return Ok(!known || by_hand.is_some());
    }
    match by_hand {
        // Two services would fight for the runner's session.
        Some(found) if known && site.request.service.is_some() => {
            let (dir, unit) = (site.request.dir.clone(), found.unit);
            Err(ServiceError::ServiceBeside { dir, unit }.into())
        }
        _ => Ok(false),
    }
}

/// Root takes over nothing that another user could swap.
fn check_place(site: &Site<'_>) -> Result<(), Error> {
    site.check_parents().map_err(|error| match error {
        Error::Trust(TrustError::UnsafeParent { directory, owner }) => {
            AdoptionError::NotForRoot { dir: site.request.dir.clone(), directory, owner }.into()
        }
        other => other,
    })
}

/// The plan with its first line.
fn shown(mut plan: Plan, found: &Found) -> Plan {
    let (name, id) = (&found.name, found.id);
    let mut detail = match &found.service {
        Some(service) => {
            format!("take over {name} (id {id}), and delete {} once it is replaced", service.unit)
        }
        None => format!("take over {name} (id {id})"),
    };
    if !found.settings.is_empty() {
        let _ = write!(detail, "; jobs keep {}, which they could have written", found.settings.join(", "));
    }
    plan.steps.insert(0, Planned::to_do(Step::Adopt, Change::Adopt, detail));
    plan
}

async fn adopt(site: &Site<'_>) -> Result<Installed, Error> {
    let site = &site.at_work();
    if site.request.service.is_some() {
        metadata::check(site)?;
    }
    check_place(site)?;
    let (lock, mut journal) = prepare(site, "install").await?;
    sequence::recover(site, &mut journal).await?;
    if journal.unit().is_some() {
        // An earlier run was cut off with both services there, and the new one is the right one.
        note_service(site, &mut journal).await?;
        service::by_hand::undo(site, &mut journal, Duration::ZERO).await?;
        drop(lock);
        return install::install(site).await;
    }
    let found = examine(site, &journal).await?;
    let site = &found.site(site);
    let what = found.record(site, &journal)?;
    // Everything that can be refused is refused while the runner runs.
    let (plan, seen) = decide(site, &journal.supposing(&what)).await?;
    let prepared = Prepared::default().check(site, &plan, &seen).await?;

    if !found.settings.is_empty() {
        tracing::warn!(
            "the jobs of {} keep {} of its .env and .path, which they could have written: look at these in {}",
            found.name,
            found.settings.join(", "),
            site.request.dir.display()
        );
    }
    let before = journal.clone();
    journal.take_in(&what)?;
    reach(Checkpoint::AdoptBegun);
    Box::pin(exchange(site, (lock, journal), &before, &found, prepared)).await
}

/// Puts the new runner and its service in the place of those that were there; `before` is what the journal said before.
async fn exchange(
    site: &Site<'_>,
    (lock, mut journal): (Lock, Journal),
    before: &Journal,
    found: &Found,
    prepared: Prepared,
) -> Result<Installed, Error> {
    if let Err(cause) = stop(site, &mut journal, found).await {
        return Err(resume(site, &mut journal, before, found, cause).await);
    }
    reach(Checkpoint::AdoptStopped);
    let then = journal.clone();
    let (plan, seen, result) = match decide(site, &journal).await {
        Ok((mut plan, mut seen)) => {
            let result = converge(site, &mut journal, &mut plan, &mut seen, prepared).await;
            (plan, seen, result)
        }
        Err(cause) => return Err(resume(site, &mut journal, before, found, cause).await),
    };
    let status = match result {
        Ok(status) => status,
        Err(cause) => {
            return Err(failed(site, &mut journal, (before, &then), found, (&plan, &seen), cause).await);
        }
    };
    // What starts the service looks into the journal.
    drop(lock);
    let mut online = None;
    if plan.takes(Step::StartService) {
        online = match service::wait_until_online(site, &journal, &seen, plan.starts_service()).await {
            Ok(online) => online,
            Err(cause) => {
                let (_lock, mut journal) = site.open_journal("install").await?;
                return Err(failed(site, &mut journal, (before, &then), found, (&plan, &seen), cause).await);
            }
        };
    }
    let (_lock, mut journal) = site.open_journal("install").await?;
    service::by_hand::undo(site, &mut journal, Duration::ZERO).await?;
    Ok(report(site, &journal, shown(plan, found), seen, online.or(status)).await)
}

async fn converge(
    site: &Site<'_>,
    journal: &mut Journal,
    plan: &mut Plan,
    seen: &mut Seen,
    prepared: Prepared,
) -> Result<Option<String>, Error> {
    // A job may have taken so long that the link to the archive has expired.
    let prepared = Prepared { choice: None, ..prepared }.check(site, plan, seen).await?;
    make_ready(site, journal, plan, seen).await?;
    sequence::take(site, journal, plan, seen, prepared).await
}

/// Ends the runner's own service between two jobs. A job that runs gets the time of `--drain`.
async fn stop(site: &Site<'_>, journal: &mut Journal, found: &Found) -> Result<(), Error> {
    if let Some(service) = found.service.as_ref().filter(|_| site.request.root.is_host()) {
        let unit = &service.unit;
        service::by_hand::end_all_of_it(site, unit).await?;
        if let Some(watched) = Watched::of(site, journal)?.filter(Watched::is_listening) {
            let drain = site.request.service.as_ref().map_or(Duration::ZERO, |service| service.drain);
            let until = Deadline::after(drain.min(site.deadline.left()));
            let frozen = watched.wait(site, Some(until)).await.map_err(not_idle)?;
            frozen.interrupt();
            watched.gone().await;
        }
        let phase = site.phase("stop");
        // Its job may have taken longer than the deadline.
        let stop = site.stop.clone().until(Deadline::after(STOP));
        systemd::stop_unit(unit, STOP, &stop).await?;
        phase.end(format!("stopped {unit}"));
        let left = listener::listeners(&site.dir(), site.runner_uid());
        if !left.find().is_empty() {
            return Err(ServiceError::ListenerByHand { dir: site.request.dir.clone() }.into());
        }
    }
    check_offline(site, found).await?;
    if let Some((EntryState::Done, registered)) = journal.registered() {
        journal.done(Act::Register(Registered { confirmed: true, ..registered.clone() }))?;
    }
    Ok(())
}

fn not_idle(error: Error) -> Error {
    match error {
        Error::Listener(ListenerError::NotIdle { dir, after }) => ServiceError::NotIdle { dir, after }.into(),
        other => other,
    }
}

/// Lets the runner run as before, of which the journal says what it said before.
async fn resume(
    site: &Site<'_>,
    journal: &mut Journal,
    before: &Journal,
    found: &Found,
    cause: Error,
) -> Error {
    // Neither the signal nor the deadline that ended the run is a reason to leave it off.
    let site = &site.until(Deadline::after(ENDING), Stop::never());
    let mut left = Vec::new();
    if let Some(service) = &found.service
        && let Err(error) = service::by_hand::resume(site, &service.unit, found.ran).await
    {
        left.push(error);
    } else if let Err(error) = release::go_back_to(site, journal, before).await {
        left.push(error);
    }
    if left.is_empty() { cause } else { Error::Unwound { cause: Box::new(cause), left } }
}

/// After a failure with the service stopped: the old runner runs again, unless the new one has its registration. Then
/// that one is started.
async fn failed(
    site: &Site<'_>,
    journal: &mut Journal,
    (before, then): (&Journal, &Journal),
    found: &Found,
    (plan, seen): (&Plan, &Seen),
    cause: Error,
) -> Error {
    let site = &site.for_undoing();
    // Other programs in its tree leave it the runner that it was.
    let is_back = if plan.converts() { convert::take_back(site, journal, then) } else { Ok(true) };
    match is_back {
        Ok(true) => {
            let mut left = end_new(site, journal).await;
            match resume(site, journal, before, found, cause).await {
                Error::Unwound { cause, left: more } => {
                    left.extend(more);
                    Error::Unwound { cause, left }
                }
                cause if left.is_empty() => cause,
                cause => Error::Unwound { cause: Box::new(cause), left },
            }
        }
        Ok(false) => match go_on(site, journal, seen).await {
            Ok(()) => cause,
            Err(error) => Error::Unwound { cause: Box::new(cause), left: vec![error] },
        },
        Err(error) => Error::Unwound { cause: Box::new(cause), left: vec![error] },
    }
}

/// Takes the new service away; returns what failed of that. The old one is started after it in any case, so whatever
/// fails, the new one does not start at the next boot. systemd ends by itself what does not stop in time.
async fn end_new(site: &Site<'_>, journal: &mut Journal) -> Vec<Error> {
    // What the deadline leaves may be too short for a listener whose server does not answer.
    let site = &site.until(Deadline::after(site.deadline.left().max(ENDING)), site.stop.clone());
    let mut left = Vec::new();
    for step in [Step::StartService, Step::WriteService] {
        let Some(act) = journal.entry(step).map(|entry| entry.act.clone()) else { continue };
        let undone = sequence::undo(site, journal, &act, Occasion::Unwinding, Duration::ZERO).await;
        let Err(error) = undone else { continue };
        left.push(error);
        if let Act::StartService { unit } = &act
            && let Err(error) = systemd::disable(unit, &site.stop).await
        {
            left.push(error.into());
        }
    }
    left
}

/// The new runner has the registration: it is completed and started.
async fn go_on(site: &Site<'_>, journal: &mut Journal, seen: &Seen) -> Result<(), Error> {
    let site = &site.until(Deadline::after(site.deadline.left().max(ENDING)), site.stop.clone());
    tracing::warn!("the new runner has the registration by now, so it goes on in the place of the old one");
    service::by_hand::undo(site, journal, Duration::ZERO).await?;
    if journal.entry(Step::StartService).is_some_and(|entry| entry.state == EntryState::Done) {
        // It was not seen online in time; systemd goes on starting it.
        return Ok(());
    }
    convert::go_on_as_new(site, journal, seen)?;
    let (Some(service), Some(account)) = (&seen.service, &seen.account) else { return Ok(()) };
    service::write(site, journal, service, account).await?;
    service::start(site, journal, service).await
}
