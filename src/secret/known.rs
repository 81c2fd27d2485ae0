//! Finds the secrets of this process in any text, without keeping them.
//!
//! A server, a proxy or a child process can send a token back in any text: a name, a header, an address. Therefore all
//! output is searched for every secret that this process has created. Only a secret's length and a hash under a key of
//! this process are kept, so a secret that was dropped and wiped does not survive in this list.

use super::MARK;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// The shortest secret that is searched for: shorter words occur by chance.
const SHORTEST: usize = 8;
/// How many secrets are kept: a process that runs for months sees many tokens, most of which have expired.
const MOST: usize = 256;
/// The modulus of the polynomial hash: a Mersenne prime, so that no division is needed.
const PRIME: u64 = (1 << BITS) - 1;
const BITS: u32 = 61;

/// What is kept of the secrets.
struct Known {
    /// The point at which the polynomial is evaluated; 0 before the first secret.
    base: u64,
    /// The length and hash of each, oldest first.
    secrets: VecDeque<(usize, u64)>,
}

static KNOWN: Mutex<Known> = Mutex::new(Known { base: 0, secrets: VecDeque::new() });

/// Adds `secret` to what [`scrub`] searches for.
pub fn remember(secret: &str) {
    if secret.len() < SHORTEST {
        return;
    }
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if known.base == 0 {
        known.base = fastrand::u64(1 << 32..PRIME);
    }
    let entry = (secret.len(), hash(secret.as_bytes(), known.base));
    if known.secrets.contains(&entry) {
        return;
    }
    if known.secrets.len() == MOST {
        known.secrets.pop_front();
    }
    known.secrets.push_back(entry);
}

/// `text` with every secret of this process replaced by [`MARK`].
#[must_use]
pub fn scrub(text: &str) -> Cow<'_, str> {
    let (base, secrets) = {
        let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = known.secrets.iter().filter(|(length, _)| *length <= text.len());
        (known.base, fitting.copied().collect::<Vec<_>>())
    };
    let mut lengths: Vec<usize> = secrets.iter().map(|(length, _)| *length).collect();
    lengths.sort_unstable();
    lengths.dedup();
    let mut found: Vec<(usize, usize)> = Vec::new();
    for length in lengths {
        let hashes: Vec<u64> =
            secrets.iter().filter(|(other, _)| *other == length).map(|(_, hash)| *hash).collect();
        windows(text.as_bytes(), length, base, |start, hash| {
            let end = start + length;
            if hashes.contains(&hash) && text.is_char_boundary(start) && text.is_char_boundary(end) {
                found.push((start, end));
            }
        });
    }
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    found.sort_unstable();
    let mut scrubbed = String::with_capacity(text.len());
    let mut at = 0;
    for (start, end) in found {
        // Secrets can overlap.
        if start >= at {
            scrubbed.push_str(&text[at..start]);
            scrubbed.push_str(MARK);
        }
        at = at.max(end);
    }
    scrubbed.push_str(&text[at..]);
    Cow::Owned(scrubbed)
}

/// Calls `each` with the start and the hash of every window of `length` bytes.
fn windows(bytes: &[u8], length: usize, base: u64, mut each: impl FnMut(usize, u64)) {
    let mut current = hash(&bytes[..length], base);
    let leaving = (1..length).fold(1, |power, _| multiply(power, base));
    each(0, current);
    for (start, pair) in bytes.iter().zip(&bytes[length..]).enumerate() {
        let (out, into) = (u64::from(*pair.0) + 1, u64::from(*pair.1) + 1);
        current = reduce(current + PRIME - multiply(out, leaving));
        current = reduce(multiply(current, base) + into);
        each(start + 1, current);
    }
}

fn hash(bytes: &[u8], base: u64) -> u64 {
    bytes.iter().fold(0, |sum, byte| reduce(multiply(sum, base) + u64::from(*byte) + 1))
}

fn multiply(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    let low = u64::try_from(product & u128::from(PRIME)).expect("the low 61 bits fit");
    let high = u64::try_from(product >> BITS).expect("both factors are less than the prime");
    reduce(low + high)
}

/// Reduces a number below twice the prime modulo the prime.
fn reduce(number: u64) -> u64 {
    if number >= PRIME { number - PRIME } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_wherever_it_stands() {
        remember("canary-of-known-one");
        remember("canary-of-known-one-and-more");
        assert_eq!(scrub("canary-of-known-one"), MARK);
        assert_eq!(scrub("é canary-of-known-one é"), "é [secret] é");
        assert_eq!(scrub("xcanary-of-known-one-and-morex"), "x[secret]x");
        assert_eq!(scrub("canary-of-known-onecanary-of-known-one"), "[secret][secret]");
        assert_eq!(scrub("canary-of-known-two"), "canary-of-known-two");
        assert!(matches!(scrub("nothing to see, as long as it may be: é"), Cow::Borrowed(_)));
        assert_eq!(scrub(""), "");
    }

    #[test]
    fn products_are_reduced_as_a_division_would() {
        for _ in 0..10_000 {
            let (one, other) = (fastrand::u64(..PRIME), fastrand::u64(..PRIME));
            let divided = u128::from(one) * u128::from(other) % u128::from(PRIME);
            assert_eq!(u128::from(multiply(one, other)), divided);
        }
        assert_eq!(multiply(PRIME - 1, PRIME - 1), 1);
    }

    #[test]
    fn a_short_word_is_left_alone() {
        remember("token");
        assert_eq!(scrub("a token"), "a token");
    }
}
