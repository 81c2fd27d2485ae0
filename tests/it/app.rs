//! A GitHub App as the credential: its key, its installation, its tokens, and everything that can be wrong with them.

use crate::rig::{Ran, Rig, finish, signal, until};
use runup::sandbox::{App, Fault, FaultKind, Scope};
use rustix::process::Signal;
use std::os::unix::fs::PermissionsExt as _;

const PUBLIC: &str = include_str!("../fixtures/app/public.pem");
const KEY: &str = include_str!("../fixtures/app/key.pem");
const PKCS8: &str = include_str!("../fixtures/app/key-pkcs8.pem");

fn app() -> App {
    App { owner: Some("octo-org".to_owned()), ..App::everywhere(PUBLIC) }
}

/// A server with the App, and a machine with its key.
fn rig_with(app: App) -> (Rig, String) {
    let rig = Rig::new();
    rig.sandbox.add_app(app);
    let key = rig.write("etc/runup/app-key.pem", KEY);
    (rig, key)
}

fn run(rig: &Rig, arguments: &[&str]) -> Ran {
    finish(rig.on_machine(arguments).env_remove("RUNUP_TOKEN").spawn().unwrap())
}

/// Lists runners: the shortest command that needs the credential.
fn list(rig: &Rig, arguments: &[&str]) -> Ran {
    let mut command = rig.command(&[&["runners", "list", "--app-id", "4711"], arguments].concat());
    finish(command.arg("--url").arg(rig.url()).env_remove("RUNUP_TOKEN").spawn().unwrap())
}

/// The key is in nothing that was printed.
#[track_caller]
fn assert_unprinted(ran: &Ran) {
    let lines = || KEY.lines().filter(|line| !line.starts_with('-'));
    assert!(lines().count() > 20 && !lines().any(|line| ran.all().contains(line)), "the key is printed");
}

#[test]
fn a_runner_lives_its_whole_life_by_an_app_and_nothing_prints_or_keeps_its_secrets() {
    let (rig, key) = rig_with(app());
    let config = rig.write("config.toml", format!("app-id = 4711\napp-key-file = {key:?}\n"));
    for command in ["plan", "install", "install", "status", "remove"] {
        let ran = run(&rig, &[command, "-v", "--config", &config, "--json"]).expect(0);
        assert_unprinted(&ran);
        let tokens = rig.sandbox.issued();
        assert!(!tokens.iter().any(|token| ran.all().contains(token.expose())), "{command} printed a token");
        let asked = (rig.asked("installation"), rig.asked("access-tokens"));
        assert_eq!(asked, (1, 1), "one token for all calls of {command}");
        rig.routes();
        for path in rig.everything().iter().filter(|path| path.is_file() && **path != *key) {
            let content = std::fs::read(path).unwrap_or_default();
            let content = String::from_utf8_lossy(&content);
            let is_kept = tokens.iter().any(|token| content.contains(token.expose()));
            assert!(!is_kept && !content.contains(&KEY[40..90]), "{}", path.display());
        }
    }
    rig.assert_nothing_left();
    assert_eq!(rig.sandbox.violations(), [] as [&str; 0]);
}

#[test]
fn an_app_costs_two_calls_and_one_if_the_installation_is_named() {
    let calls = |arguments: &[&str], token: bool| {
        let (rig, key) = rig_with(app());
        let mut command = rig.on_machine(&[&["install"], arguments].concat());
        if !token {
            command.env_remove("RUNUP_TOKEN").args(["--app-id", "Iv23liSandbox", "--app-key-file", &key]);
        }
        finish(command.spawn().unwrap()).expect(0);
        let ours = |agent: &Option<String>| agent.as_ref().is_some_and(|agent| agent.starts_with("runup"));
        rig.sandbox.requests().iter().filter(|request| ours(&request.user_agent)).count()
    };
    let by_token = calls(&[], true);
    assert!(by_token > 2);
    assert_eq!(calls(&[], false), by_token + 2);
    assert_eq!(calls(&["--app-installation-id", "815"], false), by_token + 1);
}

