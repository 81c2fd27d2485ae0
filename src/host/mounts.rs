//! Finds mount points. Only on Linux, with `/proc`; on other systems none are found.

use super::Command;
use crate::deadline::{Deadline, Stop};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where system programs are.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// How long it may take to find out what can be mounted.
const TRYING: Duration = Duration::from_secs(5);

/// The mount points in the directory `path` and below, including the directory itself.
#[must_use]
pub fn within(path: &Path) -> Vec<PathBuf> {
    if !cfg!(target_os = "linux") {
        return Vec::new();
    }
    let Ok(real) = fs_err::canonicalize(path) else { return Vec::new() };
    let table = fs_err::read("/proc/self/mountinfo").unwrap_or_default();
    let mut found: Vec<PathBuf> = table
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(place)
        .filter(|place| place.starts_with(&real))
        .collect();
    found.sort();
    found.dedup();
    found
}

/// The mount points of filesystems that are this machine's own: a network's may not answer, and the kernel's views of
/// itself hold no files of users.
#[must_use]
pub fn local() -> BTreeSet<PathBuf> {
    const LOCAL: [&str; 12] = [
        "ext2", "ext3", "ext4", "xfs", "btrfs", "bcachefs", "f2fs", "zfs", "tmpfs", "ramfs", "overlay",
        "mqueue",
    ];
    let mut found = BTreeSet::new();
    let table = fs_err::read("/proc/self/mountinfo").unwrap_or_default();
    for line in table.split(|byte| *byte == b'\n') {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let Some(path) = fields.get(4) else { continue };
        let kind = fields.iter().position(|field| *field == b"-").and_then(|at| fields.get(at + 1));
        // The last one at a path is the one that is seen.
        if kind.is_some_and(|kind| LOCAL.iter().any(|local| local.as_bytes() == *kind)) {
            found.insert(place(path));
        } else {
            found.remove(&place(path));
        }
    }
    found
}

/// Where the user with this id has mounted something with FUSE, which needs no root: the innermost first. What another
/// mount hides is left out: no path leads to it.
#[must_use]
pub fn of_user(uid: u32) -> Vec<PathBuf> {
    let mut found = fuse(&fs_err::read("/proc/self/mountinfo").unwrap_or_default(), uid);
    found.reverse();
    found
}

/// A mount: its id, that of the one that it stands in, where it is, and whether it is one of the user's.
type Mounted = (u64, u64, PathBuf, bool);

fn fuse(table: &[u8], uid: u32) -> Vec<PathBuf> {
    let user = format!("user_id={uid}");
    let is_theirs = |options: &[u8]| options.split(|byte| *byte == b',').any(|it| it == user.as_bytes());
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse().ok();
    let lines = table.split(|byte| *byte == b'\n').map(|line| line.split(|byte| *byte == b' '));
    let all = lines.filter_map(|fields| {
        let fields: Vec<&[u8]> = fields.collect();
        let end = fields.iter().position(|field| *field == b"-")?;
        let is_fuse = fields.get(end + 1)?.starts_with(b"fuse") && is_theirs(fields.get(end + 3)?);
        Some((number(fields.first()?)?, number(fields.get(1)?)?, place(fields.get(4)?), is_fuse))
    });
    let all: Vec<Mounted> = all.collect();
    all.iter().filter(|one| one.3 && !is_hidden(&all, one)).map(|one| one.2.clone()).collect()
}

/// Whether the path of a mount leads elsewhere, because something is mounted over a directory above it.
fn is_hidden(all: &[Mounted], (id, parent, at, _): &Mounted) -> bool {
    let is_there = |(other, _, path, _): &&Mounted| other == parent && path == at && other != id;
    if all.iter().any(|one| is_there(&one)) {
        return false;
    }
    let above = |(_, _, path, _): &&Mounted| path != at && at.starts_with(path);
    // Of those at the same path, the last one is the one that is seen.
    let seen = all.iter().filter(above).max_by_key(|(_, _, path, _)| path.components().count());
    seen.is_some_and(|(seen, ..)| seen != parent)
}

