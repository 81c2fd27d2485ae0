//! The logs of GitHub's programs of jobs that are over, in a directory of root's: the next job must neither read nor find
//! what an earlier one has left in `_diag`.
//!
//! Everything in `_diag` is a job's. No link is followed, a name is used only if GitHub's programs could have given it,
//! and neither the size nor the time of a file makes more of it be kept than of others.

use super::diag::is_log;
use super::state::LOG_DIR;
use crate::host::{Account, Error, delete, file};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long they are kept.
const AGE: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// The size of all that are kept of a runner. The newest stay.
const MOST: u64 = 200 * 1024 * 1024;

/// How much is kept of a file: its end.
const LARGEST: u64 = 16 * 1024 * 1024;

/// What a small file counts as, because its inode takes space too.
const SMALLEST: u64 = 4096;

/// How many files are kept of a runner, and so of a job: a job could create any number of small ones.
const MOST_FILES: usize = 2000;

/// How many entries of `_diag` are looked at, which takes some seconds.
const MOST_ENTRIES: usize = 1_000_000;

/// Moves the logs from the runner's directory `dir` to the directory `to`, which is created for root alone, and deletes
/// the log directory with everything else in it. No process of the runner's user `writer` may run.
///
/// # Errors
/// The log directory cannot be deleted. Logs that cannot be kept are a warning.
pub fn put_away(dir: &Path, to: &Path, writer: &Account) -> Result<(), Error> {
    let from = dir.join(LOG_DIR);
    if std::fs::symlink_metadata(&from).is_ok_and(|meta| meta.is_dir()) {
        if let Err(error) = keep(&from, to, writer) {
            tracing::warn!("the logs in {} are lost: {}", from.display(), crate::error::chain(&error));
        }
        delete::delete_or_empty(&from)?;
    }
    Ok(())
}

fn keep(from: &Path, to: &Path, writer: &Account) -> Result<(), Error> {
    if let Some(parent) = to.parent() {
        file::create_private_dir(parent)?;
    }
    file::create_private_dir(to)?;
    let (mut space, mut cut) = (MOST, 0);
    for log in newest_first(from, MOST_ENTRIES)? {
        let cost = log.size.clamp(SMALLEST, LARGEST);
        if cost > space {
            tracing::info!("the older logs of the job are more than {} MB, and are not kept", MOST >> 20);
            break;
        }
        space -= cost;
        cut += u32::from(log.size > LARGEST);
        if let Err(error) = copy(from, to, &log, writer) {
            tracing::debug!("{}", crate::error::chain(&error));
        }
    }
    if cut > 0 {
        tracing::info!("only the last {} MB of {cut} logs of the job are kept", LARGEST >> 20);
    }
    prune(to)
}

/// A file that GitHub's programs could have written. The newest is the greatest.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Log {
    written: SystemTime,
    name: String,
    size: u64,
}

/// The newest ones, however many there are, among so many entries.
fn newest_first(dir: &Path, entries: usize) -> Result<Vec<Log>, Error> {
    let mut newest = BinaryHeap::new();
    let logs = fs_err::read_dir(dir)?.take(entries).flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok().filter(|name| is_log(name))?;
        let meta = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
        // A job can set any time.
        let written = meta.modified().ok()?.min(SystemTime::now());
        Some(Log { written, name, size: meta.len() })
    });
    for log in logs {
        newest.push(Reverse(log));
        if newest.len() > MOST_FILES {
            newest.pop();
        }
    }
    Ok(newest.into_sorted_vec().into_iter().map(|Reverse(log)| log).collect())
}

/// What a copy may be until it is complete: nobody's to read.
#[cfg(unix)]
const INCOMPLETE: u32 = 0o200;

fn copy(from: &Path, to: &Path, log: &Log, writer: &Account) -> Result<(), Error> {
    let Some(mut opened) = file::open_untrusted_for(Some(writer), from, &log.name)? else { return Ok(()) };
    let Some(path) = place_for(to, log)? else { return Ok(()) };
    opened.seek(SeekFrom::Start(log.size.saturating_sub(LARGEST)))?;
    let mut options = fs_err::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    fs_err::os::unix::fs::OpenOptionsExt::mode(&mut options, INCOMPLETE);
    let mut kept = options.open(&path)?;
    let copied = std::io::copy(&mut opened.take(LARGEST), &mut kept)
        .and_then(|_| kept.file().set_modified(log.written))
        .and_then(|()| file::set_mode(kept.file(), 0o600));
    if let Err(error) = copied {
        // Of a disk that is full, not even a part is taken.
        file::remove_if_present(&path)?;
        return Err(error.into());
    }
    Ok(())
}

