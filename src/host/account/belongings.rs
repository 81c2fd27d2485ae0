//! Deletes what a user leaves on a machine besides its processes: cron and at jobs, a lingering session, files in
//! shared directories, mail, the home directory, System V and POSIX IPC objects, keys. Either the user goes with it, or
//! the user stays and its next job finds nothing of an earlier one.

use super::{Account, home, keys};
use crate::deadline::{Deadline, Stop};
use crate::host::{Command, Error, Root, delete, find_program, mounts, sweep, sys};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Directories in which every user can have files.
const SHARED: [&str; 9] = [
    "/tmp",
    "/var/tmp",
    "/var/crash",
    "/var/spool/cron",
    "/var/spool/at",
    "/var/spool/atjobs",
    "/var/mail",
    "/var/spool/mail",
    "/run/lock",
];

/// Of these, the ones from which daemons start processes of a user.
const SPOOLS: [&str; 3] = ["/var/spool/cron", "/var/spool/at", "/var/spool/atjobs"];

/// The same on a running machine.
const IN_MEMORY: [&str; 2] = ["/dev/shm", "/dev/mqueue"];

/// What a service can have of its own: then the machine's are others, which jobs reach by cron and the like.
const OWN: [&str; 3] = ["tmp", "var/tmp", "dev/shm"];

/// Files with the user's name from which daemons start processes.
const STARTERS: [&str; 4] =
    ["/var/spool/cron/crontabs", "/var/spool/cron/tabs", "/var/spool/cron", "/var/lib/systemd/linger"];

/// The timeout of `loginctl` and `systemctl`; the processes are killed without them.
const TOOL_TIME: Duration = Duration::from_secs(20);

/// Deletes what would start a process of the user again: its crontab and its lingering session. Returns what could not
/// be deleted.
pub async fn forget_starters(root: &Root, account: &Account, stop: &Stop) -> Vec<String> {
    let linger = Path::new("/var/lib/systemd/linger").join(&account.name);
    if root.is_host() && fs_err::symlink_metadata(&linger).is_ok() {
        tell("loginctl", &["disable-linger", &account.name], stop).await;
    }
    let mut left = Vec::new();
    for directory in STARTERS {
        let Some(path) = root.locate(&Path::new(directory).join(&account.name)) else { continue };
        let is_file = fs_err::symlink_metadata(&path).is_ok_and(|meta| !meta.is_dir());
        if is_file && fs_err::remove_file(&path).is_err() {
            left.push(path.display().to_string());
        }
    }
    left
}

/// Deletes what would start a process of the user again: its crontab, its jobs of `at`, its lingering session.
/// [`Error::FilesLeft`] if something could not be deleted.
pub async fn end_starters(root: &Root, account: &Account, stop: &Stop) -> Result<(), Error> {
    let mut left = forget_starters(root, account, stop).await;
    for directory in SPOOLS {
        if let Some(path) = root.resolve(Path::new(directory)) {
            let given_up = || stop.is_cancelled();
            let stays = sweep::delete_owned(&path, &ids(root, account), u64::MAX, &given_up);
            left.extend(stays.iter().map(|path| path.display().to_string()));
        }
    }
    if left.is_empty() { Ok(()) } else { Err(Error::FilesLeft { name: account.name.clone(), left }) }
}

/// The user's own id, and on the machine itself its subordinate ones: files that a container or a user namespace has
/// created have these.
fn ids(root: &Root, account: &Account) -> Vec<(u32, u32)> {
    let own = vec![(account.uid, account.uid)];
    #[cfg(target_os = "linux")]
    if root.is_host() {
        return crate::host::metadata_rule::ranges(account.uid).unwrap_or(own);
    }
    let _ = root;
    own
}

/// How many entries of other users' directories are looked at between two jobs; it takes less than a second.
const FOREIGN: u64 = 200_000;

