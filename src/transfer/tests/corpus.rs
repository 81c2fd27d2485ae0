//! A corpus of hostile archives, each with its verdict: the tree that it becomes, or why it is refused. Whatever the verdict,
//! nothing is written outside of the staging directory, and nothing of a refused archive stays.

use super::archive::{Tar, gzip};
use super::*;
use bytes::Bytes;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;

/// What becomes of an archive: the paths of its tree, with `/` after directories and `@` after links, or the name of the error and,
/// where an entry is refused, of the reason.
pub(super) type Verdict = &'static str;

pub(super) struct Case {
    pub what: &'static str,
    pub format: Format,
    pub bytes: Vec<u8>,
    pub verdict: Verdict,
}

fn tar(what: &'static str, verdict: Verdict, tar: Tar) -> Case {
    raw(what, verdict, tar.finish())
}

fn raw(what: &'static str, verdict: Verdict, tar: impl AsRef<[u8]>) -> Case {
    Case { what, format: Format::TarGz, bytes: gzip(tar.as_ref()), verdict }
}

fn gz(what: &'static str, verdict: Verdict, bytes: Vec<u8>) -> Case {
    Case { what, format: Format::TarGz, bytes, verdict }
}

fn names_of_tar() -> Vec<Case> {
    let t = Tar::new;
    let file = |name: &str| t().file(name, 0o644, b"x");
    let long = |kind, name: &[u8]| t().extension(kind, &[name, b"\0"].concat());
    let prefixed = |prefix: &[u8]| {
        let mut tar = file("x").cut();
        tar[257..265].copy_from_slice(b"ustar\x0000");
        tar[345..345 + prefix.len()].copy_from_slice(prefix);
        with_checksum(tar)
    };
    vec![
        tar("a tree", "a/ a/b x", t().dir("a/", 0o755).file("a/b", 0o644, b"x").file("x", 0o644, b"")),
        tar("an absolute name", "Refused Absolute", file("/etc/x")),
        tar("two slashes", "Refused Absolute", file("//x")),
        tar("a name that climbs", "Refused Climbs", file("../x")),
        tar("one that climbs in the middle", "Refused Climbs", file("a/../../x")),
        tar("one that climbs and stays inside", "Refused Climbs", file("a/../x")),
        tar("one that climbs after a dot", "Refused Climbs", file("./../x")),
        tar("a directory that climbs", "Refused Climbs", t().dir("..", 0o755)),
        tar("the root as a file", "Refused Root", file("./")),
        tar("the root as a link", "Refused Root", t().link(".", "/etc")),
        tar("an empty name", "Refused EmptyName", t().raw(b"", b'0', 0o644, 0, "", b"")),
        tar("a newline and an escape", "a\nb\u{1b}[2J", file("a\nb\u{1b}[2J")),
        tar("a backslash", "..\\x", file("..\\x")),
        tar("not UTF-8", "\u{fffd}\u{fffd}", t().raw(b"\xff\xfe", b'0', 0o644, 0, "", b"")),
        tar("a component that no file system takes", "Write", long(b'L', &[b'n'; 300]).file("x", 0o644, b"")),
        tar("a long name", "Refused TooLong", long(b'L', &[b'n'; 4097]).file("x", 0o644, b"")),
        tar("a deep name", "Refused TooDeep", long(b'L', &b"d/".repeat(200)).file("x", 0o644, b"")),
        tar("a long name that is absolute", "Refused Absolute", long(b'L', b"/abs").file("x", 0o644, b"")),
        tar("a long name with a NUL", "Refused Nul", long(b'L', b"a\0b").file("x", 0o644, b"")),
        tar("two long names", "Header", long(b'L', b"a").extension(b'L', b"b\0").file("x", 0o644, b"")),
        tar("a long name of nothing", "Truncated", long(b'L', b"a")),
        raw("a prefix that climbs", "Refused Climbs", prefixed(b"..")),
        raw("an absolute prefix", "Refused Absolute", prefixed(b"/etc")),
        tar("one name twice", "Refused Duplicate", file("x").file("x", 0o644, b"2")),
        tar("one name in two forms", "Refused Duplicate", file("x").file(".//x", 0o644, b"2")),
        tar("a directory twice", "Refused Duplicate", t().dir("d", 0o755).dir("d/", 0o755)),
        tar("names that differ in case", "A a", file("a").file("A", 0o644, b"2")),
        tar("a file as a directory", "Refused NotInDirectory", file("x").file("x/y", 0o644, b"")),
    ]
}

