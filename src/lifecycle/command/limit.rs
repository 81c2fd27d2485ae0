//! Waits until the server's rate limit is lifted: a service that failed instead would be restarted, ask again, and soon
//! not be restarted any more.

use crate::error::chain;
use crate::host::lock::Lock;
use crate::lifecycle::context::error::Error;
use crate::lifecycle::state::limit;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The longest wait: GitHub's limits are by the hour.
const LONGEST: Duration = Duration::from_secs(2 * 3600);

/// Over how long the machines that share a limit ask again.
const SPREAD: Duration = Duration::from_secs(30);

/// If the rate limit is what failed, waits until it is lifted or a signal comes; the lock of a process that supervises a
/// runner tells until when. Returns whether it is worth another try.
pub async fn wait_for_limit(error: &Error, stop: &CancellationToken, mut held: Option<&mut Lock>) -> bool {
    let Some(named) = limit::asked(error) else { return false };
    // Many machines share one limit: they do not ask again in the same second.
    let wait = named.min(LONGEST) + SPREAD.mul_f64(fastrand::f64());
    crate::event::wait(chain(error), Some(wait));
    tracing::warn!("{}; waiting {} s", chain(error), wait.as_secs());
    if let Some(lock) = &mut held {
        lock.note_wait(Some(limit::end(wait)));
    }
    let waited = tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(wait) => true,
    };
    if let Some(lock) = held {
        lock.note_wait(None);
    }
    waited
}
