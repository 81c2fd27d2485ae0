//! A machine, its neighbours, and what must hold of both.

use super::attack::Command;
use crate::rig::{PATIENCE, Ran, Rig, SCOPE, finish, names_in, until};
use runup::host::account::OWN_IDS;
use runup::sandbox::{RunnerChange, RunnerRecord};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A version that the image is behind.
const NEWER: &str = "2.999.0";

/// How the machine is before the first kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    Bare,
    Baked,
    BakedLongAgo,
    Installed,
    InstalledElsewhere,
    /// Its runner was deleted on the server.
    Deleted,
    /// The disk is a copy of another machine's.
    Copied,
    /// `config.sh` was called by hand.
    ByHand,
    /// `run` has sealed its runner, and a newer one is available.
    SealedLongAgo,
    /// It has three runners.
    Three,
}

impl Machine {
    pub const ALL: [Self; 10] = [
        Self::Bare,
        Self::Baked,
        Self::BakedLongAgo,
        Self::Installed,
        Self::InstalledElsewhere,
        Self::Deleted,
        Self::Copied,
        Self::ByHand,
        Self::SealedLongAgo,
        Self::Three,
    ];

    /// What is killed first.
    pub fn commands(self) -> &'static [Command] {
        match self {
            Self::Bare => &[&["install"], &["bake"], &["install", "--ephemeral"], SHARING],
            Self::Baked => &[&["install"], &["remove"], SHARING],
            Self::BakedLongAgo => &[&["install"], &["remove"], &["bake"]],
            Self::Installed => &[&["remove"], &["install", "--work", "third"], &["remove", "--all"]],
            Self::InstalledElsewhere => &[&["remove"], &["install", "--work", "third"], &["install"]],
            Self::Deleted | Self::Copied => &[&["install"], &["remove"], &["run"]],
            Self::ByHand => &[&["install", "--adopt", "--name", "by-hand"]],
            Self::SealedLongAgo => &[&["upgrade"], &["upgrade"], &["remove"], &["install"], &["run"]],
            Self::Three => &[&["install", "--name", "box", "--count", "1"], &["remove", "--all"], THREE],
        }
    }

    /// What is killed after that.
    pub fn recoveries(self) -> &'static [Command] {
        match self {
            Self::ByHand => self.commands(),
            Self::SealedLongAgo => &[&["upgrade"], &["install"], &["run"], &["remove"]],
            Self::Three => &[THREE, &["install", "--name", "box", "--count", "2"], &["remove", "--all"]],
            Self::Bare | Self::Baked => &[&["install"], &["install"], &["remove"], SHARING],
            _ => &[&["install"], &["install"], &["remove"]],
        }
    }

    /// What ends with none.
    fn removal(self) -> Command {
        match self {
            Self::ByHand => &["remove", "--name", "by-hand"],
            Self::Three => &["remove", "--all"],
            _ => &["remove"],
        }
    }

    /// What ends with all its runners.
    fn last(self) -> Command {
        match self {
            Self::ByHand => self.commands()[0],
            Self::Three => THREE,
            _ => &["install"],
        }
    }

    /// The directories of its runners, below /opt.
    fn dirs(self) -> &'static [&'static str] {
        let all = &["actions-runner", "actions-runner-2", "actions-runner-3"];
        if self == Self::Three { all } else { &all[..1] }
    }

    /// The users of its runners.
    fn users(self) -> &'static [&'static str] {
        let all = &["fresh", "fresh-2", "fresh-3"];
        if self == Self::Three { all } else { &all[..1] }
    }
}

/// For one job, which gets the tools of all.
const SHARING: Command = &["run", "--ephemeral", "--tool-cache", "/srv/tools"];
const THREE: Command = &["install", "--name", "box", "--count", "3"];

/// Another runner on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbour {
    None,
    WithItsOwnUser,
    /// Whichever of the two has created it.
    SharingTheUser,
}

/// Its files with what says that they have not changed, its user, and its entry on the server.
type Fingerprint = (BTreeMap<PathBuf, String>, Vec<String>, Vec<RunnerRecord>);

pub struct World {
    rig: Rig,
    machine: Machine,
    neighbour: Neighbour,
    /// The neighbour as it was.
    unhurt: Option<Fingerprint>,
    /// The paths that were there before runup was.
    before: BTreeSet<PathBuf>,
    /// The lines of the account files, likewise.
    accounts: BTreeMap<&'static str, String>,
    /// The runners on the server that are none of this machine's.
    others: Vec<u64>,
}

const NEIGHBOUR: &str = "opt/neighbour";
const STORE: &str = ".runup-store";

const ACCOUNTS: [&str; 6] = ["passwd", "group", "shadow", "gshadow", "subuid", "subgid"];

