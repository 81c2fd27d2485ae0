//! The running listener, and its upgrade.

use crate::error::situation::{self, Situation};
use crate::error::{Class, Failure};
use crate::runner::complaint::Complaint;
use std::path::PathBuf;
use std::time::Duration;

/// What can go wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum ListenerError {
    #[error(
        "the server no longer has the runner {name} (id {id}): its just-in-time configuration was already used, or the runner was deleted"
    )]
    JitConfigUsed { name: String, id: u64 },
    #[error(
        "the just-in-time configuration of {name} (id {id}) is in use: another listener has this runner's session"
    )]
    JitConfigInUse { name: String, id: u64 },
    #[error("the server has deleted the runner in {}, and runup holds no credential to register it again", dir.display())]
    CredentialDropped { dir: PathBuf },
    #[error("the listener failed with {status}{}", cause.map(|known| format!(": {}", known.cause)).unwrap_or_default())]
    ListenerFailed { status: String, tail: String, cause: Option<&'static Complaint> },
    #[error("another session of this runner stayed open for {} s", total.as_secs())]
    SessionConflict { total: Duration },
    #[error(
        "GitHub no longer supports runner {}, which is installed here{}",
        here.as_deref().unwrap_or("of unknown version"),
        newest.as_ref().map(|newest| format!("; the newest version is {newest}")).unwrap_or_default()
    )]
    VersionDeprecated { here: Option<String>, newest: Option<String> },
    #[error("the server deleted the runner in {} again, after it was re-registered {times} times", dir.display())]
    DeletedAgain { dir: PathBuf, times: usize },
    #[error("the runner in {} updates itself again, after {times} times within an hour", dir.display())]
    UpdatesAgain { dir: PathBuf, times: usize },
    #[error("the runner in {} was ended in the middle of a job", dir.display())]
    CutShort { dir: PathBuf },
    #[error("the runner in {} was not idle within {} s, so it was not upgraded", dir.display(), after.as_secs())]
    NotIdle { dir: PathBuf, after: Duration },
    #[error("the runner in {} was changed by another run during its upgrade", dir.display())]
    UpgradeOvertaken { dir: PathBuf },
}

impl Failure for ListenerError {
    fn class(&self) -> Class {
        match self {
            Self::JitConfigUsed { .. } => Class::Unavailable,
            Self::VersionDeprecated { .. } => Class::Deprecated,
            Self::ListenerFailed { cause, .. } => cause.map_or(Class::Runner, |known| known.class),
            Self::DeletedAgain { .. } | Self::UpdatesAgain { .. } => Class::Runner,
            Self::SessionConflict { .. }
            | Self::NotIdle { .. }
            | Self::UpgradeOvertaken { .. }
            | Self::JitConfigInUse { .. }
            | Self::CredentialDropped { .. } => Class::TempFail,
            Self::CutShort { .. } => Class::Signal(15),
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::ListenerFailed { cause: Some(known), .. } => known.fix.into(),
            Self::VersionDeprecated { .. } => {
                "Run `runup remove` and install again for the newest version, or bake the image \
                 again."
                    .into()
            }
            Self::SessionConflict { .. } => {
                "Find the machine that runs with a copy of this runner's files; or try again in a \
                 few minutes, if this one was cut off."
                    .into()
            }
            Self::JitConfigUsed { .. } => {
                "Create another just-in-time configuration: each is for one runner and one job.".into()
            }
            Self::JitConfigInUse { .. } => {
                "Find the machine that has the same configuration. After a power cut of this one, \
                 try again in a few minutes."
                    .into()
            }
            Self::CredentialDropped { .. } => {
                "Start `runup run` again. A --token-file or --token-command is read again when it \
                 is needed."
                    .into()
            }
            Self::DeletedAgain { .. } => {
                "Find out what deletes it: the settings page of the runners, `runup runners \
                 prune`, another machine."
                    .into()
            }
            Self::UpdatesAgain { .. } => {
                "See the newest file in _diag for the version that the server requires, and install it: \
                 its updates do not last."
                    .into()
            }
            Self::CutShort { .. } => "Give jobs time to finish with --drain.".into(),
            Self::ListenerFailed { .. } => "See its output above, and the newest file in _diag.".into(),
            Self::NotIdle { .. } => {
                "The next run of its timer tries again; by hand, give it a longer --window.".into()
            }
            Self::UpgradeOvertaken { .. } => "Run `runup upgrade` again.".into(),
        })
    }

    fn situation(&self) -> &'static Situation {
        match self {
            Self::JitConfigUsed { .. } => &situation::JIT_USED,
            Self::JitConfigInUse { .. } | Self::SessionConflict { .. } => &situation::LISTENER_ELSEWHERE,
            Self::CredentialDropped { .. } => &situation::REGISTRATION_DROPPED,
            Self::ListenerFailed { cause, .. } => {
                cause.map_or(&situation::LISTENER_FAILED, |known| known.situation)
            }
            Self::VersionDeprecated { .. } => &situation::VERSION_DEPRECATED,
            Self::DeletedAgain { .. } => &situation::DELETED_AGAIN,
            Self::UpdatesAgain { .. } => &situation::UPDATES_AGAIN,
            Self::CutShort { .. } | Self::NotIdle { .. } => &situation::NOT_IDLE,
            Self::UpgradeOvertaken { .. } => &situation::UPGRADE_FAILED,
        }
    }
}
