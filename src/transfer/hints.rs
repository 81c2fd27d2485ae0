//! What to do about each error of an archive.

use super::error::Error;
use crate::error::Failure as _;
use std::io;

pub(super) fn of(error: &Error) -> Option<String> {
    let hint = match error {
        Error::Download { source, .. } => return source.hint(),
        Error::Blocked { host, .. } => {
            return Some(format!(
                "Allow connections from this machine to {host}, or pass --mirror or --archive. `runup doctor` \
                checks the hosts that jobs need too."
            ));
        }
        Error::Status { status: 401 | 403, .. } => {
            "The download credential was not accepted. It is short-lived, so try again; a mirror may need a credential \
            of its own."
        }
        Error::Status { status: 404 | 410, .. } => {
            "Check the URL of the archive, and that this version is available."
        }
        Error::Status { .. } | Error::NotResumed { .. } | Error::AskedToWait { .. } => "Try again later.",
        Error::Length { .. } | Error::NotGzip { .. } | Error::NotZip { .. } | Error::Empty => {
            "A proxy or a mirror probably answered in place of the server; download the URL by hand to see the answer."
        }
        Error::DigestMismatch { .. } => {
            "The archive is not the published one, or the SHA-256 is that of another version. Do not use it; \
            check the mirror or proxy that it came through."
        }
        Error::Truncated { .. } | Error::Damaged { .. } | Error::Trailing | Error::Header { .. } => {
            "Download the archive again, and compare its SHA-256 with the published one."
        }
        Error::NoMoreFiles { .. } => {
            "The filesystem is out of inodes (`df -i`), or a quota is used up; delete files, or use another filesystem."
        }
        Error::DiskFull { .. } => "Free some space, or use a directory on another filesystem.",
        Error::Write { source, .. } | Error::Staging { source, .. } | Error::Rename { source, .. } => {
            match source.kind() {
                io::ErrorKind::ReadOnlyFilesystem => "The filesystem is read-only; use a writable directory.",
                io::ErrorKind::PermissionDenied => {
                    "Run it as a user that may write there (usually root), or use another directory."
                }
                io::ErrorKind::NotFound => "Create the parent directory first.",
                _ => return None,
            }
        }
        Error::StagingExists { .. } => "Another run may be using it; if not, delete it and try again.",
        Error::Occupied { .. } => "Use another directory, or remove what is there.",
        _ => return None,
    };
    Some(hint.to_owned())
}
