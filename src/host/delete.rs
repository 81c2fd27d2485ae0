//! Deletes trees that a hostile user has created, and may be changing meanwhile.
//!
//! It follows no link, does not touch anything that is mounted in the tree, and needs a fixed amount of stack and open
//! files for any depth: directories that are too deep are first moved up to the top of the tree.

use std::io;
use std::path::Path;

/// Deletes the directory at `path` with its content. [`io::ErrorKind::NotFound`] if it does not exist;
/// [`io::ErrorKind::ResourceBusy`] if something is mounted in it, which is not touched.
pub fn delete_dir(path: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return linux::delete(path);
    #[cfg(not(target_os = "linux"))]
    fs_err::remove_dir_all(path)
}

#[cfg(target_os = "linux")]
pub(super) use linux::mount;

#[cfg(target_os = "linux")]
mod linux {
    use rustix::fd::{AsFd, BorrowedFd};
    use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, RenameFlags, StatxFlags};
    use rustix::io::Errno;
    use std::ffi::CStr;
    use std::io;
    use std::path::Path;

    /// How many directories are open at the same time.
    const DEPTH: usize = 32;

    /// The same if directories cannot be moved, like those of an image layer in a container, which no job has created.
    const MOST: usize = 256;

    /// How often the top directory is read again. Each time allows for [`DEPTH`] more levels; without a limit, a
    /// process that keeps creating directories could block the deletion for ever.
    const PASSES: usize = 100_000;

    const DIR: OFlags =
        OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

    pub fn delete(path: &Path) -> io::Result<()> {
        let top = rustix::fs::openat(CWD, path, DIR, Mode::empty())?;
        let mut work = Work { mount: mount(top.as_fd()), top: top.as_fd(), moved: 0 };
        for _ in 0..PASSES {
            let before = work.moved;
            work.empty(Dir::read_from(&top)?, 0)?;
            if work.moved == before {
                break;
            }
        }
        Ok(rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR)?)
    }

    struct Work<'a> {
        top: BorrowedFd<'a>,
        mount: Option<u64>,
        /// How many directories were moved up.
        moved: u64,
    }

    impl Work<'_> {
        fn empty(&mut self, mut dir: Dir, depth: usize) -> io::Result<()> {
            while let Some(entry) = dir.read() {
                let entry = entry?;
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                match rustix::fs::unlinkat(dir.fd()?, name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    // For a directory, Linux returns the first, POSIX specifies the second.
                    Err(error @ (Errno::ISDIR | Errno::PERM)) => {
                        self.dir(dir.fd()?, name, depth, error)?;
                    }
                    Err(error) => return Err(error.into()),
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
            let dir = match rustix::fs::openat(parent, name, DIR, Mode::empty()) {
                Ok(dir) => dir,
                Err(Errno::NOENT) => return Ok(()),
                // It is not a directory and cannot be deleted, or a link has just replaced it.
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    return match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
                        Ok(()) | Err(Errno::NOENT) => Ok(()),
                        Err(_) => Err(refusal.into()),
                    };
                }
                Err(error) => return Err(error.into()),
            };
            if mount(dir.as_fd()) != self.mount {
                return Err(Errno::BUSY.into());
            }
            self.empty(Dir::new(dir)?, depth + 1)?;
            match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(error) => Err(error.into()),
            }
        }

        /// Moves a directory, which works whatever is in it, but not if something is mounted there. Returns whether it
        /// was moved.
        fn move_up(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
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
                    Err(Errno::XDEV) => return Ok(false),
                    Err(error) => return Err(error.into()),
                }
            }
        }
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
        let kept = disk.join("cache").exists();
        assert!(run("umount", &[&place]));
        assert!(kept && refused.kind() == io::ErrorKind::ResourceBusy, "{refused}");
        delete_dir(&top).unwrap();
        assert!(disk.join("cache").exists());
    }
}
