//! The log on stderr: plain lines, or one JSON object per line.

use super::events::Events;
use super::metrics::{Ear, Metrics};
use super::screen::Screen;
use super::visible;
use crate::settings::flags::{Common, LogFormat};
use std::fmt;
use std::sync::Arc;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The target of the events that report phases.
pub(super) const PHASE: &str = "phase";

/// Starts the log, and the events and metrics if there are any.
pub(super) fn start(
    common: &Common,
    screen: &Arc<Screen>,
    events: Option<Events>,
    metrics: Option<Arc<Metrics>>,
) {
    let level = match (common.quiet, common.verbose) {
        (true, _) => LevelFilter::WARN,
        (_, true) => LevelFilter::DEBUG,
        _ => LevelFilter::INFO,
    };
    // Only the events of runup: those of libraries are noise, and may contain secrets.
    let filter = Targets::new().with_target("runup", level).with_target(PHASE, level);
    let writer = Arc::clone(screen);
    let log = match common.log_format {
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_writer(move || Screen::line(&writer))
            .with_filter(filter)
            .boxed(),
        LogFormat::Text => tracing_subscriber::fmt::layer()
            .event_format(Plain)
            .with_ansi(false)
            .with_writer(move || Screen::line(&writer))
            .with_filter(filter)
            .boxed(),
    };
    let events = events.map(|events| events.with_filter(Events::filter()).boxed());
    let metrics = metrics.map(|metrics| Ear(metrics).with_filter(Events::filter()).boxed());
    let layers: Vec<_> = [log].into_iter().chain(events).chain(metrics).collect();
    // If a test starts it twice in one process, the first one stays.
    let _ = tracing_subscriber::registry().with(layers).try_init();
}

/// `warning: message (key=value)`; phases as aligned columns.
struct Plain;

#[derive(Default)]
struct Fields {
    message: String,
    phase: String,
    detail: String,
    milliseconds: u64,
    others: Vec<String>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        self.record_str(field, &text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            "phase" => value.clone_into(&mut self.phase),
            "detail" => value.clone_into(&mut self.detail),
            name => self.others.push(format!("{name}={value}")),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "milliseconds" => self.milliseconds = value,
            name => self.others.push(format!("{name}={value}")),
        }
    }
}

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        // Which of several runners it is about.
        for span in context.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                write!(writer, "[{}] ", visible::message(fields.fields.trim_start_matches("runner=")))?;
            }
        }
        if event.metadata().target() == PHASE {
            let Fields { phase, detail, milliseconds, .. } = fields;
            let detail = visible::message(&detail);
            return writeln!(writer, "{phase:<10} {milliseconds:>6} ms  {detail}");
        }
        let prefix = match *event.metadata().level() {
            Level::ERROR => "error: ",
            Level::WARN => "warning: ",
            Level::DEBUG | Level::TRACE => "debug: ",
            Level::INFO => "",
        };
        write!(writer, "{prefix}{}", visible::message(&fields.message))?;
        if !fields.others.is_empty() {
            write!(writer, " ({})", visible::message(&fields.others.join(", ")))?;
        }
        writeln!(writer)
    }
}
