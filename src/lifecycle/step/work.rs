//! The directory in which jobs work. Jobs own it, and it is emptied between the jobs of an ephemeral runner and at the
//! end, so it must hold nothing of anybody else.
//!
//! Most are a part of the runner's tree. One that is elsewhere, or a filesystem of its own, is claimed: recorded in the
//! journal and marked by a file, so that nothing else is ever emptied, also if the journal is lost.

use crate::host::account::{Account, is_root};
use crate::host::delete::LOST_AND_FOUND;
use crate::host::{self, mounts};
use crate::lifecycle::context::error::{Error, JobsError};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::{Journal, WorkDir};
use crate::runner::{Keeper, guard, state};
use crate::transfer::{self, place};
use std::io::{ErrorKind, Write as _};
use std::path::{Component, Path, PathBuf};

/// The file that marks a directory as the work directory of the runner that it names.
const MARK: &str = ".runup-work";

/// A mark has a path and a line feed.
const LIMIT: u64 = 8 * 1024;

/// Where a work directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the runner's directory, below this directory directly in it.
    Inside(PathBuf),
    /// Elsewhere.
    Elsewhere(PathBuf),
}

impl Place {
    /// The directory that is emptied.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Inside(path) | Self::Elsewhere(path) => path,
        }
    }

    /// Whether it has to be claimed.
    fn is_apart(&self) -> bool {
        match self {
            Self::Inside(path) => mounts::is_mount_point(path),
            Self::Elsewhere(_) => true,
        }
    }
}

/// Where `--work` leads; `None` if it is the runner's directory itself, one of the runner's own, or climbs.
pub(crate) fn locate(dir: &Path, work: &str) -> Option<Place> {
    let work = Path::new(work);
    let inner = work.strip_prefix(dir).unwrap_or(work);
    if inner.components().any(|part| part == Component::ParentDir) {
        return None;
    }
    if inner.is_absolute() {
        return Some(Place::Elsewhere(inner.to_owned()));
    }
    let first = inner.components().find_map(|part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    })?;
    let is_own = ["bin", "externals", state::LOG_DIR].iter().any(|own| first == *own);
    (!is_own).then(|| Place::Inside(dir.join(first)))
}

/// Refuses a work directory that the runner could not use, or must not have.
///
/// # Errors
/// `JobsError::WorkUnusable`; others can change a directory above it; a journal cannot be read.
pub(crate) fn check(site: &Site<'_>, journal: &Journal) -> Result<(), Error> {
    let dir = site.dir();
    let Some(located) = locate(&dir, site.work()).filter(Place::is_apart) else { return Ok(()) };
    let work = located.path();
    let refused = |why: String| Err(JobsError::WorkUnusable { work: work.to_owned(), why }.into());
    if place::is_reserved(work) {
        return refused("it has a name of what runup deletes beside a runner".into());
    }
    let overlaps = |other: &Path| other.starts_with(work) || work.starts_with(other);
    if matches!(located, Place::Elsewhere(_)) {
        if dir.starts_with(work) {
            return refused("the runner's directory is in it".into());
        }
        for other in Journal::all(&site.state)?.iter().filter(|other| other.dir() != site.request.dir) {
            let asked = other.registered().and_then(|(_, registered)| registered.asked.as_ref());
            let theirs = asked.map(|asked| Path::new(&asked.work)).filter(|work| work.is_absolute());
            let recorded = other.work().map(|work| work.path.as_path());
            if [theirs, recorded].into_iter().flatten().any(overlaps) {
                return refused(format!("the jobs of the runner in {} work there", other.dir().display()));
            }
            if work.starts_with(site.request.root.join(other.dir())) {
                return refused(format!(
                    "it is in the directory of another runner, {}",
                    other.dir().display()
                ));
            }
        }
        site.check_above(work)?;
    }
    // If it is missing, it is created, with what is missing above it.
    let Ok(meta) = std::fs::symlink_metadata(work) else { return Ok(()) };
    if !meta.is_dir() {
        return refused("it is not a directory".into());
    }
    match of_others(site, journal, work) {
        Some(name) => refused(format!("it contains other files, such as {name}")),
        None => Ok(()),
    }
}

