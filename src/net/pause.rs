//! What a server asked one call to wait for, all calls with the same credential wait for: the runners of one machine work
//! side by side, and GitHub counts their calls together.

use super::{Call, Url};
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
    let known = all.entry(key(&call.url, bearer)).or_insert(until);
    *known = until.max(*known);
}

/// Waits for what the answers to other calls asked for.
pub(super) async fn wait(call: &Call) {
    loop {
        let left = left(call);
        if left.is_zero() {
            return;
        }
        tracing::debug!(?left, "another call was told to wait");
        tokio::time::sleep(left).await;
    }
}

/// How long this call is to wait; zero if it need not, or cannot before its deadline: then its own answer tells.
fn left(call: &Call) -> Duration {
    let Some(bearer) = &call.bearer else { return Duration::ZERO };
    let all = UNTIL.lock().unwrap_or_else(PoisonError::into_inner);
    let until = all.get(&key(&call.url, bearer));
    let left = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
    if left < call.deadline.left() { left } else { Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline::Deadline;
    use reqwest::Method;

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
        assert!(left(&call("https://pause.test/b", "one", 100)) > Duration::from_secs(40));
        for other in [
            call("https://pause.test/b", "one", 30),
            call("https://pause.test/a", "two", 100),
            call("https://pause.test:8443/a", "one", 100),
            Call { bearer: None, ..first.clone() },
        ] {
            assert_eq!(left(&other), Duration::ZERO, "{other:?}");
        }
    }
}
