//! One case: a command, and one fault or two at its calls.

use crate::command::{self, Before, Command, Leaves};
use crate::kind::{self, Nature};
use crate::rig::{Ran, Rig, finish, names_in, signal, until};
use runup::error::Class;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// The deadline of every command, in seconds: the shortest that `install` accepts.
const DEADLINE: u64 = 20;
/// What a busy machine may add.
const GRACE: Duration = Duration::from_secs(10);
/// When `run` is stopped, which may rightly wait for its job for ever.
const STOPPED_AFTER: Duration = Duration::from_secs(12);
/// The same for one that must do its job, on a busy machine.
const DOES_ITS_JOB: Duration = Duration::from_secs(25);
/// The longest line of a message.
const LONGEST_LINE: usize = 700;
/// Of a call that a command repeats, so many are hit.
const OCCURRENCES: usize = 3;

/// One fault: its route, how many calls it lets pass, how many it hits, and its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    route: &'static str,
    skip: usize,
    count: Option<u32>,
    kind: &'static str,
    nature: Nature,
}

impl fmt::Display for Hit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.count.map(|count| format!(":{count}")).unwrap_or_default();
        write!(f, "{}+{}{count}:{}", self.route, self.skip, self.kind)
    }
}

impl FromStr for Hit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = kind::parse(text)?;
        let routes = runup::sandbox::ROUTES;
        let route = routes.into_iter().find(|route| *route == fault.route).ok_or("no such route")?;
        let (kind, nature) = kind::of(route)
            .into_iter()
            .find(|(kind, _)| text.ends_with(&format!(":{kind}")))
            .ok_or_else(|| format!("{text} is none of the generated faults"))?;
        Ok(Self { route, skip: fault.skip as usize, count: fault.count, kind, nature })
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub command: &'static Command,
    hits: (Hit, Option<Hit>),
}

impl Case {
    fn hits(&self) -> impl Iterator<Item = Hit> {
        [Some(self.hits.0), self.hits.1].into_iter().flatten()
    }

    /// Whether the command must succeed all the same. What the runner itself does with a fault is not ours.
    fn must_succeed(&self) -> bool {
        let (hit, second) = self.hits;
        second.is_none()
            && hit.nature == Nature::Passing
            && hit.count == Some(1)
            && !is_of_listener(hit.route)
    }

    /// After the job of an ephemeral runner, one 404 is enough: the server deletes it by itself. If neither is true, the
    /// next run finds it by its name.
    fn is_told_of_a_deletion(&self) -> bool {
        let is_404 = |hit: Hit| hit.route == "get-runner" && matches!(hit.kind, "status=404" | "html=404");
        self.command.runs() && self.hits().any(is_404)
    }
}

fn is_of_listener(route: &str) -> bool {
    matches!(route, "session" | "session-end" | "message") || route.starts_with("job-")
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.command.name)?;
        self.hits().try_for_each(|hit| write!(f, " {hit}"))
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split(' ');
        let name = words.next().unwrap_or_default();
        let command = command::ALL.iter().find(|command| command.name == name).ok_or("no such command")?;
        let hits: Vec<Hit> = words.map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { command, hits: (*hits.first().ok_or("no fault")?, hits.get(1).copied()) })
    }
}

