//! The archives of the seven platforms, built on request. The same platform and version always result in the same
//! bytes.

use super::layout::{Entry, Kind, entries};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::{self, Cursor, Write};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use tar::{EntryType, Header};
use zip::write::SimpleFileOptions;

/// A platform with a runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Platform {
    /// As in the file name, `linux-x64`.
    pub id: &'static str,
    /// As in the REST API, `linux`.
    pub os: &'static str,
    /// As in the REST API, `x64`.
    pub architecture: &'static str,
}

impl Platform {
    pub const ALL: [Self; 7] = [
        Self { id: "linux-x64", os: "linux", architecture: "x64" },
        Self { id: "linux-arm64", os: "linux", architecture: "arm64" },
        Self { id: "linux-arm", os: "linux", architecture: "arm" },
        Self { id: "osx-x64", os: "osx", architecture: "x64" },
        Self { id: "osx-arm64", os: "osx", architecture: "arm64" },
        Self { id: "win-x64", os: "win", architecture: "x64" },
        Self { id: "win-arm64", os: "win", architecture: "arm64" },
    ];
}

/// One archive.
#[derive(Debug)]
pub(super) struct Archive {
    pub filename: String,
    pub zipped: bool,
    pub bytes: Bytes,
    /// In hex.
    pub sha256: String,
}

/// The archives of one server.
pub(super) struct Archives {
    require_libicu: bool,
}

/// What an archive depends on: its platform and version, and whether its runner requires libicu.
type Key = (Platform, String, bool);

/// Those that were built so far, of all servers of this process.
static BUILT: LazyLock<Mutex<HashMap<Key, Arc<Archive>>>> = LazyLock::new(Mutex::default);

/// The owner in GitHub's archives, which an installer must not restore.
const BUILD_USER: u64 = 1001;
/// 2026-01-01, for every file.
const BUILD_TIME: u64 = 1_767_225_600;

impl Archives {
    pub fn new(require_libicu: bool) -> Self {
        Self { require_libicu }
    }

    /// The archive of this platform and version.
    pub fn get(&self, platform: Platform, version: &str) -> Arc<Archive> {
        let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
        let archive = built
            .entry((platform, version.to_owned(), self.require_libicu))
            .or_insert_with(|| Arc::new(build(platform, version, self.require_libicu)));
        Arc::clone(archive)
    }
}

fn build(platform: Platform, version: &str, require_libicu: bool) -> Archive {
    let entries = entries(platform, version, require_libicu);
    let zipped = platform.os == "win";
    let bytes = if zipped { zip_of(&entries) } else { tar_gz_of(&entries) };
    let bytes = Bytes::from(bytes.expect("writing to memory does not fail, and every name is short"));
    let form = if zipped { "zip" } else { "tar.gz" };
    Archive {
        filename: format!("actions-runner-{}-{version}.{form}", platform.id),
        sha256: hex::encode(Sha256::digest(&bytes)),
        zipped,
        bytes,
    }
}

/// A tar file like that of `tar -czf` for a directory: every name starts with `./`, and the directory itself comes
/// first.
fn tar_gz_of(entries: &[Entry]) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    append(&mut tar, "./", &Entry { path: String::new(), kind: Kind::Directory, executable: true })?;
    for entry in entries {
        let slash = if matches!(entry.kind, Kind::Directory) { "/" } else { "" };
        append(&mut tar, &format!("./{}{slash}", entry.path), entry)?;
    }
    tar.into_inner()?.finish()
}

fn append<W: Write>(tar: &mut tar::Builder<W>, name: &str, entry: &Entry) -> io::Result<()> {
    let mut header = Header::new_ustar();
    // `set_path` would remove the leading `./`, which an unpacker must support.
    let field = &mut header.as_old_mut().name;
    let length = name.len().min(field.len());
    field[..length].copy_from_slice(&name.as_bytes()[..length]);
    header.set_uid(BUILD_USER);
    header.set_gid(BUILD_USER);
    header.set_username("runner")?;
    header.set_groupname("runner")?;
    header.set_mtime(BUILD_TIME);
    header.set_mode(if entry.executable { 0o755 } else { 0o644 });
    let content: &[u8] = match &entry.kind {
        Kind::Directory => {
            header.set_entry_type(EntryType::Directory);
            &[]
        }
        Kind::Link(target) => {
            header.set_entry_type(EntryType::Symlink);
            header.set_link_name_literal(target)?;
            header.set_mode(0o777);
            &[]
        }
        Kind::File(content) => {
            header.set_entry_type(EntryType::Regular);
            content
        }
    };
    header.set_size(content.len() as u64);
    header.set_cksum();
    tar.append(&header, content)
}

/// A zip file like that of .NET's `ZipFile.CreateFromDirectory`: without modes and links.
fn zip_of(entries: &[Entry]) -> io::Result<Vec<u8>> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for entry in entries {
        if let Kind::File(content) = &entry.kind {
            zip.start_file(entry.path.as_str(), SimpleFileOptions::default())?;
            zip.write_all(content)?;
        }
    }
    Ok(zip.finish()?.into_inner())
}
