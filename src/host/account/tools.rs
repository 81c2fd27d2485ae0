//! Runs the machine's own `useradd` and similar programs, one at a time: waits for one that outlived a killed runup, and
//! for the locks of the files that they change.

use crate::deadline::Deadline;
use crate::host::process::{self, Ask, Which};
use crate::host::{Command, Error, Outcome, Root, find_program};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Marks the programs that runup has started; the value is the root that they work in.
pub const MARKER: &str = "RUNUP_ACCOUNTS";

/// The timeout of each program. They wait for each other's locks for 15 seconds.
pub(super) const TOOL_TIME: Duration = Duration::from_secs(60);

/// The directories of system programs; PATH may lack the `sbin` directories.
const SYSTEM_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// The programs that are waited for. No user may start one of them as root without being root.
const TOOLS: [&str; 5] = ["useradd", "userdel", "usermod", "groupadd", "groupdel"];

/// The pause between two checks.
const LOOK: Duration = Duration::from_millis(50);

/// The files whose locks `useradd` and the others take: each is a file beside it whose content is the id of its holder.
const LOCKED: [&str; 6] = ["passwd", "shadow", "group", "gshadow", "subuid", "subgid"];

/// The lock of one of these files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileLock {
    /// The lock file.
    pub path: PathBuf,
    /// The process that it names and the name of its program; `None` if it names none, as after a power cut.
    pub holder: Option<(u32, String)>,
}

/// A program of this machine that works inside the root.
pub(super) fn tool(root: &Root, name: &str, tool: &'static str) -> Result<Command, Error> {
    let program = find_program(tool, SYSTEM_PATH)
        .ok_or_else(|| Error::AccountToolMissing { name: name.into(), tool })?;
    let command = Command::new(program)
        .env("PATH", SYSTEM_PATH)
        .env("LC_ALL", "C")
        .env(MARKER, root.path())
        .deadline(Deadline::after(TOOL_TIME));
    // Not --root, which is a chroot: the image's programs can be for another architecture.
    Ok(if root.is_host() { command } else { command.arg("--prefix").arg(root.path()) })
}

pub(super) async fn run(command: Command, tool: &str, stop: &CancellationToken) -> Result<Outcome, Error> {
    command.run(stop, &mut |_, line| tracing::debug!(line, "{tool}")).await
}

/// Waits for the programs that a killed runup has left, and ends those that do not end by themselves. Only for the one
/// that may run them now: nobody else's are told from those.
pub async fn wait_for_survivors(
    root: &Root,
    deadline: Deadline,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let which = survivors(root);
    let stopped = || Error::Stopped { doing: "waiting for useradd or userdel".into() };
    let limit = deadline.within(TOOL_TIME);
    let mut told = false;
    loop {
        let pids = which.find();
        if pids.is_empty() {
            return Ok(());
        }
        if stop.is_cancelled() {
            return Err(stopped());
        }
        if limit.passed() {
            break;
        }
        if !told {
            told = true;
            tracing::warn!(
                "waiting for useradd or userdel, left by a run that was killed (process {pids:?})"
            );
        }
        tokio::time::sleep(LOOK).await;
    }
    tokio::select! {
        () = stop.cancelled() => Err(stopped()),
        ended = process::end(&which, Ask::Terminate, deadline.within(TOOL_TIME)) => ended.map(drop),
    }
}

/// The mark alone is not enough: a user who may start another program as root, as by sudo, can give it any environment.
fn survivors(root: &Root) -> Which {
    let path = |tool| std::fs::canonicalize(find_program(tool, SYSTEM_PATH)?).ok();
    Which::RootsTool {
        programs: TOOLS.into_iter().filter_map(path).collect(),
        key: MARKER.into(),
        value: root.path().display().to_string(),
    }
}

/// Waits until no other program is changing the users or groups. [`Error::AccountsLocked`] at the deadline.
pub async fn wait_until_unlocked(
    root: &Root,
    deadline: Deadline,
    stop: &CancellationToken,
) -> Result<(), Error> {
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
    super::sweep_locks(root);
    held(root)
}

/// The first lock that `useradd` would not get. One whose holder has exited is not in its way: it deletes that.
fn held(root: &Root) -> Option<FileLock> {
    let etc = root.resolve(Path::new("/etc"))?;
    LOCKED.iter().find_map(|name| {
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

pub(super) fn no_login_shell(root: &Root) -> &'static str {
    ["/usr/sbin/nologin", "/sbin/nologin", "/usr/bin/nologin"]
        .into_iter()
        .find(|shell| root.resolve(Path::new(shell)).is_some())
        .unwrap_or("/bin/false")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let root = Root::at(dir.path().into());
        (dir, root)
    }

    #[tokio::test]
    async fn a_lock_that_useradd_would_not_get_is_waited_for_and_explained() {
        let (dir, root) = image();
        let (stop, us) = (CancellationToken::new(), std::process::id());
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

    #[tokio::test]
    async fn no_other_program_of_root_s_is_taken_for_a_useradd_that_outlived_a_killed_run() {
        let (dir, root) = image();
        let mut other = std::process::Command::new("/bin/sleep");
        let mut other = other.arg("600").env(MARKER, dir.path()).spawn().unwrap();
        let marked =
            Which::MarkedBy { uid: None, key: MARKER.into(), value: dir.path().display().to_string() };
        while marked.find().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(survivors(&root).find(), [] as [u32; 0]);
        wait_for_survivors(&root, Deadline::after(Duration::ZERO), &CancellationToken::new()).await.unwrap();
        assert!(other.try_wait().unwrap().is_none(), "it was ended");
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
