//! Recognises the error messages of `config.sh`, whose exit code is always 1, and those in the listener's log.

use crate::error::Class;
use crate::error::situation::{self, Situation};

/// A known error of `config.sh`, or of the listener.
#[derive(Debug, Clone, Copy)]
pub struct Complaint {
    /// What happened, in a few words.
    pub cause: &'static str,
    /// What to do, as a sentence.
    pub fix: &'static str,
    /// How the run ends.
    pub class: Class,
    /// What `runup explain` says about it.
    pub situation: &'static Situation,
    /// Whether `config.sh` prints it before it has registered a runner.
    pub before_registering: bool,
}

impl Complaint {
    /// Whether the script lacks a library or a program of the system's.
    #[must_use]
    pub fn is_about_libraries(&self) -> bool {
        std::ptr::eq(self.situation, &raw const situation::LIBRARIES_MISSING)
    }

    /// Whether another runner of its name kept the script from registering.
    #[must_use]
    pub fn is_name_taken(&self) -> bool {
        std::ptr::eq(self.situation, &raw const situation::NAME_TAKEN)
    }

    /// Whether the server did not accept the token that the script was passed.
    #[must_use]
    pub fn is_about_the_token(&self) -> bool {
        std::ptr::eq(self.situation, &raw const situation::UNAUTHORIZED)
    }
}

/// The text that identifies an error, in lower case, the most specific first: the first match counts.
static KNOWN: [(&str, Complaint); 16] = [
    // First: the script may have registered by then, whatever else it complains of.
    ("no space left on device", DISK_FULL),
    ("disk quota exceeded", DISK_FULL),
    (
        // The name follows where it is refused. With --replace, the line ends here, and is no error.
        "a runner exists with the same name ",
        Complaint {
            cause: "the name is taken by another runner",
            fix: "Pass another --name, remove the other runner, or replace it with --replace.",
            class: Class::Config,
            situation: &situation::NAME_TAKEN,
            before_registering: true,
        },
    ),
    (
        "could not find any self-hosted runner group named",
        Complaint {
            cause: "the runner group does not exist",
            fix: "Create the group, or correct --group; repositories have no groups.",
            class: Class::Config,
            situation: &situation::NO_SUCH_GROUP,
            before_registering: true,
        },
    ),
    (
        "already configured",
        Complaint {
            cause: "the directory is already configured",
            fix: "Run `runup remove` first.",
            class: Class::Config,
            situation: &situation::REGISTERED_OTHERWISE,
            before_registering: false,
        },
    ),
    (
        "uninstall service first",
        Complaint {
            cause: "a service is installed for this directory",
            fix: "Stop and uninstall the service in the file .service, then try again.",
            class: Class::Config,
            situation: &situation::SERVICE_CONFLICT,
            before_registering: true,
        },
    ),
    (
        "clock may be out of sync",
        Complaint {
            cause: "the machine's clock is wrong",
            fix: "Set the clock, for example with `timedatectl set-ntp true`, and try again.",
            class: Class::Config,
            situation: &situation::CONFIG_SH_FAILED,
            // It is noticed with the first token of the new runner.
            before_registering: false,
        },
    ),
    (
        "is deprecated and cannot",
        Complaint {
            cause: "GitHub no longer supports this version of the runner",
            fix: "Install a newer version: omit --runner-version, or bake the image again.",
            class: Class::Deprecated,
            situation: &situation::VERSION_DEPRECATED,
            before_registering: true,
        },
    ),
    (
        "does not support configuring a self-hosted runner with",
        Complaint {
            cause: "the server does not support an option",
            fix: "Omit --ephemeral or --disable-update for this server.",
            class: Class::Config,
            situation: &situation::CONFIG_SH_FAILED,
            before_registering: false,
        },
    ),
    (
        "must not run with sudo",
        Complaint {
            cause: "config.sh refuses to run as root",
            fix: "Pass an unprivileged --user, or --user root if jobs really should run as root.",
            class: Class::Config,
            situation: &situation::CONFIG_SH_FAILED,
            before_registering: true,
        },
    ),
    (
        // Also of GLIBCXX.
        "version `glibc",
        Complaint {
            cause: "this system's C or C++ library is too old for the runner",
            fix: "Use a newer distribution: the runner needs glibc 2.28 or newer.",
            class: Class::Unavailable,
            situation: &situation::UNSUPPORTED_MACHINE,
            before_registering: true,
        },
    ),
    (
        "can not find 'ld",
        Complaint {
            cause: "a program that config.sh needs is missing",
            fix: "Install the program that the line above names: ldd and ldconfig belong to the C library.",
            class: Class::Os,
            situation: &situation::LIBRARIES_MISSING,
            before_registering: true,
        },
    ),
    (
        "libicu's dependencies is missing",
        Complaint {
            cause: "the library libicu is missing",
            fix: "Install libicu (Debian: libicu72, Ubuntu: libicu74, Fedora, RHEL, Amazon Linux: libicu).",
            class: Class::Os,
            situation: &situation::LIBRARIES_MISSING,
            before_registering: true,
        },
    ),
    ("dependencies is missing for dotnet", Complaint { before_registering: true, ..LIBRARIES }),
    (
        "permission to read the directory contents is required",
        Complaint {
            cause: "the runner's user cannot read a directory above the runner",
            fix: "Give it read and execute permission there, or pass another --dir.",
            class: Class::NoPerm,
            situation: &situation::DIRECTORY_ABOVE_UNREADABLE,
            before_registering: true,
        },
    ),
    (
        "http response code: notfound",
        Complaint {
            cause: "GitHub did not find the token (404)",
            fix: "The token has expired (after one hour), or was issued for another enterprise, organization or \
            repository than that of --url. Run the same command again with a new token.",
            class: Class::NoPerm,
            situation: &situation::UNAUTHORIZED,
            before_registering: true,
        },
    ),
];

