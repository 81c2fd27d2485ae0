//! The errors of this module.

use crate::error::situation::Situation;
use crate::error::{Class, Failure, few};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The holder of a lock, by the content of its file.
pub(super) fn holder_text(holder: Option<&super::lock::Holder>) -> String {
    holder.map_or_else(
        || "another process".into(),
        |by| format!("`{}` (process {}, since {})", by.command, by.pid, by.since),
    )
}

/// How many files a message names.
const FEW: usize = 5;

fn tail_text(tail: &str) -> String {
    if tail.is_empty() { String::from("; it printed nothing") } else { format!("; it printed:\n{tail}") }
}

/// The operation in [`Error::Path`] when a directory could not be created, which has its own class.
pub const CREATE_DIR: &str = "create the directory";

/// A failure of the machine. Secrets in command lines and output are masked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation failed; the source names the operation and the path.
    #[error(transparent)]
    File(#[from] io::Error),

    /// A file operation failed whose source does not name the path.
    #[error("failed to {doing} {}", path.display())]
    Path {
        /// A verb phrase that fits before the path.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A file that must not be a symbolic link is one.
    #[error("refused to follow the symbolic link {}", path.display())]
    SymbolicLink {
        /// The link.
        path: PathBuf,
    },

    /// A path that should be a regular file is something else.
    #[error("refused to read {}: it is {found}, not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is, with its article.
        found: &'static str,
    },

    /// A file to be read on behalf of a user is not readable for that user.
    #[error("refused to read {} for the user {user}, who may not read it", path.display())]
    NotForUser {
        /// The file.
        path: PathBuf,
        /// The user.
        user: String,
    },

    /// A file is larger than its limit.
    #[error("refused to read {}: it is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most bytes accepted.
        limit: u64,
    },

    /// A file name that leads to another directory.
    #[error("refused the file name {name:?} in {}: it is not a plain file name", dir.display())]
    NotAName {
        /// The directory it was to be looked up in.
        dir: PathBuf,
        /// The name.
        name: String,
    },

    /// A directory that only the current user may change can be changed by others.
    #[error("refused to use the directory {}: {why}", path.display())]
    NotPrivate {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },

    /// A file that another user could have put there, or can replace.
    #[error("refused to write to {}: {why}", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },

    /// A command's program does not exist.
    #[error("failed to run {program}: the program was not found")]
    ProgramMissing {
        /// The program, as it was configured.
        program: String,
    },

    /// A script exists, but not the interpreter (or the dynamic loader) that it names.
    #[error("failed to run {program}: its interpreter or dynamic loader is missing")]
    InterpreterMissing {
        /// The program as it was named.
        program: String,
    },

    /// The directory that a command should run in does not exist.
    #[error("failed to run {program} in {}: the directory does not exist", dir.display())]
    DirectoryMissing {
        /// The program as it was named.
        program: String,
        /// The working directory.
        dir: PathBuf,
    },

    /// A program may not be executed.
    #[error("failed to run {program}: it is not executable")]
    NotExecutable {
        /// The program as it was named.
        program: String,
        /// What the system said.
        source: io::Error,
    },

    /// A command could not be started for another reason.
    #[error("failed to start `{command}`")]
    Spawn {
        /// The command line.
        command: String,
        /// What the system said.
        source: io::Error,
    },

    /// A command's output or end could not be read.
    #[error("failed to wait for `{command}`")]
    Wait {
        /// The command line.
        command: String,
        /// What the system said.
        source: io::Error,
    },

    /// A command should run as another user, but runup is not root.
    #[error("failed to run {program} as the user {account}: this needs root")]
    CannotBecome {
        /// The program as it was named.
        program: String,
        /// The user.
        account: String,
    },

    /// A command did not exit in time and was killed.
    #[error("`{command}` did not exit within {} s and was killed{}", total.as_secs_f32(), tail_text(tail))]
    Deadline {
        /// The command line.
        command: String,
        /// How long it had.
        total: Duration,
        /// The end of its output.
        tail: String,
    },

    /// A stop was requested.
    #[error("stopped while {doing}")]
    Stopped {
        /// What was going on.
        doing: String,
    },

    /// A command failed.
    #[error("`{command}` failed with {how}{}", tail_text(tail))]
    Failed {
        /// The command line.
        command: String,
        /// Its exit code or signal, in words.
        how: String,
        /// The end of its output.
        tail: String,
    },

    /// A user name that not every tool accepts.
    #[error("{name:?} is not a usable user name")]
    BadUserName {
        /// The name.
        name: String,
    },

    /// The user to be created exists.
    #[error("failed to create the user {name}: it already exists")]
    UserExists {
        /// The user.
        name: String,
    },

    /// The group to be created exists.
    #[error("failed to create the group {name}: it already exists")]
    GroupExists {
        /// The group.
        name: String,
    },

    /// A user is not deleted, because some of its files could not be deleted.
    #[error("failed to delete the user {name}: {} could not be deleted", few(left, FEW))]
    FilesLeft {
        /// The user.
        name: String,
        /// Files, directories and other objects of it.
        left: Vec<String>,
    },

    /// A job left something of its user that could not be deleted.
    #[error("failed to clean up after the jobs of the user {name}: {} could not be deleted", few(left, FEW))]
    LeftBehind {
        /// The user.
        name: String,
        /// Files, directories and other objects of it.
        left: Vec<String>,
    },

    /// Every id of the range for runup's users and groups is taken.
    #[error("failed to create {name}: every user and group id from {lowest} to {highest} is taken")]
    NoFreeId {
        /// The user or group.
        name: String,
        /// The lowest id of the range.
        lowest: u32,
        /// The highest one.
        highest: u32,
    },

    /// The processes of this user must not be ended.
    #[error("refused to end every process of the user {user} (uid {uid}): {reason}")]
    MustNotEnd {
        /// The user.
        user: String,
        /// Its id.
        uid: u32,
        /// Why not.
        reason: &'static str,
    },

    /// A directory of the image is a link that leads to this machine's filesystem.
    #[error("failed to create the user {name}: {} is a link that leads out of the image", path.display())]
    LeadsOut {
        /// The user.
        name: String,
        /// The link.
        path: PathBuf,
    },

    /// The home directory of the user to be created exists.
    #[error("failed to create the user {name}: {} already exists and belongs to another user", home.display())]
    HomeTaken {
        /// The user.
        name: String,
        /// The directory.
        home: PathBuf,
    },

    /// The system's user database could not be queried.
    #[error("failed to look up the user {name}")]
    Lookup {
        /// The user.
        name: String,
        /// What the system said.
        source: io::Error,
    },

    /// `useradd` or `userdel` is not installed.
    #[error("failed to manage the user {name}: {tool} is not installed")]
    AccountToolMissing {
        /// The user.
        name: String,
        /// The program looked for.
        tool: &'static str,
    },

    /// `useradd` or `userdel` reported success, but did not do its work.
    #[error("{tool} reported success, but the user {name} {state}")]
    AccountUnchanged {
        /// The user.
        name: String,
        /// The program.
        tool: &'static str,
        /// `is missing` or `still exists`.
        state: &'static str,
    },

    /// Another program has the lock of the files of the users, or left it.
    #[error("failed to change the users of this machine within {} s: {} was not deleted, which {}", total.as_secs_f32(),
        lock.path.display(), lock.names())]
    AccountsLocked {
        /// The lock.
        lock: super::account::FileLock,
        /// How long runup waited.
        total: Duration,
    },

    /// Only root can create and delete users.
    #[error("failed to manage the user {name}: this needs root")]
    NeedsRoot {
        /// The user.
        name: String,
    },

    /// User accounts are not managed on this operating system.
    #[error("failed to manage the user {name}: runup does not manage users on this operating system")]
    AccountsUnsupported {
        /// The user.
        name: String,
    },

    /// The cloud's metadata could not be denied to a user.
    #[error(transparent)]
    Metadata(#[from] super::MetadataError),

    /// GitHub has no runner for this machine.
    #[error("GitHub offers no runner for this machine: kernel {kernel}, programs {userland}")]
    Unsupported {
        /// The kernel's machine name.
        kernel: String,
        /// What the programs are built for.
        userland: String,
    },

    /// Another process holds the lock.
    #[error("failed to lock {} within {} s: {} holds it", path.display(), total.as_secs_f32(), holder_text(holder.as_ref()))]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// Its holder, by the content of the file.
        holder: Option<super::lock::Holder>,
        /// How long runup waited.
        total: Duration,
    },

    /// Processes that should have ended are still running.
    #[error("failed to end {what} within {} s: {pids:?} are still running", total.as_secs_f32())]
    StillRunning {
        /// Which processes.
        what: String,
        /// Their ids.
        pids: Vec<u32>,
        /// How long they had.
        total: Duration,
    },

    /// Signals cannot be received.
    #[error("failed to listen for signals")]
    Signals {
        /// What the system said.
        source: io::Error,
    },
}

