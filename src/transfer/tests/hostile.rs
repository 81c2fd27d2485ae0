//! Malicious or broken archives. Each must be refused as a whole, with the name of the entry, and leave nothing behind.

use super::archive::{Tar, gzip, zip, zip_link};
use super::*;

/// Why each of these is refused.
fn refusals() -> Vec<(Tar, &'static str, Refusal)> {
    let t = Tar::new;
    let link = |kind: &str| Refusal::Kind { kind: kind.to_owned() };
    let mut all = vec![
        (t().file("/etc/x", 0o644, b"x"), "/etc/x", Refusal::Absolute),
        (t().file("a/../../x", 0o644, b"x"), "a/../../x", Refusal::Climbs),
        (t().dir("..", 0o755), "..", Refusal::Climbs),
        (t().raw(b"", b'0', 0o644, 0, "", b""), "", Refusal::EmptyName),
        (t().file("./", 0o644, b"x"), "./", Refusal::Root),
        (t().file(".", 0o644, b"x"), ".", Refusal::Root),
        (t().link(".", "x"), ".", Refusal::Root),
        (t().typed("hard", b'1', "etc"), "hard", link("a hard link")),
        (t().typed("char", b'3', ""), "char", link("a character device")),
        (t().typed("block", b'4', ""), "block", link("a block device")),
        (t().typed("fifo", b'6', ""), "fifo", link("a named pipe")),
        (t().typed("sparse", b'S', ""), "sparse", link("a sparse file")),
        (t().typed("odd", b'Z', ""), "odd", link("of the unknown type 'Z'")),
        (t().link("l", "/etc"), "l", Refusal::LinkAbsolute { target: "/etc".into() }),
        (t().link("a/l", "../../x"), "a/l", Refusal::LinkClimbs { target: "../../x".into() }),
        (t().link("l", "a/../.."), "l", Refusal::LinkClimbs { target: "a/../..".into() }),
        (t().link("l", ""), "l", Refusal::LinkName),
        (t().file("x", 0o644, b"1").file("./x", 0o644, b"2"), "./x", Refusal::Duplicate),
        (t().dir("d", 0o755).dir("d/", 0o755), "d/", Refusal::Duplicate),
        (t().file("x", 0o644, b"").dir("x", 0o755), "x", Refusal::Duplicate),
        (t().file("x", 0o644, b"").file("x/y", 0o644, b""), "x/y", Refusal::NotInDirectory),
        (t().pax(b'x', "path", "../up").file("x", 0o644, b""), "../up", Refusal::Climbs),
        (t().extension(b'L', b"/abs\0").file("x", 0o644, b""), "/abs", Refusal::Absolute),
        (t().extension(b'L', b"a\0b\0").file("x", 0o644, b""), "a\0b", Refusal::Nul),
        (
            t().pax(b'x', "size", "3").file("x", 0o644, b"four"),
            "x",
            Refusal::Attribute { key: "size".into() },
        ),
        (
            t().pax(b'g', "path", "all").file("x", 0o644, b""),
            "pax_global_header",
            Refusal::Attribute { key: "path".into() },
        ),
        (
            t().pax(b'x', "GNU.sparse.major", "1").file("x", 0o644, b""),
            "",
            Refusal::Attribute { key: "GNU.sparse.major".into() },
        ),
    ];
    if cfg!(unix) {
        // A file that is written through a link.
        all.extend([
            (t().link("l", ".").file("l/x", 0o644, b"x"), "l/x", Refusal::NotInDirectory),
            (t().link("l", ".").dir("l", 0o755), "l", Refusal::Duplicate),
            (t().dir("d", 0o755).link("d", "."), "d", Refusal::Duplicate),
            (t().link("l", "x").file("l", 0o644, b"x"), "l", Refusal::Duplicate),
        ]);
    }
    all
}

#[tokio::test]
async fn what_no_runner_archive_has_is_refused_with_its_name() {
    let bench = Bench::new();
    for (tar, name, expected) in refusals() {
        let error = bench.refuse(&gzip(&tar.finish()), Format::TarGz).await;
        assert_eq!(error.class(), Class::Data);
        let Error::Refused { entry, refusal } = error else { panic!("{name:?}: {error:?}") };
        assert_eq!((entry.as_str(), refusal), (name, expected));
    }
    assert!(!bench.dir.path().join("x").exists());
}

