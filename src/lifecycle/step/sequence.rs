//! The steps in their order. A new step has its row in each function here, and everything else in its own file.

use crate::github;
use crate::host::account::Account;
use crate::lifecycle::context::error::{Error, ServiceError};
use crate::lifecycle::context::request::Request;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::context::watch::Phase;
use crate::lifecycle::state::journal::{Act, Journal, Step};
use crate::lifecycle::state::observed::{Seen, Server};
use crate::lifecycle::state::plan::{Change, NewRegistration, Plan, Planned};
use crate::lifecycle::state::service::UnitOwner;
use crate::lifecycle::step::precheck::Prepared;
use crate::lifecycle::step::registration::deregister::{self, Occasion};
use crate::lifecycle::step::user::release::Undone;
use crate::lifecycle::step::{environment, placing, registration, service, user};
use std::time::Duration;

/// Creates the plan.
///
/// # Errors
/// What is there contradicts what was requested.
pub(crate) fn plan(request: &Request, journal: &Journal, seen: &Seen) -> Result<Plan, Error> {
    if let Some(unit) = journal.unit().filter(|_| request.no_service) {
        let (dir, unit) = (request.dir.clone(), unit.to_owned());
        return Err(ServiceError::ServiceThere { dir, unit, asked: "--service none" }.into());
    }
    let mut steps = Vec::new();
    if let Some(user) = &seen.user {
        steps.push(user::decide(user, request, journal, seen)?);
    }
    let converts = placing::decide::converts(request, journal, seen);
    let mut place = placing::decide::place_runner(request, journal, seen, converts)?;
    let mut register = None;
    if let (Some(wanted), Some(name)) = (&request.registration, &seen.name) {
        let new = NewRegistration::of(name.clone(), wanted.options.clone());
        register = Some(match registration::decide::supervised(request, seen) {
            Some(unit) => Planned::keep(Step::Register, format!("{unit} runs, and registers by itself")),
            None if converts => registration::decide::take_over(request, journal, seen, new)?,
            None => registration::decide::register(request, journal, seen, &new)?,
        });
    }
    if register.as_ref().is_some_and(Planned::registers_anew) {
        // The registration of the old tree ends first, so that tree must not come back.
        place.replaces_for_good();
    }
    steps.push(place);
    steps.extend(environment::decide(seen));
    steps.extend(register);
    placing::decide::freshen(&mut steps, request, seen)?;
    if let Some(service) = &seen.service {
        let written = service::decide::write_service(request, service)?;
        let changed = steps.iter().any(Planned::restarts);
        // A change of the units beside it is not a reason to restart it.
        let restart = changed || !service.is_written();
        steps.push(written);
        // One that registers by itself is offline, or missing, between two jobs.
        let offline = !request.registers_by_itself()
            && matches!(&seen.server, Server::Has(runner) if runner.status == github::RunnerStatus::Offline);
        steps.push(service::decide::start_service(service, restart, offline));
    }
    Ok(Plan { steps })
}

/// Takes the steps of the plan that change anything; returns what the server says of the runner, if it was asked.
///
/// # Errors
/// Those of the step that failed; the ones before it are taken.
pub(crate) async fn take(
    site: &Site<'_>,
    journal: &mut Journal,
    plan: &Plan,
    seen: &Seen,
    mut prepared: Prepared,
) -> Result<Option<String>, Error> {
    let mut owner = seen.account.clone();
    let mut status = None;
    for planned in &plan.steps {
        let Some(change) = planned.change() else { continue };
        site.check(&format!("taking the step {}", planned.step))?;
        match change {
            Change::CreateUser { name } => owner = Some(user::take(site, journal, name).await?),
            Change::JoinGroups { groups } => {
                let _users = site.change_users().await?;
                user::join(site, &known(owner.as_ref()).name, groups).await?;
            }
            Change::Place | Change::Replace { .. } | Change::Repair => {
                let account = known(owner.as_ref());
                user::ensure_group(site, journal, account).await?;
                if matches!(change, Change::Replace { .. }) {
                    service::quiet(site, seen).await?;
                }
                placing::take(site, journal, change, seen, account, prepared.choice.take()).await?;
            }
            Change::WriteEnvironment { .. } => environment::take(site, journal, known(owner.as_ref()))?,
            Change::Relabel { id } => registration::relabel(site, journal, *id).await?,
            Change::Register(new) => {
                service::quiet(site, seen).await?;
                let account = known(owner.as_ref());
                let token = prepared.token.take();
                status = registration::take(site, journal, new, seen, account, token).await?;
                if new.converts {
                    placing::conclude(site, journal)?;
                }
            }
            Change::WriteService { service } => {
                service::write(site, journal, service, known(owner.as_ref())).await?;
            }
            Change::StartService { service } => service::start(site, journal, service).await?,
            // The command that adopts has stopped the earlier service, and deletes it at the end.
            Change::AwaitOnline | Change::Adopt => {}
        }
    }
    Ok(status)
}

