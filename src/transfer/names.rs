//! The names of what stands beside a tree while it is placed, exchanged or deleted. There is one rule, by which these names
//! are made, found again, and refused as names of anything else.
//!
//! `.NAME.runup-staging` is a tree that is about to take the place of `NAME`, or has made place for it, and
//! `.NAME.runup-removed-01234567` is about to be deleted. What is beside `NAME` already, and is then moved aside itself,
//! belongs to `NAME` as well. `.runup-store` has the verified copies of runners, and is not litter.

use std::ffi::{OsStr, OsString};
use std::path::{Component, Path};

/// The end of a staging directory's name, and the whole name of one in a directory that cannot be renamed.
pub(super) const STAGING: &str = ".runup-staging";
const REMOVED: &str = ".runup-removed-";
const DIGITS: usize = 8;

/// The directory of the verified copies, which stays as long as a runner beside it does.
pub(super) const STORE: &str = ".runup-store";

/// The name of the staging directory for `name`.
pub(super) fn staging(name: &OsStr) -> OsString {
    hidden(name, STAGING)
}

/// A new name for `name`, which is about to be deleted.
pub(super) fn removed(name: &OsStr) -> OsString {
    let random = format!("{REMOVED}{:0DIGITS$x}", fastrand::u32(..));
    match name.to_str() {
        Some(name) => {
            hidden(targets(name.as_bytes()).last().and_then(as_text).unwrap_or(name).as_ref(), &random)
        }
        None => hidden(name, &random),
    }
}

/// Whether runup has made the name for what is beside `target`. Older versions have made names from such names.
pub(super) fn belongs(name: &OsStr, target: &OsStr) -> bool {
    targets(name.as_encoded_bytes()).any(|it| it == target.as_encoded_bytes())
}

/// Whether it is a name that runup makes, beside whatever.
pub(super) fn is_made(name: &OsStr) -> bool {
    targets(name.as_encoded_bytes()).next().is_some()
}

/// Whether a part of the path has a name that runup makes, and may delete.
#[must_use]
pub fn is_reserved(path: &Path) -> bool {
    let is_ours = |name: &OsStr| name == STAGING || name == STORE || is_made(name);
    path.components().any(|part| matches!(part, Component::Normal(name) if is_ours(name)))
}

fn hidden(name: &OsStr, suffix: &str) -> OsString {
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(suffix);
    hidden
}

/// What the name was made from, and what that was made from, and so on.
fn targets(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(target(name), |name| target(name))
}

fn target(name: &[u8]) -> Option<&[u8]> {
    let name = name.strip_prefix(b".")?;
    let target = name.strip_suffix(STAGING.as_bytes()).or_else(|| {
        let (rest, digits) = name.split_at(name.len().checked_sub(DIGITS)?);
        rest.strip_suffix(REMOVED.as_bytes()).filter(|_| digits.iter().all(u8::is_ascii_hexdigit))
    });
    target.filter(|target| !target.is_empty())
}

fn as_text(name: &[u8]) -> Option<&str> {
    std::str::from_utf8(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_of(name: &str, target: &str) -> bool {
        belongs(name.as_ref(), target.as_ref())
    }

    #[test]
    fn what_is_made_is_found_whatever_it_is_made_from() {
        let target = OsStr::new("actions-runner");
        let mut name = target.to_owned();
        for round in 0..6 {
            name = if round % 2 == 0 { staging(&name) } else { removed(&name) };
            assert!(belongs(&name, target) && is_made(&name), "{name:?}");
        }
        // By an older version.
        assert!(is_of("..actions-runner.runup-staging.runup-removed-0123abcd", "actions-runner"));
        assert!(is_of("...r.runup-staging.runup-removed-0123abcd.runup-removed-0123abcd", "r"));
        let aside = removed(OsStr::new(".actions-runner.runup-staging"));
        assert!(aside.to_str().unwrap().starts_with(".actions-runner.runup-removed-"), "{aside:?}");
        assert_eq!(aside.len(), ".actions-runner.runup-removed-".len() + DIGITS);
    }

    #[test]
    fn other_names_are_left_alone() {
        for name in [
            "actions-runner",
            ".actions-runner",
            "actions-runner.runup-staging",
            ".actions-runner.runup-staging.old",
            ".actions-runner.runup-removed-",
            ".actions-runner.runup-removed-0123abc",
            ".actions-runner.runup-removed-0123abcde",
            ".actions-runner.runup-removed-keep-me!",
            ".runup-staging",
            ".runup-removed-0123abcd",
            STORE,
            "",
            ".",
        ] {
            assert!(!is_made(name.as_ref()), "{name}");
        }
        assert!(!is_of(".actions-runner2.runup-staging", "actions-runner"));
        assert!(!is_of(".my.actions-runner.runup-staging", "actions-runner"));
        assert!(is_of(".my.actions-runner.runup-staging", "my.actions-runner"));
    }

    #[test]
    fn a_path_with_such_a_name_is_nobodys_place() {
        for path in [
            "/opt/.r.runup-staging",
            "/opt/.r.runup-removed-0123abcd/deep/w",
            "/opt/r/.runup-staging",
            "/opt/.runup-store/r",
        ] {
            assert!(is_reserved(path.as_ref()), "{path}");
        }
        assert!(!is_reserved("/opt/.runner/_work".as_ref()));
    }
}
