//! Decides what to do after an attempt: one pure function of status, headers and failure, and the back-off.

use super::{Error, HeaderMap, Method};
use jiff::Timestamp;
use std::time::Duration;

/// The outcome of an attempt.
pub enum Outcome<'a> {
    /// An answer came.
    Answered {
        /// The status code.
        status: u16,
        /// The answer's headers.
        headers: &'a HeaderMap,
        /// The answer's body.
        body: &'a [u8],
        /// The current time, with which the times in headers are compared: see [`answered_at`].
        now: Timestamp,
    },
    /// No answer came.
    Failed(&'a Error),
}

/// What to do after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The answer is final, whatever its status says.
    Done,
    /// Try again after runup's own back-off.
    Retry,
    /// Try again after the wait that the server requested.
    RetryAfter(Duration),
    /// The failure is final.
    Fatal,
}

/// The wait for a rate limit without a time: GitHub documents "wait for at least one minute".
const RATE_LIMIT_WAIT: Duration = Duration::from_secs(60);

/// Judges an attempt. A POST is repeated: it either creates a token, where a second one does no harm, or a just-in-time
/// runner, whose caller expects that the first attempt may have taken the name. A PATCH whose effect is unknown is not
/// repeated.
#[must_use]
pub fn verdict(method: &Method, outcome: &Outcome<'_>) -> Verdict {
    let repeatable = *method != Method::PATCH;
    match outcome {
        Outcome::Failed(Error::Transport { trouble, .. }) => {
            use super::Trouble;
            let unsent = matches!(
                trouble,
                Trouble::Dns | Trouble::Refused | Trouble::ConnectTimeout | Trouble::NoTunnel
            );
            if trouble.passes() && (repeatable || unsent) { Verdict::Retry } else { Verdict::Fatal }
        }
        Outcome::Failed(_) => Verdict::Fatal,
        Outcome::Answered { status, headers, body, now } => match status {
            403 | 429 => rate_limit(*status, headers, body, *now),
            // With 503, an overloaded server may say when to try again.
            503 => asked_wait(headers, *now).map_or(Verdict::Retry, Verdict::RetryAfter),
            500 | 502 | 504 | 408 if repeatable => Verdict::Retry,
            _ => Verdict::Done,
        },
    }
}

/// The time of an answer by the server's own clock, by which it names other times; ours if it does not tell.
#[must_use]
pub fn answered_at(headers: &HeaderMap) -> Timestamp {
    let date = header(headers, "date");
    let parser = jiff::fmt::rfc2822::DateTimeParser::new();
    date.and_then(|date| parser.parse_timestamp(date).ok()).unwrap_or_else(Timestamp::now)
}

