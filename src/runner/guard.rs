//! The ownership of a runner's tree, which determines what root may trust in it, run in it, or pass to a program in it.
//!
//! Jobs run as the runner's user. Files that this user can write could control the next start of the runner, so in a
//! guarded tree it can write only the logs and the work directory: GitHub's listener and worker need no more. Every
//! change of owner uses file descriptors that do not follow links.

use super::config_sh::PATH;
use super::environment::CA_BUNDLE;
use super::state::{self, LOG_DIR};
use super::{Error, RunnerVersion};
use crate::host::file;
use serde::{Deserialize, Serialize};
use std::path::{Component, Path};

/// The identity files that config.sh writes, in the order in which the listener reads them.
const IDENTITY: [&str; 3] = [".runner", ".credentials", ".credentials_rsaparams"];

/// The files that [`furnish`] writes to every guarded tree, which do not depend on the machine.
pub const FURNISHED: [&str; 4] = [".env", ".path", ".setup_info", "run-helper.sh"];

/// The heading under which the logs of jobs show the origin of the runner.
const PROVENANCE: &str = "Runner installation";

/// The most that is read; real files have a few kilobytes.
const LIMIT: u64 = 256 * 1024;
const BUNDLE_LIMIT: u64 = 16 * 1024 * 1024;

/// How a runner's tree is guarded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guard {
    /// The runner's user owns it: nothing in it is trusted, and none of its programs gets a token.
    #[default]
    Open,
    /// Programs, scripts and settings belong to root, in a sticky directory in which the runner's user can create
    /// files.
    Locked,
    /// Everything belongs to root except the logs and the work directory.
    Sealed,
}

impl Guard {
    /// Whether the runner's user owns the tree.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self == Self::Open
    }
}

impl std::fmt::Display for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Locked => "locked",
            Self::Sealed => "sealed",
        })
    }
}

/// The runner's user, and the group that may read its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeper {
    /// The user's id.
    pub uid: u32,
    /// The group's id.
    pub gid: u32,
}

/// Writes the files that config.sh and run.sh would write as the runner's user, to a tree that no other user can reach
/// yet: the environment of the jobs, their PATH, the origin of the runner, and the helper of `run.sh`. Existing files
/// are kept. They are not synced: the caller syncs the whole tree.
///
/// # Errors
/// One of them cannot be written.
pub fn furnish(
    dir: &Path,
    keeper: Keeper,
    version: Option<RunnerVersion>,
    sha256: &str,
) -> Result<(), Error> {
    let version = version.map_or_else(|| "of unknown version".to_owned(), |version| version.to_string());
    let origin = serde_json::json!([{
        "group": PROVENANCE,
        "detail": format!("runner {version}, sha256 {sha256}, installed by runup {}", env!("CARGO_PKG_VERSION")),
    }]);
    let missing = |name: &str| fs_err::symlink_metadata(dir.join(name)).is_err();
    for (name, text, mode) in [
        (".env", "LANG=C.UTF-8\n".to_owned(), 0o640),
        (".path", format!("{PATH}\n"), 0o644),
        (".setup_info", format!("{origin}\n"), 0o644),
    ] {
        if missing(name) {
            file::replace(&dir.join(name), text.as_bytes(), mode)?;
        }
    }
    give_group(&dir.join(".env"), keeper)?;
    let template = file::read_untrusted_in(dir, "run-helper.sh.template", LIMIT)?;
    if let Some(text) = template.filter(|_| missing("run-helper.sh")) {
        file::replace(&dir.join("run-helper.sh"), &text, 0o755)?;
    }
    Ok(())
}

/// Locks a tree that root owns: from then on, the runner's user can read it and create files in it, but not change
/// existing ones.
///
/// # Errors
/// The owner of the directory cannot be changed.
pub fn lock(dir: &Path, keeper: Keeper) -> Result<(), Error> {
    own_dir(dir, 0, keeper.gid, 0o1770)
}

/// Seals a locked tree in which config.sh has just registered: the runner's user can no longer create files, the files
/// that it created are given to root, and what is not part of a registered runner is deleted.
///
/// # Errors
/// A file is not as config.sh writes it, or cannot be changed; the tree is locked or sealed then.
pub fn seal(dir: &Path, keeper: Keeper, work: &str) -> Result<(), Error> {
    // Done first, so that no file is created meanwhile.
    own_dir(dir, 0, keeper.gid, 0o750)?;
    for name in IDENTITY {
        // Each is replaced by a new file: a process that has the old one open writes to a deleted file.
        let Some(bytes) = file::read_untrusted_in(dir, name, LIMIT)? else { continue };
        file::write_atomic(&dir.join(name), &bytes, 0o640)?;
        give_group(&dir.join(name), keeper)?;
    }
    sweep(dir, work)?;
    make_ready(dir, keeper, work)
}

