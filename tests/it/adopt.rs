//! Runners that were set up by hand, as in GitHub's documentation.

use crate::rig::{Ran, Rig, finish, names_in, signal, until};
use runup::lifecycle::checkpoint::Checkpoint;
use runup::sandbox::RunnerChange;
use rustix::process::Signal;
use std::os::unix::fs::{MetadataExt as _, symlink};

const NAME: &str = "box-7";
const UNIT: &str = "actions.runner._services.box-7.service";

/// A machine with a runner that `config.sh` has registered, and that no journal knows.
fn by_hand(options: &[&str]) -> Rig {
    let rig = Rig::new();
    rig.run(&[&["install", "--name", NAME], options].concat()).expect(0);
    let state = rig.root().join("var/lib/runup");
    for name in names_in(&state) {
        std::fs::remove_file(state.join(name)).unwrap();
    }
    let env = std::fs::read_to_string(rig.dir().join(".env")).unwrap_or_default();
    change(&rig, ".env", &format!("{env}CACHE=/srv/cache\n"));
    rig.routes();
    rig
}

/// Changes a file as its owner.
fn change(rig: &Rig, name: &str, text: &str) {
    let path = rig.dir().join(name);
    let owner = std::fs::metadata(&path).map(|meta| (meta.uid(), meta.gid()));
    std::fs::write(&path, text).unwrap();
    if let Ok((uid, gid)) = owner {
        std::os::unix::fs::chown(&path, Some(uid), Some(gid)).unwrap();
    }
}

fn read(rig: &Rig, name: &str) -> String {
    std::fs::read_to_string(rig.dir().join(name)).unwrap()
}

fn id(rig: &Rig) -> u64 {
    rig.state().runners[0].id
}

/// What `svc.sh install` leaves; the unit's path.
fn service(rig: &Rig, unit: &str, dir: &str) -> std::path::PathBuf {
    let text = format!("[Service]\nExecStart={dir}/runsvc.sh\nUser=nobody\nWorkingDirectory={dir}\n");
    let path = rig.write(&format!("etc/systemd/system/{unit}"), text);
    let wants = rig.root().join("etc/systemd/system/multi-user.target.wants");
    std::fs::create_dir_all(&wants).unwrap();
    symlink(format!("/etc/systemd/system/{unit}"), wants.join(unit)).unwrap();
    path.into()
}

/// Refused: the machine and the server are as before.
#[track_caller]
fn refused(rig: &Rig, ran: Ran, code: i32) -> Ran {
    let ran = ran.expect(code);
    let state = names_in(&rig.root().join("var/lib/runup"));
    assert!(state.iter().all(|name| name.ends_with(".lock")), "{state:?}");
    assert!(rig.dir().join(".runner").exists() && read(rig, ".env").contains("CACHE"), "{ran:#?}");
    assert_eq!(names_in(&rig.root().join("opt")), ["actions-runner"]);
    ran
}

#[test]
fn a_runner_that_was_set_up_by_hand_comes_under_runup_and_stays_the_runner_it_is() {
    let rig = by_hand(&["--labels", "gpu,large"]);
    let before = rig.state().runners[0].clone();
    change(&rig, "config.sh", "#!/bin/sh\ntouch /ran-as-root\n");
    rig.run(&["status"]).expect(0);
    let ran = rig.run(&["install", "--adopt", "--name", NAME]).expect(0);
    ran.says(&format!("done: {NAME} is registered")).says("CACHE");
    let after = rig.state().runners[0].clone();
    assert_eq!((after.id, &after.name, &after.labels), (before.id, &before.name, &before.labels));
    rig.assert_exactly_one_runner();
    assert!(!read(&rig, "config.sh").contains("ran-as-root"), "a verified program is in its place");
    assert!(read(&rig, ".env").contains("CACHE=/srv/cache\n"));
    let status = rig.run(&["status", "--json"]).expect(0).json()["runners"][0].clone();
    assert_eq!((&status["state"], &status["journal"]), (&"registered".into(), &true.into()));
    assert_eq!(status["drift"], serde_json::json!([]));
    // From now on it is a runner like any other, whatever the machine's template is.
    rig.run(&["install"]).expect(0).says("nothing to do");
    rig.run(&["install", "--adopt"]).expect(0).says("nothing to do");
    rig.run(&["plan"]).expect(0).says("keep");
    rig.run(&["install", "--name", "other"]).expect(78).says(NAME);
    assert_eq!(id(&rig), before.id);
    rig.run(&["remove"]).expect(0);
    rig.assert_nothing_left();
}

