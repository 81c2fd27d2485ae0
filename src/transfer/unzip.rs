//! Reads a zip file and hands its entries to the tree. A zip file has its list at the end, so it is first written, as
//! it comes, to a file without a name, and unpacked when its digest is known to be right.

use super::error::{Error, Refusal};
use super::pipe::{Ended, Inlet, show_start};
use super::tree::{Tree, refused};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use zip::result::ZipError;
use zip::{ZipArchive, ZipReadOptions};

/// The type bits of a Unix mode.
const TYPE_MASK: u32 = 0o170_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_FOLDER: u32 = 0o040_000;
const TYPE_LINK: u32 = 0o120_000;
/// Paths are limited to 4 KiB by the system.
const LINK_LIMIT: u64 = 4096;
/// The size of the list of entries in bytes, some 100 an entry. A runner's has a few thousand entries at most.
const DIRECTORY_LIMIT: u32 = 4 << 20;

/// Writes what comes to a nameless file in `folder`.
pub(super) fn spool(mut inlet: Inlet, folder: &Path) -> Result<File, Ended> {
    let failed = |source| Ended::Failed(Error::Write { entry: "the zip file".to_owned(), source });
    let mut file = tempfile::tempfile_in(folder).map_err(failed)?;
    while let Some(piece) = inlet.next()? {
        file.write_all(&piece).map_err(failed)?;
    }
    Ok(file)
}

/// Unpacks all entries of the zip file in `file`.
pub(super) fn unzip(mut file: File, tree: &mut Tree) -> Result<(), Ended> {
    let start = check_start(&mut file)?;
    let not_zip = |source: io::Error| Error::NotZip { start: start.clone(), source: Some(source) };
    check_directory(&mut file).map_err(not_zip)?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| not_zip(error.into()))?;
    if archive.has_duplicate_names() {
        // The library keeps one of them, so it cannot say which one it was.
        return Err(refused(b"(some)", Refusal::Duplicate));
    }
    let mut after = String::new();
    for index in 0..archive.len() {
        // Refuses an entry that its own header and the list at the end describe differently.
        let options = ZipReadOptions::new().enforce_header_consistency(true);
        let name =
            archive.by_index_data(index).map_err(|error| header_error(error, &after))?.name_raw().to_vec();
        let mut entry = archive.by_index_with_options(index, options).map_err(|error| match error {
            ZipError::UnsupportedArchive(_) | ZipError::CompressionMethodNotSupported(_) => {
                refused(&name, Refusal::Stored)
            }
            error => header_error(error, &after),
        })?;
        let mode = entry.unix_mode();
        let kind = mode.map_or(0, |mode| mode & TYPE_MASK);
        let size = entry.size();
        let folder = name.ends_with(b"/");
        match kind {
            TYPE_FOLDER => tree.folder(&name, mode.unwrap_or(0o755))?,
            0 | TYPE_FILE if folder && size == 0 => {
                tree.folder(&name, mode.filter(|_| kind != 0).unwrap_or(0o755))?;
            }
            // Made on Windows, an archive has no modes; nothing in such a one is run by them.
            0 | TYPE_FILE if !folder => {
                let damaged = |source| Error::Damaged { source };
                tree.file(&name, mode.unwrap_or(0o644), size, &mut entry, damaged)?;
            }
            TYPE_LINK if !folder => {
                let mut target = Vec::new();
                entry
                    .take(LINK_LIMIT + 1)
                    .read_to_end(&mut target)
                    .map_err(|source| Error::Damaged { source })?;
                if target.len() as u64 > LINK_LIMIT {
                    return Err(refused(&name, Refusal::LinkName));
                }
                tree.link(&name, &target)?;
            }
            kind => {
                let kind = format!("of the unknown type {kind:o}");
                return Err(refused(&name, Refusal::Kind { kind }));
            }
        }
        after = String::from_utf8_lossy(&name).into_owned();
    }
    Ok(())
}

/// Refuses a list of entries that would not fit into our memory: the library reads it as a whole.
fn check_directory(file: &mut File) -> io::Result<()> {
    // The end record: signature, three counts, the list's size and place, and a comment of up to 64 KiB.
    const RECORD: usize = 22;
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(RECORD as u64 + 0xffff)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let record = tail
        .windows(RECORD)
        .rev()
        .find(|window| window.starts_with(b"PK\x05\x06"))
        .ok_or_else(|| invalid("its end record is missing"))?;
    let size = u32::from_le_bytes([record[12], record[13], record[14], record[15]]);
    if size > DIRECTORY_LIMIT { Err(invalid("its list of entries is too long")) } else { file.rewind() }
}

/// The first bytes, to be shown if the rest is not what it should be.
fn check_start(file: &mut File) -> Result<String, Error> {
    let mut start = Vec::new();
    file.rewind()
        .and_then(|()| file.take(64).read_to_end(&mut start))
        .map_err(|source| Error::NotZip { start: String::new(), source: Some(source) })?;
    if start.is_empty() {
        return Err(Error::Empty);
    }
    let shown = show_start(&start);
    if start.starts_with(b"PK") { Ok(shown) } else { Err(Error::NotZip { start: shown, source: None }) }
}

fn header_error(error: ZipError, after: &str) -> Ended {
    Error::Header { after: after.to_owned(), source: error.into() }.into()
}
