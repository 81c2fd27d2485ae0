//! The processes that the benchmark starts, and all that these start.

use crate::Outcome;
use runup::deadline::Deadline;
use rustix::process::{Pid, Signal, WaitOptions};
use std::collections::HashMap;
use std::time::Duration;

/// Milliseconds of a tick in `/proc`, whatever the kernel's own are.
const TICK: u64 = 10;

/// Everything that this process starts. It ends when this is dropped.
pub struct Processes;

/// What `/proc` says about a process.
pub struct Seen {
    pub pid: Pid,
    pub parent: Pid,
    /// `Z` if it has ended, and nothing has waited for it yet.
    pub state: char,
    /// Processor time in ticks: its own, and that of children that it has waited for.
    own: u64,
    children: u64,
}

impl Processes {
    /// From now on, orphans are children of this process.
    pub fn adopt() -> Outcome<Self> {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        Ok(Self)
    }

    /// All processes below this one, parents before their children.
    pub fn all() -> Outcome<Vec<Seen>> {
        let mut below: HashMap<Pid, Vec<Seen>> = HashMap::new();
        for entry in std::fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let pid = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
            if let Some(seen) = pid.and_then(look) {
                below.entry(seen.parent).or_default().push(seen);
            }
        }
        let mut found = below.remove(&rustix::process::getpid()).unwrap_or_default();
        let mut next = 0;
        while next < found.len() {
            found.extend(below.remove(&found[next].pid).unwrap_or_default());
            next += 1;
        }
        Ok(found)
    }

    /// Stops all of them, and returns their processor time in seconds. As nothing runs or ends meanwhile, nothing is counted
    /// twice: the time of a process is in its parent's only once that has waited for it, and then the process is gone.
    pub fn halt() -> Outcome<f64> {
        let mut before = 0;
        let deadline = Deadline::after(Duration::from_secs(30));
        while !deadline.passed() {
            let all = Self::all()?;
            for process in &all {
                // One that has ended meanwhile is counted as such.
                let _ = rustix::process::kill_process(process.pid, Signal::STOP);
            }
            if all.len() == before && all.iter().all(|process| "TZ".contains(process.state)) {
                return Ok(all.iter().map(Seen::seconds).sum());
            }
            before = all.len();
            std::thread::sleep(Duration::from_micros(100));
        }
        Err("a process does not stop".into())
    }

    /// Ends all of them.
    pub fn end() {
        while let Ok(all) = Self::all()
            && !all.is_empty()
        {
            for process in &all {
                let _ = rustix::process::kill_process(process.pid, Signal::KILL);
            }
            while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        Self::end();
    }
}

impl Seen {
    /// The processor time, to the nanosecond where the threads of the process tell it so.
    fn seconds(&self) -> f64 {
        seconds(self.own).max(threads(self.pid).unwrap_or(0.0)) + seconds(self.children)
    }
}

fn seconds(ticks: u64) -> f64 {
    Duration::from_millis(ticks * TICK).as_secs_f64()
}

/// The processor time of the threads that a process has.
pub fn threads(pid: Pid) -> Outcome<f64> {
    let mut sum = 0;
    for thread in std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()))? {
        let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        sum += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(Duration::from_nanos(sum).as_secs_f64())
}

/// What the processors did that was nobody's work, in seconds of a processor since the machine began.
#[derive(Clone, Copy)]
pub struct Unused {
    /// There was nothing to do, or a disk was waited for.
    pub idle: f64,
    /// The hypervisor ran another machine.
    pub stolen: f64,
}

impl Unused {
    pub fn now() -> Outcome<Self> {
        let text = std::fs::read_to_string("/proc/stat")?;
        let ticks: Result<Vec<u64>, _> =
            text.lines().next().unwrap_or_default().split_whitespace().skip(1).map(str::parse).collect();
        match ticks?[..] {
            [_, _, _, idle, disk, _, _, stolen, ..] => {
                Ok(Self { idle: seconds(idle + disk), stolen: seconds(stolen) })
            }
            _ => Err("/proc/stat has other fields".into()),
        }
    }

    pub fn since(self, before: Self) -> Self {
        Self { idle: self.idle - before.idle, stolen: self.stolen - before.stolen }
    }
}

/// `None` if there is no such process any more.
pub fn look(pid: Pid) -> Option<Seen> {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name before it can contain anything.
    let (_, fields) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Seen {
        pid,
        parent: Pid::from_raw(fields.get(1)?.parse().ok()?)?,
        state: fields.first()?.chars().next()?,
        own: ticks(11)? + ticks(12)?,
        children: ticks(13)? + ticks(14)?,
    })
}
