//! `runup` takes a machine from bare to "a GitHub Actions self-hosted runner, online", and back.
//!
//! # The house
//!
//! | room | knows |
//! |---|---|
//! | [`cli`] | the commands; the only room that prints or exits |
//! | [`lifecycle`] | what happens to a runner, from installation to removal: commands, steps, state |
//! | [`cloud`] | the notice that the machine is being taken away |
//! | [`runner`] | what GitHub's runner *is*: asset choice, names on disk, `config.sh`, versions |
//! | [`github`] | the REST API and nothing else: scope, client, endpoints |
//! | [`transfer`] | bytes in, verified tree out; knows no GitHub |
//! | [`net`] | the HTTP client, retry verdicts and back-off, redaction |
//! | [`host`] | the machine: platform, root prefix, commands, users, lock, signals |
//! | `sandbox` | a GitHub to rehearse against (cargo feature `sandbox`) |
//!
//! Three small modules belong to everyone: [`error`] (classes of failure and their exit codes), [`secret`] (the
//! one way a credential enters or leaves) and [`deadline`] (no wait is endless).
//!
//! # The import rule
//!
//! `cli -> lifecycle -> { runner -> github -> { net, host }, transfer -> { net, host } }`. A room may reach everything
//! below it. (`github` knows `host` for one thing: a command that prints the token.) Only `cli` and `lifecycle` see [`settings`]; the rooms below take plain values. Only `cli` and tests know
//! `sandbox`. `tests/it/house.rs` reads the `use crate::` lines and fails on any other arrow.

pub mod cli;
pub mod cloud;
pub mod deadline;
pub mod error;
pub mod github;
pub mod host;
pub mod lifecycle;
pub mod net;
pub mod runner;
#[cfg(feature = "sandbox")]
pub mod sandbox;
pub mod secret;
pub mod settings;
pub mod transfer;
