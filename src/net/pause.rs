//! What a server asked one call to wait for, all calls with the same credential wait for: the runners of one machine work
//! side by side, and GitHub counts their calls together.

use super::verdict::Backoff;
use super::{Call, Method, Url};
use crate::secret::Secret;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A server, and a digest of the credential.
type Key = (String, [u8; 32]);

static UNTIL: Mutex<BTreeMap<Key, Instant>> = Mutex::new(BTreeMap::new());

fn key(url: &Url, bearer: &Secret) -> Key {
    (url.authority().to_owned(), Sha256::digest(bearer.expose()).into())
}

/// Notes that the server of this call is not to be called for a while.
pub(super) fn note(call: &Call, wait: Duration) {
    let Some((bearer, until)) = call.bearer.as_ref().zip(Instant::now().checked_add(wait)) else { return };
    let mut all = UNTIL.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|_, until| *until > Instant::now());
    let known = all.entry(key(&call.url, bearer)).or_insert(until);
    *known = until.max(*known);
}

/// Waits for what the answers to other calls asked for, a random time longer: not all are to come back at once.
pub(super) async fn wait(call: &Call, backoff: &mut Backoff) {
    loop {
        let left = left(call);
        if left.is_zero() {
            return;
        }
        tracing::debug!(?left, "another call was told to wait");
        tokio::time::sleep(backoff.spread(left).min(call.deadline.left() / 2)).await;
    }
}

/// How long this call is to wait. Zero if it need not, if too little time would be left for it then (its own answer tells), and
/// for taking a runner back: a ghost would be worse than a call too early.
fn left(call: &Call) -> Duration {
    let Some(bearer) = call.bearer.as_ref().filter(|_| call.method != Method::DELETE) else {
        return Duration::ZERO;
    };
    let all = UNTIL.lock().unwrap_or_else(PoisonError::into_inner);
    let until = all.get(&key(&call.url, bearer));
    let left = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
    if left < call.deadline.left() / 2 { left } else { Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline::Deadline;

    fn call(url: &str, token: &str, seconds: u64) -> Call {
        let url = Url::parse(url).expect("it is a URL");
        let deadline = Deadline::after(Duration::from_secs(seconds));
        Call { bearer: Secret::new(token), ..Call::new(Method::GET, url, deadline) }
    }

    #[test]
    fn calls_of_one_credential_to_one_server_wait_if_that_is_not_in_vain() {
        let first = call("https://pause.test/a", "one", 100);
        note(&first, Duration::from_secs(50));
        // A shorter wait does not end a longer one.
        note(&first, Duration::from_secs(5));
        assert!(left(&call("https://pause.test/b", "one", 200)) > Duration::from_secs(40));
        for other in [
            call("https://pause.test/b", "one", 90),
            call("https://pause.test/a", "two", 200),
            call("https://pause.test:8443/a", "one", 200),
            Call { bearer: None, ..call("https://pause.test/b", "one", 200) },
            Call { method: Method::DELETE, ..call("https://pause.test/b", "one", 200) },
        ] {
            assert_eq!(left(&other), Duration::ZERO, "{other:?}");
        }
    }
}
