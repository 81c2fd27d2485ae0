//! A machine in a directory and a GitHub on loopback: the real binary, real processes, real HTTP.

use runup::lifecycle::checkpoint::{Checkpoint, VARIABLE};
use runup::sandbox::{Act, Background, Fault, FaultKind, Options, RunnerChange, Snapshot, spawn_in_thread};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// No test waits longer than this for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The scope that most tests use.
pub const SCOPE: &str = "orgs/octo-org";

pub struct Rig {
    pub sandbox: Background,
    root: tempfile::TempDir,
    /// The path after the host: `octo-org`, `octo-org/hello`, `enterprises/octo`.
    pub path: &'static str,
    /// The `--user` of every command on the machine.
    pub user: Option<&'static str>,
}

/// How a run of the binary ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Both streams.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// The one JSON document on stdout, which is as some command's schema says.
    #[track_caller]
    pub fn json(&self) -> Value {
        let document =
            serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"));
        crate::schema::assert_documented(&document);
        document
    }

    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text) || self.stdout.contains(text), "no {text:?} in {self:#?}");
        self
    }
}

impl Rig {
    pub fn new() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        let root = tempfile::tempdir().unwrap();
        // The runner's user must be able to read its way down, as GitHub's runner demands.
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let etc = root.path().join("etc");
        std::fs::create_dir_all(&etc).unwrap();
        std::fs::write(etc.join("machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
        std::fs::write(
            etc.join("passwd"),
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        )
        .unwrap();
        std::fs::write(etc.join("group"), "root:x:0:\nnogroup:x:65534:\n").unwrap();
        let user = rustix::process::geteuid().is_root().then_some("nobody");
        Self { sandbox: spawn_in_thread(options).unwrap(), root, path: "octo-org", user }
    }

    /// Lets `install` make the runner's user, where we are root and the machine has the tools.
    pub fn making_a_user(mut self) -> Self {
        let tools = ["/usr/sbin/useradd", "/usr/sbin/userdel"].iter().all(|tool| Path::new(tool).exists());
        if self.user.is_some() && tools {
            self.user = Some("fresh");
        }
        self
    }

    pub fn makes_a_user(&self) -> bool {
        self.user == Some("fresh")
    }

    pub fn at(mut self, path: &'static str) -> Self {
        self.path = path;
        self
    }

    /// The root file system that runup works on.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// What is in the directory above the runner's, without the verified copies.
    pub fn opt(&self) -> Vec<String> {
        names_in(&self.root().join("opt")).into_iter().filter(|name| name != ".runup-store").collect()
    }

    pub fn dir(&self) -> PathBuf {
        self.root().join("opt/actions-runner")
    }

    /// Another machine's runner, which is offline.
    pub fn add_offline_runner(&self, name: &str) {
        let id = self.sandbox.add_runner(&SCOPE.parse().unwrap(), name, &[]).unwrap();
        let offline = RunnerChange { online: Some(false), ..RunnerChange::default() };
        self.sandbox.change_runner(id, offline);
    }

    pub fn state(&self) -> Snapshot {
        self.sandbox.state()
    }

    pub fn url(&self) -> String {
        format!("{}{}", self.sandbox.base_url(), self.path)
    }

    /// A command with nothing in its environment but what it needs, and a token.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runup"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.root())
            .env("RUNUP_TOKEN", self.sandbox.token().expose())
            .env("RUNUP_ANY_DEADLINE", "")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// A command that works on the machine: with the URL, the root and the user.
    pub fn on_machine(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(arguments);
        command.arg("--url").arg(self.url()).arg("--root").arg(self.root());
        if let Some(user) = self.user {
            command.arg("--user").arg(user);
        }
        command
    }

    /// Runs a command on the machine.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        finish(self.on_machine(arguments).spawn().unwrap())
    }