fn links_of_tar() -> Vec<Case> {
    let t = Tar::new;
    vec![
        tar("a link to an absolute path", "Refused LinkAbsolute", t().link("l", "/etc")),
        tar("a link that climbs", "Refused LinkClimbs", t().link("a/l", "../../x")),
        tar("a link that climbs through a name", "Refused LinkClimbs", t().link("l", "a/../..")),
        tar(
            "a chain that climbs through a link",
            "Refused LinkClimbs",
            t().dir("a/b", 0o755).link("l", "a/b").link("m", "l/../../.."),
        ),
        tar("a link to nothing", "Refused LinkName", t().link("l", "")),
        tar("a link to itself", "l@", t().link("l", "l")),
        tar("links in a circle", "a@ b@", t().link("a", "b").link("b", "a")),
        tar("a link to its parent", "d/ d/l@", t().link("d/l", "..")),
        tar("a file through a link", "Refused NotInDirectory", t().link("l", ".").file("l/x", 0o644, b"")),
        tar(
            "a file through a chain of links",
            "Refused NotInDirectory",
            t().dir("d", 0o755).link("a", "d").link("b", "a").file("b/x", 0o644, b""),
        ),
        tar("a link in the place of a directory", "Refused Duplicate", t().dir("d", 0o755).link("d", ".")),
        tar("a directory in the place of a link", "Refused Duplicate", t().link("l", ".").dir("l", 0o755)),
        tar("a file in the place of a link", "Refused Duplicate", t().link("l", "x").file("l", 0o644, b"x")),
        tar("a hard link to the outside", "Refused Kind", t().typed("h", b'1', "/etc/passwd")),
        tar("a hard link to a file", "Refused Kind", t().file("x", 0o644, b"").typed("h", b'1', "x")),
        tar("a hard link to a link", "Refused Kind", t().link("l", "x").typed("h", b'1', "l")),
        tar(
            "a long target that climbs",
            "Refused LinkClimbs",
            t().extension(b'K', &[&b"../".repeat(40)[..], b"\0"].concat()).link("l", "x"),
        ),
    ]
}

fn kinds_and_numbers_of_tar() -> Vec<Case> {
    let t = Tar::new;
    let kinds = [
        ("a character device", b'3'),
        ("a block device", b'4'),
        ("a named pipe", b'6'),
        ("a contiguous file", b'7'),
        ("a sparse file", b'S'),
        ("a list of a directory", b'D'),
        ("a continued file", b'M'),
        ("a label", b'V'),
        ("an attribute of Solaris", b'X'),
        ("an unknown kind", b'Z'),
    ];
    let mut cases: Vec<Case> =
        kinds.into_iter().map(|(what, kind)| tar(what, "Refused Kind", t().typed("x", kind, ""))).collect();
    let header = |at: usize, bytes: &[u8]| {
        let mut tar = t().file("x", 0o644, b"x").finish();
        tar[at..at + bytes.len()].copy_from_slice(bytes);
        with_checksum(tar)
    };
    let mut unsigned = header(0, b"x");
    unsigned[148..156].copy_from_slice(b"0000000\0");
    cases.extend([
        raw("a size that is not a number", "Header", header(124, b"zzzzzzzzzzz")),
        raw("a size of 2 to the 62nd", "TooManyBytes", header(124, b"\x80\0\0\0\x40\0\0\0\0\0\0\0")),
        raw("a negative size", "Header", header(124, &[0xff; 12])),
        raw("a mode that is not a number", "Header", header(100, b"zzzzzzz")),
        raw("a time that is not a number", "x", header(136, b"zzzzzzzzzzz")),
        raw("a negative time", "x", header(136, &[0xff; 12])),
        raw("an owner that is not a number", "x", header(108, b"zzzzzzz")),
        raw("a wrong checksum", "Header", unsigned),
        raw("no magic", "x", header(257, &[0; 8])),
        tar(
            "a directory with contents",
            "d/ x",
            t().raw(b"d/", b'5', 0o755, 3, "", b"abc").file("x", 0o644, b""),
        ),
        tar("a link with contents", "l@ x", t().raw(b"l", b'2', 0o755, 3, "x", b"abc").file("x", 0o644, b"")),
        tar("setuid, setgid and sticky", "d/ x", t().dir("d", 0o7777).file("x", 0o7777, b"x")),
        tar("no permissions", "d/ d/x", t().dir("d", 0).file("d/x", 0, b"")),
    ]);
    cases
}

