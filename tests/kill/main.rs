//! Kills `runup` over and over, and then looks whether the next run finds everything.
//!
//! A schedule is a machine, a command that is killed, attempts to recover that are killed as well, and a last one that is
//! not: whatever happened, it finds or makes exactly one runner or none, and no litter. What is killed is `runup` alone,
//! everything, or a child; at a random instant or before the Nth system call of a class. As root it makes and deletes
//! real users of a machine in a directory.
//!
//! `cargo test --test kill -- …`:
//!
//! - `--seconds N`: for as long as wanted [30]
//! - `--seed N`: the schedules of one run again
//! - `--replay N`: a single schedule again; `--only 0,2` of its attacks, and `--alone` without the other runner
//! - `--each-syscall TEXT`: every system call of what has the text in `Machine: command: Class: What`, such as
//!   `Baked: install: Rename`; for hours without a text
//! - `--jobs N`: how many schedules at once [the number of processors]

#[cfg(target_os = "linux")]
#[allow(dead_code, unused_imports, reason = "the tests in tests/it use the rest")]
#[path = "../it/rig.rs"]
mod rig;
#[cfg(target_os = "linux")]
#[allow(dead_code, unused_imports, reason = "the tests in tests/it use the rest")]
#[path = "../it/schema.rs"]
mod schema;

#[cfg(target_os = "linux")]
mod attack;
#[cfg(target_os = "linux")]
mod each;
#[cfg(target_os = "linux")]
mod schedule;
#[cfg(target_os = "linux")]
mod trace;
#[cfg(target_os = "linux")]
mod world;

#[cfg(target_os = "linux")]
fn main() {
    use schedule::Schedule;
    use std::sync::Mutex;
    use std::time::{Duration, Instant};

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).map(String::as_str)
    };
    let number = |name: &str| {
        text(name).map(|text| {
            text.parse::<u64>().unwrap_or_else(|_| panic!("{name} needs a number, and not {text}"))
        })
    };
    schedule::keep_panics();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = number("--jobs").map_or(processors, |jobs| usize::try_from(jobs).unwrap());
    if let Some(replayed) = number("--replay") {
        let mut schedule = Schedule::of(replayed);
        if let Some(kept) = text("--only") {
            schedule = schedule.only(&kept.split(',').map(|at| at.parse().unwrap()).collect::<Vec<_>>());
        }
        if arguments.iter().any(|argument| argument == "--alone") {
            schedule = schedule.without_neighbour();
        }
        match schedule.run(0) {
            Ok(kills) => println!("schedule {replayed}: {kills} kills, no violation"),
            Err(violation) => {
                println!("VIOLATION\n{violation}");
                std::process::exit(1);
            }
        }
        return;
    }
    if arguments.iter().any(|argument| argument == "--each-syscall") {
        each::run(text("--each-syscall").unwrap_or_default(), jobs);
        return;
    }
    let seed = number("--seed").unwrap_or_else(|| fastrand::u64(..1_000_000_000));
    let end = Instant::now() + Duration::from_secs(number("--seconds").unwrap_or(30));
    println!("kills with --seed {seed}");
    let random = Mutex::new(fastrand::Rng::with_seed(seed));
    let total = Mutex::new((0, 0, 0));
    std::thread::scope(|scope| {
        for worker in 0..u32::try_from(jobs).unwrap() {
            let (random, total) = (&random, &total);
            scope.spawn(move || {
                while Instant::now() < end {
                    let number = random.lock().unwrap().u64(1..1_000_000_000);
                    let outcome =
                        Schedule::of(number).run(worker).map_err(|violation| violation.shrink(worker));
                    let mut total = total.lock().unwrap();
                    total.0 += 1;
                    match outcome {
                        Ok(kills) => total.1 += kills,
                        Err(violation) => {
                            total.2 += 1;
                            println!("VIOLATION\n{violation}\n");
                        }
                    }
                }
            });
        }
    });
    let (schedules, kills, violations) = *total.lock().unwrap();
    println!("{schedules} schedules, {kills} kills, {violations} violations");
    if kills == 0 {
        println!("nothing was killed");
    }
    if violations > 0 || kills == 0 {
        std::process::exit(1);
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {}
