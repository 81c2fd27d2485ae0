//! Tests that the served `config.sh` has the problems of GitHub's: retries, lost answers, older servers, proxies.

#![cfg(unix)]

use super::super::Fault;
use super::config::{Runner, assert_fails, assert_succeeds, text};
use super::sandbox;

#[test]
fn every_call_is_tried_three_times_and_what_is_not_found_once() {
    let attempts = |fault: &str, route: &str| {
        let sandbox = sandbox();
        sandbox.fault(fault.parse::<Fault>().unwrap());
        let output = Runner::unpack(&sandbox).configure(&sandbox, &[]);
        (output, sandbox.requests().iter().filter(|request| request.route == route).count())
    };
    let (survived, count) = attempts("runner-registration:2:status=502", "runner-registration");
    assert!(survived.status.success() && count == 3, "{}", text(&survived));
    let (failed, count) = attempts("register:status=502", "register");
    assert_fails(&failed, "Response status code does not indicate success: 502 (Bad Gateway).");
    assert_eq!(count, 3);
    let (failed, count) = attempts("runner-groups-of-runner:status=404", "runner-groups-of-runner");
    assert_fails(&failed, "Response status code does not indicate success: 404 (Not Found).");
    assert_eq!(count, 1);
}

#[test]
fn a_lost_answer_is_met_at_the_second_try() {
    let sandbox = sandbox();
    let runner = Runner::unpack(&sandbox);
    sandbox.fault("register:1:lost-answer".parse::<Fault>().unwrap());
    assert_fails(&runner.configure(&sandbox, &[]), "409 (Conflict)");
    assert!(
        sandbox.state().runners.len() == 1 && !runner.has(".runner"),
        "registered, and its directory does not know"
    );
    assert_succeeds(&runner.configure(&sandbox, &["--replace"]));
    sandbox.fault("runner-delete:1:lost-answer".parse::<Fault>().unwrap());
    assert_fails(&runner.remove(&sandbox), "404 (Not Found)");
    assert!(sandbox.state().runners.is_empty() && runner.has(".runner"));
}

#[test]
fn an_older_server_adds_the_runner_and_then_the_flag_is_refused() {
    for (flag, option, word) in
        [("disable-update", "--disableupdate", "DisableUpdate"), ("ephemeral", "--ephemeral", "Ephemeral")]
    {
        let sandbox = sandbox();
        sandbox.fault(format!("register:unsupported={flag}").parse::<Fault>().unwrap());
        let runner = Runner::unpack(&sandbox);
        let words = format!(
            "The GitHub server does not support configuring a self-hosted runner with '{word}' flag."
        );
        assert_fails(&runner.configure(&sandbox, &[option]), &words);
        let state = sandbox.state();
        assert!(state.runners.len() == 1 && !state.runners[0].disable_update && !state.runners[0].ephemeral);
        assert!(!runner.has(".credentials") && !runner.has(".runner"));
        assert_succeeds(&runner.configure(&sandbox, &["--replace"]));
    }
}

#[test]
fn a_proxy_of_the_environment_file_sees_the_token_of_the_next_registration() {
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.local_addr().unwrap();
    let sandbox = sandbox();
    let runner = Runner::unpack(&sandbox);
    let seen = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = proxy.accept().unwrap();
        let mut text = String::new();
        // All of it: what is unread when the connection closes takes the answer with it.
        while !text.contains("runner_event") {
            let mut bytes = [0; 4096];
            let length = stream.read(&mut bytes).unwrap();
            text.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
        }
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").unwrap();
        text
    });
    runner.write(".env", &format!("http_proxy=http://bob:p%40ss@{address}\n"));
    // Hosts on this machine are reached directly, whatever the proxy.
    let direct = runner.config("bad", &["--url", &format!("{}acme", sandbox.base_url()), "--unattended"]);
    assert_fails(&direct, "404 (Not Found)");
    assert_fails(&runner.config("TOKEN", &["--url", "http://github.test/acme", "--unattended"]), "404");
    let seen = seen.join().unwrap();
    assert!(
        seen.starts_with("POST http://github.test/api/v3/actions/runner-registration HTTP/1.1"),
        "{seen}"
    );
    assert!(seen.contains("Authorization: RemoteAuth TOKEN"), "{seen}");
    // The credentials of the URL without their percent encoding.
    assert!(seen.contains("\r\nProxy-Authorization: Basic Ym9iOnBAc3M=\r\n"), "{seen}");
}
