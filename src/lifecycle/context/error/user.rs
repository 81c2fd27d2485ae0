//! The runner's user.

use crate::error::situation::{self, Situation};
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
    #[error("the user {name} is not in /etc/passwd, and was not found by {} of /etc/nsswitch.conf", services.join(", "))]
    NotFoundYet { name: String, services: Vec<String> },
    #[error(
        "the user {name} is not in the image's /etc/passwd, and its /etc/nsswitch.conf also has users from {}",
        services.join(", ")
    )]
    NotInImage { name: String, services: Vec<String> },
    #[error("the group {name} of --groups does not exist")]
    NoGroup { name: String },
    #[error("{option} {id} cannot be that of the user {name}: {holder} has it")]
    IdTaken { name: String, option: &'static str, id: u32, holder: String },
    #[error(
        "the user {name} exists with the {} id {found}, but {option} {wanted} was requested",
        kind(option)
    )]
    OtherId { name: String, option: &'static str, wanted: u32, found: u32 },
    #[error("the user {name} is not in {}, and runup did not create that user", groups.join(", "))]
    GroupsOfOther { name: String, groups: Vec<String> },
    #[error("the user {name} is root under another name")]
    UserIsRoot { name: String },
}

/// The word for the id that an option sets.
fn kind(option: &str) -> &str {
    option.trim_start_matches("--").trim_end_matches("-id")
}

impl Failure for UserError {
    fn class(&self) -> Class {
        match self {
            Self::NotRoot { .. } => Class::NoPerm,
            Self::UserShared { .. }
            | Self::NoGroup { .. }
            | Self::GroupsOfOther { .. }
            | Self::NotInImage { .. }
            | Self::IdTaken { .. }
            | Self::OtherId { .. }
            | Self::UserIsRoot { .. } => Class::Config,
            Self::UserTaken { .. } | Self::NotFoundYet { .. } => Class::TempFail,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotRoot { .. } => "Run as root, or omit --user: the runner then runs as you.".into(),
            Self::UserIsRoot { .. } => {
                "Choose an unprivileged user, or pass --user root if you mean it.".into()
            }
            Self::NotFoundYet { name, .. } => format!(
                "Find out with `getent passwd {name}` why it is missing. runup does not create a user that a directory \
                 service could have: for a local one, run `useradd --system --create-home {name}`, or omit --user."
            ),
            Self::NotInImage { name, .. } => format!(
                "Create a local user in the image with `useradd --system --create-home {name}`, or omit --user."
            ),
            Self::IdTaken { option: "--user-id", .. } => {
                "Choose another id, or run the runner as that user with --user.".into()
            }
            Self::IdTaken { .. } => "Choose another id.".into(),
            Self::OtherId { option, .. } => format!("Omit {option}, or choose another user with --user."),
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

    fn situation(&self) -> &'static Situation {
        match self {
            Self::UserShared { .. } => &situation::USER_SHARED,
            Self::UserTaken { .. } => &situation::USER_EXISTS,
            Self::NotRoot { .. } => &situation::NEEDS_ROOT,
            Self::NotFoundYet { .. } | Self::NotInImage { .. } => &situation::USER_NOT_FOUND,
            Self::NoGroup { .. } | Self::GroupsOfOther { .. } => &situation::GROUP_MISSING,
            Self::IdTaken { .. } | Self::OtherId { .. } => &situation::ID_UNUSABLE,
            Self::UserIsRoot { .. } => &situation::USER_IS_ROOT,
        }
    }
}
