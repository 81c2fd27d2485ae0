//! Which runner application, and whether its archive can be trusted.

use crate::error::situation::{self, Situation};
use crate::error::{Class, Failure};
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::error::words::shortened;
use std::path::PathBuf;

/// What can go wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("{filename} does not contain a complete runner: {}", lacks.join(", "))]
    NoRunnerInside { filename: String, lacks: Vec<String> },
    #[error("{filename} is not a clean runner archive: it contains {}", shortened(files))]
    PersonalInside { filename: String, files: Vec<String> },
    #[error("no sha256 is known for {filename}: the list of runner applications has none")]
    ChecksumAbsent { filename: String },
    #[error("the list of runner applications has an empty sha256 for {filename}")]
    ChecksumEmpty { filename: String },
    #[error("the list of runner applications has an invalid sha256 for {filename}: {found:?}")]
    ChecksumMalformed { filename: String, found: String },
    #[error("the sources disagree on the sha256 of {filename}: {}", said(claims))]
    SourcesDisagree { filename: String, claims: Vec<(String, String)> },
    #[error("the sha256 of {filename} from {known} was compared with nothing: no other source tells it")]
    NothingToCompare { filename: String, known: String },
    #[error(
        "GitHub's limit for requests without a credential is used up: 60 an hour for all machines behind one address"
    )]
    ReleaseLimited { source: Box<Error> },
    #[error("github.com/actions/runner has no release {version}")]
    NotReleased { version: String },
    #[error("the format of {filename} is unknown: its name ends in neither .tar.gz nor .zip")]
    FormUnknown { filename: String },
    #[error("--archive {archive} needs --sha256")]
    ArchiveWithoutDigest { archive: String },
    #[error("--archive {archive} is neither a file nor an http(s) URL")]
    ArchiveUnclear { archive: String },
    #[error("the archive file {} does not exist", path.display())]
    ArchiveMissing { path: PathBuf },
    #[error("there is no runner in {}, and no archive or token to get one with", dir.display())]
    NothingToPlace { dir: PathBuf },
}

/// Who says what.
fn said(claims: &[(String, String)]) -> String {
    let one = |(source, digest): &(String, String)| format!("{source} says {digest}");
    claims.iter().map(one).collect::<Vec<_>>().join(", ")
}

impl Failure for ArchiveError {
    fn class(&self) -> Class {
        match self {
            Self::ChecksumAbsent { .. }
            | Self::ChecksumEmpty { .. }
            | Self::ChecksumMalformed { .. }
            | Self::SourcesDisagree { .. }
            | Self::NothingToCompare { .. }
            | Self::FormUnknown { .. }
            | Self::NoRunnerInside { .. }
            | Self::PersonalInside { .. } => Class::Data,
            Self::ArchiveUnclear { .. } | Self::ArchiveWithoutDigest { .. } | Self::NothingToPlace { .. } => {
                Class::Usage
            }
            Self::ArchiveMissing { .. } => Class::NoInput,
            Self::ReleaseLimited { .. } => Class::TempFail,
            Self::NotReleased { .. } => Class::Unavailable,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoRunnerInside { .. } => {
                "Use an archive from the list of runner applications (`runup downloads`).".into()
            }
            Self::PersonalInside { .. } => {
                "It was packed from the directory of a registered runner, whose identity every \
                 copy would share. Take the archive from the list of runner applications (`runup \
                 downloads`)."
                    .into()
            }
            Self::ArchiveWithoutDigest { .. }
            | Self::ChecksumAbsent { .. }
            | Self::ChecksumEmpty { .. }
            | Self::ChecksumMalformed { .. } => {
                "Pass the sha256 from the release notes with --sha256, or, at your own risk, \
                 --accept-unverified."
                    .into()
            }
            Self::SourcesDisagree { .. } => {
                "One of them is wrong. Check the release notes of that version before you continue.".into()
            }
            Self::NothingToCompare { .. } => {
                "Check the version (--runner-version, or runner-version in the configuration file), or pass a --mirror \
                 with a SHA256SUMS that has it."
                    .into()
            }
            Self::ReleaseLimited { .. } => {
                "Use a mirror with --mirror, --runner-version and --sha256, or --archive with --sha256, or \
                 a token for the list (--token-file); or run the same command again later."
                    .into()
            }
            Self::NotReleased { .. } => {
                "See https://github.com/actions/runner/releases for the versions that there are.".into()
            }
            Self::NothingToPlace { .. } => {
                "Bake the runner into the image, or pass --archive with --sha256, or --url with a \
                 token."
                    .into()
            }
            Self::FormUnknown { .. } | Self::ArchiveUnclear { .. } | Self::ArchiveMissing { .. } => {
                return None;
            }
        })
    }

    fn situation(&self) -> &'static Situation {
        match self {
            Self::NoRunnerInside { .. } | Self::PersonalInside { .. } => &situation::ARCHIVE_REFUSED,
            Self::ChecksumAbsent { .. }
            | Self::ChecksumEmpty { .. }
            | Self::ChecksumMalformed { .. }
            | Self::ArchiveWithoutDigest { .. } => &situation::ARCHIVE_UNVERIFIED,
            Self::SourcesDisagree { .. } => &situation::DIGESTS_DISAGREE,
            Self::NothingToCompare { .. } => &situation::NOTHING_TO_COMPARE,
            Self::FormUnknown { .. } | Self::ArchiveUnclear { .. } => &situation::ARCHIVE_OPTION,
            Self::ArchiveMissing { .. } => &situation::ARCHIVE_MISSING,
            Self::ReleaseLimited { .. } => &situation::RELEASE_LIMITED,
            Self::NotReleased { .. } => &situation::NOT_OFFERED,
            Self::NothingToPlace { .. } => &situation::NOTHING_TO_INSTALL,
        }
    }
}
