//! What the user can do about each failure of the machine.

use super::Error;
use std::io;

/// The command or setting that puts it right, if there is one.
pub(super) fn of(error: &Error) -> Option<String> {
    let text = match error {
        Error::File(source) | Error::Path { source, .. } => return io_hint(source).map(String::from),
        Error::SymbolicLink { .. }
        | Error::NotAFile { .. }
        | Error::TooLarge { .. }
        | Error::NotForUser { .. } => {
            "Jobs can write there, so it is not trusted. Look at it, and delete it if it is not yours."
        }
        Error::NotPrivate { path, .. } => {
            return Some(format!(
                "Make it yours and closed to others (`chown` to the user that runs this, `chmod go-w {}`), \
             or move it away.",
                path.display()
            ));
        }
        Error::ProgramMissing { program } => {
            return Some(format!("Install {program}, or check that its directory is in PATH."));
        }
        Error::InterpreterMissing { program } => {
            return Some(format!("Install the interpreter that the first line of {program} names."));
        }
        Error::DirectoryMissing { .. } => "Create the directory, or name another one.",
        Error::NotExecutable { .. } => {
            "Check its execute permission, that of every directory above it, and that its file system is not \
         mounted with `noexec`."
        }
        Error::CannotBecome { .. } | Error::NeedsRoot { .. } => "Run it as root, for example with sudo.",
        Error::Deadline { .. } | Error::StillRunning { .. } => {
            "See what it is waiting for, then run it again; it goes on where it stopped."
        }
        Error::Stopped { .. } => "Run it again; it goes on where it stopped.",
        Error::BadUserName { .. } => {
            "Use at most 32 lower-case letters, digits, `_` and `-`, beginning with a letter or `_`."
        }
        Error::UserExists { .. } => "Use the user that is there, or choose another name with --user.",
        Error::GroupExists { .. } => {
            "Delete the group if it is left from an earlier try, or choose another name."
        }
        Error::FilesLeft { .. } => {
            "Unmount what is mounted there, or delete it yourself, then run it again. Until then the user stays, so that \
         no other user gets its number and its files."
        }
        Error::NoFreeId { .. } => "Create the user yourself, with another id, and pass it with --user.",
        Error::MustNotEnd { .. } => {
            "Pass a user of the runner's own with --user, or none, so that runup creates one."
        }
        Error::LeadsOut { .. } => {
            "Make it a relative link, or create the user in the image yourself and name it with --user."
        }
        Error::HomeTaken { home, .. } => {
            return Some(format!("Move {} away, or choose another name with --user.", home.display()));
        }
        Error::AccountToolMissing { .. } => {
            "Install the package that has it: `passwd` on Debian and Ubuntu, `shadow-utils` on Fedora, RHEL \
         and Amazon Linux, `shadow` on SUSE, Arch and Alpine. Or create the user yourself and name it with \
         --user."
        }
        Error::AccountsUnsupported { .. } => "Create the user yourself and name it with --user.",
        Error::Unsupported { .. } => {
            "GitHub publishes runners for Linux (x64, arm64, arm), macOS (x64, arm64) and Windows (x64, arm64). \
         If the detection is wrong, say what to take with --os and --arch."
        }
        Error::Locked { .. } => "Wait until it is done, then run it again.",
        Error::Metadata(error) => error.hint(),
        Error::Spawn { .. }
        | Error::Wait { .. }
        | Error::Failed { .. }
        | Error::Lookup { .. }
        | Error::AccountUnchanged { .. }
        | Error::NotAName { .. }
        | Error::Signals { .. } => return None,
    };
    Some(text.into())
}

/// What can be done about an I/O error, where its kind says enough.
fn io_hint(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            Some("Run it as root or as the owner, or choose a place that you may write to.")
        }
        io::ErrorKind::ReadOnlyFilesystem => Some("Choose a place on a file system that can be written to."),
        io::ErrorKind::StorageFull => Some("Free some space there, then run it again."),
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            Some("Something that is not a directory is in the way; move it, or choose another directory.")
        }
        io::ErrorKind::QuotaExceeded => Some("Free some of the quota there, then run it again."),
        _ => None,
    }
}
