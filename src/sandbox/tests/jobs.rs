//! Tests jobs that run a script: as the runner's user, with GitHub's variables, and with a reported result.

#![cfg(unix)]

use super::super::{Background, JobRecord, JobResult, NewJob};
use super::config::{Runner, text};
use super::listener::{Listener, configured, online};
use super::{call_with, sandbox, until};
use std::time::Duration;

fn job(sandbox: &Background, id: u64) -> JobRecord {
    sandbox.state().jobs.into_iter().find(|job| job.id == id).unwrap()
}

/// Runs a script to its end.
fn run(sandbox: &Background, script: &str) -> JobRecord {
    let id = sandbox.queue(NewJob::script("orgs/acme", script));
    until("the job is done", || job(sandbox, id).done);
    job(sandbox, id)
}

fn listening(sandbox: &Background) -> (Runner, Listener) {
    let runner = configured(sandbox, &[]);
    let listener = Listener::start(&runner, "bin/Runner.Listener", &["run"]);
    until("online", || online(sandbox));
    (runner, listener)
}

fn alive(pid: &str) -> bool {
    std::process::Command::new("kill")
        .args(["-0", pid])
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap()
        .success()
}

#[test]
fn a_script_runs_in_the_workspace_with_github_s_variables() {
    let sandbox = sandbox();
    let (runner, _listener) = listening(&sandbox);
    runner.write(".setup_info", r#"[{"group":"About","detail":"this machine"}]"#);
    let script = r#"pwd; id -u; echo "$RUNNER_NAME $GITHUB_WORKSPACE $RUNNER_TEMP"
        echo A=b >>"$GITHUB_ENV"; echo "zw\"ei" >"$RUNNER_TEMP/file"; cat "$RUNNER_TEMP/file""#;
    let done = run(&sandbox, script);
    assert_eq!(done.result, Some(JobResult::Succeeded), "{}", done.log);
    let root = runner.path().canonicalize().unwrap();
    let root = root.display();
    assert!(done.log.contains(&format!("{root}/_work/hello/hello\n")), "{}", done.log);
    assert!(done.log.contains(&format!("one {root}/_work/hello/hello {root}/_work/_temp\nzw\"ei\n")));
    assert!(done.log.contains("this machine"), "what .setup_info says is shown");
    let user = if rustix::process::geteuid().is_root() {
        "65534".to_owned()
    } else {
        rustix::process::geteuid().as_raw().to_string()
    };
    assert!(done.log.lines().any(|line| line == user), "{}", done.log);
}

#[test]
fn a_script_that_fails_is_a_failed_job_and_the_runner_goes_on() {
    let sandbox = sandbox();
    let (_runner, listener) = listening(&sandbox);
    let failed = run(&sandbox, "echo before; false; echo after");
    assert_eq!(failed.result, Some(JobResult::Failed));
    assert!(failed.log.contains("before") && !failed.log.contains("after"));
    assert_eq!(run(&sandbox, "true").result, Some(JobResult::Succeeded));
    listener.signal("-INT");
    let output = listener.end();
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output).contains("Job build completed with result: Failed"));
}

