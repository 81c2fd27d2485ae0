//! The JSON documents that `--json` prints, for the reference. A test compares them with what the commands print.

use std::fmt::Write as _;

/// A field: its path, its type and its meaning. `[]` stands for the elements of a list, `?` after a type for null.
type Field = (&'static str, &'static str, &'static str);

/// What a command prints.
struct Document {
    /// The words after `runup`, of every command that prints it.
    commands: &'static [&'static str],
    /// What it is.
    what: &'static str,
    fields: &'static [Field],
}

const RUNNER: &[Field] = &[
    ("id", "number", "id of the runner on the server"),
    ("name", "string", "name"),
    ("os", "string", "operating system, in the server's words"),
    ("status", "string", "`online` or `offline`"),
    ("busy", "boolean", "whether it runs a job"),
    ("runner_group_id", "number, optional", "id of its runner group"),
    ("labels[].id", "number, optional", "id of a label"),
    ("labels[].name", "string", "name of a label"),
    ("labels[].type", "string, optional", "`read-only` for a default label, `custom` for another"),
    ("version", "string, optional", "version of the runner"),
    ("ephemeral", "boolean, optional", "whether it takes one job only"),
];

const DOCUMENTS: &[Document] = &[
    Document {
        commands: &["install", "bake"],
        what: "The result of the installation. `runner` is null for an image. With `--count`, or if there are several instances, \
               a document with the list `instances`: one element for each, with its number in `instance`, `dir`, and these fields, \
               or those of `remove` for one that was too many, or `error` with the fields of an [error](#errors).",
        fields: &[
            ("changed", "boolean", "whether anything was done"),
            ("dir", "string", "directory of the runner"),
            ("version", "string?", "version of the runner"),
            ("user", "string?", "user that runs the jobs"),
            ("isolated", "boolean?", "whether that user cannot become root; null if it is the current user"),
            ("guard", "string?", "protection of the programs from jobs: `open`, `locked` or `sealed`"),
            ("runner.id", "number?", "id of the runner on the server"),
            ("runner.name", "string", "name of the runner"),
            ("runner.url", "string", "organization, repository or enterprise"),
            ("runner.status", "string?", "`online` or `offline`; null if the server was not asked"),
            (
                "steps[].step",
                "string",
                "`create-user`, `place-runner`, `write-environment`, `register`, `write-service` or `start-service`",
            ),
            ("steps[].action", "object", "`action` in it is `keep` or `do`; `change` says what is done"),
            ("steps[].detail", "string", "description"),
            ("service", "string?", "systemd unit; null without a service"),
            ("calls", "number", "number of REST calls"),
        ],
    },
    Document {
        commands: &["bake --check"],
        what: "The result of the check.",
        fields: &[
            ("sealed", "boolean", "whether nothing was found"),
            ("dir", "string", "directory of the runner"),
            ("version", "string?", "version of the runner"),
            ("platform", "string", "platform of the image"),
            ("found[].what", "string", "what must not be in an image"),
            ("found[].fix", "string", "how to fix it"),
            ("looked_at[]", "string", "what was checked"),
            ("last", "string?", "what remains to be done at the end"),
        ],
    },
    Document {
        commands: &["plan"],
        what: "What `install` would do. With `--count`, or if there are several instances, a document with the list `instances`, \
               each with `instance`, `dir`, and these fields, or `removed` for one that is too many.",
        fields: &[
            ("steps[].step", "string", "as for `install`"),
            ("steps[].action", "object", "as for `install`"),
            ("steps[].detail", "string", "description"),
            ("deps", "string?", "command that installs the missing libraries"),
            ("config_sh", "string?", "command line of config.sh, without the token"),
            ("settings[].key", "string", "key of an option"),
            ("settings[].value", "string", "its value"),
            ("settings[].origin", "string", "`flag`, `environment NAME`, `file PATH` or `default`"),
        ],
    },
    Document {
        commands: &["run"],
        what: "How the runner ended.",
        fields: &[
            ("dir", "string", "directory of the runner"),
            ("jobs", "number", "number of jobs"),
            (
                "because",
                "string",
                "`told` (a stop signal), `job-done`, `listener-done` or `removed` (by a lower count)",
            ),
            ("deregistered", "boolean", "whether the runner is off the server"),
            ("left_on_server.name", "string", "name of a runner that stays registered"),
            ("left_on_server.id", "number?", "its id"),
        ],
    },
    Document {
        commands: &["drain"],
        what: "The runner is idle. If there are several instances, a document with the list `instances`, as for `install`.",
        fields: &[("dir", "string", "directory of the runner"), ("idle", "boolean", "always true")],
    },
    Document {
        commands: &["upgrade"],
        what: "The result of the upgrade. With `--all` a list with one for each runner, or, if there are several instances, a \
               document with the list `instances`, as for `install`.",
        fields: &[
            ("changed", "boolean", "whether the version is another one now"),
            ("dir", "string", "directory of the runner"),
            ("from", "string?", "version before"),
            ("version", "string?", "version now"),
            ("reason", "string?", "why nothing was done"),
            ("status", "string?", "`online` or `offline`; null if the server was not asked"),
        ],
    },
    Document {
        commands: &["remove"],
        what: "The result of the removal. With `--all` a list with one for each runner, where one that failed has `dir` and \
               `error`, with the fields of an [error](#errors); if there are several instances, a document with the list \
               `instances`, as for `install`.",
        fields: &[
            ("changed", "boolean", "whether there was anything to remove"),
            ("dir", "string", "directory of the runner"),
            ("undone[]", "string", "step that was undone"),
            ("deregistered.name", "string", "name of the runner that was deregistered"),
            ("deregistered.id", "number?", "its id"),
            ("deregistered.url", "string", "where it was registered"),
            ("left_on_server.name", "string", "name of a runner that stays registered"),
            ("left_on_server.id", "number?", "its id"),
            ("left_on_server.url", "string", "where it is registered"),
            (
                "left_on_server.why",
                "string",
                "`asked` (--local), `claimed` (known from its own files only) or `other-machine`",
            ),
        ],
    },
    Document {
        commands: &["status"],
        what: "The state of the runner, if a directory was set by `--dir`, `RUNUP_DIR` or the configuration file. Otherwise a \
               list with the state of every runner of this machine; if there are several instances, a document with the list \
               `instances`, each with its number in `instance`, which is null for another runner.",
        fields: &[
            (
                "state",
                "string",
                "`absent`, `placed`, `unfinished`, `registered`, `unreachable`, `forgotten`, `stopped`, `offline` or `copied`",
            ),
            ("dir", "string", "directory of the runner"),
            ("version", "string?", "version of the runner"),
            ("journal", "boolean", "whether runup installed it"),
            ("user", "string?", "user that runs the jobs"),
            ("guard", "string?", "protection of the programs from jobs: `open`, `locked` or `sealed`"),
            ("isolated", "boolean?", "whether the user cannot become root; null if unknown"),
            ("ways_to_root[]", "string", "how the user can become root"),
            ("not_locked", "string?", "why jobs can change the programs of the runner"),
            ("name", "string?", "name of the runner"),
            ("id", "number?", "its id on the server"),
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
            ("service.unit", "string", "systemd unit"),
            ("service.active", "string", "`active`, `inactive`, `failed` and so on"),
            ("service.enabled", "string", "`enabled`, `disabled` or `masked`"),
            ("service.restarts", "number", "number of restarts by systemd"),
            ("service.result", "string", "result of the last run"),
            ("service.since", "string?", "when its state last changed, in the words of systemd"),
            ("service.log[]", "string", "last line of its log, if it is not well"),
            (
                "store",
                "object",
                "the verified copies beside it, if there are any and root asks: `dir`, `versions`, and the `bytes` of their files",
            ),
            ("environment", "string[]", "names of what is set for the runner and its jobs"),
            ("support.newest", "string", "newest version that is available"),
            ("support.ends_at", "string?", "when the support of the installed version ends"),
            ("support.days", "number?", "days until then"),
            ("support.pinned", "string?", "why runup keeps the version"),
            ("drift[]", "string", "difference from the settings"),
        ],
    },
    Document {
        commands: &["logs"],
        what: "A list of lines, each with these fields. If there are several instances, a document with the list `instances`, each \
               with `instance`, `dir`, and the list of its lines in `lines`.",
        fields: &[
            ("at", "string?", "when it was written"),
            ("source", "string", "`journal`, `listener` or `worker`"),
            ("text", "string", "the line, which a job may have written"),
        ],
    },
    Document {
        commands: &["runners list"],
        what: "A list of runners, each with these fields.",
        fields: RUNNER,
    },
    Document { commands: &["runners show"], what: "A runner.", fields: RUNNER },
    Document {
        commands: &["runners delete"],
        what: "The deleted runner.",
        fields: &[
            ("deleted", "object", "the runner, as in `runners show`"),
            ("already_gone", "boolean", "whether the server had deleted it already"),
        ],
    },
    Document {
        commands: &["runners create-jit"],
        what: "The created runner. `jit_config` takes the place of `jit_config_out` with `--jit-config-out -`.",
        fields: &[
            ("runner", "object", "the runner, as in `runners show`"),
            ("jit_config_out", "string", "file with the just-in-time configuration"),
            ("jit_config", "string", "the just-in-time configuration, a secret"),
        ],
    },
    Document {
        commands: &["runners delete-on-stop"],
        what: "The deleted runner; null if none was created.",
        fields: &[
            ("runner.version", "number", "version of the format"),
            ("runner.url", "string", "where it was registered"),
            ("runner.name", "string", "its name"),
            ("runner.id", "number?", "its id"),
            ("already_gone", "boolean", "whether the server had deleted it already"),
        ],
    },
    Document {
        commands: &["runners prune"],
        what: "The stale runners.",
        fields: &[
            ("deleted[]", "object", "a deleted runner, as in `runners show`, and `already_gone`"),
            ("kept[].runner", "object", "a runner that stays, as in `runners show`"),
            ("kept[].why", "string", "why it stays"),
            ("dry_run", "boolean", "whether nothing was deleted because of --dry-run"),
        ],
    },
    Document {
        commands: &["downloads"],
        what: "A list of archives, each with these fields.",
        fields: &[
            ("os", "string", "operating system"),
            ("architecture", "string", "architecture"),
            ("filename", "string", "name of the archive"),
            ("download_url", "string", "where to download it"),
            ("sha256_checksum", "string?", "SHA-256 digest"),
            ("needs_download_token", "boolean", "whether the download needs a token"),
            ("confirmed_by[]", "string", "another source with the same digest; only with --verify"),
        ],
    },
    Document {
        commands: &["token"],
        what: "The token.",
        fields: &[("token", "string", "the token, a secret"), ("expires_at", "string", "when it expires")],
    },
    Document {
        commands: &["demo"],
        what: "The result of the demo.",
        fields: &[
            ("proven", "boolean", "always true"),
            ("seconds", "number", "how long it took"),
            ("phases[].phase", "string", "step"),
            ("phases[].detail", "string", "what it did"),
            ("phases[].seconds", "number", "how long it took"),
        ],
    },
    Document {
        commands: &["doctor"],
        what: "What was checked, in the order in which `install` would meet it.",
        fields: &[
            ("checks[].id", "string", "its id, which stays the same"),
            ("checks[].verdict", "string", "`fine`, `fails` or `unknown`"),
            ("checks[].detail", "string", "what was found"),
            ("checks[].fix", "string?", "what to do, if it fails"),
            ("checks[].name", "string?", "name of the error, which `runup explain NAME` explains"),
            ("checks[].exit_code", "number?", "exit code with which `install` would end"),
        ],
    },
    Document {
        commands: &["explain"],
        what: "An error; without a name a list of all of them. For an exit code, an object with `exit_code`, `meaning`, `commands` \
               (what it means to single ones: `command`, `meaning`) and `errors`, the list of those that end with it.",
        fields: &[
            ("name", "string", "its name"),
            ("exit_codes[]", "number", "exit codes that it can have; the text `128+n` if a signal caused it"),
            ("cause", "string", "what it means"),
            ("fix", "string", "what to do"),
        ],
    },
    Document {
        commands: &["generate man", "generate completions"],
        what: "What was generated.",
        fields: &[
            ("dir", "string", "directory of the man pages"),
            ("shell", "string", "shell of the completion script"),
            ("script", "string", "completion script"),
        ],
    },
];

