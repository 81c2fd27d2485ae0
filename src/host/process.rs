//! Finds and ends processes that runup has not started itself.
//!
//! Only on Linux, with `/proc`; on other systems none are found. A process that cannot be read (another user's, if
//! runup is not root) is not found either.

use super::Error;
use crate::deadline::Deadline;
use std::path::PathBuf;
use std::time::Duration;

/// The pause between two checks whether processes have ended.
const POLL: Duration = Duration::from_millis(20);

/// Selects processes; this process and its ancestors are never selected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// Those that were started with this variable set to this value.
    MarkedBy {
        /// Only processes with this user id as their real, effective or saved one: otherwise any other user could set
        /// the variable and delay runup. Of root, only those that are nothing but root: any user can start a set-user-ID
        /// program. `None` if the user is not known.
        uid: Option<u32>,
        /// The variable's name.
        key: String,
        /// Its value.
        value: String,
    },
    /// Those of root's that run one of these programs, which no other user can start as root, and were started with this
    /// variable set to this value.
    RootsTool {
        /// The programs' files, without links in their paths.
        programs: Vec<PathBuf>,
        /// The variable's name.
        key: String,
        /// Its value.
        value: String,
    },
    /// Those with this user id as their real, effective, saved or filesystem one.
    OfUser(u32),
    /// Those whose program, or script, is a file of this name below the directory. Any user can create a process that
    /// looks like that, so it may be used for waiting, not for ending.
    Program {
        /// Like that of [`Which::MarkedBy`].
        uid: Option<u32>,
        /// The directory, without links in its path.
        below: PathBuf,
        /// The file's name.
        name: String,
    },
}

/// How [`end`] stops a process before it kills it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// SIGTERM, with three seconds.
    Terminate,
    /// SIGINT, with ten seconds. A runner's listener deletes its session only after SIGINT, and must not get SIGTERM. A
    /// process that ignores SIGINT is killed at once.
    Interrupt,
}

impl Ask {
    fn grace(self) -> Duration {
        match self {
            Self::Terminate => Duration::from_secs(3),
            Self::Interrupt => Duration::from_secs(10),
        }
    }
}

/// The ids of the processes of any user that were started with the variable `key` set to `value`.
#[must_use]
pub fn with_env(key: &str, value: &str) -> Vec<u32> {
    Which::MarkedBy { uid: None, key: key.into(), value: value.into() }.find()
}

impl Which {
    /// The ids of the selected processes, without zombies.
    #[must_use]
    pub fn find(&self) -> Vec<u32> {
        #[cfg(target_os = "linux")]
        return linux::find(self);
        #[cfg(not(target_os = "linux"))]
        Vec::new()
    }
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            // Without the value, which may be secret.
            Self::MarkedBy { key, .. } | Self::RootsTool { key, .. } => {
                write!(f, "the processes with {key} in their environment")
            }
            Self::OfUser(uid) => write!(f, "the processes of the user id {uid}"),
            Self::Program { below, name, .. } => write!(f, "the processes of {name} in {}", below.display()),
        }
    }
}

/// Ends the processes and those that they start meanwhile: they get the signal of [`Ask`], and are killed after its
/// time or half of the time left, whichever is shorter. Returns their number once all have ended;
/// [`Error::StillRunning`] at the deadline.
pub async fn end(which: &Which, ask: Ask, deadline: Deadline) -> Result<usize, Error> {
    let kill = Deadline::after(ask.grace()).within(deadline.left() / 2);
    let mut asked = std::collections::BTreeSet::new();
    let mut seen = std::collections::BTreeSet::new();
    loop {
        let pids = which.find();
        if pids.is_empty() {
            return Ok(seen.len());
        }
        if deadline.passed() {
            return Err(Error::StillRunning { what: which.to_string(), pids, total: deadline.total() });
        }
        for pid in pids {
            seen.insert(pid);
            let forced = kill.passed();
            if forced || asked.insert(pid) {
                #[cfg(target_os = "linux")]
                linux::signal(which, pid, (!forced).then_some(ask));
            }
        }
        tokio::time::sleep(POLL.min(deadline.left())).await;
    }
}

/// The parent of the process; `None` if the process does not exist.
#[must_use]
pub fn parent(pid: u32) -> Option<u32> {
    #[cfg(target_os = "linux")]
    return linux::parent(pid);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = pid;
        None
    }
}

/// When the process began, in seconds since 1970 by the clock as it is now; at most a second too early. `None` if it does
/// not exist.
#[cfg(target_os = "linux")]
pub(super) fn began(pid: u32) -> Option<i64> {
    linux::began(pid)
}

/// Whether the process is running, and not a zombie.
#[must_use]
pub fn runs(pid: u32) -> bool {
    #[cfg(target_os = "linux")]
    return linux::runs(pid);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = pid;
        false
    }
}

/// Whether the process has ended, and its parent has not noticed yet.
#[cfg(target_os = "linux")]
pub(super) fn is_zombie(pid: u32) -> bool {
    linux::is_zombie(pid)
}

/// The user ids of all processes.
#[cfg(target_os = "linux")]
pub(super) fn uids_in_use() -> std::collections::BTreeSet<u32> {
    linux::uids_in_use()
}

#[cfg(target_os = "linux")]
pub(super) mod linux {
    use super::{Ask, Which};
    use rustix::process::{Pid, PidfdFlags, Signal};
    use std::collections::BTreeSet;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::Path;

    /// The units of time in /proc, in a second.
    const TICKS: i64 = 100;

    pub fn find(which: &Which) -> Vec<u32> {
        let ours = ourselves();
        let mut found: Vec<u32> =
            all().into_iter().filter(|pid| !ours.contains(pid) && matches(which, *pid)).collect();
        found.sort_unstable();
        found
    }

