//! Every situation that can end a run: its name, what it means, what to do, and the exit code. `runup explain`, the
//! reference and the man pages show them; each error names its own, so that none can lack one.

mod app;
mod machine;
mod network;
mod runner;
mod server;
mod settings;
mod users;

pub use app::*;
pub use machine::*;
pub use network::*;
pub use runner::*;
pub use server::*;
pub use settings::*;
pub use users::*;

use super::Class;

/// A situation that can end a run.
#[derive(Debug)]
pub struct Situation {
    /// Its identifier in this program.
    constant: &'static str,
    /// How a run ends in it.
    pub classes: &'static [Class],
    /// What has happened, and why it happens, in full sentences.
    pub cause: &'static str,
    /// What to do, in full sentences.
    pub fix: &'static str,
}

/// Defines situations, and the list of them.
macro_rules! situations {
    ($($name:ident [$($class:expr),+]: $cause:literal, $fix:literal;)+) => {
        use crate::error::situation::Situation;
        use crate::error::Class::*;

        $(
            #[doc = $cause]
            pub static $name: Situation =
                Situation { constant: stringify!($name), classes: &[$($class),+], cause: $cause, fix: $fix };
        )+

        pub(super) static ALL: &[&Situation] = &[$(&$name),+];
    };
}
use situations;

impl Situation {
    /// Its name, like `name-taken`.
    #[must_use]
    pub fn name(&self) -> String {
        self.constant.to_lowercase().replace('_', "-")
    }

    /// Whether a run can end in it with this class.
    #[must_use]
    pub fn ends_with(&self, class: Class) -> bool {
        self.classes.iter().any(|one| match (one, class) {
            (Class::Signal(_), Class::Signal(_)) => true,
            (one, class) => *one == class,
        })
    }
}

/// All of them, in alphabetical order of their names.
#[must_use]
pub fn all() -> Vec<&'static Situation> {
    #[expect(unused_qualifications, reason = "each module has a list of this name")]
    let parts = [app::ALL, machine::ALL, network::ALL, runner::ALL, server::ALL, settings::ALL, users::ALL];
    let mut all: Vec<&'static Situation> = parts.into_iter().flatten().copied().collect();
    all.sort_by_cached_key(|one| one.name());
    all
}

/// What an operation on a file ended with; `otherwise` is for what has no situation of its own. Agrees with
/// [`Class::of_io`].
#[must_use]
pub fn of_io(error: &std::io::Error, otherwise: &'static Situation) -> &'static Situation {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::PermissionDenied => &FILE_PERMISSION,
        Kind::ReadOnlyFilesystem => &READ_ONLY,
        Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => &DISK_FULL,
        Kind::OutOfMemory => &OUT_OF_MEMORY,
        _ => otherwise,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_has_a_name_of_its_own_and_says_what_to_do() {
        let all = all();
        let names: BTreeSet<String> = all.iter().map(|one| one.name()).collect();
        assert_eq!(names.len(), all.len());
        for one in all {
            for text in [one.cause, one.fix] {
                assert!(text.ends_with(['.', ':']) && !text.contains("  "), "{}: {text:?}", one.name());
            }
        }
    }

    #[test]
    fn every_exit_code_has_a_situation_that_ends_with_it() {
        for class in Class::ALL {
            assert!(all().iter().any(|one| one.ends_with(class)), "{class}");
        }
        assert!(all().iter().any(|one| one.ends_with(Class::Signal(2))));
    }

    #[test]
    fn what_a_file_operation_ends_with_agrees_with_its_exit_code() {
        use std::io::ErrorKind as Kind;
        let kinds = [
            Kind::PermissionDenied,
            Kind::ReadOnlyFilesystem,
            Kind::StorageFull,
            Kind::OutOfMemory,
            Kind::Other,
        ];
        for error in kinds.map(std::io::Error::from) {
            let class = Class::of_io(&error, Class::Io);
            assert!(of_io(&error, &FILE_FAILED).ends_with(class), "{error}");
        }
    }
}
