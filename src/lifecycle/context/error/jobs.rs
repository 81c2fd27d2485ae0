//! What jobs are to find.

use crate::error::situation::{self, Situation};
use crate::error::{Class, Failure};
use crate::host::account::is_root;
use crate::transfer;
use std::path::PathBuf;

/// What can go wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum JobsError {
    #[error("--work {} cannot be used: {why}", work.display())]
    WorkUnusable { work: PathBuf, why: String },
    #[error("{option} {} cannot be used: {why}", hook.display())]
    HookUnusable { option: &'static str, hook: PathBuf, why: String },
    #[error("--tool-cache {} cannot be used: {why}", dir.display())]
    ToolCacheUnusable { dir: PathBuf, why: String },
    #[error("the tools of {} cannot be linked in {}", cache.display(), own.display())]
    ToolsNotLinked { cache: PathBuf, own: PathBuf, source: std::io::Error },
    #[error("what an earlier job left in {} cannot be deleted", work.display())]
    Leftovers { work: PathBuf, source: Box<transfer::Error> },
    #[error("an earlier job has mounted {} and it cannot be unmounted", mount.display())]
    LeftMounted { mount: PathBuf, source: std::io::Error },
}

impl Failure for JobsError {
    fn class(&self) -> Class {
        match self {
            Self::WorkUnusable { .. }
            | Self::HookUnusable { .. }
            | Self::ToolCacheUnusable { .. }
            | Self::ToolsNotLinked { .. } => Class::Config,
            // Another machine or container, or this one once it is cleaned, can take the next job.
            Self::Leftovers { .. } | Self::LeftMounted { .. } => Class::TempFail,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::WorkUnusable { .. } => {
                "Pass a directory that is empty or does not exist: jobs own it, and it is emptied.".into()
            }
            Self::HookUnusable { .. } => {
                "Install an executable script that only root can change, such as /usr/local/bin/hook.sh."
                    .into()
            }
            Self::ToolCacheUnusable { .. } | Self::ToolsNotLinked { .. } => {
                "Pass a directory of TOOL/VERSION/ARCH that only root can change and all can read (`chown --recursive root`, \
                 `chmod --recursive go-w,a+rX`), or omit --tool-cache: jobs then download their tools."
                    .into()
            }
            Self::Leftovers { .. } if is_root() => {
                "No job starts before it is deleted: delete it, or replace this machine or container.".into()
            }
            Self::Leftovers { .. } => {
                "No job starts before it is deleted: delete it as root, or replace this container or machine. Where runup \
                 runs as root, it can always clean up after jobs."
                    .into()
            }
            Self::LeftMounted { .. } => {
                "No job starts before that: unmount it, or replace this machine or container.".into()
            }
        })
    }

    fn situation(&self) -> &'static Situation {
        match self {
            Self::WorkUnusable { .. } => &situation::WORK_UNUSABLE,
            Self::HookUnusable { .. } => &situation::HOOK_UNUSABLE,
            Self::ToolCacheUnusable { .. } | Self::ToolsNotLinked { .. } => &situation::TOOL_CACHE_UNUSABLE,
            Self::Leftovers { .. } => &situation::WORK_LEFTOVERS,
            Self::LeftMounted { .. } => &situation::MOUNT_INSIDE,
        }
    }
}
