//! The events of `--events`: one JSON object a line, each in one write. Whatever becomes of their reader, the work goes on.

use super::args::Command;
use super::flood::Flood;
use super::screen::Screen;
use super::visible;
use crate::event;
use crate::host::append;
use crate::settings::flags::Destination;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber, span};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// The version of the lines.
pub(super) const VERSION: u32 = 1;
/// The longest text of an event, in characters: with it, a line is one that a pipe takes whole.
const LONGEST: usize = 600;
/// The bytes of a line around its text.
const FRAME: u64 = 192;

/// Where the events of a command go, if it is one that works for long.
pub(super) fn of(command: &Command) -> Option<(&'static str, &Destination)> {
    let (name, destination) = match command {
        Command::Install(flags) => ("install", &flags.stream.events),
        Command::Run(flags) => ("run", &flags.stream.events),
        Command::Bake(flags) if !flags.check => ("bake", &flags.stream.events),
        Command::Upgrade(flags) => ("upgrade", &flags.stream.events),
        Command::Remove(flags) => ("remove", &flags.stream.events),
        _ => return None,
    };
    destination.as_ref().map(|destination| (name, destination))
}

/// Writes the events of one command.
pub(super) struct Events {
    command: &'static str,
    screen: Arc<Screen>,
    sink: Mutex<Sink>,
}

impl Events {
    /// Opens the destination. If it was `asked` for on this command line, it must be there; what is set for the machine
    /// must not keep its runner down.
    pub(super) fn open(
        (command, destination): (&'static str, &Destination),
        asked: bool,
        screen: &Arc<Screen>,
    ) -> Result<Self, crate::host::Error> {
        let (path, opened) = match destination {
            Destination::File(path) => {
                let path = std::path::absolute(path)?;
                let opened = append::open(&path);
                (Some(path), opened)
            }
            Destination::Descriptor(number) => (None, append::open_descriptor(*number).map(Some)),
        };
        let (file, is_said) = match opened {
            Ok(file) => (file, false),
            Err(error) if asked => return Err(error),
            Err(error) => {
                screen.warn(&format!("no events are written: {}", crate::error::chain(&error)));
                (None, true)
            }
        };
        let flood = Flood::new(FRAME, Instant::now());
        let sink = Sink { path, file, lost: 0, is_torn: false, is_said, flood };
        Ok(Self { command, screen: Arc::clone(screen), sink: Mutex::new(sink) })
    }

    /// What of all that is traced is for these.
    pub(super) fn filter() -> Targets {
        // The spans of several runners, besides the events.
        Targets::new()
            .with_target(event::TARGET, LevelFilter::TRACE)
            .with_target(concat!(env!("CARGO_PKG_NAME"), "::cli::fan_out"), LevelFilter::ERROR)
    }

    fn write(&self, fields: Fields, runner: Option<String>) {
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        let is_last = fields.0.get("event").is_some_and(|event| event == "end");
        let mut fields = fields.0;
        fields.insert("schema".into(), VERSION.into());
        fields.insert(
            "time".into(),
            jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string().into(),
        );
        fields.insert("command".into(), self.command.into());
        fields.insert("pid".into(), std::process::id().into());
        fields.insert("runner".into(), runner.into());
        if let Some(why) = sink.write(fields, is_last) {
            self.screen.warn(&format!("events are lost, and the work goes on without them: {why}"));
        }
    }
}

/// The file, and what has become of it.
struct Sink {
    /// Where to open it again; `None` for a descriptor.
    path: Option<PathBuf>,
    file: Option<File>,
    /// How many events were not written since the last one that was.
    lost: u64,
    /// The last line was not written whole.
    is_torn: bool,
    /// It was said that events are lost.
    is_said: bool,
    /// A job can make its listener tell of one event after the other.
    flood: Flood,
}

impl Sink {
    /// Writes a line; returns why it could not, if that was not said before.
    fn write(&mut self, mut fields: Map<String, Value>, is_last: bool) -> Option<String> {
        if self.lost > 0 {
            fields.insert("lost".into(), self.lost.into());
        }
        let mut line = format!("{}\n", visible::json(&Value::Object(fields).to_string()));
        debug_assert!(line.len() < append::MOST_BYTES, "{line}");
        if self.is_torn {
            line.insert(0, '\n');
        }
        let failure = if !is_last && !self.flood.admits(line.len(), Instant::now()) {
            Some("there are too many".to_owned())
        } else {
            self.append(line.as_bytes()).err()
        };
        if failure.is_none() {
            (self.lost, self.is_torn) = (0, false);
            return None;
        }
        self.lost += 1;
        failure.filter(|_| !std::mem::replace(&mut self.is_said, true))
    }

    fn append(&mut self, line: &[u8]) -> Result<(), String> {
        self.renew()?;
        let Some(file) = &mut self.file else { return Err("nobody reads the FIFO".into()) };
        match file.write(line) {
            Ok(written) if written == line.len() => Ok(()),
            Ok(_) => {
                self.is_torn = true;
                Err("the disk is full".into())
            }
            Err(error) => {
                let why = match error.kind() {
                    ErrorKind::WouldBlock => "their reader is too slow".to_owned(),
                    ErrorKind::BrokenPipe => "their reader is gone".to_owned(),
                    _ => error.to_string(),
                };
                // The next reader gets the next events.
                if error.kind() == ErrorKind::BrokenPipe && self.path.is_some() {
                    self.file = None;
                }
                Err(why)
            }
        }
    }

    /// Opens the file again if it was moved away, or had no reader.
    fn renew(&mut self) -> Result<(), String> {
        let Some(path) = &self.path else { return Ok(()) };
        if self.file.as_ref().is_none_or(|file| !append::is_at(path, file)) {
            self.file = None;
            self.file = append::open(path).map_err(|error| crate::error::chain(&error))?;
        }
        Ok(())
    }
}

/// The name of the runner that a span is about.
pub(super) struct Runner(String);

impl Runner {
    /// Notes it with the span.
    pub(super) fn attach<S>(attributes: &span::Attributes<'_>, id: &span::Id, context: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let (Some(span), Some(Value::String(runner))) = (context.span(id), fields.0.remove("runner")) {
            span.extensions_mut().replace(Self(runner));
        }
    }

    /// The one that an event is about.
    pub(super) fn of<S>(event: &Event<'_>, context: &Context<'_, S>) -> Option<String>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let mut spans = context.event_scope(event).into_iter().flatten();
        spans.find_map(|span| span.extensions().get::<Self>().map(|runner| runner.0.clone()))
    }
}

/// The fields of an event, as JSON.
#[derive(Default)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub(super) fn of(event: &Event<'_>) -> Self {
        let mut fields = Self::default();
        event.record(&mut fields);
        fields
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    fn set(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let text = visible::marked(value);
        self.set(field, visible::shortened(&visible::line(&text), LONGEST).into_owned());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, (value * 1000.0).round() / 1000.0);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value);
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Events {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        Runner::attach(attributes, id, &context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        self.write(Fields::of(event), Runner::of(event, &context));
    }
}
