//! The umask with which jobs create files.

use crate::deadline::Deadline;
use crate::host::{self, systemd};
use crate::lifecycle::command::doctor::Check;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::Journal;
use tokio::time::timeout_at;

const ID: &str = "umask";

/// What jobs get by default.
const USUAL: u32 = 0o022;

/// Only a drop-in of a service changes it: runup has a umask of its own, and gives its children the usual one.
pub(super) async fn umask(site: &Site<'_>, limit: Deadline) -> Check {
    let here = host::umask::original();
    let aside =
        if here == USUAL { String::new() } else { format!(", and not the {here:03o} of this process") };
    let fine = Check::fine(ID, format!("jobs get {USUAL:03o}{aside}"));
    if !site.request.root.is_host() || !systemd::is_running() {
        return fine;
    }
    match timeout_at(limit.instant(), of_services(site)).await {
        Ok(Some(check)) => check,
        Ok(None) => fine,
        Err(_) => Check::unknown(ID, "systemd did not answer in time"),
    }
}

/// The first service that gives its jobs another one, or of which that is not known.
async fn of_services(site: &Site<'_>) -> Option<Check> {
    // A journal that cannot be read is another check.
    for journal in Journal::all(&site.state).unwrap_or_default() {
        let asked = journal.registered().and_then(|(_, registered)| registered.asked.as_ref());
        let starts_listener = asked.is_some_and(|asked| !asked.ephemeral);
        let Some(unit) = journal.unit().filter(|_| starts_listener) else { continue };
        let mask = match systemd::show(unit, &site.stop).await {
            Ok(found) => found.umask,
            Err(_) => None,
        };
        let Some(mask) = mask else {
            return Some(Check::unknown(ID, format!("systemd did not tell that of {unit}")));
        };
        let why = match mask {
            USUAL => continue,
            mask if mask & !USUAL != 0 => "containers and other users cannot read the files that they create",
            _ => "other users can write to the files that they create",
        };
        let detail = format!("the drop-ins of {unit} give its jobs {mask:03o}: {why}");
        let fix = Some(format!("Delete UMask= from the drop-ins of {unit}, unless it is meant."));
        return Some(Check { fix, ..Check::unknown(ID, detail) });
    }
    None
}
