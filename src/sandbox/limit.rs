//! GitHub's rate limits: the primary one of an hour, and the secondary ones.
//!
//! They are those of one user or installation: all its tokens share them. The runner's own calls are not counted: GitHub
//! counts them elsewhere, and far more generously.

use super::reply::Reply;
use super::route::Route;
use super::server::Shared;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Requests an hour.
const REQUESTS: usize = 5000;
/// Requests at the same time.
const CONCURRENT: usize = 100;
/// Points a minute for one endpoint.
const POINTS: u32 = 900;
/// Requests that create something, a minute.
const CREATIONS: usize = 80;
/// The same, an hour.
const CREATIONS_AN_HOUR: usize = 500;

/// What was called so far.
pub(super) struct Limiter {
    minute: Duration,
    /// The end of the current hour of the primary limit, and how much of it is used.
    hour: Option<(Instant, usize)>,
    open: usize,
    creations: VecDeque<Instant>,
    points: HashMap<&'static str, VecDeque<(Instant, u32)>>,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The requests of the hour are used up.
    Primary,
    /// Another limit; with the time to wait.
    Secondary(Duration),
}

impl Limiter {
    /// With a minute that lasts as long as this, and an hour of sixty of them.
    pub fn new(minute: Duration) -> Self {
        Self { minute, hour: None, open: 0, creations: VecDeque::new(), points: HashMap::new() }
    }

    fn hour(&self) -> Duration {
        self.minute * 60
    }

    /// Counts a request that begins, unless it is refused. It counts as open until [`Limiter::close`].
    fn open(&mut self, endpoint: &'static str, method: &str, now: Instant) -> Result<(), Refusal> {
        let (minute, hour) = (self.minute, self.hour());
        let used = match self.hour {
            Some((end, used)) if now < end => used,
            _ => 0,
        };
        let end = self.hour.map(|(end, _)| end).filter(|end| now < *end).unwrap_or(now + hour);
        self.hour = Some((end, used));
        if used >= REQUESTS {
            return Err(Refusal::Primary);
        }
        let since = |then: &Instant| now.saturating_duration_since(*then);
        while self.creations.front().is_some_and(|then| since(then) >= hour) {
            self.creations.pop_front();
        }
        let points = self.points.entry(endpoint).or_default();
        while points.front().is_some_and(|(then, _)| since(then) >= minute) {
            points.pop_front();
        }
        let is_read = matches!(method, "GET" | "HEAD" | "OPTIONS");
        let cost = if is_read { 1 } else { 5 };
        let creates = method == "POST";
        let spent: u32 = points.iter().map(|(_, cost)| cost).sum();
        let lately = self.creations.iter().rev().take_while(|then| since(then) < minute).count();
        if creates && self.creations.len() >= CREATIONS_AN_HOUR {
            let oldest = self.creations.front().map_or(Duration::ZERO, since);
            return Err(Refusal::Secondary(hour.saturating_sub(oldest).max(minute)));
        }
        if self.open >= CONCURRENT || spent + cost > POINTS || (creates && lately >= CREATIONS) {
            return Err(Refusal::Secondary(minute));
        }
        points.push_back((now, cost));
        if creates {
            self.creations.push_back(now);
        }
        self.open += 1;
        self.hour = Some((end, used + 1));
        Ok(())
    }

