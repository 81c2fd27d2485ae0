//! Every fault at every call of every command, and pairs of them: each must end in time, with success or a classified
//! error, and without a runner that nothing knows of; and the next run without faults must converge.
//!
//! `cargo test --test fault -- --seconds 600` draws cases at random; `--seed N` repeats a draw (but for the second fault of
//! a pair, which depends on what ran before). `--all` runs every single fault, once and for ever, and those of undoing, in a
//! random order, from the Nth on with `--seed N --from N`, and `--jobs N` at once, which mostly wait; `--command NAME` keeps to
//! one command, `--teardown` runs the whole cross of `remove` (tests/it/teardown.rs), and `--replay "COMMAND FAULT…"` one case.
//! The calls of a command are not written down anywhere: a run without faults shows them.

#[cfg(unix)]
mod case;
#[cfg(unix)]
mod command;
#[cfg(unix)]
mod kind;
#[cfg(unix)]
#[allow(dead_code, unused_imports)]
#[path = "../it/rig.rs"]
mod rig;
#[cfg(unix)]
#[allow(dead_code, unused_imports)]
#[path = "../it/schema.rs"]
mod schema;
#[cfg(unix)]
#[allow(dead_code)]
#[path = "../it/teardown.rs"]
mod teardown;

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    unix::main().into()
}

#[cfg(not(unix))]
fn main() {}

#[cfg(unix)]
mod unix {
    use crate::case::{self, Case};
    use crate::command;
    use crate::teardown;
    use std::any::Any;
    use std::collections::BTreeMap;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Mutex;
    use std::time::{Duration, Instant};

    /// What runs at once: mostly it waits.
    const THREADS_PER_PROCESSOR: usize = 3;

    /// Returns 1 after a violation.
    pub fn main() -> u8 {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let value = |name: &str| {
            let at = arguments.iter().position(|argument| argument == name)?;
            Some(arguments.get(at + 1).unwrap_or_else(|| panic!("{name} needs a value")).as_str())
        };
        let number = |name: &str| value(name).map(|text| text.parse::<u64>().expect("a number"));
        let flag = |name: &str| arguments.iter().any(|argument| argument == name);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let jobs =
            number("--jobs").map_or(processors * THREADS_PER_PROCESSOR, |jobs| jobs.try_into().unwrap());
        if let Some(text) = value("--replay") {
            println!("{}: no violation", case::run(&text.parse().unwrap()));
            return 0;
        }
        // Of a violation, only the summary below tells: several cases run at once.
        std::panic::set_hook(Box::new(|_| {}));
        if flag("--teardown") {
            let mut cases = teardown::Case::all();
            return report(&every(
                jobs,
                || cases.pop(),
                teardown::Case::run,
                |case| ("remove".to_owned(), case.to_string()),
            ));
        }
        let only = value("--command");
        let (commands, impossible): (Vec<_>, Vec<_>) = command::ALL
            .iter()
            .filter(|command| only.is_none_or(|only| only == command.name))
            .partition(|command| command.is_possible());
        for command in impossible {
            println!("{} is skipped: this machine has no programs that make users", command.name);
        }
        assert!(!commands.is_empty(), "no such command, or none that is possible here");
        let name = |case: &Case| (case.command.name.to_owned(), case.to_string());
        let run = |case: Case| drop(case::run(&case));
        let seed = number("--seed").unwrap_or_else(|| fastrand::u64(..1_000_000_000));
        let mut random = fastrand::Rng::with_seed(seed);
        if flag("--all") {
            let every_fault = |command| [case::singles(command), case::pairs(command)].concat();
            let mut cases: Vec<_> = commands.into_iter().flat_map(every_fault).collect();
            // What is interrupted has seen something of everything.
            random.shuffle(&mut cases);
            let all = cases.len();
            println!("{all} cases with --seed {seed}");
            cases.truncate(all - usize::try_from(number("--from").unwrap_or(0)).unwrap().min(all));
            let next = || {
                let begun = all - cases.len();
                if begun > 0 && begun.is_multiple_of(500) {
                    println!("{begun} of {all} cases");
                }
                cases.pop()
            };
            return report(&every(jobs, next, run, name));
        }
        let end = Instant::now() + Duration::from_secs(number("--seconds").unwrap_or(30));
        println!("faults with --seed {seed}");
        let next = || {
            let command = commands[random.usize(..commands.len())];
            (Instant::now() < end).then(|| case::draw(command, &mut random))
        };
        report(&every(jobs, next, run, name))
    }

    /// What ran: how often by command, and the violations.
    #[derive(Default)]
    struct Results {
        runs: BTreeMap<String, usize>,
        violations: Vec<String>,
    }

    fn every<T: Copy + Send>(
        jobs: usize,
        next: impl FnMut() -> Option<T> + Send,
        run: impl Fn(T) + Sync,
        name: impl Fn(&T) -> (String, String) + Sync,
    ) -> Results {
        let (next, results) = (Mutex::new(next), Mutex::new(Results::default()));
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    loop {
                        // What a command does without faults is found out here as well.
                        let case =
                            catch_unwind(AssertUnwindSafe(|| next.lock().map_or(None, |mut next| (*next)())));
                        let case = match case {
                            Ok(Some(case)) => case,
                            Ok(None) => return,
                            Err(panic) => {
                                println!("VIOLATION without a fault: {}", message(&*panic));
                                results.lock().unwrap().violations.push("without a fault".to_owned());
                                return;
                            }
                        };
                        let outcome = catch_unwind(AssertUnwindSafe(|| run(case)));
                        let (group, shown) = name(&case);
                        let mut results = results.lock().unwrap();
                        *results.runs.entry(group).or_default() += 1;
                        if let Err(panic) = outcome {
                            println!("VIOLATION: repeat it with --replay '{shown}'\n{}\n", message(&*panic));
                            results.violations.push(shown);
                        }
                    }
                });
            }
        });
        results.into_inner().unwrap()
    }

    fn message(panic: &(dyn Any + Send)) -> &str {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message")
    }

    fn report(results: &Results) -> u8 {
        let Results { runs, violations } = results;
        let by_command: Vec<String> = runs.iter().map(|(name, runs)| format!("{name} {runs}")).collect();
        println!("{}", by_command.join(", "));
        println!("{} cases, {} violations", runs.values().sum::<usize>(), violations.len());
        violations.iter().for_each(|case| println!("  {case}"));
        u8::from(!violations.is_empty())
    }
}
