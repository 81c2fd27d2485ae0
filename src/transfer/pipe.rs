//! The queues between the three stages, and the inflating stage in the middle.
//!
//! Each end notices when the other is gone. A stage whose neighbour is gone reports nothing, because the neighbour
//! reports the cause.

use super::Limits;
use super::error::Error;
use bytes::Bytes;
use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, Read};
use std::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How many pieces of the archive can wait for the inflater.
pub(super) const PIECES: usize = 2;
/// The number of buffers for inflated data, each in use by one of the two threads or waiting between them.
const BUFFERS: usize = 4;
/// Each that is passed on wakes the other thread, which takes longer than filling a small one.
const BUFFER_SIZE: usize = 1 << 20;
/// Below this many bytes the ratio is not meaningful.
const RATIO_FROM: u64 = 64 << 20;

/// Why a stage ends early.
#[derive(Debug)]
pub(super) enum Ended {
    /// A neighbour is gone.
    HungUp,
    /// It failed.
    Failed(Error),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Ended {
    /// Classifies a failed read: either a neighbour is gone, or the error is that of `otherwise`.
    pub fn reading(error: io::Error, otherwise: impl FnOnce(io::Error) -> Error) -> Self {
        let hung_up = error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Gone>);
        if hung_up { Self::HungUp } else { Self::Failed(otherwise(error)) }
    }
}

/// Marks an [`io::Error`] that means that the other end of a queue is gone.
#[derive(Debug, thiserror::Error)]
#[error("the other end is gone")]
struct Gone;

fn gone() -> io::Error {
    io::Error::other(Gone)
}

/// What the source sends to the next stage.
pub(super) enum Piece {
    /// Bytes as received.
    Data(Bytes),
    /// The end of the archive. If it is missing, the source has failed.
    End,
}

/// The receiving end of the source's queue.
pub(super) struct Inlet {
    pieces: tokio::sync::mpsc::Receiver<Piece>,
    piece: Bytes,
    ended: bool,
    taken: u64,
}

impl Inlet {
    pub fn new(pieces: tokio::sync::mpsc::Receiver<Piece>) -> Self {
        Self { pieces, piece: Bytes::new(), ended: false, taken: 0 }
    }

    /// The next piece, `None` at the end.
    pub fn next(&mut self) -> Result<Option<Bytes>, Ended> {
        match self.fill_buf() {
            Ok([]) => Ok(None),
            Ok(_) => Ok(Some(std::mem::take(&mut self.piece))),
            Err(_) => Err(Ended::HungUp),
        }
    }
}

impl BufRead for Inlet {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.piece.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Data(piece)) => self.piece = piece,
                Some(Piece::End) => self.ended = true,
                None => return Err(gone()),
            }
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, amount: usize) {
        bytes::Buf::advance(&mut self.piece, amount);
        self.taken += amount as u64;
    }
}

impl Read for Inlet {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let amount = available.len().min(buffer.len());
        buffer[..amount].copy_from_slice(&available[..amount]);
        self.consume(amount);
        Ok(amount)
    }
}

enum Block {
    Data(Vec<u8>, usize),
    End,
}

/// The sending end of the inflated data. Buffers come back from the other end, which bounds their number.
pub(super) struct Outlet {
    full: mpsc::Sender<Block>,
    empty: mpsc::Receiver<Vec<u8>>,
    stop: CancellationToken,
}

/// The receiving end of the inflated data.
pub(super) struct Blocks {
    full: mpsc::Receiver<Block>,
    empty: mpsc::Sender<Vec<u8>>,
    block: Vec<u8>,
    at: usize,
    length: usize,
    ended: bool,
    stop: CancellationToken,
}

/// The queue between the inflater and the unpacker. Once `stop` is cancelled, neither end gets another buffer, so that
/// no archive can keep either of them running.
pub(super) fn queue(stop: &CancellationToken) -> (Outlet, Blocks) {
    let (full_in, full_out) = mpsc::channel();
    let (empty_in, empty_out) = mpsc::channel();
    for _ in 0..BUFFERS {
        empty_in.send(Vec::new()).expect("the receiver is in scope");
    }
    let blocks = Blocks {
        full: full_out,
        empty: empty_in,
        block: Vec::new(),
        at: 0,
        length: 0,
        ended: false,
        stop: stop.clone(),
    };
    (Outlet { full: full_in, empty: empty_out, stop: stop.clone() }, blocks)
}

