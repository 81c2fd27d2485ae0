//! Creates and deletes users and groups with the machine's own `useradd` and similar programs.

use super::belongings;
use super::{
    Account, Group, check_name, end_account, find, find_by_id, find_local, group_file, group_name, is_root,
    needs_root, users,
};
use crate::deadline::Deadline;
use crate::host::{Command, Error, Outcome, Root, find_program};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The range of ids for users and groups that runup creates; a user and its own group get the same id.
///
/// A container process whose image has a user with the runner's id is that user on the host, so the id must be one that
/// images do not use (999, 1000, 1001 and the like). No other allocator uses this range: it is above the login users
/// (`UID_MAX` is 60000, and an id below it would change the id of the next login user) and the range 60001 to 60705 of
/// systemd-homed, nspawn and GDM, and below systemd's dynamic users (61184 to 65519) and the subordinate ids (from
/// 100000). <https://systemd.io/UIDS-GIDS/>
pub const OWN_IDS: RangeInclusive<u32> = 60_706..=61_183;

/// The timeout of `useradd` and `userdel`, which wait for each other's locks.
const TOOL_TIME: Duration = Duration::from_secs(60);

/// The timeout for ending a user's processes.
const END_TIME: Duration = Duration::from_secs(15);

/// The timeout for deleting a user's files.
const BELONGINGS_TIME: Duration = Duration::from_secs(120);

/// The exit code of `userdel` for a user, and of `groupdel` for a group, that does not exist.
const NO_SUCH_NAME: i32 = 6;

/// The exit code of `useradd` and `groupadd` for an id that is taken.
const ID_TAKEN: i32 = 4;

/// The exit code of `userdel` for a user that has processes.
const IN_USE: i32 = 8;

/// How many attempts are made if other programs take ids or start processes at the same time.
const ATTEMPTS: usize = 5;

/// The directories of system programs; PATH may lack the `sbin` directories.
const SYSTEM_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// The ids that a user that is created is to have; `None` for a free one of [`OWN_IDS`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WantedIds {
    /// Its own.
    pub uid: Option<u32>,
    /// That of its group.
    pub gid: Option<u32>,
}

/// The number as an id that a user or a group may have: not root's, and none of those that stand for nobody or for an
/// error.
#[must_use]
pub fn usable_id(number: u64) -> Option<u32> {
    let id = u32::try_from(number).ok()?;
    (!matches!(id, 0 | 65_534 | 65_535) && id < u32::MAX - 1).then_some(id)
}

/// Whether [`delete`] or [`delete_group`] found the user or group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It existed and was deleted.
    Now,
    /// It did not exist.
    AlreadyGone,
}

/// Creates a system user with a group of the same name, both with the lowest free id of [`OWN_IDS`] unless other ids are
/// wanted, the home directory `/home/NAME` (0700) and no login shell. Needs root; an existing user or home directory is
/// refused.
pub async fn create(
    root: &Root,
    name: &str,
    ids: WantedIds,
    stop: &CancellationToken,
) -> Result<Account, Error> {
    check_name(name)?;
    needs_root(name)?;
    if find(root, name)?.is_some() {
        return Err(Error::UserExists { name: name.into() });
    }
    // useradd --prefix resolves links on this machine, not inside the prefix.
    if let Some(path) = ["/home", "/etc"].into_iter().find(|path| root.leads_out(Path::new(path))) {
        return Err(Error::LeadsOut { name: name.into(), path: root.join(Path::new(path)) });
    }
    let home = Path::new("/home").join(name);
    let outside = root.join(&home);
    if fs_err::symlink_metadata(&outside).is_ok() {
        return Err(Error::HomeTaken { name: name.into(), home: outside });
    }
    crate::host::file::create_dir_all(&root.join(Path::new("/home")), 0o755)?;
    let gid = ensure_own_group(root, name, ids, stop).await?;
    let mut uid = if let Some(uid) = ids.uid {
        uid
    } else if OWN_IDS.contains(&gid) && uid_is_free(root, gid)? {
        gid
    } else {
        free_id(root, name)?
    };
    for attempt in 1.. {
        let command = tool(root, name, "useradd")?
            .arg("--system")
            .arg("--uid")
            .arg(uid.to_string())
            .arg("--gid")
            .arg(gid.to_string())
            .arg("--create-home")
            .arg("--home-dir")
            .arg(&home)
            .arg("--shell")
            .arg(no_login_shell(root))
            .arg(name);
        let rendered = command.render();
        let outcome = run(command, "useradd", stop).await?;
        if outcome.code == Some(ID_TAKEN) && ids.uid.is_none() && attempt < ATTEMPTS {
            uid = free_id_above(root, name, uid)?;
            continue;
        }
        outcome.into_success(&rendered)?;
        break;
    }
    let account = find_local(root, name)?.ok_or_else(|| Error::AccountUnchanged {
        name: name.into(),
        tool: "useradd",
        state: "is missing",
    })?;
    ensure_home(root, &account)?;
    tracing::debug!(name, uid = account.uid, "created the user");
    Ok(account)
}

