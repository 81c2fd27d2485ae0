//! Every system call of a command: the first of a class, the second, and so on until the command ends unkilled.

use super::attack::{Attack, Command, What, When};
use super::schedule::Schedule;
use super::trace::{Class, Point};
use super::world::Machine;
use std::sync::Mutex;

/// Of what has this text in `Machine: command: Class: What`, in this many threads.
pub fn run(word: &str, jobs: usize) {
    let mut runs: Vec<(Machine, Command, Class, What)> = Vec::new();
    for machine in Machine::ALL {
        for command in machine.commands() {
            // `run` has no end.
            if command[0] == "run" {
                continue;
            }
            let whats = [What::Everything, What::Runup, What::Child];
            runs.extend(
                Class::ALL.iter().flat_map(|class| whats.map(|what| (machine, *command, *class, what))),
            );
        }
    }
    runs.retain(|run| text(run).contains(word));
    assert!(!runs.is_empty(), "nothing has the text {word:?}");
    runs.reverse();
    let (runs, total) = (Mutex::new(runs), Mutex::new((0, 0)));
    std::thread::scope(|scope| {
        for worker in 0..u32::try_from(jobs).unwrap() {
            let (runs, total) = (&runs, &total);
            scope.spawn(move || {
                loop {
                    let Some(run) = runs.lock().unwrap().pop() else { return };
                    let (kills, violations) = each(run, worker);
                    let mut total = total.lock().unwrap();
                    *total = (total.0 + kills, total.1 + violations);
                }
            });
        }
    });
    let (kills, violations) = *total.lock().unwrap();
    println!("{kills} kills, {violations} violations");
    if violations > 0 || kills == 0 {
        std::process::exit(1);
    }
}

fn text((machine, command, class, what): &(Machine, Command, Class, What)) -> String {
    format!("{machine:?}: {}: {class:?}: {what:?}", command.join(" "))
}

fn each((machine, command, class, what): (Machine, Command, Class, What), worker: u32) -> (usize, usize) {
    let (mut nth, mut kills, mut violations) = (0, 0, 0);
    loop {
        nth += 1;
        let when = When::At(Point { class, nth, whole_tree: what != What::Runup });
        let attack = Attack { command, beside: None, what, when };
        match Schedule::single(machine, attack, nth % 2 == 1).run(worker) {
            Ok(0) => break,
            Ok(more) => kills += more,
            Err(violation) => {
                violations += 1;
                println!("VIOLATION\n{violation}\n");
                // It takes no kill: there may be no call with this number.
                if violation.kills == 0 {
                    break;
                }
                kills += violation.kills;
            }
        }
    }
    let command = command.join(" ");
    println!(
        "{machine:?}: {command}: {what:?}: {} calls of the class {class:?}, {violations} violations",
        nth - 1
    );
    (kills, violations)
}
