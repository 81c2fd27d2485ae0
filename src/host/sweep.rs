//! Deletes a user's files in shared directories such as `/tmp` when the user is deleted, because the next user with its
//! id would own them.
//!
//! The trees may be hostile: no link is followed, no mount is crossed, other users' files are kept, and any depth needs
//! a fixed amount of stack and open files. No process of the user may be running.

use std::path::{Path, PathBuf};

/// Deletes everything below the directory `path` (but not `path`) whose owner is one of the `ids`, which are ranges: a
/// user's own id and its subordinate ones. Returns what could not be deleted. A directory of the user in which others
/// have files is given to root. `path` may be missing. Once
/// `given_up` returns true, nothing more is deleted, and the current directory counts as not deleted. Only on Linux.
///
/// Of other users' directories at most `foreign` entries are looked at, which is a warning: anybody may make millions.
pub fn delete_owned(
    path: &Path,
    ids: &[(u32, u32)],
    foreign: u64,
    given_up: &dyn Fn() -> bool,
) -> Vec<PathBuf> {
    #[cfg(target_os = "linux")]
    return linux::sweep(path, ids, foreign, given_up);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (path, ids, foreign, given_up);
        Vec::new()
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::{Path, PathBuf};
    use crate::host::delete::mount;
    use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
    use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, RenameFlags, Uid};
    use rustix::io::Errno;
    use std::ffi::{CStr, OsStr};
    use std::os::unix::ffi::OsStrExt as _;

    /// How many directories are open at the same time.
    const DEPTH: usize = 32;

    /// How often a tree is read again; each time allows for [`DEPTH`] more levels.
    const PASSES: usize = 100_000;

    const DIRECTORY: OFlags =
        OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

    struct Sweep<'a> {
        ids: &'a [(u32, u32)],
        given_up: &'a dyn Fn() -> bool,
        left: Vec<PathBuf>,
        /// How many directories were moved up.
        moved: u64,
        /// How many entries of other users' directories may still be looked at.
        foreign: u64,
    }

    pub fn sweep(path: &Path, ids: &[(u32, u32)], foreign: u64, given_up: &dyn Fn() -> bool) -> Vec<PathBuf> {
        let mut sweep = Sweep { ids, given_up, left: Vec::new(), moved: 0, foreign };
        match rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty()) {
            Ok(directory) => sweep.empty(directory, path, None, 0),
            // /var/lock is a link to /run/lock, which is swept under its own name.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(_) => sweep.left.push(path.to_owned()),
        }
        if sweep.foreign == 0 {
            tracing::warn!("not all of other users' directories in {} were searched", path.display());
        }
        sweep.left
    }

    impl Sweep<'_> {
        /// Deletes what the user owns in `dir`. `top` is the outermost directory of the user above it.
        fn empty(&mut self, directory: OwnedFd, path: &Path, top: Option<BorrowedFd<'_>>, depth: usize) {
            let Ok(mut entries) = Dir::new(directory) else { return self.left.push(path.to_owned()) };
            while let Some(entry) = entries.read() {
                let (Ok(entry), Ok(parent)) = (entry, entries.fd()) else {
                    return self.left.push(path.to_owned());
                };
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                if depth > 0 && top.is_none() {
                    let Some(rest) = self.foreign.checked_sub(1) else { return };
                    self.foreign = rest;
                }
                if (self.given_up)() {
                    return self.left.push(path.to_owned());
                }
                let Ok(meta) = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
                let owned = self.ids.iter().any(|(first, last)| (*first..=*last).contains(&meta.st_uid));
                let full = path.join(OsStr::from_bytes(name.to_bytes()));
                if FileType::from_raw_mode(meta.st_mode) == FileType::Directory {
                    self.directory(parent, name, &full, owned, top, depth);
                } else if owned {
                    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
                        Ok(()) | Err(Errno::NOENT) => {}
                        Err(_) => self.left.push(full),
                    }
                }
            }
        }

        fn directory(
            &mut self,
            parent: BorrowedFd<'_>,
            name: &CStr,
            path: &Path,
            owned: bool,
            top: Option<BorrowedFd<'_>>,
            depth: usize,
        ) {
            if depth >= DEPTH {
                // Another user's directories at that depth are not read and not moved.
                if top.is_some_and(|top| owned && !self.move_up(parent, name, top)) {
                    self.left.push(path.to_owned());
                }
                return;
            }
            let opened = match rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()) {
                Ok(opened) => opened,
                Err(_) if owned => return self.left.push(path.to_owned()),
                Err(_) => return,
            };
            if mount(opened.as_fd()) != mount(parent) {
                // What is mounted there in another mount namespace does not hold its directory here.
                if owned && rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR).is_err() {
                    self.left.push(path.to_owned());
                }
                return;
            }
            if !owned {
                return self.empty(opened, path, None, depth + 1);
            }
            let before = self.left.len();
            match top {
                Some(top) => {
                    if let Ok(again) = opened.try_clone() {
                        self.empty(again, path, Some(top), depth + 1);
                    }
                }
                None => self.empty_outermost(&opened, path),
            }
            match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                // Other users have files in it: the directory is kept, and given to root.
                Err(Errno::NOTEMPTY | Errno::EXIST) if self.left.len() == before => {
                    let taken = rustix::fs::fchown(&opened, Some(Uid::ROOT), Some(Gid::ROOT))
                        .and_then(|()| rustix::fs::fchmod(&opened, Mode::from_raw_mode(0o755)));
                    if taken.is_err() {
                        self.left.push(path.to_owned());
                    }
                }
                Err(_) if self.left.len() > before => {}
                Err(_) => self.left.push(path.to_owned()),
            }
        }

        /// Empties a directory of the user that no other one of the user holds, however deep it is.
        fn empty_outermost(&mut self, opened: &OwnedFd, path: &Path) {
            for _ in 0..PASSES {
                let moved = self.moved;
                let Ok(again) = rustix::fs::openat(opened, c".", DIRECTORY, Mode::empty()) else {
                    break;
                };
                self.empty(again, path, Some(opened.as_fd()), 1);
                if self.moved == moved {
                    break;
                }
            }
        }

        /// Moves a directory of the user, with its content, to the outermost one. Returns whether it was moved.
        fn move_up(&mut self, parent: BorrowedFd<'_>, name: &CStr, top: BorrowedFd<'_>) -> bool {
            loop {
                let up = format!(".{:016x}", fastrand::u64(..));
                match rustix::fs::renameat_with(parent, name, top, &up, RenameFlags::NOREPLACE) {
                    Ok(()) => {
                        self.moved += 1;
                        return true;
                    }
                    Err(Errno::EXIST) => {}
                    Err(error) => return error == Errno::NOENT,
                }
            }
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink};

    const HERS: u32 = 234_567;

    fn own(path: &Path) {
        lchown(path, Some(HERS), Some(HERS)).expect("root may change owners");
    }

    #[test]
    fn what_the_user_owns_goes_and_what_others_own_stays() {
        if !super::super::account::is_root() {
            println!("skipped: changing owners needs root");
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        for dir in ["hers/inner", "shared/hers", "mixed/theirs", "link-target"] {
            std::fs::create_dir_all(at(dir)).unwrap();
        }
        for file in ["file", "hers/inner/x", "shared/hers/x", "shared/theirs", "mixed/theirs/x", "mixed/hers"]
        {
            std::fs::write(at(file), "").unwrap();
        }
        symlink(at("link-target"), at("link")).unwrap();
        symlink("/etc/passwd", at("hers/link")).unwrap();
        std::fs::write(at("link-target/precious"), "").unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, at("hers/fifo"), fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        for hers in [
            "file",
            "hers",
            "hers/inner",
            "hers/inner/x",
            "hers/link",
            "hers/fifo",
            "shared/hers",
            "shared/hers/x",
            "link",
            "mixed",
            "mixed/hers",
        ] {
            own(&at(hers));
        }
        std::fs::set_permissions(at("mixed"), std::fs::Permissions::from_mode(0o1777)).unwrap();

        assert_eq!(delete_owned(temp.path(), &[(HERS, HERS)], u64::MAX, &|| false), [] as [PathBuf; 0]);
        for gone in ["file", "hers", "shared/hers", "link", "mixed/hers"] {
            assert!(std::fs::symlink_metadata(at(gone)).is_err(), "{gone}");
        }
        for kept in ["shared/theirs", "mixed/theirs/x", "link-target/precious"] {
            assert!(at(kept).exists(), "{kept}");
        }
        let mixed = std::fs::metadata(at("mixed")).unwrap();
        assert_eq!((mixed.uid(), mixed.mode() & 0o7777), (0, 0o755), "it stays the user's");
        assert_eq!(delete_owned(&at("missing"), &[(HERS, HERS)], u64::MAX, &|| false), [] as [PathBuf; 0]);
    }

    #[test]
    fn depth_and_a_request_to_stop_are_survived() {
        if !super::super::account::is_root() {
            println!("skipped: changing owners needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("deep");
        std::fs::create_dir(&top).unwrap();
        own(&top);
        let flags = rustix::fs::OFlags::DIRECTORY;
        let mut here = rustix::fs::open(&top, flags, rustix::fs::Mode::empty()).unwrap();
        let (uid, gid) = (rustix::fs::Uid::from_raw(HERS), rustix::fs::Gid::from_raw(HERS));
        for _ in 0..2000 {
            rustix::fs::mkdirat(&here, "d", rustix::fs::Mode::RWXU).unwrap();
            here = rustix::fs::openat(&here, "d", flags, rustix::fs::Mode::empty()).unwrap();
            rustix::fs::fchown(&here, Some(uid), Some(gid)).unwrap();
        }
        assert_eq!(delete_owned(dir.path(), &[(HERS, HERS)], u64::MAX, &|| true), [dir.path()]);
        assert!(top.exists());
        let path = dir.path().to_owned();
        let left = std::thread::Builder::new()
            .stack_size(256 * 1024)
            .spawn(move || delete_owned(&path, &[(HERS, HERS)], u64::MAX, &|| false))
            .unwrap()
            .join()
            .unwrap();
        assert_eq!(left, [] as [PathBuf; 0]);
        assert!(!top.exists());
    }

    #[test]
    fn directories_of_others_are_searched_within_bounds_and_do_not_stop_the_rest() {
        if !super::super::account::is_root() {
            println!("skipped: changing owners needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let foreign = dir.path().join("0-foreign");
        std::fs::create_dir(&foreign).unwrap();
        for name in 0..10 {
            std::fs::write(foreign.join(name.to_string()), "").unwrap();
        }
        for name in ["own", "z-own"] {
            std::fs::write(dir.path().join(name), "").unwrap();
            own(&dir.path().join(name));
        }
        assert_eq!(delete_owned(dir.path(), &[(HERS, HERS)], 3, &|| false), [] as [PathBuf; 0]);
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            1,
            "what the user has beside it is deleted"
        );
        assert_eq!(std::fs::read_dir(&foreign).unwrap().count(), 10);
    }
}
