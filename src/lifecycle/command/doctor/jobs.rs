//! What jobs need of the machine, besides what an installation does.

use crate::deadline::Deadline;
use crate::host::{self, account};
use crate::lifecycle::command::doctor::Check;
use crate::lifecycle::context::site::Site;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;
use tokio::time::{timeout, timeout_at};

/// Of one answer.
const ANSWERING: Duration = Duration::from_secs(2);

const SOCKETS: [(&str, &str); 2] =
    [("docker", "/var/run/docker.sock"), ("podman", "/run/podman/podman.sock")];

/// What runs the containers of jobs, and what that means for the machine.
pub(super) fn engine(site: &Site<'_>) -> Check {
    const ID: &str = "engine";
    let root = &site.request.root;
    let Some((name, socket)) = SOCKETS.iter().find(|(name, _)| host::has_program(root, name)) else {
        return Check::unknown(ID, "no container engine: jobs with containers, and container actions, fail");
    };
    if !root.is_host() {
        return Check::fine(ID, format!("{name} is installed"));
    }
    let user = site.user.clone().unwrap_or_default();
    let Ok(Some(account)) = site.account() else {
        return Check::unknown(
            ID,
            format!("{name} is installed; whether jobs may use it shows once {user} exists"),
        );
    };
    if !Path::new(socket).exists() {
        return Check::unknown(
            ID,
            format!("{name} is installed, but {socket} does not exist: it does not run as root"),
        );
    }
    let mut text = format!("{name} runs");
    let ways = account::ways_to_root(root, &account, &[]);
    if ways.iter().any(|way| way.contains(name)) {
        let _ = write!(text, "; jobs of {} can use it, and become root with it", account.name);
    } else {
        let _ = write!(
            text,
            "; jobs of {} cannot use it: --groups {name} would let them, and make them root",
            account.name
        );
    }
    Check::fine(ID, text)
}

/// Whether the clock is kept right: tokens and certificates are refused once it is some minutes off.
pub(super) async fn time_sync(site: &Site<'_>) -> Check {
    const ID: &str = "time-sync";
    if !site.request.root.is_host() || !host::systemd::is_running() {
        return Check::unknown(ID, "only systemd can be asked whether the clock is synchronized");
    }
    match timeout(ANSWERING, host::systemd::clock_is_synchronized(&site.stop)).await {
        Ok(Some(true)) => Check::fine(ID, "the clock is synchronized"),
        Ok(Some(false)) => Check {
            fix: Some("Run: timedatectl set-ntp true; or install chrony.".to_owned()),
            ..Check::unknown(ID, "the clock is not synchronized, and will be refused once it is minutes off")
        },
        _ => Check::unknown(ID, "systemd did not say whether the clock is synchronized"),
    }
}

/// Each verified copy that runners on this machine are made from, read whole.
pub(super) async fn store(site: &Site<'_>, limit: Deadline) -> Option<Check> {
    const ID: &str = "store";
    let looking = crate::lifecycle::step::placing::stored::inspect_beside(site);
    Some(match timeout_at(limit.instant(), looking).await {
        Err(_) => Check::unknown(ID, "the copies of the runner could not be read in time"),
        Ok(Err(error)) => Check::fails(ID, &error),
        Ok(Ok((stores, _))) if stores.is_empty() => return None,
        Ok(Ok((stores, found))) if found.is_empty() => {
            Check::fine(ID, format!("the verified copies in {} are whole", stores[0].display()))
        }
        Ok(Ok((_, found))) => {
            // It keeps nothing from working.
            let what: Vec<&str> = found.iter().map(|finding| finding.what.as_str()).collect();
            let fix = found.first().map(|finding| format!("{}.", capital(&finding.fix)));
            Check { fix, ..Check::unknown(ID, what.join("; ")) }
        }
    })
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
