//! A tool cache that all runners of a machine share: `TOOL/VERSION/ARCH`, beside a file `TOOL/VERSION/ARCH.complete`, which is
//! how `actions/setup-*` store a tool and look for it (`@actions/tool-cache`).
//!
//! A runner's own tool cache gets links to both, so that its jobs find the tools, and add others without changing what the
//! jobs of other runners find.

use super::Keeper;
use std::io;
use std::path::{Path, PathBuf};

/// The name of a runner's own tool cache, in its work directory.
pub const OWN: &str = "_tool";

/// Ends the name of the file that marks a tool as complete.
#[cfg(unix)]
const COMPLETE: &str = ".complete";

/// What was done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Linked {
    /// The number of tools that jobs find by links.
    pub tools: usize,
    /// What others than root can change, and so is not linked.
    pub changeable: Vec<PathBuf>,
}

/// Links the complete tools of `cache` to `own`, a path below `base`. Jobs can write in `own` and its parents, but not replace
/// `base`: below it, no link is followed. Directories that are missing are created for the keeper. With one, only what
/// root alone can change is linked. What is there by another name than a link of root stays: it is a job's.
///
/// # Errors
/// A directory cannot be read, created or entered.
#[cfg(unix)]
pub fn link(cache: &Path, base: &Path, own: &Path, keeper: Option<Keeper>) -> io::Result<Linked> {
    unix::link(cache, base, own, keeper)
}