/// Each route with how often it is called.
type Calls = Vec<(&'static str, usize)>;

fn calls_on(rig: &Rig) -> Calls {
    let count = |route: &&'static str| (*route, rig.asked(route));
    runup::sandbox::ROUTES.iter().map(count).filter(|(_, count)| *count > 0).collect()
}

/// The calls of a command without faults.
fn calls(command: &'static Command) -> Calls {
    static KNOWN: OnceLock<Mutex<BTreeMap<&str, Calls>>> = OnceLock::new();
    let mut known = KNOWN.get_or_init(Mutex::default).lock().unwrap();
    known
        .entry(command.name)
        .or_insert_with(|| {
            let rig = command.prepare();
            finish(command.process(&rig).spawn().unwrap()).expect(0);
            assert_eq!(rig.sandbox.violations(), [] as [&str; 0], "{}", command.name);
            calls_on(&rig)
        })
        .clone()
}

/// The calls of a command with one fault, as far as it was carried out: what undoing calls shows only then.
static SEEN: Mutex<Vec<(&Command, Hit, Calls)>> = Mutex::new(Vec::new());

/// Where a request to add a runner may have arrived, and what fails then.
const ADDS: [(&str, &str); 8] = [
    ("register", "lost-answer"),
    ("register", "cut=20"),
    ("register", "status=404"),
    ("runner-registration", "script=hang-after-register"),
    ("runner-registration", "script=fail-after-register"),
    ("runner-registration", "script=fail-after-runner-file"),
    ("runner-registration", "script=succeed-without-register"),
    ("jitconfig", "lost-answer"),
];
/// What is done about such a runner.
const TAKES_BACK: [&str; 3] = ["list-runners", "get-runner", "delete-runner"];
/// What goes wrong with that.
const WRONG: [&str; 8] = [
    "status=403",
    "status=404",
    "status=429",
    "status=500",
    "html=200",
    "lost-answer",
    "rate-limit=1",
    "retry-after=1",
];

/// Each fault after which a runner may be left, with each at the calls that take it back, which come after the usual
/// ones.
pub fn pairs(command: &'static Command) -> Vec<Case> {
    let usual = calls(command);
    let usual = |route: &str| usual.iter().find(|(known, _)| *known == route).map_or(0, |(_, count)| *count);
    let hit = |route, skip, count, wanted| {
        let known = kind::of(route).into_iter().find(|(kind, _)| *kind == wanted);
        let (kind, nature) = known.unwrap_or_else(|| panic!("{route} has no kind {wanted}"));
        Hit { route, skip, count, kind, nature }
    };
    let mut cases = Vec::new();
    for (route, kind) in ADDS.into_iter().filter(|(route, _)| usual(route) > 0) {
        let first = hit(route, 0, Some(1), kind);
        for route in TAKES_BACK {
            for wrong in WRONG {
                for count in [Some(1), None] {
                    // A failure ends the usual calls early.
                    let skips = if usual(route) > 1 {
                        vec![usual(route) - 1, usual(route)]
                    } else {
                        vec![usual(route)]
                    };
                    let second = |skip| Case { command, hits: (first, Some(hit(route, skip, count, wrong))) };
                    cases.extend(skips.into_iter().map(second));
                }
            }
        }
    }
    cases
}

/// Every single fault at every call, once and for ever.
pub fn singles(command: &'static Command) -> Vec<Case> {
    let mut cases = Vec::new();
    for (route, count) in calls(command) {
        for skip in 0..count.min(OCCURRENCES) {
            for (kind, nature) in kind::of(route) {
                for count in [Some(1), None] {
                    let hit = Hit { route, skip, count, kind, nature };
                    cases.push(Case { command, hits: (hit, None) });
                }
            }
        }
    }
    cases
}

/// A case at random: one fault; or two, the second at a call that the command was seen to make after the first.
pub fn draw(command: &'static Command, random: &mut fastrand::Rng) -> Case {
    let usual = calls(command);
    let seen = SEEN.lock().unwrap();
    let seen: Vec<_> = seen.iter().filter(|(of, ..)| of.name == command.name).collect();
    if random.u8(..3) > 0 || seen.is_empty() {
        return Case { command, hits: (hit(&usual, OCCURRENCES, random), None) };
    }
    let (_, first, calls) = seen[random.usize(..seen.len())];
    Case { command, hits: (*first, Some(hit(calls, usize::MAX, random))) }
}

fn hit(calls: &Calls, most: usize, random: &mut fastrand::Rng) -> Hit {
    let (route, count) = calls[random.usize(..calls.len())];
    let kinds = kind::of(route);
    let mut chosen = kinds[random.usize(..kinds.len())];
    if chosen.1 == Nature::Silent && random.u8(..4) > 0 {
        // These take long.
        chosen = kinds[random.usize(..kinds.len())];
    }
    let (kind, nature) = chosen;
    let count_of = [Some(1), Some(1), Some(2), None][random.usize(..4)];
    Hit { route, skip: random.usize(..count.min(most)), count: count_of, kind, nature }
}

/// Carries the case out.
///
/// # Panics
/// At a violation.
pub fn run(case: &Case) -> String {
    let command = case.command;
    let rig = command.prepare();
    let before = names(&rig);
    for hit in case.hits() {
        rig.sandbox.fault(kind::parse(&hit.to_string()).unwrap());
    }
    let began = Instant::now();
    let mut process = command.process(&rig);
    // Those that are removed one after the other have this time each.
    let deadline = if command.leaves == Leaves::OfThree(0) { DEADLINE / 2 } else { DEADLINE };
    process.arg("--deadline").arg(format!("{deadline}s"));
    let patience = if case.must_succeed() { DOES_ITS_JOB } else { STOPPED_AFTER };
    let ran = if command.runs() { ended(process, patience) } else { finish(process.spawn().unwrap()) };
    let took = began.elapsed();
    if let (hit, None) = case.hits {
        SEEN.lock().unwrap().push((command, hit, calls_on(&rig)));
    }

    // Of several runners, each has the time; of an installation with a lower count, also what it removes.
    let limit = Duration::from_secs(DEADLINE) * if command.is_of_several() { 3 } else { 1 };
    assert!(took < limit + GRACE, "it took {took:?}: {ran:#?}");
    check_message(command, &ran);
    if case.must_succeed() {
        assert_eq!(ran.code, 0, "this passes by itself: {ran:#?}");
    }
    if !case.is_told_of_a_deletion() {
        check_server(command, &rig, &ran, &before);
    }
    rig.sandbox.faults_clear();
    if command.is_of_several() {
        converges_to_three(&rig, &ran);
    } else if command.before != Before::NoMachine && !command.creates_jit() {
        converges(&rig, &ran);
    }
    // Of several runners, two may ask while the third is told to wait, and each learns by itself of a limit that lasts for
    // longer than its deadline.
    let may_be_early = match (command.is_of_several(), ran.code) {
        (true, 0) => 2,
        (true, _) => 12,
        (false, _) => 0,
    };
    let mut early = 0;
    let mut is_on_its_way = |line: &String| {
        let is_early = line.contains("before the time after which");
        early += usize::from(is_early);
        is_early && early <= may_be_early
    };
    let mut is_excused = |line: &String| {
        // The listener of `run` has ended by then; until the server notices that, it refuses the deletion.
        let is_refused = command.runs() && line.ends_with("which was running a job");
        // A runner that was added is undone at once: a ghost would be worse than a call too early.
        let is_undone = ran.code != 0 && !line.starts_with("POST") && line.ends_with(", with a new runner");
        is_refused || is_undone || is_on_its_way(line)
    };
    let violations: Vec<_> = rig.sandbox.violations().into_iter().filter(|line| !is_excused(line)).collect();
    assert_eq!(violations, [] as [&str; 0], "{ran:#?}");
    format!("{case}: exited with {} after {took:.1?}", ran.code)
}

/// `run` may wait for its job: it is stopped then.
fn ended(mut command: std::process::Command, patience: Duration) -> Ran {
    let mut child = command.spawn().unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > patience {
            signal(&child, Signal::TERM);
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    finish(child)
}

/// The code is one of the classes, and the message is one that a person reads.
fn check_message(command: &Command, ran: &Ran) {
    let bug = i32::from(Class::Software.exit_code());
    let classified =
        Class::ALL.iter().any(|class| i32::from(class.exit_code()) == ran.code) && ran.code != bug;
    let stopped = command.runs() && ran.code == 128 + 15;
    assert!(ran.code == 0 || classified || stopped, "{ran:#?}");
    let longest = ran.stderr.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    assert!(longest <= LONGEST_LINE, "a line of {longest} characters: {ran:#?}");
    // `status` and `plan` report what is different on stdout.
    let said = ran.stderr.contains("error: ") || matches!(command.arguments[0], "status" | "plan");
    assert!(ran.code == 0 || said || stopped, "it does not say what failed: {ran:#?}");
}

/// No runner is left that the command does not name.
fn check_server(command: &Command, rig: &Rig, ran: &Ran, before: &[String]) {
    let after = names(rig);
    // That it was registered is no word about what is left.
    let error = ran.stderr.split_once("error: ").map_or("", |(_, error)| error);
    let is_warned_of = |name: &String| ran.stderr.contains(&format!("{name} may be left on the server"));
    let is_named = |name: &String| error.contains(name.as_str()) || is_warned_of(name);
    let no_ghost = after.iter().all(is_named);
    let succeeded = ran.code == 0;
    let right = match command.leaves {
        Leaves::OneOrNone if succeeded => after.len() == 1,
        Leaves::OneOrNone | Leaves::None => no_ghost && (after.is_empty() || !succeeded),
        Leaves::Same => after == before,
        Leaves::NoneOrSame if succeeded => after.is_empty(),
        Leaves::NoneOrSame => after.is_empty() || after == before,
        Leaves::Exchanged if succeeded => after.len() == 1,
        // Nothing is lost before the new registration begins.
        Leaves::Exchanged if rig.asked("runner-registration") == 0 => after == before,
        Leaves::Exchanged => after.len() <= 1,
        Leaves::OfThree(left) if succeeded => after.len() == left && are_of_three(&after),
        // Those of before that stay, and those that could be added: each once.
        Leaves::OfThree(_) => are_of_three(&after),
    };
    assert!(right, "on the server: {before:?} before, {after:?} after: {ran:#?}");
}

/// The instance with this name: 1 to 3.
fn instance(name: &str) -> usize {
    (2..4).find(|number| name.ends_with(&format!("-{number}"))).unwrap_or(1)
}

/// Whether these are three runners of one configuration, or some of them, each once.
fn are_of_three(names: &[String]) -> bool {
    let mut instances: Vec<usize> = names.iter().map(|name| instance(name)).collect();
    instances.sort_unstable();
    instances.dedup();
    instances.len() == names.len()
}

/// The same for three.
fn converges_to_three(rig: &Rig, after: &Ran) {
    let installed = rig.run(&["install", "--count", "3"]);
    assert_eq!(installed.code, 0, "after {after:#?}: {installed:#?}");
    let runners = rig.state().runners;
    assert!(runners.len() == 3 && are_of_three(&names(rig)), "{runners:#?} after {after:#?}: {installed:#?}");
    for runner in runners {
        let dir = match instance(&runner.name) {
            1 => rig.dir(),
            number => rig.root().join(format!("opt/actions-runner-{number}")),
        };
        let file = std::fs::read_to_string(dir.join(".runner")).expect("the runner is configured");
        let on_disk: serde_json::Value = serde_json::from_str(file.trim_start_matches('\u{feff}')).unwrap();
        assert_eq!(on_disk["agentId"], runner.id, "{}", runner.name);
    }
    let removed = rig.run(&["remove", "--all"]);
    assert_eq!(removed.code, 0, "after {after:#?}: {removed:#?}");
    rig.assert_nothing_left();
}

/// Without faults, `install` finds or makes exactly one runner, and `remove` leaves nothing.
fn converges(rig: &Rig, after: &Ran) {
    if after.code == 0 || after.code == 128 + 15 {
        until("its processes end", || rig.processes().is_empty());
    }
    let installed = rig.run(&["install"]);
    assert_eq!(installed.code, 0, "after {after:#?}: {installed:#?}");
    let runners = names(rig);
    assert_eq!(runners.len(), 1, "after {after:#?}: {installed:#?}");
    rig.assert_exactly_one_runner();
    let mut opt = names_in(&rig.root().join("opt"));
    // An image has it.
    opt.retain(|name| name != ".runup-store");
    assert_eq!(opt, ["actions-runner"], "after {after:#?}: {installed:#?}");
    let removed = rig.run(&["remove"]);
    assert_eq!(removed.code, 0, "after {after:#?}: {removed:#?}");
    assert_eq!(names(rig), [] as [&str; 0], "after {after:#?}: {removed:#?}");
    rig.assert_nothing_left();
}

fn names(rig: &Rig) -> Vec<String> {
    rig.state().runners.into_iter().map(|runner| runner.name).collect()
}
