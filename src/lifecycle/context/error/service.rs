//! The service and its unit.

use crate::error::{Class, Failure};
use crate::lifecycle::context::error::words::remove;
use crate::runner::unit::for_shell;
use jiff::Timestamp;
use std::path::PathBuf;
use std::time::Duration;

/// What can go wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error("the service {unit} runs the runner in {}, but {asked} was requested", dir.display())]
    ServiceThere { dir: PathBuf, unit: String, asked: &'static str },
    #[error("a service is installed for the runner in {}: {unit}", dir.display())]
    ServiceInstalled { dir: PathBuf, unit: String },
    #[error("the unit {unit} exists, and runup did not write it")]
    UnitNotOurs { unit: String },
    #[error("the unit {unit} is masked")]
    UnitMasked { unit: String },
    #[error("the paths {} and {} cannot be written to a unit file: one contains a space, a quote, $ or \\", dir.display(), program.display())]
    UnitPath { dir: PathBuf, program: PathBuf },
    #[error("--service systemd requires a machine that runs systemd")]
    NoSystemd,
    #[error("the service {unit} does not stay up ({state})")]
    ServiceFailed { unit: String, state: String, tail: String },
    #[error("the service {unit} runs, but the server did not report {name} as online within {} s", after.as_secs())]
    NotOnline { unit: String, name: String, after: Duration, tail: String },
    #[error(
        "the service {unit} is started, and the server's rate limit is used up until {until}: its runner comes online only after that"
    )]
    LimitReached { unit: String, until: Timestamp },
}

impl Failure for ServiceError {
    fn class(&self) -> Class {
        match self {
            Self::ServiceThere { .. }
            | Self::ServiceInstalled { .. }
            | Self::UnitNotOurs { .. }
            | Self::UnitMasked { .. }
            | Self::UnitPath { .. }
            | Self::NoSystemd => Class::Config,
            Self::ServiceFailed { .. } | Self::NotOnline { .. } => Class::Runner,
            Self::LimitReached { .. } => Class::TempFail,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::ServiceThere { dir, .. } => {
                format!(
                    "Let the service run it, or run `{}` first, which also removes the service.",
                    remove(dir)
                )
            }
            // Not `svc.sh uninstall`: root would run a script that jobs can write.
            Self::ServiceInstalled { unit, .. } => format!(
                "Run `systemctl disable --now {unit}`, delete /etc/systemd/system/{unit}, then try \
                 again."
            ),
            Self::UnitNotOurs { unit } => {
                format!(
                    "Choose another --dir, whose unit has another name, or remove {unit}, or pass \
                 --service none."
                )
            }
            Self::UnitMasked { unit } => format!("Run: systemctl unmask {}", for_shell(unit)),
            Self::UnitPath { .. } => "Choose a plain --dir, or pass --service none.".into(),
            Self::NoSystemd => "Pass --service none, and start the runner yourself.".into(),
            Self::LimitReached { .. } => {
                "The service stays, and needs no other command; `runup status` shows when it is online."
                    .into()
            }
            Self::ServiceFailed { unit, .. } | Self::NotOnline { unit, .. } => {
                format!("See `journalctl -u {}` and the newest file in _diag.", for_shell(unit))
            }
        })
    }
}
