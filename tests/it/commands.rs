//! The six calls of each scope, as the command line offers them.

use crate::rig::Rig;
use runup::sandbox::RunnerChange;
use serde_json::{Value, json};

/// The path of `--url` and the scope behind it.
const SCOPES: [(&str, &str); 3] = [
    ("octo-org", "orgs/octo-org"),
    ("octo-org/hello", "repos/octo-org/hello"),
    ("enterprises/octo", "enterprises/octo"),
];

impl Rig {
    fn add(&self, scope: &str, name: &str, labels: &[&str]) -> u64 {
        self.sandbox.add_runner(&scope.parse().unwrap(), name, labels).expect("the name is free")
    }
}

fn names(list: &Value) -> Vec<&str> {
    list["runners"].as_array().unwrap().iter().map(|runner| runner["name"].as_str().unwrap()).collect()
}

#[test]
fn every_call_is_there_in_every_scope_as_text_and_as_json() {
    for (path, scope) in SCOPES {
        let rig = Rig::new().at(path);
        let called = |arguments: &[&str]| {
            let text = rig.ask(arguments).expect(0).stdout;
            assert!(!text.trim().is_empty());
            text
        };

        let id = rig.add(scope, "first", &["self-hosted", "gpu"]).to_string();
        assert!(called(&["runners", "list"]).contains("first"));
        assert!(called(&["runners", "show", &id]).contains("gpu"));
        assert!(called(&["downloads"]).contains("linux"));
        let token = called(&["token", "registration"]);
        assert!(!token.trim().contains(char::is_whitespace), "the token and nothing else: {token:?}");
        assert_ne!(called(&["token", "remove"]), token);
        assert!(called(&["runners", "delete", &id]).contains("deleted: first"));
        let calls = [
            "list-runners",
            "get-runner",
            "downloads",
            "registration-token",
            "remove-token",
            "get-runner",
            "delete-runner",
        ];
        assert_eq!(rig.routes(), calls);

        let id = rig.add(scope, "second", &["self-hosted"]);
        let document = |arguments: &[&str]| {
            let mut arguments = arguments.to_vec();
            arguments.push("--json");
            rig.ask(&arguments).expect(0).json()
        };
        assert_eq!(names(&document(&["runners", "list"])), ["second"]);
        assert_eq!(document(&["runners", "show", "second"])["id"], id);
        assert!(
            document(&["downloads"])["downloads"].as_array().unwrap().len() >= 7,
            "one for each platform"
        );
        for kind in ["registration", "remove"] {
            let token = document(&["token", kind]);
            assert!(token["token"].as_str().is_some_and(|token| token.len() > 10), "{token}");
            assert!(token["expires_at"].as_str().is_some_and(|at| at.starts_with("20")), "{token}");
        }
        let deleted = document(&["runners", "delete", "second"]);
        assert_eq!(deleted["deleted"]["id"], id);
        assert_eq!(deleted["already_gone"], false);
        assert_eq!(rig.state().runners, []);
    }
}

#[test]
fn the_list_follows_every_page() {
    let rig = Rig::new();
    for number in 0..250 {
        rig.add(crate::rig::SCOPE, &format!("box-{number:03}"), &["self-hosted"]);
    }
    let list = rig.ask(&["runners", "list", "--json"]).expect(0).json();
    let expected: Vec<String> = (0..250).map(|number| format!("box-{number:03}")).collect();
    assert_eq!(names(&list), expected);
    assert_eq!(rig.routes(), ["list-runners"; 3]);
    let text = rig.ask(&["runners", "list"]).expect(0).stdout;
    assert_eq!(text.lines().count(), 251, "a head and every runner");
    // Somebody on the last page is found by name, too.
    rig.ask(&["runners", "show", "BOX-249"]).expect(0).says("box-249");
}

