//! `--token-command`: a token that is fetched when it is needed, and lies nowhere.

use crate::rig::{Ran, Rig, finish};
use std::os::unix::fs::PermissionsExt as _;

/// A machine whose secret manager is a file outside of it, and the command that asks it.
fn rig() -> (Rig, tempfile::TempDir, String) {
    let rig = Rig::new();
    let vault = tempfile::tempdir().unwrap();
    let path = vault.path().join("secret");
    std::fs::write(&path, rig.sandbox.token().expose()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let command = format!("cat {}", path.display());
    (rig, vault, command)
}

fn run(rig: &Rig, arguments: &[&str]) -> Ran {
    finish(rig.on_machine(arguments).env_remove("RUNUP_TOKEN").spawn().unwrap())
}

#[test]
fn a_runner_lives_its_whole_life_by_a_command_and_nothing_prints_the_token() {
    let (rig, _vault, command) = rig();
    let config = rig.write("config.toml", format!("token-command = \"{command}\"\n"));
    let token = rig.sandbox.token();
    for (arguments, code) in [
        (["plan", "-v"], 0),
        (["install", "-v"], 0),
        (["install", "-v"], 0),
        (["status", "-v"], 0),
        (["remove", "-v"], 0),
    ] {
        let ran = run(&rig, &[&arguments[..], &["--config", &config, "--json"]].concat()).expect(code);
        assert!(!ran.all().contains(token.expose()), "{arguments:?} printed the token");
    }
    rig.assert_nothing_left();
    assert!(!rig.routes().is_empty());
}

#[test]
fn a_token_that_the_server_no_longer_takes_is_fetched_anew() {
    let (rig, vault, command) = rig();
    let count = vault.path().join("count");
    let stale_first =
        format!("test -e {0} && {command} || {{ touch {0}; echo expired-token; }}", count.display());
    run(&rig, &["install", "--token-command", &stale_first]).expect(0);
    rig.assert_exactly_one_runner();
}

#[test]
fn a_token_that_is_wrong_twice_is_refused_once_and_for_all() {
    let (rig, _vault, _) = rig();
    run(&rig, &["install", "--token-command", "date +wrong-%N"])
        .expect(77)
        .says("the credential was refused");
    assert_eq!(rig.asked("list-runners"), 2);
}

#[test]
fn the_flag_beats_the_file_and_two_of_a_kind_are_refused() {
    let (rig, vault, command) = rig();
    let config = rig.write("config.toml", "token-command = \"echo from-the-file\"\n");
    let ask = |arguments: &[&str]| {
        let mut ask = rig.command(&[&["runners", "list"], arguments].concat());
        finish(ask.arg("--url").arg(rig.url()).env_remove("RUNUP_TOKEN").spawn().unwrap())
    };
    ask(&["--config", &config]).expect(77);
    ask(&["--config", &config, "--token-command", &command]).expect(0);
    let file = vault.path().join("secret");
    ask(&["--config", &config, "--token-file", file.to_str().unwrap()]).expect(0);
    ask(&["--token-command", &command, "--token-file", file.to_str().unwrap()])
        .expect(64)
        .says("--token-file and --token-command cannot be used together");
}

/// As a shell that traces does.
#[test]
fn a_command_that_also_says_the_token_puts_it_into_no_log_and_no_error() {
    let (rig, _vault, command) = rig();
    let token = rig.sandbox.token();
    for (end, code) in [("", 0), ("; exit 126", 78)] {
        let traced = format!("set -x; token=$({command}); echo $token{end}");
        let ran = run(&rig, &["plan", "-v", "--token-command", &traced]).expect(code);
        assert!(ran.all().contains("+ echo [secret]"), "{ran:#?}");
        assert!(!ran.all().contains(token.expose()), "the token is printed");
    }
}

/// Every user of the machine could say what root is to run.
#[test]
fn a_command_from_a_file_that_all_can_write_is_not_run() {
    let (rig, vault, command) = rig();
    let seen = vault.path().join("seen");
    let line = format!("token-command = \"touch {}; {command}\"\n", seen.display());
    let config = rig.write("config.toml", line);
    for (mode, code) in [(0o666, 78), (0o602, 78), (0o664, 0), (0o600, 0)] {
        std::fs::set_permissions(&config, std::fs::Permissions::from_mode(mode)).unwrap();
        let ran = run(&rig, &["plan", "--config", &config]).expect(code);
        assert_eq!(seen.exists(), code == 0, "{mode:o}");
        if code != 0 {
            ran.says("can be written by every user").says(&format!("chmod go-w {config}"));
        }
    }
}

#[test]
fn a_command_that_cannot_work_is_said_with_what_it_said() {
    let (rig, ..) = rig();
    run(&rig, &["install", "--token-command", "no-such-secret-manager get"])
        .expect(78)
        .says("the token command `no-such-secret-manager get` failed: exit code 127")
        .says("Run it by hand");
    run(&rig, &["install", "--deadline", "1s", "--token-command", "echo no route to the vault >&2; exit 3"])
        .expect(75)
        .says("no route to the vault");
    rig.assert_nothing_left();
}
