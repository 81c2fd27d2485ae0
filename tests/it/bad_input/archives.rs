//! Archives that are broken, cut on their way, hostile, or something else.

use crate::rig::{PATIENCE, Rig};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use std::io::Write as _;
use tar::EntryType;

/// One member, as an attacker would write it: no library tidies its name.
struct Member(&'static str, EntryType, &'static str);

fn tar(members: &[Member]) -> Vec<u8> {
    let mut tar = Vec::new();
    for Member(name, kind, content) in members {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        let data: &[u8] = if *kind == EntryType::Regular {
            content.as_bytes()
        } else {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
            b""
        };
        header.set_size(data.len() as u64);
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
        tar.extend_from_slice(data);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

impl Rig {
    /// Installs this archive from a file, with its right digest, and is refused as wrong data.
    #[track_caller]
    fn refuses_archive(&self, bytes: &[u8]) -> crate::rig::Ran {
        let path = self.write("runner.tar.gz", bytes);
        let digest = hex::encode(Sha256::digest(bytes));
        let ran = self.refuses(65, &["--archive", &path, "--sha256", &digest]);
        assert!(!self.root().join("up").exists());
        ran
    }
}

#[test]
fn what_no_runner_archive_has_is_refused_by_name() {
    use EntryType as Kind;
    let rig = Rig::new();
    let good = || Member("./config.sh", Kind::Regular, "#!/bin/bash\n");
    for (member, what) in [
        (Member("../up", Kind::Regular, "x"), "leads out of the archive with '..'"),
        (Member("a/../../../up", Kind::Regular, "x"), "leads out of the archive with '..'"),
        (Member("/tmp/up", Kind::Regular, "x"), "absolute name"),
        (Member("out", Kind::Symlink, "/etc"), "absolute path \"/etc\""),
        (Member("out", Kind::Symlink, "../../etc"), "leads out of the archive, to \"../../etc\""),
        (Member("hard", Kind::Link, "config.sh"), "a hard link"),
        (Member("null", Kind::Char, ""), "a character device"),
        (Member("disk", Kind::Block, ""), "a block device"),
        (Member("pipe", Kind::Fifo, ""), "a named pipe"),
        (Member("config.sh", Kind::Regular, "again"), "occurs twice"),
    ] {
        let name = member.0;
        let ran = rig.refuses_archive(&gzip(&tar(&[good(), member])));
        ran.says("refusing the archive").says(&format!("{name:?}")).says(what);
    }
}

#[test]
fn a_bomb_is_refused_soon() {
    let rig = Rig::new();
    let bomb = gzip(&vec![0; 80 << 20]);
    rig.refuses_archive(&bomb[..]).says("archive");
    // The same as the content of an entry, which is what fills a disk.
    let mut header = tar::Header::new_ustar();
    header.set_path("zeros").unwrap();
    header.set_mode(0o644);
    header.set_size(1 << 32);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(80 << 20, 0);
    rig.refuses_archive(&gzip(&bytes)).says("refusing the archive").says("unpack to more than");
}

#[test]
fn a_broken_file_says_how_it_is_broken() {
    let rig = Rig::new();
    let whole = gzip(&tar(&[Member("config.sh", EntryType::Regular, "#!/bin/bash\n")]));
    rig.refuses_archive(&whole[..whole.len() / 2]).says("truncated").hints("ownload");
    rig.refuses_archive(&whole[..whole.len() - 4]).says("truncated");
    rig.refuses_archive(b"<html>Sign in</html>").says("not gzip").says("<html>Sign in").hints("proxy");
    rig.refuses_archive(b"").says("empty");
    rig.refuses_archive(&[&whole[..], b"more"].concat()).says("after the end");
    let mut damaged = whole.clone();
    *damaged.iter_mut().rev().nth(6).unwrap() ^= 1;
    rig.refuses_archive(&damaged).says("damaged");
    // A good archive of something else.
    rig.refuses_archive(&whole)
        .says("runner.tar.gz does not contain a complete runner")
        .says("bin")
        .hints("runup downloads");
}

#[test]
fn another_digest_than_the_one_asked_for_is_named() {
    let rig = Rig::new();
    let archive = gzip(&tar(&[Member("config.sh", EntryType::Regular, "x")]));
    let path = rig.write("runner.tar.gz", &archive);
    let wanted = "ab".repeat(32);
    let ran = rig.refuses(65, &["--archive", &path, "--sha256", &wanted]).says(&wanted);
    ran.says(&hex::encode(Sha256::digest(&archive))).hints("Do not use it");
    rig.run(&["install", "--sha256", "ab"]).expect(64).says("--sha256");
}

#[test]
fn an_archive_that_is_not_there_or_not_clear() {
    let rig = Rig::new();
    let digest = "ab".repeat(32);
    let with = |archive: &str, code| rig.refuses(code, &["--archive", archive, "--sha256", &digest]);
    with("/nowhere/runner.tar.gz", 66).says("/nowhere/runner.tar.gz");
    let directory = rig.root().join("directory.tar.gz");
    std::fs::create_dir(&directory).unwrap();
    with(directory.to_str().unwrap(), 66).says("not a regular file");
    with("ftp://host/runner.tar.gz", 64).says("ftp://host/runner.tar.gz");
    with(&rig.write("runner.rar", "x"), 65).says("runner.rar").says(".tar.gz");
    // Without a digest, nobody says what it must be.
    let path = rig.write("runner.tar.gz", "x");
    rig.refuses(64, &["--archive", &path]).says("--archive").hints("--sha256");
}

#[test]
fn a_cut_download_is_resumed_where_it_broke() {
    let rig = Rig::new();
    rig.faults(&["archive:2:cut=2000"]);
    rig.run(&["install"]).expect(0).says("resumed 2 times");
    rig.assert_exactly_one_runner();
    let ranges: Vec<Option<String>> = rig
        .sandbox
        .requests()
        .iter()
        .filter(|request| request.route == "archive")
        .map(|request| request.range.clone())
        .collect();
    assert_eq!(ranges, [None, Some("bytes=2000-".into()), Some("bytes=4000-".into())]);
}

#[test]
fn a_server_that_cannot_resume_sends_it_again() {
    let rig = Rig::new();
    rig.faults(&["archive:1:cut=2000", "archive:no-range"]);
    rig.run(&["install"]).expect(0);
    rig.assert_exactly_one_runner();
}

#[test]
fn a_download_that_never_gets_far_ends_at_the_deadline() {
    let rig = Rig::new();
    rig.faults(&["archive:cut=0"]);
    rig.refuses(75, &["--deadline", "4s"]).says("cut").says("packagedownload").hints("gain");
}

#[test]
fn a_download_that_stalls_ends_at_the_deadline() {
    let rig = Rig::new();
    rig.faults(&["archive:stall=2000"]);
    let began = std::time::Instant::now();
    rig.refuses(75, &["--deadline", "1s"]).says("deadline of 1 s").says("download").hints("--deadline");
    assert!(began.elapsed() < PATIENCE / 4, "{:?}", began.elapsed());
}

#[test]
fn a_changed_byte_is_found_and_earns_one_fresh_attempt() {
    let rig = Rig::new();
    rig.faults(&["archive:corrupt=5000"]);
    rig.refuses(65, &[]).says("SHA-256").hints("Do not use it");
    assert_eq!(rig.asked("archive"), 2);
    let rig = Rig::new();
    rig.faults(&["archive:1:corrupt=5000"]);
    rig.run(&["install"]).expect(0);
}

#[test]
fn a_length_that_is_wrong_is_found() {
    let rig = Rig::new();
    rig.faults(&["archive:wrong-length=10"]);
    rig.refuses(76, &["--deadline", "10s"]).says("announced");
}

#[test]
fn a_refusal_of_the_archive_says_what_to_do() {
    for (fault, code, what) in [
        ("archive:status=404", 69, "404"),
        ("archive:status=403", 77, "403"),
        ("archive:expired-token", 77, "401"),
        ("archive:retry-after=3000", 75, "429"),
        ("archive:html=200", 65, "<"),
    ] {
        let rig = Rig::new();
        rig.faults(&[fault]);
        rig.refuses(code, &["--deadline", "5s"]).says(what).hints("");
    }
}
