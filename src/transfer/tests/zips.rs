//! The zip files of the corpus, whose headers are written byte by byte.

use super::archive::gzip;
use super::corpus::{Case, Verdict};
use crate::transfer::Format;

fn zip(what: &'static str, verdict: Verdict, bytes: Vec<u8>) -> Case {
    Case { what, format: Format::Zip, bytes, verdict }
}

/// An entry of a zip file as an attacker would write it.
#[derive(Clone)]
struct Entry {
    name: &'static [u8],
    /// The name in the entry's own header.
    own_name: &'static [u8],
    flags: u16,
    method: u16,
    /// In the entry's own header.
    own_method: u16,
    checksum: u32,
    size: u32,
    packed: u32,
    mode: u32,
    extra: Vec<u8>,
    data: Vec<u8>,
    /// Where the list says that the entry is.
    at: Option<u32>,
}

fn entry(name: &'static [u8], mode: u32, data: &[u8]) -> Entry {
    let mut checksum = flate2::Crc::new();
    checksum.update(data);
    let length = u32::try_from(data.len()).unwrap();
    Entry {
        name,
        own_name: name,
        flags: 0,
        method: 0,
        own_method: 0,
        checksum: checksum.sum(),
        size: length,
        packed: length,
        mode,
        extra: Vec::new(),
        data: data.to_vec(),
        at: None,
    }
}

fn file(name: &'static [u8]) -> Entry {
    entry(name, 0o100_644, b"x")
}

fn common(entry: &Entry, method: u16, name: &[u8]) -> Vec<u8> {
    let mut bytes = [20, entry.flags, method, 0, 0x21].map(u16::to_le_bytes).concat();
    bytes.extend([entry.checksum, entry.packed, entry.size].map(u32::to_le_bytes).concat());
    bytes.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
    bytes.extend(u16::try_from(entry.extra.len()).unwrap().to_le_bytes());
    bytes
}

fn zipped(entries: &[Entry]) -> Vec<u8> {
    let (mut bytes, mut list) = (Vec::new(), Vec::new());
    for entry in entries {
        let at = entry.at.unwrap_or(u32::try_from(bytes.len()).unwrap());
        bytes.extend(
            [b"PK\x03\x04", &common(entry, entry.own_method, entry.own_name)[..], entry.own_name].concat(),
        );
        bytes.extend([&entry.extra[..], &entry.data].concat());
        // No comment, the first disk, no internal attributes.
        list.extend([b"PK\x01\x02\x14\x03", &common(entry, entry.method, entry.name)[..], &[0; 6]].concat());
        list.extend((entry.mode << 16).to_le_bytes());
        list.extend(at.to_le_bytes());
        list.extend([entry.name, &entry.extra].concat());
    }
    let count = u16::try_from(entries.len()).unwrap().to_le_bytes();
    let numbers =
        [list.len(), bytes.len()].map(|number| u32::try_from(number).unwrap().to_le_bytes()).concat();
    [&bytes[..], &list, b"PK\x05\x06\0\0\0\0", &count, &count, &numbers, b"\0\0"].concat()
}

fn one(entry: Entry) -> Vec<u8> {
    zipped(&[entry])
}

pub(super) fn names() -> Vec<Case> {
    const LONG: &[u8] = &[b'n'; 4097];
    let link = |target: &[u8]| entry(b"l", 0o120_777, target);
    let mode = |mode| one(entry(b"x", mode, b""));
    vec![
        zip("a tree in zip", "a/ a/b", zipped(&[entry(b"a/", 0o40_755, b""), file(b"a/b")])),
        zip("no entries in zip", "", zipped(&[])),
        zip("an absolute name in zip", "Refused Absolute", one(file(b"/x"))),
        zip("a name that climbs in zip", "Refused Climbs", one(file(b"../x"))),
        zip("one that climbs and stays inside in zip", "Refused Climbs", one(file(b"a/../x"))),
        zip("a backslash in zip", "..\\x", one(file(b"..\\x"))),
        zip("a NUL in zip", "Refused Nul", one(file(b"a\0b"))),
        zip("no name in zip", "Refused EmptyName", one(file(b""))),
        zip("a long name in zip", "Refused TooLong", one(file(LONG))),
        zip("not UTF-8 in zip", "\u{fffd}\u{fffd}", one(file(b"\xff\xfe"))),
        zip("a newline in zip", "a\nb", one(file(b"a\nb"))),
        zip("one name twice in zip", "Refused Duplicate", zipped(&[file(b"x"), file(b"x")])),
        zip("one name in two forms in zip", "Refused Duplicate", zipped(&[file(b"x"), file(b"./x")])),
        zip("a file as a directory in zip", "Refused NotInDirectory", zipped(&[file(b"x"), file(b"x/y")])),
        zip("a link to an absolute path in zip", "Refused LinkAbsolute", one(link(b"/etc"))),
        zip("a link that climbs in zip", "Refused LinkClimbs", one(link(b"../x"))),
        zip("a file through a link in zip", "Refused NotInDirectory", zipped(&[link(b"."), file(b"l/x")])),
        zip("a file in the place of a link in zip", "Refused Duplicate", zipped(&[link(b"x"), file(b"./l")])),
        zip("a link without a target in zip", "Refused LinkName", one(link(b""))),
        zip("a character device in zip", "Refused Kind", mode(0o20_644)),
        zip("a block device in zip", "Refused Kind", mode(0o60_644)),
        zip("a named pipe in zip", "Refused Kind", mode(0o10_644)),
        zip("a socket in zip", "Refused Kind", mode(0o140_644)),
        zip("setuid, setgid and sticky in zip", "x", mode(0o107_777)),
        zip("a directory with contents in zip", "Refused Kind", one(entry(b"d/", 0o100_644, b"x"))),
    ]
}

