//! The umask with which jobs create files.

use crate::host::{self, systemd};
use crate::lifecycle::command::doctor::Check;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::Journal;

const ID: &str = "umask";

/// What jobs get by default.
const USUAL: u32 = 0o022;

/// Only a drop-in of a service changes it: runup has a umask of its own, and gives its children the usual one.
pub(super) async fn umask(site: &Site<'_>) -> Check {
    let here = host::umask::original();
    let fine = format!("jobs get {USUAL:03o}, and not the {here:03o} of this process");
    if !site.request.root.is_host() || !systemd::is_running() {
        return Check::fine(ID, fine);
    }
    // A journal that cannot be read is another check.
    for journal in Journal::all(&site.state).unwrap_or_default() {
        let asked = journal.registered().and_then(|(_, registered)| registered.asked.as_ref());
        let starts_listener = asked.is_some_and(|asked| !asked.ephemeral);
        let Some(unit) = journal.unit().filter(|_| starts_listener) else { continue };
        let Ok(found) = systemd::show(unit, &site.stop).await else { continue };
        let Some(mask) = found.umask.filter(|mask| mask & !USUAL != 0) else { continue };
        let detail = format!(
            "jobs of {unit} get {mask:03o}: containers and other users cannot read the files that they create"
        );
        let fix = Some(format!("Delete UMask= from the drop-ins of {unit}, unless it is meant."));
        return Check { fix, ..Check::unknown(ID, detail) };
    }
    Check::fine(ID, fine)
}
