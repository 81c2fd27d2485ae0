//! Users of the machine: who we are, who is there, making and deleting the one that the runner gets.

use super::process::{self, Which};
use super::{Command, Error, Root};
use crate::deadline::Deadline;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The longest that `useradd` or `userdel` may take; they wait for each other's locks.
const TOOL_TIME: Duration = Duration::from_secs(60);

/// The longest that a user's processes may take to end, killing included.
const END_TIME: Duration = Duration::from_secs(15);

/// `userdel`'s exit code for a user that does not exist.
const NO_SUCH_USER: i32 = 6;

/// Where system programs lie; PATH may lack the `sbin` folders.
const SYSTEM_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// User id; 0 on Windows.
    pub uid: u32,
    /// Primary group's id; 0 on Windows.
    pub gid: u32,
    /// Home folder, as seen inside the root.
    pub home: PathBuf,
}

/// How [`delete`] found the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It was there and is deleted.
    Now,
    /// There was none.
    AlreadyGone,
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

/// Makes a system user with a group of the same name, the home folder `/home/NAME` and no login shell. Root only; a
/// user or a home folder that exists is refused.
pub async fn create(root: &Root, name: &str, stop: &CancellationToken) -> Result<Account, Error> {
    check_name(name)?;
    needs_root(name)?;
    if find(root, name)?.is_some() {
        return Err(Error::UserExists { name: name.into() });
    }
    // useradd --prefix follows links as this machine does.
    if let Some(path) = ["/home", "/etc"].into_iter().find(|path| root.leads_out(Path::new(path))) {
        return Err(Error::LeadsOut { name: name.into(), path: root.join(Path::new(path)) });
    }
    let home = Path::new("/home").join(name);
    let outside = root.join(&home);
    if fs_err::symlink_metadata(&outside).is_ok() {
        return Err(Error::HomeTaken { name: name.into(), home: outside });
    }
    fs_err::create_dir_all(root.join(Path::new("/home")))?;
    let command = tool(root, name, "useradd")?.arg("--system");
    // A group without its user is what a deletion leaves that was cut off.
    let command = match own_group(root, name) {
        Some(_) => command.arg("--gid").arg(name),
        None => command.arg("--user-group"),
    };
    let command = command
        .arg("--create-home")
        .arg("--home-dir")
        .arg(home)
        .arg("--shell")
        .arg(no_login_shell(root))
        .arg(name);
    let rendered = command.render();
    command.run(stop, &mut |_, line| tracing::debug!(line, "useradd")).await?.into_success(&rendered)?;
    let account = find(root, name)?.ok_or_else(|| Error::AccountUnchanged {
        name: name.into(),
        tool: "useradd",
        state: "is missing",
    })?;
    tracing::debug!(name, uid = account.uid, "created the user");
    Ok(account)
}

/// Ends whatever still runs as the user (on the machine itself), then deletes it with its home folder and its group.
/// Root only; a user that is gone already is success.
pub async fn delete(root: &Root, name: &str, stop: &CancellationToken) -> Result<Deleted, Error> {
    check_name(name)?;
    let Some(account) = find(root, name)? else {
        delete_group(root, name, stop).await?;
        return Ok(Deleted::AlreadyGone);
    };
    needs_root(name)?;
    // A uid 0 under another name is root itself, whose processes are the machine.
    if account.uid == 0 {
        return Err(Error::BadUserName { name: name.into() });
    }
    if root.is_host() {
        process::end(&Which::OfUser(account.uid), Deadline::after(END_TIME)).await?;
    }
    let command = tool(root, name, "userdel")?.arg("--remove").arg(name);
    let rendered = command.render();
    let outcome = command.run(stop, &mut |_, line| tracing::debug!(line, "userdel")).await?;
    if outcome.code == Some(NO_SUCH_USER) {
        return Ok(Deleted::AlreadyGone);
    }
    outcome.into_success(&rendered)?;
    if find(root, name)?.is_some() {
        return Err(Error::AccountUnchanged { name: name.into(), tool: "userdel", state: "still exists" });
    }
    delete_group(root, name, stop).await?;
    tracing::debug!(name, uid = account.uid, "deleted the user");
    Ok(Deleted::Now)
}