#[tokio::test]
async fn harmless_extensions_are_taken() {
    let bench = Bench::new();
    let long = format!("{}/file", "d".repeat(150));
    let tar = Tar::new()
        .pax(b'g', "comment", "made from git")
        .extension(b'L', format!("{long}\0").as_bytes())
        .file("short", 0o644, b"long")
        .pax(b'x', "mtime", "1.5")
        .file("timed", 0o644, b"")
        .pax(b'x', "path", "renamed")
        .file("name", 0o644, b"pax")
        .finish();
    let order = bench.local(&gzip(&tar), Format::TarGz, Expect::Unverified);
    let staged = bench.stage(&order).await.unwrap();
    assert_eq!(fs_err::read(staged.path.join(long)).unwrap(), b"long");
    assert_eq!(fs_err::read(staged.path.join("renamed")).unwrap(), b"pax");
    assert!(staged.path.join("timed").exists());
}

#[tokio::test]
async fn broken_archives_say_how_they_are_broken() {
    let bench = Bench::new();
    let whole = gzip(&runner().finish());
    let refuse = async |bytes: &[u8]| bench.refuse(bytes, Format::TarGz).await;
    assert!(matches!(refuse(b"").await, Error::Empty));
    let Error::NotGzip { start } = refuse(b"<html>\n<b>Not Found\xff").await else { panic!() };
    assert_eq!(start, "<html>.<b>Not Found.");
    assert!(matches!(refuse(&whole[..whole.len() - 4]).await, Error::Truncated { .. }));
    assert!(matches!(refuse(&whole[..whole.len() / 2]).await, Error::Truncated { .. }));
    assert!(matches!(refuse(&whole[..1]).await, Error::Truncated { .. }));
    assert!(matches!(refuse(&[&whole[..], b"x"].concat()).await, Error::Trailing));
    assert!(matches!(refuse(&[&whole[..], &whole[..]].concat()).await, Error::Trailing));
    let mut checksum = whole.clone();
    *checksum.iter_mut().rev().nth(6).unwrap() ^= 1;
    assert!(matches!(refuse(&checksum).await, Error::Damaged { .. }));
    // Complete as gzip, but not as tar.
    assert!(matches!(refuse(&gzip(&runner().cut())).await, Error::Truncated { .. }));
    let tar = runner().finish();
    assert!(matches!(refuse(&gzip(&tar[..400_000])).await, Error::Truncated { .. }));
    assert!(matches!(refuse(&gzip(&tar[..1300])).await, Error::Truncated { .. }));
    assert!(matches!(refuse(&gzip(b"")).await, Error::Truncated { .. }));
    assert!(matches!(refuse(&gzip(&[b'x'; 2048])).await, Error::Header { .. }));
    let dangling = Tar::new().extension(b'L', b"name\0").finish();
    assert!(matches!(refuse(&gzip(&dangling)).await, Error::Truncated { .. }));
}

#[tokio::test]
async fn limits_stop_it_early() {
    let bench = Bench::new();
    let limited = async |tar: Vec<u8>, limits| {
        let mut order = bench.local(&gzip(&tar), Format::TarGz, Expect::Unverified);
        order.limits = limits;
        bench.stage(&order).await.unwrap_err()
    };
    let limits = Limits::default();
    let many = (0..20).fold(Tar::new(), |tar, n| tar.file(&n.to_string(), 0o644, b""));
    let error = limited(many.finish(), Limits { entries: 19, ..limits }).await;
    assert!(matches!(error, Error::TooManyEntries { limit: 19 }));
    let deep = Tar::new().file(&"d/".repeat(40), 0o644, b"").finish();
    assert!(matches!(limited(deep, Limits { entries: 19, ..limits }).await, Error::TooManyEntries { .. }));
    let large = Tar::new().file("x", 0o644, &[0; 1000]).finish();
    let error = limited(large, Limits { bytes: 999, ..limits }).await;
    assert!(matches!(error, Error::TooManyBytes { limit: 999 }));
    // The header is enough to refuse it: nothing is written.
    let promised = Tar::new().raw(b"x", b'0', 0o644, 7 << 30, "", b"").finish();
    assert!(matches!(
        limited(promised, Limits { bytes: 1 << 30, ..limits }).await,
        Error::TooManyBytes { .. }
    ));
    let order = Order {
        limits: Limits { received: 10, ..limits },
        ..bench.local(&gzip(&runner().finish()), Format::TarGz, Expect::Unverified)
    };
    assert!(matches!(bench.stage(&order).await.unwrap_err(), Error::TooLong { limit: 10 }));
}

#[tokio::test]
async fn a_bomb_stops_soon_after_it_shows() {
    let bench = Bench::new();
    // 256 MiB of zeros in one file, which deflate packs a thousandfold.
    let tar = Tar::new().raw(b"zeros", b'0', 0o644, 256 << 20, "", &vec![0; 256 << 20]).finish();
    let error = bench.refuse(&gzip(&tar), Format::TarGz).await;
    let Error::Bomb { unpacked, .. } = error else { panic!("{error:?}") };
    assert!(unpacked < 66 << 20);
}

