//! Defects that were found once. Each test says what must never happen again.

use crate::rig::Rig;
use rustix::process::geteuid;
use std::os::unix::fs::PermissionsExt as _;

const OTHER_MACHINE: &str = "fedcba9876543210fedcba9876543210\n";

/// The disk is copied with everything on it, and boots as another machine.
fn becomes_a_copy(rig: &Rig) {
    std::fs::write(rig.root().join("etc/machine-id"), OTHER_MACHINE).unwrap();
}

fn fault(rig: &Rig, text: &str) {
    rig.sandbox.fault(text.parse().unwrap());
}

#[test]
fn a_failed_upgrade_leaves_the_runner_that_was_there() {
    let rig = Rig::new();
    rig.run(&["bake"]).expect(0);
    rig.run(&["install", "--runner-version", "2.399.9"]).expect(69);
    assert!(rig.dir().join("config.sh").exists(), "this run had not begun to replace it");
    rig.run(&["install"]).expect(0);
    rig.assert_exactly_one_runner();
}

#[test]
fn a_copy_whose_install_fails_early_leaves_the_runner_of_the_first_machine() {
    if !geteuid().is_root() {
        return;
    }
    let rig = Rig::new();
    rig.run(&["install"]).expect(0);
    becomes_a_copy(&rig);
    // The runner's user cannot read its way down: the preflight fails, before the step has begun.
    std::fs::set_permissions(rig.root(), std::fs::Permissions::from_mode(0o711)).unwrap();
    rig.run(&["install"]).expect(77);
    assert_eq!(rig.state().runners.len(), 1, "the first machine's runner is untouched");
}

#[test]
fn a_copy_with_the_same_name_never_deletes_the_first_machine_s_runner() {
    let rig = Rig::new();
    rig.run(&["install", "--name", "box"]).expect(0);
    becomes_a_copy(&rig);
    fault(&rig, "registration-token:status=403");
    let ran = rig.run(&["install", "--name", "box"]);
    assert_ne!(ran.code, 0, "{ran:#?}");
    assert_eq!(rig.state().runners.len(), 1, "{ran:#?}");
}

#[test]
fn removing_a_copy_leaves_the_runner_of_the_first_machine() {
    let rig = Rig::new();
    rig.run(&["install"]).expect(0);
    becomes_a_copy(&rig);
    rig.run(&["remove"]).expect(0).says("another machine");
    assert_eq!(rig.state().runners.len(), 1, "the first machine's runner is untouched");
    rig.assert_machine_bare();
}

#[test]
fn taking_a_name_over_fails_without_deleting_its_owner() {
    let rig = Rig::new();
    let scope: runup::sandbox::Scope = "orgs/octo-org".parse().unwrap();
    let id = rig.sandbox.add_runner(&scope, "box", &[]).unwrap();
    let offline = runup::sandbox::RunnerChange { online: Some(false), ..Default::default() };
    rig.sandbox.change_runner(id, offline);
    fault(&rig, "registration-token:status=403");
    rig.run(&["install", "--name", "box", "--replace"]).expect(77);
    assert_eq!(rig.state().runners.len(), 1, "config.sh --replace had not run");
}

/// A slash at the end, as a shell completes it, is the same folder.
#[test]
fn a_folder_with_a_slash_behind_it_has_the_same_journal() {
    let rig = Rig::new();
    rig.run(&["install", "--dir", "/opt/actions-runner/"]).expect(0);
    assert_eq!(rig.run(&["install", "--dir", "/opt/actions-runner"]).expect(0).says("nothing to do").code, 0);
    rig.run(&["remove", "--dir", "/opt//actions-runner/"]).expect(0);
    rig.assert_nothing_left();
}
