//! Reads a zip file and passes its entries to the tree. A zip file has its list of entries at the end, so it is first
//! written to a temporary file without a name, and unpacked after its digest was verified.

use super::error::{Error, Refusal, shown};
use super::path::{LONGEST_NAME, check_length};
use super::pipe::{Ended, Inlet, show_start};
use super::tree::{Tree, refused};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use tokio_util::sync::CancellationToken;
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive, ZipReadOptions};

/// The type bits of a Unix mode.
const TYPE_MASK: u32 = 0o170_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_DIR: u32 = 0o040_000;
const TYPE_LINK: u32 = 0o120_000;
/// The system limits paths to 4 KiB.
const LINK_LIMIT: u64 = LONGEST_NAME as u64;
/// The largest list of entries in bytes, about 100 per entry. The library holds all of it in memory.
const DIRECTORY_LIMIT: u32 = 2 << 20;
/// The most entries of a zip file, for each of which the library takes about 400 bytes. A runner's has a few hundred.
const MOST_ENTRIES: u16 = 10_000;
const OVERLAP: &str = "its entries overlap, or are not where its list says";

/// Writes the archive to a temporary file without a name in `dir`.
pub(super) fn spool(mut inlet: Inlet, dir: &Path) -> Result<File, Ended> {
    let failed = |source| Ended::Failed(Error::Write { entry: "the zip file".to_owned(), source });
    let mut file = tempfile::tempfile_in(dir).map_err(failed)?;
    while let Some(piece) = inlet.next()? {
        file.write_all(&piece).map_err(failed)?;
    }
    Ok(file)
}

/// A file whose reads fail once `stop` is cancelled, so that no archive can keep the library running.
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

/// Unpacks all entries of the zip file in `file`, unless `stop` is cancelled.
pub(super) fn unzip(file: File, tree: &mut Tree, stop: &CancellationToken) -> Result<(), Ended> {
    match unpack(Stoppable { file, stop: stop.clone() }, tree) {
        Err(_) if stop.is_cancelled() => Err(Error::Stopped.into()),
        outcome => outcome,
    }
}