    fn close(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// The document of `GET /rate_limit`.
    pub fn to_api(&self) -> Value {
        let (used, reset) = self.used(Instant::now());
        json!({"limit": REQUESTS, "used": used, "remaining": REQUESTS.saturating_sub(used), "reset": reset})
    }

    /// How much of the primary limit is used, and when it is reset, in seconds since the epoch.
    fn used(&self, now: Instant) -> (usize, i64) {
        let (end, used) = self.hour.filter(|(end, _)| now < *end).unwrap_or((now + self.hour(), 0));
        let left =
            SignedDuration::try_from(end.saturating_duration_since(now)).unwrap_or(SignedDuration::ZERO);
        let reset = Timestamp::now().checked_add(left).unwrap_or(Timestamp::MAX).as_second();
        (used, reset)
    }

    /// The headers of every answer.
    fn headers(&self, now: Instant) -> [(&'static str, String); 4] {
        let (used, reset) = self.used(now);
        [
            ("x-ratelimit-limit", REQUESTS.to_string()),
            ("x-ratelimit-used", used.to_string()),
            ("x-ratelimit-remaining", REQUESTS.saturating_sub(used).to_string()),
            ("x-ratelimit-reset", reset.to_string()),
        ]
    }

    /// The answer to a refused request.
    fn refuse(&self, refusal: Refusal, now: Instant) -> Reply {
        match refusal {
            Refusal::Primary => {
                self.add_headers(Reply::message(403, "API rate limit exceeded for user ID 1."), now)
            }
            Refusal::Secondary(wait) => {
                // Whole seconds, rounded up.
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                let reply = Reply::message(403, "You have exceeded a secondary rate limit.");
                self.add_headers(reply.with("retry-after", seconds.to_string()), now)
            }
        }
    }

    fn add_headers(&self, reply: Reply, now: Instant) -> Reply {
        self.headers(now).into_iter().fold(reply, |reply, (name, value)| reply.with(name, value))
    }
}

/// An admitted request, which is open until this is dropped.
pub(super) struct Admitted(Option<Arc<Shared>>);

impl Admitted {
    /// Adds the headers that say what is left of the limit.
    pub fn mark(&self, reply: Reply) -> Reply {
        let Some(shared) = &self.0 else { return reply };
        match &shared.world().limiter {
            Some(limiter) => limiter.add_headers(reply, Instant::now()),
            None => reply,
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let Some(shared) = &self.0 else { return };
        if let Some(limiter) = &mut shared.world().limiter {
            limiter.close();
        }
    }
}

/// Counts a call of the REST API, or refuses it. Other calls, and all of them without limits, are admitted.
pub(super) fn admit(
    shared: &Arc<Shared>,
    route: &Route,
    method: &str,
    by_runner: bool,
) -> Result<Admitted, Reply> {
    let mut world = shared.world();
    let Some(limiter) = world.limiter.as_mut().filter(|_| route.scope().is_some() && !by_runner) else {
        return Ok(Admitted(None));
    };
    let now = Instant::now();
    match limiter.open(route.name(), method, now) {
        Ok(()) => Ok(Admitted(Some(Arc::clone(shared)))),
        Err(refusal) => Err(limiter.refuse(refusal, now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(6);

    /// How many of `count` requests, one after another at the same instant, are admitted, and what the next one gets.
    fn burst(limiter: &mut Limiter, endpoint: &'static str, method: &str, now: Instant) -> (usize, Refusal) {
        for admitted in 0.. {
            match limiter.open(endpoint, method, now) {
                Ok(()) => limiter.close(),
                Err(refusal) => return (admitted, refusal),
            }
        }
        unreachable!("every limit is met")
    }

    #[test]
    fn each_secondary_limit_is_met_and_lifted_after_its_window() {
        let (mut limiter, now) = (Limiter::new(MINUTE), Instant::now());
        let wait = Refusal::Secondary(MINUTE);
        assert_eq!(burst(&mut limiter, "registration-token", "POST", now), (80, wait));
        assert_eq!(burst(&mut limiter, "jitconfig", "POST", now), (0, wait), "creations count together");
        assert_eq!(burst(&mut limiter, "list-runners", "GET", now), (900, wait));
        assert_eq!(burst(&mut limiter, "delete-runner", "DELETE", now), (180, wait), "a write counts five");
        assert_eq!(burst(&mut limiter, "registration-token", "POST", now + MINUTE).0, 80);
    }

    #[test]
    fn an_hour_has_its_own_limits() {
        let (mut limiter, now) = (Limiter::new(MINUTE), Instant::now());
        for minute in 0..6 {
            assert_eq!(burst(&mut limiter, "labels", "POST", now + MINUTE * minute).0, 80);
        }
        let (admitted, refusal) = burst(&mut limiter, "labels", "POST", now + MINUTE * 6);
        assert_eq!((admitted, refusal), (20, Refusal::Secondary(MINUTE * 54)));
        let endpoints = ["a", "b", "c", "d", "e", "f"];
        let reads: usize =
            endpoints.iter().map(|endpoint| burst(&mut limiter, endpoint, "GET", now + MINUTE * 7).0).sum();
        assert_eq!(reads, 5000 - 500);
        let then = now + MINUTE * 7;
        assert_eq!(limiter.open("g", "GET", then), Err(Refusal::Primary));
        assert!(limiter.headers(then).contains(&("x-ratelimit-remaining", "0".to_owned())));
        assert_eq!(limiter.open("g", "GET", now + MINUTE * 60), Ok(()));
        assert!(limiter.headers(now + MINUTE * 60).contains(&("x-ratelimit-used", "1".to_owned())));
    }

    #[test]
    fn a_hundred_requests_may_be_open() {
        let (mut limiter, now) = (Limiter::new(MINUTE), Instant::now());
        for _ in 0..100 {
            assert_eq!(limiter.open("list-runners", "GET", now), Ok(()));
        }
        assert_eq!(limiter.open("downloads", "GET", now), Err(Refusal::Secondary(MINUTE)));
        limiter.close();
        assert_eq!(limiter.open("downloads", "GET", now), Ok(()));
    }
}
