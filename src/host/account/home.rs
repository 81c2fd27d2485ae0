//! The home directory of a user that runup creates, which a `useradd` that was killed leaves in any state.

#[cfg(not(unix))]
use super::needs_root;
use super::{Account, find_by_id};
use crate::host::{Error, Root};
use std::path::{Path, PathBuf};

/// Where it is.
pub(super) fn of(name: &str) -> PathBuf {
    Path::new("/home").join(name)
}

/// Creates the home directory of a user that runup created, if it is missing, and gives it to the user (0700): a
/// `useradd` that was killed leaves it missing or owned by root. A link, or another user's directory, is refused. One
/// elsewhere is the operator's choice, and stays as it is.
#[cfg(unix)]
pub fn ensure_home(root: &Root, account: &Account) -> Result<(), Error> {
    use rustix::fs::{Gid, Mode, OFlags, Uid};
    use std::os::unix::fs::MetadataExt as _;
    if account.home != of(&account.name) {
        return Ok(());
    }
    let name = || account.name.clone();
    let Some(path) = root.locate(&account.home) else {
        return Err(Error::LeadsOut { name: name(), path: root.join(&account.home) });
    };
    let failed = |doing| {
        let path = path.clone();
        move |error: rustix::io::Errno| Error::Path { doing, path, source: error.into() }
    };
    if let Some(parent) = path.parent() {
        crate::host::file::create_dir_all(parent, 0o755)?;
    }
    match rustix::fs::mkdir(&path, Mode::RWXU) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(failed(crate::host::CREATE_DIR)(error)),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match rustix::fs::open(&path, flags, Mode::empty()) {
        Ok(directory) => std::fs::File::from(directory),
        Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
            return Err(Error::HomeTaken { name: name(), home: path });
        }
        Err(error) => return Err(failed("open")(error)),
    };
    let owner = directory.metadata()?.uid();
    if owner != account.uid && owner != 0 {
        return Err(Error::HomeTaken { name: name(), home: path });
    }
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    rustix::fs::fchown(&directory, Some(uid), Some(gid)).map_err(failed("change the owner of"))?;
    rustix::fs::fchmod(&directory, Mode::RWXU).map_err(failed("change the mode of"))
}

/// Whether the home directory of a user that runup created is as [`ensure_home`] would make it, or as the user has made
/// it: a `useradd` that was killed leaves it missing, owned by root or closed. One elsewhere is the operator's choice.
#[must_use]
pub fn has_home(root: &Root, account: &Account) -> bool {
    if account.home != of(&account.name) {
        return true;
    }
    let Some(metadata) = root.locate(&account.home).and_then(|path| std::fs::symlink_metadata(path).ok())
    else {
        return false;
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        metadata.is_dir() && metadata.uid() == account.uid && metadata.mode() & 0o700 == 0o700
    }
    #[cfg(not(unix))]
    metadata.is_dir()
}

/// This system's users are not managed.
#[cfg(not(unix))]
pub fn ensure_home(_: &Root, account: &Account) -> Result<(), Error> {
    needs_root(&account.name)
}

/// Whether useradd got as far as the home directory, in the order of some versions, without the entry in `/etc/passwd`: it
/// belongs to root, or to an id that no user has.
pub(super) fn home_of_nobody(root: &Root, name: &str) -> Option<PathBuf> {
    let path = root.locate(&of(name))?;
    let metadata = std::fs::symlink_metadata(&path).ok().filter(std::fs::Metadata::is_dir)?;
    #[cfg(unix)]
    let owner = std::os::unix::fs::MetadataExt::uid(&metadata);
    #[cfg(not(unix))]
    let owner = u32::from(!metadata.is_dir());
    (owner == 0 || matches!(find_by_id(root, owner), Ok(None))).then_some(path)
}
