//! What is printed in the end, and how the process ends. Nobody else prints or exits.

use crate::error::{Class, Failure, chain};
use crate::settings::flags::{Common, LogFormat};
use serde_json::{Value, json};
use std::io::Write as _;
use std::process::ExitCode;

/// A result in both of its forms.
pub(super) struct Output {
    text: String,
    json: Value,
    code: u8,
}

impl Output {
    /// A result that is fine.
    pub(super) fn new(text: impl Into<String>, json: &impl serde::Serialize) -> Self {
        let json = serde_json::to_value(json).expect("results are texts, numbers and lists of them");
        Self { text: text.into(), json, code: 0 }
    }

    /// The same, with an exit code that says that not all is fine.
    pub(super) fn with_code(self, class: Class) -> Self {
        Self { code: class.exit_code(), ..self }
    }

    /// Nothing left to print.
    #[cfg(feature = "sandbox")]
    pub(super) fn silent() -> Self {
        Self { text: String::new(), json: Value::Null, code: 0 }
    }
}

/// Any room's error on its way out.
pub(super) struct Failed {
    error: Box<dyn Failure>,
    /// The end of what a child printed.
    output: Option<String>,
    /// What could not be undone.
    left: Vec<String>,
    /// What somebody else has to run: the result of a run that may not do it.
    command: Option<String>,
}

impl<E: Failure> From<E> for Failed {
    fn from(error: E) -> Self {
        let any: &dyn std::any::Any = &error;
        let known = any.downcast_ref::<crate::install::Error>();
        let output = known.and_then(|error| error.output()).map(str::to_owned);
        let left =
            known.map(|error| error.left().iter().map(|left| chain(left)).collect()).unwrap_or_default();
        let command = known.and_then(|error| error.command()).map(str::to_owned);
        Self { error: Box::new(error), output, left, command }
    }
}

/// Prints the result or the failure, and says how the process ends.
pub(super) fn finish(result: Result<Output, Failed>, common: &Common, signal: Option<u8>) -> ExitCode {
    match result {
        Ok(output) => {
            let text = if common.json {
                if output.json.is_null() { String::new() } else { format!("{:#}\n", output.json) }
            } else if output.text.is_empty() {
                String::new()
            } else {
                format!("{}\n", output.text.trim_end())
            };
            // A closed pipe (`| head`) is no failure of ours.
            let _ = std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush());
            ExitCode::from(output.code)
        }
        Err(failed) => {
            let class = match (failed.error.class(), signal) {
                (Class::Signal(_), Some(number)) => Class::Signal(number),
                (class, _) => class,
            };
            print_failure(&failed, class, common);
            ExitCode::from(class.exit_code())
        }
    }
}

fn print_failure(failed: &Failed, class: Class, common: &Common) {
    let message = chain(failed.error.as_ref());
    let hint = failed.error.hint();
    let document = json!({
        "error": {
            "class": class.name(),
            "exit_code": class.exit_code(),
            "message": message,
            "hint": hint,
            "output": failed.output,
            "not_undone": failed.left,
            "command": failed.command,
        }
    });
    if common.json {
        let _ = writeln!(std::io::stdout(), "{document:#}");
    } else if let Some(command) = &failed.command {
        let _ = writeln!(std::io::stdout(), "{command}");
    }
    let mut stderr = std::io::stderr().lock();
    if common.log_format == LogFormat::Json {
        tracing::error!(class = class.name(), exit_code = class.exit_code(), hint, "{message}");
        return;
    }
    if let Some(output) = &failed.output {
        let _ = writeln!(stderr, "the end of its output:");
        for line in output.trim_end().lines() {
            let _ = writeln!(stderr, "  | {line}");
        }
    }
    let _ = writeln!(stderr, "error: {message}");
    for left in &failed.left {
        let _ = writeln!(stderr, "not undone: {left}");
    }
    if let Some(hint) = hint {
        let _ = writeln!(stderr, "hint: {hint}");
    }
}

/// A panic is a bug of ours, and the exit code says so.
pub(super) fn exit_with_70_on_a_bug() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let what =
            text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        let _ = writeln!(
            std::io::stderr(),
            "error: a bug in runup {} at {place}: {what}\nhint: Please report it with this line.",
            env!("CARGO_PKG_VERSION")
        );
        #[expect(clippy::exit, reason = "a panic has no other way to an exit code")]
        std::process::exit(i32::from(Class::Software.exit_code()));
    }));
}

/// The machine has no resources for the event loop.
pub(super) fn no_runtime(source: std::io::Error) -> Failed {
    Failed::from(NoRuntime { source })
}

#[derive(Debug, thiserror::Error)]
#[error("failed to start the event loop")]
struct NoRuntime {
    #[source]
    source: std::io::Error,
}

impl Failure for NoRuntime {
    fn class(&self) -> Class {
        Class::Os
    }
}

/// Columns, as wide as their widest cell.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}", width = *width))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(head.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}
