//! Tests staging and placing with real archives, files and connections.

mod archive;
#[cfg(unix)]
mod corpus;
mod faults;
mod hostile;
mod placing;
#[cfg(unix)]
mod zips;

use super::*;
use crate::error::{Class, Failure};
use crate::net::{Http, HttpOptions};
use archive::{Tar, gzip, sha256};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio_util::sync::CancellationToken;

/// A temporary directory for one test, with an archive and a tree.
struct Bench {
    dir: tempfile::TempDir,
    http: Http,
}

impl Bench {
    fn new() -> Self {
        let options = HttpOptions { stall_timeout: Duration::from_millis(300), ..HttpOptions::default() };
        Self { dir: tempfile::tempdir().unwrap(), http: Http::new(options).unwrap() }
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("runner")
    }

    fn order(&self, source: Source, format: Format, expect: Expect) -> Order {
        Order {
            source,
            format,
            expect,
            staging: place::staging_path(&self.target()),
            owner: None,
            closed: false,
            limits: Limits::default(),
            retry_timeout: Duration::from_secs(20),
        }
    }

    /// An order for these bytes as a local file.
    fn local(&self, bytes: &[u8], format: Format, expect: Expect) -> Order {
        let path = self.dir.path().join("archive");
        fs_err::write(&path, bytes).unwrap();
        self.order(Source::File(path), format, expect)
    }

    async fn stage(&self, order: &Order) -> Result<Staged, Error> {
        let outcome = stage(&self.http, order, Arc::new(()), &CancellationToken::new()).await;
        assert_eq!(
            order.staging.exists(),
            outcome.is_ok(),
            "a staging directory is there exactly on success"
        );
        outcome
    }

    /// The error of staging these bytes as a local file whose digest is not known.
    async fn refuse(&self, bytes: &[u8], format: Format) -> Error {
        self.stage(&self.local(bytes, format, Expect::Unverified)).await.unwrap_err()
    }
}

