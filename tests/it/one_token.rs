//! A registration token alone, as GitHub's page "New self-hosted runner" shows it: what it can do, and what is said where it
//! cannot.

use crate::rig::{Ran, Rig};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// A registration token of the server in a file, as text or as the document of `runup token`.
fn token(rig: &Rig, kind: &str, document: bool) -> (String, Value) {
    let document_of = rig.ask(&["token", kind, "--json"]).expect(0).json();
    let text = document_of["token"].as_str().unwrap().to_owned();
    let content = if document { document_of.to_string() } else { text };
    (rig.write(&format!("{kind}-token"), content), document_of)
}

fn install<'a>(file: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["install", "--registration-token-file", file], more].concat()
}

/// The archive for this machine, and its digest, as an operator has them at hand.
fn archive(rig: &Rig) -> (String, String) {
    let platform = if cfg!(target_arch = "aarch64") { "linux-arm64" } else { "linux-x64" };
    let bytes = crate::rebake::fetch(rig, &format!("_sandbox/mirror/{platform}/2.336.0"));
    let sha256 = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&bytes));
    (rig.write(&format!("actions-runner-{platform}-2.336.0.tar.gz"), bytes), sha256)
}

fn journal_path(rig: &Rig) -> PathBuf {
    let state = rig.root().join("var/lib/runup");
    let file = crate::rig::names_in(&state).into_iter().find(|name| name.ends_with(".json"));
    state.join(file.expect("the runner has a journal"))
}

fn journal(rig: &Rig) -> Value {
    serde_json::from_slice(&std::fs::read(journal_path(rig)).unwrap()).unwrap()
}

fn assert_no_call_with_a_credential_for_the_api(rig: &Rig) {
    let ours = |scheme: &str| scheme == "bearer" || scheme == "token";
    let requests = rig.sandbox.requests();
    assert!(requests.iter().all(|request| !ours(&request.scheme)), "{requests:#?}");
}

#[test]
fn it_registers_with_an_archive_a_mirror_a_public_release_or_what_was_baked() {
    let rig = Rig::new();
    let (file, sha256) = archive(&rig);
    let mirror = format!("{}_sandbox/mirror", rig.sandbox.base_url());
    for (more, is_baked) in [
        (vec!["--archive", &file, "--sha256", &sha256], false),
        (vec!["--mirror", &mirror, "--runner-version", "2.336.0", "--sha256", &sha256], false),
        (vec!["--from-release"], false),
        (vec!["--from-release", "--mirror", &mirror], false),
        (vec![], true),
    ] {
        let rig = Rig::new();
        // The mirror and the archive are those of another server.
        if is_baked {
            rig.run(&["bake"]).expect(0);
        }
        let (token, document) = token(&rig, "registration", true);
        rig.sandbox.requests_clear();
        let ran = rig.run_without_token(&install(&token, &more)).expect(0).says("not confirmed");
        assert!(!ran.all().contains(document["token"].as_str().unwrap()), "{ran:#?}");
        assert_no_call_with_a_credential_for_the_api(&rig);
        rig.assert_exactly_one_runner();
        // What only the runner's own files say is shown, and recorded as such.
        let entries = journal(&rig)["entries"].as_array().unwrap().clone();
        let registered = entries.iter().find(|entry| entry["step"] == "register").unwrap();
        assert_eq!(registered["agent_id"], rig.state().runners[0].id, "{more:?}");
        assert_eq!(registered["confirmed"], Value::Null, "{more:?}");
    }
}

