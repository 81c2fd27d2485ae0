//! A container engine of a user's own, rootless Podman: what it keeps of a job outside of the home directory, or in one
//! that is not deleted. It is run as that user, with a clean environment, because everything that it reads is a job's.

use super::Account;
use crate::deadline::{Deadline, Stop};
use crate::host::{Command, Root, Stream, delete, find_program};
use std::path::{Path, PathBuf};

const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/// Deletes what a job can leave for the next one, pods before the volumes that they use.
const CLEAR: [&[&str]; 5] = [
    &["pod", "rm", "--all", "--force"],
    &["rm", "--all", "--force"],
    &["volume", "rm", "--all", "--force"],
    &["network", "prune", "--force"],
    &["secret", "rm", "--all"],
];

/// Lists the containers that stay then: those of a build that was killed, which Podman does not take for its own.
const LIST: &[&str] = &["ps", "--all", "--external", "--quiet", "--no-trunc"];

/// How many of these are deleted at once: they are words of one command line. More than these are a reason for a reset.
const MOST: usize = 1000;

/// Deletes everything, also where something keeps the rest from working.
const RESET: &[&str] = &["system", "reset", "--force"];

/// What an old Podman does not have yet, with what it prints then.
const NEWER: [&str; 2] = ["secret", "network"];
const UNKNOWN: &str = "unrecognized command";

/// Deletes images that no container uses, and that are older than a day.
const PRUNE: &[&str] = &["image", "prune", "--all", "--force", "--filter", "until=24h"];

/// Podman, if the user has something in it that stays although its home directory is deleted (`home_goes`).
#[must_use]
pub fn podman(root: &Root, account: &Account, home_goes: bool) -> Option<PathBuf> {
    if !root.is_host() {
        return None;
    }
    let storage = account.home.join(".local/share/containers/storage");
    let stays =
        podman_storage(root, account).is_some() || !home_goes && fs_err::symlink_metadata(storage).is_ok();
    find_program("podman", PATH).filter(|_| stays)
}

/// Where the machine's `storage.conf(5)` puts what Podman has of the user, if not in the home directory. The first of the
/// two files counts.
#[must_use]
pub fn podman_storage(root: &Root, account: &Account) -> Option<PathBuf> {
    let files = ["/etc/containers/storage.conf", "/usr/share/containers/storage.conf"];
    let text = files.iter().find_map(|file| fs_err::read_to_string(file).ok()).filter(|_| root.is_host())?;
    elsewhere(&text, account)
}

fn elsewhere(text: &str, account: &Account) -> Option<PathBuf> {
    const KEY: &str = "rootless_storage_path";
    let Ok(table) = text.parse::<toml::Table>() else {
        // Podman may read it all the same.
        return text.lines().any(|line| line.trim_start().starts_with(KEY)).then(|| account.home.clone());
    };
    let path = table.get("storage")?.get(KEY)?.as_str()?.replace("${", "$").replace('}', "");
    let path = path.replace("$HOME", &account.home.display().to_string());
    let path = path.replace("$USER", &account.name).replace("$UID", &account.uid.to_string());
    Some(path.into())
}

/// Deletes the user's containers, volumes, networks and secrets, and with `images` what is old of its images. No other
/// process of the user runs, and nothing is left of those that did in `/tmp` and the like: Podman would look for them. This
/// may leave some. Returns what failed.
pub async fn clear(
    podman: &Path,
    account: &Account,
    images: bool,
    deadline: Deadline,
    stop: &Stop,
) -> Vec<String> {
    let runtime = PathBuf::from(format!("/run/user/{}", account.uid));
    Podman { program: podman, account, runtime: &runtime, deadline, stop }.clear(images).await
}

fn is_id(line: &str) -> bool {
    !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_hexdigit())
}

struct Podman<'a> {
    program: &'a Path,
    account: &'a Account,
    /// What systemd-logind gives the user for a session, and takes away with it.
    runtime: &'a Path,
    deadline: Deadline,
    stop: &'a Stop,
}

