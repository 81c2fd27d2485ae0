//! The machine: platform, root prefix, files near a hostile user, commands, accounts, processes, lock, signals.
//!
//! It knows operating systems and nothing of GitHub: no runner, no token endpoint, no archive. It prints nothing and
//! decides nothing about order; it reports what is there and does one thing when told, each with a deadline.

pub mod account;
pub mod command;
mod error;
pub mod file;
mod group;
mod library;
pub mod lock;
mod output;
pub mod process;
mod root;

pub use account::Account;
pub use command::{Command, Outcome, Stream, Word};
pub use error::Error;
pub use library::find_program;
pub use root::Root;
