//! The errors of the REST calls.

use super::app::AppError;
use super::hint::{of_refusal, what_was_sent};
use super::sent::Sent;
use super::shell::CommandKind;
use super::target::TargetError;
use crate::error::situation::{self, Situation};
use crate::error::{Class, Failure};
use crate::{host, net};
use std::fmt;

/// A server's answer to a call that it did not carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The method of the call.
    pub method: String,
    /// The address of the call, redacted.
    pub url: String,
    /// The status.
    pub status: u16,
    /// GitHub's `message`, followed by its `errors`; empty if there is neither.
    pub message: String,
    /// `X-GitHub-Request-Id`, for the server's administrator or GitHub's support.
    pub request_id: Option<String>,
    /// `X-Accepted-GitHub-Permissions`: what a fine-grained token or App needs for this call.
    pub accepted: Option<String>,
    /// `X-Accepted-OAuth-Scopes`: the scopes one of which a classic token needs for this call.
    pub accepted_scopes: Option<String>,
    /// The credential that was sent; `None` if there was none, or the token of an App itself.
    pub sent: Option<Sent>,
    /// How many requests it took: each but the last may have been carried out without an answer.
    pub attempts: u32,
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
    /// `--url` or `--api-url` is wrong.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// There is no credential at all; nothing was sent.
    #[error("{method} {url} needs a credential, and none was given")]
    MissingCredential {
        /// The method of the call.
        method: String,
        /// The address of the call, redacted.
        url: String,
        /// The permission that the call needs.
        needed: String,
    },
    /// A GitHub App cannot be used.
    #[error(transparent)]
    App(#[from] AppError),
    /// A command of the operator failed, or did not end.
    #[error("the {kind} `{command}` failed: {how}{}", if tail.is_empty() { String::new() } else { format!(": {tail}") })]
    CommandFailed {
        /// What it is for.
        kind: CommandKind,
        /// The command.
        command: String,
        /// How it ended.
        how: String,
        /// Its exit code; `None` if a signal ended it.
        code: Option<i32>,
        /// Whether it was ended because it took too long.
        timed_out: bool,
        /// The end of its standard error output.
        tail: String,
    },
    /// The token command did not print exactly one token.
    #[error("the token command `{command}` printed {} instead of one line with the token", if *lines == 0 { "no token".to_owned() } else { format!("{lines} lines") })]
    TokenCommandPrinted {
        /// The command.
        command: String,
        /// How many lines that could be tokens it printed.
        lines: usize,
    },
    /// A command of the operator could not be started.
    #[error("failed to run the {kind} `{command}`")]
    CommandNotRun {
        /// What it is for.
        kind: CommandKind,
        /// The command.
        command: String,
        /// Why.
        #[source]
        source: host::Error,
    },
    /// Status 401.
    #[error("the credential was refused: {0}{sent}", sent = what_was_sent(.0))]
    Unauthorized(Box<Reply>),
    /// Status 403 without a rate limit.
    #[error("the credential is too weak: {reply}{}", what_was_sent(.reply))]
    Forbidden {
        /// The answer.
        reply: Box<Reply>,
        /// The permission that the call needs.
        needed: String,
    },
    /// Status 403 with `X-GitHub-SSO: required`.
    #[error("the credential is not authorized for the organization's single sign-on: {reply}{}", what_was_sent(.reply))]
    SignOnRequired {
        /// The answer.
        reply: Box<Reply>,
        /// The page where the owner of the credential can authorize it, if the answer names it.
        page: Option<String>,
    },
    /// Status 403 because of the address of this machine, or of its proxy.
    #[error("the server does not allow the IP address of this machine: {0}")]
    AddressNotAllowed(Box<Reply>),
    /// Status 403 because an organization accepts no tokens of this kind, or none that are valid for as long.
    #[error("the organization does not accept this kind of credential: {0}{sent}", sent = what_was_sent(.0))]
    TokenNotAllowed(Box<Reply>),
    /// Status 403 or 409 because the owner has switched off self-hosted runners.
    #[error("the {scope} may have no self-hosted runners: {reply}")]
    RunnersDisabled {
        /// The answer.
        reply: Box<Reply>,
        /// The scope of the call.
        scope: String,
    },
    /// Status 404, which has three meanings.
    #[error("the {scope} was not found, or the credential cannot see it: {reply}{}", what_was_sent(.reply))]
    NotFound {
        /// The answer.
        reply: Box<Reply>,
        /// The scope of the call.
        scope: String,
        /// The permission that the call needs.
        needed: String,
    },
    /// Status 403 or 429 with a rate limit.
    #[error("the rate limit is exceeded: {reply}")]
    RateLimited {
        /// The answer.
        reply: Box<Reply>,
        /// When the limit is reset, if the answer says so.
        until: Option<jiff::Timestamp>,
    },
    /// Status 422.
    #[error("the request was refused: {0}")]
    Unprocessable(Box<Reply>),
    /// Status 422 for a runner that has a job.
    #[error("runner {id} is running a job: {reply}")]
    Busy {
        /// The runner's id.
        id: u64,
        /// The answer.
        reply: Box<Reply>,
    },
    /// Status 409 for a new runner.
    #[error("a runner named {name} already exists: {reply}")]
    NameTaken {
        /// The name.
        name: String,
        /// The answer.
        reply: Box<Reply>,
    },
    /// Status 404 for the call itself.
    #[error("the server does not support just-in-time runners: {reply}")]
    NoJit {
        /// The answer.
        reply: Box<Reply>,
    },
    /// Any other status.
    #[error("unexpected answer: {0}")]
    Odd(Box<Reply>),
    /// The answer is not JSON: a sign-in page, a proxy's error page.
    #[error("{method} {url} answered {status} with a body that is not JSON: {start:?}")]
    NotJson {
        /// The method of the call.
        method: String,
        /// The address of the call, redacted.
        url: String,
        /// The status.
        status: u16,
        /// How the body begins, printable characters only.
        start: String,
    },
    /// The answer is JSON, but not the document that this call returns.
    #[error("failed to read the {what} in the answer to {method} {url}")]
    BadDocument {
        /// The expected document.
        what: &'static str,
        /// The method of the call.
        method: String,
        /// The address of the call, redacted.
        url: String,
        /// How it differs.
        #[source]
        source: serde_json::Error,
    },
    /// A list without an end.
    #[error("GET {url} announces further pages after page {page}, which had nothing new")]
    EndlessPages {
        /// The address of the list, redacted.
        url: String,
        /// The page after which runup gave up.
        page: u32,
    },
    /// A list of more elements than any scope has.
    #[error("the list at {url} has more than {limit} elements")]
    ListTooLong {
        /// The address of the list, redacted.
        url: String,
        /// The number of elements after which runup gave up.
        limit: usize,
    },
    /// A list that needs more memory than runup uses.
    #[error("the list at {url} is too large: more than {count} runners match")]
    ListTooLarge {
        /// The address of the list, redacted.
        url: String,
        /// How many runners had matched by then.
        count: usize,
    },
    /// The request got no answer.
    #[error(transparent)]
    Transport(#[from] net::Error),
}

/// How to find out why a command of the operator fails.
pub(super) fn by_hand(kind: CommandKind) -> String {
    format!(
        "Run it by hand as the user who runs runup: it must exit 0 and print {}, and nothing else, on standard output.",
        kind.prints()
    )
}

impl Error {
    /// Whether it is the credential, or the command that has it, which failed, and not the call with it.
    #[must_use]
    pub fn is_of_credential(&self) -> bool {
        matches!(self, Self::App(_) | Self::CommandFailed { .. } | Self::CommandNotRun { .. })
    }

    /// Whether the server has refused the call, so that it was not carried out.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::NameTaken { .. }
                | Self::NoJit { .. }
                | Self::Unprocessable(_)
                | Self::Unauthorized(_)
                | Self::Forbidden { .. }
                | Self::SignOnRequired { .. }
                | Self::AddressNotAllowed(_)
                | Self::TokenNotAllowed(_)
                | Self::RunnersDisabled { .. }
                | Self::NotFound { .. }
        )
    }
}