/// Deletes everything else, once no process of the user runs. Returns what could not be deleted.
pub async fn delete_all(root: &Root, account: &Account, deadline: Deadline, stop: &Stop) -> Vec<String> {
    end_sessions(root, account, stop).await;
    let mounted = unmount(root, account);
    let (root, account, stop) = (root.clone(), account.clone(), stop.clone());
    let work = move || {
        let given_up = || stop.is_cancelled() || deadline.passed();
        let mut left = shared(&root, &account, &[], u64::MAX, &given_up);
        left.extend(mounted);
        left.extend(delete_home(&root, &account).map(|path| path.display().to_string()));
        left
    };
    blocking(work).await
}

/// Deletes the same of a user that stays, once no process of it runs; also in the directories `more`. The home directory
/// is created again as useradd did if `with_home`, and stays as it is otherwise. [`Error::LeftBehind`] if something
/// could not be deleted.
pub async fn clean(
    root: &Root,
    account: &Account,
    more: &[PathBuf],
    with_home: bool,
    deadline: Deadline,
    stop: &Stop,
) -> Result<(), Error> {
    end_sessions(root, account, stop).await;
    let mounted = unmount(root, account);
    let mut left = {
        let (root, account, stop, more) = (root.clone(), account.clone(), stop.clone(), more.to_vec());
        let given_up = move || stop.is_cancelled() || deadline.passed();
        blocking(move || shared(&root, &account, &more, FOREIGN, &given_up)).await
    };
    left.extend(mounted);
    if root.is_host() {
        left.extend(keys::clear(account).await);
    }
    if !left.is_empty() {
        return Err(Error::LeftBehind { name: account.name.clone(), left });
    }
    if !with_home {
        return Ok(());
    }
    let (root, account) = (root.clone(), account.clone());
    let renewed = tokio::task::spawn_blocking(move || home::renew(&root, &account)).await;
    renewed.unwrap_or_else(|error| Err(Error::File(std::io::Error::other(error))))
}

/// Unmounts what the user has mounted, whose programs have ended: nothing below could be deleted. Returns what stays.
#[must_use]
pub fn unmount(root: &Root, account: &Account) -> Vec<String> {
    if !root.is_host() {
        return Vec::new();
    }
    let still = |mount: &PathBuf| mounts::detach(mount).is_err();
    mounts::of_user(account.uid).into_iter().filter(still).map(|mount| mount.display().to_string()).collect()
}

async fn blocking(work: impl FnOnce() -> Vec<String> + Send + 'static) -> Vec<String> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| vec!["the user's files".into()])
}

/// Ends the user's service manager, which would write to its runtime directory.
async fn end_sessions(root: &Root, account: &Account, stop: &Stop) {
    let runtime = PathBuf::from(format!("/run/user/{}", account.uid));
    if root.is_host() && runtime.exists() && Path::new("/run/systemd/system").exists() {
        let units =
            [format!("user@{}.service", account.uid), format!("user-runtime-dir@{}.service", account.uid)];
        tell("systemctl", &["stop", &units[0], &units[1]], stop).await;
    }
}

/// Deletes what is in directories that users share, and `more` of these, and in the kernel.
fn shared(
    root: &Root,
    account: &Account,
    more: &[PathBuf],
    foreign: u64,
    given_up: &dyn Fn() -> bool,
) -> Vec<String> {
    let ids = ids(root, account);
    let memory = IN_MEMORY.iter().filter(|_| root.is_host());
    let usual = SHARED.iter().chain(memory).filter_map(|directory| root.resolve(Path::new(directory)));
    let outside = root.is_host().then(mounts::outside).flatten();
    let others = outside.iter().flat_map(|outside| OWN.iter().map(|directory| outside.join(directory)));
    let directories: BTreeSet<PathBuf> = usual.chain(more.iter().cloned()).chain(others).collect();
    let mut left = Vec::new();
    for path in directories {
        left.extend(sweep::delete_owned(&path, &ids, foreign, given_up));
    }
    if root.is_host() {
        left.extend(runtime_directory(account));
    }
    let mut left: Vec<String> = left.iter().map(|path| path.display().to_string()).collect();
    if root.is_host() {
        left.extend(ipc(&ids));
    }
    left
}

