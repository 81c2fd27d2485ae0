//! Which names and links of an archive are accepted. Any other refuses the whole archive instead of being skipped: a
//! runner without one of its files is worse than none.

use super::error::Refusal;
use std::path::{Path, PathBuf};

/// The longest name of an entry and the longest target of a link, in bytes: the longest path of the system.
pub(super) const LONGEST_NAME: usize = 4096;
/// The most components of either, which deleting the tree has to descend. A runner's deepest file has about 20.
pub(super) const MOST_COMPONENTS: usize = 128;

/// The path of an entry below the staging directory; empty for the directory itself. Components other than normal ones
/// and `.` are refused.
pub(super) fn entry_path(name: &[u8]) -> Result<PathBuf, Refusal> {
    if name.is_empty() {
        return Err(Refusal::EmptyName);
    }
    if name.contains(&0) {
        return Err(Refusal::Nul);
    }
    if name.starts_with(b"/") {
        return Err(Refusal::Absolute);
    }
    check_length(name)?;
    let mut path = PathBuf::new();
    let mut components = 0;
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(Refusal::Climbs),
            part => {
                components += 1;
                if components > MOST_COMPONENTS {
                    return Err(Refusal::TooDeep);
                }
                path.push(component(part)?);
            }
        }
    }
    Ok(path)
}

/// Refuses a name, or the target of a link, that is longer than any path of the system. It is called as soon as the
/// length is known, before any other use of the name.
pub(super) fn check_length(name: &[u8]) -> Result<(), Refusal> {
    if name.len() > LONGEST_NAME { Err(Refusal::TooLong) } else { Ok(()) }
}

/// The target of a symbolic link at `link`, which must stay below the staging directory. `..` is accepted only at the
/// start: after a name, it could step up from wherever a link of that name leads.
pub(super) fn link_target(link: &Path, target: &[u8]) -> Result<PathBuf, Refusal> {
    let shown = || super::error::shown(target);
    check_length(target)?;
    if target.is_empty() || target.contains(&0) {
        return Err(Refusal::LinkName);
    }
    if target.starts_with(b"/") {
        return Err(Refusal::LinkAbsolute { target: shown() });
    }
    let mut depth = link.parent().map_or(0, |parent| parent.components().count());
    let mut path = PathBuf::new();
    let mut named = false;
    let mut components = 0;
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if named || depth == 0 => return Err(Refusal::LinkClimbs { target: shown() }),
            b".." => {
                depth -= 1;
                path.push("..");
            }
            part => {
                named = true;
                components += 1;
                if components > MOST_COMPONENTS {
                    return Err(Refusal::TooDeep);
                }
                path.push(component(part)?);
            }
        }
    }
    if path.as_os_str().is_empty() {
        path.push(".");
    }
    Ok(path)
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
fn component(part: &[u8]) -> Result<&std::ffi::OsStr, Refusal> {
    use std::os::unix::ffi::OsStrExt;
    Ok(std::ffi::OsStr::from_bytes(part))
}

