//! Upgrades of a sealed runner by runup. What takes a service is tried on real machines (tests/boot).

use crate::rig::{Ran, Rig, finish, names_in, signal, until};
use runup::lifecycle::checkpoint::{Checkpoint, VARIABLE};
use runup::sandbox::Scope;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::path::PathBuf;

/// A runner that `run` has registered and sealed, and that is stopped; `None` where that takes root.
fn sealed(arguments: &[&str]) -> Option<Rig> {
    let rig = Rig::new();
    if !rustix::process::geteuid().is_root() {
        // There is one user, whose runner updates itself.
        rig.run(&["install"]).expect(0);
        rig.run(&["upgrade"]).expect(0).says("it updates itself");
        return None;
    }
    run_once(&rig, arguments).expect(0);
    Some(rig)
}

/// Runs the runner until it is online.
fn run_once(rig: &Rig, arguments: &[&str]) -> Ran {
    let child = rig.start(&[&["run"], arguments].concat());
    until("it is online", || rig.state().runners.first().is_some_and(|runner| runner.online));
    signal(&child, Signal::TERM);
    finish(child)
}

fn journal_path(rig: &Rig) -> PathBuf {
    let state = rig.root().join("var/lib/runup");
    let name = names_in(&state).into_iter().find(|name| name.ends_with(".json")).unwrap();
    state.join(name)
}

fn change_journal(rig: &Rig, change: impl FnOnce(&mut Value)) {
    let path = journal_path(rig);
    let mut journal: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut journal);
    std::fs::write(&path, journal.to_string()).unwrap();
}

/// Lets the version that is here have been the newest so many days ago, and the last look have been as long ago.
fn age(rig: &Rig, days: i64) {
    let then = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * days);
    change_journal(rig, |journal| {
        journal["looked_at"] = json!(then.to_string());
        for entry in journal["entries"].as_array_mut().unwrap() {
            if entry["step"] == "place-runner" {
                entry["current_at"] = json!(then.to_string());
            }
        }
    });
}

#[track_caller]
fn is_whole(rig: &Rig, version: &str) {
    let status = rig.run(&["status", "--json"]).expect(0).json()["runners"][0].clone();
    assert_eq!((&status["version"], &status["guard"]), (&json!(version), &json!("sealed")), "{status}");
    assert_eq!(names_in(&rig.root().join("opt")), ["actions-runner"]);
    assert_eq!(rig.asked("register"), 1, "its registration stays");
    rig.assert_exactly_one_runner();
    let meta = std::fs::metadata(rig.dir()).unwrap();
    assert_eq!((std::os::unix::fs::MetadataExt::uid(&meta), mode(&meta)), (0, 0o750));
}

fn mode(meta: &std::fs::Metadata) -> u32 {
    std::os::unix::fs::MetadataExt::mode(meta) & 0o7777
}

/// An upgrade that was killed while it unpacked the new version was in the way of every later one.
#[test]
fn what_a_killed_upgrade_has_left_is_not_in_the_way() {
    let Some(rig) = sealed(&[]) else { return };
    for name in [".actions-runner.runup-staging", "..actions-runner.runup-staging.runup-removed-0123abcd"] {
        rig.write(&format!("opt/{name}/bin/Runner.Listener"), "half");
    }
    rig.sandbox.offer("2.340.0");
    rig.run(&["upgrade"]).expect(0);
    is_whole(&rig, "2.340.0");
}

#[test]
fn without_a_credential_only_what_upgrade_knows_is_recommended() {
    let Some(rig) = sealed(&[]) else { return };
    let ran = rig.run_without_token(&["upgrade"]).expect(77).says("upgrading a runner needs a token");
    assert!(ran.stderr.contains("--token-file"), "{ran:#?}");
    for option in ["--from-release", "--archive", "--sha256"] {
        assert!(!ran.stderr.contains(option), "{ran:#?}");
    }
}

#[test]
fn a_sealed_runner_is_upgraded_and_stays_the_same_runner() {
    let Some(rig) = sealed(&[]) else { return };
    rig.run(&["upgrade"]).expect(0).says("runner 2.336.0 is the newest available");
    let dir = rig.dir();
    std::fs::write(dir.join(".env"), "MINE=yes\n").unwrap();
    std::fs::write(dir.join("_work/cache"), "kept").unwrap();
    std::fs::create_dir(dir.join("hooks")).unwrap();
    rig.sandbox.offer("2.340.0");
    let upgraded = rig.run(&["upgrade", "--json"]).expect(0).json();
    assert_eq!((&upgraded["from"], &upgraded["version"]), (&json!("2.336.0"), &json!("2.340.0")));
    is_whole(&rig, "2.340.0");
    assert_eq!(std::fs::read_to_string(dir.join(".env")).unwrap(), "MINE=yes\n");
    assert_eq!(std::fs::read_to_string(dir.join("_work/cache")).unwrap(), "kept");
    assert!(dir.join("hooks").is_dir());
    let origin = std::fs::read_to_string(dir.join(".setup_info")).unwrap();
    assert!(origin.contains("2.340.0"), "{origin}");
    run_once(&rig, &[]).expect(0);
    assert_eq!(rig.state().runners[0].version, "2.340.0");
    rig.run(&["remove"]).expect(0);
    rig.assert_nothing_left();
}