#[test]
fn the_token_for_a_repository_is_for_this_one_alone() {
    let rig = Rig::new().at("octo-org/hello");
    rig.sandbox.add_app(App { repositories: Some(vec!["hello".to_owned()]), ..app() });
    let key = rig.write("app-key.pem", PKCS8);
    run(&rig, &["install", "--app-id", "4711", "--app-key-file", &key]).expect(0);
    rig.assert_exactly_one_runner();
    // The sandbox notes if a token is requested for more than one permission, or for more than the repository.
    assert_eq!(rig.sandbox.violations(), [] as [&str; 0]);
    let issued = rig.state().tokens;
    assert!(issued.iter().any(|token| token.scope.to_string() == "repos/octo-org/hello"));

    let rig = Rig::new().at("octo-org/other");
    rig.sandbox.add_app(App { repositories: Some(vec!["hello".to_owned()]), ..app() });
    let key = rig.write("app-key.pem", KEY);
    list(&rig, &["--app-key-file", &key])
        .expect(77)
        .says("is not installed in the repository octo-org/other");
    list(&rig, &["--app-key-file", &key, "--app-installation-id", "815"])
        .expect(77)
        .says("may not manage the runners of the repository octo-org/other")
        .says("not accessible to the parent installation")
        .says("add the repository to the installation");
}

#[test]
fn what_is_wrong_with_an_app_on_the_server_is_said_with_its_fix_and_leaves_nothing() {
    let weak = || App { permissions: [("contents".to_owned(), "write".to_owned())].into(), ..app() };
    let read = || App {
        permissions: [("organization_self_hosted_runners".to_owned(), "read".to_owned())].into(),
        ..app()
    };
    let elsewhere = || App { owner: Some("other-org".to_owned()), ..app() };
    let suspended = || App { suspended: true, ..app() };
    let by_number = ["--app-installation-id", "815"];
    let cases: [(App, &[&str], &str, &str); 9] = [
        (elsewhere(), &[], "is not installed in the organization octo-org", "Install App"),
        (suspended(), &[], "is suspended in the organization octo-org", "unsuspend"),
        (suspended(), &by_number, "is suspended in the organization octo-org", "unsuspend"),
        (weak(), &[], "may not manage the runners of the organization octo-org", "Self-hosted runners"),
        (read(), &[], "may not manage the runners of the organization octo-org", "read and write"),
        (weak(), &by_number, "permissions requested are not granted", "Self-hosted runners"),
        (app(), &["--app-installation-id", "99"], "has no installation 99", "Omit --app-installation-id"),
        (app(), &["--app-id", "12"], "did not accept GitHub App 12", "Check --app-id"),
        (
            app(),
            &["--app-key-file", "OTHER"],
            "did not accept GitHub App 4711",
            "the key is one of this App's",
        ),
    ];
    for (app, more, cause, fix) in cases {
        let (rig, key) = rig_with(app);
        let other = rig.write("other.pem", include_str!("../fixtures/app/other.pem"));
        let mut arguments = vec!["install", "--json"];
        for (option, default) in [("--app-id", "4711"), ("--app-key-file", key.as_str())] {
            if !more.contains(&option) {
                arguments.extend([option, default]);
            }
        }
        arguments.extend(more.iter().map(|word| if *word == "OTHER" { other.as_str() } else { word }));
        let ran = run(&rig, &arguments).expect(77).says(cause).says(fix);
        assert_unprinted(&ran);
        rig.assert_nothing_left();
        assert!(rig.asked("access-tokens") <= 1, "{cause}: it was asked again");
    }
}

#[test]
fn a_key_that_cannot_sign_is_refused_before_anything_is_sent() {
    let (rig, _) = rig_with(app());
    for (text, why) in [
        ("", "is empty"),
        ("ghp_0123456789abcdef0123456789abcdef0123", "is not in PEM format"),
        (&KEY[..800], "damaged"),
        (PUBLIC, "is a public key"),
        (include_str!("../fixtures/app/ec.pem"), "is not an RSA key"),
        (include_str!("../fixtures/app/small.pem"), "is too short"),
        (include_str!("../fixtures/app/encrypted.pem"), "is encrypted with a passphrase"),
    ] {
        let file = rig.write("key.pem", text);
        let ran = run(&rig, &["install", "--app-id", "4711", "--app-key-file", &file]).expect(78);
        let ran = ran.says(&format!("the key of the GitHub App from {file} ")).says(why).says("Private keys");
        assert!(text.is_empty() || !ran.all().contains(text), "{why}: it is printed");
    }
    let file = rig.write("key.pem", KEY);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    list(&rig, &["--app-key-file", &file]).expect(78).says("can be read by every user").says("chmod 600");
    list(&rig, &["--app-key-file", "/nowhere/key.pem"]).expect(66).says("/nowhere/key.pem");
    let pipe = rig.root().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    list(&rig, &["--app-key-file", pipe.to_str().unwrap()]).expect(74).says("not a regular file");
    assert_eq!(rig.routes(), [] as [&str; 0]);
    rig.assert_nothing_left();
}