impl World {
    /// `worker` tells those apart that exist at the same time: no two have the same user ids, nor those of other tests,
    /// because the end of a user is the end of the processes with its id.
    pub fn new(machine: Machine, neighbour: Neighbour, job: bool, worker: u32) -> Self {
        // All are removed.
        let neighbour = if machine == Machine::Three { Neighbour::None } else { neighbour };
        let rig = if machine == Machine::ByHand { Rig::new() } else { Rig::new().making_a_user() };
        let mut groups = std::fs::OpenOptions::new().append(true).open(rig.root().join("etc/group")).unwrap();
        for id in (*OWN_IDS.start()..).take(4 * (worker as usize + 2)) {
            writeln!(groups, "taken{id}:x:{id}:").unwrap();
        }
        // The sessions of what was killed.
        rig.sandbox.end_sessions_after(Duration::from_secs(1));
        let mut world = Self {
            rig,
            machine,
            neighbour,
            unhurt: None,
            before: BTreeSet::new(),
            accounts: BTreeMap::new(),
            others: Vec::new(),
        };
        if neighbour == Neighbour::WithItsOwnUser {
            world.add_neighbour("neighbour");
        }
        for path in ["srv/tools/node/22.0.0/x64/bin/node", "srv/tools/node/22.0.0/x64.complete"] {
            world.rig.write(path, "");
        }
        for above in Path::new("srv/tools/node/22.0.0/x64/bin").ancestors().take(6) {
            let open = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(world.root().join(above), open).unwrap();
        }
        world.before = world.rig.everything().into_iter().collect();
        world.accounts = ACCOUNTS.into_iter().map(|name| (name, world.account_file(name))).collect();
        world.prepare();
        if neighbour == Neighbour::SharingTheUser {
            world.add_neighbour("fresh");
        }
        if job {
            // Not before: preparing some machines ends with a runner that is stopped while it is idle.
            world.rig.sandbox.add_job(&SCOPE.parse().unwrap(), "job", 1);
        }
        world
    }

    fn add_neighbour(&mut self, user: &str) {
        let known: Vec<u64> = self.rig.state().runners.iter().map(|runner| runner.id).collect();
        let mut install = self.of_neighbour("install");
        install.args(["--name", "neighbour", "--url"]).arg(self.rig.url());
        if self.rig.user.is_some() {
            install.args(["--user", if self.rig.makes_a_user() { user } else { "nobody" }]);
        }
        finish(install.spawn().unwrap()).expect(0);
        let new = self.rig.state().runners.into_iter().map(|runner| runner.id);
        self.others.extend(new.filter(|id| !known.contains(id)));
        self.unhurt = Some(self.fingerprint());
    }

    fn of_neighbour(&self, command: &str) -> std::process::Command {
        let mut command = self.rig.command(&[command, "--dir", "/opt/neighbour"]);
        command.arg("--root").arg(self.root());
        command
    }

    pub fn root(&self) -> &Path {
        self.rig.root()
    }

    /// A command on the runner of this machine, whichever others there are.
    pub fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.rig.on_machine(arguments);
        if !arguments.contains(&"--all") {
            command.args(["--dir", "/opt/actions-runner"]);
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        finish(self.command(arguments).spawn().unwrap())
    }

    /// Runs it until it does not ask to be run again: what `run` has left may be in the middle of its job.
    fn run_until_it_can(&self, arguments: Command) -> Ran {
        let began = Instant::now();
        loop {
            let ran = self.run(arguments);
            if ran.code != 75 || began.elapsed() > PATIENCE {
                return ran.expect(0);
            }
        }
    }

    fn prepare(&mut self) {
        match self.machine {
            Machine::Bare => {}
            Machine::Baked => drop(self.run(&["bake"]).expect(0)),
            Machine::BakedLongAgo => {
                self.run(&["bake"]).expect(0);
                self.rig.sandbox.offer(NEWER);
            }
            Machine::Installed => drop(self.run(&["install"]).expect(0)),
            Machine::InstalledElsewhere => drop(self.run(&["install", "--work", "elsewhere"]).expect(0)),
            Machine::Deleted => {
                self.run(&["install"]).expect(0);
                let gone = RunnerChange { deleted: true, ..RunnerChange::default() };
                assert!(self.rig.sandbox.change_runner(self.own()[0].id, gone));
            }
            Machine::Copied => {
                self.run(&["install"]).expect(0);
                self.others.extend(self.own().iter().map(|runner| runner.id));
                self.rig.write("etc/machine-id", "fedcba9876543210fedcba9876543210\n");
            }
            Machine::ByHand => {
                self.run(&["install", "--name", "by-hand"]).expect(0);
                let known: BTreeSet<PathBuf> = self.before.clone();
                let state = self.root().join("var/lib/runup");
                for path in names_in(&state).iter().map(|name| state.join(name)) {
                    if !known.contains(&path) {
                        std::fs::remove_file(path).unwrap();
                    }
                }
            }
            Machine::SealedLongAgo => {
                let child = self.command(&["run"]).spawn().unwrap();
                until("it is online", || self.own().first().is_some_and(|runner| runner.online));
                crate::rig::signal(&child, rustix::process::Signal::TERM);
                finish(child).expect(0);
                self.rig.sandbox.offer(NEWER);
            }
            Machine::Three => drop(self.run(THREE).expect(0)),
        }
    }

