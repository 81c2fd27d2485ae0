//! Why a runner that does not work failed last, by its log.

use crate::error::chain;
use crate::lifecycle::command::doctor::Check;
use crate::lifecycle::command::logs;
use crate::lifecycle::command::status::{RunnerState, Status};
use crate::lifecycle::context::site::Site;
use crate::runner::complaint;

const ID: &str = "last-failure";

/// `None` for a runner that works and has not been restarted. Its log can be written by jobs: it is for people.
pub async fn last_failure(site: &Site<'_>, status: &Status) -> Option<Check> {
    let is_down =
        matches!(status.state, RunnerState::Stopped | RunnerState::Offline | RunnerState::Forgotten);
    let was_restarted = status.service.as_ref().is_some_and(|service| service.restarts > 0);
    if !is_down && !was_restarted {
        return None;
    }
    let dir = site.request.dir.display();
    let lines = match logs::of_listener(site).await {
        Ok(lines) => lines,
        Err(error) => return Some(Check::unknown(ID, format!("{dir}: {}", chain(&error)))),
    };
    let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    let Some((line, known)) = complaint::recognise_last(&texts) else {
        let fix = Some(format!("See `runup logs --dir {dir}`."));
        return Some(Check { fix, ..Check::unknown(ID, format!("{dir}: its log names no known cause")) });
    };
    let at = lines.iter().rev().find(|of| std::ptr::eq(of.text.as_str(), line)).and_then(|line| line.at);
    let at = at.map(|at| format!(" at {at:.0}")).unwrap_or_default();
    let detail = format!("{dir}: {}, as its log told{at}", known.cause);
    Some(if is_down {
        Check::ends(ID, detail, known.class, known.fix.to_owned()).named(known.situation)
    } else {
        Check::fine(ID, format!("{detail}; it runs again"))
    })
}
