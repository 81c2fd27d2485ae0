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

/// What useradd puts into a new home directory.
const TEMPLATE: &str = "/etc/skel";

/// The most that is compared of a file; the real ones have some kilobytes.
const LIMIT: u64 = 1024 * 1024;

/// Whether the home directory of a user that runup created has nothing but what useradd has put there, so that nothing is
/// lost if it is created again. One elsewhere is the operator's choice.
#[must_use]
pub fn is_as_created(root: &Root, account: &Account) -> bool {
    if account.home != of(&account.name) {
        return false;
    }
    // For an image, useradd takes the template of the machine that it runs on.
    let templates = [root.resolve(Path::new(TEMPLATE)), Some(PathBuf::from(TEMPLATE))];
    root.locate(&account.home)
        .is_some_and(|home| templates.iter().flatten().any(|template| is_part_of(&home, template)))
}

/// Whether everything in `dir` is also in `template`. A user that could change `dir` may have created anything in it.
fn is_part_of(dir: &Path, template: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(dir) else { return false };
    entries.into_iter().all(|entry| {
        let Some((entry, name)) = entry.ok().and_then(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some((entry, name))
        }) else {
            return false;
        };
        let original = template.join(&name);
        let (Ok(kind), Ok(expected)) = (entry.file_type(), std::fs::symlink_metadata(&original)) else {
            return false;
        };
        if kind != expected.file_type() {
            return false;
        }
        if kind.is_dir() {
            return is_part_of(&entry.path(), &original);
        }
        if kind.is_symlink() {
            return std::fs::read_link(entry.path()).ok() == std::fs::read_link(&original).ok();
        }
        let found = crate::host::file::read_untrusted_in(dir, &name, LIMIT).ok().flatten();
        found.is_some() && found == std::fs::read(&original).ok()
    })
}

/// Deletes the home directory of a user that runup created, and creates it as useradd did. No process of the user may
/// run. One that is a mount point is emptied.
#[cfg(unix)]
pub(super) fn renew(root: &Root, account: &Account) -> Result<(), Error> {
    let Some(path) = root.locate(&account.home).filter(|_| account.home == of(&account.name)) else {
        return Ok(());
    };
    crate::host::delete::delete_or_empty(&path)?;
    ensure_home(root, account)?;
    if let Some(template) = root.resolve(Path::new(TEMPLATE)) {
        fill(&path, &template, account)?;
    }
    Ok(())
}

/// Copies what is in the directory `template` to `dir`, for the user.
#[cfg(unix)]
fn fill(dir: &Path, template: &Path, account: &Account) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown, lchown};
    for entry in fs_err::read_dir(template)? {
        let entry = entry?;
        let (kind, to) = (entry.file_type()?, dir.join(entry.file_name()));
        if kind.is_dir() {
            fs_err::create_dir(&to)?;
            fill(&to, &entry.path(), account)?;
            fs_err::set_permissions(&to, std::fs::Permissions::from_mode(entry.metadata()?.mode() & 0o777))?;
            lchown(&to, Some(account.uid), Some(account.gid))?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs_err::read_link(entry.path())?, &to)?;
            lchown(&to, Some(account.uid), Some(account.gid))?;
        } else if kind.is_file() {
            let mut new = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&to)?;
            std::io::copy(&mut fs_err::File::open(entry.path())?, &mut new)?;
            new.set_permissions(std::fs::Permissions::from_mode(entry.metadata()?.mode() & 0o777))?;
            fchown(&new, Some(account.uid), Some(account.gid))?;
        }
    }
    Ok(())
}

/// This system's users are not managed.
#[cfg(not(unix))]
pub(super) fn renew(_: &Root, account: &Account) -> Result<(), Error> {
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
