//! What happens, for programs that watch: the events of `--events`. Each is told once, where it happens; `cli::events` writes
//! them. Without `--events` nobody listens, and telling costs nothing.
//!
//! No text of an event is a job's: a job could forge what its listener prints, so that of a job only its begin and end are
//! told.

use std::fmt::Display;
use std::time::Duration;

/// The target of the events, by which they are told from what is logged.
pub const TARGET: &str = "event";

/// Tells of one, with its name in `event`.
macro_rules! tell {
    ($name:literal $(, $($fields:tt)*)?) => {
        tracing::info!(target: TARGET, event = $name $(, $($fields)*)?)
    };
}

/// A command begins.
pub fn begin(version: &str) {
    tell!("begin", version);
}

/// A command has ended; `error` is the name of what failed.
pub fn end(exit_code: u8, error: Option<&str>, elapsed: Duration) {
    tell!("end", exit_code = u64::from(exit_code), error, seconds = elapsed.as_secs_f64());
}

/// A phase begins.
pub fn phase_begin(phase: &str) {
    tell!("phase-begin", phase);
}

/// A phase has ended: it has done what `detail` says, or is not done, and an error or another way follows.
pub fn phase_end(phase: &str, detail: Option<&str>, elapsed: Duration) {
    tell!("phase-end", phase, done = detail.is_some(), seconds = elapsed.as_secs_f64(), detail);
}

/// What failed is tried again after a pause.
pub fn retry(cause: impl Display, pause: Duration) {
    tell!("retry", cause = %cause, seconds = pause.as_secs_f64());
}

/// Something is waited for: for that long, or at most that long, if that is known.
pub fn wait(cause: impl Display, time: Option<Duration>) {
    tell!("wait", cause = %cause, seconds = time.map(|time| time.as_secs_f64()));
}

/// The listener has a session on the server, and waits for jobs.
pub fn online() {
    tell!("online");
}

/// It has lost it, or has ended.
pub fn offline() {
    tell!("offline");
}

/// The runner has taken a job.
pub fn job_begin() {
    tell!("job-begin");
}

/// The job has ended.
pub fn job_end(result: &str) {
    tell!("job-end", result);
}
