//! A tool cache that all runners of a machine share: `TOOL/VERSION/ARCH`, beside a file `TOOL/VERSION/ARCH.complete`, which is
//! how `actions/setup-*` store a tool and look for it (`@actions/tool-cache`).
//!
//! A runner's own tool cache gets links to both, so that its jobs find the tools, and add others without changing what the
//! jobs of other runners find.

use std::io;
use std::path::Path;

/// The name of a runner's own tool cache, in its work directory.
pub const OWN: &str = "_tool";

/// Ends the name of the file that marks a tool as complete.
#[cfg(unix)]
const COMPLETE: &str = ".complete";

/// Links the complete tools of `cache` in the directory `own`, which is created if it is missing, with the rights of this
/// process: those of the jobs, which can have put anything there. `strict`: only what root alone can change is linked.
/// Returns what is left out: its path, and why. What a job has put there stays.
///
/// # Errors
/// A directory cannot be read or created.
#[cfg(unix)]
pub fn link(cache: &Path, own: &Path, strict: bool) -> io::Result<Vec<String>> {
    unix::link(cache, own, strict)
}

/// Windows asks for a privilege to create a link.
///
/// # Errors
/// Always.
#[cfg(not(unix))]
pub fn link(_: &Path, _: &Path, _: bool) -> io::Result<Vec<String>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Why jobs cannot use a directory of tools, or must not. `strict` is as above. Access control lists count as far as the
/// group permission shows them.
#[cfg(unix)]
#[must_use]
pub fn refusal(meta: &std::fs::Metadata, strict: bool) -> Option<&'static str> {
    use std::os::unix::fs::MetadataExt as _;
    if !meta.is_dir() {
        Some("it is not a directory")
    } else if strict && (meta.uid() != 0 || meta.mode() & 0o022 != 0) {
        Some("users other than root can change it")
    } else if strict && meta.mode() & 0o005 != 0o005 {
        Some("not all users can read it")
    } else {
        None
    }
}

#[cfg(unix)]
mod unix {
    use super::{COMPLETE, refusal};
    use std::ffi::OsString;
    use std::io::{self, ErrorKind};
    use std::os::unix::fs::symlink;
    use std::path::Path;

    pub fn link(cache: &Path, own: &Path, strict: bool) -> io::Result<Vec<String>> {
        let mut left_out = Vec::new();
        fs_err::create_dir_all(own)?;
        for tool in names(cache)? {
            let versions = cache.join(&tool);
            // Such as a README.
            if versions.is_file() || !is_usable(&versions, strict, &mut left_out) {
                continue;
            }
            for version in names_or_say(&versions, &mut left_out) {
                let dir = versions.join(&version);
                if dir.is_file() || !is_usable(&dir, strict, &mut left_out) {
                    continue;
                }
                let into = own.join(&tool).join(&version);
                for name in complete(&names_or_say(&dir, &mut left_out)) {
                    let arch = dir.join(&name);
                    if is_usable(&arch, strict, &mut left_out)
                        && let Err(error) = put_both(cache, &dir, &into, &name)
                    {
                        left_out.push(format!("{}: {error}", arch.display()));
                    }
                }
            }
        }
        Ok(left_out)
    }

    fn names(dir: &Path) -> io::Result<Vec<OsString>> {
        let mut names = fs_err::read_dir(dir)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    /// None where it cannot be read.
    fn names_or_say(dir: &Path, left_out: &mut Vec<String>) -> Vec<OsString> {
        names(dir).unwrap_or_else(|error| {
            left_out.push(error.to_string());
            Vec::new()
        })
    }

    fn marked(name: &OsString) -> OsString {
        let mut mark = name.clone();
        mark.push(COMPLETE);
        mark
    }

    /// The architectures that are complete, of the sorted names in the directory of a version.
    fn complete(all: &[OsString]) -> Vec<OsString> {
        let is_complete = |name: &&OsString| all.binary_search(&marked(name)).is_ok();
        all.iter().filter(is_complete).cloned().collect()
    }

    fn is_usable(dir: &Path, strict: bool, left_out: &mut Vec<String>) -> bool {
        let refused = match fs_err::symlink_metadata(dir) {
            Ok(meta) => refusal(&meta, strict).map(str::to_owned),
            Err(error) => Some(error.to_string()),
        };
        left_out.extend(refused.iter().map(|why| format!("{}: {why}", dir.display())));
        refused.is_none()
    }

    /// The mark comes last: a tool without one is not found.
    fn put_both(cache: &Path, dir: &Path, into: &Path, name: &OsString) -> io::Result<()> {
        fs_err::create_dir_all(into)?;
        if put(cache, &dir.join(name), &into.join(name))? {
            let mark = marked(name);
            put(cache, &dir.join(&mark), &into.join(&mark))?;
        }
        Ok(())
    }

    /// Puts a link; returns whether it is there. That of a cache that was elsewhere before is replaced.
    fn put(cache: &Path, target: &Path, link: &Path) -> io::Result<bool> {
        match symlink(target, link) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            done => return done.map(|()| true),
        }
        let Ok(now) = std::fs::read_link(link) else { return Ok(false) };
        if now == target {
            return Ok(true);
        }
        let is_of_a_cache = target.strip_prefix(cache).is_ok_and(|tool| now.ends_with(tool));
        if is_of_a_cache {
            fs_err::remove_file(link)?;
            symlink(target, link)?;
        }
        Ok(is_of_a_cache)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::host::account::is_root;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::PathBuf;

    struct Place {
        temp: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let place = Self { temp: tempfile::tempdir().expect("the test may write there") };
            for tool in ["node/20.1.0/x64", "node/22.0.0/x64", "node/22.0.0/arm64", "Ruby/3.3.0/x64"] {
                place.tool(tool);
            }
            fs::remove_file(place.cache().join("node/22.0.0/arm64.complete")).expect("it was made");
            fs::write(place.cache().join("README"), "no tool").expect("the test may write there");
            place
        }

        fn tool(&self, tool: &str) {
            let dir = self.cache().join(tool);
            fs::create_dir_all(dir.join("bin")).expect("the test may write there");
            fs::write(dir.join("bin/it"), tool).expect("the test may write there");
            fs::write(dir.with_file_name(mark(&dir)), "").expect("the test may write there");
        }

        fn cache(&self) -> PathBuf {
            self.temp.path().join("cache")
        }

        fn own(&self) -> PathBuf {
            self.temp.path().join("tree/_work/_tool")
        }

        fn link(&self) -> io::Result<Vec<String>> {
            link(&self.cache(), &self.own(), is_root())
        }

        /// Whether an action would find the tool, and its content.
        fn finds(&self, tool: &str) -> Option<String> {
            let dir = self.own().join(tool);
            let is_there = dir.with_file_name(mark(&dir)).exists();
            is_there.then(|| fs::read_to_string(dir.join("bin/it")).expect("it is complete"))
        }
    }

