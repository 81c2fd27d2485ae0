//! Compares a tree with the entry that it was made from, by metadata alone, and puts back what differs.
//!
//! Between two jobs there is time for one look at each file, and none for its content. A file that the tree shares with
//! the store is the same file, and has the size and time that the manifest says; a copy has the size, mode and owner.

use super::copy::{Means, reproduce};
use super::manifest::{Item, Kind, Manifest};
use super::{Entry, Failed, Prints, TREE, hash, place, space};
use crate::transfer::Sha256Digest;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

/// Why a tree was not compared.
#[derive(Debug)]
pub enum Unclear {
    /// The entry is not what its manifest says, which is the text.
    Damaged(String),
    /// The tree cannot be read.
    Unreadable(io::Error),
    /// It took too long.
    GivenUp,
}

/// A tree and the entry that it was made from.
#[derive(Debug)]
pub struct Compared {
    /// What differs, below the tree.
    pub different: Vec<PathBuf>,
    /// Read once: it is large.
    manifest: Manifest,
}

impl Compared {
    /// What the `tree` is like now, for a look that tells sooner whether something has changed; `None` if that is not
    /// possible here.
    #[must_use]
    pub fn prints(self, sha256: Sha256Digest, tree: &Path) -> Option<Prints> {
        Prints::of(self.manifest, sha256, tree)
    }
}

impl Entry {
    /// What differs in the `tree` that was made from this entry, relative to it: missing, another kind, size, mode, owner
    /// or target, not the same file, or not of the entry. At the top, only what is of the entry counts. Once `given_up`
    /// returns true, it ends. Only on Linux.
    ///
    /// # Errors
    /// That is not known.
    pub fn compare(
        &self,
        sha256: Sha256Digest,
        tree: &Path,
        given_up: &dyn Fn() -> bool,
    ) -> Result<Compared, Unclear> {
        let manifest = self.manifest_of(sha256).map_err(|failed| match failed {
            Failed::Damaged(what) => Unclear::Damaged(what),
            Failed::Writing(error) => Unclear::Unreadable(io::Error::other(error)),
        })?;
        #[cfg(target_os = "linux")]
        return linux::compare(&manifest, &self.path.join(TREE), tree, given_up)
            .map(|different| Compared { different, manifest });
        #[cfg(not(target_os = "linux"))]
        {
            let _ = (manifest, tree, given_up);
            Err(Unclear::Unreadable(io::ErrorKind::Unsupported.into()))
        }
    }

    /// Puts owners, modes and times right where the content is as it should be: somebody may have changed those of a tree
    /// that shares the files.
    ///
    /// # Errors
    /// Something else has changed.
    pub fn mend(&self, sha256: Sha256Digest) -> Result<(), Failed> {
        let manifest = self.manifest_of(sha256)?;
        for item in &manifest.items {
            let path = self.path.join(TREE).join(&item.path);
            let Err(what) = item.check(&path) else { continue };
            let damaged = |_| Failed::Damaged(what.clone());
            if let Kind::File { size, sha256, .. } = &item.kind {
                let meta = fs_err::symlink_metadata(&path).map_err(damaged)?;
                let is_same = meta.is_file() && meta.len() == *size;
                if !is_same || hash(&path).map_err(damaged)? != *sha256 {
                    return Err(Failed::Damaged(what));
                }
            }
            item.put_right(&path).map_err(damaged)?;
            item.check(&path).map_err(Failed::Damaged)?;
        }
        Ok(())
    }

    /// Makes these parts of the `tree` as the entry has them, and deletes those that it does not have. No process that
    /// could change the tree may run.
    ///
    /// # Errors
    /// Some of them may be missing then.
    pub fn restore(&self, sha256: Sha256Digest, tree: &Path, different: &[PathBuf]) -> Result<(), Failed> {
        let manifest = self.manifest_of(sha256)?;
        let items: HashMap<&Path, &Item> =
            manifest.items.iter().map(|item| (item.path.as_path(), item)).collect();
        let mut wanted = HashSet::new();
        for path in different {
            let there = tree.join(path);
            match items.get(path.as_path()) {
                // What is in it is listed for itself, and may have something that stays.
                Some(item @ Item { kind: Kind::Dir, .. }) if is_dir(&there) => item
                    .put_right(&there)
                    .map_err(|source| Failed::Writing(space::full(tree, item.size(), source)))?,
                _ => {
                    place::delete(&there).map_err(Failed::Writing)?;
                    wanted.insert(path.as_path());
                }
            }
        }
        let (from, mut means) = (self.path.join(TREE), Means::Link);
        for item in &manifest.items {
            if item.path.ancestors().any(|path| wanted.contains(path)) {
                item.check(&from.join(&item.path)).map_err(Failed::Damaged)?;
                reproduce(&from, item, tree, &mut means)
                    .map_err(|source| Failed::Writing(space::full(tree, item.size(), source)))?;
            }
        }
        Ok(())
    }
}

