//! The free space of a filesystem.

use super::{Error, Format};
use std::path::Path;

/// Bytes that the current user may still write to the filesystem of `path`; `None` if that cannot be determined.
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

/// The approximate space for unpacking an archive of this size: runner archives are compressed to a third, and a zip
/// file is kept next to its contents while it is unpacked.
pub(super) fn needed(format: Format, archive: u64) -> u64 {
    match format {
        Format::TarGz => archive.saturating_mul(7) / 2,
        Format::Zip => archive.saturating_mul(9) / 2,
    }
}

/// Refuses an archive that certainly does not fit, before it is downloaded. The estimate is halved, so that an archive
/// that fits is not refused.
pub(super) fn check(staging: &Path, format: Format, archive: u64) -> Result<(), Error> {
    let needed = needed(format, archive);
    match free_bytes(staging) {
        Some(free) if free < needed / 2 => {
            Err(Error::DiskFull { path: staging.to_owned(), free, needed, source: None })
        }
        _ => Ok(()),
    }
}
