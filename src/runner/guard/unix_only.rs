//! Changes owners through file descriptors that do not follow links.

use super::{Error, Keeper};
use crate::host::delete::LOST_AND_FOUND;
use crate::host::{self, share};
use rustix::fs::{AtFlags, CWD, Dev, Dir, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

pub fn uid(metadata: &std::fs::Metadata) -> u32 {
    std::os::unix::fs::MetadataExt::uid(metadata)
}

pub fn mode(metadata: &std::fs::Metadata) -> u32 {
    std::os::unix::fs::MetadataExt::mode(metadata)
}

/// Sets the owner and mode of a file or directory; a missing file is not an error. A link, or a file with another hard
/// link, is refused.
pub fn own(path: &Path, uid: u32, gid: u32, mode: u32, dir: bool) -> Result<(), Error> {
    let failed = |error: Errno| host::Error::Path {
        doing: "change the owner of",
        path: path.to_owned(),
        source: error.into(),
    };
    let mut flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if dir {
        flags |= OFlags::DIRECTORY;
    }
    let opened = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT) if !dir => return Ok(()),
        opened => opened.map_err(failed)?,
    };
    let stat = rustix::fs::fstat(&opened).map_err(failed)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if !dir && (kind != FileType::RegularFile || stat.st_nlink != 1) {
        return Err(failed(Errno::MLINK).into());
    }
    give(&opened, uid, gid).map_err(failed)?;
    Ok(rustix::fs::fchmod(&opened, Mode::from_raw_mode(mode)).map_err(failed)?)
}

fn give(file: &OwnedFd, uid: u32, gid: u32) -> rustix::io::Result<()> {
    // Without root there is only one user, who already owns everything.
    if !host::account::is_root() {
        return Ok(());
    }
    rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
}

/// Whether only root can create or replace something in a directory.
pub fn only_root_writes(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::symlink_metadata(dir)
        .is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == 0 && metadata.mode() & 0o022 == 0)
}

/// Changes the owner of everything below a directory that only root can enter at that time, but of nothing on another
/// filesystem, and not of a filesystem's `lost+found`. A file that other trees share is copied first.
pub fn give_tree(dir: &Path, keeper: Keeper) -> Result<(), Error> {
    let failed = |error: Errno| host::Error::Path {
        doing: "change the owner of the files in",
        path: dir.to_owned(),
        source: error.into(),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = rustix::fs::openat(CWD, dir, flags, Mode::empty()).map_err(failed)?;
    let disk = rustix::fs::fstat(&top).map_err(failed)?.st_dev;
    below(&top, keeper, disk).map_err(failed)?;
    Ok(())
}

fn below(dir: &OwnedFd, keeper: Keeper, disk: Dev) -> rustix::io::Result<()> {
    let mut entries = Dir::read_from(dir)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") && name.to_bytes() != LOST_AND_FOUND.as_bytes() {
            one(dir.as_fd(), name, keeper, disk)?;
        }
    }
    Ok(())
}

fn one(parent: BorrowedFd<'_>, name: &CStr, keeper: Keeper, disk: Dev) -> rustix::io::Result<()> {
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if stat.st_dev != disk {
        return Ok(());
    }
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        below(&rustix::fs::openat(parent, name, flags, Mode::empty())?, keeper, disk)?;
    } else if name == share::COPY {
        return rustix::fs::unlinkat(parent, name, AtFlags::empty());
    } else if stat.st_nlink != 1 && !share::own_copy(parent, name)? {
        // The owner of its other hard link would change too.
        return Ok(());
    }
    let (uid, gid) = (Some(Uid::from_raw(keeper.uid)), Some(Gid::from_raw(keeper.gid)));
    rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
}