/// A link to one is none.
fn is_dir(path: &Path) -> bool {
    fs_err::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

#[cfg(target_os = "linux")]
mod linux {
    use super::{Path, PathBuf, Unclear};
    use crate::transfer::store::manifest::{Item, Kind, Manifest};
    use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
    use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Statx, StatxFlags};
    use rustix::io::Errno;
    use std::collections::{HashMap, HashSet};
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    const DIRECTORY: OFlags =
        OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

    /// From this number of names on, a filesystem may refuse one more, and then a file is a copy among links.
    const MANY_NAMES: u32 = 30_000;

    struct Comparison<'a> {
        tree: OwnedFd,
        store: OwnedFd,
        different: Vec<PathBuf>,
        /// Directories that are not read yet.
        open: Vec<&'a Path>,
        /// Files that could be the store's own, and are not.
        copies: Vec<&'a Path>,
        /// Whether a file is the store's own.
        shares: bool,
    }

    pub fn compare(
        manifest: &Manifest,
        store: &Path,
        tree: &Path,
        given_up: &dyn Fn() -> bool,
    ) -> Result<Vec<PathBuf>, Unclear> {
        let items: HashMap<&Path, &[Item]> = manifest
            .items
            .chunk_by(|one, next| one.path.parent() == next.path.parent())
            .filter_map(|items| Some((items.first()?.path.parent()?, items)))
            .collect();
        let open = |path| rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty());
        let mut all = Comparison {
            tree: open(tree).map_err(unreadable)?,
            store: open(store).map_err(|error| Unclear::Damaged(error.to_string()))?,
            different: Vec::new(),
            open: vec![Path::new("")],
            copies: Vec::new(),
            shares: false,
        };
        while let Some(path) = all.open.pop() {
            if given_up() {
                return Err(Unclear::GivenUp);
            }
            all.directory(path, items.get(path).copied().unwrap_or_default())?;
        }
        if all.shares {
            all.different.extend(all.copies.into_iter().map(Path::to_owned));
        }
        Ok(all.different)
    }

    impl<'a> Comparison<'a> {
        /// The directories above it are real ones: each was looked at before what is in it.
        fn directory(&mut self, path: &'a Path, items: &'a [Item]) -> Result<(), Unclear> {
            let is_top = path.as_os_str().is_empty();
            let path_here = if is_top { Path::new(".") } else { path };
            let here = rustix::fs::openat(&self.tree, path_here, DIRECTORY, Mode::empty());
            let here = here.map_err(unreadable)?;
            let there = rustix::fs::openat(&self.store, path_here, DIRECTORY, Mode::empty());
            let there = there.map_err(|error| damaged(path, &error.to_string()))?;
            let mut found = 0;
            for item in items {
                let name = item.path.file_name().unwrap_or_default();
                let Some(stat) = look(here.as_fd(), name).map_err(unreadable)? else {
                    self.different.push(item.path.clone());
                    continue;
                };
                found += 1;
                if !self.is_same(item, name, &stat, here.as_fd(), there.as_fd())? {
                    self.different.push(item.path.clone());
                }
                // Also one with another mode or owner.
                if matches!(item.kind, Kind::Dir) && is_directory(&stat) {
                    self.open.push(&item.path);
                }
            }
            if is_top { Ok(()) } else { self.others(here, path, items, found) }
        }

        fn is_same(
            &mut self,
            item: &'a Item,
            name: &OsStr,
            stat: &Statx,
            here: BorrowedFd<'_>,
            there: BorrowedFd<'_>,
        ) -> Result<bool, Unclear> {
            match &item.kind {
                Kind::Dir => Ok(item.fits(stat, true)),
                Kind::Link { target } => {
                    let found = || rustix::fs::readlinkat(here, name, Vec::new()).map_err(unreadable);
                    Ok(item.fits(stat, true) && found()?.as_bytes() == target.as_os_str().as_bytes())
                }
                Kind::File { .. } => {
                    let kept = look(there, name).map_err(|error| damaged(&item.path, &error.to_string()))?;
                    let Some(kept) = kept.filter(|kept| item.fits(kept, false)) else {
                        return Err(damaged(&item.path, "it has changed"));
                    };
                    if inode(&kept) == inode(stat) {
                        self.shares = true;
                        return Ok(true);
                    }
                    let fits = item.fits(stat, true);
                    if fits && kept.stx_nlink < MANY_NAMES {
                        self.copies.push(&item.path);
                    }
                    Ok(fits)
                }
            }
        }

        /// Finds what the entry does not have, if the directory has more than was `found`.
        fn others(
            &mut self,
            here: OwnedFd,
            path: &Path,
            items: &[Item],
            found: usize,
        ) -> Result<(), Unclear> {
            let mut names = Vec::new();
            let mut entries = Dir::new(here).map_err(unreadable)?;
            while let Some(entry) = entries.read() {
                let entry = entry.map_err(unreadable)?;
                let name = entry.file_name().to_bytes();
                if !matches!(name, b"." | b"..") {
                    names.push(OsStr::from_bytes(name).to_owned());
                }
            }
            if names.len() > found {
                let known: HashSet<&OsStr> = items.iter().filter_map(|item| item.path.file_name()).collect();
                let others = names.iter().filter(|name| !known.contains(name.as_os_str()));
                self.different.extend(others.map(|name| path.join(name)));
            }
            Ok(())
        }
    }

    /// A link is not followed.
    fn look(dir: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<Option<Statx>> {
        match rustix::fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS) {
            Err(Errno::NOENT) => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    fn is_directory(stat: &Statx) -> bool {
        FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory
    }

    fn inode(stat: &Statx) -> (u64, u32, u32) {
        (stat.stx_ino, stat.stx_dev_major, stat.stx_dev_minor)
    }

    fn unreadable(error: Errno) -> Unclear {
        Unclear::Unreadable(error.into())
    }

    fn damaged(path: &Path, what: &str) -> Unclear {
        Unclear::Damaged(format!("{}: {what}", path.display()))
    }
}
