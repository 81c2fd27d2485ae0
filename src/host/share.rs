//! Gives a group the rights of the owner: what a container that runs as any user of group 0 needs of its image. And
//! ends the sharing of a file with another tree, before one of the two changes.

use super::Error;
use std::path::Path;

/// Gives the group of everything below `path`, and of `path` itself, the rights that its owner has. Links are not
/// followed. For trees in which no job has run.
#[cfg(unix)]
pub fn with_group(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt as _;
    let meta = fs_err::symlink_metadata(path)?;
    if meta.is_symlink() {
        return Ok(());
    }
    if meta.is_file() && std::os::unix::fs::MetadataExt::nlink(&meta) != 1 && !unshare(path)? {
        return Ok(());
    }
    let mode = meta.permissions().mode() & 0o7777;
    let shared = mode | (mode & 0o700) >> 3;
    if mode != shared {
        fs_err::set_permissions(path, std::fs::Permissions::from_mode(shared))?;
    }
    if meta.is_dir() {
        for entry in fs_err::read_dir(path)? {
            with_group(&entry?.path())?;
        }
    }
    Ok(())
}

/// The name of a copy that is not complete.
#[cfg(unix)]
pub const COPY: &std::ffi::CStr = c".runup-copy";

#[cfg(unix)]
fn unshare(path: &Path) -> Result<bool, Error> {
    use rustix::fs::{CWD, Mode, OFlags};
    use std::os::unix::ffi::OsStrExt as _;
    let failed =
        |error: rustix::io::Errno| Error::Path { doing: "copy", path: path.to_owned(), source: error.into() };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(false) };
    let name = std::ffi::CString::new(name.as_bytes()).map_err(|_| failed(rustix::io::Errno::INVAL))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let parent = rustix::fs::openat(CWD, parent, flags, Mode::empty()).map_err(failed)?;
    own_copy(std::os::fd::AsFd::as_fd(&parent), &name).map_err(failed)
}

/// Replaces a file that has another name too by a copy with the same mode; the other name keeps the file. Returns whether
/// it did: only for a file of this user's that everybody may read, because others may get the copy. For directories that
/// only this user can enter.
#[cfg(unix)]
pub fn own_copy(parent: std::os::fd::BorrowedFd<'_>, name: &std::ffi::CStr) -> rustix::io::Result<bool> {
    use rustix::fs::{AtFlags, FileType, Mode, OFlags};
    use rustix::io::Errno;
    let careful = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let ours = stat.st_uid == rustix::process::geteuid().as_raw();
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile
        || !ours
        || stat.st_mode & 0o6004 != 0o004
    {
        return Ok(false);
    }
    let file = rustix::fs::openat(parent, name, OFlags::RDONLY | careful, Mode::empty())?;
    match rustix::fs::unlinkat(parent, COPY, AtFlags::empty()) {
        Err(Errno::NOENT) => {}
        gone => gone?,
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | careful;
    let copy = rustix::fs::openat(parent, COPY, flags, Mode::RUSR | Mode::WUSR)?;
    let (mut file, mut copy) = (std::fs::File::from(file), std::fs::File::from(copy));
    let written = std::io::copy(&mut file, &mut copy)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
        .and_then(|_| rustix::fs::fchmod(&copy, Mode::from_raw_mode(stat.st_mode & 0o7777)))
        .and_then(|()| rustix::fs::renameat(parent, COPY, parent, name));
    if written.is_err() {
        let _ = rustix::fs::unlinkat(parent, COPY, AtFlags::empty());
    }
    written.map(|()| true)
}

/// Windows has no such groups.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
pub fn with_group(_: &Path) -> Result<(), Error> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_file_with_another_name_is_copied_before_it_changes() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("tree")).unwrap();
        for (name, mode) in [("program", 0o755), ("closed", 0o640)] {
            std::fs::write(at(name), name).unwrap();
            std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(mode)).unwrap();
            std::fs::hard_link(at(name), at("tree").join(name)).unwrap();
        }
        with_group(&at("tree")).unwrap();
        assert_eq!(std::fs::read_to_string(at("tree/program")).unwrap(), "program");
        let facts = |name: &str| {
            let meta = std::fs::metadata(at(name)).unwrap();
            (meta.nlink(), meta.mode() & 0o777)
        };
        assert_eq!((facts("program"), facts("tree/program")), ((1, 0o755), (1, 0o775)));
        assert_eq!(facts("closed"), (2, 0o640), "it is not everybody's, and stays as it is");
        assert_eq!(std::fs::read_dir(at("tree")).unwrap().count(), 2);
    }

    #[test]
    fn the_group_may_what_the_owner_may_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mode = |name: &str| std::fs::metadata(at(name)).unwrap().permissions().mode() & 0o777;
        std::fs::create_dir(at("tree")).unwrap();
        for (name, bits) in
            [("tree/program", 0o755), ("tree/secret", 0o600), ("tree/fixed", 0o444), ("other", 0o600)]
        {
            std::fs::write(at(name), "").unwrap();
            std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(bits)).unwrap();
        }
        symlink(at("other"), at("tree/link")).unwrap();
        with_group(&at("tree")).unwrap();
        assert_eq!(
            ["tree/program", "tree/secret", "tree/fixed", "other"].map(mode),
            [0o775, 0o660, 0o444, 0o600]
        );
        assert_eq!(mode("tree") & 0o070, 0o070);
    }
}
