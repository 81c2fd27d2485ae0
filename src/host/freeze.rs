//! Suspends processes while runup checks what they are doing, so that they start nothing meanwhile.
//!
//! Only on Linux, like [`super::process`]; on other systems no process is found, and none is suspended.

use super::Error;
use super::process::Which;
use std::collections::BTreeSet;
use std::time::Duration;

/// The timeout for suspending all of the processes, because some may fork all the time.
const STOPPING: Duration = Duration::from_secs(2);

/// The pause between two checks.
#[cfg(target_os = "linux")]
const POLL: Duration = Duration::from_millis(2);

/// Suspended processes (SIGSTOP), which continue when this is dropped.
#[derive(Debug)]
#[must_use = "dropping it lets the processes go on"]
pub struct Frozen {
    which: Which,
    pids: BTreeSet<u32>,
    /// All that were suspended, by their ids.
    #[cfg(target_os = "linux")]
    suspended: Vec<(u32, std::os::fd::OwnedFd)>,
}

impl Frozen {
    /// The ids of the processes.
    #[must_use]
    pub fn pids(&self) -> &BTreeSet<u32> {
        &self.pids
    }

    /// Whether one of them has unread bytes from the network: an answer that it has not handled yet.
    #[must_use]
    pub fn has_unread(&self) -> bool {
        #[cfg(target_os = "linux")]
        return self.pids.iter().any(|pid| unread::any(*pid));
        #[cfg(not(target_os = "linux"))]
        false
    }

