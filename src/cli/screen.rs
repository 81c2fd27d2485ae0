//! The terminal or pipe: phases, and the progress of the download.

use super::flood::Flood;
use super::log::PHASE;
use super::visible;
use crate::host::Stream;
use crate::lifecycle::Watch;
use crate::secret;
use crate::settings::flags::{Common, LogFormat};
use crate::transfer::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::borrow::Cow;
use std::io::{IsTerminal as _, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the progress of a download is logged to a pipe.
const NOW_AND_THEN: Duration = Duration::from_secs(10);
/// The bytes that the JSON object around a logged line takes.
const JSON_FRAME: u64 = 192;

/// Lets progress and log share stderr without breaking each other's lines.
pub(super) struct Screen {
    draw: bool,
    /// stdout is for one document.
    json: bool,
    log_json: bool,
    bar: Mutex<Option<ProgressBar>>,
    phases: Mutex<Vec<Done>>,
    /// What `config.sh` prints, and what the listener does.
    scripts: Mutex<Flood>,
    listener: Mutex<Flood>,
}

/// A phase that succeeded.
#[derive(Debug, Clone, serde::Serialize)]
pub(super) struct Done {
    /// Its name.
    pub phase: &'static str,
    /// What it did.
    pub detail: String,
    /// How long it took.
    pub seconds: f64,
}

impl Screen {
    /// A progress bar is drawn on a terminal only, and not with `--quiet`.
    pub(super) fn new(common: &Common) -> Arc<Self> {
        let draw = std::io::stderr().is_terminal() && !common.quiet && common.log_format == LogFormat::Text;
        let now = Instant::now();
        let log_json = common.log_format == LogFormat::Json;
        Arc::new(Self {
            draw,
            json: common.json,
            log_json,
            bar: Mutex::new(None),
            phases: Mutex::new(Vec::new()),
            scripts: Mutex::new(Flood::new(if log_json { JSON_FRAME } else { 32 }, now)),
            listener: Mutex::new(Flood::new(1, now)),
        })
    }

    /// Whether stdout is for one JSON document.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Clears the progress bar, and logs what was left out of a child's output.
    pub(super) fn clear(&self) {
        if let Some(left_out) = lock(&self.scripts).left_out() {
            tracing::debug!("config.sh: {left_out}");
        }
        if let Some(left_out) = lock(&self.listener).left_out() {
            tracing::warn!("the listener: {left_out}");
        }
        if let Some(bar) = self.bar().take() {
            bar.finish_and_clear();
        }
    }

    /// Every phase that has succeeded so far.
    #[cfg(feature = "sandbox")]
    pub(super) fn phases(&self) -> Vec<Done> {
        self.phases.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A writer for one line of log.
    pub(super) fn line(self: &Arc<Self>) -> Line {
        Line(Arc::clone(self))
    }

    /// Logs a warning from where nothing can be traced.
    pub(super) fn warn(self: &Arc<Self>, message: &str) {
        let line = if self.log_json {
            let timestamp = jiff::Timestamp::now().to_string();
            serde_json::json!({ "timestamp": timestamp, "level": "WARN", "message": message }).to_string()
        } else {
            format!("warning: {}", visible::message(message))
        };
        // As for the log itself, there is no other place to report a failure to.
        let _ = self.line().write_all(format!("{line}\n").as_bytes());
    }

    fn bar(&self) -> std::sync::MutexGuard<'_, Option<ProgressBar>> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes above the bar.
pub(super) struct Line(Arc<Screen>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // One whole event. What is in it was made visible as text; as JSON it is now.
        let event = String::from_utf8_lossy(bytes);
        let marked = secret::mask(&event);
        let marked = secret::scrub(&marked);
        let shown = if self.0.log_json { Cow::Owned(visible::event(&marked)) } else { marked };
        let bar = self.0.bar().clone();
        match bar {
            Some(bar) => bar.suspend(|| std::io::stderr().write_all(shown.as_bytes()))?,
            None => std::io::stderr().write_all(shown.as_bytes())?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

impl Watch for Arc<Screen> {
    fn begin(&self, phase: &'static str) {
        tracing::debug!(phase, "begin");
    }

    fn end(&self, phase: &'static str, detail: &str, elapsed: Duration) {
        self.clear();
        let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(target: PHASE, phase, milliseconds, detail);
        let done = Done { phase, detail: detail.to_owned(), seconds: elapsed.as_secs_f64() };
        self.phases.lock().unwrap_or_else(PoisonError::into_inner).push(done);
    }

    fn line(&self, stream: Stream, line: &str) {
        let mut flood = lock(&self.scripts);
        if flood.admits(line.len(), Instant::now()) {
            if let Some(left_out) = flood.left_out() {
                tracing::debug!("config.sh: {left_out}");
            }
            tracing::debug!(?stream, "config.sh: {line}");
        }
    }

    fn output(&self, stream: Stream, line: &str) {
        let mut flood = lock(&self.listener);
        if !flood.admits(line.len(), Instant::now()) {
            return;
        }
        if let Some(left_out) = flood.left_out() {
            tracing::warn!("the listener: {left_out}");
        }
        drop(flood);
        let line = format!("{}\n", visible::lines(&secret::scrub(line)));
        // If the reader has exited, the runner continues.
        let _ = match stream {
            Stream::Out if !self.json => {
                std::io::stdout().write_all(line.as_bytes()).and_then(|()| std::io::stdout().flush())
            }
            _ => std::io::stderr().write_all(line.as_bytes()),
        };
    }

    fn progress(&self) -> Arc<dyn Progress> {
        Arc::new(Download {
            screen: Arc::clone(self),
            total: AtomicU64::new(0),
            received: AtomicU64::new(0),
            said: Mutex::new(Instant::now()),
        })
    }
}

struct Download {
    screen: Arc<Screen>,
    total: AtomicU64,
    received: AtomicU64,
    said: Mutex<Instant>,
}

impl Progress for Download {
    fn total(&self, bytes: Option<u64>) {
        self.total.store(bytes.unwrap_or(0), Ordering::Relaxed);
        if !self.screen.draw {
            return;
        }
        let bar = match bytes {
            Some(bytes) => ProgressBar::new(bytes),
            None => ProgressBar::no_length(),
        };
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let template = "place      {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        *self.screen.bar() = Some(bar);
    }

    fn received(&self, bytes: u64) {
        self.received.store(bytes, Ordering::Relaxed);
        if let Some(bar) = &*self.screen.bar() {
            bar.set_position(bytes);
            return;
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.elapsed() >= NOW_AND_THEN {
            *said = Instant::now();
            let (received, total) = (bytes / 1_000_000, self.total.load(Ordering::Relaxed) / 1_000_000);
            tracing::info!("received {received} of {total} MB");
        }
    }
}
