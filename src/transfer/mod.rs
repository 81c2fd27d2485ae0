//! Bytes in, verified tree out: an archive is read from a server or a file, hashed, inflated and unpacked under a
//! strict policy into a staging directory next to its target, and then moved to the target with one rename.
//!
//! It knows sources, archives, limits and filesystems. It does not know GitHub: the [`Order`] says which archive to
//! take and which digest to expect.
//!
//! # The pipe
//!
//! ```text
//! source -> hash   |   inflate   |   untar -> write
//!   (caller's task)   (a thread)      (a thread)
//! ```
//!
//! Small bounded queues connect the three stages, so that memory does not grow with the archive. The bytes are hashed
//! as they are received; nothing leaves the staging directory before the digest is compared.

mod coding;
mod digest;
mod download;
mod error;
mod flush;
mod gather;
mod hints;
mod names;
mod path;
mod pipe;
pub mod place;
mod situations;
mod source;
mod space;
mod stage;
#[cfg(unix)]
pub mod store;
mod tree;
mod untar;
mod unzip;

pub use digest::{DigestError, Sha256Digest};
pub use error::{Error, Refusal};
pub use stage::stage;

use crate::net::Url;
use crate::secret::Secret;
use std::path::PathBuf;
use std::time::Duration;

/// Where an archive comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A regular file on this machine.
    File(PathBuf),
    /// A server.
    Http {
        /// The archive's URL. A broken download is resumed by requesting this URL again, and following its redirects
        /// again.
        url: Url,
        /// Sent to the URL's own scheme, host and port only.
        bearer: Option<Secret>,
    },
    /// Pieces, as a test cuts them.
    #[cfg(any(test, fuzzing))]
    Pieces(Vec<bytes::Bytes>),
}

/// The format of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// A tar file compressed with gzip.
    TarGz,
    /// A zip file.
    Zip,
}

impl Format {
    /// The format by the extension of a file name: `.tar.gz`, `.tgz` or `.zip`, in any case.
    #[must_use]
    pub fn from_filename(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let formats = [(".tar.gz", Self::TarGz), (".tgz", Self::TarGz), (".zip", Self::Zip)];
        formats.into_iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, format)| format)
    }
}

/// The expected digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// The archive must have this digest.
    Sha256(Sha256Digest),
    /// The archive is not verified, at the user's explicit request.
    Unverified,
}

/// The owner of the tree. Ignored on Windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
}

/// The limits for an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Files, directories and links; 60,000 by default. A runner has about 12,000.
    pub entries: u64,
    /// Bytes of all files; 8 GiB by default. A runner has about 700 MB.
    pub bytes: u64,
    /// Bytes of the archive itself; 4 GiB by default.
    pub received: u64,
    /// Unpacked bytes per packed byte, checked after 64 MiB of unpacked data; 200 by default. A runner has 3.
    pub ratio: u64,
    /// Unpacked bytes between two syncs of the filesystem while unpacking; 64 MiB by default. A small tree is left to the end.
    pub unsynced: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 60_000, bytes: 8 << 30, received: 4 << 30, ratio: 200, unsynced: 64 << 20 }
    }
}

/// The archive to stage, and how.
#[derive(Debug, Clone)]
pub struct Order {
    /// Where the archive comes from.
    pub source: Source,
    /// Its format.
    pub format: Format,
    /// The expected digest.
    pub expect: Expect,
    /// The directory to create and unpack into; see [`place::staging_path`].
    pub staging: PathBuf,
    /// The owner of the tree; `None` is the current user.
    pub owner: Option<Owner>,
    /// Keeps the staging directory inaccessible to other users (mode 0700); the caller opens it when it is in place.
    pub closed: bool,
    /// The limits for the archive.
    pub limits: Limits,
    /// How long a failing download is retried, requests and bodies together. The time starts with a failure, and ends when
    /// a mebibyte has been received since.
    pub retry_timeout: Duration,
}

/// Receives the progress of [`stage()`]. All numbers are totals so far; they start again at zero if the download does.
/// The calls come from more than one thread, and must return at once.
pub trait Progress: Send + Sync {
    /// The length of the archive, when it becomes known; `None` if the server does not announce it.
    fn total(&self, bytes: Option<u64>) {
        let _ = bytes;
    }
    /// Bytes of the archive received.
    fn received(&self, bytes: u64) {
        let _ = bytes;
    }
    /// Unpacked entries, and unpacked bytes of files.
    fn unpacked(&self, entries: u64, bytes: u64) {
        let _ = (entries, bytes);
    }
}

/// Ignores the progress.
impl Progress for () {}

/// A tree in its staging directory, verified and complete. [`place::commit`] makes it durable and moves it to its
/// target.
#[derive(Debug, Clone)]
pub struct Staged {
    /// The staging directory.
    pub path: PathBuf,
    /// The digest of the received bytes.
    pub sha256: Sha256Digest,
    /// Bytes of the archive.
    pub received: u64,
    /// Bytes of all files.
    pub unpacked: u64,
    /// Files, directories and links.
    pub entries: u64,
    /// How often a broken download was resumed.
    pub resumed: u32,
}

#[cfg(test)]
mod tests;
