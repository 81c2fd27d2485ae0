//! What root refuses to work with, because somebody else can change it.

use crate::error::situation::{self, Situation};
use crate::error::{Class, Failure};
use crate::lifecycle::context::error::words::remove;
use std::path::PathBuf;

/// What can go wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("refusing to work below {} as root: {owner} can write there", directory.display())]
    UnsafeParent { directory: PathBuf, owner: String },
    #[error("refusing to use {} as root at every start of the service: {who} can change {}", file.display(), path.display())]
    NotForRoot { file: PathBuf, path: PathBuf, who: String },
    #[error("{} cannot be reached in {}: a loop of symbolic links, or a directory that cannot be read", path.display(), root.display())]
    NoWayTo { path: PathBuf, root: PathBuf },
    #[error("users other than root can write {}, so root runs nothing from there", path.display())]
    UnsafeTree { path: PathBuf },
    #[error("jobs can change the programs of the runner in {}, so none of these gets a token", dir.display())]
    TreeNotGuarded { dir: PathBuf },
}

impl Failure for TrustError {
    fn class(&self) -> Class {
        Class::Config
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::UnsafeParent { directory, .. } => format!(
                "Choose a directory (--dir, --work) below directories that only root can write, such as \
                 /opt, or let only root write {}.",
                directory.display()
            ),
            Self::NotForRoot { file, path, .. } => format!(
                "Put {} where only root can write, such as /usr/local/bin or /etc/runup, or let \
                 only root write {}.",
                file.display(),
                path.display()
            ),
            Self::NoWayTo { .. } => "Check the links on that path.".into(),
            Self::UnsafeTree { .. } => {
                "Make the runner's user the owner of the directory and everything in it, or pass a \
                 token for the API."
                    .into()
            }
            Self::TreeNotGuarded { dir } => format!(
                "Pass --token-file FILE, so that the runner is deleted by its id; or --archive \
                 with --sha256, so that a fresh one is used; or clean up here with `{} --local` \
                 and delete it with `runup runners delete` from elsewhere. --trust-tree takes the \
                 risk.",
                remove(dir)
            ),
        })
    }

    fn situation(&self) -> &'static Situation {
        match self {
            Self::UnsafeParent { .. }
            | Self::NotForRoot { .. }
            | Self::NoWayTo { .. }
            | Self::UnsafeTree { .. } => &situation::PARENT_UNSAFE,
            Self::TreeNotGuarded { .. } => &situation::CREDENTIAL_WITHHELD,
        }
    }
}
