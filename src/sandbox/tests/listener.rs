//! Tests the fake listener: going online, jobs, exits.

#![cfg(unix)]

use super::super::{Background, Scope};
use super::config::{Runner, text};
use super::{call_with, sandbox, until};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

pub(super) fn configured(sandbox: &Background, more: &[&str]) -> Runner {
    let runner = Runner::unpack(sandbox);
    let output = runner.configure(sandbox, more);
    assert!(output.status.success(), "{}", text(&output));
    runner
}

/// A listener in its own process group, which is killed when this is dropped, so that a failed test leaves no process.
pub(super) struct Listener(Option<Child>);

impl Listener {
    pub fn start(runner: &Runner, program: &str, arguments: &[&str]) -> Self {
        Self::of(runner.command(program).args(arguments))
    }

    pub fn of(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        Self(Some(command.spawn().unwrap()))
    }

    /// The same, with pipes that are closed at their other end.
    pub fn unread(runner: &Runner, program: &str, arguments: &[&str]) -> Self {
        let mut listener = Self::start(runner, program, arguments);
        let child = listener.0.as_mut().unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        listener
    }

    pub fn signal(&self, signal: &str) {
        let id = self.0.as_ref().unwrap().id();
        Command::new("kill").args([signal, &id.to_string()]).status().unwrap();
    }

    pub fn end(mut self) -> Output {
        until("the listener ends", || self.0.as_mut().unwrap().try_wait().unwrap().is_some());
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let group = format!("-{}", child.id());
            drop(Command::new("kill").args(["-KILL", "--", &group]).status());
            drop(child.wait());
        }
    }
}

/// Sends SIGINT to the listener of this runner, which a script started.
pub(super) fn interrupt(runner: &Runner) {
    let program =
        format!("^/bin/bash {}/bin/Runner.Listener run", runner.path().canonicalize().unwrap().display());
    until("a listener runs", || {
        let found = Command::new("pgrep").args(["--oldest", "--full", &program]).output().unwrap();
        let pid = String::from_utf8(found.stdout).unwrap();
        !pid.is_empty() && Command::new("kill").args(["-INT", pid.trim()]).status().unwrap().success()
    });
}

/// Its exit code, or 128 plus the signal that killed it.
pub(super) fn death(output: &Output) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    output.status.code().or(output.status.signal().map(|signal| 128 + signal)).unwrap()
}

pub(super) fn acme() -> Scope {
    "orgs/acme".parse().unwrap()
}

pub(super) fn online(sandbox: &Background) -> bool {
    sandbox.state().runners.first().is_some_and(|runner| runner.online)
}

#[test]
fn it_goes_online_takes_a_job_and_goes_offline_on_a_signal() {
    let sandbox = sandbox();
    let runner = configured(&sandbox, &[]);
    let listener = Listener::start(&runner, "bin/Runner.Listener", &["run"]);
    until("online", || online(&sandbox));
    let job = r#"{"scope":"orgs/acme","name":"test","seconds":1}"#;
    assert_eq!(call_with(&sandbox, "POST", "/_sandbox/jobs", job).status, 201);
    until("busy", || sandbox.state().runners[0].busy);
    until("done", || sandbox.state().jobs[0].done);
    assert!(!sandbox.state().runners[0].busy && online(&sandbox));
    listener.signal("-INT");
    let output = listener.end();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("Running job: test") && text(&output).contains("Listening for Jobs"));
    assert!(!online(&sandbox) && runner.has(".runner"));
}

#[test]
fn an_ephemeral_runner_is_gone_after_one_job() {
    let sandbox = sandbox();
    let runner = configured(&sandbox, &["--ephemeral"]);
    sandbox.add_job(&acme(), "only", 0);
    sandbox.add_job(&acme(), "never", 0);
    let output = Listener::start(&runner, "run.sh", &[]).end();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let state = sandbox.state();
    assert!(state.runners.is_empty() && state.jobs[0].done && !state.jobs[1].done);
    assert!(!runner.has(".runner") && !runner.has(".credentials") && runner.has("svc.sh"));
}

#[test]
fn a_runner_that_is_deleted_behind_its_back_cleans_up() {
    let sandbox = sandbox();
    let runner = configured(&sandbox, &[]);
    let listener = Listener::start(&runner, "bin/Runner.Listener", &["run"]);
    until("online", || online(&sandbox));
    let id = sandbox.state().runners[0].id;
    sandbox.change_runner(id, super::super::RunnerChange { deleted: true, ..Default::default() });
    let output = listener.end();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let words = "The runner no longer exists on the server. Cleaning up local configuration.";
    assert!(text(&output).contains(words) && !runner.has(".runner") && !runner.has(".credentials"));
}

#[test]
fn a_runner_that_was_deleted_before_it_starts_keeps_its_files() {
    let sandbox = sandbox();
    let runner = configured(&sandbox, &[]);
    let id = sandbox.state().runners[0].id;
    sandbox.change_runner(id, super::super::RunnerChange { deleted: true, ..Default::default() });
    let output = Listener::start(&runner, "bin/Runner.Listener", &["run"]).end();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("The runner registration has been deleted from the server"));
    assert!(runner.has(".runner"));
    let hidden = Listener::start(&runner, "run.sh", &[]).end();
    assert_eq!(hidden.status.code(), Some(0), "run.sh hides every exit code");
}

