//! Ghosts are deleted, and nothing else is.

use crate::rig::{Ran, Rig, finish};
use runup::lifecycle::journal::{Act, Journal, Registered};
use runup::runner::name::fingerprint;
use runup::sandbox::{Fault, FaultKind, RunnerChange, Scope};
use serde_json::{Value, json};
use std::path::Path;

const MACHINE_ID: &str = "0123456789abcdef0123456789abcdef";

/// Runs `runup runners prune --json` on the rig's machine.
fn prune(rig: &Rig, arguments: &[&str]) -> Ran {
    say(rig, &[&["--json"], arguments].concat())
}

fn say(rig: &Rig, arguments: &[&str]) -> Ran {
    let mut command = rig.command(&["runners", "prune"]);
    command.arg("--url").arg(rig.url()).arg("--root").arg(rig.root()).args(arguments);
    finish(command.spawn().unwrap())
}

/// An offline runner that somebody registered; its id.
fn ghost(rig: &Rig, name: &str, labels: &[&str]) -> u64 {
    let scope: Scope = "orgs/octo-org".parse().unwrap();
    rig.sandbox.add_runner(&scope, name, labels).unwrap()
}

fn change(rig: &Rig, id: u64, online: bool, busy: bool) {
    let change = RunnerChange { online: Some(online), busy: Some(busy), ..Default::default() };
    assert!(rig.sandbox.change_runner(id, change));
}

/// The names of the runners on the server, sorted.
fn on_server(rig: &Rig) -> Vec<String> {
    let mut names: Vec<String> = rig.state().runners.into_iter().map(|runner| runner.name).collect();
    names.sort();
    names
}

fn deleted(document: &Value) -> Vec<&str> {
    document["deleted"].as_array().unwrap().iter().map(|gone| gone["name"].as_str().unwrap()).collect()
}

/// Name and reason of each runner that was kept.
fn kept(document: &Value) -> Vec<(&str, &str)> {
    document["kept"]
        .as_array()
        .unwrap()
        .iter()
        .map(|kept| (kept["runner"]["name"].as_str().unwrap(), kept["why"].as_str().unwrap()))
        .collect()
}

#[test]
fn a_machine_prunes_what_it_left_behind_and_nothing_else() {
    let rig = Rig::new();
    let mine = fingerprint(MACHINE_ID);
    rig.run(&["install", "--name", "box-{machine-id}"]).expect(0);
    let current = format!("box-{mine}");
    let old = [format!("oldbox-{mine}"), format!("{mine}-x7k2p9")];
    let similar = [
        format!("box-{mine}0"),
        format!("box{mine}"),
        format!("box-{}", fingerprint("fedcba9876543210fedcba9876543210")),
        "box".to_owned(),
    ];
    for name in old.iter().chain(&similar) {
        ghost(&rig, name, &[]);
    }
    let online = format!("online-{mine}");
    change(&rig, ghost(&rig, &online, &[]), true, false);
    let busy = format!("busy-{mine}");
    change(&rig, ghost(&rig, &busy, &[]), false, true);
    let everything = on_server(&rig);

    let why = [
        (current.as_str(), "it is the runner in /opt/actions-runner"),
        (online.as_str(), "it is online"),
        (busy.as_str(), "it is running a job"),
    ];
    let rehearsed = prune(&rig, &["--dry-run"]).expect(0).json();
    assert_eq!((deleted(&rehearsed), kept(&rehearsed)), (vec![old[0].as_str(), &old[1]], why.to_vec()));
    assert_eq!(rehearsed["dry_run"], true);
    assert_eq!(on_server(&rig), everything, "a rehearsal deletes nothing");

    let pruned = prune(&rig, &[]).expect(0).json();
    assert_eq!((deleted(&pruned), kept(&pruned)), (vec![old[0].as_str(), &old[1]], why.to_vec()));
    assert_eq!(pruned["dry_run"], false);
    let left: Vec<String> = everything.into_iter().filter(|name| !old.contains(name)).collect();
    assert_eq!(on_server(&rig), left);

    let again = prune(&rig, &[]).expect(0).json();
    assert_eq!(deleted(&again), [] as [&str; 0]);
    rig.run(&["remove"]).expect(0);
}

