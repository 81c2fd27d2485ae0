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
