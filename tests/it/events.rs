//! `--events`: what programs that watch are told, and that their failures are none of runup's.

use crate::rig::{Ran, Rig, finish, signal, until};
use crate::schema;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::process::Signal;
use serde_json::Value;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

/// The events in the file, each as its schema says.
fn events(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    let read = |line: &str| {
        assert!(line.len() < 4096, "a pipe takes it whole");
        let event = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(schema::problems("event", &event), Vec::<String>::new(), "{line}");
        event
    };
    text.lines().map(read).collect()
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event"].as_str().unwrap()).collect()
}

fn of<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == name).collect()
}

fn fifo(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

#[test]
fn an_installation_tells_its_phases_retries_and_end_and_no_secret() {
    let rig = Rig::new();
    let path = rig.root().join("events");
    let file = path.to_str().unwrap();
    rig.faults(&["registration-token:1:status=502"]);
    rig.run(&["install", "--events", file]).expect(0);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let told = events(&path);
    assert_eq!((names(&told)[0], names(&told).pop()), ("begin", Some("end")));
    assert!(told.iter().all(|event| event["command"] == "install" && event["runner"].is_null()));
    let phases = |name| of(&told, name).into_iter().map(|event| &event["phase"]).collect::<Vec<_>>();
    let mut ended = phases("phase-end");
    let mut begun = phases("phase-begin");
    assert!(begun.contains(&&"config.sh".into()) && begun.contains(&&"place".into()), "{begun:?}");
    begun.sort_by_key(ToString::to_string);
    ended.sort_by_key(ToString::to_string);
    assert_eq!(begun, ended);
    let place = of(&told, "phase-end").into_iter().find(|event| event["phase"] == "place").unwrap();
    assert!(place["done"] == true && place["detail"].is_string(), "{place}");
    let retry = of(&told, "retry");
    assert!(retry.len() == 1 && retry[0]["cause"].as_str().unwrap().contains("502"), "{retry:?}");
    let end = of(&told, "end")[0];
    assert!(end["exit_code"] == 0 && end.get("error").is_none(), "{end}");

    // The next command appends.
    rig.run(&["install", "--name", "another", "--events", file]).expect(78);
    rig.run(&["remove", "--events", file]).expect(0);
    let told = events(&path);
    let ends = of(&told, "end");
    let codes: Vec<&Value> = ends.iter().map(|end| &end["exit_code"]).collect();
    assert_eq!(codes, [0, 78, 0]);
    assert!(ends[1]["error"].is_string() && ends[2]["command"] == "remove", "{ends:?}");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains(rig.sandbox.token().expose()), "{text}");
}

#[test]
fn a_run_tells_when_the_runner_is_online_and_has_a_job_but_no_text_of_the_job() {
    let rig = Rig::new();
    let path = rig.root().join("events");
    let child = rig.start(&["run", "--drain", "50s", "--events", path.to_str().unwrap()]);
    rig.sandbox.add_job(&crate::rig::SCOPE.parse().unwrap(), "name-of-a-job", 0);
    until("the job is done", || rig.state().jobs.iter().all(|job| job.done));
    until("its end is told", || !of(&events(&path), "job-end").is_empty());
    signal(&child, Signal::TERM);
    finish(child).expect(0);
    let told = events(&path);
    let kinds: Vec<&str> =
        names(&told).into_iter().filter(|name| !name.starts_with("phase") && *name != "wait").collect();
    assert_eq!(kinds, ["begin", "online", "job-begin", "job-end", "offline", "end"]);
    assert_eq!(of(&told, "job-end")[0]["result"], "succeeded");
    assert!(!std::fs::read_to_string(&path).unwrap().contains("name-of-a-job"));
}

#[test]
fn of_several_runners_each_event_names_its_own() {
    let rig = Rig::new().making_a_user();
    if rig.user.is_some() && !rig.makes_a_user() {
        return println!("skipped: this machine has no tools to create users");
    }
    let path = rig.root().join("events");
    let file = path.to_str().unwrap();
    let several = ["install", "--name", "box", "--count", "2", "--events", file];
    rig.run(&several).expect(0);
    let told = events(&path);
    for runner in ["actions-runner", "actions-runner-2"] {
        let own = told.iter().filter(|event| event["runner"] == runner && event["phase"] == "config.sh");
        assert_eq!(own.count(), 2, "{told:#?}");
    }
    assert!(of(&told, "end")[0]["runner"].is_null());
}