#[test]
fn keys_are_also_read_as_secret_stores_hand_them_out() {
    let (rig, _) = rig_with(app());
    let one_line = KEY.trim().replace('\n', "\\n");
    let encoded = Encoded(KEY.as_bytes()).to_string();
    for text in [PKCS8, &format!("\u{feff}{}", KEY.replace('\n', "\r\n")), &one_line, &encoded] {
        let file = rig.write("key.pem", text);
        list(&rig, &["--app-key-file", &file]).expect(0);
        let ran = list(&rig, &["-v", "--app-key-command", &format!("cat {file}")]).expect(0);
        assert_unprinted(&ran);
    }
}

#[test]
fn a_key_that_a_tracing_command_shows_is_masked_in_every_form_although_it_failed() {
    let (rig, _) = rig_with(app());
    let one_line = KEY.trim().replace('\n', "\\n");
    let encoded = Encoded(KEY.as_bytes()).to_string().replace('\n', "");
    for text in [KEY, &one_line, &KEY.replace('\n', " "), &encoded] {
        let file = rig.write("key.pem", text);
        // The first run is retried with a warning. What it traces is longer than what is kept of it.
        let ran = rig.root().join("ran");
        let _ = std::fs::remove_file(&ran);
        let end = format!("test -e {0} && exit 126; touch {0}; exit 1", ran.display());
        let command = format!("set -x; key=$(cat {file}); printf %s \"$key\"; {end}");
        let ran = list(&rig, &["-v", "--json", "--app-key-command", &command]).expect(78);
        let ran = ran.says("[secret]").says("trying again");
        let is_secret = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
        let parts = text.as_bytes().chunks(12).filter(|part| part.iter().all(is_secret));
        let parts: Vec<&str> = parts.map(|part| std::str::from_utf8(part).unwrap()).collect();
        assert!(parts.len() > 80);
        let shown = parts.iter().find(|part| ran.all().contains(**part));
        assert_eq!(shown, None, "{}", ran.all());
    }
}

#[test]
fn a_command_that_signs_is_not_repeated_when_it_fails_because_a_token_locks_itself() {
    let (rig, _) = rig_with(app());
    let runs = rig.root().join("runs");
    let command = format!("echo run >>{}; echo wrong PIN >&2; exit 1", runs.display());
    list(&rig, &["--app-sign-command", &command]).expect(75).says("wrong PIN");
    assert_eq!(std::fs::read_to_string(runs).unwrap(), "run\n");
}

/// In base64, by the tool that people use.
struct Encoded<'a>(&'a [u8]);

impl std::fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, self.0).unwrap();
        let ran = std::process::Command::new("base64").arg(file.path()).output().unwrap();
        f.write_str(&String::from_utf8(ran.stdout).unwrap())
    }
}