const ERROR: &[Field] = &[
    ("error.name", "string", "name of the error, which `runup explain NAME` explains"),
    ("error.class", "string", "class of the error, see [exit codes](exit-codes.md)"),
    ("error.exit_code", "number", "exit code"),
    ("error.message", "string", "message"),
    ("error.hint", "string?", "what to do"),
    ("error.output", "string?", "the end of the output of a failed command"),
    ("error.not_undone[]", "string", "what could not be undone"),
    ("error.command", "string?", "command to run as root"),
];

/// The page of the reference.
pub(super) fn page() -> String {
    let mut text = "# JSON output\n\n\
                    With `--json`, a command prints one JSON document on stdout. A type with a question mark can be null, \
                    and so can the object around the field, where the field has nothing to describe. Fields can be added in \
                    later versions.\n\n## Errors\n\n"
        .to_owned();
    table(&mut text, ERROR);
    for document in DOCUMENTS {
        let commands: Vec<String> =
            document.commands.iter().map(|command| format!("`runup {command}`")).collect();
        let _ = write!(text, "\n## {}\n\n{}\n\n", commands.join(", "), document.what);
        table(&mut text, document.fields);
    }
    text
}

fn table(text: &mut String, fields: &[Field]) {
    text.push_str("| field | type | meaning |\n|---|---|---|\n");
    for (field, kind, meaning) in fields {
        let _ = writeln!(text, "| `{field}` | {kind} | {meaning} |");
    }
}