/// Copies the identity, and root's settings for jobs, from a sealed tree to a staged one that [`furnish`] has prepared.
/// The origin in the staged tree is kept, unless an operator has written another. They are not synced either.
///
/// # Errors
/// A file is not a regular file, or cannot be written.
pub fn carry(from: &Path, to: &Path, keeper: Keeper) -> Result<(), Error> {
    let settings =
        [(".env", 0o640), (".path", 0o644), (CA_BUNDLE, 0o644), (".service", 0o644), (".setup_info", 0o644)];
    for (name, mode) in IDENTITY.into_iter().map(|name| (name, 0o640)).chain(settings) {
        let limit = if name == CA_BUNDLE { BUNDLE_LIMIT } else { LIMIT };
        let Some(bytes) = file::read_untrusted_in(from, name, limit)? else { continue };
        if name == ".setup_info" && String::from_utf8_lossy(&bytes).contains(PROVENANCE) {
            continue;
        }
        file::replace(&to.join(name), &bytes, mode)?;
        if mode == 0o640 {
            give_group(&to.join(name), keeper)?;
        }
    }
    Ok(())
}

/// Opens a sealed tree for config.sh: the runner's user owns the identity again, and can create files. No process may
/// run as that user meanwhile.
///
/// # Errors
/// The owner of a file cannot be changed.
pub fn unseal(dir: &Path, keeper: Keeper) -> Result<(), Error> {
    state::discard_svc(dir)?;
    for name in IDENTITY {
        own_file(&dir.join(name), keeper.uid, keeper.gid, 0o600)?;
    }
    lock(dir, keeper)
}

/// Deletes what jobs left at the top of a guarded tree: everything that does not belong to root, except the logs and
/// the work directory if they are directories. In a locked tree a job can replace these by a link, or by a file of root's
/// that it has moved.
///
/// # Errors
/// Something could not be deleted.
pub fn sweep(dir: &Path, work: &str) -> Result<(), Error> {
    let work = Path::new(work).components().next();
    for entry in fs_err::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let named = name == LOG_DIR || work == Some(Component::Normal(&name));
        let kind = entry.file_type()?;
        let kept = named && kind.is_dir();
        if !kept && (named && kind.is_file() || !is_roots(&dir.join(&name))?) {
            state::unlink(&dir.join(&name))?;
        }
    }
    Ok(())
}

/// Creates the log and work directories of a guarded tree if they are missing, because the runner's user cannot. A work
/// directory elsewhere is created only where no user but root can interfere; otherwise the listener creates its last
/// component.
///
/// # Errors
/// One cannot be created.
pub fn make_ready(dir: &Path, keeper: Keeper, work: &str) -> Result<(), Error> {
    create_for(&dir.join(LOG_DIR), keeper)?;
    let path = dir.join(work);
    let work = Path::new(work);
    let climbs = work.components().any(|part| part == Component::ParentDir);
    let mut missing: Vec<&Path> = Vec::new();
    for ancestor in path.ancestors() {
        if fs_err::symlink_metadata(ancestor).is_err() {
            missing.push(ancestor);
            continue;
        }
        let parent = if ancestor == path { ancestor.parent().unwrap_or(ancestor) } else { ancestor };
        if climbs || !only_root_writes(parent, dir) {
            return Ok(());
        }
        break;
    }
    for ancestor in missing.into_iter().rev().filter(|ancestor| *ancestor != path) {
        fs_err::create_dir(ancestor)?;
        own_dir(ancestor, 0, 0, 0o755)?;
    }
    if path == dir || climbs { Ok(()) } else { create_for(&path, keeper) }
}

/// Whether only root can replace what is at this path: no part of it, starting at the tree or at the root, is a link,
/// or a directory that others can write to. A link `work` created by a job would lead `work/log` to `/var/log`.
fn only_root_writes(path: &Path, dir: &Path) -> bool {
    for part in path.ancestors() {
        if !unix_only::only_root_writes(part) {
            return false;
        }
        if part == dir {
            break;
        }
    }
    true
}

/// Gives a locked tree in which no job has run to the runner's user, which can then update itself: the state after
/// GitHub's own scripts.
///
/// # Errors
/// The owner of a file cannot be changed.
pub fn open(dir: &Path, keeper: Keeper) -> Result<(), Error> {
    own_dir(dir, 0, keeper.gid, 0o700)?;
    unix_only::give_tree(dir, keeper)?;
    own_dir(dir, keeper.uid, keeper.gid, 0o750)
}

/// Gives one file to the runner's user.
///
/// # Errors
/// It is a link, has another hard link, or its owner cannot be changed.
pub fn give(path: &Path, keeper: Keeper) -> Result<(), Error> {
    own_file(path, keeper.uid, keeper.gid, 0o600)
}

/// Gives an existing directory to a user, directly in one to which only root can write.
///
/// # Errors
/// It is a link, or its owner cannot be changed.
pub fn give_dir(path: &Path, keeper: Keeper) -> Result<(), Error> {
    own_dir(path, keeper.uid, keeper.gid, 0o755)
}