/// The name of something in a work directory that nothing shows to be this runner's, and so must not be emptied.
pub(crate) fn of_others(site: &Site<'_>, journal: &Journal, work: &Path) -> Option<String> {
    if journal.works_in(work) || is_marked(site, work) { None } else { first_entry(work) }
}

/// The name of something in the directory; what every new filesystem has does not count.
fn first_entry(dir: &Path) -> Option<String> {
    let names = std::fs::read_dir(dir).ok()?.flatten().map(|entry| entry.file_name());
    names.map(|name| name.to_string_lossy().into_owned()).find(|name| name != LOST_AND_FOUND)
}

fn mark(site: &Site<'_>) -> String {
    format!("{}\n", site.request.dir.display())
}

/// As root, only root's own mark counts: jobs can write there.
fn is_marked(site: &Site<'_>, work: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let roots = |meta: std::fs::Metadata| meta.uid() == 0 && meta.nlink() == 1;
        if is_root() && !std::fs::symlink_metadata(work.join(MARK)).is_ok_and(roots) {
            return false;
        }
    }
    let read = host::file::read_untrusted_in(work, MARK, LIMIT).ok().flatten();
    read.is_some_and(|bytes| bytes == mark(site).as_bytes())
}

/// Makes a work directory that is not simply a part of the tree this runner's: records it, creates it, gives it to the
/// runner's user, and empties what an earlier runner of the same directory left in it.
///
/// # Errors
/// As for [`check`]; it cannot be created or emptied; the journal cannot be written.
pub(crate) fn claim(site: &Site<'_>, journal: &mut Journal, account: &Account) -> Result<(), Error> {
    let wanted = locate(&site.dir(), site.work()).filter(Place::is_apart);
    let wanted = wanted.as_ref().map(Place::path);
    if journal.work().is_some_and(|old| Some(old.path.as_path()) != wanted) {
        release(site, journal)?;
    }
    let Some(work) = wanted else { return Ok(()) };
    check(site, journal)?;
    if !journal.works_in(work) && is_dir(work) {
        // Before the record makes it known: a kill in between must not leave a job what an earlier runner left.
        place::empty(work).map_err(|source| leftovers(work, source))?;
    }
    let absent = |path: &&Path| std::fs::symlink_metadata(path).is_err();
    let mut missing: Vec<PathBuf> = work.ancestors().take_while(absent).map(Path::to_owned).collect();
    missing.reverse();
    let mut record = WorkDir { path: work.to_owned(), created: missing.clone() };
    if let Some(old) = journal.work() {
        record.created.extend(old.created.iter().filter(|old| !missing.contains(old)).cloned());
        record.created.sort();
    }
    journal.set_work(Some(record))?;
    for path in &missing {
        host::file::create_dir_all(path, dir_mode())?;
    }
    if !missing.is_empty() {
        // Somebody may have been faster.
        site.check_above(work)?;
    }
    give(work, site.keeper(account, journal))?;
    put_mark(site, work)
}

fn put_mark(site: &Site<'_>, work: &Path) -> Result<(), Error> {
    let path = work.join(MARK);
    if is_marked(site, work) {
        return Ok(());
    }
    host::file::remove_if_present(&path)?;
    // A link of a job is not followed.
    match std::fs::OpenOptions::new().write(true).create_new(true).open(&path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        opened => opened
            .and_then(|mut file| {
                readable(&file)?;
                file.write_all(mark(site).as_bytes())
            })
            .map_err(|source| host::Error::Path { doing: "write", path, source }.into()),
    }
}

/// The user of jobs may read it, whatever the umask.
fn readable(file: &std::fs::File) -> std::io::Result<()> {
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    #[cfg(not(unix))]
    let _ = file;
    Ok(())
}

/// The mode of directories above what the runner's user has to reach; an ordinary user is that user.
pub(crate) fn dir_mode() -> u32 {
    if is_root() { 0o755 } else { 0o755 & !host::umask::original() | 0o700 }
}

/// Lets the runner's user use the directory, if that is in our power.
fn give(work: &Path, keeper: Keeper) -> Result<(), Error> {
    if is_root() {
        guard::give_dir(work, keeper)?;
    }
    Ok(())
}