/// The same for what the listener prints when it ends.
static OF_LISTENER: [(&str, Complaint); 4] = [
    ("registration has been deleted from the server", DELETED),
    ("runner no longer exists on the server", DELETED),
    (
        "a session for this runner already exists",
        Complaint {
            cause: "another listener has this runner's session",
            fix: "Find the machine that runs with a copy of this runner's files; after a power cut of this one, wait \
            a few minutes.",
            class: Class::TempFail,
            situation: &situation::LISTENER_ELSEWHERE,
            before_registering: false,
        },
    ),
    (
        "not configured. run config.",
        Complaint {
            cause: "its registration is missing from its directory",
            fix: "Run `runup install`, which registers it again.",
            class: Class::Config,
            situation: &situation::RUNNER_INCOMPLETE,
            before_registering: false,
        },
    ),
];

/// What the runner's program itself prints where config.sh found nothing to complain of, if there is nothing else: some of
/// it is a warning.
static OF_LOADER: [(&str, Complaint); 3] = [
    ("cannot open shared object file", LIBRARIES),
    ("find a valid icu package", LIBRARIES),
    ("no usable version of libssl", LIBRARIES),
];

const DISK_FULL: Complaint = Complaint {
    cause: "the disk is full",
    fix: "Free some space on the disk of the runner's directory, then run the same command again.",
    class: Class::Io,
    situation: &situation::DISK_FULL,
    before_registering: false,
};

const LIBRARIES: Complaint = Complaint {
    cause: "libraries that the runner needs are missing",
    fix: "Install the libraries that the lines above name, or run `runup install --deps`.",
    class: Class::Os,
    situation: &situation::LIBRARIES_MISSING,
    before_registering: false,
};

const DELETED: Complaint = Complaint {
    cause: "the server has deleted the runner",
    fix: "Find out what deletes it (the settings page of the runners, `runup runners prune`, another machine), then \
    run `runup install`, which registers it again.",
    class: Class::Config,
    situation: &situation::DELETED_AGAIN,
    before_registering: false,
};