impl Failure for Error {
    fn class(&self) -> Class {
        match self {
            Self::Target(error) => error.class(),
            Self::App(error) => error.class(),
            Self::MissingCredential { .. }
            | Self::TokenCommandPrinted { .. }
            | Self::Unauthorized(_)
            | Self::Forbidden { .. }
            | Self::SignOnRequired { .. }
            | Self::TokenNotAllowed(_)
            | Self::NotFound { .. } => Class::NoPerm,
            // The program is missing or cannot be executed, so a retry is of no use.
            Self::CommandFailed { code: Some(126 | 127), .. }
            | Self::NameTaken { .. }
            | Self::AddressNotAllowed(_) => Class::Config,
            Self::CommandNotRun { source, .. } => source.class(),
            Self::RateLimited { .. } | Self::Busy { .. } | Self::CommandFailed { .. } => Class::TempFail,
            Self::NoJit { .. } | Self::RunnersDisabled { .. } => Class::Unavailable,
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
                "Pass a token with --token-file, RUNUP_TOKEN or --token-command, or a GitHub App with --app-id. The call needs \
                 {needed}."
            )),
            Self::App(error) => error.hint(),
            Self::CommandFailed { kind, .. } => Some(by_hand(*kind)),
            Self::TokenCommandPrinted { .. } => Some(by_hand(CommandKind::Token)),
            Self::CommandNotRun { source, .. } => source.hint(),
            Self::Unauthorized(_)
            | Self::Forbidden { .. }
            | Self::SignOnRequired { .. }
            | Self::AddressNotAllowed(_)
            | Self::TokenNotAllowed(_)
            | Self::RunnersDisabled { .. }
            | Self::NotFound { .. } => of_refusal(self),
            Self::RateLimited { until, .. } => Some(match until {
                Some(until) => format!("Try again after {until}."),
                None => "Try again in a few minutes.".to_owned(),
            }),
            Self::Busy { .. } => Some("Wait until its job is done, or cancel the job.".to_owned()),
            Self::NameTaken { .. } => {
                Some("Pass another --name, for example with {random} in it.".to_owned())
            }
            Self::NoJit { .. } => Some(
                "Enterprise Server supports them since 3.10. Use --ephemeral instead of --jit; it needs a credential \
                 with write access, as --jit does."
                    .to_owned(),
            ),
            Self::NotJson { status, .. } if *status < 500 => Some(
                "The answer does not come from GitHub's REST API: sign in to the network if a captive portal answered, or \
                 check the host of --url and --api-url, and any proxy."
                    .to_owned(),
            ),
            Self::EndlessPages { .. } | Self::ListTooLong { .. } => Some(
                "The answer does not come from GitHub's REST API: check the host of --url, --api-url, and any proxy in between."
                    .to_owned(),
            ),
            Self::ListTooLarge { .. } => {
                Some("Narrow the list, for instance with --status, --label or --name.".to_owned())
            }
            Self::Odd(reply) if reply.status >= 500 => Some("The server failed. Try again later.".to_owned()),
            Self::Transport(error) => error.hint(),
            _ => None,
        }
    }

    fn situation(&self) -> &'static Situation {
        match self {
            Self::MissingCredential { .. } => &situation::NO_CREDENTIAL,
            Self::CommandFailed { kind: CommandKind::Token, .. }
            | Self::TokenCommandPrinted { .. }
            | Self::CommandNotRun { kind: CommandKind::Token, .. } => &situation::TOKEN_COMMAND,
            Self::CommandFailed { .. } | Self::CommandNotRun { .. } => &situation::APP_COMMAND,
            Self::App(error) => error.situation(),
            Self::Unauthorized(_) => &situation::UNAUTHORIZED,
            Self::Forbidden { .. } => &situation::FORBIDDEN,
            Self::SignOnRequired { .. } => &situation::SINGLE_SIGN_ON,
            Self::AddressNotAllowed(_) => &situation::ADDRESS_NOT_ALLOWED,
            Self::TokenNotAllowed(_) => &situation::TOKEN_NOT_ALLOWED,
            Self::RunnersDisabled { .. } => &situation::RUNNERS_DISABLED,
            Self::NotFound { .. } => &situation::NOT_FOUND,
            Self::RateLimited { .. } => &situation::RATE_LIMITED,
            Self::Unprocessable(_) => &situation::REQUEST_REFUSED,
            Self::Busy { .. } => &situation::RUNNER_BUSY,
            Self::NameTaken { .. } => &situation::NAME_TAKEN,
            Self::NoJit { .. } => &situation::JIT_UNSUPPORTED,
            Self::Target(error) => error.situation(),
            Self::Transport(error) => error.situation(),
            Self::Odd(reply) if reply.status >= 500 => &situation::SERVER_FAILED,
            Self::NotJson { .. } => &situation::NOT_GITHUB,
            Self::Odd(_) | Self::BadDocument { .. } => &situation::UNEXPECTED_ANSWER,
            Self::EndlessPages { .. } | Self::ListTooLong { .. } | Self::ListTooLarge { .. } => {
                &situation::LIST_TOO_LONG
            }
        }
    }
}
