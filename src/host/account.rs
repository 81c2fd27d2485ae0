//! Users of the machine: looking them up, creating and deleting the runner's user, and ending its processes.

mod belongings;
mod end;
mod engine;
mod home;
mod keys;
mod locks;
mod manage;
mod mark;
mod name_service;
mod tools;
mod unfinished;
mod ways;
mod writable;

use super::{Error, Root};
pub use belongings::{clean, end_starters, unmount};
pub use end::end_account;
pub use engine::{clear as clear_podman, podman, podman_storage};
pub use home::{ensure_home, has_home, is_as_created};
pub use locks::{FileLock, foreign_lock, sweep_locks, wait_until_unlocked};
pub use manage::{
    Deleted, Made, NewUser, OWN_IDS, WantedIds, add_to_group, check_new, create, create_group, delete,
    delete_group, has_group, has_rest, seems_own_group, usable_id,
};
pub use mark::{Marked, mark, marked_for, set_mark};
use name_service::Key;
pub use name_service::directory_services;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
pub use tools::{MARKER, wait_for_survivors};
pub use ways::{has_engine, ways_to_root};
pub use writable::{Writable, writable};

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// User id; 0 on Windows.
    pub uid: u32,
    /// Primary group's id; 0 on Windows.
    pub gid: u32,
    /// Home directory, as seen inside the root.
    pub home: PathBuf,
}

/// Accepts names that every tool accepts: those allowed by the strict rules of both Debian and systemd, at most 32
/// bytes.
pub fn check_name(name: &str) -> Result<(), Error> {
    let mut bytes = name.bytes();
    let good = bytes.next().is_some_and(|first| first.is_ascii_lowercase() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte))
        && name.len() <= 32;
    good.then_some(()).ok_or_else(|| Error::BadUserName { name: name.into() })
}

/// Whether runup runs as root; never on Windows.
#[must_use]
pub fn is_root() -> bool {
    #[cfg(unix)]
    return rustix::process::geteuid().is_root();
    #[cfg(not(unix))]
    false
}

/// The effective user of this process. A user that is not in the user database gets its id as its name, and `$HOME` or
/// `/` as its home.
#[must_use]
pub fn current() -> Account {
    // A directory service may have to be asked, and the answer stays.
    static CURRENT: OnceLock<Account> = OnceLock::new();
    CURRENT.get_or_init(find_current).clone()
}

#[cfg(unix)]
fn find_current() -> Account {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if let Ok(Some(user)) = find_by_id(&Root::host(), uid) {
        // A container can be started with another group than the user database has, such as 1001:0.
        return Account { gid, ..user };
    }
    let home = std::env::var_os("HOME").map_or_else(|| "/".into(), PathBuf::from);
    Account { name: uid.to_string(), uid, gid, home }
}

#[cfg(not(unix))]
fn find_current() -> Account {
    Account {
        name: std::env::var("USERNAME").unwrap_or_default(),
        uid: 0,
        gid: 0,
        home: std::env::var_os("USERPROFILE").map(PathBuf::from).unwrap_or_default(),
    }
}

/// The user of that name, if it exists: in `/etc/passwd`, and on the machine itself also in what else it has users from.
/// `None` on Windows.
pub fn find(root: &Root, name: &str) -> Result<Option<Account>, Error> {
    find_with(root, Key::Name(name), |account| account.name == name)
        .map_err(|source| Error::Lookup { name: name.into(), source })
}

/// The user of that name in `/etc/passwd`, where those are that runup creates.
pub fn find_local(root: &Root, name: &str) -> Result<Option<Account>, Error> {
    find_in_file(root, |account| account.name == name)
        .map_err(|source| Error::Lookup { name: name.into(), source })
}

/// The user with that id, if it exists; looked up like [`find`].
pub fn find_by_id(root: &Root, uid: u32) -> Result<Option<Account>, Error> {
    find_with(root, Key::Id(uid), |account| account.uid == uid)
        .map_err(|source| Error::Lookup { name: format!("with the id {uid}"), source })
}

fn find_with(root: &Root, key: Key<'_>, is_it: impl Fn(&Account) -> bool) -> io::Result<Option<Account>> {
    let in_file = find_in_file(root, is_it)?;
    if in_file.is_some() || !root.is_host() {
        return Ok(in_file);
    }
    name_service::user(key)
}

fn find_in_file(root: &Root, is_it: impl Fn(&Account) -> bool) -> io::Result<Option<Account>> {
    let Some(passwd) = root.resolve(Path::new("/etc/passwd")) else { return Ok(None) };
    Ok(fs_err::read_to_string(passwd)?.lines().filter_map(parse_passwd).find(is_it))
}

/// The group ids of an account: its primary group and the supplementary ones. If a user of that name has another uid,
/// for example for an account of an image looked up on the machine itself, its groups do not count.
#[must_use]
pub fn groups(root: &Root, account: &Account) -> Vec<u32> {
    let mut gids = vec![account.gid];
    if !find(root, &account.name).is_ok_and(|found| found.is_some_and(|found| found.uid == account.uid)) {
        return gids;
    }
    if root.is_host() {
        match name_service::groups_of(&account.name) {
            Ok(found) => gids.extend(found),
            Err(error) => tracing::warn!("the groups of {} are not known: {error}", account.name),
        }
    }
    let member_of =
        group_file(root).into_iter().filter(|group| group.has(&account.name)).map(|group| group.gid);
    gids.extend(member_of);
    gids.sort_unstable();
    gids.dedup();
    gids
}

