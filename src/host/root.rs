//! The root directory of `--root`, which prefixes every absolute path.

use std::fmt;
use std::path::{Component, Path, PathBuf};

/// How many symbolic links are followed before a path counts as a loop; the same as on Linux.
const MAX_LINKS: usize = 40;

/// The filesystem to work on: the machine's own, or one in a directory, such as a mounted image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Root {
    /// Absolute; `None` is the machine's own.
    prefix: Option<PathBuf>,
}

impl Root {
    /// The machine's own filesystem.
    #[must_use]
    pub fn host() -> Self {
        Self { prefix: None }
    }

    /// The filesystem whose `/` is the directory `prefix`; `/` is the same as [`Root::host`].
    #[must_use]
    pub fn at(prefix: PathBuf) -> Self {
        let absolute = std::path::absolute(&prefix).unwrap_or(prefix);
        let is_host = absolute.components().all(|part| matches!(part, Component::RootDir));
        Self { prefix: (!is_host).then_some(absolute) }
    }

    /// Whether this is the machine's own filesystem.
    #[must_use]
    pub fn is_host(&self) -> bool {
        self.prefix.is_none()
    }

    /// The directory that is `/` in this filesystem.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.prefix.as_deref().unwrap_or(Path::new("/"))
    }

    /// The path on this machine of `path`, an absolute path inside. As in a chroot, `..` cannot leave the root;
    /// symbolic links are not resolved, see [`Root::resolve`].
    #[must_use]
    pub fn join(&self, path: &Path) -> PathBuf {
        match &self.prefix {
            None if path.has_root() => path.to_path_buf(),
            None => Path::new("/").join(path),
            Some(prefix) => {
                let mut joined = prefix.clone();
                joined.extend(inner(path));
                joined
            }
        }
    }

    /// The inverse of [`Root::join`]: the path inside for a path on this machine; `None` if it is outside.
    #[must_use]
    pub fn strip(&self, path: &Path) -> Option<PathBuf> {
        match &self.prefix {
            None => Some(path.to_path_buf()),
            Some(prefix) => path.strip_prefix(prefix).ok().map(|rest| Path::new("/").join(rest)),
        }
    }

    /// Like [`Root::join`], with every symbolic link resolved as for a program inside: an absolute one starts at the
    /// root's `/`, and none leads out of it. `None` if something is missing, unreadable or a loop.
    #[must_use]
    pub fn resolve(&self, path: &Path) -> Option<PathBuf> {
        let Some(prefix) = &self.prefix else { return fs_err::canonicalize(path).ok() };
        Self::walk(prefix, path, false)
    }

    /// The path at which `path` is to be created: the links above it are resolved as by [`Root::resolve`], so that
    /// nothing is created outside; missing components, and `path` itself, are kept as they are. `None` for a loop, or
    /// if something cannot be read. On the machine itself, `path` unchanged.
    #[must_use]
    pub fn locate(&self, path: &Path) -> Option<PathBuf> {
        let Some(prefix) = &self.prefix else { return Some(self.join(path)) };
        let inner: PathBuf = inner(path).iter().collect();
        let (Some(parent), Some(name)) = (inner.parent(), inner.file_name()) else {
            return Some(prefix.clone());
        };
        Some(Self::walk(prefix, parent, true)?.join(name))
    }

    /// Whether this machine would resolve `path` to a path outside of the root: by a link that is absolute or has `..`.
    #[must_use]
    pub fn leads_out(&self, path: &Path) -> bool {
        let Some(prefix) = &self.prefix else { return false };
        match (fs_err::canonicalize(self.join(path)), fs_err::canonicalize(prefix)) {
            (Ok(real), Ok(prefix)) => !real.starts_with(prefix),
            _ => false,
        }
    }

    fn walk(prefix: &Path, path: &Path, may_be_missing: bool) -> Option<PathBuf> {
        // The remaining components, the next one last.
        let mut ahead: Vec<PathBuf> = inner(path).into_iter().rev().collect();
        let mut inside: Vec<PathBuf> = Vec::new();
        let mut links = 0;
        while let Some(part) = ahead.pop() {
            if part.as_os_str() == ".." {
                inside.pop();
                continue;
            }
            let here = prefix.join(inside.iter().collect::<PathBuf>()).join(&part);
            let is_link = match fs_err::symlink_metadata(&here) {
                Ok(metadata) => metadata.is_symlink(),
                Err(error) if may_be_missing && is_absent(&error) => false,
                Err(_) => return None,
            };
            if is_link {
                links += 1;
                if links > MAX_LINKS {
                    return None;
                }
                let target = fs_err::read_link(&here).ok()?;
                if target.has_root() {
                    inside.clear();
                }
                ahead.extend(raw(&target).into_iter().rev());
            } else {
                inside.push(part);
            }
        }
        Some(prefix.join(inside.iter().collect::<PathBuf>()))
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path().display().fmt(f)
    }
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

