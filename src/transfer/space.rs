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
    // Some filesystems report a number that is not a limit: unpacking decides.
    if let Some(files) = few_inodes(&path, archive) {
        tracing::warn!(
            "{} has room for {files} more files, which may be too few for the runner",
            path.display()
        );
    }
    Ok(())
}

/// The error of a copy to `path`, of which all takes `needed` bytes.
#[cfg(unix)]
pub(super) fn full(path: &Path, needed: u64, source: std::io::Error) -> Error {
    use std::io::ErrorKind;
    let full = matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
    let path = path.to_owned();
    match path.parent().map(host::free_space).and_then(Result::ok).filter(|_| full) {
        Some(free) if free < needed => Error::DiskFull { path, free, needed, source: Some(source) },
        Some(free) => Error::NoMoreFiles { path, free, source },
        None => Error::Staging { path, source },
    }
}

/// The number of files that can still be created there, if that is probably too few.
fn few_inodes(path: &Path, archive: u64) -> Option<u64> {
    host::free_inodes(path).filter(|free| *free <= archive / BYTES_PER_FILE)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_filesystem_that_takes_few_files_is_noticed_and_not_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64m,nr_inodes=12", "tmpfs"]).arg(dir.path());
        if !host::account::is_root() || !mount.output().is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: only root may mount, and not everywhere");
            return;
        }
        let few = [100_000, 4_000_000].map(|archive| few_inodes(dir.path(), archive).is_some());
        let checked = check(dir.path(), Format::TarGz, 4_000_000);
        let unmounted = Command::new("umount").arg("--lazy").arg(dir.path()).status();
        assert_eq!(few, [false, true]);
        checked.unwrap();
        assert!(unmounted.unwrap().success());
    }
}