    /// Lets them continue with SIGINT pending, which they handle first.
    pub fn interrupt(self) {
        #[cfg(target_os = "linux")]
        for pid in &self.pids {
            super::process::linux::send(&self.which, *pid, rustix::process::Signal::INT);
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        thaw(&self.which);
        // One that was about to become another program is not found any more.
        #[cfg(target_os = "linux")]
        for (_, process) in &self.suspended {
            let _ = rustix::process::pidfd_send_signal(process, rustix::process::Signal::CONT);
        }
    }
}

/// Lets processes continue that a run had suspended when it was killed. Other processes are not affected.
pub fn thaw(which: &Which) {
    #[cfg(target_os = "linux")]
    for pid in which.find() {
        super::process::linux::send(which, pid, rustix::process::Signal::CONT);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = which;
}

/// Suspends all of the processes, and those that they start meanwhile.
///
/// # Errors
/// [`Error::StillRunning`] if not all of them are suspended within two seconds; then all of them continue.
pub async fn freeze(which: &Which) -> Result<Frozen, Error> {
    let mut frozen = Frozen {
        which: which.clone(),
        pids: BTreeSet::new(),
        #[cfg(target_os = "linux")]
        suspended: Vec::new(),
    };
    #[cfg(target_os = "linux")]
    {
        use super::process::linux;
        let deadline = crate::deadline::Deadline::after(STOPPING);
        loop {
            let found: BTreeSet<u32> = which.find().into_iter().collect();
            // A process that is forked by one that is about to stop is found by the next check.
            let settled = found == frozen.pids && found.iter().all(|pid| linux::is_stopped(*pid));
            if settled {
                return Ok(frozen);
            }
            for pid in &found {
                // Top down: a parent in vfork(2) stops only after its child has called execve(2) or has ended.
                let parent = linux::parent(*pid).filter(|parent| found.contains(parent));
                // One that does not stop in time does not protect its children.
                if parent.is_none_or(linux::is_stopped) || deadline.left() < STOPPING / 2 {
                    let process = linux::suspend(which, *pid);
                    frozen.suspended.retain(|(known, _)| known != pid);
                    frozen.suspended.extend(process.map(|process| (*pid, process)));
                }
            }
            frozen.pids.clone_from(&found);
            if deadline.passed() {
                let (what, pids) = (which.to_string(), found.into_iter().collect());
                return Err(Error::StillRunning { what, pids, total: STOPPING });
            }
            tokio::time::sleep(POLL).await;
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        frozen.pids.clear();
        let _ = STOPPING;
        Ok(frozen)
    }
}

#[cfg(target_os = "linux")]
mod unread {
    use std::collections::BTreeSet;

    /// Whether a TCP socket of the process has bytes that it has not read (the kernel's `proc_net_tcp.rst`).
    pub fn any(pid: u32) -> bool {
        let sockets = sockets(pid);
        if sockets.is_empty() {
            return false;
        }
        ["tcp", "tcp6"].iter().any(|table| {
            fs_err::read_to_string(format!("/proc/{pid}/net/{table}"))
                .is_ok_and(|text| text.lines().skip(1).any(|line| is_unread(line, &sockets)))
        })
    }

    /// The inodes of its sockets.
    fn sockets(pid: u32) -> BTreeSet<String> {
        let Ok(entries) = fs_err::read_dir(format!("/proc/{pid}/fd")) else { return BTreeSet::new() };
        let links = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        links
            .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
            .collect()
    }

    /// One line: number, local and remote address, state, `tx:rx` queues, timer, retransmits, uid, timeout, inode.
    fn is_unread(line: &str, sockets: &BTreeSet<String>) -> bool {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(queues), Some(inode)) = (fields.get(4), fields.get(9)) else { return false };
        let waiting = queues.split_once(':').and_then(|(_, rx)| u64::from_str_radix(rx, 16).ok());
        sockets.contains(*inode) && waiting.is_some_and(|bytes| bytes > 0)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::io::BufRead as _;
    use std::process::{Child, Command, Stdio};

    /// Killed on drop, so that a test that fails leaves nothing behind.
    struct Running(Child);

    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn start(mark: &str, script: &str) -> Running {
        // Where the tests run in the background, they ignore SIGINT, and so would every shell of theirs.
        let mut child = Command::new("env")
            .args(["--default-signal=INT", "/bin/sh", "-c", script])
            .env("RUNUP_TEST_MARK", mark)
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.as_mut().expect("it is piped"))
            .read_line(&mut line)
            .expect("it says that it is up");
        Running(child)
    }

    fn marked(mark: &str) -> Which {
        Which::MarkedBy { uid: None, key: "RUNUP_TEST_MARK".into(), value: mark.into() }
    }

    #[tokio::test]
    async fn what_is_frozen_does_nothing_until_it_is_let_go() {
        let mark = format!("freeze-{}", std::process::id());
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("beats");
        let script = format!("echo up; while :; do echo x >>{}; sleep 0.01; done", file.display());
        let child = start(&mark, &script);
        let frozen = freeze(&marked(&mark)).await.unwrap();
        assert!(frozen.pids().contains(&child.0.id()), "{frozen:?}");
        let size = || std::fs::metadata(&file).map_or(0, |meta| meta.len());
        let before = size();
        // Long enough for dozens of beats.
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(size(), before);
        drop(frozen);
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while size() == before {
            assert!(std::time::Instant::now() < deadline, "it never went on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[tokio::test]
    async fn what_becomes_another_program_while_it_is_suspended_goes_on_as_well() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let (program, file) = (dir.path().join("listener"), dir.path().join("beats"));
        // It is about to start another program most of the time.
        let script =
            format!("#!/bin/bash\necho up\nwhile :; do /bin/true; echo x >>{}; done\n", file.display());
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut child = Running(Command::new(&program).stdout(Stdio::piped()).spawn().unwrap());
        let mut line = String::new();
        std::io::BufReader::new(child.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let which = Which::Program { uid: None, below: dir.path().to_owned(), name: "listener".into() };
        let size = || std::fs::metadata(&file).map_or(0, |meta| meta.len());
        for _ in 0..1000 {
            drop(freeze(&which).await.unwrap());
            let (before, began) = (size(), std::time::Instant::now());
            while size() == before {
                assert!(began.elapsed() < Duration::from_secs(20), "it does not go on");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    #[tokio::test]
    async fn an_answer_that_a_frozen_process_has_not_read_is_seen() {
        let mark = format!("freeze-{}-net", std::process::id());
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let mut child = Command::new("/bin/bash")
            .args(["-c", &format!("exec 3<>/dev/tcp/127.0.0.1/{port}; echo up; read -r line <&3")])
            .env("RUNUP_TEST_MARK", &mark)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut stream, _) = server.accept().unwrap();
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let frozen = freeze(&marked(&mark)).await.unwrap();
        assert!(!frozen.has_unread());
        std::io::Write::write_all(&mut stream, b"a job\n").unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while !frozen.has_unread() {
            assert!(std::time::Instant::now() < deadline, "the bytes are not seen");
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(frozen);
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn an_interrupt_is_the_first_thing_that_a_frozen_process_meets() {
        let mark = format!("freeze-{}-int", std::process::id());
        let mut child = start(&mark, "trap 'exit 7' INT; echo up; while :; do sleep 0.01; done");
        freeze(&marked(&mark)).await.unwrap().interrupt();
        assert_eq!(child.0.wait().unwrap().code(), Some(7));
    }
}
