//! `runup doctor`: what an installation would meet, without one.

use crate::rig::{Ran, Rig, finish};
use runup::sandbox::{CredentialKind, Fault, FaultKind, TokenRecord};
use serde_json::{Value, json};

fn checks(ran: &Ran) -> Vec<(String, String, String)> {
    let text = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
    let document = ran.json();
    let checks = document["checks"].as_array().unwrap().iter();
    checks.map(|check| (text(check, "id"), text(check, "verdict"), text(check, "detail"))).collect()
}

fn verdict(ran: &Ran, id: &str) -> String {
    let all = checks(ran);
    all.iter().find(|check| check.0 == id).unwrap_or_else(|| panic!("no {id}: {all:#?}")).1.clone()
}

#[test]
fn a_machine_that_is_fine_is_left_as_it_is() {
    let rig = Rig::new();
    let before = (rig.everything(), rig.state().runners);
    let ran = rig.run(&["doctor", "--json"]).expect(0);
    for id in
        ["platform", "directory", "disk", "dns", "connection", "server", "clock", "credential", "archive"]
    {
        assert_eq!(verdict(&ran, id), "fine", "{id} {ran:?}");
    }
    assert_eq!((rig.everything(), rig.state().runners), before);
    let registers = |token: &TokenRecord| token.kind == CredentialKind::Registration;
    assert!(!rig.state().tokens.iter().any(registers), "a registration token was created");
    let text = rig.run(&["doctor"]).expect(0);
    assert!(text.stdout.ends_with("no check fails\n"), "{text:?}");
    assert!(!text.stdout.contains(rig.sandbox.token().expose()));
}

#[test]
fn a_refused_token_fails_as_the_installation_would_and_the_rest_is_checked_all_the_same() {
    let rig = Rig::new();
    let mut command = rig.on_machine(&["doctor", "--json"]);
    let ran = finish(command.env("RUNUP_TOKEN", "ghp_wrong").spawn().unwrap()).expect(77);
    assert_eq!(verdict(&ran, "server"), "fine");
    assert_eq!(verdict(&ran, "credential"), "fails");
    assert_eq!(verdict(&ran, "disk"), "fine");
    for id in ["archive", "install"] {
        assert_eq!(verdict(&ran, id), "unknown", "{id}: the credential is the one cause: {ran:?}");
    }
    let document = ran.json();
    let check =
        document["checks"].as_array().unwrap().iter().find(|check| check["id"] == "credential").unwrap();
    assert_eq!((check["name"].as_str(), check["exit_code"].as_u64()), (Some("unauthorized"), Some(77)));
    assert!(!ran.stdout.contains("ghp_wrong"));
}

#[test]
fn a_server_that_cannot_be_reached_leaves_the_rest_untold() {
    let rig = Rig::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("http://{}/octo-org", free.local_addr().unwrap());
    drop(free);
    let mut command = rig.command(&["doctor", "--json", "--url", &closed, "--root"]);
    let ran = finish(command.arg(rig.root()).spawn().unwrap()).expect(75);
    assert_eq!(verdict(&ran, "dns"), "fine");
    assert_eq!(verdict(&ran, "connection"), "fails");
    for id in ["server", "clock", "credential", "rate-limit", "archive", "install", "job-hosts"] {
        assert_eq!(verdict(&ran, id), "unknown", "{id}");
    }
}

/// They used to fail as well, with the same words.
#[test]
fn what_depends_on_a_server_that_is_down_is_untold() {
    let rig = Rig::new();
    let down = FaultKind::Status { code: 503, body: None, headers: std::collections::BTreeMap::new() };
    rig.sandbox.fault(Fault::new("*", down));
    let ran = rig.run(&["doctor", "--json"]).expect(75);
    assert_eq!(verdict(&ran, "server"), "fails", "{ran:?}");
    for id in ["credential", "rate-limit", "archive", "install", "job-hosts"] {
        assert_eq!(verdict(&ran, id), "unknown", "{id} {ran:?}");
    }
}

