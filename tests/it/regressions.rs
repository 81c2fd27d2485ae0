//! Defects that were found once. Each test says what must never happen again.

use crate::rig::{Rig, finish, names_in};
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
    // The runner's user cannot read its way down: that is refused before the step has begun.
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
    rig.run(&["status"]).expect(78).says("another machine");
    rig.run(&["remove"]).expect(0).says("another machine");
    assert_eq!(rig.state().runners.len(), 1, "the first machine's runner is untouched");
    rig.assert_machine_bare();
}

#[test]
fn taking_a_name_over_fails_without_deleting_its_owner() {
    let rig = Rig::new();
    rig.add_offline_runner("box");
    fault(&rig, "registration-token:status=403");
    rig.run(&["install", "--name", "box", "--replace"]).expect(77);
    assert_eq!(rig.state().runners.len(), 1, "config.sh --replace had not run");
}

/// A slash at the end, as a shell completes it, is the same directory.
#[test]
fn a_folder_with_a_slash_behind_it_has_the_same_journal() {
    let rig = Rig::new();
    rig.run(&["install", "--dir", "/opt/actions-runner/"]).expect(0);
    assert_eq!(rig.run(&["install", "--dir", "/opt/actions-runner"]).expect(0).says("nothing to do").code, 0);
    rig.run(&["remove", "--dir", "/opt//actions-runner/"]).expect(0);
    rig.assert_nothing_left();
}

/// The runner is there, and nobody has written down how it came there.
fn forget_the_journal(rig: &Rig) {
    let state = rig.root().join("var/lib/runup");
    for name in names_in(&state).into_iter().filter(|name| name.ends_with(".json")) {
        std::fs::remove_file(state.join(name)).unwrap();
    }
}

fn rewrite(rig: &Rig, file: &str, edit: impl FnOnce(String) -> String) {
    let path = rig.dir().join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, edit(text)).unwrap();
}

#[test]
fn a_host_that_a_job_wrote_into_the_tree_never_gets_the_credential() {
    let rig = Rig::new();
    let evil = Rig::new();
    rig.run(&["install"]).expect(0);
    forget_the_journal(&rig);
    rewrite(&rig, ".runner", |text| {
        text.replace(rig.sandbox.base_url().as_str(), evil.sandbox.base_url().as_str())
    });
    let remove = |token: bool| {
        let mut command = rig.command(&["remove", "--root", rig.root().to_str().unwrap()]);
        if !token {
            command.env_remove("RUNUP_TOKEN").env("RUNUP_REMOVE_TOKEN", "worthless");
        }
        finish(command.spawn().unwrap())
    };
    // Adopts the runner and fails, so that what it adopted stays in the journal.
    assert_ne!(remove(false).code, 0);
    evil.sandbox.requests_clear();
    remove(true).expect(78).says("--url");
    assert_eq!(evil.routes(), [] as [&str; 0]);
    assert_eq!(rig.state().runners.len(), 1);
}

#[test]
fn adopting_deletes_no_folder_that_holds_other_things() {
    let rig = Rig::new();
    rig.run(&["install"]).expect(0);
    forget_the_journal(&rig);
    // Somebody had unpacked the runner into a home directory.
    std::fs::write(rig.dir().join("thesis.tex"), "years").unwrap();
    rig.run(&["remove"]).expect(78).says("thesis.tex");
    assert_eq!(rig.state().runners.len(), 1, "nothing was begun");
    std::fs::remove_file(rig.dir().join("thesis.tex")).unwrap();
    rig.run(&["remove"]).expect(0);
    rig.assert_nothing_left();
}

#[test]
fn adopting_follows_no_link_and_believes_no_broken_registration() {
    let rig = Rig::new();
    rig.run(&["install"]).expect(0);
    forget_the_journal(&rig);
    let link = rig.root().join("opt/link");
    std::os::unix::fs::symlink("actions-runner", &link).unwrap();
    rig.run(&["remove", "--dir", "/opt/link"]).expect(78).says("symbolic link");
    assert!(link.is_symlink());
    std::fs::remove_file(link).unwrap();

    let good = std::fs::read_to_string(rig.dir().join(".runner")).unwrap();
    rewrite(&rig, ".runner", |_| "gone".into());
    rig.run(&["remove"]).expect(78).says(".runner");
    assert!(rig.dir().exists() && rig.state().runners.len() == 1, "the server would have kept it for ever");
    rewrite(&rig, ".runner", |_| good.replace("\"agentName\": \"", "\"agentName\": \"\\u001b]0;"));
    let ran = rig.run(&["remove"]).expect(78);
    assert!(!ran.stderr.contains('\u{1b}'), "{ran:#?}");
}

