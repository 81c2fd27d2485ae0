//! Deletes trees that a hostile user has created, and may be changing meanwhile.
//!
//! It follows no link, does not touch anything that is mounted in the tree, and needs a fixed amount of stack and open
//! files for any depth: directories that are too deep are first moved up to the top of the tree. What only a mode or an
//! attribute protects (Go's module cache, `chattr +i`) is deleted if this process may change these.

use std::io;
use std::path::{Path, PathBuf};

/// Deletes the directory at `path` with its content. [`io::ErrorKind::NotFound`] if it does not exist;
/// [`io::ErrorKind::ResourceBusy`] if something is mounted in it, which is not touched. The error of an entry that
/// cannot be deleted has the path of that entry.
pub fn delete_dir(path: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return linux::delete(path);
    #[cfg(not(target_os = "linux"))]
    elsewhere::delete(path)
}

/// Deletes what is in the directory at `path`, but not the directory itself, a filesystem's [`LOST_AND_FOUND`] directly
/// in it, or what is mounted in it.
pub fn empty_dir(path: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return linux::empty(path);
    #[cfg(not(target_os = "linux"))]
    elsewhere::empty(path)
}

/// What every new filesystem has at its top.
pub const LOST_AND_FOUND: &str = "lost+found";

/// Whether it is the directory that a filesystem is created with: root's alone. A job could leave any other for the next
/// one.
#[must_use]
pub fn is_lost_and_found(path: &Path) -> bool {
    let is_roots = |metadata: &std::fs::Metadata| {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            metadata.uid() == 0 && matches!(metadata.mode() & 0o777, 0o000 | 0o700)
        }
        #[cfg(not(unix))]
        {
            let _ = metadata;
            false
        }
    };
    path.ends_with(LOST_AND_FOUND)
        && fs_err::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir() && is_roots(&metadata))
}

/// An entry that stays.
#[derive(Debug, thiserror::Error)]
#[error("failed to delete {}", path.display())]
struct Stays {
    path: PathBuf,
    source: io::Error,
}

fn stays(path: PathBuf, source: io::Error) -> io::Error {
    io::Error::new(source.kind(), Stays { path, source })
}

