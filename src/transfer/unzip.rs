//! Reads a zip file and hands its entries to the tree. A zip file has its list at the end, so it is first written, as
//! it comes, to a file without a name, and unpacked when its digest is known to be right.

use super::error::{Error, Refusal, shown};
use super::path::{LONGEST_NAME, check_length};
use super::pipe::{Ended, Inlet, show_start};
use super::tree::{Tree, refused};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use tokio_util::sync::CancellationToken;
use zip::result::ZipError;
use zip::{ZipArchive, ZipReadOptions};

/// The type bits of a Unix mode.
const TYPE_MASK: u32 = 0o170_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_FOLDER: u32 = 0o040_000;
const TYPE_LINK: u32 = 0o120_000;
/// Paths are limited to 4 KiB by the system.
const LINK_LIMIT: u64 = LONGEST_NAME as u64;
/// The size of the list of entries in bytes, some 100 an entry. The library holds all of it in memory.
const DIRECTORY_LIMIT: u32 = 2 << 20;
/// The most entries of a zip file, each of which takes the library some 400 bytes. A runner's has a few hundred.
const MOST_ENTRIES: u16 = 10_000;

/// Writes what comes to a nameless file in `dir`.
pub(super) fn spool(mut inlet: Inlet, dir: &Path) -> Result<File, Ended> {
    let failed = |source| Ended::Failed(Error::Write { entry: "the zip file".to_owned(), source });
    let mut file = tempfile::tempfile_in(dir).map_err(failed)?;
    while let Some(piece) = inlet.next()? {
        file.write_all(&piece).map_err(failed)?;
    }
    Ok(file)
}

/// A file that cannot be read any more once it is to stop: what the archive holds cannot keep the library at work.
struct Stoppable {
    file: File,
    stop: CancellationToken,
}

impl Read for Stoppable {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.is_cancelled() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        self.file.read(buffer)
    }
}

impl Seek for Stoppable {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Unpacks all entries of the zip file in `file`, until `stop` is cancelled.
pub(super) fn unzip(file: File, tree: &mut Tree, stop: &CancellationToken) -> Result<(), Ended> {
    match unpack(Stoppable { file, stop: stop.clone() }, tree) {
        Err(_) if stop.is_cancelled() => Err(Error::Stopped.into()),
        outcome => outcome,
    }
}

fn unpack(mut file: Stoppable, tree: &mut Tree) -> Result<(), Ended> {
    let start = check_start(&mut file)?;
    let not_zip = |source: io::Error| Error::NotZip { start: start.clone(), source: Some(source) };
    let file = BufReader::new(check_directory(file, &start)?);
    let mut archive = ZipArchive::new(file).map_err(|error| not_zip(error.into()))?;
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
        let dir = name.ends_with(b"/");
        match kind {
            TYPE_FOLDER => tree.dir(&name, mode.unwrap_or(0o755))?,
            0 | TYPE_FILE if dir && size == 0 => {
                tree.dir(&name, mode.filter(|_| kind != 0).unwrap_or(0o755))?;
            }
            // Made on Windows, an archive has no modes; nothing in such a one is run by them.
            0 | TYPE_FILE if !dir => {
                let damaged = |source| Error::Damaged { source };
                tree.file(&name, mode.unwrap_or(0o644), size, &mut entry, damaged)?;
            }
            TYPE_LINK if !dir => {
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
        after = shown(&name);
    }
    Ok(())
}

/// Refuses a list of entries that the library might read otherwise than it says, or that would not fit into our memory:
/// the library tries every end record that it finds, believes its count before its size, and holds the list as a whole.
/// So there must be one end record, at the end; the list must end where it begins; and both must agree on how many
/// entries there are.
fn check_directory(mut file: Stoppable, start: &str) -> Result<Stoppable, Ended> {
    // Signature, two disk numbers, two counts, the list's size and place, the length of a comment of up to 64 KiB.
    const RECORD: usize = 22;
    // A header of the list: signature, 24 bytes, the lengths of name, extra field and comment, 12 bytes.
    const HEADER: usize = 46;
    let failed = |source| Error::NotZip { start: start.to_owned(), source: Some(source) };
    let invalid = |what| Ended::from(failed(io::Error::new(io::ErrorKind::InvalidData, what)));
    let length = file.seek(SeekFrom::End(0)).map_err(failed)?;
    let from = length.saturating_sub(RECORD as u64 + 0xffff + 4);
    file.seek(SeekFrom::Start(from)).map_err(failed)?;
    let mut tail = Vec::new();
    file.by_ref().take(RECORD as u64 + 0xffff + 4).read_to_end(&mut tail).map_err(failed)?;
    let mut records = tail.windows(4).enumerate().filter(|(_, bytes)| *bytes == b"PK\x05\x06");
    let (Some((at, _)), None) = (records.next(), records.next()) else {
        return Err(invalid("its end record is missing, or there is more than one"));
    };
    let Some(record) = tail.get(at..at + RECORD) else { return Err(invalid("its end record is cut off")) };
    let short = |at: usize| u16::from_le_bytes([record[at], record[at + 1]]);
    let long = |at: usize| u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]]);
    let (disks, here, count) = ((short(4), short(6)), short(8), short(10));
    let (size, place, comment) = (long(12), long(16), short(20));
    let end = from + at as u64;
    if disks != (0, 0) || here != count || end + RECORD as u64 + u64::from(comment) != length {
        return Err(invalid("its end record contradicts the file"));
    }
    if count > MOST_ENTRIES || size > DIRECTORY_LIMIT {
        // In zip64 the numbers here are the largest there are, and no runner needs it.
        return Err(invalid("its list of entries is too long, or of the kind zip64"));
    }
    if u64::from(place) + u64::from(size) != end {
        return Err(invalid("its list of entries is not where its end record says"));
    }
    file.seek(SeekFrom::Start(place.into())).map_err(failed)?;
    let mut list = BufReader::new(file.by_ref().take(size.into()));
    for _ in 0..count {
        let mut header = [0; HEADER];
        list.read_exact(&mut header).map_err(failed)?;
        if !header.starts_with(b"PK\x01\x02") {
            return Err(invalid("its list of entries is damaged"));
        }
        let field = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
        let mut name = vec![0; field(28)];
        list.read_exact(&mut name).map_err(failed)?;
        check_length(&name).map_err(|refusal| refused(&name, refusal))?;
        let rest = (field(30) + field(32)) as u64;
        let skipped = io::copy(&mut list.by_ref().take(rest), &mut io::sink()).map_err(failed)?;
        if skipped != rest {
            return Err(invalid("its list of entries is cut off"));
        }
    }
    if list.read(&mut [0]).map_err(failed)? != 0 {
        return Err(invalid("its list of entries is longer than its count"));
    }
    drop(list);
    file.rewind().map_err(failed)?;
    Ok(file)
}

/// The first bytes, to be shown if the rest is not what it should be.
fn check_start(file: &mut Stoppable) -> Result<String, Error> {
    let mut start = Vec::new();
    file.rewind()
        .and_then(|()| file.by_ref().take(64).read_to_end(&mut start))
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