fn attributes_of_tar() -> Vec<Case> {
    let pax = |key: &str, value: &str| Tar::new().pax(b'x', key, value).file("x", 0o644, b"x");
    let broken = |record: &[u8]| Tar::new().extension(b'x', record).file("x", 0o644, b"x");
    vec![
        tar("a path that climbs", "Refused Climbs", pax("path", "../up")),
        tar("a path with a NUL", "Refused Nul", pax("path", "a\0b")),
        tar("no path", "Refused EmptyName", pax("path", "")),
        tar("a size that disagrees", "Refused Attribute", pax("size", "3")),
        tar("a size that agrees", "x", pax("size", "1")),
        tar("a size that is negative", "Header", pax("size", "-1")),
        tar("a size that is not a number", "Header", pax("size", "1e9")),
        tar("a size beyond 64 bits", "Header", pax("size", "18446744073709551617")),
        tar("a sparse file in attributes", "Refused Attribute", pax("GNU.sparse.major", "1")),
        tar("a time that is negative", "x", pax("mtime", "-9999999999")),
        tar("capabilities", "x", pax("SCHILY.xattr.security.capability", "\u{1}\0\0\u{2}")),
        tar("an access list", "x", pax("SCHILY.acl.access", "user::rwx,user:0:rwx")),
        tar("a record that is too long", "Header", broken(b"99 path=x\n")),
        tar("a record that is too short", "Header", broken(b"3 path=x\n")),
        tar("a record of length 0", "Header", broken(b"0 path=x\n")),
        tar("a record without an end", "Header", broken(b"8 path=x")),
        tar("a record without a value", "Header", broken(b"7 path\n")),
        tar(
            "two headers with attributes",
            "Header",
            Tar::new().pax(b'x', "a", "b").pax(b'x', "c", "d").file("x", 0o644, b""),
        ),
        tar("a path for all", "Refused Attribute", Tar::new().pax(b'g', "path", "y").file("x", 0o644, b"")),
        tar("a size for all", "Refused Attribute", Tar::new().pax(b'g', "size", "9").file("x", 0o644, b"")),
    ]
}

fn ends_of_tar() -> Vec<Case> {
    let file = || Tar::new().file("x", 0o644, b"x");
    let whole = gzip(&file().finish());
    let changed = |from_end: usize| {
        let mut bytes = whole.clone();
        *bytes.iter_mut().rev().nth(from_end).unwrap() ^= 1;
        bytes
    };
    let flagged =
        |flags: u8, more: &[u8]| [&whole[..3], &[flags], &whole[4..10], more, &whole[10..]].concat();
    vec![
        raw(
            "an entry after the end",
            "x",
            [file().finish(), Tar::new().file("y", 0o644, b"").finish()].concat(),
        ),
        raw("no end", "Truncated", file().cut()),
        raw("half an end", "x", [&file().cut()[..], &[0; 512]].concat()),
        raw("nothing", "Truncated", b""),
        raw("text", "Header", [b'x'; 2048]),
        gz("no bytes", "Empty", Vec::new()),
        gz("a page", "NotGzip", b"<html>".to_vec()),
        gz("a zip file", "NotGzip", b"PK\x03\x04".to_vec()),
        gz("two members", "Trailing", [&whole[..], &whole[..]].concat()),
        gz("bytes after the member", "Trailing", [&whole[..], b"\0"].concat()),
        gz("a wrong checksum of gzip", "Damaged", changed(6)),
        gz("a wrong length of gzip", "Damaged", changed(1)),
        gz("a name and a comment of gzip", "x", flagged(0x18, b"../../etc/passwd\0comment\0")),
        gz("an extra field of gzip", "x", flagged(4, b"\x02\0ab")),
        gz("an extra field that is cut off", "Truncated", flagged(4, b"\xff\xff")),
        gz("a wrong checksum of the header of gzip", "Damaged", flagged(2, b"xx")),
    ]
}

