//! The classes of failure with their exit codes, and the trait that every module's error type implements.
//!
//! Each module has its own error enum with one variant per situation. The message says what failed, on which path, URL
//! or command, and why; the hint says what to do about it; the class determines the exit code.

pub mod situation;

use situation::Situation;
use std::fmt;

/// The first of many names, and how many more there are.
#[must_use]
pub(crate) fn few(names: &[String], most: usize) -> String {
    let more = names.len().saturating_sub(most);
    let shown = names[..names.len() - more].join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

/// How a failed run ends. The exit codes are those of `sysexits.h` where it has a fitting one, so that systemd knows
/// their names; 79 and 80 are specific to runup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The command line is wrong.
    Usage,
    /// A digest or an archive is not as expected.
    Data,
    /// An input file does not exist.
    NoInput,
    /// Not available: no runner for this platform, no such version.
    Unavailable,
    /// A bug in runup.
    Software,
    /// The operating system failed: a missing command, no memory, no process.
    Os,
    /// A file or directory cannot be created.
    CantCreate,
    /// Reading or writing failed.
    Io,
    /// Try again later: network, clock, rate limit, lock, deadline.
    TempFail,
    /// GitHub's answer does not match its documentation.
    Protocol,
    /// Permission denied: the credential does not suffice, or root is needed.
    NoPerm,
    /// The configuration is wrong, or conflicts with the existing state.
    Config,
    /// `config.sh` or the service failed.
    Runner,
    /// The runner's version is deprecated.
    Deprecated,
    /// Stopped by a signal, after undoing what was begun; the exit code is 128 plus the signal's number.
    Signal(u8),
}

impl Class {
    /// Every class but [`Class::Signal`], in the order of the exit codes.
    pub const ALL: [Self; 14] = [
        Self::Usage,
        Self::Data,
        Self::NoInput,
        Self::Unavailable,
        Self::Software,
        Self::Os,
        Self::CantCreate,
        Self::Io,
        Self::TempFail,
        Self::Protocol,
        Self::NoPerm,
        Self::Config,
        Self::Runner,
        Self::Deprecated,
    ];

    /// The process's exit code.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 64,
            Self::Data => 65,
            Self::NoInput => 66,
            Self::Unavailable => 69,
            Self::Software => 70,
            Self::Os => 71,
            Self::CantCreate => 73,
            Self::Io => 74,
            Self::TempFail => 75,
            Self::Protocol => 76,
            Self::NoPerm => 77,
            Self::Config => 78,
            Self::Runner => 79,
            Self::Deprecated => 80,
            Self::Signal(number) => 128_u8.saturating_add(number),
        }
    }

    /// The stable name that `--json` prints.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Data => "data",
            Self::NoInput => "no-input",
            Self::Unavailable => "unavailable",
            Self::Software => "software",
            Self::Os => "os",
            Self::CantCreate => "cannot-create",
            Self::Io => "io",
            Self::TempFail => "try-again",
            Self::Protocol => "protocol",
            Self::NoPerm => "no-permission",
            Self::Config => "config",
            Self::Runner => "runner",
            Self::Deprecated => "deprecated",
            Self::Signal(_) => "signal",
        }
    }

    /// One line for `--help`, the man page and the README.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Usage => "the command line is wrong",
            Self::Data => "a digest or an archive is not as expected",
            Self::NoInput => "an input file does not exist",
            Self::Unavailable => "not available: no runner for this platform, or no such version",
            Self::Software => "a bug in runup",
            Self::Os => "the operating system failed: a missing command, no memory, no process",
            Self::CantCreate => "a file or directory could not be created",
            Self::Io => "reading or writing failed",
            Self::TempFail => "try again later: network, clock, rate limit, lock or deadline",
            Self::Protocol => "GitHub's answer is not as documented",
            Self::NoPerm => "permission denied: the credential does not suffice, or root is needed",
            Self::Config => "the configuration is wrong, or conflicts with the existing state",
            Self::Runner => "config.sh or the service failed",
            Self::Deprecated => "the runner's version is deprecated",
            Self::Signal(_) => "stopped by a signal, after undoing what was begun (128 + signal number)",
        }
    }

    /// The class of an I/O error during reading or writing; `otherwise` applies to kinds that have no class of their own.
    #[must_use]
    pub fn of_io(error: &std::io::Error, otherwise: Self) -> Self {
        use std::io::ErrorKind as Kind;
        match error.kind() {
            Kind::PermissionDenied => Self::NoPerm,
            Kind::ReadOnlyFilesystem => Self::CantCreate,
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => Self::Io,
            Kind::OutOfMemory => Self::Os,
            _ => otherwise,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What every module's error type provides besides its message.
pub trait Failure: std::error::Error + Send + Sync + 'static {
    /// How the process ends.
    fn class(&self) -> Class;

    /// What the user can do about it, as a full sentence; `None` where the message already says it.
    fn hint(&self) -> Option<String> {
        None
    }

    /// What `runup explain` says about it.
    fn situation(&self) -> &'static Situation;
}

/// An error and its sources on one line, as people read it: `failed to X: because Y: because Z`.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Transparent wrappers have the same message as their source, which is shown once only.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_distinct_and_leave_signals_alone() {
        let codes: std::collections::BTreeSet<u8> =
            Class::ALL.iter().map(|class| class.exit_code()).collect();
        assert_eq!(codes.len(), Class::ALL.len());
        assert!(codes.iter().all(|code| (64..128).contains(code)));
        assert_eq!(Class::Signal(15).exit_code(), 143);
    }
}
