//! `config.sh` that fails, hangs, lies or talks.

use crate::rig::{Rig, finish, names_in, until};
use runup::sandbox::RunnerChange;
use std::time::Instant;

#[test]
fn a_token_that_expired_on_its_way_is_named() {
    for fault in ["registration-token:expired-token", "runner-registration:expired-token"] {
        let rig = Rig::new();
        rig.faults(&[fault]);
        rig.refuses(77, &[]).says("GitHub did not find the token (404)").hints("expired").hints("one hour");
    }
}

#[test]
fn a_hang_ends_at_the_deadline_with_everything_it_started() {
    for act in ["hang", "hang-after-register"] {
        let rig = Rig::new();
        rig.faults(&[&format!("runner-registration:script={act}")]);
        let began = Instant::now();
        rig.refuses(75, &["--deadline", "8s"]).says("config.sh").says("was stopped").hints("");
        assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
    }
}

/// Each call is tried three times by config.sh itself.
#[test]
fn an_outage_while_it_registers_is_outlived() {
    for fault in
        ["runner-registration:4:status=502", "runner-groups-of-runner:3:status=429", "register:3:status=503"]
    {
        let rig = Rig::new();
        rig.faults(&[fault]);
        rig.run(&["install"]).expect(0).says("trying again in 1 s");
        rig.assert_exactly_one_runner();
        assert_eq!(rig.asked("archive"), 1, "the tree stays");
        assert_eq!(rig.asked("registration-token"), 1, "the token still lives");
        rig.run(&["install"]).expect(0).says("nothing to do");
    }
}

#[test]
fn the_runner_of_a_lost_answer_is_not_a_ghost() {
    for options in [&[][..], &["--name", "box"], &["--name", "box", "--replace"]] {
        let rig = Rig::new();
        rig.faults(&["register:1:lost-answer"]);
        rig.run(&[&["install"], options].concat()).expect(0);
        rig.assert_exactly_one_runner();
    }
    // Without a credential to look with, it is taken over if only this machine can have its name.
    let rig = Rig::new();
    rig.run(&["bake"]).expect(0);
    let file = rig.write("token", rig.ask(&["token", "registration"]).expect(0).stdout);
    rig.faults(&["register:1:lost-answer"]);
    rig.run_without_token(&["install", "--registration-token-file", &file]).expect(0);
    rig.assert_exactly_one_runner();

    let rig = Rig::new();
    rig.run(&["bake"]).expect(0);
    let file = rig.write("token", rig.ask(&["token", "registration"]).expect(0).stdout);
    rig.faults(&["register:1:lost-answer"]);
    let install = ["install", "--name", "box", "--registration-token-file", &file];
    rig.run_without_token(&install).expect(75).says("not undone: the runner may remain on the server: box");
}

/// What the last attempt says of itself says nothing of those before it.
#[test]
fn an_attempt_that_is_refused_does_not_hide_what_an_earlier_one_has_registered() {
    let faults = ["register:1:lost-answer", "runner-registration+1:status=404"];
    for options in [&["--name", "box"][..], &[]] {
        let rig = Rig::new();
        rig.faults(&faults);
        rig.refuses(77, options).says("GitHub did not find the token (404)");
    }
    // Whoever asks to replace whatever has the name may mean another machine's.
    let rig = Rig::new();
    rig.faults(&faults);
    let install = ["install", "--name", "box", "--replace"];
    rig.run(&install).expect(77).says("not undone: the runner may remain on the server: box (id 1)");
    rig.sandbox.faults_clear();
    rig.run(&install).expect(0);
    rig.assert_exactly_one_runner();
    // Nobody can look for it then.
    for options in [&["--name", "box", "--replace"][..], &[]] {
        let rig = Rig::new();
        rig.run(&["bake"]).expect(0);
        let file = rig.write("token", rig.ask(&["token", "registration"]).expect(0).stdout);
        rig.faults(&faults);
        let install = [&["install", "--registration-token-file", &file], options].concat();
        rig.run_without_token(&install).expect(77).says("not undone: the runner may remain on the server");
    }
}

