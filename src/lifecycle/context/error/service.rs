//! The service and its unit.

use crate::error::situation::{self, Situation};
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
    #[error("the service {unit}, which runup did not set up, runs the runner in {}", dir.display())]
    ServiceBeside { dir: PathBuf, unit: String },
    #[error("several services run the runner in {}: {}", dir.display(), units.join(", "))]
    SeveralServices { dir: PathBuf, units: Vec<String> },
    #[error("a listener runs in {}, and no service of this machine has started it", dir.display())]
    ListenerByHand { dir: PathBuf },
    #[error("the runner in {} was not idle within {} s, so it was not adopted", dir.display(), after.as_secs())]
    NotIdle { dir: PathBuf, after: Duration },
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
            | Self::ServiceBeside { .. }
            | Self::SeveralServices { .. }
            | Self::ListenerByHand { .. }
            | Self::UnitNotOurs { .. }
            | Self::UnitMasked { .. }
            | Self::UnitPath { .. }
            | Self::NoSystemd => Class::Config,
            Self::NotIdle { .. } | Self::LimitReached { .. } => Class::TempFail,
            Self::ServiceFailed { .. } | Self::NotOnline { .. } => Class::Runner,
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
                "Run the same command as root; or, as root, run `systemctl disable --now {unit}` and \
                 delete /etc/systemd/system/{unit}, then try again."
            ),
            Self::ServiceBeside { .. } => {
                "Add --adopt: it takes the runner over, and deletes that service.".into()
            }
            Self::SeveralServices { units, .. } => format!(
                "Keep the one that is right; for each other one, run `systemctl disable --now {}`, and \
                 delete its file in /etc/systemd/system.",
                units.first().map_or("UNIT", String::as_str)
            ),
            Self::ListenerByHand { .. } => {
                "Stop it (Ctrl-C in the terminal of run.sh), then run the same command again.".into()
            }
            Self::NotIdle { .. } => "Run the same command again later, or with a longer --drain.".into(),
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

    fn situation(&self) -> &'static Situation {
        match self {
            Self::ServiceThere { .. }
            | Self::ServiceInstalled { .. }
            | Self::ServiceBeside { .. }
            | Self::SeveralServices { .. }
            | Self::ListenerByHand { .. }
            | Self::UnitNotOurs { .. }
            | Self::UnitMasked { .. } => &situation::SERVICE_CONFLICT,
            Self::NotIdle { .. } => &situation::NOT_IDLE,
            Self::UnitPath { .. } => &situation::UNIT_PATH,
            Self::NoSystemd => &situation::NO_SYSTEMD,
            Self::ServiceFailed { .. } => &situation::SERVICE_FAILED,
            Self::NotOnline { .. } => &situation::NOT_ONLINE,
            Self::LimitReached { .. } => &situation::RATE_LIMITED,
        }
    }
}
