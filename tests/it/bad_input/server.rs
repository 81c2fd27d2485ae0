//! What is wrong between here and the server: the URL, the credential, the answers.

use crate::rig::{Rig, finish};
use runup::sandbox::CredentialKind;

#[test]
fn a_url_that_names_nothing_is_refused_before_any_request() {
    let rig = Rig::new();
    for (url, what) in [
        ("", "URL"),
        ("not a url", "not a url"),
        ("https://", "https://"),
        ("github.com/octo-org", "has no scheme"),
        ("https://github.com", "github.com"),
        ("https://github.com/a/b/c", "a/b/c"),
        ("https://github.com/enterprises/", "enterprises"),
        ("https://github.com/octo org", "octo"),
        ("ftp://github.com/octo-org", "does not begin with https://"),
        ("https://api.github.com/orgs/octo-org", "REST API"),
        ("https://github.com:99999/octo-org", "99999"),
    ] {
        let root = rig.root().to_str().unwrap();
        for command in [&["install"] as &[&str], &["bake"], &["remove"], &["downloads"], &["runners", "list"]]
        {
            let mut command = rig.command(command);
            command.args(["--url", url]);
            if !["downloads", "runners"].contains(&command.get_args().next().unwrap().to_str().unwrap()) {
                command.args(["--root", root]);
            }
            finish(command.spawn().unwrap()).expect(64).says(what).hints("");
        }
    }
    rig.assert_nothing_left();
    assert_eq!(rig.routes(), [] as [&str; 0]);
}

#[test]
fn a_password_in_the_url_is_refused_and_not_repeated() {
    let rig = Rig::new();
    let url = "https://me:hunter2@github.com/octo-org";
    let ran = finish(rig.command(&["downloads", "--url", url]).spawn().unwrap());
    let ran = ran.expect(64).says("credentials").hints("RUNUP_TOKEN");
    assert!(!ran.all().contains("hunter2"), "{ran:#?}");
}

#[test]
fn http_to_a_far_host_is_refused_before_any_request() {
    let rig = Rig::new();
    let root = rig.root().to_str().unwrap();
    // Were it asked, the answer would be another: nothing resolves that name.
    let url = "http://github.invalid/octo-org";
    let ran = finish(rig.command(&["install", "--url", url, "--root", root]).spawn().unwrap());
    ran.expect(64).says("without encryption").says("github.invalid").hints("--allow-http");
    rig.assert_nothing_left();
}

#[test]
fn an_unknown_scope_has_three_meanings() {
    for (path, what) in [
        ("missing-org", "organization missing-org"),
        ("octo-org/missing", "repository octo-org/missing"),
        ("enterprises/missing", "enterprise missing"),
    ] {
        let rig = Rig::new().at(path);
        let ran = rig.refuses(77, &[]).says("404").says(what);
        ran.hints("one of three things")
            .hints("spelling of the URL")
            .hints("may not see it")
            .hints("another scope");
        rig.ask(&["runners", "show", "3"]).expect(77).says(what);
        rig.ask(&["token", "remove"]).expect(77).says(what);
    }
}

#[test]
fn without_a_credential_nothing_begins() {
    let rig = Rig::new().making_a_user();
    rig.run_without_token(&["install"]).expect(77).says("needs a token").hints("RUNUP_TOKEN");
    rig.assert_nothing_left();
    assert_eq!(rig.routes(), [] as [&str; 0]);
    let mut command = rig.command(&["downloads", "--url", &rig.url()]);
    finish(command.env_remove("RUNUP_TOKEN").spawn().unwrap()).expect(77).hints("--token-file");
    rig.run(&["install", "--token-file", "/nowhere/token"]).expect(66).says("/nowhere/token").hints("token");
    let empty = rig.write("token", "\n");
    rig.run(&["install", "--token-file", &empty]).expect(77).says(&empty).hints("one line");
}

