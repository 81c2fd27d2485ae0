//! A runner that was set up by hand, and is to be taken over.

use crate::error::situation::{self, Situation};
use crate::error::{Class, Failure};
use crate::lifecycle::context::error::words::remove;
use std::path::{Path, PathBuf};

/// What can go wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum AdoptionError {
    #[error("--adopt: there is no registered runner in {}{}", dir.display(), why.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
    NotRegistered { dir: PathBuf, why: Option<String> },
    #[error("--adopt: the runner in {} is registered at {found}, and --url is {given}", dir.display())]
    OtherUrl { dir: PathBuf, given: String, found: String },
    #[error("--adopt: the runner in {} is named {found}, and --name is {wanted}", dir.display())]
    OtherName { dir: PathBuf, found: String, wanted: String },
    #[error("--adopt: the files in {} say that the work directory is {found}, and --work is {wanted}", dir.display())]
    OtherWork { dir: PathBuf, found: String, wanted: String },
    #[error("--adopt: the server does not know the runner in {}: {name} (id {id})", dir.display())]
    Unknown { dir: PathBuf, name: String, id: u64 },
    #[error("--adopt: the server says that the id {id}, which the files in {} name, is the runner {named}, and not {name}", dir.display())]
    Forged { dir: PathBuf, name: String, id: u64, named: String },
    #[error("--adopt: the runner {name} (id {id}) is still online although its service in {} is stopped: another machine runs it", dir.display())]
    StillOnline { dir: PathBuf, name: String, id: u64 },
    #[error("--adopt: the runner in {} takes one job only", dir.display())]
    Ephemeral { dir: PathBuf },
    #[error("--adopt: the runner in {} runs as root, so its jobs could have changed this whole machine", dir.display())]
    RunsAsRoot { dir: PathBuf },
    #[error("--adopt: {user}, the user of the runner in {}, does not exist", dir.display())]
    NoUser { dir: PathBuf, user: String },
    #[error("--adopt: {owner} can write to {}, and so swap the runner in {}", directory.display(), dir.display())]
    NotForRoot { dir: PathBuf, directory: PathBuf, owner: String },
}

impl Failure for AdoptionError {
    fn class(&self) -> Class {
        Class::Config
    }

    fn hint(&self) -> Option<String> {
        let instead =
            |dir: &Path| format!("Remove it with `{} --url URL`, then install a new one.", remove(dir));
        Some(match self {
            Self::NotRegistered { .. } => {
                "Pass the directory of the runner with --dir. Without --adopt, a new one is installed.".into()
            }
            Self::OtherUrl { .. } => {
                "Pass the --url that the runner was registered for, if you know it: jobs can write its files."
                    .into()
            }
            Self::OtherName { found, .. } => format!("Pass --name {found}, if that is the runner to adopt."),
            Self::OtherWork { found, .. } => {
                format!("Pass --work {found}, if that is right: its jobs can write its files.")
            }
            Self::Unknown { dir, .. }
            | Self::Ephemeral { dir }
            | Self::RunsAsRoot { dir }
            | Self::NoUser { dir, .. } => instead(dir),
            Self::Forged { dir, .. } | Self::StillOnline { dir, .. } => format!(
                "A job may have changed its files. Find the runner with `runup runners list`; clean up this machine with \
                 `{} --local`.",
                remove(dir)
            ),
            Self::NotForRoot { dir, .. } => format!(
                "Move it to /opt: run `{} --url URL` as the user of the runner, then `runup install` as root, with the \
                 same --name and --labels.",
                remove(dir)
            ),
        })
    }

    fn situation(&self) -> &'static Situation {
        match self {
            Self::NotRegistered { .. }
            | Self::OtherUrl { .. }
            | Self::OtherName { .. }
            | Self::OtherWork { .. }
            | Self::Unknown { .. }
            | Self::Forged { .. }
            | Self::StillOnline { .. }
            | Self::Ephemeral { .. }
            | Self::RunsAsRoot { .. }
            | Self::NoUser { .. }
            | Self::NotForRoot { .. } => &situation::CANNOT_ADOPT,
        }
    }
}
