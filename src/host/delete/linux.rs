//! Deletes through file descriptors that follow no link.

use crate::host::delete::{is_lost_and_found, stays};
use rustix::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dir, FileType, IFlags, Mode, OFlags, RenameFlags, StatxFlags};
use rustix::io::Errno;
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// How many directories are open at the same time.
const DEPTH: usize = 32;

/// The same if directories cannot be moved, like those of an image layer in a container, which no job has created.
const MOST: usize = 256;

/// How often the top directory is read again. Each time allows for [`DEPTH`] more levels; without a limit, a
/// process that keeps creating directories could block the deletion for ever.
const PASSES: usize = 100_000;

/// How often a directory is read again that is not empty afterwards: some filesystems skip entries while others are
/// deleted.
const AGAIN: usize = 8;

const DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The attributes that protect a file from its deletion.
const FROZEN: IFlags = IFlags::IMMUTABLE.union(IFlags::APPEND);

pub fn delete(path: &Path) -> io::Result<()> {
    let top = open_dir(CWD, path)?;
    Work::new(path, &top, false).through(&top)?;
    match unlink(CWD, path, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(stays(path.to_owned(), error.into())),
    }
}

pub fn empty(path: &Path) -> io::Result<()> {
    let top = open_dir(CWD, path)?;
    Work::new(path, &top, true).through(&top)
}

struct Work<'a> {
    path: &'a Path,
    top: BorrowedFd<'a>,
    mount: Option<u64>,
    /// Keeps what is mounted in the tree, instead of failing, and `lost+found` at its top.
    keeps: bool,
    /// Something was kept, so the directories above it are not empty.
    kept: bool,
    /// How many directories were moved up.
    moved: u64,
}

impl<'a> Work<'a> {
    fn new(path: &'a Path, top: &'a OwnedFd, keeps: bool) -> Self {
        let mount = mount(top.as_fd());
        Self { path, top: top.as_fd(), mount, keeps, kept: false, moved: 0 }
    }

    fn through(&mut self, top: &OwnedFd) -> io::Result<()> {
        for _ in 0..PASSES {
            let before = self.moved;
            self.empty(Dir::read_from(top)?, 0)?;
            if self.moved == before {
                break;
            }
        }
        Ok(())
    }

    fn is_lost_and_found(&self, name: &CStr) -> bool {
        is_lost_and_found(&self.path.join(OsStr::from_bytes(name.to_bytes())))
    }

    /// The error of an entry that stays, with its path as it is now.
    fn stays(&self, parent: BorrowedFd<'_>, name: &CStr, error: Errno) -> io::Error {
        let dir = std::fs::read_link(format!("/proc/self/fd/{}", parent.as_raw_fd()));
        // A path can be too long to be read.
        let dir = dir.unwrap_or_else(|_| self.path.to_owned());
        stays(dir.join(OsStr::from_bytes(name.to_bytes())), error.into())
    }

    fn empty(&mut self, mut dir: Dir, depth: usize) -> io::Result<()> {
        while let Some(entry) = dir.read() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..")
                || self.keeps && depth == 0 && self.is_lost_and_found(name)
            {
                continue;
            }
            match unlink(dir.fd()?, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::BUSY) if self.keeps => self.kept = true,
                // For a directory, Linux returns the first, POSIX specifies the second.
                Err(error @ (Errno::ISDIR | Errno::PERM)) => {
                    self.dir(dir.fd()?, name, depth, error)?;
                }
                Err(error) => return Err(self.stays(dir.fd()?, name, error)),
            }
        }
        Ok(())
    }

    fn dir(&mut self, parent: BorrowedFd<'_>, name: &CStr, depth: usize, refusal: Errno) -> io::Result<()> {
        if depth >= DEPTH && (self.move_up(parent, name)? || depth >= MOST) {
            return Ok(());
        }
        let dir = match open_dir(parent, name) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(()),
            // It is not a directory and cannot be deleted, or a link has just replaced it.
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return match unlink(parent, name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => Ok(()),
                    Err(_) => Err(self.stays(parent, name, refusal)),
                };
            }
            // An empty one can be deleted although it is another user's.
            Err(error) => {
                return unlink(parent, name, AtFlags::REMOVEDIR).map_err(|_| self.stays(parent, name, error));
            }
        };
        if mount(dir.as_fd()) != self.mount {
            self.kept = true;
            return if self.keeps { Ok(()) } else { Err(self.stays(parent, name, Errno::BUSY)) };
        }
        let before = std::mem::take(&mut self.kept);
        for round in 0.. {
            self.empty(Dir::read_from(&dir)?, depth + 1)?;
            match unlink(parent, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => break,
                Err(Errno::NOTEMPTY | Errno::EXIST) if self.kept => break,
                Err(Errno::NOTEMPTY | Errno::EXIST) if round < AGAIN => {}
                Err(error) => return Err(self.stays(parent, name, error)),
            }
        }
        self.kept |= before;
        Ok(())
    }

    /// Moves a directory, which works whatever is in it, but not if something is mounted there. Returns whether it
    /// was moved.
    fn move_up(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
        let mut loosened = false;
        loop {
            let up = format!(".{:016x}", fastrand::u64(..));
            let renamed = match rustix::fs::renameat_with(parent, name, self.top, &up, RenameFlags::NOREPLACE)
            {
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                    rustix::fs::renameat(parent, name, self.top, &up)
                }
                outcome => outcome,
            };
            match renamed {
                Ok(()) => {
                    self.moved += 1;
                    return Ok(true);
                }
                Err(Errno::EXIST) => {}
                Err(Errno::NOENT) => return Ok(true),
                Err(Errno::XDEV | Errno::BUSY) => return Ok(false),
                // It takes the right to write to both parents, and to the directory itself.
                Err(Errno::ACCESS | Errno::PERM) if !loosened => {
                    loosened = true;
                    loosen(parent);
                    loosen(self.top);
                    if let Ok(dir) = open_dir(parent, name) {
                        loosen(dir.as_fd());
                    }
                }
                Err(error) => {
                    return match unlink(parent, name, AtFlags::REMOVEDIR) {
                        Ok(()) | Err(Errno::NOENT) => Ok(true),
                        Err(_) => Err(self.stays(parent, name, error)),
                    };
                }
            }
        }
    }
}

