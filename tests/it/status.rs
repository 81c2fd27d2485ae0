//! `status` at three in the morning: what the machine knows is shown, whatever the server and the credential do.

use crate::rig::{Ran, Rig, finish};
use runup::sandbox::RunnerChange;
use serde_json::Value;

#[test]
fn what_the_machine_knows_is_shown_whatever_the_server_does() {
    let rig = Rig::new();
    rig.run(&["install"]).expect(0);
    for (fault, code) in [("*:status=503", 75), ("*:status=401", 77), ("*:stall", 75)] {
        rig.faults(&[fault]);
        let status =
            rig.run(&["status", "--json", "--deadline", "2s"]).expect(code).json()["runners"][0].clone();
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
    assert_eq!(dead.json()["runners"][0]["listener"], if host { false.into() } else { Value::Null });
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
    let status = ["status", "--dir", "/opt/actions-runner"];
    let waits = || {
        let status = rig.run(&[&status[..], &["--json"]].concat()).json();
        status["waits_until"].as_str().map(str::to_owned)
    };
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
        rig.run(&status).says(&format!("for the server's rate limit, until {time}"));
        signal(&child, end);
        let ran = finish(child);
        assert!(end == Signal::KILL || ran.code == 143, "{ran:#?}");
        assert_eq!(waits(), None);
    }
    rig.sandbox.faults_clear();
    rig.run(&["remove"]).expect(0);
    rig.assert_nothing_left();
}

/// Installs a runner into each directory, and names it after its last letter.
fn with_runners(dirs: &[&str]) -> Rig {
    let rig = Rig::new();
    for dir in dirs {
        rig.run(&["install", "--dir", dir, "--name", &format!("name-{}", &dir[dir.len() - 1..])]).expect(0);
    }
    rig
}

fn field<'a>(document: &'a Value, name: &str) -> Vec<&'a str> {
    document["runners"].as_array().unwrap().iter().map(|one| one[name].as_str().unwrap_or("-")).collect()
}

fn delete(rig: &Rig, name: &str) {
    let id = rig.state().runners.iter().find(|runner| runner.name == name).unwrap().id;
    rig.sandbox.change_runner(id, RunnerChange { deleted: true, ..RunnerChange::default() });
}

#[test]
fn every_runner_of_the_machine_is_shown_and_the_worst_exit_code_counts() {
    let rig = with_runners(&["/opt/actions-runner", "/srv/b", "/opt/c"]);
    let table = rig.run(&["status"]).expect(0).stdout;
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["DIR", "NAME", "STATE", "SERVER", "SERVICE", "JOB"], "{table}");
    assert_eq!(lines[1][..4], ["/opt/actions-runner", "name-r", "registered", "offline"], "{table}");
    assert_eq!(lines[3][..3], ["/srv/b", "name-b", "registered"], "{table}");

    delete(&rig, "name-c");
    let all = rig.run(&["status", "--json"]).expect(78).json();
    assert_eq!(field(&all, "dir"), ["/opt/actions-runner", "/opt/c", "/srv/b"]);
    assert_eq!(field(&all, "state"), ["registered", "forgotten", "registered"]);
    // A directory from anywhere means that one runner.
    rig.run(&["status", "--dir", "/srv/b"]).expect(0).says("registered: /srv/b");
    let mut command = rig.on_machine(&["status", "--json"]);
    let one = finish(command.env("RUNUP_DIR", "/opt/c").spawn().unwrap()).expect(78).json();
    assert_eq!(one["state"], "forgotten");

    // What cannot be read hides no other runner.
    rig.write("var/lib/runup/broken.json", "{");
    let ran = rig.run(&["status"]).says("/srv/b").says("broken.json");
    assert!(ran.code >= 78, "{ran:#?}");
    crate::schema::assert_documented(&rig.run(&["status", "--json"]).json());
}

