//! The server's rate limit: whether it is what failed, and whether the process that supervises this runner waits for it.

use crate::github;
use crate::host::lock;
use crate::lifecycle::context::error::{ArchiveError, Error, ServiceError};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::Journal;
use crate::net;
use jiff::Timestamp;
use std::time::Duration;

/// The wait if the server names none.
const UNNAMED: Duration = Duration::from_secs(60);

/// How long the server asks to wait, if that is what failed. What could not be undone would be in the way of another try.
pub(crate) fn asked(error: &Error) -> Option<Duration> {
    match error {
        Error::Github(github::Error::Transport(net::Error::RateLimited { wait, .. }))
        | Error::Net(net::Error::RateLimited { wait, .. }) => Some(*wait),
        Error::Github(github::Error::RateLimited { until, .. }) => Some(left(*until, Timestamp::now())),
        Error::Service(ServiceError::LimitReached { until, .. }) => {
            Some(left(Some(*until), Timestamp::now()))
        }
        Error::Archive(ArchiveError::ReleaseLimited { source }) => asked(source),
        Error::Unwound { cause, left } if left.is_empty() => asked(cause),
        _ => None,
    }
}

/// The end of a wait that begins now, in whole seconds.
pub(crate) fn end(wait: Duration) -> Timestamp {
    let end = Timestamp::now().checked_add(wait).and_then(|end| end.round(jiff::Unit::Second));
    end.unwrap_or(Timestamp::MAX)
}

/// Until when the process that supervises this runner waits for the rate limit. The lock that it holds tells, so a
/// process that was killed does not wait.
pub(crate) fn waits_until(site: &Site<'_>) -> Option<Timestamp> {
    let path = Journal::run_lock_for(&site.state, &site.request.dir);
    let until = lock::holder(&path)?.waits_until?.parse().ok()?;
    lock::is_held(&path).unwrap_or(false).then_some(until)
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
