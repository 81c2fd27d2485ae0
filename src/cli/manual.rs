//! What help and man pages say besides the options: notes, exit codes, examples, the environment and files.

use crate::error::Class;
use std::fmt::Write as _;

/// The documentation of one command.
pub(super) struct Page {
    /// The words after `runup`.
    pub path: &'static str,
    /// Paragraphs.
    pub notes: &'static [&'static str],
    /// What single exit codes mean for it, besides the table.
    pub exit: &'static [(&'static str, &'static str)],
    /// Command lines, each with what it is for.
    pub examples: &'static [(&'static str, &'static str)],
}

/// One page a command.
pub(super) const PAGES: [Page; 26] = [
    Page {
        path: "",
        notes: &[
            "Each option can also be set in the environment (--runner-version: RUNUP_RUNNER_VERSION) and in the \
             configuration file (runner-version). The option takes precedence over the environment, which takes \
             precedence over the file.",
        ],
        exit: &[],
        examples: &[
            (
                "Install a runner for an organization",
                "sudo runup install --url https://github.com/octo-org --token-file /etc/runup/token",
            ),
            ("Remove it", "sudo runup remove --token-file /etc/runup/token"),
        ],
    },
    Page {
        path: "install",
        notes: &[
            "Run it again at any time: it does only what is missing, and if a step fails, it undoes the earlier ones.",
        ],
        exit: &[],
        examples: &[
            (
                "Install a runner with an additional label",
                "sudo runup install --url https://github.com/octo-org --token-file /etc/runup/token --labels gpu",
            ),
            (
                "Install an ephemeral runner that re-registers after each job",
                "sudo runup install --url https://github.com/octo-org/octo-repo --token-file /etc/runup/token --ephemeral",
            ),
        ],
    },
    Page {
        path: "run",
        notes: &[
            "The first SIGTERM or SIGINT starts to drain, for the time that --drain sets; a second one stops at once. If \
             a shutdown could not deregister the runner, the next run does.",
        ],
        exit: &[
            (
                "0",
                "the job of an ephemeral runner is done, the listener exited by itself, or a stop signal was obeyed",
            ),
            ("65", "the just-in-time configuration is malformed"),
            ("69", "the just-in-time configuration was used before"),
            ("75", "the runner, or its just-in-time configuration, is in use on another machine"),
            ("79", "the listener failed repeatedly"),
            ("80", "the version of the runner is too old"),
            ("128+n", "the signal interrupted a job or the installation"),
        ],
        examples: &[
            (
                "Run one job in a container, then exit",
                "runup run --url https://github.com/octo-org --token-file /run/secrets/token --ephemeral",
            ),
            (
                "Run a just-in-time runner, without a token",
                "runup run --jit-config-file /run/runup/jit-config",
            ),
        ],
    },
    Page {
        path: "drain",
        notes: &["It starts and stops nothing."],
        exit: &[("0", "the runner is idle"), ("75", "a job was still running at the deadline")],
        examples: &[
            ("Wait until the runner is idle", "runup drain"),
            ("Wait for at most 10 minutes", "runup drain --dir /srv/runner --deadline 10m"),
        ],
    },
    Page {
        path: "bake",
        notes: &[
            "Machines that start from the image register with `runup install`, which downloads nothing then.",
        ],
        exit: &[
            ("69", "--check: the image holds no runner"),
            ("78", "--check: the image holds an identity, a log, a token or a machine id"),
            ("80", "--no-refresh: the runner of the image is too old to register"),
        ],
        examples: &[
            (
                "Install a runner into a mounted image",
                "sudo runup bake --root /mnt/image --url https://github.com/octo-org --token-file token",
            ),
            ("Check an image before it is published", "sudo runup bake --check --root /mnt/image"),
        ],
    },
    Page {
        path: "upgrade",
        notes: &[
            "A runner whose programs belong to root cannot update itself. upgrade downloads and verifies a newer \
             version, waits until the runner is idle, stops the service, replaces the runner and starts the service. The \
             registration stays. If the new version does not come online, the old one is restored.",
            "`runup install` sets up a timer that does this daily (--upgrade-at, --upgrade-spread). Once a newer version \
             has been available for 25 days, the timer waits for a running job however long it takes. A runner that was \
             installed with --runner-version, --archive or --no-refresh keeps its version.",
        ],
        exit: &[
            ("0", "the runner was upgraded, or there was nothing to do"),
            ("75", "a job was running all the time"),
            ("79", "the new version did not come online, and the old one was restored"),
        ],
        examples: &[
            ("Upgrade now", "sudo runup upgrade --token-file /etc/runup/token"),
            ("Wait for at most 1 hour for a running job", "sudo runup upgrade --window 1h"),
        ],
    },
    Page {
        path: "remove",
        notes: &[
            "It removes what runup created, and nothing else. A runner that is gone already is a success. On a machine with \
             several runners, pass --dir, --instance or --all. With --all, one that cannot be removed does not stop the others; the exit code is 75 if any failure can pass, else that of the first.",
        ],
        exit: &[("78", "there are several runners, and none of --dir, --instance and --all was passed")],
        examples: &[
            (
                "Deregister the runner, and remove it from this machine",
                "sudo runup remove --token-file /etc/runup/token",
            ),
            ("Remove it from this machine only", "sudo runup remove --local"),
            ("Remove every runner of this machine", "sudo runup remove --all --token-file /etc/runup/token"),
        ],
    },
    Page {
        path: "status",
        notes: &[
            "Without --dir, RUNUP_DIR or a dir in the configuration file, it shows every runner of this machine: one alone in \
             full, several as a table, and with --json a document with a list. The exit code is 75 if any of them has it, else the first that is not 0. With a \
             directory, it shows that one, and --json prints its object.",
        ],
        exit: &[
            ("0", "the runner is registered, or installed in an image, as configured"),
            ("69", "no runner is installed"),
            ("75", "the runner is offline, the server cannot be asked, or an installation was interrupted"),
            ("77", "the server refuses the credential"),
            (
                "78",
                "the runner differs from the settings, is unknown to GitHub, or belongs to another machine",
            ),
            ("79", "the service of the runner is not running"),
        ],
        examples: &[
            ("Show the state of every runner", "runup status"),
            ("Show the state of one of several runners", "runup status --dir /srv/second"),
            ("Ask GitHub as well, and print JSON", "sudo runup status --token-file /etc/runup/token --json"),
        ],
    },
    Page {
        path: "logs",
        notes: &["It shows the last 100 lines of each log, in the order of time. Jobs can write there."],
        exit: &[("0", "the logs were shown, or a signal ended --follow")],
        examples: &[
            ("Show the logs of the runner", "sudo runup logs"),
            ("Follow the logs of one of several runners", "sudo runup logs --follow --dir /srv/second"),
        ],
    },
    Page {
        path: "plan",
        notes: &["It changes nothing, and it shows where each setting comes from."],
        exit: &[],
        examples: &[
            (
                "Show what install would do",
                "sudo runup plan --url https://github.com/octo-org --token-file /etc/runup/token",
            ),
            ("Check a configuration file", "runup plan --config config.toml --json"),
        ],
    },
    Page {
        path: "runners",
        notes: &[],
        exit: &[],
        examples: &[(
            "List the runners of a repository",
            "runup runners list --url https://github.com/octo-org/octo-repo",
        )],
    },
    Page {
        path: "runners list",
        notes: &[],
        exit: &[],
        examples: &[
            ("List the runners of an organization", "runup runners list --url https://github.com/octo-org"),
            (
                "List the offline runners with a label, as JSON",
                "runup runners list --url https://github.com/octo-org --status offline --label gpu --json",
            ),
        ],
    },
    Page {
        path: "runners show",
        notes: &[],
        exit: &[("69", "the runner does not exist")],
        examples: &[
            ("Show a runner by its name", "runup runners show build-1 --url https://github.com/octo-org"),
            (
                "Show a runner by its id, as JSON",
                "runup runners show 42 --url https://github.com/octo-org --json",
            ),
        ],
    },
    Page {
        path: "runners delete",
        notes: &["To remove the runner of a machine that still exists, run `runup remove` there."],
        exit: &[("69", "the runner does not exist")],
        examples: &[
            ("Delete a runner by its name", "runup runners delete build-1 --url https://github.com/octo-org"),
            ("Delete a runner by its id", "runup runners delete 42 --url https://github.com/octo-org"),
        ],
    },
    Page {
        path: "runners create-jit",
        notes: &["The machine that runs it needs no token: `runup run --jit-config-file FILE`."],
        exit: &[],
        examples: &[
            (
                "Create a runner for a container",
                "runup runners create-jit --url https://github.com/octo-org --jit-config-out /run/runup/jit-config",
            ),
            (
                "Record it for delete-on-stop",
                "runup runners create-jit --url https://github.com/octo-org --jit-config-out jit-config --receipt receipt",
            ),
        ],
    },
    Page {
        path: "runners delete-on-stop",
        notes: &["Run it beside a container that has no token."],
        exit: &[],
        examples: &[
            (
                "Delete the recorded runner when the pod stops",
                "runup runners delete-on-stop --url https://github.com/octo-org --receipt /run/runup/receipt",
            ),
            (
                "Use a token from a file",
                "runup runners delete-on-stop --url https://github.com/octo-org --receipt receipt --token-file token",
            ),
        ],
    },
    Page {
        path: "runners prune",
        notes: &[
            "Without --label and --prefix, it deletes runners that earlier installations of this machine left behind, \
             and keeps those that are installed now. With them, it deletes the matching runners of all machines. A \
             runner that was just registered and has not started yet is offline too.",
        ],
        exit: &[],
        examples: &[
            (
                "Show which runners would be deleted",
                "sudo runup runners prune --url https://github.com/octo-org --dry-run",
            ),
            (
                "Delete the stale runners of a fleet",
                "runup runners prune --url https://github.com/octo-org --label spot-fleet",
            ),
        ],
    },
    Page {
        path: "downloads",
        notes: &[
            "Without --verify, only the server of --url is asked. With it, the public releases of github.com/actions/runner \
             are, which anyone may ask 60 times an hour.",
        ],
        exit: &[("65", "with --verify, if sources disagree: the message lists what each has")],
        examples: &[
            (
                "List the archives with their SHA-256 digests",
                "runup downloads --url https://github.com/octo-org",
            ),
            ("Print them as JSON", "runup downloads --url https://github.com/octo-org --json"),
            (
                "Check the digests before a version is pinned",
                "runup downloads --verify --url https://github.com/octo-org",
            ),
        ],
    },
    Page {
        path: "token",
        notes: &["The token is printed on stdout, and the time when it expires on stderr."],
        exit: &[],
        examples: &[
            (
                "Print a registration token",
                "runup token registration --url https://github.com/octo-org --token-file /etc/runup/token",
            ),
            (
                "Print a remove token",
                "runup token remove --url https://github.com/octo-org --token-file /etc/runup/token",
            ),
        ],
    },
    Page {
        path: "sandbox",
        notes: &[
            "It serves the REST API and a runner archive, prints its URLs and token when it is ready, and runs until a \
                  signal stops it.",
        ],
        exit: &[],
        examples: &[
            (
                "Listen on a fixed port, with a fixed token",
                "runup sandbox --listen 127.0.0.1:8080 --token-file token",
            ),
            ("Offer a certain version of the runner", "runup sandbox --runner-version 2.336.0"),
        ],
    },
    Page {
        path: "demo",
        notes: &["It needs no account, and leaves nothing behind."],
        exit: &[],
        examples: &[
            ("Show each step", "runup demo"),
            ("Print how long each step took, as JSON", "runup demo --json"),
        ],
    },
    super::doctor::PAGE,
    super::explain::PAGE,
    Page {
        path: "generate",
        notes: &[],
        exit: &[],
        examples: &[("Write the man pages into a directory", "runup generate man target/man")],
    },
    super::generate::MAN_PAGE,
    super::generate::COMPLETIONS_PAGE,
];

