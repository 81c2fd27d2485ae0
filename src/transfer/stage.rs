//! Runs the pipe, and decides which of several failures was the first.

use super::error::Error;
use super::gather::Gather;
use super::pipe::{Ended, Inlet, PIECES, Piece, inflate, queue};
use super::source::Feed;
use super::tree::Tree;
use super::untar::untar;
use super::unzip::{spool, unzip};
use super::{Expect, Format, Limits, Order, Progress, Sha256Digest, Source, Staged, place, space};
use crate::deadline::Deadline;
use crate::net::{Backoff, Http};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;

/// Unpacks an archive into the directory `order.staging`, which must not exist, and returns when it is verified and
/// complete. After a failure the directory is deleted, and the error is the first cause: that of the source before that
/// of the decoder, and a wrong digest before an error that the wrong bytes led to.
///
/// After a digest mismatch, a download is repeated once; if it broke off and the server cannot resume it, it is
/// repeated until `order.retry_timeout`. A cancelled `stop` ends it soon, with [`Error::Stopped`].
pub async fn stage(
    http: &Http,
    order: &Order,
    progress: Arc<dyn Progress>,
    stop: &CancellationToken,
) -> Result<Staged, Error> {
    let downloads = matches!(order.source, Source::Http { .. });
    let mut mismatched = false;
    let mut backoff = Backoff::default();
    let mut restarts_until: Option<Deadline> = None;
    loop {
        let error = match attempt(http, order, &progress, stop).await {
            Ok(staged) => return Ok(staged),
            Err(error) => error,
        };
        match &error {
            Error::DigestMismatch { .. } if downloads && !mismatched => {
                mismatched = true;
                let cause = crate::error::chain(&error);
                crate::event::retry(&cause, Duration::ZERO);
                tracing::warn!(cause, "downloading the archive once more");
            }
            Error::NotResumed { .. } => {
                let until = *restarts_until.get_or_insert_with(|| Deadline::after(order.retry_timeout));
                let wait = backoff.wait();
                if wait >= until.left() {
                    return Err(error);
                }
                let cause = crate::error::chain(&error);
                crate::event::retry(&cause, wait);
                tracing::warn!(cause, ?wait, "starting the download over");
                tokio::select! {
                    () = stop.cancelled() => return Err(Error::Stopped),
                    () = tokio::time::sleep(wait) => {}
                }
            }
            _ => return Err(error),
        }
    }
}

/// One attempt, with its own staging directory.
async fn attempt(
    http: &Http,
    order: &Order,
    progress: &Arc<dyn Progress>,
    stop: &CancellationToken,
) -> Result<Staged, Error> {
    if stop.is_cancelled() {
        return Err(Error::Stopped);
    }
    create_staging(&order.staging)?;
    let outcome = fill(http, order, progress, stop).await;
    if let Err(error) = &outcome {
        // Logged before cleaning up, which can fail or take long.
        tracing::debug!(cause = crate::error::chain(error), "staging failed");
        let staging = order.staging.clone();
        if let Ok(Err(error)) = spawn_blocking(move || place::delete(&staging)).await {
            tracing::warn!(cause = crate::error::chain(&error), "failed to delete the staging directory");
        }
    }
    outcome
}

fn create_staging(path: &Path) -> Result<(), Error> {
    create_private(path).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => Error::StagingExists { path: path.to_owned() },
        _ => Error::Staging { path: path.to_owned(), source },
    })
}

#[cfg(unix)]
fn create_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(path)
}

/// On Windows, a directory inherits the permissions of its parent.
#[cfg(not(unix))]
fn create_private(path: &Path) -> io::Result<()> {
    fs_err::create_dir(path)
}

async fn fill(
    http: &Http,
    order: &Order,
    progress: &Arc<dyn Progress>,
    stop: &CancellationToken,
) -> Result<Staged, Error> {
    let mut feed = tokio::select! {
        () = stop.cancelled() => return Err(Error::Stopped),
        feed = Feed::open(http, order) => feed?,
    };
    let total = feed.total();
    progress.total(total);
    if let Some(total) = total {
        if total > order.limits.received {
            return Err(Error::TooLong { limit: order.limits.received });
        }
        space::check(&order.staging, order.format, total)?;
    }
    let needed = space::needed(order.format, total.unwrap_or_default());
    let tree = Tree::new(order, Arc::clone(progress), stop.clone(), needed);
    let mut pump = Pump {
        feed: &mut feed,
        hash: Sha256::new(),
        received: 0,
        limit: order.limits.received,
        progress: progress.as_ref(),
        stop,
    };
    let (pieces, inlet) = mpsc::channel(PIECES);
    let inlet = Inlet::new(inlet);
    let (tree, sha256) = match order.format {
        Format::TarGz => {
            let unpacking = unpack_tar(inlet, tree, order.limits, stop);
            let (tree, sha256) = pump.through(pieces, unpacking, order.expect).await?;
            check(order.expect, sha256, pump.received, None)?;
            (tree, sha256)
        }
        Format::Zip => {
            let dir = order.staging.clone();
            let spooling = spawn_blocking(move || spool(inlet, &dir));
            let (file, sha256) = pump.through(pieces, spooling, order.expect).await?;
            check(order.expect, sha256, pump.received, None)?;
            (unpack_zip(file, tree, stop.clone()).await?, sha256)
        }
    };
    let received = pump.received;
    if !order.closed {
        tree.open_up()?;
    }
    let staged = Staged {
        path: order.staging.clone(),
        sha256,
        received,
        unpacked: tree.bytes(),
        entries: tree.entries(),
        resumed: feed.resumed(),
    };
    tracing::debug!(received, unpacked = staged.unpacked, entries = staged.entries, "staged the archive");
    Ok(staged)
}

