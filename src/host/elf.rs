//! Reads the ELF header of a program: word size, machine, and loader.

/// How much of a file is read; headers and the loader's name are at the beginning.
pub const LIMIT: u64 = 64 * 1024;

/// What a program is built for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// 32 or 64.
    pub bits: u8,
    /// `e_machine`.
    pub machine: u16,
    /// Whether floating point numbers travel in registers; only meaningful on 32-bit ARM.
    pub hard_float: bool,
    /// The dynamic loader; `None` for a static program.
    pub loader: Option<String>,
}

pub const I386: u16 = 3;
pub const ARM: u16 = 40;
pub const X86_64: u16 = 62;
pub const AARCH64: u16 = 183;

const PT_INTERP: u32 = 3;
/// `e_flags` of 32-bit ARM: `EF_ARM_ABI_FLOAT_SOFT`.
const ARM_SOFT_FLOAT: u32 = 0x200;

/// Reads the facts from the beginning of a file; `None` if it is not an ELF program. A program whose loader's name is
/// beyond that counts as static.
pub fn parse(bytes: &[u8]) -> Option<Facts> {
    let bits = match bytes.get(..5)? {
        [0x7f, b'E', b'L', b'F', 1] => 32,
        [0x7f, b'E', b'L', b'F', 2] => 64,
        _ => return None,
    };
    let little = match bytes.get(5)? {
        1 => true,
        2 => false,
        _ => return None,
    };
    let reader = Reader { bytes, little };
    let machine = u16::try_from(reader.number(18, 2)?).ok()?;
    // The offsets of e_phoff, e_flags, e_phentsize; of p_offset and p_filesz in a program header; an address's size.
    let (phoff, flags, phentsize, p_offset, p_filesz, word) =
        if bits == 64 { (32, 48, 54, 8, 32, 8) } else { (28, 36, 42, 4, 16, 4) };
    let flags = u32::try_from(reader.number(flags, 4)?).ok()?;
    let table = reader.index(phoff, word)?;
    let entry_size = reader.index(phentsize, 2)?;
    let entries = reader.index(phentsize + 2, 2)?;
    let loader = (0..entries)
        .map_while(|entry| table.checked_add(entry_size.checked_mul(entry)?))
        .find(|header| reader.number(*header, 4) == Some(PT_INTERP.into()))
        .and_then(|header| {
            let start = reader.index(header.checked_add(p_offset)?, word)?;
            let length = reader.index(header.checked_add(p_filesz)?, word)?;
            let name = bytes.get(start..start.checked_add(length)?)?;
            let name = name.split(|byte| *byte == 0).next()?;
            String::from_utf8(name.to_vec()).ok().filter(|name| !name.is_empty())
        });
    // Not every linker sets the flag, but the loaders of the two ABIs have different names.
    let soft = flags & ARM_SOFT_FLOAT != 0
        || loader.as_deref().is_some_and(|name| name.starts_with("/lib/ld-linux.so"));
    Some(Facts { bits, machine, hard_float: machine != ARM || !soft, loader })
}

struct Reader<'a> {
    bytes: &'a [u8],
    little: bool,
}

impl Reader<'_> {
    /// The unsigned number of `size` bytes at `offset`.
    fn number(&self, offset: usize, size: usize) -> Option<u64> {
        let field = self.bytes.get(offset..offset.checked_add(size)?)?;
        let shift = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(if self.little { field.iter().rev().fold(0, shift) } else { field.iter().fold(0, shift) })
    }

    fn index(&self, offset: usize, size: usize) -> Option<usize> {
        usize::try_from(self.number(offset, size)?).ok()
    }
}

/// Builds the beginning of a program, for tests here and of the platform.
#[cfg(test)]
pub fn fixture(bits: u8, machine: u16, flags: u32, loader: Option<&str>) -> Vec<u8> {
    let wide = bits == 64;
    let mut bytes = vec![0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }, 1, 1];
    bytes.resize(16, 0);
    let word = |bytes: &mut Vec<u8>, number: u64| {
        bytes.extend_from_slice(&number.to_le_bytes()[..if wide { 8 } else { 4 }]);
    };
    let (header, entry): (u16, u16) = if wide { (64, 56) } else { (52, 32) };
    bytes.extend_from_slice(&2_u16.to_le_bytes());
    bytes.extend_from_slice(&machine.to_le_bytes());
    bytes.extend_from_slice(&1_u32.to_le_bytes());
    word(&mut bytes, 0);
    word(&mut bytes, header.into());
    word(&mut bytes, 0);
    bytes.extend_from_slice(&flags.to_le_bytes());
    for half in [header, entry, 2, 0, 0, 0] {
        bytes.extend_from_slice(&half.to_le_bytes());
    }
    let name = loader.map(|name| format!("{name}\0")).unwrap_or_default();
    let name_at = u64::from(header) + 2 * u64::from(entry);
    for (kind, offset, length) in
        [(1_u32, 0, 0), (if loader.is_some() { PT_INTERP } else { 4 }, name_at, name.len() as u64)]
    {
        bytes.extend_from_slice(&kind.to_le_bytes());
        if wide {
            bytes.extend_from_slice(&4_u32.to_le_bytes());
        }
        for number in [offset, 0, 0, length, length] {
            word(&mut bytes, number);
        }
        bytes.resize(bytes.len() + 8, 0);
    }
    bytes.extend_from_slice(name.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_word_sizes_are_read() {
        let wide = parse(&fixture(64, X86_64, 0, Some("/lib64/ld-linux-x86-64.so.2"))).unwrap();
        assert_eq!((wide.bits, wide.machine), (64, X86_64));
        assert_eq!(wide.loader.as_deref(), Some("/lib64/ld-linux-x86-64.so.2"));
        let narrow = parse(&fixture(32, ARM, 0x400, Some("/lib/ld-linux-armhf.so.3"))).unwrap();
        assert_eq!((narrow.bits, narrow.machine, narrow.hard_float), (32, ARM, true));
        assert_eq!(narrow.loader.as_deref(), Some("/lib/ld-linux-armhf.so.3"));
        assert_eq!(parse(&fixture(64, AARCH64, 0, None)).unwrap().loader, None);
    }

    #[test]
    fn soft_float_is_seen_by_flag_or_by_loader() {
        assert!(!parse(&fixture(32, ARM, 0x200, None)).unwrap().hard_float);
        assert!(!parse(&fixture(32, ARM, 0, Some("/lib/ld-linux.so.3"))).unwrap().hard_float);
        assert!(parse(&fixture(32, ARM, 0, None)).unwrap().hard_float);
    }

    #[test]
    fn cut_and_wild_bytes_are_no_panic() {
        let whole = fixture(64, X86_64, 0, Some("/lib64/ld-linux-x86-64.so.2"));
        for length in 0..whole.len() {
            let _ = parse(&whole[..length]);
        }
        for at in 4..whole.len() {
            let mut wild = whole.clone();
            wild[at] = 0xff;
            let _ = parse(&wild);
        }
        assert_eq!(parse(b"#!/bin/sh\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn our_own_program_is_what_it_was_compiled_for() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let facts = parse(&own).unwrap();
        assert_eq!(usize::from(facts.bits), usize::BITS as usize);
    }
}