/// Every one of these readers fails in its own way, and is mentioned once.
#[test]
fn no_reader_stops_or_delays_the_work() {
    let install = |rig: &Rig, events: &str| -> Ran {
        let ran = rig.run(&["install", "--events", events]).expect(0);
        assert_eq!(ran.stderr.matches("events are lost").count(), 1, "{ran:#?}");
        rig.assert_exactly_one_runner();
        ran
    };
    let rig = Rig::new();
    let path = rig.root().join("fifo");
    fifo(&path);
    install(&rig, path.to_str().unwrap()).says("nobody reads the FIFO");
    install(&rig, "/dev/full").says("No space left on device");

    // A reader that reads nothing, of a pipe that is full.
    let reader = rustix::fs::open(&path, OFlags::RDWR | OFlags::NONBLOCK, Mode::empty()).unwrap();
    while rustix::io::write(&reader, &[b'x'; 4096]).is_ok() {}
    install(&rig, path.to_str().unwrap()).says("their reader is too slow");
    let line = rig.on_machine(&["install", "--events", "fd:3"]);
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "exec 3>\"$FIFO\"; exec \"$0\" \"$@\""]).arg(line.get_program()).args(line.get_args());
    shell
        .env_clear()
        .envs(line.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env("FIFO", &path);
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ran = finish(shell.spawn().unwrap()).expect(0).says("their reader is too slow");
    assert_eq!(ran.stderr.matches("events are lost").count(), 1, "{ran:#?}");

    // One that reads again gets the next events, and the number of those that were lost.
    while rustix::io::read(&reader, &mut [0; 4096]).is_ok() {}
    rig.run(&["install", "--events", path.to_str().unwrap()]).expect(0);
    let mut told = vec![0; 65536];
    let length = rustix::io::read(&reader, &mut told).unwrap();
    let text = String::from_utf8_lossy(&told[..length]).into_owned();
    assert!(text.starts_with('{') && text.contains("\"event\":\"end\""), "{text}");
}

#[test]
fn a_file_that_another_user_could_have_chosen_is_refused_before_anything_happens() {
    let rig = Rig::new();
    rig.write("precious", "as it was");
    symlink("precious", rig.root().join("link")).unwrap();
    let open = rig.root().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
    for (path, code) in [("link", 78), ("open/events", 78), ("missing/events", 74)] {
        let path = rig.root().join(path);
        let ran = rig.run(&["install", "--events", path.to_str().unwrap(), "--json"]).expect(code);
        assert!(ran.json()["error"]["message"].as_str().unwrap().starts_with("--events: "), "{ran:#?}");
    }
    rig.run(&["install", "--events", "fd:77"]).says("--events: ");
    rig.run(&["install", "--events", "fd:1"]).expect(64).says("fd:1");
    assert_eq!(std::fs::read_to_string(rig.root().join("precious")).unwrap(), "as it was");
    assert_eq!(rig.routes(), [] as [&str; 0]);
    rig.assert_nothing_left();
}

/// The configuration file is that of the units, too.
#[test]
fn a_file_of_the_configuration_that_cannot_be_opened_keeps_no_runner_down() {
    let rig = Rig::new();
    let missing = rig.root().join("missing/events");
    for events in [missing.to_str().unwrap(), "fd:77"] {
        let config = rig.write("config.toml", format!("events = \"{events}\"\n"));
        rig.run(&["install", "--config", &config]).expect(0).says("no events are written: ");
        rig.assert_exactly_one_runner();
        rig.run(&["remove", "--config", &config]).expect(0).says("no events are written: ");
    }
    rig.assert_nothing_left();
}

/// What rotates logs moves the file away under a run that goes on for days.
#[test]
fn a_file_that_was_moved_away_is_created_again() {
    let rig = Rig::new();
    let path = rig.root().join("events");
    let child = rig.start(&["run", "--events", path.to_str().unwrap()]);
    until("it is online", || path.exists() && !of(&events(&path), "online").is_empty());
    std::fs::rename(&path, rig.root().join("events.1")).unwrap();
    signal(&child, Signal::TERM);
    finish(child).expect(0);
    let rest = events(&path);
    assert_eq!(names(&rest).pop(), Some("end"), "{rest:#?}");
    assert!(of(&rest, "begin").is_empty());
}
