//! What can go wrong in the lifecycle, and what to do about it: one file for each subject.

mod adoption;
mod archive;
mod config_sh;
mod instance;
mod jobs;
mod journal;
mod listener;
mod receipt;
mod registration;
mod service;
mod tree;
mod trust;
mod user;
mod words;

use crate::error::situation::{self, Situation};
use crate::error::{Class, Failure};
use crate::runner::{libraries, preflight};
use crate::{github, host, net, runner, transfer};
use std::path::PathBuf;
use std::time::Duration;

pub use adoption::AdoptionError;
pub use archive::ArchiveError;
pub use config_sh::ConfigShError;
pub use instance::InstanceError;
pub use jobs::JobsError;
pub use journal::{JournalError, VERSION};
pub use listener::ListenerError;
pub use receipt::ReceiptError;
pub use registration::RegistrationError;
pub use service::ServiceError;
pub use tree::TreeError;
pub use trust::TrustError;
pub use user::UserError;

/// Why `install`, `bake`, `remove`, `plan` or `status` failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what its fields are")]
pub enum Error {
    #[error(transparent)]
    Github(#[from] github::Error),
    #[error(transparent)]
    Runner(#[from] runner::Error),
    #[error(transparent)]
    Preflight(#[from] preflight::Error),
    #[error(transparent)]
    Libraries(#[from] libraries::Error),
    #[error(transparent)]
    Transfer(#[from] transfer::Error),
    #[error(transparent)]
    Net(#[from] net::Error),
    #[error(transparent)]
    Host(#[from] host::Error),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error(transparent)]
    Instance(#[from] InstanceError),
    #[error(transparent)]
    Jobs(#[from] JobsError),
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error(transparent)]
    User(#[from] UserError),
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    #[error(transparent)]
    Adoption(#[from] AdoptionError),
    #[error(transparent)]
    ConfigSh(#[from] ConfigShError),
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error(transparent)]
    Listener(#[from] ListenerError),
    #[error(transparent)]
    Settings(#[from] crate::settings::Error),

    #[error(
        "runner {to} in {} did not come online, so {from} {}: {}",
        dir.display(),
        if back.is_none() { "is back and online" } else { "is back, and is not online either" },
        crate::error::chain(cause.as_ref())
    )]
    UpgradeTakenBack { dir: PathBuf, from: String, to: String, cause: Box<Error>, back: Option<Box<Error>> },
    #[error("this machine's clock is {skew} {direction} GitHub's")]
    ClockOff { skew: String, direction: &'static str },
    #[error("stopped by a signal")]
    Stopped,
    #[error("the deadline of {} s leaves no more time for {doing}", total.as_secs())]
    DeadlinePassed { doing: String, total: Duration },
    #[error("{}", crate::error::chain(cause.as_ref()))]
    Unwound { cause: Box<Error>, left: Vec<Error> },
}

impl Error {
    /// Whether a signal caused this.
    #[must_use]
    pub fn is_stop(&self) -> bool {
        match self {
            Self::Stopped
            | Self::Host(host::Error::Stopped { .. })
            | Self::Transfer(transfer::Error::Stopped)
            | Self::Preflight(preflight::Error::Host(host::Error::Stopped { .. })) => true,
            Self::Libraries(error) => matches!(error.class(), Class::Signal(_)),
            Self::Unwound { cause, .. } => cause.is_stop(),
            _ => false,
        }
    }

    /// The end of a child's output, if that explains more than the message.
    #[must_use]
    pub fn output(&self) -> Option<&str> {
        match self {
            Self::ConfigSh(
                ConfigShError::Failed { tail, .. }
                | ConfigShError::Lied { tail, .. }
                | ConfigShError::Hung { tail, .. },
            )
            | Self::Listener(ListenerError::ListenerFailed { tail, .. })
            | Self::Service(
                ServiceError::ServiceFailed { tail, .. } | ServiceError::NotOnline { tail, .. },
            ) => Some(tail).filter(|tail| !tail.trim().is_empty()).map(String::as_str),
            Self::Libraries(error) => error.output().filter(|tail| !tail.trim().is_empty()),
            Self::Unwound { cause, .. } | Self::UpgradeTakenBack { cause, .. } => cause.output(),
            _ => None,
        }
    }

    /// The command that another user has to run, if that is the result.
    #[must_use]
    pub fn command(&self) -> Option<&str> {
        if let Self::Libraries(error) = self { error.command() } else { None }
    }

    /// What could not be undone after this failure.
    #[must_use]
    pub fn left(&self) -> &[Error] {
        match self {
            Self::Unwound { left, .. } => left,
            _ => &[],
        }
    }
}

impl Failure for Error {
    fn class(&self) -> Class {
        match self {
            Self::Github(error) => error.class(),
            Self::Runner(error) => error.class(),
            Self::Preflight(error) => error.class(),
            Self::Libraries(error) => error.class(),
            Self::Transfer(error) => error.class(),
            Self::Net(error) => error.class(),
            Self::Host(error) => error.class(),
            Self::Settings(error) => error.class(),
            Self::Journal(error) => error.class(),
            Self::Archive(error) => error.class(),
            Self::Tree(error) => error.class(),
            Self::Instance(error) => error.class(),
            Self::Jobs(error) => error.class(),
            Self::Trust(error) => error.class(),
            Self::User(error) => error.class(),
            Self::Registration(error) => error.class(),
            Self::Adoption(error) => error.class(),
            Self::ConfigSh(error) => error.class(),
            Self::Receipt(error) => error.class(),
            Self::Service(error) => error.class(),
            Self::Listener(error) => error.class(),
            Self::UpgradeTakenBack { .. } => Class::Runner,
            // The network sets most clocks, some time after it is up.
            Self::ClockOff { .. } | Self::DeadlinePassed { .. } => Class::TempFail,
            // The process's main knows the signal's number and sets it here.
            Self::Stopped => Class::Signal(15),
            Self::Unwound { cause, .. } => cause.class(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Github(error) => error.hint(),
            Self::Runner(error) => error.hint(),
            Self::Preflight(error) => error.hint(),
            Self::Libraries(error) => error.hint(),
            Self::Transfer(error) => error.hint(),
            Self::Net(error) => error.hint(),
            Self::Host(error) => error.hint(),
            Self::Settings(error) => error.hint(),
            Self::Journal(error) => error.hint(),
            Self::Archive(error) => error.hint(),
            Self::Tree(error) => error.hint(),
            Self::Instance(error) => error.hint(),
            Self::Jobs(error) => error.hint(),
            Self::Trust(error) => error.hint(),
            Self::User(error) => error.hint(),
            Self::Registration(error) => error.hint(),
            Self::Adoption(error) => error.hint(),
            Self::ConfigSh(error) => error.hint(),
            Self::Receipt(error) => error.hint(),
            Self::Service(error) => error.hint(),
            Self::Listener(error) => error.hint(),
            Self::UpgradeTakenBack { to, .. } => Some(format!(
                "Find out why runner {to} does not work here; until then, `systemctl disable --now` of the upgrade's \
                 timer saves the attempts."
            )),
            Self::DeadlinePassed { .. } => {
                Some("Run the same command again, or pass a longer --deadline.".into())
            }
            Self::ClockOff { .. } => Some(
                "Set the clock, for instance with `timedatectl set-ntp true`, and run the same command again.".into(),
            ),
            Self::Stopped => None,
            Self::Unwound { cause, .. } => cause.hint(),
        }
    }

    fn situation(&self) -> &'static Situation {
        match self {
            Self::Github(error) => error.situation(),
            Self::Runner(error) => error.situation(),
            Self::Preflight(error) => error.situation(),
            Self::Libraries(error) => error.situation(),
            Self::Transfer(error) => error.situation(),
            Self::Net(error) => error.situation(),
            Self::Host(error) => error.situation(),
            Self::Settings(error) => error.situation(),
            Self::Journal(error) => error.situation(),
            Self::Archive(error) => error.situation(),
            Self::Tree(error) => error.situation(),
            Self::Instance(error) => error.situation(),
            Self::Jobs(error) => error.situation(),
            Self::Trust(error) => error.situation(),
            Self::User(error) => error.situation(),
            Self::Registration(error) => error.situation(),
            Self::Adoption(error) => error.situation(),
            Self::ConfigSh(error) => error.situation(),
            Self::Receipt(error) => error.situation(),
            Self::Service(error) => error.situation(),
            Self::Listener(error) => error.situation(),
            Self::UpgradeTakenBack { .. } => &situation::UPGRADE_FAILED,
            Self::ClockOff { .. } => &situation::CLOCK_OFF,
            Self::DeadlinePassed { .. } => &situation::DEADLINE,
            Self::Stopped => &situation::STOPPED,
            Self::Unwound { cause, .. } => cause.situation(),
        }
    }
}