fn rate_limit(status: u16, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Verdict {
    if let Some(wait) = asked_wait(headers, now) {
        return Verdict::RetryAfter(wait);
    }
    if header(headers, "x-ratelimit-remaining") == Some("0") {
        let reset = header(headers, "x-ratelimit-reset")
            .and_then(|text| text.parse::<i64>().ok())
            .and_then(|second| Timestamp::from_second(second).ok());
        // Even if the reset time has passed or cannot be read, the answer was a refusal.
        return Verdict::RetryAfter(reset.map_or(RATE_LIMIT_WAIT, |reset| until(reset, now)));
    }
    let said = String::from_utf8_lossy(&body[..body.len().min(4096)]).to_ascii_lowercase();
    if status == 429 || said.contains("rate limit") {
        Verdict::RetryAfter(RATE_LIMIT_WAIT)
    } else {
        Verdict::Done
    }
}

/// `retry-after`, in seconds or as an HTTP date.
fn asked_wait(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = header(headers, "retry-after")?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(until(date, now))
}

/// The time from `now` to `then`, plus a second, because such times are rounded down to whole seconds.
fn until(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or_default() + Duration::from_secs(1)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The back-off: full jitter, doubling to a cap, so that machines that fail together do not retry together.
#[derive(Debug, Clone)]
pub struct Backoff {
    ceiling: Duration,
    /// How often the server has requested a wait.
    refusals: u32,
}

impl Backoff {
    /// A fuzzer would only wait.
    const START: Duration = Duration::from_millis(if cfg!(fuzzing) { 1 } else { 250 });
    const CAP: Duration = Duration::from_secs(10);
    /// The time over which the machines that share a limit return, at first.
    const SPREAD: Duration = Duration::from_secs(30);

    /// The next wait: random, up to a ceiling that doubles each time.
    pub fn wait(&mut self) -> Duration {
        let ceiling = self.ceiling;
        self.ceiling = (ceiling * 2).min(Self::CAP);
        ceiling.mul_f64(fastrand::f64())
    }

    /// How long to wait for a verdict that says to try again, and whether the server requested a wait. If it requested
    /// less than the back-off, or nothing, the back-off applies.
    pub fn obey(&mut self, verdict: Verdict) -> (Duration, bool) {
        let ceiling = self.ceiling;
        let own = self.wait();
        match verdict {
            // The jitter can make runup's own wait very short, which is fine for independent failures. A server that
            // requests a wait gets at least half of the ceiling.
            Verdict::RetryAfter(asked) => (asked.max(own).max(ceiling / 2), true),
            _ => (own, false),
        }
    }

    /// The pause for a wait that the server requested: many machines that meet one limit must not all return in the
    /// second in which it is lifted, or most are refused again. Whoever is refused again shares the limit with more
    /// machines than one window admits, and returns within twice the time, up to eight times.
    pub fn spread(&mut self, wait: Duration) -> Duration {
        let over = (wait / 4).min(Self::SPREAD) * (1 << self.refusals.min(3));
        self.refusals += 1;
        wait + over.mul_f64(fastrand::f64())
    }

    /// Starts over, after an attempt that made progress.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { ceiling: Self::START, refusals: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderName, HeaderValue};

    const NOW: i64 = 1_800_000_000;

    fn judge(method: &Method, status: u16, headers: &[(&'static str, String)], body: &str) -> Verdict {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect();
        let now = Timestamp::from_second(NOW).unwrap();
        verdict(method, &Outcome::Answered { status, headers: &headers, body: body.as_bytes(), now })
    }

    #[test]
    fn every_status_code_has_its_verdict() {
        for status in 100..=599 {
            let expected = match status {
                408 | 500 | 502 | 503 | 504 => Verdict::Retry,
                429 => Verdict::RetryAfter(Duration::from_secs(60)),
                _ => Verdict::Done,
            };
            for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
                assert_eq!(judge(&method, status, &[], ""), expected, "{method} {status}");
            }
        }
    }

    #[test]
    fn a_patch_of_unknown_fate_is_not_repeated() {
        assert_eq!(judge(&Method::PATCH, 502, &[], ""), Verdict::Done);
        assert_eq!(judge(&Method::PATCH, 503, &[], ""), Verdict::Retry);
    }

    #[test]
    fn a_refusal_is_final_unless_it_is_a_rate_limit() {
        let get = Method::GET;
        let after = |seconds| Verdict::RetryAfter(Duration::from_secs(seconds));
        let limit = |name: &'static str, value: &str| (name, value.to_owned());
        assert_eq!(judge(&get, 403, &[], "Resource not accessible by integration"), Verdict::Done);
        assert_eq!(judge(&get, 403, &[limit("x-ratelimit-remaining", "12")], "no"), Verdict::Done);
        assert_eq!(judge(&get, 403, &[], "You have exceeded a secondary rate limit."), after(60));
        assert_eq!(judge(&get, 403, &[limit("retry-after", "7")], ""), after(7));
        assert_eq!(judge(&get, 429, &[limit("retry-after", "0")], ""), after(0));
        let reset = [limit("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", (NOW + 90).to_string())];
        assert_eq!(judge(&get, 403, &reset, ""), after(91));
        let past = [limit("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", (NOW - 90).to_string())];
        assert_eq!(judge(&get, 429, &past, ""), after(1));
    }

    #[test]
    fn times_are_compared_with_the_clock_of_whoever_named_them() {
        let date =
            |text| HeaderMap::from_iter([(HeaderName::from_static("date"), HeaderValue::from_static(text))]);
        // Whatever our clock shows.
        assert_eq!(answered_at(&date("Fri, 15 Jan 2027 08:00:00 GMT")).as_second(), NOW);
        for headers in [HeaderMap::new(), date("yesterday")] {
            assert!((answered_at(&headers).as_second() - Timestamp::now().as_second()).abs() < 60);
        }
    }

    #[test]
    fn machines_that_wait_for_one_limit_return_one_after_another() {
        let wait = Duration::from_secs(2700);
        let pauses: Vec<Duration> = (0..200).map(|_| Backoff::default().spread(wait)).collect();
        assert!(pauses.iter().all(|pause| *pause >= wait && *pause <= wait + Backoff::SPREAD));
        let seconds: std::collections::HashSet<u64> = pauses.iter().map(Duration::as_secs).collect();
        assert!(seconds.len() > 20, "{seconds:?}");
        assert_eq!(Backoff::default().spread(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn machines_that_are_refused_again_return_over_a_longer_time() {
        let wait = Duration::from_secs(60);
        for (refusals, over) in [(1, 15), (2, 30), (3, 60), (4, 120), (9, 120)] {
            let last = |_| {
                let mut backoff = Backoff::default();
                (0..refusals).map(|_| backoff.spread(wait)).last().unwrap()
            };
            let longest = (0..200).map(last).max().unwrap();
            let over = Duration::from_secs(over);
            assert!(longest <= wait + over && longest > wait + over * 9 / 10, "{refusals}: {longest:?}");
        }
    }

    #[test]
    fn retry_after_may_be_a_date() {
        // The second 1,800,000,000 is 08:00:00 on 15 January 2027.
        let date = [("retry-after", "Fri, 15 Jan 2027 08:01:00 GMT".to_owned())];
        assert_eq!(judge(&Method::GET, 429, &date, ""), Verdict::RetryAfter(Duration::from_secs(61)));
        assert_eq!(judge(&Method::GET, 503, &date, ""), Verdict::RetryAfter(Duration::from_secs(61)));
    }

    #[test]
    fn a_server_that_asks_for_no_wait_gets_the_back_off() {
        let mut backoff = Backoff::default();
        let (mut ceiling, mut total) = (Backoff::START, Duration::ZERO);
        for _ in 0..10 {
            let (wait, asked) = backoff.obey(Verdict::RetryAfter(Duration::ZERO));
            assert!(asked && wait >= ceiling / 2 && wait <= ceiling, "{wait:?} of {ceiling:?}");
            ceiling = (ceiling * 2).min(Backoff::CAP);
            total += wait;
        }
        assert!(total > Duration::from_secs(20), "{total:?}");
        assert_eq!(backoff.obey(Verdict::RetryAfter(Duration::from_secs(60))).0, Duration::from_secs(60));
        let get = Method::GET;
        for odd in ["-5", "", "soon", "0.5", "99999999999999999999999", "\u{7f}"] {
            let Ok(value) = HeaderValue::from_str(odd) else { continue };
            let headers = HeaderMap::from_iter([(HeaderName::from_static("retry-after"), value)]);
            let now = Timestamp::from_second(NOW).unwrap();
            let outcome = |status| Outcome::Answered { status, headers: &headers, body: b"", now };
            assert_eq!(verdict(&get, &outcome(429)), Verdict::RetryAfter(RATE_LIMIT_WAIT), "{odd:?}");
            assert_eq!(verdict(&get, &outcome(503)), Verdict::Retry, "{odd:?}");
        }
        let past = [("retry-after", "Fri, 15 Jan 2021 08:01:00 GMT".to_owned())];
        assert_eq!(judge(&get, 429, &past, ""), Verdict::RetryAfter(Duration::from_secs(1)));
        let absurd = [("retry-after", u64::MAX.to_string())];
        assert_eq!(judge(&get, 429, &absurd, ""), Verdict::RetryAfter(Duration::from_secs(u64::MAX)));
        let limit = [("x-ratelimit-remaining", "0".to_owned()), ("x-ratelimit-reset", i64::MIN.to_string())];
        assert_eq!(judge(&get, 403, &limit, ""), Verdict::RetryAfter(RATE_LIMIT_WAIT));
    }

    #[test]
    fn the_back_off_grows_to_its_cap() {
        let mut backoff = Backoff::default();
        let mut ceiling = Backoff::START;
        for _ in 0..20 {
            assert!(backoff.wait() <= ceiling);
            ceiling = (ceiling * 2).min(Backoff::CAP);
        }
        assert_eq!(backoff.ceiling, Backoff::CAP);
    }
}
