//! Registrations of which nobody knows whether the server has them: nothing of another machine's is touched, and what may
//! be left is said, or taken over by the next run.

use crate::rig::{Rig, finish, until};
use runup::lifecycle::checkpoint::Checkpoint;
use runup::sandbox::RunnerChange;

fn names(rig: &Rig) -> Vec<String> {
    rig.state().runners.iter().map(|runner| format!("{} {}", runner.id, runner.name)).collect()
}

/// A baked machine with nothing but a registration token, in this file.
fn one_token() -> (Rig, String) {
    let rig = Rig::new();
    rig.run(&["bake"]).expect(0);
    let file = rig.write("token", rig.ask(&["token", "registration"]).expect(0).stdout);
    (rig, file)
}

#[test]
fn the_next_run_knows_what_a_killed_one_may_have_registered() {
    for (fault, code) in [("runner-registration:status=404", 77), ("runner-registration:status=502", 75)] {
        let (rig, file) = one_token();
        let install = ["install", "--deadline", "20s", "--registration-token-file", &file];
        let mut first = rig.on_machine(&install);
        first.env_remove("RUNUP_TOKEN");
        rig.die_once_registered(&mut first);
        rig.faults(&[fault]);
        rig.run_without_token(&install).expect(code).says("not undone: the runner may remain on the server");
        rig.sandbox.faults_clear();
        rig.run_without_token(&install).expect(0);
        rig.assert_exactly_one_runner();
    }
}

#[test]
fn a_runner_that_the_list_does_not_show_yet_is_not_forgotten() {
    let rig = Rig::new();
    rig.run(&["bake"]).expect(0);
    rig.die_once_registered(&mut rig.on_machine(&["install"]));
    rig.faults(&["list-runners:1:empty-list"]);
    rig.run(&["install"]).expect(78).says("the name is taken");
    rig.sandbox.faults_clear();
    rig.run(&["install"]).expect(0);
    rig.assert_exactly_one_runner();
}

#[test]
fn a_replacement_outlives_an_outage() {
    let rig = Rig::new();
    rig.add_offline_runner("box");
    rig.faults(&["register:3:status=502"]);
    rig.run(&["install", "--name", "box", "--replace"]).expect(0).says("trying again");
    rig.assert_exactly_one_runner();

    // So does taking over what an earlier attempt, or an earlier run, has registered.
    let (rig, file) = one_token();
    rig.faults(&["register:1:lost-answer", "register+2:3:status=502"]);
    let install = ["install", "--registration-token-file", &file];
    rig.run_without_token(&install).expect(0);
    rig.assert_exactly_one_runner();
    let (rig, file) = one_token();
    let install = ["install", "--registration-token-file", &file];
    let mut first = rig.on_machine(&install);
    first.env_remove("RUNUP_TOKEN");
    rig.die_once_registered(&mut first);
    rig.faults(&["register:3:status=502"]);
    rig.run_without_token(&install).expect(0);
    rig.assert_exactly_one_runner();
}

#[test]
fn another_machine_that_takes_the_name_between_two_attempts_keeps_it() {
    for route in ["runner-groups-of-runner", "register"] {
        let rig = Rig::new();
        rig.faults(&[&format!("{route}:3:status=502")]);
        let child = rig.start(&["install", "--name", "box"]);
        until("it has tried three times", || rig.asked(route) >= 3);
        rig.add_offline_runner("box");
        let theirs = names(&rig);
        finish(child).expect(78).says("not undone: the runner may remain on the server: box");
        assert_eq!(names(&rig), theirs, "{route}");
    }
}

#[test]
fn a_runner_that_could_not_be_replaced_stays() {
    let rig = Rig::new();
    rig.add_offline_runner("box");
    let theirs = names(&rig);
    rig.faults(&["register:3:status=502", "runner-registration+1:status=404"]);
    let install = ["install", "--name", "box", "--replace"];
    rig.run(&install).expect(77).says("not undone: the runner may remain on the server: box");
    assert_eq!(names(&rig), theirs);
    rig.sandbox.faults_clear();
    rig.run(&install).expect(0);
    rig.assert_exactly_one_runner();
}

#[test]
fn what_cannot_be_told_from_another_machine_s_is_said_to_be_left() {
    let lost = ["register:1:lost-answer", "register+1:2:status=502"];
    for (more, code) in [(None, 78), (Some("runner-registration+1:status=404"), 77)] {
        let rig = Rig::new();
        rig.faults(&lost.into_iter().chain(more).collect::<Vec<_>>());
        let ran = rig.run(&["install", "--name", "box"]).expect(code);
        ran.says("not undone: the runner may remain on the server: box (id 1)");
        assert_eq!(names(&rig), ["1 box"]);
        rig.sandbox.faults_clear();
        // With --replace, it is this machine's again.
        rig.run(&["install", "--name", "box", "--replace"]).expect(0);
        rig.assert_exactly_one_runner();
    }
}

fn set_online(rig: &Rig, online: bool) {
    let id = rig.state().runners[0].id;
    rig.sandbox.change_runner(id, RunnerChange { online: Some(online), ..RunnerChange::default() });
}

#[test]
fn what_was_left_alone_once_is_left_alone_later() {
    let rig = Rig::new();
    rig.faults(&["register:delay=2000", "register:status=403"]);
    let child = rig.start(&["install", "--name", "box"]);
    rig.until_asked("register");
    rig.add_offline_runner("box");
    set_online(&rig, true);
    let theirs = names(&rig);
    finish(child).expect(79).says("not undone: the runner may remain on the server: box");
    rig.sandbox.faults_clear();
    // Their machine is off.
    set_online(&rig, false);
    rig.run(&["install", "--name", "box"]).expect(78);
    assert_eq!(names(&rig), theirs);
    rig.run(&["remove"]).expect(0);
    assert_eq!(names(&rig), theirs);
}

/// A run that is killed when config.sh has its key, and has registered nothing.
fn killed_with_a_key() -> Rig {
    let rig = Rig::new();
    rig.faults(&["register:status=403"]);
    rig.die_at(Checkpoint::RegisterConfigured, &["install", "--name", "box"]);
    rig.sandbox.faults_clear();
    assert!(rig.dir().join(".credentials_rsaparams").exists());
    rig
}

#[test]
fn a_name_that_another_machine_takes_after_a_killed_run_is_that_machine_s() {
    let rig = killed_with_a_key();
    rig.sandbox.requests_clear();
    rig.faults(&["runner-registration:delay=2000"]);
    let child = rig.start(&["install", "--name", "box"]);
    rig.until_asked("runner-registration");
    rig.add_offline_runner("box");
    let theirs = names(&rig);
    finish(child).expect(78).says("not undone: the runner may remain on the server: box");
    assert_eq!(names(&rig), theirs);
}

#[test]
fn an_old_key_proves_nothing() {
    let rig = killed_with_a_key();
    rig.add_offline_runner("box");
    let theirs = names(&rig);
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(2 * 3600);
    let key = std::fs::File::options().append(true).open(rig.dir().join(".credentials_rsaparams")).unwrap();
    key.set_modified(then).unwrap();
    rig.run(&["install", "--name", "box"]).expect(78);
    rig.run(&["remove"]).expect(0);
    assert_eq!(names(&rig), theirs);
}
