//! Hostile archives.

use super::{start, watch};
use crate::rig::{PATIENCE, Rig, signal, until};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

/// Long enough for a busy machine, and a fraction of what these archives took before the fixes.
const SOON: Duration = Duration::from_secs(20);

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A member as an attacker would write it, its content included.
fn member(tar: &mut Vec<u8>, name: &[u8], kind: u8, link: &[u8], content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o755);
    header.set_size(content.len() as u64);
    header.set_cksum();
    tar.extend_from_slice(header.as_bytes());
    tar.extend_from_slice(content);
    tar.resize(tar.len().next_multiple_of(512), 0);
}

fn finished(mut tar: Vec<u8>) -> Vec<u8> {
    tar.resize(tar.len() + 1024, 0);
    gzip(&tar)
}

/// One GNU long name with this many components.
fn long_name(components: usize) -> Vec<u8> {
    let mut tar = Vec::new();
    member(&mut tar, b"././@LongLink", b'L', b"", &b"d/".repeat(components));
    member(&mut tar, b"d", b'0', b"", b"x");
    finished(tar)
}

/// Runs `bake` with this archive, with its own digest or with a wrong one.
fn bake(rig: &Rig, name: &str, bytes: &[u8], right: bool, more: &[&str]) -> std::process::Child {
    let path = rig.write(name, bytes);
    let digest = if right { hex::encode(Sha256::digest(bytes)) } else { "ab".repeat(32) };
    let mut arguments = vec!["bake", "--archive", &path, "--sha256", &digest];
    arguments.extend(more);
    rig.start(&arguments)
}

/// H4: one name of 500,000 components, in an archive of a kilobyte with a wrong digest, ran for minutes.
#[test]
fn a_name_of_half_a_million_components_ends_at_once() {
    let bytes = long_name(500_000);
    assert!(bytes.len() < 4096, "{}", bytes.len());
    let rig = Rig::new();
    let ran = watch(bake(&rig, "a.tar.gz", &bytes, false, &[])).expect(65).bounded(SOON);
    ran.says("SHA-256");
    rig.assert_nothing_left();
    // The right digest makes no difference.
    let ran = watch(bake(&rig, "a.tar.gz", &bytes, true, &[])).expect(65).bounded(SOON);
    ran.says("more than 4096 bytes");
    rig.assert_nothing_left();
}

