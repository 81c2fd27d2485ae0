//! Interprets the output of the package managers, which run in the C locale.

/// Why an installation failed, by the package manager's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureCause {
    /// A server could not be reached.
    Network,
    /// Another package manager held the lock for too long.
    Locked,
    /// The package does not exist.
    NotOffered,
    /// Something else.
    Other,
}

/// Whether the line says that it waits for another package manager.
pub(super) fn is_waiting(line: &str) -> bool {
    line.contains("Waiting for cache lock") || line.contains("Waiting for process with pid")
}

/// Why it failed, by the end of its output.
pub(super) fn cause_of(printed: &str) -> FailureCause {
    const LOCKED: [&str; 5] = [
        "Could not get lock",
        "Unable to lock directory",
        "Unable to acquire the dpkg frontend lock",
        "System management is locked",
        "Failed to obtain the transaction lock",
    ];
    const NETWORK: [&str; 17] = [
        "Temporary failure resolving",
        "Could not resolve",
        "Couldn't resolve",
        "Unable to connect to",
        "Could not connect to",
        "Cannot initiate the connection",
        "Connection failed",
        "Connection timed out",
        "connection timed out",
        "Failed to fetch",
        "Unable to fetch some archives",
        "Curl error",
        "Cannot download",
        "Failed to download",
        "Download (curl) error",
        "Cannot prepare internal mirrorlist",
        "No route to host",
    ];
    const NOT_OFFERED: [&str; 6] = [
        "Unable to locate package",
        "has no installation candidate",
        "Unable to find a match",
        "No match for argument",
        "No package ",
        "No provider of ",
    ];
    let says = |words: &[&str]| words.iter().any(|word| printed.contains(word));
    if says(&LOCKED) {
        FailureCause::Locked
    } else if says(&NETWORK) {
        FailureCause::Network
    } else if says(&NOT_OFFERED) {
        FailureCause::NotOffered
    } else {
        FailureCause::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_it_failed_is_read_from_what_it_printed() {
        for (printed, why) in [
            (
                "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7 (apt-get)",
                FailureCause::Locked,
            ),
            ("W: Failed to fetch http://x/Release  Temporary failure resolving 'x'", FailureCause::Network),
            ("Err:1 file:/repo ./ Packages\n  File not found", FailureCause::Other),
            ("E: Unable to locate package libicu1", FailureCause::NotOffered),
            ("Error: Unable to find a match: libicu", FailureCause::NotOffered),
            ("Curl error (6): Couldn't resolve host name for http://x", FailureCause::Network),
            ("System management is locked by the application with pid 7 (zypper).", FailureCause::Locked),
            ("No provider of 'libicu' found.", FailureCause::NotOffered),
            ("E: Sub-process /usr/bin/dpkg returned an error code (1)", FailureCause::Other),
        ] {
            assert_eq!(cause_of(printed), why, "{printed}");
        }
    }
}
