//! From one job of an ephemeral runner to the next.

use crate::events::{Event, Spent, now, print_spent, read, spent};
use crate::machine::{Image, Machine, USER};
use crate::processes::{Processes, look};
use crate::{Outcome, median};
use runup::deadline::Deadline;
use runup::sandbox::{NewJob, RequestRecord};
use rustix::process::Pid;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_micros(500);

pub fn measure(image: &Image, rounds: usize) -> Outcome<()> {
    let machine = image.machine()?;
    let mut command = machine.command("run", &["run", "--ephemeral", "--after-job", "again"])?;
    let child = command.spawn()?;
    let supervisor = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or("no process")?;
    let taken: Outcome<Vec<_>> = (0..rounds).map(|earlier| job(&machine, supervisor, earlier)).collect();
    Processes::end();
    let taken = taken.map_err(|error| format!("{error}: {}", machine.log("run")))?;
    println!(
        "between two jobs             {:.0} ms   (at most 50)",
        median(taken.iter().map(|(seconds, _)| *seconds)) * 1e3
    );
    println!("  the next call is           {}", taken.last().map_or("", |(_, route)| route));
    let events = read(&machine.events("run"))?;
    let clean = events.iter().filter(|event| event.ends("clean"));
    println!("  the phase clean            {:.0} ms", median(clean.map(|event| event.seconds)) * 1e3);
    let ends = |(at, event): (usize, &Event)| (event.name == "job-end").then_some(at);
    let jobs: Vec<usize> = events.iter().enumerate().filter_map(ends).collect();
    // The last one is killed in the phase that calls.
    let end = |at: usize| events[at..].iter().position(|event| event.ends("version"));
    let after = |at: usize| &events[at + 1..end(at).map_or(events.len(), |end| at + end + 1)];
    let spent: Vec<Spent> = jobs.iter().map(|at| spent(events[*at].time, after(*at))).collect();
    print_spent(&spent);
    Ok(())
}

/// Lets it do a job after so many earlier ones. Returns the time from the exit of its listener to the first call of the next
/// registration, and the route of that.
fn job(machine: &Machine, supervisor: Pid, earlier: usize) -> Outcome<(f64, String)> {
    let sandbox = &machine.sandbox;
    until("the runner is online", || sandbox.state().runners.iter().any(|runner| runner.online))?;
    let started = started(machine)?;
    // What a job leaves, in its work directory and elsewhere.
    let root = machine.root.display();
    let script = format!(
        "mkdir -p left/behind {root}/tmp/left/behind\necho x >left/file\necho x >{root}/tmp/left/file\n\
         echo x >{root}/home/{USER}/left || :\nsleep 0.3\n"
    );
    let id = sandbox.queue(NewJob::script("orgs/octo-org", &script));
    until("the job has begun", || sandbox.state().runners.iter().any(|runner| runner.busy))?;
    let children = Processes::all()?.into_iter().filter(|process| process.parent == supervisor);
    let runs = |pid: Pid| std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
    let is_listener = |pid: &Pid| runs(*pid).is_ok_and(|line| contains(&line, b"Runner.Listener\0run"));
    let listener = children.map(|process| process.pid).find(is_listener).ok_or("there is no listener")?;
    until("the job has ended", || sandbox.state().jobs.iter().any(|job| job.id == id && job.done))?;
    let done = started.elapsed();
    until("the listener has ended", || look(listener).is_none_or(|seen| seen.state == 'Z'))?;
    let (exit, left) = (started.elapsed(), now());
    let cleaned = || {
        let events = read(&machine.events("run")).unwrap_or_default();
        events.into_iter().filter(|event| event.ends("clean")).nth(earlier)
    };
    until("the next job may come", || cleaned().is_some())?;
    let cleaned = cleaned().ok_or("an event is gone")?.time - left;
    // The first call is from before the cleaning: whether GitHub has deleted the runner.
    let since = |request: RequestRecord| {
        let by_runup = request.user_agent.as_deref().is_some_and(|agent| agent.starts_with("runup"));
        let seconds = request.at.as_secs_f64() - exit.as_secs_f64();
        (by_runup && request.at > done).then_some((seconds, request.route))
    };
    let calls = || sandbox.requests().into_iter().filter_map(since).skip(1);
    let next = || calls().find(|(seconds, _)| *seconds > cleaned);
    until("the next registration", || next().is_some())?;
    let (seconds, route) = next().ok_or("the request is gone")?;
    if seconds < 0.0 {
        return Err("the end of the listener was seen too late: the machine is too busy".into());
    }
    Ok((seconds, route))
}

/// When the sandbox was started, by its own clock.
fn started(machine: &Machine) -> Outcome<Instant> {
    let base = machine.sandbox.base_url();
    let host = &base[url::Position::BeforeHost..url::Position::AfterPort];
    let mut stream = TcpStream::connect(host)?;
    let path = "/clock";
    let before = Instant::now();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: x\r\nConnection: close\r\n\r\n")?;
    stream.read_to_end(&mut Vec::new())?;
    let middle = before + before.elapsed() / 2;
    let request = machine.sandbox.requests().into_iter().rfind(|request| request.path == path);
    let at = request.ok_or("the sandbox did not note a request")?.at;
    Ok(middle.checked_sub(at).ok_or("the sandbox is older than the machine")?)
}

fn contains(line: &[u8], part: &[u8]) -> bool {
    line.windows(part.len()).any(|window| window == part)
}

/// Waits for it, with a limit.
fn until(what: &str, mut condition: impl FnMut() -> bool) -> Outcome<()> {
    let deadline = Deadline::after(PATIENCE);
    while !condition() {
        if deadline.passed() {
            return Err(format!("waited in vain until {what}").into());
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}