#[test]
fn the_options_of_an_app_are_refused_where_they_do_not_fit() {
    let (rig, key) = rig_with(app());
    let no_app = |arguments: &[&str]| {
        let mut command = rig.command(&[&["runners", "list"], arguments].concat());
        finish(command.arg("--url").arg(rig.url()).env_remove("RUNUP_TOKEN").spawn().unwrap())
    };
    no_app(&["--app-key-file", &key]).expect(64).says("--app-key-file needs --app-id");
    no_app(&["--app-installation-id", "815"]).expect(64).says("--app-installation-id needs --app-id");
    let long = "1".repeat(70_000);
    no_app(&["--app-id", &long, "--app-key-file", &key]).expect(64).says("is not the id of a GitHub App");
    list(&rig, &[]).expect(64).says("--app-id needs the key of the App");
    list(&rig, &["--app-key-file", "-"]).expect(64).says("--app-key-file cannot be -");
    list(&rig, &["--app-key-file", &key, "--app-key-command", "cat x"])
        .expect(64)
        .says("--app-key-file and --app-key-command cannot be used together");
    list(&rig, &["--app-key-file", &key, "--token-file", &key])
        .expect(64)
        .says("--token-file and --app-id cannot be used together");
    let enterprise = Rig::new().at("enterprises/octo");
    let key = enterprise.write("key.pem", KEY);
    for command in ["install", "remove", "upgrade", "status"] {
        run(&enterprise, &[command, "--app-id", "4711", "--app-key-file", &key])
            .expect(64)
            .says("a GitHub App cannot be used for the enterprise octo")
            .says("manage_runners:enterprise");
    }
    list(&enterprise, &["--app-key-file", &key]).expect(64).says("cannot be used for the enterprise octo");
    assert_eq!((rig.routes(), enterprise.routes()), (vec![], vec![]));
}

#[test]
fn the_flag_beats_the_environment_and_that_the_file() {
    let (rig, key) = rig_with(app());
    let config = rig.write("config.toml", format!("app-id = 4711\napp-key-file = {key:?}\n"));
    let ask = |arguments: &[&str], environment: &[(&str, &str)]| {
        let mut command = rig.command(&[&["runners", "list", "--config", &config], arguments].concat());
        command.env_remove("RUNUP_TOKEN").envs(environment.iter().copied());
        let ran = finish(command.arg("--url").arg(rig.url()).spawn().unwrap()).expect(0);
        assert_unprinted(&ran);
        rig.routes().contains(&"access-tokens".to_owned())
    };
    let token = rig.sandbox.token();
    let file = rig.write("token", token.expose());
    assert!(ask(&[], &[]));
    assert!(ask(&[], &[("GITHUB_TOKEN", "an-ambient-one-that-is-wrong")]));
    assert!(!ask(&[], &[("RUNUP_TOKEN", token.expose())]));
    assert!(!ask(&["--token-file", &file], &[]));
    assert!(ask(&["--app-id", "4711"], &[("RUNUP_TOKEN", "not-this-one")]));
    assert!(ask(&[], &[("RUNUP_APP_ID", "4711"), ("RUNUP_TOKEN", "not-this-one")]));
    // Without a file in the settings, the key is systemd's credential, whose mode systemd chooses.
    rig.write("credentials/runup.app-key", KEY);
    let credentials = rig.root().join("credentials");
    let mode = std::fs::Permissions::from_mode(0o444);
    std::fs::set_permissions(credentials.join("runup.app-key"), mode).unwrap();
    let mut command = rig.command(&["runners", "list", "--app-id", "4711", "--url", &rig.url()]);
    command.env_remove("RUNUP_TOKEN").env("CREDENTIALS_DIRECTORY", credentials);
    finish(command.spawn().unwrap()).expect(0);
}

/// The unit gets the file of a flag in this way, and the flag took precedence over the configuration file.
#[test]
fn a_systemd_credential_beats_one_from_the_configuration_file() {
    let (rig, _) = rig_with(app());
    rig.write("key/runup.app-key", KEY);
    rig.write("token/runup.token", rig.sandbox.token().expose());
    let other_key = "app-id = 4711\napp-key-command = \"exit 126\"\n";
    for (config, credentials) in
        [(other_key, "key"), (other_key, "token"), ("token-command = \"exit 126\"\n", "token")]
    {
        let config = rig.write("config.toml", config);
        let url = rig.url();
        let mut command = rig.command(&["runners", "list", "--config", &config, "--url", &url]);
        command.env_remove("RUNUP_TOKEN").env("CREDENTIALS_DIRECTORY", rig.root().join(credentials));
        finish(command.spawn().unwrap()).expect(0);
        let flag = ["--token-command", "exit 126"];
        let mut command = rig.command(&[&["runners", "list", "--url", &url], &flag[..]].concat());
        command.env_remove("RUNUP_TOKEN").env("CREDENTIALS_DIRECTORY", rig.root().join(credentials));
        finish(command.spawn().unwrap()).expect(78);
    }
}

