//! One schedule: all of it follows from its number, but for what the machine's own timing adds.

use crate::rig::{Ran, Rig, finish, names_in, until};
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

/// How the machine is before the first kill.
#[derive(Debug, Clone, Copy)]
enum Before {
    Bare,
    Baked,
    BakedLongAgo,
    Installed,
    InstalledElsewhere,
}

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Only runup: its children go on.
    Runup,
    /// Everything, as when the power goes.
    Everything,
    /// Only a program that runup started.
    Child,
}

/// A version that the image is behind.
const NEWER: &str = "2.999.0";

/// Carries the schedule out; returns how often something was killed.
///
/// # Panics
/// At a violation.
pub fn run(number: u64) -> usize {
    let mut random = fastrand::Rng::with_seed(number);
    let before = random
        .choice([
            Before::Bare,
            Before::Baked,
            Before::BakedLongAgo,
            Before::Installed,
            Before::InstalledElsewhere,
        ])
        .unwrap();
    let first: &[&str] = match before {
        Before::Bare => random.choice([&["install"][..], &["bake"], &["install", "--ephemeral"]]).unwrap(),
        Before::Baked | Before::BakedLongAgo => random.choice([&["install"][..], &["remove"]]).unwrap(),
        Before::Installed | Before::InstalledElsewhere => {
            random.choice([&["remove"][..], &["install", "--work", "third"]]).unwrap()
        }
    };
    let rig = Rig::new().making_a_user();
    let mut story = vec![format!("machine: {before:?}")];
    prepare(&rig, before);
    let mut kills = 0;
    kills += usize::from(killed(&rig, first, &mut random, &mut story));
    for _ in 0..random.usize(0..3) {
        let command = random.choice([&["install"][..], &["install"], &["remove"]]).unwrap();
        kills += usize::from(killed(&rig, command, &mut random, &mut story));
    }
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| converges(&rig, &mut random)));
    if let Err(panic) = outcome {
        println!("schedule {number}:\n  {}", story.join("\n  "));
        std::panic::resume_unwind(panic);
    }
    kills
}

fn prepare(rig: &Rig, before: Before) {
    let done = |arguments: &[&str]| rig.run(arguments).expect(0);
    match before {
        Before::Bare => {}
        Before::Baked => drop(done(&["bake"])),
        Before::BakedLongAgo => {
            done(&["bake"]);
            rig.sandbox.offer(NEWER);
        }
        Before::Installed => drop(done(&["install"])),
        Before::InstalledElsewhere => drop(done(&["install", "--work", "elsewhere"])),
    }
}

/// Runs a command and kills something at a random instant; returns whether it came to that.
fn killed(rig: &Rig, command: &[&str], random: &mut fastrand::Rng, story: &mut Vec<String>) -> bool {
    let what = random.choice([What::Runup, What::Everything, What::Everything, What::Child]).unwrap();
    // A run takes from a third of a second to more than one, as busy as the machine is.
    let after = Duration::from_secs_f64(1.2 * random.f64().powi(2));
    let mut child = rig.start(command);
    let began = Instant::now();
    while began.elapsed() < after {
        if child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    let ended = child.try_wait().unwrap().is_some();
    if !ended {
        strike(rig, &child, what);
    }
    let ran = finish(child);
    let verb = if ended { "ended by itself".into() } else { format!("{what:?} killed after {after:?}") };
    story.push(format!("{}: {verb}, code {}", command.join(" "), ran.code));
    // Of a child that was killed, runup tells; the rest is up to the next run.
    assert!(what == What::Child || ended || ran.code == -9 || ran.code == 0, "{ran:#?}");
    !ended
}

fn strike(rig: &Rig, runup: &Child, what: What) {
    let own = i32::try_from(runup.id()).unwrap();
    let mut pids = if what == What::Runup { Vec::new() } else { others(rig.root(), own) };
    if what != What::Child {
        pids.insert(0, own);
    }
    for pid in pids {
        if let Some(pid) = Pid::from_raw(pid) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    if what == What::Everything {
        // What was started between the look and the kill.
        for pid in others(rig.root(), own) {
            let _ = Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL));
        }
    }
}

/// The processes that work on this machine, but for runup: by their command line, environment or directory.
fn others(root: &Path, runup: i32) -> Vec<i32> {
    let root = root.to_str().unwrap();
    let ours = i32::try_from(std::process::id()).unwrap();
    let pids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let names = |file: &str| {
            let bytes = std::fs::read(entry.path().join(file)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).contains(root)
        };
        (pid != runup && pid != ours && (names("cmdline") || names("environ"))).then_some(pid)
    });
    pids.collect()
}

/// Whatever happened: the next `install` ends with one runner, or the next `remove` with none, and without litter.
fn converges(rig: &Rig, random: &mut fastrand::Rng) {
    if random.bool() {
        settled(rig, rig.run(&["remove"]));
    } else {
        let ran = rig.run(&["install"]).expect(0);
        rig.assert_exactly_one_runner();
        assert_eq!(names_in(&rig.root().join("opt")), ["actions-runner"], "{ran:#?}");
        let state = names_in(&rig.root().join("var/lib/runup"));
        let known = |name: &&String| [".json", ".lock", ".environment"].iter().any(|end| name.ends_with(end));
        assert_eq!(state.iter().filter(|name| !known(name)).collect::<Vec<_>>(), [] as [&String; 0]);
        rig.run(&["install"]).expect(0).says("nothing to do");
        rig.run(&["plan"]).expect(0);
        rig.run(&["status"]).expect(0);
        settled(rig, rig.run(&["remove"]));
    }
}

fn settled(rig: &Rig, removed: Ran) {
    let removed = removed.expect(0);
    until("no process is left", || rig.processes().is_empty());
    assert_eq!(rig.state().runners, [], "{removed:#?}");
    rig.assert_nothing_left();
    let home = names_in(&rig.root().join("home"));
    assert_eq!(home, [] as [&str; 0], "{removed:#?}");
    for file in ["etc/passwd", "etc/group", "etc/shadow", "etc/gshadow", "etc/subuid"] {
        let text = std::fs::read_to_string(rig.root().join(file)).unwrap_or_default();
        assert!(!text.contains("fresh"), "{file}: {text}");
    }
    let locks = names_in(&rig.root().join("etc"));
    let locks: Vec<_> = locks.iter().filter(|name| name.contains(".lock") || name.ends_with('+')).collect();
    assert_eq!(locks, [] as [&String; 0]);
}
