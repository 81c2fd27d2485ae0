//! GitHub's REST API for self-hosted runners: which scope a URL names, and the calls of that scope.
//!
//! This room knows addresses, headers, documents and what the statuses mean. It refuses to know what a runner is on
//! disk, how its archive is fetched, and what the answers are used for.

mod answer;
mod client;
mod credential;
mod deprecation;
mod document;
mod error;
mod jit;
mod listing;
mod release;
mod scope;
mod target;

pub use client::{Client, Deletion, Filter};
pub use credential::{Credential, TokenCommand};
pub use deprecation::Deprecation;
pub use document::{Application, JitConfig, Label, Runner, RunnerToken, Status};
pub use error::{Error, Reply};
pub use jit::NewJitRunner;
pub use release::Release;
pub use scope::{RepositoryName, Scope, Slug};
pub use target::{Target, TargetError};
