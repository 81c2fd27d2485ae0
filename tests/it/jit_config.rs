//! A runner whose just-in-time configuration was created elsewhere: created, run without a token, and deleted by whoever
//! created it.

use crate::rig::{Ran, Rig, finish, signal, until};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use runup::sandbox::{Fault, FaultKind, RunnerChange, Scope};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

fn scope() -> Scope {
    "orgs/octo-org".parse().unwrap()
}

/// What holds the token: files that no runner sees.
struct Creator {
    dir: tempfile::TempDir,
}

impl Creator {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("jit-config")
    }

    fn receipt(&self) -> PathBuf {
        self.dir.path().join("receipt")
    }

    fn command(&self, rig: &Rig, more: &[&str]) -> Command {
        let mut command = rig.command(&["runners", "create-jit", "--url"]);
        command.arg(rig.url()).arg("--jit-config-out").arg(self.config());
        command.arg("--receipt").arg(self.receipt()).args(more);
        command
    }

    /// Creates a runner, and returns the file with its configuration.
    #[track_caller]
    fn create(&self, rig: &Rig, more: &[&str]) -> String {
        finish(self.command(rig, more).spawn().unwrap()).expect(0).says("created: ");
        self.config().to_str().unwrap().to_owned()
    }

    fn delete_on_stop(&self, rig: &Rig) -> Child {
        let mut command = rig.command(&["runners", "delete-on-stop", "--url"]);
        command.arg(rig.url()).arg("--receipt").arg(self.receipt()).spawn().unwrap()
    }
}

impl Rig {
    /// `runup run` with neither a token nor a URL.
    fn run_handed(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&["run"]);
        command.args(arguments).env_remove("RUNUP_TOKEN").arg("--root").arg(self.root());
        if let Some(user) = self.user {
            command.arg("--user").arg(user);
        }
        command
    }

    fn baked() -> Self {
        let rig = Self::new();
        rig.run(&["bake"]).expect(0);
        rig
    }

    /// Waits until the one that was started asks for jobs.
    fn until_listening(&self) {
        self.until_asked("message");
    }

    fn start_handed(&self, config: &str) -> Child {
        self.sandbox.requests_clear();
        let child = self.run_handed(&["--jit-config-file", config]).spawn().unwrap();
        self.until_listening();
        child
    }
}

fn end(command: &mut Command) -> Ran {
    finish(command.spawn().unwrap())
}

