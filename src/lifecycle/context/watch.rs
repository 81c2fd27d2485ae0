//! What a watcher is told while things happen. Printing is left to the command line.

use crate::event;
use crate::host::Stream;
use crate::transfer::Progress;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Told of each phase as it begins and ends.
pub trait Watch: Send + Sync {
    /// `phase` begins.
    fn begin(&self, phase: &'static str);
    /// `phase` succeeded, having done what `detail` says.
    fn end(&self, phase: &'static str, detail: &str, elapsed: Duration);
    /// A line that `config.sh` printed, free of secrets.
    fn line(&self, stream: Stream, line: &str);
    /// A line that the listener printed, free of secrets.
    fn output(&self, stream: Stream, line: &str) {
        self.line(stream, line);
    }
    /// Where the download's progress goes.
    fn progress(&self) -> Arc<dyn Progress>;
}

/// A running phase. Dropped without [`Phase::end`], it has failed, and the error tells the rest.
pub struct Phase<'a> {
    watch: &'a dyn Watch,
    name: &'static str,
    began: Instant,
    is_done: bool,
}

impl<'a> Phase<'a> {
    /// Begins `name`.
    pub fn begin(watch: &'a dyn Watch, name: &'static str) -> Self {
        watch.begin(name);
        event::phase_begin(name);
        Self { watch, name, began: Instant::now(), is_done: false }
    }

    /// Ends it successfully.
    pub fn end(mut self, detail: impl AsRef<str>) {
        let (detail, elapsed) = (detail.as_ref(), self.began.elapsed());
        self.is_done = true;
        self.watch.end(self.name, detail, elapsed);
        event::phase_end(self.name, Some(detail), elapsed);
    }
}

impl Drop for Phase<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            event::phase_end(self.name, None, self.began.elapsed());
        }
    }
}
