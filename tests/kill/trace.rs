//! Runs a program under ptrace(2) and stops it at its Nth system call of a class, before the call has done anything.
//!
//! Unlike strace's `--inject`, it counts over all threads, and over all processes if that is wanted, and whatever is to be
//! killed can be killed while the caller stands still.

use super::attack::Family;
use nix::sys::ptrace::{self, Options};
use rustix::process::{Pid, WaitOptions, WaitStatus};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// A kind of system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Rename,
    Delete,
    Directory,
    Create,
    Write,
    Sync,
    Link,
    Owner,
    Connect,
    Process,
    Signal,
}

impl Class {
    pub const ALL: [Self; 11] = [
        Self::Rename,
        Self::Delete,
        Self::Directory,
        Self::Create,
        Self::Write,
        Self::Sync,
        Self::Link,
        Self::Owner,
        Self::Connect,
        Self::Process,
        Self::Signal,
    ];

    /// About as many as a longer command makes.
    pub fn most(self) -> u32 {
        match self {
            Self::Rename | Self::Directory | Self::Link | Self::Connect | Self::Signal => 20,
            Self::Delete | Self::Owner | Self::Sync => 60,
            Self::Create | Self::Write | Self::Process => 100,
        }
    }
}

/// Which system call is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    pub class: Class,
    /// From 1.
    pub nth: u32,
    /// Counts those of all processes, and not only those of the program itself.
    pub whole_tree: bool,
}

/// What is shown of a call: the number of the argument.
#[derive(Clone, Copy)]
enum Shown {
    Path(usize),
    File,
    Nothing,
}

