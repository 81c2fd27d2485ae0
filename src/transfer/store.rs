//! The store: one verified copy of each runner, from which trees of the same parent directory are made without a
//! download, and without a second copy on the disk where hard links are possible.
//!
//! An entry `VERSION-DIGEST` has the files of an archive that was verified, and a manifest with what each of them must
//! be. It gets its name when all of it is on the disk, so a kill leaves a whole entry or litter. Only its owner can enter
//! the store. This module does not know who uses it: the caller holds the lock, and shares files only with trees that
//! belong to root.

mod compare;
mod copy;
mod manifest;
mod prints;

use super::digest::Sha256Digest;
use super::error::Error;
use super::names::{self, STORE};
use super::{Owner, place, space};
pub use compare::{Compared, Unclear};
use copy::{Means, reproduce};
use manifest::{Item, Kind, Manifest};
pub use prints::Prints;
use sha2::{Digest as _, Sha256};
use std::collections::HashSet;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// The digits of an archive's digest in the name of an entry.
const DIGITS: usize = 12;
/// Only its owner can enter it.
const MODE: u32 = 0o700;
const TREE: &str = "tree";
const MANIFEST: &str = "manifest.json";

/// The store beside a tree.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

/// A verified copy.
#[derive(Debug, Clone)]
pub struct Entry {
    path: PathBuf,
}

/// Why an entry was not used.
#[derive(Debug)]
pub enum Failed {
    /// It is not what its manifest says, which is the text.
    Damaged(String),
    /// The tree could not be written.
    Writing(Error),
}

/// What a new entry may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// It is made only of links.
    Nothing,
    /// What cannot be a link is copied.
    Space,
}

/// How a tree is made from an entry.
#[derive(Debug, Clone, Copy)]
pub struct Making {
    /// The files of the entry get another name in the tree, which must be root's. Otherwise they are copied.
    pub shares: bool,
    /// The owner of a copy; `None` is the current user.
    pub owner: Option<Owner>,
    /// Keeps the tree inaccessible to other users.
    pub closed: bool,
}

/// A tree that was made from an entry.
#[derive(Debug, Clone, Copy)]
pub struct Made {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of files that were copied.
    pub copied: u64,
}

impl Store {
    /// The store for the tree at `target`.
    #[must_use]
    pub fn beside(target: &Path) -> Self {
        Self { dir: target.with_file_name(STORE) }
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether it is there, and only its owner can enter it.
    #[must_use]
    pub fn exists(&self) -> bool {
        let ours = |meta: std::fs::Metadata| {
            meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o777 == MODE
        };
        std::fs::symlink_metadata(&self.dir).is_ok_and(ours)
    }

    /// What is in it, without litter.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        if !self.exists() {
            return Ok(Vec::new());
        }
        let mut entries = Vec::new();
        for entry in fs_err::read_dir(&self.dir)? {
            let entry = entry?;
            if !names::is_made(&entry.file_name()) {
                entries.push(Entry { path: entry.path() });
            }
        }
        entries.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(entries)
    }

    /// The entry of the archive with this digest.
    #[must_use]
    pub fn find(&self, sha256: Sha256Digest) -> Option<Entry> {
        self.entries().ok()?.into_iter().find(|entry| entry.may_be_of(&sha256.to_string()))
    }

    /// What a killed run has left in it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn litter(&self) -> Result<Vec<PathBuf>, Error> {
        if self.exists() { place::litter_of_any(&self.dir.join(TREE)) } else { Ok(Vec::new()) }
    }

    /// Deletes that.
    ///
    /// # Errors
    /// Something stays.
    pub fn sweep(&self) -> Result<(), Error> {
        self.litter()?.iter().try_for_each(|path| place::delete(path))
    }

    /// Adds the verified `tree` of the archive with this digest, which only its owner can enter. Its files get a second
    /// name where that is possible. Returns whether it was added: where it is not, it may cost nothing, nothing of it stays.
    ///
    /// # Errors
    /// Nothing of it stays.
    pub fn fill(
        &self,
        tree: &Path,
        version: Option<&str>,
        sha256: Sha256Digest,
        cost: Cost,
    ) -> Result<bool, Error> {
        let digest = sha256.to_string();
        let path = self.dir.join(format!("{}-{}", version.unwrap_or("unknown"), &digest[..DIGITS]));
        let staging = place::staging_path(&path);
        let failed = |source| Error::Staging { path: path.clone(), source };
        create_private(&self.dir).or_else(|error| if self.exists() { Ok(()) } else { Err(failed(error)) })?;
        place::delete(&staging)?;
        let fill = || {
            create_private(&staging)?;
            let Some(items) = take_in(tree, &staging.join(TREE), cost)? else { return Ok(false) };
            let bytes = serde_json::to_vec(&Manifest { sha256: digest, items }).map_err(io::Error::other)?;
            fs_err::write(staging.join(MANIFEST), bytes)?;
            Ok(true)
        };
        let filled = fill().map_err(failed).and_then(|is_filled| {
            if is_filled {
                place::commit(&staging, &path)?;
            }
            Ok(is_filled)
        });
        if !matches!(filled, Ok(true))
            && let Err(error) = place::delete(&staging)
        {
            tracing::warn!("{}", crate::error::chain(&error));
        }
        filled
    }

    /// Deletes all of it, and what an earlier attempt has left beside it.
    ///
    /// # Errors
    /// Something stays.
    pub fn clear(&self) -> Result<(), Error> {
        place::sweep(&self.dir)?;
        place::remove(&self.dir)
    }
}

