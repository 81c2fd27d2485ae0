//! One command that is killed.

use super::trace::{self, Class, Hit, Point, Traced};
use super::world::World;
use crate::rig::{PATIENCE, Ran, finish, signal};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// The arguments of `runup`.
pub type Command = &'static [&'static str];

/// `run` goes on until it is killed.
const RUN_LIMIT: Duration = Duration::from_millis(2500);

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Only runup: its children go on.
    Runup,
    /// Everything, as when the power goes.
    Everything,
    /// Only a program that runup started: all of them at a random instant, the caller at a system call.
    Child,
}

/// When it is killed.
#[derive(Debug, Clone, Copy)]
pub enum When {
    After(Duration),
    /// Before this system call.
    At(Point),
}

#[derive(Debug, Clone)]
pub struct Attack {
    pub command: Command,
    /// Runs at the same time and is not killed.
    pub beside: Option<Command>,
    pub what: What,
    pub when: When,
}

impl Attack {
    /// A random one of `command`.
    pub fn random(command: Command, beside: Option<Command>, random: &mut fastrand::Rng) -> Self {
        let what = random.choice([What::Runup, What::Everything, What::Everything, What::Child]).unwrap();
        let when = if random.bool() {
            // Early instants are where most happens. A run takes up to a second, as busy as the machine is.
            let longest = if runs_on(command) { RUN_LIMIT } else { Duration::from_millis(1200) };
            When::After(longest.mul_f64(random.f64().powi(2)))
        } else {
            let class = random.choice(Class::ALL).unwrap();
            let most = random.u32(1..=class.most());
            let nth = random.u32(1..=most);
            When::At(Point { class, nth, whole_tree: what != What::Runup || random.bool() })
        };
        Self { command, beside, what, when }
    }
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.command.join(" "))?;
        match self.what {
            What::Runup => write!(f, "runup alone is killed ")?,
            What::Everything => write!(f, "runup and all that it started are killed ")?,
            What::Child => write!(f, "a program that it started is killed ")?,
        }
        match self.when {
            When::After(after) => write!(f, "after {after:.1?}")?,
            When::At(Point { class, nth, whole_tree }) => {
                let whose = if whole_tree { "of all" } else { "of runup" };
                write!(f, "before system call {nth} of the class {class:?}, {whose}")?;
            }
        }
        self.beside.map_or(Ok(()), |beside| write!(f, ", while `{}` runs, too", beside.join(" ")))
    }
}

/// The threads of a command's processes.
#[derive(Debug)]
pub struct Family {
    pub runup: Pid,
    pub threads: HashSet<Pid>,
}

impl Family {
    pub fn of(runup: Pid) -> Self {
        Self { runup, threads: HashSet::from([runup]) }
    }

    /// Whether the thread is one of runup itself.
    pub fn is_runup(&self, thread: Pid) -> bool {
        let task = format!("/proc/{}/task/{}", self.runup.as_raw_nonzero(), thread.as_raw_nonzero());
        Path::new(&task).exists()
    }
}

/// Whether the command only ends when it is told to.
fn runs_on(command: Command) -> bool {
    command[0] == "run"
}

/// How an attack went.
pub struct Struck {
    /// Whether it came to a kill.
    pub killed: bool,
    pub told: String,
}