/// Variables that are not options, each with its meaning.
pub(super) const ENVIRONMENT: [(&str, &str); 9] = [
    ("RUNUP_TOKEN", "The token for the REST API."),
    (
        "GITHUB_TOKEN, GH_TOKEN",
        "The same, if neither RUNUP_TOKEN nor the systemd credential runup.token is set.",
    ),
    ("RUNUP_REGISTRATION_TOKEN", "A registration token, used instead of the REST API."),
    ("RUNUP_REMOVE_TOKEN", "A remove token, used instead of the REST API."),
    (
        "CREDENTIALS_DIRECTORY",
        "The directory of systemd credentials: runup.token, runup.app-key, runup.registration-token, \
         runup.remove-token and runup.jit-config.",
    ),
    (
        "https_proxy, http_proxy, no_proxy",
        "The proxies to use, and the hosts to reach without one; also in upper case. They are passed on to the runner.",
    ),
    (
        "SSL_CERT_FILE, SSL_CERT_DIR",
        "Certificates to trust instead of the system's. They are passed on to the runner.",
    ),
    (
        "XDG_STATE_HOME",
        "The directory for the state of an ordinary user, instead of ~/.local/state; see also --state-dir.",
    ),
    ("TMPDIR", "The directory for the files of runup demo."),
];

