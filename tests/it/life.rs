//! Bare machine, registered runner, bare machine.

use crate::rig::{Rig, names_in};
use serde_json::json;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

#[test]
fn a_machine_becomes_a_runner_and_bare_again_in_each_scope() {
    for (path, scope) in [
        ("octo-org", "orgs/octo-org"),
        ("octo-org/hello", "repos/octo-org/hello"),
        ("enterprises/octo", "enterprises/octo"),
    ] {
        let rig = Rig::new().at(path).making_a_user();
        let installed =
            rig.run(&["install", "--json", "--name", "box-{machine-id}", "--labels", "gpu,fast"]).expect(0);
        let document = installed.json();
        assert_eq!(document["changed"], true);
        let state = rig.state();
        let runner = state.runner(scope, document["runner"]["name"].as_str().unwrap()).unwrap();
        assert_eq!(document["runner"]["id"], runner.id);
        assert_eq!(runner.labels, ["self-hosted", "Linux", "X64", "gpu", "fast"].map(String::from));
        rig.assert_exactly_one_runner();
        rig.routes();

        let again = rig.run(&["install", "--json", "--name", "box-{machine-id}"]).expect(0).json();
        assert_eq!(again["changed"], false);
        assert_eq!(rig.routes(), ["get-runner"], "a second run only looks");

        let status = rig.run(&["status", "--json"]).expect(0).json()["runners"][0].clone();
        assert_eq!(status["state"], "registered");
        assert_eq!(status["server"], "offline");
        assert_eq!(status["version"], rig.sandbox.runner_version());

        rig.run(&["remove"]).expect(0).says("done");
        rig.assert_nothing_left();
        rig.run(&["remove"]).expect(0).says("nothing to do");
        rig.run(&["status"]).expect(69).says("absent");
    }
}

#[test]
fn every_runner_option_reaches_the_server() {
    let rig = Rig::new();
    rig.run(&[
        "install",
        "--name",
        "one",
        "--labels",
        "only",
        "--no-default-labels",
        "--ephemeral",
        "--disable-update",
    ])
    .expect(0);
    let runner = &rig.state().runners[0];
    assert!(runner.ephemeral && runner.disable_update);
    assert_eq!(runner.labels, ["only"]);
}

#[test]
fn the_literal_form_of_the_documentation_works_too() {
    let rig = Rig::new();
    rig.run(&["install", "--token-via", "argv"]).expect(0);
    rig.assert_exactly_one_runner();
    rig.run(&["remove", "--token-via", "argv"]).expect(0);
    rig.assert_nothing_left();
}

#[test]
fn the_api_credential_never_reaches_the_download_host() {
    let rig = Rig::new();
    rig.run(&["install"]).expect(0);
    assert_eq!(rig.state().leaks, 0);
}

#[test]
fn the_tree_belongs_to_the_runner_and_the_journal_to_us() {
    let rig = Rig::new();
    rig.run(&["install"]).expect(0);
    let us = rustix::process::geteuid();
    let runner = if us.is_root() { 65534 } else { us.as_raw() };
    for path in ["", "bin", "config.sh", ".runner", ".credentials_rsaparams"] {
        assert_eq!(std::fs::metadata(rig.dir().join(path)).unwrap().uid(), runner, "{path}");
    }
    let state = rig.root().join("var/lib/runup");
    assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
    for name in names_in(&state).into_iter().filter(|name| name.ends_with(".json")) {
        let metadata = std::fs::metadata(state.join(&name)).unwrap();
        assert_eq!(metadata.uid(), us.as_raw());
        assert_eq!(metadata.permissions().mode() & 0o077, 0, "{name}");
    }
}

#[test]
fn a_baked_image_is_sealed_and_boots_without_a_download_in_four_calls() {
    let rig = Rig::new();
    let baked = rig.run(&["bake", "--json"]).expect(0).json();
    assert_eq!(baked["runner"], json!(null));
    assert_eq!(rig.state().runners, []);
    for name in [".runner", ".credentials", "_diag", "_work", "svc.sh"] {
        assert!(!rig.dir().join(name).exists(), "{name}");
    }
    rig.routes();

    rig.run(&["install"]).expect(0);
    rig.assert_exactly_one_runner();
    let ours = ["list-runners", "downloads", "registration-token", "get-runner"];
    let routes = rig.routes();
    let calls: Vec<&str> = routes.iter().map(String::as_str).filter(|route| !is_config_sh(route)).collect();
    assert_eq!(calls, ours, "for the name, for the version, for the token, to confirm");

    rig.run(&["bake"]).expect(78).says("not sealed");
}

/// Requests of `config.sh` itself.
fn is_config_sh(route: &str) -> bool {
    ["runner-registration", "runner-groups-of-runner", "runner-list", "register"].contains(&route)
}

#[test]
fn two_clones_of_an_image_become_two_runners() {
    let rig = Rig::new();
    rig.run(&["install"]).expect(0);
    let first = rig.state().runners[0].clone();
    // The disk is copied with everything on it, and boots as another machine.
    std::fs::write(rig.root().join("etc/machine-id"), "fedcba9876543210fedcba9876543210\n").unwrap();
    rig.run(&["install"]).expect(0);
    let runners = rig.state().runners;
    assert_eq!(runners.len(), 2, "{runners:#?}");
    assert_eq!(runners[0], first, "the first machine's runner is untouched");
    assert_ne!(runners[1].name, first.name);
}

#[test]
fn a_runner_that_the_server_forgot_is_registered_again() {
    let rig = Rig::new();
    rig.run(&["install"]).expect(0);
    let id = rig.state().runners[0].id;
    let gone = runup::sandbox::RunnerChange { deleted: true, ..Default::default() };
    assert!(rig.sandbox.change_runner(id, gone));
    rig.run(&["status"]).expect(78).says("forgotten");
    rig.run(&["install"]).expect(0);
    rig.assert_exactly_one_runner();
    assert_ne!(rig.state().runners[0].id, id);
}

#[test]
fn a_pre_issued_registration_token_needs_no_api_credential() {
    let rig = Rig::new();
    rig.run(&["bake"]).expect(0);
    let token = rig.ask(&["token", "registration"]).expect(0).stdout;
    let file = rig.write("registration-token", token);
    let mut command = rig.on_machine(&["install", "--registration-token-file", &file]);
    command.env_remove("RUNUP_TOKEN");
    crate::rig::finish(command.spawn().unwrap()).expect(0).says("not confirmed");
    rig.assert_exactly_one_runner();
}

#[test]
fn an_archive_at_hand_is_installed_with_its_digest() {
    let rig = Rig::new();
    let list = rig.ask(&["downloads", "--json"]).expect(0).json();
    let linux = list["downloads"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["os"] == "linux" && one["architecture"] == "x64")
        .unwrap();
    let digest = linux["sha256_checksum"].as_str().unwrap();
    // A first install has the archive's tree; the archive itself comes from the sandbox's own mirror route.
    rig.run(&["install", "--sha256", digest]).expect(0);
    rig.run(&["remove"]).expect(0);
    rig.run(&["install", "--sha256", &"0".repeat(64)]).expect(65).says("--sha256");
    rig.assert_nothing_left();
}