/// The root directory of the machine's first process, if this process has mounts of its own: what is there can differ. Only
/// if both have the same root directory: the first process that a container or a changed root sees can be another
/// machine's.
#[must_use]
pub fn outside() -> Option<PathBuf> {
    let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    let outside = Path::new("/proc/1/root");
    (namespace("self")? != namespace("1")? && is_same_dir(Path::new("/"), &outside.join("")))
        .then(|| outside.to_owned())
}

#[cfg(unix)]
fn is_same_dir(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |path: &Path| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    id(one).is_some() && id(one) == id(other)
}

#[cfg(not(unix))]
fn is_same_dir(_: &Path, _: &Path) -> bool {
    false
}

/// Whether this machine lets a service have mounts of its own. In some containers the namespace may be created, but
/// nothing may be mounted in it: there systemd does not ignore `PrivateTmp=`, but fails to start the service.
pub async fn can_be_private(stop: &Stop) -> bool {
    let script = "mount --bind /tmp /tmp && mount -o remount,bind,nosuid /tmp";
    let command = Command::new("unshare")
        .args(["--mount", "--propagation", "slave", "sh", "-c", script])
        .env("PATH", PATH)
        .deadline(Deadline::after(TRYING));
    command.run(stop, &mut |_, _| {}).await.is_ok_and(|outcome| outcome.success())
}

/// Whether systemd has given this process a `/tmp` of its own (`PrivateTmp=`).
#[must_use]
pub fn has_private_tmp() -> bool {
    is_private(&fs_err::read("/proc/self/mountinfo").unwrap_or_default())
}

fn is_private(table: &[u8]) -> bool {
    let lines = table.split(|byte| *byte == b'\n').map(|line| line.split(|byte| *byte == b' '));
    let mut at_tmp = lines.filter_map(|mut fields| Some((fields.nth(3)?, fields.next()?)));
    // The last one at a path is the one that is seen.
    let last = at_tmp.rfind(|(_, at)| *at == b"/tmp");
    last.is_some_and(|(root, _)| {
        place(root).iter().any(|part| part.to_string_lossy().starts_with("systemd-private-"))
    })
}

/// Gives this process and its children a `/dev/shm` of their own, if they have mounts of their own already.
pub fn own_shared_memory() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::mount::MountFlags;
        let at = Path::new("/dev/shm");
        if !has_private_tmp() || !fs_err::symlink_metadata(at)?.is_dir() {
            return Ok(());
        }
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount("tmpfs", at, "tmpfs", flags, c"mode=1777")?;
    }
    Ok(())
}

/// Whether something is mounted at `path` itself; a link is not followed.
#[must_use]
pub fn is_mount_point(path: &Path) -> bool {
    let Some((parent, name)) = path.parent().zip(path.file_name()) else { return true };
    let Ok(real) = fs_err::canonicalize(parent) else { return false };
    within(path).contains(&real.join(name))
}

/// Unmounts what is mounted at `path`, also if it is in use. No part of the path may be a link.
pub fn detach(path: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
        use rustix::mount::UnmountFlags;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mount = rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
        let itself = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&mount));
        Ok(rustix::mount::unmount(itself, UnmountFlags::DETACH)?)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A mount point as proc(5) writes it: a space is `\040`.
