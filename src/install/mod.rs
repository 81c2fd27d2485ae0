//! The order of things: what was asked for becomes a plan, a plan becomes steps, and each step is written down before
//! it happens, so that it can be taken back whatever interrupts it.
//!
//! This room decides *when*. How a runner is chosen, placed or configured is known by the rooms below.

mod act;
mod adopt;
pub mod checkpoint;
mod choose;
mod convert;
mod create_jit;
mod create_user;
mod drift;
mod engine;
mod error;
mod exposure;
mod fresh;
mod handed;
mod hint;
mod isolation;
mod jit;
pub mod journal;
mod kept;
mod leave;
mod libraries;
mod look;
mod metadata;
pub mod notice;
mod ownership;
mod place_runner;
pub mod plan;
mod prune;
mod register;
mod remove;
mod repair;
mod request;
mod run;
mod running;
mod script;
pub mod seal;
mod service;
mod site;
mod start;
mod status;
mod supervise;
mod trust;
mod upgrade;
mod upgrades;
mod watch;

pub use create_jit::{CreateJit, DeletedByReceipt, Receipt, create_jit, delete_by_receipt, write_jit_config};
pub use engine::{Installed, Nobody, RegisteredRunner, bake, install, plan};
pub use error::Error;
pub use exposure::CredentialSource;
pub use libraries::command as libraries_command;
pub use look::Seen;
pub use prune::{Claim, Gone, Kept, NamePrefix, OwnershipLabel, Prune, Pruned, prune};
pub use remove::{LeftOnServer, Reach, Removed, Why, remove};
pub use request::{Archive, Registration, Request, Service};
pub use run::{drain, run};
pub use running::{AfterJob, ExitReason, LeftRunner, RunResult, RunnerSource, Running, Surroundings};
pub use site::Site;
pub use start::prepare as prepare_start;
pub use status::{State, Status, status};
pub use upgrade::{Support, Upgraded, Upgrading, upgrade};
pub use watch::Watch;
