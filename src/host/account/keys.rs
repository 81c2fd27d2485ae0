//! The keys that the kernel keeps for a user without any process of it: its user keyring, and the persistent one.

use super::Account;

/// Deletes them. Returns what stays: a key whose owner has given up all rights to it can be deleted by no one.
#[cfg(target_os = "linux")]
pub(super) async fn clear(account: &Account) -> Option<String> {
    linux::clear(account.uid).await
}

/// This system has none.
#[cfg(not(target_os = "linux"))]
pub(super) async fn clear(_: &Account) -> Option<String> {
    None
}

#[cfg(target_os = "linux")]
mod linux {
    use crate::deadline::Deadline;
    use crate::host::sys;
    use rustix::process::{Pid, Signal, WaitOptions, waitpid};
    use std::time::Duration;

    /// The keyrings of a user that uses none: the user keyring and the one of its sessions.
    const USUAL: u32 = 2;

    /// The timeout of the process that makes some system calls.
    const CLEANER: Duration = Duration::from_secs(5);

    /// How long the kernel may take to delete keys that nothing refers to any more.
    const COLLECTION: Duration = Duration::from_secs(2);

    /// The pause between two checks.
    const LOOK: Duration = Duration::from_millis(1);

    pub async fn clear(uid: u32) -> Option<String> {
        // A user without a line has no key.
        count(&table(), uid)?;
        let code = match sys::fork_key_cleaner(uid) {
            Ok(cleaner) => wait(cleaner).await,
            Err(error) => {
                tracing::debug!("the user's keys cannot be deleted: {error}");
                None
            }
        };
        // Where jobs can use no keyrings, a container's host or neighbour may have keys of the same id.
        if code == Some(sys::NO_KEYRINGS) {
            return None;
        }
        let deadline = Deadline::after(COLLECTION);
        loop {
            let left = count(&table(), uid).unwrap_or_default();
            if left <= USUAL {
                return None;
            }
            if deadline.passed() {
                return Some(format!("{} keys in the kernel", left - USUAL));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn table() -> String {
        std::fs::read_to_string("/proc/key-users").unwrap_or_default()
    }

    /// How many keys the user has: the third column is all of them, and those that are in use.
    pub(super) fn count(table: &str, uid: u32) -> Option<u32> {
        let line = table.lines().find_map(|line| line.trim_start().strip_prefix(&format!("{uid}:")))?;
        line.split_whitespace().nth(1)?.split('/').next()?.parse().ok()
    }

    /// The exit code of the process.
    async fn wait(pid: Pid) -> Option<i32> {
        let limit = Deadline::after(CLEANER);
        loop {
            match waitpid(Some(pid), WaitOptions::NOHANG) {
                Ok(None) if limit.passed() => {
                    let _ = rustix::process::kill_process(pid, Signal::KILL);
                    let _ = waitpid(Some(pid), WaitOptions::empty());
                    return None;
                }
                Ok(None) => tokio::time::sleep(LOOK).await,
                Ok(Some((_, status))) => return status.exit_status(),
                Err(_) => return None,
            }
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn the_keys_of_a_user_are_counted() {
        let table = "    0:    49 48/48 40/1000000 800/25000000\n60706:     3 4/4 2/200 18/20000\n";
        let count = |uid| super::linux::count(table, uid);
        assert_eq!([count(0), count(60_706), count(706), count(7)], [Some(48), Some(4), None, None]);
    }
}
