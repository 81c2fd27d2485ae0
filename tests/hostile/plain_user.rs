//! What a job can find of the credential where runup and its jobs are the same user, as in a container.

use crate::rig::{Rig, finish, signal, until};
use runup::sandbox::{Background, Options, RunnerChange, Scope, spawn_in_thread};
use rustix::process::Signal;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// An ordinary user that every machine has; the tests switch to it when they run as root.
const NOBODY: u32 = 65534;

/// An ordinary user with a home directory, the program, and a fake GitHub server.
struct Plain {
    sandbox: Background,
    home: tempfile::TempDir,
    program: PathBuf,
    as_root: bool,
}

impl Plain {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::set_permissions(home.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let as_root = rustix::process::geteuid().is_root();
        let mut program = PathBuf::from(env!("CARGO_BIN_EXE_runup"));
        if as_root {
            // The user may not be able to read the build directory.
            let copy = home.path().join("runup");
            std::fs::copy(&program, &copy).unwrap();
            program = copy;
            chown(home.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        Self { sandbox: spawn_in_thread(Options::default()).unwrap(), home, program, as_root }
    }

    fn dir(&self) -> PathBuf {
        self.home.path().join("actions-runner")
    }

    /// A program of the ordinary user, with an empty environment.
    fn program(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", self.home.path());
        command.current_dir(self.home.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if self.as_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(&self.program);
        command.arg("run").arg("--url").arg(format!("{}acme", self.sandbox.base_url()));
        command.arg("--name").arg("plain").arg("--dir").arg(self.dir()).args(arguments);
        // This user may not have a home directory in the user database.
        command.env("XDG_STATE_HOME", self.home.path().join("state"));
        command
    }

    fn is_online(&self) -> bool {
        self.sandbox.state().runners.first().is_some_and(|runner| runner.online)
    }

    fn start(&self, command: &mut Command) -> Child {
        let child = command.spawn().unwrap();
        until("the runner asks for jobs", || {
            self.is_online() && self.sandbox.requests().iter().any(|request| request.route == "message")
        });
        child
    }

    /// Runs this script as the runner's next job, and returns its output.
    fn job(&self, script: &str) -> String {
        let worker = self.dir().join("bin/Runner.Worker");
        let (out, done) = (self.home.path().join("job.out"), self.home.path().join("job.done"));
        let text = format!("#!/bin/sh\nexec >{} 2>&1\n{script}\n: >{}\n", out.display(), done.display());
        std::fs::write(&worker, text).unwrap();
        self.sandbox.add_job(&"orgs/acme".parse::<Scope>().unwrap(), "hostile", 0);
        until("the job is over", || done.exists());
        std::fs::read_to_string(out).unwrap()
    }
}

/// What a job tries on the process `pid`, and on every other process to find `secret`. Opening the memory of a process needs
/// the permission to trace it.
fn probe(pid: u32, secret: &str) -> String {
    format!(
        "for file in environ mem maps auxv fd; do\n\
         if (exec 3</proc/{pid}/$file) && ls /proc/{pid}/fd >/dev/null; then echo $file is open; else echo $file is closed; fi 2>/dev/null\n\
         done\n\
         id -u\n\
         cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep {secret} || echo no secret anywhere"
    )
}

#[test]
fn a_job_of_our_own_user_finds_the_token_in_no_process() {
    let plain = Plain::new();
    let token = plain.sandbox.token().expose().to_owned();
    // With --remove-on-shutdown it is kept while jobs run, which is the harder case.
    let mut command = plain.run(&["--remove-on-shutdown", "--drain", "30s"]);
    let child = plain.start(command.env("RUNUP_TOKEN", &token));
    let found = plain.job(&probe(child.id(), &token));
    for file in ["environ", "mem", "maps", "auxv", "fd"] {
        assert!(found.contains(&format!("{file} is closed")), "{found}");
    }
    let uid = if plain.as_root { NOBODY } else { rustix::process::geteuid().as_raw() };
    assert!(found.contains(&format!("\n{uid}\n")), "the job is the same user: {found}");
    assert!(found.contains("no secret anywhere"), "{found}");
    signal(&child, Signal::TERM);
    let ran = finish(child).expect(0).says("the runner was deregistered");
    let warnings: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("jobs run as")).collect();
    assert_eq!(warnings.len(), 1, "{ran:#?}");
    assert!(warnings[0].contains("--remove-on-shutdown needs the API token"), "{warnings:?}");
    assert!(!ran.all().contains(&token));
}

/// The probe can find something: a process of the same user that does not hide.
#[test]
fn the_probe_of_a_process_can_fail() {
    let plain = Plain::new();
    let mut command = plain.program(Path::new("/bin/sleep"));
    let mut open = command.arg("600").env("RUNUP_TOKEN", "canary-of-the-probe").spawn().unwrap();
    let script = probe(open.id(), "canary-of-the-probe");
    let mut command = plain.program(Path::new("/bin/sh"));
    let found = finish(command.args(["-c", &script]).spawn().unwrap()).stdout;
    open.kill().unwrap();
    open.wait().unwrap();
    assert!(found.contains("environ is open") && found.contains("maps is open"), "{found}");
    assert!(found.contains("RUNUP_TOKEN=canary-of-the-probe"), "{found}");
}

#[test]
fn a_token_that_nothing_needs_is_dropped_and_one_that_stays_somewhere_is_read_again() {
    let plain = Plain::new();
    let token = plain.sandbox.token().expose().to_owned();
    let lose = || {
        let id = plain.sandbox.state().runners[0].id;
        plain.sandbox.change_runner(id, RunnerChange { deleted: true, ..RunnerChange::default() });
        id
    };
    let child = plain.start(plain.run(&[]).env("RUNUP_TOKEN", &token));
    lose();
    // The token came from the environment and is gone: registering again needs another start.
    finish(child).expect(75).says("holds no credential").says("hint: Start `runup run` again");

    let file = plain.home.path().join("token");
    std::fs::write(&file, &token).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    if plain.as_root {
        chown(&file, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    plain.sandbox.requests_clear();
    let child = plain.start(plain.run(&[]).arg("--token-file").arg(&file));
    let first = lose();
    until("it is registered again", || plain.is_online() && plain.sandbox.state().runners[0].id != first);
    signal(&child, Signal::TERM);
    let ran = finish(child).expect(0).says("registering it again");
    let warnings = ran.stderr.lines().filter(|line| line.contains("can read --token-file")).count();
    assert_eq!(warnings, 1, "{ran:#?}");
}

/// As root, with jobs of another user, there is nothing to warn about and nothing to drop.
#[test]
fn there_is_no_warning_where_jobs_are_another_user() {
    let rig = Rig::new();
    if rig.user.is_none() {
        return;
    }
    let child = rig.start(&["run", "--ephemeral"]);
    rig.until_asked("message");
    signal(&child, Signal::TERM);
    let ran = finish(child).expect(0);
    assert!(!ran.stderr.contains("jobs run as"), "{ran:#?}");
}