#[test]
fn an_outage_that_lasts_ends_before_the_deadline_and_leaves_nothing() {
    let rig = Rig::new();
    rig.faults(&["register:status=502"]);
    rig.refuses(75, &["--deadline", "8s"]).says("502 (Bad Gateway)").hints("again");
    assert_eq!(rig.asked("archive"), 1);
}

#[test]
#[cfg(unix)]
fn a_signal_ends_the_wait_for_the_next_attempt() {
    let rig = Rig::new();
    rig.faults(&["register:status=502"]);
    let child = rig.start(&["install"]);
    until("it has tried twice", || rig.asked("register") > 3);
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT)
        .unwrap();
    finish(child).expect(130);
    rig.assert_machine_bare();
}

#[test]
fn a_failure_after_registering_leaves_nothing_on_the_server() {
    let rig = Rig::new();
    rig.faults(&["runner-registration:script=fail-after-register"]);
    let ran = rig.refuses(79, &[]).says("failed").says("asked to fail after registering").hints(".log");
    assert!(ran.stderr.contains("[secret]"), "the command is shown, its token is not: {ran:#?}");
    assert_eq!(rig.asked("delete-runner"), 1);
    // What the hint names is there although the tree is not, until there is a runner.
    let state = rig.root().join("var/lib/runup");
    let logs = || names_in(&state).into_iter().filter(|name| name.ends_with(".log")).collect::<Vec<_>>();
    let log = std::fs::read_to_string(state.join(&logs()[0])).unwrap();
    assert!(log.contains("asked to fail after registering"), "{log}");
    rig.sandbox.faults_clear();
    rig.run(&["install"]).expect(0);
    assert_eq!(logs(), [] as [&str; 0]);
}

#[test]
fn a_failure_after_everything_was_done_is_a_warning() {
    let rig = Rig::new();
    rig.faults(&["runner-registration:script=fail-after-runner-file"]);
    rig.run(&["install"]).expect(0).says("warning: config.sh failed");
    rig.assert_exactly_one_runner();
}

#[test]
fn a_success_that_registered_nothing_is_a_failure() {
    let rig = Rig::new();
    rig.faults(&["runner-registration:script=succeed-without-register"]);
    rig.refuses(79, &[]).says("exited 0 but did not register a runner").hints("");
}

#[test]
fn a_runner_that_the_server_does_not_know_is_a_failure() {
    let rig = Rig::new();
    // What config.sh says it registered is not there when it is looked for, by id and in the list.
    rig.faults(&["get-runner:1:status=404", "list-runners+1:1:empty-list"]);
    rig.refuses(79, &[]).says("does not know the runner").hints("again");
}

#[test]
fn a_secret_that_it_prints_is_not_passed_on() {
    let rig = Rig::new();
    rig.faults(&["runner-registration:script=print-secret"]);
    let token = rig.ask(&["token", "registration"]).expect(0).stdout.trim().to_owned();
    let file = rig.write("token", &token);
    let ran = rig.run(&["install", "-v", "--registration-token-file", &file]).expect(0);
    assert!(ran.stderr.contains("debug: the token is [secret]"), "it did print: {ran:#?}");
    assert!(!ran.all().contains(&token), "{ran:#?}");
    // Nor where it fails and its last words are shown.
    let rig = Rig::new();
    rig.faults(&["runner-registration:script=print-secret", "runner-groups-of-runner:status=403"]);
    let token = rig.ask(&["token", "registration"]).expect(0).stdout.trim().to_owned();
    let file = rig.write("token", &token);
    for form in ["--log-format=text", "--log-format=json", "--json"] {
        let arguments = ["install", form, "--token-via", "argv", "--registration-token-file", &file];
        let ran = rig.run(&arguments).expect(79).says("[secret]");
        assert!(!ran.all().contains(&token), "{ran:#?}");
    }
    rig.assert_nothing_left();
}

