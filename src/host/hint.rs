//! The hint for each failure of the machine.

use super::Error;
use std::io;

const LEFT_BEHIND: &str =
    "Delete it, or restart the machine if it is a key of the kernel. No job runs before it is gone.";

/// The command or setting that fixes it, if there is one.
pub(super) fn of(error: &Error) -> Option<String> {
    let text = match error {
        Error::File(source) | Error::Path { source, .. } => return io_hint(source).map(String::from),
        Error::NotPrivate { .. }
        | Error::NotOurs { .. }
        | Error::NotExecutable { .. }
        | Error::ProgramMissing { .. }
        | Error::InterpreterMissing { .. }
        | Error::AccountsLocked { .. }
        | Error::Locked { .. }
        | Error::HomeTaken { .. }
        | Error::Failed { .. } => return naming(error),
        Error::SymbolicLink { .. }
        | Error::NotAFile { .. }
        | Error::TooLarge { .. }
        | Error::NotForUser { .. } => {
            "Jobs can write there, so it is not trusted. Inspect it, and delete it if it is not yours."
        }
        Error::DirectoryMissing { .. } => "Create the directory, or set another one.",
        Error::CannotBecome { .. } | Error::NeedsRoot { .. } => "Run it as root, for example with sudo.",
        Error::Deadline { .. } | Error::StillRunning { .. } => {
            "Check what it is waiting for, then run runup again: it finds what is done, and does the rest."
        }
        Error::Stopped { .. } => "Run it again: it finds what is done, and does the rest.",
        Error::BadUserName { .. } => {
            "Use at most 32 lower-case letters, digits, `_` and `-`, beginning with a letter or `_`."
        }
        Error::UserExists { .. } => "Use the existing user, or pass another name with --user.",
        Error::GroupExists { .. } => "Delete the group if an earlier attempt left it, or use another name.",
        Error::FilesLeft { .. } => {
            "Unmount what is mounted there, or delete it yourself, then run it again. Until then the user is kept, so that \
            no other user gets its id and its files."
        }
        Error::LeftBehind { .. } => LEFT_BEHIND,
        Error::NoFreeId { .. } => "Create the user yourself, with another id, and pass it with --user.",
        Error::MustNotEnd { .. } => {
            "Pass a dedicated user with --user, or omit it, so that runup creates one."
        }
        Error::LeadsOut { .. } => {
            "Make it a relative link, or create the user in the image yourself and pass it with --user."
        }
        Error::AccountToolMissing { .. } => {
            "Install the package that has it: `passwd` on Debian and Ubuntu, `shadow-utils` on Fedora, RHEL and Amazon \
            Linux, `shadow` on SUSE, Arch and Alpine. Or create the user yourself and pass it with --user."
        }
        Error::AccountsUnsupported { .. } => "Create the user yourself and pass it with --user.",
        Error::Unsupported { .. } => {
            "GitHub publishes runners for Linux (x64, arm64, arm), macOS (x64, arm64) and Windows (x64, arm64). \
         If the detection is wrong, pass --os and --arch."
        }
        Error::Metadata(error) => error.hint(),
        Error::Spawn { .. }
        | Error::Wait { .. }
        | Error::Lookup { .. }
        | Error::AccountUnchanged { .. }
        | Error::NotAName { .. }
        | Error::Signals { .. } => return None,
    };
    Some(text.into())
}

/// The hints that name what the error is about.
fn naming(error: &Error) -> Option<String> {
    Some(match error {
        Error::NotOurs { .. } => {
            "Choose a file in a directory that only root, or the user that runs runup, can change.".to_owned()
        }
        Error::NotExecutable { .. } => {
            "Check its execute permission, that of every directory above it, and that its filesystem is not mounted \
            with `noexec`."
                .to_owned()
        }
        Error::NotPrivate { path, .. } => format!(
            "Give it to the user that runs runup and deny writing to others (`chown USER {0}; chmod go-w {0}`), or move \
            it away.",
            path.display()
        ),
        Error::ProgramMissing { program } => {
            format!("Install {program}, or check that its directory is in PATH.")
        }
        Error::InterpreterMissing { program } => {
            format!("Install the interpreter that the first line of {program} names.")
        }
        Error::Locked { holder: Some(by), .. } if by.command == "run" => {
            "Wait until it is done, or stop it if it supervises the runner, then try again.".to_owned()
        }
        Error::Locked { .. } => "Wait until it is done, then try again.".to_owned(),
        Error::AccountsLocked { lock, .. } => {
            let path = lock.path.display();
            let what = match &lock.holder {
                Some((pid, program)) => {
                    format!("If the process {pid} ({program}) is not one that changes users")
                }
                None => "If no useradd, usermod, vipw or the like runs now".into(),
            };
            format!(
                "{what}, one that was killed or a power cut has left the file: delete it with `rm {path}`."
            )
        }
        // "…to bus", or "…to system scope bus via local transport": systemd, or D-Bus, does not run.
        Error::Failed { command, tail, .. }
            if command.starts_with("systemctl") && tail.contains("Failed to connect to") =>
        {
            "Check that systemd and D-Bus run on this machine; without them, pass --service none and start the runner \
            yourself."
                .to_owned()
        }
        Error::HomeTaken { home, .. } => {
            format!("Move {} away, or pass another name with --user.", home.display())
        }
        _ => return None,
    })
}

/// The hint for an I/O error, where its kind is specific enough.
fn io_hint(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            Some("Run it as root or as the owner, or use a directory that you may write to.")
        }
        io::ErrorKind::ReadOnlyFilesystem => Some("Use a directory on a writable filesystem."),
        io::ErrorKind::StorageFull => Some("Free some space there, then try again."),
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            Some("Something that is not a directory is in the way; move it, or use another directory.")
        }
        io::ErrorKind::QuotaExceeded => Some("Free some of the quota there, then try again."),
        _ => None,
    }
}
