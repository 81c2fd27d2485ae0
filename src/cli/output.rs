//! Prints the result, and sets the exit code. No other module prints or exits.

use super::{documents, fan_out, visible};
use crate::error::situation::{self, Situation};
use crate::error::{Class, Failure, chain};
use crate::secret;
use crate::settings::flags::{Common, LogFormat};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::io::Write as _;
use std::process::ExitCode;

/// A result in both of its forms.
pub(super) struct Output {
    text: String,
    json: Document,
    code: u8,
    /// It holds a secret that was requested.
    secret: bool,
    /// What failed beside the result.
    failed: Vec<Failed>,
}

type Pieces = Box<dyn Iterator<Item = String>>;

enum Document {
    Value(Value),
    /// Lines to print, in the requested format.
    Pieces(Pieces),
}

impl Output {
    /// A successful result.
    pub(super) fn new(text: impl Into<String>, json: &impl serde::Serialize) -> Self {
        let json = stamped(serde_json::to_value(json).expect("results are texts, numbers and lists of them"));
        Self { text: text.into(), json: Document::Value(json), code: 0, secret: false, failed: Vec::new() }
    }

    /// A document with a list of this name, which is rendered in the printed format only and element by element, so that a
    /// long one takes no more memory than its elements.
    pub(super) fn list<T: serde::Serialize + 'static>(
        name: &'static str,
        elements: Vec<T>,
        as_json: bool,
        head: &'static [&'static str],
        row: fn(&T) -> Vec<String>,
    ) -> Self {
        let pieces = if as_json { json_list(name, elements) } else { table_of(elements, head, row) };
        Self {
            text: String::new(),
            json: Document::Pieces(pieces),
            code: 0,
            secret: false,
            failed: Vec::new(),
        }
    }

    /// The same, with another text.
    pub(super) fn with_text(self, text: String) -> Self {
        Self { text, ..self }
    }

    /// The same, for a command whose purpose is to print a secret.
    pub(super) fn with_secret(self) -> Self {
        Self { secret: true, ..self }
    }

    /// The same, with the exit code of a class.
    pub(super) fn with_code(self, class: Class) -> Self {
        Self { code: class.exit_code(), ..self }
    }

    /// The same, with the exit code of a class if there is one.
    pub(super) fn with_worst(self, class: Option<Class>) -> Self {
        match class {
            Some(class) => self.with_code(class),
            None => self,
        }
    }

    /// The same, with what failed beside it. What can pass decides the exit code, or else what failed first.
    pub(super) fn with_failures(self, failed: Vec<Failed>) -> Self {
        let classes = failed.iter().map(|failed| failed.error.class());
        let code = match fan_out::deciding(classes).map(Class::exit_code) {
            Some(code) if self.code != Class::TempFail.exit_code() => code,
            _ => self.code,
        };
        Self { code, failed, ..self }
    }

    /// Nothing left to print.
    pub(super) fn silent() -> Self {
        Self::new(String::new(), &Value::Null)
    }
}

/// An error of any module, with its details.
pub(super) struct Failed {
    error: Box<dyn Failure>,
    /// What failed, if the error alone does not tell.
    doing: Option<String>,
    /// The end of what a child printed.
    output: Option<String>,
    /// What could not be undone.
    left: Vec<String>,
    /// The command that root has to run, if runup is not allowed to.
    command: Option<String>,
}

impl<E: Failure> From<E> for Failed {
    fn from(error: E) -> Self {
        let any: &dyn std::any::Any = &error;
        let known = any.downcast_ref::<crate::lifecycle::Error>();
        let output = known.and_then(|error| error.output()).map(str::to_owned);
        let left =
            known.map(|error| error.left().iter().map(|left| chain(left)).collect()).unwrap_or_default();
        let command = known.and_then(|error| error.command()).map(str::to_owned);
        Self { error: Box::new(error), doing: None, output, left, command }
    }
}

