//! How full a filesystem is, and how much of it a directory takes.

use std::path::Path;

/// Less than this part of a filesystem is little, in percent.
const LITTLE: u64 = 15;

/// The same for the files that it can still have.
const FEW: u64 = 5;

/// How many entries of a directory are counted; it takes about a second.
const MOST: usize = 500_000;

/// What is free on a filesystem, for users other than root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes.
    pub free: u64,
    /// Bytes, in percent.
    pub percent: u64,
    /// Files, in percent; `None` if it has no fixed number of them.
    pub files: Option<u64>,
}

impl Room {
    /// That of the filesystem of `path`, which must exist.
    #[must_use]
    pub fn at(path: &Path) -> Option<Self> {
        #[cfg(unix)]
        {
            let stat = rustix::fs::statvfs(path).ok().filter(|stat| stat.f_blocks > 0)?;
            // As df(1) has it: what is root's alone is not counted.
            let used = stat.f_blocks.saturating_sub(stat.f_bfree);
            let files = (stat.f_files > 0).then(|| part(stat.f_favail, stat.f_files));
            Some(Self {
                free: stat.f_bavail.saturating_mul(stat.f_frsize),
                percent: part(stat.f_bavail, used.saturating_add(stat.f_bavail)),
                files,
            })
        }
        #[cfg(not(unix))]
        {
            let _ = (path, part);
            None
        }
    }

    /// Whether the next job could need more.
    #[must_use]
    pub fn is_little(&self) -> bool {
        self.percent < LITTLE || self.files.is_some_and(|files| files < FEW)
    }
}

fn part(of: u64, all: u64) -> u64 {
    u64::try_from(u128::from(of) * 100 / u128::from(all.max(1))).unwrap_or(100)
}

/// The bytes on disk of what is below the directory `path`, on its filesystem; no link is followed. At least these, once
/// `given_up` returns true.
#[must_use]
pub fn size(path: &Path, given_up: &dyn Fn() -> bool) -> u64 {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let Ok(top) = std::fs::symlink_metadata(path).map(|meta| meta.dev()) else { return 0 };
        let (mut open, mut bytes, mut left) = (vec![path.to_owned()], 0_u64, MOST);
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                if left == 0 || given_up() {
                    return bytes;
                }
                left -= 1;
                let Ok(meta) = entry.metadata() else { continue };
                if meta.dev() != top {
                    continue;
                }
                // A file with many names is counted for one of them.
                bytes = bytes.saturating_add(meta.blocks().saturating_mul(512) / meta.nlink().max(1));
                if meta.is_dir() {
                    open.push(entry.path());
                }
            }
        }
        bytes
    }
    #[cfg(not(unix))]
    {
        let _ = (path, given_up, MOST);
        0
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn little_is_told_by_bytes_or_by_files() {
        let room = |percent, files| Room { free: 1, percent, files };
        assert!(room(14, None).is_little() && room(90, Some(4)).is_little());
        assert!(!room(15, None).is_little() && !room(15, Some(5)).is_little());
        assert_eq!((part(1, 0), part(15, 100), part(u64::MAX, u64::MAX)), (100, 15, 100));
        assert!(Room::at(Path::new("/")).is_some() && Room::at(Path::new("/no/such/place")).is_none());
    }

    #[test]
    fn a_directory_is_counted_without_what_its_links_lead_to() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/b/file"), vec![1; 300_000]).unwrap();
        symlink("/usr", dir.path().join("a/link")).unwrap();
        let bytes = size(dir.path(), &|| false);
        assert!((290_000..900_000).contains(&bytes), "{bytes}");
        assert_eq!((size(dir.path(), &|| true), size(&dir.path().join("missing"), &|| false)), (0, 0));
    }
}
