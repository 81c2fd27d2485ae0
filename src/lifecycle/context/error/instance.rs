//! Several runners of one configuration.

use crate::error::situation::{self, Situation};
use crate::error::{Class, Failure};
use std::path::PathBuf;

/// What can go wrong with them.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    #[error("the directory of instance {number}, {}, has a runner that was installed on its own", dir.display())]
    OfItsOwn { number: u32, dir: PathBuf },
    #[error("the directory of instance {number}, {}, has instance {other} of {}", dir.display(), first.display())]
    OfOthers { number: u32, dir: PathBuf, other: u32, first: PathBuf },
    #[error("instance {number} is installed in {}, but {} is configured", found.display(), wanted.display())]
    Elsewhere { number: u32, found: PathBuf, wanted: PathBuf },
    #[error("instances {one} and {other} would both be in {}", dir.display())]
    SameDir { one: u32, other: u32, dir: PathBuf },
    #[error("instances {one} and {other} would both be named {name}")]
    SameName { one: u32, other: u32, name: String },
    #[error("the runner in {} is instance {number} of {}", dir.display(), first.display())]
    NotAlone { dir: PathBuf, number: u32, first: PathBuf },
    #[error("the runner in {} has no instance {number}", first.display())]
    Missing { number: u32, first: PathBuf, known: Vec<u32> },
    #[error("the runner {name} (id {id}) in {} is still running a job, and stays", dir.display())]
    Busy { dir: PathBuf, name: String, id: u64 },
    #[error("the server has not confirmed which runner is {name} in {}", dir.display())]
    NotConfirmed { dir: PathBuf, name: String },
    #[error("the runner in {} is being removed", dir.display())]
    Leaving { dir: PathBuf },
}

impl Failure for InstanceError {
    fn class(&self) -> Class {
        match self {
            Self::OfItsOwn { .. }
            | Self::OfOthers { .. }
            | Self::Elsewhere { .. }
            | Self::SameDir { .. }
            | Self::SameName { .. }
            | Self::NotAlone { .. }
            | Self::NotConfirmed { .. } => Class::Config,
            Self::Missing { .. } => Class::Unavailable,
            Self::Busy { .. } | Self::Leaving { .. } => Class::TempFail,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::OfItsOwn { number, dir } => format!(
                "Remove it with `runup remove --dir {}`, or set another directory below [instance.{number}] in the \
                 configuration file.",
                dir.display()
            ),
            Self::OfOthers { number, .. } | Self::SameDir { other: number, .. } => {
                format!("Set another directory below [instance.{number}] in the configuration file.")
            }
            Self::SameName { other, .. } => {
                format!("Set another name below [instance.{other}] in the configuration file.")
            }
            Self::Elsewhere { number, .. } => {
                format!("Remove it with `runup remove --instance {number}`, then install again.")
            }
            Self::NotAlone { number, .. } => format!(
                "Omit --dir: `runup install` updates all instances. Settings for this one alone belong below \
                 [instance.{number}] in the configuration file."
            ),
            Self::Missing { known, .. } if known.is_empty() => {
                "It has none: `runup install --count N` creates them.".to_owned()
            }
            Self::Missing { known, .. } => {
                let known: Vec<String> = known.iter().map(ToString::to_string).collect();
                format!("It has the instances {}.", known.join(", "))
            }
            Self::Busy { .. } => {
                "Run the same command again, pass a longer --drain, or cancel the job.".to_owned()
            }
            Self::Leaving { .. } => {
                "A run with a lower --count removes it. Wait until it is done.".to_owned()
            }
            Self::NotConfirmed { .. } => {
                "Remove it with `runup remove --instance N`, which stops it first.".to_owned()
            }
        })
    }

    fn situation(&self) -> &'static Situation {
        match self {
            Self::OfItsOwn { .. }
            | Self::OfOthers { .. }
            | Self::Elsewhere { .. }
            | Self::SameDir { .. }
            | Self::SameName { .. } => &situation::INSTANCES_CONFLICT,
            Self::NotAlone { .. } => &situation::SEVERAL_RUNNERS,
            Self::Missing { .. } => &situation::NO_SUCH_INSTANCE,
            Self::Busy { .. } => &situation::RUNNER_BUSY,
            Self::Leaving { .. } => &situation::LOCKED,
            Self::NotConfirmed { .. } => &situation::REGISTRATION_CHANGED,
        }
    }
}
