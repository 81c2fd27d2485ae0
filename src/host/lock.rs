//! An advisory lock, so that only one run works at a time. The kernel releases it when its holder exits.
//!
//! The file is never deleted: a waiter that has opened the old file would otherwise hold a lock that no other process
//! sees.

use super::Error;
use crate::deadline::Deadline;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// The first pause between two attempts to take a contended lock: many hold one for a few milliseconds only.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
/// The longest one: whoever waits for long is not to be behind all newcomers.
const PAUSE: Duration = Duration::from_millis(25);
/// In between, each pause is this fraction of the time waited so far.
const FRACTION: u32 = 20;

/// The most that is read of a lock file.
const HOLDER_LIMIT: u64 = 4096;

/// The holder of a lock, as written to the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// What it is doing.
    pub command: String,
    /// Since when, RFC 3339 in UTC.
    pub since: String,
    /// Until when it only waits, in the same form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_until: Option<String>,
}

/// The locks that this process holds.
static OURS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A lock that is held; dropping it releases it.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: File,
    holder: Holder,
}

impl Lock {
    /// Lets others see until when the holder only waits, or that it works again.
    pub fn note_wait(&mut self, until: Option<jiff::Timestamp>) {
        self.holder.waits_until = until.map(|until| until.to_string());
        if let Err(error) = self.write() {
            tracing::debug!(%error, "the lock file does not tell what its holder waits for");
        }
    }

    /// Written in place, because a renamed file would be another lock.
    fn write(&mut self) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        serde_json::to_writer(&mut self.file, &self.holder)?;
        self.file.flush()
    }
}

/// Takes the lock `path` (created if missing) for `what`, waiting for its holder until the deadline, which is
/// [`Error::Locked`] with the holder.
pub async fn acquire(
    path: &Path,
    what: &str,
    deadline: Deadline,
    stop: &CancellationToken,
) -> Result<Lock, Error> {
    let failed = |source| Error::Path { doing: "lock", path: path.to_path_buf(), source };
    let file = open(path).map_err(failed)?;
    let (mut told, began) = (false, Instant::now());
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) => {}
        }
        if deadline.passed() {
            return Err(Error::Locked {
                path: path.to_path_buf(),
                holder: holder(path),
                total: deadline.total(),
            });
        }
        if !told {
            told = true;
            let by = super::error::holder_text(holder(path).as_ref());
            tracing::info!("waiting for the lock {}: {by} holds it", path.display());
        }
        let pause = (began.elapsed() / FRACTION).clamp(FIRST_PAUSE, PAUSE);
        tokio::select! {
            () = stop.cancelled() => {
                return Err(Error::Stopped { doing: format!("waiting for the lock {}", path.display()) });
            }
            () = tokio::time::sleep(pause.min(deadline.left())) => {}
        }
    }
    let since = jiff::Timestamp::now().to_string();
    let holder = Holder { pid: std::process::id(), command: what.into(), since, waits_until: None };
    let mut lock = Lock { path: path.to_path_buf(), file, holder };
    ours(|ours| ours.insert(path.to_path_buf()));
    lock.write().map_err(failed)?;
    Ok(lock)
}

/// The last holder in the lock file. It may have exited since: only [`acquire`] tells whether the lock is free.
#[must_use]
pub fn holder(path: &Path) -> Option<Holder> {
    let bytes = super::file::read_untrusted(path, HOLDER_LIMIT).ok()??;
    serde_json::from_slice(&bytes).ok()
}