/// What the script prints if the server or the network failed for a while. It has tried each call three times by then.
const PASSING: [&str; 20] = [
    // .NET's text for a status code; 409 is the second try of a registration whose first answer was lost.
    "does not indicate success: 409",
    "does not indicate success: 429",
    "does not indicate success: 5",
    "http response code: toomanyrequests",
    "http response code: internalservererror",
    "http response code: badgateway",
    "http response code: serviceunavailable",
    "http response code: gatewaytimeout",
    "connection refused",
    "connection reset",
    "connection timed out",
    "broken pipe",
    "network is unreachable",
    "no route to host",
    "actively refused it",
    "name or service not known",
    "temporary failure in name resolution",
    "resource temporarily unavailable",
    "the response ended prematurely",
    "httpclient.timeout",
];

static SERVER_FAILED: Complaint = Complaint {
    cause: "GitHub could not be reached, or failed",
    fix: "Run the same command again later.",
    class: Class::TempFail,
    situation: &situation::SERVER_FAILED,
    before_registering: false,
};

/// Whether the script says that the server does not support `--disableupdate`, which it prints after the server has
/// added the runner.
#[must_use]
pub fn refuses_disable_update(output: &str) -> bool {
    output.to_lowercase().contains("does not support configuring a self-hosted runner with 'disableupdate'")
}

/// The known error in `output`, the end of the script's output; `None` if it is not known.
#[must_use]
pub fn recognise(output: &str) -> Option<&'static Complaint> {
    let mut text = String::new();
    for line in output.lines().filter(|line| !is_beside_it(line)) {
        text.push_str(line);
        text.push('\n');
    }
    let output = text.to_lowercase();
    first(&KNOWN, &output)
        .or_else(|| PASSING.iter().any(|text| output.contains(text)).then_some(&SERVER_FAILED))
        .or_else(|| first(&OF_LOADER, &output))
}

/// The same for the lines of the listener's log, of which the last one counts. A network that failed for a while is no
/// cause: a listener outlives that.
#[must_use]
pub fn recognise_last<'a>(lines: &[&'a str]) -> Option<(&'a str, &'static Complaint)> {
    let last = |lists: &[&'static [(&str, Complaint)]]| {
        lines.iter().rev().filter(|line| !is_beside_it(line)).find_map(|line| {
            let text = line.to_lowercase();
            Some((*line, lists.iter().find_map(|list| first(list, &text))?))
        })
    };
    last(&[&OF_LISTENER, &KNOWN]).or_else(|| last(&[&OF_LOADER]))
}

/// Whether the line tells no cause: it has the name of a job, which whoever wrote the workflow has chosen; or it is the
/// loader's warning of an `/etc/ld.so.preload` that leads nowhere, which every program prints.
fn is_beside_it(line: &str) -> bool {
    ["Running job:", "completed with result:", " cannot be preloaded"].iter().any(|text| line.contains(text))
}