#[tokio::test]
async fn an_extension_header_takes_no_memory_on_credit() {
    let bench = Bench::new();
    let tar = Tar::new().raw(b"long", b'L', 0o644, 4 << 30, "", &[b'x'; 4096]).cut();
    let error = bench.refuse(&gzip(&tar), Format::TarGz).await;
    assert!(
        matches!(error, Error::Truncated { .. } | Error::Header { .. } | Error::Refused { .. }),
        "{error:?}"
    );
    let tar = Tar::new().raw(b"pax", b'x', 0o644, 300 << 20, "", &[b'x'; 4096]).cut();
    assert!(matches!(bench.refuse(&gzip(&tar), Format::TarGz).await, Error::Header { .. }));
}

#[tokio::test]
async fn a_name_that_no_system_takes_is_refused_where_it_is_read() {
    let bench = Bench::new();
    let refused = async |tar: Tar| match bench.refuse(&gzip(&tar.finish()), Format::TarGz).await {
        Error::Refused { entry, refusal } => {
            assert!(entry.len() < 300, "{} bytes of a name are shown", entry.len());
            refusal
        }
        error => panic!("{error:?}"),
    };
    let (long, deep) = ("n".repeat(5000), "d/".repeat(500));
    let named = |kind, name: &str| {
        Tar::new().extension(kind, format!("{name}\0").as_bytes()).raw(b"x", b'2', 0o644, 0, "target", b"")
    };
    for kind in [b'L', b'K'] {
        assert_eq!(refused(named(kind, &long)).await, Refusal::TooLong);
        assert_eq!(refused(named(kind, &deep)).await, Refusal::TooDeep);
        // 500,000 components.
        assert_eq!(refused(named(kind, &"d/".repeat(500_000))).await, Refusal::TooLong);
    }
    for key in ["path", "linkpath"] {
        let tar = |value: &str| Tar::new().pax(b'x', key, value).link("x", "target");
        assert_eq!(refused(tar(&long)).await, Refusal::TooLong);
        assert_eq!(refused(tar(&deep)).await, Refusal::TooDeep);
    }
    let zipped = async |bytes: &[u8]| match bench.refuse(bytes, Format::Zip).await {
        Error::Refused { refusal, .. } => refusal,
        error => panic!("{error:?}"),
    };
    assert_eq!(zipped(&zip(&[(&long, None, b"")])).await, Refusal::TooLong);
    assert_eq!(zipped(&zip(&[(&deep, None, b"")])).await, Refusal::TooDeep);
    assert_eq!(zipped(&zip_link("l", &deep)).await, Refusal::TooDeep);
    assert_eq!(zipped(&zip_link("l", &long)).await, Refusal::LinkName);
}

#[tokio::test]
async fn extension_headers_have_a_ceiling_of_their_own() {
    let bench = Bench::new();
    let many = (0..40).fold(Tar::new(), |tar, _| tar.pax(b'g', "comment", "again")).file("x", 0o644, b"");
    let mut order = bench.local(&gzip(&many.finish()), Format::TarGz, Expect::Unverified);
    order.limits.entries = 10;
    assert!(matches!(bench.stage(&order).await.unwrap_err(), Error::TooManyEntries { limit: 10 }));
    let twice = Tar::new().pax(b'x', "path", "a").pax(b'x', "path", "b").file("x", 0o644, b"");
    assert!(matches!(bench.refuse(&gzip(&twice.finish()), Format::TarGz).await, Error::Header { .. }));
    // Incompressible, so that the ratio is not what ends it.
    let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::alphanumeric() as u8).take(60_000).collect();
    let noise = String::from_utf8(noise).unwrap();
    let large = (0..1200).fold(Tar::new(), |tar, _| tar.pax(b'g', "comment", &noise)).file("x", 0o644, b"");
    assert!(matches!(bench.refuse(&gzip(&large.finish()), Format::TarGz).await, Error::Header { .. }));
}

