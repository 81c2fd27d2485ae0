//! The house keeps its own rules: who may import whom, how long a file may be, and what no file may mention.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each module, and what it may import. Everyone may import [`COMMON`]; tests may import `sandbox` besides.
const MODULES: [(&str, &[&str]); 16] = [
    ("main", &["cli"]),
    ("lib", &[]),
    ("cli", &["lifecycle", "cloud", "runner", "github", "transfer", "net", "host", "settings", "sandbox"]),
    ("lifecycle", &["cloud", "runner", "github", "transfer", "net", "host", "settings"]),
    ("cloud", &["net", "host"]),
    ("settings", &["runner", "github", "transfer", "net", "host"]),
    ("runner", &["github", "net", "host"]),
    ("transfer", &["net", "host"]),
    ("github", &["net", "host"]),
    ("net", &[]),
    ("host", &[]),
    ("sandbox", &[]),
    ("error", &[]),
    ("secret", &[]),
    ("deadline", &[]),
    ("event", &[]),
];
const COMMON: [&str; 4] = ["error", "secret", "deadline", "event"];
const MOST_LINES: usize = 450;

#[test]
fn modules_import_only_what_is_below_them() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let module = module_of(&path);
        for (line, target) in forbidden(&module, is_test_file(&path), &text) {
            wrong.push(format!("{}:{line}: {module} imports {target}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "forbidden imports:\n{}", wrong.join("\n"));
}

#[test]
fn the_import_rule_sees_every_way_to_write_a_forbidden_arrow() {
    let caught = |module: &str, text: &str| -> Vec<(usize, String)> { forbidden(module, false, text) };
    for text in [
        "use crate::lifecycle::Plan;",
        "pub use crate::lifecycle;",
        "let plan = crate::lifecycle::plan();",
        "use crate::{\n    error::Class,\n    lifecycle::{Plan, net},\n};",
        "use runup::lifecycle::Plan;",
        "\n#[cfg(test)]\nmod tests {\n    use crate::lifecycle::Plan;\n}",
    ] {
        let targets: Vec<String> = caught("net", text).into_iter().map(|(_, target)| target).collect();
        assert_eq!(targets, ["lifecycle"], "in {text:?}");
    }
    assert_eq!(caught("runner", "\nuse crate::sandbox::Server;"), [(2, "sandbox".to_owned())]);
    assert_eq!(caught("runner", "\n#[cfg(test)]\nmod tests {\n    use crate::sandbox::Server;\n}"), []);
    assert_eq!(caught("net", "use crate::{error::{Class, Failure}, net::Url, secret::Secret};"), []);
    assert_eq!(caught("net", "//! See [`lifecycle`](crate::lifecycle).\n"), []);
}

#[test]
fn every_module_has_a_place_in_the_rule() {
    for (path, _) in sources() {
        let module = module_of(&path);
        let known = COMMON.contains(&module.as_str()) || MODULES.iter().any(|(name, _)| *name == module);
        assert!(known, "{} belongs to no module of the import rule", path.display());
    }
}

/// The layers of the lifecycle, each of which may import those behind it.
const LAYERS: [&str; 4] = ["command", "step", "state", "context"];

#[test]
fn layers_of_the_lifecycle_import_only_what_is_below_them() {
    let mut wrong = Vec::new();
    for (file, imported) in lifecycle_imports() {
        let layer = |name: &str| LAYERS.iter().position(|layer| name.split('/').next() == Some(*layer));
        for target in imported {
            if layer(&target) < layer(&file) {
                wrong.push(format!("{file} imports {target}"));
            }
        }
    }
    assert!(wrong.is_empty(), "imports upwards:\n{}", wrong.join("\n"));
}

#[test]
fn no_files_of_the_lifecycle_import_each_other_in_a_circle() {
    let mut left: BTreeMap<String, BTreeSet<String>> = lifecycle_imports();
    // Whatever imports nothing that is left is part of no circle.
    loop {
        let names: BTreeSet<String> = left.keys().cloned().collect();
        let before = left.len();
        left.retain(|_, imported| imported.iter().any(|target| names.contains(target)));
        if left.len() == before {
            break;
        }
    }
    assert!(left.is_empty(), "these files import each other: {:#?}", left.keys());
}

/// A step that wrote its own entries could forget one.
#[test]
fn only_the_wrapper_of_the_steps_begins_and_deletes_entries_of_the_journal() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        if path.ends_with("step/recorded.rs") || path.ends_with("state/journal.rs") {
            continue;
        }
        for call in ["journal.begin(", "journal.begin_instead(", "journal.forget("] {
            if text[..tests_start(&text)].contains(call) {
                wrong.push(format!("{}: {call}…)", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "besides src/lifecycle/step/recorded.rs:\n{}", wrong.join("\n"));
}

#[test]
fn imports_of_the_lifecycle_are_read_however_they_are_written() {
    let modules: BTreeSet<String> =
        ["step/user", "step/placing", "step/placing/archive", "state/journal"].map(str::to_owned).into();
    let text = "use crate::lifecycle::step::{placing::{self, archive::list}, user};\nuse archive::Choice;\n\
                fn f() { crate::lifecycle::state::journal::open() }\n// crate::lifecycle::step::user\n";
    let found = imported_modules("step/placing", text, &modules);
    let expected = ["state/journal", "step/placing/archive", "step/user"].map(str::to_owned);
    assert_eq!(found, BTreeSet::from(expected));
}

/// Each file of the lifecycle, and the others that it imports, both without `.rs` and `/mod.rs`.
fn lifecycle_imports() -> BTreeMap<String, BTreeSet<String>> {
    let base = root().join("src/lifecycle");
    let mut files = BTreeMap::new();
    for (path, text) in sources() {
        let Ok(inside) = path.strip_prefix(&base) else { continue };
        let name = inside.with_extension("").to_string_lossy().into_owned();
        let name = name.strip_suffix("/mod").unwrap_or(&name).to_owned();
        if name != "mod" && !LAYERS.contains(&name.as_str()) {
            files.insert(name, text[..tests_start(&text)].to_owned());
        }
    }
    assert!(files.len() > 40, "only {} files found", files.len());
    let modules = files.keys().cloned().collect();
    files.iter().map(|(name, text)| (name.clone(), imported_modules(name, text, &modules))).collect()
}

/// The modules that the text of the module `name` imports: by their path from the crate, or, of its own children, by name.
fn imported_modules(name: &str, text: &str, modules: &BTreeSet<String>) -> BTreeSet<String> {
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n").collect();
    let code = code.replace("use super::*;", "");
    assert!(!code.contains("super::"), "{name} imports by super::, which this test does not follow");
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("crate::lifecycle::") {
        expand(&code[at + "crate::lifecycle::".len()..], "", &mut paths);
    }
    for line in code.lines().filter_map(|line| line.strip_prefix("use ")) {
        expand(line, &format!("{name}/"), &mut paths);
    }
    let longest = |path: &String| {
        (1..=path.matches('/').count() + 1)
            .rev()
            .map(|parts| path.split('/').take(parts).collect::<Vec<_>>().join("/"))
            .find(|prefix| modules.contains(prefix))
    };
    paths.iter().filter_map(longest).filter(|target| target != name).collect()
}

/// The paths that a use tree begins with, `a::{b, c::d}` as `a/b` and `a/c/d`.
fn expand(tree: &str, prefix: &str, paths: &mut Vec<String>) -> usize {
    let mut path = prefix.to_owned();
    let mut at = 0;
    while let Some(letter) = tree[at..].chars().next() {
        match letter {
            ':' => {
                if !path.ends_with('/') {
                    path.push('/');
                }
            }
            '{' => {
                at += 1;
                loop {
                    at += expand(&tree[at..], &path, paths);
                    match tree[at..].chars().next() {
                        Some(',') => at += 1,
                        Some('}') => return at + 1,
                        _ => return at,
                    }
                }
            }
            letter if letter.is_alphanumeric() || letter == '_' => path.push(letter),
            letter if letter.is_whitespace() && path == prefix => {}
            _ => break,
        }
        at += letter.len_utf8();
    }
    if path != prefix {
        paths.push(path);
    }
    at
}

#[test]
fn source_files_stay_short() {
    for (path, text) in sources().into_iter().filter(|(path, _)| !is_test_file(path)) {
        let lines = text[..tests_start(&text)].lines().count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines: it is probably two modules", path.display());
    }
}

/// What a release depends on is read by people before it grows.
#[test]
fn every_dependency_has_its_reason_above_it() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest is text");
    let (mut section, mut above, mut found) = ("", "", 0);
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        }
        let begins = line.split_once(" = ").is_some_and(|(name, _)| {
            name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        });
        if section.ends_with("dependencies]") && begins {
            assert!(above.starts_with("# "), "Cargo.toml does not say what {line:?} is for");
            found += 1;
        }
        above = line;
    }
    assert!(found > 40, "only {found} dependencies found");
}

#[test]
fn no_file_mentions_the_machine_it_was_written_on() {
    // In halves, so that this file passes.
    let private = [("/work", "/wt-"), ("/work", "/main"), ("/work", "/shared"), ("registry", " mirror")]
        .map(|(left, right)| format!("{left}{right}"));
    let mut files = Vec::new();
    walk(root(), &mut files);
    assert!(files.len() > 10, "only {} files found", files.len());
    for path in files {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for word in &private {
            assert!(!text.contains(word), "{} mentions {word:?}", path.display());
        }
    }
}

/// The forbidden arrows in the text of a file of `module`, each with its line.
fn forbidden(module: &str, is_test: bool, text: &str) -> Vec<(usize, String)> {
    let allowed = MODULES.iter().find(|(name, _)| *name == module).map_or(&[][..], |(_, allowed)| allowed);
    let tests_from = tests_start(text);
    imports(text)
        .into_iter()
        .filter(|(at, target)| {
            let in_tests = is_test || *at >= tests_from;
            let known = MODULES.iter().any(|(name, _)| name == target);
            let fine = target == module
                || allowed.contains(&target.as_str())
                || COMMON.contains(&target.as_str())
                || (in_tests && target == "sandbox");
            known && !fine
        })
        .map(|(at, target)| (text[..at].matches('\n').count() + 1, target))
        .collect()
}

/// Where the tests at the end of a file begin; its length if it has none.
fn tests_start(text: &str) -> usize {
    text.find("\n#[cfg(test)]\nmod tests {").unwrap_or(text.len())
}

/// The names that follow `crate::` or `runup::`, those inside one pair of braces included, with their offsets.
fn imports(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for root in ["crate::", "runup::"] {
        for (at, _) in text.match_indices(root) {
            let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
            if text[line_start..at].trim_start().starts_with("//") {
                continue;
            }
            let start = at + root.len();
            let rest = &text[start..];
            if !rest.starts_with('{') {
                found.push((at, name_at(rest)));
                continue;
            }
            let mut depth = 0;
            let mut previous = ' ';
            for (offset, letter) in rest.char_indices() {
                if depth == 1 && (letter.is_alphabetic()) && matches!(previous, '{' | ',') {
                    found.push((start + offset, name_at(&rest[offset..])));
                }
                match letter {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
                if !letter.is_whitespace() {
                    previous = letter;
                }
            }
        }
    }
    found
}

fn name_at(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

/// `src/net/retry.rs` and `src/net.rs` belong to `net`.
fn module_of(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).expect("sources are under src");
    let first = inside.components().next().expect("a source has a name");
    first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
}

fn is_test_file(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    stem == "tests" || stem.ends_with("_tests")
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    walk(&root().join("src"), &mut files);
    files.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    assert!(files.len() > 10, "only {} sources found", files.len());
    files
        .into_iter()
        .map(|path| (path.clone(), fs::read_to_string(&path).expect("sources are text")))
        .collect()
}

/// Every file of the repository under `directory`; what cargo builds and git keeps is not ours.
fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("the repository can be listed") {
        let entry = entry.expect("the repository can be listed");
        let name = entry.file_name();
        let kind = entry.file_type().expect("the repository can be listed");
        if kind.is_dir() && !["target", ".git"].iter().any(|theirs| name == *theirs) {
            walk(&entry.path(), files);
        } else if kind.is_file() && name != ".git" {
            files.push(entry.path());
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
