//! A sandbox on its own thread, for callers that are not asynchronous or that block.

use super::{Error, Options, Sandbox, start};
use std::ops::Deref;
use std::sync::mpsc;
use std::thread::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A [`Sandbox`] on its own thread. It stops when it is dropped.
#[derive(Debug)]
pub struct Background {
    sandbox: Sandbox,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// Starts a sandbox on a new thread.
pub fn spawn_in_thread(options: Options) -> Result<Background, Error> {
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let (send, receive) = mpsc::channel();
    let run = move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(source) => return drop(send.send(Err(Error::Thread { source }))),
        };
        runtime.block_on(async move {
            let mut sandbox = match start(options).await {
                Ok(sandbox) => sandbox,
                Err(error) => return drop(send.send(Err(error))),
            };
            let server = sandbox.server.take();
            // If the caller is gone, the sandbox is dropped, which stops the server.
            drop(send.send(Ok(sandbox)));
            if let Some(server) = server {
                tokio::select! {
                    _ = server => {}
                    () = stopped.cancelled() => {}
                }
            }
        });
    };
    let thread = std::thread::Builder::new()
        .name("sandbox".to_owned())
        .spawn(run)
        .map_err(|source| Error::Thread { source })?;
    let gone = |_| Error::Thread { source: std::io::Error::other("the thread ended early") };
    let sandbox = receive.recv().map_err(gone)??;
    Ok(Background { sandbox, stop, thread: Some(thread) })
}

impl Deref for Background {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        &self.sandbox
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // The runtime ends with the thread, and every connection with it.
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
