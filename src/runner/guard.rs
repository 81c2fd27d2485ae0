//! Whose a runner's tree is, and so what root may believe of it, run in it, or give to a program of it.
//!
//! A job runs as the runner's user. What that user can write steers the next start, so in a guarded tree it can write
//! nothing that does: GitHub's own listener and worker need no more than their logs and the work directory. Every
//! change of hands below goes by file descriptors that follow no link.

use super::config_sh::PATH;
use super::state::{self, LOG_DIR};
use super::{Error, RunnerVersion};
use crate::host::file;
use serde::{Deserialize, Serialize};
use std::path::{Component, Path};

/// What config.sh writes of the identity, in the order in which the listener reads it.
const IDENTITY: [&str; 3] = [".runner", ".credentials", ".credentials_rsaparams"];

/// What [`furnish`] writes into every guarded tree, with nothing of a machine in it.
pub const FURNISHED: [&str; 4] = [".env", ".path", ".setup_info", "run-helper.sh"];

/// Under which heading the jobs' logs show where the runner came from.
const PROVENANCE: &str = "Runner installation";

/// Real ones have less than some kilobytes.
const LIMIT: u64 = 256 * 1024;

/// How a runner's tree is guarded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guard {
    /// The runner's user owns it: nothing in it is evidence, and no program of it gets a token.
    #[default]
    Open,
    /// Programs, scripts and settings are root's, in a sticky directory in which the runner's user can create files.
    Locked,
    /// All of it is root's but the logs and the work directory.
    Sealed,
}

impl Guard {
    /// Whether its user owns it.
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

/// The runner's user, and the group that may look into its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeper {
    /// The user's id.
    pub uid: u32,
    /// The group's id.
    pub gid: u32,
}

/// Writes what config.sh and run.sh would write as the runner's user, into a tree that nobody else can reach yet: the
/// environment of the jobs, their PATH, where the runner came from, and the helper of `run.sh`. What is there stays.
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
            file::write_atomic(&dir.join(name), text.as_bytes(), mode)?;
        }
    }
    give_group(&dir.join(".env"), keeper)?;
    let template = file::read_untrusted_in(dir, "run-helper.sh.template", LIMIT)?;
    if let Some(text) = template.filter(|_| missing("run-helper.sh")) {
        file::write_atomic(&dir.join("run-helper.sh"), &text, 0o755)?;
    }
    Ok(())
}

/// Locks a tree of root's: from here on, its user can look into it and create files in it, and change nothing.
///
/// # Errors
/// The directory cannot be given.
pub fn lock(dir: &Path, keeper: Keeper) -> Result<(), Error> {
    own_dir(dir, 0, keeper.gid, 0o1770)
}

/// Seals a locked tree in which config.sh has just registered: its user can create nothing more, what it created is
/// root's, and what is not part of a registered runner is deleted.
///
/// # Errors
/// Something of it is not what config.sh writes, or cannot be changed; the tree is locked or sealed then.
pub fn seal(dir: &Path, keeper: Keeper, work: &str) -> Result<(), Error> {
    // First of all, so that nothing is created while this goes on.
    own_dir(dir, 0, keeper.gid, 0o750)?;
    for name in IDENTITY {
        // A new file for each: whoever holds the old one open goes on writing to nothing.
        let Some(bytes) = file::read_untrusted_in(dir, name, LIMIT)? else { continue };
        file::write_atomic(&dir.join(name), &bytes, 0o640)?;
        give_group(&dir.join(name), keeper)?;
    }
    sweep(dir, work)?;
    make_ready(dir, keeper, work)
}

/// Copies what makes the runner this runner, and root's settings of its jobs, from a sealed tree into a staged one that
/// [`furnish`] has prepared. The provenance of the staged one stays, unless an operator has written another.
///
/// # Errors
/// A file is not a plain one, or cannot be written.
pub fn carry(from: &Path, to: &Path, keeper: Keeper) -> Result<(), Error> {
    let settings = [(".env", 0o640), (".path", 0o644), (".service", 0o644), (".setup_info", 0o644)];
    for (name, mode) in IDENTITY.into_iter().map(|name| (name, 0o640)).chain(settings) {
        let Some(bytes) = file::read_untrusted_in(from, name, LIMIT)? else { continue };
        if name == ".setup_info" && String::from_utf8_lossy(&bytes).contains(PROVENANCE) {
            continue;
        }
        file::write_atomic(&to.join(name), &bytes, mode)?;
        if mode == 0o640 {
            give_group(&to.join(name), keeper)?;
        }
    }
    Ok(())
}

