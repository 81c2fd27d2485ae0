//! Reads a tar stream and passes its entries to the tree.
//!
//! Extension headers (long names of GNU tar, attributes of pax) are read here and not by the library, which would
//! allocate as much memory as their header says.

use super::error::{Error, Refusal, shown};
use super::path::{LONGEST_NAME, check_length};
use super::pipe::{Blocks, Ended};
use super::tree::{Tree, refused};
use std::io::{self, Read};
use tar::{Archive, EntryType};

/// The largest header with pax attributes. Only two names of up to 4 KiB are used, but macOS adds extended attributes.
const PAX_LIMIT: u64 = 64 << 10;
/// The largest header with a long name of GNU tar, which ends in a NUL.
const NAME_LIMIT: u64 = LONGEST_NAME as u64 + 1;
/// The most bytes of all extension headers together. Those of a runner's archive take about 100 KiB.
const EXTENSIONS_LIMIT: u64 = 64 << 20;

/// The content of the extension headers before an entry.
#[derive(Default)]
struct Extension {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    attributes: bool,
    seen: bool,
}

/// Unpacks all entries, then reads to the end of the stream, so that the inflater verifies the checksum.
pub(super) fn untar(blocks: Blocks, tree: &mut Tree) -> Result<(), Ended> {
    let mut archive = Archive::new(blocks);
    let mut after = String::new();
    let mut extension = Extension::default();
    let mut extended: u64 = 0;
    for entry in archive.entries().map_err(|error| header_error(error, &after))?.raw(true) {
        let mut entry = entry.map_err(|error| header_error(error, &after))?;
        let kind = entry.header().entry_type();
        if is_extension(kind) {
            tree.extension()?;
            extended = extended.saturating_add(entry.size());
            if extended > EXTENSIONS_LIMIT {
                return Err(malformed("too many extension headers", &after));
            }
            extend(&mut extension, kind, &mut entry, &after)?;
            continue;
        }
        let extension = std::mem::take(&mut extension);
        let name = extension.name.unwrap_or_else(|| entry.path_bytes().into_owned());
        let mode = entry.header().mode().map_err(|error| header_error(error, &after))?;
        let size = entry.size();
        if extension.size.is_some_and(|said| said != size) {
            // Readers disagree on which size counts, so that the archive is ambiguous.
            return Err(refused(&name, Refusal::Attribute { key: "size".to_owned() }));
        }
        match kind {
            EntryType::Directory => tree.dir(&name, mode)?,
            // Before POSIX, a directory was a file whose name ends in a slash.
            EntryType::Regular if name.ends_with(b"/") && size == 0 => tree.dir(&name, mode)?,
            EntryType::Regular => tree.file(&name, mode, size, &mut entry, |error| {
                if error.kind() == io::ErrorKind::UnexpectedEof {
                    Error::Truncated { what: format!("{:?}", shown(&name)) }
                } else {
                    Error::Damaged { source: error }
                }
            })?,
            EntryType::Symlink => {
                let target = extension.link.or_else(|| entry.link_name_bytes().map(Into::into));
                tree.link(&name, &target.unwrap_or_default())?;
            }
            kind => return Err(refused(&name, Refusal::Kind { kind: describe(kind) })),
        }
        after = shown(&name);
    }
    let mut blocks = archive.into_inner();
    if extension.seen || blocks.met_end() {
        return Err(Error::Truncated { what: "the list of entries".to_owned() }.into());
    }
    drain(&mut blocks)
}

fn is_extension(kind: EntryType) -> bool {
    kind.is_gnu_longname()
        || kind.is_gnu_longlink()
        || kind.is_pax_local_extensions()
        || kind.is_pax_global_extensions()
}

fn malformed(what: &'static str, after: &str) -> Ended {
    header_error(io::Error::new(io::ErrorKind::InvalidData, what), after)
}

