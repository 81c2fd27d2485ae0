//! The machine: platform, root prefix, files that a hostile user can change, commands, users, processes, lock, signals.
//!
//! It knows operating systems but not GitHub: no runner, no token endpoint, no archive. It does not print, and does not
//! decide the order of steps; each function reports a state or does one thing, with a deadline.

pub mod account;
pub mod append;
mod cloud;
pub mod command;
pub mod delete;
mod detect;
mod elf;
mod error;
pub mod file;
pub mod freeze;
mod group;
mod hint;
mod library;
pub mod lock;
pub mod memory;
mod metadata_error;
#[cfg(target_os = "linux")]
pub mod metadata_rule;
#[cfg(not(target_os = "linux"))]
#[path = "no_metadata_rule.rs"]
pub mod metadata_rule;
pub mod mounts;
#[cfg(target_os = "linux")]
mod netlink;
#[cfg(target_os = "linux")]
pub mod orphans;
mod output;
pub mod owner;
pub mod packages;
mod platform;
pub mod process;
mod resources;
mod root;
pub mod share;
pub mod signals;
mod situations;
mod sweep;
mod sys;
pub mod systemd;
pub mod umask;
pub mod usage;

pub use account::Account;
pub use cloud::{Provider, cloud};
pub use command::{Command, Outcome, Stream, Word};
pub use detect::loader;
pub use error::{CREATE_DIR, Error};
pub use library::{find_program, has_library, has_program};
pub use lock::Lock;
pub use metadata_error::MetadataError;
pub use output::CUT;
pub use platform::{Arch, Distribution, Libc, Machine, Os, Platform, UnknownWord, detect};
pub use resources::{
    check_writable, forbids_programs, free_inodes, free_space, hostname, machine_id, memory,
};
pub use root::Root;
pub use signals::Signals;