#[test]
fn a_name_that_is_taken_is_said_before_the_download() {
    let rig = Rig::new().making_a_user();
    let id = rig.sandbox.add_runner(&crate::rig::SCOPE.parse().unwrap(), "box", &[]).unwrap();
    let ran = rig
        .run(&["install", "--name", "BOX"])
        .expect(78)
        .says(&format!("box is already registered (id {id}"));
    ran.hints("--replace").hints("runners delete");
    rig.assert_machine_bare();
    assert_eq!((rig.asked("archive"), rig.state().runners.len()), (0, 1));
    rig.run(&["install", "--name", "BOX", "--replace"]).expect(0);
    rig.assert_exactly_one_runner();
}

/// A container that crashed left no journal, but its runner on the server.
#[test]
fn an_offline_runner_of_the_name_is_replaced_and_a_live_one_is_not() {
    use runup::sandbox::RunnerChange;
    let rig = Rig::new();
    let old = rig.sandbox.add_runner(&crate::rig::SCOPE.parse().unwrap(), "box", &[]).unwrap();
    let is = |online, busy| {
        rig.sandbox
            .change_runner(old, RunnerChange { online: Some(online), busy: Some(busy), ..Default::default() })
    };
    let ids = || rig.state().runners.iter().map(|runner| runner.id).collect::<Vec<_>>();
    let install = ["install", "--name", "Box", "--replace=if-offline"];
    for (online, busy, status) in
        [(true, false, "online"), (true, true, "running a job"), (false, true, "running a job")]
    {
        is(online, busy);
        for command in ["install", "plan"] {
            let ran = rig.run(&[command, "--name", "Box", "--replace=if-offline"]).expect(75);
            ran.says(&format!("box is {status} at {}", rig.url()))
                .says(&format!("id {old}"))
                .hints("offline");
        }
        rig.assert_machine_bare();
        assert_eq!(ids(), [old]);
    }
    is(false, false);
    // It comes back after the first look: what counts is the moment before the registration.
    rig.faults(&["list-runners:1:empty-list"]);
    is(true, false);
    rig.run(&install).expect(75).says("box is online");
    rig.assert_machine_bare();
    assert_eq!(ids(), [old]);
    is(false, false);
    rig.run(&["plan", "--name", "Box"]).expect(78).hints("--replace=if-offline");
    rig.run(&install).expect(0).says(&format!("deleted box (id {old}), which was offline"));
    rig.assert_exactly_one_runner();
    assert_ne!(ids(), [old]);
    // From here on it is the journal's.
    rig.run(&install).expect(0).says("nothing to do");
}

#[test]
fn only_the_server_knows_whether_a_runner_is_offline() {
    let rig = Rig::new();
    let token = rig.ask(&["token", "registration"]).expect(0).stdout.trim().to_owned();
    let file = rig.write("token", &token);
    let arguments = ["install", "--name", "box", "--registration-token-file", &file, "--replace=if-offline"];
    rig.run_without_token(&arguments).expect(77).says("--replace=if-offline").hints("RUNUP_TOKEN");
    rig.assert_machine_bare();
}

#[test]
fn a_name_that_is_taken_meanwhile_stays_with_whoever_took_it() {
    let rig = Rig::new();
    let id = rig.sandbox.add_runner(&crate::rig::SCOPE.parse().unwrap(), "box", &[]).unwrap();
    rig.faults(&["list-runners:1:empty-list"]);
    rig.run(&["install", "--name", "box"]).expect(78).says("the name is taken").hints("--replace");
    rig.assert_machine_bare();
    let runners = rig.state().runners;
    assert_eq!(runners.iter().map(|runner| runner.id).collect::<Vec<_>>(), [id], "it was not ours to delete");
}

#[test]
fn a_group_that_is_not_there_is_named() {
    let rig = Rig::new();
    rig.refuses(78, &["--group", "gpus"]).says("the runner group \"gpus\" does not exist").hints("--group");
    assert_eq!((rig.asked("archive"), rig.asked("registration-token")), (0, 0));
    // By config.sh, where the credential may not list the groups.
    rig.faults(&["runner-groups:1:status=403"]);
    rig.refuses(78, &["--group", "gpus"]).says("the runner group does not exist").hints("--group");
}