impl Podman<'_> {
    async fn clear(&self, images: bool) -> Vec<String> {
        let mut failed = self.delete().await;
        if let Some(first) = failed.first()
            && !self.stop.is_cancelled()
            && !self.deadline.passed()
        {
            tracing::warn!(
                "all that {} has in Podman is deleted, with its images: {first}",
                self.account.name
            );
            self.reset().await;
            failed = self.delete().await;
        }
        if images {
            self.run(PRUNE, &mut failed).await;
        }
        failed
    }

    async fn delete(&self) -> Vec<String> {
        let mut failed = Vec::new();
        for arguments in CLEAR {
            self.run(arguments, &mut failed).await;
        }
        let ids = self.run(LIST, &mut failed).await;
        if ids.is_empty() {
            return failed;
        }
        let words = ["rm", "--force"].into_iter().chain(ids.iter().map(String::as_str));
        self.run(&words.collect::<Vec<_>>(), &mut failed).await;
        if !self.run(LIST, &mut failed).await.is_empty() {
            failed.push("podman rm: build containers remain".to_owned());
        }
        failed
    }

    /// Podman keeps where its runtime state was at first, and does not start where it cannot have it there: if the user had
    /// a session, below a directory that is gone. It is there for the reset only, or Podman would choose it again.
    async fn reset(&self) {
        let made = self.make_runtime();
        self.run(RESET, &mut Vec::new()).await;
        if made {
            let _ = delete::delete_dir(self.runtime);
        }
    }

    /// Whether it was missing, and is there now.
    fn make_runtime(&self) -> bool {
        #[cfg(unix)]
        if fs_err::create_dir(self.runtime).is_ok() {
            use std::os::unix::fs::{PermissionsExt as _, chown};
            let (uid, gid) = (self.account.uid, self.account.gid);
            let _ = fs_err::set_permissions(self.runtime, std::fs::Permissions::from_mode(0o700));
            let _ = chown(self.runtime, Some(uid), Some(gid));
            return true;
        }
        false
    }

    /// Runs it, and returns the ids that it printed, [`MOST`] of them.
    async fn run(&self, arguments: &[&str], failed: &mut Vec<String>) -> Vec<String> {
        let account = self.account;
        let command = Command::new(self.program)
            .args(arguments.iter().copied())
            .account(account)
            .cwd("/")
            .env("PATH", PATH)
            .env("LANG", "C.UTF-8")
            .env("HOME", &account.home)
            .env("USER", &account.name)
            .env("LOGNAME", &account.name)
            .deadline(self.deadline);
        let mut ids = Vec::new();
        let outcome = command
            .run(self.stop, &mut |stream, line| {
                tracing::debug!(line, "podman");
                if stream == Stream::Out && is_id(line) && ids.len() < MOST {
                    ids.push(line.to_owned());
                }
            })
            .await;
        let why = match outcome {
            Ok(outcome) if outcome.success() => return ids,
            // One that does not have the command has nothing of the kind.
            Ok(outcome) if NEWER.contains(&arguments[0]) && outcome.tail.contains(UNKNOWN) => return ids,
            Ok(outcome) => match outcome.tail.lines().rev().find(|line| !line.trim().is_empty()) {
                Some(last) => format!("{}: {}", outcome.how(), last.trim()),
                None => outcome.how(),
            },
            Err(error) => crate::error::chain(&error),
        };
        let words = &arguments[..arguments.len().min(4)];
        failed.push(format!("podman {}: {why}", words.join(" ")));
        ids
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    #[test]
    fn storage_elsewhere_is_told_by_the_setting() {
        let account = Account { name: "ci".into(), uid: 999, gid: 999, home: "/home/ci".into() };
        let path = |text: &str| elsewhere(text, &account).map(|path| path.display().to_string());
        let set = "[storage]\n  rootless_storage_path = \"/srv/${USER}-$UID/$HOME\"\n";
        assert_eq!(path(set).as_deref(), Some("/srv/ci-999//home/ci"));
        assert_eq!(path("[storage]\n# rootless_storage_path = \"/srv/$UID\"\n"), None);
        assert_eq!(path("[storage\nrootless_storage_path = \"/srv/$UID\"\n").as_deref(), Some("/home/ci"));
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

    /// The commands that the fake one was started with.
    fn said(podman: &Path) -> Vec<String> {
        let said = std::fs::read_to_string(podman.with_file_name("said")).expect("the script has written it");
        said.lines().map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn it_runs_as_the_user_with_a_clean_environment() {
        let (_dir, podman, account) =
            fake("echo \"$(id -u) $(pwd) $HOME $* ${RUNUP_TOKEN-none}\" >>\"${0%/*}/said\"");
        let deadline = Deadline::after(Duration::from_secs(60));
        let failed = clear(&podman, &account, true, deadline, &Stop::never()).await;
        assert_eq!(failed, [""; 0]);
        let line = |words: &&[&str]| {
            format!("{} / {} {} none", account.uid, account.home.display(), words.join(" "))
        };
        let expected: Vec<String> = CLEAR.iter().chain([&LIST, &PRUNE]).map(line).collect();
        assert_eq!(said(&podman), expected);
    }

    #[tokio::test]
    async fn containers_of_builds_are_deleted_by_their_ids_and_an_old_podman_need_not_know_secrets() {
        let (_dir, podman, account) = fake(
            "echo \"$*\" >>\"${0%/*}/said\"\ncase $1 in\n\
             ps) [ -e \"${0%/*}/gone\" ] || printf '0a1b\\n--all\\n\\nc2d3\\n'; echo ffff >&2 ;;\n\
             rm) [ $2 != --force ] || touch \"${0%/*}/gone\" ;;\n\
             secret) echo 'Error: unrecognized command `podman secret`' >&2; exit 125 ;;\nesac",
        );
        let deadline = Deadline::after(Duration::from_secs(60));
        let failed = clear(&podman, &account, false, deadline, &Stop::never()).await;
        assert_eq!(failed, [""; 0]);
        let said = said(&podman);
        assert!(said.iter().any(|line| line == "rm --force 0a1b c2d3"), "{said:?}");
    }

    #[tokio::test]
    async fn containers_that_stay_are_a_reason_for_a_reset() {
        let (_dir, podman, account) = fake("echo \"$*\" >>\"${0%/*}/said\"\n[ $1 != ps ] || seq 1200 2400");
        let deadline = Deadline::after(Duration::from_secs(60));
        let failed = clear(&podman, &account, false, deadline, &Stop::never()).await;
        assert_eq!(failed, ["podman rm: build containers remain"]);
        let said = said(&podman);
        assert!(said.contains(&RESET.join(" ")), "{said:?}");
        let words =
            said.iter().filter(|line| line.starts_with("rm --force")).map(|line| line.split(' ').count());
        assert_eq!(words.collect::<Vec<_>>(), [MOST + 2, MOST + 2]);
    }

    #[tokio::test]
    async fn one_that_fails_is_reset_once_beside_the_runtime_directory_and_goes_on() {
        let (dir, podman, account) = fake(
            "echo \"$*\" >>\"${0%/*}/said\"\ncase $1 in\n\
             system) [ -d \"${0%/*}/runtime\" ] && echo with it >>\"${0%/*}/said\" ;;\n\
             volume) [ ! -d \"${0%/*}/runtime\" ] && echo in use >&2 && echo >&2 && exit 2 ;;\nesac",
        );
        let runtime = dir.path().join("runtime");
        let (deadline, stop) = (Deadline::after(Duration::from_secs(60)), Stop::never());
        let podman = Podman { program: &podman, account: &account, runtime: &runtime, deadline, stop: &stop };
        let failed = podman.clear(true).await;
        assert_eq!(failed, ["podman volume rm --all --force: exit code 2: in use"]);
        assert!(!runtime.exists(), "the runtime directory is left");
        let delete: Vec<String> = CLEAR.iter().chain([&LIST]).map(|words| words.join(" ")).collect();
        let reset = [RESET.join(" "), "with it".to_owned()];
        let expected: Vec<String> =
            [delete.clone(), reset.to_vec(), delete, vec![PRUNE.join(" ")]].into_iter().flatten().collect();
        assert_eq!(said(podman.program), expected);
    }

    #[tokio::test]
    async fn one_that_hangs_is_ended_at_the_deadline() {
        let (_dir, podman, account) = fake("exec sleep 600");
        let deadline = Deadline::after(Duration::from_millis(100));
        let failed = clear(&podman, &account, false, deadline, &Stop::never()).await;
        assert_eq!(failed.len(), CLEAR.len() + 1, "{failed:?}");
    }
}
