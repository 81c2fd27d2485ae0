//! Writes the entries of an archive below the staging directory, under one policy for all archives: an entry that it
//! does not allow refuses the whole archive.
//!
//! The staging directory has mode 0700 meanwhile, so that no other user can change what was unpacked.

use super::error::{Error, Refusal, shown};
use super::flush::Flush;
use super::path::{entry_path, link_target};
use super::pipe::Ended;
use super::{Limits, Order, Owner, Progress};
use crate::host;
use fs_err::{File, OpenOptions};
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The mode bits that entries keep: a runner needs no setuid, setgid, sticky or group and other write bits.
const MODE_MASK: u32 = 0o755;
/// The mode of directories that the archive does not mention.
const DIR_MODE: u32 = 0o755;
const BUFFER_SIZE: usize = 256 << 10;

/// The tree that an archive is unpacked to.
pub(super) struct Tree {
    root: PathBuf,
    root_mode: u32,
    owner: Option<Owner>,
    limits: Limits,
    stop: CancellationToken,
    progress: Arc<dyn Progress>,
    /// The directories created so far, by a keyed hash of their path to save memory, and whether the archive has an
    /// entry for them. If two paths collide, the filesystem still refuses what is not possible.
    dirs: HashMap<u64, bool>,
    hasher: RandomState,
    buffer: Vec<u8>,
    entries: u64,
    extensions: u64,
    bytes: u64,
    needed: u64,
    flush: Flush,
}

impl Tree {
    /// A tree in the empty directory `order.staging`, which needs about `needed` bytes (0 if unknown).
    pub fn new(order: &Order, progress: Arc<dyn Progress>, stop: CancellationToken, needed: u64) -> Self {
        Self {
            root: order.staging.clone(),
            root_mode: DIR_MODE,
            owner: order.owner,
            limits: order.limits,
            stop,
            progress,
            dirs: HashMap::new(),
            hasher: RandomState::new(),
            buffer: vec![0; BUFFER_SIZE],
            entries: 0,
            extensions: 0,
            bytes: 0,
            needed,
            flush: Flush::new(&order.staging, order.limits.unsynced),
        }
    }

    /// Entries so far.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Bytes of files so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a directory.
    pub fn dir(&mut self, name: &[u8], mode: u32) -> Result<(), Ended> {
        let path = self.begin(name)?;
        let mode = mode & MODE_MASK | 0o700;
        if path.as_os_str().is_empty() {
            self.root_mode = mode;
            return Ok(());
        }
        self.create_parent(name, &path)?;
        let key = self.hasher.hash_one(&path);
        match self.dirs.get_mut(&key) {
            Some(mentioned) if *mentioned => return Err(refused(name, Refusal::Duplicate)),
            Some(mentioned) => *mentioned = true,
            None => self.create_dir(name, &path, true)?,
        }
        // Directories are created with the default mode.
        if mode != DIR_MODE {
            set_dir_mode(&self.root.join(&path), mode).map_err(|source| self.write_error(name, source))?;
        }
        Ok(())
    }