/// Unpacks the spooled file.
async fn unpack_zip(file: File, mut tree: Tree, stop: CancellationToken) -> Result<Tree, Error> {
    let unpacked = spawn_blocking(move || {
        unzip(file, &mut tree, &stop)?;
        tree.flushed().map(|()| tree)
    });
    let unpacked = unpacked.await;
    unpacked.map_err(Error::Bug)?.map_err(|ended| match ended {
        Ended::Failed(error) => error,
        Ended::HungUp => Error::Stopped,
    })
}

/// Starts the inflating and the writing thread.
fn unpack_tar(
    inlet: Inlet,
    mut tree: Tree,
    limits: Limits,
    stop: &CancellationToken,
) -> JoinHandle<Result<Tree, Ended>> {
    let (outlet, blocks) = queue(stop);
    let inflating = spawn_blocking(move || inflate(inlet, &outlet, &limits));
    let writing = spawn_blocking(move || {
        untar(blocks, &mut tree)?;
        tree.flushed().map(|()| tree)
    });
    tokio::spawn(async move {
        let bug = |error| Ended::Failed(Error::Bug(error));
        let inflated = inflating.await.map_err(bug).flatten();
        let written = writing.await.map_err(bug).flatten();
        match (inflated, written) {
            (Ok(()), Ok(tree)) => Ok(tree),
            (Err(Ended::HungUp) | Ok(()), Err(ended)) | (Err(ended), _) => Err(ended),
        }
    })
}

/// Passes the pieces of the source to a stage, and hashes them.
struct Pump<'a, 'b> {
    feed: &'a mut Feed<'b>,
    hash: Sha256,
    received: u64,
    limit: u64,
    progress: &'a dyn Progress,
    stop: &'a CancellationToken,
}

/// Whether the stage took all of the bytes.
enum Fed {
    All,
    HungUp,
}

impl Pump<'_, '_> {
    /// Sends the source to `stage` through `pieces`, and returns the result of the stage and the digest. It does not
    /// compare the digest, unless the stage has failed because of the bytes.
    async fn through<T>(
        &mut self,
        pieces: mpsc::Sender<Piece>,
        stage: JoinHandle<Result<T, Ended>>,
        expect: Expect,
    ) -> Result<(T, Sha256Digest), Error> {
        let fed = self.run(Some(pieces)).await;
        let made = stage.await.map_err(Error::Bug)?;
        let fed = fed?;
        let error = match made {
            Ok(made) => return Ok((made, self.digest())),
            Err(Ended::Failed(error)) => error,
            // This cannot happen: its other neighbour is the source, which has not failed.
            Err(Ended::HungUp) => return Err(Error::Stopped),
        };
        if matches!(expect, Expect::Sha256(_)) && error.blames_bytes() {
            if let Fed::HungUp = fed {
                // The rest is read for the digest only. If that fails, the error of the stage came first.
                match self.run(None).await {
                    Ok(_) => {}
                    Err(Error::Stopped) => return Err(Error::Stopped),
                    Err(_) => return Err(error),
                }
            }
            let start = match &error {
                Error::NotGzip { start } => Some(start.as_str()),
                _ => None,
            };
            check(expect, self.digest(), self.received, start)?;
        }
        Err(error)
    }

    /// Reads the source to its end, and sends the pieces to `pieces`, if there is a queue.
    async fn run(&mut self, pieces: Option<mpsc::Sender<Piece>>) -> Result<Fed, Error> {
        let mut gather = Gather::new();
        loop {
            let piece = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(Error::Stopped),
                piece = self.feed.next() => piece?,
            };
            let Some(mut piece) = piece else { break };
            self.received += piece.len() as u64;
            if self.received > self.limit {
                return Err(Error::TooLong { limit: self.limit });
            }
            self.hash.update(&piece);
            self.progress.received(self.received);
            let Some(pieces) = &pieces else { continue };
            while !piece.is_empty() {
                gather.add(&mut piece);
                // A stage that waits gets what there is.
                let waits = self.feed.is_cut() || pieces.capacity() == pieces.max_capacity();
                if (gather.is_full() || waits && piece.is_empty())
                    && let Fed::HungUp = self.pass(pieces, &mut gather).await?
                {
                    return Ok(Fed::HungUp);
                }
            }
        }
        let Some(pieces) = pieces else { return Ok(Fed::All) };
        if let Fed::HungUp = self.pass(&pieces, &mut gather).await? {
            return Ok(Fed::HungUp);
        }
        let ended = pieces.send(Piece::End).await;
        Ok(if ended.is_err() { Fed::HungUp } else { Fed::All })
    }

    /// Sends what was gathered.
    async fn pass(&self, pieces: &mpsc::Sender<Piece>, gather: &mut Gather) -> Result<Fed, Error> {
        let Some(piece) = gather.take() else { return Ok(Fed::All) };
        let sent = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(Error::Stopped),
            sent = pieces.send(Piece::Data(piece)) => sent,
        };
        Ok(if sent.is_err() { Fed::HungUp } else { Fed::All })
    }

    fn digest(&self) -> Sha256Digest {
        Sha256Digest::new(self.hash.clone().finalize().into())
    }
}

fn check(expect: Expect, actual: Sha256Digest, received: u64, start: Option<&str>) -> Result<(), Error> {
    match expect {
        Expect::Sha256(expected) if expected != actual => {
            Err(Error::DigestMismatch { expected, actual, received, start: start.map(str::to_owned) })
        }
        _ => Ok(()),
    }
}
