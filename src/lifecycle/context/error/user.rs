//! The runner's user.

use crate::error::{Class, Failure};
use std::path::PathBuf;

/// What can go wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    #[error("the user {user} also runs the runner in {}, whose jobs could read the token of this one", dir.display())]
    UserShared { user: String, dir: PathBuf, unit: String },
    #[error("the user {name} was just created by another program")]
    UserTaken { name: String },
    #[error("--user {name} requires root")]
    NotRoot { name: String },
    #[error("the group {name} of --groups does not exist")]
    NoGroup { name: String },
    #[error("the user {name} is not in {}, and runup did not create that user", groups.join(", "))]
    GroupsOfOther { name: String, groups: Vec<String> },
    #[error("the user {name} is root under another name")]
    UserIsRoot { name: String },
}

impl Failure for UserError {
    fn class(&self) -> Class {
        match self {
            Self::NotRoot { .. } => Class::NoPerm,
            Self::UserShared { .. }
            | Self::NoGroup { .. }
            | Self::GroupsOfOther { .. }
            | Self::UserIsRoot { .. } => Class::Config,
            Self::UserTaken { .. } => Class::TempFail,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotRoot { .. } => "Run as root, or omit --user: the runner then runs as you.".into(),
            Self::UserIsRoot { .. } => {
                "Choose an unprivileged user, or pass --user root if you mean it.".into()
            }
            Self::NoGroup { .. } => "Install what creates the group, or correct --groups.".into(),
            Self::GroupsOfOther { name, groups } => {
                format!("Run `usermod --append --groups {} {name}`, and omit --groups.", groups.join(","))
            }
            Self::UserShared { unit, .. } => format!(
                "Omit --user, so that this runner gets a user of its own, or stop {unit} while it \
                 registers."
            ),
            Self::UserTaken { .. } => {
                "Run the same command again: it takes the next name that is free.".into()
            }
        })
    }
}