#[test]
fn killed_anywhere_the_next_upgrade_finishes_it_and_install_mends_it() {
    let of_upgrade = |checkpoint: &Checkpoint| {
        // Without a service, nothing is started.
        checkpoint.name().starts_with("upgrade-") && *checkpoint != Checkpoint::UpgradeStarted
    };
    for checkpoint in Checkpoint::ALL.into_iter().filter(of_upgrade) {
        for next in ["upgrade", "run"] {
            let Some(rig) = sealed(&[]) else { return };
            std::fs::write(rig.dir().join("_work/cache"), checkpoint.name()).unwrap();
            rig.sandbox.offer("2.340.0");
            let mut command = rig.on_machine(&["upgrade"]);
            let ran = finish(command.env(VARIABLE, checkpoint.name()).spawn().unwrap());
            assert_eq!(ran.code, -9, "{} was not reached: {ran:#?}", checkpoint.name());
            let exchanged = !matches!(checkpoint, Checkpoint::UpgradeBegun | Checkpoint::UpgradeStopped);
            if next == "run" {
                run_once(&rig, &[]).expect(0);
                is_whole(&rig, if exchanged { "2.340.0" } else { "2.336.0" });
            }
            rig.run(&["upgrade"]).expect(0);
            is_whole(&rig, "2.340.0");
            let kept = std::fs::read_to_string(rig.dir().join("_work/cache")).unwrap();
            assert_eq!(kept, checkpoint.name(), "what was in the work directory");
        }
    }
}

#[test]
fn an_upgrade_that_cannot_be_verified_changes_nothing() {
    let Some(rig) = sealed(&[]) else { return };
    rig.sandbox.offer("2.340.0");
    rig.faults(&["archive:corrupt=5000"]);
    rig.run(&["upgrade"]).expect(65);
    is_whole(&rig, "2.336.0");
    rig.sandbox.faults_clear();
    rig.run(&["upgrade"]).expect(0);
    is_whole(&rig, "2.340.0");
}

#[test]
fn what_is_pinned_stays_and_status_says_how_long_it_is_supported() {
    let Some(rig) = sealed(&["--runner-version", "2.336.0"]) else { return };
    rig.sandbox.offer("2.340.0");
    rig.run(&["upgrade"]).expect(0).says("--runner-version 2.336.0");
    age(&rig, 3);
    let status = rig.run(&["status"]).expect(0).stdout;
    assert!(status.contains("support") && status.contains("ended 2 days ago"), "{status}");
    let support = &rig.run(&["status", "--json"]).expect(0).json()["runners"][0]["support"];
    assert_eq!((&support["newest"], &support["days"]), (&json!("2.340.0"), &json!(-2)), "{support}");
}

#[test]
fn an_ephemeral_runner_and_one_that_updates_itself_say_why_they_are_not_upgraded() {
    let rig = Rig::new();
    rig.run(&["install", "--self-update"]).expect(0);
    rig.sandbox.offer("2.340.0");
    rig.run(&["upgrade"]).expect(0).says("nothing to do").says("updates itself");
    let rig = Rig::new();
    rig.run(&["bake"]).expect(0);
    rig.run(&["upgrade"]).expect(0).says("not registered");
    let rig = Rig::new();
    rig.run(&["upgrade"]).expect(78);
}

#[test]
fn run_upgrades_at_its_start_only_what_is_about_to_lose_its_support() {
    let Some(rig) = sealed(&[]) else { return };
    rig.sandbox.offer("2.340.0");
    // Looked already.
    run_once(&rig, &[]).expect(0);
    is_whole(&rig, "2.336.0");
    age(&rig, 2);
    run_once(&rig, &[]).expect(0).says("runner 2.340.0 is in the place of 2.336.0");
    is_whole(&rig, "2.340.0");
    // A server that does not tell does not keep it from starting.
    age(&rig, 2);
    rig.faults(&["downloads:status=500"]);
    run_once(&rig, &[]).expect(0).says("was not upgraded");
}

/// While `run` sees to the runner, nobody else exchanges its tree.
#[test]
fn a_runner_that_run_sees_to_is_left_to_it() {
    let Some(rig) = sealed(&[]) else { return };
    rig.sandbox.offer("2.340.0");
    let child = rig.start(&["run"]);
    until("it is online", || rig.state().runners.first().is_some_and(|runner| runner.online));
    rig.run(&["upgrade"]).expect(0).says("`runup run` runs it");
    let scope: Scope = "orgs/octo-org".parse().unwrap();
    let job = rig.sandbox.add_job(&scope, "job", 0);
    until("the job is done", || rig.state().jobs.iter().any(|it| it.id == job && it.done));
    signal(&child, Signal::TERM);
    finish(child);
    is_whole(&rig, "2.336.0");
}

/// Without a credential, github.com's public releases are the list.
#[test]
fn the_public_releases_are_asked_without_a_credential() {
    let rig = Rig::new();
    rig.sandbox.offer("2.340.0");
    let api = format!("{}api/v3", rig.sandbox.base_url());
    let bake = || {
        let mut command = rig.command(&["bake", "--url", "https://github.com/octo-org", "--api-url", &api]);
        command.arg("--root").arg(rig.root()).env_remove("RUNUP_TOKEN");
        finish(command.args(rig.user.map(|user| ["--user", user]).into_iter().flatten()).spawn().unwrap())
    };
    rig.faults(&["latest-release:1:rate-limit=5000"]);
    bake().expect(75);
    rig.sandbox.faults_clear();
    bake().expect(0).says("runner 2.340.0").says("as expected");
    let requests = rig.sandbox.requests();
    assert!(requests.iter().all(|request| request.scheme.is_empty()), "{requests:#?}");
    // An Enterprise Server has no such releases.
    rig.run_without_token(&["install", "--dir", "/opt/other"]).expect(77);
}