#[test]
fn a_token_that_every_user_can_read_is_refused_before_anything_begins() {
    use std::os::unix::fs::PermissionsExt as _;
    let rig = Rig::new();
    let token = rig.write("token", rig.sandbox.token().expose());
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
    let ran = rig.run_without_token(&["install", "--token-file", &token]).expect(78).says("every user");
    ran.hints(&format!("chmod 600 {token}"));
    rig.assert_nothing_left();
    assert_eq!(rig.routes(), [] as [&str; 0]);
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o640)).unwrap();
    let root = rustix::process::geteuid().is_root();
    if root {
        std::os::unix::fs::chown(&token, None, Some(65534)).unwrap();
    }
    let ran = rig.run_without_token(&["install", "--token-file", &token]).expect(0);
    // An ordinary user's group is often nobody else's.
    assert!(ran.stderr.contains("by its group") || !root, "{ran:#?}");
    rig.assert_exactly_one_runner();
}

#[test]
fn a_refused_credential_is_said_and_not_shown() {
    let rig = Rig::new();
    let canary = "ghp_revokedCanary";
    let ran = finish(rig.on_machine(&["install", "-v"]).env("RUNUP_TOKEN", canary).spawn().unwrap());
    let ran = ran.expect(77).says("the credential was refused").says("401").hints("expired or revoked");
    assert!(!ran.all().contains(canary), "{ran:#?}");
    rig.assert_nothing_left();
}

#[test]
fn a_weak_credential_is_told_the_permission() {
    for (path, permission) in [
        ("octo-org", "\"Self-hosted runners\""),
        ("octo-org/hello", "\"Administration\""),
        ("enterprises/octo", "manage_runners:enterprise"),
    ] {
        let rig = Rig::new().at(path);
        let weak = rig.sandbox.weak_token();
        let ran = finish(rig.on_machine(&["install"]).env("RUNUP_TOKEN", weak.expose()).spawn().unwrap());
        ran.expect(77).says("too weak").says("403").hints(permission);
        rig.assert_nothing_left();
        let ran = rig.ask_as(weak.expose(), &["token", "registration"]).expect(77).hints(permission);
        assert!(path.starts_with("enterprises") || ran.stderr.contains(": write"), "{ran:#?}");
    }
}

#[test]
fn a_list_that_offers_nothing_is_69() {
    let rig = Rig::new();
    rig.faults(&["downloads:empty-list"]);
    rig.refuses(69, &[]).says("offers no runner for linux-");
    let rig = Rig::new();
    rig.refuses(69, &["--os", "win", "--arch", "arm"]).says("win-arm").says("win-x64").hints("--os");
    rig.refuses(69, &["--runner-version", "1.2.3"]).says("1.2.3").says("2.336.0").hints("--runner-version");
}

#[test]
fn an_answer_that_is_no_json_is_76_and_shown() {
    let rig = Rig::new();
    rig.faults(&["downloads:not-json"]);
    rig.refuses(76, &[]).says("not JSON").says("downloads");
    let rig = Rig::new();
    rig.faults(&["downloads:html=200"]);
    rig.refuses(76, &[]).says("not JSON").says("<").hints("--api-url");
    let rig = Rig::new();
    rig.faults(&["downloads:html=418"]);
    rig.refuses(76, &[]).says("418");
}

#[test]
fn a_server_in_trouble_is_asked_again_and_then_left() {
    let rig = Rig::new();
    rig.faults(&["downloads:html=502"]);
    rig.refuses(75, &["--deadline", "1s"]).says("502").says("downloads").hints("gain");
    assert!(rig.asked("downloads") > 1);
    // And with a little luck, all is well.
    let rig = Rig::new();
    rig.faults(&["downloads:2:html=502", "list-runners:1:status=503", "registration-token:1:cut=3"]);
    rig.run(&["install"]).expect(0);
    rig.assert_exactly_one_runner();
}

#[test]
fn nobody_at_the_address_is_75() {
    let rig = Rig::new();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let root = rig.root().to_str().unwrap();
    let url = format!("http://{nobody}/octo-org");
    let arguments = ["install", "--url", &url, "--root", root, "--deadline", "1s"];
    let ran = finish(rig.command(&arguments).spawn().unwrap());
    ran.expect(75).says("connection refused").says(&nobody.to_string()).hints("can reach the host");
    rig.assert_nothing_left();
}

