//! What the packages bring besides the binary does not lag behind it.

use crate::rig::{Rig, finish};
use std::collections::{BTreeMap, BTreeSet};

const SAMPLE: &str = include_str!("../../packaging/config.toml");

/// The sample's lines that would set something, by their keys.
fn sample() -> BTreeMap<&'static str, &'static str> {
    let mut keys = BTreeMap::new();
    for line in SAMPLE.lines() {
        assert!(line.is_empty() || line.starts_with('#'), "the sample sets something: {line}");
        let Some(line) =
            line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
        else {
            continue;
        };
        let (key, _) = line.split_once(" = ").unwrap_or_else(|| panic!("neither text nor key: {line}"));
        assert!(keys.insert(key, line).is_none(), "{key} is there twice");
    }
    keys
}

#[test]
fn the_sample_configuration_has_every_option_of_install_and_run_and_no_other() {
    let rig = Rig::new();
    let mut options = BTreeSet::new();
    for command in ["install", "run"] {
        options.extend(crate::cli::options_of(&rig, &[command]));
    }
    for only_on_the_command_line in ["config", "instance"] {
        options.remove(only_on_the_command_line);
    }
    let keys: BTreeSet<String> = sample().into_keys().map(str::to_owned).collect();
    assert_eq!(keys, options);
}

#[test]
fn every_line_of_the_sample_configuration_is_a_value_that_its_option_takes() {
    let rig = Rig::new();
    for (key, line) in sample() {
        for command in ["install", "run"] {
            // The url is what is complained of, once everything else was accepted.
            let root = rig.root().to_str().unwrap();
            let line = line.replace("/mnt/image", root).replace("/var/lib", root);
            let file = rig.write("config.toml", line);
            let mut command = rig.command(&[command, "--config", &file, "--url", "nowhere"]);
            let said = finish(command.spawn().unwrap()).expect(64).stderr;
            assert!(said.contains("nowhere"), "{key}: {said}");
        }
        let broken = rig.write("config.toml", line.replacen(key, &format!("{key}x"), 1));
        let mut command = rig.command(&["install", "--config", &broken]);
        finish(command.spawn().unwrap()).expect(78).says(&format!("{key}x"));
    }
}