/// Whether a process holds the lock now. A missing file is not a lock, and is not created.
pub fn is_held(path: &Path) -> Result<bool, Error> {
    let failed = |source| Error::Path { doing: "check the lock", path: path.to_path_buf(), source };
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        file => file.map_err(failed)?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Whether this process holds it. The file does not tell: another namespace has other process ids.
#[must_use]
pub fn is_ours(path: &Path) -> bool {
    ours(|ours| ours.contains(path))
}

fn ours<T>(work: impl FnOnce(&mut BTreeSet<PathBuf>) -> T) -> T {
    work(&mut OURS.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
}

impl Drop for Lock {
    fn drop(&mut self) {
        ours(|ours| ours.remove(&self.path));
        // The file must not name a former holder. Closing the file releases the lock.
        if let Err(error) = self.file.set_len(0) {
            tracing::debug!(%error, "the lock file keeps its holder's name");
        }
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o644).custom_flags(i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0));
    }
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_millis(1))
    }

    #[tokio::test]
    async fn a_second_run_is_told_who_holds_the_lock_and_gets_it_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let stop = CancellationToken::new();
        let first = acquire(&path, "runup install", soon(), &stop).await.unwrap();

        let error = acquire(&path, "runup remove", soon(), &stop).await.unwrap_err();
        let Error::Locked { holder: Some(by), .. } = &error else { panic!("{error:?}") };
        assert_eq!((by.pid, by.command.as_str()), (std::process::id(), "runup install"));
        assert!(error.to_string().contains("`runup install` (process"), "{error}");

        assert!(is_ours(&path));
        drop(first);
        assert!(!is_ours(&path));
        assert_eq!(holder(&path), None);
        acquire(&path, "runup remove", soon(), &stop).await.unwrap();
    }

    #[tokio::test]
    async fn a_waiter_gets_the_lock_as_soon_as_it_is_released() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let stop = CancellationToken::new();
        let first = acquire(&path, "first", soon(), &stop).await.unwrap();
        let waiting = acquire(&path, "second", Deadline::after(Duration::from_secs(60)), &stop);
        let releasing = async {
            tokio::task::yield_now().await;
            drop(first);
        };
        let (second, ()) = tokio::join!(waiting, releasing);
        second.unwrap();
        assert_eq!(holder(&path), None);
    }

    #[tokio::test]
    async fn waiting_ends_when_told_to_stop() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let stop = CancellationToken::new();
        let _first = acquire(&path, "first", soon(), &stop).await.unwrap();
        let waiting = acquire(&path, "second", Deadline::after(Duration::from_secs(60)), &stop);
        let (result, ()) = tokio::join!(waiting, async { stop.cancel() });
        assert!(matches!(result, Err(Error::Stopped { .. })));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn another_process_holding_the_lock_is_waited_for_and_its_death_releases_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        std::fs::write(&path, r#"{"pid":7,"command":"other","since":"2026-01-01T00:00:00Z"}"#).unwrap();
        // `flock` is part of util-linux; without it, no other process can hold the lock.
        let spawned = std::process::Command::new("flock")
            .arg(&path)
            .args(["-c", "echo held; exec sleep 60"])
            .stdout(std::process::Stdio::piped())
            .spawn();
        let Ok(mut other) = spawned else {
            println!("skipped: no flock");
            return;
        };
        let mut line = String::new();
        let mut out = std::io::BufReader::new(other.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        assert_eq!(line, "held\n");

        let stop = CancellationToken::new();
        let error = acquire(&path, "us", soon(), &stop).await.unwrap_err();
        assert!(matches!(&error, Error::Locked { holder: Some(by), .. } if by.pid == 7), "{error:?}");
        drop(out);
        let killed = rustix::process::Pid::from_child(&other);
        end_tree(killed);
        other.wait().unwrap();
        acquire(&path, "us", Deadline::after(Duration::from_secs(60)), &stop).await.unwrap();
    }

    /// Kills a process and its children: `flock` runs its command as a child that inherits the lock.
    #[cfg(target_os = "linux")]
    fn end_tree(pid: rustix::process::Pid) {
        let raw = pid.as_raw_nonzero();
        let children = std::fs::read_to_string(format!("/proc/{raw}/task/{raw}/children")).unwrap();
        for child in children.split_whitespace() {
            let child = rustix::process::Pid::from_raw(child.parse().unwrap()).unwrap();
            rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
        }
        // The parent can have exited by itself after its child.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}
