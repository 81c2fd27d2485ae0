//! The commands, the machine that each finds, and what it may leave on the server.

use crate::rig::{Rig, SCOPE, finish, signal, until};
use rustix::process::Signal;

/// The machine before the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    Bare,
    Baked,
    BakedLongAgo,
    Installed,
    /// It has run, and as root its tree is sealed; a newer version came out since.
    RanLongAgo,
    /// With three runners of one configuration.
    Three,
    /// The command needs no machine; the server has a runner of another one.
    NoMachine,
}

/// What the command may leave on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaves {
    /// With success, its runner; else none.
    OneOrNone,
    /// None in any case.
    None,
    /// What was there.
    Same,
    /// With success none; else what was there, or none.
    NoneOrSame,
    /// One in place of the other; with a failure perhaps none.
    Exchanged,
    /// With success this many; with a failure, each of the three is there or not.
    OfThree(usize),
}

#[derive(Debug)]
pub struct Command {
    pub name: &'static str,
    pub before: Before,
    pub arguments: &'static [&'static str],
    pub leaves: Leaves,
}

/// The name of the other machine's runner.
pub const OTHER: &str = "elsewhere";

/// A version that came out later.
const NEWER: &str = "2.999.0";

const fn command(
    name: &'static str,
    before: Before,
    arguments: &'static [&'static str],
    leaves: Leaves,
) -> Command {
    Command { name, before, arguments, leaves }
}

pub const ALL: [Command; 28] = [
    command("install", Before::Bare, &["install"], Leaves::OneOrNone),
    command("ephemeral", Before::Bare, &["install", "--ephemeral"], Leaves::OneOrNone),
    command("boot", Before::Baked, &["install"], Leaves::OneOrNone),
    command("refresh", Before::BakedLongAgo, &["install"], Leaves::OneOrNone),
    command("bake", Before::Bare, &["bake"], Leaves::None),
    command("again", Before::Installed, &["install"], Leaves::Same),
    command("labels", Before::Installed, &["install", "--labels", "gpu"], Leaves::Same),
    command("work", Before::Installed, &["install", "--work", "third"], Leaves::Exchanged),
    command("run", Before::Bare, &["run", "--ephemeral"], Leaves::None),
    command("run-baked", Before::Baked, &["run", "--ephemeral"], Leaves::None),
    command("upgrade", Before::RanLongAgo, &["upgrade"], Leaves::Same),
    command("remove", Before::Installed, &["remove"], Leaves::NoneOrSame),
    command("remove-by-script", Before::Installed, &["remove", "--trust-tree"], Leaves::NoneOrSame),
    command("status", Before::Installed, &["status"], Leaves::Same),
    command("plan", Before::Bare, &["plan"], Leaves::None),
    command("plan-again", Before::Installed, &["plan"], Leaves::Same),
    command("downloads", Before::NoMachine, &["downloads"], Leaves::Same),
    command("list", Before::NoMachine, &["runners", "list"], Leaves::Same),
    command("show", Before::NoMachine, &["runners", "show", OTHER], Leaves::Same),
    command("delete", Before::NoMachine, &["runners", "delete", OTHER], Leaves::NoneOrSame),
    command("token", Before::NoMachine, &["token", "registration"], Leaves::Same),
    command("remove-token", Before::NoMachine, &["token", "remove"], Leaves::Same),
    command("create-jit", Before::Bare, &["runners", "create-jit"], Leaves::OneOrNone),
    command("three", Before::Bare, &["install", "--count", "3"], Leaves::OfThree(3)),
    command("three-baked", Before::Baked, &["install", "--count", "3"], Leaves::OfThree(3)),
    command("three-again", Before::Three, &["install"], Leaves::Same),
    command("fewer", Before::Three, &["install", "--count", "1"], Leaves::OfThree(1)),
    command("remove-all", Before::Three, &["remove", "--all"], Leaves::OfThree(0)),
];

impl Command {
    /// Whether it is about several runners, each of which has a user of its own.
    pub fn is_of_several(&self) -> bool {
        self.before == Before::Three || matches!(self.leaves, Leaves::OfThree(_))
    }

    /// Whether this machine can take it: root needs programs that make users.
    pub fn is_possible(&self) -> bool {
        let rig = Rig::new().making_a_user();
        !self.is_of_several() || rig.user.is_none() || rig.makes_a_user()
    }

    /// Whether it ends by itself only once a job is done.
    pub fn runs(&self) -> bool {
        self.arguments[0] == "run"
    }

    pub fn creates_jit(&self) -> bool {
        self.name == "create-jit"
    }

    /// The machine, and the server as the command finds it.
    pub fn prepare(&self) -> Rig {
        let rig = if self.is_of_several() { Rig::new().making_a_user() } else { Rig::new() };
        let done = |arguments: &[&str]| drop(rig.run(arguments).expect(0));
        match self.before {
            Before::Bare => {}
            Before::Baked => done(&["bake"]),
            Before::BakedLongAgo => {
                done(&["bake"]);
                rig.sandbox.offer(NEWER);
            }
            Before::Installed => done(&["install"]),
            Before::Three => done(&["install", "--count", "3"]),
            Before::RanLongAgo => {
                let child = rig.start(&["run"]);
                until("it is online", || rig.state().runners.first().is_some_and(|runner| runner.online));
                signal(&child, Signal::TERM);
                finish(child).expect(0);
                rig.sandbox.offer(NEWER);
            }
            Before::NoMachine => drop(rig.sandbox.add_runner(&SCOPE.parse().unwrap(), OTHER, &[]).unwrap()),
        }
        if self.runs() {
            rig.sandbox.add_job(&SCOPE.parse().unwrap(), "build", 0);
        }
        rig.sandbox.requests_clear();
        rig
    }

    /// The process, not started yet.
    pub fn process(&self, rig: &Rig) -> std::process::Command {
        if self.creates_jit() {
            let mut command = rig.command(self.arguments);
            command.arg("--url").arg(rig.url());
            command.arg("--jit-config-out").arg(rig.root().join("jit-config"));
            command.arg("--receipt").arg(rig.root().join("receipt"));
            return command;
        }
        if self.before == Before::NoMachine {
            let mut command = rig.command(self.arguments);
            command.arg("--url").arg(rig.url());
            return command;
        }
        rig.on_machine(self.arguments)
    }
}
