//! Finds the service that GitHub's `svc.sh` has set up for a runner's directory.
//!
//! The runner's `.service` names the unit, but a job can write that file. The unit's own file counts, which only root
//! can write: it must start the runner of this directory.

use crate::host::{account, systemd};
use crate::lifecycle::context::error::{Error, ServiceError};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::Journal;
use crate::runner::unit;
use std::path::{Path, PathBuf};

/// Begins the name of each unit that `svc.sh` writes; the owner and the runner's name follow.
const PREFIX: &str = "actions.runner.";

/// A service that the operator has set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HandMade {
    /// Its unit.
    pub unit: String,
    /// The user that it runs as; `None` if the unit names none, and so root.
    pub user: Option<String>,
}

impl HandMade {
    /// Whether root called the runner that when it set up the service: the unit's name says so, which jobs cannot
    /// write.
    pub(crate) fn is_of(&self, name: &str) -> bool {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let name: String = name
            .chars()
            .map(|c| match c {
                ' ' => '_',
                c if plain(c) => c,
                _ => '-',
            })
            .collect();
        let rest = self.unit.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(".service"));
        // No owner has a dot in its name. A repository may have, and then the name has to be confirmed in another way.
        rest.and_then(|rest| rest.split_once('.')).is_some_and(|(_, of)| of.eq_ignore_ascii_case(&name))
    }
}

/// The service of the runner in this directory, if there is one that runup did not write. The journal's own unit is none,
/// whatever an operator has changed in it.
///
/// # Errors
/// There are several.
pub(crate) fn find(site: &Site<'_>, journal: &Journal) -> Result<Option<HandMade>, Error> {
    let mut found = Vec::new();
    for (unit, text) in units(site) {
        let is_ours = journal.unit() == Some(&unit) || unit::is_ours(&text, &site.request.dir);
        if !is_ours && starts_runner_in(&text, site) {
            found.push(HandMade { unit, user: setting(&text, "User").map(str::to_owned) });
        }
    }
    if found.len() > 1 {
        let units = found.into_iter().map(|one| one.unit).collect();
        return Err(ServiceError::SeveralServices { dir: site.request.dir.clone(), units }.into());
    }
    Ok(found.pop())
}

/// The other services of `svc.sh` on this machine that run as the user: the directories of their runners, and the units.
pub(crate) fn others_of(site: &Site<'_>, user: &str) -> Vec<(PathBuf, String)> {
    let other = |(unit, text): (String, String)| {
        if text.starts_with(unit::OURS) {
            return None;
        }
        let dir = setting(&text, "ExecStart")?.strip_suffix("/runsvc.sh").map(PathBuf::from)?;
        let counts = setting(&text, "User") == Some(user) && !starts_runner_in(&text, site);
        counts.then_some((dir, unit))
    };
    units(site).into_iter().filter_map(other).collect()
}