/// The exit code of a result, and the name of the error that it is of.
pub(super) fn outcome(result: &Result<Output, Failed>, signal: Option<u8>) -> (u8, Option<String>) {
    match result {
        Ok(output) => {
            let failed = output.failed.iter().find(|it| it.error.class().exit_code() == output.code);
            (output.code, failed.map(|failed| failed.error.situation().name()))
        }
        Err(failed) => (failed.class(signal).exit_code(), Some(failed.error.situation().name())),
    }
}

/// Prints the result or the failure, and returns the exit code.
pub(super) fn finish(result: Result<Output, Failed>, common: &Common, signal: Option<u8>) -> ExitCode {
    match result {
        Ok(output) => {
            let Output { text, json, code, secret: holds_secret, failed } = output;
            let mut pieces: Pieces = match json {
                Document::Pieces(pieces) => pieces,
                Document::Value(Value::Null) if common.json => Box::new(std::iter::empty()),
                Document::Value(value) if common.json => Box::new(std::iter::once(format!("{value:#}"))),
                Document::Value(_) => Box::new(Some(text).filter(|text| !text.is_empty()).into_iter()),
            };
            let mut stdout = std::io::BufWriter::new(std::io::stdout().lock());
            let written = pieces.try_for_each(|piece| {
                let scrubbed =
                    if holds_secret { Cow::Borrowed(piece.as_str()) } else { secret::scrub(&piece) };
                let shown = match scrubbed.trim_end() {
                    _ if common.json => visible::json(&scrubbed),
                    // It would be of no use without its end.
                    text if holds_secret => visible::lines(text),
                    text => Cow::Owned(visible::result(text)),
                };
                writeln!(stdout, "{shown}")
            });
            // A closed pipe (`| head`) is not a failure.
            let _ = written.and_then(|()| stdout.flush());
            for failed in &failed {
                print_error(failed, failed.error.class(), common);
            }
            ExitCode::from(code)
        }
        Err(failed) => {
            let class = failed.class(signal);
            print_failure(&failed, class, common);
            ExitCode::from(class.exit_code())
        }
    }
}

impl Failed {
    /// The same error, of this of several.
    pub(super) fn while_doing(self, doing: String) -> Self {
        Self { doing: Some(doing), ..self }
    }

    /// How the run ends because of it, if this signal was received.
    fn class(&self, signal: Option<u8>) -> Class {
        match (self.error.class(), signal) {
            (Class::Signal(_), Some(number)) => Class::Signal(number),
            (class, _) => class,
        }
    }

    /// Its exit code and its name.
    pub(super) fn outcome(&self) -> (u8, Option<String>) {
        (self.error.class().exit_code(), Some(self.error.situation().name()))
    }

    /// Whether a signal caused it.
    pub(super) fn is_stop(&self) -> bool {
        matches!(self.error.class(), Class::Signal(_))
    }

    /// The name for `runup explain`, if that says more than the message.
    fn worth_explaining(&self) -> Option<String> {
        let situation = self.error.situation();
        let says_it_all =
            [&situation::COMMAND_LINE, &situation::URL_MISSING, &situation::STOPPED, &situation::BUG];
        (!says_it_all.iter().any(|one| std::ptr::eq(*one, situation))).then(|| situation.name())
    }

    fn said(&self) -> String {
        let doing = self.doing.as_ref().map(|doing| format!("{doing}: ")).unwrap_or_default();
        format!("{doing}{}", chain(self.error.as_ref()))
    }

    /// The fields of the error, every one with its secrets marked.
    pub(super) fn document(&self) -> Value {
        self.document_as(self.error.class())
    }

    fn document_as(&self, class: Class) -> Value {
        let said = self.said();
        json!({
            "name": self.error.situation().name(),
            "class": class.name(),
            "exit_code": class.exit_code(),
            "message": visible::marked(&said),
            "hint": hint_for(self.error.hint(), &said).as_deref().map(visible::marked),
            "output": self.output.as_deref().map(visible::marked),
            "not_undone": self.left.iter().map(|left| visible::marked(left)).collect::<Vec<_>>(),
            "command": self.command,
        })
    }
}

