//! GitHub's REST API for self-hosted runners: the scope of a URL, and the calls for that scope.
//!
//! This module knows addresses, headers, documents and what the status codes mean. It does not know what a runner is on
//! disk, how its archive is downloaded, or what the answers are used for.

mod access;
mod answer;
mod app;
mod client;
mod credential;
mod deprecation;
mod document;
mod error;
mod hint;
mod installation;
mod jit;
mod listing;
mod meta;
mod presence;
mod refusal;
mod release;
mod scope;
mod sent;
mod shared;
mod shell;
mod target;

pub use app::{App, AppError, KeyReader, Signer};
pub use client::{Client, Deletion, Filter};
pub use credential::{Credential, TokenCommand};
pub use deprecation::Deprecation;
pub use document::{Application, JitConfig, Label, Runner, RunnerStatus, RunnerToken};
pub use error::{Error, Reply};
pub use jit::NewJitRunner;
pub use meta::{CallsLeft, JobHosts};
pub use release::Release;
pub use scope::{RepositoryName, Scope, Slug};
pub use sent::{Sent, TokenForm};
pub use shared::Shared;
pub use shell::{CommandKind, ShellCommand};
pub use target::{Target, TargetError};
