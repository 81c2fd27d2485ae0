//! The JSON documents that `--json` prints, for the reference and for the schemas in it. A test compares them with what the
//! commands print.

mod event;
mod machine;
mod metrics;
mod server;

pub(super) use event::{EVENTS, fields as fields_of_event, page as page_of_events};
pub(super) use metrics::page as page_of_metrics;

use std::fmt::Write as _;

/// The version of the documents, in the field `schema` of each: it changes if a field goes or gets another meaning.
pub(super) const VERSION: u32 = 1;

/// A field: its path, its type and its meaning.
///
/// `[]` in a path stands for the elements of a list. What is above a field in its path is an object or a list that is always
/// there, unless it has a row of its own. The type is `string`, `integer`, `number`, `boolean` or `object`, several of them
/// joined by ` or `, or the name of a [`SHARED`] object; with `?` it can be null, and with `, optional` it can be missing.
pub(super) type Field = (&'static str, &'static str, &'static str);

/// What a command prints.
pub(super) struct Document {
    /// The words after `runup`, of every command that prints it.
    pub commands: &'static [&'static str],
    /// What it is.
    pub what: &'static str,
    pub fields: &'static [&'static [Field]],
    /// The documents that have a list of them instead.
    pub several: &'static [Several],
}

/// A document with one element for each of several runners.
pub(super) struct Several {
    /// When it is printed.
    pub when: &'static str,
    /// The name of the list: each element has `dir`, and in `instances` also `instance`.
    pub list: &'static str,
    /// What an element has in place of the fields, and when.
    pub or: &'static [(&'static str, &'static [Field])],
}

/// The name of a list of instances.
pub(super) const INSTANCES: &str = "instances";

/// The number of an instance.
pub(super) const INSTANCE: Field =
    ("instance", "integer?", "its number; null for a runner outside the instances");
/// The directory of a runner.
pub(super) const DIR: Field = ("dir", "string", "directory of the runner");

/// An element that failed.
pub(super) const FAILED: &[Field] = &[("error", "error", "why it failed")];
/// Objects that several documents have: the name of the type, how the reference shows it, and the fields.
pub(super) const SHARED: [(&str, &str, &[&[Field]]); 4] = [
    ("runner", "[runner](#runup-runners-show)", &[RUNNER]),
    ("gone", "[runner](#runup-runners-show)", &[RUNNER, &[ALREADY_GONE]]),
    ("error", "[error](#errors)", &[ERROR]),
    ("explained", "[error](#runup-explain-name)", &[EXPLAINED]),
];

const ALREADY_GONE: Field = ("already_gone", "boolean", "whether the server had deleted it already");

const RUNNER: &[Field] = &[
    ("id", "integer", "id of the runner on the server"),
    ("name", "string", "name"),
    ("os", "string", "operating system, in the server's words"),
    ("status", "string", "`online` or `offline`"),
    ("busy", "boolean", "whether it runs a job"),
    ("runner_group_id", "integer, optional", "id of its runner group"),
    ("labels[].id", "integer, optional", "id of a label"),
    ("labels[].name", "string", "name of a label"),
    ("labels[].type", "string, optional", "`read-only` for a default label, `custom` for another"),
    ("version", "string, optional", "version of the runner"),
    ("ephemeral", "boolean, optional", "whether it takes one job only"),
];

const EXPLAINED: &[Field] = &[
    ("name", "string", "its name"),
    (
        "exit_codes[]",
        "integer or string",
        "exit codes that it can have; the text `128+n` if a signal caused it",
    ),
    ("cause", "string", "what it means"),
    ("fix", "string", "what to do"),
];

/// All of them, in the order of the reference.
pub(super) fn all() -> impl Iterator<Item = &'static Document> {
    machine::DOCUMENTS.iter().chain(server::DOCUMENTS)
}

const ERROR: &[Field] = &[
    ("name", "string", "name of the error, which `runup explain NAME` explains"),
    ("class", "string", "class of the error, see [exit codes](exit-codes.md)"),
    ("exit_code", "integer", "exit code"),
    ("message", "string", "message"),
    ("hint", "string?", "what to do"),
    ("output", "string?", "the end of the output of a failed command"),
    ("not_undone[]", "string", "what could not be undone"),
    ("command", "string?", "command to run as root"),
];

/// The page of the reference.
pub(super) fn page() -> String {
    let mut text = format!(
        "# JSON output\n\n\
         With `--json`, a command prints one JSON document on stdout. A type with a question mark can be null; an optional \
         field can be missing. Each document has the field `schema`, the version of its format, which is {VERSION}: it \
         changes if a field goes or gets another meaning. Fields can be added without that.\n\n\
         A [JSON Schema](https://json-schema.org/draft/2020-12) of what each command prints, its errors included, is in \
         [schemas](schemas).\n\n## Errors\n\nA command that fails prints this instead ([schema](schemas/error.json)).\n\n"
    );
    table(&mut text, "error.", ERROR);
    for document in all() {
        let commands: Vec<String> =
            document.commands.iter().map(|command| format!("`runup {command}`")).collect();
        let _ = write!(text, "\n## {}\n\n{}", commands.join(", "), document.what);
        for several in document.several {
            let _ = write!(text, " {}", several.sentence());
        }
        let schemas: Vec<String> = document
            .commands
            .iter()
            .map(|command| format!("[{command}](schemas/{}.json)", file_name(command)))
            .collect();
        let _ = write!(text, "\n\nSchema: {}.\n\n", schemas.join(", "));
        table(&mut text, "", &document.fields.concat());
    }
    text
}

/// The name of a command's schema.
pub(super) fn file_name(command: &str) -> String {
    command.to_lowercase().replace(" --", "-").replace(' ', "-")
}

impl Several {
    fn sentence(&self) -> String {
        let number = if self.list == INSTANCES { "its number in `instance`, " } else { "" };
        let or: Vec<&str> = self.or.iter().flat_map(|(or, _)| [", or ", *or]).collect();
        format!(
            "{}, a document with the list `{}`: for each of them {number}`dir`, and these fields{}.",
            self.when,
            self.list,
            or.concat()
        )
    }
}

fn table(text: &mut String, prefix: &str, fields: &[Field]) {
    text.push_str("| field | type | meaning |\n|---|---|---|\n");
    for (field, kind, meaning) in fields {
        let shared = SHARED.iter().find(|(name, ..)| kind == name);
        let kind = shared.map_or(*kind, |(_, shown, _)| shown);
        let _ = writeln!(text, "| `{prefix}{field}` | {kind} | {meaning} |");
    }
}
