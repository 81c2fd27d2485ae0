//! The errors of staging and placing an archive.

use super::digest::Sha256Digest;
use crate::error::situation::Situation;
use crate::error::{Class, Failure};
use crate::net;
use std::io;
use std::path::PathBuf;

/// Why an archive was not placed. URLs are redacted; the names of entries are shown with control characters escaped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stop token was cancelled.
    #[error("stopped while placing the archive")]
    Stopped,

    /// The request or the body failed, and kept failing until the timeout.
    #[error("failed to download {url}, after {received} bytes")]
    Download {
        /// The URL.
        url: String,
        /// How many bytes were received before it failed.
        received: u64,
        /// The failure.
        source: Box<net::Error>,
    },
    /// The host of the archive cannot be reached, and the API can.
    #[error("{host}, which has the archive, was not reached for {seconds} s, while {api} was")]
    Blocked {
        /// The host.
        host: String,
        /// The host of the API.
        api: String,
        /// How long it was tried.
        seconds: u64,
        /// The last failure.
        source: Box<net::Error>,
    },
    /// The server refused the request.
    #[error("failed to download {url}: the server answered {status}")]
    Status {
        /// The URL.
        url: String,
        /// The status code.
        status: u16,
    },
    /// The server requested a wait beyond the timeout.
    #[error(
        "failed to download {url}: the server answered {status} and requested a wait of {wait_seconds} s"
    )]
    AskedToWait {
        /// The URL.
        url: String,
        /// The status code.
        status: u16,
        /// The requested wait.
        wait_seconds: u64,
    },
    /// A broken body could not be resumed, and starting over did not help.
    #[error(
        "failed to download {url}: the transfer broke off at byte {received}, and the server cannot resume it"
    )]
    NotResumed {
        /// The URL.
        url: String,
        /// How many bytes were received before it broke off.
        received: u64,
        /// Why it broke off.
        source: Option<Box<net::Error>>,
    },
    /// The announced length is not that of the body.
    #[error("failed to download {url}: the server announced {promised} bytes, but sent {received}")]
    Length {
        /// The URL.
        url: String,
        /// The announced length.
        promised: u64,
        /// The actual length.
        received: u64,
    },
    /// The archive is larger than the limit.
    #[error("the archive is larger than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: u64,
    },
    /// The local archive cannot be read.
    #[error("failed to read the archive {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The local archive is a directory, a pipe or a device.
    #[error("the archive {} is not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },

    /// The archive does not have the expected digest.
    #[error("the SHA-256 of the {received} bytes received is {actual}, not {expected}{}", not_an_archive(start.as_deref()))]
    DigestMismatch {
        /// The expected digest.
        expected: Sha256Digest,
        /// The digest of the received bytes.
        actual: Sha256Digest,
        /// How many bytes were received.
        received: u64,
        /// How they start, made printable, if an archive does not start like this: usually an error page.
        start: Option<String>,
    },
    /// The archive has no bytes.
    #[error("the archive is empty")]
    Empty,
    /// It is not a gzip file: usually an error page.
    #[error("the archive is not gzip: it starts with {start:?}")]
    NotGzip {
        /// Its first bytes, made printable.
        start: String,
    },
    /// It is not a zip file.
    #[error("the archive is not zip: it starts with {start:?}")]
    NotZip {
        /// Its first bytes, made printable.
        start: String,
        /// What is wrong with it.
        source: Option<io::Error>,
    },
    /// The archive ends too early, although the transfer was complete.
    #[error("the archive is truncated: it ends in the middle of {what}")]
    Truncated {
        /// What is truncated.
        what: String,
    },
    /// The compressed data is inconsistent.
    #[error("the compressed data of the archive is damaged")]
    Damaged {
        /// The decoder's error.
        source: io::Error,
    },
    /// The header of an entry cannot be read.
    #[error("the archive has a damaged header after entry {after:?}")]
    Header {
        /// The last good entry.
        after: String,
        /// What is wrong.
        source: io::Error,
    },
    /// Bytes after the end of the compressed data.
    #[error("the archive has bytes after the end of its compressed data")]
    Trailing,
    /// An entry that no runner archive has.
    #[error("refusing the archive: entry {entry:?} {refusal}")]
    Refused {
        /// The entry's name.
        entry: String,
        /// Why it is refused.
        refusal: Refusal,
    },
    /// More entries than the limit.
    #[error("refusing the archive: it has more than {limit} entries")]
    TooManyEntries {
        /// The limit.
        limit: u64,
    },
    /// More bytes than the limit.
    #[error("refusing the archive: it unpacks to more than {limit} bytes")]
    TooManyBytes {
        /// The limit.
        limit: u64,
    },
    /// A compression ratio that no real archive has.
    #[error("refusing the archive: {packed} bytes of it unpack to more than {unpacked}")]
    Bomb {
        /// The compressed bytes read so far.
        packed: u64,
        /// The bytes that they unpacked to.
        unpacked: u64,
    },

    /// The staging directory already exists.
    #[error("the staging directory {} already exists", path.display())]
    StagingExists {
        /// The directory.
        path: PathBuf,
    },
    /// The staging directory cannot be created, or its mode and owner cannot be set.
    #[error("failed to prepare the staging directory {}", path.display())]
    Staging {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An entry cannot be written.
    #[error("failed to unpack {entry:?}")]
    Write {
        /// The entry's name.
        entry: String,
        /// Why.
        source: io::Error,
    },
    /// Too little space, found before or while unpacking.
    #[error("not enough space in {}: {free} bytes are free, and the archive needs about {needed}", path.display())]
    DiskFull {
        /// A directory of the full filesystem.
        path: PathBuf,
        /// Free bytes, counted without what was unpacked so far.
        free: u64,
        /// The bytes needed, estimated from the archive's size.
        needed: u64,
        /// The filesystem's error, if the space ran out while unpacking.
        source: Option<io::Error>,
    },

    /// The filesystem has free bytes but takes no more files: it is out of inodes, or a quota is used up.
    #[error("{} takes no more files, although {free} bytes are free", path.display())]
    NoMoreFiles {
        /// A directory of the filesystem.
        path: PathBuf,
        /// Bytes that are free, without what was unpacked in vain.
        free: u64,
        /// The filesystem's error.
        source: io::Error,
    },

    /// The target exists.
    #[error("{} already exists", target.display())]
    Occupied {
        /// The target.
        target: PathBuf,
    },
    /// A path that has no name or no parent directory, such as `/`.
    #[error("{} cannot be the target directory", target.display())]
    NoPlace {
        /// The path.
        target: PathBuf,
    },
    /// The tree cannot be synced to disk.
    #[error("failed to write {} to disk", path.display())]
    Sync {
        /// The tree, or the directory it is in.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The tree cannot be moved.
    #[error("failed to move {} to {}", from.display(), to.display())]
    Rename {
        /// Where it is.
        from: PathBuf,
        /// Where it should be.
        to: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The tree cannot be deleted.
    #[error("failed to delete {}", path.display())]
    Remove {
        /// The tree.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A task of runup's panicked.
    #[error("a bug in runup: an unpacking task panicked")]
    Bug(#[source] tokio::task::JoinError),
}

/// Why an entry is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No name.
    #[error("has an empty name")]
    EmptyName,
    /// A NUL in the name.
    #[error("has a NUL in its name")]
    Nul,
    /// A name or a link target of more than 4,096 bytes.
    #[error("has a name or link target of more than {} bytes", super::path::LONGEST_NAME)]
    TooLong,
    /// A name or a link target of more than 128 components.
    #[error("has a name or link target of more than {} components", super::path::MOST_COMPONENTS)]
    TooDeep,
    /// An absolute name.
    #[error("has an absolute name")]
    Absolute,
    /// `..` in the name.
    #[error("leads out of the archive with '..'")]
    Climbs,
    /// A name with a special meaning on this system, like `C:` or `NUL` on Windows.
    #[error("has a name that this system does not support")]
    NotOnThisSystem,
    /// Not a file, directory or symbolic link.
    #[error("is {kind}")]
    Kind {
        /// What it is, with its article.
        kind: String,
    },
    /// The archive's root is not a directory.
    #[error("would replace the directory that the archive is unpacked into")]
    Root,
    /// A symbolic link without a target, or with a NUL in it.
    #[error("is a symbolic link without a usable target")]
    LinkName,
    /// A symbolic link to an absolute path.
    #[error("is a symbolic link to the absolute path {target:?}")]
    LinkAbsolute {
        /// The target.
        target: String,
    },
    /// A symbolic link that can leave the tree.
    #[error("is a symbolic link that leads out of the archive, to {target:?}")]
    LinkClimbs {
        /// The target.
        target: String,
    },
    /// A parent is a file or a link.
    #[error("is below something that is not a directory")]
    NotInDirectory,
    /// An entry with this name came before.
    #[error("occurs twice")]
    Duplicate,
    /// Extended attributes that change how the entry is read.
    #[error("has the extended attribute {key:?}, which is not supported")]
    Attribute {
        /// Its name.
        key: String,
    },
    /// Encrypted, or compressed in a way that is not supported.
    #[error("is encrypted, or compressed in a way that is not supported")]
    Stored,
}

/// How many bytes of an entry's name are shown.
const SHOWN: usize = 200;

/// An entry's name for an error: readable and not too long. Control characters are escaped where it is printed.
pub(super) fn shown(name: &[u8]) -> String {
    match name.get(..SHOWN) {
        Some(start) if name.len() > SHOWN => format!("{}[...]", String::from_utf8_lossy(start)),
        _ => String::from_utf8_lossy(name).into_owned(),
    }
}

fn not_an_archive(start: Option<&str>) -> String {
    start.map(|start| format!("; it is not an archive: it starts with {start:?}")).unwrap_or_default()
}

impl Error {
    pub(super) fn refused(entry: impl Into<String>, refusal: Refusal) -> Self {
        Self::Refused { entry: entry.into(), refusal }
    }

    /// Whether wrong bytes can be the cause, so that the digest is compared first and a mismatch reported instead. The
    /// limits are not among these errors: a decompression bomb must stop early.
    pub(super) fn blames_bytes(&self) -> bool {
        matches!(
            self,
            Self::Empty
                | Self::NotGzip { .. }
                | Self::NotZip { .. }
                | Self::Truncated { .. }
                | Self::Damaged { .. }
                | Self::Header { .. }
                | Self::Trailing
                | Self::Refused { .. }
        )
    }
}

impl Failure for Error {
    fn class(&self) -> Class {
        match self {
            // The caller knows which signal it was; this is the usual one.
            Self::Stopped => Class::Signal(15),
            Self::NotResumed { .. } | Self::AskedToWait { .. } | Self::Blocked { .. } => Class::TempFail,
            Self::Download { source, .. } => source.class(),
            Self::Status { status, .. } => match status {
                401 | 403 => Class::NoPerm,
                404 | 410 => Class::Unavailable,
                408 | 429 | 500..=599 => Class::TempFail,
                _ => Class::Protocol,
            },
            Self::Length { .. } => Class::Protocol,
            Self::File { source, .. } if source.kind() == io::ErrorKind::NotFound => Class::NoInput,
            Self::NotAFile { .. } => Class::NoInput,
            Self::StagingExists { .. } | Self::Occupied { .. } | Self::NoPlace { .. } => Class::Config,
            Self::Staging { source, .. } | Self::Write { source, .. } | Self::Rename { source, .. } => {
                Class::of_io(source, Class::CantCreate)
            }
            Self::DiskFull { .. } | Self::NoMoreFiles { .. } => Class::Io,
            Self::File { source, .. } | Self::Sync { source, .. } | Self::Remove { source, .. } => {
                Class::of_io(source, Class::Io)
            }
            Self::Bug(_) => Class::Software,
            Self::DigestMismatch { .. }
            | Self::Empty
            | Self::NotGzip { .. }
            | Self::NotZip { .. }
            | Self::Truncated { .. }
            | Self::Damaged { .. }
            | Self::Header { .. }
            | Self::Trailing
            | Self::Refused { .. }
            | Self::TooManyEntries { .. }
            | Self::TooManyBytes { .. }
            | Self::TooLong { .. }
            | Self::Bomb { .. } => Class::Data,
        }
    }

    fn hint(&self) -> Option<String> {
        super::hints::of(self)
    }

    fn situation(&self) -> &'static Situation {
        super::situations::of(self)
    }
}
