//! What the program generates of itself: man pages, completions and the reference in the repository.

use crate::rig::{Ran, Rig, finish, names_in};
use crate::schema;
use runup::error::Class;
use serde_json::Value;
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
    let names = |dir: &Path| {
        let below = names_in(&dir.join("schemas")).into_iter().map(|name| format!("schemas/{name}"));
        let pages = names_in(dir).into_iter().filter(|name| name != "schemas");
        pages.chain(below).collect::<Vec<_>>()
    };
    let (generated, committed) = (names(&dir), names(&reference()));
    assert_eq!(generated, committed, "other files: run `{REGENERATE}`");
    for name in generated {
        let read = |dir: &Path| std::fs::read_to_string(dir.join(&name)).unwrap();
        let (generated, committed) = (read(&dir), read(&reference()));
        let lines = generated.lines().zip(committed.lines()).find(|(one, other)| one != other);
        assert!(generated == committed, "docs/reference/{name} is not {lines:?}: run `{REGENERATE}`");
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

/// The fields of an object of a schema that can be there.
fn fields(schema: &Value) -> Vec<&String> {
    schema["properties"].as_object().unwrap().keys().collect()
}

#[test]
fn each_command_prints_what_its_schema_says() {
    let rig = Rig::new();
    let check = |command: &str, ran: &Ran| {
        let problems = schema::problems(command, &ran.json());
        assert!(problems.is_empty(), "{command}: {problems:#?} in {ran:#?}");
    };
    check("plan", &rig.run(&["plan", "--json"]).expect(0));
    check("install", &rig.run(&["install", "--json"]).expect(0));
    check("status", &rig.run(&["status", "--json"]));
    check("status", &rig.run(&["status", "--json", "--dir", "/opt/actions-runner"]));
    check("doctor", &rig.run(&["doctor", "--json"]));
    check("logs", &ran(&mut rig.on_machine(&["logs", "--json"])));
    let root = rig.root().to_str().unwrap();
    check("drain", &ran(&mut rig.command(&["drain", "--json", "--root", root])).expect(0));
    check("upgrade", &rig.run(&["upgrade", "--json"]));
    let id = rig.state().runners[0].id.to_string();
    check("runners-list", &rig.ask(&["runners", "list", "--json"]).expect(0));
    check("runners-show", &rig.ask(&["runners", "show", &id, "--json"]).expect(0));
    check("downloads", &rig.ask(&["downloads", "--verify", "--json"]).expect(0));
    check("token", &rig.ask(&["token", "remove", "--json"]).expect(0));
    check("explain", &ran(&mut rig.command(&["explain", "--json"])).expect(0));
    check("explain-name", &ran(&mut rig.command(&["explain", "name-taken", "--json"])).expect(0));
    check("explain-code", &ran(&mut rig.command(&["explain", "78", "--json"])).expect(0));
    check("generate-completions", &ran(&mut rig.command(&["generate", "completions", "fish", "--json"])));
    check("remove", &rig.run(&["remove", "--json"]).expect(0));
    check("remove", &rig.run(&["remove", "--all", "--json"]).expect(0));
    check("error", &ran(&mut rig.command(&["runners", "show", "1", "--json"])).expect(64));
}

/// The page in Markdown and the schemas have one source; this holds for what a reader sees first.
#[test]
fn the_page_of_the_documents_has_a_row_for_each_field_of_their_schemas() {
    let page = std::fs::read_to_string(reference().join("json.md")).unwrap();
    for (name, schema) in schema::all().iter().filter(|(name, _)| *name != "event") {
        let link = format!("(schemas/{name}.json)");
        let section = page.split("\n## ").find(|section| section.contains(&link));
        let section = section.unwrap_or_else(|| panic!("{name} has no section"));
        let first = schema.get("anyOf").map_or(schema, |forms| &forms[0]);
        for field in fields(first).into_iter().filter(|field| *field != "schema") {
            let begins = |end: &str| section.contains(&format!("\n| `{field}{end}"));
            assert!(["`", ".", "[]"].iter().any(|end| begins(end)), "{name}: {field}");
        }
    }
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
