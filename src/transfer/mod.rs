//! Bytes in, verified tree out: an archive goes from a server or a file, through digest, inflate and the unpack policy,
//! into a staging directory beside its final place, and from there, with one rename, into it.
//!
//! It knows sources, archives, limits and filesystems. It refuses to know GitHub: which archive to take and what it
//! should hash to is said by the [`Order`].
//!
//! # The pipe
//!
//! ```text
//! source -> hash   |   inflate   |   untar -> write
//!   (caller's task)   (a thread)      (a thread)
//! ```
//!
//! Three stages with small bounded queues between them, so that memory does not grow with the archive. The bytes are
//! hashed as they are received; nothing leaves the staging directory before the digest was compared.

mod digest;
mod download;
mod error;
mod path;
mod pipe;
pub mod place;
mod source;
mod space;
mod stage;
mod tree;
mod untar;
mod unzip;

pub use digest::{DigestError, Sha256Digest};
pub use error::{Error, Refusal};
pub use space::free_bytes;
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
        /// The archive's URL. A broken download is resumed by asking this one again, redirects and all.
        url: Url,
        /// Sent to the URL's own scheme, host and port only.
        bearer: Option<Secret>,
    },
}

/// What kind of archive it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// A tar file compressed with gzip.
    TarGz,
    /// A zip file.
    Zip,
}

impl Form {
    /// The form that a file name promises: `.tar.gz`, `.tgz` or `.zip`, in any case.
    #[must_use]
    pub fn from_filename(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let forms = [(".tar.gz", Self::TarGz), (".tgz", Self::TarGz), (".zip", Self::Zip)];
        forms.into_iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, form)| form)
    }
}

/// What the bytes must hash to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// This.
    Sha256(Sha256Digest),
    /// Anything: the user insisted.
    Unverified,
}

/// Who is to own the tree. Ignored on Windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
}

/// How much an archive may ask of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Files, directories and links; 60,000. A runner has some 12,000.
    pub entries: u64,
    /// Bytes of all files; 8 GiB. A runner has some 700 MB.
    pub bytes: u64,
    /// Bytes of the archive itself; 4 GiB.
    pub received: u64,
    /// Unpacked bytes for each packed one, once 64 MiB were unpacked; 200. A runner has 3.
    pub ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 60_000, bytes: 8 << 30, received: 4 << 30, ratio: 200 }
    }
}

/// What to stage.
#[derive(Debug, Clone)]
pub struct Order {
    /// Where the archive comes from.
    pub source: Source,
    /// What kind it is.
    pub form: Form,
    /// What it must hash to.
    pub expect: Expect,
    /// The directory to make and unpack into; see [`place::staging_path`].
    pub staging: PathBuf,
    /// Who is to own it; `None` leaves it to the current user.
    pub owner: Option<Owner>,
    /// Leaves the staging directory closed to everybody else, for whoever puts it in place to open.
    pub closed: bool,
    /// How much it may ask of this machine.
    pub limits: Limits,
    /// How long a download may be in trouble, over requests and bodies together, before it is given up. The time
    /// starts with a failure, and ends when a mebibyte has come since.
    pub patience: Duration,
}

/// Hears how a stage gets on. All numbers are totals so far; they start again at zero if the download does. The calls
/// come from more than one thread and should return at once.
pub trait Progress: Send + Sync {
    /// The length of the archive, when it becomes known; `None` if the server does not say.
    fn total(&self, bytes: Option<u64>) {
        let _ = bytes;
    }
    /// Bytes of the archive received.
    fn received(&self, bytes: u64) {
        let _ = bytes;
    }
    /// Entries, and bytes of files, unpacked.
    fn unpacked(&self, entries: u64, bytes: u64) {
        let _ = (entries, bytes);
    }
}

/// Hears nothing.
impl Progress for () {}

/// A tree in its staging directory, verified and complete, but not yet durable or in place: [`place::commit`] does
/// that.
#[derive(Debug, Clone)]
pub struct Staged {
    /// The staging directory.
    pub path: PathBuf,
    /// What the bytes hashed to.
    pub sha256: Sha256Digest,
    /// Bytes of the archive.
    pub received: u64,
    /// Bytes of all files.
    pub unpacked: u64,
    /// Files, directories and links.
    pub entries: u64,
    /// How often a broken download was taken up again.
    pub resumed: u32,
}

#[cfg(test)]
mod tests;