/// The server used to fail, although it answered.
#[test]
fn a_rate_limit_that_is_used_up_is_what_fails() {
    let rig = Rig::new();
    rig.sandbox.fault(Fault::new("*", FaultKind::RateLimit { seconds: 600 }));
    let ran = rig.run(&["doctor", "--json"]).expect(75);
    assert_eq!(verdict(&ran, "server"), "fine", "{ran:?}");
    assert_eq!(verdict(&ran, "rate-limit"), "fails", "{ran:?}");
    assert!(ran.stdout.contains("\"rate-limited\""), "{ran:?}");
    for id in ["credential", "archive", "install"] {
        assert_eq!(verdict(&ran, id), "unknown", "{id} {ran:?}");
    }
}

#[test]
fn what_an_installation_would_refuse_is_refused_here() {
    let rig = Rig::new();
    let ran = rig.run(&["doctor", "--json", "--group", "no-such"]).expect(78);
    assert_eq!(verdict(&ran, "install"), "fails");
    assert!(ran.stdout.contains("\"no-such-group\""), "{ran:?}");
    // Could not tell is no failure.
    let mut command = rig.on_machine(&["doctor", "--json"]);
    let mut asks = rig.command(&["token", "registration", "--json", "--url"]);
    let issued = finish(asks.arg(rig.url()).spawn().unwrap()).expect(0).json();
    let token = issued["token"].as_str().unwrap();
    command.env_remove("RUNUP_TOKEN").env("RUNUP_REGISTRATION_TOKEN", token);
    let ran = finish(command.spawn().unwrap());
    assert_eq!(verdict(&ran, "credential"), "unknown", "{ran:?}");
}

#[test]
fn an_installed_machine_is_checked_without_options() {
    let rig = Rig::new();
    rig.run(&["install"]).expect(0);
    let doctor = || {
        let mut command = rig.command(&["doctor", "--json", "--root"]);
        finish(command.arg(rig.root()).spawn().unwrap())
    };
    let ran = doctor();
    assert!(checks(&ran).iter().any(|check| check.0 == "runner"), "{ran:?}");
    let id = rig.state().runners[0].id;
    let gone = runup::sandbox::RunnerChange { deleted: true, ..Default::default() };
    assert!(rig.sandbox.change_runner(id, gone));
    let ran = doctor().expect(78);
    assert_eq!(verdict(&ran, "runner"), "fails");
}

/// The listener's own words tell why, in a log that nobody looks for at night.
#[test]
fn the_last_failure_is_told_with_its_cause() {
    let rig = Rig::new();
    rig.run(&["install"]).expect(0);
    let gone = runup::sandbox::RunnerChange { deleted: true, ..Default::default() };
    assert!(rig.sandbox.change_runner(rig.state().runners[0].id, gone));
    let silent = rig.run(&["doctor", "--json"]).expect(78);
    assert_eq!(verdict(&silent, "last-failure"), "unknown", "{silent:?}");
    let mut listener = std::process::Command::new(rig.dir().join("bin/Runner.Listener"));
    let ended = listener.arg("run").current_dir(rig.dir()).output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let ran = rig.run(&["doctor", "--json"]).expect(78);
    assert_eq!(verdict(&ran, "last-failure"), "fails", "{ran:?}");
    let found = checks(&ran).into_iter().find(|check| check.0 == "last-failure").unwrap().2;
    assert!(found.contains("the server has deleted the runner, as its log told at 20"), "{found}");
    assert!(ran.stdout.contains("\"deleted-again\""), "{ran:?}");
    let runs = rig.run(&["install"]).expect(0);
    let healed = rig.run(&["doctor", "--json"]).expect(0);
    assert!(!healed.stdout.contains("last-failure"), "{runs:?} {healed:?}");
}

/// With a URL in the configuration file, the runners of the machine count all the same.
#[test]
fn a_runner_that_is_gone_is_seen_although_the_file_has_a_url() {
    let rig = Rig::new();
    rig.run(&["install"]).expect(0);
    let id = rig.state().runners[0].id;
    let gone = runup::sandbox::RunnerChange { deleted: true, ..Default::default() };
    assert!(rig.sandbox.change_runner(id, gone));
    let ran = rig.run(&["doctor", "--json"]).expect(78);
    assert_eq!(verdict(&ran, "runner"), "fails", "{ran:?}");
}

