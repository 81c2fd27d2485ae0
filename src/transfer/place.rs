//! From the staging directory into the place, and away again: each with one rename, so that a place holds all of a tree
//! or none of it, whenever the power fails.

use super::error::Error;
use crate::host::account::is_root;
use crate::host::delete::delete_dir;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

const STAGING: &str = ".runup-staging";
const REMOVED: &str = ".runup-removed-";

/// The staging directory for `target`: `.NAME.runup-staging` beside it, so that it is on the same filesystem.
#[must_use]
pub fn staging_path(target: &Path) -> PathBuf {
    target.with_file_name(hidden_name(target, STAGING))
}

/// Moves a staged tree to its place, durably: all of it is on disk before it is there under its name. Nothing is
/// replaced; if there is something at `target`, it fails with [`Error::Occupied`].
pub fn commit(staging: &Path, target: &Path) -> Result<(), Error> {
    let parent = parent_of(target)?;
    // Looked at before the tree is synced, which can take long; the rename below is what really decides.
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

/// Exchanges a staged tree with the one at `target`, durably and in one step; the old one is at `staging` afterwards,
/// to be removed. Fails where the system or the filesystem cannot do it in one step.
pub fn exchange(staging: &Path, target: &Path) -> Result<(), Error> {
    let parent = parent_of(target)?;
    sync_tree(staging).map_err(|source| Error::Sync { path: staging.to_owned(), source })?;
    rename_exchange(staging, target).map_err(|source| Error::Rename {
        from: staging.to_owned(),
        to: target.to_owned(),
        source,
    })?;
    sync_dir(parent).map_err(|source| Error::Sync { path: parent.to_owned(), source })
}

/// Puts a staged tree into the place of the one at `target`, durably; the old one is at `staging` afterwards, if it is
/// anywhere. In one step where system and filesystem can do that. Else the old one is moved aside first, and back if
/// the new one cannot follow; and where it cannot even be moved, as a directory of an image's layer in a container, it
/// is deleted, now that the new one is there.
pub fn replace(staging: &Path, target: &Path) -> Result<(), Error> {
    let failed = match exchange(staging, target) {
        Err(Error::Rename { source, .. }) if is_unable(&source) => source,
        outcome => return outcome,
    };
    tracing::debug!(error = %failed, "trees cannot be exchanged here in one step");
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
            tracing::warn!(%error, "what was at {} stays at {}", target.display(), aside.display());
        }
        return Err(Error::Rename { from: staging.to_owned(), to: target.to_owned(), source });
    }
    sync_dir(parent).map_err(|source| Error::Sync { path: parent.to_owned(), source })?;
    match aside {
        Some(aside) => delete(&aside),
        None => Ok(()),
    }
}

/// Whether a rename failed because it cannot be done here at all.
fn is_unable(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(error.kind(), Kind::Unsupported | Kind::InvalidInput | Kind::CrossesDevices)
}

/// Removes the tree at `path`: moves it aside, so that nobody sees half of it, then deletes it. What is missing is
/// removed already; a symbolic link is unlinked, never followed.
pub fn remove(path: &Path) -> Result<(), Error> {
    let parent = parent_of(path)?;
    let aside = match move_aside(path) {
        // A directory of an image's layer in a container can be deleted, but not moved.
        Err(Error::Rename { source, .. }) if source.kind() == io::ErrorKind::CrossesDevices => {
            return delete(path);
        }
        moved => moved?,
    };
    let Some(aside) = aside else { return Ok(()) };
    sync_dir(parent).map_err(|source| Error::Sync { path: parent.to_owned(), source })?;
    delete(&aside)
}

