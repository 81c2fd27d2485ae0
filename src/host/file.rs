//! Reads and writes files, some of them in directories that a hostile user can write to.
//!
//! Files are written atomically. A file that a job could have written is opened without following links and without
//! blocking on a FIFO, and is read only if it is a regular file within a size limit.

mod atomic;

use super::{Account, Error};
pub use atomic::{remove_written, replace, sweep_temporaries, write_atomic};
use std::io::Read;
use std::path::Path;

type Result<T> = std::result::Result<T, Error>;

/// Removes a file, or a symbolic link; returns whether it existed.
pub fn remove_if_present(path: &Path) -> Result<bool> {
    match fs_err::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The content of a file that a hostile user may have created; `None` if it does not exist.
///
/// A symbolic link in the last component, anything but a regular file, and more than `limit` bytes are refused, each
/// with its own error. The directories above are followed as usual: see [`read_untrusted_in`].
pub fn read_untrusted(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    read_regular(unix_or_windows::open(path), path, limit, None)
}

/// The same for the file `name` in `dir`, which must not be a symbolic link either.
pub fn read_untrusted_in(dir: &Path, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
    read_in(dir, name, limit, None)
}

/// The same for a file whose content `reader` will see: if runup is root, a file that this user cannot read is refused.
/// If the kernel allows it (`fs.protected_hardlinks=0`), users can create hard links to files of other users in their
/// directories.
pub fn read_untrusted_for(reader: &Account, dir: &Path, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
    read_in(dir, name, limit, Some(reader).filter(|_| super::account::is_root()))
}

/// Opens such a file, which `reader` could read, for reading a part of it.
pub fn open_untrusted_for(reader: Option<&Account>, dir: &Path, name: &str) -> Result<Option<std::fs::File>> {
    let path = dir.join(name);
    let reader = reader.filter(|_| super::account::is_root());
    let Some(file) = unix_or_windows::open_in(dir, name)? else { return Ok(None) };
    check_regular(&file, &path, reader)?;
    Ok(Some(file))
}

fn read_in(dir: &Path, name: &str, limit: u64, reader: Option<&Account>) -> Result<Option<Vec<u8>>> {
    let mut parts = Path::new(name).components();
    let plain = matches!(parts.next(), Some(std::path::Component::Normal(_))) && parts.next().is_none();
    if !plain {
        return Err(Error::NotAName { dir: dir.to_path_buf(), name: name.into() });
    }
    read_regular(unix_or_windows::open_in(dir, name), &dir.join(name), limit, reader)
}

/// Creates the directory `path` (0700) and its missing parents (0755). If it exists, it must be a real directory that
/// belongs to the current user and that no other user can write to. Group 0 counts as its owner: in a container, it is
/// the group of users of any id.
pub fn create_private_dir(path: &Path) -> Result<()> {
    if let Some(parent) = path.parent() {
        unix_or_windows::create_dir_all(parent, 0o755)?;
    }
    match unix_or_windows::create_dir(path, 0o700) {
        Err(Error::Path { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {
            unix_or_windows::check_private(path)
        }
        other => other,
    }
}

/// Creates the directory `path` and its missing parents, all with this mode regardless of the umask; existing ones are
/// not changed. The mode is ignored on Windows.
pub fn create_dir_all(path: &Path, mode: u32) -> Result<()> {
    unix_or_windows::create_dir_all(path, mode)
}

/// Makes the entries of a directory durable: what was created, renamed or removed in it. Does nothing on Windows, which
/// has no such call.
pub fn sync_dir(path: &Path) -> Result<()> {
    #[cfg(unix)]
    fs_err::File::open(path)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// The mode of an open file; ignored on Windows.
pub(crate) fn set_mode(file: &std::fs::File, mode: u32) -> std::io::Result<()> {
    // The umask applies to the mode of the open call, but not here.
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    #[cfg(not(unix))]
    let _ = (file, mode);
    Ok(())
}

fn read_regular(
    opened: Result<Option<std::fs::File>>,
    path: &Path,
    limit: u64,
    reader: Option<&Account>,
) -> Result<Option<Vec<u8>>> {
    let Some(file) = opened? else { return Ok(None) };
    let failed = |source| Error::Path { doing: "read", path: path.to_path_buf(), source };
    check_regular(&file, path, reader)?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(Error::TooLarge { path: path.to_path_buf(), limit });
    }
    Ok(Some(bytes))
}

/// Refuses an open file that is not a regular one, or that `reader` could not read.
fn check_regular(file: &std::fs::File, path: &Path, reader: Option<&Account>) -> Result<()> {
    let failed = |source| Error::Path { doing: "read", path: path.to_path_buf(), source };
    // Metadata of the open file, because the path can point to another file by now.
    let meta = file.metadata().map_err(failed)?;
    let kind = meta.file_type();
    if let Some(reader) = reader.filter(|reader| kind.is_file() && !unix_or_windows::can_read(reader, &meta))
    {
        return Err(Error::NotForUser { path: path.to_path_buf(), user: reader.name.clone() });
    }
    if !kind.is_file() {
        return Err(Error::NotAFile { path: path.to_path_buf(), found: kind_name(kind) });
    }
    Ok(())
}

fn kind_name(kind: std::fs::FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        if kind.is_fifo() {
            return "a FIFO";
        } else if kind.is_socket() {
            return "a socket";
        } else if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
    }
    if kind.is_dir() { "a directory" } else { "a special file" }
}

#[cfg(unix)]
mod unix_or_windows {
    use super::{Account, Error, Result, kind_name};
    use crate::host::CREATE_DIR;
    use rustix::fs::{Mode, OFlags};
    use rustix::io::Errno;
    use std::fs::File;
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
    use std::path::Path;

    /// Does not follow a link, wait for a FIFO's writer, or acquire a controlling terminal.
    const CAREFUL: OFlags = OFlags::RDONLY
        .union(OFlags::NOFOLLOW)
        .union(OFlags::NONBLOCK)
        .union(OFlags::NOCTTY)
        .union(OFlags::CLOEXEC);

    pub fn open(path: &Path) -> Result<Option<File>> {
        match rustix::fs::open(path, CAREFUL, Mode::empty()) {
            // Something above it is a file.
            Err(Errno::NOTDIR) => Ok(None),
            opened => judge(opened, path),
        }
    }

    pub fn open_in(parent: &Path, name: &str) -> Result<Option<File>> {
        let dir = rustix::fs::open(parent, CAREFUL.union(OFlags::DIRECTORY), Mode::empty());
        // With O_DIRECTORY the error for a link is "not a directory", so a link is checked separately.
        if matches!(dir, Err(Errno::NOTDIR))
            && std::fs::symlink_metadata(parent).is_ok_and(|meta| meta.is_symlink())
        {
            return Err(Error::SymbolicLink { path: parent.to_path_buf() });
        }
        let Some(dir) = judge(dir, parent)? else { return Ok(None) };
        judge(rustix::fs::openat(&dir, name, CAREFUL, Mode::empty()), &parent.join(name))
    }

    fn judge(opened: std::result::Result<rustix::fd::OwnedFd, Errno>, path: &Path) -> Result<Option<File>> {
        match opened {
            Ok(fd) => Ok(Some(fd.into())),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::LOOP) => Err(Error::SymbolicLink { path: path.to_path_buf() }),
            // The error of opening a socket, or a device without a driver.
            Err(Errno::NXIO) => {
                let found = std::fs::symlink_metadata(path)
                    .map_or("a special file", |meta| kind_name(meta.file_type()));
                Err(Error::NotAFile { path: path.to_path_buf(), found })
            }
            Err(error) => Err(Error::Path { doing: "open", path: path.to_path_buf(), source: error.into() }),
        }
    }

    /// Whether the mode lets the user read the file; supplementary groups are ignored.
    pub fn can_read(reader: &Account, meta: &std::fs::Metadata) -> bool {
        let through_group = meta.gid() == reader.gid && meta.mode() & 0o040 != 0;
        meta.uid() == reader.uid || through_group || meta.mode() & 0o004 != 0
    }

    pub fn create_dir_all(path: &Path, mode: u32) -> Result<()> {
        if path.as_os_str().is_empty() || path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            create_dir_all(parent, mode)?;
        }
        match create_dir(path, mode) {
            // Another run has created it meanwhile.
            Err(Error::Path { source, .. })
                if source.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() =>
            {
                Ok(())
            }
            other => other,
        }
    }

    pub fn create_dir(path: &Path, mode: u32) -> Result<()> {
        let failed = |source| Error::Path { doing: CREATE_DIR, path: path.to_path_buf(), source };
        std::fs::DirBuilder::new().mode(mode).create(path).map_err(failed)?;
        // The umask may have removed bits. A user who can write to the parent may have put a link here meanwhile, which
        // is not followed.
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        File::from(directory).set_permissions(std::fs::Permissions::from_mode(mode)).map_err(failed)
    }

    pub fn check_private(path: &Path) -> Result<()> {
        let meta = fs_err::symlink_metadata(path)?;
        let us = rustix::process::geteuid().as_raw();
        let of_group = meta.gid() == 0;
        let as_group = of_group && us != 0 && super::super::account::current().gid == 0;
        let why = if meta.is_symlink() {
            "it is a symbolic link".into()
        } else if !meta.is_dir() {
            "it is not a directory".into()
        } else if meta.uid() != us && !as_group {
            format!("it belongs to the user id {}, not to {us}", meta.uid())
        } else if meta.mode() & 0o002 != 0 || meta.mode() & 0o020 != 0 && !of_group {
            format!("other users can write to it (mode {:04o})", meta.mode() & 0o7777)
        } else {
            return Ok(());
        };
        Err(Error::NotPrivate { path: path.to_path_buf(), why })
    }
}

