//! Runs the listener: the part of GitHub's runner that waits for jobs.
//!
//! It runs `bin/Runner.Listener run` itself and not `run.sh`, whose exit code is meaningless. Therefore [`after`]
//! handles the listener's exit codes, as `run.sh` does.

use super::config_sh::{self, Setting};
use crate::host::{Command, Outcome, file::read_untrusted_in, process::Which};
use crate::secret::Secret;
use std::path::Path;
use std::time::Duration;

/// Marks the listener and its children, so that a later run finds a listener that outlived its supervisor.
pub const MARKER: &str = "RUNUP_LISTENER_DIR";

/// How long the listener may take to cancel a job after a stop, as in GitHub's own service.
pub const GRACE: Duration = Duration::from_secs(30);

/// The file that the runner's self-update leaves when it is done.
pub const UPDATE_FINISHED: &str = "update.finished";

/// The number of consecutive failures after which runup gives up.
pub const MOST_FAILURES: u32 = 10;

/// The environment input of a just-in-time configuration. The listener removes it from its environment after reading.
const JIT_INPUT: &str = "ACTIONS_RUNNER_INPUT_JITCONFIG";

/// Exit codes of a listener whose update continues without it.
const UPDATING: &[i32] = &[3, 4];

/// The listener's message that the server has another session of this runner.
const CONFLICT: &str = "A session for this runner already exists";

/// The most that is read of `.path`; a long PATH has a few thousand bytes.
const PATH_LIMIT: u64 = 64 * 1024;

/// The command that runs the listener, without a deadline.
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
    match jit {
        Some(config) => command.secret_env(JIT_INPUT, config.clone()),
        None => command,
    }
}

/// The PATH of the jobs: the one that `config.sh` stored, or the usual one. A job may have changed it, but it is used
/// only for processes of the same user.
fn path(dir: &Path) -> String {
    let written = read_untrusted_in(dir, ".path", PATH_LIMIT).ok().flatten();
    let written = written.and_then(|bytes| String::from_utf8(bytes).ok());
    written
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty() && !text.contains(['\0', '\n']))
        .unwrap_or_else(|| config_sh::PATH.to_owned())
}

/// The processes of the listener of the runner in `dir`.
#[must_use]
pub fn listeners(dir: &Path, uid: Option<u32>) -> Which {
    programs(dir, uid, "Runner.Listener")
}

/// The processes that run a job of the runner in `dir`.
#[must_use]
pub fn workers(dir: &Path, uid: Option<u32>) -> Which {
    programs(dir, uid, "Runner.Worker")
}

fn programs(dir: &Path, uid: Option<u32>, program: &str) -> Which {
    // The worker is started by its resolved path, which is in bin.VERSION after a self-update.
    let below = fs_err::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let name = format!("{program}{}", std::env::consts::EXE_SUFFIX);
    Which::Program { uid, below, name }
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

/// An event in the listener's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It is online.
    Listening,
    /// It has taken a job.
    Job,
    /// The job has ended, and was reported to the server.
    JobDone {
        /// How.
        result: JobResult,
    },
    /// It has lost its connection, and tries to get it back, however long that takes.
    Disconnected {
        /// Because the server does not know the runner, as it was told.
        unknown: bool,
    },
    /// It has its connection again.
    Reconnected,
}

/// How a job ended, as the listener prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobResult {
    /// It succeeded.
    Succeeded,
    /// It failed.
    Failed,
    /// It was cancelled, by a user or because the listener was stopped.
    Canceled,
    /// Another result.
    Other,
}

impl JobResult {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Other => "other",
        }
    }

    fn of(text: &str) -> Self {
        let results = [("Succeeded", Self::Succeeded), ("Failed", Self::Failed), ("Cancel", Self::Canceled)];
        results.iter().find(|(name, _)| text.starts_with(name)).map_or(Self::Other, |(_, result)| *result)
    }
}