    /// Adds a file of `size` bytes, which `contents` must yield exactly; `unreadable` makes the error if reading
    /// `contents` fails.
    pub fn file(
        &mut self,
        name: &[u8],
        mode: u32,
        size: u64,
        contents: &mut impl Read,
        unreadable: impl FnOnce(io::Error) -> Error,
    ) -> Result<(), Ended> {
        let path = self.begin(name)?;
        if path.as_os_str().is_empty() {
            return Err(refused(name, Refusal::Root));
        }
        // Checked before anything is written, because the header has the size.
        if self.bytes.saturating_add(size) > self.limits.bytes {
            return Err(Error::TooManyBytes { limit: self.limits.bytes }.into());
        }
        self.create_parent(name, &path)?;
        let mut file = match create(&self.root.join(&path)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(refused(name, Refusal::Duplicate));
            }
            Err(source) => return Err(self.write_error(name, source)),
        };
        let mut written = 0;
        loop {
            let amount = match contents.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(amount) => amount,
                Err(error) => return Err(Ended::reading(error, unreadable)),
            };
            written += amount as u64;
            if written > size {
                return Err(Error::Damaged { source: longer_than_it_says() }.into());
            }
            if let Err(source) = file.write_all(&self.buffer[..amount]) {
                return Err(self.write_error(name, source));
            }
            self.bytes += amount as u64;
            let path = &self.root;
            self.flush.written(self.bytes).map_err(|source| Error::Sync { path: path.clone(), source })?;
            self.progress.unpacked(self.entries, self.bytes);
            if self.stop.is_cancelled() {
                return Err(Error::Stopped.into());
            }
        }
        if written < size {
            return Err(Error::Truncated { what: format!("{:?}", shown(name)) }.into());
        }
        finish_file(&file, mode & MODE_MASK, self.owner).map_err(|source| self.write_error(name, source))
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, name: &[u8], target: &[u8]) -> Result<(), Ended> {
        let path = self.begin(name)?;
        if path.as_os_str().is_empty() {
            return Err(refused(name, Refusal::Root));
        }
        let target = link_target(&path, target).map_err(|refusal| refused(name, refusal))?;
        self.create_parent(name, &path)?;
        match symlink(&target, &self.root.join(&path), self.owner) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(refused(name, Refusal::Duplicate))
            }
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                Err(refused(name, Refusal::Kind { kind: "a symbolic link".to_owned() }))
            }
            Err(source) => Err(self.write_error(name, source)),
        }
    }

    /// Gives the staging directory its final mode and owner. Only for a verified tree, because from then on other users
    /// can read it.
    pub fn open_up(&self) -> Result<(), Error> {
        finish_dir(&self.root, self.root_mode, self.owner)
            .map_err(|source| Error::Staging { path: self.root.clone(), source })
    }

    /// Waits for what is being written to the disk, which need not be all of it.
    pub fn flushed(&mut self) -> Result<(), Ended> {
        let (path, stop) = (&self.root, &self.stop);
        let is_over = self.flush.finish(&|| stop.is_cancelled());
        let is_over = is_over.map_err(|source| Error::Sync { path: path.clone(), source })?;
        if is_over { Ok(()) } else { Err(Error::Stopped.into()) }
    }

    /// Counts an extension header, so that an archive of extension headers only is limited too.
    pub fn extension(&mut self) -> Result<(), Ended> {
        if self.stop.is_cancelled() {
            return Err(Error::Stopped.into());
        }
        self.extensions += 1;
        // An entry can have three: a long name, a long target and attributes.
        if self.extensions > self.limits.entries.saturating_mul(3) {
            return Err(Error::TooManyEntries { limit: self.limits.entries }.into());
        }
        Ok(())
    }

    /// Counts an entry and checks its name.
    fn begin(&mut self, name: &[u8]) -> Result<PathBuf, Ended> {
        if self.stop.is_cancelled() {
            return Err(Error::Stopped.into());
        }
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(Error::TooManyEntries { limit: self.limits.entries }.into());
        }
        self.progress.unpacked(self.entries, self.bytes);
        entry_path(name).map_err(|refusal| refused(name, refusal))
    }

    /// Ensures that the parent of `path` is a directory created by this tree: not an existing one, and not a link.
    fn create_parent(&mut self, name: &[u8], path: &Path) -> Result<(), Ended> {
        let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
            return Ok(());
        };
        if self.dirs.contains_key(&self.hasher.hash_one(parent)) {
            return Ok(());
        }
        // There are at most as many as a name may have components.
        let mut missing: Vec<&Path> = Vec::new();
        for ancestor in parent.ancestors().filter(|ancestor| !ancestor.as_os_str().is_empty()) {
            if self.dirs.contains_key(&self.hasher.hash_one(ancestor)) {
                break;
            }
            missing.push(ancestor);
        }
        for dir in missing.into_iter().rev() {
            self.entries += 1;
            if self.entries > self.limits.entries {
                return Err(Error::TooManyEntries { limit: self.limits.entries }.into());
            }
            self.create_dir(name, dir, false)?;
        }
        Ok(())
    }

    fn create_dir(&mut self, name: &[u8], path: &Path, mentioned: bool) -> Result<(), Ended> {
        let full = self.root.join(path);
        let created = fs_err::create_dir(&full).and_then(|()| finish_dir(&full, DIR_MODE, self.owner));
        match created {
            Ok(()) => {
                self.dirs.insert(self.hasher.hash_one(path), mentioned);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let refusal = if mentioned { Refusal::Duplicate } else { Refusal::NotInDirectory };
                Err(refused(name, refusal))
            }
            Err(source) => Err(self.write_error(name, source)),
        }
    }

    fn write_error(&self, name: &[u8], source: io::Error) -> Ended {
        let full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let error = match host::free_space(&self.root).ok().filter(|_| full) {
            Some(free) => {
                let (path, free) = (self.root.clone(), free.saturating_add(self.bytes));
                if self.needed > free {
                    Error::DiskFull { path, free, needed: self.needed, source: Some(source) }
                } else {
                    Error::NoMoreFiles { path, free, source }
                }
            }
            None => Error::Write { entry: shown(name), source },
        };
        Ended::Failed(error)
    }
}

/// Refuses the archive for the entry `name`.
pub(super) fn refused(name: &[u8], refusal: Refusal) -> Ended {
    Ended::Failed(Error::refused(shown(name), refusal))
}

fn longer_than_it_says() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "an entry is longer than its header says")
}

/// Creates a file that must not exist; no link is followed, and nothing is replaced.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    fs_err::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(unix)]
fn finish_file(file: &File, mode: u32, owner: Option<Owner>) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    // The owner is set first, because changing it can clear bits of the mode.
    if let Some(Owner { uid, gid }) = owner {
        std::os::unix::fs::fchown(file.file(), Some(uid), Some(gid))?;
    }
    // Set after creation, so that the umask does not apply.
    file.set_permissions(std::fs::Permissions::from_mode(mode))
}

#[cfg(unix)]
fn finish_dir(path: &Path, mode: u32, owner: Option<Owner>) -> io::Result<()> {
    if let Some(Owner { uid, gid }) = owner {
        fs_err::os::unix::fs::lchown(path, Some(uid), Some(gid))?;
    }
    set_dir_mode(path, mode)
}

#[cfg(unix)]
fn set_dir_mode(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path, owner: Option<Owner>) -> io::Result<()> {
    fs_err::os::unix::fs::symlink(target, link)?;
    match owner {
        Some(Owner { uid, gid }) => fs_err::os::unix::fs::lchown(link, Some(uid), Some(gid)),
        None => Ok(()),
    }
}

// On Windows, the archive's modes have no meaning, and creating links takes a privilege; its runner archives have none.

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
fn finish_file(_file: &File, _mode: u32, _owner: Option<Owner>) -> io::Result<()> {
    Ok(())
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
fn finish_dir(_path: &Path, _mode: u32, _owner: Option<Owner>) -> io::Result<()> {
    Ok(())
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
fn set_dir_mode(_path: &Path, _mode: u32) -> io::Result<()> {
    Ok(())
}

#[cfg(not(unix))]
fn symlink(_target: &Path, _link: &Path, _owner: Option<Owner>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