/// Carries it out.
///
/// # Panics
/// If runup neither ended nor was killed as it must.
pub fn strike(world: &World, attack: &Attack) -> Struck {
    let beside = attack.beside.map(|command| world.command(command).spawn().unwrap());
    let (child, ended, hit) = match attack.when {
        When::After(after) => struck_after(world, attack, after),
        When::At(point) if trace::is_allowed() => struck_at(world, attack, point),
        When::At(point) => struck_after(world, attack, Duration::from_millis(5) * point.nth),
    };
    if ended.is_none() && attack.what == What::Child && runs_on(attack.command) {
        // It goes on with another one.
        std::thread::sleep(Duration::from_millis(200));
        signal(&child, Signal::TERM);
    }
    let killed = hit.is_some();
    let ran = collect(child, ended);
    let told = format!("{}; code {}", hit.unwrap_or_else(|| "it ended before".to_owned()), ran.code);
    // Of a child that was killed, runup tells; the rest is up to the next run. A runner that an earlier attack has removed
    // cannot be upgraded.
    let removed = attack.command[0] == "upgrade" && ran.code == 78;
    let expected = attack.what == What::Child || attack.beside.is_some() || removed;
    assert!(expected || [0, -9].contains(&ran.code), "{ran:#?}");
    assert_ne!(ran.code, 70, "{ran:#?}");
    if let Some(beside) = beside {
        let ran = finish(beside);
        // Busy, or what it found was half done and is said to be.
        assert!([0, 69, 75, 78, 79, -9].contains(&ran.code), "beside it: {ran:#?}");
    }
    Struck { killed, told }
}

type Outcome = (Child, Option<ExitStatus>, Option<String>);

fn struck_after(world: &World, attack: &Attack, after: Duration) -> Outcome {
    let mut child = world.command(attack.command).spawn().unwrap();
    let began = Instant::now();
    while began.elapsed() < after && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_micros(200));
    }
    if child.try_wait().unwrap().is_some() {
        return (child, None, None);
    }
    kill(world, attack.what, &Family::of(Pid::from_child(&child)), None);
    (child, None, Some("killed".to_owned()))
}

fn struck_at(world: &World, attack: &Attack, point: Point) -> Outcome {
    let limit = if runs_on(attack.command) { RUN_LIMIT } else { PATIENCE };
    let mut told = None;
    let Traced { child, ended, .. } =
        trace::run(&world.command(attack.command), point, limit, |family, hit| {
            let caller = hit.as_ref().map(|hit| hit.caller);
            let what = if hit.is_none() { What::Everything } else { attack.what };
            kill(world, what, family, caller);
            told = Some(
                hit.map_or_else(|| "the time was up".to_owned(), |Hit { call, .. }| format!("at {call}")),
            );
        });
    let hung = told.as_deref() == Some("the time was up") && !runs_on(attack.command);
    assert!(!hung, "`{}` does not end", attack.command.join(" "));
    (child, ended, told)
}

fn kill(world: &World, what: What, family: &Family, caller: Option<Pid>) {
    let runup = family.runup.as_raw_nonzero().get();
    match (what, caller) {
        (What::Runup, _) => send(family.runup),
        (What::Child, Some(caller)) if !family.is_runup(caller) => send(caller),
        (What::Child, _) => others(world.root(), runup).into_iter().for_each(send),
        (What::Everything, _) => {
            send(family.runup);
            family.threads.iter().copied().for_each(send);
            // Again for what was started between the look and the kill.
            for _ in 0..2 {
                others(world.root(), runup).into_iter().for_each(send);
            }
        }
    }
}

fn send(pid: Pid) {
    let _ = kill_process(pid, Signal::KILL);
}

/// The processes that work on this machine, but for runup: by their command line or environment.
fn others(root: &Path, runup: i32) -> Vec<Pid> {
    let root = root.to_str().unwrap();
    let ours = i32::try_from(std::process::id()).unwrap();
    let pids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let names = |file: &str| {
            let bytes = std::fs::read(entry.path().join(file)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).contains(root)
        };
        if pid == runup || pid == ours || !(names("cmdline") || names("environ")) {
            return None;
        }
        Pid::from_raw(pid)
    });
    pids.collect()
}

/// The outcome of a process that was waited for already, or that is waited for.
fn collect(mut child: Child, ended: Option<ExitStatus>) -> Ran {
    let Some(status) = ended else { return finish(child) };
    let read = |stream: &mut dyn std::io::Read| {
        let mut text = Vec::new();
        stream.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    };
    let code =
        status.code().unwrap_or_else(|| -std::os::unix::process::ExitStatusExt::signal(&status).unwrap());
    Ran { code, stdout: read(child.stdout.as_mut().unwrap()), stderr: read(child.stderr.as_mut().unwrap()) }
}
