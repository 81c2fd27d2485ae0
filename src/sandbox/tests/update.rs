//! Tests the runner's self-updates: requested by the server, done by the listener and its script.

use super::super::{Background, Fault, FaultKind, Update};
use super::config::{Runner, text};
use super::listener::{Listener, acme, configured, online};
use super::{call_with, sandbox, until};
use std::path::Path;

fn version(sandbox: &Background) -> String {
    sandbox.state().runners[0].version.clone()
}

fn is_link_to(runner: &Runner, link: &str, target: &str) -> bool {
    std::fs::read_link(runner.path().join(link)).is_ok_and(|found| found == runner.path().join(target))
}

fn updated(sandbox: &Background, runner: &Runner, to: &str) -> bool {
    // The server knows the new version once the new listener has opened its session.
    online(sandbox) && version(sandbox) == to && is_link_to(runner, "bin", &format!("bin.{to}"))
}

/// The names in the runner's directory that start like this.
fn names(dir: &Path, start: &str) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|one| one.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(start)).collect();
    names.sort();
    names
}

#[test]
fn a_listener_stages_its_update_and_the_script_exchanges_the_directories() {
    let sandbox = sandbox();
    let runner = configured(&sandbox, &[]);
    let offer = r#"{"version":"2.337.0"}"#;
    assert_eq!(call_with(&sandbox, "POST", "/_sandbox/updates", offer).status, 204);
    assert_eq!(call_with(&sandbox, "POST", "/_sandbox/updates", r#"{"version":"new"}"#).status, 422);
    let output = Listener::start(&runner, "bin/Runner.Listener", &["run"]).end();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("Downloading 2.337.0 runner"));
    assert!(!online(&sandbox), "it has ended its session");
    until("the script is through", || runner.has("update.finished"));
    for part in ["bin", "externals"] {
        assert!(is_link_to(&runner, part, &format!("{part}.2.337.0")), "{part}");
        assert_eq!(
            names(runner.path(), &format!("{part}.")),
            [format!("{part}.2.336.0"), format!("{part}.2.337.0")]
        );
    }
    assert!(runner.has("_work/_update.sh"));
    until("its log says so", || {
        names(&runner.path().join("_diag"), "SelfUpdate-").iter().any(|name| name.ends_with(".log.succeed"))
    });
    let new = Listener::start(&runner, "bin/Runner.Listener", &["--version"]).end();
    assert_eq!(text(&new), "2.337.0\n");
}

#[test]
fn a_service_lives_through_updates_and_no_third_version_stays() {
    lives_through_updates("bin/runsvc.sh");
}

#[test]
fn run_sh_lives_through_updates_and_no_third_version_stays() {
    lives_through_updates("run.sh");
}

fn lives_through_updates(program: &str) {
    let sandbox = sandbox();
    let runner = configured(&sandbox, &[]);
    let listener = Listener::start(&runner, program, &[]);
    until("online", || online(&sandbox));
    for to in ["2.337.0", "2.338.0"] {
        sandbox.offer_update(Update::to(to));
        until(to, || updated(&sandbox, &runner, to));
        let job = sandbox.add_job(&acme(), "after the update", 0);
        until("a job is done", || sandbox.state().jobs.iter().any(|it| it.id == job && it.done));
    }
    assert_eq!(names(runner.path(), "bin."), ["bin.2.337.0", "bin.2.338.0"]);
    assert_eq!(sandbox.state().runners.len(), 1);
    if program == "bin/runsvc.sh" {
        // Its listener has its own process group, and exits with it only after a signal.
        listener.signal("-TERM");
        assert_eq!(listener.end().status.code(), Some(0));
    }
}

#[test]
fn an_ephemeral_runner_updates_itself_before_its_job() {
    let sandbox = sandbox();
    let runner = configured(&sandbox, &["--ephemeral"]);
    sandbox.offer_update(Update::to("2.337.0"));
    sandbox.add_job(&acme(), "only", 0);
    let output = Listener::start(&runner, "bin/Runner.Listener", &["run"]).end();
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    assert!(!sandbox.state().jobs[0].done);
    until("the script is through", || runner.has("update.finished"));
    let output = Listener::start(&runner, "bin/Runner.Listener", &["run"]).end();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(sandbox.state().jobs[0].done);
}

#[test]
fn who_asked_not_to_be_updated_or_is_new_enough_is_left_alone() {
    for (arguments, version) in [(&["--disableupdate"][..], "2.337.0"), (&[], "2.336.0"), (&[], "2.99.0")] {
        let sandbox = sandbox();
        let runner = configured(&sandbox, arguments);
        sandbox.offer_update(Update::to(version));
        sandbox.add_job(&acme(), "job", 0);
        let _listener = Listener::start(&runner, "bin/Runner.Listener", &["run"]);
        until("the job is done", || sandbox.state().jobs[0].done);
        assert_eq!(sandbox.state().runners[0].version, "2.336.0");
        assert!(!runner.has("_work/_update"));
    }
}

#[test]
fn a_broken_archive_is_no_update() {
    let sandbox = sandbox();
    let runner = configured(&sandbox, &[]);
    sandbox.fault(Fault::new("mirror", FaultKind::Corrupt { at: 5000 }).times(1));
    sandbox.offer_update(Update::to("2.337.0"));
    let output = Listener::start(&runner, "bin/Runner.Listener", &["run"]).end();
    assert!(text(&output).contains("hash does not match"), "{}", text(&output));
    assert_eq!(output.status.code(), Some(3), "the second attempt is a good one: {}", text(&output));
}

#[test]
fn an_update_that_is_cut_off_leaves_half_a_runner() {
    let sandbox = sandbox();
    let runner = configured(&sandbox, &[]);
    sandbox.offer_update(Update::to("2.337.0").cut_off());
    let output = Listener::start(&runner, "bin/Runner.Listener", &["run"]).end();
    assert_eq!(output.status.code(), Some(3));
    until("the old directory is away", || !runner.has("bin"));
    assert!(runner.has("bin.2.336.0") && runner.has("bin.2.337.0") && !runner.has("update.finished"));
    assert!(runner.has("externals") && runner.has(".runner"));
}
