//! Why the sandbox does not start.

use super::fault::FaultTextError;
use crate::error::situation::{self, Situation};
use crate::error::{Class, Failure};
use std::io;
use std::net::SocketAddr;

/// Why the sandbox did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Other machines can reach the address.
    #[error("failed to start the sandbox at {listen}: it is not a loopback address")]
    NotLoopback {
        /// The address.
        listen: SocketAddr,
    },
    /// The token is not allowed in an HTTP header.
    #[error(
        "failed to start the sandbox: its token is empty, or has characters that are not allowed in an HTTP header"
    )]
    Token,
    /// A version is not valid.
    #[error("failed to start the sandbox: {version:?} is not a runner version")]
    Version {
        /// The version.
        version: String,
    },
    /// A fault is not valid.
    #[error("failed to start the sandbox with a fault")]
    Fault {
        /// What is wrong with it.
        #[source]
        source: FaultTextError,
    },
    /// The address is not available.
    #[error("failed to start the sandbox: cannot listen on {listen}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its thread or its runtime could not be started.
    #[error("failed to start the thread of the sandbox")]
    Thread {
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Failure for Error {
    fn class(&self) -> Class {
        match self {
            Self::NotLoopback { .. } | Self::Token | Self::Version { .. } | Self::Fault { .. } => {
                Class::Usage
            }
            Self::Listen { source, .. } => Class::of_io(source, Class::Os),
            Self::Thread { .. } => Class::Os,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotLoopback { .. } => Some(
                "Listen on 127.0.0.1, or allow remote clients: then anyone who reaches the port can use it."
                    .to_owned(),
            ),
            Self::Token => Some(
                "Use a token of letters, digits and punctuation, or omit it for a random one.".to_owned(),
            ),
            Self::Version { .. } => Some("Use three numbers, like 2.336.0.".to_owned()),
            Self::Listen { .. } => Some("Use port 0 for any free port.".to_owned()),
            Self::Fault { .. } | Self::Thread { .. } => None,
        }
    }

    fn situation(&self) -> &'static Situation {
        match self {
            Self::NotLoopback { .. } | Self::Token | Self::Version { .. } | Self::Fault { .. } => {
                &situation::COMMAND_LINE
            }
            Self::Listen { source, .. } => situation::of_io(source, &situation::FILE_FAILED),
            Self::Thread { .. } => &situation::PROGRAM_FAILED,
        }
    }
}
