//! The documents of the commands that work on this machine.

use super::{DIR, Document, FAILED, Field, INSTANCES, Several};

const OR_FAILED: (&str, &[Field]) = ("`error` for one that failed", FAILED);
const NUMBERED: &str = "If there are several instances";
/// The name of a list of runners.
const RUNNERS: &str = "runners";

/// What `--all` leads to.
const ALL: &[Several] = &[
    Several { when: "With `--all`", list: RUNNERS, or: &[OR_FAILED] },
    Several { when: "With `--all`, if there are several instances", list: INSTANCES, or: &[OR_FAILED] },
];

const STEPS: &[Field] = &[
    (
        "steps[].step",
        "string",
        "`create-user`, `place-runner`, `write-environment`, `register`, `write-service` or `start-service`",
    ),
    ("steps[].action.action", "string", "`keep` or `do`"),
    ("steps[].action.change", "string, optional", "what is done"),
    ("steps[].action.id", "integer, optional", "id of the runner that gets other labels"),
    ("steps[].action.restarts", "boolean, optional", "whether the runner is restarted for it"),
    ("steps[].action.converts", "boolean, optional", "whether it replaces a runner that works"),
    ("steps[].action.clean_identity", "boolean, optional", "whether it deletes an earlier identity first"),
    ("steps[].action.traces[]", "string, optional", "what it deletes of the image's own machine"),
    ("steps[].action.ghost", "integer, optional", "id of this machine's old runner, which it deletes"),
    ("steps[].action.reclaim_name", "boolean, optional", "whether it takes the name back"),
    ("steps[].detail", "string", "description"),
];

const REMOVED: &[Field] = &[
    ("changed", "boolean", "whether there was anything to remove"),
    DIR,
    ("undone[]", "string", "step that was undone"),
    ("deregistered", "object?", "the runner that was deregistered"),
    ("deregistered.name", "string", "its name"),
    ("deregistered.id", "integer?", "its id"),
    ("deregistered.url", "string", "where it was registered"),
    ("left_on_server", "object?", "a runner that stays registered"),
    ("left_on_server.name", "string", "its name"),
    ("left_on_server.id", "integer?", "its id"),
    ("left_on_server.url", "string", "where it is registered"),
    (
        "left_on_server.why",
        "string",
        "`asked` (--local), `claimed` (known from its own files only) or `other-machine`",
    ),
];