#[test]
fn the_list_is_filtered_by_name_status_and_label() {
    let rig = Rig::new();
    rig.add(crate::rig::SCOPE, "red", &["self-hosted", "gpu"]);
    let blue = rig.add(crate::rig::SCOPE, "blue", &["self-hosted"]);
    rig.add(crate::rig::SCOPE, "blue-2", &["self-hosted", "GPU"]);
    rig.sandbox.change_runner(blue, RunnerChange { online: Some(true), ..RunnerChange::default() });
    for (filter, expected) in [
        (vec!["--name", "BLUE"], vec!["blue"]),
        (vec!["--status", "online"], vec!["blue"]),
        (vec!["--status", "offline"], vec!["red", "blue-2"]),
        (vec!["--label", "gpu"], vec!["red", "blue-2"]),
        (vec!["--label", "gpu", "--name", "red"], vec!["red"]),
        (vec!["--label", "arm"], vec![]),
    ] {
        let mut arguments = vec!["runners", "list", "--json"];
        arguments.extend(&filter);
        assert_eq!(names(&rig.ask(&arguments).expect(0).json()), expected, "{filter:?}");
    }
    rig.ask(&["runners", "list", "--status", "busy"]).expect(64).says("online").says("offline");
}

#[test]
fn the_name_that_install_gives_is_no_filter_for_the_list() {
    let rig = Rig::new();
    rig.add(crate::rig::SCOPE, "red", &[]);
    let mut command = rig.command(&["runners", "list", "--json", "--url", &rig.url()]);
    command.env("RUNUP_NAME", "{hostname}");
    let list = crate::rig::finish(command.spawn().unwrap()).expect(0).json();
    assert_eq!(names(&list), ["red"], "a machine's RUNUP_NAME is about its own runner");
}

#[test]
fn a_name_that_is_a_number_is_found_too() {
    let rig = Rig::new();
    rig.add(crate::rig::SCOPE, "4711", &[]);
    rig.ask(&["runners", "show", "4711"]).expect(0).says("4711");
    rig.ask(&["runners", "delete", "4711"]).expect(0).says("deleted: 4711");
}

#[test]
fn a_runner_that_is_not_there_is_named_with_where_it_is_not() {
    let rig = Rig::new();
    for command in ["show", "delete"] {
        for runner in ["nobody", "99"] {
            rig.ask(&["runners", command, runner])
                .expect(69)
                .says(&format!("{} has no runner {runner}", rig.url()))
                .says("runners list");
        }
    }
}

#[test]
fn a_busy_runner_is_not_deleted() {
    let rig = Rig::new();
    let id = rig.add(crate::rig::SCOPE, "red", &[]);
    rig.sandbox.change_runner(id, RunnerChange { online: Some(true), busy: Some(true), deleted: false });
    rig.ask(&["runners", "delete", "red"]).expect(75).says("is running a job").says("hint: ");
    assert_eq!(rig.state().runners.len(), 1);
}

#[test]
fn systems_and_fields_that_nobody_knows_yet_harm_nobody() {
    let rig = Rig::new();
    let list = rig.ask(&["downloads", "--json"]).expect(0).json();
    let mine = list["downloads"].as_array().unwrap().iter().find(|one| one["os"] == "linux").unwrap();
    let mut mine = mine.clone();
    mine["channel"] = json!({"name": "stable"});
    mine["temp_download_token"] = json!(null);
    let odd = json!({
        "os": "plan9",
        "architecture": "riscv64",
        "download_url": "https://github.com/x/actions-runner-plan9-riscv64-3.0.0.tar.bz2",
        "filename": "actions-runner-plan9-riscv64-3.0.0.tar.bz2",
    });
    rig.answer("downloads", &json!([{"os": 7}, odd, mine, "what?"]));
    let ran = rig.ask(&["downloads", "--json"]).expect(0);
    let systems: Vec<Value> =
        ran.json()["downloads"].as_array().unwrap().iter().map(|one| one["os"].clone()).collect();
    assert_eq!(systems, [json!("plan9"), json!("linux")]);
    rig.ask(&["downloads"]).expect(0).says("plan9");
}

#[test]
fn the_download_token_is_shown_to_nobody() {
    let rig = Rig::new();
    let list = rig.ask(&["downloads", "--json", "--verbose"]).expect(0);
    assert_eq!(list.json()["downloads"][0]["needs_download_token"], true);
    // As the server wrote it.
    let canary = "gho_canaryInTheDownloadList";
    let mut listed = list.json()["downloads"][0].clone();
    listed["temp_download_token"] = json!(canary);
    rig.answer("downloads", &json!([listed]));
    for arguments in [vec!["downloads", "--verbose"], vec!["downloads", "--json", "--verbose"]] {
        let ran = rig.ask(&arguments).expect(0);
        assert!(ran.stdout.contains("linux") || ran.stdout.contains("osx"), "{ran:#?}");
        assert!(!ran.all().contains(canary), "{ran:#?}");
    }
}
