//! Turns stop signals into a cancellation token that everything waits on.

use super::Error;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Signals within this time are one request.
const ONE_REQUEST: Duration = Duration::from_millis(500);

/// The received signals. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Signals {
    stop: CancellationToken,
    again: CancellationToken,
    /// 0 means none.
    received: Arc<AtomicU8>,
    /// When the last request came.
    last: Arc<Mutex<Option<Instant>>>,
}

impl Signals {
    /// Cancelled by the first signal. Undoing steps afterwards needs a new token, because this one stays cancelled.
    #[must_use]
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Cancelled by the second signal, whose sender does not want to wait any longer.
    #[must_use]
    pub fn again(&self) -> &CancellationToken {
        &self.again
    }

    /// The number of the first signal, if there was one.
    #[must_use]
    pub fn received(&self) -> Option<u8> {
        Some(self.received.load(Ordering::Acquire)).filter(|number| *number != 0)
    }

    fn note(&self, number: u8) {
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // `timeout` signals a process, and then its group: that is one request.
        if last.is_some_and(|last| now.duration_since(last) < ONE_REQUEST) {
            return;
        }
        *last = Some(now);
        if self.received.compare_exchange(0, number, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            tracing::warn!(signal = number, "stopping");
            self.stop.cancel();
        } else {
            tracing::warn!(signal = number, "already stopping; undoing what was begun");
            self.again.cancel();
        }
    }
}

/// Receives SIGINT, SIGTERM and SIGHUP from now on (Ctrl-C on Windows), so that they do not end the process. A signal
/// that is ignored at start, like SIGHUP by `nohup`, is received too. Only within a tokio runtime.
pub fn listen() -> Result<Signals, Error> {
    let signals = Signals {
        stop: CancellationToken::new(),
        again: CancellationToken::new(),
        received: Arc::default(),
        last: Arc::default(),
    };
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        for (kind, number) in
            [(SignalKind::hangup(), 1), (SignalKind::interrupt(), 2), (SignalKind::terminate(), 15)]
        {
            let mut source = signal(kind).map_err(|source| Error::Signals { source })?;
            let signals = signals.clone();
            tokio::spawn(async move {
                while source.recv().await.is_some() {
                    signals.note(number);
                }
            });
        }
    }
    #[cfg(not(unix))]
    {
        let signals = signals.clone();
        tokio::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                signals.note(2);
            }
        });
    }
    Ok(signals)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_signal_stops_and_is_remembered() {
        let signals = listen().unwrap();
        assert_eq!(signals.received(), None);
        let us = rustix::process::getpid();
        rustix::process::kill_process(us, rustix::process::Signal::HUP).unwrap();
        signals.stop().cancelled().await;
        assert_eq!(signals.received(), Some(1));
        assert!(!signals.again().is_cancelled());
        signals.note(15);
        assert!(!signals.again().is_cancelled(), "the same request");
        *signals.last.lock().unwrap() = Instant::now().checked_sub(ONE_REQUEST);
        signals.note(15);
        assert!(signals.again().is_cancelled());
        assert_eq!(signals.received(), Some(1), "the second one changes nothing");
    }
}
