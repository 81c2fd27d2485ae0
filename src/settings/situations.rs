//! The situation of each error of the settings.

use super::Error;
use crate::error::Failure as _;
use crate::error::situation::{self, Situation};

pub(super) fn of(error: &Error) -> &'static Situation {
    match error {
        Error::App(error) => error.situation(),
        Error::CredentialUnreadable { .. }
        | Error::CredentialOpenToAll { .. }
        | Error::CredentialMalformed { .. } => &situation::CREDENTIAL_FILE,
        Error::StateOfOthers { .. } => &situation::STATE_DIR_UNSAFE,
        Error::UnusableId { .. } => &situation::ID_UNUSABLE,
        Error::FileOpenToAll { .. } | Error::FileOfOthers { .. } => &situation::CONFIG_FILE_UNSAFE,
        Error::FileUnreadable { .. }
        | Error::FileUnchecked { .. }
        | Error::FileMalformed { .. }
        | Error::FileUnknownKey { .. }
        | Error::FileValue { .. }
        | Error::FileInstance { .. }
        | Error::FileKeyForAll { .. } => &situation::CONFIG_FILE,
        Error::EnvFileUnreadable { .. } | Error::EnvVariable { .. } => &situation::ENV_FILE,
        Error::UrlMissing => &situation::URL_MISSING,
        Error::Contradiction(_) => &situation::COMMAND_LINE,
    }
}