    /// The runners on the server that are this machine's.
    fn own(&self) -> Vec<RunnerRecord> {
        let mut runners = self.rig.state().runners;
        runners.retain(|runner| !self.others.contains(&runner.id));
        runners
    }

    fn account_file(&self, name: &str) -> String {
        std::fs::read_to_string(self.root().join("etc").join(name)).unwrap_or_default()
    }

    /// Whatever happened, `install` ends with one runner, or all three.
    pub fn has_one_after_install(&self) {
        let ran = self.run_until_it_can(self.machine.last());
        let own = self.own();
        let mut on_disk = BTreeSet::new();
        for dir in self.machine.dirs().iter().map(|dir| self.root().join("opt").join(dir)) {
            let file = std::fs::read_to_string(dir.join(".runner")).expect("the runner is configured");
            let file: serde_json::Value = serde_json::from_str(file.trim_start_matches('\u{feff}')).unwrap();
            on_disk.insert(file["agentId"].as_u64().unwrap());
        }
        assert_eq!(own.iter().map(|runner| runner.id).collect::<BTreeSet<_>>(), on_disk, "{ran:#?}");
        assert_eq!(own.len(), self.machine.dirs().len(), "{own:#?} {ran:#?}");
        let opt = names_in(&self.root().join("opt"));
        let known = [self.machine.dirs(), &["neighbour", STORE]].concat();
        assert!(opt.iter().all(|name| known.contains(&&**name)), "{opt:?}");
        let kept = names_in(&self.root().join("opt").join(STORE));
        assert!(kept.iter().all(|name| !name.starts_with('.')), "{kept:?}");
        let state = names_in(&self.root().join("var/lib/runup"));
        let may_stay =
            |name: &&String| [".json", ".lock", ".environment"].iter().any(|end| name.ends_with(end));
        assert_eq!(state.iter().filter(|name| !may_stay(name)).collect::<Vec<_>>(), [] as [&String; 0]);
        self.has_its_user();
        self.nothing_is_locked();
        self.no_secret_lies_about();
        self.run(self.machine.last()).expect(0).says("nothing to do");
        let plan = self.run(&[&["plan", "--json"], &self.machine.last()[1..]].concat()).expect(0).json();
        let keeps = |step: &serde_json::Value| step["action"]["action"] == "keep";
        let plans = plan["instances"].as_array().cloned().unwrap_or_else(|| vec![plan.clone()]);
        assert!(plans.iter().flat_map(|plan| plan["steps"].as_array().unwrap()).all(keeps), "{plan:#}");
        self.run(&["status"]).expect(0);
        self.neighbour_is_unhurt();
    }

    /// Whatever happened, `remove` ends with none.
    pub fn has_none_after_remove(&self) {
        let removed = self.run_until_it_can(self.machine.removal());
        until("no process is left", || self.rig.processes().is_empty());
        let own = self.own();
        assert_eq!(own, [], "{removed:#?}");
        let left = self.rig.state().runners.len();
        assert_eq!(left, self.others.len(), "the runners of others stay: {removed:#?}");
        self.no_secret_lies_about();
        self.neighbour_is_unhurt();
        if self.neighbour == Neighbour::SharingTheUser {
            self.has_its_user();
            // The user goes with the last runner that has it.
            finish(self.of_neighbour("remove").spawn().unwrap()).expect(0);
        }
        self.no_litter(&removed);
    }

    /// The accounts that runup made are whole, and there once.
    fn has_its_user(&self) {
        if !self.rig.makes_a_user() {
            return;
        }
        for user in self.machine.users() {
            let is_its = |line: &&str| line.split(':').next() == Some(user);
            for name in ["passwd", "group", "shadow", "gshadow"] {
                let text = self.account_file(name);
                let found = text.lines().filter(is_its).count();
                // Without shadow files, as on this machine, useradd makes none.
                assert!(found == 1 || (found == 0 && name.contains("shadow")), "{user} in {name}: {text}");
            }
            let passwd = self.account_file("passwd");
            let line = passwd.lines().find(is_its).unwrap();
            let uid: u32 = line.split(':').nth(2).unwrap().parse().unwrap();
            let home = self.root().join("home").join(user);
            let home = std::fs::metadata(home).expect("the user has a home");
            assert_eq!((home.uid(), home.mode() & 0o7777), (uid, 0o700), "{line}");
        }
    }