fn runner() -> Tar {
    Tar::new()
        .dir("./", 0o755)
        .file("./config.sh", 0o755, b"#!/bin/bash\n")
        .dir("./bin/", 0o755)
        .file("./bin/Runner.Listener", 0o6777, &vec![7; 700_000])
        .file("externals/node20/lib/npm.js", 0o644, b"npm")
        .link("externals/node20/bin/npm", "../lib/npm.js")
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs_err::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[cfg(unix)]
#[tokio::test]
async fn an_archive_becomes_a_tree_with_safe_modes() {
    let bench = Bench::new();
    let bytes = gzip(&runner().finish());
    let order = bench.local(&bytes, Format::TarGz, Expect::Sha256(sha256(&bytes)));
    let staged = bench.stage(&order).await.unwrap();
    assert_eq!((staged.sha256, staged.received), (sha256(&bytes), bytes.len() as u64));
    // Six entries of the archive, and four directories that it does not list.
    assert_eq!((staged.entries, staged.unpacked, staged.resumed), (10, 700_015, 0));
    place::commit(&staged.path, &bench.target()).unwrap();
    let target = bench.target();
    assert!(!staged.path.exists());
    assert_eq!(fs_err::read(target.join("bin/Runner.Listener")).unwrap(), vec![7; 700_000]);
    assert_eq!(fs_err::read(target.join("externals/node20/bin/npm")).unwrap(), b"npm");
    assert_eq!(mode(&target), 0o755);
    assert_eq!(mode(&target.join("externals/node20")), 0o755);
    // 6777 without setuid, setgid and the write bits of group and others.
    assert_eq!(mode(&target.join("bin/Runner.Listener")), 0o755);
    assert_eq!(mode(&target.join("config.sh")), 0o755);
    assert_eq!(mode(&target.join("externals/node20/lib/npm.js")), 0o644);
}

#[cfg(unix)]
#[tokio::test]
async fn the_staging_directory_is_private_until_the_digest_is_right() {
    struct Look(PathBuf, AtomicU64);
    impl Progress for Look {
        fn unpacked(&self, _entries: u64, _bytes: u64) {
            self.1.fetch_max(u64::from(mode(&self.0)), Ordering::Relaxed);
        }
    }
    let bench = Bench::new();
    let order = bench.local(&gzip(&runner().finish()), Format::TarGz, Expect::Unverified);
    let look = Arc::new(Look(order.staging.clone(), AtomicU64::new(0)));
    let staged = stage(&bench.http, &order, Arc::clone(&look) as _, &CancellationToken::new()).await.unwrap();
    assert_eq!(look.1.load(Ordering::Relaxed), 0o700);
    assert_eq!(mode(&staged.path), 0o755);
}

/// An ordinary user can give files to itself only, so this proves more as root.
#[cfg(unix)]
#[tokio::test]
async fn the_whole_tree_belongs_to_its_owner() {
    use std::os::unix::fs::MetadataExt;
    let bench = Bench::new();
    let mut order = bench.local(&gzip(&runner().finish()), Format::TarGz, Expect::Unverified);
    let root = rustix::process::geteuid().is_root();
    let (uid, gid) = if root {
        (4242, 4243)
    } else {
        (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
    };
    order.owner = Some(Owner { uid, gid });
    let staged = bench.stage(&order).await.unwrap();
    for path in ["", "bin", "bin/Runner.Listener", "externals", "externals/node20/bin/npm"] {
        let metadata = fs_err::symlink_metadata(staged.path.join(path)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (uid, gid), "{path}");
    }
}

#[tokio::test]
async fn a_zip_file_becomes_the_same_kind_of_tree() {
    let bench = Bench::new();
    let bytes =
        archive::zip(&[("bin/", None, b""), ("bin/Runner.Listener.exe", Some(0o777), &vec![1; 300_000])]);
    let order = bench.local(&bytes, Format::Zip, Expect::Sha256(sha256(&bytes)));
    let staged = bench.stage(&order).await.unwrap();
    assert_eq!(fs_err::read(staged.path.join("bin/Runner.Listener.exe")).unwrap(), vec![1; 300_000]);
    assert_eq!(fs_err::read_dir(&staged.path).unwrap().count(), 1, "the zip file itself is gone");
    #[cfg(unix)]
    assert_eq!(mode(&staged.path.join("bin/Runner.Listener.exe")), 0o755);
}

#[tokio::test]
async fn a_zip_file_is_not_unpacked_before_its_digest_is_right() {
    struct Never;
    impl Progress for Never {
        fn unpacked(&self, _entries: u64, _bytes: u64) {
            panic!("unpacked");
        }
    }
    let bench = Bench::new();
    let bytes = archive::zip(&[("x", None, b"x")]);
    let order = bench.local(&bytes, Format::Zip, Expect::Sha256(sha256(b"other")));
    let error = stage(&bench.http, &order, Arc::new(Never), &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error:?}");
}

#[tokio::test]
async fn a_wrong_digest_is_named_before_what_the_wrong_bytes_led_to() {
    let bench = Bench::new();
    let mut bytes = gzip(&runner().finish());
    let right = sha256(&bytes);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    let order = bench.local(&bytes, Format::TarGz, Expect::Sha256(right));
    let error = bench.stage(&order).await.unwrap_err();
    let Error::DigestMismatch { expected, actual, received, .. } = error else { panic!("{error:?}") };
    assert_eq!((expected, actual, received), (right, sha256(&bytes), bytes.len() as u64));
    // The right digest of a file that is not an archive.
    let page = b"<html>Not Found</html>";
    let order = bench.local(page, Format::TarGz, Expect::Sha256(sha256(page)));
    assert!(matches!(bench.stage(&order).await.unwrap_err(), Error::NotGzip { .. }));
}

#[tokio::test]
async fn an_existing_staging_directory_is_not_touched() {
    let bench = Bench::new();
    let order = bench.local(&gzip(&runner().finish()), Format::TarGz, Expect::Unverified);
    fs_err::create_dir(&order.staging).unwrap();
    fs_err::write(order.staging.join("theirs"), "").unwrap();
    let error = stage(&bench.http, &order, Arc::new(()), &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, Error::StagingExists { .. }));
    assert!(order.staging.join("theirs").exists());
}

#[tokio::test]
async fn a_missing_archive_and_a_directory_are_told_apart() {
    let bench = Bench::new();
    let order = |path| bench.order(Source::File(path), Format::TarGz, Expect::Unverified);
    let error = bench.stage(&order(bench.dir.path().join("none"))).await.unwrap_err();
    assert_eq!(error.class(), Class::NoInput);
    assert!(matches!(error, Error::File { .. }));
    let error = bench.stage(&order(bench.dir.path().to_owned())).await.unwrap_err();
    assert!(matches!(error, Error::NotAFile { .. }));
}

#[tokio::test]
async fn cancelling_ends_it_and_leaves_nothing() {
    /// Stops in the middle of unpacking.
    struct Stopper(CancellationToken);
    impl Progress for Stopper {
        fn unpacked(&self, entries: u64, _bytes: u64) {
            if entries == 3 {
                self.0.cancel();
            }
        }
    }
    let bench = Bench::new();
    for format in [Format::TarGz, Format::Zip] {
        let bytes = match format {
            Format::TarGz => gzip(&runner().finish()),
            Format::Zip => {
                archive::zip(&[("1", None, b""), ("2", None, b""), ("3", None, b""), ("4", None, b"")])
            }
        };
        let order = bench.local(&bytes, format, Expect::Unverified);
        let stop = CancellationToken::new();
        let stopper = Arc::new(Stopper(stop.clone()));
        let error = stage(&bench.http, &order, stopper, &stop).await.unwrap_err();
        assert!(matches!(error, Error::Stopped), "{error:?}");
        assert!(!order.staging.exists());
    }
}

#[test]
fn the_form_follows_from_the_name() {
    assert_eq!(Format::from_filename("actions-runner-linux-x64-2.336.0.tar.gz"), Some(Format::TarGz));
    assert_eq!(Format::from_filename("actions-runner-win-x64-2.336.0.ZIP"), Some(Format::Zip));
    assert_eq!(Format::from_filename("x.tgz"), Some(Format::TarGz));
    assert_eq!(Format::from_filename("actions-runner"), None);
}