#[cfg(not(unix))]
mod unix_or_windows {
    use super::{Account, Error, Result};
    use crate::host::CREATE_DIR;
    use std::fs::File;
    use std::path::Path;

    pub fn open(path: &Path) -> Result<Option<File>> {
        match fs_err::symlink_metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
            Ok(meta) if meta.is_symlink() => Err(Error::SymbolicLink { path: path.to_path_buf() }),
            Ok(meta) if !meta.is_file() => {
                Err(Error::NotAFile { path: path.to_path_buf(), found: super::kind_name(meta.file_type()) })
            }
            Ok(_) => Ok(Some(fs_err::File::open(path)?.into_file())),
        }
    }

    pub fn open_in(dir: &Path, name: &str) -> Result<Option<File>> {
        if fs_err::symlink_metadata(dir).is_ok_and(|meta| meta.is_symlink()) {
            return Err(Error::SymbolicLink { path: dir.to_path_buf() });
        }
        open(&dir.join(name))
    }

    /// Never called, because there is no root.
    pub fn can_read(_: &Account, _: &std::fs::Metadata) -> bool {
        true
    }

    pub fn create_dir_all(path: &Path, _mode: u32) -> Result<()> {
        std::fs::create_dir_all(path).map_err(|source| Error::Path {
            doing: CREATE_DIR,
            path: path.to_path_buf(),
            source,
        })
    }

    pub fn create_dir(path: &Path, _mode: u32) -> Result<()> {
        std::fs::create_dir(path).map_err(|source| Error::Path {
            doing: CREATE_DIR,
            path: path.to_path_buf(),
            source,
        })
    }

    pub fn check_private(path: &Path) -> Result<()> {
        if fs_err::symlink_metadata(path)?.is_dir() {
            return Ok(());
        }
        Err(Error::NotPrivate { path: path.to_path_buf(), why: "it is not a directory".into() })
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn each_refusal_to_read_is_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "12345").unwrap();
        symlink("file", at("link")).unwrap();
        std::fs::create_dir(at("dir")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();

        let read = |name: &str, limit| {
            let by_path = read_untrusted(&at(name), limit);
            let in_dir = read_untrusted_in(dir.path(), name, limit);
            assert_eq!(format!("{by_path:?}"), format!("{in_dir:?}"));
            by_path
        };
        assert_eq!(read("file", 5).unwrap().unwrap(), b"12345");
        assert!(read("missing", 5).unwrap().is_none());
        assert!(matches!(read("file", 4), Err(Error::TooLarge { limit: 4, .. })));
        assert!(matches!(read("link", 5), Err(Error::SymbolicLink { .. })));
        assert!(matches!(read("dir", 5), Err(Error::NotAFile { found: "a directory", .. })));
        assert!(matches!(read("fifo", 5), Err(Error::NotAFile { found: "a FIFO", .. })));
        assert!(matches!(read("socket", 5), Err(Error::NotAFile { found: "a socket", .. })));
    }

    #[test]
    fn a_file_in_a_directory_is_not_read_through_a_link_or_by_a_path() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        std::fs::write(dir.path().join("real/file"), "x").unwrap();
        symlink("real", dir.path().join("swapped")).unwrap();
        let swapped = dir.path().join("swapped");
        assert!(matches!(read_untrusted_in(&swapped, "file", 9), Err(Error::SymbolicLink { .. })));
        for name in ["../file", "real/file", "/etc/passwd", "..", ""] {
            assert!(matches!(read_untrusted_in(dir.path(), name, 9), Err(Error::NotAName { .. })), "{name}");
        }
    }

    #[test]
    fn a_private_directory_is_made_once_and_refused_when_others_can_write_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/private");
        create_private_dir(&path).unwrap();
        create_private_dir(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o700);

        // The group 0 is root's.
        let group = std::os::unix::fs::MetadataExt::gid(&std::fs::metadata(&path).unwrap());
        for mode in [0o770, 0o707] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let refused = matches!(create_private_dir(&path), Err(Error::NotPrivate { .. }));
            assert_eq!(refused, mode == 0o707 || group != 0);
        }
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(matches!(create_private_dir(&link), Err(Error::NotPrivate { .. })));
    }
}