/// Finds the event in a line of output.
#[must_use]
pub fn news(line: &str) -> Option<News> {
    if line.contains("Listening for Jobs") {
        return Some(News::Listening);
    }
    if let Some((_, result)) = line.rsplit_once(" completed with result: ") {
        return Some(News::JobDone { result: JobResult::of(result) });
    }
    if let Some((_, error)) = line.split_once("Runner connect error: ") {
        return Some(News::Disconnected { unknown: error.contains(" was not found") });
    }
    if line.ends_with("Runner reconnected.") {
        return Some(News::Reconnected);
    }
    line.contains("Running job: ").then_some(News::Job)
}

/// What to do after the listener has exited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it has done its one job, was removed from the server, or was stopped.
    Done,
    /// Start it again: the failure can be temporary.
    Retry,
    /// Start it again after its self-update is complete.
    Updating,
    /// Another session of the same runner is open on the server.
    Conflict,
    /// Start it again, as it requested.
    Again,
    /// The server no longer supports this version.
    Deprecated,
    /// The server has deleted the runner; its files still exist.
    Deleted,
    /// It will fail again.
    Failed,
}

/// What to do after this exit. Exit code 1 stands for nearly every failure; the end of the output tells the relevant
/// ones apart.
#[must_use]
pub fn after(outcome: &Outcome) -> Next {
    let says = |text: &str| outcome.tail.contains(text);
    match outcome.code {
        Some(0) => Next::Done,
        Some(1) if says("registration has been deleted from the server") => Next::Deleted,
        // The message of a runner that was deleted while it listened, if root owns its identity.
        Some(2) if says(".credentials' is denied") || says(".runner' is denied") => Next::Deleted,
        Some(1) if says("is deprecated and cannot receive messages") => Next::Deprecated,
        Some(1) if says(CONFLICT) => Next::Conflict,
        Some(1) => Next::Failed,
        Some(3 | 4) => Next::Updating,
        Some(5) => Next::Conflict,
        Some(6) => Next::Again,
        Some(7) => Next::Deprecated,
        // 2 is an uncaught exception; any other code, and a signal that runup did not send, are treated the same.
        _ => Next::Retry,
    }
}

/// The wait before the next start after this many consecutive failures; `None` means to give up.
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
            // Earlier output of a job does not change a success.
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
            groups: vec![],
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
        assert_eq!(news(done), Some(News::JobDone { result: JobResult::Succeeded }));
        // The name of a job is its author's.
        let forged =
            "2026-01-01 00:00:00Z: Job a completed with result: Failed completed with result: Succeeded";
        assert_eq!(news(forged), Some(News::JobDone { result: JobResult::Succeeded }));
        assert_eq!(
            news("Job a completed with result: Skipped"),
            Some(News::JobDone { result: JobResult::Other })
        );
        let canceled = "2026-01-01 00:00:00Z: Job build completed with result: Canceled";
        assert_eq!(news(canceled), Some(News::JobDone { result: JobResult::Canceled }));
        assert_eq!(news("Exiting..."), None);
        let lost = |error| {
            format!("2026-01-01 00:00:00Z: Runner connect error: {error}. Retrying until reconnected.")
        };
        let unknown = "Registration de0841aa-9c5f-4f4a-a131-9e314fc4e979 was not found.";
        assert_eq!(news(&lost(unknown)), Some(News::Disconnected { unknown: true }));
        assert_eq!(news(&lost("Connection refused")), Some(News::Disconnected { unknown: false }));
        assert_eq!(news("2026-01-01 00:00:00Z: Runner reconnected."), Some(News::Reconnected));
        assert!(is_conflict("Runner connect error: A session for this runner already exists.. Retrying"));
        assert!(misses_runner("Failed to create session. Agent 23 was not found.\n"));
        assert!(!misses_runner("Failed to create session. Http response code: BadGateway\n"));
        assert!(!misses_runner("The file was not found.\n"));
    }
}
