//! What GitHub's runner *is*: which archive to take, what a placed tree holds, what a configured one remembers, what a
//! version can do, and how runners and labels may be called.
//!
//! This room knows GitHub's runner and reads its files, which a job may have written: nothing here is believed without
//! a check, and nothing of it is executed by looking. It refuses to know in which order things are done.

pub mod asset;
pub mod complaint;
pub mod config_sh;
mod error;
pub mod guard;
pub mod jit_config;
pub mod libraries;
pub mod listener;
pub mod name;
pub mod preflight;
pub mod state;
pub mod tree;
pub mod unit;
pub mod version;

pub use asset::Choice;
pub use error::Error;
pub use guard::{Guard, Keeper};
pub use jit_config::JitIdentity;
pub use name::{Label, Labels, NameContext, NameTemplate, RunnerName};
pub use state::{LocalState, RunnerFile};
pub use tree::TreeReport;
pub use version::{Feature, INSTALL_WITHIN_HOURS, REGISTRATION_FLOOR, RunnerVersion};