impl Failure for Error {
    fn class(&self) -> Class {
        match self {
            Self::Path { doing: CREATE_DIR, source, .. } => Class::of_io(source, Class::CantCreate),
            Self::File(source) | Self::Path { source, .. } => Class::of_io(source, Class::Io),
            Self::Spawn { source, .. } => Class::of_io(source, Class::Os),
            Self::SymbolicLink { .. }
            | Self::NotAFile { .. }
            | Self::TooLarge { .. }
            | Self::NotForUser { .. }
            | Self::NotPrivate { .. }
            | Self::NotOurs { .. }
            | Self::DirectoryMissing { .. }
            | Self::UserExists { .. }
            | Self::GroupExists { .. }
            | Self::MustNotEnd { .. }
            | Self::LeadsOut { .. }
            | Self::HomeTaken { .. } => Class::Config,
            Self::NotAName { .. } => Class::Software,
            // A directory service that does not answer may do so later.
            Self::Lookup { source, .. } if source.kind() == io::ErrorKind::TimedOut => Class::TempFail,
            Self::Metadata(error) => error.class(),
            Self::ProgramMissing { .. }
            | Self::InterpreterMissing { .. }
            | Self::Wait { .. }
            | Self::Failed { .. }
            | Self::Lookup { .. }
            | Self::AccountToolMissing { .. }
            | Self::AccountUnchanged { .. }
            | Self::AccountsUnsupported { .. }
            | Self::FilesLeft { .. }
            | Self::NoFreeId { .. }
            | Self::Signals { .. } => Class::Os,
            Self::NotExecutable { .. } | Self::CannotBecome { .. } | Self::NeedsRoot { .. } => Class::NoPerm,
            Self::Deadline { .. }
            | Self::Locked { .. }
            | Self::AccountsLocked { .. }
            | Self::LeftBehind { .. }
            | Self::StillRunning { .. } => Class::TempFail,
            // `Signals::received` knows which signal it was; this is the usual one.
            Self::Stopped { .. } => Class::Signal(15),
            Self::BadUserName { .. } => Class::Usage,
            Self::Unsupported { .. } => Class::Unavailable,
        }
    }

    fn hint(&self) -> Option<String> {
        super::hint::of(self)
    }

    fn situation(&self) -> &'static Situation {
        super::situations::of(self)
    }
}
