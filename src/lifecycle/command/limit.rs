//! Waits until the server's rate limit is lifted: a service that failed instead would be restarted, ask again, and soon
//! not be restarted any more.

use crate::error::chain;
use crate::github;
use crate::lifecycle::context::error::Error;
use crate::net;
use jiff::Timestamp;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The wait if the server names none, and the longest: GitHub's limits are by the hour.
const UNNAMED: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(2 * 3600);

/// Over how long the machines that share a limit ask again.
const SPREAD: Duration = Duration::from_secs(30);

/// If the rate limit is what failed, waits until it is lifted or a signal comes. Returns whether it is worth another try.
pub async fn wait_for_limit(error: &Error, stop: &CancellationToken) -> bool {
    let Some(named) = limited(error) else { return false };
    // Many machines share one limit: they do not ask again in the same second.
    let wait = named.min(LONGEST) + SPREAD.mul_f64(fastrand::f64());
    tracing::warn!("{}; waiting {} s", chain(error), wait.as_secs());
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(wait) => true,
    }
}

/// How long the server asks to wait, if that is what failed. What could not be undone would be in the way of another try.
fn limited(error: &Error) -> Option<Duration> {
    match error {
        Error::Github(github::Error::Transport(net::Error::RateLimited { wait, .. }))
        | Error::Net(net::Error::RateLimited { wait, .. }) => Some(*wait),
        Error::Github(github::Error::RateLimited { until, .. }) => Some(left(*until, Timestamp::now())),
        Error::Unwound { cause, left } if left.is_empty() => limited(cause),
        _ => None,
    }
}

fn left(until: Option<Timestamp>, now: Timestamp) -> Duration {
    let named = until.map(|until| now.duration_until(until));
    // A time in the past is that of a clock that differs.
    let named = named.and_then(|named| Duration::try_from(named).ok()).filter(|named| !named.is_zero());
    named.unwrap_or(UNNAMED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_the_server_s() {
        let now = Timestamp::UNIX_EPOCH;
        let after = |seconds| Some(Timestamp::from_second(seconds).unwrap());
        assert_eq!(left(after(2700), now), Duration::from_secs(2700));
        assert_eq!(left(None, now), UNNAMED);
        assert_eq!(left(after(-5), now), UNNAMED);
    }
}