/// Windows asks for a privilege to create a link.
///
/// # Errors
/// Always.
#[cfg(not(unix))]
pub fn link(_: &Path, _: &Path, _: &Path, _: Option<Keeper>) -> io::Result<Linked> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(unix)]
mod unix {
    use super::{COMPLETE, Keeper, Linked};
    use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid};
    use rustix::io::Errno;
    use std::ffi::OsString;
    use std::io;
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::{Component, Path};

    const DIR: OFlags =
        OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

    pub fn link(cache: &Path, base: &Path, own: &Path, keeper: Option<Keeper>) -> io::Result<Linked> {
        let mut linked = Linked::default();
        let top = enter_all(rustix::fs::openat(CWD, base, DIR, Mode::empty())?, own, keeper)?;
        for tool in names(cache)? {
            let versions = cache.join(&tool);
            if !usable(&versions, keeper, &mut linked) {
                continue;
            }
            for version in names(&versions)? {
                let dir = versions.join(&version);
                if !usable(&dir, keeper, &mut linked) {
                    continue;
                }
                let complete = complete_in(&dir, keeper, &mut linked)?;
                if complete.is_empty() {
                    continue;
                }
                // A job may have something else there.
                let Ok(into) = enter_all(rustix::io::dup(&top)?, &Path::new(&tool).join(&version), keeper)
                else {
                    continue;
                };
                for name in complete {
                    // The mark comes last: a tool without one is not found.
                    if put(&into, &name, &dir, keeper)? && put(&into, &marked(&name), &dir, keeper)? {
                        linked.tools += 1;
                    }
                }
            }
        }
        Ok(linked)
    }

    fn marked(name: &OsString) -> OsString {
        let mut mark = name.clone();
        mark.push(COMPLETE);
        mark
    }

    fn names(dir: &Path) -> io::Result<Vec<OsString>> {
        let mut names = fs_err::read_dir(dir)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    /// The architectures of a version that are complete.
    fn complete_in(dir: &Path, keeper: Option<Keeper>, linked: &mut Linked) -> io::Result<Vec<OsString>> {
        let all = names(dir)?;
        let is_complete = |name: &&OsString| all.binary_search(&marked(name)).is_ok();
        let complete = all.iter().filter(is_complete).filter(|name| usable(&dir.join(name), keeper, linked));
        Ok(complete.cloned().collect())
    }

    /// Whether it is a directory, which jobs cannot change if they must not.
    fn usable(dir: &Path, keeper: Option<Keeper>, linked: &mut Linked) -> bool {
        let Ok(meta) = std::fs::symlink_metadata(dir) else { return false };
        if !meta.is_dir() {
            return false;
        }
        let group = meta.mode() & 0o020 != 0 && meta.gid() != 0;
        let changeable = keeper.is_some() && (meta.uid() != 0 || meta.mode() & 0o002 != 0 || group);
        if changeable {
            linked.changeable.push(dir.to_owned());
        }
        !changeable
    }

    /// Enters the directories of a relative path one by one, and creates those that are missing.
    fn enter_all(from: OwnedFd, path: &Path, keeper: Option<Keeper>) -> io::Result<OwnedFd> {
        let mut dir = from;
        for part in path.components() {
            let name = match part {
                Component::Normal(name) => name,
                Component::CurDir => continue,
                _ => return Err(Errno::INVAL.into()),
            };
            dir = match rustix::fs::openat(&dir, name, DIR, Mode::empty()) {
                Err(Errno::NOENT) => create(&dir, name, keeper)?,
                opened => opened?,
            };
        }
        Ok(dir)
    }

    fn create(dir: &OwnedFd, name: &std::ffi::OsStr, keeper: Option<Keeper>) -> io::Result<OwnedFd> {
        rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755))?;
        let created = rustix::fs::openat(dir, name, DIR, Mode::empty())?;
        if let Some(keeper) = keeper {
            rustix::fs::fchown(&created, Some(Uid::from_raw(keeper.uid)), Some(Gid::from_raw(keeper.gid)))?;
            // Whatever the umask.
            rustix::fs::fchmod(&created, Mode::from_raw_mode(0o755))?;
        }
        Ok(created)
    }

    /// Puts a link to `target/name`; returns whether it is there.
    fn put(dir: &OwnedFd, name: &OsString, target: &Path, keeper: Option<Keeper>) -> io::Result<bool> {
        let target = target.join(name);
        match rustix::fs::symlinkat(&target, dir, name) {
            Ok(()) => return Ok(true),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        match rustix::fs::readlinkat(dir, name, Vec::new()) {
            Ok(now) if now.as_bytes() == std::os::unix::ffi::OsStrExt::as_bytes(target.as_os_str()) => {
                return Ok(true);
            }
            Ok(_) => {}
            Err(_) => return Ok(false),
        }
        // The link of an earlier cache; a job's stays.
        let ours = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?.st_uid == 0;
        if keeper.is_some() && !ours {
            return Ok(false);
        }
        rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
        rustix::fs::symlinkat(&target, dir, name)?;
        Ok(true)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::host::account::is_root;
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    struct Place {
        temp: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let place = Self { temp: tempfile::tempdir().expect("the test may") };
            for tool in ["node/20.1.0/x64", "node/22.0.0/x64", "node/22.0.0/arm64", "Ruby/3.3.0/x64"] {
                place.tool(tool);
            }
            fs::remove_file(place.cache().join("node/22.0.0/arm64.complete")).expect("the test may");
            fs::write(place.cache().join("README"), "no tool").expect("the test may");
            fs::create_dir_all(place.base()).expect("the test may");
            place
        }

        fn tool(&self, tool: &str) {
            let dir = self.cache().join(tool);
            fs::create_dir_all(dir.join("bin")).expect("the test may");
            fs::write(dir.join("bin/it"), tool).expect("the test may");
            fs::write(
                dir.with_file_name(format!(
                    "{}.complete",
                    dir.file_name().expect("a tool has a name").display()
                )),
                "",
            )
            .expect("the test may");
        }

        fn cache(&self) -> PathBuf {
            self.temp.path().join("cache")
        }

        fn base(&self) -> PathBuf {
            self.temp.path().join("tree")
        }

        fn own(&self) -> PathBuf {
            self.base().join("_work/_tool")
        }

        fn keeper() -> Option<Keeper> {
            is_root().then_some(Keeper { uid: 65534, gid: 65534 })
        }

        fn link(&self) -> io::Result<Linked> {
            link(&self.cache(), &self.base(), Path::new("_work/_tool"), Self::keeper())
        }

        /// Whether an action would find the tool, and its content.
        fn finds(&self, tool: &str) -> Option<String> {
            let dir = self.own().join(tool);
            let mark = dir.with_file_name(format!(
                "{}.complete",
                dir.file_name().expect("a tool has a name").display()
            ));
            mark.exists().then(|| fs::read_to_string(dir.join("bin/it")).expect("the test may"))
        }
    }

    #[test]
    fn jobs_find_what_is_complete_and_may_add_to_their_own() {
        let place = Place::new();
        assert_eq!(place.link().unwrap(), Linked { tools: 3, changeable: Vec::new() });
        for tool in ["node/20.1.0/x64", "node/22.0.0/x64", "Ruby/3.3.0/x64"] {
            assert_eq!(place.finds(tool).as_deref(), Some(tool));
        }
        assert_eq!(place.finds("node/22.0.0/arm64"), None);
        assert!(!place.own().join("README").exists());
        if let Some(keeper) = Place::keeper() {
            for dir in ["", "node", "node/22.0.0"] {
                assert_eq!(fs::metadata(place.own().join(dir)).unwrap().uid(), keeper.uid, "{dir}");
            }
        }
        // Once more, after a job has added one, removed one, and put its own in the place of another.
        let own = place.own();
        fs::create_dir_all(own.join("node/22.0.0/arm64")).unwrap();
        fs::remove_file(own.join("Ruby/3.3.0/x64")).unwrap();
        fs::remove_file(own.join("node/20.1.0/x64")).unwrap();
        fs::create_dir_all(own.join("node/20.1.0/x64/bin")).unwrap();
        fs::write(own.join("node/20.1.0/x64/bin/it"), "the job's").unwrap();
        assert_eq!(place.link().unwrap().tools, 2);
        assert_eq!(place.finds("Ruby/3.3.0/x64").as_deref(), Some("Ruby/3.3.0/x64"));
        assert_eq!(place.finds("node/20.1.0/x64").as_deref(), Some("the job's"));
        assert!(own.join("node/22.0.0/arm64").is_dir());
    }

    #[test]
    fn a_cache_that_has_moved_is_linked_anew() {
        let place = Place::new();
        place.link().unwrap();
        let moved = place.temp.path().join("moved");
        fs::rename(place.cache(), &moved).unwrap();
        assert_eq!(place.finds("node/22.0.0/x64"), None);
        let linked = link(&moved, &place.base(), Path::new("_work/_tool"), Place::keeper()).unwrap();
        assert_eq!((linked.tools, place.finds("node/22.0.0/x64").as_deref()), (3, Some("node/22.0.0/x64")));
    }

    #[test]
    fn a_link_of_a_job_is_not_followed() {
        let place = Place::new();
        let elsewhere = place.temp.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        let is_empty = || fs::read_dir(&elsewhere).unwrap().next().is_none();
        fs::create_dir_all(place.own()).unwrap();
        // One tool cannot be linked; the others are.
        symlink(&elsewhere, place.own().join("node")).unwrap();
        assert_eq!((place.link().unwrap().tools, is_empty()), (1, true));
        for path in ["_work/_tool", "_work"] {
            fs::remove_dir_all(place.base().join(path)).unwrap();
            symlink(&elsewhere, place.base().join(path)).unwrap();
            assert!(place.link().is_err() && is_empty(), "{path}");
            fs::remove_file(place.base().join(path)).unwrap();
            fs::create_dir_all(place.own()).unwrap();
        }
    }

    #[test]
    fn what_others_than_root_can_change_is_not_linked() {
        if !is_root() {
            println!("skipped: an ordinary user's jobs can change all that the user can");
            return;
        }
        let place = Place::new();
        let (open, theirs) = (place.cache().join("node/20.1.0"), place.cache().join("Ruby/3.3.0/x64"));
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        std::os::unix::fs::chown(&theirs, Some(65534), None).unwrap();
        let linked = place.link().unwrap();
        assert_eq!(linked, Linked { tools: 1, changeable: vec![theirs, open] });
        assert_eq!(place.finds("node/20.1.0/x64"), None);
    }
}