pub(super) fn lies() -> Vec<Case> {
    let good = || file(b"x");
    let both = |method| Entry { method, own_method: method, ..good() };
    let plain = one(good());
    let zip64 = [1, 0, 16, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0].to_vec();
    // The second entry is inside of the first one's data, so that the same bytes count twice.
    let inner = one(file(b"y"));
    let length = inner.len() - 22 - 47;
    let outer = entry(b"x", 0o100_644, &inner[..length]);
    let quoted = {
        let mut entries = vec![outer, Entry { at: Some(31), ..file(b"y") }];
        entries[1].own_name = b"z";
        zipped(&entries)
    };
    // Its own header has an extra field, of which the list says nothing: all that is between it and the other one's data.
    let shifted = {
        let (field, other) = (vec![0x99, 0x99, 31, 0], entry(b"y", 0o100_644, b"same"));
        let mut bytes = zipped(&[Entry { data: field, ..entry(b"x", 0o100_644, b"same") }, other]);
        bytes[28] = 4 + 31;
        bytes
    };
    vec![
        zip("encrypted", "Refused Stored", one(Entry { flags: 1, ..good() })),
        zip("strongly encrypted", "Refused Stored", one(Entry { flags: 0x41, ..good() })),
        zip("AES", "Refused Stored", one(both(99))),
        zip("bzip2", "Refused Stored", one(both(12))),
        zip("an unknown method", "Refused Stored", one(both(1234))),
        zip("another name in the entry", "Header", one(Entry { own_name: b"y", ..good() })),
        zip("another method in the entry", "Header", one(Entry { own_method: 8, ..good() })),
        zip("a wrong checksum in zip", "Damaged", one(Entry { checksum: 1, ..good() })),
        zip("a larger size in zip", "Truncated", one(Entry { size: 2, ..good() })),
        zip("a smaller size in zip", "Damaged", one(Entry { size: 0, ..good() })),
        zip("more data than there is", "NotZip", one(Entry { packed: 4000, size: 4000, ..good() })),
        zip("not deflated", "Damaged", one(both(8))),
        zip("zip64", "NotZip", one(Entry { size: u32::MAX, packed: u32::MAX, extra: zip64, ..good() })),
        zip("an entry beyond the file", "NotZip", one(Entry { at: Some(4000), ..good() })),
        zip("an entry inside the list", "NotZip", one(Entry { at: Some(33), ..good() })),
        zip(
            "two entries in one place",
            "NotZip",
            zipped(&[good(), Entry { at: Some(0), own_name: b"y", ..file(b"y") }]),
        ),
        zip("an entry inside another one", "NotZip", quoted),
        zip("an entry shifted onto the data of another one", "NotZip", shifted),
        zip("something before a zip file", "NotZip", [b"PK\x03\x04", &plain[..]].concat()),
        zip("something after a zip file", "NotZip", [&plain[..], b"x"].concat()),
        zip("two end records", "NotZip", [&plain[..], &plain[plain.len() - 22..]].concat()),
        zip("no end record", "NotZip", plain[..plain.len() - 22].to_vec()),
        zip("half an end record", "NotZip", plain[..plain.len() - 5].to_vec()),
        zip("no bytes in zip", "Empty", Vec::new()),
        zip("a page in zip", "NotZip", b"<html>".to_vec()),
        zip("gzip in zip", "NotZip", gzip(b"x")),
    ]
}
