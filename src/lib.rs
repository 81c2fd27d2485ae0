//! `runup` turns a machine into a GitHub Actions self-hosted runner, and back.
//!
//! # The modules
//!
//! | module | knows |
//! |---|---|
//! | [`cli`] | the commands; the only module that prints or exits |
//! | [`lifecycle`] | what happens to a runner, from installation to removal: commands, steps, state |
//! | [`cloud`] | the cloud's metadata: which machine this is, and the notice that it is taken away |
//! | [`runner`] | what GitHub's runner *is*: asset choice, names on disk, `config.sh`, versions |
//! | [`github`] | the REST API and nothing else: scope, client, endpoints |
//! | [`transfer`] | bytes in, verified tree out; nothing of GitHub |
//! | [`net`] | the HTTP client, retry verdicts and back-off, redaction |
//! | [`host`] | the machine: platform, root prefix, commands, users, lock, signals |
//! | `sandbox` | a fake GitHub server for testing (cargo feature `sandbox`) |
//!
//! Every module may use four small ones: [`error`] (classes of failure and their exit codes), [`secret`] (the one way a
//! credential enters or leaves), [`deadline`] (no wait is endless) and [`event`] (what happens, for programs that watch).
//!
//! # The import rule
//!
//! `cli -> lifecycle -> { runner -> github -> { net, host }, transfer -> { net, host }, cloud -> { net, host } }`. A module may
//! use everything below it. (`github` uses `host` for a command that prints the token.) Only `cli` and `lifecycle` read
//! [`settings`]; the modules below take plain values. Only `cli` and tests use `sandbox`. The layers inside [`lifecycle`] are
//! described there. `tests/it/house.rs` reads the imports and fails on any other.

pub mod cli;
pub mod cloud;
pub mod deadline;
pub mod error;
pub mod event;
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
