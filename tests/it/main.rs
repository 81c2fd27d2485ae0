//! One integration binary: one link, and every test sees the same helpers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and says where")]
#![expect(clippy::case_sensitive_file_extension_comparisons, reason = "the names are our own")]

mod adopt;
mod app;
mod bad_input;
mod claims;
mod cleaning;
mod cli;
mod cloud;
mod commands;
mod crash;
mod deadline;
mod doctor;
mod doubt;
mod drift;
mod environment;
mod events;
mod explain;
mod guard;
#[path = "../hostile/mod.rs"]
mod hostile;
mod house;
mod images;
mod instances;
mod jit_config;
mod lag;
mod libraries;
mod life;
mod litter;
mod logs;
mod metrics;
mod mounts;
mod names;
mod one_token;
mod others;
mod packages;
mod past;
mod prune;
mod rebake;
mod reference;
mod refusals;
mod regressions;
mod rig;
mod run;
mod schema;
mod secrets;
mod sources;
mod status;
mod store;
mod storm;
mod teardown;
mod token_command;
mod tools;
mod update;
mod upgrade;
mod users;
mod work;
