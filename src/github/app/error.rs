//! Why a GitHub App cannot be used as a credential.

use crate::error::situation::{self, Situation};
use crate::error::{Class, Failure, chain};
use crate::github::error::{Reply, by_hand};
use crate::github::shell::CommandKind;

/// One situation each.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The file with the key cannot be used.
    #[error("{}", chain(&**.0))]
    KeyUnreadable(Box<dyn Failure>),
    /// The key cannot sign.
    #[error("the key of the GitHub App from {place} {why}")]
    Key {
        /// A path or a command.
        place: String,
        /// What is wrong with it, without any of it.
        why: &'static str,
    },
    /// The sign command printed something else.
    #[error("the {} `{command}` printed {bytes} bytes, which are not an RSA signature", CommandKind::AppSign)]
    Signature {
        /// The command.
        command: String,
        /// How many.
        bytes: usize,
    },
    /// The URL is that of an enterprise.
    #[error("a GitHub App cannot be used for the enterprise {name}")]
    Enterprise {
        /// Its name.
        name: String,
    },
    /// The server does not believe that it is this App.
    #[error("the server did not accept GitHub App {id}: {reply}")]
    Refused {
        /// Its id.
        id: String,
        /// The answer.
        reply: Box<Reply>,
        /// Whether a command signed.
        signed_elsewhere: bool,
    },
    /// There is no installation for the scope.
    #[error("GitHub App {id} is not installed in the {scope}: {reply}")]
    NotInstalled {
        /// The App's id.
        id: String,
        /// The scope.
        scope: String,
        /// The answer.
        reply: Box<Reply>,
    },
    /// `--app-installation-id` is wrong.
    #[error("GitHub App {id} has no installation {installation}: {reply}")]
    NoInstallation {
        /// The App's id.
        id: String,
        /// The installation's.
        installation: u64,
        /// The answer.
        reply: Box<Reply>,
    },
    /// An owner suspended the installation.
    #[error("GitHub App {id} is suspended in the {scope}")]
    Suspended {
        /// The App's id.
        id: String,
        /// The scope.
        scope: String,
    },
    /// The installation lacks the permission, or has no access to the repository.
    #[error("GitHub App {id} may not manage the runners of the {scope}{}", reply.as_ref().map(|reply| format!(": {reply}")).unwrap_or_default())]
    NotPermitted {
        /// The App's id.
        id: String,
        /// The scope.
        scope: String,
        /// The permission, as GitHub's pages show it.
        needed: &'static str,
        /// The answer; `None` if the look-up of the installation told it.
        reply: Option<Box<Reply>>,
    },
}

impl AppError {
    pub(super) fn key(place: &str, why: &'static str) -> Self {
        Self::Key { place: place.to_owned(), why }
    }
}

impl Failure for AppError {
    fn class(&self) -> Class {
        match self {
            Self::KeyUnreadable(error) => error.class(),
            Self::Enterprise { .. } => Class::Usage,
            Self::Key { .. } | Self::Signature { .. } => Class::Config,
            Self::Refused { .. }
            | Self::NotInstalled { .. }
            | Self::NoInstallation { .. }
            | Self::Suspended { .. }
            | Self::NotPermitted { .. } => Class::NoPerm,
        }
    }

    fn situation(&self) -> &'static Situation {
        match self {
            Self::KeyUnreadable(error) => error.situation(),
            Self::Key { .. } => &situation::APP_KEY,
            Self::Signature { .. } => &situation::APP_SIGNATURE,
            Self::Enterprise { .. } => &situation::APP_ENTERPRISE,
            Self::Refused { .. } => &situation::APP_REFUSED,
            Self::NotInstalled { .. } | Self::NoInstallation { .. } => &situation::APP_NOT_INSTALLED,
            Self::Suspended { .. } => &situation::APP_SUSPENDED,
            Self::NotPermitted { .. } => &situation::APP_NOT_PERMITTED,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::KeyUnreadable(error) => return error.hint(),
            Self::Key { .. } => "Use the .pem file that GitHub created under \"Private keys\" in the settings of the App, \
                                 as it is."
                .to_owned(),
            Self::Signature { .. } => by_hand(CommandKind::AppSign),
            Self::Enterprise { .. } => "GitHub's API for enterprises takes no App: use a classic token with the scope \
                                        manage_runners:enterprise, or install the runner in an organization."
                .to_owned(),
            Self::Refused { signed_elsewhere: true, .. } => format!(
                "Check --app-id, that the key of --app-sign-command is the App's, and what it signs. {}",
                by_hand(CommandKind::AppSign)
            ),
            Self::Refused { .. } => {
                "Check --app-id, and that the key is one of this App's on this server: \"Private keys\" in the settings of \
                 the App shows their fingerprints."
                    .to_owned()
            }
            Self::NotInstalled { scope, .. } => format!(
                "An owner must install the App there, from \"Install App\" in its settings; for \"Only select \
                 repositories\", with this one. Check the spelling of the URL, too: {scope}."
            ),
            Self::NoInstallation { .. } => "Omit --app-installation-id to have it looked up, or take the number at the end \
                                            of the installation's URL."
                .to_owned(),
            Self::Suspended { .. } => {
                "An owner must unsuspend it: Settings, GitHub Apps, Configure, \"Unsuspend\".".to_owned()
            }
            Self::NotPermitted { reply: Some(reply), .. } if reply.message.contains("not accessible") => {
                "An owner must add the repository to the installation: Settings, GitHub Apps, Configure, \"Repository \
                 access\". Check the spelling of the URL, too."
                    .to_owned()
            }
            Self::NotPermitted { needed, .. } => format!(
                "The App needs {needed}: read and write. Grant it in the settings of the App, and let an owner accept the \
                 new permission in the installation."
            ),
        })
    }
}