type Call = (libc::c_long, &'static str, Class, Shown);

const CALLS: &[Call] = &[
    (libc::SYS_renameat, "renameat", Class::Rename, Shown::Path(3)),
    (libc::SYS_renameat2, "renameat2", Class::Rename, Shown::Path(3)),
    (libc::SYS_unlinkat, "unlinkat", Class::Delete, Shown::Path(1)),
    (libc::SYS_mkdirat, "mkdirat", Class::Directory, Shown::Path(1)),
    (libc::SYS_openat, "openat", Class::Create, Shown::Path(1)),
    (libc::SYS_write, "write", Class::Write, Shown::File),
    (libc::SYS_pwrite64, "pwrite64", Class::Write, Shown::File),
    (libc::SYS_writev, "writev", Class::Write, Shown::File),
    (libc::SYS_ftruncate, "ftruncate", Class::Write, Shown::File),
    (libc::SYS_fsync, "fsync", Class::Sync, Shown::File),
    (libc::SYS_fdatasync, "fdatasync", Class::Sync, Shown::File),
    (libc::SYS_syncfs, "syncfs", Class::Sync, Shown::File),
    (libc::SYS_linkat, "linkat", Class::Link, Shown::Path(3)),
    (libc::SYS_symlinkat, "symlinkat", Class::Link, Shown::Path(2)),
    (libc::SYS_fchown, "fchown", Class::Owner, Shown::File),
    (libc::SYS_fchownat, "fchownat", Class::Owner, Shown::Path(1)),
    (libc::SYS_fchmod, "fchmod", Class::Owner, Shown::File),
    (libc::SYS_fchmodat, "fchmodat", Class::Owner, Shown::Path(1)),
    (libc::SYS_connect, "connect", Class::Connect, Shown::Nothing),
    (libc::SYS_clone, "clone", Class::Process, Shown::Nothing),
    (libc::SYS_clone3, "clone3", Class::Process, Shown::Nothing),
    (libc::SYS_execve, "execve", Class::Process, Shown::Path(0)),
    (libc::SYS_kill, "kill", Class::Signal, Shown::Nothing),
    (libc::SYS_pidfd_send_signal, "pidfd_send_signal", Class::Signal, Shown::Nothing),
];

/// Those that newer architectures do not have.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS: &[Call] = &[
    (libc::SYS_rename, "rename", Class::Rename, Shown::Path(1)),
    (libc::SYS_unlink, "unlink", Class::Delete, Shown::Path(0)),
    (libc::SYS_rmdir, "rmdir", Class::Delete, Shown::Path(0)),
    (libc::SYS_mkdir, "mkdir", Class::Directory, Shown::Path(0)),
    (libc::SYS_open, "open", Class::Create, Shown::Path(0)),
    (libc::SYS_creat, "creat", Class::Create, Shown::Path(0)),
    (libc::SYS_link, "link", Class::Link, Shown::Path(1)),
    (libc::SYS_symlink, "symlink", Class::Link, Shown::Path(1)),
    (libc::SYS_chown, "chown", Class::Owner, Shown::Path(0)),
    (libc::SYS_lchown, "lchown", Class::Owner, Shown::Path(0)),
    (libc::SYS_chmod, "chmod", Class::Owner, Shown::Path(0)),
    (libc::SYS_fork, "fork", Class::Process, Shown::Nothing),
    (libc::SYS_vfork, "vfork", Class::Process, Shown::Nothing),
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS: &[Call] = &[];

/// What was about to be called, and by which thread.
pub struct Hit {
    pub caller: Pid,
    pub call: String,
}

/// How it went.
pub struct Traced {
    pub child: Child,
    /// If it ended by itself.
    pub ended: Option<ExitStatus>,
}

/// Whether this machine lets a process trace its children; some containers do not.
pub fn is_allowed() -> bool {
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    *ALLOWED.get_or_init(|| {
        let mut child = Command::new("sleep").arg("9").spawn().unwrap();
        let seized = ptrace::seize(id(Pid::from_child(&child)), Options::empty());
        child.kill().and_then(|()| child.wait()).unwrap();
        if seized.is_err() {
            println!("NOTE: no kills at system calls, because tracing is not allowed here");
        }
        seized.is_ok()
    })
}

/// Starts the program and calls `strike` at the point, with the family and what was about to be called, or with `None`
/// when the time is up. From then on nothing is traced.
pub fn run(
    command: &Command,
    point: Point,
    limit: Duration,
    strike: impl FnOnce(&Family, Option<Hit>) + Send,
) -> Traced {
    // When the thread ends, the kernel lets go of what it has traced.
    std::thread::scope(|scope| scope.spawn(|| trace(command, point, limit, strike)).join().unwrap())
}

fn trace(
    command: &Command,
    point: Point,
    limit: Duration,
    strike: impl FnOnce(&Family, Option<Hit>),
) -> Traced {
    let mut child = waiting(command);
    let runup = Pid::from_child(&child);
    ptrace::seize(
        id(runup),
        Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACEEXEC,
    )
    .expect("a child can be traced");
    ptrace::interrupt(id(runup)).unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    // Stops it at the time limit, whatever it is doing.
    let (done, over) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        if over.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let _ = rustix::process::kill_process(runup, rustix::process::Signal::URG);
        }
    });
    let mut tracer = Tracer { runup, started: false, family: Family::of(runup), counts: BTreeMap::new() };
    let outcome = tracer.until(point);
    drop(done);
    let ended = match outcome {
        Outcome::Ended(status) => Some(status),
        Outcome::Hit(hit) => {
            strike(&tracer.family, Some(hit));
            None
        }
        Outcome::TimeIsUp => {
            strike(&tracer.family, None);
            None
        }
    };
    Traced { child, ended }
}

/// Starts the command in a shell that waits for a line before it executes it.
fn waiting(command: &Command) -> Child {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "read -r go; exec \"$0\" \"$@\" </dev/null"]);
    shell.arg(command.get_program()).args(command.get_args());
    shell.env_clear().envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

enum Outcome {
    Ended(ExitStatus),
    Hit(Hit),
    TimeIsUp,
}

struct Tracer {
    runup: Pid,
    /// The shell has become the program.
    started: bool,
    family: Family,
    counts: BTreeMap<Class, u32>,
}

impl Tracer {
    fn until(&mut self, point: Point) -> Outcome {
        // Threads are waited for as well, and the children of other threads of this process are not.
        let options = libc::__WALL.cast_unsigned() | libc::__WNOTHREAD.cast_unsigned();
        let options = WaitOptions::from_bits_retain(options);
        loop {
            let Ok(Some((pid, status))) = rustix::process::wait(options) else {
                panic!("the program's end was missed");
            };
            let raw = status.as_raw();
            if status.exited() || status.signaled() {
                self.family.threads.remove(&pid);
                if pid == self.runup {
                    return Outcome::Ended(std::os::unix::process::ExitStatusExt::from_raw(raw));
                }
                continue;
            }
            self.family.threads.insert(pid);
            if let Some(outcome) = self.stopped(pid, status, point) {
                return outcome;
            }
        }
    }

