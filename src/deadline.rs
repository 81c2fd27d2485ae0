//! Time limits: everything that can block takes a [`Deadline`], so that no wait is endless.

use std::time::{Duration, Instant};

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
        let other = Self::after(total);
        if other.at < self.at { other } else { self }
    }

    /// The part of the whole that is kept for undoing: nothing is begun again when only this is left.
    #[must_use]
    pub fn reserve(self) -> Duration {
        (self.total / 4).min(Duration::from_secs(60))
    }

    /// The same instant for tokio's timers.
    #[must_use]
    pub fn instant(self) -> tokio::time::Instant {
        self.at.into()
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
    }
}
