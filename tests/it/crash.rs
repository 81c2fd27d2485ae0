//! Power cuts: a real process is killed at every named instant, and the next run finds everything.

use crate::rig::{Ran, Rig, finish, signal, until};
use runup::lifecycle::checkpoint::{Checkpoint, VARIABLE};
use runup::runner::{config_sh, listener};
use runup::sandbox::{Fault, FaultKind};
use rustix::process::Signal;
use std::process::Command;

/// Those that `install` on a bare machine reaches; making a user takes root.
fn of_install(rig: &Rig) -> impl Iterator<Item = Checkpoint> {
    let makes_user = rig.makes_a_user();
    Checkpoint::ALL.into_iter().filter(move |checkpoint| {
        let name = checkpoint.name();
        !name.starts_with("remove-")
            && !name.starts_with("upgrade-")
            && !name.starts_with("adopt-")
            && !name.starts_with("service-")
            && (makes_user || !name.starts_with("user-"))
            && ![Checkpoint::RegisterGhostGone, Checkpoint::Refused].contains(checkpoint)
    })
}

fn of_remove(rig: &Rig) -> impl Iterator<Item = Checkpoint> {
    let makes_user = rig.makes_a_user();
    Checkpoint::ALL.into_iter().filter(move |checkpoint| {
        checkpoint.name().starts_with("remove-") && (makes_user || *checkpoint != Checkpoint::RemoveUserGone)
    })
}

fn rig() -> Rig {
    Rig::new().making_a_user()
}

#[test]
fn install_killed_anywhere_then_install_is_exactly_one_runner() {
    for checkpoint in of_install(&rig()) {
        let rig = rig();
        rig.die_at(checkpoint, &["install"]);
        rig.run(&["install"]).expect(0);
        rig.assert_exactly_one_runner();
        assert_eq!(rig.opt(), ["actions-runner"], "{}", checkpoint.name());
        rig.run(&["remove"]).expect(0);
        rig.assert_nothing_left();
    }
}

#[test]
fn install_killed_anywhere_then_remove_is_none() {
    for checkpoint in of_install(&rig()) {
        let rig = rig();
        rig.die_at(checkpoint, &["install"]);
        rig.run(&["remove"]).expect(0);
        rig.assert_nothing_left();
    }
}

/// Those that a registration anew comes by.
fn of_a_change() -> impl Iterator<Item = Checkpoint> {
    Checkpoint::ALL.into_iter().filter(|checkpoint| checkpoint.name().starts_with("register-"))
}

#[test]
fn a_change_killed_anywhere_is_finished_or_taken_back_by_the_next_run() {
    let change = ["install", "--work", "elsewhere"];
    for checkpoint in of_a_change() {
        for next in [&change[..], &["install"]] {
            let rig = rig();
            rig.run(&["install"]).expect(0);
            rig.die_at(checkpoint, &change);
            rig.run(next).expect(0);
            rig.assert_exactly_one_runner();
            let runner = std::fs::read_to_string(rig.dir().join(".runner")).unwrap();
            assert_eq!(
                runner.contains("elsewhere"),
                next == change,
                "{} {next:?}: {runner}",
                checkpoint.name()
            );
            rig.run(&["status"]).expect(0);
            rig.run(next).expect(0).says("nothing to do");
        }
        let rig = rig();
        rig.run(&["install"]).expect(0);
        rig.die_at(checkpoint, &change);
        rig.run(&["remove"]).expect(0);
        rig.assert_nothing_left();
    }
}

#[test]
fn a_bake_over_an_older_runner_killed_anywhere_is_finished_by_the_next() {
    for checkpoint in [Checkpoint::PlaceBegun, Checkpoint::PlaceStaged, Checkpoint::PlaceRenamed] {
        let rig = rig();
        rig.run(&["bake"]).expect(0);
        rig.sandbox.offer("2.340.0");
        rig.die_at(checkpoint, &["bake"]);
        rig.run(&["bake"]).expect(0).says("runner 2.340.0");
        assert_eq!(rig.opt(), ["actions-runner"], "{}", checkpoint.name());
        rig.run(&["bake"]).expect(0).says("nothing to do");
        rig.run(&["remove"]).expect(0);
        rig.assert_nothing_left();
    }
}