fn first(known: &'static [(&str, Complaint)], output: &str) -> Option<&'static Complaint> {
    known.iter().find(|(text, _)| output.contains(text)).map(|(_, complaint)| complaint)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as GitHub's runner prints them.
    #[test]
    fn each_known_refusal_is_recognised_with_its_class() {
        let cases = [
            ("A runner exists with the same name box-1.", Class::Config),
            ("Could not find any self-hosted runner group named \"gpu\".", Class::Config),
            (
                "Cannot configure the runner because it is already configured. To reconfigure the runner, run \
                 'config.cmd remove' or './config.sh remove' first.",
                Class::Config,
            ),
            ("Uninstall service first", Class::Config),
            (
                "The local machine's clock may be out of sync with the server time by more than five minutes.",
                Class::Config,
            ),
            ("Runner version v2.300.0 is deprecated and cannot receive messages.", Class::Deprecated),
            (
                "The GitHub server does not support configuring a self-hosted runner with 'Ephemeral' flag.",
                Class::Config,
            ),
            ("Must not run with sudo", Class::Config),
            (
                "./bin/libcoreclr.so: /lib64/libc.so.6: version `GLIBC_2.27' not found (required by ./bin/libcoreclr.so)\n\
                 Dependencies is missing for Dotnet Core 6.0",
                Class::Unavailable,
            ),
            ("Can not find 'ldd'. Please install 'ldd' and try again.", Class::Os),
            ("Libicu's dependencies is missing for Dotnet Core 6.0", Class::Os),
            ("Dependencies is missing for Dotnet Core 6.0", Class::Os),
            (
                "./bin/Runner.Listener: error while loading shared libraries: libstdc++.so.6: cannot open shared object file: \
                 No such file or directory",
                Class::Os,
            ),
            ("Couldn't find a valid ICU package installed on the system.", Class::Os),
            ("No usable version of libssl was found", Class::Os),
            (
                "Permission to read the directory contents is required for '/home/x' and each directory up the hierarchy.",
                Class::NoPerm,
            ),
            (
                "Http response code: NotFound from 'POST https://api.github.com/actions/runner-registration' (Request Id: 1)",
                Class::NoPerm,
            ),
            ("No space left on device : '/opt/actions-runner/.credentials_rsaparams'", Class::Io),
            ("Response status code does not indicate success: 502 (Bad Gateway).", Class::TempFail),
            ("Response status code does not indicate success: 409 (Conflict).", Class::TempFail),
            ("Connection refused (api.github.com:443)", Class::TempFail),
            ("Resource temporarily unavailable (api.github.com:443)", Class::TempFail),
        ];
        for (line, class) in cases {
            assert_eq!(
                recognise(&format!("banner\n{line}\nmore")).map(|known| known.class),
                Some(class),
                "{line}"
            );
        }
        assert!(recognise("something new").is_none());
    }

    #[test]
    fn what_is_no_error_hides_none() {
        let replaces = "A runner exists with the same name\nResponse status code does not indicate success: 502 (Bad Gateway).";
        assert_eq!(recognise(replaces).map(|known| known.class), Some(Class::TempFail));
        let preload = "ERROR: ld.so: object '/usr/lib/x.so' from /etc/ld.so.preload cannot be preloaded (cannot open shared \
                       object file): ignored.";
        assert!(recognise(preload).is_none());
        let warning = "Cannot load library libgssapi_krb5.so.2: cannot open shared object file: No such file or directory";
        let expired =
            "Http response code: NotFound from 'POST https://api.github.com/actions/runner-registration'";
        for error in [expired, "Connection refused (api.github.com:443)", "Must not run with sudo"] {
            let alone = recognise(error).map(|known| known.cause);
            assert_eq!(recognise(&format!("{preload}\n{warning}\n{error}")).map(|known| known.cause), alone);
        }
        let cause = |lines: &[&str]| recognise_last(lines).map(|(_, known)| known.cause);
        assert_eq!(
            cause(&["A session for this runner already exists.", warning]),
            cause(&["A session for this runner already exists."])
        );
        assert_eq!(cause(&[warning]), Some(LIBRARIES.cause));
    }

    #[test]
    fn the_last_end_of_a_listener_counts_and_an_outage_is_none() {
        let said = |lines: &[&str]| recognise_last(lines).map(|(_, known)| known.cause);
        let deleted = "An error occurred: The runner registration has been deleted from the server, please re-configure.";
        let conflict = "A session for this runner already exists.";
        assert_eq!(said(&[deleted, conflict, "later"]), Some("another listener has this runner's session"));
        assert_eq!(
            said(&[conflict, deleted, "Connection refused"]),
            Some("the server has deleted the runner")
        );
        let named = [
            "2026-11-30 07:00:00Z: Running job: is deprecated and cannot",
            "2026-11-30 07:00:09Z: Job is deprecated and cannot completed with result: Succeeded",
        ];
        assert_eq!(said(&named), None);
        assert!(recognise(&named.join("\n")).is_none());
        assert_eq!(said(&["Connection refused", "x"]), None);
        assert_eq!(said(&["Listening for Jobs"]), None);
    }
}
