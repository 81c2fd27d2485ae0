//! Time limits: everything that can block takes a [`Deadline`], so that no wait is endless.

use std::ops::Deref;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// The point in time at which a wait is given up. It keeps the duration that it was set for, which messages show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    at: Instant,
    total: Duration,
}

impl Deadline {
    /// The deadline `total` from now.
    #[must_use]
    pub fn after(total: Duration) -> Self {
        // A duration that overflows the clock becomes a century.
        let now = Instant::now();
        let at = now.checked_add(total).unwrap_or_else(|| now + Duration::from_secs(3_155_760_000));
        Self { at, total }
    }

    /// The time left; zero once it has passed.
    #[must_use]
    pub fn left(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Whether it has passed.
    #[must_use]
    pub fn passed(self) -> bool {
        self.left().is_zero()
    }

    /// How long it was set for.
    #[must_use]
    pub fn total(self) -> Duration {
        self.total
    }

    /// The earlier of this deadline and `total` from now.
    #[must_use]
    pub fn within(self, total: Duration) -> Self {
        self.or_earlier(Self::after(total))
    }

    /// The earlier of the two.
    #[must_use]
    pub fn or_earlier(self, other: Self) -> Self {
        if other.at < self.at { other } else { self }
    }

    /// The same deadline for work that may have to be undone. It ends earlier, by a quarter of the whole and a minute at
    /// most: only undoing may use that.
    #[must_use]
    pub fn for_work(self) -> Self {
        let reserve = (self.total / 4).min(Duration::from_secs(60));
        Self { at: self.at.checked_sub(reserve).unwrap_or(self.at), ..self }
    }

    /// The same instant for tokio's timers.
    #[must_use]
    pub fn instant(self) -> tokio::time::Instant {
        self.at.into()
    }
}

/// What ends work before it is done: a signal, or the deadline of the whole that it is part of. A program of the machine
/// has a time of its own as well, and is ended at whichever is first.
#[derive(Debug, Clone)]
pub struct Stop {
    signal: CancellationToken,
    deadline: Deadline,
}

impl Stop {
    /// A signal and a deadline.
    #[must_use]
    pub fn new(signal: CancellationToken, deadline: Deadline) -> Self {
        Self { signal, deadline }
    }

    /// Neither.
    #[must_use]
    pub fn never() -> Self {
        CancellationToken::new().into()
    }

    /// The same signal with another deadline.
    #[must_use]
    pub fn until(self, deadline: Deadline) -> Self {
        Self { deadline, ..self }
    }

    /// When it ends at the latest.
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }
}

impl From<CancellationToken> for Stop {
    /// A signal alone.
    fn from(signal: CancellationToken) -> Self {
        Self::new(signal, Deadline::after(Duration::MAX))
    }
}

impl Deref for Stop {
    type Target = CancellationToken;

    /// The signal.
    fn deref(&self) -> &CancellationToken {
        &self.signal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_duration_is_no_panic() {
        assert!(!Deadline::after(Duration::MAX).passed());
        assert!(Deadline::after(Duration::ZERO).passed());
        assert!(Deadline::after(Duration::MAX).within(Duration::ZERO).passed());
        assert!(!Deadline::after(Duration::MAX).for_work().passed());
    }

    #[test]
    fn a_quarter_is_kept_for_undoing_and_a_minute_at_most() {
        for (whole, kept) in [(20, 5), (240, 60), (1800, 60)] {
            let whole = Deadline::after(Duration::from_secs(whole));
            assert_eq!(whole.at - whole.for_work().at, Duration::from_secs(kept));
            assert_eq!(whole.for_work().total(), whole.total());
        }
    }
}