    /// Looks why it stopped, and lets it go on unless this is the point.
    fn stopped(&mut self, pid: Pid, status: WaitStatus, point: Point) -> Option<Outcome> {
        let (signal, event) = ((status.as_raw() >> 8) & 0xff, status.as_raw() >> 16);
        let mut deliver = None;
        if signal == libc::SIGTRAP | 0x80 {
            if let Some(hit) = self.called(pid, point) {
                return Some(Outcome::Hit(hit));
            }
        } else if event == libc::PTRACE_EVENT_STOP && signal != libc::SIGTRAP {
            // Suspended, as runup does it with listeners; what is let go stays suspended.
            let _ = ptrace::detach(id(pid), None);
            self.family.threads.remove(&pid);
            return None;
        } else if event == 0 {
            if signal == libc::SIGURG && self.family.is_runup(pid) {
                return Some(Outcome::TimeIsUp);
            }
            deliver = nix::sys::signal::Signal::try_from(signal).ok();
        } else if event == libc::PTRACE_EVENT_EXEC && pid == self.runup {
            self.started = true;
        }
        // It may have been killed meanwhile.
        let _ = ptrace::syscall(id(pid), deliver);
        None
    }

    /// Counts a system call that begins.
    fn called(&mut self, pid: Pid, point: Point) -> Option<Hit> {
        if !self.started || ptrace::syscall_info(id(pid)).ok()?.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
            return None;
        }
        if !point.whole_tree && !self.family.is_runup(pid) {
            return None;
        }
        let call = Begun::of(pid)?;
        let count = self.counts.entry(call.class).or_default();
        *count += 1;
        (call.class == point.class && *count == point.nth)
            .then(|| Hit { caller: pid, call: call.to_string() })
    }
}

/// A call that a stopped thread is about to make.
struct Begun {
    pid: Pid,
    name: &'static str,
    class: Class,
    shown: Shown,
    arguments: Vec<u64>,
}

impl Begun {
    /// `None` if it is of no class.
    fn of(pid: Pid) -> Option<Self> {
        let line = std::fs::read_to_string(format!("/proc/{}/syscall", pid.as_raw_nonzero())).ok()?;
        let mut words = line.split_whitespace();
        let number: libc::c_long = words.next()?.parse().ok()?;
        let &(_, name, class, shown) = CALLS.iter().chain(OLD_CALLS).find(|call| call.0 == number)?;
        let hex = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).unwrap_or(0);
        let begun = Self { pid, name, class, shown, arguments: words.map(hex).collect() };
        let creates = |flags: u64| flags & u64::from(libc::O_CREAT.cast_unsigned()) != 0;
        let counts = match (name, class) {
            ("openat", _) => creates(begun.arguments[2]),
            ("open", _) => creates(begun.arguments[1]),
            // Pipes and sockets change nothing that stays.
            (_, Class::Write) => {
                begun.file().is_some_and(|path| path.is_absolute() && !path.starts_with("/dev"))
            }
            _ => true,
        };
        counts.then_some(begun)
    }

    fn file(&self) -> Option<PathBuf> {
        std::fs::read_link(format!("/proc/{}/fd/{}", self.pid.as_raw_nonzero(), self.arguments[0])).ok()
    }
}

impl std::fmt::Display for Begun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.shown {
            Shown::Path(at) => text_at(self.pid, self.arguments[at]),
            Shown::File => self.file().map(|path| path.display().to_string()).unwrap_or_default(),
            Shown::Nothing => String::new(),
        };
        let program = std::fs::read_to_string(format!("/proc/{}/comm", self.pid.as_raw_nonzero()));
        write!(f, "{}({what}) of {}", self.name, program.unwrap_or_default().trim_end())
    }
}

/// The text in the memory of a stopped thread.
fn text_at(pid: Pid, address: u64) -> String {
    use std::os::unix::fs::FileExt as _;
    let Ok(memory) = std::fs::File::open(format!("/proc/{}/mem", pid.as_raw_nonzero())) else {
        return String::new();
    };
    // Up to the end of the page: the next one may not exist.
    let mut bytes = vec![0; usize::try_from(4096 - address % 4096).unwrap()];
    let read = memory.read_at(&mut bytes, address).unwrap_or(0);
    let text = bytes[..read].split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

fn id(pid: Pid) -> nix::unistd::Pid {
    nix::unistd::Pid::from_raw(pid.as_raw_nonzero().get())
}
