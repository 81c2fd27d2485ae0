//! Writes files so that a kill or a power cut leaves the old one or the new one, and no litter for long.

use super::{Error, Result, remove_if_present, set_mode, sync_dir};
use std::io::Write as _;
use std::path::Path;

/// How the name of a file ends that is not complete.
const TEMPORARY: &str = ".new";

/// Replaces the file `path` by one with these bytes and this mode, atomically and durably. A symbolic link at `path` is
/// replaced, not followed. The mode is ignored on Windows.
///
/// Only for directories that no hostile user can write to, because such a user could replace the directory itself.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    sync_dir(put(path, bytes, mode, true)?)
}

/// The same for what is worth nothing after a power cut, or is made durable with the tree that it is in: it waits for no
/// disk.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    put(path, bytes, mode, false).map(drop)
}

/// Returns the directory.
fn put<'a>(path: &'a Path, bytes: &[u8], mode: u32, durable: bool) -> Result<&'a Path> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let failed = |source| Error::Path { doing: "write", path: path.to_path_buf(), source };
    let (prefix, mut builder) = (temporary_prefix(path), tempfile::Builder::new());
    let create = builder.prefix(&prefix).suffix(TEMPORARY);
    let mut file = loop {
        let file = create.tempfile_in(dir).map_err(failed)?;
        if unix_or_windows::claim(file.as_file()).map_err(failed)? {
            break file;
        }
    };
    file.write_all(bytes).map_err(failed)?;
    set_mode(file.as_file(), mode).map_err(failed)?;
    if durable {
        file.as_file().sync_all().map_err(failed)?;
    }
    file.persist(path).map_err(|error| failed(error.error))?;
    sweep_temporaries(path);
    Ok(dir)
}

/// Removes a file that [`write_atomic`] wrote, and what a killed one left of it; returns whether the file existed.
pub fn remove_written(path: &Path) -> Result<bool> {
    sweep_temporaries(path);
    remove_if_present(path)
}

fn temporary_prefix(path: &Path) -> String {
    format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy())
}

/// Deletes the temporary files of writes of `path` that were killed. What cannot be deleted is left to the next write:
/// it harms nobody.
pub fn sweep_temporaries(path: &Path) {
    let prefix = temporary_prefix(path);
    for entry in path.parent().and_then(|dir| std::fs::read_dir(dir).ok()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // The lock is held until the file is gone: a writer that claims it meanwhile sees that.
        if name.strip_prefix(&prefix).is_some_and(|rest| rest.ends_with(TEMPORARY))
            && let Some(_lock) = unix_or_windows::abandoned(&entry.path())
            && let Err(error) = std::fs::remove_file(entry.path())
        {
            tracing::debug!(%error, "{} stays", entry.path().display());
        }
    }
}

#[cfg(unix)]
mod unix_or_windows {
    use rustix::fs::{Mode, OFlags};
    use std::fs::File;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;

    /// Shows other processes that the file's writer is alive, by a lock that the kernel drops with it; `false` if one of
    /// them deleted the file just before.
    pub fn claim(file: &File) -> std::io::Result<bool> {
        // On a filesystem without locks nobody sweeps.
        if file.lock().is_err() {
            return Ok(true);
        }
        Ok(file.metadata()?.nlink() > 0)
    }

    /// The file, locked, if its writer is dead.
    pub fn abandoned(path: &Path) -> Option<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
        (file.metadata().is_ok_and(|meta| meta.is_file()) && file.try_lock().is_ok()).then_some(file)
    }
}

#[cfg(not(unix))]
mod unix_or_windows {
    use std::fs::File;
    use std::path::Path;

    /// A lock would keep readers out.
    pub fn claim(_: &File) -> std::io::Result<bool> {
        Ok(true)
    }

    /// Unknown: such a file stays.
    pub fn abandoned(_: &Path) -> Option<File> {
        None
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn an_atomic_write_sets_content_and_mode_and_leaves_no_litter() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        write_atomic(&path, b"one", 0o600).unwrap();
        write_atomic(&path, b"two", 0o644).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_atomic_write_replaces_a_link_and_leaves_its_target() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        std::fs::write(&target, "precious").unwrap();
        symlink(&target, &link).unwrap();
        write_atomic(&link, b"new", 0o644).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"precious");
        assert!(std::fs::symlink_metadata(&link).unwrap().is_file());
    }

    #[test]
    fn what_a_killed_write_left_goes_with_the_next_one_and_what_is_being_written_stays() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let alive = std::fs::File::create(at(".state.json.alive1.new")).unwrap();
        alive.lock().unwrap();
        for name in
            [".state.json.killed.new", ".state.json.new.bak", ".other.json.killed.new", "state.json.new"]
        {
            std::fs::write(at(name), "").unwrap();
        }
        symlink(at("state.json.new"), at(".state.json.link.new")).unwrap();
        let left = || {
            let mut left: Vec<_> = std::fs::read_dir(dir.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            left.sort();
            left
        };
        let others = [
            ".other.json.killed.new",
            ".state.json.alive1.new",
            ".state.json.link.new",
            ".state.json.new.bak",
        ];
        write_atomic(&at("state.json"), b"one", 0o600).unwrap();
        assert_eq!(left(), [&others[..], &["state.json", "state.json.new"]].concat());

        // Not only closed: a program that another test is just starting may have inherited the file.
        alive.unlock().unwrap();
        assert!(remove_written(&at("state.json")).unwrap());
        assert_eq!(left(), [&others[..1], &others[2..], &["state.json.new"]].concat());
    }

    #[test]
    fn an_atomic_write_that_fails_names_its_path() {
        let error = write_atomic(Path::new("/nowhere/at/all"), b"", 0o644).unwrap_err();
        assert_eq!(error.to_string(), "failed to write /nowhere/at/all");
    }
}