#[test]
fn a_clock_that_is_off_is_corrected_by_the_server_s_and_said() {
    for (seconds, direction) in [(600, "behind"), (-600, "ahead of"), (7200, "behind")] {
        let (rig, key) = rig_with(app());
        rig.sandbox.fault(Fault::new("*", FaultKind::Clock { seconds }));
        let ran = list(&rig, &["--app-key-file", &key]).expect(0);
        assert!(ran.stderr.contains(&format!(" s {direction} the server's")), "{ran:#?}");
        assert_eq!((rig.asked("installation"), rig.asked("access-tokens")), (2, 1));
        // A runner would be refused by GitHub for as long.
        run(&rig, &["install", "--app-id", "4711", "--app-key-file", &key]).expect(75).says("clock");
        rig.assert_nothing_left();
    }
    let (rig, key) = rig_with(app());
    rig.sandbox.fault(Fault::new("*", FaultKind::Clock { seconds: 40 }));
    let ran = list(&rig, &["--app-key-file", &key]).expect(0);
    assert!(!ran.stderr.contains("clock"), "{ran:#?}");
    assert_eq!(rig.asked("installation"), 1);
}

#[test]
fn a_token_that_is_refused_is_renewed_once() {
    let (rig, key) = rig_with(app());
    rig.sandbox.fault(Fault::new("access-tokens", FaultKind::ExpiredToken).times(1));
    run(&rig, &["install", "--app-id", "4711", "--app-key-file", &key]).expect(0);
    rig.assert_exactly_one_runner();
    assert_eq!((rig.asked("installation"), rig.asked("access-tokens")), (1, 2));

    let (rig, key) = rig_with(app());
    rig.sandbox.fault(Fault::new("access-tokens", FaultKind::ExpiredToken));
    run(&rig, &["install", "--app-id", "4711", "--app-key-file", &key])
        .expect(77)
        .says("the credential was refused");
    assert_eq!(rig.asked("access-tokens"), 2);
    rig.assert_nothing_left();
}

#[test]
fn an_app_that_is_installed_anew_meanwhile_and_an_answer_that_is_no_token_are_survived_or_said() {
    let (rig, key) = rig_with(app());
    rig.sandbox.fault(Fault::new("access-tokens", FaultKind::Html { status: 200 }));
    list(&rig, &["--app-key-file", &key]).expect(76).says("access_tokens");
    rig.sandbox.faults_clear();
    rig.faults(&["installation:2:status=502", "access-tokens:1:status=500"]);
    list(&rig, &["--app-key-file", &key]).expect(0);
    rig.faults(&["access-tokens:status=502"]);
    list(&rig, &["--app-key-file", &key, "--deadline", "1s"]).expect(75);
}

#[test]
fn the_doctor_checks_an_app_as_the_credential() {
    let (rig, key) = rig_with(app());
    let arguments = ["doctor", "--json", "--app-id", "4711"];
    let of = |ran: &Ran, id: &str| {
        let document = ran.json();
        let check = document["checks"].as_array().unwrap().iter().find(|check| check["id"] == id).cloned();
        check.unwrap()["verdict"].as_str().unwrap().to_owned()
    };
    let ran = run(&rig, &[&arguments[..], &["--app-key-file", &key]].concat()).expect(0);
    assert_eq!((of(&ran, "credential").as_str(), of(&ran, "archive").as_str()), ("fine", "fine"));
    assert_eq!(rig.asked("access-tokens"), 1);
    let other = rig.write("other.pem", include_str!("../fixtures/app/other.pem"));
    let ran = run(&rig, &[&arguments[..], &["--app-key-file", &other]].concat()).expect(77);
    assert_eq!(of(&ran, "credential"), "fails");
    let ran = run(&rig, &[&arguments[..], &["--app-sign-command", "echo wrong PIN >&2; exit 1"]].concat());
    assert_eq!(of(&ran.expect(75), "credential"), "fails");
}

/// What stands for a KMS.
fn sign(key: &str) -> String {
    format!("openssl dgst -sha256 -sign {key}")
}