fn stop(child: Child) -> Ran {
    signal(&child, Signal::TERM);
    finish(child)
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// No part of the configuration stays where the runner was.
#[track_caller]
fn assert_no_identity(rig: &Rig) {
    for name in [".runner", ".credentials", ".credentials_rsaparams"] {
        assert!(!rig.dir().join(name).exists(), "{name}");
    }
    finish(rig.command(&["remove", "--root"]).arg(rig.root()).env_remove("RUNUP_TOKEN").spawn().unwrap())
        .expect(0);
    rig.assert_machine_bare();
}

#[test]
fn a_runner_that_was_created_elsewhere_takes_its_job_without_a_token() {
    let (rig, creator) = (Rig::baked(), Creator::new());
    let config = creator.create(&rig, &["--name", "handed", "--labels", "gpu"]);
    assert_eq!((mode(&creator.config()), mode(&creator.receipt())), (0o600, 0o600));
    let created = rig.state().runners[0].clone();
    assert!(created.ephemeral && created.name == "handed", "{created:?}");
    assert!(
        created.labels.iter().any(|label| label == "gpu")
            && created.labels.iter().any(|label| label == "self-hosted")
    );
    rig.sandbox.add_job(&scope(), "only", 0);
    rig.sandbox.requests_clear();

    let ran =
        end(&mut rig.run_handed(&["--jit-config-file", &config, "-v"])).expect(0).says("the job is done");
    assert!(rig.state().jobs[0].done);
    assert_eq!(rig.state().runners, []);
    // Nothing was asked with a credential of the API: there is none.
    let routes = rig.routes();
    let listeners = ["session", "message", "job-taken", "job-done", "session-end"];
    assert!(routes.iter().all(|route| listeners.contains(&route.as_str())), "{routes:?}");
    let secret = std::fs::read_to_string(&config).unwrap();
    assert!(!ran.all().contains(&secret[..40]), "{ran:#?}");
    assert_no_identity(&rig);
}

#[test]
fn a_stop_is_obeyed_with_0_and_names_the_runner_that_stays() {
    let (rig, creator) = (Rig::baked(), Creator::new());
    let config = creator.create(&rig, &["--name", "handed"]);
    let id = rig.state().runners[0].id;
    let ran = stop(rig.start_handed(&config)).expect(0);
    ran.says(&format!("handed (id {id}) stays on the server")).says("after a day");
    assert_eq!(rig.state().runners[0].id, id, "it is deleted by whoever created it");

    // It is still good: the runner has had no job.
    rig.sandbox.requests_clear();
    let child = rig.run_handed(&["--jit-config-file", &config, "--json"]).spawn().unwrap();
    rig.until_listening();
    assert_eq!(stop(child).expect(0).json()["left_on_server"], json!({"name": "handed", "id": id}));
    stop(waiting(creator.delete_on_stop(&rig))).expect(0).says("deleted: handed");
    assert_eq!(rig.state().runners, []);
    assert!(!creator.receipt().exists());
    assert_no_identity(&rig);
}

#[test]
fn a_configuration_that_was_used_is_known_by_what_the_listener_says() {
    let (rig, creator) = (Rig::baked(), Creator::new());
    let config = creator.create(&rig, &["--name", "handed"]);
    rig.sandbox.add_job(&scope(), "only", 0);
    end(&mut rig.run_handed(&["--jit-config-file", &config])).expect(0);
    let again = end(&mut rig.run_handed(&["--jit-config-file", &config])).expect(69);
    again.says("handed").says("was already used").says("hint: Create another");

    // The listener waits for minutes until it ends so, and is not started again.
    let config = creator.create(&rig, &["--name", "second"]);
    rig.sandbox.fault(Fault::new("session", FaultKind::Exit { code: 5 }));
    rig.sandbox.requests_clear();
    end(&mut rig.run_handed(&["--jit-config-file", &config])).expect(75).says("second").says("is in use");
    assert_eq!(rig.asked("session"), 1);
    assert_no_identity(&rig);
}

#[test]
fn a_runner_that_is_deleted_while_it_waits_ends_and_is_not_created_again() {
    let (rig, creator) = (Rig::baked(), Creator::new());
    let config = creator.create(&rig, &[]);
    let child = rig.start_handed(&config);
    let id = rig.state().runners[0].id;
    rig.sandbox.change_runner(id, RunnerChange { deleted: true, ..RunnerChange::default() });
    finish(child).expect(0).says("the listener exited by itself");
    assert_eq!(rig.state().runners, []);
    assert_no_identity(&rig);
}

#[test]
fn the_runner_comes_from_an_archive_or_a_mirror_where_none_is_baked() {
    let (rig, creator) = (Rig::new(), Creator::new());
    let baked = Rig::baked().run(&["bake", "--check", "--json"]).json();
    let platform = baked["platform"].as_str().unwrap().to_owned();
    let version = rig.sandbox.runner_version();
    let bytes = crate::rebake::fetch(&rig, &format!("_sandbox/mirror/{platform}/{version}"));
    let sha256 = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&bytes));
    let config = creator.create(&rig, &["--name", "first"]);
    // Nothing is there, and there is nobody to ask.
    let none = end(&mut rig.run_handed(&["--jit-config-file", &config])).expect(64);
    none.says("no archive or token").says("--sha256");
    rig.assert_machine_bare();

    let name = format!("actions-runner-{platform}-{version}.tar.gz");
    let file = rig.write(&name, &bytes);
    rig.sandbox.add_job(&scope(), "first", 0);
    let archive = ["--jit-config-file", &config, "--archive", &file, "--sha256", &sha256];
    end(&mut rig.run_handed(&archive)).expect(0).says("the job is done");
    assert_no_identity(&rig);

    let mirror = serve(&format!("/runners/{name}"), bytes);
    let config = creator.create(&rig, &["--name", "second"]);
    rig.sandbox.add_job(&scope(), "second", 0);
    let mirror = format!("{mirror}/runners/");
    let from_mirror = [
        "--jit-config-file",
        &config,
        "--mirror",
        &mirror,
        "--sha256",
        &sha256,
        "--runner-version",
        &version,
    ];
    end(&mut rig.run_handed(&from_mirror)).expect(0).says("the job is done");
    assert_no_identity(&rig);
}