/// Reads an extension header. Its size is checked before any of it is read.
fn extend(
    extension: &mut Extension,
    kind: EntryType,
    entry: &mut tar::Entry<'_, impl Read>,
    after: &str,
) -> Result<(), Ended> {
    let malformed = |what| malformed(what, after);
    let mut data = extension_data(kind, entry, after)?;
    if kind.is_pax_global_extensions() {
        let pairs = pax_pairs(&data).ok_or_else(|| malformed("a malformed pax header"))?;
        // Archives created by git have a comment, which is fine; attributes that rename or resize all entries are not.
        let meddling = pairs.iter().find(|(key, _)| changes_reading(key) || is_used(key));
        return match meddling {
            Some((key, _)) => Err(refused(b"pax_global_header", Refusal::Attribute { key: shown(key) })),
            None => Ok(()),
        };
    }
    extension.seen = true;
    if kind.is_pax_local_extensions() {
        if std::mem::replace(&mut extension.attributes, true) {
            return Err(malformed("an entry has two headers with attributes"));
        }
        for (key, value) in pax_pairs(&data).ok_or_else(|| malformed("a malformed pax header"))? {
            match key {
                b"path" | b"linkpath" => {
                    check_length(value).map_err(|refusal| refused(value, refusal))?;
                    let is_name = key == b"path";
                    let slot = if is_name { &mut extension.name } else { &mut extension.link };
                    *slot = Some(value.to_vec());
                }
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    extension.size = Some(size.ok_or_else(|| malformed("a malformed size"))?);
                }
                key if changes_reading(key) => {
                    return Err(refused(after.as_bytes(), Refusal::Attribute { key: shown(key) }));
                }
                _ => {}
            }
        }
    } else {
        if data.last() == Some(&0) {
            data.pop();
        }
        let slot = if kind.is_gnu_longname() { &mut extension.name } else { &mut extension.link };
        if slot.replace(data).is_some() {
            return Err(malformed("an entry has two names"));
        }
    }
    Ok(())
}

/// The content of an extension header, whose length is limited.
fn extension_data(
    kind: EntryType,
    entry: &mut tar::Entry<'_, impl Read>,
    after: &str,
) -> Result<Vec<u8>, Ended> {
    let is_name = kind.is_gnu_longname() || kind.is_gnu_longlink();
    if is_name && entry.size() > NAME_LIMIT {
        let mut start = Vec::new();
        entry.take(NAME_LIMIT).read_to_end(&mut start).map_err(|error| header_error(error, after))?;
        return Err(refused(&start, Refusal::TooLong));
    }
    if entry.size() > PAX_LIMIT {
        return Err(malformed("an extension header is too long", after));
    }
    let mut data = Vec::new();
    entry.read_to_end(&mut data).map_err(|error| header_error(error, after))?;
    if data.len() as u64 != entry.size() {
        return Err(Error::Truncated { what: "an extension header".to_owned() }.into());
    }
    Ok(data)
}

fn is_used(key: &[u8]) -> bool {
    matches!(key, b"path" | b"linkpath" | b"size")
}

fn changes_reading(key: &[u8]) -> bool {
    key.starts_with(b"GNU.sparse.")
}

/// The pairs of a pax header: a sequence of `LENGTH KEY=VALUE\n`, where LENGTH is that of the whole record.
fn pax_pairs(mut data: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut pairs = Vec::new();
    while !data.is_empty() {
        let space = data.iter().position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(&data[..space]).ok()?.parse().ok()?;
        let record = data.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        pairs.push((&record[..equals], &record[equals + 1..]));
        data = &data[length..];
    }
    Some(pairs)
}

fn describe(kind: EntryType) -> String {
    match kind {
        EntryType::Link => "a hard link".to_owned(),
        EntryType::Char => "a character device".to_owned(),
        EntryType::Block => "a block device".to_owned(),
        EntryType::Fifo => "a named pipe".to_owned(),
        EntryType::GNUSparse => "a sparse file".to_owned(),
        kind => format!("of the unknown type {:?}", char::from(kind.as_byte())),
    }
}

fn header_error(error: io::Error, after: &str) -> Ended {
    Ended::reading(error, |source| {
        if source.kind() == io::ErrorKind::UnexpectedEof || source.to_string().contains("unexpected EOF") {
            Error::Truncated { what: "the list of entries".to_owned() }
        } else {
            Error::Header { after: after.to_owned(), source }
        }
    })
}

fn drain(blocks: &mut Blocks) -> Result<(), Ended> {
    let mut buffer = [0; 8192];
    loop {
        match blocks.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(_) => return Err(Ended::HungUp),
        }
    }
}
