//! Moves trees to their target and away from it, each with one rename, so that the target holds a whole tree or none,
//! even after a power failure.

use super::error::Error;
use super::names::{self, STAGING};
use crate::host::account::is_root;
use crate::host::delete::{delete_dir, empty_dir, is_lost_and_found};
use crate::host::mounts;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

pub use super::names::is_reserved;

/// The staging directory for `target`: `.NAME.runup-staging` next to it, so that it is on the same filesystem.
#[must_use]
pub fn staging_path(target: &Path) -> PathBuf {
    target.with_file_name(names::staging(target.file_name().unwrap_or_default()))
}

/// The staging directory for a `target` that cannot be renamed: in it.
#[must_use]
pub fn staging_inside(target: &Path) -> PathBuf {
    target.join(STAGING)
}

/// Moves a staged tree to `target`, durably: the whole tree is on disk before it gets its name. It replaces nothing; if
/// `target` exists, it fails with [`Error::Occupied`].
pub fn commit(staging: &Path, target: &Path) -> Result<(), Error> {
    let parent = parent_of(target)?;
    // Checked early because syncing the tree can take long; the rename below checks it again.
    if fs_err::symlink_metadata(target).is_ok() {
        return Err(Error::Occupied { target: target.to_owned() });
    }
    sync_tree(staging).map_err(|source| Error::Sync { path: staging.to_owned(), source })?;
    rename_new(staging, target).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => Error::Occupied { target: target.to_owned() },
        _ => Error::Rename { from: staging.to_owned(), to: target.to_owned(), source },
    })?;
    sync_dir(parent).map_err(|source| Error::Sync { path: parent.to_owned(), source })
}

/// Exchanges a staged tree with the one at `target`, durably and in one step; the old tree is at `staging` afterwards,
/// to be removed. Fails if the system or the filesystem does not support an exchange.
pub fn exchange(staging: &Path, target: &Path) -> Result<(), Error> {
    let parent = parent_of(target)?;
    sync_tree(staging).map_err(|source| Error::Sync { path: staging.to_owned(), source })?;
    rename_exchange(staging, target).map_err(|source| Error::Rename {
        from: staging.to_owned(),
        to: target.to_owned(),
        source,
    })?;
    sync_dir(parent).map_err(|source| {
        // A caller that sees an error has the old tree, and may delete what is staged.
        if let Err(error) = rename_exchange(staging, target) {
            tracing::warn!(%error, "the old tree of {} cannot be put back", target.display());
        }
        Error::Sync { path: parent.to_owned(), source }
    })
}

/// Replaces the tree at `target` by a staged one, durably: by [`exchange`], after which the old tree is at `staging`.
/// Where that is not supported, the old tree is moved aside first, moved back if the new one cannot be renamed, and
/// otherwise deleted. Where it cannot be moved either, like a directory of an image layer in a container, it is deleted
/// before the rename.
pub fn replace(staging: &Path, target: &Path) -> Result<(), Error> {
    let failed = match exchange(staging, target) {
        Err(Error::Rename { source, .. }) if is_unable(&source) => source,
        outcome => return outcome,
    };
    tracing::debug!(error = %failed, "the filesystem cannot exchange directories in one step");
    let parent = parent_of(target)?;
    let aside = match move_aside(target) {
        Err(Error::Rename { source, .. }) if source.kind() == io::ErrorKind::CrossesDevices => {
            delete(target)?;
            None
        }
        moved => moved?,
    };
    if let Err(source) = rename_new(staging, target) {
        if let Some(aside) = &aside
            && let Err(error) = rename_new(aside, target)
        {
            tracing::warn!(%error, "the tree of {} is left at {}", target.display(), aside.display());
        }
        return Err(Error::Rename { from: staging.to_owned(), to: target.to_owned(), source });
    }
    sync_dir(parent).map_err(|source| Error::Sync { path: parent.to_owned(), source })?;
    match aside {
        Some(aside) => delete(&aside),
        None => Ok(()),
    }
}

/// Moves the entries of a tree that is staged in `target` to it, and deletes what was there before, but not what is
/// mounted there, or a filesystem's `lost+found`. A cut in the middle leaves a part of either.
pub fn put_into(staging: &Path, target: &Path) -> Result<(), Error> {
    sync_tree(staging).map_err(|source| Error::Sync { path: staging.to_owned(), source })?;
    let failed = |source| Error::Remove { path: target.to_owned(), source };
    let mounted = mounts::within(target);
    let real = fs_err::canonicalize(target).map_err(failed)?;
    for entry in fs_err::read_dir(target).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if name != STAGING && !is_lost_and_found(&entry.path()) && !mounted.contains(&real.join(&name)) {
            delete(&entry.path())?;
        }
    }
    for entry in fs_err::read_dir(staging).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let to = target.join(entry.file_name());
        rename_new(&entry.path(), &to).map_err(|source| Error::Rename { from: entry.path(), to, source })?;
    }
    delete(staging)?;
    sync_dir(target).map_err(|source| Error::Sync { path: target.to_owned(), source })
}

/// Whether a rename failed because it is not supported here.
fn is_unable(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(error.kind(), Kind::Unsupported | Kind::InvalidInput | Kind::CrossesDevices)
}

/// Removes the tree at `path`: moves it aside, so that it is never half there, then deletes it. A missing tree counts
/// as removed; a file is unlinked, and so is a symbolic link, which is not followed.
pub fn remove(path: &Path) -> Result<(), Error> {
    let parent = parent_of(path)?;
    if fs_err::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_dir()) {
        return delete(path);
    }
    let aside = match move_aside(path) {
        // A directory of an image layer in a container can be deleted, but not moved; root can also delete one that a
        // job has made immutable.
        Err(Error::Rename { source, .. })
            if source.kind() == io::ErrorKind::CrossesDevices
                || source.kind() == io::ErrorKind::PermissionDenied && is_root() =>
        {
            return delete(path);
        }
        moved => moved?,
    };
    let Some(aside) = aside else { return Ok(()) };
    sync_dir(parent).map_err(|source| Error::Sync { path: parent.to_owned(), source })?;
    delete(&aside)
}

