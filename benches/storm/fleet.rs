//! Machines that boot at once: each is a directory with a baked runner and an identity of its own, and a real `runup run`
//! with its real `config.sh` and listener, against the sandbox with GitHub's limits.

use runup::sandbox::{Background, Options, spawn_in_thread};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashSet};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What goes wrong is shown and ends the storm.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A storm.
pub struct Storm {
    /// How many machines boot.
    pub machines: usize,
    /// How long a minute of the limits is.
    pub minute: Duration,
    /// `--start-spread` of every machine.
    pub start_spread: Duration,
    /// All machines get one registration token, which a controller has created; otherwise each creates one.
    pub one_token: bool,
    /// How many registration tokens others have created in the minute before.
    pub used: usize,
    /// Each machine sees its own processes only, as a real one does; needs root. runup looks through all processes, so that
    /// 500 machines that see each other's are busy with nothing else.
    pub apart: bool,
    /// How long it may take.
    pub patience: Duration,
}

/// How a storm ended.
#[derive(Debug)]
pub struct Report {
    /// How many machines have a runner that is online.
    pub online: usize,
    /// Runners on the server that are not those of a machine.
    pub ghosts: usize,
    /// The requests until then, those of `config.sh` and of listeners that open a session as well.
    pub requests: usize,
    /// How many of them were refused because of a limit.
    pub refused: usize,
    /// The most machines that sent a request in one second.
    pub most_in_a_second: usize,
    /// The time until the last one was online.
    pub seconds: f64,
    /// What the machines that are not online wrote.
    pub logs: String,
}

impl Report {
    /// One line of JSON.
    #[allow(dead_code, reason = "only the bench prints it")]
    pub fn json(&self, storm: &Storm) -> Value {
        json!({
            "tokens": if storm.one_token { "one" } else { "each" },
            "machines": storm.machines,
            "limit_window": storm.minute.as_secs_f64(),
            "start_spread": storm.start_spread.as_secs_f64(),
            "online": self.online,
            "ghosts": self.ghosts,
            "requests": self.requests,
            "refused": self.refused,
            "most_in_a_second": self.most_in_a_second,
            "seconds": (self.seconds * 10.0).round() / 10.0,
        })
    }
}

/// The processes of the machines, which end when this is dropped. A namespace ends with its first process, which ends with
/// the one that has created it; other machines are stopped, so that their listeners end as well.
struct Machines {
    processes: Vec<Child>,
    apart: bool,
}

impl Drop for Machines {
    fn drop(&mut self) {
        let id = |child: &Child| i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let signal = if self.apart { Signal::KILL } else { Signal::TERM };
        for child in &self.processes {
            if let Some(pid) = id(child) {
                // One that has ended already is only waited for.
                let _ = rustix::process::kill_process(pid, signal);
            }
        }
        for child in &mut self.processes {
            let _ = child.wait();
        }
    }
}

impl Storm {
    /// Lets it happen.
    pub fn run(&self, program: &Path) -> Outcome<Report> {
        let addresses = (0..self.machines).map(address).collect::<Outcome<Vec<_>>>()?;
        let sandbox = spawn_in_thread(Options {
            also: addresses.clone(),
            limit_window: Some(self.minute),
            ..Options::default()
        })?;
        // As GitHub does. A listener that asked several times a second would need more than this machine has.
        sandbox.hold_messages(Duration::from_secs(50));
        sandbox.end_sessions_after(Duration::from_secs(120));
        let directory = tempfile::tempdir()?;
        readable(directory.path())?;
        let template = directory.path().join("template");
        bake(program, &sandbox, &template)?;
        let machines = (0..self.machines).map(|number| machine(&template, number));
        let machines = machines.collect::<Outcome<Vec<_>>>()?;
        let shared = self.one_token.then(|| registration_token(program, &sandbox)).transpose()?;
        use_up(&sandbox, self.used)?;
        sandbox.requests_clear();

        let began = Instant::now();
        let mut running = Machines { processes: Vec::new(), apart: self.apart };
        for (root, ip) in machines.iter().zip(&addresses) {
            let mut command = self.command(program, &sandbox, root, *ip)?;
            match &shared {
                Some(token) => command.env("RUNUP_REGISTRATION_TOKEN", token),
                None => command.env("RUNUP_TOKEN", sandbox.token().expose()),
            };
            running.processes.push(command.spawn()?);
        }
        let online = || sandbox.state().runners.iter().filter(|runner| runner.online).count();
        while online() < self.machines && began.elapsed() < self.patience {
            std::thread::sleep(Duration::from_millis(100));
        }
        let report = report(&sandbox, &machines, began.elapsed());
        drop(running);
        Ok(report)
    }

    fn command(&self, program: &Path, sandbox: &Background, root: &Path, ip: IpAddr) -> Outcome<Command> {
        let mut url = sandbox.base_url();
        url.set_ip_host(ip).map_err(|()| "an address is a host")?;
        url.set_path("octo-org");
        let mut command = runup(Path::new("unshare"), root);
        command.args(["--pid", "--mount", "--mount-proc", "--fork", "--kill-child"]).arg(program);
        if !self.apart {
            command = runup(program, root);
        }
        command.args(["run", "--wait-for-limit", "--url", url.as_str(), "--root"]).arg(root);
        command.arg("--start-spread").arg(format!("{}ms", self.start_spread.as_millis()));
        command.args(user());
        command.stderr(fs_err::File::create(root.join("log"))?.into_parts().0);
        Ok(command)
    }
}

