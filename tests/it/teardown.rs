//! `remove` with every credential, on every state of the tree, against every state of the server's entry. What is right
//! follows from the three by rules; no outcome is recorded.

use crate::rig::{Ran, Rig, SCOPE, finish, names_in};
use runup::sandbox::RunnerChange;
use std::collections::BTreeSet;
use std::fmt;

/// The credential of `remove`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Good,
    /// A remove token that has expired, and none for the API.
    Expired,
    /// The API token is refused.
    Revoked,
    None,
}

/// What is in the runner's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tree {
    Whole,
    /// Someone began to delete it.
    Half,
    Gone,
    /// It is configured as another runner, which exists.
    Replaced,
}

/// What the server has of the runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    There,
    Gone,
    Busy,
    /// The id is another runner's.
    Renamed,
    /// The name is another machine's, with another id.
    OtherMachine,
    /// The server answers one request of each kind from a replica that lags.
    Once404,
}

const TOKENS: [Token; 4] = [Token::Good, Token::Expired, Token::Revoked, Token::None];
const TREES: [Tree; 4] = [Tree::Whole, Tree::Half, Tree::Gone, Tree::Replaced];
const ENTRIES: [Entry; 6] =
    [Entry::There, Entry::Gone, Entry::Busy, Entry::Renamed, Entry::OtherMachine, Entry::Once404];

/// One case of the cross.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    token: Token,
    tree: Tree,
    entry: Entry,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "token {:?}, tree {:?}, entry {:?}", self.token, self.tree, self.entry)
    }
}

/// What must come of a case.
struct Expected {
    code: i32,
    /// Whether the machine is cleaned, and the server's entry deleted if it is ours.
    done: bool,
}