fn print_failure(failed: &Failed, class: Class, common: &Common) {
    if common.json {
        let document = stamped(json!({ "error": failed.document_as(class) }));
        let _ = writeln!(std::io::stdout(), "{}", visible::json(&format!("{document:#}")));
    } else if let Some(command) = &failed.command {
        let _ = writeln!(std::io::stdout(), "{}", visible::lines(command));
    }
    print_error(failed, class, common);
}

/// Prints the error on stderr.
fn print_error(failed: &Failed, class: Class, common: &Common) {
    let situation = failed.error.situation();
    debug_assert!(situation.ends_with(class), "{} does not end with {class}", situation.name());
    let said = failed.said();
    let hint = hint_for(failed.error.hint(), &said);
    let message = visible::marked(&said);
    let hint = hint.as_deref().map(visible::marked);
    let mut stderr = std::io::stderr().lock();
    if common.log_format == LogFormat::Json {
        let name = failed.error.situation().name();
        tracing::error!(name, class = class.name(), exit_code = class.exit_code(), hint, "{message}");
        return;
    }
    if let Some(output) = &failed.output {
        let _ = writeln!(stderr, "the end of its output:");
        for line in visible::marked(output).trim_end().lines() {
            let _ = writeln!(stderr, "  | {}", visible::line(line));
        }
    }
    let _ = writeln!(stderr, "error: {}", visible::message(&message));
    for left in &failed.left {
        let _ = writeln!(stderr, "not undone: {}", visible::message(&visible::marked(left)));
    }
    if let Some(hint) = hint {
        let _ = writeln!(stderr, "hint: {}", visible::message(&hint));
    }
    if let Some(name) = failed.worth_explaining() {
        let _ = writeln!(stderr, "more: runup explain {name}");
    }
}

/// The hint if a token was passed as the value of another option, where the error's own hint would refer to a file or a
/// URL of that name.
pub(super) fn hint_for(hint: Option<String>, said: &str) -> Option<String> {
    match secret::mask(said) {
        Cow::Borrowed(_) => hint,
        Cow::Owned(_) => Some(
            "This looks like a token: pass it in a file with --token-file, or in RUNUP_TOKEN. Other users may have read \
             it where it was: consider revoking it."
                .to_owned(),
        ),
    }
}

/// A panic is a bug, with an exit code of its own.
pub(super) fn exit_with_70_on_a_bug() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let what =
            text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        let _ = writeln!(
            std::io::stderr(),
            "error: a bug in runup {} at {place}: {}\nhint: Please report it with this line.",
            env!("CARGO_PKG_VERSION"),
            visible::message(what)
        );
        #[expect(clippy::exit, reason = "a panic has no other way to an exit code")]
        std::process::exit(i32::from(Class::Software.exit_code()));
    }));
}

/// The machine has no resources left for the event loop.
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

    fn situation(&self) -> &'static Situation {
        &situation::PROGRAM_FAILED
    }
}

/// A document with the version of its format.
pub(super) fn stamped(mut document: Value) -> Value {
    debug_assert!(document.is_object() || document.is_null(), "a list has no place for the version");
    if let Some(fields) = document.as_object_mut() {
        fields.insert("schema".to_owned(), documents::VERSION.into());
    }
    document
}

