//! No credential where somebody could find it: the command lines of all processes while they run, what we print, and the
//! files that stay.

use crate::rig::{Rig, finish, until};
use runup::sandbox::{Fault, FaultKind};
use std::collections::BTreeSet;
use std::path::Path;

/// Where any of `secrets` stands in a command line of this machine, or in the environment of a process other than
/// `config.sh` and the `runup` that was given it.
fn seen_in_processes(secrets: &[String]) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let Ok(processes) = std::fs::read_dir("/proc") else { return seen };
    for process in processes.flatten() {
        let read = |file: &str| std::fs::read(process.path().join(file)).unwrap_or_default();
        let line = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        if secrets.iter().any(|secret| line.contains(secret)) {
            seen.insert(line);
        }
    }
    seen
}

fn seen_in_files(directory: &Path, secrets: &[String], seen: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            seen_in_files(&path, secrets, seen);
        } else if kind.is_file() {
            let content = std::fs::read(&path).unwrap_or_default();
            let content = String::from_utf8_lossy(&content);
            if secrets.iter().any(|secret| content.contains(secret)) {
                seen.insert(path.display().to_string());
            }
        }
    }
}

/// Everything that was seen of the credentials during a whole life.
struct Watched {
    processes: BTreeSet<String>,
    files: BTreeSet<String>,
    printed: String,
    secrets: Vec<String>,
}

/// Installs and removes, and looks everywhere while `config.sh` waits for the server.
fn watch(extra: &[&str]) -> Watched {
    let rig = Rig::new();
    // config.sh waits inside a request for as long as the looking takes.
    rig.sandbox.fault(Fault::new("register", FaultKind::Delay { ms: 400 }).times(1));
    rig.sandbox.fault(Fault::new("runner-delete", FaultKind::Delay { ms: 400 }).times(1));
    let mut secrets = vec![rig.sandbox.token().expose().to_owned()];
    let mut printed = String::new();
    let mut processes = BTreeSet::new();
    let mut files = BTreeSet::new();
    for (command, route) in [("install", "register"), ("remove", "runner-delete")] {
        let mut arguments = vec![command, "-v", "--json"];
        arguments.extend(["--trust-tree"].iter().filter(|_| command == "remove"));
        arguments.extend(extra);
        let child = rig.on_machine(&arguments).spawn().unwrap();
        until("config.sh talks to the server", || {
            rig.sandbox.requests().iter().any(|request| request.route == route)
        });
        secrets.extend(rig.sandbox.issued().into_iter().map(|token| token.expose().to_owned()));
        processes.extend(seen_in_processes(&secrets));
        seen_in_files(rig.root(), &secrets, &mut files);
        let ran = finish(child).expect(0);
        printed.push_str(&ran.stdout);
        printed.push_str(&ran.stderr);
    }
    seen_in_files(rig.root(), &secrets, &mut files);
    Watched { processes, files, printed, secrets }
}

#[test]
fn no_credential_is_on_a_command_line_in_a_file_or_in_what_we_print() {
    let watched = watch(&[]);
    assert!(watched.secrets.len() >= 3, "the API's, a registration token and a remove token were in use");
    assert_eq!(watched.processes, BTreeSet::new());
    assert_eq!(watched.files, BTreeSet::new());
    let leak = watched.secrets.iter().find(|secret| watched.printed.contains(*secret));
    assert_eq!(leak, None, "{}", watched.printed);
}

/// The scan above would find what it looks for: with the literal form of GitHub's documentation, it does.
#[test]
fn the_scan_of_command_lines_can_fail() {
    let watched = watch(&["--token-via", "argv"]);
    assert!(!watched.processes.is_empty());
    // Even so, nothing of it is printed or kept.
    assert_eq!(watched.files, BTreeSet::new());
    assert!(!watched.secrets.iter().any(|secret| watched.printed.contains(secret)));
}

#[test]
fn the_scan_of_files_can_fail() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("deep")).unwrap();
    std::fs::write(directory.path().join("deep/log"), "token=CANARY!").unwrap();
    let mut seen = BTreeSet::new();
    seen_in_files(directory.path(), &["CANARY".to_owned()], &mut seen);
    assert_eq!(seen.len(), 1);
}

/// What `config.sh` gets is its token and a short list; nothing of our own environment.
#[test]
#[cfg(target_os = "linux")]
fn config_sh_gets_no_credential_but_its_own() {
    let rig = Rig::new();
    rig.sandbox.fault(Fault::new("register", FaultKind::Delay { ms: 400 }).times(1));
    let mut command = rig.on_machine(&["install"]);
    let child = command.env("UNRELATED", "canary-of-the-environment").spawn().unwrap();
    until("config.sh talks to the server", || {
        rig.sandbox.requests().iter().any(|request| request.route == "register")
    });
    let marker = runup::runner::config_sh::MARKER;
    let pids = runup::host::process::with_env(marker, &rig.dir().display().to_string());
    assert!(!pids.is_empty());
    for pid in pids {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment).into_owned();
        assert!(
            !environment.contains(rig.sandbox.token().expose()),
            "the API's credential is not for config.sh"
        );
        assert!(!environment.contains("canary-of-the-environment"));
    }
    finish(child).expect(0);
}
