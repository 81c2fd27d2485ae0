//! What the program generates of itself: man pages, completions and the reference in the repository.

use crate::rig::{Ran, Rig, finish, names_in};
use runup::error::Class;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What to run when the reference has changed.
const REGENERATE: &str = "cargo run -- generate reference docs/reference";

fn ran(command: &mut Command) -> Ran {
    finish(command.spawn().unwrap())
}

fn reference() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference")
}

#[test]
fn the_reference_in_the_repository_is_what_the_program_generates() {
    let rig = Rig::new();
    let dir = rig.root().join("reference");
    ran(&mut rig.command(&["generate", "reference", dir.to_str().unwrap()])).expect(0);
    let (generated, committed) = (names_in(&dir), names_in(&reference()));
    assert_eq!(generated, committed, "other files: run `{REGENERATE}`");
    for name in generated {
        let read = |dir: &Path| std::fs::read_to_string(dir.join(&name)).unwrap();
        assert!(read(&dir) == read(&reference()), "docs/reference/{name} has changed: run `{REGENERATE}`");
    }
}

#[test]
fn the_manual_of_the_configuration_file_has_every_key() {
    let rig = Rig::new();
    let dir = rig.root().join("man");
    ran(&mut rig.command(&["generate", "man", dir.to_str().unwrap()])).expect(0);
    let page = std::fs::read_to_string(dir.join("runup.toml.5")).unwrap().replace("\\-", "-");
    for command in [&["install"] as &[&str], &["run"], &["remove"], &["upgrade"], &["runners", "create-jit"]]
    {
        for option in crate::cli::options_of(&rig, command) {
            // Only a person decides which runners a command is about.
            if !["config", "all", "instance"].contains(&option.as_str()) {
                let variable = runup::settings::layers::variable(&option);
                assert!(page.contains(&format!("\\fB{option}\\fR = ")), "{option}");
                assert!(page.contains(&format!("--{option}")) && page.contains(&variable), "{option}");
            }
        }
    }
    for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "KEYS", "FILES", "EXAMPLES", "SEE ALSO"] {
        assert!(page.contains(section), "{section}");
    }
}

/// The paths of the fields in a document, as the reference writes them; what is documented as an object is not entered.
fn fields(value: &Value, path: &str, known: &BTreeSet<String>, found: &mut BTreeSet<String>) {
    if known.contains(path) && !path.is_empty() {
        found.insert(path.to_owned());
        return;
    }
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                fields(value, &path, known, found);
            }
        }
        Value::Array(list) => {
            let path = if path.is_empty() { String::new() } else { format!("{path}[]") };
            for value in list {
                fields(value, &path, known, found);
            }
        }
        // An object that can be null, of which there is nothing to say.
        Value::Null if known.iter().any(|known| known.starts_with(&format!("{path}."))) => {}
        _ => {
            found.insert(path.to_owned());
        }
    }
}

/// The fields that the reference has for a command.
fn documented(command: &str) -> BTreeSet<String> {
    let page = std::fs::read_to_string(reference().join("json.md")).unwrap();
    let sections: Vec<&str> = page.split("\n## ").collect();
    let heading = format!("`runup {command}`");
    let section =
        sections.iter().find(|section| section.lines().next().unwrap().split(", ").any(|it| it == heading));
    let section = section.unwrap_or_else(|| panic!("no section for {command}"));
    let rows = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(field, _)| field.to_owned()));
    rows.collect()
}

#[test]
fn every_field_of_the_json_documents_is_in_the_reference() {
    let rig = Rig::new();
    let check = |command: &str, ran: &Ran, all: bool| {
        let (known, mut found) = (documented(command), BTreeSet::new());
        fields(&ran.json(), "", &known, &mut found);
        let unknown: Vec<&String> = found.difference(&known).collect();
        assert!(unknown.is_empty(), "{command}: {unknown:?} are not in json.md");
        assert!(!all || found == known, "{command}: json.md has more than {found:?}");
    };
    check("plan", &rig.run(&["plan", "--json"]).expect(0), true);
    check("install", &rig.run(&["install", "--json"]).expect(0), true);
    check("status", &rig.run(&["status", "--json"]), false);
    let root = rig.root().to_str().unwrap();
    check("drain", &ran(&mut rig.command(&["drain", "--json", "--root", root])).expect(0), true);
    let id = rig.state().runners[0].id.to_string();
    check("runners list", &rig.ask(&["runners", "list", "--json"]).expect(0), false);
    check("runners show", &rig.ask(&["runners", "show", &id, "--json"]).expect(0), false);
    check("downloads", &rig.ask(&["downloads", "--verify", "--json"]).expect(0), true);
    check("token", &rig.ask(&["token", "remove", "--json"]).expect(0), true);
    check("remove", &rig.run(&["remove", "--json"]).expect(0), false);
}

#[test]
fn man_pages_and_completions_come_from_the_binary() {
    let rig = Rig::new();
    let dir = rig.root().join("share/man/man1");
    ran(&mut rig.command(&["generate", "man", dir.to_str().unwrap()])).expect(0).says("runup.1");
    let pages = names_in(&dir);
    for page in [
        "runup.1",
        "runup-install.1",
        "runup-remove.1",
        "runup-runners-list.1",
        "runup-token.1",
        "runup.toml.5",
    ] {
        assert!(pages.iter().any(|name| name == page), "{page} is not in {pages:?}");
    }
    for page in pages.iter().filter(|page| page.ends_with(".1")) {
        let text = std::fs::read_to_string(dir.join(page)).unwrap();
        for section in ["NAME", "SYNOPSIS", "EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO"] {
            let heading = [format!(".SH {section}\n"), format!(".SH \"{section}\"\n")];
            assert!(heading.iter().any(|heading| text.contains(heading)), "{page} has no {section}");
        }
    }
    let page = std::fs::read_to_string(dir.join("runup.1")).unwrap().replace("\\*(Aq", "'");
    for class in Class::ALL {
        assert!(page.contains(class.meaning()), "{}", class.meaning());
    }
    for (shell, word) in [("bash", "complete -F"), ("zsh", "#compdef runup"), ("fish", "complete -c runup")] {
        ran(&mut rig.command(&["generate", "completions", shell]))
            .expect(0)
            .says(word)
            .says("runner-version");
    }
    let blocked = rig.write("file", "");
    ran(&mut rig.command(&["generate", "man", &format!("{blocked}/man")])).expect(73).says("man pages");
}
