//! Checks whether only root controls what a path leads to.

use super::Error;
use std::path::{Path, PathBuf};

/// Something on the way to a file that users other than root can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intrusion {
    /// The file itself, a directory above it, or a symbolic link on the way.
    pub path: PathBuf,
    /// How it can be changed: a phrase that fits after the path.
    pub why: String,
}

/// Checks the file at `path`, opened as `opened`, every directory above it and every link on the way, and returns the
/// first that a user other than root owns or can write to. `None` if there is none, and on Windows.
///
/// A sticky directory such as `/tmp` is safe for files that root owns. Group 0 counts as root's. In a user namespace,
/// an unmapped owner counts as root if this process, which is root in the namespace, cannot write the file: then no
/// other process in it can. Access control lists count as far as the group permission shows them.
pub fn who_else_can_change(path: &Path, opened: &std::fs::File) -> Result<Option<Intrusion>, Error> {
    #[cfg(unix)]
    return unix::look(path, opened);
    #[cfg(not(unix))]
    {
        let _ = (path, opened);
        Ok(None)
    }
}

#[cfg(unix)]
mod unix {
    use super::{Error, Intrusion, Path, PathBuf};
    use crate::host::{Root, account};
    use std::fs::Metadata;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Component;

    /// How many symbolic links are followed before a path counts as a loop; the same as on Linux.
    const MAX_LINKS: usize = 40;

    pub fn look(path: &Path, opened: &std::fs::File) -> Result<Option<Intrusion>, Error> {
        let absolute = std::path::absolute(path)?;
        let mut ahead = names(&absolute);
        let mut here = PathBuf::from("/");
        let mut links = 0;
        if let Some(found) = judge(&here, &fs_err::symlink_metadata(&here)?) {
            return Ok(Some(found));
        }
        while let Some(name) = ahead.pop() {
            if name.as_os_str() == ".." {
                here.pop();
                continue;
            }
            let next = here.join(&name);
            let meta = fs_err::symlink_metadata(&next)?;
            if !meta.is_symlink() {
                if let Some(found) = judge(&next, &meta) {
                    return Ok(Some(found));
                }
                here = next;
                continue;
            }
            // In a directory that every user can write to, like /tmp, another user can own the link. A link's mode is
            // meaningless.
            if let Some(owner) = other_owner(&next, &meta) {
                return Ok(Some(Intrusion { path: next, why: owner }));
            }
            let target = fs_err::read_link(&next)?;
            links += 1;
            if links > MAX_LINKS {
                return Err(Error::Path {
                    doing: "follow",
                    path: path.to_owned(),
                    source: rustix::io::Errno::LOOP.into(),
                });
            }
            if here.starts_with("/proc") && !target.has_root() && target.to_string_lossy().contains(":[") {
                // An open pipe or socket, which has no path: `<(…)` of a shell.
                break;
            }
            if target.has_root() {
                here = PathBuf::from("/");
            }
            ahead.extend(names(&target));
        }
        // The opened file, whatever the path leads to by now. A terminal belongs to the user who sits at it.
        let meta = opened.metadata()?;
        let is_terminal = std::io::IsTerminal::is_terminal(opened);
        Ok((!is_terminal).then(|| judge(path, &meta)).flatten())
    }

    /// The components of the path, the next one last.
    fn names(path: &Path) -> Vec<PathBuf> {
        path.components()
            .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
            .map(|part| PathBuf::from(part.as_os_str()))
            .rev()
            .collect()
    }

    fn judge(path: &Path, meta: &Metadata) -> Option<Intrusion> {
        let found = |why| Some(Intrusion { path: path.to_owned(), why });
        if let Some(owner) = other_owner(path, meta) {
            return found(owner);
        }
        if meta.is_dir() && meta.mode() & 0o1000 != 0 {
            return None;
        }
        if meta.mode() & 0o002 != 0 && !is_device(meta) {
            return found("can be written by every user".into());
        }
        let unmapped = meta.gid() == overflow("gid") && is_partial("gid");
        if meta.mode() & 0o020 != 0 && meta.gid() != 0 && !unmapped && !is_device(meta) {
            return found(format!("can be written by the group {}", group_name(meta.gid())));
        }
        None
    }

    /// Devices such as `/dev/null` are open to all users, and store nothing.
    fn is_device(meta: &Metadata) -> bool {
        std::os::unix::fs::FileTypeExt::is_char_device(&meta.file_type())
    }

