//! What an attacker would do, case by case. Each test's comment names the case; each of them failed before the case was
//! closed.

mod archive;
mod network;
mod plain_user;

use crate::rig::{PATIENCE, Ran};
use std::process::Child;
use std::time::{Duration, Instant};

/// The most memory that a run may take here, in KiB: the budget is 20 MiB, to which a program without optimization and
/// the pages of its own file come.
const MOST_MEMORY: u64 = 48 << 10;

/// A run, how long it took, and its peak memory in KiB as far as it was seen.
struct Watched {
    ran: Ran,
    took: Duration,
    peak: u64,
}

impl Watched {
    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.ran.code, code, "{}", start(&self.ran));
        self
    }

    /// It ended soon, and used little memory.
    #[track_caller]
    fn bounded(self, limit: Duration) -> Ran {
        assert!(self.took < limit, "it took {:?}: {}", self.took, start(&self.ran));
        assert!(self.peak < MOST_MEMORY, "{} KiB: {}", self.peak, start(&self.ran));
        self.ran
    }
}

/// The part of a run's output that a failure prints.
fn start(ran: &Ran) -> String {
    let cut = |text: &str| text.chars().take(2000).collect::<String>();
    format!("code {}\n{}\n{}", ran.code, cut(&ran.stdout), cut(&ran.stderr))
}

/// Waits for the process, and samples its memory.
fn watch(child: Child) -> Watched {
    let status = format!("/proc/{}/status", child.id());
    let began = Instant::now();
    let watcher = std::thread::spawn(move || {
        let mut peak = 0;
        while began.elapsed() < PATIENCE {
            let Ok(text) = std::fs::read_to_string(&status) else { break };
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            // A zombie has no memory.
            let Some(line) = line else { break };
            let number: u64 = line.trim().trim_end_matches(" kB").trim().parse().unwrap();
            peak = peak.max(number);
            std::thread::sleep(Duration::from_millis(2));
        }
        peak
    });
    let ran = crate::rig::finish(child);
    let took = began.elapsed();
    Watched { ran, took, peak: watcher.join().unwrap() }
}
