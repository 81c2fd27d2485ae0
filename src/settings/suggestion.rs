//! What was probably meant by an option, a configuration key or a command that does not exist.
//!
//! A suggestion means the same thing: it is in a table here, or differs from what was written by a typo. Similar letters
//! alone are not enough, since `--organisation` is no misspelt `--os`.

/// Names that people know from `config.sh`, other tools and plain English, by the option or key that means the same.
/// The same name may be in several lines: the first option that the command has is suggested.
const OPTIONS: [(&str, &[&str]); 51] = [
    (
        "url",
        &[
            "org",
            "organization",
            "organisation",
            "repo",
            "repository",
            "owner",
            "enterprise",
            "account",
            "scope",
            "github",
            "github-url",
            "runner-url",
            "server",
            "server-url",
            "host",
            "project",
        ],
    ),
    ("api-url", &["api", "api-base", "api-endpoint", "base-url", "endpoint", "github-api-url"]),
    ("allow-http", &["http", "plain-http", "no-tls", "no-ssl", "no-https"]),
    (
        "ca-file",
        &[
            "ca",
            "ca-cert",
            "cacert",
            "ca-bundle",
            "ca-certificate",
            "cert",
            "certificate",
            "certificates",
            "root-ca",
        ],
    ),
    (
        "token-file",
        &[
            "token",
            "pat",
            "personal-access-token",
            "access-token",
            "github-token",
            "gh-token",
            "api-token",
            "auth",
            "auth-token",
            "credential",
            "credentials",
            "secret",
            "password",
            "token-path",
            "pat-file",
        ],
    ),
    (
        "token-command",
        &["token-cmd", "token-program", "credential-command", "credential-helper", "password-command"],
    ),
    ("app-id", &["app", "github-app", "github-app-id", "client-id", "app-client-id", "integration-id"]),
    (
        "app-key-file",
        &[
            "app-key",
            "app-private-key",
            "app-private-key-file",
            "app-pem",
            "app-key-path",
            "private-key",
            "private-key-file",
            "pem",
        ],
    ),
    ("app-installation-id", &["installation-id", "installation", "app-installation"]),
    ("app-sign-command", &["sign-command", "app-signer"]),
    ("registration-token-file", &["registration-token", "reg-token", "runner-token"]),
    ("remove-token-file", &["remove-token", "removal-token", "deregistration-token"]),
    ("deadline", &["timeout", "time-limit", "max-time"]),
    ("window", &["wait", "max-wait"]),
    ("deadline", &["wait", "max-wait"]),
    (
        "dir",
        &[
            "folder",
            "directory",
            "path",
            "location",
            "destination",
            "dest",
            "target",
            "prefix",
            "install-dir",
            "install-path",
            "runner-dir",
            "runner-directory",
            "runner-folder",
            "runner-home",
        ],
    ),
    ("user", &["username", "user-name", "run-as", "runas", "runner-user", "service-user"]),
    ("root", &["rootfs", "root-dir", "root-directory", "chroot", "sysroot", "image", "image-root"]),
    ("runner-version", &["version", "release", "runner-release"]),
    ("archive", &["tarball", "package", "file", "runner-archive", "download-url", "source"]),
    ("sha256", &["sha", "sha-256", "sha256sum", "checksum", "digest", "hash"]),
    ("mirror", &["mirror-url", "download-mirror", "download-base"]),
    ("accept-unverified", &["unverified", "no-verify", "skip-verify", "no-checksum", "skip-checksum"]),
    ("no-refresh", &["pin", "no-replace", "keep-version"]),
    ("os", &["operating-system", "platform", "system"]),
    ("arch", &["architecture", "cpu"]),
    (
        "deps",
        &["dependencies", "install-deps", "install-dependencies", "installdependencies", "libraries", "libs"],
    ),
    ("name", &["runner-name", "runnername"]),
    ("labels", &["label", "tag", "tags", "runner-labels", "extra-labels", "additional-labels"]),
    ("label", &["labels", "tag", "tags"]),
    ("filter-label", &["labels", "tag", "tags"]),
    ("no-default-labels", &["nodefaultlabels", "without-default-labels", "skip-default-labels"]),
    ("group", &["runnergroup", "runner-group", "runner-group-name", "group-name"]),
    (
        "work",
        &[
            "work-dir",
            "workdir",
            "work-directory",
            "work-folder",
            "workfolder",
            "working-directory",
            "workspace",
        ],
    ),
    ("ephemeral", &["once", "one-job", "single-job", "single-use", "one-shot", "oneshot"]),
    (
        "disable-update",
        &["disableupdate", "no-update", "no-updates", "no-auto-update", "disable-auto-update"],
    ),
    ("self-update", &["auto-update", "autoupdate"]),
    ("replace", &["force", "overwrite", "take-over", "takeover"]),
    ("service", &["systemd", "daemon", "svc", "runasservice", "run-as-service", "install-service", "unit"]),
    ("drain", &["grace", "grace-period", "stop-timeout", "shutdown-timeout", "job-timeout"]),
    (
        "remove-on-shutdown",
        &[
            "deregister-on-shutdown",
            "unregister-on-shutdown",
            "deregister-on-stop",
            "remove-on-stop",
            "remove-on-exit",
            "deregister-on-exit",
        ],
    ),
    ("after-job", &["then", "on-exit", "after", "on-job-done"]),
    ("upgrade-at", &["update-at", "upgrade-time", "update-time", "upgrade-schedule"]),
    ("upgrade-spread", &["update-spread", "jitter", "upgrade-jitter", "random-delay", "splay"]),
    ("jit", &["just-in-time"]),
    ("jit-config-file", &["jitconfig", "jit-config", "jit-file"]),
    ("metadata-url", &["metadata-endpoint", "imds", "imds-url"]),
    ("keep-on-failure", &["no-rollback", "no-undo", "no-cleanup", "keep"]),
    ("local", &["offline", "local-only", "no-server"]),
    ("json", &["output", "format", "machine-readable"]),
    ("verbose", &["debug", "trace", "log-level", "loglevel"]),
];