    fn mark(dir: &Path) -> String {
        format!("{}.complete", dir.file_name().expect("a tool has a name").display())
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn jobs_find_what_is_complete_and_may_add_to_their_own() {
        let place = Place::new();
        assert_eq!(place.link().unwrap(), NONE);
        for tool in ["node/20.1.0/x64", "node/22.0.0/x64", "Ruby/3.3.0/x64"] {
            assert_eq!(place.finds(tool).as_deref(), Some(tool));
        }
        assert_eq!(place.finds("node/22.0.0/arm64"), None);
        assert!(!place.own().join("README").exists());
        // Once more, after a job has added one, removed one, and put its own in the place of another.
        let own = place.own();
        fs::create_dir_all(own.join("node/22.0.0/arm64")).unwrap();
        fs::remove_file(own.join("Ruby/3.3.0/x64")).unwrap();
        fs::remove_file(own.join("node/20.1.0/x64")).unwrap();
        fs::create_dir_all(own.join("node/20.1.0/x64/bin")).unwrap();
        fs::write(own.join("node/20.1.0/x64/bin/it"), "the job's").unwrap();
        assert_eq!(place.link().unwrap(), NONE);
        assert_eq!(place.finds("Ruby/3.3.0/x64").as_deref(), Some("Ruby/3.3.0/x64"));
        assert_eq!(place.finds("node/20.1.0/x64").as_deref(), Some("the job's"));
        assert!(own.join("node/22.0.0/arm64").is_dir());
    }

    #[test]
    fn a_cache_that_has_moved_is_linked_anew_and_a_link_of_a_job_s_stays() {
        let place = Place::new();
        place.link().unwrap();
        let moved = place.temp.path().join("moved");
        fs::rename(place.cache(), &moved).unwrap();
        let theirs = place.own().join("Ruby/3.3.0/x64");
        fs::remove_file(&theirs).unwrap();
        symlink("/nowhere", &theirs).unwrap();
        assert_eq!(place.finds("node/22.0.0/x64"), None);
        assert_eq!(link(&moved, &place.own(), is_root()).unwrap(), NONE);
        assert_eq!(place.finds("node/22.0.0/x64").as_deref(), Some("node/22.0.0/x64"));
        assert_eq!(fs::read_link(&theirs).unwrap(), Path::new("/nowhere"));
    }

    #[test]
    fn what_cannot_be_linked_is_told_and_the_others_are() {
        let place = Place::new();
        fs::create_dir_all(place.own()).unwrap();
        fs::write(place.own().join("node"), "a job's").unwrap();
        symlink("3.3.0", place.cache().join("Ruby/3.3")).unwrap();
        let left_out = place.link().unwrap();
        assert_eq!(left_out.len(), 3, "{left_out:?}");
        assert!(left_out[0].ends_with("Ruby/3.3: it is not a directory"), "{left_out:?}");
        assert_eq!(place.finds("Ruby/3.3.0/x64").as_deref(), Some("Ruby/3.3.0/x64"));
    }

    #[test]
    fn what_others_than_root_can_change_or_jobs_cannot_read_is_left_out() {
        if !is_root() {
            println!("skipped: an ordinary user's jobs can change all that the user can");
            return;
        }
        let place = Place::new();
        place.tool("node/18.0.0/x64");
        let (open, theirs) = (place.cache().join("node/20.1.0"), place.cache().join("Ruby/3.3.0/x64"));
        let (group, closed) = (place.cache().join("node/22.0.0"), place.cache().join("node/18.0.0"));
        for (dir, mode) in [(&open, 0o777), (&group, 0o775), (&closed, 0o700)] {
            fs::set_permissions(dir, fs::Permissions::from_mode(mode)).unwrap();
        }
        std::os::unix::fs::chown(&theirs, Some(65534), None).unwrap();
        let expected = [
            (theirs, "users other than root can change it"),
            (closed, "not all users can read it"),
            (open, "users other than root can change it"),
            (group, "users other than root can change it"),
        ];
        let expected: Vec<String> =
            expected.into_iter().map(|(dir, why)| format!("{}: {why}", dir.display())).collect();
        assert_eq!(place.link().unwrap(), expected);
        assert_eq!(place.finds("node/20.1.0/x64"), None);
    }
}