impl Entry {
    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is of the archive with this digest, as far as its name tells.
    #[must_use]
    pub fn may_be_of(&self, sha256: &str) -> bool {
        let name = self.path.file_name().and_then(|name| name.to_str());
        let digits = name.and_then(|name| name.rsplit_once('-')).map(|(_, digits)| digits);
        digits.is_some_and(|digits| digits.len() == DIGITS && sha256.starts_with(digits))
    }

    /// The version of its runner, by its name.
    #[must_use]
    pub fn version(&self) -> String {
        let name = self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.rsplit_once('-').map_or_else(|| name.clone(), |(version, _)| version.to_owned())
    }

    /// The bytes of its files, by its manifest; 0 if that is damaged.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.manifest().map_or(0, |manifest| manifest.items.iter().map(Item::size).sum())
    }

    /// Makes a tree of it in the new directory `staging`. What the files are is compared with the manifest, but for
    /// their content.
    ///
    /// # Errors
    /// Nothing is left at `staging`.
    pub fn make(&self, sha256: Sha256Digest, staging: &Path, making: Making) -> Result<Made, Failed> {
        let manifest = self.manifest_of(sha256)?;
        let made = self.write(&manifest, staging, making);
        if made.is_err()
            && let Err(error) = place::delete(staging)
        {
            tracing::warn!("{}", crate::error::chain(&error));
        }
        made
    }

    fn write(&self, manifest: &Manifest, staging: &Path, making: Making) -> Result<Made, Failed> {
        let tree = self.path.join(TREE);
        let bytes: u64 = manifest.items.iter().map(Item::size).sum();
        let failed = |source| Failed::Writing(space::full(staging, bytes, source));
        create_private(staging).map_err(failed)?;
        let mut means = if making.shares { Means::Link } else { Means::Copy(making.owner) };
        let mut made = Made { entries: 0, copied: 0 };
        for item in &manifest.items {
            item.check(&tree.join(&item.path)).map_err(Failed::Damaged)?;
            match reproduce(&tree, item, staging, &mut means) {
                Ok(copied) => made.copied += copied,
                // The disk may be unable to read it.
                Err(source) => {
                    self.verify()?;
                    return Err(failed(source));
                }
            }
            made.entries += 1;
        }
        if !making.closed {
            copy::open_up(staging, making.owner).map_err(failed)?;
        }
        Ok(made)
    }

    /// Compares all of it with the manifest, the content of the files too; returns their number.
    ///
    /// # Errors
    /// The first difference.
    pub fn verify(&self) -> Result<usize, Failed> {
        let manifest = self.manifest()?;
        let tree = self.path.join(TREE);
        let unreadable = |error: io::Error| Failed::Damaged(error.to_string());
        for item in &manifest.items {
            let path = tree.join(&item.path);
            item.check(&path).map_err(Failed::Damaged)?;
            if let Kind::File { sha256, .. } = &item.kind
                && *sha256 != hash(&path).map_err(unreadable)?
            {
                return Err(Failed::Damaged(format!("the content of {} has changed", path.display())));
            }
        }
        let known: HashSet<&Path> = manifest.items.iter().map(|item| item.path.as_path()).collect();
        let found = walk(&tree).map_err(unreadable)?;
        if let Some(extra) = found.iter().find(|path| !known.contains(path.as_path())) {
            return Err(Failed::Damaged(format!("{} is not of the archive", tree.join(extra).display())));
        }
        Ok(manifest.items.len())
    }

    /// Deletes it.
    ///
    /// # Errors
    /// Something stays.
    pub fn delete(&self) -> Result<(), Error> {
        place::remove(&self.path)
    }

    /// The manifest, if it is of the archive with this digest.
    fn manifest_of(&self, sha256: Sha256Digest) -> Result<Manifest, Failed> {
        let manifest = self.manifest()?;
        if manifest.sha256 != sha256.to_string() {
            return Err(Failed::Damaged(format!("it is of the archive {}", manifest.sha256)));
        }
        Ok(manifest)
    }

    fn manifest(&self) -> Result<Manifest, Failed> {
        let path = self.path.join(MANIFEST);
        let bytes = fs_err::read(&path).map_err(|error| Failed::Damaged(error.to_string()))?;
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|error| Failed::Damaged(format!("{} is damaged: {error}", path.display())))?;
        match manifest.items.iter().find(|item| !item.is_below()) {
            Some(odd) => Err(Failed::Damaged(format!("{} names {}", path.display(), odd.path.display()))),
            None => Ok(manifest),
        }
    }
}