/// One file over HTTP; its address.
fn serve(path: &str, bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let wanted = format!("GET {path} ");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
                head.push(byte[0]);
            }
            let found = head.starts_with(wanted.as_bytes());
            let status = if found { "200 OK" } else { "404 Not Found" };
            let body = if found { bytes.as_slice() } else { b"" };
            let length = body.len();
            let _ =
                write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(body);
        }
    });
    address
}

fn encode(value: &Value) -> String {
    STANDARD.encode(value.to_string())
}

#[test]
fn what_is_not_a_configuration_is_refused_before_anything_is_placed() {
    let rig = Rig::new();
    let file = |name: &str| STANDARD.encode(format!("{{\"agentId\":1,\"agentName\":\"{name}\"}}"));
    let good = || json!({".runner": file("x"), ".credentials": encode(&json!({})), ".credentials_rsaparams": encode(&json!({}))});
    let with = |name: &str, content: &str| {
        let mut files = good();
        files[name] = content.into();
        encode(&files)
    };
    let without = |name: &str| {
        let mut files = good();
        files.as_object_mut().unwrap().remove(name);
        encode(&files)
    };
    for (content, word) in [
        (String::new(), "is empty"),
        ("ghp_token".to_owned(), "not base64"),
        (json!({"encoded_jit_config": "e30="}).to_string(), "the whole answer"),
        (STANDARD.encode("text"), "JSON object"),
        (with("../../etc/cron.d/x", "eA=="), "../../etc/cron.d/x"),
        (with(".env", "eA=="), ".env"),
        (with(".runner", "%"), ".runner"),
        (with(".runner", "e30="), "agentId"),
        (with(".runner", &file("two\\u001b[2Jlines")), "agentName"),
        (without(".runner"), "no .runner"),
        (without(".credentials"), "no .credentials"),
        (without(".credentials_rsaparams"), "no .credentials_rsaparams"),
    ] {
        let path = rig.write("jit-config", &content);
        end(&mut rig.run_handed(&["--jit-config-file", &path])).expect(65).says(word).says("hint: ");
        rig.assert_machine_bare();
    }
    let path = rig.write("jit-config", encode(&good()));
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    let open = end(&mut rig.run_handed(&["--jit-config-file", &path])).expect(78);
    open.says("read by every user").says("chmod 600");
    end(&mut rig.run_handed(&["--jit-config-file", "/nowhere/jit-config"]))
        .expect(66)
        .says("/nowhere/jit-config");
    rig.assert_machine_bare();
}

#[test]
fn the_configuration_may_come_from_stdin_from_systemd_or_by_a_variable() {
    let (rig, creator) = (Rig::baked(), Creator::new());
    for name in ["stdin", "systemd", "variable"] {
        let config = creator.create(&rig, &["--name", name]);
        rig.sandbox.add_job(&scope(), name, 0);
        let mut command = rig.run_handed(&[]);
        let child = match name {
            "stdin" => {
                let mut child =
                    command.args(["--jit-config-file", "-"]).stdin(Stdio::piped()).spawn().unwrap();
                child.stdin.take().unwrap().write_all(&std::fs::read(&config).unwrap()).unwrap();
                child
            }
            "systemd" => {
                let directory = creator.dir.path();
                std::fs::copy(&config, directory.join("runup.jit-config")).unwrap();
                command.env("CREDENTIALS_DIRECTORY", directory).spawn().unwrap()
            }
            _ => command.env("RUNUP_JIT_CONFIG_FILE", &config).spawn().unwrap(),
        };
        finish(child).expect(0).says("the job is done");
        assert_eq!(rig.state().runners, []);
    }
}

