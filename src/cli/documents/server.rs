//! The documents of the commands that ask the server, or explain and generate.

use super::{ALREADY_GONE, Document, EXPLAINED, RUNNER};

/// In the order of the reference.
pub(super) const DOCUMENTS: &[Document] = &[
    Document {
        commands: &["runners list"],
        what: "The runners.",
        fields: &[&[("runners[]", "runner", "a runner, as in `runners show`")]],
        several: &[],
    },
    Document { commands: &["runners show"], what: "A runner.", fields: &[RUNNER], several: &[] },
    Document {
        commands: &["runners delete"],
        what: "The deleted runner.",
        fields: &[&[("deleted", "runner", "the runner, as in `runners show`"), ALREADY_GONE]],
        several: &[],
    },
    Document {
        commands: &["runners create-jit"],
        what: "The created runner. `jit_config` takes the place of `jit_config_out` with `--jit-config-out -`.",
        fields: &[&[
            ("runner", "runner", "the runner, as in `runners show`"),
            ("jit_config_out", "string, optional", "file with the just-in-time configuration"),
            ("jit_config", "string, optional", "the just-in-time configuration, a secret"),
        ]],
        several: &[],
    },
    Document {
        commands: &["runners delete-on-stop"],
        what: "The deleted runner.",
        fields: &[&[
            ("runner", "object?", "the runner; null if none was created"),
            ("runner.version", "integer", "version of the format"),
            ("runner.url", "string", "where it was registered"),
            ("runner.name", "string", "its name"),
            ("runner.id", "integer?", "its id"),
            ALREADY_GONE,
        ]],
        several: &[],
    },
    Document {
        commands: &["runners prune"],
        what: "The stale runners.",
        fields: &[&[
            ("deleted[]", "gone", "a deleted runner, as in `runners show`, and `already_gone`"),
            ("kept[].runner", "runner", "a runner that stays, as in `runners show`"),
            ("kept[].why", "string", "why it stays"),
            ("dry_run", "boolean", "whether nothing was deleted because of --dry-run"),
        ]],
        several: &[],
    },
    Document {
        commands: &["downloads"],
        what: "The archives of the runner.",
        fields: &[&[
            ("downloads[].os", "string", "operating system"),
            ("downloads[].architecture", "string", "architecture"),
            ("downloads[].filename", "string", "name of the archive"),
            ("downloads[].download_url", "string", "where to download it"),
            ("downloads[].sha256_checksum", "string?", "SHA-256 digest"),
            ("downloads[].needs_download_token", "boolean", "whether the download needs a token"),
            (
                "downloads[].confirmed_by[]",
                "string",
                "another source with the same digest; only with --verify",
            ),
        ]],
        several: &[],
    },
    Document {
        commands: &["token"],
        what: "The token.",
        fields: &[&[("token", "string", "the token, a secret"), ("expires_at", "string", "when it expires")]],
        several: &[],
    },
    Document {
        commands: &["sandbox"],
        what: "The fake GitHub, in one line, as soon as it is ready, with or without `--json`.",
        fields: &[&[
            ("url", "string", "its URL"),
            ("org_url", "string", "URL of an organization, for --url"),
            ("api_url", "string", "URL of the REST API"),
            ("token", "string", "token that it accepts"),
            ("version", "string", "newest runner version that it offers"),
        ]],
        several: &[],
    },
    Document {
        commands: &["demo"],
        what: "The result of the demo.",
        fields: &[&[
            ("proven", "boolean", "always true"),
            ("seconds", "number", "how long it took"),
            ("phases[].phase", "string", "step"),
            ("phases[].detail", "string", "what it did"),
            ("phases[].seconds", "number", "how long it took"),
        ]],
        several: &[],
    },
    Document {
        commands: &["doctor"],
        what: "What was checked, in the order in which `install` would meet it.",
        fields: &[&[
            ("checks[].id", "string", "its id, which stays the same"),
            ("checks[].verdict", "string", "`fine`, `fails` or `unknown`"),
            ("checks[].detail", "string", "what was found"),
            ("checks[].fix", "string?", "what to do, if it fails"),
            ("checks[].name", "string?", "name of the error, which `runup explain NAME` explains"),
            ("checks[].exit_code", "integer?", "exit code with which `install` would end"),
        ]],
        several: &[],
    },
    Document {
        commands: &["explain"],
        what: "Every error.",
        fields: &[&[("errors[]", "explained", "an error, as in `explain NAME`")]],
        several: &[],
    },
    Document { commands: &["explain NAME"], what: "An error.", fields: &[EXPLAINED], several: &[] },
    Document {
        commands: &["explain CODE"],
        what: "An exit code.",
        fields: &[&[
            ("exit_code", "integer", "the exit code"),
            ("meaning", "string", "what it means"),
            ("commands[].command", "string", "a command to which it means something of its own"),
            ("commands[].meaning", "string", "what that is"),
            ("errors[]", "explained", "an error that ends with it, as in `explain NAME`"),
        ]],
        several: &[],
    },
    Document {
        commands: &["generate man"],
        what: "What was generated.",
        fields: &[&[("dir", "string", "directory of the man pages")]],
        several: &[],
    },
    Document {
        commands: &["generate completions"],
        what: "What was generated.",
        fields: &[&[
            ("shell", "string", "shell of the completion script"),
            ("script", "string", "completion script"),
        ]],
        several: &[],
    },
];