fn place(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let octal =
            after.get(..3).filter(|digits| byte == b'\\' && digits.iter().all(|b| (b'0'..=b'7').contains(b)));
        if let Some(digits) = octal {
            bytes.push(digits.iter().fold(0_u8, |sum, digit| sum.wrapping_mul(8).wrapping_add(digit - b'0')));
            rest = &after[3..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    #[cfg(unix)]
    return PathBuf::from(<std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(bytes));
    #[cfg(not(unix))]
    PathBuf::from(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_the_kernel_writes_it() {
        assert_eq!(place(br"/opt/my\040runner\134x/_work"), Path::new(r"/opt/my runner\x/_work"));
        assert_eq!(place(br"/opt/\04"), Path::new(r"/opt/\04"));
    }

    #[test]
    fn a_tmp_of_a_service_s_own_is_told_by_its_origin() {
        let line = |root: &str, at: &str| format!("90 80 8:1 {root} {at} rw shared:1 - ext4 /dev/sda rw\n");
        let own = "/tmp/systemd-private-0a-runup.service-x/tmp";
        let table =
            |lines: &[(&str, &str)]| lines.iter().map(|(root, at)| line(root, at)).collect::<String>();
        for (lines, expected) in [
            (vec![("/", "/"), (own, "/tmp")], true),
            (vec![("/", "/tmp"), ("/systemd-private-0a-x/tmp", "/tmp")], true),
            (vec![(own, "/tmp"), ("/", "/tmp")], false),
            (vec![("/", "/"), ("/", "/tmp"), (own, "/var/tmp")], false),
            (vec![], false),
        ] {
            assert_eq!(is_private(table(&lines).as_bytes()), expected, "{lines:?}");
        }
        assert!(!is_private(b"broken\n"));
        // This process may have mounts of its own, but then sees the same root through the first one.
        assert!(outside().is_none_or(|root| root == Path::new("/proc/1/root")));
    }

    #[test]
    fn a_mount_of_a_user_is_told_by_its_options() {
        let table =
            b"36 35 98:0 / /tmp/a\\040b rw,nosuid master:1 - fuse.sshfs h: rw,user_id=706,group_id=7\n\
            37 35 98:1 / /tmp/other rw - fuse.sshfs h: rw,user_id=7060,group_id=706\n\
            38 35 98:2 / /tmp/disk rw - ext4 /dev/sda rw,user_id=706\n\
            39 36 98:3 / /tmp/a\\040b/in rw - fuse f rw,user_id=706\n\
            broken\n";
        assert_eq!(fuse(table, 706), [Path::new("/tmp/a b"), Path::new("/tmp/a b/in")]);
    }

    /// Made by a job of cron's, on the machine's `/tmp`, which a service with one of its own has below that.
    #[test]
    fn a_mount_that_another_one_hides_is_left_out() {
        let table = b"1 0 8:1 / / rw - ext4 /dev/sda rw\n\
            2 1 8:1 /tmp/systemd-private-0a/tmp /tmp rw - ext4 /dev/sda rw\n\
            3 1 98:0 / /tmp/hidden rw - fuse f rw,user_id=706\n\
            4 2 98:1 / /tmp/seen rw - fuse f rw,user_id=706\n\
            5 4 98:2 / /tmp/seen rw - fuse f rw,user_id=706\n\
            6 1 98:3 / /home/fresh/x rw - fuse f rw,user_id=706\n";
        let seen = ["/tmp/seen", "/tmp/seen", "/home/fresh/x"];
        assert_eq!(fuse(table, 706), seen.map(Path::new));
    }

    /// The first process of the machine counts only if its root directory is this one.
    #[cfg(unix)]
    #[test]
    fn another_root_directory_is_another_machine_s() {
        let dir = tempfile::tempdir().unwrap();
        assert!(is_same_dir(dir.path(), &dir.path().join("")) && !is_same_dir(dir.path(), Path::new("/")));
        assert!(!is_same_dir(&dir.path().join("missing"), &dir.path().join("missing")));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn mounts_are_found_in_a_directory_and_not_beside_it() {
        assert!(within(Path::new("/")).contains(&PathBuf::from("/proc")));
        assert_eq!(within(Path::new("/proc/self/fd")), [] as [PathBuf; 0]);
        assert_eq!(within(Path::new("/no/such/directory")), [] as [PathBuf; 0]);
        assert_eq!(within(tempfile::tempdir().unwrap().path()), [] as [PathBuf; 0]);
    }
}