/// Reproduces the tree in `to`, and describes it; `None` if it would cost more than it may.
fn take_in(tree: &Path, to: &Path, cost: Cost) -> io::Result<Option<Vec<Item>>> {
    create_private(to)?;
    let mut means = Means::Link;
    let mut items = Vec::new();
    for path in walk(tree)? {
        let kept = Item::of(tree, &path, String::new())?;
        reproduce(tree, &kept, to, &mut means)?;
        if cost == Cost::Nothing && !matches!(means, Means::Link) {
            return Ok(None);
        }
        let sha256 = if let Kind::File { .. } = kept.kind { hash(&to.join(&path))? } else { String::new() };
        items.push(Item::of(to, &path, sha256)?);
    }
    Ok(Some(items))
}

/// The relative paths of what is below the directory, each after its parent.
fn walk(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut paths, mut next) = (Vec::new(), 0);
    let mut parent = PathBuf::new();
    loop {
        for entry in fs_err::read_dir(dir.join(&parent))? {
            paths.push(parent.join(entry?.file_name()));
        }
        loop {
            let Some(path) = paths.get(next) else { return Ok(paths) };
            next += 1;
            if std::fs::symlink_metadata(dir.join(path))?.is_dir() {
                parent.clone_from(path);
                break;
            }
        }
    }
}

fn hash(path: &Path) -> io::Result<String> {
    let mut file = fs_err::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(hex::encode(hash.finalize())),
            amount => hash.update(&buffer[..amount]),
        }
    }
}

fn create_private(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().mode(MODE).create(path)
}

#[cfg(test)]
mod tests;
