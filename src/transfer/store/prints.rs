//! What a tree was like when it was as its entry, by which a later look tells with one call for each file that nothing
//! has changed: neither root nor a job can set the time of a file's last change.

use super::manifest::Manifest;
use crate::transfer::Sha256Digest;
use std::path::{Path, PathBuf};

/// Every file, directory and link of the entry, as it was in a tree.
#[derive(Debug)]
pub struct Prints {
    sha256: Sha256Digest,
    items: Vec<(PathBuf, Option<Print>)>,
}

/// The inode, the device, and the time of its last change.
type Print = (u64, u64, i64, u32);

impl Prints {
    /// Takes them of a `tree`; `None` if that is not possible here.
    pub(super) fn of(manifest: Manifest, sha256: Sha256Digest, tree: &Path) -> Option<Self> {
        let look = looker(tree)?;
        let items = manifest.items.into_iter().map(|item| (look(&item.path), item.path));
        let items = items.map(|(print, path)| Some((path, print?))).collect::<Option<_>>()?;
        Some(Self { sha256, items })
    }

    /// Whether all of them are the same in the `tree`, which is of the archive with this digest. Not if `given_up`
    /// returns true.
    #[must_use]
    pub fn hold(&self, sha256: Sha256Digest, tree: &Path, given_up: &dyn Fn() -> bool) -> bool {
        let Some(look) = looker(tree).filter(|_| sha256 == self.sha256) else { return false };
        self.items.iter().all(|(path, print)| !given_up() && look(path) == Some(*print))
    }
}

/// Looks at what is at a path below the tree; outer `None` if that is not known. A directory above it that was replaced,
/// by a link too, has another print itself.
#[cfg(target_os = "linux")]
fn looker(tree: &Path) -> Option<impl Fn(&Path) -> Option<Option<Print>>> {
    use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
    use rustix::io::Errno;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = rustix::fs::openat(CWD, tree, flags, Mode::empty()).ok()?;
    Some(move |path: &Path| {
        match rustix::fs::statx(&top, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS) {
            Ok(stat) => {
                let device = u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor);
                Some(Some((stat.stx_ino, device, stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec)))
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Some(None),
            Err(_) => None,
        }
    })
}

#[cfg(not(target_os = "linux"))]
fn looker(_: &Path) -> Option<fn(&Path) -> Option<Option<Print>>> {
    None
}
