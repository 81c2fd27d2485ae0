//! A response body that can be late, short, slow or endless.

use bytes::Bytes;
use http_body::Frame;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

/// What a body does next.
#[derive(Debug)]
pub(super) enum Piece {
    /// Sends this.
    Data(Bytes),
    /// Waits for this time.
    Pause(Duration),
    /// Sends nothing until the sandbox stops.
    Forever,
    /// Closes the connection.
    Fail,
}

/// A body that follows a script, piece by piece.
pub(super) struct ScriptedBody {
    pieces: VecDeque<Piece>,
    pause: Option<Pin<Box<Sleep>>>,
    stopped: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    stop: CancellationToken,
}

impl ScriptedBody {
    pub fn new(pieces: impl IntoIterator<Item = Piece>, stop: CancellationToken) -> Self {
        Self { pieces: pieces.into_iter().collect(), pause: None, stopped: None, stop }
    }
}

impl http_body::Body for ScriptedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let cut = || io::Error::new(io::ErrorKind::ConnectionAborted, "cut off by a fault of the sandbox");
        loop {
            if let Some(pause) = &mut self.pause {
                if pause.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                self.pause = None;
            }
            if let Some(stopped) = &mut self.stopped {
                if stopped.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                return Poll::Ready(Some(Err(cut())));
            }
            match self.pieces.pop_front() {
                None => return Poll::Ready(None),
                Some(Piece::Data(data)) if data.is_empty() => {}
                Some(Piece::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Piece::Pause(time)) => self.pause = Some(Box::pin(tokio::time::sleep(time))),
                Some(Piece::Forever) => {
                    self.stopped = Some(Box::pin(self.stop.clone().cancelled_owned()));
                }
                Some(Piece::Fail) => return Poll::Ready(Some(Err(cut()))),
            }
        }
    }
}
