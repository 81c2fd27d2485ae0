//! Decides what is done about the units and the running service.

use crate::host::systemd::{LoadState, SubState};
use crate::lifecycle::context::error::{Error, ServiceError};
use crate::lifecycle::context::request::Request;
use crate::lifecycle::state::journal::Step;
use crate::lifecycle::state::plan::{Change, Planned};
use crate::lifecycle::state::service::{Extra, SeenService};
use crate::runner::unit;

pub(crate) fn write_service(request: &Request, service: &SeenService) -> Result<Planned, Error> {
    let unit = &service.unit;
    if service.state.load == LoadState::Masked {
        return Err(ServiceError::UnitMasked { unit: unit.clone() }.into());
    }
    let strange = |extra: &&Extra| {
        extra
            .found
            .as_ref()
            .is_some_and(|found| extra.wanted.is_some() && !unit::is_ours(found, &request.dir))
    };
    if let Some(extra) = service.upgrades.iter().find(strange) {
        return Err(ServiceError::UnitNotOurs { unit: extra.unit.clone() }.into());
    }
    let settled = |extra: &Extra| match (&extra.found, &extra.wanted) {
        (Some(found), None) => !unit::is_ours(found, &request.dir),
        (found, wanted) => found == wanted && !extra.is_off,
    };
    let write = |detail: String| {
        let change = Change::WriteService { service: Box::new(service.clone()) };
        Planned::to_do(Step::WriteService, change, detail)
    };
    Ok(match &service.found {
        Some(found) if *found == service.wanted && !service.upgrades.iter().all(settled) => {
            write(format!("write the units that upgrade the runner of {unit}"))
        }
        Some(found) if *found == service.wanted && service.is_restartable => {
            write(format!("keep needrestart from restarting {unit}"))
        }
        Some(found) if *found == service.wanted => {
            Planned::keep(Step::WriteService, format!("the unit {unit} is written"))
        }
        Some(found) if unit::is_ours(found, &request.dir) => write(format!("rewrite the unit {unit}")),
        Some(_) => return Err(ServiceError::UnitNotOurs { unit: unit.clone() }.into()),
        None if service.state.load == LoadState::Loaded => {
            return Err(ServiceError::UnitNotOurs { unit: unit.clone() }.into());
        }
        None => write(format!("write the unit {unit}")),
    })
}

pub(crate) fn start_service(service: &SeenService, restart: bool, offline: bool) -> Planned {
    let unit = &service.unit;
    let state = &service.state;
    // While it waits for systemd to start it again it has failed, and being up just then does not prove that it works.
    let up = state.is_up() && state.is_enabled() && state.sub != SubState::AutoRestart;
    let start = |detail: String| {
        let change = Change::StartService { service: Box::new(service.clone()) };
        Planned::to_do(Step::StartService, change, detail)
    };
    match (up, restart) {
        (true, false) if offline => Planned::to_do(
            Step::StartService,
            Change::AwaitOnline,
            format!("{unit} runs; wait until it is online"),
        ),
        (true, false) => Planned::keep(Step::StartService, format!("{unit} runs, and is enabled")),
        (true, true) => start(format!("restart {unit} and wait until it is online")),
        (false, _) => start(format!("enable and start {unit} and wait until it is online")),
    }
}
