//! What can go wrong with a journal.

use crate::error::situation::{self, Situation};
use crate::error::{Class, Failure};
use crate::host;
use std::path::PathBuf;

/// The version that this build writes. Older ones must parse; newer ones are refused.
pub const VERSION: u32 = 2;

/// The version of this runup.
const OWN: &str = env!("CARGO_PKG_VERSION");

/// The runup that wrote a journal.
fn named(version: Option<&str>) -> String {
    version.map_or_else(|| "a newer runup".to_owned(), |version| format!("runup {version}"))
}

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
        /// The version of the runup that wrote it, if that is known and newer than this one.
        runup: Option<String>,
    },
    /// It was written by a newer runup.
    #[error(
        "the journal {} was written by {}, in version {found} of its format: this is runup {OWN}, which reads versions up \
         to {VERSION}",
        path.display(),
        named(runup.as_deref())
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version of its format.
        found: u32,
        /// The version of that runup, if it says so.
        runup: Option<String>,
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
            Self::Malformed { runup: Some(version), .. } => {
                format!("It was written by runup {version}, and this is runup {OWN}: use the newer one.")
            }
            Self::Malformed { runup: None, .. } => {
                "Move the file away; `runup remove --dir DIR --url URL` then adopts the runner \
                 that is there."
                    .into()
            }
            Self::Newer { runup: Some(version), .. } => format!("Use runup {version} or newer."),
            Self::Newer { runup: None, .. } => "Use the newer runup.".into(),
        })
    }

    fn situation(&self) -> &'static Situation {
        match self {
            Self::Io { source, .. } | Self::State { source, .. } | Self::Delete { source, .. } => {
                source.situation()
            }
            Self::List { source, .. } => situation::of_io(source, &situation::FILE_FAILED),
            Self::Malformed { .. } => &situation::JOURNAL_MALFORMED,
            Self::Newer { .. } => &situation::JOURNAL_NEWER,
        }
    }
}
