//! `status` at three in the morning: what the machine knows is shown, whatever the server and the credential do.

use crate::rig::Rig;

#[test]
fn what_the_machine_knows_is_shown_whatever_the_server_does() {
    let rig = Rig::new();
    rig.run(&["install"]).expect(0);
    for (fault, code) in [("*:status=503", 75), ("*:status=401", 77), ("*:stall", 75)] {
        rig.faults(&[fault]);
        let status = rig.run(&["status", "--json", "--deadline", "2s"]).expect(code).json();
        assert_eq!(
            (&status["state"], &status["name"]),
            (&"unreachable".into(), &rig.state().runners[0].name.as_str().into())
        );
        assert!(status["not_asked"].is_string(), "{status}");
        rig.sandbox.faults_clear();
    }
    // A credential that was named and cannot be had hides nothing either.
    for arguments in [&["--token-file", "/nowhere/token"] as &[&str], &["--token-command", "exit 3"]] {
        let ran =
            rig.run(&[&["status", "--deadline", "2s"], arguments].concat()).says("unreachable").says("name ");
        assert!([75, 77].contains(&ran.code), "{ran:#?}");
    }
    // None at all is no error.
    rig.run_without_token(&["status"]).expect(0).says("registered").says("not asked");
}

#[test]
fn a_health_check_asks_no_server() {
    let rig = Rig::new();
    rig.run(&["status", "--local"]).expect(69);
    rig.run(&["install"]).expect(0);
    rig.sandbox.requests_clear();
    let host = rig.root().to_str().unwrap() == "/";
    let dead = rig.run_without_token(&["status", "--local", "--json"]);
    // Processes are looked for on the machine itself, and not in an image.
    assert_eq!(dead.json()["listener"], if host { false.into() } else { serde_json::Value::Null });
    assert_eq!(rig.sandbox.requests().len(), 0);
}

/// A service that registers by itself waits for as long as GitHub says, which is not a failure of it.
#[test]
fn a_run_that_waits_for_the_rate_limit_is_seen_to_wait_for_as_long_as_it_lives() {
    use crate::rig::{finish, signal, until};
    use rustix::process::Signal;
    let rig = Rig::new();
    rig.run(&["status", "--json"]).expect(69);
    rig.faults(&["registration-token:rate-limit=2700"]);
    let arguments = ["run", "--ephemeral", "--wait-for-limit", "--deadline", "5s"];
    let waits = || rig.run(&["status", "--json"]).json()["waits_until"].as_str().map(str::to_owned);
    for end in [Signal::TERM, Signal::KILL] {
        let child = rig.start(&arguments);
        let mut time = None;
        until("it waits", || {
            time = waits();
            time.is_some()
        });
        let time: jiff::Timestamp = time.unwrap().parse().unwrap();
        let left = jiff::Timestamp::now().duration_until(time).as_secs();
        assert!((2600..=2740).contains(&left), "{left} s");
        rig.run(&["status"]).says(&format!("for the server's rate limit, until {time}"));
        signal(&child, end);
        let ran = finish(child);
        assert!(end == Signal::KILL || ran.code == 143, "{ran:#?}");
        assert_eq!(waits(), None);
    }
    rig.sandbox.faults_clear();
    rig.run(&["remove"]).expect(0);
    rig.assert_nothing_left();
}