#[test]
fn a_checksum_can_be_wrong_in_four_ways() {
    let mut messages = Vec::new();
    for (fault, what) in [
        ("no-checksum", "has none"),
        ("empty-checksum", "empty sha256"),
        ("malformed-checksum", "f1fa17-not-a-digest"),
        ("wrong-checksum", "5ea15ea1"),
    ] {
        let rig = Rig::new();
        rig.faults(&[&format!("downloads:{fault}")]);
        let ran = rig.refuses(65, &[]).says(what).hints("");
        messages.push(ran.error());
        let downloads = if fault == "wrong-checksum" { 2 } else { 0 };
        assert_eq!(
            rig.asked("archive"),
            downloads,
            "a wrong digest earns one fresh attempt, none earns nothing"
        );
    }
    messages.sort();
    messages.dedup();
    assert_eq!(messages.len(), 4, "{messages:#?}");
}

#[test]
fn a_missing_checksum_can_be_given_or_waived() {
    let rig = Rig::new();
    let list = rig.ask(&["downloads", "--json"]).expect(0).json();
    let version = rig.sandbox.runner_version();
    let mine = list["downloads"].as_array().unwrap().iter().find(|one| {
        one["os"] == "linux"
            && one["architecture"] == "x64"
            && one["filename"].as_str().unwrap().contains(&version)
    });
    let digest = mine.unwrap()["sha256_checksum"].as_str().unwrap().to_owned();
    rig.faults(&["downloads:no-checksum"]);
    rig.run(&["install", "--os", "linux", "--arch", "x64", "--sha256", &digest]).expect(0);
    rig.run(&["remove"]).expect(0);
    rig.run(&["install", "--accept-unverified"]).expect(0).says("NOT VERIFIED");
}

#[test]
fn a_redirect_to_another_host_works_and_drops_the_credential() {
    let rig = Rig::new();
    rig.faults(&["archive:redirect"]);
    rig.run(&["install"]).expect(0);
    rig.assert_exactly_one_runner();
    let requests = rig.sandbox.requests();
    let mirror =
        requests.iter().find(|request| request.route == "mirror").expect("the redirect was followed");
    assert_eq!((mirror.credential, mirror.scheme.as_str()), (CredentialKind::None, ""));
    assert!(mirror.host.starts_with("localhost:"), "{mirror:?}");
    assert_eq!(rig.state().leaks, 0);
}

#[test]
fn a_clock_that_is_off_is_said_before_anything_begins() {
    for (seconds, direction) in [(3600, "60 min behind"), (-3600, "60 min ahead"), (90_000, "25 h behind")] {
        let rig = Rig::new().making_a_user();
        rig.faults(&[&format!("*:clock={seconds}")]);
        rig.refuses(75, &[]).says("clock").says(direction).hints("timedatectl");
        assert_eq!(rig.asked("archive"), 0);
    }
    let rig = Rig::new();
    rig.faults(&["*:clock=120"]);
    rig.run(&["install"]).expect(0);
}

#[test]
fn a_rate_limit_says_until_when() {
    let year = jiff::Zoned::now().year().to_string();
    for fault in
        ["list-runners:rate-limit=3000", "downloads:retry-after=3000", "registration-token:rate-limit=3000"]
    {
        let rig = Rig::new();
        rig.faults(&[fault]);
        let began = std::time::Instant::now();
        rig.refuses(75, &["--deadline", "20s"])
            .says("rate limit")
            .says(&format!("until {year}-"))
            .hints("after");
        assert!(began.elapsed().as_secs() < 15, "it does not wait for what it cannot wait for");
    }
    // A short one is waited for.
    let rig = Rig::new();
    rig.faults(&["list-runners:1:retry-after=0"]);
    rig.run(&["install"]).expect(0);
}
