//! The situation of each error of an archive.

use super::error::Error;
use crate::error::Failure as _;
use crate::error::situation::{self, Situation};
use std::io;

pub(super) fn of(error: &Error) -> &'static Situation {
    match error {
        Error::Stopped => &situation::STOPPED,
        Error::Download { source, .. } => source.situation(),
        Error::Blocked { .. } => &situation::NOT_REACHED,
        Error::NotResumed { .. } => &situation::CONNECTION_CUT,
        Error::Status { .. } | Error::AskedToWait { .. } => &situation::DOWNLOAD_REFUSED,
        Error::Length { .. } => &situation::DOWNLOAD_LENGTH,
        Error::File { source, .. } if source.kind() == io::ErrorKind::NotFound => &situation::ARCHIVE_MISSING,
        Error::NotAFile { .. } => &situation::ARCHIVE_MISSING,
        Error::DigestMismatch { .. } => &situation::DIGEST_MISMATCH,
        Error::Empty
        | Error::NotGzip { .. }
        | Error::NotZip { .. }
        | Error::Truncated { .. }
        | Error::Damaged { .. }
        | Error::Header { .. }
        | Error::Trailing => &situation::ARCHIVE_DAMAGED,
        Error::TooLong { .. }
        | Error::Refused { .. }
        | Error::TooManyEntries { .. }
        | Error::TooManyBytes { .. }
        | Error::Bomb { .. } => &situation::ARCHIVE_REFUSED,
        Error::StagingExists { .. } | Error::Occupied { .. } | Error::NoPlace { .. } => {
            &situation::DIRECTORY_TAKEN
        }
        Error::DiskFull { .. } | Error::NoMoreFiles { .. } => &situation::DISK_FULL,
        Error::File { source, .. }
        | Error::Staging { source, .. }
        | Error::Write { source, .. }
        | Error::Sync { source, .. }
        | Error::Rename { source, .. }
        | Error::Remove { source, .. } => situation::of_io(source, &situation::FILE_FAILED),
        Error::Bug(_) => &situation::BUG,
    }
}
