//! What can go wrong on the machine.

use crate::error::{Class, Failure};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Who holds a lock, as far as its file says.
pub(super) fn holder_text(holder: Option<&super::lock::Holder>) -> String {
    holder.map_or_else(
        || "another process".into(),
        |by| format!("`{}` (process {}, since {})", by.command, by.pid, by.since),
    )
}

fn tail_text(tail: &str) -> String {
    if tail.is_empty() { String::from("; it printed nothing") } else { format!("; it printed:\n{tail}") }
}

/// The first few of a list that may be long.
fn few(list: &[String]) -> String {
    const FEW: usize = 5;
    let more = list.len().saturating_sub(FEW);
    let few = list[..list.len() - more].join(", ");
    if more == 0 { few } else { format!("{few} and {more} more") }
}

/// What [`Error::Path`] was doing where a directory could not be made: it has a class of its own.
pub const CREATE_DIR: &str = "create the directory";

/// A failure of the machine. Commands in it are rendered with their secrets marked, and output is scrubbed of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation failed; the operation and its path are in the source's words.
    #[error(transparent)]
    File(#[from] io::Error),

    /// A file operation that names its path here failed.
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

    /// What should be a regular file is something else.
    #[error("refused to read {}: it is {found}, not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is, with its article.
        found: &'static str,
    },

    /// A file whose content is meant for a user could not be read by that user.
    #[error("refused to read {} for the user {user}, who may not read it", path.display())]
    NotForUser {
        /// The file.
        path: PathBuf,
        /// The user.
        user: String,
    },

    /// A file is larger than anything that belongs there.
    #[error("refused to read {}: it is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most bytes accepted.
        limit: u64,
    },

    /// A file name that would lead elsewhere.
    #[error("refused the file name {name:?} in {}: it is not one plain name", dir.display())]
    NotAName {
        /// The directory it was to be looked up in.
        dir: PathBuf,
        /// The name.
        name: String,
    },

    /// A directory that only we may change can be changed by others.
    #[error("refused to use the directory {}: {why}", path.display())]
    NotPrivate {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },

    /// A command's program does not exist.
    #[error("failed to run {program}: there is no such program")]
    ProgramMissing {
        /// The program as it was named.
        program: String,
    },

    /// A script exists, but not the interpreter (or the dynamic loader) that it names.
    #[error("failed to run {program}: its interpreter or dynamic loader is missing")]
    InterpreterMissing {
        /// The program as it was named.
        program: String,
    },

    /// The directory that a command should run in does not exist.
    #[error("failed to run {program} in {}: there is no such directory", dir.display())]
    DirectoryMissing {
        /// The program as it was named.
        program: String,
        /// The working directory.
        dir: PathBuf,
    },

    /// A program may not be executed.
    #[error("failed to run {program}: it may not be executed")]
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

    /// A command should run as another user, and we are not root.
    #[error("failed to run {program} as the user {account}: only root can")]
    CannotBecome {
        /// The program as it was named.
        program: String,
        /// The user.
        account: String,
    },

    /// A command did not end in time and was killed.
    #[error("`{command}` did not end within {} s and was killed{}", total.as_secs_f32(), tail_text(tail))]
    Deadline {
        /// The command line.
        command: String,
        /// How long it had.
        total: Duration,
        /// The end of its output.
        tail: String,
    },

    /// We were told to stop.
    #[error("stopped while {doing}")]
    Stopped {
        /// What was going on.
        doing: String,
    },

    /// A command ended, but not with success.
    #[error("`{command}` ended with {how}{}", tail_text(tail))]
    Failed {
        /// The command line.
        command: String,
        /// Its exit code or signal, in words.
        how: String,
        /// The end of its output.
        tail: String,
    },

    /// Not a user name that every tool accepts.
    #[error("{name:?} is not a usable user name")]
    BadUserName {
        /// The name.
        name: String,
    },

    /// The user to be made exists.
    #[error("failed to create the user {name}: it exists already")]
    UserExists {
        /// The user.
        name: String,
    },

    /// The group to be created exists.
    #[error("failed to create the group {name}: it exists already")]
    GroupExists {
        /// The group.
        name: String,
    },

    /// A user is not deleted, because something of it could not be.
    #[error("failed to delete the user {name}: {} could not be deleted", few(left))]
    FilesLeft {
        /// The user.
        name: String,
        /// Files, directories and other objects of it.
        left: Vec<String>,
    },

    /// Every number that runup gives to users and groups is taken.
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

    /// A directory of the image is a link to this machine.
    #[error("failed to create the user {name}: {} is a link that leads out of the image", path.display())]
    LeadsOut {
        /// The user.
        name: String,
        /// The link.
        path: PathBuf,
    },

    /// The home directory of the user to be made exists.
    #[error("failed to create the user {name}: {} exists already and belongs to somebody else", home.display())]
    HomeTaken {
        /// The user.
        name: String,
        /// The directory.
        home: PathBuf,
    },

    /// The system's user database could not be asked.
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

    /// `useradd` or `userdel` claimed success, but looking shows otherwise.
    #[error("{tool} reported success, but the user {name} {state}")]
    AccountUnchanged {
        /// The user.
        name: String,
        /// The program.
        tool: &'static str,
        /// `is missing` or `still exists`.
        state: &'static str,
    },

    /// Users can only be made and deleted by root.
    #[error("failed to manage the user {name}: only root can")]
    NeedsRoot {
        /// The user.
        name: String,
    },

    /// User accounts are not managed on this operating system.
    #[error("failed to manage the user {name}: accounts are not managed on this operating system")]
    AccountsUnsupported {
        /// The user.
        name: String,
    },

    /// A user could not be kept from the cloud's metadata.
    #[error(transparent)]
    Metadata(#[from] super::MetadataError),

    /// The runner does not exist for this machine.
    #[error("there is no runner for this machine: kernel {kernel}, programs {userland}")]
    Unsupported {
        /// The kernel's machine name.
        kernel: String,
        /// What the programs are built for.
        userland: String,
    },

    /// Somebody else holds the lock.
    #[error("failed to lock {} within {} s: {} holds it", path.display(), total.as_secs_f32(), holder_text(holder.as_ref()))]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// Who says to hold it.
        holder: Option<super::lock::Holder>,
        /// How long we waited.
        total: Duration,
    },

    /// Processes that should have ended are still there.
    #[error("failed to end {what} within {} s: still running: {pids:?}", total.as_secs_f32())]
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
            | Self::DirectoryMissing { .. }
            | Self::UserExists { .. }
            | Self::GroupExists { .. }
            | Self::MustNotEnd { .. }
            | Self::LeadsOut { .. }
            | Self::HomeTaken { .. } => Class::Config,
            Self::NotAName { .. } => Class::Software,
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
            Self::Deadline { .. } | Self::Locked { .. } | Self::StillRunning { .. } => Class::TempFail,
            // Which signal it was is known to `Signals::received`; this is the usual one.
            Self::Stopped { .. } => Class::Signal(15),
            Self::BadUserName { .. } => Class::Usage,
            Self::Unsupported { .. } => Class::Unavailable,
        }
    }

    fn hint(&self) -> Option<String> {
        super::hint::of(self)
    }
}
