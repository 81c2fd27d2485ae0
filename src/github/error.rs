//! What can go wrong between a call and its answer.

use super::target::TargetError;
use crate::error::{Class, Failure};
use crate::{host, net};
use std::fmt;

/// What a server said when it did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The method of the call.
    pub method: String,
    /// The address of the call, redacted.
    pub url: String,
    /// The status.
    pub status: u16,
    /// GitHub's `message`, with what its `errors` add; empty if it said nothing.
    pub message: String,
    /// `X-GitHub-Request-Id`, for the server's administrator or GitHub's support.
    pub request_id: Option<String>,
    /// `X-Accepted-GitHub-Permissions`: what a fine-grained token or App would need for this call.
    pub accepted: Option<String>,
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} answered {}", self.method, self.url, self.status)?;
        if !self.message.is_empty() {
            write!(f, " {:?}", self.message)?;
        }
        if let Some(id) = &self.request_id {
            write!(f, " (request id {id})")?;
        }
        Ok(())
    }
}

/// Why a URL or a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `--url` or `--api-url`.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// There is no credential at all; nothing was sent.
    #[error("{method} {url} needs a credential and there is none")]
    MissingCredential {
        /// The method of the call.
        method: String,
        /// The address of the call, redacted.
        url: String,
        /// The permission that the credential needs.
        needed: String,
    },
    /// The command that prints the token ended badly, or not at all.
    #[error("the token command `{command}` failed: {how}{}", if tail.is_empty() { String::new() } else { format!(": {tail}") })]
    TokenCommandFailed {
        /// The command.
        command: String,
        /// How it ended.
        how: String,
        /// Its exit code, if it had one.
        code: Option<i32>,
        /// The end of what it said on standard error.
        tail: String,
    },
    /// The command that prints the token printed something else.
    #[error("the token command `{command}` must print one line, the token, and printed {}", if *lines == 0 { "none".to_owned() } else { lines.to_string() })]
    TokenCommandPrinted {
        /// The command.
        command: String,
        /// How many lines it printed that could be tokens.
        lines: usize,
    },
    /// The command that prints the token could not be started.
    #[error("failed to run the token command `{command}`")]
    TokenCommandNotRun {
        /// The command.
        command: String,
        /// Why.
        #[source]
        source: host::Error,
    },
    /// 401.
    #[error("the credential was refused: {0}")]
    Unauthorized(Box<Reply>),
    /// 403, but no rate limit.
    #[error("the credential is too weak: {reply}")]
    Forbidden {
        /// The answer.
        reply: Box<Reply>,
        /// The permission that the call needs.
        needed: String,
    },
    /// 404, which has three meanings.
    #[error("the {scope} was not found, or is hidden: {reply}")]
    NotFound {
        /// The answer.
        reply: Box<Reply>,
        /// The scope that was asked.
        scope: String,
        /// The permission that the call needs.
        needed: String,
    },
    /// 403 or 429 with the signs of a rate limit.
    #[error("the rate limit is used up: {reply}")]
    RateLimited {
        /// The answer.
        reply: Box<Reply>,
        /// When it is over, as far as the answer says.
        until: Option<jiff::Timestamp>,
    },
    /// 422.
    #[error("the request was refused: {0}")]
    Unprocessable(Box<Reply>),
    /// 422 for a runner that has a job.
    #[error("runner {id} is running a job: {reply}")]
    Busy {
        /// The runner's id.
        id: u64,
        /// The answer.
        reply: Box<Reply>,
    },
    /// 409 for a new runner.
    #[error("a runner named {name} exists: {reply}")]
    NameTaken {
        /// The name.
        name: String,
        /// The answer.
        reply: Box<Reply>,
    },
    /// 404 for the call itself.
    #[error("the server has no just-in-time runners: {reply}")]
    NoJit {
        /// The answer.
        reply: Box<Reply>,
    },
    /// Any other status.
    #[error("an unexpected status: {0}")]
    Odd(Box<Reply>),
    /// Something that is not JSON: a sign-in page, a proxy's error page.
    #[error("{method} {url} answered {status} with something that is not JSON: {start:?}")]
    NotJson {
        /// The method of the call.
        method: String,
        /// The address of the call, redacted.
        url: String,
        /// The status.
        status: u16,
        /// How it begins, printable characters only.
        start: String,
    },
    /// JSON, but not the document that this call answers.
    #[error("cannot read the {what} that {method} {url} answered")]
    BadDocument {
        /// What was expected.
        what: &'static str,
        /// The method of the call.
        method: String,
        /// The address of the call, redacted.
        url: String,
        /// Where it differs.
        #[source]
        source: serde_json::Error,
    },
    /// A list that does not end.
    #[error("GET {url} announces further pages after page {page}, which brought nothing new")]
    EndlessPages {
        /// The address of the list, redacted.
        url: String,
        /// The page after which we gave up.
        page: u32,
    },
    /// A list of more elements than any scope has.
    #[error("the list at {url} has more than {limit} elements")]
    ListTooLong {
        /// The address of the list, redacted.
        url: String,
        /// After how many we gave up.
        limit: usize,
    },
    /// A list that would take more memory than we use.
    #[error(
        "the list at {url} is too large to be held in memory: it has more than {count} runners that match"
    )]
    ListTooLarge {
        /// The address of the list, redacted.
        url: String,
        /// How many runners were kept by then.
        count: usize,
    },
    /// No answer.
    #[error(transparent)]
    Transport(#[from] net::Error),
}