#[test]
fn the_runners_of_every_folder_of_this_machine_are_kept_even_while_they_register() {
    let rig = Rig::new();
    let mine = fingerprint(MACHINE_ID);
    let state = rig.root().join("var/lib/runup");
    runup::host::file::create_private_dir(&state).unwrap();
    let begin = |dir: &str, name: &str, url: String| {
        let registered = Registered {
            url,
            api_url: format!("{}api/v3", rig.sandbox.base_url()),
            name: name.to_owned(),
            template: "{machine-id}".to_owned(),
            unique: true,
            agent_id: None,
            confirmed: true,
            name_was_free: true,
            may_exist: false,
            unused: false,
            asked: None,
            adopted: false,
        };
        Journal::open(&state, Path::new(dir)).unwrap().begin(Act::Register(registered)).unwrap();
    };
    let [one, other, elsewhere] = ["one", "other", "elsewhere"].map(|name| format!("{name}-{mine}"));
    begin("/opt/one", &one, rig.url());
    begin("/opt/other", &other, rig.url());
    begin("/opt/elsewhere", &elsewhere, format!("{}another-org", rig.sandbox.base_url()));
    for name in [&one, &other, &elsewhere] {
        ghost(&rig, name, &["fleet"]);
    }
    for arguments in [&["--dry-run"][..], &["--label", "fleet", "--dry-run"], &[]] {
        let document = prune(&rig, arguments).expect(0).json();
        assert_eq!(deleted(&document), [elsewhere.as_str()], "its namesake is in another organization");
        let kept: Vec<&str> = kept(&document).into_iter().map(|(name, _)| name).collect();
        assert_eq!(kept, [one.as_str(), &other]);
    }

    // What cannot be read may name any of them.
    ghost(&rig, &elsewhere, &[]);
    rig.write("var/lib/runup/broken.json", "{");
    prune(&rig, &[]).expect(78).says("broken.json");
    assert_eq!(on_server(&rig).len(), 3);
}

#[test]
fn an_operator_prunes_by_label_and_prefix_from_any_machine() {
    let rig = Rig::new();
    std::fs::remove_file(rig.root().join("etc/machine-id")).unwrap();
    for (name, labels) in [
        ("ci-1", &["fleet"][..]),
        ("ci-2", &[]),
        ("CI-3", &["Fleet"]),
        ("aci-4", &["fleets"]),
        ("other", &["fleet", "gpu"]),
    ] {
        ghost(&rig, name, labels);
    }
    for (arguments, expected) in [
        (&["--label", "fleet"][..], &["ci-1", "CI-3", "other"][..]),
        (&["--prefix", "ci-"], &["ci-1", "ci-2"]),
        (&["--prefix", "ci-", "--label", "FLEET"], &["ci-1"]),
        (&["--label", "nobody"], &[]),
    ] {
        let document = prune(&rig, &[arguments, &["--dry-run"]].concat()).expect(0).json();
        assert_eq!(deleted(&document), expected, "{arguments:?}");
    }
    prune(&rig, &["--prefix", "ci-"]).expect(0);
    assert_eq!(on_server(&rig), ["CI-3", "aci-4", "other"]);
}

#[test]
fn without_a_sign_of_ownership_nothing_is_deleted() {
    let rig = Rig::new();
    ghost(&rig, "self-made", &["self-hosted", "Linux"]);
    std::fs::write(rig.root().join("etc/machine-id"), "uninitialized\n").unwrap();
    prune(&rig, &[]).expect(78).says("etc/machine-id").says("--prefix");
    for arguments in [["--prefix", ""], ["--prefix", "se"], ["--label", ""], ["--label", "Self-Hosted"]] {
        prune(&rig, &arguments).expect(64);
    }
    assert_eq!(on_server(&rig), ["self-made"]);
}

