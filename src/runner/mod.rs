//! What GitHub's runner *is*: which archive to use, the content of its tree, its configuration, the features of its
//! versions, and the names of runners and labels.
//!
//! This module reads the runner's files, which a job may have written: it trusts none of them without a check, and does
//! not execute anything to inspect them. It does not know the order of steps.

pub mod asset;
pub mod complaint;
pub mod config_sh;
pub mod diag;
pub mod environment;
mod error;
pub mod guard;
pub mod jit_config;
pub mod kept_logs;
pub mod libraries;
pub mod listener;
pub mod name;
pub mod preflight;
pub mod state;
pub mod tool_cache;
pub mod tree;
pub mod unit;
pub mod version;

pub use asset::Choice;
pub use environment::{Requested, RunnerEnvironment, WantedEnvironment};
pub use error::Error;
pub use guard::{Guard, Keeper};
pub use jit_config::JitIdentity;
pub use name::{Label, Labels, NameContext, NameTemplate, RunnerName};
pub use state::{LocalState, RunnerFile};
pub use tree::TreeReport;
pub use version::{Feature, INSTALL_WITHIN_HOURS, REGISTRATION_FLOOR, RunnerVersion};