/// The id of the group of that name; `None` if it does not exist.
#[must_use]
pub fn group_id(root: &Root, name: &str) -> Option<u32> {
    group(root, Key::Name(name)).map(|group| group.gid)
}

/// The name of the group of that id; `None` if it does not exist.
#[must_use]
pub fn group_name(root: &Root, gid: u32) -> Option<String> {
    group(root, Key::Id(gid)).map(|group| group.name)
}

/// The users in the group `gid`: those with it as their primary group, and its listed members. Of users outside
/// `/etc/passwd`, only listed members are found.
#[must_use]
pub fn primary_group_members(root: &Root, gid: u32) -> Vec<String> {
    let mut names: Vec<String> =
        users(root).into_iter().filter(|user| user.gid == gid).map(|user| user.name).collect();
    names.extend(
        group_file(root).into_iter().filter(|group| group.gid == gid).flat_map(|group| group.members),
    );
    if root.is_host()
        && let Ok(Some(group)) = name_service::group(Key::Id(gid))
    {
        names.extend(group.members);
    }
    names.sort();
    names.dedup();
    names
}

/// The outermost of `path` and the directories above it that the account cannot both list and enter. GitHub's runner
/// lists all of them at every start, and exits if it may not. Directories that do not exist yet are ignored.
///
/// Determined by mode, owner and groups, without access control lists. Always `None` on Windows.
#[must_use]
pub fn first_unreadable_ancestor(root: &Root, path: &Path, account: &Account) -> Option<PathBuf> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        if account.uid == 0 {
            return None;
        }
        let gids = groups(root, account);
        let mut ancestors: Vec<&Path> =
            path.ancestors().filter(|ancestor| !ancestor.as_os_str().is_empty()).collect();
        ancestors.reverse();
        for dir in ancestors {
            let meta = match fs_err::metadata(dir) {
                Ok(meta) => meta,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Some(dir.to_path_buf());
                }
                Err(_) => return None,
            };
            if !may_list(meta.mode(), meta.uid(), meta.gid(), account.uid, &gids) {
                return Some(dir.to_path_buf());
            }
        }
        None
    }
    #[cfg(not(unix))]
    {
        let _ = (root, path, account);
        None
    }
}

/// Whether a directory's mode lets a user read and enter it. As in the kernel, only the first matching class counts.
#[cfg(unix)]
fn may_list(mode: u32, owner: u32, group: u32, uid: u32, gids: &[u32]) -> bool {
    let shift = if owner == uid {
        6
    } else if gids.contains(&group) {
        3
    } else {
        0
    };
    (mode >> shift) & 0o5 == 0o5
}

fn needs_root(name: &str) -> Result<(), Error> {
    if !cfg!(unix) {
        return Err(Error::AccountsUnsupported { name: name.into() });
    }
    is_root().then_some(()).ok_or_else(|| Error::NeedsRoot { name: name.into() })
}

/// The entries of `/etc/passwd`; empty if it does not exist.
fn users(root: &Root) -> Vec<Account> {
    let text = root
        .resolve(Path::new("/etc/passwd"))
        .and_then(|path| fs_err::read_to_string(path).ok())
        .unwrap_or_default();
    text.lines().filter_map(parse_passwd).collect()
}

/// A line of passwd(5).
fn parse_passwd(line: &str) -> Option<Account> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let home = fields.nth(1)?.into();
    Some(Account { name, uid, gid, home })
}

struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

impl Group {
    /// Whether the user is listed as a member; a primary group does not list its users.
    fn has(&self, user: &str) -> bool {
        self.members.iter().any(|member| member == user)
    }
}

/// The entries of `/etc/group`; empty if it does not exist.
fn group_file(root: &Root) -> Vec<Group> {
    let text = root
        .resolve(Path::new("/etc/group"))
        .and_then(|path| fs_err::read_to_string(path).ok())
        .unwrap_or_default();
    text.lines().filter_map(parse_group).collect()
}

/// The group, from `/etc/group`, and on the machine itself also from what else it has groups from.
fn group(root: &Root, key: Key<'_>) -> Option<Group> {
    let is_it = |group: &Group| match key {
        Key::Name(name) => group.name == name,
        Key::Id(gid) => group.gid == gid,
    };
    let in_file = group_file(root).into_iter().find(is_it);
    if in_file.is_some() || !root.is_host() {
        return in_file;
    }
    name_service::group(key).ok().flatten()
}

/// A line of group(5).
fn parse_group(line: &str) -> Option<Group> {
    let mut fields = line.split(':');
    let name = fields.next()?.to_owned();
    let gid = fields.nth(1)?.parse().ok()?;
    let members = fields
        .next()
        .unwrap_or_default()
        .split(',')
        .filter(|name| !name.is_empty())
        .map(Into::into)
        .collect();
    Some(Group { name, gid, members })
}

#[cfg(all(test, unix))]
mod tests;