    /// Starts a command as an ordinary user on a machine of that user, which takes root.
    pub fn as_nobody(&self, arguments: &[&str]) -> Child {
        std::os::unix::fs::chown(self.root(), Some(65534), Some(65534)).unwrap();
        let ours = self.command(arguments);
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(ours.get_program()).args(ours.get_args());
        command.env_clear().envs(ours.get_envs().map(|(name, value)| (name, value.unwrap())));
        command.arg("--url").arg(self.url()).arg("--root").arg(self.root());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Starts a command on the machine.
    pub fn start(&self, arguments: &[&str]) -> Child {
        self.on_machine(arguments).spawn().unwrap()
    }

    /// Runs a command on the machine to the checkpoint, where it dies.
    #[track_caller]
    pub fn die_at(&self, checkpoint: Checkpoint, arguments: &[&str]) {
        let ran = finish(self.on_machine(arguments).env(VARIABLE, checkpoint.name()).spawn().unwrap());
        assert_eq!(ran.code, -9, "{} was not reached: {ran:#?}", checkpoint.name());
    }

    /// Runs a command that registers, and kills it while the server has the runner, and the disk does not know it yet. Its
    /// `config.sh` goes on.
    pub fn die_once_registered(&self, command: &mut Command) {
        let hang = FaultKind::Script { act: Act::HangAfterRegister };
        self.sandbox.fault(Fault::new("runner-registration", hang).times(1));
        let mut child = command.spawn().unwrap();
        until("the server has the runner", || self.state().runners.len() == 1);
        signal(&child, rustix::process::Signal::KILL);
        child.wait().unwrap();
    }

    /// Runs a command on the machine that has no credential for the API.
    pub fn run_without_token(&self, arguments: &[&str]) -> Ran {
        finish(self.on_machine(arguments).env_remove("RUNUP_TOKEN").spawn().unwrap())
    }

    /// Runs a command that only talks to the server.
    pub fn ask(&self, arguments: &[&str]) -> Ran {
        finish(self.command(arguments).arg("--url").arg(self.url()).spawn().unwrap())
    }

    /// A command that only talks to the server, with another token.
    pub fn ask_as(&self, token: &str, arguments: &[&str]) -> Ran {
        let mut command = self.command(arguments);
        finish(command.arg("--url").arg(self.url()).env("RUNUP_TOKEN", token).spawn().unwrap())
    }

    /// Adds faults, in the form that the command line takes.
    pub fn faults(&self, faults: &[&str]) {
        for fault in faults {
            self.sandbox.fault(fault.parse().unwrap());
        }
    }

    /// Answers this route with a document of the test's own.
    pub fn answer(&self, route: &str, document: &Value) {
        let (body, headers) = (Some(document.to_string()), std::collections::BTreeMap::new());
        self.sandbox.fault(Fault::new(route, FaultKind::Status { code: 200, body, headers }));
    }

    /// Writes a file below the root, and gives its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.root().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Waits until this route was asked for.
    #[track_caller]
    pub fn until_asked(&self, route: &str) {
        until(route, || self.sandbox.requests().iter().any(|request| request.route == route));
    }

    /// How often this route was asked for since the last look at all of them.
    pub fn asked(&self, route: &str) -> usize {
        self.sandbox.requests().iter().filter(|request| request.route == route).count()
    }

    /// The processes whose command line or environment names this machine, but for runup itself.
    pub fn processes(&self) -> Vec<String> {
        let root = self.root().to_str().unwrap();
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        lines
            .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
            .filter(|line| line.contains(root) && !line.starts_with(env!("CARGO_BIN_EXE_runup")))
            .collect()
    }

    /// Every path below the root.
    pub fn everything(&self) -> Vec<PathBuf> {
        let (mut paths, mut directories) = (Vec::new(), vec![self.root().to_owned()]);
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() {
                    directories.push(path.clone());
                }
                paths.push(path);
            }
        }
        paths.sort();
        paths
    }

    /// The names of routes that were asked for since the last call.
    pub fn routes(&self) -> Vec<String> {
        let routes = self.sandbox.requests().iter().map(|request| request.route.clone()).collect();
        self.sandbox.requests_clear();
        routes
    }

    /// The one runner there is, on the server and on disk.
    #[track_caller]
    pub fn assert_exactly_one_runner(&self) {
        let runners = self.state().runners;
        assert_eq!(runners.len(), 1, "{runners:#?}");
        let file = std::fs::read_to_string(self.dir().join(".runner")).expect("the runner is configured");
        let on_disk: Value = serde_json::from_str(file.trim_start_matches('\u{feff}')).unwrap();
        assert_eq!(on_disk["agentId"], runners[0].id);
    }

    /// Nothing of a runner is on the server or the machine.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        assert_eq!(self.state().runners, []);
        self.assert_machine_bare();
    }

    #[track_caller]
    pub fn assert_machine_bare(&self) {
        let opt = names_in(&self.root().join("opt"));
        assert_eq!(opt, [] as [&str; 0], "nothing may stay in or beside the runner's place");
        let state = names_in(&self.root().join("var/lib/runup"));
        // A failure's log stays for whoever looks into it.
        let may_stay = |name: &String| [".lock", ".log"].iter().any(|end| name.ends_with(end));
        assert!(state.iter().all(may_stay), "{state:?}");
        let passwd = std::fs::read_to_string(self.root().join("etc/passwd")).unwrap();
        assert!(!passwd.contains("fresh"), "{passwd}");
    }
}

pub fn names_in(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Waits for the process, to a deadline.
pub fn finish(mut child: Child) -> Ran {
    let mut stdout = child.stdout.take().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let read = |stream: &mut dyn std::io::Read| {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let reader = std::thread::spawn(move || read(&mut stderr));
    let out = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut stdout, &mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let status = wait(&mut child);
    let code = status.code().unwrap_or_else(|| {
        -std::os::unix::process::ExitStatusExt::signal(&status).expect("it ended by a code or a signal")
    });
    Ran { code, stdout: out.join().unwrap(), stderr: reader.join().unwrap() }
}

fn wait(child: &mut Child) -> std::process::ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if began.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("the process did not end within {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until `condition` holds, to a deadline.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn signal(child: &Child, signal: rustix::process::Signal) {
    let id = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(id, signal).unwrap();
}

/// A small file system, for as long as this lives.
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// `None` if that is not allowed here.
    pub fn mount(at: PathBuf, options: &str) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&at);
        let mounted = rustix::process::geteuid().is_root()
            && command.output().is_ok_and(|output| output.status.success());
        mounted.then_some(Self(at))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}
