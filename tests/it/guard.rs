//! Whose a runner's tree is, in the states that it comes through.

use crate::rig::{Rig, finish, signal, until};
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
    let status = rig.run(&["status", "--json"]).expect(0).json();
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
        let status = rig.run(&["status", "--json"]).expect(0).json();
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
    run(&rig, &["--work", work.to_str().unwrap()]);
    assert_eq!(std::fs::metadata(&work).unwrap().uid(), 0);
}
