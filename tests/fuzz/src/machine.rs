//! The directory that a target works in, what may be in it, and how a failure must look.

use runup::error::{Class, Failure, chain};
use runup::net::{Http, HttpOptions};
use runup::transfer::{Error, Order, Staged, stage};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// What is beside the staging directory, and must stay as it is.
const NEIGHBOUR: &str = "neighbour";

/// No message is longer, whatever a server or an archive says.
const LONGEST_MESSAGE: usize = 16 << 10;

thread_local! {
    static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
}

pub static HTTP: LazyLock<Http> = LazyLock::new(|| {
    let options = HttpOptions {
        stall_timeout: Duration::from_millis(500),
        connect_timeout: Duration::from_secs(2),
        ..HttpOptions::default()
    };
    Http::new(options).unwrap()
});

static DIR: LazyLock<TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(NEIGHBOUR), NEIGHBOUR).unwrap();
    dir
});

pub fn wait_for<T>(work: impl Future<Output = T>) -> T {
    RUNTIME.with(|runtime| runtime.block_on(work))
}

pub fn dir() -> &'static Path {
    DIR.path()
}

pub fn staging() -> PathBuf {
    dir().join("staging")
}

/// A path with its mode, and its content or the target of its link; directories have neither.
pub type Listed = (PathBuf, u32, Vec<u8>);

/// Stages `order`, and returns the tree or the class of the failure. Nothing is outside of the tree, and nothing stays after a
/// failure.
pub fn staged(order: &Order) -> Result<Vec<Listed>, Class> {
    let outcome = wait_for(stage(&HTTP, order, Arc::new(()), &CancellationToken::new()));
    let outcome = outcome.map(|staged| tree(&staged)).map_err(|error| check_failure(&error));
    let _ = std::fs::remove_dir_all(staging());
    let names: Vec<_> = std::fs::read_dir(dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [NEIGHBOUR], "something was written outside, or was left behind");
    let neighbour = dir().join(NEIGHBOUR);
    assert_eq!(std::fs::read(&neighbour).unwrap(), NEIGHBOUR.as_bytes());
    assert_eq!(std::fs::metadata(&neighbour).unwrap().nlink(), 1);
    outcome
}

fn check_failure(error: &Error) -> Class {
    assert!(!staging().exists(), "{error} left its staging directory");
    failure(error)
}

/// The class of a failure, which is never a bug of runup's, and says what happened in few words.
pub fn failure<E: Failure + 'static>(error: &E) -> Class {
    let (class, text) = (error.class(), format!("{} {:?}", chain(error), error.hint()));
    assert_ne!(class, Class::Software, "{text}");
    assert!(text.len() < LONGEST_MESSAGE, "{} bytes of a message: {text}", text.len());
    class
}

fn tree(staged: &Staged) -> Vec<Listed> {
    let (mut listed, mut directories) = (Vec::new(), vec![staged.path.clone()]);
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let inside = path.strip_prefix(&staged.path).unwrap().to_owned();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            let (kind, mode) = (meta.file_type(), meta.permissions().mode() & 0o7777);
            let content = if kind.is_symlink() {
                let target = std::fs::read_link(&path).unwrap();
                assert!(stays_inside(&inside, &target), "{inside:?} leads out, to {target:?}");
                target.into_os_string().into_encoded_bytes()
            } else if kind.is_dir() {
                directories.push(path.clone());
                Vec::new()
            } else {
                assert!(kind.is_file() && meta.nlink() == 1, "{inside:?} is a {kind:?}");
                std::fs::read(&path).unwrap_or_default()
            };
            assert!(kind.is_symlink() || mode & 0o7022 == 0, "{inside:?} has the mode {mode:o}");
            listed.push((inside, if kind.is_symlink() { 0 } else { mode }, content));
        }
    }
    listed.sort();
    assert!(listed.len() as u64 <= staged.entries, "more paths than entries");
    listed
}

/// Whether the target of a link is below the tree, whatever the other links are.
fn stays_inside(link: &Path, target: &Path) -> bool {
    let mut depth = link.components().count() - 1;
    let mut named = false;
    target.components().all(|component| match component {
        Component::Normal(_) => {
            named = true;
            true
        }
        Component::CurDir => true,
        Component::ParentDir if !named && depth > 0 => {
            depth -= 1;
            true
        }
        _ => false,
    })
}
