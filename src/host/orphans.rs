//! What process 1 owes to others: it waits for the processes whose parents have gone, or their remains fill the table
//! of processes. In a container without an init that is us.

use rustix::process::{Pid, WaitOptions, waitpid};
use std::collections::BTreeSet;
use std::time::Duration;

/// How often it is looked. Whoever started a child of our own waits for its end, and has done so long before the second
/// look: what is still there then is nobody's.
const LOOK: Duration = Duration::from_secs(10);

/// Waits for orphans, for ever, if this is process 1; else ends at once. Within a tokio runtime only: the look must
/// come after the waiting for our own children, which the same thread does.
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

/// Waits for those that were there before as well; returns the others.
fn look(before: &BTreeSet<u32>, now: BTreeSet<u32>) -> BTreeSet<u32> {
    let (nobodys, new) = now.into_iter().partition::<BTreeSet<u32>, _>(|pid| before.contains(pid));
    for pid in nobodys {
        if let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let result = waitpid(Some(id), WaitOptions::NOHANG);
            tracing::debug!(pid, ended = result.is_ok(), "reaped an orphaned process");
        }
    }
    new
}

/// Our children that have ended, and that nobody has waited for.
fn remains() -> BTreeSet<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeSet::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| is_ended_child(*pid))
        .collect()
}

fn is_ended_child(pid: u32) -> bool {
    let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The name before it may have any character, but the last parenthesis is its own.
    let Some((_, fields)) = text.rsplit_once(')') else { return false };
    let mut fields = fields.split_whitespace();
    let (state, parent) = (fields.next(), fields.next());
    state == Some("Z") && parent.and_then(|parent| parent.parse().ok()) == Some(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_waits_for_is_waited_for_at_the_second_look() {
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
        assert_eq!((seen.len(), ours().len()), (1, 1), "it may be waited for by somebody yet");
        assert!(look(&seen, ours()).is_empty());
        assert!(ours().is_empty(), "nothing of it is left");
        assert!(child.wait().is_err());
    }
}