#[test]
fn another_process_queues_a_script_for_one_runner_and_reads_what_it_printed() {
    let sandbox = sandbox();
    let _other = sandbox.add_runner(&"orgs/acme".parse().unwrap(), "zero", &[]).unwrap();
    let runner = configured(&sandbox, &[]);
    let listener = Listener::start(&runner, "bin/Runner.Listener", &["run"]);
    let queue = |body: &str| call_with(&sandbox, "POST", "/_sandbox/jobs", body).status;
    assert_eq!(queue(r#"{"scope":"orgs/acme","script":"echo no","runner":"zero"}"#), 201);
    assert_eq!(queue(r#"{"scope":"orgs/acme","script":"echo \"yes\"\n","runner":"one"}"#), 201);
    until("the second is done", || sandbox.state().jobs[1].done);
    let state = call_with(&sandbox, "GET", "/_sandbox/state", "").json();
    assert_eq!(
        (&state["jobs"][1]["log"], &state["jobs"][1]["result"]),
        (&"yes\n".into(), &"Succeeded".into())
    );
    assert_eq!(sandbox.state().jobs[0].runner, None, "the first waits for its own runner");
    drop(listener);
}

#[test]
fn what_a_step_leaves_behind_ends_with_it_unless_it_hides() {
    let sandbox = sandbox();
    let (_runner, _listener) = listening(&sandbox);
    // Until it is another program, it has the shell's environment.
    let script = "sleep 600 & echo $!; RUNNER_TRACKING_ID= sleep 601 & echo $!
        until [ \"$(cat /proc/$!/comm || echo sleep)\" = sleep ]; do sleep 0.01; done";
    let done = run(&sandbox, script);
    let pids: Vec<&str> = done.log.lines().collect();
    if cfg!(target_os = "linux") {
        until("the first is ended", || !alive(pids[0]));
    }
    assert!(alive(pids[1]), "{}", done.log);
    std::process::Command::new("kill").args(["-KILL", pids[1]]).status().unwrap();
}

#[test]
fn sigint_cancels_the_job_which_may_clean_up() {
    let sandbox = sandbox();
    let (runner, listener) = listening(&sandbox);
    // A trap of a shell waits for what the shell waits for.
    let script = "trap 'echo cleaned >\"$RUNNER_TEMP/cleaned\"; exit 1' INT; echo up >\"$RUNNER_TEMP/up\"; sleep 600 & wait";
    let id = sandbox.queue(NewJob::script("orgs/acme", script));
    until("the job runs", || runner.has("_work/_temp/up"));
    listener.signal("-INT");
    let output = listener.end();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(
        text(&output).contains("Exiting...") && text(&output).contains("completed with result: Canceled")
    );
    let job = job(&sandbox, id);
    assert_eq!((job.done, job.result), (false, Some(JobResult::Canceled)));
    assert!(!online(&sandbox) && !sandbox.state().runners[0].busy);
    if cfg!(target_os = "linux") {
        assert!(runner.has("_work/_temp/cleaned"));
    }
}

/// A job whose message was being sent when the listener was stopped is not lost: the next session gets it.
#[test]
fn a_job_that_was_not_acknowledged_is_delivered_again() {
    let sandbox = sandbox();
    let (runner, listener) = listening(&sandbox);
    sandbox.fault("job-taken:1:delay=forever".parse().unwrap());
    let id = sandbox.queue(NewJob::script("orgs/acme", "true"));
    until("its message is there", || sandbox.requests().iter().any(|request| request.route == "job-taken"));
    assert!(sandbox.state().runners[0].busy);
    listener.signal("-INT");
    assert_eq!(listener.end().status.code(), Some(0));
    let record = job(&sandbox, id);
    assert_eq!((record.runner, record.done, record.result), (None, false, None));
    let next = Listener::start(&runner, "bin/Runner.Listener", &["run"]);
    until("the next session does it", || job(&sandbox, id).done);
    next.signal("-INT");
    next.end();
}

#[test]
fn a_script_that_ignores_every_signal_is_cancelled_all_the_same() {
    let sandbox = sandbox();
    let (runner, listener) = listening(&sandbox);
    let script = "trap '' INT TERM; echo up >\"$RUNNER_TEMP/up\"; while :; do sleep 1; done";
    sandbox.queue(NewJob::script("orgs/acme", script));
    until("the job runs", || runner.has("_work/_temp/up"));
    listener.signal("-INT");
    assert_eq!(listener.end().status.code(), Some(0));
}

/// As after a supervisor that was killed: what it prints goes nowhere.
#[test]
fn a_listener_that_nobody_reads_from_any_more_still_ends_its_job_and_its_session() {
    let sandbox = sandbox();
    let runner = configured(&sandbox, &[]);
    let listener = Listener::unread(&runner, "bin/Runner.Listener", &["run"]);
    until("online", || online(&sandbox));
    assert_eq!(
        run(&sandbox, r#"set +e; yes | head -1; [ "${PIPESTATUS[0]}" = 141 ]"#).result,
        Some(JobResult::Succeeded),
        "jobs get SIGPIPE"
    );
    let id = sandbox.queue(NewJob::script("orgs/acme", "echo up >\"$RUNNER_TEMP/up\"; sleep 600"));
    until("the job runs", || runner.has("_work/_temp/up"));
    listener.signal("-INT");
    assert_eq!(listener.end().status.code(), Some(0));
    assert_eq!(job(&sandbox, id).result, Some(JobResult::Canceled));
    assert!(!online(&sandbox) && !sandbox.state().runners[0].busy);
}

#[test]
fn hooks_run_before_and_after_and_decide() {
    let sandbox = sandbox();
    let runner = configured(&sandbox, &[]);
    runner.write("started.sh", "echo \"started $HOOK\"\n");
    runner.write("completed.sh", "echo completed; exit 3\n");
    let path = |name: &str| runner.path().join(name).display().to_string();
    let env = format!(
        "HOOK=a=b\nACTIONS_RUNNER_HOOK_JOB_STARTED={}\nACTIONS_RUNNER_HOOK_JOB_COMPLETED={}\n",
        path("started.sh"),
        path("completed.sh")
    );
    runner.write(".env", &env);
    let _listener = Listener::start(&runner, "bin/Runner.Listener", &["run"]);
    let done = run(&sandbox, "echo step");
    assert_eq!(done.result, Some(JobResult::Failed));
    let at = |text: &str| done.log.find(text).unwrap_or_else(|| panic!("{text:?} in {}", done.log));
    assert!(at("started a=b") < at("step\n") && at("step\n") < at("completed"));
}

#[test]
fn a_killed_listener_leaves_its_job_and_its_session() {
    let sandbox = sandbox();
    let (runner, listener) = listening(&sandbox);
    let id = sandbox.queue(NewJob::script("orgs/acme", "echo $$ >\"$RUNNER_TEMP/up\"; exec sleep 600"));
    // The shell creates the file before it writes into it.
    let pid = || std::fs::read_to_string(runner.path().join("_work/_temp/up")).unwrap_or_default();
    until("the job runs", || pid().ends_with('\n'));
    listener.signal("-TERM");
    assert_eq!(super::listener::death(&listener.end()), 143);
    let pid = pid();
    assert!(alive(pid.trim()), "the job was not ended");
    let runner = &sandbox.state().runners[0];
    assert!(runner.online && runner.busy && job(&sandbox, id).result.is_none());
    std::process::Command::new("kill").args(["-KILL", pid.trim()]).status().unwrap();
    sandbox.end_sessions_after(Duration::from_secs(1));
    until("the server gives the job up", || job(&sandbox, id).result == Some(JobResult::Abandoned));
    assert!(!sandbox.state().runners[0].busy);
}