#[test]
fn the_public_release_may_be_ahead_and_its_limit_names_the_mirror() {
    let rig = Rig::new();
    let (token, _) = token(&rig, "registration", false);
    rig.faults(&["latest-release:1:rate-limit=5000"]);
    let ran = rig.run_without_token(&install(&token, &["--from-release"])).expect(75);
    assert!(ran.stderr.contains("60 an hour") && ran.stderr.contains("--mirror"), "{ran:#?}");
    assert!(ran.stderr.ends_with("more: runup explain release-limited\n"), "{ran:#?}");
    rig.assert_nothing_left();
    rig.sandbox.faults_clear();
    rig.run_without_token(&install(&token, &["--from-release"]))
        .expect(0)
        .says("may be ahead of what GitHub offers");
    rig.run(&["remove"]).expect(0);
    // Another version is another release.
    let (token, _) = self::token(&rig, "registration", false);
    let pinned = ["--from-release", "--runner-version"];
    let x64 = cfg!(target_arch = "x86_64");
    if x64 {
        rig.run_without_token(&install(&token, &[&pinned[..], &["2.328.0"]].concat()))
            .expect(0)
            .says("2.328.0");
        rig.run(&["remove"]).expect(0);
    }
    let ran = rig.run_without_token(&install(&token, &[&pinned[..], &["2.1.0"]].concat())).expect(69);
    assert!(ran.stderr.contains("has no release 2.1.0"), "{ran:#?}");
}

#[test]
fn a_release_whose_digest_is_not_that_of_the_archive_is_not_installed() {
    let rig = Rig::new();
    let (token, _) = token(&rig, "registration", false);
    rig.faults(&["latest-release:wrong-checksum"]);
    rig.run_without_token(&install(&token, &["--from-release"])).expect(65);
    rig.assert_nothing_left();
    rig.sandbox.faults_clear();
    rig.faults(&["latest-release:no-checksum"]);
    rig.run_without_token(&install(&token, &["--from-release"])).expect(65).says("no sha256 is known");
}

#[test]
fn a_refused_token_is_called_expired_only_where_its_end_is_known() {
    let refused = |rig: &Rig, file: &str| -> Ran {
        rig.run(&["bake"]).expect(0);
        rig.sandbox.expire_tokens();
        rig.run_without_token(&install(file, &[])).expect(77)
    };
    // The text alone: everything that it can be.
    let rig = Rig::new();
    let (file, _) = token(&rig, "registration", false);
    let ran = refused(&rig, &file);
    for part in [
        &format!("does not accept the registration token from the file {file}"),
        "may have expired",
        "another enterprise, organization or repository",
        "--url is wrong",
        "has lost access",
        "more: runup explain token-refused",
    ] {
        assert!(ran.stderr.contains(part), "{part}: {ran:#?}");
    }
    assert!(!ran.stderr.contains("the file is"), "it is new: {ran:#?}");
    assert_eq!(rig.state().runners, []);
    // An old file.
    let old = SystemTime::now() - Duration::from_secs(3 * 3600);
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(old).unwrap();
    rig.run_without_token(&install(&file, &[])).expect(77).says("the file is 3 h old");
    // A document whose end is over is not even tried.
    let document =
        json!({"token": "AABF3JGZDX3P5PMEXLND6TS6FCWO6", "expires_at": "2020-01-22T12:13:35.123-08:00"});
    let file = rig.write("old", document.to_string());
    rig.sandbox.requests_clear();
    let ran =
        rig.run_without_token(&install(&file, &[])).expect(77).says("expired at 2020-01-22T20:13:35.123Z");
    assert!(ran.stderr.ends_with("more: runup explain token-expired\n"), "{ran:#?}");
    assert_eq!(rig.routes(), [] as [&str; 0]);
    // One that is refused before its end is not called expired.
    let rig = Rig::new();
    let (file, _) = token(&rig, "registration", true);
    let ran = refused(&rig, &file).says("It was to be valid until");
    assert!(!ran.stderr.contains("may have expired"), "{ran:#?}");
}

#[test]
fn what_cannot_be_undone_without_a_remove_token_may_remain() {
    let rig = Rig::new();
    rig.run(&["bake"]).expect(0);
    let (file, _) = token(&rig, "registration", false);
    rig.faults(&["runner-registration:1:script=fail-after-register"]);
    let ran = rig.run_without_token(&install(&file, &["--name", "left"])).expect(79);
    assert!(ran.stderr.contains("not undone: the runner may remain on the server: left"), "{ran:#?}");
    assert_eq!(rig.state().runners.len(), 1);
}