/// In the order of the reference.
pub(super) const DOCUMENTS: &[Document] = &[
    Document {
        commands: &["install", "bake"],
        what: "The result of the installation.",
        fields: &[
            &[
                ("changed", "boolean", "whether anything was done"),
                DIR,
                ("version", "string?", "version of the runner"),
                ("user", "string?", "user that runs the jobs"),
                (
                    "isolated",
                    "boolean?",
                    "whether that user cannot become root; null if it is the current user",
                ),
                ("guard", "string?", "protection of the programs from jobs: `open`, `locked` or `sealed`"),
                ("runner", "object?", "the registered runner; null for an image"),
                ("runner.id", "integer?", "its id on the server"),
                ("runner.name", "string", "its name"),
                ("runner.url", "string", "organization, repository or enterprise"),
                ("runner.status", "string?", "`online` or `offline`; null if the server was not asked"),
            ],
            STEPS,
            &[
                ("service", "string?", "systemd unit; null without a service"),
                ("calls", "integer", "number of REST calls"),
            ],
        ],
        several: &[Several {
            when: "With `--count`, or if there are several instances",
            list: INSTANCES,
            or: &[("those of `remove` for one that was too many", REMOVED), OR_FAILED],
        }],
    },
    Document {
        commands: &["bake --check"],
        what: "The result of the check.",
        fields: &[&[
            ("sealed", "boolean", "whether nothing was found"),
            DIR,
            ("version", "string?", "version of the runner"),
            ("platform", "string", "platform of the image"),
            ("found[].what", "string", "what must not be in an image"),
            ("found[].fix", "string", "how to fix it"),
            ("looked_at[]", "string", "what was checked"),
            ("last", "string?", "what remains to be done at the end"),
        ]],
        several: &[],
    },
    Document {
        commands: &["plan"],
        what: "What `install` would do.",
        fields: &[
            STEPS,
            &[
                ("deps", "string?", "command that installs the missing libraries"),
                ("config_sh", "string?", "command line of config.sh, without the token"),
                ("settings[].key", "string", "key of an option"),
                ("settings[].value", "string", "its value"),
                ("settings[].origin", "string", "`flag`, `environment NAME`, `file PATH` or `default`"),
            ],
        ],
        several: &[Several {
            when: "With `--count`, or if there are several instances",
            list: INSTANCES,
            or: &[(
                "`removed` and no steps for one that is too many",
                &[("steps[]", "object", "none"), ("removed", "boolean", "always true")],
            )],
        }],
    },
    Document {
        commands: &["run"],
        what: "How the runner ended.",
        fields: &[&[
            DIR,
            ("jobs", "integer", "number of jobs"),
            (
                "because",
                "string",
                "`told` (a stop signal), `job-done`, `listener-done` or `removed` (by a lower count)",
            ),
            ("deregistered", "boolean", "whether the runner is off the server"),
            ("left_on_server", "object?", "a runner that stays registered"),
            ("left_on_server.name", "string", "its name"),
            ("left_on_server.id", "integer?", "its id"),
        ]],
        several: &[],
    },
    Document {
        commands: &["drain"],
        what: "The runner is idle.",
        fields: &[&[DIR, ("idle", "boolean", "always true")]],
        several: &[Several { when: NUMBERED, list: INSTANCES, or: &[OR_FAILED] }],
    },
    Document {
        commands: &["upgrade"],
        what: "The result of the upgrade.",
        fields: &[&[
            ("changed", "boolean", "whether the version is another one now"),
            DIR,
            ("from", "string?", "version before"),
            ("version", "string?", "version now"),
            ("reason", "string?", "why nothing was done"),
            ("status", "string?", "`online` or `offline`; null if the server was not asked"),
        ]],
        several: ALL,
    },
    Document { commands: &["remove"], what: "The result of the removal.", fields: &[REMOVED], several: ALL },
    Document {
        commands: &["status"],
        what: "The state of the runner whose directory was set by `--dir`, `RUNUP_DIR` or the configuration file.",
        fields: &[&[
            (
                "state",
                "string",
                "`absent`, `placed`, `unfinished`, `registered`, `unreachable`, `forgotten`, `stopped`, `offline` or `copied`",
            ),
            DIR,
            ("version", "string?", "version of the runner"),
            ("journal", "boolean", "whether runup installed it"),
            ("user", "string?", "user that runs the jobs"),
            ("guard", "string?", "protection of the programs from jobs: `open`, `locked` or `sealed`"),
            ("isolated", "boolean?", "whether the user cannot become root; null if unknown"),
            ("ways_to_root[]", "string", "how the user can become root"),
            ("not_locked", "string?", "why jobs can change the programs of the runner"),
            ("name", "string?", "name of the runner"),
            ("id", "integer?", "its id on the server"),
            ("url", "string?", "where it is registered"),
            ("server", "string?", "`online` or `offline`; null if the server was not asked"),
            ("busy", "boolean?", "whether it runs a job"),
            ("not_asked", "string?", "why the server was not asked"),
            ("waits_until", "string?", "until when `runup run` waits for the server's rate limit"),
            (
                "listener",
                "boolean?",
                "whether the runner's listener has a process; null if that cannot be seen",
            ),
            ("job", "boolean?", "whether a job runs on this machine; null if that cannot be seen"),
            ("service", "object?", "its service; null without one, or without systemd"),
            ("service.unit", "string", "systemd unit"),
            ("service.active", "string", "`active`, `inactive`, `failed` and so on"),
            ("service.enabled", "string", "`enabled`, `disabled` or `masked`"),
            ("service.restarts", "integer", "number of restarts by systemd"),
            ("service.result", "string", "result of the last run"),
            ("service.since", "string?", "when its state last changed, in the words of systemd"),
            ("service.log[]", "string", "last line of its log, if it is not well"),
            ("store", "object?", "the verified copies beside it, if there are any and root asks"),
            ("store.dir", "string", "directory of the copies"),
            ("store.versions[]", "string", "version of a copy"),
            ("store.bytes", "integer", "size of their files"),
            ("environment[]", "string", "name of what is set for the runner and its jobs"),
            ("support", "object?", "how long the version is supported, if a newer one is available"),
            ("support.newest", "string", "newest version that is available"),
            ("support.ends_at", "string?", "when the support of the installed version ends"),
            ("support.days", "integer?", "days until then"),
            ("support.pinned", "string?", "why runup keeps the version"),
            ("drift[]", "string", "difference from the settings"),
        ]],
        several: &[
            Several { when: "Without a directory", list: RUNNERS, or: &[] },
            Several { when: NUMBERED, list: INSTANCES, or: &[OR_FAILED] },
        ],
    },
    Document {
        commands: &["logs"],
        what: "The lines of the logs.",
        fields: &[&[
            ("lines[].at", "string?", "when it was written"),
            ("lines[].source", "string", "`journal`, `listener` or `worker`"),
            ("lines[].text", "string", "the line, which a job may have written"),
        ]],
        several: &[Several { when: NUMBERED, list: INSTANCES, or: &[OR_FAILED] }],
    },
];
