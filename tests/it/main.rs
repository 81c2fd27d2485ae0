//! One integration binary: one link, and every test sees the same helpers.

mod crash;
mod house;
mod life;
mod rig;
mod run;
mod secrets;
