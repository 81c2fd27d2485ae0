//! Kills `runup` at random, over and over, and then looks whether the next run finds everything.
//!
//! `cargo test --test kill -- --seconds 600` for as long as wanted; `--seed N` repeats the schedules of one run, and
//! `--replay N` a single one of them. A schedule is a machine, a command that is killed, attempts to recover that are
//! killed as well, and a last one that is not: whatever happened, it finds or makes exactly one runner and no litter.
//! As root it makes and deletes real users of a machine in a directory.

#[cfg(unix)]
#[allow(dead_code, unused_imports)]
#[path = "../it/rig.rs"]
mod rig;

#[cfg(unix)]
mod schedule;

#[cfg(unix)]
fn main() {
    use std::time::{Duration, Instant};

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        Some(arguments.get(at + 1)?.parse::<u64>().unwrap_or_else(|_| panic!("{name} needs a number")))
    };
    if let Some(number) = value("--replay") {
        schedule::run(number);
        println!("schedule {number}: no violation");
        return;
    }
    let seed = value("--seed").unwrap_or_else(|| fastrand::u64(..1_000_000_000));
    let end = Instant::now() + Duration::from_secs(value("--seconds").unwrap_or(30));
    println!("kills with --seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut schedules, mut kills, mut violations) = (0, 0, Vec::new());
    while Instant::now() < end {
        let number = random.u64(..1_000_000_000);
        match std::panic::catch_unwind(|| schedule::run(number)) {
            Ok(killed) => kills += killed,
            Err(_) => {
                println!("VIOLATION: repeat it with --replay {number}");
                violations.push(number);
            }
        }
        schedules += 1;
    }
    println!("{schedules} schedules, {kills} kills, {} violations", violations.len());
    assert!(violations.is_empty(), "violations: {violations:?}");
}

#[cfg(not(unix))]
fn main() {}
