//! Whose a runner's tree is, in the states that it comes through.

use crate::rig::{Rig, finish, names_in, signal, until};
use runup::host::process::with_env;
use runup::lifecycle::checkpoint::Checkpoint;
use runup::runner::listener::MARKER;
use runup::sandbox::{NewJob, Scope};
use rustix::process::Signal;
use std::os::unix::fs::MetadataExt as _;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn online(rig: &Rig) -> bool {
    rig.state().runners.first().is_some_and(|runner| runner.online)
}

/// Runs it until it is online, and stops it.
fn run(rig: &Rig, arguments: &[&str]) -> crate::rig::Ran {
    let child = rig.start(&[&["run"], arguments].concat());
    until("it is online", || online(rig));
    signal(&child, Signal::TERM);
    finish(child).expect(0)
}

/// Owner and mode of a file in the tree.
fn owned(rig: &Rig, name: &str) -> (u32, u32) {
    let metadata = std::fs::symlink_metadata(rig.dir().join(name)).unwrap();
    (metadata.uid(), metadata.mode() & 0o7777)
}

#[test]
fn a_persistent_runner_is_sealed() {
    let rig = Rig::new();
    run(&rig, &[]);
    if !is_root() {
        return;
    }
    assert_eq!(owned(&rig, ""), (0, 0o750));
    for name in [".runner", ".credentials", ".credentials_rsaparams", ".env"] {
        assert_eq!(owned(&rig, name), (0, 0o640), "{name}");
    }
    assert_eq!((owned(&rig, "_diag").0, owned(&rig, "_work").0), (65534, 65534));
    assert_eq!(owned(&rig, "bin/Runner.Listener").0, 0);
    let status = rig.run(&["status", "--json"]).expect(0).json()["runners"][0].clone();
    assert_eq!((&status["guard"], &status["not_locked"]), (&"sealed".into(), &serde_json::Value::Null));
    assert!(rig.state().runners[0].disable_update, "its user could not update it");
}

#[test]
fn a_server_that_refuses_disable_update_gets_a_runner_that_updates_itself() {
    let rig = Rig::new();
    rig.faults(&["register:unsupported=disable-update"]);
    run(&rig, &[]);
    rig.assert_exactly_one_runner();
    if is_root() {
        assert!(!rig.state().runners[0].disable_update);
        assert_eq!(owned(&rig, "config.sh").0, 65534, "its user can update it");
        let status = rig.run(&["status", "--json"]).expect(0).json()["runners"][0].clone();
        assert_eq!(status["guard"], "open");
    }
}

#[test]
fn self_update_leaves_the_tree_to_its_user_and_is_a_change() {
    let rig = Rig::new();
    run(&rig, &[]);
    run(&rig, &["--self-update"]);
    rig.assert_exactly_one_runner();
    if is_root() {
        assert_eq!(owned(&rig, "config.sh").0, 65534);
        // And back: converted, with the same id.
        let id = rig.state().runners[0].id;
        run(&rig, &[]);
        assert_eq!((owned(&rig, "config.sh").0, rig.state().runners[0].id), (0, id));
    }
}

#[test]
fn a_part_of_the_runner_is_no_work_directory() {
    let rig = Rig::new();
    for work in ["bin", "externals/node20", "_diag", ".", "/opt", "/"] {
        rig.run(&["install", "--work", work]).expect(64).says("--work");
    }
    rig.assert_nothing_left();
}

#[test]
fn an_older_server_replaces_a_runner_too() {
    let rig = Rig::new();
    rig.add_offline_runner("box");
    rig.faults(&["register:unsupported=disable-update"]);
    run(&rig, &["--name", "box", "--replace"]);
    rig.assert_exactly_one_runner();
}