/// `localhost` has an address where nothing listens.
#[test]
fn a_host_that_accepts_connections_at_one_address_is_asked_there() {
    let rig = Rig::new();
    let url = rig.url().replace("127.0.0.1", "localhost");
    let mut command = rig.command(&["doctor", "--json", "--url", &url, "--root"]);
    let ran = finish(command.arg(rig.root()).env("RUNUP_TOKEN", "ghp_wrong").spawn().unwrap()).expect(77);
    assert_eq!(verdict(&ran, "credential"), "fails", "{ran:?}");
}

/// A firewall that lets the installation through, and none of what jobs need.
#[test]
fn a_host_that_jobs_need_and_that_is_blocked_is_named() {
    let rig = Rig::new();
    let ran = rig.run(&["doctor", "--json"]).expect(0);
    assert_eq!(verdict(&ran, "job-hosts"), "fine", "an Enterprise Server is all that they need: {ran:?}");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (blocked, open) =
        (free.local_addr().unwrap().to_string(), rig.sandbox.base_url().authority().to_owned());
    drop(free);
    let inbound = |named: &[&str]| {
        let hosts = json!({"full_domains": named, "wildcard_domains": ["*.actions.githubusercontent.com"]});
        rig.sandbox.faults_clear();
        rig.answer("meta", &json!({"domains": {"actions_inbound": hosts, "website": ["*.github.com"]}}));
    };
    inbound(&[&open]);
    let ran = rig.run(&["doctor", "--json"]).expect(0);
    assert_eq!(verdict(&ran, "job-hosts"), "fine", "{ran:?}");
    assert!(ran.stdout.contains("*.actions.githubusercontent.com could not be tried"), "{ran:?}");
    inbound(&[&open, &blocked, "no name at all", "user@127.0.0.1", ""]);
    let ran = rig.run(&["doctor", "--json"]).expect(0);
    assert_eq!(verdict(&ran, "job-hosts"), "unknown", "{ran:?}");
    assert!(
        ran.stdout.contains(&format!("1 of 2 hosts that jobs need did not answer: {blocked}")),
        "{ran:?}"
    );
    // What is no such document is no failure either.
    for odd in [json!([]), json!({"domains": 1}), json!({"domains": {"actions_inbound": null}})] {
        rig.sandbox.faults_clear();
        rig.answer("meta", &odd);
        assert_ne!(verdict(&rig.run(&["doctor", "--json"]).expect(0), "job-hosts"), "fails");
    }
}

#[test]
fn calls_that_run_out_are_seen_before_they_have() {
    let rig = Rig::new();
    let told = |left: &str| {
        let headers = [("x-ratelimit-limit", "5000"), ("x-ratelimit-remaining", left)];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        rig.sandbox.faults_clear();
        let body = Some(json!({"total_count": 0, "runners": []}).to_string());
        rig.sandbox.fault(Fault::new("list-runners", FaultKind::Status { code: 200, body, headers }));
    };
    told("4321");
    let ran = rig.run(&["doctor", "--json"]).expect(0);
    assert_eq!(verdict(&ran, "rate-limit"), "fine", "{ran:?}");
    told("7");
    let ran = rig.run(&["doctor", "--json"]).expect(0);
    assert_eq!(verdict(&ran, "rate-limit"), "unknown", "{ran:?}");
    assert!(ran.stdout.contains("7 of 5000 calls are left"), "{ran:?}");
}

/// A copy that a disk error has damaged is found before the next runner is made from it.
#[test]
fn a_damaged_copy_is_seen() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let rig = Rig::new();
    rig.run(&["bake"]).expect(0);
    assert_eq!(verdict(&rig.run(&["doctor", "--json"]).expect(0), "store"), "fine");
    let store = rig.root().join("opt/.runup-store");
    let mut found = vec![store];
    let program = loop {
        let next = found.pop().expect("the copy has the program");
        if next.ends_with("bin/Runner.Worker") {
            break next;
        }
        if next.is_dir() {
            found.extend(std::fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()));
        }
    };
    std::fs::write(program, "not what it was").unwrap();
    let ran = rig.run(&["doctor", "--json"]).expect(0);
    assert_eq!(verdict(&ran, "store"), "unknown", "{ran:?}");
    assert!(ran.stdout.contains("which is damaged"), "{ran:?}");
}