#[test]
fn what_is_known_to_fail_is_refused_before_the_first_step_and_by_plan() {
    let rig = Rig::new();
    let nothing_was_done = |rig: &Rig| {
        rig.assert_machine_bare();
        assert_eq!((rig.asked("archive"), rig.asked("registration-token")), (0, 0));
    };
    let file = rig.write("runner.tar.gz", "");
    for (code, says, arguments) in [
        (78, "the runner group", &["--group", "gpus"][..]),
        (69, "2.300.0", &["--runner-version", "2.300.0"]),
        (64, "--sha256", &["--archive", &file]),
        (66, "missing.tar.gz", &["--archive", "/missing.tar.gz", "--accept-unverified"]),
    ] {
        for command in ["install", "plan"] {
            rig.run(&[&[command], arguments].concat()).expect(code).says(says);
            nothing_was_done(&rig);
        }
    }
    rig.run(&["bake", "--archive", &file]).expect(64).says("--sha256");
    nothing_was_done(&rig);
    for command in ["install", "plan"] {
        rig.run_without_token(&[command]).expect(77).says("token");
        nothing_was_done(&rig);
    }
    // A credential that may look, and may not register, is noticed before anything is downloaded.
    rig.faults(&["registration-token:1:status=403"]);
    rig.run(&["install"]).expect(77);
    rig.assert_machine_bare();
    assert_eq!(rig.asked("archive"), 0);
}

#[test]
fn a_failure_may_keep_what_was_done() {
    let rig = Rig::new();
    rig.faults(&["runner-registration:1:script=fail-after-register"]);
    rig.run(&["install", "--keep-on-failure"]).expect(79);
    assert!(rig.dir().join("config.sh").exists());
    assert_eq!(rig.state().runners.len(), 1);
    rig.run(&["status"]).expect(75).says("unfinished");
    rig.routes();
    rig.run(&["install"]).expect(0);
    rig.assert_exactly_one_runner();
    assert_eq!(rig.asked("archive"), 0, "the tree was kept");
}

#[test]
fn what_cannot_be_undone_is_said_and_the_next_run_does_it() {
    let rig = Rig::new();
    rig.faults(&["runner-registration:1:script=fail-after-register", "delete-runner:1:status=403"]);
    let ran = rig.run(&["install"]).expect(79).says("asked to fail after registering").says("not undone: ");
    assert!(ran.stderr.contains("403"), "{ran:#?}");
    assert_eq!(rig.state().runners.len(), 1);
    rig.run(&["remove"]).expect(0);
    rig.assert_nothing_left();
    // Told to wait for longer than the deadline leaves, it names the runner all the same.
    let rig = Rig::new();
    rig.faults(&["runner-registration:1:script=fail-after-register", "delete-runner:1:retry-after=600"]);
    let ran = rig.run(&["install"]).expect(79);
    let name = rig.state().runners[0].name.clone();
    ran.says(&format!("not undone: the server still has the runner {name}")).says("429");
}

#[test]
fn without_a_credential_to_look_with_a_failure_says_what_may_be_left() {
    let rig = Rig::new();
    rig.run(&["bake"]).expect(0);
    rig.faults(&["runner-registration:1:script=fail-after-register"]);
    let file = rig.write("token", rig.ask(&["token", "registration"]).expect(0).stdout);
    let ran = rig.run_without_token(&["install", "--registration-token-file", &file]).expect(79);
    ran.says("not undone: the runner may remain on the server: ");
    // The same again works: the name is ours to take back.
    let file = rig.write("token", rig.ask(&["token", "registration"]).expect(0).stdout);
    rig.run_without_token(&["install", "--registration-token-file", &file]).expect(0);
    rig.assert_exactly_one_runner();
}

#[test]
fn a_runner_that_came_online_meanwhile_is_not_pulled_away() {
    let rig = Rig::new();
    // Between registering and looking, somebody else got that name and started it.
    rig.faults(&["runner-registration:script=hang-after-register"]);
    let child = rig.start(&["install", "--name", "box", "--deadline", "8s"]);
    until("the server has the runner", || !rig.state().runners.is_empty());
    let id = rig.state().runners[0].id;
    rig.sandbox.change_runner(id, RunnerChange { online: Some(true), ..RunnerChange::default() });
    finish(child).expect(75);
    assert_eq!(rig.state().runners.len(), 1);
}
