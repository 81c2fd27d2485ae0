//! The errors of denying the cloud's metadata to a user's processes.

use crate::error::Class;
use crate::error::situation::{self, Situation};
use std::io;
use std::net::IpAddr;

/// A failure to deny the cloud's metadata services to a user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// The rules may not be changed.
    #[error("failed to deny the cloud's metadata to jobs: changing the routing rules is not permitted")]
    NotPermitted {
        /// What the system said.
        source: io::Error,
    },

    /// The system has no such rules.
    #[error("failed to deny the cloud's metadata to jobs: {why}")]
    Unsupported {
        /// What is missing.
        why: String,
    },

    /// A rule could not be set, deleted or checked for another reason.
    #[error("failed to change the routing rules that deny the cloud's metadata to jobs")]
    Rule {
        /// What the system said.
        source: io::Error,
    },

    /// The rules are there, and the kernel does not follow them.
    #[error(
        "jobs (uid {uid}) can still reach the cloud's metadata at {address}: another routing rule, or an address of \
        this machine, takes precedence"
    )]
    StillReachable {
        /// The user.
        uid: u32,
        /// The service.
        address: IpAddr,
    },
}

impl MetadataError {
    pub(super) fn class(&self) -> Class {
        match self {
            Self::NotPermitted { .. } => Class::NoPerm,
            Self::Unsupported { .. } | Self::Rule { .. } | Self::StillReachable { .. } => Class::Os,
        }
    }

    pub(super) fn situation(&self) -> &'static Situation {
        match self {
            Self::NotPermitted { .. } => &situation::NEEDS_ROOT,
            Self::Unsupported { .. } | Self::Rule { .. } | Self::StillReachable { .. } => {
                &situation::METADATA_NOT_DENIED
            }
        }
    }

    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::NotPermitted { .. } => {
                "Give runup the capability CAP_NET_ADMIN. Where that is not possible, as in most containers, deny the \
                metadata outside (IMDSv2 with a hop limit of 1, a network policy), then pass --allow-metadata."
            }
            Self::Unsupported { .. } => {
                "This needs Linux 4.18 or newer with policy routing (CONFIG_IP_MULTIPLE_TABLES and \
                CONFIG_IPV6_MULTIPLE_TABLES). If jobs may act as this machine, or it has no identity in a cloud, \
                pass --allow-metadata."
            }
            Self::Rule { .. } => {
                "Check `ip rule` and `ip -6 rule`. If jobs may act as this machine, or it has no identity in a \
                 cloud, pass --allow-metadata."
            }
            Self::StillReachable { .. } => {
                "Check `ip rule` and `ip route get`, and move the rule that takes precedence behind priority 1. If jobs may \
                act as this machine, or it has no identity in a cloud, pass --allow-metadata."
            }
        }
    }
}
