//! Finds mount points. Only on Linux, with `/proc`; on other systems none are found.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

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

/// Where the user with this id has mounted something with FUSE, which needs no root: the innermost first.
#[must_use]
pub fn of_user(uid: u32) -> Vec<PathBuf> {
    let mut found = fuse(&fs_err::read("/proc/self/mountinfo").unwrap_or_default(), uid);
    found.reverse();
    found
}

fn fuse(table: &[u8], uid: u32) -> Vec<PathBuf> {
    let user = format!("user_id={uid}");
    let is_theirs = |options: &[u8]| options.split(|byte| *byte == b',').any(|it| it == user.as_bytes());
    let lines = table.split(|byte| *byte == b'\n').map(|line| line.split(|byte| *byte == b' '));
    lines
        .filter_map(|fields| {
            let fields: Vec<&[u8]> = fields.collect();
            let end = fields.iter().position(|field| *field == b"-")?;
            let is_fuse = fields.get(end + 1)?.starts_with(b"fuse") && is_theirs(fields.get(end + 3)?);
            is_fuse.then(|| fields.get(4).map(|path| place(path))).flatten()
        })
        .collect()
}

/// The root directory of the machine's first process, if this process has mounts of its own: what is there can differ.
#[must_use]
pub fn outside() -> Option<PathBuf> {
    let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    (namespace("self")? != namespace("1")?).then(|| PathBuf::from("/proc/1/root"))
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

    #[cfg(target_os = "linux")]
    #[test]
    fn mounts_are_found_in_a_directory_and_not_beside_it() {
        assert!(within(Path::new("/")).contains(&PathBuf::from("/proc")));
        assert_eq!(within(Path::new("/proc/self/fd")), [] as [PathBuf; 0]);
        assert_eq!(within(Path::new("/no/such/directory")), [] as [PathBuf; 0]);
        assert_eq!(within(tempfile::tempdir().unwrap().path()), [] as [PathBuf; 0]);
    }
}