/// A directory in the place of a log that is to be deleted fails the registration after `config.sh` has made it.
#[test]
fn a_remove_token_undoes_what_config_sh_has_registered() {
    for with_remove_token in [false, true] {
        let rig = Rig::new();
        rig.run(&["bake"]).expect(0);
        let (file, _) = token(&rig, "registration", false);
        let remove = rig.ask(&["token", "remove", "--json"]).expect(0).stdout;
        std::fs::create_dir(journal_path(&rig).with_extension("log")).unwrap();
        let mut command = rig.on_machine(&install(&file, &["--name", "left"]));
        command.env_remove("RUNUP_TOKEN");
        if with_remove_token {
            command.env("RUNUP_REMOVE_TOKEN", remove.trim());
        }
        let ran = crate::rig::finish(command.spawn().unwrap());
        assert!(rig.sandbox.requests().iter().any(|request| request.route == "register"), "{ran:#?}");
        assert_ne!(ran.code, 0, "{ran:#?}");
        let left = ran.stderr.contains("not undone: the runner may remain on the server: left");
        assert_eq!(
            (left, rig.state().runners.len()),
            if with_remove_token { (false, 0) } else { (true, 1) },
            "{ran:#?}"
        );
    }
}

#[test]
fn a_remove_token_that_has_expired_is_refused_before_anything_is_done() {
    let rig = Rig::new();
    rig.run(&["install"]).expect(0);
    let online = |rig: &Rig| rig.state().runners.first().is_some_and(|runner| runner.online);
    let child = rig.start(&["run"]);
    crate::rig::until("it is online", || online(&rig));
    let refused = |rig: &Rig| {
        rig.sandbox.requests_clear();
        let token =
            json!({"token": "AABF3JGZDX3P5PMEXLND6TS6FCWO6", "expires_at": "2020-01-22T12:13:35.123-08:00"});
        let mut command = rig.on_machine(&["remove", "--trust-tree"]);
        command.env_remove("RUNUP_TOKEN").env("RUNUP_REMOVE_TOKEN", token.to_string());
        let ran = crate::rig::finish(command.spawn().unwrap()).expect(77);
        assert!(
            ran.stderr.contains("the remove token from RUNUP_REMOVE_TOKEN expired at 2020-01-22"),
            "{ran:#?}"
        );
        assert!(ran.stderr.ends_with("more: runup explain token-expired\n"), "{ran:#?}");
    };
    refused(&rig);
    assert!(online(&rig), "the runner that works was stopped");
    crate::rig::signal(&child, rustix::process::Signal::TERM);
    crate::rig::finish(child).expect(0);
    let before = rig.everything();
    refused(&rig);
    assert_eq!(rig.routes(), [] as [&str; 0]);
    assert_eq!(rig.everything(), before);
    rig.assert_exactly_one_runner();
}

#[test]
fn the_document_of_a_controller_registers_many_machines_and_its_life_is_shown() {
    let rig = Rig::new();
    let (file, document) = token(&rig, "registration", true);
    rig.sandbox.requests_clear();
    for (dir, name) in [("/opt/a", "a"), ("/opt/b", "b"), ("/opt/c", "c")] {
        let more = ["--from-release", "--dir", dir, "--name", name];
        let ran = rig.run_without_token(&install(&file, &more)).expect(0);
        assert!(
            ran.stderr.contains(&format!("registration token from the file {file}, good until ")),
            "{ran:#?}"
        );
        assert!(ran.stderr.contains("59 min left"), "{ran:#?}");
        assert!(!ran.all().contains(document["token"].as_str().unwrap()));
    }
    assert_eq!(rig.state().runners.len(), 3);
    assert_no_call_with_a_credential_for_the_api(&rig);
}
