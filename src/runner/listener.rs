//! Runs the listener: the part of GitHub's runner that waits for jobs.
//!
//! `bin/Runner.Listener run` itself, and not `run.sh` around it, whose exit code says nothing. So what `run.sh` does
//! about the listener's exit codes is done here: [`after`] says what each of them asks for.

use super::config_sh::{self, Setting};
use crate::host::{Command, Outcome, file::read_untrusted_in, process::Which};
use crate::secret::Secret;
use std::path::Path;
use std::time::Duration;

/// Marks the listener and what it starts, so that a later run finds a listener that outlived its supervisor.
pub const MARKER: &str = "RUNUP_LISTENER_DIR";

/// What the listener gets to wind a job up once it is asked to end, as GitHub's own service gives it.
pub const GRACE: Duration = Duration::from_secs(30);

/// The file that the runner's self-update leaves when it is through.
pub const UPDATE_FINISHED: &str = "update.finished";

/// So many failures in a row, and it is no accident.
pub const MOST_FAILURES: u32 = 10;

/// The environment input of a just-in-time configuration. The listener removes it from its environment after reading.
const JIT_INPUT: &str = "ACTIONS_RUNNER_INPUT_JITCONFIG";

/// Exit codes of a listener whose update goes on without it.
const UPDATING: &[i32] = &[3, 4];

/// How it says that the server has another session of this runner.
const CONFLICT: &str = "A session for this runner already exists";

/// A long PATH has some thousand bytes.
const PATH_LIMIT: u64 = 64 * 1024;

/// The command that runs the listener. It never ends by a deadline.
#[must_use]
pub fn command(setting: &Setting, jit: Option<&Secret>) -> Command {
    let program = if cfg!(windows) { "Runner.Listener.exe" } else { "Runner.Listener" };
    let mut command = Command::new(setting.dir.join("bin").join(program)).arg("run");
    command = config_sh::surroundings(command, setting, &path(&setting.dir))
        .env(MARKER, setting.dir.display().to_string())
        .env("ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE", "1")
        .interrupts()
        .grace(GRACE)
        .leaves_behind(UPDATING);
    // Actions run on a Node.js that does not look where the runner does.
    if let Some((_, file)) = setting.environment.iter().find(|(key, _)| key == "SSL_CERT_FILE") {
        command = command.env("NODE_EXTRA_CA_CERTS", file);
    }
    match jit {
        Some(config) => command.secret_env(JIT_INPUT, config.clone()),
        None => command,
    }
}

/// The PATH of the jobs: what `config.sh` wrote down, or the usual one. A job may have written there as well, but what
/// is in it is only used by the user who could do that.
fn path(dir: &Path) -> String {
    let written = read_untrusted_in(dir, ".path", PATH_LIMIT).ok().flatten();
    let written = written.and_then(|bytes| String::from_utf8(bytes).ok());
    written
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty() && !text.contains(['\0', '\n']))
        .unwrap_or_else(|| config_sh::PATH.to_owned())
}

/// The processes that run a job of the runner in `dir`.
#[must_use]
pub fn workers(dir: &Path, uid: Option<u32>) -> Which {
    // The worker is started by its resolved path; after a self-update that is bin.VERSION.
    let below = fs_err::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let name = if cfg!(windows) { "Runner.Worker.exe" } else { "Runner.Worker" };
    Which::Program { uid, below, name: name.to_owned() }
}

/// Whether a line of its output says that another listener has the runner's session.
#[must_use]
pub fn is_conflict(line: &str) -> bool {
    line.contains(CONFLICT)
}

/// Whether the end of its output says that it could not open a session because the server does not know the runner.
/// (That its registration was deleted is [`Next::Deleted`].)
#[must_use]
pub fn misses_runner(tail: &str) -> bool {
    let tail = tail.to_lowercase();
    tail.contains("failed to create session") && tail.contains("not found")
}

/// What a line of the listener's output tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It is online.
    Listening,
    /// It has taken a job.
    Job,
    /// The job is over, and the server has been told.
    JobDone {
        /// It was cancelled, by somebody or because the listener was told to end.
        canceled: bool,
    },
}

/// Reads a line of output.
#[must_use]
pub fn news(line: &str) -> Option<News> {
    if line.contains("Listening for Jobs") {
        return Some(News::Listening);
    }
    if let Some((_, result)) = line.rsplit_once(" completed with result: ") {
        return Some(News::JobDone { canceled: result.starts_with("Cancel") });
    }
    line.contains("Running job: ").then_some(News::Job)
}

/// What is to be done once the listener has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It is through: one job done, removed from the server, or asked to end.
    Done,
    /// It failed in a way that may pass.
    Retry,
    /// It has staged an update of itself, and is to be started again when that is in place.
    Updating,
    /// Another session of the same runner is open on the server.
    Conflict,
    /// It only wants to be started again.
    Again,
    /// The server no longer talks to this version.
    Deprecated,
    /// The server has deleted the runner; the files are still there.
    Deleted,
    /// It will fail again.
    Failed,
}

