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

/// Makes a system user with a group of the same name, the home folder `/home/NAME` and no login shell. Root only; a
/// user or a home folder that exists is refused.
pub async fn create(root: &Root, name: &str, stop: &CancellationToken) -> Result<Account, Error> {
    check_name(name)?;
    needs_root(name)?;
    if find(root, name)?.is_some() {
        return Err(Error::UserExists { name: name.into() });
    }
    let home = Path::new("/home").join(name);
    let outside = root.join(&home);
    if fs_err::symlink_metadata(&outside).is_ok() {
        return Err(Error::HomeTaken { name: name.into(), home: outside });
    }
    fs_err::create_dir_all(root.join(Path::new("/home")))?;
    let command = tool(root, name, "useradd")?
        .arg("--system")
        .arg("--user-group")
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
    tracing::info!(name, uid = account.uid, "created the user");
    Ok(account)
}

/// Ends whatever still runs as the user (on the machine itself), then deletes it with its home folder and its group.
/// Root only; a user that is gone already is success.
pub async fn delete(root: &Root, name: &str, stop: &CancellationToken) -> Result<Deleted, Error> {
    check_name(name)?;
    let Some(account) = find(root, name)? else { return Ok(Deleted::AlreadyGone) };
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
    tracing::info!(name, uid = account.uid, "deleted the user");
    Ok(Deleted::Now)
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
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    #[test]
    fn names_that_some_tool_would_refuse_are_refused() {
        for good in ["runner", "_runner", "a", "github-runner_2", &"a".repeat(32)] {
            check_name(good).unwrap();
        }
        for bad in ["", "-x", "1a", "Runner", "a b", "a:b", "a/b", "é", "root$", &"a".repeat(33)] {
            assert!(matches!(check_name(bad), Err(Error::BadUserName { .. })), "{bad}");
        }
    }

    #[test]
    fn the_current_user_is_the_effective_one_and_is_found_by_name() {
        let us = current();
        assert_eq!(us.uid, rustix::process::geteuid().as_raw());
        assert_eq!(is_root(), us.uid == 0);
        if let Some(found) = find(&Root::host(), &us.name).unwrap() {
            assert_eq!(found, us);
        }
        assert_eq!(find(&Root::host(), "no-such-user-here").unwrap(), None);
    }

    #[test]
    fn inside_a_root_its_own_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::at(folder.path().into());
        assert_eq!(find(&root, "ci").unwrap(), None);
        std::fs::create_dir(folder.path().join("etc")).unwrap();
        std::fs::write(
            folder.path().join("etc/passwd"),
            "# a comment\nroot:x:0:0:root:/root:/bin/sh\nci:x:990:991::/home/ci:/sbin/nologin\n+::::::\n",
        )
        .unwrap();
        std::fs::write(folder.path().join("etc/group"), "ci:x:991:\ndocker:x:7:a,ci\nkvm:x:8:\n").unwrap();
        let ci = find(&root, "ci").unwrap().unwrap();
        assert_eq!(ci, Account { name: "ci".into(), uid: 990, gid: 991, home: "/home/ci".into() });
        assert_eq!(groups(&root, &ci), [7, 991]);
        assert!(in_group(&root, &ci, "docker") && in_group(&root, &ci, "ci"));
        assert!(!in_group(&root, &ci, "kvm") && !in_group(&root, &ci, "missing"));
    }

    #[test]
    fn only_the_first_class_that_fits_counts() {
        assert!(may_list(0o755, 0, 0, 7, &[7]));
        assert!(!may_list(0o711, 0, 0, 7, &[7]));
        assert!(!may_list(0o750, 0, 0, 7, &[7]));
        assert!(may_list(0o750, 0, 9, 7, &[7, 9]));
        assert!(may_list(0o700, 7, 9, 7, &[9]));
        assert!(!may_list(0o077, 7, 9, 7, &[9]));
        assert!(!may_list(0o705, 0, 9, 7, &[9]));
    }

    #[test]
    fn the_outermost_closed_folder_is_named_and_missing_ones_are_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let closed = folder.path().join("closed");
        std::fs::create_dir_all(closed.join("deep")).unwrap();
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o711)).unwrap();
        let meta = std::fs::metadata(&closed).unwrap();
        let other = Account {
            name: "nobody-at-all".into(),
            uid: meta.uid() + 54_321,
            gid: meta.gid() + 54_321,
            home: "/".into(),
        };
        assert_eq!(first_unreadable_ancestor(&closed.join("deep/missing"), &other), Some(closed.clone()));
        assert_eq!(first_unreadable_ancestor(&folder.path().join("missing/more"), &other), None);
        let root = Account { uid: 0, ..other };
        assert_eq!(first_unreadable_ancestor(&closed, &root), None);
    }

    #[tokio::test]
    async fn a_user_is_made_used_and_deleted_with_its_processes_and_files() {
        let stop = CancellationToken::new();
        let name = format!("runup-test-{}", std::process::id());
        let host = Root::host();
        assert_eq!(delete(&host, &name, &stop).await.unwrap(), Deleted::AlreadyGone);
        if !is_root() {
            assert!(matches!(create(&host, &name, &stop).await, Err(Error::NeedsRoot { .. })));
            println!("skipped: making a user needs root");
            return;
        }
        let account = create(&host, &name, &stop).await.unwrap();
        assert_eq!(account.home, Path::new("/home").join(&name));
        assert!(matches!(create(&host, &name, &stop).await, Err(Error::UserExists { .. })));

        let mut seen = Vec::new();
        let outcome = Command::new("/bin/sh")
            .arg("-c")
            .arg("id -u; id -G; touch ~/mine")
            .env("HOME", &account.home)
            .env("PATH", "/usr/bin:/bin")
            .account(&account)
            .run(&stop, &mut |_, line| seen.push(line.to_owned()))
            .await
            .unwrap();
        assert_eq!(outcome.code, Some(0), "{}", outcome.tail);
        // Its own group and none of root's supplementary ones.
        assert_eq!(seen, [account.uid.to_string(), account.gid.to_string()]);
        assert_eq!(std::fs::metadata(account.home.join("mine")).unwrap().uid(), account.uid);

        let mut lingering = std::process::Command::new("/bin/sleep");
        std::os::unix::process::CommandExt::uid(&mut lingering, account.uid);
        let mut lingering = lingering.arg("600").spawn().unwrap();
        let reaper = std::thread::spawn(move || lingering.wait().unwrap());
        assert_eq!(delete(&host, &name, &stop).await.unwrap(), Deleted::Now);
        assert!(!reaper.join().unwrap().success());
        assert_eq!(find(&host, &name).unwrap(), None);
        assert!(!account.home.exists());
        assert!(!group_file(&host).iter().any(|group| group.name == name), "its group is left");
        assert_eq!(delete(&host, &name, &stop).await.unwrap(), Deleted::AlreadyGone);
    }

    #[tokio::test]
    async fn a_home_folder_that_is_there_is_never_taken_over() {
        if !is_root() {
            println!("skipped: making a user needs root");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let root = Root::at(folder.path().into());
        std::fs::create_dir_all(folder.path().join("home/ci")).unwrap();
        let result = create(&root, "ci", &CancellationToken::new()).await;
        assert!(matches!(result, Err(Error::HomeTaken { .. })), "{result:?}");
    }

    #[tokio::test]
    async fn a_user_is_made_and_deleted_inside_a_root_and_not_on_the_host() {
        if !is_root() {
            println!("skipped: making a user needs root");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let root = Root::at(folder.path().into());
        let etc = folder.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        for (name, text) in [
            ("passwd", "root:x:0:0::/root:/bin/sh\n"),
            ("group", "root:x:0:\n"),
            ("shadow", "root:*:1::::::\n"),
            ("gshadow", "root:*::\n"),
        ] {
            std::fs::write(etc.join(name), text).unwrap();
        }
        let name = format!("runup-test-r{}", std::process::id());
        let stop = CancellationToken::new();
        let account = create(&root, &name, &stop).await.unwrap();
        let home = root.join(&account.home);
        assert_eq!(std::fs::metadata(&home).unwrap().uid(), account.uid);
        assert_eq!(find(&Root::host(), &name).unwrap(), None);
        assert_eq!(delete(&root, &name, &stop).await.unwrap(), Deleted::Now);
        assert!(!home.exists());
    }
}