fn unpack(mut file: Stoppable, tree: &mut Tree) -> Result<(), Ended> {
    let start = check_start(&mut file)?;
    let not_zip = |source: io::Error| Error::NotZip { start: start.clone(), source: Some(source) };
    let (file, places) = check_directory(file, &start)?;
    let file = BufReader::new(file);
    let mut archive = ZipArchive::new(file).map_err(|error| not_zip(error.into()))?;
    if archive.has_duplicate_names() {
        // The library keeps one of the two, and does not tell their name.
        return Err(refused(b"(some)", Refusal::Duplicate));
    }
    let mut after = String::new();
    for index in 0..archive.len() {
        // Refuses an entry whose own header differs from the list at the end.
        let options = ZipReadOptions::new().enforce_header_consistency(true);
        let name =
            archive.by_index_data(index).map_err(|error| header_error(error, &after))?.name_raw().to_vec();
        let mut entry = archive.by_index_with_options(index, options).map_err(|error| match error {
            ZipError::UnsupportedArchive(_) | ZipError::CompressionMethodNotSupported(_) => {
                refused(&name, Refusal::Stored)
            }
            error => header_error(error, &after),
        })?;
        // Others open, and fail when they are read.
        if !matches!(entry.compression(), CompressionMethod::Stored | CompressionMethod::Deflated) {
            return Err(refused(&name, Refusal::Stored));
        }
        // Only its own header has the length of what is between the two.
        let ends = entry.data_start().and_then(|data| data.checked_add(entry.compressed_size()));
        let next = places.get(places.partition_point(|place| *place <= entry.header_start()));
        if !matches!((ends, next), (Some(ends), Some(next)) if ends <= *next) {
            return Err(not_zip(io::Error::new(io::ErrorKind::InvalidData, OVERLAP)).into());
        }
        let mode = entry.unix_mode();
        let kind = mode.map_or(0, |mode| mode & TYPE_MASK);
        let size = entry.size();
        let dir = name.ends_with(b"/");
        match kind {
            TYPE_DIR => tree.dir(&name, mode.unwrap_or(0o755))?,
            0 | TYPE_FILE if dir && size == 0 => {
                tree.dir(&name, mode.filter(|_| kind != 0).unwrap_or(0o755))?;
            }
            // An archive created on Windows has no modes, and does not need them.
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

/// Refuses a list of entries that the library could read differently from what the end record says, or that needs too
/// much memory: the library tries every end record that it finds, trusts its count more than its size, and holds the
/// whole list in memory. Therefore there must be exactly one end record, at the end; the list must end where the end
/// record begins; and both must agree on the number of entries. Returns the file, and what [`check_list`] does.
fn check_directory(mut file: Stoppable, start: &str) -> Result<(Stoppable, Vec<u64>), Ended> {
    // Signature, two disk numbers, two counts, the list's size and offset, the length of a comment of up to 64 KiB.
    const RECORD: usize = 22;
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
        // In zip64 these numbers have their largest value; no runner needs zip64.
        return Err(invalid("its list of entries is too long, or in zip64 format"));
    }
    if u64::from(place) + u64::from(size) != end {
        return Err(invalid("its list of entries is not at the offset in its end record"));
    }
    file.seek(SeekFrom::Start(place.into())).map_err(failed)?;
    let list = BufReader::new(file.by_ref().take(size.into()));
    let places = check_list(list, count, place.into(), start)?;
    file.rewind().map_err(failed)?;
    Ok((file, places))
}

/// Reads the list of `count` entries, which begins at `place`. No two entries may share bytes: a few bytes could otherwise be
/// unpacked as often as there are entries. Returns where the entries are, in order, and the list after them: each must end
/// before the next one, which takes its own header to know for sure.
fn check_list(mut list: impl Read, count: u16, place: u64, start: &str) -> Result<Vec<u64>, Ended> {
    // Signature, 24 bytes, the lengths of name, extra field and comment, 8 bytes, the entry's place.
    const HEADER: usize = 46;
    // An entry's own header, without its name and extra field.
    const OWN_HEADER: u64 = 30;
    let failed = |source| Error::NotZip { start: start.to_owned(), source: Some(source) };
    let invalid = |what| Ended::from(failed(io::Error::new(io::ErrorKind::InvalidData, what)));
    let mut taken = Vec::new();
    for _ in 0..count {
        let mut header = [0; HEADER];
        list.read_exact(&mut header).map_err(failed)?;
        if !header.starts_with(b"PK\x01\x02") {
            return Err(invalid("its list of entries is damaged"));
        }
        let field = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
        let long = |at: usize| field(at) as u64 | (field(at + 2) as u64) << 16;
        let mut name = vec![0; field(28)];
        list.read_exact(&mut name).map_err(failed)?;
        check_length(&name).map_err(|refusal| refused(&name, refusal))?;
        let rest = (field(30) + field(32)) as u64;
        let skipped = io::copy(&mut list.by_ref().take(rest), &mut io::sink()).map_err(failed)?;
        if skipped != rest {
            return Err(invalid("its list of entries is cut off"));
        }
        taken.push((long(42), long(42) + OWN_HEADER + name.len() as u64 + long(20)));
    }
    if list.read(&mut [0]).map_err(failed)? != 0 {
        return Err(invalid("its list of entries is longer than its count says"));
    }
    taken.sort_unstable();
    let places: Vec<u64> = taken.iter().map(|(from, _)| *from).chain([place]).collect();
    if taken.iter().zip(&places[1..]).any(|((_, to), next)| to > next) {
        return Err(invalid(OVERLAP));
    }
    Ok(places)
}

/// The first bytes, which errors show.
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