impl Error {
    /// The answer behind this error, where there was one.
    #[must_use]
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Unauthorized(reply)
            | Self::Unprocessable(reply)
            | Self::Odd(reply)
            | Self::Forbidden { reply, .. }
            | Self::NotFound { reply, .. }
            | Self::RateLimited { reply, .. }
            | Self::NameTaken { reply, .. }
            | Self::NoJit { reply }
            | Self::Busy { reply, .. } => Some(reply),
            _ => None,
        }
    }
}

/// "It needs …", and what the server itself says about that.
fn permission(needed: &str, reply: &Reply) -> String {
    let accepted = reply.accepted.as_deref();
    let accepted = accepted.map(|a| format!(" The server accepts a token with: {a}.")).unwrap_or_default();
    format!("The call needs {needed}, of somebody who is an administrator there.{accepted}")
}

impl Failure for Error {
    fn class(&self) -> Class {
        match self {
            Self::Target(error) => error.class(),
            Self::MissingCredential { .. }
            | Self::TokenCommandPrinted { .. }
            | Self::Unauthorized(_)
            | Self::Forbidden { .. }
            | Self::NotFound { .. } => Class::NoPerm,
            // A program that is not there, or cannot be run: no time changes that.
            Self::TokenCommandFailed { code: Some(126 | 127), .. } | Self::NameTaken { .. } => Class::Config,
            Self::TokenCommandNotRun { source, .. } => source.class(),
            Self::RateLimited { .. } | Self::Busy { .. } | Self::TokenCommandFailed { .. } => Class::TempFail,
            Self::NoJit { .. } => Class::Unavailable,
            Self::Odd(reply) if reply.status >= 500 => Class::TempFail,
            Self::Unprocessable(_)
            | Self::Odd(_)
            | Self::BadDocument { .. }
            | Self::EndlessPages { .. }
            | Self::ListTooLong { .. }
            | Self::ListTooLarge { .. } => Class::Protocol,
            Self::NotJson { status, .. } => {
                if *status >= 500 {
                    Class::TempFail
                } else {
                    Class::Protocol
                }
            }
            Self::Transport(error) => error.class(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Target(error) => error.hint(),
            Self::MissingCredential { needed, .. } => Some(format!(
                "Give a token by --token-file, RUNUP_TOKEN or --token-command. The call needs {needed}."
            )),
            Self::TokenCommandFailed { .. } | Self::TokenCommandPrinted { .. } => Some(
                "Run it by hand as the user who runs runup: it must end with 0, and print the token and nothing else \
                 on standard output."
                    .to_owned(),
            ),
            Self::TokenCommandNotRun { source, .. } => source.hint(),
            Self::Unauthorized(_) => Some(
                "The token is wrong, expired or revoked, or belongs to another GitHub than this one. Make a new one."
                    .to_owned(),
            ),
            Self::Forbidden { reply, needed } => Some(permission(needed, reply)),
            Self::NotFound { reply, scope, needed } => Some(format!(
                "404 means one of three things: there is no such {scope} (is the URL spelled right?), the credential \
                 may not see it, or it is a credential for another scope. {}",
                permission(needed, reply)
            )),
            Self::RateLimited { until, .. } => Some(match until {
                Some(until) => format!("Try again after {until}."),
                None => "Try again in a few minutes.".to_owned(),
            }),
            Self::Busy { .. } => Some("Wait until its job is done, or cancel the job.".to_owned()),
            Self::NameTaken { .. } => {
                Some("Choose another --name, for instance with {random} in it.".to_owned())
            }
            Self::NoJit { .. } => Some(
                "Enterprise Server has them from 3.10 on. Leave --jit out and use --ephemeral; that needs a \
                 credential that may write, as --jit does."
                    .to_owned(),
            ),
            Self::NotJson { status, .. } if *status < 500 => Some(
                "Something else than GitHub's REST API answers there: check the host of --url, --api-url, and any \
                 proxy or sign-in page between here and there."
                    .to_owned(),
            ),
            Self::EndlessPages { .. } | Self::ListTooLong { .. } => Some(
                "No GitHub answers like this: check the host of --url, --api-url, and any proxy between here and there."
                    .to_owned(),
            ),
            Self::ListTooLarge { .. } => {
                Some("Narrow the list, for instance with --status, --label or --name.".to_owned())
            }
            Self::Odd(reply) if reply.status >= 500 => Some("The server has a problem. Try again later.".to_owned()),
            Self::Transport(error) => error.hint(),
            _ => None,
        }
    }
}