/// On Windows, names can stand for devices, streams or drives.
#[cfg(not(unix))]
fn component(part: &[u8]) -> Result<&str, Refusal> {
    let name = std::str::from_utf8(part).map_err(|_| Refusal::NotOnThisSystem)?;
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let numbered =
        |device: &str| stem.strip_prefix(device).is_some_and(|rest| rest.chars().count() == 1 && rest != "0");
    let device = matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL") || numbered("COM") || numbered("LPT");
    let odd = name.contains([':', '\\', '*', '?', '"', '<', '>', '|']) || name.ends_with(['.', ' ']);
    if device || odd || name.chars().any(|c| c < ' ') { Err(Refusal::NotOnThisSystem) } else { Ok(name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Component;

    #[test]
    fn names_that_lead_out_are_refused() {
        assert_eq!(entry_path(b"./bin//x/./y/").unwrap(), Path::new("bin/x/y"));
        assert_eq!(entry_path(b"./").unwrap(), Path::new(""));
        assert_eq!(entry_path(b""), Err(Refusal::EmptyName));
        assert_eq!(entry_path(b"/etc/passwd"), Err(Refusal::Absolute));
        assert_eq!(entry_path(b"a/../b"), Err(Refusal::Climbs));
        assert_eq!(entry_path(b".."), Err(Refusal::Climbs));
        assert_eq!(entry_path(b"a\0b"), Err(Refusal::Nul));
        assert_eq!(entry_path(b"..a/b..").unwrap(), Path::new("..a/b.."));
    }

    #[test]
    fn names_that_no_system_takes_are_refused_by_their_length_and_depth() {
        let deepest = "d/".repeat(MOST_COMPONENTS);
        assert!(entry_path(deepest.as_bytes()).is_ok());
        assert_eq!(entry_path(format!("{deepest}d").as_bytes()), Err(Refusal::TooDeep));
        assert!(entry_path(&vec![b'n'; LONGEST_NAME]).is_ok());
        assert_eq!(entry_path(&vec![b'n'; LONGEST_NAME + 1]), Err(Refusal::TooLong));
        // The length counts too if nothing is a component.
        assert_eq!(entry_path(&b"./".repeat(LONGEST_NAME)), Err(Refusal::TooLong));
        let link = Path::new("l");
        assert!(link_target(link, deepest.as_bytes()).is_ok());
        assert_eq!(link_target(link, format!("{deepest}d").as_bytes()), Err(Refusal::TooDeep));
        assert_eq!(link_target(link, &vec![b'n'; LONGEST_NAME + 1]), Err(Refusal::TooLong));
    }

    #[test]
    fn links_stay_below() {
        let link = Path::new("bin/npm");
        let climbs = |target: &[u8]| matches!(link_target(link, target), Err(Refusal::LinkClimbs { .. }));
        assert_eq!(link_target(link, b"../lib/npm.js").unwrap(), Path::new("../lib/npm.js"));
        assert_eq!(link_target(link, b"./npm.js").unwrap(), Path::new("npm.js"));
        assert_eq!(link_target(link, b"..").unwrap(), Path::new(".."));
        assert!(climbs(b"../../etc") && climbs(b".././../etc") && climbs(b"../lib/../../etc"));
        // `up` can itself be a link to a directory above.
        assert!(climbs(b"up/../x"));
        assert!(matches!(link_target(link, b"/etc"), Err(Refusal::LinkAbsolute { .. })));
        assert_eq!(link_target(link, b""), Err(Refusal::LinkName));
    }

    #[cfg(windows)]
    #[test]
    fn names_that_windows_understands_otherwise_are_refused() {
        for name in ["C:/x", "a\\b", "a:stream", "NUL", "nul.txt", "com1.log", "a.", "a ", "LPT9"] {
            assert_eq!(entry_path(name.as_bytes()), Err(Refusal::NotOnThisSystem), "{name}");
        }
    }

    /// Names from the components that matter, so that most are nearly valid.
    fn name() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            Just(b"..".to_vec()),
            Just(b".".to_vec()),
            Just(Vec::new()),
            Just(b"a".to_vec()),
            Just(b"bin".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..4),
        ];
        proptest::collection::vec(part, 0..8).prop_map(|parts| parts.join(&b'/'))
    }

    proptest! {
        #[test]
        fn whatever_is_taken_is_below(name in name()) {
            if let Ok(path) = entry_path(&name) {
                prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
            }
        }

        #[test]
        fn no_link_that_is_taken_climbs_out(link in name(), target in name()) {
            let Ok(link) = entry_path(&link) else { return Ok(()) };
            let Ok(target) = link_target(&link, &target) else { return Ok(()) };
            let mut depth = link.parent().map_or(0, |parent| parent.components().count());
            for component in target.components() {
                match component {
                    Component::ParentDir => {
                        prop_assert!(depth > 0);
                        depth -= 1;
                    }
                    Component::Normal(_) => depth += 1,
                    Component::CurDir => {}
                    _ => prop_assert!(false, "{target:?}"),
                }
            }
        }
    }
}