/// What the listener's end asks for. Exit code 1 stands for nearly everything that can go wrong; the end of the output
/// tells the cases apart where that matters.
#[must_use]
pub fn after(outcome: &Outcome) -> Next {
    let says = |text: &str| outcome.tail.contains(text);
    match outcome.code {
        Some(0) => Next::Done,
        Some(1) if says("registration has been deleted from the server") => Next::Deleted,
        // What a runner that was deleted while it listened says where its identity is root's (contract, section 10).
        Some(2) if says(".credentials' is denied") || says(".runner' is denied") => Next::Deleted,
        Some(1) if says("is deprecated and cannot receive messages") => Next::Deprecated,
        Some(1) if says(CONFLICT) => Next::Conflict,
        Some(1) => Next::Failed,
        Some(3 | 4) => Next::Updating,
        Some(5) => Next::Conflict,
        Some(6) => Next::Again,
        Some(7) => Next::Deprecated,
        // 2 is an exception that nobody caught; so is whatever has no number here, and a signal that was not ours.
        _ => Next::Retry,
    }
}

/// How long to wait before the start that follows the `failures`th failure in a row; `None` is giving up.
#[must_use]
pub fn back_off(failures: u32) -> Option<Duration> {
    (failures <= MOST_FAILURES).then(|| Duration::from_secs(1 << failures.saturating_sub(1).min(5)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Account;

    fn ended(code: Option<i32>, tail: &str) -> Outcome {
        Outcome { code, signal: if code.is_none() { Some(9) } else { None }, tail: tail.into() }
    }

    #[test]
    fn every_exit_code_has_its_consequence() {
        let cases = [
            (Some(0), "", Next::Done),
            (Some(1), "Not configured", Next::Failed),
            (
                Some(1),
                "The runner registration has been deleted from the server, please re-configure.",
                Next::Deleted,
            ),
            (Some(1), "Runner version v2.300.0 is deprecated and cannot receive messages.", Next::Deprecated),
            (Some(1), "A session for this runner already exists.", Next::Conflict),
            (Some(2), "", Next::Retry),
            (
                Some(2),
                "An error occurred: Access to the path '/opt/actions-runner/.credentials' is denied.",
                Next::Deleted,
            ),
            (Some(3), "", Next::Updating),
            (Some(4), "", Next::Updating),
            (Some(5), "", Next::Conflict),
            (Some(6), "", Next::Again),
            (Some(7), "", Next::Deprecated),
            (Some(42), "", Next::Retry),
            (None, "", Next::Retry),
            // What a job printed long ago does not turn success into something else.
            (Some(0), "A session for this runner already exists", Next::Done),
        ];
        for (code, tail, next) in cases {
            assert_eq!(after(&ended(code, tail)), next, "{code:?} {tail}");
        }
    }

    #[test]
    fn it_is_tried_ten_times_more_and_more_slowly() {
        let waits: Vec<u64> = (1..=10).map(|failures| back_off(failures).unwrap().as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 32, 32, 32, 32]);
        assert_eq!(back_off(11), None);
    }

    #[test]
    fn a_just_in_time_configuration_is_not_shown() {
        let setting = Setting {
            dir: "/opt/actions-runner".into(),
            account: Account { name: "runner".into(), uid: 990, gid: 990, home: "/home/runner".into() },
            root: crate::host::Root::host(),
            allow_root: false,
            environment: vec![],
            token_on_argv: false,
        };
        let shown = command(&setting, Secret::new("CANARY").as_ref()).render();
        assert!(
            shown.contains("ACTIONS_RUNNER_INPUT_JITCONFIG=[secret]") && !shown.contains("CANARY"),
            "{shown}"
        );
        assert!(shown.ends_with("run"), "{shown}");
    }

    #[test]
    fn the_path_is_the_one_that_config_sh_wrote_down() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(path(dir.path()), config_sh::PATH);
        std::fs::write(dir.path().join(".path"), "/my/bin:/bin\n").unwrap();
        assert_eq!(path(dir.path()), "/my/bin:/bin");
        std::fs::write(dir.path().join(".path"), "").unwrap();
        assert_eq!(path(dir.path()), config_sh::PATH);
    }

    #[test]
    fn the_lines_that_matter_are_known() {
        assert_eq!(news("2026-01-01 00:00:00Z: Listening for Jobs"), Some(News::Listening));
        assert_eq!(news("2026-01-01 00:00:00Z: Running job: build"), Some(News::Job));
        let done = "2026-01-01 00:00:00Z: Job build completed with result: Succeeded";
        assert_eq!(news(done), Some(News::JobDone { canceled: false }));
        let canceled = "2026-01-01 00:00:00Z: Job build completed with result: Canceled";
        assert_eq!(news(canceled), Some(News::JobDone { canceled: true }));
        assert_eq!(news("Exiting..."), None);
        assert!(is_conflict("Runner connect error: A session for this runner already exists.. Retrying"));
        assert!(misses_runner("Failed to create session. Agent 23 was not found.\n"));
        assert!(!misses_runner("Failed to create session. Http response code: BadGateway\n"));
        assert!(!misses_runner("The file was not found.\n"));
    }
}
