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
            if let Some(seen) = &mut self.undecided {
                seen.extend_from_slice(&step);
            }
            let works = decoder.write_all(&step).and_then(|()| decoder.flush()).is_ok();
            let enough = decoder.get_ref().len() >= self.magic.len();
            if self.undecided.is_some() && (enough || !works) {
                self.decide();
                continue;
            }
            if !works {
                // What is missing then fails the digest, or the archive.
                self.waiting = Bytes::new();
                return None;
            }
            if self.undecided.is_none()
                && let Some(decoded) = self.decoded()
            {
                return Some(decoded);
            }
        }
        self.decoded().filter(|_| self.undecided.is_none())
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

    fn decoded(&mut self) -> Option<Bytes> {
        let decoded = std::mem::take(self.decoder.as_mut()?.get_mut());
        (!decoded.is_empty()).then(|| decoded.into())
    }
}