/// The services that root has set up: the names and texts of the units.
fn units(site: &Site<'_>) -> Vec<(String, String)> {
    let Some(entries) = folder(site).and_then(|folder| std::fs::read_dir(folder).ok()) else {
        return Vec::new();
    };
    let mut units = Vec::new();
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !name.ends_with(".service") || !is_roots(&entry.path()) {
            continue;
        }
        // One that is gone by now starts nothing. systemd ignores a line that is no text, and reads the others.
        if let Ok(bytes) = std::fs::read(entry.path()) {
            units.push((name, String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    units.sort();
    units
}

/// Where root's units are; a link in an image does not lead out of it.
pub(crate) fn folder(site: &Site<'_>) -> Option<PathBuf> {
    site.request.root.resolve(Path::new(systemd::UNIT_FOLDER))
}

/// Whether the unit starts GitHub's entry point in this runner's directory.
fn starts_runner_in(text: &str, site: &Site<'_>) -> bool {
    let Some(command) = command(text) else { return false };
    let program = command.strip_prefix("/bin/bash ").unwrap_or(command).trim().trim_matches('"');
    dirs(site)
        .iter()
        .any(|dir| ["runsvc.sh", "bin/runsvc.sh"].iter().any(|script| Path::new(program) == dir.join(script)))
}

/// Whether a unit with the name of runup's own starts this runner in any way: a program in its directory, or `runup run`
/// for it.
pub(crate) fn starts(text: &str, site: &Site<'_>) -> bool {
    starts_in(text, &dirs(site))
}

fn starts_in(text: &str, dirs: &[PathBuf]) -> bool {
    let text = text.replace("\\\n", " ");
    let Some(command) = command(&text) else { return false };
    let command = command.replace("%%", "%");
    let words: Vec<&str> =
        command.split([' ', '\t', '"', '\'', ';', '=']).filter(|word| !word.is_empty()).collect();
    let is_dir = |word: &&str| dirs.iter().any(|dir| Path::new(word) == dir);
    let is_inside = |word: &&str| dirs.iter().any(|dir| Path::new(word).starts_with(dir)) && !is_dir(word);
    let supervises = || match words.iter().position(|word| *word == "--dir") {
        Some(at) => words.get(at + 1).is_some_and(is_dir),
        None => true,
    };
    let is_runup = |word: &str| Path::new(word).file_name().is_some_and(|name| name == "runup");
    let runs = || words.windows(2).any(|pair| is_runup(pair[0]) && pair[1] == "run");
    words.iter().any(is_inside) || (runs() && supervises())
}

/// The command that the unit starts, without the marks that systemd reads before it.
fn command(text: &str) -> Option<&str> {
    Some(setting(text, "ExecStart")?.trim_start_matches(['-', '@', ':', '+', '!']))
}

/// The names of the runner's directory, as the machine sees them.
fn dirs(site: &Site<'_>) -> Vec<PathBuf> {
    let real = std::fs::canonicalize(site.dir()).ok().and_then(|real| site.request.root.strip(&real));
    [Some(site.request.dir.clone()), real].into_iter().flatten().collect()
}

/// What the unit's file says for this key; the last line counts.
fn setting<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let lines = text.lines().filter_map(|line| line.trim().split_once('='));
    lines
        .filter(|(name, _)| name.trim() == key)
        .map(|(_, value)| value.trim())
        .next_back()
        .filter(|value| !value.is_empty())
}

/// Whether only root can change the file; an image that another user builds is that user's.
#[cfg(unix)]
fn is_roots(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::symlink_metadata(path).is_ok_and(|meta| {
        let by_others = meta.mode() & 0o002 != 0 || (meta.mode() & 0o020 != 0 && meta.gid() != 0);
        meta.is_file() && (!account::is_root() || (meta.uid() == 0 && !by_others))
    })
}

#[cfg(not(unix))]
fn is_roots(_: &Path) -> bool {
    account::is_root()
}

/// Whether systemd runs it.
///
/// # Errors
/// systemd does not answer.
pub(crate) async fn runs(site: &Site<'_>, unit: &str) -> Result<bool, Error> {
    if !site.request.root.is_host() || !systemd::is_running() {
        return Ok(false);
    }
    Ok(systemd::show(unit, &site.stop).await?.runs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_its_unit_is_what_root_called_the_runner() {
        let of = |unit: &str, name: &str| HandMade { unit: unit.into(), user: None }.is_of(name);
        assert!(of("actions.runner.acme.box_7.service", "box 7"));
        assert!(of("actions.runner._services.Box.7.service", "box.7"));
        // The end of a name is another runner's.
        assert!(!of("actions.runner.acme.build.7.service", "7"));
        assert!(!of("actions.runner.acme.box-7.service", "box"));
        assert!(!of("ssh.service", "ssh"));
    }

    #[test]
    fn a_unit_starts_the_runner_whose_programs_or_supervisor_it_starts() {
        let starts = |command: &str| {
            starts_in(&format!("[Service]\nExecStart={command}\n"), &[PathBuf::from("/opt/actions-runner")])
        };
        assert!(starts("/bin/bash /opt/actions-runner/bin/runsvc.sh"));
        assert!(starts("-/usr/bin/nice \\\n  \"/opt/actions-runner/run.sh\""));
        assert!(starts("/usr/bin/runup run --dir=/opt/actions-runner --ephemeral"));
        assert!(starts("/usr/bin/runup run --ephemeral"));
        assert!(!starts("/usr/bin/runup run --dir /opt/other"));
        assert!(!starts("/usr/bin/runup status --dir /opt/actions-runner"));
        assert!(!starts("/bin/bash /opt/actions-runner-2/bin/runsvc.sh"));
        assert!(!starts("/bin/sleep infinity"));
    }

    #[test]
    fn the_last_line_of_a_key_counts() {
        let text = "[Service]\nExecStart=/a\n ExecStart = /b \nUser=\n";
        assert_eq!((setting(text, "ExecStart"), setting(text, "User")), (Some("/b"), None));
    }
}