/// Creates a directory for the user, directly in one to which only root can write.
fn create_for(path: &Path, keeper: Keeper) -> Result<(), Error> {
    match fs_err::create_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            // An operator may have created it, and a job may have made it inaccessible to the next start.
            let metadata = fs_err::symlink_metadata(path)?;
            let owner = unix_only::uid(&metadata);
            let closed = unix_only::mode(&metadata) & 0o700 != 0o700;
            // Jobs must not get other files that an operator keeps there.
            let spare = owner == 0 && metadata.is_dir() && is_empty(path)?;
            if owner == 0 && !spare && metadata.is_dir() {
                tracing::warn!(
                    "{} belongs to root and is not empty, so the runner's user does not get it: `chown` it, or pass another --work",
                    path.display()
                );
            }
            if metadata.is_dir() && (spare || (owner == keeper.uid && closed)) {
                own_dir(path, keeper.uid, keeper.gid, 0o755)
            } else {
                Ok(())
            }
        }
        made => {
            made?;
            own_dir(path, keeper.uid, keeper.gid, 0o755)
        }
    }
}

/// Whether a directory is empty, except for what every new filesystem has.
fn is_empty(path: &Path) -> Result<bool, Error> {
    for entry in fs_err::read_dir(path)? {
        if entry?.file_name() != "lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Lets the group of the runner read a file of root.
///
/// # Errors
/// It is a link, has another hard link, or its owner cannot be changed.
pub fn give_group(path: &Path, keeper: Keeper) -> Result<(), Error> {
    own_file(path, 0, keeper.gid, 0o640)
}

/// Whether an entry at the top of the tree belongs to root; a link is not followed.
fn is_roots(path: &Path) -> Result<bool, Error> {
    match fs_err::symlink_metadata(path) {
        Ok(metadata) => Ok(unix_only::uid(&metadata) == 0),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error.into()),
    }
}

fn own_dir(path: &Path, uid: u32, gid: u32, mode: u32) -> Result<(), Error> {
    unix_only::own(path, uid, gid, mode, true)
}

fn own_file(path: &Path, uid: u32, gid: u32, mode: u32) -> Result<(), Error> {
    unix_only::own(path, uid, gid, mode, false)
}

#[cfg(unix)]
mod unix_only;

/// Windows has no such owners.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
mod unix_only {
    use super::{Error, Keeper};
    use std::path::Path;

    pub fn uid(_: &std::fs::Metadata) -> u32 {
        0
    }

    pub fn mode(_: &std::fs::Metadata) -> u32 {
        0o700
    }

    pub fn own(_: &Path, _: u32, _: u32, _: u32, _: bool) -> Result<(), Error> {
        Ok(())
    }

    pub fn only_root_writes(_: &Path) -> bool {
        false
    }

    pub fn give_tree(_: &Path, _: Keeper) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    const KEEPER: Keeper = Keeper { uid: 65534, gid: 65534 };

    /// A tree, and next to it a directory of root that a job could try to get; the test needs root.
    fn tree(mode: u32) -> Option<(tempfile::TempDir, std::path::PathBuf, std::path::PathBuf)> {
        let place = tempfile::tempdir().unwrap();
        let (dir, precious) = (place.path().join("tree"), place.path().join("var/log"));
        std::fs::create_dir_all(&precious).unwrap();
        std::fs::create_dir(&dir).unwrap();
        own_dir(&dir, 0, KEEPER.gid, mode).ok()?;
        crate::host::account::is_root().then_some((place, dir, precious))
    }

    fn uid(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().uid()
    }

    #[test]
    fn a_link_in_a_tree_leads_to_nothing_that_is_given_away() {
        for mode in [0o750, 0o1770] {
            let Some((place, dir, precious)) = tree(mode) else { return };
            symlink(place.path().join("var"), dir.join("work")).unwrap();
            symlink(&precious, dir.join(LOG_DIR)).unwrap();
            // An existing one, and a missing one.
            for work in ["work/log", "work/log/new"] {
                make_ready(&dir, KEEPER, work).unwrap();
            }
            assert_eq!((uid(&precious), precious.join("new").exists()), (0, false));
        }
    }

    #[test]
    fn what_a_job_put_in_the_place_of_a_directory_goes_and_what_it_closed_is_opened() {
        let Some((_place, dir, precious)) = tree(0o1770) else { return };
        symlink(&precious, dir.join(LOG_DIR)).unwrap();
        std::os::unix::fs::lchown(dir.join(LOG_DIR), Some(KEEPER.uid), None).unwrap();
        sweep(&dir, "_work").unwrap();
        make_ready(&dir, KEEPER, "_work").unwrap();
        let logs = dir.join(LOG_DIR);
        assert!(std::fs::symlink_metadata(&logs).unwrap().is_dir() && uid(&logs) == KEEPER.uid);
        std::fs::set_permissions(&logs, std::fs::Permissions::from_mode(0o000)).unwrap();
        make_ready(&dir, KEEPER, "_work").unwrap();
        assert_eq!(std::fs::metadata(&logs).unwrap().mode() & 0o777, 0o755);
    }

    #[test]
    fn a_work_directory_below_root_s_alone_is_created_with_what_is_above_it() {
        let Some((_place, dir, _)) = tree(0o750) else { return };
        make_ready(&dir, KEEPER, "deep/work").unwrap();
        assert_eq!((uid(&dir.join("deep")), uid(&dir.join("deep/work"))), (0, KEEPER.uid));
    }
}