/// The group of that name, if it is a user's own: nobody is listed as its member, and it is nobody's primary group but
/// that user's.
fn own_group(root: &Root, name: &str) -> Option<Group> {
    let group = group_file(root).into_iter().find(|group| group.name == name && group.members.is_empty())?;
    let passwd = root.resolve(Path::new("/etc/passwd")).and_then(|path| fs_err::read_to_string(path).ok());
    let passwd = passwd.unwrap_or_default();
    let shared =
        passwd.lines().filter_map(parse_passwd).any(|user| user.gid == group.gid && user.name != name);
    (!shared && group.gid != 0).then_some(group)
}

/// Deletes the user's own group where `userdel` left it: whether it does depends on `USERGROUPS_ENAB` of login.defs(5).
async fn delete_group(root: &Root, name: &str, stop: &CancellationToken) -> Result<(), Error> {
    if !is_root() || own_group(root, name).is_none() {
        return Ok(());
    }
    let command = tool(root, name, "groupdel")?.arg(name);
    let rendered = command.render();
    command.run(stop, &mut |_, line| tracing::debug!(line, "groupdel")).await?.into_success(&rendered)?;
    Ok(())
}

/// The group ids of an account: its primary group and the supplementary ones.
#[must_use]
pub fn groups(root: &Root, account: &Account) -> Vec<u32> {
    let mut gids = vec![account.gid];
    #[cfg(all(unix, not(target_vendor = "apple")))]
    if root.is_host()
        && let Ok(name) = std::ffi::CString::new(account.name.as_str())
        && let Ok(found) = nix::unistd::getgrouplist(&name, account.gid.into())
    {
        gids.extend(found.into_iter().map(nix::unistd::Gid::as_raw));
    }
    let member_of = group_file(root)
        .into_iter()
        .filter(|group| group.members.contains(&account.name))
        .map(|group| group.gid);
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

/// The outermost of `path` and the folders above it that the account cannot both list and enter. GitHub's runner
/// enumerates them all at every start and ends if it may not. What does not exist yet is no obstacle.
///
/// Judged by mode, owner and groups; access control lists are not looked at. Nothing on Windows.
#[must_use]
pub fn first_unreadable_ancestor(path: &Path, account: &Account) -> Option<PathBuf> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        if account.uid == 0 {
            return None;
        }
        let gids = groups(&Root::host(), account);
        let mut ancestors: Vec<&Path> =
            path.ancestors().filter(|ancestor| !ancestor.as_os_str().is_empty()).collect();
        ancestors.reverse();
        for folder in ancestors {
            let meta = match fs_err::metadata(folder) {
                Ok(meta) => meta,
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    return Some(folder.to_path_buf());
                }
                Err(_) => return None,
            };
            if !may_list(meta.mode(), meta.uid(), meta.gid(), account.uid, &gids) {
                return Some(folder.to_path_buf());
            }
        }
        None
    }
    #[cfg(not(unix))]
    {
        let _ = (path, account);
        None
    }
}

/// Whether a folder's mode lets a user read and enter it. Only the first class that fits counts, as in the kernel.
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

/// `useradd` or `userdel` of this machine, told to work inside the root.
fn tool(root: &Root, name: &str, tool: &'static str) -> Result<Command, Error> {
    let program = super::find_program(tool, SYSTEM_PATH)
        .ok_or_else(|| Error::AccountToolMissing { name: name.into(), tool })?;
    let command = Command::new(program)
        .env("PATH", SYSTEM_PATH)
        .env("LC_ALL", "C")
        .deadline(Deadline::after(TOOL_TIME));
    // Not --root: that is a chroot, and the image's programs may be for another architecture.
    Ok(if root.is_host() { command } else { command.arg("--prefix").arg(root.path()) })
}

fn no_login_shell(root: &Root) -> &'static str {
    ["/usr/sbin/nologin", "/sbin/nologin", "/usr/bin/nologin"]
        .into_iter()
        .find(|shell| root.resolve(Path::new(shell)).is_some())
        .unwrap_or("/bin/false")
}

#[cfg(unix)]
fn from_nix(user: nix::unistd::User) -> Account {
    Account { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw(), home: user.dir }
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
#[path = "account_tests.rs"]
mod tests;
