//! Finds the directories of a machine in which a user can create files.
//!
//! It descends only where the user can, so it does not see what is below a closed directory, such as the layers of a
//! container engine. Mode, owner and groups count, without access control lists.

use super::Account;
use crate::host::Root;
use std::path::{Path, PathBuf};

/// Where a user can create files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Writable {
    /// As every other user can: what it creates there is its own.
    pub by_all: Vec<PathBuf>,
    /// Because of who it is or which groups it has: the operator has allowed it.
    pub by_right: Vec<PathBuf>,
    /// Whether all directories were looked at.
    pub is_complete: bool,
}

/// Finds them, except for the directories `except` and what is in them. The user also has the groups `gids`. What is below
/// one that is found is not looked at. Once `given_up` returns true, the search ends.
#[must_use]
pub fn writable(
    root: &Root,
    account: &Account,
    gids: &[u32],
    except: &[PathBuf],
    given_up: &dyn Fn() -> bool,
) -> Writable {
    #[cfg(unix)]
    return unix::search(root, account, gids, except, given_up);
    #[cfg(not(unix))]
    {
        let _ = (root, account, gids, except, given_up);
        Writable { is_complete: true, ..Writable::default() }
    }
}

#[cfg(unix)]
mod unix {
    use super::{Account, Path, PathBuf, Root, Writable};
    use crate::host::mounts;
    use std::os::unix::fs::MetadataExt as _;

    pub fn search(
        root: &Root,
        account: &Account,
        gids: &[u32],
        except: &[PathBuf],
        given_up: &dyn Fn() -> bool,
    ) -> Writable {
        let local = mounts::local();
        let mut found = Writable::default();
        let mut open = vec![(root.path().to_owned(), None)];
        while let Some((dir, above)) = open.pop() {
            if given_up() {
                return found;
            }
            let Ok(meta) = std::fs::symlink_metadata(&dir) else { continue };
            let crosses = above.is_some_and(|device| device != meta.dev());
            if !meta.is_dir() || except.contains(&dir) || (crosses && !local.contains(&dir)) {
                continue;
            }
            let class = if meta.uid() == account.uid {
                6
            } else if gids.contains(&meta.gid()) {
                3
            } else {
                0
            };
            let mode = meta.mode();
            // Its owner can change the mode.
            if class == 6 || (mode >> class) & 0o3 == 0o3 {
                let list = if mode & 0o002 == 0 { &mut found.by_right } else { &mut found.by_all };
                list.push(dir);
            } else if (mode >> class) & 0o1 == 0o1 {
                open.extend(below(&dir).map(|path| (path, Some(meta.dev()))));
            }
        }
        found.is_complete = true;
        found
    }

    fn below(dir: &Path) -> impl Iterator<Item = PathBuf> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect::<Vec<_>>()
            .into_iter()
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    #[test]
    fn directories_are_found_by_what_the_user_may_do() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let modes = [
            ("open", 0o1777),
            ("open/inner", 0o777),
            ("closed", 0o700),
            ("closed/open", 0o777),
            ("a", 0o755),
            ("a/group", 0o770),
            ("a/except", 0o777),
        ];
        for (name, _) in modes {
            std::fs::create_dir(at(name)).unwrap();
        }
        for (name, mode) in modes.into_iter().rev() {
            std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink(at("open"), at("a/link")).unwrap();
        let account = Account { name: "ci".into(), uid: 60_999, gid: 60_999, home: "/".into() };
        let gid = std::fs::metadata(at("a/group")).unwrap().gid();
        let root = Root::at(dir.path().to_owned());
        let found = writable(&root, &account, &[gid], &[at("a/except")], &|| false);
        assert_eq!(found.by_right, [at("a/group")]);
        assert_eq!(found.by_all, [at("open")]);
        assert!(found.is_complete);
        assert!(!writable(&root, &account, &[], &[], &|| true).is_complete);
    }
}
