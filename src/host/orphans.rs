//! Reaps orphaned processes if runup is process 1, as in a container without an init: otherwise zombies fill the
//! process table.

use rustix::process::{Pid, WaitOptions, waitpid};
use std::collections::BTreeSet;
use std::time::Duration;

/// The pause between two checks. The code that starts a child reaps it long before the second check, so a zombie that
/// is found twice is an orphan.
const LOOK: Duration = Duration::from_secs(10);

/// Reaps orphans for ever if this is process 1; otherwise returns at once. It must run in the tokio runtime whose
/// thread also reaps runup's own children.
pub async fn adopt() {
    if std::process::id() != 1 {
        return;
    }
    let mut before = BTreeSet::new();
    loop {
        tokio::time::sleep(LOOK).await;
        before = look(&before, remains());
    }
}

/// Reaps those that were also found before; returns the others.
fn look(before: &BTreeSet<u32>, now: BTreeSet<u32>) -> BTreeSet<u32> {
    let (orphans, new) = now.into_iter().partition::<BTreeSet<u32>, _>(|pid| before.contains(pid));
    for pid in orphans {
        if let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let result = waitpid(Some(id), WaitOptions::NOHANG);
            tracing::debug!(pid, ended = result.is_ok(), "reaped an orphaned process");
        }
    }
    new
}

/// The zombies among the children of this process.
fn remains() -> BTreeSet<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeSet::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| is_ended_child(*pid))
        .collect()
}

fn is_ended_child(pid: u32) -> bool {
    let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The process name can contain any character, but the last parenthesis ends it.
    let Some((_, fields)) = text.rsplit_once(')') else { return false };
    let mut fields = fields.split_whitespace();
    let (state, parent) = (fields.next(), fields.next());
    state == Some("Z") && parent.and_then(|parent| parent.parse().ok()) == Some(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_orphan_is_reaped_at_the_second_check() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        let began = std::time::Instant::now();
        // Those of other tests are theirs.
        let ours = || remains().into_iter().filter(|one| *one == pid).collect::<BTreeSet<u32>>();
        while ours().is_empty() {
            assert!(began.elapsed() < Duration::from_secs(20), "it does not end");
            std::thread::yield_now();
        }
        let seen = look(&BTreeSet::new(), ours());
        assert_eq!((seen.len(), ours().len()), (1, 1), "its parent may still reap it");
        assert!(look(&seen, ours()).is_empty());
        assert!(ours().is_empty(), "nothing of it is left");
        assert!(child.wait().is_err());
    }
}
