//! Handles a failed conversion from a runner that its jobs could change to one that they cannot. A working runner is
//! never taken down.

use crate::deadline::Stop;
use crate::error::chain;
use crate::host::systemd;
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::{Act, EntryState, Journal, Registered, Step};
use crate::lifecycle::state::observed::Seen;
use crate::lifecycle::state::plan::{Action, Plan};
use crate::lifecycle::step::{placing, registration, service};
use crate::runner::{LocalState, state};

/// Before the new registration, the old runner works as before, and `status` says what is wrong with it. After it, the
/// new runner goes on, and the error says what failed.
///
/// # Errors
/// The cause, if a signal requested the end or the new runner is there; else what keeps the old one from working.
pub(crate) async fn failed(
    site: &Site<'_>,
    journal: &mut Journal,
    then: &Journal,
    before: &service::Before,
    (mut plan, seen): (Plan, Seen),
    cause: Error,
) -> Result<(Plan, Seen), Error> {
    if !take_back(site, journal, then)? {
        go_on_as_new(site, journal, &seen)?;
        start(then, &seen).await?;
        return Err(cause);
    }
    before.resume(site, journal).await;
    if cause.is_stop() {
        return Err(cause);
    }
    tracing::warn!("the runner goes on as it was, not locked: {}", chain(&cause));
    if plan.takes(Step::StartService) && !before.ran() {
        start(then, &seen).await?;
    }
    for planned in &mut plan.steps {
        planned.action = Action::Keep;
    }
    Ok((plan, seen))
}

/// Puts the old runner back, unless the server has given its registration to the new tree; returns whether the old one
/// is there.
///
/// # Errors
/// The old tree stays beside its place; the journal cannot be written.
pub(crate) fn take_back(site: &Site<'_>, journal: &mut Journal, then: &Journal) -> Result<bool, Error> {
    let placed =
        journal.entry(Step::PlaceRunner).is_some_and(|entry| then.entry(Step::PlaceRunner) != Some(entry));
    if placed && matches!(state::read(&site.dir())?, LocalState::Configured(_)) {
        // The old one has no registration any more.
        return Ok(false);
    }
    if let Some(old) = then.entry(Step::PlaceRunner).filter(|_| placed) {
        placing::put_back(site, journal, old.act.clone())?;
    }
    if let Some((EntryState::Done, registered)) = then.registered() {
        journal.done(Act::Register(registered.clone()))?;
    }
    Ok(true)
}

/// Completes the new runner, which the server has given the registration to.
///
/// # Errors
/// The tree cannot be sealed; the journal cannot be written.
pub(crate) fn go_on_as_new(site: &Site<'_>, journal: &mut Journal, seen: &Seen) -> Result<(), Error> {
    let id = match state::read(&site.dir())? {
        LocalState::Configured(file) => Some(file.agent_id),
        _ => None,
    };
    if let Some((_, registered)) = journal.registered() {
        let agent_id = registered.agent_id.or(id);
        journal.done(Act::Register(Registered { agent_id, ..registered.clone() }))?;
    }
    placing::conclude(site, journal)?;
    if let Some(account) = &seen.account {
        registration::keep(site, journal, account, seen.wanted_guard)?;
    }
    Ok(())
}

/// Starts the service that was completely set up before the conversion, if there is one.
async fn start(then: &Journal, seen: &Seen) -> Result<(), Error> {
    let done = then.entry(Step::StartService).is_some_and(|entry| entry.state == EntryState::Done);
    let Some(service) = seen.service.as_ref().filter(|_| done) else { return Ok(()) };
    // Neither the signal nor the deadline that ended the run is a reason to leave it off.
    Ok(systemd::enable_and_restart(&service.unit, &Stop::never()).await?)
}
