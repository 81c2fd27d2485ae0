//! Eight runners of one machine.

use crate::events::{Spent, now, print_spent, read, spent};
use crate::machine::Image;
use crate::processes::{Processes, Unused, threads};
use crate::{Outcome, median};
use runup::deadline::Deadline;
use std::path::Path;
use std::time::{Duration, Instant};

const RUNNERS: usize = 8;

/// How long a round may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What one round took, in seconds.
struct Round {
    wall: f64,
    /// Processor time of all that the machine runs.
    processor: f64,
    /// Processor time of the sandbox and of this program, which share the cores with them; without threads that have ended.
    server: f64,
    unused: Unused,
    /// Where the time went, of each of its runners.
    spent: Vec<Spent>,
}

pub fn measure(image: &Image, rounds: usize) -> Outcome<()> {
    let mut taken = Vec::new();
    for _ in 0..rounds {
        taken.push(boot(image)?);
    }
    let cores = f64::from(u32::try_from(std::thread::available_parallelism()?.get())?);
    let of = |figure: fn(&Round) -> f64| median(taken.iter().map(figure));
    let times = |round: &Round, shared: f64| (round.wall * cores - shared) / round.processor;
    let with_all = median(taken.iter().map(|round| times(round, 0.0)));
    // A lower bound: some of that time may have been nobody else's.
    let each: Vec<f64> = taken.iter().map(|round| times(round, round.server + round.unused.stolen)).collect();
    let (ratio, best) = (median(each.iter().copied()), each.iter().copied().fold(f64::INFINITY, f64::min));
    println!("eight at once, online        {:.2} s", of(|round| round.wall));
    println!("  processor time             {:.2} s", of(|round| round.processor));
    println!(
        "  of sandbox and bench       {:.2} s, taken off: a real server is another machine",
        of(|round| round.server)
    );
    println!(
        "  stolen by the hypervisor   {:.2} s, taken off: it ran another machine",
        of(|round| round.unused.stolen)
    );
    println!("  idle                       {:.2} s", of(|round| round.unused.idle));
    println!("  floor                      {:.2} s", of(|round| round.processor) / cores);
    println!(
        "times its floor              {ratio:.2}   (at most 1.2); {with_all:.2} with what was taken off"
    );
    println!("  best round                 {best:.2}");
    // Those of a round overlap: the median runner.
    let all: Vec<Spent> = taken.into_iter().flat_map(|round| round.spent).collect();
    print_spent(&all);
    Ok(())
}

fn boot(image: &Image) -> Outcome<Round> {
    let machine = image.machine()?;
    // As GitHub does; a listener that asks all the time would take from the others.
    machine.sandbox.hold_messages(Duration::from_secs(50));
    let config = machine.root.join("etc/runup.toml");
    std::fs::write(&config, format!("name = \"box\"\ncount = {RUNNERS}\n"))?;
    let mut commands = Vec::new();
    for number in 1..=RUNNERS {
        let number = number.to_string();
        let mut command = machine.command(&number, &["run", "--instance", &number])?;
        command.arg("--config").arg(&config);
        commands.push(command);
    }
    let ours = rustix::process::getpid();
    let (before, unused, began, start) = (threads(ours)?, Unused::now()?, now(), Instant::now());
    let children: Result<Vec<_>, _> = commands.iter_mut().map(std::process::Command::spawn).collect();
    let deadline = Deadline::after(PATIENCE);
    while children.is_ok() && online(&machine.sandbox) < RUNNERS && !deadline.passed() {
        std::thread::sleep(Duration::from_millis(2));
    }
    let wall = start.elapsed().as_secs_f64();
    let (server, unused) = (threads(ours)? - before, Unused::now()?.since(unused));
    let processor = Processes::halt()?;
    let online = online(&machine.sandbox);
    Processes::end();
    children?;
    if online < RUNNERS {
        let logs: Vec<String> = (1..=RUNNERS).map(|number| machine.log(&number.to_string())).collect();
        return Err(format!("only {online} of {RUNNERS} are online: {}", logs.join("\n")).into());
    }
    let spent: Outcome<Vec<_>> =
        (1..=RUNNERS).map(|number| until_online(&machine.events(&number.to_string()), began)).collect();
    Ok(Round { wall, processor, server, unused, spent: spent? })
}

/// Where the time went until it was online: the event may be missing, as the server knows first.
fn until_online(file: &Path, began: f64) -> Outcome<Spent> {
    let mut events = read(file)?;
    let end = events.iter().position(|event| event.name == "online").map_or(events.len(), |at| at + 1);
    events.truncate(end);
    Ok(spent(began, &events))
}

fn online(sandbox: &runup::sandbox::Sandbox) -> usize {
    sandbox.state().runners.iter().filter(|runner| runner.online).count()
}
