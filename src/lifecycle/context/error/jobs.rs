//! What jobs are to find.

use crate::error::{Class, Failure};
use std::path::PathBuf;

/// What can go wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum JobsError {
    #[error("--work {} cannot be used: {why}", work.display())]
    WorkUnusable { work: PathBuf, why: String },
    #[error("{option} {} cannot be used: {why}", hook.display())]
    HookUnusable { option: &'static str, hook: PathBuf, why: String },
}

impl Failure for JobsError {
    fn class(&self) -> Class {
        Class::Config
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
        })
    }
}
