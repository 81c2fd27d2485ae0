//! An error names itself, and `runup explain` says more.

use crate::rig::{Ran, Rig, finish};

fn run(rig: &Rig, arguments: &[&str]) -> Ran {
    let mut command = rig.command(arguments);
    if arguments[0] == "runners" {
        command.arg("--url").arg(rig.url());
    }
    finish(command.spawn().unwrap())
}

#[test]
fn an_error_names_itself_and_is_explained_by_that_name() {
    let rig = Rig::new();
    let text = run(&rig, &["runners", "show", "77"]).expect(69);
    assert!(text.stderr.ends_with("more: runup explain no-such-runner\n"), "{text:?}");
    let json = run(&rig, &["runners", "show", "77", "--json"]).expect(69).json();
    let name = json["error"]["name"].as_str().unwrap();
    let explained = run(&rig, &["explain", name]).expect(0);
    assert!(explained.stdout.starts_with("no-such-runner (exit code 69)\n"), "{explained:?}");
    assert!(explained.stdout.contains("What to do: "), "{explained:?}");

    let one = run(&rig, &["explain", name, "--json"]).expect(0).json();
    assert_eq!(one["exit_codes"], serde_json::json!([69]));
    let code = run(&rig, &["explain", "69", "--json"]).expect(0).json();
    let mut one = one;
    one.as_object_mut().unwrap().remove("schema");
    assert!(code["errors"].as_array().unwrap().contains(&one), "{code:#}");
    let all = run(&rig, &["explain", "--json"]).expect(0).json();
    assert!(all["errors"].as_array().unwrap().contains(&one));
}

#[test]
fn what_the_message_says_in_full_is_not_referred_to() {
    let rig = Rig::new();
    let ran = run(&rig, &["install", "--nme", "x"]).expect(64);
    assert!(!ran.stderr.contains("runup explain"), "{ran:?}");
    run(&rig, &["explain", "name-takn"]).expect(64).says("runup explain name-taken");
    run(&rig, &["explain", "137"]).expect(0).says("nothing was cleaned up");
    run(&rig, &["explain", "1"]).expect(64).says("`runup explain` lists the names");
}

/// Whatever is wrong with the settings, the explanation of that is not.
#[test]
fn a_broken_configuration_file_does_not_keep_it_from_explaining() {
    let rig = Rig::new();
    let file = rig.write("config.toml", "count = [");
    let ran = run(&rig, &["status", "--config", &file]).expect(78);
    assert!(ran.stderr.contains("more: runup explain config-file\n"), "{ran:?}");
    run(&rig, &["explain", "config-file", "--config", &file]).expect(0);
}
