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

/// Deletes the directory at `path`, or what is in it if something is mounted there, which stays. One that does not exist
/// is success.
pub fn delete_or_empty(path: &Path) -> io::Result<()> {
    match delete_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => empty_dir(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
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
mod linux;

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
