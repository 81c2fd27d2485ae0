//! Runs the machine's own `useradd` and similar programs, one at a time: waits for one that outlived a killed runup.

use crate::deadline::{Deadline, Stop};
use crate::host::process::{self, Ask, Which};
use crate::host::{Command, Error, Outcome, Root, find_program};
use std::path::Path;
use std::time::Duration;

/// Marks the programs that runup has started; the value is the root that they work in.
pub const MARKER: &str = "RUNUP_ACCOUNTS";

/// The timeout of each program. They wait for each other's locks for 15 seconds.
pub(super) const TOOL_TIME: Duration = Duration::from_secs(60);

/// The directories of system programs; PATH may lack the `sbin` directories.
const SYSTEM_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// The programs that are waited for. No user may start one of them as root without being root.
const TOOLS: [&str; 5] = ["useradd", "userdel", "usermod", "groupadd", "groupdel"];

/// The pause between two checks.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// A program of this machine that works inside the root.
pub(super) fn tool(root: &Root, name: &str, tool: &'static str) -> Result<Command, Error> {
    let program = find_program(tool, SYSTEM_PATH)
        .ok_or_else(|| Error::AccountToolMissing { name: name.into(), tool })?;
    let command = Command::new(program)
        .env("PATH", SYSTEM_PATH)
        .env("LC_ALL", "C")
        .env(MARKER, root.path())
        .deadline(Deadline::after(TOOL_TIME));
    // Not --root, which is a chroot: the image's programs can be for another architecture.
    Ok(if root.is_host() { command } else { command.arg("--prefix").arg(root.path()) })
}

pub(super) async fn run(command: Command, tool: &str, stop: &Stop) -> Result<Outcome, Error> {
    command.run(stop, &mut |_, line| tracing::debug!(line, "{tool}")).await
}

/// Waits for the programs that a killed runup has left, and ends those that do not end by themselves. Only for the one
/// that may run them now: nobody else's are told from those.
pub async fn wait_for_survivors(root: &Root, deadline: Deadline, stop: &Stop) -> Result<(), Error> {
    let which = survivors(root);
    let stopped = || Error::Stopped { doing: "waiting for useradd or userdel".into() };
    let limit = deadline.within(TOOL_TIME);
    let mut told = false;
    loop {
        let pids = which.find();
        if pids.is_empty() {
            return Ok(());
        }
        if stop.is_cancelled() {
            return Err(stopped());
        }
        if limit.passed() {
            break;
        }
        if !told {
            told = true;
            tracing::warn!(
                "waiting for useradd or userdel, left by a run that was killed (process {pids:?})"
            );
        }
        tokio::time::sleep(LOOK).await;
    }
    tokio::select! {
        () = stop.cancelled() => Err(stopped()),
        ended = process::end(&which, Ask::Terminate, deadline.within(TOOL_TIME)) => ended.map(drop),
    }
}

/// The mark alone is not enough: a user who may start another program as root, as by sudo, can give it any environment.
fn survivors(root: &Root) -> Which {
    let path = |tool| std::fs::canonicalize(find_program(tool, SYSTEM_PATH)?).ok();
    Which::RootsTool {
        programs: TOOLS.into_iter().filter_map(path).collect(),
        key: MARKER.into(),
        value: root.path().display().to_string(),
    }
}

pub(super) fn no_login_shell(root: &Root) -> &'static str {
    ["/usr/sbin/nologin", "/sbin/nologin", "/usr/bin/nologin"]
        .into_iter()
        .find(|shell| root.resolve(Path::new(shell)).is_some())
        .unwrap_or("/bin/false")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_other_program_of_root_s_is_taken_for_a_useradd_that_outlived_a_killed_run() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path().into());
        let mut other = std::process::Command::new("/bin/sleep");
        let mut other = other.arg("600").env(MARKER, dir.path()).spawn().unwrap();
        let marked =
            Which::MarkedBy { uid: None, key: MARKER.into(), value: dir.path().display().to_string() };
        while marked.find().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(survivors(&root).find(), [] as [u32; 0]);
        wait_for_survivors(&root, Deadline::after(Duration::ZERO), &Stop::never()).await.unwrap();
        assert!(other.try_wait().unwrap().is_none(), "it was ended");
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
