//! Two runs at once, and a run that is told to stop, in each phase.

use crate::rig::{Rig, finish, names_in, signal, until};
use rustix::process::Signal;

#[test]
fn of_two_runs_at_once_the_second_waits_and_finds_it_done() {
    let rig = Rig::new();
    rig.faults(&["downloads:1:delay=300"]);
    let first = rig.start(&["install"]);
    let second = rig.start(&["install"]);
    let runs = [finish(first).expect(0), finish(second).expect(0)];
    rig.assert_exactly_one_runner();
    assert_eq!(rig.asked("register"), 1);
    let idle = runs.iter().filter(|ran| ran.stdout.starts_with("nothing to do")).count();
    assert_eq!(idle, 1, "{runs:#?}");
    let waits = |text: &str| text.contains("waiting for the lock") && text.contains(" holds it");
    assert!(runs.iter().any(|ran| ran.stderr.lines().any(waits)), "{runs:#?}");
}

#[test]
fn who_waits_for_too_long_is_told_for_whom() {
    let rig = Rig::new();
    rig.faults(&["downloads:delay=forever"]);
    let first = rig.start(&["install"]);
    rig.until_asked("downloads");
    for command in ["install", "remove", "bake"] {
        let ran = rig.run(&[command, "--deadline", "500ms"]).expect(75);
        ran.says("failed to lock").says(&format!("(process {}", first.id())).hints("");
    }
    // Looking needs no lock.
    rig.run(&["status"]).says("/opt/actions-runner");
    signal(&first, Signal::TERM);
    finish(first).expect(143);
    rig.assert_nothing_left();
}

/// The signal comes as soon as the sandbox has seen `route`, which does not go on because of `fault`.
#[track_caller]
fn stopped_in(fault: &str, route: &str) {
    for (number, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let rig = Rig::new().making_a_user();
        rig.faults(&[fault]);
        let child = rig.start(&["install"]);
        rig.until_asked(route);
        signal(&child, number);
        let ran = finish(child).expect(code).says("stopped");
        rig.assert_nothing_left();
        assert_eq!(rig.processes(), [] as [&str; 0], "{ran:#?}");
    }
}

#[test]
fn a_signal_while_looking_leaves_nothing() {
    stopped_in("list-runners:delay=forever", "list-runners");
}

#[test]
fn a_signal_while_listing_leaves_nothing() {
    stopped_in("downloads:1:delay=forever", "downloads");
}

#[test]
fn a_signal_while_downloading_leaves_nothing() {
    stopped_in("archive:stall=2000", "archive");
}

#[test]
fn a_signal_while_waiting_for_a_token_leaves_nothing() {
    stopped_in("registration-token:delay=forever", "registration-token");
}

#[test]
fn a_signal_during_config_sh_leaves_nothing() {
    stopped_in("runner-registration:script=hang", "runner-registration");
    stopped_in("runner-registration:script=hang-after-register", "register");
    // It happens on the server, and config.sh never hears of it.
    stopped_in("register:delay-after=forever", "register");
}

#[test]
fn a_signal_while_confirming_leaves_nothing() {
    stopped_in("get-runner:1:delay=forever", "get-runner");
}

#[test]
fn a_signal_in_json_is_a_document_too() {
    let rig = Rig::new();
    rig.faults(&["downloads:delay=forever"]);
    let child = rig.start(&["install", "--json"]);
    rig.until_asked("downloads");
    signal(&child, Signal::INT);
    let error = finish(child).expect(130).json()["error"].clone();
    assert_eq!((error["class"].clone(), error["exit_code"].clone()), ("signal".into(), 130.into()));
}

#[test]
fn a_signal_stops_the_commands_that_only_ask() {
    let rig = Rig::new();
    rig.faults(&["list-runners:delay=forever"]);
    let child = rig.command(&["runners", "list", "--url", &rig.url()]).spawn().unwrap();
    rig.until_asked("list-runners");
    signal(&child, Signal::TERM);
    finish(child).expect(143);
}

#[test]
fn a_signal_during_remove_leaves_what_the_next_one_needs() {
    for (fault, route) in [
        ("get-runner:1:delay=forever", "get-runner"),
        ("remove-token:1:delay=forever", "remove-token"),
        ("runner-registration:1:delay=forever", "runner-registration"),
        ("runner-delete:1:delay-after=forever", "runner-delete"),
    ] {
        let rig = Rig::new();
        rig.run(&["install"]).expect(0);
        rig.routes();
        rig.faults(&[fault]);
        let child = rig.start(&["remove", "--trust-tree"]);
        rig.until_asked(route);
        signal(&child, Signal::TERM);
        finish(child).expect(143).says("stopped");
        assert_eq!(rig.processes(), [] as [&str; 0]);
        let state = names_in(&rig.root().join("var/lib/runup"));
        assert!(state.iter().any(|name| name.ends_with(".json")), "{fault}: {state:?}");
        rig.run(&["remove"]).expect(0);
        rig.assert_nothing_left();
    }
}

#[test]
fn unwinding_has_time_of_its_own_within_the_deadline() {
    let rig = Rig::new();
    rig.faults(&["runner-registration:script=hang-after-register", "list-runners+1:delay=700"]);
    let child = rig.start(&["install", "--deadline", "12s"]);
    until("the server has the runner", || !rig.state().runners.is_empty());
    finish(child).expect(75);
    rig.assert_nothing_left();
}
