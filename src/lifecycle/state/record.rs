//! The steps, and what each records in the journal: what it did, and what its undo needs.

pub use crate::lifecycle::context::request::Instance;
use crate::runner::Guard;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What was done, and what undoing it needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Act {
    /// The runner's user was created, because it was missing.
    CreateUser {
        /// Its name.
        name: String,
        /// Whether its group was missing as well, and so was created with it. There was no home directory then either.
        /// `None` if an older runup wrote it, or a user was found by its mark.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group_created: Option<bool>,
    },
    /// The runner's tree was placed.
    PlaceRunner {
        /// The version, once known.
        version: Option<String>,
        /// `linux-x64` and so on.
        platform: String,
        /// The digest of the archive as received, once known.
        sha256: Option<String>,
        /// Whether that digest was known beforehand.
        verified: bool,
        /// When it was last known to be the newest version, RFC 3339 by the server's clock; `None` if this was never
        /// checked, or an older runup placed it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        current_at: Option<String>,
        /// While it is begun: the done act of the tree that is in its place until then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaces: Option<Box<Act>>,
        /// Whether it was put into a directory that cannot be renamed: only a done act is a complete tree then.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        in_place: bool,
        /// How the tree is guarded, and so whether its content can be trusted.
        #[serde(default, skip_serializing_if = "Guard::is_open")]
        guard: Guard,
    },
    /// The runner was registered.
    Register(Registered),
    /// The service's unit was written.
    WriteService {
        /// The unit's name.
        unit: String,
        /// The digest of the file as written, to notice a later change.
        sha256: String,
        /// The digests of the service and the timer that upgrade the runner, where they were written.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        upgrades: Option<[String; 2]>,
    },
    /// The service was enabled and started.
    StartService {
        /// The unit's name.
        unit: String,
    },
    /// A runner that was set up by hand is taken over. As long as this is begun, the service that the operator had is
    /// still there: it runs again if taking over fails, and is deleted in the end.
    Adopt {
        /// The unit of that service, if it had one.
        unit: Option<String>,
        /// Whether that service ran.
        ran: bool,
    },
}

/// A registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// The enterprise, organization or repository, as `config.sh --url` takes it.
    pub url: String,
    /// The base of its REST API; empty if only an adopted runner's own files say where it is registered.
    pub api_url: String,
    /// The runner's name on the server.
    pub name: String,
    /// The template that the name was generated from.
    pub template: String,
    /// Whether only this machine could have generated that name: a part of it is unique to the machine.
    pub unique: bool,
    /// The runner's id on the server, once known.
    pub agent_id: Option<u64>,
    /// Whether the server itself confirmed that the id has the name. An id that only the runner's own files gave is
    /// shown, and never used to delete.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confirmed: bool,
    /// Whether the server said just before that no runner had the name: one that has it since then is this one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub name_was_free: bool,
    /// Whether an earlier run or attempt may have registered it, although nothing else on this machine shows that any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_exist: bool,
    /// Whether no listener was started with it yet, so that no job can have run in its tree.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unused: bool,
    /// The requested options; unknown if only its files describe it, or an older runup registered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// Whether it was set up by hand: it keeps the options that it had, unless others are requested.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
}

/// The options that were requested of a registration, so that later changes can be detected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The labels besides the default ones; `None` if none were set.
    pub labels: Option<Vec<String>>,
    /// The runner group; `None` for the default one.
    pub group: Option<String>,
    /// The work directory.
    pub work: String,
    /// One job, then gone.
    pub ephemeral: bool,
    /// No self-update.
    pub disable_update: bool,
    /// Self-update, although runup could update it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub self_update: bool,
    /// The version, if one was requested.
    pub version: Option<String>,
    /// The version is kept: an archive was set, or --no-refresh.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
}

/// The runner's user. This record counts; the owner of the files on disk proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerUser {
    /// The user's name.
    pub name: String,
    /// The group that runup created for this runner, if its user's own has other members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// A work directory that is not simply a part of the runner's tree: elsewhere, or a filesystem of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkDir {
    /// Its path.
    pub path: PathBuf,
    /// What runup created for it, the outermost first: the directory itself, and missing ones above it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub created: Vec<PathBuf>,
}

/// The kinds of steps, in the order in which `install` takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Creates the runner's user.
    CreateUser,
    /// Downloads, verifies and places the tree.
    PlaceRunner,
    /// Writes what is set for the runner and its jobs. It has no entry in the journal, but a record beside it.
    WriteEnvironment,
    /// Registers with the server.
    Register,
    /// Writes the service's unit.
    WriteService,
    /// Enables and starts the service.
    StartService,
    /// Takes over a runner that was set up by hand, with its service. Last, so that it is undone first.
    Adopt,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::CreateUser => "create-user",
            Self::PlaceRunner => "place-runner",
            Self::WriteEnvironment => "write-environment",
            Self::Register => "register",
            Self::WriteService => "write-service",
            Self::StartService => "start-service",
            Self::Adopt => "adopt",
        })
    }
}

impl Act {
    /// Which step it belongs to.
    #[must_use]
    pub fn step(&self) -> Step {
        match self {
            Self::CreateUser { .. } => Step::CreateUser,
            Self::PlaceRunner { .. } => Step::PlaceRunner,
            Self::Register(_) => Step::Register,
            Self::WriteService { .. } => Step::WriteService,
            Self::StartService { .. } => Step::StartService,
            Self::Adopt { .. } => Step::Adopt,
        }
    }
}

impl Act {
    /// The version of a placed tree, once known.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        match self {
            Self::PlaceRunner { version, .. } => version.as_deref(),
            _ => None,
        }
    }
}

/// How far an act got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryState {
    /// It may have happened, in part or completely.
    Begun,
    /// It has happened.
    Done,
}

/// One act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// How far it got.
    pub state: EntryState,
    /// What it is.
    #[serde(flatten)]
    pub act: Act,
}