#[test]
fn remove_killed_anywhere_then_remove_is_none() {
    for checkpoint in of_remove(&rig()) {
        let rig = rig();
        rig.run(&["install"]).expect(0);
        // As root, nothing but this gives a token to programs that jobs could have changed.
        rig.die_at(checkpoint, &["remove", "--trust-tree"]);
        rig.run(&["remove"]).expect(0);
        rig.assert_nothing_left();
    }
}

#[test]
fn remove_killed_anywhere_then_install_is_exactly_one_runner() {
    for checkpoint in of_remove(&rig()) {
        let rig = rig();
        rig.run(&["install"]).expect(0);
        // As root, nothing but this gives a token to programs that jobs could have changed.
        rig.die_at(checkpoint, &["remove", "--trust-tree"]);
        rig.run(&["install"]).expect(0);
        rig.assert_exactly_one_runner();
    }
}

/// How much dies with us.
#[derive(Clone, Copy, PartialEq)]
enum Cut {
    /// Only runup: its `config.sh` goes on.
    Process,
    /// The whole machine.
    Power,
}

/// Dies inside `config.sh`, after the server has the runner and before the disk knows it.
fn die_inside_config_sh(rig: &Rig, arguments: &[&str], cut: Cut) {
    rig.die_once_registered(&mut rig.on_machine(arguments));
    assert!(!rig.dir().join(".runner").exists());
    let left = runup::host::process::with_env(config_sh::MARKER, &rig.dir().display().to_string());
    assert!(!left.is_empty(), "config.sh outlives us, as it would");
    if cut == Cut::Power {
        for pid in left {
            let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

fn no_config_sh_is_left(rig: &Rig) {
    let left = runup::host::process::with_env(config_sh::MARKER, &rig.dir().display().to_string());
    assert_eq!(left, [] as [u32; 0]);
}

#[test]
fn killed_between_the_server_s_entry_and_the_file_then_install_is_exactly_one_runner() {
    for cut in [Cut::Process, Cut::Power] {
        // A name that any machine could have made, and the default one.
        for arguments in [&["install", "--name", "build-1"][..], &["install"]] {
            let rig = rig();
            die_inside_config_sh(&rig, arguments, cut);
            rig.run(arguments).expect(0);
            rig.assert_exactly_one_runner();
            no_config_sh_is_left(&rig);
        }
    }
}

#[test]
fn killed_between_the_server_s_entry_and_the_file_then_remove_is_none() {
    for cut in [Cut::Process, Cut::Power] {
        for arguments in [&["install", "--name", "build-1"][..], &["install"]] {
            let rig = rig();
            die_inside_config_sh(&rig, arguments, cut);
            rig.run(&["remove"]).expect(0);
            rig.assert_nothing_left();
            no_config_sh_is_left(&rig);
        }
    }
}

/// It cleans up its identity as soon as it learns that its own runner is gone, and that would be the new one.
#[test]
fn a_listener_that_outlived_a_killed_run_is_ended_before_its_directory_gets_another_identity() {
    let rig = rig();
    let mut child = rig.on_machine(&["run", "--ephemeral"]).spawn().unwrap();
    until("it is online", || rig.state().runners.first().is_some_and(|runner| runner.online));
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    let left = || runup::host::process::with_env(listener::MARKER, &rig.dir().display().to_string());
    assert!(!left().is_empty(), "the listener outlives us, as it would");

    rig.run(&["install"]).expect(0).says("ending a listener that outlived the run that had started it");
    assert_eq!(left(), [] as [u32; 0]);
    rig.assert_exactly_one_runner();
}

#[test]
fn a_runner_that_run_supervises_is_not_registered_again_beside_it() {
    let rig = rig();
    let child = rig.on_machine(&["run"]).spawn().unwrap();
    until("it is online", || rig.state().runners.first().is_some_and(|runner| runner.online));
    // What changes nothing of the runner needs nobody to leave.
    rig.run(&["install"]).expect(0).says("(id 1)");
    rig.run(&["install", "--work", "elsewhere"]).expect(75).says("`run` (process");
    assert!(rig.state().runners[0].online);
    signal(&child, Signal::TERM);
    assert!(!finish(child).expect(0).stderr.contains("the server has deleted the runner"));
    rig.run(&["install", "--work", "elsewhere"]).expect(0).says("(id 2)");
    rig.assert_exactly_one_runner();
}

#[test]
fn without_a_credential_the_name_is_taken_back_by_replacing_it() {
    let rig = rig();
    rig.run(&["bake"]).expect(0);
    let token = rig.ask(&["token", "registration"]).expect(0).stdout;
    let with_token = |command: &mut Command| {
        command.env_remove("RUNUP_TOKEN").env("RUNUP_REGISTRATION_TOKEN", token.trim());
    };
    let mut command = rig.on_machine(&["install"]);
    with_token(&mut command);
    rig.die_once_registered(&mut command);

    let mut command = rig.on_machine(&["install"]);
    with_token(&mut command);
    finish(command.spawn().unwrap()).expect(0);
    rig.assert_exactly_one_runner();
}

#[test]
fn killed_in_the_middle_of_a_download_nothing_is_mistaken_for_a_runner() {
    let rig = rig();
    rig.sandbox.fault(Fault::new("archive", FaultKind::Stall { after: 20_000 }).times(1));
    let mut child = rig.on_machine(&["install"]).spawn().unwrap();
    let archive_asked = || rig.sandbox.requests().iter().any(|request| request.route == "archive");
    until("the download has begun", archive_asked);
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    assert!(!rig.dir().join("config.sh").exists());
    rig.run(&["install"]).expect(0);
    rig.assert_exactly_one_runner();
    assert_eq!(rig.opt(), ["actions-runner"]);
}

/// A ghost is deleted only if it is ours: a runner of the same name that somebody else registered meanwhile is not.
#[test]
fn a_runner_of_the_same_name_that_is_not_ours_is_left_alone() {
    let rig = rig();
    let mut command = rig.on_machine(&["install", "--name", "shared"]);
    let Ran { code, .. } = finish(command.env(VARIABLE, Checkpoint::RegisterBegun.name()).spawn().unwrap());
    assert_eq!(code, -9);
    let other = rig.sandbox.add_runner(&"orgs/octo-org".parse().unwrap(), "shared", &[]).unwrap();
    rig.run(&["install", "--name", "shared"]).expect(78).says("already registered");
    rig.run(&["remove"]).expect(0);
    let left: Vec<u64> = rig.state().runners.iter().map(|runner| runner.id).collect();
    assert_eq!(left, [other], "the other machine's runner stays");
    rig.assert_machine_bare();
}

/// A killed useradd leaves the group, which it makes first.
#[test]
fn a_group_without_its_user_is_finished_or_deleted() {
    for next in ["install", "remove"] {
        let rig = rig();
        if !rig.makes_a_user() {
            return;
        }
        rig.die_at(Checkpoint::UserBegun, &["install"]);
        let groups = rig.root().join("etc/group");
        let text = std::fs::read_to_string(&groups).unwrap();
        std::fs::write(&groups, format!("{text}fresh:x:60706:\n")).unwrap();
        rig.run(&[next]).expect(0);
        if next == "install" {
            rig.assert_exactly_one_runner();
            rig.run(&["remove"]).expect(0);
        }
        rig.assert_nothing_left();
        assert!(!std::fs::read_to_string(&groups).unwrap().contains("fresh"));
    }
}
