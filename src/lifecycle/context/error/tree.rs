//! The directory, and the runner in it.

use crate::error::situation::{self, Situation};
use crate::error::{Class, Failure};
use crate::lifecycle::context::error::words::{choose, listed, remove, shortened};
use crate::lifecycle::context::finding::Finding;
use crate::runner::RunnerVersion;
use std::path::PathBuf;

/// What can go wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    #[error("{} exists and was not created by runup: {what}", dir.display())]
    NotOurs { dir: PathBuf, what: String },
    #[error("the runner in {} is incomplete: {}", dir.display(), missing.join(", "))]
    TreeIncomplete { dir: PathBuf, missing: Vec<String> },
    #[error("{} contains runner {found}, but --runner-version requests {wanted}", dir.display())]
    OtherVersion { dir: PathBuf, found: String, wanted: String },
    #[error("runner {here} in {} is too old to register, and {newest} is available: {why}", dir.display())]
    TooOld { dir: PathBuf, here: RunnerVersion, newest: RunnerVersion, why: String, chosen: bool },
    #[error("the runner in {} cannot run here: {what}", dir.display())]
    OtherPlatform { dir: PathBuf, what: String, registered: bool },
    #[error("the runner in {} belongs to the user {found}, but {wanted} was requested", dir.display())]
    OtherUser { dir: PathBuf, found: String, wanted: String },
    #[error("there is no runner in {}, and no journal of one", dir.display())]
    NothingThere { dir: PathBuf },
    #[error("there is no runner in {}, but in {}", dir.display(), listed(dirs))]
    Elsewhere { dir: PathBuf, dirs: Vec<PathBuf>, command: &'static str },
    #[error("this machine has {} runners: {}", dirs.len(), listed(dirs))]
    Several { dirs: Vec<PathBuf>, command: &'static str },
    #[error("{} contains more than a runner: {}", dir.display(), shortened(others))]
    HoldsOthers { dir: PathBuf, others: Vec<String> },
    #[error(
        "something is mounted in {}, and deleting the directory would empty it: {}",
        dir.display(),
        listed(mounts)
    )]
    MountedInside { dir: PathBuf, mounts: Vec<PathBuf> },
    #[error(
        "the runner in {} cannot be exchanged for another one, because {} is a mount point",
        dir.display(),
        mount.display()
    )]
    NotExchanged { dir: PathBuf, mount: PathBuf },
    #[error(
        "the image is not sealed: it must not contain {}",
        found.iter().map(|one| one.what.as_str()).collect::<Vec<_>>().join(", ")
    )]
    NotSealed { found: Vec<Finding> },
    #[error("there is no baked runner in {}: {what}", dir.display())]
    NotBaked { dir: PathBuf, what: String },
}

impl Failure for TreeError {
    fn class(&self) -> Class {
        match self {
            Self::NotBaked { .. } => Class::Unavailable,
            Self::NotOurs { .. }
            | Self::TreeIncomplete { .. }
            | Self::OtherVersion { .. }
            | Self::OtherPlatform { .. }
            | Self::OtherUser { .. }
            | Self::NothingThere { .. }
            | Self::Elsewhere { .. }
            | Self::Several { .. }
            | Self::HoldsOthers { .. }
            | Self::MountedInside { .. }
            | Self::NotExchanged { .. }
            | Self::NotSealed { .. } => Class::Config,
            Self::TooOld { .. } => Class::Deprecated,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotOurs { dir, .. } => format!(
                "Choose another --dir, or move the directory away. A runner that is registered \
                 there is taken over with --adopt, or removed with `{} --url URL`.",
                remove(dir)
            ),
            Self::TreeIncomplete { dir, .. } => format!(
                "Run `runup install` again once no listener runs there: it puts a complete runner \
                 in its place. What comes back incomplete again and again is better removed with \
                 `{}` and installed again.",
                remove(dir)
            ),
            Self::OtherVersion { dir, .. } => {
                format!("Run `{}` first, or choose another --dir for a second runner.", remove(dir))
            }
            Self::OtherUser { dir, found, .. } => format!(
                "Pass --user {found}, or run `{}` first, or choose another --dir for a second \
                 runner.",
                remove(dir)
            ),
            Self::TooOld { chosen: true, .. } => {
                "Omit --runner-version and --archive, so that the newest version is installed, or \
                 bake the image again."
                    .into()
            }
            Self::TooOld { .. } => {
                "Bake the image again, or omit --no-refresh, so that the newest version is \
                 installed."
                    .into()
            }
            Self::OtherPlatform { dir, registered: true, .. } => {
                format!(
                    "Run `{}` where it is registered, or with --local here; then install again.",
                    remove(dir)
                )
            }
            Self::OtherPlatform { .. } => {
                "Bake an image for this architecture, or omit --no-refresh, so that the right one \
                 is installed."
                    .into()
            }
            Self::Elsewhere { dirs, command, .. } | Self::Several { dirs, command } => choose(dirs, command),
            Self::HoldsOthers { .. } => {
                "runup did not install this runner, and would delete the whole directory. Move the \
                 rest elsewhere first."
                    .into()
            }
            Self::MountedInside { .. } => "Unmount it, then run the same command again.".into(),
            Self::NotExchanged { dir, .. } => format!(
                "Run `{}`, then install it again: that places a new runner into the directory.",
                remove(dir)
            ),
            Self::NothingThere { .. } => "If the runner is elsewhere, pass its directory with --dir.".into(),
            Self::NotSealed { found } => {
                let fixes: Vec<String> =
                    found.iter().map(|one| format!("{}: {}", one.what, one.fix)).collect();
                format!("{}.", fixes.join("; "))
            }
            Self::NotBaked { .. } => "Run `runup bake`, or pass the directory with --dir and --root.".into(),
        })
    }

    fn situation(&self) -> &'static Situation {
        match self {
            Self::NotOurs { .. } | Self::HoldsOthers { .. } => &situation::DIRECTORY_TAKEN,
            Self::TreeIncomplete { .. } => &situation::RUNNER_INCOMPLETE,
            Self::OtherVersion { .. } => &situation::OTHER_VERSION,
            Self::TooOld { .. } => &situation::VERSION_DEPRECATED,
            Self::OtherPlatform { .. } => &situation::OTHER_PLATFORM,
            Self::OtherUser { .. } => &situation::USER_MISMATCH,
            Self::NothingThere { .. } | Self::Elsewhere { .. } | Self::NotBaked { .. } => {
                &situation::NO_RUNNER_HERE
            }
            Self::Several { .. } => &situation::SEVERAL_RUNNERS,
            Self::MountedInside { .. } | Self::NotExchanged { .. } => &situation::MOUNT_INSIDE,
            Self::NotSealed { .. } => &situation::IMAGE_NOT_SEALED,
        }
    }
}
