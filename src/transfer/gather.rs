//! Gathers the pieces of an archive in buffers that are used again.
//!
//! A piece from the HTTP client is a part of the client's buffer, and as long as it is kept the client needs a new one. With
//! musl, each of these is a mapping of its own: its pages have to be cleared, and unmapping it interrupts the other threads.

use bytes::Bytes;
use std::sync::mpsc::{Receiver, Sender, channel};

/// How much is gathered: each piece that is passed on wakes a thread, which takes longer than inflating a small one.
const SIZE: usize = 1 << 20;

/// Gathers pieces.
pub(super) struct Gather {
    buffer: Vec<u8>,
    /// The buffers that are not in use any more.
    used: Receiver<Vec<u8>>,
    back: Sender<Vec<u8>>,
}

impl Gather {
    pub fn new() -> Self {
        let (back, used) = channel();
        Self { buffer: Vec::new(), used, back }
    }

    /// Adds as much of the piece as there is room for.
    pub fn add(&mut self, piece: &mut Bytes) {
        if self.buffer.capacity() == 0 {
            self.buffer = self.used.try_recv().unwrap_or_else(|_| Vec::with_capacity(SIZE));
        }
        let taken = piece.split_to(piece.len().min(SIZE - self.buffer.len()));
        self.buffer.extend_from_slice(&taken);
    }

    /// Whether there is no room left.
    pub fn is_full(&self) -> bool {
        self.buffer.len() == SIZE
    }

    /// What was gathered since the last time, if that is anything.
    pub fn take(&mut self) -> Option<Bytes> {
        let bytes = std::mem::take(&mut self.buffer);
        if bytes.is_empty() {
            return None;
        }
        Some(Bytes::from_owner(Gathered { bytes, back: self.back.clone() }))
    }
}

/// Returns its buffer when nobody needs it any more.
struct Gathered {
    bytes: Vec<u8>,
    back: Sender<Vec<u8>>,
}

impl AsRef<[u8]> for Gathered {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        self.bytes.clear();
        // At the end nobody wants it.
        let _ = self.back.send(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_become_one_and_a_large_one_several_in_the_same_buffers() {
        let (mut gather, mut passed) = (Gather::new(), Vec::new());
        let whole: Vec<u8> = (0..SIZE * 3 + 5).map(|number| number.to_le_bytes()[0]).collect();
        let (small, large) = whole.split_at(SIZE / 2);
        let pieces = small.chunks(1000).chain([large]).map(Bytes::copy_from_slice);
        let mut places = Vec::new();
        for mut piece in pieces {
            while !piece.is_empty() {
                gather.add(&mut piece);
                if gather.is_full() {
                    let gathered = gather.take().unwrap();
                    assert_eq!(gathered.len(), SIZE);
                    places.push(gathered.as_ptr());
                    passed.extend_from_slice(&gathered);
                }
            }
        }
        passed.extend_from_slice(&gather.take().unwrap());
        assert_eq!(gather.take(), None);
        assert!(passed == whole, "something was lost");
        assert!(places.windows(2).all(|pair| pair[0] == pair[1]), "a buffer was not used again");
    }
}
