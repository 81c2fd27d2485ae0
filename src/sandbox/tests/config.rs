//! The served `config.sh`, as a real process of an ordinary user.

#![cfg(unix)]

use super::super::{Background, Fault, Options, spawn_in_thread};
use super::{call, download, sandbox, send, until};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// The user nobody on the systems on which these tests run.
pub(super) const NOBODY: u32 = 65534;

/// An unpacked runner; tests as root run it as nobody, as config.sh refuses root.
pub(super) struct Runner {
    dir: TempDir,
    as_nobody: bool,
}

impl Runner {
    pub fn unpack(sandbox: &Background) -> Self {
        let dir = TempDir::new().unwrap();
        let it = download(sandbox, "linux", "x64");
        let bytes = send(sandbox, "GET", &it.path, &[&it.authorization], "").body;
        tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice())).unpack(dir.path()).unwrap();
        let runner = Self { as_nobody: rustix::process::geteuid().is_root(), dir };
        if runner.as_nobody {
            own(runner.path(), NOBODY);
        }
        runner
    }

    /// Gives everything to this user; needs root.
    pub fn own(&self, user: u32) {
        own(self.path(), user);
    }

    /// The same for one of its directories.
    pub fn own_below(&self, name: &str, user: u32) {
        own(&self.path().join(name), user);
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn has(&self, name: &str) -> bool {
        self.path().join(name).exists()
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
        if self.as_nobody {
            own(&self.path().join(name), NOBODY);
        }
    }

    /// The JSON in one of its files, which must start with a byte order mark.
    pub fn json(&self, name: &str) -> serde_json::Value {
        let text = std::fs::read_to_string(self.path().join(name)).unwrap();
        serde_json::from_str(text.strip_prefix('\u{feff}').expect("a byte order mark")).unwrap()
    }

    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.path().join(program));
        command.current_dir(self.path()).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.stdin(Stdio::null());
        if self.as_nobody {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    pub fn config(&self, token: &str, arguments: &[&str]) -> Output {
        let mut command = self.command("config.sh");
        command.env("ACTIONS_RUNNER_INPUT_TOKEN", token).args(arguments);
        command.output().unwrap()
    }

    /// Registers at `/acme` under the name `one`.
    pub fn configure(&self, sandbox: &Background, more: &[&str]) -> Output {
        let url = format!("{}acme", sandbox.base_url());
        let mut arguments = vec!["--url", &url, "--name", "one"];
        arguments.extend(more);
        arguments.push("--unattended");
        self.config(&token(sandbox, "registration"), &arguments)
    }

    pub fn remove(&self, sandbox: &Background) -> Output {
        self.config(&token(sandbox, "remove"), &["remove"])
    }
}

fn own(path: &Path, user: u32) {
    std::os::unix::fs::lchown(path, Some(user), Some(user)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        for entry in std::fs::read_dir(path).unwrap() {
            own(&entry.unwrap().path(), user);
        }
    }
}

pub(super) fn token(sandbox: &Background, kind: &str) -> String {
    let answer = call(sandbox, "POST", &format!("/api/v3/orgs/acme/actions/runners/{kind}-token"));
    answer.json()["token"].as_str().unwrap().to_owned()
}

pub(super) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

pub(super) fn assert_fails(output: &Output, words: &str) {
    assert_eq!(output.status.code(), Some(1), "{}", text(output));
    assert!(text(output).contains(words), "{words:?} in {}", text(output));
}

pub(super) fn assert_succeeds(output: &Output) {
    assert!(output.status.success(), "{}", text(output));
}

