//! One integration binary: one link, and every test sees the same helpers.

mod bad_input;
mod cli;
mod commands;
mod crash;
mod house;
mod life;
mod prune;
mod regressions;
mod rig;
mod secrets;
