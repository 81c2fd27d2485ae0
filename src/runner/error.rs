//! The errors of this module.

use super::version::RunnerVersion;
use crate::error::situation::{self, Situation};
use crate::error::{Class, Failure};
use crate::host;
use std::path::PathBuf;

/// A problem with a runner, its name or its files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not three numbers.
    #[error("{given:?} is not a runner version")]
    BadVersion {
        /// What was given.
        given: String,
    },
    /// A name that GitHub or its runner refuses or ignores.
    #[error("the runner name {given:?} {why}")]
    BadName {
        /// What was given.
        given: String,
        /// What is wrong with it.
        why: String,
    },
    /// A label that GitHub or its runner refuses or ignores.
    #[error("the label {given:?} {why}")]
    BadLabel {
        /// What was given.
        given: String,
        /// What is wrong with it.
        why: String,
    },
    /// A template whose braces do not match.
    #[error("the name template {template:?} has an unmatched `{brace}`")]
    LooseBrace {
        /// The template.
        template: String,
        /// The brace.
        brace: char,
    },
    /// A template with a placeholder that does not exist.
    #[error("the name template {template:?} has the unknown placeholder {{{placeholder}}}")]
    UnknownPlaceholder {
        /// The template.
        template: String,
        /// The word between the braces.
        placeholder: String,
    },
    /// A template that needs what this machine does not have.
    #[error("{{{placeholder}}} in the name template {template:?} cannot be filled in: it is not known here")]
    NothingToFillIn {
        /// The template.
        template: String,
        /// The word between the braces.
        placeholder: &'static str,
    },
    /// The template results in an invalid name.
    #[error("the name template {template:?} results in an invalid name")]
    BadRender {
        /// The template.
        template: String,
        /// What is wrong with the name.
        #[source]
        source: Box<Error>,
    },
    /// No archive for this platform.
    #[error("GitHub offers no runner for {platform}, {}", what_is_offered(.offered))]
    NotOffered {
        /// The platform.
        platform: String,
        /// What GitHub offers: platforms and versions.
        offered: Vec<String>,
    },
    /// No archive of this version for this platform.
    #[error("GitHub offers no runner {requested} for {platform}, {}", what_is_offered(.offered))]
    VersionNotOffered {
        /// The version.
        requested: RunnerVersion,
        /// The platform.
        platform: String,
        /// The versions that GitHub offers for it.
        offered: Vec<String>,
    },
    /// A directory of the runner's tree that is a link to another target than that of the runner's own update.
    #[error("refused to follow the link {}, which leads to {}", path.display(), target.display())]
    LinkedOut {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// The machine.
    #[error(transparent)]
    Host(#[from] host::Error),
    /// A file operation; the source names its path.
    #[error(transparent)]
    File(#[from] std::io::Error),
}

fn what_is_offered(offered: &[String]) -> String {
    if offered.is_empty() {
        "or for any other platform".to_owned()
    } else {
        format!("only {}", offered.join(", "))
    }
}

impl Failure for Error {
    fn class(&self) -> Class {
        match self {
            Self::BadVersion { .. }
            | Self::BadName { .. }
            | Self::BadLabel { .. }
            | Self::LooseBrace { .. }
            | Self::UnknownPlaceholder { .. } => Class::Usage,
            Self::NothingToFillIn { .. } | Self::BadRender { .. } | Self::LinkedOut { .. } => Class::Config,
            Self::NotOffered { .. } | Self::VersionNotOffered { .. } => Class::Unavailable,
            Self::Host(error) => error.class(),
            Self::File(error) => Class::of_io(error, Class::Io),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::BadVersion { .. } => Some("A version consists of three numbers, like 2.336.0.".to_owned()),
            Self::LooseBrace { .. } => Some("Write {{ and }} for literal braces.".to_owned()),
            Self::UnknownPlaceholder { .. } => {
                Some(format!("Available placeholders: {}.", super::name::placeholders().join(", ")))
            }
            Self::NothingToFillIn { .. } => Some("Pass another --name.".to_owned()),
            Self::BadRender { source, .. } => {
                source.hint().or_else(|| Some("Pass another --name.".to_owned()))
            }
            Self::NotOffered { .. } => {
                Some("Select one of them with --os and --arch, if this machine can run it.".to_owned())
            }
            Self::VersionNotOffered { .. } => Some(
                "Pass one of them with --runner-version, or the archive itself with --archive.".to_owned(),
            ),
            Self::LinkedOut { .. } => Some(
                "The runner's directory was changed. Inspect it, and install the runner again.".to_owned(),
            ),
            Self::Host(error) => error.hint(),
            Self::BadName { .. } | Self::BadLabel { .. } | Self::File(_) => None,
        }
    }

    fn situation(&self) -> &'static Situation {
        match self {
            Self::BadVersion { .. }
            | Self::BadName { .. }
            | Self::BadLabel { .. }
            | Self::LooseBrace { .. }
            | Self::UnknownPlaceholder { .. }
            | Self::NothingToFillIn { .. }
            | Self::BadRender { .. } => &situation::NAME_INVALID,
            Self::NotOffered { .. } | Self::VersionNotOffered { .. } => &situation::NOT_OFFERED,
            Self::Host(error) => error.situation(),
            Self::File(error) => situation::of_io(error, &situation::FILE_FAILED),
            Self::LinkedOut { .. } => &situation::FILE_UNEXPECTED,
        }
    }
}