#[cfg(target_os = "linux")]
pub(super) use linux::mount;

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use super::stays;
    use std::io;
    use std::path::Path;

    pub fn delete(path: &Path) -> io::Result<()> {
        match fs_err::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                unlock_dirs(path);
                fs_err::remove_dir_all(path)
            }
            outcome => outcome,
        }
    }

    pub fn empty(path: &Path) -> io::Result<()> {
        for entry in fs_err::read_dir(path)? {
            let entry = entry?;
            let outcome = match entry.file_type()? {
                kind if kind.is_dir() => delete(&entry.path()),
                _ => std::fs::remove_file(entry.path()),
            };
            outcome.map_err(|error| stays(entry.path(), error))?;
        }
        Ok(())
    }

    /// Lets the owner write to all directories below `path`, where possible. Not for root, which can write to any
    /// directory: a job could replace one of these directories by a link to any directory of the machine.
    fn unlock_dirs(path: &Path) {
        #[cfg(unix)]
        if !crate::host::account::is_root() {
            use std::os::unix::fs::PermissionsExt as _;
            // A failure here leads to another one when the tree is deleted, which is reported.
            let _ = fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o700));
            for entry in fs_err::read_dir(path).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    unlock_dirs(&entry.path());
                }
            }
        }
        #[cfg(not(unix))]
        let _ = path;
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::stays;
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

    const DIR: OFlags =
        OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

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
            super::is_lost_and_found(&self.path.join(OsStr::from_bytes(name.to_bytes())))
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

        fn dir(
            &mut self,
            parent: BorrowedFd<'_>,
            name: &CStr,
            depth: usize,
            refusal: Errno,
        ) -> io::Result<()> {
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
                    return unlink(parent, name, AtFlags::REMOVEDIR)
                        .map_err(|_| self.stays(parent, name, error));
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
                let renamed =
                    match rustix::fs::renameat_with(parent, name, self.top, &up, RenameFlags::NOREPLACE) {
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
    pub fn mount(dir: BorrowedFd<'_>) -> Option<u64> {
        let facts = rustix::fs::statx(dir, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
        (facts.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(facts.stx_mnt_id)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode, OFlags};
    use std::os::unix::fs::symlink;

    /// The depth of nested directories, longer than the longest path.
    fn deep(top: &Path, levels: usize) {
        std::fs::create_dir(top).expect("directories can be created");
        let mut here = rustix::fs::openat(CWD, top, OFlags::DIRECTORY, Mode::empty())
            .expect("directories can be created");
        for _ in 0..levels {
            rustix::fs::mkdirat(&here, "d", Mode::RWXU).expect("directories can be created");
            here = rustix::fs::openat(&here, "d", OFlags::DIRECTORY, Mode::empty())
                .expect("directories can be created");
        }
    }

    #[test]
    fn a_tree_is_deleted_however_deep_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        deep(&top, 3000);
        // The thread's stack and the limit of open files are too small for one per level.
        std::thread::Builder::new()
            .stack_size(256 * 1024)
            .spawn(move || delete_dir(&top).unwrap())
            .unwrap()
            .join()
            .unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_is_emptied_and_only_a_filesystem_s_own_lost_and_found_stays() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let lost = dir.path().join(LOST_AND_FOUND);
        // A job's own is deleted: its mode says so, or its owner.
        for (mode, stays) in [(0o755, false), (0o700, crate::host::account::is_root())] {
            std::fs::create_dir(&lost).unwrap();
            std::fs::write(lost.join("file"), "x").unwrap();
            std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
            std::fs::set_permissions(&lost, std::fs::Permissions::from_mode(mode)).unwrap();
            empty_dir(dir.path()).unwrap();
            assert_eq!((lost.exists(), dir.path().join("a").exists()), (stays, false), "{mode:o}");
        }
    }

    #[test]
    fn directories_that_are_closed_to_their_owner_are_deleted() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        deep(&top, 100);
        let mut path = top.clone();
        for level in 0..100 {
            std::fs::write(path.join("file"), "x").unwrap();
            path.push("d");
            // The inner ones first, while they can be reached.
            if level == 99 {
                while path != top {
                    let mode = if path.ends_with("d/d/d/d/d/d/d/d/d/d/d") { 0o555 } else { 0o000 };
                    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
                    path.pop();
                }
            }
        }
        delete_dir(&top).unwrap();
        assert!(!top.exists());
    }

    #[test]
    fn links_are_deleted_and_what_they_lead_to_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (top, outside) = (dir.path().join("top"), dir.path().join("outside"));
        std::fs::create_dir_all(top.join("a/b")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("precious"), "x").unwrap();
        symlink(&outside, top.join("a/link")).unwrap();
        symlink("nowhere", top.join("a/b/dangling")).unwrap();
        symlink(&top, dir.path().join("to-top")).unwrap();
        assert!(delete_dir(&dir.path().join("to-top")).is_err(), "a link is not a directory");
        delete_dir(&top).unwrap();
        assert!(!top.exists() && outside.join("precious").exists());
        assert_eq!(delete_dir(&top).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_is_mounted_inside_stays_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, top) = (dir.path().join("disk"), dir.path().join("top"));
        let place = top.join("_work");
        std::fs::create_dir(&disk).unwrap();
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(disk.join("cache"), "precious").unwrap();
        let run = |program: &str, arguments: &[&Path]| {
            std::process::Command::new(program).args(arguments).output().is_ok_and(|ran| ran.status.success())
        };
        // Only root may, and not in every container.
        if !run("mount", &[Path::new("--bind"), &disk, &place]) {
            return;
        }
        let refused = delete_dir(&top).unwrap_err();
        assert!(refused.to_string().contains("top/_work"), "{refused}");
        std::fs::write(top.join("left"), "x").unwrap();
        std::fs::create_dir_all(top.join("a/b")).unwrap();
        empty_dir(&top).unwrap();
        let left = std::fs::read_dir(&top).unwrap().count();
        let kept = disk.join("cache").exists();
        assert!(run("umount", &[&place]));
        assert!(kept && left == 1 && refused.kind() == io::ErrorKind::ResourceBusy, "{left} {refused}");
        delete_dir(&top).unwrap();
        assert!(disk.join("cache").exists());
    }
}