#[test]
fn a_journal_without_entries_does_not_make_remove_claim_success() {
    let rig = Rig::new();
    rig.run(&["install"]).expect(0);
    let state = rig.root().join("var/lib/runup");
    let name = names_in(&state).into_iter().find(|name| name.ends_with(".json")).unwrap();
    let empty = r#"{"version":1,"dir":"/opt/actions-runner","entries":[]}"#;
    std::fs::write(state.join(name), empty).unwrap();
    rig.run(&["remove"]).expect(0);
    rig.assert_nothing_left();
}

#[test]
fn a_job_cannot_keep_its_runner_from_being_removed() {
    let rig = Rig::new();
    rig.run(&["install"]).expect(0);
    for name in [".credentials", ".runner_migrated", ".service"] {
        let _ = std::fs::remove_file(rig.dir().join(name));
        std::fs::create_dir(rig.dir().join(name)).unwrap();
        std::fs::write(rig.dir().join(name).join("file"), "").unwrap();
    }
    rig.run(&["remove"]).expect(0);
    rig.assert_nothing_left();
}

#[test]
fn a_forged_service_file_takes_no_service_along_and_a_real_one_does() {
    let rig = Rig::new();
    rig.run(&["install"]).expect(0);
    let units = rig.root().join("etc/systemd/system");
    std::fs::create_dir_all(&units).unwrap();
    std::fs::write(units.join("ssh.service"), "[Service]\nExecStart=/usr/sbin/sshd -D\n").unwrap();
    std::fs::write(units.join("runner.service"), "[Service]\nExecStart=/opt/actions-runner/runsvc.sh\n")
        .unwrap();
    std::fs::write(rig.dir().join(".service"), "ssh.service\n").unwrap();
    rig.run(&["remove"]).expect(0).says("runner.service");
    assert_eq!(names_in(&units), ["ssh.service"]);
    rig.assert_nothing_left();
}

#[test]
fn root_runs_no_script_that_somebody_else_can_write() {
    if !geteuid().is_root() {
        return;
    }
    let rig = Rig::new();
    rig.run(&["install"]).expect(0);
    // As after `mkdir` by root and `tar` by somebody else: the directory is root's, what is in it is not.
    std::os::unix::fs::chown(rig.dir(), Some(0), Some(0)).unwrap();
    let proof = rig.root().join("ran-as-root");
    rewrite(&rig, "config.sh", |_| format!("#!/bin/sh\nid -u > {}\n", proof.display()));
    rig.run(&["remove"]).expect(0);
    assert!(!proof.exists());
    rig.assert_nothing_left();
}

#[test]
fn the_user_of_two_runners_goes_with_the_last_one() {
    let rig = Rig::new().making_a_user();
    if !rig.makes_a_user() {
        return;
    }
    let passwd = || std::fs::read_to_string(rig.root().join("etc/passwd")).unwrap();
    // At once: one of them makes the user, the other one finds it.
    let start = |dir, name| rig.on_machine(&["install", "--dir", dir, "--name", name]).spawn().unwrap();
    let both = [start("/opt/one", "one"), start("/opt/two", "two")];
    for child in both {
        finish(child).expect(0);
    }
    rig.run(&["remove", "--dir", "/opt/one"]).expect(0);
    assert!(passwd().contains("fresh"), "the other runner works as that user");
    rig.run(&["remove", "--dir", "/opt/two"]).expect(0);
    rig.assert_nothing_left();

    // A run that fails takes back only a user that it has made itself.
    finish(start("/opt/one", "one")).expect(0);
    fault(&rig, "registration-token:status=403");
    finish(start("/opt/two", "two")).expect(77);
    assert!(passwd().contains("fresh"));
    rig.sandbox.faults_clear();
    rig.run(&["remove", "--dir", "/opt/one"]).expect(0);
    rig.assert_nothing_left();
}

