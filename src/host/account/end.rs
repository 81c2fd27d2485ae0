//! The end of every process of a user that runup created.

use super::Account;
use crate::deadline::Deadline;
use crate::host::Error;

/// Kills every process that has the account's uid as its real or saved one, whatever it forks meanwhile, and waits
/// until none is left that has it as any of its ids. Returns how many were seen.
///
/// Only for users that runup created: what another user runs is not ours to end. Root, this process's own user and a
/// user that is not root asking for it are refused. [`Error::StillRunning`] at the deadline.
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

    /// Between two looks at what is left.
    const LOOK: Duration = Duration::from_millis(5);

    /// How long a killer may take. It makes three system calls; where it shares the uid with those that it kills, they
    /// may stop it before the last.
    const KILLER: Duration = Duration::from_millis(500);

    /// How long killed processes may take to go before they are killed again: a new one can only have come from
    /// outside, such as a cron daemon.
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
        // Without /proc nothing could be seen, and "none" would be a guess.
        fs_err::read("/proc/self/status")?;
        let which = Which::OfUser(account.uid);
        // A process that a user namespace gave a subordinate id of the user comes back as the user by a program of its
        // own.
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
            // Also where none was seen: one that forks and ends all the time may dodge the look, but not the kill.
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

    /// Sends a killer and waits for its end.
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

    /// A killer that has not been waited for; dropped, it is killed and waited for.
    struct Killer(Option<Pid>);

    impl Killer {
        fn has_ended(&mut self) -> bool {
            let Some(pid) = self.0 else { return true };
            let ended = !matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(None));
            if ended {
                // The id may be another process's from here on.
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
