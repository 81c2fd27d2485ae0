//! The sandbox's clock, in the three time formats of GitHub.

use jiff::{Timestamp, tz::Offset};
use std::time::Duration;

/// Now, shifted by `skew` seconds.
pub(super) fn now(skew: i64) -> Timestamp {
    let now = Timestamp::now();
    now.checked_add(jiff::SignedDuration::from_secs(skew)).unwrap_or(now)
}

/// Now plus `life`.
pub(super) fn after(life: Duration) -> Timestamp {
    let seconds = i64::try_from(life.as_secs()).unwrap_or(i64::MAX);
    now(seconds)
}

/// As in `expires_at`: RFC 3339 with fractional seconds and a zone that is not UTC, as in GitHub's own examples.
pub(super) fn expires_at(at: Timestamp) -> String {
    let zoned = at.to_zoned(Offset::constant(-8).to_time_zone());
    zoned.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
}

/// As in the `Date` header.
pub(super) fn http_date(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_github_writes_them() {
        let at: Timestamp = "2020-01-22T20:13:35.123Z".parse().unwrap();
        assert_eq!(expires_at(at), "2020-01-22T12:13:35.123-08:00");
        assert_eq!(http_date(at), "Wed, 22 Jan 2020 20:13:35 GMT");
    }
}