/// How it stands now.
fn report(sandbox: &Background, machines: &[PathBuf], took: Duration) -> Report {
    let requests: Vec<_> = sandbox.requests().into_iter().filter(|one| one.route != "message").collect();
    let runners = sandbox.state().runners;
    let ids: HashSet<u64> = machines.iter().filter_map(|root| runner_id(root)).collect();
    let online: HashSet<u64> =
        runners.iter().filter(|runner| runner.online).map(|runner| runner.id).collect();
    let failed = machines.iter().filter(|root| runner_id(root).is_none_or(|id| !online.contains(&id)));
    let log = |root: &PathBuf| std::fs::read_to_string(root.join("log")).unwrap_or_default();
    let mut most = 0;
    let mut first = 0;
    for last in 0..requests.len() {
        while requests[last].at.saturating_sub(requests[first].at) >= Duration::from_secs(1) {
            first += 1;
        }
        let hosts: BTreeSet<&str> =
            requests[first..=last].iter().map(|request| request.host.as_str()).collect();
        most = most.max(hosts.len());
    }
    Report {
        online: online.intersection(&ids).count(),
        ghosts: runners.iter().filter(|runner| !ids.contains(&runner.id)).count(),
        requests: requests.len(),
        refused: requests.iter().filter(|one| matches!(one.status, Some(403 | 429))).count(),
        most_in_a_second: most,
        seconds: took.as_secs_f64(),
        logs: failed.take(3).map(log).collect::<Vec<_>>().join("\n"),
    }
}

/// The address under which the machine reaches the server, by which its requests are told from those of others.
fn address(number: usize) -> Outcome<IpAddr> {
    let number = u16::try_from(number)?.checked_add(256).ok_or("too many machines")?;
    let [high, low] = number.to_be_bytes();
    Ok(IpAddr::V4(Ipv4Addr::new(127, 77, high, low)))
}

fn runup(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH).env("HOME", home);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    command
}

/// As root, jobs need a user.
fn user() -> &'static [&'static str] {
    if rustix::process::geteuid().is_root() { &["--user", "nobody"] } else { &[] }
}

fn readable(directory: &Path) -> Outcome<()> {
    use std::os::unix::fs::PermissionsExt as _;
    // The runner's user must be able to read its way down, as GitHub's runner demands.
    Ok(fs_err::set_permissions(directory, std::fs::Permissions::from_mode(0o755))?)
}

/// The image.
fn bake(program: &Path, sandbox: &Background, root: &Path) -> Outcome<()> {
    fs_err::create_dir_all(root.join("etc"))?;
    fs_err::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    )?;
    fs_err::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?;
    let url = format!("{}octo-org", sandbox.base_url());
    let mut command = runup(program, root);
    command.args(["bake", "--quiet", "--url", &url, "--root"]).arg(root).args(user());
    command.env("RUNUP_TOKEN", sandbox.token().expose()).stderr(Stdio::piped());
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("the image could not be baked: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// A machine that was created from the image.
fn machine(template: &Path, number: usize) -> Outcome<PathBuf> {
    let root = template.with_file_name(format!("machine-{number}"));
    let copied = Command::new("cp").arg("-a").arg(template).arg(&root).status()?;
    if !copied.success() {
        return Err("the image could not be copied".into());
    }
    fs_err::write(root.join("etc/machine-id"), format!("{number:032x}\n"))?;
    Ok(root)
}

/// Creates registration tokens, as other clients of the same token would.
pub fn use_up(sandbox: &Background, tokens: usize) -> Outcome<()> {
    let base = sandbox.base_url();
    let host = &base[url::Position::BeforeHost..url::Position::AfterPort];
    for _ in 0..tokens {
        let mut stream = TcpStream::connect(host)?;
        write!(
            stream,
            "POST /api/v3/orgs/octo-org/actions/runners/registration-token HTTP/1.1\r\nHost: {host}\r\nUser-Agent: x\r\n\
             Authorization: Bearer {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            sandbox.token().expose()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if !answer.starts_with("HTTP/1.1 201") {
            return Err("a registration token could not be created".into());
        }
    }
    Ok(())
}

/// A token that a controller creates.
fn registration_token(program: &Path, sandbox: &Background) -> Outcome<String> {
    let url = format!("{}octo-org", sandbox.base_url());
    let mut command = runup(program, Path::new("/"));
    command.args(["token", "registration", "--quiet", "--url", &url]);
    command.env("RUNUP_TOKEN", sandbox.token().expose()).stdout(Stdio::piped());
    let output = command.output()?;
    if !output.status.success() {
        return Err("the registration token could not be created".into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The id of the machine's runner, by its own files.
fn runner_id(root: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(root.join("opt/actions-runner/.runner")).ok()?;
    let file: Value = serde_json::from_str(text.trim_start_matches('\u{feff}')).ok()?;
    file["agentId"].as_u64()
}
