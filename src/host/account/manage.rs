//! Creating and deleting users and groups, by the machine's own `useradd` and its like.

use super::belongings;
use super::{
    Account, Group, check_name, end_account, find, find_by_id, group_file, is_root, needs_root, users,
};
use crate::deadline::Deadline;
use crate::host::{Command, Error, Outcome, Root, find_program};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The user and group ids that runup gives to what it creates; a user and its own group get the same number.
///
/// A container's process whose image has a user with the runner's number is that user on the host: so it must be one
/// that images do not use (999, 1000, 1001 and the like). The range is one that no other allocator takes from: above
/// the login users (`UID_MAX` is 60000, and a number below it would move where the next of them begins), the 60001 to
/// 60705 of systemd-homed, nspawn and GDM; below systemd's dynamic users (61184 to 65519) and the subordinate ids (from
/// 100000). <https://systemd.io/UIDS-GIDS/>
pub const OWN_IDS: RangeInclusive<u32> = 60_706..=61_183;

/// The longest that `useradd` or `userdel` may take; they wait for each other's locks.
const TOOL_TIME: Duration = Duration::from_secs(60);

/// The longest that a user's processes may take to end.
const END_TIME: Duration = Duration::from_secs(15);

/// The longest that deleting the files of a user may take.
const BELONGINGS_TIME: Duration = Duration::from_secs(120);

/// The exit code of `userdel` for a user, and of `groupdel` for a group, that does not exist.
const NO_SUCH_NAME: i32 = 6;

/// The exit code of `useradd` and `groupadd` for an id that is taken.
const ID_TAKEN: i32 = 4;

/// The exit code of `userdel` for a user that has processes.
const IN_USE: i32 = 8;

/// How often another id, or another look, is tried where other programs take ids or start processes at this moment.
const ATTEMPTS: usize = 5;

/// Where system programs lie; PATH may lack the `sbin` directories.
const SYSTEM_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// How [`delete`] or [`delete_group`] found the user or group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It was there and is deleted.
    Now,
    /// It did not exist.
    AlreadyGone,
}

/// Creates a system user with a group of the same name, both with the lowest free number of [`OWN_IDS`], the home
/// directory `/home/NAME` (0700) and no login shell. Root only; a user or a home directory that exists is refused.
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
    crate::host::file::create_dir_all(&root.join(Path::new("/home")), 0o755)?;
    // A group without its user is what a deletion, or a creation, leaves that was cut off.
    let gid = match own_group(root, name) {
        Some(group) => group.gid,
        None => create_group(root, name, stop).await?,
    };
    let mut uid = if OWN_IDS.contains(&gid) && uid_is_free(root, gid)? { gid } else { free_id(root, name)? };
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
        if outcome.code == Some(ID_TAKEN) && attempt < ATTEMPTS {
            uid = free_id_above(root, name, uid)?;
            continue;
        }
        outcome.into_success(&rendered)?;
        break;
    }
    let account = find(root, name)?.ok_or_else(|| Error::AccountUnchanged {
        name: name.into(),
        tool: "useradd",
        state: "is missing",
    })?;
    ensure_home(root, &account)?;
    tracing::debug!(name, uid = account.uid, "created the user");
    Ok(account)
}

/// Creates the home directory of a user that runup created, if it is missing, and makes it the user's own (0700): a
/// `useradd` that was killed leaves it missing or root's. A link, or another user's directory, is refused.
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

/// Users are not managed here.
#[cfg(not(unix))]
pub fn ensure_home(_: &Root, account: &Account) -> Result<(), Error> {
    needs_root(&account.name)
}

/// Deletes a user that runup created, with all that it has on the machine: its processes, its crontab and at jobs, its
/// lingering session, its files in `/tmp` and other directories that all users share, its IPC objects, its mail, its
/// home and its group. Root only; a user that is gone already is success.
///
/// What cannot be deleted is named in [`Error::FilesLeft`], and the user stays: the next one would get its number, and
/// own what is left. Inside another root there are no processes and no IPC objects.
pub async fn delete(root: &Root, name: &str, stop: &CancellationToken) -> Result<Deleted, Error> {
    check_name(name)?;
    let Some(account) = find(root, name)? else {
        delete_own_group(root, name, stop).await?;
        return Ok(Deleted::AlreadyGone);
    };
    needs_root(name)?;
    // A uid 0 under another name is root itself, whose processes are the machine.
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
            // Something of root's started a process of the user once more: a cron daemon, say.
            Some(IN_USE) if root.is_host() && attempt < ATTEMPTS => continue,
            _ => outcome.into_success(&rendered)?,
        };
        break;
    }
    if find(root, name)?.is_some() {
        return Err(Error::AccountUnchanged { name: name.into(), tool: "userdel", state: "still exists" });
    }
    delete_own_group(root, name, stop).await?;
    tracing::debug!(name, uid = account.uid, "deleted the user");
    Ok(Deleted::Now)
}

