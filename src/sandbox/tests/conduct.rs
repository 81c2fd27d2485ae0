//! What no good client does is recorded, and nothing else is.

use super::super::{Background, RunnerChange};
use super::{call, call_with, download, sandbox, send};

const LIST: &str = "/api/v3/orgs/acme/actions/runners";

/// The violations that this adds; the text after the call.
fn added(sandbox: &Background, act: impl FnOnce()) -> Vec<String> {
    let before = sandbox.violations().len();
    act();
    let told = |line: &String| line.split_once(": ").unwrap().1.to_owned();
    sandbox.violations()[before..].iter().map(told).collect()
}

#[test]
fn a_runner_that_no_answer_has_mentioned_is_not_deleted() {
    let sandbox = sandbox();
    let id = sandbox.add_runner(&"orgs/acme".parse().unwrap(), "one", &[]).unwrap();
    sandbox.change_runner(id, RunnerChange { busy: Some(true), ..RunnerChange::default() });
    let path = format!("{LIST}/{id}");
    let delete = || drop(call(&sandbox, "DELETE", &path));
    let found = added(&sandbox, delete);
    let expected = [
        "deleted the runner 1, of which no answer has told it",
        "deleted the runner 1, which was running a job",
    ];
    assert_eq!(found, expected);
    call(&sandbox, "GET", &path);
    assert_eq!(added(&sandbox, delete), expected[1..]);
    sandbox.change_runner(id, RunnerChange { busy: Some(false), ..RunnerChange::default() });
    assert_eq!(added(&sandbox, delete), [] as [&str; 0]);
}

#[test]
fn credentials_are_used_for_what_they_are_for() {
    let sandbox = sandbox();
    let archive = download(&sandbox, "linux", "x64").path;
    let with_token = added(&sandbox, || drop(call(&sandbox, "GET", &archive)));
    assert_eq!(with_token, ["sent a credential (Api) with the request for an archive"]);
    let token = call(&sandbox, "POST", &format!("{LIST}/remove-token")).json();
    let header = format!("Authorization: RemoteAuth {}", token["token"].as_str().unwrap());
    let body = format!(r#"{{"url":"{}acme","runner_event":"register"}}"#, sandbox.base_url());
    let exchange = || drop(send(&sandbox, "POST", "/api/v3/actions/runner-registration", &[&header], &body));
    assert_eq!(added(&sandbox, exchange), ["used a credential of the kind Remove to register"]);
}

#[test]
fn a_client_that_was_told_to_wait_waits() {
    let sandbox = sandbox();
    sandbox.fault("list-runners:1:retry-after=600".parse().unwrap());
    assert_eq!(added(&sandbox, || drop(call(&sandbox, "GET", LIST))), [] as [&str; 0]);
    let token = || drop(call_with(&sandbox, "POST", &format!("{LIST}/registration-token"), ""));
    assert_eq!(added(&sandbox, token), ["called the API before the time after which it was told to"]);
    // A refusal of another kind does not lift it.
    sandbox.fault("registration-token:1:status=403".parse().unwrap());
    added(&sandbox, token);
    assert_eq!(added(&sandbox, token), ["called the API before the time after which it was told to"]);
    sandbox.faults_clear();
    assert_eq!(added(&sandbox, token), [] as [&str; 0]);
    // Nor does the primary limit name its time in the same way.
    sandbox.fault("list-runners:1:rate-limit=600".parse().unwrap());
    assert_eq!(added(&sandbox, || drop(call(&sandbox, "GET", LIST))), [] as [&str; 0]);
    assert_eq!(added(&sandbox, token), ["called the API before the time after which it was told to"]);
}