/// The names and `..` components of the path, without root and prefix.
fn raw(path: &Path) -> Vec<PathBuf> {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| PathBuf::from(part.as_os_str()))
        .collect()
}

/// The names of the path, in which each `..` removes the name before it, but does not go above the root.
fn inner(path: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = Vec::new();
    for part in raw(path) {
        if part.as_os_str() == ".." {
            names.pop();
        } else {
            names.push(part);
        }
    }
    names
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_joined_path_never_leaves_the_root() {
        let root = Root::at("/image".into());
        assert_eq!(root.join(Path::new("/etc/passwd")), Path::new("/image/etc/passwd"));
        assert_eq!(root.join(Path::new("etc")), Path::new("/image/etc"));
        assert_eq!(root.join(Path::new("/../../etc/../x")), Path::new("/image/x"));
        assert_eq!(root.strip(Path::new("/image/etc")), Some("/etc".into()));
        assert_eq!(root.strip(Path::new("/elsewhere")), None);
    }

    #[test]
    fn the_slash_is_the_host_itself() {
        assert!(Root::at("/".into()).is_host());
        assert!(!Root::at("relative".into()).is_host());
        assert_eq!(Root::host().join(Path::new("/etc")), Path::new("/etc"));
    }

    #[test]
    fn links_are_followed_inside_the_root_and_loops_end() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path().into());
        fs_err::create_dir_all(dir.path().join("usr/bin")).unwrap();
        fs_err::write(dir.path().join("usr/bin/dash"), "").unwrap();
        symlink("usr/bin", dir.path().join("bin")).unwrap();
        symlink("/usr/bin/dash", dir.path().join("usr/bin/sh")).unwrap();
        symlink("../../../../../usr/bin/dash", dir.path().join("usr/bin/climber")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        let dash = root.join(Path::new("/usr/bin/dash"));
        assert_eq!(root.resolve(Path::new("/bin/sh")), Some(dash.clone()));
        assert_eq!(root.resolve(Path::new("/bin/climber")), Some(dash));
        assert_eq!(root.resolve(Path::new("/loop")), None);
        assert_eq!(root.resolve(Path::new("/missing")), None);
    }

    #[test]
    fn what_is_to_be_made_lies_inside_whatever_links_lead_there() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = Root::at(dir.path().into());
        fs_err::create_dir_all(dir.path().join("var/opt")).unwrap();
        symlink("var/opt", dir.path().join("opt")).unwrap();
        symlink("/srv/missing", dir.path().join("dangling")).unwrap();
        symlink(outside.path(), dir.path().join("away")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        let locate = |path: &str| root.locate(Path::new(path));
        let at = |path: &str| Some(dir.path().join(path));
        assert_eq!(locate("/opt/runner"), at("var/opt/runner"));
        assert_eq!(locate("/opt"), at("opt"), "the last part is not followed");
        assert_eq!(locate("/new/one"), at("new/one"));
        assert_eq!(locate("/dangling/runner"), at("srv/missing/runner"));
        let inside = outside.path().strip_prefix("/").unwrap().join("runner");
        assert_eq!(locate("/away/runner"), at(inside.to_str().unwrap()));
        assert_eq!(locate("/loop/runner"), None);
        assert_eq!(Root::host().locate(Path::new("/opt/runner")), Some("/opt/runner".into()));
        assert!(root.leads_out(Path::new("/away")) && !root.leads_out(Path::new("/opt")));
    }
}