/// Ends what outlived an interrupted run, and settles what that run had begun.
///
/// # Errors
/// A process does not end; what was left cannot be deleted; the journal cannot be written.
pub(crate) async fn recover(site: &Site<'_>, journal: &mut Journal) -> Result<(), Error> {
    registration::recover(site, journal).await?;
    user::recover(site, journal).await?;
    placing::recover(site, journal)?;
    placing::stored::sweep(site).await
}

/// Completes the record of what stays as it is.
///
/// # Errors
/// The journal cannot be written; the tree cannot be sealed.
pub(crate) fn settle(site: &Site<'_>, journal: &mut Journal, plan: &Plan, seen: &Seen) -> Result<(), Error> {
    if plan.steps.iter().any(|planned| planned.step == Step::Register && planned.change().is_none()) {
        registration::settle(site, journal, seen)?;
    }
    if !plan.takes(Step::PlaceRunner) {
        placing::decide::note_current(journal, seen)?;
    }
    service::settle(journal, plan)
}

/// Undoes the step of an entry; returns whether there was anything of it to undo. A job that runs gets `drain` to end.
///
/// # Errors
/// Something stays; the entry does as well.
pub(crate) async fn undo(
    site: &Site<'_>,
    journal: &mut Journal,
    act: &Act,
    occasion: Occasion,
    drain: Duration,
) -> Result<bool, Error> {
    // A person who removes a runner sees each step.
    let phase = |name| (occasion == Occasion::Removal).then(|| site.phase(name));
    let end = |phase: Option<Phase<'_>>, detail: String| {
        if let Some(phase) = phase {
            phase.end(detail);
        }
    };
    match act {
        Act::StartService { unit } => {
            let phase = phase("stop");
            let owner = service::undo_start(site, journal, drain).await?;
            let detail = match owner {
                UnitOwner::Runup => format!("stopped and disabled {unit}"),
                UnitOwner::Masked => format!("stopped {unit}, which is masked"),
                UnitOwner::Operator => format!("left {unit} alone: it does not start this runner"),
            };
            end(phase, detail);
            return Ok(owner != UnitOwner::Operator);
        }
        Act::WriteService { unit, .. } => {
            let phase = phase("unit");
            let owner = service::undo_write(site, journal).await?;
            let detail = match owner {
                UnitOwner::Runup => format!("deleted the unit {unit}"),
                UnitOwner::Masked => format!("{unit} stays masked: runup did not mask it"),
                UnitOwner::Operator => format!("{unit} stays as it is: it does not start this runner"),
            };
            end(phase, detail);
            return Ok(owner == UnitOwner::Runup);
        }
        Act::Register(_) => deregister::deregister(site, journal, occasion).await?,
        Act::PlaceRunner { .. } => {
            let phase = phase("delete");
            placing::undo(site, journal).await?;
            end(phase, format!("deleted {}", site.request.dir.display()));
        }
        Act::Adopt { unit, .. } => {
            let phase = phase("svc.sh");
            Box::pin(service::by_hand::undo(site, journal, drain)).await?;
            end(phase, unit.as_ref().map_or_else(String::new, |unit| format!("stopped and deleted {unit}")));
        }
        Act::CreateUser { name, .. } => {
            let phase = phase("user");
            let detail = match user::release::undo(site, journal, name).await? {
                Undone::Deleted => format!("deleted the user {name}, which runup had created"),
                Undone::HandedTo(dir) => format!("kept the user {name} for the runner in {}", dir.display()),
            };
            end(phase, detail);
        }
    }
    Ok(true)
}

fn known(owner: Option<&Account>) -> &Account {
    owner.expect("the user exists, or the first step made it")
}
