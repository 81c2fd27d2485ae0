//! What can be wrong with a runner, its name and its files.

use super::version::RunnerVersion;
use crate::error::{Class, Failure};
use crate::host;
use std::path::PathBuf;

/// A failure of this room.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not three numbers.
    #[error("{given:?} is no runner version")]
    BadVersion {
        /// What was given.
        given: String,
    },
    /// A name that GitHub or its runner would refuse or ignore.
    #[error("the runner name {given:?} {why}")]
    BadName {
        /// What was given.
        given: String,
        /// What is wrong with it.
        why: String,
    },
    /// A label that GitHub or its runner would refuse or ignore.
    #[error("the label {given:?} {why}")]
    BadLabel {
        /// What was given.
        given: String,
        /// What is wrong with it.
        why: String,
    },
    /// A template whose braces do not match.
    #[error("the name template {template:?} has a `{brace}` without its counterpart")]
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
    #[error("cannot fill in {{{placeholder}}} of the name template {template:?}: this machine has none")]
    NothingToFillIn {
        /// The template.
        template: String,
        /// The word between the braces.
        placeholder: &'static str,
    },
    /// The template makes a name that cannot be.
    #[error("cannot name the runner by the template {template:?}")]
    BadRender {
        /// The template.
        template: String,
        /// What is wrong with the name.
        #[source]
        source: Box<Error>,
    },
    /// No archive for this platform.
    #[error("GitHub offers no runner for {wanted}, {}", what_is_offered(.offered))]
    NotOffered {
        /// The platform.
        wanted: String,
        /// What is on offer: platform and version.
        offered: Vec<String>,
    },
    /// No archive of this version for this platform.
    #[error("GitHub offers no runner {wanted} for {platform}, {}", what_is_offered(.offered))]
    VersionNotOffered {
        /// The version.
        wanted: RunnerVersion,
        /// The platform.
        platform: String,
        /// The versions on offer for it.
        offered: Vec<String>,
    },
    /// A directory of the runner's tree that is a link to somewhere else than the runner's own update would make.
    #[error("refused to follow {}, which leads to {}", path.display(), target.display())]
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
    if offered.is_empty() { "nor anything else".to_owned() } else { format!("only {}", offered.join(", ")) }
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
            Self::BadVersion { .. } => Some("A version is three numbers, like 2.336.0.".to_owned()),
            Self::LooseBrace { .. } => Some("Write {{ and }} for braces that are meant as such.".to_owned()),
            Self::UnknownPlaceholder { .. } => {
                Some(format!("Known are {}.", super::name::placeholders().join(", ")))
            }
            Self::NothingToFillIn { .. } => Some("Choose another --name.".to_owned()),
            Self::BadRender { source, .. } => {
                source.hint().or_else(|| Some("Choose another --name.".to_owned()))
            }
            Self::NotOffered { .. } => {
                Some("Choose among them by --os and --arch, if this machine can run it.".to_owned())
            }
            Self::VersionNotOffered { .. } => Some(
                "Choose one of them by --runner-version, or give the archive itself by --archive.".to_owned(),
            ),
            Self::LinkedOut { .. } => Some(
                "Somebody changed the runner's directory. Look at it, and place the runner afresh."
                    .to_owned(),
            ),
            Self::Host(error) => error.hint(),
            Self::BadName { .. } | Self::BadLabel { .. } | Self::File(_) => None,
        }
    }
}