/// The group of a user that is about to be created, which an interrupted deletion or creation may have left.
async fn ensure_own_group(
    root: &Root,
    name: &str,
    ids: WantedIds,
    stop: &CancellationToken,
) -> Result<u32, Error> {
    match own_group(root, name) {
        Some(group) if ids.gid.is_none_or(|gid| gid == group.gid) => Ok(group.gid),
        Some(_) => Err(Error::GroupExists { name: name.into() }),
        None => {
            // A user and its own group have the same id, if they can.
            let like_user = ids.uid.filter(|id| gid_is_free(root, *id));
            create_group(root, name, ids.gid.or(like_user), stop).await
        }
    }
}

/// Creates the home directory of a user that runup created, if it is missing, and gives it to the user (0700): a
/// `useradd` that was killed leaves it missing or owned by root. A link, or another user's directory, is refused.
#[cfg(unix)]
pub fn ensure_home(root: &Root, account: &Account) -> Result<(), Error> {
    use rustix::fs::{Gid, Mode, OFlags, Uid};
    use std::os::unix::fs::MetadataExt as _;
    let name = || account.name.clone();
    let Some(path) = root.locate(&account.home) else {
        return Err(Error::LeadsOut { name: name(), path: root.join(&account.home) });
    };
    let failed = |doing| {
        let path = path.clone();
        move |error: rustix::io::Errno| Error::Path { doing, path, source: error.into() }
    };
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

/// This system's users are not managed.
#[cfg(not(unix))]
pub fn ensure_home(_: &Root, account: &Account) -> Result<(), Error> {
    needs_root(&account.name)
}

/// Deletes a user that runup created, with everything that it has on the machine: its processes, crontab and at jobs,
/// its lingering session, its files in `/tmp` and other shared directories, its IPC objects, mail, home directory and
/// group. Needs root; a user that does not exist is success.
///
/// [`Error::FilesLeft`] names what cannot be deleted, and the user is kept: the next user would get its id, and own
/// these files. Inside another root there are no processes and no IPC objects.
pub async fn delete(root: &Root, name: &str, stop: &CancellationToken) -> Result<Deleted, Error> {
    check_name(name)?;
    super::sweep_locks(root);
    // A directory service may have another user of that name by now.
    let Some(account) = find_local(root, name)? else {
        delete_own_group(root, name, stop).await?;
        return Ok(Deleted::AlreadyGone);
    };
    needs_root(name)?;
    // A user with uid 0 under another name is root, whose processes must not be killed.
    if account.uid == 0 {
        return Err(Error::BadUserName { name: name.into() });
    }
    let mut left = belongings::forget_starters(root, &account, stop).await;
    if root.is_host() {
        end_account(&account, Deadline::after(END_TIME)).await?;
    }
    left.extend(belongings::delete_all(root, &account, Deadline::after(BELONGINGS_TIME), stop).await);
    if stop.is_cancelled() {
        return Err(Error::Stopped { doing: format!("deleting the user {name}") });
    }
    if !left.is_empty() {
        return Err(Error::FilesLeft { name: name.into(), left });
    }
    for attempt in 1.. {
        if root.is_host() {
            end_account(&account, Deadline::after(END_TIME)).await?;
        }
        let command = tool(root, name, "userdel")?.arg(name);
        let rendered = command.render();
        let outcome = run(command, "userdel", stop).await?;
        match outcome.code {
            Some(NO_SUCH_NAME) => return Ok(Deleted::AlreadyGone),
            // A process of root, such as a cron daemon, has started another process of the user.
            Some(IN_USE) if root.is_host() && attempt < ATTEMPTS => continue,
            _ => outcome.into_success(&rendered)?,
        };
        break;
    }
    if find_local(root, name)?.is_some() {
        return Err(Error::AccountUnchanged { name: name.into(), tool: "userdel", state: "still exists" });
    }
    delete_own_group(root, name, stop).await?;
    tracing::debug!(name, uid = account.uid, "deleted the user");
    Ok(Deleted::Now)
}

/// Creates a system group with the wanted id, or the lowest free one of [`OWN_IDS`], and returns the id. Needs root; an
/// existing group is refused.
pub async fn create_group(
    root: &Root,
    name: &str,
    wanted: Option<u32>,
    stop: &CancellationToken,
) -> Result<u32, Error> {
    check_name(name)?;
    needs_root(name)?;
    if group(root, name).is_some() {
        return Err(Error::GroupExists { name: name.into() });
    }
    let mut gid = match wanted {
        Some(gid) => gid,
        None => free_id(root, name)?,
    };
    for attempt in 1.. {
        let command =
            tool(root, name, "groupadd")?.arg("--system").arg("--gid").arg(gid.to_string()).arg(name);
        let rendered = command.render();
        let outcome = run(command, "groupadd", stop).await?;
        if outcome.code == Some(ID_TAKEN) && wanted.is_none() && attempt < ATTEMPTS {
            gid = free_id_above(root, name, gid)?;
            continue;
        }
        outcome.into_success(&rendered)?;
        break;
    }
    let created = group(root, name).ok_or_else(|| Error::AccountUnchanged {
        name: name.into(),
        tool: "groupadd",
        state: "is missing",
    })?;
    Ok(created.gid)
}

/// Deletes a group that runup created, with its list of members. Needs root; a group that does not exist is success,
/// and `groupdel` refuses the primary group of a user.
pub async fn delete_group(root: &Root, name: &str, stop: &CancellationToken) -> Result<Deleted, Error> {
    check_name(name)?;
    let Some(found) = group(root, name) else { return Ok(Deleted::AlreadyGone) };
    needs_root(name)?;
    if found.gid == 0 {
        return Err(Error::BadUserName { name: name.into() });
    }
    let command = tool(root, name, "groupdel")?.arg(name);
    let rendered = command.render();
    let outcome = run(command, "groupdel", stop).await?;
    if outcome.code == Some(NO_SUCH_NAME) {
        return Ok(Deleted::AlreadyGone);
    }
    outcome.into_success(&rendered)?;
    Ok(Deleted::Now)
}

/// Adds the user to the group, which does not affect processes that already run. Needs root.
pub async fn add_to_group(
    root: &Root,
    user: &str,
    group: &str,
    stop: &CancellationToken,
) -> Result<(), Error> {
    check_name(group)?;
    let is_member = || group_file(root).iter().any(|found| found.name == group && found.has(user));
    if is_member() {
        return Ok(());
    }
    needs_root(user)?;
    // Only gpasswd takes a user of a directory service, and only usermod works in an image.
    let (name, command) = if root.is_host() && find_local(root, user)?.is_none() {
        ("gpasswd", tool(root, user, "gpasswd")?.arg("--add").arg(user).arg(group))
    } else {
        check_name(user)?;
        ("usermod", tool(root, user, "usermod")?.arg("--append").arg("--groups").arg(group).arg(user))
    };
    let rendered = command.render();
    run(command, name, stop).await?.into_success(&rendered)?;
    if is_member() {
        return Ok(());
    }
    Err(Error::AccountUnchanged { name: user.into(), tool: name, state: "is not in the group" })
}

fn group(root: &Root, name: &str) -> Option<Group> {
    group_file(root).into_iter().find(|group| group.name == name)
}

/// The group of that name, if it is a user's own group: it has no listed members, and is the primary group of no other
/// user.
fn own_group(root: &Root, name: &str) -> Option<Group> {
    let group = group(root, name).filter(|group| group.members.is_empty() && group.gid != 0)?;
    let shared = users(root).iter().any(|user| user.gid == group.gid && user.name != name);
    (!shared).then_some(group)
}

/// Whether a group of that name with an id of runup's is left that belongs to no other user: creating a user begins with
/// its group.
#[must_use]
pub fn has_own_group(root: &Root, name: &str) -> bool {
    own_group(root, name).is_some_and(|group| OWN_IDS.contains(&group.gid))
}

/// Deletes the user's own group if `userdel` left it, which depends on `USERGROUPS_ENAB` of login.defs(5).
async fn delete_own_group(root: &Root, name: &str, stop: &CancellationToken) -> Result<(), Error> {
    if is_root() && own_group(root, name).is_some() {
        delete_group(root, name, stop).await?;
    }
    Ok(())
}

fn free_id(root: &Root, name: &str) -> Result<u32, Error> {
    free_id_above(root, name, OWN_IDS.start() - 1)
}

/// The lowest id that is not the id, or the primary group, of a user, and not the id of a group.
fn free_id_above(root: &Root, name: &str, above: u32) -> Result<u32, Error> {
    let (users, groups) = (users(root), group_file(root));
    for id in OWN_IDS.filter(|id| *id > above) {
        let taken = users.iter().any(|user| user.uid == id || user.gid == id)
            || groups.iter().any(|group| group.gid == id);
        if !taken && uid_is_free(root, id)? && gid_is_free(root, id) {
            return Ok(id);
        }
    }
    Err(Error::NoFreeId { name: name.into(), lowest: *OWN_IDS.start(), highest: *OWN_IDS.end() })
}

fn uid_is_free(root: &Root, uid: u32) -> Result<bool, Error> {
    Ok(find_by_id(root, uid)?.is_none())
}

/// Whether a directory service has the id, in addition to `/etc/group`.
fn gid_is_free(root: &Root, gid: u32) -> bool {
    group_name(root, gid).is_none()
}

/// A program of this machine that works inside the root.
fn tool(root: &Root, name: &str, tool: &'static str) -> Result<Command, Error> {
    let program = find_program(tool, SYSTEM_PATH)
        .ok_or_else(|| Error::AccountToolMissing { name: name.into(), tool })?;
    let command = Command::new(program)
        .env("PATH", SYSTEM_PATH)
        .env("LC_ALL", "C")
        .deadline(Deadline::after(TOOL_TIME));
    // Not --root, which is a chroot: the image's programs can be for another architecture.
    Ok(if root.is_host() { command } else { command.arg("--prefix").arg(root.path()) })
}

async fn run(command: Command, tool: &str, stop: &CancellationToken) -> Result<Outcome, Error> {
    command.run(stop, &mut |_, line| tracing::debug!(line, "{tool}")).await
}

fn no_login_shell(root: &Root) -> &'static str {
    ["/usr/sbin/nologin", "/sbin/nologin", "/usr/bin/nologin"]
        .into_iter()
        .find(|shell| root.resolve(Path::new(shell)).is_some())
        .unwrap_or("/bin/false")
}