#[test]
fn an_unconfigured_runner_does_not_run() {
    let sandbox = sandbox();
    let output = Listener::start(&Runner::unpack(&sandbox), "bin/Runner.Listener", &["run"]).end();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("Not configured."));
}

#[test]
fn a_service_runs_through_node_and_stops_on_term() {
    let sandbox = sandbox();
    let runner = configured(&sandbox, &[]);
    let listener = Listener::start(&runner, "bin/runsvc.sh", &[]);
    until("online", || online(&sandbox));
    listener.signal("-TERM");
    let output = listener.end();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(!online(&sandbox));
}

#[test]
fn a_just_in_time_runner_needs_no_config_sh() {
    let sandbox = sandbox();
    let runner = Runner::unpack(&sandbox);
    let path = "/api/v3/orgs/acme/actions/runners/generate-jitconfig";
    let made =
        call_with(&sandbox, "POST", path, r#"{"name":"jit","runner_group_id":1,"labels":["x"]}"#).json();
    sandbox.add_job(&acme(), "only", 0);
    let config = made["encoded_jit_config"].as_str().unwrap();
    let output = Listener::start(&runner, "bin/Runner.Listener", &["run", "--jitconfig", config]).end();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(sandbox.state().runners.is_empty() && !runner.has(".runner"));
}

#[test]
fn the_version_is_told_without_a_configuration() {
    let sandbox = sandbox();
    let output = Listener::start(&Runner::unpack(&sandbox), "bin/Runner.Listener", &["--version"]).end();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "2.336.0\n");
}

#[test]
fn sigterm_leaves_the_session_and_the_next_start_meets_it() {
    let sandbox = sandbox();
    let runner = configured(&sandbox, &[]);
    let listener = Listener::start(&runner, "bin/Runner.Listener", &["run"]);
    until("online", || online(&sandbox));
    listener.signal("-TERM");
    assert_eq!(death(&listener.end()), 143);
    assert!(online(&sandbox), "the session stays");
    let next = Listener::start(&runner, "bin/Runner.Listener", &["run"]);
    let sessions = || sandbox.requests().iter().filter(|request| request.route == "session").count();
    until("the next start meets the session", || sessions() >= 2);
    sandbox.end_sessions_after(Duration::from_secs(3));
    let opened = || {
        let opened =
            |request: &super::super::RequestRecord| request.route == "session" && request.status == Some(200);
        sandbox.requests().iter().filter(|request| opened(request)).count()
    };
    until("the old session is over", || opened() == 2);
    next.signal("-INT");
    assert!(text(&next.end()).contains("A session for this runner already exists."));
}

#[test]
fn a_listener_that_was_started_with_sigint_ignored_ignores_it() {
    let sandbox = sandbox();
    let runner = configured(&sandbox, &[]);
    // Like a background process of a shell.
    runner.write("background.sh", "trap '' INT\nexec bin/Runner.Listener run\n");
    let listener = Listener::start(&runner, "/bin/bash", &["background.sh"]);
    until("online", || online(&sandbox));
    listener.signal("-INT");
    sandbox.add_job(&acme(), "after", 0);
    until("it works on", || sandbox.state().jobs[0].done);
    assert!(online(&sandbox));
}

#[test]
fn the_files_that_the_server_may_put_in_place_of_the_others_move_the_next_start() {
    let (sandbox, other) = (sandbox(), sandbox());
    let runner = configured(&sandbox, &[]);
    let elsewhere = configured(&other, &[]);
    for name in [".runner", ".credentials"] {
        let text = std::fs::read_to_string(elsewhere.path().join(name)).unwrap();
        runner.write(&format!("{name}_migrated"), &text);
    }
    let listener = Listener::start(&runner, "bin/Runner.Listener", &["run"]);
    until("online", || online(&other));
    assert!(!online(&sandbox));
    drop(listener);
    std::fs::remove_file(runner.path().join(".runner")).unwrap();
    let output = Listener::start(&runner, "bin/Runner.Listener", &["run"]).end();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("Value cannot be null. (Parameter 'configuredSettings')"));
}

#[test]
fn a_replaced_runner_s_client_is_refused() {
    let sandbox = sandbox();
    let (old, new) = (configured(&sandbox, &[]), configured(&sandbox, &["--replace"]));
    assert_eq!(old.json(".runner")["agentId"], new.json(".runner")["agentId"]);
    let output = Listener::start(&old, "bin/Runner.Listener", &["run"]).end();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("please re-configure"));
    let log = Command::new("grep").args(["-r", "invalid_client"]).arg(old.path().join("_diag")).output();
    assert!(log.unwrap().status.success());
    let listener = Listener::start(&new, "bin/Runner.Listener", &["run"]);
    until("online", || online(&sandbox));
    drop(listener);
}