impl Outlet {
    fn buffer(&self) -> Result<Vec<u8>, Ended> {
        let mut buffer = self.empty.recv().map_err(|_| Ended::HungUp)?;
        if self.stop.is_cancelled() {
            return Err(Error::Stopped.into());
        }
        // Allocated on first use, because a small archive does not need all of them.
        buffer.resize(BUFFER_SIZE, 0);
        Ok(buffer)
    }

    fn send(&self, block: Block) -> Result<(), Ended> {
        self.full.send(block).map_err(|_| Ended::HungUp)
    }
}

impl Blocks {
    /// Whether the end was reached; a complete tar stream has its own end marker before it.
    pub fn met_end(&self) -> bool {
        self.ended
    }
}

impl Read for Blocks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.length && !self.ended {
            let used = std::mem::take(&mut self.block);
            (self.at, self.length) = (0, 0);
            if !used.is_empty() {
                // The send fails once the inflater is done, which needs no buffers any more.
                let _ = self.empty.send(used);
            }
            if self.stop.is_cancelled() {
                return Err(gone());
            }
            match self.full.recv().map_err(|_| gone())? {
                Block::Data(block, length) => (self.block, self.at, self.length) = (block, 0, length),
                Block::End => self.ended = true,
            }
        }
        let amount = buffer.len().min(self.length - self.at);
        buffer[..amount].copy_from_slice(&self.block[self.at..self.at + amount]);
        self.at += amount;
        Ok(amount)
    }
}

/// Inflates a single gzip member to its end, which must also be the end of the archive.
pub(super) fn inflate(mut inlet: Inlet, outlet: &Outlet, limits: &Limits) -> Result<(), Ended> {
    let start = inlet.fill_buf().map_err(|_| Ended::HungUp)?;
    if start.is_empty() {
        return Err(Error::Empty.into());
    }
    // The first piece can be a single byte.
    if start[0] != 0x1f || start.get(1).is_some_and(|second| *second != 0x8b) {
        return Err(Error::NotGzip { start: show_start(start) }.into());
    }
    // The archive's headers and padding come in addition to the bytes of its files.
    let ceiling = limits.bytes.saturating_add(limits.entries.saturating_mul(2048));
    let mut decoder = GzDecoder::new(inlet);
    let mut inflated: u64 = 0;
    loop {
        let mut buffer = outlet.buffer()?;
        let mut length = 0;
        while length < buffer.len() {
            match decoder.read(&mut buffer[length..]) {
                Ok(0) => break,
                Ok(amount) => length += amount,
                Err(error) => return Err(Ended::reading(error, damaged)),
            }
        }
        inflated += length as u64;
        let packed = decoder.get_ref().taken;
        if inflated > ceiling {
            return Err(Error::TooManyBytes { limit: limits.bytes }.into());
        }
        if inflated > RATIO_FROM && inflated > packed.saturating_mul(limits.ratio) {
            return Err(Error::Bomb { packed, unpacked: inflated }.into());
        }
        let full = length == buffer.len();
        if length > 0 {
            outlet.send(Block::Data(buffer, length))?;
        }
        if !full {
            break;
        }
    }
    let mut inlet = decoder.into_inner();
    let rest = inlet.fill_buf().map_err(|_| Ended::HungUp)?;
    if !rest.is_empty() {
        return Err(Error::Trailing.into());
    }
    outlet.send(Block::End)
}

fn damaged(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        Error::Truncated { what: "the compressed data".to_owned() }
    } else {
        Error::Damaged { source: error }
    }
}

/// The first bytes as text, with dots for what cannot be printed.
pub(super) fn show_start(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(60)];
    let shown = String::from_utf8_lossy(start);
    shown.chars().map(|c| if c.is_control() || c == char::REPLACEMENT_CHARACTER { '.' } else { c }).collect()
}
