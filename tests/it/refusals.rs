//! What a server refuses a credential for: each reason is an error of its own, which says where the credential came from.

use crate::rig::{Ran, Rig, finish};
use runup::sandbox::{Fault, FaultKind};
use std::collections::BTreeMap;

/// The name that the error of a failed run has.
fn name(ran: &Ran) -> &str {
    let line = ran.stderr.lines().rfind(|line| line.starts_with("more: runup explain "));
    line.unwrap_or_else(|| panic!("no name in {ran:#?}")).rsplit(' ').next().unwrap()
}

fn hint(ran: &Ran) -> &str {
    ran.stderr.lines().find_map(|line| line.strip_prefix("hint: ")).unwrap_or_default()
}

/// A machine without a credential but these variables.
fn run_with(rig: &Rig, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = rig.on_machine(arguments);
    command.env_remove("RUNUP_TOKEN").envs(variables.iter().copied());
    finish(command.spawn().unwrap())
}

#[test]
fn each_policy_of_an_owner_is_told_apart_from_a_weak_credential_without_a_further_call() {
    for (path, code, expected, says) in [
        ("sso-acme", 77, "single-sign-on", "/orgs/sso-acme/sso?authorization_request="),
        ("walled-acme", 78, "address-not-allowed", "IP allow list"),
        ("modern-acme", 77, "token-not-allowed", "classic personal access token from RUNUP_TOKEN"),
        ("acme/closed-tools", 69, "runners-disabled", "disabled on this repository"),
    ] {
        for command in [&["install"] as &[&str], &["run"]] {
            let rig = Rig::new().at(path);
            let ran = rig.run(command).expect(code).says(says);
            assert_eq!(name(&ran), expected, "{path}: {ran:#?}");
            assert!(!hint(&ran).is_empty(), "{ran:#?}");
            assert!(!ran.all().contains(rig.sandbox.token().expose()));
            rig.assert_nothing_left();
            let calls = rig.routes();
            let last = if code == 69 { "registration-token" } else { "list-runners" };
            assert_eq!(calls.last().map(String::as_str), Some(last), "{path}: {calls:?}");
            assert_eq!(calls.iter().filter(|call| *call == last).count(), 1, "{path}: {calls:?}");
            // Without what it was created for, it is the same error.
            let ran = rig.ask(&["token", "registration", "--json"]).expect(code).json();
            assert_eq!(ran["error"]["name"], expected, "{path}");
        }
    }
}