/// H4, its neighbours: long targets of links, long pax attributes, many long names, headers that promise more.
#[test]
fn no_header_of_an_archive_takes_time_or_memory_on_credit() {
    let pax = |key: &str, length: usize| {
        let value = "d/".repeat(length / 2);
        let mut size = value.len() + key.len() + 3;
        size += size.to_string().len();
        size = value.len() + key.len() + 3 + size.to_string().len();
        format!("{size} {key}={value}\n").into_bytes()
    };
    let mut link = Vec::new();
    member(&mut link, b"././@LongLink", b'K', b"", &b"d/".repeat(400_000));
    member(&mut link, b"l", b'2', b"", b"");
    let mut path = Vec::new();
    member(&mut path, b"pax", b'x', b"", &pax("path", 1_000_000));
    member(&mut path, b"p", b'0', b"", b"x");
    let mut global = Vec::new();
    for _ in 0..60 {
        member(&mut global, b"pax", b'g', b"", &pax("comment", 1_000_000));
    }
    let mut many = Vec::new();
    for _ in 0..3000 {
        member(&mut many, b"././@LongLink", b'L', b"", &b"d/".repeat(8000));
        member(&mut many, b"d", b'0', b"", b"");
    }
    let mut promise = Vec::new();
    member(&mut promise, b"pax", b'x', b"", b"");
    promise[124..135].copy_from_slice(b"03777777777");
    let sum: u32 = promise
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
        .sum();
    promise[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    promise.resize(60 << 20, b'1');
    for (what, tar) in
        [("link", link), ("path", path), ("global", global), ("many", many), ("promise", promise)]
    {
        let rig = Rig::new();
        for right in [false, true] {
            let watched = watch(bake(&rig, "a.tar.gz", &finished(tar.clone()), right, &[]));
            assert_eq!(watched.ran.code, 65, "{what}: {}", start(&watched.ran));
            watched.bounded(SOON);
            rig.assert_nothing_left();
        }
    }
}

/// H4: neither the deadline nor SIGTERM stopped it. An archive with the most entries that are accepted takes long enough.
#[test]
fn the_deadline_and_a_signal_end_an_archive_of_many_entries() {
    let mut tar = Vec::new();
    for number in 0..55_000 {
        member(&mut tar, format!("d/{number:x}").as_bytes(), b'0', b"", b"");
    }
    let bytes = finished(tar);
    let rig = Rig::new();
    let ran = watch(bake(&rig, "a.tar.gz", &bytes, true, &["--deadline", "200ms"])).expect(75).bounded(SOON);
    ran.says("deadline");
    rig.assert_nothing_left();

    let child = bake(&rig, "a.tar.gz", &bytes, true, &[]);
    let staging = rig.root().join("opt/.actions-runner.runup-staging/d");
    until("it is unpacking", || staging.exists());
    let began = Instant::now();
    signal(&child, rustix::process::Signal::TERM);
    let watched = watch(child);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    watched.expect(143);
    rig.assert_nothing_left();
}

/// H4's neighbour: more entries, and more links, than are accepted.
#[test]
fn more_entries_than_any_runner_has_are_refused() {
    for kind in [b'0', b'2'] {
        let mut tar = Vec::new();
        for number in 0..61_000 {
            // Random content, because otherwise the compression ratio would be refused.
            let noise = format!("{number:x}-{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
            member(&mut tar, noise.as_bytes(), kind, noise.as_bytes(), b"");
        }
        let rig = Rig::new();
        let watched = watch(bake(&rig, "a.tar.gz", &finished(tar), true, &[]));
        watched.expect(65).bounded(PATIENCE).says("refusing the archive");
        rig.assert_nothing_left();
    }
}

/// The list of a zip64 file passed the limit: 424 MB for two million entries.
#[test]
fn a_list_of_a_zip_file_takes_no_memory_that_it_is_not_worth() {
    const ENTRIES: u64 = 400_000;
    let mut zip = b"PK\x03\x04 and no more of it".to_vec();
    let place = zip.len() as u64;
    for number in 0..ENTRIES {
        let mut header = [0; 46];
        header[..4].copy_from_slice(b"PK\x01\x02");
        header[28] = 8;
        zip.extend_from_slice(&header);
        zip.extend_from_slice(format!("{number:08x}").as_bytes());
    }
    let (size, end) = (zip.len() as u64 - place, zip.len() as u64);
    zip.extend_from_slice(b"PK\x06\x06");
    zip.extend_from_slice(&44_u64.to_le_bytes());
    zip.extend_from_slice(&[45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for number in [ENTRIES, ENTRIES, size, place] {
        zip.extend_from_slice(&number.to_le_bytes());
    }
    zip.extend_from_slice(b"PK\x06\x07\0\0\0\0");
    zip.extend_from_slice(&end.to_le_bytes());
    zip.extend_from_slice(&[1, 0, 0, 0]);
    zip.extend_from_slice(b"PK\x05\x06\0\0\0\0\xff\xff\xff\xff");
    // The size is correct where it fits: only zip64's count is needed.
    zip.extend_from_slice(&1000_u32.to_le_bytes());
    zip.extend_from_slice(b"\xff\xff\xff\xff\0\0");
    let rig = Rig::new();
    let child = bake(&rig, "a.zip", &zip, true, &["--os", "win", "--arch", "x64"]);
    watch(child).expect(65).bounded(SOON).says("zip64");
    rig.assert_nothing_left();
}

/// The archive of the sandbox's runner, for this machine.
fn good(rig: &Rig) -> (String, Vec<u8>) {
    let (base, version) = (rig.sandbox.base_url(), rig.sandbox.runner_version());
    let platform = rig.run(&["bake", "--check", "--json"]).json()["platform"].as_str().unwrap().to_owned();
    let mut stream = std::net::TcpStream::connect((base.host_str().unwrap(), base.port().unwrap())).unwrap();
    let path = format!("/_sandbox/mirror/{platform}/{version}");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    (format!("actions-runner-{platform}-{version}.tar.gz"), answer.split_off(end + 4))
}

/// The same archive with one more file.
fn with_member(archive: &[u8], name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    GzDecoder::new(archive).read_to_end(&mut tar).unwrap();
    let mut changed = Vec::new();
    member(&mut changed, name.as_bytes(), kind, b"", content);
    changed.extend_from_slice(&tar);
    gzip(&changed)
}

/// `bake` of an archive that brings an identity or an environment left the tree in place.
#[test]
fn an_archive_that_brings_an_identity_or_an_environment_is_not_placed() {
    let rig = Rig::new();
    rig.run(&["bake"]).expect(0);
    let (name, archive) = good(&rig);
    let before = rig.everything();
    for (file, kind) in [
        (".runner", b'0'),
        (".credentials", b'0'),
        (".credentials_rsaparams", b'0'),
        (".runner_migrated", b'0'),
        (".env", b'0'),
        (".path", b'0'),
        (".service", b'0'),
        ("./svc.sh", b'0'),
        ("_diag/", b'5'),
        ("_work/", b'5'),
    ] {
        let bytes = with_member(&archive, file, kind, if kind == b'5' { b"" } else { b"{}" });
        let ran = watch(bake(&rig, &name, &bytes, true, &[])).expect(65).ran;
        let plain = file.trim_start_matches("./").trim_end_matches('/');
        ran.says("not a clean runner").says(plain).says("hint: ");
        std::fs::remove_file(rig.root().join(&name)).unwrap();
        assert_eq!(rig.everything(), before, "{file}: what stood there stays, and nothing else does");
        // The same without a tree.
        let bare = Rig::new();
        watch(bake(&bare, &name, &bytes, true, &[])).expect(65);
        bare.assert_nothing_left();
    }
    assert_eq!(rig.opt(), ["actions-runner"]);
    watch(bake(&rig, &name, &archive, true, &[])).expect(0);
}

/// `--verbose` wrote 1.1 GB in four seconds for a child that floods its output.
#[test]
fn a_script_that_floods_does_not_flood_the_log() {
    let rig = Rig::new();
    rig.run(&["bake"]).expect(0);
    let (name, archive) = good(&rig);
    let mut tar = Vec::new();
    GzDecoder::new(archive.as_slice()).read_to_end(&mut tar).unwrap();
    let mut changed = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(tar.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let (mut header, path) = (entry.header().clone(), entry.path().unwrap().into_owned());
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        if path.ends_with("config.sh") {
            content =
                b"#!/bin/sh\nwhile :; do yes 'a line that says nothing' | head -n 100000; done\n".to_vec();
            header.set_size(content.len() as u64);
            header.set_cksum();
        }
        match entry.link_name().unwrap() {
            Some(link) => changed.append_link(&mut header, &path, link).unwrap(),
            None => changed.append_data(&mut header, &path, content.as_slice()).unwrap(),
        }
    }
    let bytes = gzip(&changed.into_inner().unwrap());
    let path = rig.write(&name, &bytes);
    let digest = hex::encode(Sha256::digest(&bytes));
    watch(rig.start(&["bake", "--archive", &path, "--sha256", &digest])).expect(0);
    for form in ["--log-format=text", "--log-format=json"] {
        let arguments = ["install", "-v", form, "--archive", &path, "--sha256", &digest, "--deadline", "8s"];
        let watched = watch(rig.start(&arguments));
        let ran = watched.expect(75).bounded(SOON);
        assert!(ran.stderr.len() < 2 << 20, "{} bytes", ran.stderr.len());
        ran.says("a line that says nothing").says("left out");
    }
}
