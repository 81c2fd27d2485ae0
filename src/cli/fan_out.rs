//! One command for several runners: side by side, one document, one exit code.

use super::output::{Failed, Output};
use super::screen::Screen;
use super::visible;
use crate::error::Class;
use crate::host::Stream;
use crate::lifecycle::Watch;
use crate::transfer::Progress;
use serde_json::{Value, json};
use std::future::poll_fn;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

/// Polls all of them until each is ready.
pub(super) async fn together<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    poll_fn(|context| {
        let mut ready = true;
        for (future, output) in &mut waiting {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(found) => *output = Some(found),
                    Poll::Pending => ready = false,
                }
            }
        }
        if ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    waiting.into_iter().filter_map(|(_, output)| output).collect()
}

/// The class that decides the exit code of several: one that can pass, because running the command again is of use then;
/// otherwise the first one.
pub(super) fn deciding(classes: impl IntoIterator<Item = Class>) -> Option<Class> {
    let classes: Vec<Class> = classes.into_iter().collect();
    let passes = classes.iter().find(|class| **class == Class::TempFail);
    passes.or(classes.first()).copied()
}

/// The work for one runner, whose log lines begin with the name of its directory.
pub(super) fn named<F: Future>(dir: &Path, work: F) -> impl Future<Output = F::Output> {
    // Whatever the level of the log is.
    work.instrument(tracing::error_span!("instance", runner = %name(dir)))
}

/// The name of a runner's directory.
pub(super) fn name(dir: &Path) -> String {
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    visible::line(&name).into_owned()
}

/// The results of several, in one document.
#[derive(Default)]
pub(super) struct Results {
    lines: Vec<String>,
    documents: Vec<Value>,
    failed: Vec<Failed>,
}

impl Results {
    /// Adds the result of one; `doing` begins its error.
    pub(super) fn add<T: serde::Serialize>(
        &mut self,
        (number, dir): (Option<u32>, &Path),
        result: Result<T, Failed>,
        text: impl FnOnce(&T) -> String,
        doing: &str,
    ) {
        let mut document = json!({ "instance": number, "dir": dir });
        match result {
            Ok(done) => {
                self.lines.push(text(&done));
                if let Ok(Value::Object(fields)) = serde_json::to_value(&done) {
                    document.as_object_mut().expect("it was made as one").extend(fields);
                }
            }
            Err(error) => {
                let error = error.while_doing(format!("failed to {doing} the runner in {}", dir.display()));
                document["error"] = error.document();
                self.failed.push(error);
            }
        }
        self.documents.push(document);
    }

    /// Adds what failed of none of them alone.
    pub(super) fn fail(&mut self, failed: Failed) {
        self.failed.push(failed);
    }

    /// The only one, as a command for one runner prints it.
    pub(super) fn only(mut self) -> Result<Output, Failed> {
        if let Some(error) = self.failed.pop() {
            return Err(error);
        }
        Ok(Output::new(self.lines.join("\n"), &without_number(self.documents.pop().unwrap_or_default())))
    }

    /// All of it, for the runners of a machine that are not all instances, or none: the list `runners`, unless some are.
    pub(super) fn list(
        mut self,
        are_instances: bool,
        unreadable: Vec<Failed>,
        nothing: &str,
    ) -> Result<Output, Failed> {
        let broken = unreadable.iter().map(|failed| json!({ "dir": null, "error": failed.document() }));
        self.documents = broken.chain(self.documents).collect();
        self.failed = unreadable.into_iter().chain(self.failed).collect();
        if are_instances {
            return self.output();
        }
        if self.documents.is_empty() {
            self.lines.push(nothing.to_owned());
        }
        let documents: Vec<Value> = self.documents.into_iter().map(without_number).collect();
        Ok(Output::new(self.lines.join("\n"), &json!({ "runners": documents })).with_failures(self.failed))
    }

    /// All of it. A signal that ended one has ended all.
    pub(super) fn output(mut self) -> Result<Output, Failed> {
        if let Some(at) = self.failed.iter().position(Failed::is_stop) {
            return Err(self.failed.swap_remove(at));
        }
        Ok(Output::new(self.lines.join("\n"), &json!({ "instances": self.documents }))
            .with_failures(self.failed))
    }
}

fn without_number(mut document: Value) -> Value {
    if let Some(fields) = document.as_object_mut() {
        fields.remove("instance");
    }
    document
}

/// How many instances work at once, and which one goes first.
pub(super) struct Turns {
    places: Arc<Semaphore>,
    /// The first tree is placed, and the others can be made from what it left.
    placed: CancellationToken,
}

/// After this phase, a runner only waits for others.
const LAST: &str = "unit";
/// After this phase, the tree is placed.
const PLACED: &str = "place";

impl Turns {
    /// As many at once as the machine has processors, but two at least. `is_waited_for`: one of them goes first.
    pub(super) fn new(is_waited_for: bool) -> Self {
        let processors = std::thread::available_parallelism().map_or(2, |number| number.get().max(2));
        let placed = CancellationToken::new();
        if !is_waited_for {
            placed.cancel();
        }
        Self { places: Arc::new(Semaphore::new(processors)), placed }
    }

    /// Waits for the turn of one of them.
    pub(super) async fn take(
        &self,
        screen: &Arc<Screen>,
        goes_first: bool,
        stop: &CancellationToken,
    ) -> Turn {
        if !goes_first {
            tokio::select! {
                () = self.placed.cancelled() => {}
                () = stop.cancelled() => {}
            }
        }
        let permit = Arc::clone(&self.places).acquire_owned().await.ok();
        Turn {
            screen: Arc::clone(screen),
            permit: Mutex::new(permit),
            placed: goes_first.then(|| self.placed.clone().drop_guard()),
            is_placed: goes_first.then(|| self.placed.clone()),
        }
    }
}

/// The turn of one instance, and what it tells.
pub(super) struct Turn {
    screen: Arc<Screen>,
    permit: Mutex<Option<OwnedSemaphorePermit>>,
    is_placed: Option<CancellationToken>,
    /// However it ends, the others go on.
    #[expect(dead_code, reason = "for its drop")]
    placed: Option<tokio_util::sync::DropGuard>,
}

impl Watch for Turn {
    fn begin(&self, phase: &'static str) {
        self.screen.begin(phase);
    }

    fn end(&self, phase: &'static str, detail: &str, elapsed: Duration) {
        self.screen.end(phase, detail, elapsed);
        if let Some(placed) = self.is_placed.as_ref().filter(|_| phase == PLACED) {
            placed.cancel();
        }
        if phase == LAST {
            self.permit.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }

    fn line(&self, stream: Stream, line: &str) {
        Watch::line(&self.screen, stream, line);
    }

    fn progress(&self) -> Arc<dyn Progress> {
        // Several bars would write over each other.
        if self.is_placed.is_some() { self.screen.progress() } else { Arc::new(()) }
    }
}