/// A list as JSON, laid out as the values of other results are, whose fields are in the order of the alphabet.
fn json_list<T: serde::Serialize + 'static>(name: &'static str, elements: Vec<T>) -> Pieces {
    debug_assert!(name < "schema");
    let version = format!("  \"schema\": {}", documents::VERSION);
    if elements.is_empty() {
        let empty = format!("  \"{name}\": [],");
        return Box::new(["{".to_owned(), empty, version, "}".to_owned()].into_iter());
    }
    let last = elements.len() - 1;
    let elements = elements.into_iter().enumerate().map(move |(index, element)| {
        let value = serde_json::to_value(element).expect("results are texts, numbers and lists of them");
        let comma = if index == last { "" } else { "," };
        // In JSON, a line break can only be one of its layout.
        format!("    {}{comma}", format!("{value:#}").replace('\n', "\n    "))
    });
    let head = ["{".to_owned(), format!("  \"{name}\": [")].into_iter();
    Box::new(head.chain(elements).chain(["  ],".to_owned(), version, "}".to_owned()]))
}

/// The longest text in a cell, in characters.
const LONGEST_CELL: usize = 2000;
/// No column is wider than this; a longer cell extends into the next one.
const WIDEST: usize = 80;

/// Columns, as wide as their widest cell, within reason. What is in a cell stays in its line.
pub(super) fn table(head: &'static [&'static str], rows: &[Vec<String>]) -> String {
    let widths = widths(head, rows.iter().map(Vec::as_slice));
    let lines: Vec<String> = rows.iter().map(|row| line(row, &widths)).collect();
    std::iter::once(head_line(head, &widths)).chain(lines).collect::<Vec<_>>().join("\n")
}

fn table_of<T: 'static>(
    elements: Vec<T>,
    head: &'static [&'static str],
    row: fn(&T) -> Vec<String>,
) -> Pieces {
    let widths = widths(head, elements.iter().map(row));
    let first = head_line(head, &widths);
    Box::new(std::iter::once(first).chain(elements.into_iter().map(move |one| line(&row(&one), &widths))))
}

fn widths(head: &[&str], rows: impl Iterator<Item = impl AsRef<[String]>>) -> Vec<usize> {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, text) in widths.iter_mut().zip(row.as_ref()) {
            *width = (*width).max(cell(text).chars().count().min(WIDEST));
        }
    }
    widths
}

fn cell(text: &str) -> String {
    visible::line(&visible::shortened(text, LONGEST_CELL)).into_owned()
}

fn head_line(head: &[&str], widths: &[usize]) -> String {
    line(&head.iter().map(|&cell| cell.to_owned()).collect::<Vec<_>>(), widths)
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let mut text = String::new();
    for (shown, width) in cells.iter().map(|text| cell(text)).zip(widths) {
        let missing = width.saturating_sub(shown.chars().count());
        text.push_str(&shown);
        text.extend(std::iter::repeat_n(' ', missing + 2));
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_of_any_length_and_content_stays_in_its_line() {
        let rows = [
            vec!["1".to_owned(), "x".repeat(70_000), "last".to_owned()],
            vec!["2".to_owned(), "two\nlines\u{1b}[2J".to_owned(), "l".repeat(70_000)],
        ];
        let text = table(&["A", "B", "C"], &rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines.iter().all(|line| line.len() < 2 * LONGEST_CELL + 100));
        assert!(lines[2].starts_with("2  two\\nlines\\x1b[2J  "), "{}", lines[2]);
    }

    #[test]
    fn a_list_is_laid_out_as_any_other_document() {
        let joined = |elements| json_list::<Value>("lines", elements).collect::<Vec<_>>().join("\n");
        let elements = vec![json!({"b": [1, 2], "a": "x\ny"}), json!(null), json!([])];
        let document = |elements: &[Value]| format!("{:#}", stamped(json!({ "lines": elements })));
        assert_eq!(joined(elements.clone()), document(&elements));
        assert_eq!(joined(vec![]), document(&[]));
        let rows = |one: &Value| vec![one.to_string()];
        let lines: Vec<String> = table_of(vec![json!(1), json!(22)], &["A"], rows).collect();
        assert_eq!(lines.join("\n"), table(&["A"], &[vec!["1".into()], vec!["22".into()]]));
    }
}
