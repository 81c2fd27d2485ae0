//! The mark of a user that runup created: its comment in `/etc/passwd` names the directory of its runner. Without the
//! journal, it tells whose the user is. Only root writes that file, and chfn(1) does not let users change this part.

use super::tools::{run, tool};
use super::{Account, needs_root, parse_passwd};
use crate::deadline::Stop;
use crate::host::{Error, Root};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

/// How each mark begins.
const BEGINNING: &str = "created by runup for ";

/// The longest path that is written as it is.
const LONGEST: usize = 160;

/// The mark of the user of the runner in `dir`. A path that the file cannot have, or that is very long, is written as its
/// digest.
pub(super) fn of(dir: &Path) -> String {
    let plain = |path: &&str| {
        path.len() <= LONGEST
            && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._+@-".contains(&byte))
    };
    if let Some(path) = dir.to_str().filter(plain) {
        format!("{BEGINNING}{path}")
    } else {
        let digest = Sha256::digest(dir.as_os_str().as_encoded_bytes());
        format!("{BEGINNING}#{}", hex::encode(&digest[..16]))
    }
}

/// Whose the user is, by its mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Marked {
    /// Nobody's: runup has not created it, or an old one has.
    No,
    /// That of the runner in the directory that was asked about.
    ForThis,
    /// That of the runner in another directory: the path, or `#` and its digest.
    ForOther(PathBuf),
}

/// Whether runup created the user for the runner in `dir`, or for another one, by its mark.
pub fn mark(root: &Root, account: &Account, dir: &Path) -> Result<Marked, Error> {
    let mut found = Marked::No;
    find(root, |other, mark| {
        if other != account {
            return false;
        }
        found = match mark.strip_prefix(BEGINNING) {
            Some(_) if mark == of(dir) => Marked::ForThis,
            Some(other) => Marked::ForOther(other.into()),
            None => Marked::No,
        };
        true
    })?;
    Ok(found)
}

/// The user that runup created for the runner in `dir`, by its mark.
pub fn marked_for(root: &Root, dir: &Path) -> Result<Option<Account>, Error> {
    let wanted = of(dir);
    find(root, |_, mark| mark == wanted)
}

/// Makes the user that of the runner in `dir`, which can be what its mark says already. Needs root.
pub async fn set_mark(root: &Root, name: &str, dir: &Path, stop: &Stop) -> Result<(), Error> {
    let wanted = of(dir);
    let is_as_wanted =
        |mark: &str| mark == wanted || mark.strip_prefix(BEGINNING).map(Path::new) == Some(dir);
    if find(root, |found, mark| found.name == name && is_as_wanted(mark))?.is_some() {
        return Ok(());
    }
    needs_root(name)?;
    let command = tool(root, name, "usermod")?.arg("--comment").arg(wanted).arg(name);
    let rendered = command.render();
    run(command, "usermod", stop).await?.into_success(&rendered)?;
    Ok(())
}

/// The first user of `/etc/passwd`, besides root, whose mark fits.
fn find(root: &Root, mut is_it: impl FnMut(&Account, &str) -> bool) -> Result<Option<Account>, Error> {
    let Some(passwd) = root.resolve(Path::new("/etc/passwd")) else { return Ok(None) };
    let text = fs_err::read_to_string(passwd)?;
    let fits = |line: &&str| {
        let Some(account) = parse_passwd(line).filter(|account| account.uid != 0) else { return false };
        // What follows a comma is for the user to change.
        let comment = line.split(':').nth(4).unwrap_or_default();
        is_it(&account, comment.split(',').next().unwrap_or_default())
    };
    Ok(text.lines().find(fits).and_then(parse_passwd))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_names_one_directory_and_fits_in_a_line_of_the_user_database() {
        assert_eq!(of(Path::new("/opt/actions-runner")), "created by runup for /opt/actions-runner");
        let long = format!("/{}", "a".repeat(300));
        let mut marks: Vec<String> =
            ["/opt/a:b", "/opt/a,b", "/opt/a\nb", "/opt/é", "/opt/a b", &long].map(Path::new).map(of).into();
        assert!(marks.iter().all(|mark| !mark.contains([':', ',', '\n']) && mark.len() < 80), "{marks:?}");
        marks.sort();
        marks.dedup();
        assert_eq!(marks.len(), 6);
    }

    #[test]
    fn a_mark_tells_this_runner_from_another() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path().into());
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let whose = |comment: &str| {
            let line = format!("ci:x:7:7:{comment}:/:/bin/sh\n");
            std::fs::write(dir.path().join("etc/passwd"), &line).unwrap();
            mark(&root, &parse_passwd(line.trim()).unwrap(), Path::new("/opt/r")).unwrap()
        };
        assert_eq!(whose("created by runup for /opt/r,room"), Marked::ForThis);
        assert_eq!(whose("created by runup for /opt/r2"), Marked::ForOther("/opt/r2".into()));
        assert_eq!(whose("created by runup for #00ff"), Marked::ForOther("#00ff".into()));
        assert_eq!(whose("room,created by runup for /opt/r"), Marked::No);
        assert_eq!(whose(""), Marked::No);
    }

    #[test]
    fn only_what_root_wrote_is_a_mark() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path().into());
        let runner = Path::new("/opt/r");
        assert_eq!(marked_for(&root, runner).unwrap(), None);
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let with = |line: &str| {
            std::fs::write(dir.path().join("etc/passwd"), format!("root:x:0:0::/:/bin/sh\n{line}\n"))
                .unwrap();
            marked_for(&root, runner).unwrap().map(|account| account.name)
        };
        assert_eq!(with("ci:x:7:7:created by runup for /opt/r:/:/bin/sh").as_deref(), Some("ci"));
        assert_eq!(with("ci:x:7:7:created by runup for /opt/r,room,1,2:/:/bin/sh").as_deref(), Some("ci"));
        for other in [
            "ci:x:7:7:,created by runup for /opt/r:/:/bin/sh",
            "ci:x:7:7:created by runup for /opt/r2:/:/bin/sh",
            "ci:x:7:7::/created by runup for /opt/r:/bin/sh",
            "ci:x:0:0:created by runup for /opt/r:/:/bin/sh",
            "created by runup for /opt/r:x:7:7::/:/bin/sh",
        ] {
            assert_eq!(with(other), None, "{other}");
        }
    }
}
