//! One integration binary: one link, and every test sees the same helpers.

mod bad_input;
mod cli;
mod commands;
mod house;
mod life;
mod rig;
