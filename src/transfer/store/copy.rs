//! Reproduces one file, directory or link in another tree: by a hard link, else by a copy, which shares its blocks where
//! the filesystem can do that.

use super::manifest::{Item, Kind};
use crate::transfer::Owner;
use fs_err::os::unix::fs::{OpenOptionsExt as _, lchown};
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// How files are reproduced.
#[derive(Debug, Clone, Copy)]
pub(super) enum Means {
    /// By a hard link. What cannot be linked is copied.
    Link,
    /// By a copy with this owner.
    Copy(Option<Owner>),
}

/// Reproduces the item of the tree `from` in the tree `to`, where its parent is already; returns the bytes that were
/// copied. If nothing can be linked there, `means` says so afterwards.
pub(super) fn reproduce(from: &Path, item: &Item, to: &Path, means: &mut Means) -> io::Result<u64> {
    let (from, to) = (from.join(&item.path), to.join(&item.path));
    let owner = if let Means::Copy(owner) = *means { owner } else { None };
    match &item.kind {
        Kind::Dir => {
            fs_err::create_dir(&to)?;
            give(&to, owner)?;
            // Set after creation, so that the umask does not apply.
            fs_err::set_permissions(&to, Permissions::from_mode(item.mode))?;
        }
        Kind::Link { target } => {
            fs_err::os::unix::fs::symlink(target, &to)?;
            give(&to, owner)?;
        }
        Kind::File { size, .. } => {
            if matches!(means, Means::Link) {
                match fs_err::hard_link(&from, &to) {
                    Ok(()) => return Ok(0),
                    Err(error) if error.kind() == io::ErrorKind::TooManyLinks => {}
                    Err(error) if is_unable(&error) => *means = Means::Copy(None),
                    Err(error) => return Err(error),
                }
            }
            copy(&from, &to, *size, item.mode, owner)?;
            return Ok(*size);
        }
    }
    Ok(0)
}

/// Lets other users enter a tree that is complete.
pub(super) fn open_up(tree: &Path, owner: Option<Owner>) -> io::Result<()> {
    give(tree, owner)?;
    fs_err::set_permissions(tree, Permissions::from_mode(0o755))
}

/// Whether links cannot be created here at all: it is another mount, or a filesystem without them.
fn is_unable(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(error.kind(), Kind::CrossesDevices | Kind::Unsupported | Kind::PermissionDenied)
}

fn copy(from: &Path, to: &Path, size: u64, mode: u32, owner: Option<Owner>) -> io::Result<()> {
    let mut source = fs_err::File::open(from)?;
    let mut options = fs_err::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(to)?;
    if !clone(&file, &source) {
        // The kernel copies it, if it can.
        let copied = io::copy(source.file_mut(), file.file_mut())?;
        if copied != size {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{} was cut off", from.display()),
            ));
        }
    }
    // The owner is set first, because changing it can clear bits of the mode.
    if let Some(Owner { uid, gid }) = owner {
        std::os::unix::fs::fchown(file.file(), Some(uid), Some(gid))?;
    }
    file.set_permissions(Permissions::from_mode(mode))
}

/// Lets the new file share the blocks of another one, which stay what they are when one of the two is written.
#[cfg(target_os = "linux")]
fn clone(to: &fs_err::File, from: &fs_err::File) -> bool {
    rustix::fs::ioctl_ficlone(to.file(), from.file()).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn clone(_: &fs_err::File, _: &fs_err::File) -> bool {
    false
}

fn give(path: &Path, owner: Option<Owner>) -> io::Result<()> {
    match owner {
        Some(Owner { uid, gid }) => lchown(path, Some(uid), Some(gid)),
        None => Ok(()),
    }
}
