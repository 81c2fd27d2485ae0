//! Undoes a compression of the transfer that nobody asked for.
//!
//! A middlebox can compress whatever passes it, with `Content-Encoding: gzip`. A server can also say that of each file
//! whose name ends in `.gz`, without having compressed it again. The first bytes tell the two apart.

use super::Format;
use bytes::{Bytes, BytesMut};
use flate2::write::MultiGzDecoder;
use std::io::Write as _;

/// How much is decoded at once: it may grow a thousand times.
const STEP: usize = 4 << 10;

/// An archive begins within this many bytes of a body that was compressed.
const MOST_UNDECIDED: usize = 64 << 10;

/// What is done with the pieces of a body.
pub(super) struct Coding {
    decoder: Option<MultiGzDecoder<Vec<u8>>>,
    /// How an archive of the format begins.
    magic: &'static [u8],
    /// All that came so far, until the first decoded bytes tell what it is.
    undecided: Option<BytesMut>,
    waiting: Bytes,
}

impl Coding {
    pub fn new(is_gzip: bool, format: Format) -> Self {
        let magic: &[u8] = match format {
            Format::TarGz => &[0x1f, 0x8b],
            Format::Zip => b"PK",
        };
        Self {
            decoder: is_gzip.then(|| MultiGzDecoder::new(Vec::new())),
            magic,
            undecided: is_gzip.then(BytesMut::new),
            waiting: Bytes::new(),
        }
    }

    /// Whether the body is decoded, as far as that is known.
    pub fn is_on(&self) -> bool {
        self.decoder.is_some()
    }

    /// Takes a piece of the body, after all of the last one was handed out.
    pub fn put(&mut self, piece: Bytes) {
        self.waiting = piece;
    }

    /// The next bytes of the archive; `None` if another piece of the body is needed.
    pub fn next(&mut self) -> Option<Bytes> {
        while !self.waiting.is_empty() {
            let Some(decoder) = &mut self.decoder else { return Some(std::mem::take(&mut self.waiting)) };
            let step = self.waiting.split_to(self.waiting.len().min(STEP));
            let works = decoder.write_all(&step).and_then(|()| decoder.flush()).is_ok();
            if let Some(seen) = &mut self.undecided {
                seen.extend_from_slice(&step);
                let enough = decoder.get_ref().len() >= self.magic.len() || seen.len() > MOST_UNDECIDED;
                if enough || !works {
                    self.decide();
                }
                continue;
            }
            if !works {
                // What is missing then fails the digest, or the archive.
                self.waiting = Bytes::new();
                return None;
            }
            if let Some(decoded) = self.decoded() {
                return Some(decoded);
            }
        }
        self.decoded()
    }

    /// What is left after the last piece.
    pub fn end(&mut self) -> Option<Bytes> {
        if self.undecided.is_some() {
            self.decide();
            return self.next();
        }
        // An error is one of the last bytes, which are missing then.
        let _ = self.decoder.as_mut()?.try_finish();
        self.decoded()
    }

    /// Believes that the body was compressed if what it holds is an archive; otherwise it is the archive.
    fn decide(&mut self) {
        let Some(mut seen) = self.undecided.take() else { return };
        if self.decoder.as_ref().is_some_and(|decoder| decoder.get_ref().starts_with(self.magic)) {
            tracing::info!("the archive was compressed again on its way, and is decompressed");
            return;
        }
        self.decoder = None;
        seen.extend_from_slice(&self.waiting);
        self.waiting = seen.freeze();
    }

    /// What is decoded, once it is known that it is the archive.
    fn decoded(&mut self) -> Option<Bytes> {
        if self.undecided.is_some() {
            return None;
        }
        let decoded = std::mem::take(self.decoder.as_mut()?.get_mut());
        (!decoded.is_empty()).then(|| decoded.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// What comes out of a body that arrives in pieces of this size, and the largest piece that does.
    fn through(body: &[u8], size: usize, format: Format) -> (Vec<u8>, usize) {
        let mut coding = Coding::new(true, format);
        let (mut all, mut largest) = (Vec::new(), 0);
        let mut take = |piece: Bytes| {
            largest = largest.max(piece.len());
            all.extend_from_slice(&piece);
        };
        for piece in body.chunks(size) {
            coding.put(Bytes::copy_from_slice(piece));
            while let Some(piece) = coding.next() {
                take(piece);
            }
        }
        coding.end().into_iter().for_each(take);
        (all, largest)
    }

    #[test]
    fn the_pieces_of_a_body_make_no_difference() {
        let archive = gzip(b"an archive");
        let members = [gzip(&archive[..1]), gzip(&archive[1..])].concat();
        let zip = b"PK\x03\x04 and more".to_vec();
        for size in 1..=200 {
            assert_eq!(through(&gzip(&archive), size, Format::TarGz).0, archive, "compressed, {size}");
            assert_eq!(through(&members, size, Format::TarGz).0, archive, "two members, {size}");
            assert_eq!(through(&archive, size, Format::TarGz).0, archive, "as it is, {size}");
            assert_eq!(through(&gzip(&zip), size, Format::Zip).0, zip, "compressed, {size}");
            assert_eq!(through(&zip, size, Format::Zip).0, zip, "as it is, {size}");
        }
    }

    #[test]
    fn what_grows_a_thousand_times_comes_in_pieces() {
        let mut bomb = vec![0x1f, 0x8b];
        bomb.resize(64 << 20, 0);
        let (all, largest) = through(&gzip(&bomb), 1 << 20, Format::TarGz);
        assert!(all == bomb, "{} of {}", all.len(), bomb.len());
        assert!(largest < 10 << 20, "{largest}");
    }

    /// A header, and then empty blocks without end.
    #[test]
    fn what_tells_nothing_is_not_kept() {
        let mut endless = gzip(b"")[..10].to_vec();
        endless.extend([0, 0, 0, 0xff, 0xff].repeat(100_000));
        let mut coding = Coding::new(true, Format::TarGz);
        for piece in endless.chunks(1000) {
            coding.put(Bytes::copy_from_slice(piece));
            while coding.next().is_some() {}
            assert!(coding.undecided.as_ref().is_none_or(|seen| seen.len() <= MOST_UNDECIDED + STEP));
        }
        assert!(!coding.is_on());
    }
}