/// Opens a sealed tree for config.sh: its user owns the identity again, and can create files. Nothing may run as that
/// user meanwhile.
///
/// # Errors
/// Something cannot be given back.
pub fn unseal(dir: &Path, keeper: Keeper) -> Result<(), Error> {
    state::discard_svc(dir)?;
    for name in IDENTITY {
        own_file(&dir.join(name), keeper.uid, keeper.gid, 0o600)?;
    }
    lock(dir, keeper)
}

/// Deletes what jobs left at the top of a guarded tree: all that is not root's, but the logs and the work directory, if
/// they are directories. In a locked tree a job can put a link in their place.
///
/// # Errors
/// Something stays.
pub fn sweep(dir: &Path, work: &str) -> Result<(), Error> {
    let work = Path::new(work).components().next();
    for entry in fs_err::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let named = name == LOG_DIR || work == Some(Component::Normal(&name));
        let kept = named && entry.file_type()?.is_dir();
        if !kept && !is_roots(&dir.join(&name))? {
            state::unlink(&dir.join(&name))?;
        }
    }
    Ok(())
}

/// Creates the logs' and the work directory of a guarded tree where they are missing, for its user, who cannot. A work
/// directory elsewhere is created only where nobody but root can interfere; the listener creates the last part of any
/// other.
///
/// # Errors
/// One cannot be created.
pub fn make_ready(dir: &Path, keeper: Keeper, work: &str) -> Result<(), Error> {
    make_for(&dir.join(LOG_DIR), keeper)?;
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
    if path == dir || climbs { Ok(()) } else { make_for(&path, keeper) }
}

/// Whether nobody but root can put something else at this path: no part of it, down from the tree or from the root, is
/// a link, or a directory in which others can write. A link `work` of a job's would lead `work/log` to `/var/log`.
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

/// Gives a locked tree in which no job has run to its user, who may update it: the form that GitHub's own scripts
/// leave.
///
/// # Errors
/// Something cannot be given.
pub fn open(dir: &Path, keeper: Keeper) -> Result<(), Error> {
    own_dir(dir, 0, keeper.gid, 0o700)?;
    unix_only::give_tree(dir, keeper)?;
    own_dir(dir, keeper.uid, keeper.gid, 0o750)
}

/// Gives one file to the runner's user alone.
///
/// # Errors
/// It is a link, or has another name elsewhere, or cannot be given.
pub fn give(path: &Path, keeper: Keeper) -> Result<(), Error> {
    own_file(path, keeper.uid, keeper.gid, 0o600)
}

/// A directory right where only root can create one, for the user.
fn make_for(path: &Path, keeper: Keeper) -> Result<(), Error> {
    match fs_err::create_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            // An operator may have created it, and a job may have closed it to the next start.
            let metadata = fs_err::symlink_metadata(path)?;
            let owner = unix_only::uid(&metadata);
            let closed = unix_only::mode(&metadata) & 0o700 != 0o700;
            // What an operator keeps there besides is not for jobs.
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

/// Whether there is nothing in a directory but what every new file system has.
fn is_empty(path: &Path) -> Result<bool, Error> {
    for entry in fs_err::read_dir(path)? {
        if entry?.file_name() != "lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}

fn give_group(path: &Path, keeper: Keeper) -> Result<(), Error> {
    own_file(path, 0, keeper.gid, 0o640)
}

/// Whether a tree's top entry is root's; a link counts as itself.
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

/// Windows knows no such owners.
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

    /// A tree, and beside it a directory of root's that a job would like to have; only root can give one away.
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
            // One that is there, and one that is not.
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
