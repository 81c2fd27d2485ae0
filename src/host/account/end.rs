//! Kills every process of a user that runup created.

use super::Account;
use crate::deadline::Deadline;
use crate::host::Error;

/// Kills every process with the account's uid as its real or saved uid, including those that are forked meanwhile, and
/// waits until no process has it as any of its ids. Returns how many were found.
///
/// Only for users that runup created. Root and the user of this process are refused, and the caller must be root.
/// [`Error::StillRunning`] at the deadline.
pub async fn end_account(account: &Account, deadline: Deadline) -> Result<usize, Error> {
    let refused = |reason| Error::MustNotEnd { user: account.name.clone(), uid: account.uid, reason };
    if account.uid == 0 || account.uid == u32::MAX {
        return Err(refused("it is root, or not a valid user id"));
    }
    #[cfg(target_os = "linux")]
    return linux::end(account, deadline, &refused).await;
    #[cfg(not(target_os = "linux"))]
    {
        use crate::host::process::{self, Ask, Which};
        process::end(&Which::OfUser(account.uid), Ask::Terminate, deadline).await
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::{Account, Deadline, Error};
    use crate::host::metadata_rule;
    use crate::host::process::{Which, uids_in_use};
    use crate::host::sys;
    use rustix::process::{Pid, Signal, WaitOptions, waitpid};
    use std::collections::BTreeSet;
    use std::time::Duration;

    /// The pause between two checks.
    const LOOK: Duration = Duration::from_millis(5);

    /// The timeout of the killing process. It makes three system calls; if it has the same uid as its victims, they can
    /// kill it before the last.
    const KILLER: Duration = Duration::from_millis(500);

    /// How long killed processes may take to exit before they are killed again: a new one must come from outside, such
    /// as from a cron daemon.
    const AGAIN: Duration = Duration::from_millis(200);

    pub async fn end(
        account: &Account,
        deadline: Deadline,
        refused: &impl Fn(&'static str) -> Error,
    ) -> Result<usize, Error> {
        let (real, effective) = (rustix::process::getuid().as_raw(), rustix::process::geteuid().as_raw());
        if [real, effective].contains(&account.uid) {
            return Err(refused("runup itself runs as this user"));
        }
        if effective != 0 {
            return Err(Error::NeedsRoot { name: account.name.clone() });
        }
        // Without /proc no process can be found, so "none" would be a guess.
        fs_err::read("/proc/self/status")?;
        let which = Which::OfUser(account.uid);
        // A process with a subordinate id of the user, from a user namespace, can get the user's id back by a setuid
        // program of its own.
        let ranges = metadata_rule::ranges(account.uid)?;
        let subordinate = || -> Vec<u32> {
            let used = uids_in_use().into_iter().filter(|id| ![0, real, effective, account.uid].contains(id));
            used.filter(|id| ranges.iter().any(|(first, last)| (first..=last).contains(&id))).collect()
        };
        let find = || -> Vec<u32> {
            let others = subordinate().into_iter().flat_map(|uid| Which::OfUser(uid).find());
            which.find().into_iter().chain(others).collect()
        };
        let mut seen: BTreeSet<u32> = find().into_iter().collect();
        loop {
            // Also if none was found: one that forks and exits all the time can evade the search, but not the kill.
            for uid in subordinate() {
                kill(uid).await?;
            }
            kill(account.uid).await?;
            let again = Deadline::after(AGAIN);
            loop {
                let pids = find();
                if pids.is_empty() {
                    tracing::debug!(user = account.name, ended = seen.len(), "killed the user's processes");
                    return Ok(seen.len());
                }
                if deadline.passed() {
                    let what = which.to_string();
                    return Err(Error::StillRunning { what, pids, total: deadline.total() });
                }
                seen.extend(pids);
                if again.passed() {
                    break;
                }
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    /// Starts a killing process and waits for it.
    async fn kill(uid: u32) -> Result<(), Error> {
        let failed =
            |source: std::io::Error| Error::Spawn { command: format!("kill -9 -1 (as {uid})"), source };
        let killer = sys::fork_killer(uid, outsider(uid)).map_err(failed)?;
        let mut killer = Killer(Some(killer));
        let limit = Deadline::after(KILLER);
        while !killer.has_ended() {
            if limit.passed() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// A uid that no process has: below the last valid one.
    fn outsider(uid: u32) -> u32 {
        let used = uids_in_use();
        (1..u32::MAX).rev().find(|id| *id != uid && !used.contains(id)).unwrap_or(uid)
    }

    /// A killing process that has not been reaped; dropping it kills and reaps it.
    struct Killer(Option<Pid>);

    impl Killer {
        fn has_ended(&mut self) -> bool {
            let Some(pid) = self.0 else { return true };
            let ended = !matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(None));
            if ended {
                // From here on, the id can belong to another process.
                self.0 = None;
            }
            ended
        }
    }

    impl Drop for Killer {
        fn drop(&mut self) {
            if let Some(pid) = self.0 {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
                let _ = waitpid(Some(pid), WaitOptions::empty());
            }
        }
    }
}