impl Case {
    /// Every case.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for token in TOKENS {
            for tree in TREES {
                all.extend(ENTRIES.map(|entry| Self { token, tree, entry }));
            }
        }
        all
    }

    /// Enough cases for each value to meet each value of the other axes.
    fn pairwise() -> Vec<Self> {
        let pairs = |case: &Self| {
            let (token, tree, entry) = (case.token as usize, case.tree as usize, case.entry as usize);
            [(0, token, tree), (1, token, entry), (2, tree, entry)]
        };
        let all = Self::all();
        let mut left: BTreeSet<_> = all.iter().flat_map(pairs).collect();
        let mut chosen = Vec::new();
        while !left.is_empty() {
            let news = |case: &&Self| pairs(case).iter().filter(|pair| left.contains(pair)).count();
            let best = *all.iter().max_by_key(news).unwrap();
            left.retain(|pair| !pairs(&best).contains(pair));
            chosen.push(best);
        }
        chosen
    }

    fn expected(self) -> Expected {
        let refused = |code| Expected { code, done: false };
        match (self.token, self.tree, self.entry) {
            // A job has to end first.
            (Token::Good, _, Entry::Busy) => refused(75),
            (Token::Good, ..) => Expected { code: 0, done: true },
            // Without the server's word, the files decide what a remove token would delete: not these.
            (Token::Expired | Token::None, Tree::Replaced, _) => refused(78),
            _ => refused(77),
        }
    }

    /// Carries the case out.
    ///
    /// # Panics
    /// At a violation.
    pub fn run(self) {
        let rig = Rig::new();
        rig.run(&["install"]).expect(0);
        let ours = rig.state().runners[0].clone();
        let remove_token = rig.ask(&["token", "remove"]).expect(0).stdout;
        self.change_tree(&rig);
        self.change_entry(&rig, ours.id, &ours.name);
        let before = Remains::of(&rig);

        let mut command = rig.on_machine(&["remove"]);
        match self.token {
            Token::Good => {}
            Token::Expired => {
                rig.sandbox.expire_tokens();
                command.env_remove("RUNUP_TOKEN").env("RUNUP_REMOVE_TOKEN", remove_token.trim());
                command.arg("--trust-tree");
            }
            Token::Revoked => drop(command.env("RUNUP_TOKEN", "ghp_revoked")),
            Token::None => drop(command.env_remove("RUNUP_TOKEN")),
        }
        if self.entry == Entry::Busy && self.token == Token::Good {
            command.args(["--deadline", "1s"]);
        }
        let ran = finish(command.spawn().unwrap());
        let expected = self.expected();
        let after = Remains::of(&rig);
        assert_eq!(ran.code, expected.code, "{ran:#?}");
        assert_eq!(rig.sandbox.violations(), [] as [&str; 0]);
        if expected.done {
            self.is_done(&rig, &ran, ours.id, &before);
            return;
        }
        assert_eq!(after, before, "what was refused has changed something: {ran:#?}");
        assert!(ran.stderr.contains("hint: "), "what is to be done now? {ran:#?}");
        if self.entry == Entry::Busy && self.token == Token::Good {
            assert!(ran.stderr.contains(&format!("{} (id {})", ours.name, ours.id)), "{ran:#?}");
        }

        rig.sandbox.faults_clear();
        if self.entry == Entry::Busy {
            let idle = RunnerChange { online: Some(false), busy: Some(false), deleted: false };
            rig.sandbox.change_runner(ours.id, idle);
        }
        let ran = rig.run(&["remove"]).expect(0);
        self.is_done(&rig, &ran, ours.id, &before);
        assert_eq!(rig.sandbox.violations(), [] as [&str; 0]);
    }

    /// Nothing of ours is left, and everything of the others is.
    fn is_done(self, rig: &Rig, ran: &Ran, ours: u64, before: &Remains) {
        rig.assert_machine_bare();
        let stays = |id: &&u64| **id != ours || self.entry == Entry::Renamed;
        let expected: Vec<u64> = before.runners.iter().filter(stays).copied().collect();
        assert_eq!(Remains::of(rig).runners, expected, "{ran:#?}");
        if self.entry == Entry::Renamed {
            let said = ran.stderr.contains("elsewhere") && ran.stderr.contains(&format!("the id {ours}"));
            assert!(said, "a runner with our id is left alone, and nobody says so: {ran:#?}");
        }
        let again = rig.run(&["remove"]).expect(0);
        assert_eq!(Remains::of(rig).runners, expected, "{again:#?}");
    }

    fn change_tree(self, rig: &Rig) {
        let dir = rig.dir();
        match self.tree {
            Tree::Whole => {}
            Tree::Half => {
                std::fs::remove_dir_all(dir.join("bin")).unwrap();
                std::fs::remove_file(dir.join("config.sh")).unwrap();
            }
            Tree::Gone => std::fs::remove_dir_all(dir).unwrap(),
            Tree::Replaced => {
                let victim = rig.sandbox.add_runner(&SCOPE.parse().unwrap(), "victim", &[]).unwrap();
                let file = dir.join(".runner");
                let text = std::fs::read_to_string(&file).unwrap();
                let ours = format!("\"agentId\": {}", rig.state().runners[0].id);
                assert!(text.contains(&ours), "{text}");
                std::fs::write(&file, text.replace(&ours, &format!("\"agentId\": {victim}"))).unwrap();
            }
        }
    }

    fn change_entry(self, rig: &Rig, id: u64, name: &str) {
        let change = |change| assert!(rig.sandbox.change_runner(id, change));
        let delete = || change(RunnerChange { deleted: true, ..RunnerChange::default() });
        match self.entry {
            Entry::There => {}
            Entry::Gone => delete(),
            Entry::Busy => change(RunnerChange { online: Some(true), busy: Some(true), deleted: false }),
            Entry::Renamed => assert!(rig.sandbox.rename_runner(id, "elsewhere")),
            Entry::OtherMachine => {
                delete();
                rig.sandbox.add_runner(&SCOPE.parse().unwrap(), name, &[]).unwrap();
            }
            Entry::Once404 => {
                let once = ["get-runner", "delete-runner", "runner-delete"];
                rig.faults(&once.map(|route| format!("{route}:1:status=404")).each_ref().map(String::as_str));
            }
        }
    }
}

/// What there is of runners.
#[derive(Debug, PartialEq, Eq)]
struct Remains {
    runners: Vec<u64>,
    tree: Vec<String>,
    identity: Option<String>,
    journal: bool,
}

impl Remains {
    fn of(rig: &Rig) -> Self {
        let state = names_in(&rig.root().join("var/lib/runup"));
        Self {
            runners: rig.state().runners.iter().map(|runner| runner.id).collect(),
            tree: names_in(&rig.dir()),
            identity: std::fs::read_to_string(rig.dir().join(".runner")).ok(),
            journal: state.iter().any(|name| name.ends_with(".json")),
        }
    }
}

#[test]
fn every_two_of_credential_tree_and_entry_are_removed_as_the_rules_say() {
    let cases = std::sync::Mutex::new(Case::pairwise());
    let broken = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(case) = cases.lock().unwrap().pop() else { return };
                    if std::panic::catch_unwind(|| case.run()).is_err() {
                        broken.lock().unwrap().push(case.to_string());
                    }
                }
            });
        }
    });
    assert_eq!(broken.into_inner().unwrap(), [] as [String; 0]);
}