    fn nothing_is_locked(&self) {
        let etc = names_in(&self.root().join("etc"));
        // useradd works on `passwd+`, and locks with `passwd.lock` and `passwd.PID`.
        let account = |name: &&String| ACCOUNTS.iter().any(|file| name.starts_with(&format!("{file}.")));
        let left: Vec<_> = etc.iter().filter(|name| name.ends_with('+') || account(name)).collect();
        assert_eq!(left, [] as [&String; 0]);
    }

    fn no_litter(&self, removed: &Ran) {
        self.nothing_is_locked();
        let may_stay = |path: &Path| {
            let name = path.strip_prefix(self.root()).unwrap().to_str().unwrap();
            let directory = ["opt", "home", "var", "var/lib", "var/lib/runup", "var/log"].contains(&name);
            // A failure's log stays for whoever looks into it.
            let state =
                name.starts_with("var/lib/runup/") && (name.ends_with(".lock") || name.ends_with(".log"));
            let backup = ACCOUNTS.iter().any(|file| name.trim_end_matches('-') == format!("etc/{file}"));
            // The neighbour may be made from it.
            let store = self.neighbour == Neighbour::WithItsOwnUser
                && name.strip_prefix("opt/").is_some_and(|name| name.starts_with(STORE));
            directory || state || backup || store
        };
        let after: BTreeSet<PathBuf> = self.rig.everything().into_iter().collect();
        let mut left: Vec<_> = after.difference(&self.before).filter(|path| !may_stay(path)).collect();
        // A directory stands for what is in it.
        let all = left.clone();
        left.retain(|path| !all.contains(&&path.parent().unwrap().to_owned()));
        assert_eq!(left, [] as [&PathBuf; 0], "{removed:#?}");
        let lost: Vec<_> = self.before.difference(&after).collect();
        assert_eq!(lost, [] as [&PathBuf; 0], "{removed:#?}");
        for (name, before) in &self.accounts {
            assert_eq!(&self.account_file(name), before, "etc/{name}");
        }
    }

    /// No credential is in a file, but for the runner's own.
    fn no_secret_lies_about(&self) {
        let mut secrets = vec![self.rig.sandbox.token().expose().to_owned()];
        secrets.extend(self.rig.sandbox.issued().into_iter().map(|token| token.expose().to_owned()));
        for path in self.rig.everything() {
            let own = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".credentials"));
            if own
                && self
                    .machine
                    .dirs()
                    .iter()
                    .map(|dir| self.root().join("opt").join(dir))
                    .chain([self.root().join(NEIGHBOUR)])
                    .any(|dir| path.parent() == Some(&dir))
            {
                continue;
            }
            let content = std::fs::read(&path).unwrap_or_default();
            let content = String::from_utf8_lossy(&content);
            let leaked = secrets.iter().any(|secret| content.contains(secret));
            assert!(!leaked, "a credential is in {}", path.display());
        }
    }

    fn neighbour_is_unhurt(&self) {
        if let Some(before) = &self.unhurt {
            assert_eq!(&self.fingerprint(), before, "the neighbour");
        }
    }

    fn fingerprint(&self) -> Fingerprint {
        // That it has to delete the user can be handed over to it.
        let own_user = self.neighbour == Neighbour::WithItsOwnUser;
        let ours = |path: &PathBuf| {
            let below = path.strip_prefix(self.root()).unwrap();
            let journal = below.starts_with("var/lib/runup") && path.to_string_lossy().contains("neighbour");
            below.starts_with(NEIGHBOUR) || own_user && (journal || below.starts_with("home/neighbour"))
        };
        let files = self.rig.everything().into_iter().filter(ours).map(|path| {
            let meta = std::fs::symlink_metadata(&path).unwrap();
            let (mode, owner, size) = (meta.mode(), (meta.uid(), meta.gid()), meta.len());
            (path, format!("{mode:o} {owner:?} {size} {}.{}", meta.mtime(), meta.mtime_nsec()))
        });
        let user = if own_user { "neighbour" } else { "fresh" };
        let accounts = ["passwd", "group"].map(|name| self.account_file(name));
        let lines = accounts.iter().flat_map(|text| text.lines()).filter(|line| line.contains(user));
        let mut entries = self.rig.state().runners;
        entries.retain(|runner| runner.name == "neighbour");
        // The mark can be handed over to it, too.
        let unmarked = |line: &str| {
            let fields: Vec<_> = line.split(':').collect();
            if fields.len() == 7 { [&fields[..4], &fields[5..]].concat().join(":") } else { line.to_owned() }
        };
        (files.collect(), lines.map(unmarked).collect(), entries)
    }
}
