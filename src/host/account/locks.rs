//! The locks that `useradd` and similar programs take in `/etc`: what killed ones leave, and what other programs hold.

use super::tools::LOOK;
use crate::deadline::{Deadline, Stop};
use crate::host::{Error, Root};
use std::path::{Path, PathBuf};

/// The files that the tools change: each by way of `NAME+`, with the lock `NAME.lock`, which is a link to `NAME.PID` and has
/// the number of its holder as its content.
const FILES: [&str; 6] = ["passwd", "shadow", "group", "gshadow", "subuid", "subgid"];

/// The lock of one of these files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileLock {
    /// The lock file.
    pub path: PathBuf,
    /// The process that it names and the name of its program; `None` if it names none, as after a power cut.
    pub holder: Option<(u32, String)>,
}

/// Deletes what tools that were killed have left. A lock of a process that exists, and what it protects, is kept, unless
/// the lock is older than the process or than the machine's start: after a power cut, its number is soon another one's.
///
/// Those tools take over such a lock as well, but nothing calls them if the user is already as it must be.
pub fn sweep_locks(root: &Root) {
    #[cfg(target_os = "linux")]
    if let Err(error) = linux::sweep(root) {
        tracing::debug!(%error, "failed to look for the locks of killed tools");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = root;
}

/// Waits until no other program is changing the users or groups. [`Error::AccountsLocked`] at the deadline.
pub async fn wait_until_unlocked(root: &Root, deadline: Deadline, stop: &Stop) -> Result<(), Error> {
    let mut told = false;
    while let Some(lock) = foreign_lock(root) {
        if stop.is_cancelled() {
            return Err(Error::Stopped { doing: format!("waiting for {}", lock.path.display()) });
        }
        if deadline.passed() {
            return Err(Error::AccountsLocked { lock, total: deadline.total() });
        }
        if !told {
            told = true;
            let (path, names, left) = (lock.path.display(), lock.names(), deadline.left().as_secs());
            tracing::warn!("waiting until {path} is deleted, which {names}; {left} s at most");
        }
        tokio::time::sleep(LOOK.min(deadline.left())).await;
    }
    Ok(())
}

impl FileLock {
    /// What it says of its holder.
    #[must_use]
    pub fn names(&self) -> String {
        match &self.holder {
            Some((pid, program)) => format!("names the process {pid} ({program})"),
            None => "names no process".into(),
        }
    }
}

/// The first lock that `useradd` would not get, once what killed tools have left is deleted.
#[must_use]
pub fn foreign_lock(root: &Root) -> Option<FileLock> {
    sweep_locks(root);
    held(root)
}

/// The first lock that `useradd` would not get. One whose holder has exited is not in its way: it deletes that.
fn held(root: &Root) -> Option<FileLock> {
    let etc = root.resolve(Path::new("/etc"))?;
    FILES.iter().find_map(|name| {
        let path = etc.join(format!("{name}.lock"));
        let text = match crate::host::file::read_untrusted(&path, 64) {
            Ok(text) => String::from_utf8_lossy(&text?).into_owned(),
            // One that cannot be read, or is no lock of those tools, is in their way as well.
            Err(_) => String::new(),
        };
        let holder: Option<u32> = text.trim_end_matches('\0').parse().ok().filter(|pid| *pid > 0);
        match holder {
            Some(pid) => {
                let program = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
                Some(FileLock { path, holder: Some((pid, program.trim().to_owned())) })
            }
            None => Some(FileLock { path, holder: None }),
        }
    })
}

#[cfg(target_os = "linux")]
mod linux {
    use super::FILES;
    use crate::host::Root;
    use crate::host::process;
    use rustix::fd::OwnedFd;
    use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
    use rustix::io::Errno;
    use rustix::process::Pid;
    use std::fs::File;
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;

    const OPEN: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);

    pub fn sweep(root: &Root) -> rustix::io::Result<()> {
        if root.leads_out(Path::new("/etc")) {
            return Ok(());
        }
        let flags = OPEN | OFlags::RDONLY | OFlags::DIRECTORY;
        let etc = rustix::fs::open(root.join(Path::new("/etc")), flags, Mode::empty())?;
        let names = names(&etc)?;
        let in_use = |file: &str| [".lock", "+"].iter().any(|end| names.contains(&format!("{file}{end}")));
        let stays = |file: &str| names.iter().any(|name| is_of_a_dead_tool(&etc, file, name));
        if !FILES.into_iter().any(|file| in_use(file) || stays(file)) {
            return Ok(());
        }
        // The tools of the machine itself hold this one as well, by the C library. In an image it may be missing.
        let all = match rustix::fs::openat(&etc, ".pwd.lock", OPEN | OFlags::RDWR, Mode::empty()) {
            Ok(all) => Some(all),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error),
        };
        if let Some(all) = &all
            && rustix::fs::fcntl_lock(all, FlockOperation::NonBlockingLockExclusive).is_err()
        {
            return Ok(());
        }
        for file in FILES {
            for name in names.iter().filter(|name| is_of_a_dead_tool(&etc, file, name)) {
                delete(&etc, name)?;
            }
            if in_use(file) {
                of_file(&etc, file)?;
            }
        }
        Ok(())
    }

    fn names(etc: &OwnedFd) -> rustix::io::Result<Vec<String>> {
        let entries = rustix::fs::Dir::read_from(etc)?;
        Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned)).collect())
    }

    /// Whether it is the file that a tool has begun to lock with, and that names a process that is gone. The names of
    /// backups can be the same, such as `passwd.20260101`.
    fn is_of_a_dead_tool(etc: &OwnedFd, file: &str, name: &str) -> bool {
        let number = name.strip_prefix(file).and_then(|rest| rest.strip_prefix('.'));
        let Some(pid) = number.and_then(process) else { return false };
        let is_empty =
            || rustix::fs::statat(etc, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|meta| meta.st_size == 0);
        is_left(etc, name, Some(pid)) && (holder(etc, name) == Ok(Some(pid)) || is_empty())
    }

    /// Whether the process that this file is of is gone: it does not exist, or it began, as did the machine (or the
    /// container, which its first process tells), only after the file was written. Where the clock is put right long after
    /// the start, so that a living tool looks younger than its lock, that tool still has the lock of the C library.
    fn is_left(etc: &OwnedFd, name: &str, pid: Option<Pid>) -> bool {
        let is_gone = |pid: Pid| {
            let number = pid.as_raw_nonzero().get().unsigned_abs();
            rustix::process::test_kill_process(pid) == Err(Errno::SRCH) || process::is_zombie(number)
        };
        if pid.is_some_and(is_gone) {
            return true;
        }
        let opened = rustix::fs::openat(etc, name, OPEN | OFlags::RDONLY, Mode::empty());
        let Some(written) = opened.ok().and_then(|file| File::from(file).metadata().ok()) else {
            return false;
        };
        let holder = pid.map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
        let began = [Some(1), holder].into_iter().flatten().filter_map(process::began).max();
        // The start is known to the second.
        began.is_some_and(|began| written.mtime() + 1 < began)
    }

    /// Deletes the lock of a process that is gone, and the copy. It takes the lock as those tools do, so that none of them
    /// works on the copy meanwhile.
    fn of_file(etc: &OwnedFd, file: &str) -> rustix::io::Result<()> {
        let (lock, copy) = (format!("{file}.lock"), format!("{file}+"));
        match holder(etc, &lock) {
            // Those tools do not take over one that names no process, or one whose number is another process's by now.
            Ok(pid) if is_left(etc, &lock, pid) => delete(etc, &lock)?,
            Ok(_) => return Ok(()),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
        let own = format!("{file}.{}", std::process::id());
        let flags = OPEN | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let created = rustix::fs::openat(etc, &own, flags, Mode::RUSR | Mode::WUSR)?;
        let mut created = File::from(created);
        // A lock without a number, after a power cut or on a full disk, would lock all those tools out for good.
        let written = created
            .write_all(format!("{}\0", std::process::id()).as_bytes())
            .and_then(|()| created.sync_data())
            .map_err(|_| Errno::IO);
        let locked = written.and_then(|()| rustix::fs::linkat(etc, &own, etc, &lock, AtFlags::empty()));
        delete(etc, &own)?;
        locked?;
        let deleted = delete(etc, &copy);
        delete(etc, &lock)?;
        tracing::debug!(file, "deleted what a killed tool had left in /etc");
        deleted
    }

    /// The process that a lock names.
    fn holder(etc: &OwnedFd, lock: &str) -> rustix::io::Result<Option<Pid>> {
        let opened = rustix::fs::openat(etc, lock, OPEN | OFlags::RDONLY, Mode::empty())?;
        let mut text = String::new();
        let read = File::from(opened).take(32).read_to_string(&mut text);
        Ok(read.ok().and_then(|_| process(text.trim_end_matches('\0'))))
    }

    fn process(number: &str) -> Option<Pid> {
        let number: u32 = number.parse().ok()?;
        Pid::from_raw(i32::try_from(number).ok()?)
    }

    fn delete(etc: &OwnedFd, name: &str) -> rustix::io::Result<()> {
        match rustix::fs::unlinkat(etc, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_lock_that_useradd_would_not_get_is_waited_for_and_explained() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let root = Root::at(dir.path().into());
        let (stop, us) = (Stop::never(), std::process::id());
        let soon = || Deadline::after(Duration::from_millis(1));
        wait_until_unlocked(&root, soon(), &stop).await.unwrap();
        let path = dir.path().join("etc/gshadow.lock");
        // As useradd writes it, and as a power cut leaves it.
        for (content, says) in [
            (format!("{us}\0"), format!("names the process {us} (")),
            (String::new(), "names no process".to_owned()),
            ("garbage".to_owned(), "names no process".to_owned()),
            ("1".repeat(100), "names no process".to_owned()),
        ] {
            std::fs::write(&path, content).unwrap();
            let error = wait_until_unlocked(&root, soon(), &stop).await.unwrap_err();
            assert!(error.to_string().contains(&says), "{error}");
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
            let long = Deadline::after(Duration::from_secs(60));
            let deleting = async {
                tokio::task::yield_now().await;
                std::fs::remove_file(&path).unwrap();
            };
            let (waited, ()) = tokio::join!(wait_until_unlocked(&root, long, &stop), deleting);
            waited.unwrap();
        }
        // useradd deletes that of a process that has exited.
        std::fs::write(&path, "4194305\0").unwrap();
        wait_until_unlocked(&root, soon(), &stop).await.unwrap();
    }

    #[test]
    fn the_lock_of_a_tool_that_is_gone_and_its_copy_are_deleted_and_those_of_a_living_one_kept() {
        let ended = std::process::Command::new("true").spawn().and_then(|mut child| {
            let id = child.id();
            child.wait().map(|_| id)
        });
        let (ended, living) = (ended.unwrap(), std::process::id());
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        let write = |name: &str, text: &str| std::fs::write(etc.join(name), text).unwrap();
        for (name, text) in [("passwd", "root"), ("passwd-", "root"), ("passwd+", "ro"), ("shadow+", "ro")] {
            write(name, text);
        }
        write("passwd.lock", &format!("{ended}\0"));
        write(&format!("passwd.{ended}"), &format!("{ended}\0"));
        write(&format!("subuid.{ended}"), &format!("{ended}\0"));
        // Of one that was killed, and that its parent has not noticed yet.
        let mut killed = std::process::Command::new("true").spawn().unwrap();
        while !crate::host::process::is_zombie(killed.id()) {
            std::thread::yield_now();
        }
        write(&format!("group.{}", killed.id()), &format!("{}\0", killed.id()));
        write(&format!("shadow.{ended}"), "");
        write("passwd.20260101", "root");
        write("passwd.bak", &ended.to_string());
        write(&format!("hosts.{ended}"), &ended.to_string());
        // Of a tool that has just begun to lock.
        write("gshadow.lock", "");
        write("group.lock", &format!("{living}\0"));
        write("group+", "ro");
        // As a power cut leaves them: its number is another process's by now, or it names none.
        for (name, text) in [("subgid.lock", ""), ("subuid.lock", &format!("{living}\0"))] {
            write(name, text);
            let lock = std::fs::File::options().write(true).open(etc.join(name)).unwrap();
            lock.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
        }
        sweep_locks(&Root::at(root.path().to_owned()));
        killed.wait().unwrap();
        let mut left: Vec<String> = std::fs::read_dir(&etc)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let hosts = format!("hosts.{ended}");
        let kept = [
            "group+",
            "group.lock",
            "gshadow.lock",
            &hosts,
            "passwd",
            "passwd-",
            "passwd.20260101",
            "passwd.bak",
        ];
        assert_eq!(left, kept);
    }

    /// Else no tool would get that lock again.
    #[test]
    fn on_a_full_disk_the_sweep_leaves_no_lock_without_a_number() {
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        let run = |program: &str, arguments: &[&str]| {
            let ran = std::process::Command::new(program).args(arguments).arg(&etc).output();
            ran.is_ok_and(|ran| ran.status.success())
        };
        if !run("mount", &["-t", "tmpfs", "-o", "size=4k", "tmpfs"]) {
            println!("skipped: a file system cannot be mounted here");
            return;
        }
        // It takes the only page.
        std::fs::write(etc.join("passwd+"), "ro").unwrap();
        let is_full = std::fs::write(etc.join("full"), "x").is_err();
        std::fs::remove_file(etc.join("full")).unwrap();
        sweep_locks(&Root::at(root.path().to_owned()));
        let left: Vec<_> = std::fs::read_dir(&etc).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(run("umount", &[]));
        assert!(is_full);
        assert_eq!(left, ["passwd+"]);
    }
}