#[test]
fn a_refused_conversion_that_is_killed_leaves_the_runner_as_it_was() {
    if !is_root() {
        return;
    }
    for name in [&[] as &[&str], &["--name", "box"]] {
        let rig = Rig::new();
        run(&rig, &[&["--self-update"], name].concat());
        let id = rig.state().runners[0].id;
        rig.faults(&["runner-registration:status=404"]);
        rig.die_at(Checkpoint::Refused, &[&["run"], name].concat());
        rig.sandbox.faults_clear();
        run(&rig, name);
        converted(&rig, id, "refused");
    }
}

/// An operator's file system is not given away with what is on it.
#[test]
fn a_work_directory_with_something_in_it_stays_whose_it_is() {
    let rig = Rig::new();
    if !is_root() {
        return;
    }
    let work = rig.root().join("mnt");
    std::fs::create_dir(&work).unwrap();
    std::fs::write(work.join("swapfile"), "").unwrap();
    rig.run(&["run", "--work", work.to_str().unwrap()]).expect(78).says("such as swapfile");
    assert_eq!(std::fs::metadata(&work).unwrap().uid(), 0);
}

/// Exactly one tree, which is root's, with the runner of this id.
fn converted(rig: &Rig, id: u64, cut: &str) {
    rig.assert_exactly_one_runner();
    assert_eq!(names_in(&rig.root().join("opt")), ["actions-runner"], "{cut}: nothing stands beside it");
    assert_eq!((owned(rig, "config.sh").0, owned(rig, ".runner")), (0, (0, 0o640)), "{cut}");
    assert_eq!(rig.state().runners[0].id, id, "{cut}");
}

#[test]
fn a_conversion_killed_anywhere_is_finished_or_taken_back_by_the_next_run() {
    if !is_root() {
        return;
    }
    let cuts = Checkpoint::ALL.into_iter().filter(|checkpoint| {
        let name = checkpoint.name();
        name.starts_with("place-") || name.starts_with("register-") && name != "register-ghost-gone"
    });
    for cut in cuts {
        let rig = Rig::new();
        run(&rig, &["--self-update"]);
        let id = rig.state().runners[0].id;
        rig.die_at(cut, &["run"]);
        run(&rig, &[]);
        converted(&rig, id, cut.name());
        rig.run(&["remove"]).expect(0);
        rig.assert_nothing_left();

        let rig = Rig::new();
        run(&rig, &["--self-update"]);
        rig.die_at(cut, &["run"]);
        rig.run(&["remove"]).expect(0);
        rig.assert_nothing_left();
    }
}

/// With another option the old registration ends, and its tree must not come back with what the server has deleted.
#[test]
fn an_open_runner_that_is_registered_otherwise_is_replaced_for_good_wherever_that_is_killed() {
    if !is_root() {
        return;
    }
    let cuts = Checkpoint::ALL.into_iter().filter(|checkpoint| {
        checkpoint.name().starts_with("place-") || checkpoint.name().starts_with("register-")
    });
    for cut in cuts.map(Some).chain([None]) {
        let rig = Rig::new();
        run(&rig, &["--self-update"]);
        let other = ["run", "--work", "other"];
        match cut {
            Some(cut) => rig.die_at(cut, &other),
            None => drop(run(&rig, &other[1..])),
        }
        let told = cut.map_or("not cut", Checkpoint::name);
        if cut.is_none() {
            converted(&rig, 2, told);
        }
        // What a killed `run` of an ephemeral runner had left.
        std::fs::remove_file(rig.dir().join(".runner")).ok();
        run(&rig, &other[1..]);
        let id = rig.state().runners[0].id;
        assert_ne!(id, 1, "{told}");
        converted(&rig, id, told);
        rig.run(&["remove"]).expect(0);
        rig.assert_nothing_left();
    }
}

/// Nothing that a job could have written goes into the tree that takes its place.
#[test]
fn a_sealed_tree_that_lost_a_part_is_replaced_by_a_sealed_one() {
    let rig = Rig::new();
    run(&rig, &[]);
    let id = rig.state().runners[0].id;
    std::fs::remove_file(rig.dir().join("bin/Runner.Worker")).unwrap();
    run(&rig, &[]);
    rig.assert_exactly_one_runner();
    if is_root() {
        converted(&rig, id, "");
        assert_eq!(owned(&rig, "bin/Runner.Worker").0, 0);
    }
}

