//! Journals that older versions of runup wrote, one for each change of the format: each is read, planned over and undone.

use crate::rig::{Rig, names_in};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The unit of the fixtures.
const UNIT: &str = "actions-runner.service";
/// What the oldest runup wrote to it; the first line is the same in every version since.
const WRITTEN: &str = "# Written by runup for the runner in /opt/actions-runner.\n\
    # It is written anew by every `runup install`. Your own settings belong into a drop-in:\n\
    [Service]\nUser=actions-runner\nExecStart=/bin/bash /opt/actions-runner/bin/runsvc.sh\n";
/// The unit that an operator had before runup took the runner over.
const BY_HAND: &str = "actions.runner.octo-org.box-1.service";

fn fixtures() -> Vec<(String, Value)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/journals");
    let names = names_in(&directory);
    assert!(names.len() >= 12, "{names:?}");
    let read = |name: &String| std::fs::read_to_string(directory.join(name)).unwrap();
    names.iter().map(|name| (name.clone(), serde_json::from_str(&read(name)).unwrap())).collect()
}

fn journal(rig: &Rig) -> PathBuf {
    let state = rig.root().join("var/lib/runup");
    let name = names_in(&state).into_iter().find(|name| name.ends_with(".json")).expect("a journal");
    state.join(name)
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn entry<'a>(journal: &'a Value, step: &str) -> Option<&'a Value> {
    journal["entries"].as_array().unwrap().iter().find(|entry| entry["step"] == step)
}

/// The fixture as that version would have written it about the runner that is there, which `now` describes.
fn about(mut past: Value, now: &Value) -> Value {
    for key in ["dir", "machine", "user"] {
        if past.get(key).is_some() {
            let group = past[key].get("group").cloned();
            past[key] = now[key].clone();
            if let (Some(group), Some(user)) = (group, past[key].as_object_mut()) {
                user.insert("group".to_owned(), group);
            }
        }
    }
    let creates_a_user = entry(now, "create-user").is_some();
    let entries = past["entries"].as_array_mut().unwrap();
    entries.retain(|entry| creates_a_user || entry["step"] != "create-user");
    for past in entries {
        let Some(now) = entry(now, past["step"].as_str().unwrap()) else { continue };
        for key in
            ["name", "version", "platform", "sha256", "url", "api_url", "template", "unique", "agent_id"]
        {
            // What was not known then stays unknown.
            if past.get(key).is_some_and(|value| !value.is_null()) && now.get(key).is_some() {
                past[key] = now[key].clone();
            }
        }
    }
    if past["user"].is_null() {
        past.as_object_mut().unwrap().remove("user");
    }
    past
}

/// A machine with a registered runner, whose journal is that of an older runup.
fn machine_of(name: &str, past: Value) -> Rig {
    let rig = Rig::new();
    let rig = if entry(&past, "create-user").is_some() { rig.making_a_user() } else { rig };
    let ephemeral = past.to_string().contains("\"ephemeral\":true");
    let before: &[&str] = match entry(&past, "register") {
        None => &["bake"],
        Some(_) if ephemeral => &["install", "--ephemeral"],
        Some(_) => &["install"],
    };
    rig.run(before).expect(0);
    let path = journal(&rig);
    let now = read(&path);
    let mut past = about(past, &now);
    // A work directory is recorded as it was requested, with --root in it.
    if past.get("work").is_some() {
        let work = rig.root().join("srv/work");
        past["work"] = json!({ "path": work, "created": [work] });
        past["used"] = json!(work);
    }
    for (step, unit, text) in [("write-service", UNIT, WRITTEN), ("adopt", BY_HAND, "[Service]\n")] {
        if entry(&past, step).is_some() {
            rig.write(&format!("etc/systemd/system/{unit}"), text);
        }
    }
    if past.get("work").is_some() {
        rig.write("srv/work/hello/file", name);
    }
    std::fs::write(&path, serde_json::to_string_pretty(&past).unwrap() + "\n").unwrap();
    rig.routes();
    rig
}

#[test]
fn every_journal_that_runup_ever_wrote_is_read_planned_over_and_undone() {
    std::thread::scope(|scope| {
        for (name, past) in fixtures() {
            scope.spawn(move || {
                let rig = machine_of(&name, past);
                let ran = rig.run(&["status", "--json"]);
                assert_eq!(ran.json()["runners"][0]["journal"], true, "{name}: {ran:#?}");
                let before = std::fs::read(journal(&rig)).unwrap();
                let ran = rig.run(&["plan"]);
                assert_eq!(ran.code, 0, "{name}: {ran:#?}");
                assert_eq!(std::fs::read(journal(&rig)).unwrap(), before, "{name}: plan changes nothing");
                let ran = rig.run(&["remove"]);
                assert_eq!(ran.code, 0, "{name}: {ran:#?}");
                assert_eq!(rig.state().runners, [], "{name}: {ran:#?}");
                rig.assert_machine_bare();
                let units = names_in(&rig.root().join("etc/systemd/system"));
                assert!(units.iter().all(|unit| unit != UNIT && unit != BY_HAND), "{name}: {units:?}");
                assert!(!rig.root().join("srv/work").exists(), "{name}");
            });
        }
    });
}

/// Only of those that recorded no options: a runner with others is re-registered.
#[test]
fn install_goes_on_with_the_runner_of_an_old_journal() {
    std::thread::scope(|scope| {
        for (name, past) in fixtures().into_iter().filter(|(name, _)| name.as_str() < "03") {
            scope.spawn(move || {
                let rig = machine_of(&name, past);
                let id = rig.state().runners[0].id;
                let ran = rig.run(&["install"]);
                assert_eq!(ran.code, 0, "{name}: {ran:#?}");
                rig.assert_exactly_one_runner();
                assert_eq!(rig.state().runners[0].id, id, "{name}: {ran:#?}");
                rig.run(&["remove"]).expect(0);
                rig.assert_nothing_left();
            });
        }
    });
}

#[test]
fn the_journal_names_the_runup_that_wrote_it_and_a_newer_one_is_named_in_the_refusal() {
    let rig = Rig::new();
    rig.run(&["bake"]).expect(0);
    let path = journal(&rig);
    let mut now = read(&path);
    assert_eq!(now["runup"], env!("CARGO_PKG_VERSION"));
    now["version"] = 99.into();
    now["runup"] = "7.8.9".into();
    now["entries"] = json!({ "of": "another form" });
    std::fs::write(&path, now.to_string()).unwrap();
    let before = rig.everything();
    for command in ["plan", "install", "bake", "remove"] {
        let ran = rig.run(&[command]).expect(78);
        ran.says("was written by runup 7.8.9").says("version 99").says(env!("CARGO_PKG_VERSION"));
        assert!(!rig.dir().join(".runner").exists());
    }
    assert_eq!(read(&path), now);
    // The same version of the format, but a step that this runup does not know.
    now["version"] = 2.into();
    now["entries"] = json!([{ "state": "done", "step": "paint" }]);
    std::fs::write(&path, now.to_string()).unwrap();
    rig.run(&["remove"]).expect(78).says("paint").says("written by runup 7.8.9");
    assert_eq!(rig.everything(), before);
    // No other runup than this one can be newer than one of the past.
    now["runup"] = "0.0.9".into();
    std::fs::write(&path, now.to_string()).unwrap();
    rig.run(&["remove"]).expect(78).says("paint").says("Move the file away");
}