/// Archives that the library would read differently from their end record, or hold in memory without a limit.
#[tokio::test]
async fn a_zip_file_has_one_end_record_and_a_list_that_agrees_with_it() {
    let bench = Bench::new();
    let good = zip(&[("a", None, b"1"), ("b", None, b"2")]);
    let end = good.len() - 22;
    let changed = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let size = u32::from_le_bytes(good[end + 12..end + 16].try_into().unwrap());
    let place = u32::from_le_bytes(good[end + 16..end + 20].try_into().unwrap());
    let bad = [
        ("more entries than the list has", changed(end + 8, &[3, 0, 3, 0])),
        ("fewer", changed(end + 8, &[1, 0, 1, 0])),
        ("zip64's count", changed(end + 8, &[0xff; 4])),
        ("zip64's size and place", changed(end + 12, &[0xff; 8])),
        ("counts that differ", changed(end + 8, &[2, 0, 3, 0])),
        ("a smaller list", changed(end + 12, &(size - 46).to_le_bytes())),
        ("another place", changed(end + 16, &(place - 1).to_le_bytes())),
        ("another disk", changed(end + 4, &[1, 0])),
        ("a comment that is not there", changed(end + 20, &[9, 0])),
        ("something before it", [b"PK\x03\x04 and more", &good[..]].concat()),
        ("something after it", [&good[..], b"more"].concat()),
        ("two end records", [&good[..], &good[end..]].concat()),
    ];
    for (what, bytes) in bad {
        let error = bench.refuse(&bytes, Format::Zip).await;
        assert!(matches!(error, Error::NotZip { source: Some(_), .. }), "{what}: {error:?}");
    }
    let order = bench.local(&good, Format::Zip, Expect::Unverified);
    bench.stage(&order).await.unwrap();
}

/// Stopped after the whole archive was read, so that only the threads can notice.
#[tokio::test]
async fn a_stop_ends_what_skips_or_drains() {
    struct AtOnce(CancellationToken);
    impl Progress for AtOnce {
        fn unpacked(&self, _entries: u64, _bytes: u64) {
            self.0.cancel();
        }
    }

    // A directory with contents is not valid; the library skips the contents.
    let skipped = Tar::new().raw(b"d/", b'5', 0o755, 60 << 20, "", &vec![0; 60 << 20]).finish();
    // What follows the end marker is read for gzip's checksum.
    let mut drained = Tar::new().file("x", 0o644, b"x").finish();
    drained.resize(60 << 20, 0);
    for tar in [skipped, drained] {
        let bench = Bench::new();
        let stop = CancellationToken::new();
        let order = bench.local(&gzip(&tar), Format::TarGz, Expect::Unverified);
        let error = stage(&bench.http, &order, Arc::new(AtOnce(stop.clone())), &stop).await.unwrap_err();
        assert!(matches!(error, Error::Stopped), "{error:?}");
    }
}

#[tokio::test]
async fn zip_files_are_under_the_same_policy() {
    let bench = Bench::new();
    let refuse = async |bytes: &[u8]| bench.refuse(bytes, Format::Zip).await;
    let refused = async |bytes: &[u8]| match refuse(bytes).await {
        Error::Refused { entry, refusal } => (entry, refusal),
        error => panic!("{error:?}"),
    };
    assert_eq!(refused(&zip(&[("../x", None, b"x")])).await, ("../x".into(), Refusal::Climbs));
    assert_eq!(refused(&zip(&[("/x", None, b"x")])).await, ("/x".into(), Refusal::Absolute));
    assert_eq!(refused(&zip(&[("x", None, b"1"), ("./x", None, b"2")])).await.1, Refusal::Duplicate);
    assert_eq!(refused(&zip(&[("x", None, b"1"), ("x/y", None, b"2")])).await.1, Refusal::NotInDirectory);
    assert_eq!(
        refused(&zip_link("l", "/etc")).await,
        ("l".into(), Refusal::LinkAbsolute { target: "/etc".into() })
    );
    assert!(matches!(refused(&zip_link("l", "../x")).await.1, Refusal::LinkClimbs { .. }));
    // Two entries of one name: the writer refuses, so the second is renamed in the finished file.
    let mut twice = zip(&[("one", None, b"1"), ("two", None, b"2")]);
    let places: Vec<usize> =
        twice.windows(3).enumerate().filter(|(_, bytes)| *bytes == b"two").map(|(at, _)| at).collect();
    for at in places {
        twice[at..at + 3].copy_from_slice(b"one");
    }
    assert_eq!(refused(&twice).await.1, Refusal::Duplicate);
    assert!(matches!(refuse(b"").await, Error::Empty));
    assert!(matches!(refuse(b"<html>").await, Error::NotZip { .. }));
    let whole = zip(&[("x", None, &[5; 5000])]);
    assert!(matches!(refuse(&whole[..whole.len() - 30]).await, Error::NotZip { .. }));
    let bomb = zip(&[("zeros", None, &vec![0; 4 << 20])]);
    let mut order = bench.local(&bomb, Format::Zip, Expect::Unverified);
    order.limits.bytes = 1 << 20;
    assert!(matches!(bench.stage(&order).await.unwrap_err(), Error::TooManyBytes { .. }));
}
