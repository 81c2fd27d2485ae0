//! What can go wrong between an archive and a placed tree.

use super::digest::Sha256Digest;
use crate::error::{Class, Failure};
use crate::net;
use std::io;
use std::path::PathBuf;

/// An archive that was not placed. URLs in it are redacted; names of entries are shown with their control characters
/// escaped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was asked to stop.
    #[error("stopped while placing the archive")]
    Stopped,

    /// The request or the body failed, and kept failing for as long as patience lasted.
    #[error("downloading {url}, with {received} bytes received")]
    Download {
        /// The URL.
        url: String,
        /// Bytes that came before it failed.
        received: u64,
        /// The failure.
        source: Box<net::Error>,
    },
    /// The server has no archive for us.
    #[error("downloading {url}: the server answered {status}")]
    Status {
        /// The URL.
        url: String,
        /// The status code.
        status: u16,
    },
    /// The server asks for a wait beyond our patience.
    #[error("downloading {url}: the server answered {status} and wants {wait_seconds} s of rest")]
    AskedToWait {
        /// The URL.
        url: String,
        /// The status code.
        status: u16,
        /// How long it wants to be left alone.
        wait_seconds: u64,
    },
    /// A broken body could not be resumed, and starting over did not help.
    #[error("downloading {url}: the body broke at byte {received} and the server cannot resume it")]
    NotResumed {
        /// The URL.
        url: String,
        /// Bytes that came before it broke.
        received: u64,
        /// How it broke.
        source: Option<Box<net::Error>>,
    },
    /// The announced length is not that of the body.
    #[error("downloading {url}: {promised} bytes were announced, but there are {received}")]
    Length {
        /// The URL.
        url: String,
        /// The announced length.
        promised: u64,
        /// The true one.
        received: u64,
    },
    /// More bytes than any archive has.
    #[error("the archive is larger than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: u64,
    },
    /// The local archive cannot be read.
    #[error("reading the archive {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The local archive is a directory, a pipe or a device.
    #[error("the archive {} is not a regular file", path.display())]
    NotAFile {
        /// What it is not.
        path: PathBuf,
    },

    /// Not the bytes that were promised.
    #[error("the SHA-256 of the {received} bytes received is {actual}, not {expected}{}", no_archive(start.as_deref()))]
    DigestMismatch {
        /// What was promised.
        expected: Sha256Digest,
        /// What came.
        actual: Sha256Digest,
        /// How many bytes came.
        received: u64,
        /// How they start, made printable, if no archive starts so: an error page as a rule.
        start: Option<String>,
    },
    /// No bytes at all.
    #[error("the archive is empty")]
    Empty,
    /// Something else than a gzip file: an error page as a rule.
    #[error("the archive is not gzip: it starts with {start:?}")]
    NotGzip {
        /// Its first bytes, made printable.
        start: String,
    },
    /// Something else than a zip file.
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
        /// What is cut.
        what: String,
    },
    /// The compressed data contradict themselves.
    #[error("the compressed data of the archive are damaged")]
    Damaged {
        /// The decoder's account.
        source: io::Error,
    },
    /// A member header that cannot be read.
    #[error("the archive has a damaged header after entry {after:?}")]
    Header {
        /// The last good entry.
        after: String,
        /// What is wrong.
        source: io::Error,
    },
    /// Bytes after the end of the compressed data.
    #[error("there are bytes after the end of the compressed archive")]
    Trailing,
    /// A member that no runner archive has.
    #[error("refusing the archive: entry {entry:?} {refusal}")]
    Refused {
        /// The entry's name.
        entry: String,
        /// What it is refused for.
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
    /// A compression that no honest archive has.
    #[error("refusing the archive: {packed} bytes of it unpack to more than {unpacked}")]
    Bomb {
        /// Compressed bytes read.
        packed: u64,
        /// Bytes they became.
        unpacked: u64,
    },

    /// The staging directory is there already.
    #[error("the staging directory {} exists already", path.display())]
    StagingExists {
        /// The directory.
        path: PathBuf,
    },
    /// The staging directory cannot be made, or finished.
    #[error("preparing the staging directory {}", path.display())]
    Staging {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An entry cannot be written.
    #[error("unpacking {entry:?}")]
    Write {
        /// The entry's name.
        entry: String,
        /// Why.
        source: io::Error,
    },
    /// Too little space, seen before or while unpacking.
    #[error("{} has {free} bytes free, and the archive needs about {needed}", path.display())]
    DiskFull {
        /// A directory of the full filesystem.
        path: PathBuf,
        /// Bytes that are free, without what was unpacked in vain.
        free: u64,
        /// Bytes that it takes, estimated from the archive's size.
        needed: u64,
        /// The refusal of the filesystem, if it came to that.
        source: Option<io::Error>,
    },

    /// The filesystem takes no more although it has bytes left: it is out of inodes, or somebody's quota is used up.
    #[error("{} takes no more files, although {free} bytes are free", path.display())]
    NoMoreFiles {
        /// A directory of the filesystem.
        path: PathBuf,
        /// Bytes that are free, without what was unpacked in vain.
        free: u64,
        /// The refusal of the filesystem.
        source: io::Error,
    },

    /// There is something where the tree should go.
    #[error("{} exists already", target.display())]
    Occupied {
        /// The place.
        target: PathBuf,
    },
    /// A path that has no name or no parent directory, such as `/`.
    #[error("{} cannot be a place for a tree", target.display())]
    NoPlace {
        /// The path.
        target: PathBuf,
    },
    /// The tree cannot be made durable.
    #[error("writing {} to disk", path.display())]
    Sync {
        /// The tree, or the directory it is in.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The tree cannot be moved.
    #[error("moving {} to {}", from.display(), to.display())]
    Rename {
        /// Where it is.
        from: PathBuf,
        /// Where it should be.
        to: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The tree cannot be deleted.
    #[error("deleting {}", path.display())]
    Remove {
        /// The tree.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A thread of ours died.
    #[error("a bug in unpacking")]
    Bug(#[source] tokio::task::JoinError),
}

/// What an entry is refused for.
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
    #[error("climbs out with '..'")]
    Climbs,
    /// A name that means something else on this system, as `C:` or `NUL` do on Windows.
    #[error("has a name that this system does not take")]
    NotOnThisSystem,
    /// Not a file, directory or symbolic link.
    #[error("is {kind}")]
    Kind {
        /// What it is.
        kind: String,
    },
    /// The archive's root as something else than a directory.
    #[error("would replace the directory that everything is unpacked into")]
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
    #[error("is a symbolic link that climbs out, to {target:?}")]
    LinkClimbs {
        /// The target.
        target: String,
    },
    /// A file, or a link, stands where a directory is needed.
    #[error("lies below something that is not a directory")]
    NotInDirectory,
    /// The name was there before.
    #[error("is there twice")]
    Duplicate,
    /// Extended attributes that change how the entry is read.
    #[error("has the extended attribute {key:?}, which is not supported")]
    Attribute {
        /// Its name.
        key: String,
    },
    /// Encrypted, or compressed in a way that is not supported.
    #[error("is stored in a way that is not supported")]
    Stored,
}

/// How many bytes of a name out of an archive are shown.
const SHOWN: usize = 200;

/// A name out of an archive for an error: readable and not too long. What it holds is escaped where it is printed.
pub(super) fn shown(name: &[u8]) -> String {
    match name.get(..SHOWN) {
        Some(start) if name.len() > SHOWN => format!("{}[...]", String::from_utf8_lossy(start)),
        _ => String::from_utf8_lossy(name).into_owned(),
    }
}

fn no_archive(start: Option<&str>) -> String {
    start.map(|start| format!("; it is no archive, for it starts with {start:?}")).unwrap_or_default()
}

impl Error {
    pub(super) fn refused(entry: impl Into<String>, refusal: Refusal) -> Self {
        Self::Refused { entry: entry.into(), refusal }
    }

    /// Whether wrong bytes explain it, so that the digest should be asked before this is believed. Limits are not among
    /// them: a bomb must stop early.
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
            // Which signal it was is known further up; this is the usual one.
            Self::Stopped => Class::Signal(15),
            Self::NotResumed { .. } | Self::AskedToWait { .. } => Class::TempFail,
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
        let hint = match self {
            Self::Download { source, .. } => return source.hint(),
            Self::Status { status: 401 | 403, .. } => {
                "The download credential was not accepted; it lives for a short time only, so try again. A mirror may \
                 need one of its own."
            }
            Self::Status { status: 404 | 410, .. } => {
                "Check the archive's URL, and that the version is on offer."
            }
            Self::Status { .. } | Self::NotResumed { .. } | Self::AskedToWait { .. } => "Try again later.",
            Self::Length { .. } | Self::NotGzip { .. } | Self::NotZip { .. } | Self::Empty => {
                "A proxy or a mirror probably answered in the server's place; fetch the URL by hand to see what comes."
            }
            Self::DigestMismatch { .. } => {
                "The archive is not the one that was published, or the SHA-256 belongs to another version. Do not use \
                 it; check the mirror or proxy that it came through."
            }
            Self::Truncated { .. } | Self::Damaged { .. } | Self::Trailing | Self::Header { .. } => {
                "Download the archive again, and compare its SHA-256 with the published one."
            }
            Self::NoMoreFiles { .. } => {
                "It is out of inodes (`df -i`), or a quota is used up; delete files, or choose another filesystem."
            }
            Self::DiskFull { .. } => "Free some space, or choose a directory on another filesystem.",
            Self::Write { source, .. } | Self::Staging { source, .. } | Self::Rename { source, .. } => {
                match source.kind() {
                    io::ErrorKind::ReadOnlyFilesystem => {
                        "The filesystem is read-only; choose a directory that can be written."
                    }
                    io::ErrorKind::PermissionDenied => {
                        "Run as a user that may write there (root, as a rule), or choose another directory."
                    }
                    io::ErrorKind::NotFound => "Create the parent directory first.",
                    _ => return None,
                }
            }
            Self::StagingExists { .. } => "Another run may be using it; if none is, delete it and try again.",
            Self::Occupied { .. } => "Choose another directory, or remove what is there.",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
