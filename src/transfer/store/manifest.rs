//! What is in an entry of the store, as it was when the entry was filled.

use serde::{Deserialize, Serialize};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

/// The description of an entry.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// The digest of the archive.
    pub sha256: String,
    /// Everything in the tree, each after its parent.
    pub items: Vec<Item>,
}

/// A file, directory or link.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Item {
    /// Below the tree.
    pub path: PathBuf,
    pub mode: u32,
    uid: u32,
    gid: u32,
    #[serde(flatten)]
    pub kind: Kind,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub(super) enum Kind {
    Dir,
    File {
        size: u64,
        /// Seconds and nanoseconds.
        modified: (i64, i64),
        sha256: String,
    },
    Link {
        target: PathBuf,
    },
}

impl Item {
    /// Describes what is at `path` in `tree`; the digest is that of a file.
    pub fn of(tree: &Path, path: &Path, sha256: String) -> io::Result<Self> {
        let full = tree.join(path);
        let meta = fs_err::symlink_metadata(&full)?;
        let kind = if meta.is_dir() {
            Kind::Dir
        } else if meta.is_symlink() {
            Kind::Link { target: fs_err::read_link(&full)? }
        } else {
            Kind::File { size: meta.len(), modified: modified(&meta), sha256 }
        };
        let mode = meta.mode() & 0o7777;
        Ok(Self { path: path.to_owned(), mode, uid: meta.uid(), gid: meta.gid(), kind })
    }

    /// Whether it is below the tree, and not the tree.
    pub fn is_below(&self) -> bool {
        let mut parts = self.path.components().peekable();
        parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
    }

    /// The bytes of a file.
    pub fn size(&self) -> u64 {
        if let Kind::File { size, .. } = self.kind { size } else { 0 }
    }

    /// Whether this is its metadata. A copy has a time of its own, and maybe the group of the directory above.
    #[cfg(target_os = "linux")]
    pub fn fits(&self, stat: &rustix::fs::Statx, is_copy: bool) -> bool {
        use rustix::fs::FileType;
        let kind = FileType::from_raw_mode(stat.stx_mode.into());
        let mode = u32::from(stat.stx_mode) & 0o7777 == self.mode;
        let owner = stat.stx_uid == self.uid && (is_copy || stat.stx_gid == self.gid);
        let time = || (stat.stx_mtime.tv_sec, i64::from(stat.stx_mtime.tv_nsec));
        owner
            && match &self.kind {
                Kind::Dir => kind == FileType::Directory && mode,
                Kind::Link { .. } => kind == FileType::Symlink,
                Kind::File { size, modified, .. } => {
                    let is_file = kind == FileType::RegularFile && mode && *size == stat.stx_size;
                    is_file && (is_copy || *modified == time())
                }
            }
    }

    /// Gives what is at `path` the owner, mode and time that it had, if it is of the same kind.
    pub fn put_right(&self, path: &Path) -> io::Result<()> {
        use fs_err::os::unix::fs::OpenOptionsExt as _;
        use std::os::unix::fs::{PermissionsExt as _, fchown};
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let flags = flags.bits().cast_signed();
        let file = fs_err::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let meta = file.metadata()?;
        let is_it = match self.kind {
            Kind::Dir => meta.is_dir(),
            Kind::File { .. } => meta.is_file(),
            Kind::Link { .. } => false,
        };
        if !is_it {
            return Err(io::ErrorKind::InvalidData.into());
        }
        fchown(file.file(), Some(self.uid), Some(self.gid))?;
        file.set_permissions(std::fs::Permissions::from_mode(self.mode))?;
        if let Kind::File { modified: (seconds, nanoseconds), .. } = self.kind {
            let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
            let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
            rustix::fs::futimens(file.file(), &times)?;
        }
        Ok(())
    }

    /// Compares what is at `path` with it, but for the content of a file. The error is what differs.
    pub fn check(&self, path: &Path) -> Result<(), String> {
        let meta = fs_err::symlink_metadata(path).map_err(|error| error.to_string())?;
        let differs = |what: &str| Err(format!("{what} of {} has changed", path.display()));
        if (meta.uid(), meta.gid()) != (self.uid, self.gid) {
            return differs("the owner");
        }
        match &self.kind {
            Kind::Link { target } => {
                let found = fs_err::read_link(path).map_err(|error| error.to_string())?;
                if found == *target { Ok(()) } else { differs("the target") }
            }
            Kind::Dir if !meta.is_dir() => differs("the kind"),
            Kind::File { .. } if !meta.is_file() => differs("the kind"),
            _ if meta.mode() & 0o7777 != self.mode => differs("the mode"),
            Kind::File { size, .. } if *size != meta.len() => differs("the size"),
            Kind::File { modified: then, .. } if *then != modified(&meta) => differs("the time"),
            _ => Ok(()),
        }
    }
}

fn modified(meta: &Metadata) -> (i64, i64) {
    (meta.mtime(), meta.mtime_nsec())
}
