//! Why a runner that does not work failed last, by its log.

use crate::error::chain;
use crate::lifecycle::command::doctor::{Check, Verdict};
use crate::lifecycle::command::logs;
use crate::lifecycle::command::status::{RunnerState, Status};
use crate::lifecycle::context::site::Site;
use crate::runner::complaint;
use std::time::Duration;
use tokio::time::timeout;

const ID: &str = "last-failure";

/// How long the journal may take to be searched.
const READING: Duration = Duration::from_secs(3);

/// `None` for a runner that works, unless it was restarted for a known cause.
pub async fn last_failure(site: &Site<'_>, status: &Status) -> Option<Check> {
    let is_down =
        matches!(status.state, RunnerState::Stopped | RunnerState::Offline | RunnerState::Forgotten);
    let was_restarted = status.service.as_ref().is_some_and(|service| service.restarts > 0);
    if !is_down && !was_restarted {
        return None;
    }
    let dir = site.request.dir.display();
    let see = Some(format!("See `runup logs --dir {dir}`."));
    let lines = match timeout(READING, Box::pin(logs::since_it_listened(site))).await {
        Ok(Ok(lines)) => lines,
        Ok(Err(error)) => return Some(Check::unknown(ID, format!("{dir}: {}", chain(&error)))),
        Err(_) => return Some(Check::unknown(ID, format!("{dir}: its log could not be read in time"))),
    };
    let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    let Some((line, known)) = complaint::recognise_last(&texts) else {
        let check = Check::unknown(ID, format!("{dir}: its log names no known cause"));
        return is_down.then_some(Check { fix: see, ..check });
    };
    let at = lines.iter().rev().find(|of| std::ptr::eq(of.text.as_str(), line)).and_then(|line| line.at);
    let at = at.map(|at| format!(" at {at:.0}")).unwrap_or_default();
    let detail = format!("{dir}: {}, as its log told{at}", known.cause);
    Some(if is_down {
        let check = Check::new(ID, Verdict::Fails, detail).named(known.situation);
        Check { fix: Some(known.fix.to_owned()), ..check }
    } else {
        Check::fine(ID, format!("{detail}; it runs again"))
    })
}