/// Opens a directory, also one that its owner may not read.
fn open_dir<P: rustix::path::Arg + Copy>(parent: BorrowedFd<'_>, name: P) -> rustix::io::Result<OwnedFd> {
    match rustix::fs::openat(parent, name, DIR, Mode::empty()) {
        Err(Errno::ACCESS) => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let closed = rustix::fs::openat(parent, name, flags, Mode::empty())?;
            if mount(closed.as_fd()) != mount(parent) && parent.as_raw_fd() != CWD.as_raw_fd() {
                return Err(Errno::ACCESS);
            }
            // Such a descriptor takes no fchmod; this path is that of the directory, whatever has its name now.
            let itself = format!("/proc/self/fd/{}", closed.as_raw_fd());
            rustix::fs::chmod(itself, Mode::RWXU).map_err(|_| Errno::ACCESS)?;
            rustix::fs::openat(parent, name, DIR, Mode::empty())
        }
        opened => opened,
    }
}

/// Deletes an entry; if that is denied, takes away what protects it, and tries again.
fn unlink<P: rustix::path::Arg + Copy>(
    parent: BorrowedFd<'_>,
    name: P,
    flags: AtFlags,
) -> rustix::io::Result<()> {
    let denied = |error: &Errno| matches!(*error, Errno::ACCESS | Errno::PERM);
    match rustix::fs::unlinkat(parent, name, flags) {
        Err(error) if denied(&error) => {}
        outcome => return outcome,
    }
    // Directories above the tree are not ours to change.
    if parent.as_raw_fd() != CWD.as_raw_fd() {
        loosen(parent);
        match rustix::fs::unlinkat(parent, name, flags) {
            Err(error) if denied(&error) => {}
            outcome => return outcome,
        }
    }
    let thawed = thaw_entry(parent, name);
    let outcome = rustix::fs::unlinkat(parent, name, flags);
    if let Some((file, frozen)) = thawed
        && rustix::fs::fstat(&file).is_ok_and(|stat| stat.st_nlink > 0)
    {
        // It has another name, outside of the tree perhaps.
        let _ = rustix::fs::ioctl_setflags(&file, frozen);
    }
    outcome
}

/// Lets this process change what is in a directory, as far as it may. A failure shows in what follows.
fn loosen(dir: BorrowedFd<'_>) {
    thaw(dir);
    if let Ok(stat) = rustix::fs::fstat(dir)
        && stat.st_mode & 0o700 != 0o700
    {
        let _ = rustix::fs::fchmod(dir, Mode::from_raw_mode(stat.st_mode & 0o7777 | 0o700));
    }
}

/// Takes the attributes away that protect a file or directory; returns what it had.
fn thaw(file: BorrowedFd<'_>) -> Option<IFlags> {
    let flags = rustix::fs::ioctl_getflags(file).ok()?;
    if !flags.intersects(FROZEN) {
        return None;
    }
    rustix::fs::ioctl_setflags(file, flags.difference(FROZEN)).ok().map(|()| flags)
}

/// The same for an entry. Only files and directories have such attributes; opening anything else could block.
fn thaw_entry<P: rustix::path::Arg + Copy>(parent: BorrowedFd<'_>, name: P) -> Option<(OwnedFd, IFlags)> {
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    if !matches!(FileType::from_raw_mode(stat.st_mode), FileType::RegularFile | FileType::Directory) {
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(parent, name, flags, Mode::empty()).ok()?;
    let frozen = thaw(file.as_fd())?;
    Some((file, frozen))
}

/// The mount of a directory; `None` before Linux 5.8, which does not tell.
pub(in crate::host) fn mount(dir: BorrowedFd<'_>) -> Option<u64> {
    let facts = rustix::fs::statx(dir, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    (facts.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(facts.stx_mnt_id)
}