fn leftovers(work: &Path, source: transfer::Error) -> Error {
    JobsError::Leftovers { work: work.to_owned(), source: Box::new(source) }.into()
}

/// What is mounted in the work directory.
pub(crate) fn mounted(site: &Site<'_>, work: &str) -> Vec<PathBuf> {
    match locate(&site.dir(), work) {
        Some(place) if is_dir(place.path()) => {
            // Jobs own the directory, and could put a link to another one in its place.
            let Some((parent, name)) = place.path().parent().zip(place.path().file_name()) else {
                return Vec::new();
            };
            let Ok(real) = fs_err::canonicalize(parent).map(|parent| parent.join(name)) else {
                return Vec::new();
            };
            mounts::within(place.path()).into_iter().filter(|mount| mount.starts_with(&real)).collect()
        }
        _ => Vec::new(),
    }
}

/// A link is not one.
fn is_dir(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// Empties the work directory for the next job. No process of the runner's user may be running. What jobs have mounted
/// in it since `before` is unmounted; what an operator mounts there stays, with its content.
///
/// # Errors
/// `JobsError::Leftovers` or `LeftMounted`: something stays that the next job could see.
pub(crate) fn clean(
    site: &Site<'_>,
    journal: &Journal,
    work: &str,
    before: Option<&[PathBuf]>,
) -> Result<(), Error> {
    let Some(place) = locate(&site.dir(), work) else { return Ok(()) };
    let path = place.path();
    let ours = journal.works_in(path);
    if matches!(place, Place::Elsewhere(_)) {
        if !ours || !is_dir(path) {
            return Ok(());
        }
        site.check_above(path)?;
    } else if place.is_apart()
        && let Some(name) = of_others(site, journal, path)
    {
        let why = format!("something is mounted there that contains other files, such as {name}");
        return Err(JobsError::WorkUnusable { work: path.to_owned(), why }.into());
    }
    for mount in mounted(site, work).iter().rev() {
        if before.is_some_and(|before| !before.contains(mount)) {
            mounts::detach(mount)
                .map_err(|source| JobsError::LeftMounted { mount: mount.clone(), source })?;
        }
    }
    let emptied = match &place {
        Place::Inside(_) => place::clear(path),
        Place::Elsewhere(_) => place::empty(path),
    };
    emptied.map_err(|source| leftovers(path, source))?;
    if let Some(account) = site.account()?.filter(|_| ours && is_dir(path)) {
        // A container may have taken it.
        give(path, site.keeper(&account, journal))?;
        put_mark(site, path)?;
    }
    Ok(())
}

/// Empties a claimed directory for good, and removes what runup created for it.
///
/// # Errors
/// Something stays; the record does as well.
pub(crate) fn release(site: &Site<'_>, journal: &mut Journal) -> Result<(), Error> {
    let Some(work) = journal.work().cloned() else { return Ok(()) };
    if is_dir(&work.path) {
        if !work.path.starts_with(site.dir()) {
            site.check_above(&work.path)?;
        }
        place::empty(&work.path).map_err(|source| leftovers(&work.path, source))?;
        if is_root() {
            // Its user may be deleted, and the next one with that id must not get it.
            guard::give_dir(&work.path, Keeper { uid: 0, gid: 0 })?;
        }
        for path in work.created.iter().rev() {
            // Others may have put something into the ones above it.
            if let Err(error) = std::fs::remove_dir(path) {
                tracing::debug!("{} stays: {error}", path.display());
                break;
            }
        }
    }
    Ok(journal.set_work(None)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_work_directory_is_in_the_tree_elsewhere_or_not_ours_to_empty() {
        let dir = Path::new("/opt/actions-runner");
        let inside = |name: &str| Some(Place::Inside(dir.join(name)));
        assert_eq!(locate(dir, "_work"), inside("_work"));
        assert_eq!(locate(dir, "./deep/work"), inside("deep"));
        assert_eq!(locate(dir, "/opt/actions-runner/_work"), inside("_work"));
        assert_eq!(locate(dir, "/mnt/x"), Some(Place::Elsewhere("/mnt/x".into())));
        for none in [".", "", "bin/x", "_diag", "../x", "/opt/actions-runner", "/mnt/../etc"] {
            assert_eq!(locate(dir, none), None, "{none}");
        }
    }
}
