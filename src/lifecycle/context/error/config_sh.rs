//! The runner's own `config.sh`.

use crate::error::situation::{self, Situation};
use crate::error::{Class, Failure};
use crate::runner::complaint::Complaint;
use std::path::PathBuf;
use std::time::Duration;

/// What can go wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigShError {
    #[error("`{command}` failed with {status}{}", cause.map(|known| format!(": {}", known.cause)).unwrap_or_default())]
    Failed {
        command: String,
        status: String,
        tail: String,
        cause: Option<&'static Complaint>,
        log: Option<PathBuf>,
    },
    #[error("`{command}` exited 0 but did not register a runner: {missing}")]
    Lied { command: String, missing: &'static str, tail: String, log: Option<PathBuf> },
    #[error("`{command}` did not finish within {} s and was stopped", after.as_secs())]
    Hung { command: String, after: Duration, tail: String },
}

impl ConfigShError {
    /// Whether the same command may succeed a moment later, because of what the server or the network did.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Failed { cause: Some(known), .. } if known.class == Class::TempFail)
    }

    /// Whether the last try of a registration met a runner of its name: of an earlier try whose answer was lost.
    pub(crate) fn is_conflict(&self) -> bool {
        self.reason().contains(": 409")
    }

    /// Whether it says that it has registered nothing.
    pub(crate) fn is_before_registering(&self) -> bool {
        matches!(self, Self::Failed { cause: Some(known), .. } if known.before_registering)
    }

    /// Whether another runner of its name was in the way.
    pub(crate) fn is_name_taken(&self) -> bool {
        matches!(self, Self::Failed { cause: Some(known), .. } if known.is_name_taken())
    }

    /// Whether it lacks a library or a program of the system's.
    pub(crate) fn is_about_libraries(&self) -> bool {
        matches!(self, Self::Failed { cause: Some(known), .. } if known.is_about_libraries())
    }

    /// Whether the server did not accept the token that it was passed.
    pub(crate) fn is_about_the_token(&self) -> bool {
        matches!(self, Self::Failed { cause: Some(known), .. } if known.is_about_the_token())
    }

    /// The same failure, with its log.
    #[must_use]
    pub(crate) fn with_log(mut self, kept: Option<PathBuf>) -> Self {
        if let Self::Failed { log, .. } | Self::Lied { log, .. } = &mut self {
            *log = kept;
        }
        self
    }

    /// What the script printed last, which is its reason.
    pub(crate) fn reason(&self) -> String {
        let (Self::Failed { tail, .. } | Self::Lied { tail, .. } | Self::Hung { tail, .. }) = self;
        let last = tail.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
        last.trim_end_matches('.').chars().take(200).collect()
    }
}

impl Failure for ConfigShError {
    fn class(&self) -> Class {
        match self {
            Self::Failed { cause, .. } => cause.map_or(Class::Runner, |known| known.class),
            Self::Lied { .. } => Class::Runner,
            Self::Hung { .. } => Class::TempFail,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Failed { cause: Some(known), .. } => known.fix.into(),
            Self::Failed { log: Some(log), .. } | Self::Lied { log: Some(log), .. } => {
                format!("See its output above, and its log, {}.", log.display())
            }
            Self::Failed { .. } | Self::Lied { .. } => "See its output above.".into(),
            Self::Hung { .. } => {
                "Check that this machine reaches GitHub, and run the same command again.".into()
            }
        })
    }

    fn situation(&self) -> &'static Situation {
        match self {
            Self::Failed { cause, .. } => cause.map_or(&situation::CONFIG_SH_FAILED, |known| known.situation),
            Self::Lied { .. } => &situation::CONFIG_SH_FAILED,
            Self::Hung { .. } => &situation::CONFIG_SH_HUNG,
        }
    }
}