/// Deletes what an earlier run left in `target`, the path of which no other user can change. The caller must hold the
/// lock for `target`.
pub fn sweep_inside(target: &Path) -> Result<(), Error> {
    let staging = staging_inside(target);
    sweep(&staging)?;
    delete(&staging)
}

/// Removes the tree at `path` and what earlier runs left next to it. A mount point is emptied instead, and so is a
/// directory that something is mounted in, as by [`empty`].
pub fn clear(path: &Path) -> Result<(), Error> {
    sweep(path)?;
    let is_dir = fs_err::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    if is_dir && !mounts::within(path).is_empty() {
        return empty(path);
    }
    remove(path)
}

/// Deletes what is in the directory at `path`, but not the directory, a filesystem's `lost+found`, and what is mounted in
/// it. A missing directory counts as empty; a symbolic link is not followed.
pub fn empty(path: &Path) -> Result<(), Error> {
    match empty_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome.map_err(|source| Error::Remove { path: path.to_owned(), source }),
    }
}

/// Renames what is at `path` to a name next to it that [`sweep`] recognises; `None` if `path` does not exist.
pub(super) fn move_aside(path: &Path) -> Result<Option<PathBuf>, Error> {
    parent_of(path)?;
    // Checked first, because a read-only filesystem refuses to rename even a path that does not exist. A path below a
    // file does not exist either.
    let absent =
        |error: io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    if fs_err::symlink_metadata(path).is_err_and(absent) {
        return Ok(None);
    }
    loop {
        let aside = path.with_file_name(names::removed(path.file_name().unwrap_or_default()));
        match rename_new(path, &aside) {
            Ok(()) => return Ok(Some(aside)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(Error::Rename { from: path.to_owned(), to: aside, source }),
        }
    }
}

/// Deletes what earlier runs left next to `target`. The caller must hold the lock for `target`.
pub fn sweep(target: &Path) -> Result<(), Error> {
    for path in litter(target)? {
        tracing::info!(path = %path.display(), "deleting a leftover of an earlier run");
        delete(&path)?;
    }
    Ok(())
}

/// What earlier runs left next to `target`: its staging directory, and trees that were moved aside but not deleted.
pub fn litter(target: &Path) -> Result<Vec<PathBuf>, Error> {
    let target_name = target.file_name().unwrap_or_default();
    beside(target, |name| names::belongs(name, target_name))
}

/// The same, whatever target it was left for.
pub fn litter_of_any(target: &Path) -> Result<Vec<PathBuf>, Error> {
    beside(target, names::is_made)
}

fn beside(target: &Path, is_litter: impl Fn(&OsStr) -> bool) -> Result<Vec<PathBuf>, Error> {
    let parent = parent_of(target)?;
    let failed = |source| Error::Remove { path: parent.to_owned(), source };
    let entries = match fs_err::read_dir(parent) {
        Ok(entries) => entries,
        // Without a parent directory there are no leftovers; the step that creates the target reports the problem.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(failed(error)),
    };
    let mut litter = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if is_litter(&entry.file_name()) {
            litter.push(entry.path());
        }
    }
    litter.sort();
    Ok(litter)
}

/// Deletes what is at `path`, if it exists.
pub(super) fn delete(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Remove { path: path.to_owned(), source };
    let is_dir = match fs_err::symlink_metadata(path) {
        Ok(metadata) => metadata.is_dir(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !is_dir {
        return fs_err::remove_file(path).map_err(failed);
    }
    match delete_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome.map_err(failed),
    }
}

fn parent_of(target: &Path) -> Result<&Path, Error> {
    match (target.parent(), target.file_name()) {
        (Some(parent), Some(_)) if parent.as_os_str().is_empty() => Ok(Path::new(".")),
        (Some(parent), Some(_)) => Ok(parent),
        _ => Err(Error::NoPlace { target: target.to_owned() }),
    }
}

/// Writes a tree to disk. One call for the whole filesystem is much faster than one for each of ten thousand files,
/// because they share one commit of its journal.
#[cfg(target_os = "linux")]
fn sync_tree(tree: &Path) -> io::Result<()> {
    let dir = fs_err::File::open(tree)?;
    rustix::fs::syncfs(dir.file())?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn sync_tree(tree: &Path) -> io::Result<()> {
    for entry in fs_err::read_dir(tree)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            // Windows syncs only files that are open for writing; one without that permission is left out.
            match fs_err::OpenOptions::new().write(true).open(entry.path()) {
                Ok(file) => file.sync_all()?,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                Err(error) => return Err(error),
            }
        }
    }
    sync_dir(tree)
}

/// Makes the entries of a directory durable.
#[cfg(unix)]
fn sync_dir(dir: &Path) -> io::Result<()> {
    fs_err::File::open(dir)?.sync_all()
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
fn sync_dir(_dir: &Path) -> io::Result<()> {
    // Windows cannot open directories this way, and journals their entries by itself.
    Ok(())
}

/// Renames, and fails if `to` exists: an ordinary rename replaces an empty directory, or a file.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // Old kernels, and filesystems such as NFS, do not support the flag.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            outcome => return Ok(outcome?),
        }
    }
    if std::fs::symlink_metadata(to).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    std::fs::rename(from, to)
}

fn rename_exchange(one: &Path, other: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
    }
    #[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
    {
        let _ = (one, other);
        Err(io::ErrorKind::Unsupported.into())
    }
}