/// The cut leaves the tree locked: its user could still write an identity of its own into it.
#[test]
fn a_start_seals_what_a_cut_left_unsealed() {
    let rig = Rig::new();
    if !is_root() {
        return;
    }
    rig.die_at(Checkpoint::RegisterConfirmed, &["run"]);
    assert_eq!(owned(&rig, "").1, 0o1770);
    let mut command = rig.command(&["prepare-start", "--allow-metadata", "--root"]);
    finish(command.arg(rig.root()).spawn().unwrap()).expect(0);
    assert_eq!((owned(&rig, ""), owned(&rig, ".runner")), ((0, 0o750), (0, 0o640)));
    assert_eq!((owned(&rig, "_diag").0, owned(&rig, "_work").0), (65534, 65534));
    run(&rig, &[]);
    rig.assert_exactly_one_runner();
}

/// What was registered and not used yet is no remnant of a job.
#[test]
fn an_ephemeral_runner_that_install_registered_is_the_one_that_runs() {
    let rig = Rig::new();
    rig.run(&["install", "--ephemeral"]).expect(0);
    let id = rig.state().runners[0].id;
    let child = rig.start(&["run", "--ephemeral"]);
    until("it is online", || online(&rig));
    assert_eq!(rig.state().runners[0].id, id);
    signal(&child, Signal::TERM);
    finish(child).expect(0);
}

/// Its supervisor is killed, the job goes on and ends: what it left is evidence of nothing, and names no runner.
#[test]
fn what_an_ephemeral_runner_left_whose_supervisor_was_killed_is_cleaned_away() {
    let rig = Rig::new();
    if !is_root() {
        // Nothing is kept from its jobs.
        return;
    }
    let scope: Scope = "orgs/octo-org".parse().unwrap();
    let victim = rig.sandbox.add_runner(&scope, "victim", &[]).unwrap();
    let mut child = rig.start(&["run", "--ephemeral"]);
    until("it is online", || rig.state().runners.iter().any(|runner| runner.online));
    // A job writes what its user can write.
    let script = format!(
        r#"cd {}
        touch left-behind .runner_migrated
        rm -f .runner
        echo '{{"agentId":{victim},"agentName":"victim","gitHubUrl":"{}/octo-org"}}' >.runner
        sleep 1"#,
        rig.dir().display(),
        rig.url(),
    );
    rig.sandbox.queue(NewJob {
        scope: scope.to_string(),
        name: "last".into(),
        seconds: 0,
        script: Some(script),
        runner: None,
    });
    until("the job has planted", || rig.dir().join("left-behind").exists());
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    until("the job is done", || rig.state().jobs[0].done);
    until("its runner has ended", || with_env(MARKER, &rig.dir().display().to_string()).is_empty());
    let child = rig.start(&["run", "--ephemeral"]);
    until("another one is online", || rig.state().runners.iter().any(|runner| runner.online));
    for name in [".runner_migrated", "left-behind"] {
        assert!(!rig.dir().join(name).exists(), "{name}");
    }
    signal(&child, Signal::TERM);
    finish(child).expect(0);
    assert!(rig.state().runners.iter().any(|runner| runner.id == victim), "the victim is not its own");
}

/// Nothing is done to a runner that works for a request that cannot be met.
#[test]
fn a_conversion_to_a_group_that_does_not_exist_is_refused_before_anything_is_done() {
    let rig = Rig::new();
    run(&rig, &["--self-update"]);
    let id = rig.state().runners[0].id;
    rig.run(&["run", "--group", "typo"]).expect(78).says("the runner group \"typo\" does not exist");
    assert_eq!(rig.state().runners[0].id, id);
    rig.assert_exactly_one_runner();
    rig.run(&["status"]).expect(0);
}
