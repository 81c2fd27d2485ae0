//! One schedule: all of it follows from its number, but for what the machine's own timing adds.

use super::attack::{self, Attack};
use super::world::{Machine, Neighbour, World};
use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How often a smaller schedule is tried before it is believed to be harmless: timing varies.
const TRIES: usize = 4;

#[derive(Debug, Clone)]
pub struct Schedule {
    number: u64,
    machine: Machine,
    neighbour: Neighbour,
    /// Whether a job waits for a runner.
    job: bool,
    attacks: Vec<(usize, Attack)>,
    /// Whether it ends with a runner before it ends with none.
    one: bool,
}

/// What must not be.
pub struct Violation {
    schedule: Schedule,
    /// What was done and how that went.
    story: Vec<String>,
    /// How often something was killed.
    pub kills: usize,
    found: String,
}

thread_local! {
    /// What a thread panicked with.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps panics for the report instead of printing them.
pub fn keep_panics() {
    std::panic::set_hook(Box::new(|info| PANIC.set(info.to_string())));
}

impl Schedule {
    pub fn of(number: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(number);
        let machine = random.choice(Machine::ALL).unwrap();
        let neighbours =
            [Neighbour::None, Neighbour::None, Neighbour::WithItsOwnUser, Neighbour::SharingTheUser];
        let neighbour = random.choice(neighbours).unwrap();
        let job = random.bool();
        let first = random.choice(machine.commands()).copied().unwrap();
        let beside = (random.u8(..6) == 0).then(|| random.choice(machine.recoveries()).copied().unwrap());
        // All of them is the neighbour, too, and what only ends when it is told to is not waited for.
        let all = first.contains(&"--all");
        let beside = beside.filter(|command| command[0] != "run" && !all);
        let mut attacks = vec![(0, Attack::random(first, beside, &mut random))];
        for at in 1..=random.usize(0..3) {
            let command = random.choice(machine.recoveries()).copied().unwrap();
            attacks.push((at, Attack::random(command, None, &mut random)));
        }
        let neighbour = if all { Neighbour::None } else { neighbour };
        Self { number, machine, neighbour, job, attacks, one: random.bool() }
    }

    /// One attack on one machine.
    pub fn single(machine: Machine, attack: Attack, one: bool) -> Self {
        Self { number: 0, machine, neighbour: Neighbour::None, job: false, attacks: vec![(0, attack)], one }
    }

    /// With these attacks only.
    pub fn only(mut self, kept: &[usize]) -> Self {
        self.attacks.retain(|(at, _)| kept.contains(at));
        self
    }

    pub fn without_neighbour(mut self) -> Self {
        self.neighbour = Neighbour::None;
        self
    }

    /// Carries it out; returns how often something was killed.
    pub fn run(&self, worker: u32) -> Result<usize, Violation> {
        let (mut story, mut kills) = (Vec::new(), 0);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let world = World::new(self.machine, self.neighbour, self.job, worker);
            for (_, attack) in &self.attacks {
                story.push(attack.to_string());
                let struck = attack::strike(&world, attack);
                kills += usize::from(struck.killed);
                story.push(format!("    {}", struck.told));
            }
            if self.one {
                story.push("install".to_owned());
                world.has_one_after_install();
            }
            story.push("remove".to_owned());
            world.has_none_after_remove();
        }));
        match outcome {
            Ok(()) => Ok(kills),
            Err(_) => Err(Violation { schedule: self.clone(), story, kills, found: PANIC.take() }),
        }
    }

    /// Those that are one step smaller.
    fn smaller(&self) -> Vec<Self> {
        let mut smaller = Vec::new();
        if self.neighbour != Neighbour::None {
            smaller.push(self.clone().without_neighbour());
        }
        if self.attacks.len() > 1 {
            for (left_out, _) in &self.attacks {
                let mut one = self.clone();
                one.attacks.retain(|(at, _)| at != left_out);
                smaller.push(one);
            }
        }
        smaller
    }
}

impl Violation {
    /// The smallest schedule that violates as well.
    pub fn shrink(self, worker: u32) -> Self {
        for smaller in self.schedule.smaller() {
            for _ in 0..TRIES {
                if let Err(violation) = smaller.run(worker) {
                    return violation.shrink(worker);
                }
            }
        }
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Schedule { number, machine, neighbour, job, attacks, .. } = &self.schedule;
        let beside = match neighbour {
            Neighbour::None => "",
            Neighbour::WithItsOwnUser => ", beside another runner",
            Neighbour::SharingTheUser => ", beside another runner of the same user",
        };
        let job = if *job { ", a job waits" } else { "" };
        writeln!(f, "machine: {machine:?}{beside}{job}")?;
        for line in &self.story {
            writeln!(f, "  {line}")?;
        }
        writeln!(f, "{}", self.found)?;
        let kept: Vec<String> = attacks.iter().map(|(at, _)| at.to_string()).collect();
        let alone = if *neighbour == Neighbour::None { " --alone" } else { "" };
        match number {
            0 => write!(f, "found by --each-syscall"),
            _ => write!(f, "repeat it with --replay {number} --only {}{alone}", kept.join(",")),
        }
    }
}