/// Files, each with its meaning.
pub(super) const FILES: [(&str, &str); 7] = [
    ("/etc/runup/config.toml", "The configuration file of root, see runup.toml(5)."),
    ("~/.config/runup/config.toml", "The configuration file of any other user."),
    (
        "/etc/runup/token",
        "The token for the REST API, by convention. runup reads it only if token-file names it.",
    ),
    (
        "/etc/runup/app-key.pem",
        "The private key of a GitHub App, by convention. runup reads it only if app-key-file names it.",
    ),
    ("/opt/actions-runner", "The runner that root installs. An ordinary user's is in ~/actions-runner."),
    (
        "/var/lib/runup",
        "The journals: what runup changed, and how to undo it. An ordinary user's are in ~/.local/state/runup.",
    ),
    ("/etc/systemd/system/runup-*.service", "The service that runs the runner."),
];

/// The page of a command.
pub(super) fn page_of(path: &str) -> Option<&'static Page> {
    PAGES.iter().find(|page| page.path == path)
}

/// The examples of a command.
pub(super) fn examples_of(path: &str) -> &'static [(&'static str, &'static str)] {
    page_of(path).map_or(&[], |page| page.examples)
}

/// The exit codes of every command, as text, each with its meaning.
pub(super) fn exit_codes() -> Vec<(String, &'static str)> {
    let classes = Class::ALL.iter().map(|class| (class.exit_code().to_string(), class.meaning()));
    std::iter::once(("0".to_owned(), "success; also if there was nothing to do"))
        .chain(classes)
        .chain(std::iter::once(("128+n".to_owned(), "interrupted by signal n, after cleaning up")))
        .collect()
}

/// What `--help` of a command shows after the options.
pub(super) fn help_of(path: &str) -> Option<String> {
    let page = page_of(path)?;
    let mut text = String::new();
    for note in page.notes {
        let _ = write!(text, "{note}\n\n");
    }
    if path.is_empty() {
        text.push_str("Exit codes:\n");
        for (code, meaning) in exit_codes() {
            let _ = writeln!(text, "  {code:<4} {meaning}");
        }
        text.push('\n');
    } else if !page.exit.is_empty() {
        text.push_str("Exit codes (all of them: runup --help):\n");
        for (code, meaning) in page.exit {
            let _ = writeln!(text, "  {code:<5} {meaning}");
        }
        text.push('\n');
    }
    text.push_str("Examples:\n");
    for (meaning, line) in page.examples {
        let _ = writeln!(text, "  {meaning}:\n    {line}");
    }
    Some(text)
}