#[test]
fn every_page_is_pruned() {
    let rig = Rig::new();
    for number in 0..230 {
        ghost(&rig, &format!("ci-{number}"), &[]);
    }
    let living = ghost(&rig, "ci-living", &[]);
    change(&rig, living, true, false);
    let document = prune(&rig, &["--prefix", "ci-"]).expect(0).json();
    assert_eq!(deleted(&document).len(), 230);
    assert_eq!(on_server(&rig), ["ci-living"]);
}

#[test]
fn a_runner_that_came_back_after_the_list_is_not_touched() {
    for (now, why) in [
        (json!({"status": "online", "busy": false}), "it is online"),
        (json!({"status": "offline", "busy": true}), "it is running a job"),
        (json!({"status": "starting", "busy": false}), "its status is \"starting\""),
        (json!({"status": "offline", "busy": false, "name": "renamed"}), "it is not ours any more"),
    ] {
        let rig = Rig::new();
        let id = ghost(&rig, "ci-1", &[]);
        let mut answer = json!({"id": id, "name": "ci-1"});
        answer.as_object_mut().unwrap().extend(now.as_object().unwrap().clone());
        rig.answer("get-runner", &answer);
        let document = prune(&rig, &["--prefix", "ci-"]).expect(0).json();
        assert_eq!(document["kept"][0]["why"], why);
        assert_eq!(rig.routes(), ["list-runners", "get-runner"]);
    }
}

#[test]
fn a_job_that_starts_at_the_last_moment_saves_its_runner() {
    let rig = Rig::new();
    ghost(&rig, "ci-1", &[]);
    ghost(&rig, "ci-2", &[]);
    let body = Some(json!({"message": "Runner \"ci-1\" is still running a job"}).to_string());
    let refusal = FaultKind::Status { code: 422, body, headers: std::collections::BTreeMap::new() };
    rig.sandbox.fault(Fault::new("delete-runner", refusal).times(1));
    let document = prune(&rig, &["--prefix", "ci-"]).expect(0).json();
    assert_eq!(kept(&document), [("ci-1", "it took a job just now")]);
    assert_eq!(deleted(&document), ["ci-2"]);
}

#[test]
fn a_runner_that_somebody_else_deleted_is_gone_and_that_is_fine() {
    for route in ["get-runner", "delete-runner"] {
        let rig = Rig::new();
        ghost(&rig, "ci-1", &[]);
        let body = Some(json!({"message": "Not Found"}).to_string());
        let gone = FaultKind::Status { code: 404, body, headers: std::collections::BTreeMap::new() };
        if route == "delete-runner" {
            // It is there when it is looked at, and not any more when it is deleted.
            rig.sandbox.fault(Fault::new("get-runner", gone.clone()).skipping(1));
        }
        rig.sandbox.fault(Fault::new(route, gone));
        let document = prune(&rig, &["--prefix", "ci-"]).expect(0).json();
        assert_eq!(deleted(&document), ["ci-1"], "{route}");
        assert_eq!(document["deleted"][0]["already_gone"], true, "{route}");
    }
}

#[test]
fn the_text_names_each_runner_and_what_became_of_it() {
    let rig = Rig::new();
    let id = ghost(&rig, "ci-1", &[]);
    let living = ghost(&rig, "ci-2", &[]);
    change(&rig, living, true, false);
    let say = |arguments: &[&str]| say(&rig, &[&["--prefix", "ci-"], arguments].concat());
    let rehearsed = say(&["--dry-run"]).expect(0).stdout;
    assert_eq!(rehearsed, format!("would delete: ci-1 (id {id})\nkept: ci-2 (id {living}): it is online\n"));
    say(&[]).expect(0).says(&format!("deleted: ci-1 (id {id})\n"));
    say(&[]).expect(0).says("nothing to prune");
}
