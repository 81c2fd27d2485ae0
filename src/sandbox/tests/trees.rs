//! Tests trees that do not belong to the runner's user: locked while it registers, sealed afterwards. They belong to
//! root, so these tests do nothing without root.

#![cfg(unix)]

use super::super::{NewJob, RunnerChange};
use super::config::{NOBODY, Runner, text};
use super::listener::{Listener, acme, interrupt, online};
use super::{sandbox, until};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Everything belongs to root and is read-only for the user, who may create files in the directory.
fn lock(runner: &Runner) {
    runner.own(0);
    for name in [".env", ".path", ".setup_info"] {
        if !runner.has(name) {
            std::fs::write(runner.path().join(name), "").unwrap();
        }
        mode(&runner.path().join(name), 0o644);
    }
    std::fs::copy(runner.path().join("run-helper.sh.template"), runner.path().join("run-helper.sh")).unwrap();
    chown(runner.path(), Some(0), Some(NOBODY)).unwrap();
    mode(runner.path(), 0o1770);
}

/// Everything belongs to root except `_diag` and the work directory.
fn seal(runner: &Runner) {
    runner.own(0);
    for name in ["_diag", "_work"] {
        std::fs::create_dir_all(runner.path().join(name)).unwrap();
        runner.own_below(name, NOBODY);
    }
    for name in [".runner", ".credentials", ".credentials_rsaparams"] {
        let path = runner.path().join(name);
        chown(&path, Some(0), Some(NOBODY)).unwrap();
        mode(&path, 0o640);
    }
    chown(runner.path(), Some(0), Some(NOBODY)).unwrap();
    mode(runner.path(), 0o750);
}

#[test]
fn a_locked_tree_registers_and_runs_an_ephemeral_job_to_its_end() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox();
    let runner = Runner::unpack(&sandbox);
    lock(&runner);
    let done = runner.configure(&sandbox, &["--ephemeral"]);
    assert!(done.status.success(), "{}", text(&done));
    assert!(text(&done).contains("Permission denied"), "env.sh could not write .path: {}", text(&done));
    assert_eq!(std::fs::read_to_string(runner.path().join(".path")).unwrap(), "");
    sandbox.queue(NewJob::script(
        "orgs/acme",
        "! touch ../../../bin/x && ! mv ../../../config.sh x && touch ../../../new",
    ));
    let output = Listener::start(&runner, "run.sh", &[]).end();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let job = &sandbox.state().jobs[0];
    assert!(job.result == Some(super::super::JobResult::Succeeded), "{}", job.log);
    assert!(!runner.has(".runner") && runner.has("new") && sandbox.state().runners.is_empty());
}

#[test]
fn a_svc_sh_of_root_s_fails_the_configuration_after_it_has_registered() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox();
    let runner = Runner::unpack(&sandbox);
    std::fs::write(runner.path().join("svc.sh"), "").unwrap();
    lock(&runner);
    let done = runner.configure(&sandbox, &[]);
    assert_eq!(done.status.code(), Some(1), "{}", text(&done));
    let svc = runner.path().canonicalize().unwrap().join("svc.sh");
    assert!(
        text(&done).contains(&format!("\nAccess to the path '{}' is denied.", svc.display())),
        "{}",
        text(&done)
    );
    assert!(runner.has(".runner") && sandbox.state().runners.len() == 1);
}

fn sealed(sandbox: &super::super::Background, more: &[&str]) -> Runner {
    let runner = Runner::unpack(sandbox);
    lock(&runner);
    let done = runner.configure(sandbox, more);
    assert!(done.status.success(), "{}", text(&done));
    seal(&runner);
    runner
}

#[test]
fn a_sealed_runner_works_stops_and_cannot_be_altered_by_its_job() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox();
    let runner = sealed(&sandbox, &[]);
    let listener = Listener::start(&runner, "run.sh", &[]);
    let script = "cd ../../..; for f in .runner_migrated .credentials .env svc.sh bin/x; do ! { echo x >>$f; } || exit 1; done; \
                  ! rm -f .runner; ! mv _work away; touch _diag/x _work/x";
    sandbox.queue(NewJob::script("orgs/acme", script));
    until("the job is done", || sandbox.state().jobs[0].done);
    let job = &sandbox.state().jobs[0];
    assert_eq!(job.result, Some(super::super::JobResult::Succeeded), "{}", job.log);
    interrupt(&runner);
    let output = listener.end();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("Exiting...") && text(&output).contains("cannot"), "{}", text(&output));
    assert!(!online(&sandbox) && runner.has(".runner"));
}

#[test]
fn a_work_directory_that_cannot_be_created_ends_the_start() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox();
    let runner = sealed(&sandbox, &["--work", "/proc/none/here"]);
    let output = Listener::start(&runner, "bin/Runner.Listener", &["run"]).end();
    assert_eq!(output.status.code(), Some(1));
    let words = "Fail to create and validate runner's work directory '/proc/none/here'.";
    assert!(text(&output).contains(words), "{}", text(&output));
    // The last component of one whose parent is the user's.
    let outside = tempfile::tempdir().unwrap();
    mode(outside.path(), 0o777);
    let work = outside.path().join("work");
    let runner = sealed(&sandbox, &["--replace", "--work", work.to_str().unwrap()]);
    let listener = Listener::start(&runner, "bin/Runner.Listener", &["run"]);
    until("online", || online(&sandbox));
    assert!(work.is_dir());
    drop(listener);
}

#[test]
fn a_sealed_runner_that_was_deleted_ends_with_two() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox();
    let runner = sealed(&sandbox, &[]);
    let listener = Listener::start(&runner, "bin/Runner.Listener", &["run"]);
    until("online", || online(&sandbox));
    let id = sandbox.state().runners[0].id;
    sandbox.change_runner(id, RunnerChange { deleted: true, ..Default::default() });
    let output = listener.end();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let path = runner.path().canonicalize().unwrap().join(".credentials");
    let words = format!("An error occurred: Access to the path '{}' is denied.", path.display());
    assert!(
        text(&output).contains("The runner no longer exists on the server.")
            && text(&output).contains(&words)
    );
    assert!(runner.has(".runner"));
}

#[test]
fn an_ephemeral_runner_in_a_sealed_tree_ends_with_two_after_its_job() {
    if !is_root() {
        return;
    }
    let sandbox = sandbox();
    let runner = sealed(&sandbox, &["--ephemeral"]);
    sandbox.add_job(&acme(), "only", 0);
    let output = Listener::start(&runner, "bin/Runner.Listener", &["run"]).end();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(sandbox.state().jobs[0].done && sandbox.state().runners.is_empty() && runner.has(".runner"));
}