/// A tar stream whose first header has the right checksum.
fn with_checksum(mut tar: Vec<u8>) -> Vec<u8> {
    tar[148..156].copy_from_slice(b"        ");
    let sum: u32 = tar[..512].iter().map(|byte| u32::from(*byte)).sum();
    tar[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    tar
}

fn corpus() -> Vec<Case> {
    [
        names_of_tar(),
        links_of_tar(),
        kinds_and_numbers_of_tar(),
        attributes_of_tar(),
        ends_of_tar(),
        zips::names(),
        zips::lies(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A directory with something beside the place of the tree.
struct Place {
    bench: Bench,
    beside: PathBuf,
}

impl Place {
    fn new() -> Self {
        let bench = Bench::new();
        let beside = bench.dir.path().join("beside");
        fs_err::write(&beside, "as before").unwrap();
        Self { bench, beside }
    }

    /// The verdict on these pieces. The place is as before afterwards.
    async fn verdict(&self, format: Format, pieces: Vec<Bytes>) -> Result<String, Error> {
        let order = self.bench.order(Source::Pieces(pieces), format, Expect::Unverified);
        let outcome = self.bench.stage(&order).await.map(|staged| listed(&staged));
        place::sweep(&self.bench.target()).unwrap();
        let there: Vec<_> =
            fs_err::read_dir(self.bench.dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(there, [self.beside.as_path()], "something was left, or written outside");
        assert_eq!(fs_err::read(&self.beside).unwrap(), b"as before");
        assert_eq!(fs_err::metadata(&self.beside).unwrap().nlink(), 1);
        outcome
    }
}

/// The paths of a tree; no file of it has more rights than a runner needs, an attribute or a second name.
fn listed(staged: &Staged) -> String {
    let (mut names, mut directories) = (Vec::new(), vec![staged.path.clone()]);
    while let Some(directory) = directories.pop() {
        for entry in fs_err::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs_err::symlink_metadata(&path).unwrap();
            let kind = meta.file_type();
            assert!(kind.is_symlink() || mode(&path) & 0o7022 == 0, "{path:?}: {:o}", mode(&path));
            assert!(kind.is_dir() || meta.nlink() == 1, "{path:?} has a second name");
            let no_value = rustix::fs::lgetxattr(&path, "security.capability", &mut [0_u8; 64][..]);
            assert!(no_value.is_err(), "{path:?} has capabilities");
            let inside = path.strip_prefix(&staged.path).unwrap().as_os_str();
            let mark = if kind.is_dir() {
                "/"
            } else if kind.is_symlink() {
                "@"
            } else {
                ""
            };
            names.push(format!("{}{mark}", String::from_utf8_lossy(inside.as_bytes())));
            if kind.is_dir() {
                directories.push(path);
            }
        }
    }
    names.sort();
    names.join(" ")
}

/// The name of the error's variant, with the name of the refusal's.
fn named(error: &Error) -> String {
    let name = |debug: String| debug.chars().take_while(char::is_ascii_alphanumeric).collect::<String>();
    match error {
        Error::Refused { refusal, .. } => format!("Refused {}", name(format!("{refusal:?}"))),
        error => name(format!("{error:?}")),
    }
}

/// Pieces of one to `most` bytes.
fn cut(bytes: &[u8], most: usize, random: &mut fastrand::Rng) -> Vec<Bytes> {
    let (mut pieces, mut left) = (Vec::new(), bytes);
    while !left.is_empty() {
        let (piece, rest) = left.split_at(random.usize(1..=most).min(left.len()));
        pieces.push(Bytes::copy_from_slice(piece));
        left = rest;
    }
    pieces
}

#[tokio::test]
async fn every_hostile_archive_has_its_verdict_however_its_bytes_arrive() {
    let place = Place::new();
    let corpus = corpus();
    assert!(corpus.len() >= 120, "{} archives", corpus.len());
    // The same pieces again: this number as the seed.
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut wrong = Vec::new();
    for Case { what, format, bytes, verdict } in corpus {
        for most in [usize::MAX, 600, 40] {
            let outcome = place.verdict(format, cut(&bytes, most, &mut random)).await;
            let class = outcome.as_ref().err().map(Failure::class);
            let found = outcome.unwrap_or_else(|error| named(&error));
            let expected_class = (!verdict.starts_with("Write")).then_some(Class::Data);
            if found != verdict
                || class.is_some_and(|class| Some(class) != expected_class && verdict != "Write")
            {
                wrong.push(format!("{what}, in pieces of {most}: {found:?} ({class:?}) and not {verdict:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "with the seed {seed}:\n{}", wrong.join("\n"));
}

/// Every prefix of whole blocks, as a tar stream that is complete as gzip.
#[tokio::test]
async fn a_tar_stream_that_ends_after_any_block_is_truncated() {
    let place = Place::new();
    let tar = Tar::new()
        .dir("./", 0o755)
        .pax(b'x', "path", "renamed")
        .file("x", 0o644, &[7; 1500])
        .extension(b'L', b"long/name\0")
        .file("y", 0o755, b"y")
        .link("l", "x")
        .finish();
    // The last block is the second half of the end.
    for blocks in 0..tar.len() / 512 - 1 {
        let bytes = gzip(&tar[..blocks * 512]);
        let error = place.verdict(Format::TarGz, vec![bytes.into()]).await.unwrap_err();
        assert_eq!(named(&error), "Truncated", "after {blocks} blocks: {error:?}");
    }
    place.verdict(Format::TarGz, vec![gzip(&tar).into()]).await.unwrap();
}