/// Creates a system group with the lowest free number of [`OWN_IDS`] and returns it. Root only; a group that exists is
/// refused.
pub async fn create_group(root: &Root, name: &str, stop: &CancellationToken) -> Result<u32, Error> {
    check_name(name)?;
    needs_root(name)?;
    if group(root, name).is_some() {
        return Err(Error::GroupExists { name: name.into() });
    }
    let mut gid = free_id(root, name)?;
    for attempt in 1.. {
        let command =
            tool(root, name, "groupadd")?.arg("--system").arg("--gid").arg(gid.to_string()).arg(name);
        let rendered = command.render();
        let outcome = run(command, "groupadd", stop).await?;
        if outcome.code == Some(ID_TAKEN) && attempt < ATTEMPTS {
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

/// Deletes a group that runup created, with its list of members. Root only; a group that is gone already is success,
/// and one that is the primary group of a user is refused by `groupdel`.
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

/// Makes the user a member of the group; processes of it that run already are not. Root only.
pub async fn add_to_group(
    root: &Root,
    user: &str,
    group: &str,
    stop: &CancellationToken,
) -> Result<(), Error> {
    check_name(user)?;
    check_name(group)?;
    let is_member = || group_file(root).iter().any(|found| found.name == group && found.has(user));
    if is_member() {
        return Ok(());
    }
    needs_root(user)?;
    let command = tool(root, user, "usermod")?.arg("--append").arg("--groups").arg(group).arg(user);
    let rendered = command.render();
    run(command, "usermod", stop).await?.into_success(&rendered)?;
    if is_member() {
        return Ok(());
    }
    Err(Error::AccountUnchanged { name: user.into(), tool: "usermod", state: "is not in the group" })
}

fn group(root: &Root, name: &str) -> Option<Group> {
    group_file(root).into_iter().find(|group| group.name == name)
}

/// The group of that name, if it is a user's own: it has no listed member, and is the primary group of that user at
/// most.
fn own_group(root: &Root, name: &str) -> Option<Group> {
    let group = group(root, name).filter(|group| group.members.is_empty() && group.gid != 0)?;
    let shared = users(root).iter().any(|user| user.gid == group.gid && user.name != name);
    (!shared).then_some(group)
}

/// Deletes the user's own group where `userdel` left it: whether it does depends on `USERGROUPS_ENAB` of login.defs(5).
async fn delete_own_group(root: &Root, name: &str, stop: &CancellationToken) -> Result<(), Error> {
    if is_root() && own_group(root, name).is_some() {
        delete_group(root, name, stop).await?;
    }
    Ok(())
}

fn free_id(root: &Root, name: &str) -> Result<u32, Error> {
    free_id_above(root, name, OWN_IDS.start() - 1)
}

/// The lowest number that is neither a user's nor a group's, also not by a user's primary group.
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

/// What a directory service knows beyond `/etc/group`.
fn gid_is_free(root: &Root, gid: u32) -> bool {
    #[cfg(unix)]
    return !root.is_host() || !matches!(nix::unistd::Group::from_gid(gid.into()), Ok(Some(_)));
    #[cfg(not(unix))]
    {
        let _ = (root, gid);
        true
    }
}

/// A program of this machine, told to work inside the root.
fn tool(root: &Root, name: &str, tool: &'static str) -> Result<Command, Error> {
    let program = find_program(tool, SYSTEM_PATH)
        .ok_or_else(|| Error::AccountToolMissing { name: name.into(), tool })?;
    let command = Command::new(program)
        .env("PATH", SYSTEM_PATH)
        .env("LC_ALL", "C")
        .deadline(Deadline::after(TOOL_TIME));
    // Not --root: that is a chroot, and the image's programs may be for another architecture.
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