    fn other_owner(path: &Path, meta: &Metadata) -> Option<String> {
        if meta.uid() == 0 {
            return None;
        }
        let unmapped = meta.uid() == overflow("uid") && is_partial("uid");
        // Root of the namespace could write it if its owner were mapped.
        if unmapped && rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_err() {
            return None;
        }
        let owner = account::find_by_id(&Root::host(), meta.uid()).ok().flatten();
        let owner = owner.map_or_else(|| format!("with the id {}", meta.uid()), |owner| owner.name);
        Some(format!("belongs to the user {owner}"))
    }

    fn group_name(gid: u32) -> String {
        account::group_name(&Root::host(), gid).unwrap_or_else(|| format!("with the id {gid}"))
    }

    /// The id that the kernel shows for ids that the user namespace does not map.
    fn overflow(kind: &str) -> u32 {
        std::fs::read_to_string(format!("/proc/sys/kernel/overflow{kind}"))
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(65_534)
    }

    /// Whether this is a user namespace that does not map every id.
    fn is_partial(kind: &str) -> bool {
        std::fs::read_to_string(format!("/proc/self/{kind}_map"))
            .is_ok_and(|text| text.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"])
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    fn look(path: &Path) -> Option<Intrusion> {
        who_else_can_change(path, &std::fs::File::open(path).expect("the file is there"))
            .expect("the path can be checked")
    }

    #[test]
    fn whatever_another_user_can_change_on_the_way_is_found() {
        let temp = tempfile::tempdir().unwrap();
        let top = temp.path().canonicalize().unwrap();
        let (dir, file) = (top.join("a/b"), top.join("a/b/config.toml"));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(&file, "").unwrap();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        if !super::super::account::is_root() {
            let found = look(&file).unwrap();
            assert!(found.why.starts_with("belongs to the user "), "{found:?}");
            return;
        }
        let found = |path: &Path, why: &str| Some(Intrusion { path: path.into(), why: why.into() });
        let another = "belongs to the user with the id 234567";
        mode(&file, 0o644);
        assert_eq!(look(&file), None);
        for path in [file.as_path(), &dir, &top.join("a")] {
            chown(path, Some(234_567), None).unwrap();
            assert_eq!(look(&file), found(path, another));
            chown(path, Some(0), None).unwrap();
            let usual = std::fs::metadata(path).unwrap().permissions().mode();
            mode(path, usual | 0o002);
            assert_eq!(look(&file), found(path, "can be written by every user"));
            mode(path, usual | 0o020);
            assert_eq!(look(&file), None, "the group is root's");
            chown(path, None, Some(234_567)).unwrap();
            assert_eq!(look(&file), found(path, "can be written by the group with the id 234567"));
            chown(path, None, Some(0)).unwrap();
            mode(path, usual);
        }
        // Sticky: other users cannot rename or delete root's files in it.
        mode(&dir, 0o1777);
        assert_eq!(look(&file), None);
        let planted = dir.join("planted.toml");
        std::fs::write(&planted, "").unwrap();
        chown(&planted, Some(234_567), None).unwrap();
        assert_eq!(look(&planted), found(&planted, another));

        // Links: their directory, their owner, and their target.
        let (link, theirs) = (top.join("link.toml"), dir.join("theirs.toml"));
        symlink("a/../a/b/config.toml", &link).unwrap();
        assert_eq!(look(&link), None);
        symlink(&file, &theirs).unwrap();
        std::os::unix::fs::lchown(&theirs, Some(234_567), None).unwrap();
        assert_eq!(look(&theirs), found(&theirs, another));
        let elsewhere = top.join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        std::fs::write(elsewhere.join("c.toml"), "").unwrap();
        chown(&elsewhere, Some(234_567), None).unwrap();
        symlink(&elsewhere, top.join("dir-link")).unwrap();
        assert_eq!(look(&top.join("dir-link/c.toml")), found(&elsewhere, another));
    }

    #[test]
    fn a_pipe_that_a_shell_made_and_the_null_device_are_roots() {
        if !super::super::account::is_root() {
            println!("skipped: what an ordinary user makes is not root's");
            return;
        }
        let (reader, _writer) = std::io::pipe().unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&reader);
        assert_eq!(look(Path::new(&format!("/dev/fd/{number}"))), None);
        assert_eq!(look(Path::new("/dev/null")), None);
    }
}
