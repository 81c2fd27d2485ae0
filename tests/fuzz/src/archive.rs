//! Archives: whatever the bytes, and however they are cut into pieces, there is the same tree or a classified failure.

use crate::machine::{Listed, staged, staging};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use runup::error::Class;
use runup::transfer::{Expect, Format, Limits, Order, Source};
use std::io::Write as _;
use std::time::Duration;

const LIMITS: Limits =
    Limits { entries: 64, bytes: 1 << 20, received: 1 << 20, ratio: 200, unsynced: 1 << 20 };
/// The first byte: the rest is not a tar stream, but the gzip file itself.
const IS_GZIP: u8 = 1;
/// The first byte: checksums stay as they are. Otherwise the fuzzer would have to guess them.
const KEEPS_CHECKSUMS: u8 = 2;

/// The first byte has flags, the second one says how the rest is cut.
pub fn tar(data: &[u8]) -> bool {
    let [flags, cut, rest @ ..] = data else { return false };
    if flags & IS_GZIP != 0 {
        return check(Format::TarGz, rest, *cut);
    }
    let mut tar = rest.to_vec();
    if flags & KEEPS_CHECKSUMS == 0 {
        tar.chunks_exact_mut(512).filter(|header| &header[257..262] == b"ustar").for_each(set_checksum);
    }
    check(Format::TarGz, &gzip(&tar), *cut)
}

/// The first byte says how the rest is cut.
pub fn zip(data: &[u8]) -> bool {
    let [cut, rest @ ..] = data else { return false };
    check(Format::Zip, rest, *cut)
}

fn check(format: Format, archive: &[u8], cut: u8) -> bool {
    let whole = unpacked(format, vec![Bytes::copy_from_slice(archive)]);
    assert_eq!(unpacked(format, pieces(archive, cut)), whole, "it depends on how the bytes arrive");
    whole.is_ok()
}

fn unpacked(format: Format, pieces: Vec<Bytes>) -> Result<Vec<Listed>, Class> {
    staged(&Order {
        source: Source::Pieces(pieces),
        format,
        expect: Expect::Unverified,
        staging: staging(),
        owner: None,
        closed: false,
        limits: LIMITS,
        retry_timeout: Duration::ZERO,
    })
}

/// Cuts into pieces of pseudo-random lengths; empty ones are among them.
fn pieces(bytes: &[u8], seed: u8) -> Vec<Bytes> {
    let (mut left, mut state, mut pieces) = (bytes, u32::from(seed) + 1, Vec::new());
    let most = [1, 7, 64, 513, 4096][usize::from(seed) % 5];
    while !left.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (piece, rest) = left.split_at(((state >> 16) as usize % (most + 1)).min(left.len()));
        pieces.push(Bytes::copy_from_slice(piece));
        left = rest;
    }
    pieces
}

fn set_checksum(header: &mut [u8]) {
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A tar stream with one file.
pub fn tar_of(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..107].copy_from_slice(b"0000644");
    header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar  \0");
    set_checksum(&mut header);
    let mut tar = [&header[..], content].concat();
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    tar
}

pub fn good_tar() -> Vec<u8> {
    [&[0, 3][..], &tar_of("bin/runner", b"program")].concat()
}

/// One stored file, `a`, with the content `x`.
pub fn good_zip() -> Vec<u8> {
    // The CRC-32 of "x".
    let checksum = 0x8cdc_1683_u32.to_le_bytes();
    let common =
        [&[10, 0, 0, 0, 0, 0, 0, 0, 0x21, 0][..], &checksum, &[1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]].concat();
    let local = [b"PK\x03\x04", &common[..], b"ax"].concat();
    let listed = [b"PK\x01\x02\x14\x03", &common[..], &[0; 8], &[0; 6], b"a"].concat();
    let end = [
        &b"PK\x05\x06\0\0\0\0\x01\0\x01\0"[..],
        &u32::try_from(listed.len()).unwrap().to_le_bytes(),
        &u32::try_from(local.len()).unwrap().to_le_bytes(),
        b"\0\0",
    ];
    [&[9][..], &local, &listed, &end.concat()].concat()
}