#[test]
fn a_command_signs_raw_or_in_base64_with_a_key_that_runup_never_sees() {
    let (rig, key) = rig_with(app());
    for command in [sign(&key), format!("{} | base64", sign(&key)), format!("{} | base64 -w0", sign(&key))] {
        list(&rig, &["--app-sign-command", &command]).expect(0);
    }
    run(&rig, &["install", "--app-id", "4711", "--app-sign-command", &sign(&key)]).expect(0);
    rig.assert_exactly_one_runner();
    run(&rig, &["remove", "--app-id", "4711", "--app-sign-command", &sign(&key)]).expect(0);
    rig.assert_nothing_left();
}

#[test]
fn a_command_that_signs_wrongly_is_said_by_what_it_did() {
    let (rig, key) = rig_with(app());
    let other = rig.write("other.pem", include_str!("../fixtures/app/other.pem"));
    let install = |command: &str, deadline: &str| {
        let arguments =
            ["install", "--app-id", "4711", "--app-sign-command", command, "--deadline", deadline];
        let ran = run(&rig, &arguments);
        rig.assert_nothing_left();
        ran
    };
    install("echo no signature", "30s")
        .expect(78)
        .says("the App sign command `echo no signature` printed 13 bytes, which are not an RSA signature")
        .says("Run it by hand");
    install(&format!("{} | head -c 255", sign(&key)), "30s").expect(78).says("printed 255 bytes");
    for elsewhere in [format!("{} /etc/passwd", sign(&key)), sign(&other)] {
        install(&elsewhere, "30s").expect(77).says("did not accept GitHub App 4711").says("what it signs");
    }
    install("echo the vault is sealed >&2; exit 3", "30s").expect(75).says("the vault is sealed");
    let hangs = ["--app-sign-command", "exec sleep 600", "--deadline", "1s"];
    list(&rig, &hangs).expect(75).says("the App sign command `exec sleep 600` failed: timed out");
    install("no-such-signer", "30s").expect(78).says("exit code 127");
    list(&rig, &["--app-key-command", "echo one; echo two"]).expect(78).says("is not in PEM format");
    list(&rig, &["--app-key-command", "exit 126"]).expect(78).says("the App key command `exit 126` failed");
}

/// Each registration, and the removal, long after the first token has expired.
#[test]
fn the_supervisor_registers_again_and_again_by_an_app() {
    let (rig, key) = rig_with(app());
    let scope: Scope = crate::rig::SCOPE.parse().unwrap();
    let mut command = rig.on_machine(&["run", "--ephemeral", "--after-job", "again"]);
    command.env_remove("RUNUP_TOKEN").args(["--app-id", "4711", "--app-key-file", &key]);
    let child = command.spawn().unwrap();
    for times in 1..=2 {
        until("it registers", || {
            rig.asked("register") == times && rig.state().runners.iter().any(|it| it.online)
        });
        rig.sandbox.expire_tokens();
        rig.sandbox.add_job(&scope, "job", 0);
    }
    until("it registers", || rig.asked("register") == 3 && rig.state().runners.iter().any(|it| it.online));
    rig.sandbox.expire_tokens();
    signal(&child, Signal::TERM);
    let ran = finish(child).expect(0);
    assert_unprinted(&ran);
    assert_eq!(rig.state().runners, []);
    assert!(rig.asked("access-tokens") >= 3, "{}", rig.asked("access-tokens"));
    assert_eq!(rig.sandbox.violations(), [] as [&str; 0]);
}

#[test]
fn the_runners_of_one_command_share_what_is_known_of_the_app() {
    let (rig, key) = rig_with(app());
    let arguments = ["install", "--count", "3", "--app-id", "4711", "--app-key-file", &key];
    let ran = run(&rig, &arguments);
    assert_eq!(rig.state().runners.len(), 3, "{ran:#?}");
    assert_eq!((rig.asked("installation"), rig.asked("access-tokens")), (1, 1));
}

#[test]
fn a_runner_with_an_app_of_its_own_uses_it() {
    let (rig, key) = rig_with(app());
    let shared = format!("count = 2\napp-id = 4711\napp-key-file = {key:?}\n");
    let config = rig.write("config.toml", format!("{shared}\n[instance.2]\napp-id = \"Iv23liSandbox\"\n"));
    let ran = run(&rig, &["install", "--config", &config]);
    assert_eq!(rig.state().runners.len(), 2, "{ran:#?}");
    assert_eq!((rig.asked("access-tokens"), rig.asked("registration-token")), (2, 2));
}
