//! Users of the machine: who we are, who is there, creating and deleting the one that the runner gets, and ending its
//! processes.

mod belongings;
mod end;
mod manage;
mod ways;

use super::{Error, Root};
pub use belongings::end_starters;
pub use end::end_account;
pub use manage::{Deleted, OWN_IDS, add_to_group, create, create_group, delete, delete_group, ensure_home};
use std::path::{Path, PathBuf};
pub use ways::ways_to_root;

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

/// Refuses names that some tool or another would: what Debian's and systemd's strict rules both accept, at most 32
/// bytes.
pub fn check_name(name: &str) -> Result<(), Error> {
    let mut bytes = name.bytes();
    let good = bytes.next().is_some_and(|first| first.is_ascii_lowercase() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte))
        && name.len() <= 32;
    good.then_some(()).ok_or_else(|| Error::BadUserName { name: name.into() })
}

/// Whether we are root; never on Windows.
#[must_use]
pub fn is_root() -> bool {
    #[cfg(unix)]
    return rustix::process::geteuid().is_root();
    #[cfg(not(unix))]
    false
}

/// The user that we run as (the effective one). One that the user database does not know gets its number as its name
/// and `$HOME`, or `/`, as its home.
#[must_use]
pub fn current() -> Account {
    #[cfg(unix)]
    {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        if let Ok(Some(user)) = nix::unistd::User::from_uid(uid.into()) {
            return from_nix(user);
        }
        let home = std::env::var_os("HOME").map_or_else(|| "/".into(), PathBuf::from);
        Account { name: uid.to_string(), uid, gid, home }
    }
    #[cfg(not(unix))]
    Account {
        name: std::env::var("USERNAME").unwrap_or_default(),
        uid: 0,
        gid: 0,
        home: std::env::var_os("USERPROFILE").map(PathBuf::from).unwrap_or_default(),
    }
}

/// The user of that name, if there is one: the system's database on the machine itself, `/etc/passwd` inside another
/// root. `None` on Windows.
pub fn find(root: &Root, name: &str) -> Result<Option<Account>, Error> {
    if !root.is_host() {
        let lookup = |source| Error::Lookup { name: name.into(), source };
        let Some(passwd) = root.resolve(Path::new("/etc/passwd")) else { return Ok(None) };
        let passwd = fs_err::read_to_string(passwd).map_err(lookup)?;
        return Ok(passwd.lines().filter_map(parse_passwd).find(|account| account.name == name));
    }
    #[cfg(unix)]
    return match nix::unistd::User::from_name(name) {
        Ok(user) => Ok(user.map(from_nix)),
        // What getpwnam(3) may say for "no such user", besides success.
        Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ESRCH) => Ok(None),
        Err(error) => Err(Error::Lookup { name: name.into(), source: error.into() }),
    };
    #[cfg(not(unix))]
    Ok(None)
}

/// The user with that id, if there is one; looked up like [`find`].
pub fn find_by_id(root: &Root, uid: u32) -> Result<Option<Account>, Error> {
    let lookup = |source| Error::Lookup { name: format!("with the id {uid}"), source };
    if !root.is_host() {
        let Some(passwd) = root.resolve(Path::new("/etc/passwd")) else { return Ok(None) };
        let passwd = fs_err::read_to_string(passwd).map_err(lookup)?;
        return Ok(passwd.lines().filter_map(parse_passwd).find(|account| account.uid == uid));
    }
    #[cfg(unix)]
    return match nix::unistd::User::from_uid(uid.into()) {
        Ok(user) => Ok(user.map(from_nix)),
        Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ESRCH) => Ok(None),
        Err(error) => Err(lookup(error.into())),
    };
    #[cfg(not(unix))]
    Ok(None)
}

/// The group ids of an account: its primary group and the supplementary ones. A user of that name with another uid is
/// not the account, and lends it no groups: an account of an image on the machine itself, say.
#[must_use]
pub fn groups(root: &Root, account: &Account) -> Vec<u32> {
    let mut gids = vec![account.gid];
    if !find(root, &account.name).is_ok_and(|found| found.is_some_and(|found| found.uid == account.uid)) {
        return gids;
    }
    #[cfg(all(unix, not(target_vendor = "apple")))]
    if root.is_host()
        && let Ok(name) = std::ffi::CString::new(account.name.as_str())
        && let Ok(found) = nix::unistd::getgrouplist(&name, account.gid.into())
    {
        gids.extend(found.into_iter().map(nix::unistd::Gid::as_raw));
    }
    let member_of =
        group_file(root).into_iter().filter(|group| group.has(&account.name)).map(|group| group.gid);
    gids.extend(member_of);
    gids.sort_unstable();
    gids.dedup();
    gids
}

/// The id of the group of that name; `None` where `/etc/group` does not know it.
#[must_use]
pub fn group_id(root: &Root, name: &str) -> Option<u32> {
    group_file(root).into_iter().find(|group| group.name == name).map(|group| group.gid)
}

/// Whether the account is in the group of that name, which `/etc/group` has to know.
#[must_use]
pub fn in_group(root: &Root, account: &Account, group: &str) -> bool {
    let gids = groups(root, account);
    group_file(root).into_iter().any(|found| found.name == group && gids.contains(&found.gid))
}

/// The users that share the group `gid`: it is their primary group, or they are listed as its members. What the user
/// database holds beyond `/etc/passwd` and `/etc/group` is seen for listed members of the machine itself only.
#[must_use]
pub fn primary_group_members(root: &Root, gid: u32) -> Vec<String> {
    let mut names: Vec<String> =
        users(root).into_iter().filter(|user| user.gid == gid).map(|user| user.name).collect();
    names.extend(
        group_file(root).into_iter().filter(|group| group.gid == gid).flat_map(|group| group.members),
    );
    #[cfg(unix)]
    if root.is_host()
        && let Ok(Some(group)) = nix::unistd::Group::from_gid(gid.into())
    {
        names.extend(group.mem);
    }
    names.sort();
    names.dedup();
    names
}

/// The outermost of `path` and the directories above it that the account cannot both list and enter. GitHub's runner
/// enumerates them all at every start and ends if it may not. What does not exist yet is no obstacle.
///
/// Judged by mode, owner and groups; access control lists are not looked at. Nothing on Windows.
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
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
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

/// Whether a directory's mode lets a user read and enter it. Only the first class that fits counts, as in the kernel.
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

#[cfg(unix)]
fn from_nix(user: nix::unistd::User) -> Account {
    Account { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw(), home: user.dir }
}

/// What `/etc/passwd` says; nothing where there is none.
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

/// What `/etc/group` says; nothing where there is none.
fn group_file(root: &Root) -> Vec<Group> {
    let text = root
        .resolve(Path::new("/etc/group"))
        .and_then(|path| fs_err::read_to_string(path).ok())
        .unwrap_or_default();
    text.lines().filter_map(parse_group).collect()
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