#[test]
fn the_credential_is_sent_to_the_server_that_it_is_for() {
    let rig = with_runners(&["/opt/a", "/opt/b"]);
    let elsewhere = Rig::new();
    let root = rig.root().to_str().unwrap();
    let ask = |arguments: &[&str]| {
        let mut command = rig.command(&[&["status", "--json", "--root", root], arguments].concat());
        finish(command.spawn().unwrap())
    };
    rig.sandbox.requests_clear();
    let asked = ask(&[]).expect(0).json();
    assert_eq!(field(&asked, "server"), ["offline", "offline"], "one server needs no --url");
    rig.sandbox.requests_clear();
    let other = ask(&["--url", &elsewhere.url()]).expect(0).json();
    assert_eq!(field(&other, "not_asked"), ["its server is not the one of --url"; 2]);
    assert_eq!((rig.sandbox.requests().len(), elsewhere.sandbox.requests().len()), (0, 0));

    // A third runner of another server: then the token's server has to be named.
    let user = rig.user.map(|user| vec!["--user", user]).unwrap_or_default();
    let mut install = elsewhere.command(
        &[&["install", "--dir", "/opt/z", "--root", root, "--url", &elsewhere.url()], &user[..]].concat(),
    );
    finish(install.spawn().unwrap()).expect(0);
    let none = ask(&[]).expect(0).json();
    assert!(field(&none, "not_asked").iter().all(|why| why.contains("pass --url")), "{none}");
    let ours = ask(&["--url", &rig.url()]).expect(0).json();
    assert_eq!(field(&ours, "server"), ["offline", "offline", "-"]);
}

#[test]
fn no_command_does_nothing_while_a_runner_is_elsewhere() {
    let rig = with_runners(&["/srv/a"]);
    rig.run(&["status"]).expect(0).says("registered: /srv/a");
    let root = rig.root().to_str().unwrap();
    let drain = finish(rig.command(&["drain", "--root", root]).spawn().unwrap());
    for (ran, command) in
        [(rig.run(&["remove"]), "remove"), (rig.run(&["upgrade"]), "upgrade"), (drain, "drain")]
    {
        ran.expect(78).says("but in /srv/a").says(&format!("`runup {command} --dir /srv/a`"));
    }
    rig.run(&["remove", "--dir", "/opt/actions-runner"]).expect(0).says("nothing to do");
    assert_eq!(rig.state().runners.len(), 1);
}

#[test]
fn remove_takes_all_runners_only_if_told_to() {
    let rig = with_runners(&["/opt/a", "/opt/b", "/opt/c"]);
    rig.run(&["remove"]).expect(78).says("3 runners: /opt/a, /opt/b, /opt/c").says("--all");
    for contradiction in [["--dir", "/opt/a"], ["--name", "name-a"]] {
        rig.run(&[&["remove", "--all"], &contradiction[..]].concat()).expect(64).says(contradiction[0]);
    }
    assert_eq!(rig.state().runners.len(), 3, "nothing was removed by a command that was refused");

    // One that cannot be removed stops no other, and stays as it is.
    let id = rig.state().runners.iter().find(|runner| runner.name == "name-b").unwrap().id;
    rig.sandbox.change_runner(id, RunnerChange { busy: Some(true), ..RunnerChange::default() });
    let ran: Ran = rig.run(&["remove", "--all", "--json", "--deadline", "3s"]);
    assert!(ran.code == 75 || ran.code == 79, "{ran:#?}");
    let all = ran.json();
    assert_eq!(field(&all, "dir"), ["/opt/a", "/opt/b", "/opt/c"]);
    assert_eq!(
        (
            &all["runners"][0]["changed"],
            &all["runners"][1]["error"]["exit_code"],
            &all["runners"][2]["changed"]
        ),
        (&true.into(), &ran.code.into(), &true.into())
    );
    ran.says("failed to remove the runner in /opt/b");
    rig.sandbox.change_runner(id, RunnerChange { busy: Some(false), ..RunnerChange::default() });
    rig.run(&["remove", "--all"]).expect(0).says("done: removed the runner in /opt/b");
    rig.run(&["remove", "--all"]).expect(0).says("nothing to do: no runner on this machine");
    rig.assert_nothing_left();
}
