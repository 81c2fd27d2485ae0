//! Downloads over bad connections: whatever fails in between, there is the tree of the archive or a classified failure.

use crate::archive::{gzip, tar_of};
use crate::machine::{staged, staging};
use crate::server::answering;
use runup::error::Class;
use runup::transfer::{Expect, Format, Limits, Order, Sha256Digest, Source};
use sha2::{Digest as _, Sha256};
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

/// The most faults of one download.
const FAULTS: usize = 8;

static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(20_000).collect()
});
static ARCHIVE: LazyLock<Vec<u8>> = LazyLock::new(|| gzip(&tar_of("noise", &NOISE)));

static PACKED_ARCHIVE: LazyLock<Vec<u8>> = LazyLock::new(|| gzip(&ARCHIVE));
const PACKED: &str = "content-encoding: gzip\r\netag: \"a\"\r\n";

/// The first byte: whether the digest is known. Then three bytes for each fault: its kind, and a number.
pub fn run(data: &[u8]) -> bool {
    let [first, rest @ ..] = data else { return false };
    let verified = first & 1 != 0;
    let script = rest.chunks_exact(3).take(FAULTS).map(|bytes| {
        let (kind, number) = (bytes[0], usize::from(u16::from_le_bytes([bytes[1], bytes[2]])));
        Box::new(move |head: &str| faulty(kind, number, head)) as Box<dyn Fn(&str) -> Vec<u8> + Send>
    });
    let address = answering(script.collect(), Box::new(|head| partial(head, usize::MAX, "a", 0)));
    let expect = Expect::Sha256(Sha256Digest::new(Sha256::digest(&*ARCHIVE).into()));
    let outcome = staged(&Order {
        source: Source::Http { url: format!("http://{address}/archive").parse().unwrap(), bearer: None },
        format: Format::TarGz,
        expect: if verified { expect } else { Expect::Unverified },
        staging: staging(),
        owner: None,
        closed: false,
        limits: Limits { received: 1 << 20, ..Limits::default() },
        retry_timeout: Duration::from_millis(50),
    });
    match outcome {
        Ok(tree) => {
            assert_eq!(tree.len(), 1);
            assert!(
                tree[0].0 == Path::new("noise") && tree[0].2 == *NOISE,
                "the tree is not that of the archive"
            );
            true
        }
        Err(class) => {
            let expected = [Class::TempFail, Class::Protocol, Class::Data, Class::NoPerm, Class::Unavailable];
            assert!(expected.contains(&class), "{class:?}");
            false
        }
    }
}

fn faulty(kind: u8, number: usize, head: &str) -> Vec<u8> {
    let at = number % ARCHIVE.len();
    let bare = |status: usize, headers: &str| answer(&status.to_string(), headers, b"", 0);
    match kind % 13 {
        0 => partial(head, at, "a", 0),
        1 => partial(head, at, "b", 0),
        2 => whole(at, "a"),
        3 => whole(at, ""),
        4 => partial(head, usize::MAX, "a", number % 300),
        5 => bare(100 + number % 500, ""),
        6 => bare(416, &format!("content-range: bytes */{number}\r\n")),
        7 => bare(429, &format!("retry-after: {}\r\n", number % 2)),
        8 => {
            let mut wrong = ARCHIVE.clone();
            wrong[at] ^= 1;
            answer("200", "etag: \"c\"\r\n", &wrong, wrong.len())
        }
        9 => answer("200", "", &ARCHIVE, ARCHIVE.len() + 1 + number % 10),
        10 => Vec::new(),
        11 => {
            answer("200", PACKED, &PACKED_ARCHIVE[..number.min(PACKED_ARCHIVE.len())], PACKED_ARCHIVE.len())
        }
        _ => answer("200", PACKED, &ARCHIVE[..at], ARCHIVE.len()),
    }
}

/// What was requested, of which at most `most` bytes are sent, from `shift` bytes further on than the header says.
fn partial(head: &str, most: usize, tag: &str, shift: usize) -> Vec<u8> {
    let range = head.lines().find_map(|line| line.strip_prefix("range: bytes="));
    let Some(from) = range.and_then(|range| range.trim_end_matches('-').parse::<usize>().ok()) else {
        return whole(most, tag);
    };
    let total = ARCHIVE.len();
    let rest = ARCHIVE.get(from + shift..).unwrap_or_default();
    let headers = format!("content-range: bytes {from}-{}/{total}\r\netag: \"{tag}\"\r\n", total - 1);
    answer("206", &headers, &rest[..most.min(rest.len())], total - from.min(total))
}

fn whole(most: usize, tag: &str) -> Vec<u8> {
    let headers = if tag.is_empty() { String::new() } else { format!("etag: \"{tag}\"\r\n") };
    answer("200", &headers, &ARCHIVE[..most.min(ARCHIVE.len())], ARCHIVE.len())
}

fn answer(status: &str, headers: &str, body: &[u8], promised: usize) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {promised}\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}