#[test]
fn its_work_directory_has_to_be_confirmed_and_stays() {
    let rig = by_hand(&["--work", "deep/work"]);
    let ran = rig.run(&["install", "--adopt", "--name", NAME]);
    refused(&rig, ran, 78).says("deep/work").hints("--work deep/work");
    rig.run(&["install", "--adopt", "--name", NAME, "--work", "deep/work"]).expect(0);
    rig.run(&["install"]).expect(0).says("nothing to do");
    assert!(read(&rig, ".runner").contains("deep/work"));
}

#[test]
fn plan_shows_what_adopting_would_do_and_does_nothing() {
    let rig = by_hand(&[]);
    let ran = rig.run(&["plan", "--adopt", "--name", NAME]);
    let ran = refused(&rig, ran, 0).says(&format!("take over {NAME} (id {})", id(&rig)));
    ran.says("CACHE").says("verified");
    assert!(!names_in(&rig.root().join("var/lib/runup")).iter().any(|name| name.ends_with(".json")));
}

#[test]
fn without_adopt_it_is_refused_as_before_and_the_hint_names_the_option() {
    let rig = by_hand(&[]);
    let ran = rig.run(&["install", "--name", NAME]);
    refused(&rig, ran, 78).says("was not created by runup").hints("--adopt");
}

#[test]
fn only_what_the_operator_and_the_server_confirm_is_adopted() {
    let rig = by_hand(&[]);
    let adopt = |arguments: &[&str]| rig.run(&[&["install", "--adopt"], arguments].concat());
    refused(&rig, adopt(&[]), 78).says(NAME).hints(&format!("--name {NAME}"));
    refused(&rig, adopt(&["--name", "other"]), 78).says("--name is other").hints(NAME);
    refused(&rig, adopt(&["--name", NAME, "--ephemeral"]), 64).says("--ephemeral");
    refused(&rig, rig.run_without_token(&["install", "--adopt", "--name", NAME]), 77).says("token");

    // A credential goes where the operator says, and never where a file says.
    let mut command =
        rig.command(&["install", "--adopt", "--name", NAME, "--url", "http://127.0.0.1:9/other"]);
    command.arg("--root").arg(rig.root());
    if let Some(user) = rig.user {
        command.args(["--user", user]);
    }
    rig.routes();
    refused(&rig, finish(command.spawn().unwrap()), 78).says("127.0.0.1:9/other").hints("--url");
    assert_eq!(rig.routes(), [] as [&str; 0]);

    // A job has written another runner's id, or an id that nobody has.
    let victim = rig.sandbox.add_runner(&crate::rig::SCOPE.parse().unwrap(), "victim", &[]).unwrap();
    let (good, ours) = (read(&rig, ".runner"), id(&rig));
    for (forged, says) in [(victim, "victim"), (4711, "does not know")] {
        change(
            &rig,
            ".runner",
            &good.replace(&format!("\"agentId\": {ours}"), &format!("\"agentId\": {forged}")),
        );
        refused(&rig, adopt(&["--name", NAME]), 78).says(says);
    }
    // Or takes its name along, too.
    let forged = good.replace(&format!("\"agentId\": {ours}"), &format!("\"agentId\": {victim}"));
    change(&rig, ".runner", &forged.replace(NAME, "victim"));
    refused(&rig, adopt(&["--name", NAME]), 78).says("victim");
    change(&rig, ".runner", &good);
    assert_eq!(rig.state().runners.len(), 2);
    assert!(rig.sandbox.change_runner(ours, RunnerChange { deleted: true, ..Default::default() }));
    refused(&rig, adopt(&["--name", NAME]), 78).says("does not know").hints("runup remove");
}

#[test]
fn a_failure_leaves_the_runner_as_it_was() {
    let rig = by_hand(&[]);
    for fault in ["archive:status=404", "downloads:status=403"] {
        rig.faults(&[fault]);
        let ran = rig.run(&["install", "--adopt", "--name", NAME, "--deadline", "10s"]);
        assert_ne!(ran.code, 0, "{fault}");
        let code = ran.code;
        refused(&rig, ran, code);
        rig.sandbox.faults_clear();
    }
    rig.run(&["install", "--adopt", "--name", NAME]).expect(0);
}

#[test]
fn a_hook_that_jobs_could_have_written_is_refused_before_anything_happens() {
    let rig = by_hand(&[]);
    let env = read(&rig, ".env");
    change(&rig, ".env", &format!("{env}ACTIONS_RUNNER_HOOK_JOB_STARTED=/opt/missing.sh\n"));
    let ran = rig.run(&["install", "--adopt", "--name", NAME]);
    refused(&rig, ran, 78).says("/opt/missing.sh");
}

