//! How much a filesystem has left.

use super::{Error, Form};
use std::path::Path;

/// Bytes that the current user may still write to the filesystem that `path` is on; `None` where that cannot be told.
#[cfg(unix)]
#[must_use]
pub fn free_bytes(path: &Path) -> Option<u64> {
    let filesystem = rustix::fs::statvfs(path).ok()?;
    Some(filesystem.f_bavail.saturating_mul(filesystem.f_frsize))
}

/// Bytes that the current user may still write to the filesystem that `path` is on; `None` where that cannot be told.
#[cfg(not(unix))]
#[must_use]
pub fn free_bytes(_path: &Path) -> Option<u64> {
    None
}

/// Bytes that an archive of this size takes unpacked, roughly: runner archives are packed to a third, and a zip file
/// lies beside its contents while it is unpacked.
pub(super) fn needed(form: Form, archive: u64) -> u64 {
    match form {
        Form::TarGz => archive.saturating_mul(7) / 2,
        Form::Zip => archive.saturating_mul(9) / 2,
    }
}

/// Refuses an archive that certainly does not fit, before it is downloaded in vain. The estimate is halved, so that an
/// archive that would fit is not refused.
pub(super) fn check(staging: &Path, form: Form, archive: u64) -> Result<(), Error> {
    let needed = needed(form, archive);
    match free_bytes(staging) {
        Some(free) if free < needed / 2 => {
            Err(Error::DiskFull { path: staging.to_owned(), free, needed, source: None })
        }
        _ => Ok(()),
    }
}
