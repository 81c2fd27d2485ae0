//! What can go wrong with a journal.

use crate::error::{Class, Failure};
use crate::host;
use std::path::PathBuf;

/// The version that this build writes. Older ones must parse; newer ones are refused.
pub const VERSION: u32 = 2;

/// What is wrong with a journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It is not in the format that runup writes.
    #[error("the journal {} cannot be read: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// It was written by a newer runup.
    #[error("the journal {} has version {found}, and this runup knows versions up to {VERSION}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Reading or writing failed.
    #[error("failed to keep the journal {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: host::Error,
    },
    /// The state directory cannot be used.
    #[error("failed to use {} for the journals", state.display())]
    State {
        /// The directory.
        state: PathBuf,
        /// Why.
        #[source]
        source: host::Error,
    },
    /// The state directory cannot be listed.
    #[error("failed to find the journals in {}", state.display())]
    List {
        /// The directory.
        state: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Deleting failed.
    #[error("failed to delete the journal {}", path.display())]
    Delete {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: host::Error,
    },
}

impl Failure for JournalError {
    fn class(&self) -> Class {
        match self {
            Self::Io { source, .. } | Self::State { source, .. } | Self::Delete { source, .. } => {
                source.class()
            }
            Self::List { source, .. } => Class::of_io(source, Class::Io),
            Self::Malformed { .. } | Self::Newer { .. } => Class::Config,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::State { .. } | Self::Io { source: host::Error::Path { .. } | host::Error::File(_), .. } => {
                "Set a directory that runup can read and write with --state-dir, or the variable RUNUP_STATE_DIR."
                    .into()
            }
            Self::Io { source, .. } | Self::Delete { source, .. } => return source.hint(),
            Self::List { .. } => {
                "Run it as root: only then is it known which runners this machine still has.".into()
            }
            Self::Malformed { .. } => {
                "Move the file away; `runup remove --dir DIR --url URL` then adopts the runner \
                 that is there."
                    .into()
            }
            Self::Newer { .. } => "Use the newer runup.".into(),
        })
    }
}