#[test]
fn a_repository_without_runners_is_told_from_a_name_that_is_taken() {
    let create = ["runners", "create-jit", "--jit-config-out", "-"];
    let rig = Rig::new().at("acme/closed-tools");
    let ran = rig.ask(&create).expect(69).says("self-hosted runners are disabled");
    assert_eq!(name(&ran), "runners-disabled");
    // With Actions switched off it is a conflict, as a name in use is.
    let rig = Rig::new().at("acme/tools");
    let body = Some(r#"{"errors": "GitHub Actions is disabled on this repository"}"#.to_owned());
    rig.sandbox
        .fault(Fault::new("jitconfig", FaultKind::Status { code: 409, body, headers: BTreeMap::new() }));
    let ran = rig.ask(&create).expect(69).says("GitHub Actions is disabled");
    assert_eq!(name(&ran), "runners-disabled");
}

#[test]
fn another_scope_is_recommended_only_where_there_is_one() {
    for (path, instead, owner) in [
        ("acme/tools", true, "of the organization or enterprise, under"),
        ("acme", false, "of the organization or enterprise, under"),
        ("enterprises/acme", false, "of the enterprise, under"),
    ] {
        let rig = Rig::new().at(path);
        let body = Some(r#"{"message": "Self-hosted runners are disabled"}"#.to_owned());
        rig.sandbox.fault(Fault::new(
            "registration-token",
            FaultKind::Status { code: 403, body, headers: BTreeMap::new() },
        ));
        let ran = rig.ask(&["token", "registration"]).expect(69);
        assert_eq!(name(&ran), "runners-disabled");
        assert!(hint(&ran).contains(owner), "{ran:#?}");
        assert_eq!(hint(&ran).contains("A runner of the organization may be allowed"), instead, "{ran:#?}");
    }
}

#[test]
fn single_sign_on_is_recognised_by_the_message_alone() {
    let rig = Rig::new();
    let message =
        r#"{"message": "Resource protected by organization SAML enforcement. You must grant access."}"#;
    let kind = FaultKind::Status { code: 403, body: Some(message.to_owned()), headers: BTreeMap::new() };
    rig.sandbox.fault(Fault::new("*", kind));
    let ran = rig.run(&["install"]).expect(77);
    assert_eq!(name(&ran), "single-sign-on");
    assert!(hint(&ran).contains("Configure SSO"), "{ran:#?}");
}

#[test]
fn a_refused_credential_says_where_it_came_from() {
    let rig = Rig::new();
    let wrong = "github_pat_0123456789wrong";
    let file = rig.write("wrong", wrong);
    let kind = "a fine-grained personal access token from";
    for (arguments, variables, source) in [
        (vec!["--token-file", &file], vec![], format!("{kind} the file {file}")),
        (vec![], vec![("RUNUP_TOKEN", wrong)], format!("{kind} RUNUP_TOKEN")),
        (vec![], vec![("GITHUB_TOKEN", wrong)], format!("{kind} GITHUB_TOKEN")),
        (vec![], vec![("GH_TOKEN", wrong)], format!("{kind} GH_TOKEN")),
        (
            vec!["--token-command", "printf github_pat_; date +%N"],
            vec![("GH_TOKEN", rig.sandbox.token().expose())],
            format!("{kind} the token command `printf github_pat_; date +%N`"),
        ),
    ] {
        let secret = rig.sandbox.token();
        let ran = run_with(&rig, &[&["install"], &arguments[..]].concat(), &variables).expect(77);
        assert_eq!(name(&ran), "unauthorized");
        assert!(ran.stderr.contains(&source), "{source}: {ran:#?}");
        assert!(!ran.all().contains(wrong) && !ran.all().contains(secret.expose()), "{ran:#?}");
        let ambient = source.ends_with("GITHUB_TOKEN") || source.ends_with("GH_TOKEN");
        assert_eq!(hint(&ran).contains("unset it"), ambient, "{ran:#?}");
        rig.assert_nothing_left();
    }
}

#[test]
fn a_variable_for_other_programs_that_spoils_a_good_registration_token_is_named() {
    let rig = Rig::new();
    rig.run(&["bake"]).expect(0);
    let token = rig.ask(&["token", "registration"]).expect(0).stdout;
    let file = rig.write("token", token);
    let install = ["install", "--registration-token-file", &file];
    let ran = run_with(&rig, &install, &[("GH_TOKEN", "gho_0123456789wrong")]).expect(77);
    assert!(ran.stderr.contains("an OAuth token from GH_TOKEN"), "{ran:#?}");
    assert!(hint(&ran).contains("GH_TOKEN is used because no other credential"), "{ran:#?}");
    run_with(&rig, &install, &[]).expect(0);
    rig.assert_exactly_one_runner();
}

#[test]
fn a_token_that_can_never_do_it_is_recognised_by_its_form() {
    let rig = Rig::new();
    let registration = rig.ask(&["token", "registration"]).expect(0).stdout;
    let registration = format!("A{}", &registration.trim()[1..]);
    for (token, says) in [
        ("ghs_0123456789workflow", "A workflow's GITHUB_TOKEN can never manage runners."),
        ("ghr_0123456789refresh", "A refresh token is only good for getting another token."),
        (&registration, "--registration-token-file"),
    ] {
        let ran = run_with(&rig, &["install"], &[("RUNUP_TOKEN", token)]).expect(77);
        assert!(hint(&ran).starts_with(says) || hint(&ran).contains(says), "{ran:#?}");
        assert!(!ran.all().contains(token), "{ran:#?}");
    }
}

#[test]
fn the_scopes_of_a_classic_token_are_compared_with_those_that_the_call_accepts() {
    let rig = Rig::new();
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let headers =
        [header("x-oauth-scopes", "read:org, repo"), header("x-accepted-oauth-scopes", "admin:org")];
    let body = Some(r#"{"message": "Must have admin rights to Repository."}"#.to_owned());
    let kind = FaultKind::Status { code: 403, body, headers: headers.clone().into() };
    rig.sandbox.fault(Fault::new("registration-token", kind));
    let ran = rig.run(&["install"]).expect(77);
    assert_eq!(name(&ran), "forbidden");
    assert!(ran.stderr.contains("RUNUP_TOKEN with the scopes read:org, repo"), "{ran:#?}");
    assert!(hint(&ran).matches("admin:org").count() == 1, "{ran:#?}");
    rig.assert_nothing_left();
    // The doctor sees them before anything is refused.
    rig.sandbox.faults_clear();
    let ran = rig.run(&["doctor"]).expect(0);
    let fine = "the server accepts a classic personal access token from RUNUP_TOKEN with the scopes admin:enterprise";
    assert!(ran.stdout.contains(fine), "{ran:#?}");
}