    pub fn uids_in_use() -> BTreeSet<u32> {
        all().into_iter().filter_map(Status::of).flat_map(|status| status.uids).collect()
    }

    fn all() -> Vec<u32> {
        let Ok(entries) = fs_err::read_dir("/proc") else { return Vec::new() };
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
    }

    /// Signals the process, unless its id belongs to another process by now.
    pub fn signal(which: &Which, pid: u32, ask: Option<Ask>) {
        let signal = match ask {
            Some(Ask::Terminate) => Signal::TERM,
            Some(Ask::Interrupt) if !Status::of(pid).is_some_and(|status| status.ignores_interrupt) => {
                Signal::INT
            }
            _ => Signal::KILL,
        };
        send(which, pid, signal);
    }

    pub fn parent(pid: u32) -> Option<u32> {
        Status::of(pid).map(|status| status.parent)
    }

    pub fn began(pid: u32) -> Option<i64> {
        let boot = fs_err::read_to_string("/proc/stat").ok()?;
        let boot: i64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        let stat = fs_err::read(format!("/proc/{pid}/stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        // The name, in parentheses, can contain anything; the field after it is the third, and this the 22nd.
        let ticks: i64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
        Some(boot + ticks / TICKS)
    }

    pub fn is_zombie(pid: u32) -> bool {
        Status::of(pid).is_some_and(|status| status.ended)
    }

    pub fn runs(pid: u32) -> bool {
        Status::of(pid).is_some_and(|status| !status.ended)
    }

    /// Whether the process is stopped, or has ended.
    pub fn is_stopped(pid: u32) -> bool {
        Status::of(pid).is_none_or(|status| status.ended || status.stopped)
    }

    /// Sends the signal to the process, unless its id belongs to another process by now.
    pub fn send(which: &Which, pid: u32, signal: Signal) {
        let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
        let result = match rustix::process::pidfd_open(id, PidfdFlags::empty()) {
            // The descriptor always refers to the same process, so checking again now tells which one it is.
            Ok(process) if matches(which, pid) => rustix::process::pidfd_send_signal(&process, signal),
            // Before Linux 5.3, or behind a strict seccomp filter.
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) if matches(which, pid) => {
                rustix::process::kill_process(id, signal)
            }
            _ => return,
        };
        tracing::debug!(pid, ?signal, ?result, "signalled a process");
    }

    /// Suspends the process, as above. The descriptor lets it continue, whatever program it is by then: it may have been
    /// about to become another one.
    pub fn suspend(which: &Which, pid: u32) -> Option<std::os::fd::OwnedFd> {
        let id = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
        let process = rustix::process::pidfd_open(id, PidfdFlags::empty()).ok();
        send(which, pid, Signal::STOP);
        process
    }

    fn matches(which: &Which, pid: u32) -> bool {
        let Some(status) = Status::of(pid) else { return false };
        if status.ended {
            return false;
        }
        match which {
            Which::OfUser(uid) => status.uids.contains(uid),
            // A script's own path is its interpreter's first argument.
            Which::Program { uid, below, name } => {
                if uid.is_some_and(|uid| !status.is_of(uid)) {
                    return false;
                }
                let Ok(line) = fs_err::read(format!("/proc/{pid}/cmdline")) else { return false };
                line.split(|byte| *byte == 0).take(2).any(|word| {
                    let path = Path::new(OsStr::from_bytes(word));
                    path.starts_with(below) && path.file_name() == Some(OsStr::new(name))
                })
            }
            Which::MarkedBy { uid, key, value } => {
                if uid.is_some_and(|uid| !status.is_of(uid)) {
                    return false;
                }
                is_marked(pid, key, value)
            }
            Which::RootsTool { programs, key, value } => {
                let Ok(program) = fs_err::read_link(format!("/proc/{pid}/exe")) else { return false };
                status.is_of(0) && programs.contains(&program) && is_marked(pid, key, value)
            }
        }
    }

    fn is_marked(pid: u32, key: &str, value: &str) -> bool {
        let assignment = format!("{key}={value}");
        fs_err::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|set| set == assignment.as_bytes()))
    }

    /// This process and its ancestors.
    fn ourselves() -> BTreeSet<u32> {
        let mut ours = BTreeSet::new();
        let mut pid = std::process::id();
        while pid != 0 && ours.insert(pid) {
            pid = Status::of(pid).map_or(0, |status| status.parent);
        }
        ours
    }

    struct Status {
        parent: u32,
        /// Real, effective, saved and filesystem id.
        uids: Vec<u32>,
        /// A zombie, or about to vanish.
        ended: bool,
        /// By SIGSTOP or the like.
        stopped: bool,
        ignores_interrupt: bool,
    }

    impl Status {
        /// Whether the process is one of that user, which another one cannot pretend.
        fn is_of(&self, uid: u32) -> bool {
            if uid == 0 { self.uids.iter().all(|one| *one == 0) } else { self.uids.contains(&uid) }
        }

        fn of(pid: u32) -> Option<Self> {
            let text = fs_err::read(format!("/proc/{pid}/status")).ok()?;
            let text = String::from_utf8_lossy(&text);
            let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let state = field("State")?.trim().chars().next();
            Some(Self {
                parent: field("PPid")?.trim().parse().ok()?,
                uids: field("Uid")?.split_whitespace().filter_map(|id| id.parse().ok()).collect(),
                ended: matches!(state, Some('Z' | 'X')),
                stopped: matches!(state, Some('T' | 't')),
                ignores_interrupt: field("SigIgn")
                    .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
                    .is_some_and(|mask| mask & (1 << (Signal::INT.as_raw() - 1)) != 0),
            })
        }
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