#[test]
fn an_adoption_killed_anywhere_is_finished_by_the_next_run() {
    let reached = [
        Checkpoint::AdoptBegun,
        Checkpoint::AdoptStopped,
        Checkpoint::PlaceStaged,
        Checkpoint::PlaceRenamed,
        Checkpoint::AdoptConcluded,
    ];
    for cut in reached {
        for then in ["install", "remove"] {
            let rig = by_hand(&["--labels", "gpu"]);
            let before = id(&rig);
            rig.die_at(cut, &["install", "--adopt", "--name", NAME]);
            rig.run(&[then]).expect(0);
            if then == "remove" {
                rig.assert_nothing_left();
                continue;
            }
            rig.assert_exactly_one_runner();
            assert_eq!(id(&rig), before, "{}", cut.name());
            assert_eq!(names_in(&rig.root().join("opt")), ["actions-runner"], "{}", cut.name());
            rig.run(&["install"]).expect(0).says("nothing to do");
            assert_eq!(rig.run(&["status", "--json"]).expect(0).json()["runners"][0]["state"], "registered");
        }
    }
}

/// As root, the next start locks the tree, with a new registration of the same runner in it.
#[test]
fn an_adopted_runner_is_converted_like_any_other() {
    let rig = by_hand(&["--labels", "gpu"]);
    rig.run(&["install", "--adopt", "--name", NAME]).expect(0);
    let before = rig.state().runners[0].clone();
    let child = rig.start(&["run"]);
    until("it is online", || rig.state().runners.first().is_some_and(|runner| runner.online));
    signal(&child, Signal::TERM);
    finish(child).expect(0);
    let after = rig.state().runners[0].clone();
    assert_eq!((after.id, after.labels), (before.id, before.labels));
    if rustix::process::geteuid().is_root() {
        assert_eq!(std::fs::metadata(rig.dir().join("config.sh")).unwrap().uid(), 0);
    }
    rig.run(&["remove"]).expect(0);
    rig.assert_nothing_left();
}

#[test]
fn remove_takes_the_service_of_svc_sh_along_and_no_other() {
    let rig = by_hand(&[]);
    let unit = service(&rig, UNIT, "/opt/actions-runner");
    let others = [
        service(&rig, "actions.runner._services.other.service", "/opt/actions-runner-2"),
        service(&rig, "ssh.service", "/usr"),
    ];
    // A job may write any name there.
    std::fs::write(rig.dir().join(".service"), "ssh.service\n").unwrap();
    // The unit's name is what root called the runner, so it needs no confirmation.
    rig.run(&["remove"]).expect(0).says(UNIT);
    assert!(!unit.exists() && others.iter().all(|other| other.exists()));
    assert_eq!(
        names_in(&rig.root().join("etc/systemd/system/multi-user.target.wants")),
        ["actions.runner._services.other.service", "ssh.service"]
    );
    rig.assert_nothing_left();
}

#[test]
fn a_removal_with_its_service_that_is_killed_anywhere_is_finished_by_the_next() {
    for cut in [Checkpoint::AdoptConcluded, Checkpoint::RemoveDeregistered, Checkpoint::RemoveCleaned] {
        let rig = by_hand(&[]);
        let unit = service(&rig, UNIT, "/opt/actions-runner");
        rig.die_at(cut, &["remove"]);
        rig.run(&["remove"]).expect(0);
        assert!(!unit.exists());
        rig.assert_nothing_left();
    }
}

#[test]
fn a_service_that_runup_cannot_replace_keeps_its_runner() {
    let rig = by_hand(&[]);
    let unit = service(&rig, UNIT, "/opt/actions-runner");
    let ran = rig.run(&["install", "--adopt"]);
    refused(&rig, ran, 78).says(UNIT);
    let ran = rig.run(&["install", "--adopt", "--service", "none"]);
    refused(&rig, ran, 78).says("--service none");
    service(&rig, "second.service", "/opt/actions-runner");
    let ran = rig.run(&["remove"]);
    refused(&rig, ran, 78).says("second.service");
    assert!(unit.exists());
}

#[test]
fn root_adopts_nothing_that_another_user_could_swap() {
    let rig = by_hand(&[]);
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let home = rig.root().join("home/nobody");
    std::fs::create_dir_all(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(65534), None).unwrap();
    std::fs::rename(rig.dir(), home.join("runner")).unwrap();
    let ran = rig.run(&["install", "--adopt", "--dir", "/home/nobody/runner", "--name", NAME]);
    ran.expect(78).says("swap the runner").hints("/opt");
    assert!(home.join("runner/.runner").exists());
}
