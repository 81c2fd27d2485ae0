//! Creates and deletes users and groups with the machine's own `useradd` and similar programs.

use super::home::{ensure_home, home_of_nobody};
use super::tools::{no_login_shell, run, tool};
use super::{Account, Group, belongings, check_name, end_account, home, mark, needs_root, unfinished};
use super::{find, find_by_id, find_local, group_file, group_name, users};
use crate::deadline::Stop;
use crate::host::{Command, Error, Root};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

/// The range of ids for users and groups that runup creates; a user and its own group get the same id.
///
/// A container process whose image has a user with the runner's id is that user on the host, so the id must be one that
/// images do not use (999, 1000, 1001 and the like). No other allocator uses this range: it is above the login users
/// (`UID_MAX` is 60000, and an id below it would change the id of the next login user) and the range 60001 to 60705 of
/// systemd-homed, nspawn and GDM, and below systemd's dynamic users (61184 to 65519) and the subordinate ids (from
/// 100000). <https://systemd.io/UIDS-GIDS/>
pub const OWN_IDS: RangeInclusive<u32> = 60_706..=61_183;

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

/// A user that is to be created.
#[derive(Debug, Clone, Copy)]
pub struct NewUser<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its ids.
    pub ids: WantedIds,
    /// The directory of its runner, which becomes its mark.
    pub dir: &'a Path,
    /// An earlier attempt was interrupted: a home directory without its user is what that left.
    pub again: bool,
}

/// What runup created with a user, and so deletes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made<'a> {
    /// The group of the same name.
    pub group: bool,
    /// Also a home directory that has no user.
    pub home: bool,
    /// The directory of its runner.
    pub dir: &'a Path,
}

/// Refuses a user that cannot be created, before anything is recorded of it.
pub fn check_new(root: &Root, new: &NewUser<'_>) -> Result<(), Error> {
    let name = || new.name.to_owned();
    check_name(new.name)?;
    needs_root(new.name)?;
    if find(root, new.name)?.is_some() {
        return Err(Error::UserExists { name: name() });
    }
    // useradd --prefix resolves links on this machine, not inside the prefix.
    if let Some(path) = ["/home", "/etc"].into_iter().find(|path| root.leads_out(Path::new(path))) {
        return Err(Error::LeadsOut { name: name(), path: root.join(Path::new(path)) });
    }
    let path = root.join(&home::of(new.name));
    if fs_err::symlink_metadata(&path).is_ok() && !(new.again && home_of_nobody(root, new.name).is_some()) {
        return Err(Error::HomeTaken { name: name(), home: path });
    }
    Ok(())
}