/// Moves what is at `path` to a name beside it that [`sweep`] knows; `None` if there is nothing.
fn move_aside(path: &Path) -> Result<Option<PathBuf>, Error> {
    parent_of(path)?;
    // Asked first, because a read-only filesystem refuses to rename even what is not there.
    // Nothing is below a file either.
    let absent =
        |error: io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    if fs_err::symlink_metadata(path).is_err_and(absent) {
        return Ok(None);
    }
    loop {
        let suffix = format!("{REMOVED}{:08x}", fastrand::u32(..));
        let aside = path.with_file_name(hidden_name(path, &suffix));
        match rename_new(path, &aside) {
            Ok(()) => return Ok(Some(aside)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(Error::Rename { from: path.to_owned(), to: aside, source }),
        }
    }
}

/// Deletes what earlier runs left beside `target`. Only for the one that holds the lock for `target`.
pub fn sweep(target: &Path) -> Result<(), Error> {
    for path in litter(target)? {
        tracing::info!(path = %path.display(), "deleting what an earlier run left");
        delete(&path)?;
    }
    Ok(())
}

/// What earlier runs left beside `target`: its staging directory, and what was moved aside and not yet deleted.
pub fn litter(target: &Path) -> Result<Vec<PathBuf>, Error> {
    let parent = parent_of(target)?;
    let staging = hidden_name(target, STAGING);
    let removed = hidden_name(target, REMOVED);
    let failed = |source| Error::Remove { path: parent.to_owned(), source };
    let entries = match fs_err::read_dir(parent) {
        Ok(entries) => entries,
        // Nothing lies beside a place that cannot be: what is wrong is said by whoever wants to put something there.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(failed(error)),
    };
    let mut litter = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let ours = name == staging
            || name
                .as_encoded_bytes()
                .strip_prefix(removed.as_encoded_bytes())
                .is_some_and(|rest| rest.len() == 8 && rest.iter().all(u8::is_ascii_hexdigit));
        if ours {
            litter.push(entry.path());
        }
    }
    Ok(litter)
}

/// Deletes whatever is at `path`; what is missing is deleted already.
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
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !is_root() => {
            // Jobs leave directories behind that not even their owner may write to, as Go's module cache is.
            unlock_dirs(path);
            delete_dir(path).map_err(failed)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome.map_err(failed),
    }
}

/// Lets the owner write to all directories below `path`, as far as that works. Only for an ordinary user and a tree of
/// its own: to root no directory is locked, and a job could put a link to any directory of the machine in the place of
/// one of these.
#[cfg(unix)]
fn unlock_dirs(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    // What fails here fails again, and is reported, when the tree is deleted.
    let _ = fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o700));
    for entry in fs_err::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            unlock_dirs(&entry.path());
        }
    }
}

#[cfg(not(unix))]
fn unlock_dirs(_path: &Path) {}

fn hidden_name(target: &Path, suffix: &str) -> OsString {
    let mut name = OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(suffix);
    name
}

fn parent_of(target: &Path) -> Result<&Path, Error> {
    match (target.parent(), target.file_name()) {
        (Some(parent), Some(_)) if parent.as_os_str().is_empty() => Ok(Path::new(".")),
        (Some(parent), Some(_)) => Ok(parent),
        _ => Err(Error::NoPlace { target: target.to_owned() }),
    }
}

/// Writes a tree to disk. One call for the filesystem is much faster than one for each of ten thousand files: they
/// share one commit of its journal.
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
            // Windows syncs only what is open for writing; a file without that permission is not worth failing for.
            match fs_err::OpenOptions::new().write(true).open(entry.path()) {
                Ok(file) => file.sync_all()?,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                Err(error) => return Err(error),
            }
        }
    }
    sync_dir(tree)
}

/// Makes the names in a directory durable.
#[cfg(unix)]
fn sync_dir(dir: &Path) -> io::Result<()> {
    fs_err::File::open(dir)?.sync_all()
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
fn sync_dir(_dir: &Path) -> io::Result<()> {
    // Windows opens no directories this way, and journals its names by itself.
    Ok(())
}

/// Renames, and fails if there is something at `to`: an ordinary rename would replace an empty directory, or a file.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // Old kernels, and filesystems such as NFS, do not know the flag.
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