/// Where the log is copied to; `None` if it was already. Two jobs within a second give the same name to theirs, and a job
/// could write one with the name of an earlier job's: that stays.
fn place_for(to: &Path, log: &Log) -> Result<Option<PathBuf>, Error> {
    let stem = log.name.strip_suffix(".log").unwrap_or(&log.name);
    for number in 1..=MOST_FILES {
        let name = if number == 1 { log.name.clone() } else { format!("{stem}-{number}.log") };
        if !is_log(&name) {
            break;
        }
        let path = to.join(name);
        let Ok(meta) = std::fs::symlink_metadata(&path) else { return Ok(Some(path)) };
        if is_incomplete(&meta) {
            // A killed run has begun it.
            file::remove_if_present(&path)?;
            return Ok(Some(path));
        }
        if meta.modified().is_ok_and(|at| at == log.written) && meta.len() == log.size.min(LARGEST) {
            return Ok(None);
        }
    }
    Ok(None)
}

#[cfg(unix)]
fn is_incomplete(meta: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    meta.permissions().mode() & 0o777 == INCOMPLETE
}

#[cfg(not(unix))]
fn is_incomplete(_: &std::fs::Metadata) -> bool {
    false
}

/// Deletes what is too old or too much.
fn prune(dir: &Path) -> Result<(), Error> {
    let (mut space, now) = (MOST, SystemTime::now());
    let mut kept = HashSet::new();
    for log in newest_first(dir, usize::MAX)? {
        let cost = log.size.max(SMALLEST);
        let is_old = now.duration_since(log.written).is_ok_and(|age| age > AGE);
        if !is_old && cost <= space {
            space -= cost;
            kept.insert(log.name);
        }
    }
    for entry in fs_err::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if is_log(&name) && !kept.contains(&name) {
            file::remove_if_present(&dir.join(&name))?;
        }
    }
    Ok(())
}

