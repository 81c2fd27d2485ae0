//! Reads an archive from a file or a server, one piece at a time.

use super::coding::Coding;
use super::download::Download;
use super::error::Error;
use super::{Order, Source};
use crate::net::Http;
use bytes::{Bytes, BytesMut};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

const FILE_PIECE: usize = 256 << 10;

/// An archive that is being read.
pub(super) enum Feed<'a> {
    File(LocalFile),
    Http(Box<Download<'a>>, Box<Coding>),
    #[cfg(any(test, fuzzing))]
    Pieces(std::vec::IntoIter<Bytes>),
}

impl<'a> Feed<'a> {
    /// Opens a file, or connects to a server.
    pub async fn open(http: &'a Http, order: &'a Order) -> Result<Self, Error> {
        match &order.source {
            Source::File(path) => Ok(Self::File(LocalFile::open(path)?)),
            Source::Http { url, bearer } => {
                let verified = order.expect != super::Expect::Unverified;
                let mut download = Download::new(http, url, bearer.as_ref(), order.retry_timeout, verified);
                download.connect().await?;
                download.limit = order.limits.received;
                let coding = Coding::new(download.compressed, order.format);
                Ok(Self::Http(Box::new(download), Box::new(coding)))
            }
            #[cfg(any(test, fuzzing))]
            Source::Pieces(pieces) => Ok(Self::Pieces(pieces.clone().into_iter())),
        }
    }

    /// The length of the archive, if it is known.
    pub fn total(&self) -> Option<u64> {
        match self {
            Self::File(file) => Some(file.length),
            Self::Http(download, _) => download.total(),
            #[cfg(any(test, fuzzing))]
            Self::Pieces(_) => None,
        }
    }

    /// Whether each piece is passed on as it is: tests cut the archive where they want the pieces to end.
    pub fn is_cut(&self) -> bool {
        match self {
            Self::File(_) | Self::Http(..) => false,
            #[cfg(any(test, fuzzing))]
            Self::Pieces(_) => true,
        }
    }

    /// How often a broken download was resumed.
    pub fn resumed(&self) -> u32 {
        match self {
            Self::File(_) => 0,
            Self::Http(download, _) => download.resumed(),
            #[cfg(any(test, fuzzing))]
            Self::Pieces(_) => 0,
        }
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        match self {
            Self::File(file) => file.next().await,
            Self::Http(download, coding) => loop {
                if let Some(piece) = coding.next() {
                    return Ok(Some(piece));
                }
                download.compressed &= coding.is_on();
                let Some(piece) = download.next().await? else { return Ok(coding.end()) };
                coding.put(piece);
            },
            #[cfg(any(test, fuzzing))]
            Self::Pieces(pieces) => Ok(pieces.next()),
        }
    }
}

/// A file on this machine.
pub(super) struct LocalFile {
    path: PathBuf,
    file: Option<fs_err::File>,
    length: u64,
    /// Is used again once the piece is not needed any more.
    buffer: BytesMut,
}

impl LocalFile {
    fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::File { path: path.to_owned(), source };
        // Checked before opening, because opening a named pipe waits for a writer.
        if !fs_err::metadata(path).map_err(failed)?.is_file() {
            return Err(Error::NotAFile { path: path.to_owned() });
        }
        let file = fs_err::File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        Ok(Self { path: path.to_owned(), file: Some(file), length, buffer: BytesMut::new() })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(file) = self.file.take() else { return Ok(None) };
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = move || {
            let piece = read_piece(&file, &mut buffer)?;
            Ok((file, buffer, piece))
        };
        let read = tokio::task::spawn_blocking(read).await.map_err(Error::Bug)?;
        let (file, buffer, piece) = read.map_err(|source| Error::File { path: self.path.clone(), source })?;
        self.buffer = buffer;
        self.file = (!piece.is_empty()).then_some(file);
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }
}

fn read_piece(mut file: &fs_err::File, buffer: &mut BytesMut) -> io::Result<Bytes> {
    buffer.resize(FILE_PIECE, 0);
    let length = file.read(buffer)?;
    Ok(buffer.split_to(length).freeze())
}
