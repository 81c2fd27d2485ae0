//! The events of `--events`.

use super::{Field, table};
use crate::cli::events::VERSION;
use std::fmt::Write as _;

/// What every event has.
const COMMON: &[Field] = &[
    ("schema", "integer", "version of the format"),
    ("time", "string", "when it happened (UTC)"),
    ("event", "string", "its name"),
    ("command", "string", "`install`, `run`, `bake`, `upgrade` or `remove`"),
    ("pid", "integer", "process of runup"),
    ("runner", "string?", "name of the runner's directory, if the command is about several runners"),
    ("lost", "integer, optional", "number of events before it that could not be written"),
];

/// The name of an event, when it is told, and what it has besides.
pub(in crate::cli) const EVENTS: &[(&str, &str, &[Field])] = &[
    ("begin", "The command begins.", &[("version", "string", "version of runup")]),
    ("phase-begin", "A phase begins.", &[PHASE]),
    (
        "phase-end",
        "A phase has ended.",
        &[
            PHASE,
            ("done", "boolean", "whether it has done its work; if not, an error or another way follows"),
            ("seconds", "number", "how long it took"),
            ("detail", "string, optional", "what it has done"),
        ],
    ),
    (
        "retry",
        "Something failed, and is tried again.",
        &[("cause", "string", "what failed"), ("seconds", "number", "pause before the next attempt")],
    ),
    (
        "wait",
        "Something is waited for.",
        &[
            ("cause", "string", "what is waited for"),
            ("seconds", "number, optional", "how long, or how long at most"),
        ],
    ),
    ("online", "The runner has a session on the server, and waits for jobs.", &[]),
    ("offline", "It has lost the session, or its listener has ended.", &[]),
    ("job-begin", "The runner has taken a job.", &[]),
    (
        "job-end",
        "The job has ended.",
        &[("result", "string", "`succeeded`, `failed`, `canceled` or `other`")],
    ),
    (
        "end",
        "The command has ended. A run that is killed has no such event.",
        &[
            ("exit_code", "integer", "exit code"),
            ("error", "string, optional", "name of the error, which `runup explain NAME` explains"),
            ("seconds", "number", "how long the command took"),
        ],
    ),
];

const PHASE: Field = ("phase", "string", "its name");

/// The fields of an event, the common ones included.
pub(in crate::cli) fn fields(own: &'static [Field]) -> [&'static [Field]; 2] {
    [COMMON, own]
}

/// The page of the reference.
pub(in crate::cli) fn page() -> String {
    let mut text = format!(
        "# Events\n\n\
         With `--events`, `install`, `run`, `bake`, `upgrade` and `remove` append what happens to a file, a FIFO or an open \
         descriptor: one JSON object a line, each in one write of 4096 bytes at most. The field `schema`, which is {VERSION}, \
         changes if a field goes or gets another meaning; events and fields can be added without that. No text of an event is \
         a job's, and no event has a secret. [event.json](schemas/event.json) is the JSON Schema of a line.\n\n\
         ## Every event\n\n"
    );
    table(&mut text, "", COMMON);
    for (name, when, own) in EVENTS {
        let _ = write!(text, "\n## {name}\n\n{when}\n");
        if !own.is_empty() {
            text.push('\n');
            table(&mut text, "", own);
        }
    }
    text
}