/// Deletes the runtime directory if systemd-logind has not deleted it.
fn runtime_directory(account: &Account) -> Option<PathBuf> {
    let path = PathBuf::from(format!("/run/user/{}", account.uid));
    match delete::delete_dir(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Some(path),
        _ => None,
    }
}

/// Deletes the home directory. One that does not belong to the user is kept: the operator may have assigned another.
fn delete_home(root: &Root, account: &Account) -> Option<PathBuf> {
    let path = root.locate(&account.home)?;
    let meta = fs_err::symlink_metadata(&path).ok()?;
    #[cfg(unix)]
    let owned = meta.is_dir() && std::os::unix::fs::MetadataExt::uid(&meta) == account.uid;
    #[cfg(not(unix))]
    let owned = meta.is_dir() && false;
    match owned.then(|| delete::delete_dir(&path)) {
        Some(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => Some(path),
        _ => None,
    }
}

/// System V shared memory, semaphores and message queues that the ids own or created, as `/proc/sysvipc` lists them.
fn ipc(ids: &[(u32, u32)]) -> Vec<String> {
    let mut left = Vec::new();
    for kind in [sys::Ipc::Memory, sys::Ipc::Semaphores, sys::Ipc::Queue] {
        let table = std::fs::read_to_string(format!("/proc/sysvipc/{}", kind.name())).unwrap_or_default();
        for id in owned_ids(&table, ids) {
            if sys::remove_ipc(kind, id).is_err() {
                left.push(format!("the System V IPC object {} {id}", kind.name()));
            }
        }
    }
    left
}

/// The objects in a table of `/proc/sysvipc` whose owner or creator is the user.
fn owned_ids(table: &str, ids: &[(u32, u32)]) -> Vec<i32> {
    let mut lines = table.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    let column = |name: &str| header.iter().position(|column| *column == name);
    let (Some(owner), Some(creator)) = (column("uid"), column("cuid")) else { return Vec::new() };
    let is_hers = |fields: &[&str], at: usize| {
        let id = fields.get(at).and_then(|id| id.parse::<u32>().ok());
        id.is_some_and(|id| ids.iter().any(|(first, last)| (*first..=*last).contains(&id)))
    };
    lines
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| is_hers(fields, owner) || is_hers(fields, creator))
        // The first column is the key.
        .filter_map(|fields| fields.get(1)?.parse().ok())
        .collect()
}

/// Runs a program of systemd if it is installed. Its result is checked afterwards and not by its exit code.
async fn tell(program: &str, arguments: &[&str], stop: &Stop) {
    const PATH: &str = "/usr/bin:/bin";
    let Some(file) = find_program(program, PATH) else { return };
    let command = Command::new(file)
        .args(arguments.iter().copied())
        .env("PATH", PATH)
        .deadline(Deadline::after(TOOL_TIME));
    let result = command.run(stop, &mut |_, line| tracing::debug!(line, "{program}")).await;
    tracing::debug!(?result, "{program}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipc_objects_are_told_by_owner_and_creator() {
        let shm = "       key      shmid perms  size  cpid  lpid nattch   uid   gid  cuid  cgid  atime\n\
                            0          5  1600    10     1     2      0   700   700     0     0      0\n\
                           -9          6  1600    10     1     2      0     0     0   700   700      0\n\
                            0        700  1600   700   700   700      0     1   700     1   700      0\n";
        assert_eq!(owned_ids(shm, &[(700, 700)]), [5, 6]);
        assert_eq!(owned_ids("", &[(700, 700)]), [] as [i32; 0]);
        assert_eq!(owned_ids("nonsense\n1 2 3\n", &[(3, 3)]), [] as [i32; 0]);
    }
}