#[test]
fn a_runner_registers_and_goes_away_again() {
    let sandbox = sandbox();
    let runner = Runner::unpack(&sandbox);
    let done = runner.configure(&sandbox, &["--labels", "gpu,,big one", "--ephemeral", "--disableupdate"]);
    assert_succeeds(&done);
    assert!(text(&done).contains("Runner successfully added"));
    let state = sandbox.state();
    let record = state.runner("orgs/acme", "one").unwrap();
    assert_eq!(record.labels, ["self-hosted", "Linux", "X64", "gpu", "big one"]);
    assert!(record.ephemeral && record.disable_update && !record.online);
    assert_eq!((record.version.as_str(), record.os.as_str()), ("2.336.0", "linux"));
    let settings = runner.json(".runner");
    assert_eq!(settings["agentId"], record.id);
    assert_eq!(settings["agentName"], "one");
    assert_eq!(settings["gitHubUrl"], format!("{}acme", sandbox.base_url()));
    assert_eq!((&settings["workFolder"], &settings["ephemeral"]), (&"_work".into(), &true.into()));
    assert_eq!(runner.json(".credentials")["scheme"], "OAuth");
    let mode = std::fs::metadata(runner.path().join(".credentials_rsaparams")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let svc = std::fs::read_to_string(runner.path().join("svc.sh")).unwrap();
    assert!(svc.contains("SVC_NAME=\"actions.runner._services.one.service\""));
    assert_eq!(
        std::fs::read_to_string(runner.path().join(".path")).unwrap(),
        "/usr/sbin:/usr/bin:/sbin:/bin\n"
    );
    assert!(runner.has(".env") && runner.has("_diag"));

    assert_succeeds(&runner.remove(&sandbox));
    assert!(sandbox.state().runners.is_empty());
    assert!(!runner.has(".runner") && !runner.has(".credentials") && !runner.has(".credentials_rsaparams"));
    assert!(runner.has("svc.sh") && runner.has(".env") && runner.has("_diag"));
}

#[test]
fn the_token_is_neither_printed_nor_logged_nor_kept() {
    let sandbox = sandbox();
    let runner = Runner::unpack(&sandbox);
    let token = token(&sandbox, "registration");
    let url = format!("{}acme", sandbox.base_url());
    let done = runner.config(&token, &["--url", &url, "--unattended"]);
    assert_succeeds(&done);
    assert!(!text(&done).contains(&token));
    let found = Command::new("grep").args(["-rF", &token]).arg(runner.path()).output().unwrap();
    assert_eq!(found.status.code(), Some(1), "grep finds nothing: {}", text(&found));
}

#[test]
fn config_refuses_root() {
    let sandbox = sandbox();
    let runner = Runner::unpack(&sandbox);
    // An ordinary user cannot become root, so a fake `id` prints 0.
    let fake = TempDir::new().unwrap();
    let id = fake.path().join("id");
    std::fs::write(&id, "#!/bin/sh\necho 0\n").unwrap();
    std::fs::set_permissions(&id, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(fake.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", fake.path().display());
    let refused = runner.command("config.sh").env("PATH", &path).arg("remove").output().unwrap();
    assert_fails(&refused, "Must not run with sudo");
    let mut command = runner.command("config.sh");
    command.env("PATH", &path).env("RUNNER_ALLOW_RUNASROOT", "1").arg("remove");
    let allowed = command.output().unwrap();
    assert!(text(&allowed).contains("config files are missing"), "{}", text(&allowed));
}

#[test]
fn a_configured_directory_is_refused_before_the_network() {
    let sandbox = sandbox();
    let runner = Runner::unpack(&sandbox);
    runner.write(".runner_migrated", "{}");
    let token = token(&sandbox, "registration");
    sandbox.requests_clear();
    assert_fails(
        &runner.config(&token, &["--url", "http://x/y", "--unattended"]),
        "it is already configured",
    );
    assert!(sandbox.requests().is_empty());
}

#[test]
fn a_taken_name_needs_replace() {
    let sandbox = sandbox();
    let id = sandbox.add_runner(&"orgs/acme".parse().unwrap(), "one", &["old"]).unwrap();
    let runner = Runner::unpack(&sandbox);
    assert_fails(&runner.configure(&sandbox, &[]), "A runner exists with the same name one.");
    assert!(runner.has(".credentials_rsaparams"), "GitHub's creates it before it looks for the name");
    // A pitfall of GitHub's parser: a flag that is followed by a word is not set.
    assert_fails(
        &runner.configure(&sandbox, &["--replace", "true"]),
        "A runner exists with the same name one.",
    );
    assert_succeeds(&runner.configure(&sandbox, &["--replace"]));
    let state = sandbox.state();
    assert_eq!((state.runners.len(), state.runners[0].id), (1, id));
    assert_eq!(runner.json(".runner")["agentId"], id);
    assert!(!state.runners[0].labels.contains(&"old".to_owned()));
}

#[test]
fn a_dead_or_foreign_token_is_not_found() {
    let sandbox = sandbox();
    let runner = Runner::unpack(&sandbox);
    let url = format!("{}acme", sandbox.base_url());
    let old = token(&sandbox, "registration");
    sandbox.expire_tokens();
    let refused = runner.config(&old, &["--url", &url, "--unattended"]);
    assert_fails(&refused, "Http response code: NotFound from 'POST ");
    assert_fails(&refused, "\"message\":\"Not Found\"");
    assert_fails(&refused, "Response status code does not indicate success: 404");
    let wrong_kind = token(&sandbox, "remove");
    assert_fails(&runner.config(&wrong_kind, &["--url", &url, "--unattended"]), "NotFound");
    let other = format!("{}other", sandbox.base_url());
    let good = token(&sandbox, "registration");
    assert_fails(&runner.config(&good, &["--url", &other, "--unattended"]), "NotFound");
    assert!(sandbox.state().runners.is_empty() && !runner.has(".credentials_rsaparams"));
}

#[test]
fn the_command_line_has_the_traps_of_github_s() {
    let sandbox = sandbox();
    let runner = Runner::unpack(&sandbox);
    let missing = runner.config("x", &["--unattended"]);
    assert_fails(&missing, "Invalid configuration provided for url. Terminating unattended configuration.");
    // `remove` is a command only in the first position: here it is the value of a flag.
    assert_fails(
        &runner.config("x", &["--url", "y", "--local", "remove", "--unattended"]),
        "provided for url",
    );
    let url = format!("{}acme", sandbox.base_url());
    let arguments = [
        "--name",
        "first",
        "--name",
        "second",
        "--url",
        &url,
        "--labels",
        "-x",
        "--nonsense",
        "--unattended",
    ];
    let done = runner.config(&token(&sandbox, "registration"), &arguments);
    assert_succeeds(&done);
    assert!(text(&done).contains("Unrecognized command-line input arguments: 'nonsense'"));
    assert_eq!(sandbox.state().runner("orgs/acme", "first").unwrap().labels.len(), 3);
}

#[test]
fn inputs_come_from_the_environment_too() {
    let sandbox = sandbox();
    let runner = Runner::unpack(&sandbox);
    let mut command = runner.command("config.sh");
    command
        .env("ACTIONS_RUNNER_INPUT_TOKEN", format!("  {} ", token(&sandbox, "registration")))
        .env("ACTIONS_RUNNER_INPUT_URL", format!("{}acme", sandbox.base_url()))
        .env("ACTIONS_RUNNER_INPUT_NAME", "from-environment")
        .env("actions_runner_input_unattended", "true")
        .env("ACTIONS_RUNNER_INPUT_EPHEMERAL", "1")
        .env("ACTIONS_RUNNER_INPUT_LABELS", "only")
        .env("ACTIONS_RUNNER_INPUT_NO-DEFAULT-LABELS", "true")
        .args(["--name", "from-command-line"]);
    assert_succeeds(&command.output().unwrap());
    let state = sandbox.state();
    let record = state.runner("orgs/acme", "from-command-line").unwrap();
    assert!(!record.ephemeral, "a flag needs the word true");
    assert_eq!(record.labels, ["only"]);
}

#[test]
fn groups_are_looked_up() {
    let sandbox = sandbox();
    let runner = Runner::unpack(&sandbox);
    let unknown = runner.configure(&sandbox, &["--runnergroup", "nope"]);
    assert_fails(&unknown, "Could not find any self-hosted runner group named \"nope\".");
    assert_succeeds(&runner.configure(&sandbox, &["--runnergroup", "GPU"]));
    assert_eq!(sandbox.state().runners[0].group_id, 2);
}

#[test]
fn remove_keeps_to_github_s_rules() {
    let sandbox = sandbox();
    let runner = Runner::unpack(&sandbox);
    let nothing = runner.remove(&sandbox);
    assert_succeeds(&nothing);
    assert!(text(&nothing).contains("Cannot connect to server, because config files are missing."));
    assert_succeeds(&runner.configure(&sandbox, &[]));
    runner.write(".service", "x\n");
    assert_fails(&runner.remove(&sandbox), "Uninstall service first");
    std::fs::remove_file(runner.path().join(".service")).unwrap();
    let id = sandbox.state().runners[0].id;
    call(&sandbox, "DELETE", &format!("/api/v3/orgs/acme/actions/runners/{id}"));
    assert_fails(&runner.remove(&sandbox), "Http response code: NotFound from 'DELETE ");
    assert!(runner.has(".runner"), "the files stay");
    sandbox.requests_clear();
    assert_succeeds(&runner.config("", &["remove", "--local"]));
    assert!(!runner.has(".runner") && sandbox.requests().is_empty());
}

#[test]
fn the_script_misbehaves_on_request() {
    let sandbox = sandbox();
    let act = |act: &str| {
        sandbox.faults_clear();
        sandbox.fault(format!("runner-registration:1:script={act}").parse::<Fault>().unwrap());
        let runner = Runner::unpack(&sandbox);
        let output = runner.configure(&sandbox, &["--replace"]);
        (runner, output)
    };
    let (runner, output) = act("succeed-without-register");
    assert!(output.status.success() && !runner.has(".runner") && sandbox.state().runners.is_empty());
    let (runner, output) = act("fail-after-register");
    assert_fails(&output, "asked to fail");
    assert!(!runner.has(".runner") && runner.has(".credentials_rsaparams"));
    assert_eq!(sandbox.state().runners.len(), 1);
    let (runner, output) = act("fail-after-runner-file");
    assert_fails(&output, "asked to fail");
    assert!(runner.has(".runner") && !runner.has("svc.sh"));
    let (_runner, output) = act("print-secret");
    assert!(output.status.success() && text(&output).contains("the token is "));
}

#[test]
fn a_late_answer_leaves_a_registered_runner_that_its_directory_does_not_know() {
    let sandbox = sandbox();
    sandbox.fault("register:delay-after=forever".parse::<Fault>().unwrap());
    let runner = Runner::unpack(&sandbox);
    let url = format!("{}acme", sandbox.base_url());
    let mut child = runner
        .command("config.sh")
        .env("ACTIONS_RUNNER_INPUT_TOKEN", token(&sandbox, "registration"))
        .args(["--url", &url, "--unattended"])
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    until("the runner is registered", || !sandbox.state().runners.is_empty());
    // As after a power failure.
    Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).status().unwrap();
    child.wait().unwrap();
    assert!(runner.has(".credentials_rsaparams") && !runner.has(".credentials") && !runner.has(".runner"));
}

#[test]
fn libicu_is_asked_for_only_on_request() {
    let text_of = |require_libicu| {
        let sandbox = spawn_in_thread(Options { require_libicu, ..Options::default() }).unwrap();
        let runner = Runner::unpack(&sandbox);
        std::fs::read_to_string(runner.path().join("config.sh")).unwrap()
    };
    assert!(!text_of(false).contains("libicu"));
    let strict = text_of(true);
    assert!(strict.contains("Libicu's dependencies is missing for Dotnet Core 6.0"));
    let parsed = Command::new("bash").args(["-n", "-c", &strict]).status().unwrap();
    assert!(parsed.success());
}
