//! The situation of each error of the machine.

use super::error::Error;
use crate::error::situation::{self, Situation};

pub(super) fn of(error: &Error) -> &'static Situation {
    match error {
        Error::File(source) | Error::Path { source, .. } => situation::of_io(source, &situation::FILE_FAILED),
        Error::SymbolicLink { .. }
        | Error::NotAFile { .. }
        | Error::NotForUser { .. }
        | Error::TooLarge { .. }
        | Error::NotAName { .. }
        | Error::NotOurs { .. }
        | Error::NotPrivate { .. } => &situation::FILE_UNEXPECTED,
        Error::ProgramMissing { .. }
        | Error::InterpreterMissing { .. }
        | Error::DirectoryMissing { .. }
        | Error::NotExecutable { .. } => &situation::PROGRAM_MISSING,
        Error::Spawn { source, .. } => situation::of_io(source, &situation::PROGRAM_FAILED),
        Error::Wait { .. } | Error::Failed { .. } | Error::Signals { .. } => &situation::PROGRAM_FAILED,
        Error::CannotBecome { .. } | Error::NeedsRoot { .. } => &situation::NEEDS_ROOT,
        Error::Deadline { .. } => &situation::PROGRAM_HUNG,
        Error::Stopped { .. } => &situation::STOPPED,
        Error::BadUserName { .. } => &situation::USER_NAME,
        Error::UserExists { .. } | Error::GroupExists { .. } => &situation::USER_EXISTS,
        Error::FilesLeft { .. } | Error::LeftBehind { .. } => &situation::FILES_LEFT,
        Error::NoFreeId { .. }
        | Error::AccountToolMissing { .. }
        | Error::AccountUnchanged { .. }
        | Error::AccountsUnsupported { .. } => &situation::ACCOUNT_TOOLS,
        Error::MustNotEnd { .. } => &situation::PROCESSES_SPARED,
        Error::LeadsOut { .. } | Error::HomeTaken { .. } => &situation::HOME_TAKEN,
        Error::Lookup { .. } => &situation::USER_NOT_FOUND,
        Error::AccountsLocked { .. } | Error::Locked { .. } => &situation::LOCKED,
        Error::Metadata(error) => error.situation(),
        Error::Unsupported { .. } => &situation::UNSUPPORTED_MACHINE,
        Error::StillRunning { .. } => &situation::STILL_RUNNING,
    }
}
