//! The identity and the resources of this machine: name, id, memory, disk space.

use super::{Error, Root};
use std::path::Path;

/// systemd's machine id: 32 lower-case hexadecimal digits. `None` if there is none (yet): in an image that has not been
/// booted, the file is empty or contains the word `uninitialized`.
#[must_use]
pub fn machine_id(root: &Root) -> Option<String> {
    let path = root.resolve(Path::new("/etc/machine-id"))?;
    let text = fs_err::read_to_string(path).ok()?;
    let id = text.trim();
    let good = id.len() == 32
        && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && id.bytes().any(|byte| byte != b'0');
    good.then(|| id.to_owned())
}

/// The machine's name without its domain, with any characters. Empty if it has none.
#[must_use]
pub fn hostname() -> String {
    #[cfg(unix)]
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(unix))]
    let name = std::env::var("COMPUTERNAME").unwrap_or_default();
    name.split('.').next().unwrap_or_default().to_owned()
}

/// The machine's main memory in bytes; 0 if it cannot be determined.
#[must_use]
pub fn memory() -> u64 {
    sysinfo::System::new().map_or(0, |mut system| {
        system.refresh_memory();
        system.total_memory()
    })
}

/// Bytes that any user can still write at `path`, or at the nearest existing directory above it: jobs do not get what is
/// reserved for root.
pub fn free_space(path: &Path) -> Result<u64, Error> {
    let path = std::path::absolute(path).map_err(|source| Error::Path {
        doing: "find the absolute form of",
        path: path.to_path_buf(),
        source,
    })?;
    let existing = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(&path);
    available(existing).map_err(|source| Error::Path {
        doing: "find the free space at",
        path: existing.to_path_buf(),
        source,
    })
}

/// Whether this user may create files in a directory, which must exist.
///
/// # Errors
/// The system's reason why not.
pub fn check_writable(dir: &Path) -> Result<(), Error> {
    #[cfg(unix)]
    {
        use rustix::fs::{Access, access};
        access(dir, Access::WRITE_OK | Access::EXEC_OK).map_err(|source| Error::Path {
            doing: "write to",
            path: dir.to_path_buf(),
            source: source.into(),
        })?;
    }
    let _ = dir;
    Ok(())
}

/// Files that can still be created on the filesystem of `path`, which must exist; `None` if it has no fixed number of
/// them, or does not tell.
#[must_use]
pub fn free_inodes(path: &Path) -> Option<u64> {
    #[cfg(unix)]
    return rustix::fs::statvfs(path).ok().filter(|stat| stat.f_files > 0).map(|stat| stat.f_favail);
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

/// Whether the filesystem of `path`, which must exist, is mounted with `noexec`.
#[must_use]
pub fn forbids_programs(path: &Path) -> bool {
    #[cfg(unix)]
    return rustix::fs::statvfs(path)
        .is_ok_and(|stat| stat.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC));
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

#[cfg(unix)]
fn available(path: &Path) -> std::io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(not(unix))]
fn available(path: &Path) -> std::io::Result<u64> {
    let disks = sysinfo::Disks::new_with_refreshed_list().map_err(std::io::Error::other)?;
    disks
        .iter()
        .filter(|disk| path.starts_with(disk.mount_point()))
        .max_by_key(|disk| disk.mount_point().as_os_str().len())
        .map(sysinfo::Disk::available_space)
        .ok_or_else(|| std::io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_real_machine_id_counts() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path().into());
        let file = dir.path().join("etc/machine-id");
        fs_err::create_dir(dir.path().join("etc")).unwrap();
        assert_eq!(machine_id(&root), None);
        for bad in [
            "",
            "\n",
            "uninitialized\n",
            "0123456789ABCDEF0123456789abcdef",
            "0123456789abcdef",
            "00000000000000000000000000000000",
        ] {
            fs_err::write(&file, bad).unwrap();
            assert_eq!(machine_id(&root), None, "{bad}");
        }
        fs_err::write(&file, "0123456789abcdef0123456789abcdef\n").unwrap();
        assert_eq!(machine_id(&root).as_deref(), Some("0123456789abcdef0123456789abcdef"));
    }

    #[test]
    fn free_space_is_told_for_what_does_not_exist_yet() {
        let dir = tempfile::tempdir().unwrap();
        free_space(&dir.path().join("a/b/c")).unwrap();
        assert_ne!(free_inodes(dir.path()), Some(0));
        free_space(Path::new("relative/and/missing")).unwrap();
    }

    #[test]
    fn this_machine_has_memory_and_a_short_name() {
        assert!(memory() > 0);
        assert!(!hostname().contains('.'));
    }
}