/// Creates a system user with a group of the same name, both with the lowest free id of [`OWN_IDS`] unless other ids are
/// wanted, the home directory `/home/NAME` (0700), no login shell, and the mark of its runner. Needs root; an existing
/// user or home directory is refused.
pub async fn create(root: &Root, new: &NewUser<'_>, stop: &Stop) -> Result<Account, Error> {
    check_new(root, new)?;
    let NewUser { name, ids, .. } = *new;
    crate::host::file::create_dir_all(&root.join(Path::new("/home")), 0o755)?;
    let gid = ensure_own_group(root, name, ids, stop).await?;
    let mut uid = match ids.uid {
        Some(uid) => uid,
        None => uid_for(root, name, gid)?,
    };
    for attempt in 1.. {
        let command = useradd(root, name, (uid, gid), new.dir)?.arg("--create-home").arg(name);
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
pub(super) async fn ensure_own_group(
    root: &Root,
    name: &str,
    ids: WantedIds,
    stop: &Stop,
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

/// Deletes a user that runup created, with everything that it has on the machine: its processes, crontab and at jobs,
/// its lingering session, its files in `/tmp` and other shared directories, its IPC objects, mail, home directory and,
/// if runup created it, its group. Needs root; of a user that does not exist, what a killed `useradd` or `userdel` left
/// is deleted.
///
/// [`Error::FilesLeft`] names what cannot be deleted, and the user is kept: the next user would get its id, and own
/// these files. Inside another root there are no processes and no IPC objects.
pub async fn delete(root: &Root, name: &str, made: Made<'_>, stop: &Stop) -> Result<Deleted, Error> {
    check_name(name)?;
    // A directory service may have another user of that name by now.
    let Some(account) = find_local(root, name)? else {
        unfinished::delete_rest(root, name, made, stop).await?;
        return Ok(Deleted::AlreadyGone);
    };
    needs_root(name)?;
    // A user with uid 0 under another name is root, whose processes must not be killed.
    if account.uid == 0 {
        return Err(Error::BadUserName { name: name.into() });
    }
    let mut left = belongings::forget_starters(root, &account, stop).await;
    if root.is_host() {
        end_account(&account, stop.deadline().within(END_TIME)).await?;
    }
    left.extend(belongings::delete_all(root, &account, stop.deadline().within(BELONGINGS_TIME), stop).await);
    if stop.is_cancelled() {
        return Err(Error::Stopped { doing: format!("deleting the user {name}") });
    }
    if !left.is_empty() {
        return Err(Error::FilesLeft { name: name.into(), left });
    }
    if !made.group {
        leave_group(root, &account, stop).await?;
    }
    for attempt in 1.. {
        if root.is_host() {
            end_account(&account, stop.deadline().within(END_TIME)).await?;
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
    if made.group {
        // Whether userdel deletes it depends on `USERGROUPS_ENAB` of login.defs(5).
        unfinished::delete_own_group(root, name, stop).await?;
    }
    tracing::debug!(name, uid = account.uid, "deleted the user");
    Ok(Deleted::Now)
}

/// Takes the user out of a group of its name that runup did not create: userdel deletes the primary group with the user.
async fn leave_group(root: &Root, account: &Account, stop: &Stop) -> Result<(), Error> {
    let name = account.name.as_str();
    if group(root, name).is_none_or(|group| group.gid != account.gid) {
        return Ok(());
    }
    let Some(other) = unfinished::other_group(root, name) else { return Ok(()) };
    let command = tool(root, name, "usermod")?.arg("--gid").arg(other.to_string()).arg(name);
    let rendered = command.render();
    run(command, "usermod", stop).await?.into_success(&rendered)?;
    Ok(())
}

/// Creates a system group with the wanted id, or the lowest free one of [`OWN_IDS`], and returns the id. Needs root; an
/// existing group is refused.
pub async fn create_group(root: &Root, name: &str, wanted: Option<u32>, stop: &Stop) -> Result<u32, Error> {
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
pub async fn delete_group(root: &Root, name: &str, stop: &Stop) -> Result<Deleted, Error> {
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
pub async fn add_to_group(root: &Root, user: &str, group: &str, stop: &Stop) -> Result<(), Error> {
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
pub(super) fn own_group(root: &Root, name: &str) -> Option<Group> {
    let group = group(root, name).filter(|group| group.members.is_empty() && group.gid != 0)?;
    let shared = users(root).iter().any(|user| user.gid == group.gid && user.name != name);
    (!shared).then_some(group)
}

/// Whether there is a group of that name, in this root.
#[must_use]
pub fn has_group(root: &Root, name: &str) -> bool {
    group(root, name).is_some()
}

/// Whether runup has probably created the group of that name, where its journal does not tell: it has an id of runup's,
/// or that of its user.
#[must_use]
pub fn seems_own_group(root: &Root, name: &str) -> bool {
    let uid = find_local(root, name).ok().flatten().map(|account| account.uid);
    own_group(root, name).is_some_and(|group| OWN_IDS.contains(&group.gid) || Some(group.gid) == uid)
}

/// Whether something is left of a user without an entry in `/etc/passwd`.
#[must_use]
pub fn has_rest(root: &Root, name: &str, made: Made<'_>) -> bool {
    (made.group && own_group(root, name).is_some()) || (made.home && home_of_nobody(root, name).is_some())
}

/// How runup creates a user for the runner in `dir`; what is done about its home directory and its name are missing.
pub(super) fn useradd(root: &Root, name: &str, (uid, gid): (u32, u32), dir: &Path) -> Result<Command, Error> {
    Ok(tool(root, name, "useradd")?
        .arg("--system")
        .arg("--uid")
        .arg(uid.to_string())
        .arg("--gid")
        .arg(gid.to_string())
        .arg("--home-dir")
        .arg(home::of(name))
        .arg("--comment")
        .arg(mark::of(dir))
        .args(["--shell", no_login_shell(root)]))
}

/// The id of a user with this group: the same, if it can be.
pub(super) fn uid_for(root: &Root, name: &str, gid: u32) -> Result<u32, Error> {
    if OWN_IDS.contains(&gid) && uid_is_free(root, gid)? { Ok(gid) } else { free_id(root, name) }
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
