//! A container engine of a user's own, rootless Podman: what it keeps of a job outside of the home directory, or in one
//! that is not deleted. It is run as that user, with a clean environment, because everything that it reads is a job's.

use super::Account;
use crate::deadline::{Deadline, Stop};
use crate::host::{Command, Root, find_program};
use std::path::{Path, PathBuf};

const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/// Deletes what a job can leave for the next one, pods before the volumes that they use.
const CLEAR: [&[&str]; 4] = [
    &["pod", "rm", "--all", "--force"],
    &["rm", "--all", "--force"],
    &["volume", "rm", "--all", "--force"],
    &["network", "prune", "--force"],
];

/// Deletes images that no container uses, and that are older than a day.
const PRUNE: &[&str] = &["image", "prune", "--all", "--force", "--filter", "until=24h"];

/// Podman, if the user has something in it that stays although its home directory is deleted (`home_goes`).
#[must_use]
pub fn podman(root: &Root, account: &Account, home_goes: bool) -> Option<PathBuf> {
    if !root.is_host() {
        return None;
    }
    let storage = account.home.join(".local/share/containers/storage");
    let elsewhere = ["/etc/containers/storage.conf", "/usr/share/containers/storage.conf"]
        .iter()
        .any(|file| fs_err::read_to_string(file).is_ok_and(|text| is_elsewhere(&text)));
    let stays = elsewhere || !home_goes && fs_err::symlink_metadata(storage).is_ok();
    find_program("podman", PATH).filter(|_| stays)
}

/// Whether storage.conf(5) puts what users have elsewhere than in their home directories.
fn is_elsewhere(text: &str) -> bool {
    text.lines().any(|line| line.trim_start().starts_with("rootless_storage_path"))
}

/// Deletes the user's containers, volumes and networks, and with `images` what is old of its images. No other process of
/// the user runs; this may leave some. Returns what failed.
pub async fn clear(
    podman: &Path,
    account: &Account,
    images: bool,
    deadline: Deadline,
    stop: &Stop,
) -> Vec<String> {
    let mut failed = Vec::new();
    for arguments in CLEAR.into_iter().chain(images.then_some(PRUNE)) {
        if let Err(why) = run(podman, arguments, account, deadline, stop).await {
            failed.push(format!("podman {}: {why}", arguments.join(" ")));
        }
    }
    failed
}

async fn run(
    podman: &Path,
    arguments: &[&str],
    account: &Account,
    deadline: Deadline,
    stop: &Stop,
) -> Result<(), String> {
    let mut command = Command::new(podman)
        .args(arguments.iter().copied())
        .account(account)
        .cwd("/")
        .env("PATH", PATH)
        .env("LANG", "C.UTF-8")
        .env("HOME", &account.home)
        .env("USER", &account.name)
        .env("LOGNAME", &account.name)
        .deadline(deadline);
    let runtime = format!("/run/user/{}", account.uid);
    if Path::new(&runtime).is_dir() {
        command = command.env("XDG_RUNTIME_DIR", runtime);
    }
    let outcome = command.run(stop, &mut |_, line| tracing::debug!(line, "podman")).await;
    match outcome {
        Ok(outcome) if outcome.success() => Ok(()),
        Ok(outcome) => Err(outcome.how()),
        Err(error) => Err(crate::error::chain(&error)),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    #[test]
    fn storage_elsewhere_is_told_by_the_setting() {
        assert!(is_elsewhere("[storage]\n  rootless_storage_path = \"/srv/$UID\"\n"));
        assert!(!is_elsewhere("[storage]\n# rootless_storage_path = \"/srv/$UID\"\n"));
    }

    /// A script in the place of Podman, and a user who may run it and write beside it.
    fn fake(script: &str) -> (tempfile::TempDir, PathBuf, Account) {
        let dir = tempfile::tempdir().expect("a directory can be created");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777))
            .expect("the test may write there");
        let podman = dir.path().join("podman");
        std::fs::write(&podman, format!("#!/bin/sh\n{script}\n")).expect("the test may write there");
        std::fs::set_permissions(&podman, std::fs::Permissions::from_mode(0o755))
            .expect("the test may write there");
        let mut account = crate::host::account::current();
        if crate::host::account::is_root() {
            account =
                Account { name: "nobody".into(), uid: 65_534, gid: 65_534, home: "/nonexistent".into() };
        }
        (dir, podman, account)
    }

    #[tokio::test]
    async fn it_runs_as_the_user_with_a_clean_environment_and_goes_on_after_a_failure() {
        let (_dir, podman, account) = fake(
            "echo \"$(id -u) $(pwd) $HOME $* ${RUNUP_TOKEN-none}\" >>\"${0%/*}/said\"\n[ \"$1\" != volume ]",
        );
        let deadline = Deadline::after(Duration::from_secs(60));
        let failed = clear(&podman, &account, true, deadline, &Stop::never()).await;
        assert_eq!(failed, ["podman volume rm --all --force: exit code 1"]);
        let said = std::fs::read_to_string(podman.with_file_name("said")).unwrap();
        let line = |words: &&[&str]| {
            format!("{} / {} {} none\n", account.uid, account.home.display(), words.join(" "))
        };
        let expected: String = CLEAR.iter().chain([&PRUNE]).map(line).collect();
        assert_eq!(said, expected);
    }

    #[tokio::test]
    async fn one_that_hangs_is_ended_at_the_deadline() {
        let (_dir, podman, account) = fake("exec sleep 600");
        let deadline = Deadline::after(Duration::from_millis(100));
        let failed = clear(&podman, &account, false, deadline, &Stop::never()).await;
        assert_eq!(failed.len(), CLEAR.len(), "{failed:?}");
    }
}