/// Names for commands, by the command that means the same. `runners …` is looked up below `runners`, and everywhere else.
const COMMANDS: [(&str, &[&str]); 23] = [
    (
        "install",
        &[
            "register",
            "setup",
            "set-up",
            "configure",
            "config",
            "add",
            "create",
            "enroll",
            "init",
            "deploy",
            "provision",
            "bootstrap",
            "converge",
            "apply",
            "ensure",
            "up",
        ],
    ),
    ("run", &["start", "serve", "launch", "exec", "listen", "foreground", "supervise"]),
    (
        "remove",
        &[
            "uninstall",
            "deregister",
            "unregister",
            "unconfigure",
            "delete",
            "destroy",
            "purge",
            "teardown",
            "rm",
            "down",
            "clean",
            "cleanup",
            "undo",
            "revert",
        ],
    ),
    ("drain", &["wait", "stop", "pause", "idle"]),
    ("bake", &["image", "prepare", "seal"]),
    ("upgrade", &["update", "self-update"]),
    ("status", &["state", "info", "show", "inspect", "check", "health", "ps"]),
    ("logs", &["log", "journal", "tail", "diag", "output"]),
    ("plan", &["dry-run", "preview", "diff", "what-if"]),
    ("runners list", &["list", "ls"]),
    ("runners show", &["get", "view", "inspect", "info", "status"]),
    ("runners delete", &["remove", "rm", "deregister", "unregister"]),
    ("runners create-jit", &["create-jit", "jit", "create", "add", "new"]),
    ("runners delete-on-stop", &["delete-on-stop", "wait"]),
    ("runners prune", &["prune", "gc", "clean", "cleanup"]),
    ("downloads", &["download", "versions", "releases", "archives"]),
    ("token", &["tokens", "registration-token", "remove-token"]),
    ("sandbox", &["server", "mock", "fake", "fake-github", "test-server"]),
    ("demo", &["try", "selftest", "self-test", "test"]),
    ("doctor", &["check", "diagnose", "preflight", "verify", "debug"]),
    ("explain", &["why", "error", "errors", "describe", "exit-code", "exit-codes"]),
    ("generate man", &["man", "manpage", "manpages", "man-pages", "docs"]),
    ("generate completions", &["completions", "completion", "complete", "shell-completion"]),
];

/// Options of other tools that runup does not need.
const NEVER_NEEDED: [(&str, &[&str]); 1] = [(
    "runup never asks questions",
    &["unattended", "yes", "non-interactive", "noninteractive", "no-input", "batch"],
)];

/// The option or key of `known` that means the same as `unknown`, both without dashes.
#[must_use]
pub fn option<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let unknown = normal(unknown);
    let same = |known: &&&str| normal(known) == unknown;
    let meant = |option: &str| known.iter().find(|known| **known == option).copied();
    known
        .iter()
        .find(same)
        .copied()
        .or_else(|| synonyms(&OPTIONS, &unknown).find_map(meant))
        .or_else(|| misspelt(&unknown, known.iter().copied()))
}

/// The command that means the same as `unknown`, with its words from `runup` on, where a command below `parent` was
/// expected; `children` are the names of those.
#[must_use]
pub fn command(unknown: &str, parent: &str, children: &[&str]) -> Option<String> {
    let unknown = normal(unknown);
    let below = |child: &str| if parent.is_empty() { child.to_owned() } else { format!("{parent} {child}") };
    let is_below = |command: &&str| {
        let rest = command.strip_prefix(parent).filter(|rest| parent.is_empty() || rest.starts_with(' '));
        rest.is_some_and(|rest| children.contains(&rest.split_whitespace().next().unwrap_or_default()))
    };
    let listed = synonyms(&COMMANDS, &unknown).find(is_below).map(str::to_owned);
    listed.or_else(|| misspelt(&unknown, children.iter().copied()).map(below))
}

/// The name of `known` that `unknown` is a misspelling of.
#[must_use]
pub fn name<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    misspelt(&normal(unknown), known.iter().copied())
}