#[test]
fn a_link_in_an_image_does_not_lead_root_out_of_it() {
    let rig = Rig::new();
    let outside = tempfile::tempdir().unwrap();
    std::fs::set_permissions(outside.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let place = outside.path().strip_prefix("/").unwrap();
    // Where temporary directories are below one of them, a link there would lead to itself.
    let links =
        [("opt", "actions-runner"), ("var", "lib")].into_iter().filter(|(name, _)| !place.starts_with(name));
    let made: Vec<&str> = links
        .map(|(name, made)| {
            std::os::unix::fs::symlink(outside.path(), rig.root().join(name)).unwrap();
            made
        })
        .collect();
    rig.run(&["bake"]).expect(0);
    assert_eq!(names_in(outside.path()), [] as [&str; 0]);
    let mut here = names_in(&rig.root().join(place));
    // Root's image has verified copies beside the runner.
    here.retain(|name| name != ".runup-store");
    assert_eq!(here, made);
}

#[test]
fn root_does_not_work_in_a_folder_where_a_job_can_swap_its_runner() {
    if !geteuid().is_root() {
        return;
    }
    let rig = Rig::new();
    // Sticky, as /tmp: but the runner's directory belongs to the runner's user.
    let open = rig.root().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o1777)).unwrap();
    rig.run(&["install", "--dir", "/open/runner"]).expect(78).says("refusing to work below");
    rig.run(&["install", "--dir", "/open/mine/runner"]).expect(0);
    rig.run(&["remove", "--dir", "/open/mine/runner"]).expect(0);

    // A link that somebody else can turn round, to a directory that is fine.
    std::fs::create_dir_all(rig.root().join("srv")).unwrap();
    let link = open.join("link");
    std::os::unix::fs::symlink("../srv", &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(65534), None).unwrap();
    let dir = link.join("runner");
    let mut command =
        rig.command(&["bake", "--user", "nobody", "--url", &rig.url(), "--dir", dir.to_str().unwrap()]);
    finish(command.spawn().unwrap()).expect(78).says("refusing to work below");
}

#[test]
fn what_is_no_folder_is_said_to_be_none_and_nothing_is_made() {
    let rig = Rig::new();
    rig.run(&["install", "--dir", "/etc/passwd"]).expect(78).says("it is not a directory");
    rig.run(&["install", "--dir", "/etc/passwd/x"]).expect(73).says("is in the way");
    rig.run(&["remove", "--dir", "/etc/passwd"]).expect(78).says("there is no runner");
    rig.run(&["status", "--dir", "/etc/passwd"]).expect(69).says("absent");
    let missing = rig.root().join("missing");
    let mut command = rig.command(&["bake", "--url", &rig.url(), "--root", missing.to_str().unwrap()]);
    finish(command.spawn().unwrap()).expect(64).says("is not a directory");
    assert!(!missing.exists());
}

#[test]
fn a_user_name_that_no_tool_takes_leaves_nothing_to_undo() {
    let rig = Rig::new().making_a_user();
    if !rig.makes_a_user() {
        return;
    }
    let root = rig.root().to_str().unwrap();
    let mut command = rig.command(&["bake", "--url", &rig.url(), "--root", root, "--user", "No Such"]);
    let ran = finish(command.spawn().unwrap()).expect(64).says("not a usable user name");
    assert!(!ran.stderr.contains("not undone"), "{ran:#?}");
    rig.assert_nothing_left();
}

#[test]
fn a_disk_that_is_mounted_in_the_runner_is_not_emptied() {
    let rig = Rig::new();
    rig.run(&["install"]).expect(0);
    let disk = tempfile::tempdir().unwrap();
    std::fs::write(disk.path().join("cache"), "precious").unwrap();
    let work = rig.dir().join("_work");
    std::fs::create_dir_all(&work).unwrap();
    let mount = |command: &str, arguments: &[&std::path::Path]| {
        let ran = std::process::Command::new(command).args(arguments).output();
        ran.is_ok_and(|ran| ran.status.success())
    };
    if !mount("mount", &["--bind".as_ref(), disk.path(), &work]) {
        println!("skipped: may not mount");
        return;
    }
    let refused = rig.run(&["remove"]);
    let precious = disk.path().join("cache").exists();
    assert!(mount("umount", &[&work]));
    refused.expect(78).says("mounted");
    assert!(precious);
    assert_eq!(rig.state().runners.len(), 1, "nothing was begun");
    rig.run(&["remove"]).expect(0);
    rig.assert_nothing_left();
}
