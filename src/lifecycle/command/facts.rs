//! What this machine alone knows of a runner, for its metrics: the server is not asked.

use crate::host::systemd;
use crate::lifecycle::command::upgrade::support;
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::Journal;
use crate::runner::{listener, tree};
use jiff::Timestamp;
use std::path::Path;

/// The facts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The version of the runner.
    pub version: Option<String>,
    /// When that was last known to be the newest one.
    pub newest_at: Option<Timestamp>,
    /// Until when it is supported at least; `None` if it updates itself, too.
    pub supported_until: Option<Timestamp>,
    /// Whether its listener has a process; `None` where that cannot be seen.
    pub listener: Option<bool>,
    /// Whether a job runs on this machine.
    pub job: Option<bool>,
    /// Its unit, if it has one.
    pub unit: Option<String>,
}

/// A name for the runner in `dir` that no other runner of this machine has, and that a file can have.
#[must_use]
pub fn unique_name(site: &Site<'_>) -> String {
    let path = Journal::path_for(Path::new(""), &site.request.dir);
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Collects them.
///
/// # Errors
/// The journal or the directory cannot be read.
pub fn facts(site: &Site<'_>) -> Result<Facts, Error> {
    let journal = site.read_journal()?;
    let dir = site.dir();
    let version = if dir.is_dir() { tree::inspect(&dir, site.platform())?.version } else { None };
    let mut facts = Facts {
        version: version.map(|version| version.to_string()),
        newest_at: journal.placed().and_then(|placed| placed.current_at),
        supported_until: support::supported_until(&journal),
        unit: journal.unit().map(str::to_owned),
        ..Facts::default()
    };
    if cfg!(target_os = "linux") && site.request.root.is_host() {
        let uid = site.runner_uid();
        facts.listener = Some(!listener::listeners(&dir, uid).find().is_empty());
        facts.job = Some(!listener::workers(&dir, uid).find().is_empty());
    }
    Ok(facts)
}

/// The state of a unit, in the words of systemd; `None` if systemd does not run this machine, or does not answer.
pub async fn unit_state(site: &Site<'_>, unit: &str) -> Option<String> {
    if !systemd::is_running() || !site.request.root.is_host() {
        return None;
    }
    systemd::show(unit, &site.stop).await.ok().map(|seen| seen.active.to_string())
}