/// Why an option of another tool is not needed.
#[must_use]
pub fn why_not_needed(unknown: &str) -> Option<&'static str> {
    synonyms(&NEVER_NEEDED, &normal(unknown)).next()
}

/// What the tables suggest: options, then commands.
#[cfg(test)]
pub(crate) fn suggested() -> (Vec<&'static str>, Vec<&'static str>) {
    (OPTIONS.iter().map(|line| line.0).collect(), COMMANDS.iter().map(|line| line.0).collect())
}

/// Whether a name can be repeated in a message: it is a word and not, by mistake, a secret.
#[must_use]
pub fn is_plain(name: &str) -> bool {
    let word = |part: &str| {
        !part.is_empty()
            && (part.bytes().all(|byte| byte.is_ascii_alphabetic())
                || part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    name.len() <= 32 && (name.split(['-', '_']).all(word) || name == "sha256")
}

fn synonyms<'t>(
    table: &'t [(&'static str, &[&str])],
    unknown: &str,
) -> impl Iterator<Item = &'static str> + 't {
    let unknown = unknown.to_owned();
    table.iter().filter(move |(_, names)| names.contains(&unknown.as_str())).map(|(meant, _)| *meant)
}

fn normal(name: &str) -> String {
    name.trim_start_matches('-').replace('_', "-").to_ascii_lowercase()
}

/// The nearest of `known` within one typo, or two in a long word. A short word is not misspelt by a letter more or less.
fn misspelt<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = match unknown.len() {
        0..=2 => return None,
        3..=5 => 1,
        _ => 2,
    };
    let known = known.filter(|known| unknown.len() > 3 || known.len() == unknown.len());
    let near = known.map(|known| (distance(unknown, known), known)).filter(|(distance, _)| *distance <= most);
    near.min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

/// How many letters differ, are missing, are too many, or are swapped with their neighbour.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows = vec![(0..=right.len()).collect::<Vec<usize>>()];
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let changed = rows[i][j] + usize::from(a != b);
            let mut least = changed.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 12] = [
        "url",
        "api-url",
        "token-file",
        "dir",
        "user",
        "labels",
        "group",
        "os",
        "arch",
        "drain",
        "replace",
        "runner-version",
    ];

    #[test]
    fn an_option_is_suggested_by_its_meaning_or_for_a_typo() {
        for (unknown, meant) in [
            ("organisation", "url"),
            ("ORG", "url"),
            ("pat", "token-file"),
            ("token", "token-file"),
            ("directory", "dir"),
            ("runnergroup", "group"),
            ("label", "labels"),
            ("force", "replace"),
            ("lables", "labels"),
            ("token_file", "token-file"),
            ("runer-version", "runner-version"),
            ("ulr", "url"),
            ("dri", "dir"),
        ] {
            assert_eq!(option(unknown, &KNOWN), Some(meant), "{unknown}");
        }
    }

    #[test]
    fn what_means_something_else_is_not_suggested() {
        for unknown in ["organise", "osx", "arc-de-triomphe", "grape", "loud", "x", "", "trainer", "nonsense"]
        {
            assert_eq!(option(unknown, &KNOWN), None, "{unknown}");
        }
    }

    #[test]
    fn the_first_option_of_the_table_that_a_command_has_is_suggested() {
        assert_eq!(option("wait", &["deadline", "window"]), Some("window"));
        assert_eq!(option("wait", &["deadline"]), Some("deadline"));
        assert_eq!(option("tags", &["label"]), Some("label"));
    }

    #[test]
    fn a_command_is_suggested_by_its_meaning_or_for_a_typo() {
        let root = ["install", "run", "remove", "status", "runners", "upgrade", "generate"];
        for (unknown, meant) in [
            ("uninstall", "remove"),
            ("deregister", "remove"),
            ("delete", "remove"),
            ("register", "install"),
            ("start", "run"),
            ("instal", "install"),
            ("ls", "runners list"),
            ("completion", "generate completions"),
            ("stauts", "status"),
        ] {
            assert_eq!(command(unknown, "", &root).as_deref(), Some(meant), "{unknown}");
        }
        let runners = ["list", "show", "delete", "prune", "create-jit"];
        assert_eq!(command("rm", "runners", &runners).as_deref(), Some("runners delete"));
        assert_eq!(command("lsit", "runners", &runners).as_deref(), Some("runners list"));
        assert_eq!(command("fry", "", &root), None);
    }

    #[test]
    fn no_line_of_a_table_suggests_what_it_names() {
        for (meant, names) in OPTIONS.iter().chain(&COMMANDS) {
            assert!(names.iter().all(|name| name != meant && *name == normal(name)), "{meant}");
        }
    }

    #[test]
    fn a_name_that_could_be_a_secret_is_not_plain() {
        for plain in ["organisation", "no-such-flag", "sha256", "a_b", "json"] {
            assert!(is_plain(plain), "{plain}");
        }
        for odd in ["", "hunter2", "a b", "token=x", "AAAABBBBCCCCDDDDEEEEFFFFGGGGHHHHJJJJ", "é"] {
            assert!(!is_plain(odd), "{odd}");
        }
    }
}
