//! Whether an archive fits, before it is downloaded.

use super::{Error, Format};
use crate::host;
use std::path::Path;

/// One file of a runner for so many bytes of its archive, at most: real ones have twice as many.
const BYTES_PER_FILE: u64 = 40_000;

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
    // One that does not tell is tried.
    let Ok(free) = host::free_space(staging) else { return Ok(()) };
    let path = staging.to_owned();
    if free < needed / 2 {
        return Err(Error::DiskFull { path, free, needed, source: None });
    }
    if host::free_inodes(staging).is_some_and(|inodes| inodes <= archive / BYTES_PER_FILE) {
        return Err(Error::NoMoreFiles { path, free, source: None });
    }
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn an_archive_of_more_files_than_the_filesystem_takes_is_refused_before_the_download() {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64m,nr_inodes=12", "tmpfs"]).arg(dir.path());
        if !host::account::is_root() || !mount.output().is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: only root may mount, and not everywhere");
            return;
        }
        let small = check(dir.path(), Format::TarGz, 100_000);
        let large = check(dir.path(), Format::TarGz, 4_000_000);
        let unmounted = Command::new("umount").arg("--lazy").arg(dir.path()).status();
        small.unwrap();
        assert!(matches!(large, Err(Error::NoMoreFiles { source: None, .. })), "{large:?}");
        assert!(unmounted.unwrap().success());
    }
}