#[test]
fn what_a_configuration_excludes_is_refused() {
    let (rig, creator) = (Rig::new(), Creator::new());
    let config = creator.create(&rig, &[]);
    for more in [
        &["--jit"][..],
        &["--after-job", "again"],
        &["--remove-on-shutdown"],
        &["--labels", "x"],
        &["--name", "x"],
    ] {
        let mut command = rig.run_handed(&["--jit-config-file", &config]);
        end(command.args(more)).expect(64).says(more[0]);
    }
    rig.assert_machine_bare();
}

#[test]
fn a_registered_runner_is_not_replaced_and_a_run_that_was_killed_is() {
    let (rig, creator) = (Rig::new(), Creator::new());
    rig.run(&["install", "--name", "registered"]).expect(0);
    let config = creator.create(&rig, &["--name", "handed"]);
    let refused = end(&mut rig.run_handed(&["--jit-config-file", &config])).expect(78);
    refused.says("registered").says("runup remove");
    assert!(rig.dir().join(".runner").exists());
    rig.run(&["remove"]).expect(0);

    rig.run(&["bake"]).expect(0);
    let mut child = rig.start_handed(&config);
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    // Its listener lives on and is ended first; another configuration is another runner.
    let second = Creator::new();
    let config = second.create(&rig, &["--name", "second"]);
    let child = rig.run_handed(&["--jit-config-file", &config]).spawn().unwrap();
    let is_online = || rig.state().runners.iter().any(|runner| runner.name == "second" && runner.online);
    until("the second one is online", is_online);
    rig.sandbox.add_job(&scope(), "only", 0);
    finish(child).expect(0).says("outlived").says("the job is done");
    assert_no_identity(&rig);
}

/// What a killed run wrote down of a runner is a claim: with a credential at hand, it deletes nothing.
#[test]
fn what_a_configuration_says_never_deletes_a_runner() {
    let (rig, creator) = (Rig::baked(), Creator::new());
    let config = creator.create(&rig, &["--name", "handed"]);
    let child = rig.start_handed(&config);
    let journal = rig.root().join("var/lib/runup");
    let entry = std::fs::read_dir(&journal).unwrap().flatten().map(|entry| entry.path());
    let entry = entry.filter(|path| path.extension().is_some_and(|it| it == "json")).collect::<Vec<_>>();
    let text = std::fs::read_to_string(&entry[0]).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let registered =
        document["entries"].as_array().unwrap().iter().find(|entry| entry["step"] == "register").unwrap();
    assert_eq!((&registered["state"], &registered["api_url"]), (&json!("begun"), &json!("")));
    stop(child).expect(0);
    // The run itself has a credential here, and leaves the runner to whoever created it.
    rig.sandbox.requests_clear();
    let child = rig.on_machine(&["run", "--jit-config-file", &config]).spawn().unwrap();
    rig.until_listening();
    stop(child).expect(0).says("stays on the server");
    assert_eq!(rig.asked("delete-runner"), 0);
    assert_eq!(rig.state().runners.len(), 1);
}

#[test]
fn a_shared_directory_hands_the_configuration_to_its_group_and_stdout_to_a_pipe() {
    let (rig, creator) = (Rig::new(), Creator::new());
    std::fs::set_permissions(creator.dir.path(), PermissionsExt::from_mode(0o2777)).unwrap();
    creator.create(&rig, &["--name", "shared"]);
    assert_eq!((mode(&creator.config()), mode(&creator.receipt())), (0o640, 0o600));
    let (file, dir) =
        (std::fs::metadata(creator.config()).unwrap(), std::fs::metadata(creator.dir.path()).unwrap());
    assert_eq!(file.gid(), dir.gid());
    let printed = rig.ask(&["runners", "create-jit", "--name", "printed", "--jit-config-out", "-"]).expect(0);
    let map: Value = serde_json::from_slice(&STANDARD.decode(printed.stdout.trim()).unwrap()).unwrap();
    assert!(map[".runner"].is_string());
    assert!(!printed.stderr.contains(printed.stdout.trim()));
}