/// Deletes those of a runner that is removed.
///
/// # Errors
/// They cannot be deleted.
pub fn delete_all(dir: &Path) -> Result<(), Error> {
    match delete::delete_dir(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    // Those of other runners keep the directory above.
    let _ = dir.parent().map(std::fs::remove_dir);
    Ok(())
}

/// Where those of runners are.
#[must_use]
pub fn place() -> PathBuf {
    PathBuf::from("/var/log/runup")
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::host::account;
    use std::fs::File;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn age(path: &Path, days: u64) {
        let then = SystemTime::now() - Duration::from_secs(days * 24 * 60 * 60);
        let file = File::options().write(true).open(path);
        file.and_then(|file| file.set_modified(then)).expect("its time can be set");
    }

    #[test]
    fn a_job_s_hundred_thousand_logs_cost_neither_the_newest_nor_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let (diag, to) = (dir.path().join(LOG_DIR), dir.path().join("log/runup/one"));
        for round in 0..2 {
            std::fs::create_dir(&diag).unwrap();
            for number in 0..100_000 {
                // Many names of few files of the job's own, which takes less time; a filesystem has a limit for each.
                let own = dir.path().join(format!("own{round}{}", number / 30_000));
                if !own.exists() {
                    std::fs::write(&own, "text").unwrap();
                    age(&own, 1);
                }
                std::fs::hard_link(&own, diag.join(format!("Worker_{round}_{number}.log"))).unwrap();
            }
            std::fs::write(diag.join(format!("Worker_new{round}.log")), "new").unwrap();
            put_away(dir.path(), &to, &account::current()).unwrap();
            assert!(!diag.exists());
            let kept = names(&to);
            assert_eq!(kept.len(), MOST_FILES);
            assert!((0..=round).all(|round| kept.contains(&format!("Worker_new{round}.log"))));
        }
        // Of a kill in the middle of the next job's, or of an older version: too many are deleted.
        for number in 0..MOST_FILES {
            std::fs::write(to.join(format!("Worker_old{number}.log")), "").unwrap();
        }
        prune(&to).unwrap();
        assert_eq!(names(&to).len(), MOST_FILES);
    }

    #[test]
    fn a_log_with_the_name_of_an_earlier_job_s_replaces_it_no_more_than_a_killed_run_doubles_one() {
        let dir = tempfile::tempdir().unwrap();
        let (diag, to) = (dir.path().join(LOG_DIR), dir.path().join("log/runup/one"));
        for (content, kept) in [("first", 1), ("second", 2), ("second", 2)] {
            std::fs::create_dir(&diag).unwrap();
            std::fs::write(diag.join("Worker_1.log"), content).unwrap();
            age(&diag.join("Worker_1.log"), 1);
            if kept == 2 {
                // As a killed run leaves it: what is complete, and what is not.
                let then = std::fs::metadata(to.join("Worker_1-2.log")).and_then(|meta| meta.modified());
                let log = File::options().write(true).open(diag.join("Worker_1.log")).unwrap();
                let _ = then.map(|then| log.set_modified(then).unwrap());
                std::fs::write(to.join("Worker_3.log"), "par").unwrap();
                std::fs::set_permissions(
                    to.join("Worker_3.log"),
                    std::fs::Permissions::from_mode(INCOMPLETE),
                )
                .unwrap();
                std::fs::write(diag.join("Worker_3.log"), "partial").unwrap();
            }
            put_away(dir.path(), &to, &account::current()).unwrap();
            let of_one = names(&to).iter().filter(|name| name.starts_with("Worker_1")).count();
            assert_eq!(of_one, kept, "{:?}", names(&to));
        }
        let read = |name: &str| std::fs::read_to_string(to.join(name)).unwrap();
        assert_eq!((read("Worker_1.log"), read("Worker_1-2.log")), ("first".to_owned(), "second".to_owned()));
        assert_eq!(read("Worker_3.log"), "partial");
    }

    #[test]
    fn logs_are_kept_within_bounds_whatever_a_job_has_put_beside_them() {
        let dir = tempfile::tempdir().unwrap();
        let (diag, to) = (dir.path().join(LOG_DIR), dir.path().join("log/runup/one"));
        std::fs::create_dir(&diag).unwrap();
        std::fs::write(dir.path().join("secret"), "secret").unwrap();
        for name in ["Runner_1.log", "Worker_1.log", "Worker_old.log", "notes.log", "Worker_\u{1b}[2J.log"] {
            std::fs::write(diag.join(name), name).unwrap();
        }
        age(&diag.join("Worker_old.log"), 15);
        symlink(dir.path().join("secret"), diag.join("Worker_link.log")).unwrap();
        std::fs::create_dir(diag.join("Worker_dir.log")).unwrap();
        for number in 0..20 {
            // Sparse files that the disk could not hold.
            let large = File::create(diag.join(format!("Worker_large{number:02}.log"))).unwrap();
            large.set_len(1 << 40).unwrap();
        }
        for number in 0..20 {
            age(&diag.join(format!("Worker_large{number:02}.log")), 1);
        }
        put_away(dir.path(), &to, &account::current()).unwrap();
        assert!(!diag.exists());
        let kept = names(&to);
        assert_eq!(kept.len(), 2 + 12, "{kept:?}");
        assert!(kept.contains(&"Runner_1.log".to_owned()) && !kept.contains(&"notes.log".to_owned()));
        assert_eq!(std::fs::metadata(&to).unwrap().permissions().mode() & 0o7777, 0o700);
        let size = |name: &str| std::fs::metadata(to.join(name)).unwrap().len();
        assert_eq!(size("Worker_large19.log"), LARGEST);

        // The next job's: the newest stay.
        std::fs::create_dir(&diag).unwrap();
        std::fs::write(diag.join("Worker_2.log"), "two").unwrap();
        age(&to.join("Runner_1.log"), 20);
        put_away(dir.path(), &to, &account::current()).unwrap();
        let kept = names(&to);
        assert!(kept.contains(&"Worker_2.log".to_owned()) && !kept.contains(&"Runner_1.log".to_owned()));
        // Instead of the directory, a link of a job's.
        symlink(dir.path(), &diag).unwrap();
        put_away(dir.path(), &to, &account::current()).unwrap();
        assert!(dir.path().join("secret").exists());
        delete_all(&to).unwrap();
        delete_all(&to).unwrap();
    }
}