#[test]
fn whoever_creates_a_runner_deletes_that_one_and_no_other() {
    let (rig, creator) = (Rig::new(), Creator::new());
    // Nothing was created: nothing is deleted.
    stop(waiting(creator.delete_on_stop(&rig))).expect(0).says("no runner was created");

    // A name that is in use is somebody else's, and stays.
    rig.sandbox.add_runner(&scope(), "taken", &[]).unwrap();
    end(&mut creator.command(&rig, &["--name", "taken"])).expect(78).says("taken");
    assert!(!creator.receipt().exists());
    stop(waiting(creator.delete_on_stop(&rig))).expect(0).says("no runner was created");
    assert_eq!(rig.state().runners.len(), 1);

    // A receipt for another server gets no token.
    creator.create(&rig, &["--name", "mine"]);
    let mut command = rig.command(&["runners", "delete-on-stop", "--url"]);
    let other = rig.sandbox.base_url().join("other-org").unwrap();
    let child = command.arg(other.as_str()).arg("--receipt").arg(creator.receipt()).spawn().unwrap();
    stop(waiting(child)).expect(78).says("other-org");

    // An id that another runner has by now is not deleted.
    let receipt = std::fs::read_to_string(creator.receipt()).unwrap();
    std::fs::write(creator.receipt(), receipt.replace("mine", "other")).unwrap();
    stop(waiting(creator.delete_on_stop(&rig))).expect(78).says("mine").says("other");
    std::fs::write(creator.receipt(), receipt).unwrap();

    // It waits for as long as the pod lives: its deadline begins with the signal.
    let mut command = rig.command(&["runners", "delete-on-stop", "--deadline", "1s", "--url"]);
    let child = command.arg(rig.url()).arg("--receipt").arg(creator.receipt()).spawn().unwrap();
    let child = waiting(child);
    std::thread::sleep(Duration::from_millis(1200));
    stop(child).expect(0).says("deleted: mine");

    // Created again in its place, the first one goes.
    creator.create(&rig, &["--name", "mine"]);
    creator.create(&rig, &["--name", "again"]);
    let names: Vec<String> = rig.state().runners.iter().map(|runner| runner.name.clone()).collect();
    assert_eq!(names, ["taken", "again"]);
    stop(waiting(creator.delete_on_stop(&rig))).expect(0).says("deleted: again");
    assert_eq!(rig.state().runners.len(), 1);
}

/// A signal that comes before there are handlers ends any program.
fn waiting(child: Child) -> Child {
    let caught = |child: &Child| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .is_some_and(|mask| mask & (1 << 14) != 0)
    };
    until("it has its handlers", || caught(&child));
    child
}

#[test]
fn a_runner_whose_creation_was_cut_off_is_taken_back() {
    let (rig, creator) = (Rig::new(), Creator::new());
    // The server has acted, and the answer comes too late.
    rig.sandbox.fault(Fault::new("jitconfig", FaultKind::DelayAfter { ms: 4000 }).times(1));
    end(&mut creator.command(&rig, &["--name", "lost", "--deadline", "2s"])).expect(75);
    assert_eq!(rig.state().runners, []);
    assert!(!creator.receipt().exists() && !creator.config().exists());

    // Killed in between, the receipt has the name that was asked for, and whoever deletes it goes by that.
    rig.sandbox.fault(Fault::new("jitconfig", FaultKind::DelayAfter { ms: 4000 }).times(1));
    let mut child = creator.command(&rig, &["--name", "lost"]).spawn().unwrap();
    until("the server has it", || rig.state().runners.len() == 1);
    child.kill().unwrap();
    child.wait().unwrap();
    stop(waiting(creator.delete_on_stop(&rig))).expect(0).says("deleted: lost");
    assert_eq!(rig.state().runners, []);
}
