//! systemd: unit files on disk, and everything else with `systemctl`.

use super::{Command, Error, Outcome};
use crate::deadline::{Deadline, Stop};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The directory of the administrator's units, which runup uses too.
pub const UNIT_FOLDER: &str = "/etc/systemd/system";

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The timeout of calls that only query or tell the manager something.
const SHORT: Duration = Duration::from_secs(30);
/// How often a unit is stopped that somebody else starts each time, and what `systemctl` says then.
const STOPS: u32 = 5;
const CANCELLED: &str = " canceled.";
/// The timeout of reading the end of a log.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Whether systemd is PID 1 of this machine, by the check that `sd_booted(3)` documents.
#[must_use]
pub fn is_running() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Whether this process belongs to the unit.
#[must_use]
pub fn are_in(unit: &str) -> bool {
    is_in(std::process::id(), unit)
}

/// Whether the process belongs to the unit.
#[must_use]
pub fn is_in(pid: u32, unit: &str) -> bool {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    groups.lines().any(|line| line.split('/').any(|part| part == unit))
}

/// The service that this process belongs to.
#[must_use]
pub fn own_service() -> Option<String> {
    service_of(&std::fs::read_to_string("/proc/self/cgroup").ok()?)
}

/// The service in the text of `/proc/PID/cgroup`. A service of a user's manager is in that of the machine's one that
/// runs it, and is not meant.
fn service_of(text: &str) -> Option<String> {
    let path = text
        .lines()
        .find_map(|line| line.strip_prefix("0::").or_else(|| line.split_once(":name=systemd:")?.1.into()))?;
    path.split('/').find(|part| part.ends_with(".service")).map(str::to_owned)
}

/// Words of systemd of which runup knows some; any other is kept, to be shown. The default is an empty one.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each variant is systemd's own word")]
        pub enum $name {
            $($variant,)*
            Other(String),
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)*
                    other => Self::Other(other.to_owned()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $word,)*
                    Self::Other(word) => word,
                })
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::Other(String::new())
            }
        }
    )*};
}

words! {
    /// `LoadState`: whether there is a unit file that systemd has read.
    LoadState { Loaded = "loaded", NotFound = "not-found", Masked = "masked" }
    /// `ActiveState`.
    ActiveState {
        Active = "active",
        Activating = "activating",
        Reloading = "reloading",
        Inactive = "inactive",
        Failed = "failed",
        Deactivating = "deactivating"
    }
    /// `SubState`, which says more about the active state.
    SubState { AutoRestart = "auto-restart", Running = "running", Dead = "dead" }
    /// `UnitFileState`: whether it starts at boot. Empty if there is no unit file.
    FileState { Enabled = "enabled", Disabled = "disabled", Masked = "masked" }
}

/// The state of a unit in the manager.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    /// Whether its file was read.
    pub load: LoadState,
    /// Whether it runs.
    pub active: ActiveState,
    /// More about that.
    pub sub: SubState,
    /// Whether it starts at boot.
    pub enabled: FileState,
    /// `success`, `exit-code`, `start-limit-hit` and others.
    pub result: String,
    /// The file it was read from.
    pub fragment: Option<PathBuf>,
    /// How often the manager restarted it.
    pub restarts: u32,
    /// Since when it is in its state, in the manager's words.
    pub since: Option<String>,
    /// Whether a job of the manager to start, stop or restart it is pending.
    pub job: bool,
    /// The groups that `SupplementaryGroups=` adds, by name or number.
    pub groups: Vec<String>,
    /// The umask of its processes.
    pub umask: Option<u32>,
}

impl Unit {
    /// Whether it runs, or waits for its automatic restart.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.active, ActiveState::Active | ActiveState::Activating | ActiveState::Reloading)
    }

    /// Whether it has a process, or is about to have one: a unit that is being stopped still has one.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.is_up() || self.active == ActiveState::Deactivating
    }

    /// Whether systemd knows it.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.load != LoadState::NotFound
    }

    /// Whether it starts at boot.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled == FileState::Enabled
    }

    fn parse(text: &str) -> Self {
        let mut unit = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            match key {
                "LoadState" => unit.load = value.into(),
                "ActiveState" => unit.active = value.into(),
                "SubState" => unit.sub = value.into(),
                "UnitFileState" => unit.enabled = value.into(),
                "Result" => value.clone_into(&mut unit.result),
                "FragmentPath" if !value.is_empty() => unit.fragment = Some(value.into()),
                "StateChangeTimestamp" if !value.is_empty() => unit.since = Some(value.to_owned()),
                "Job" => unit.job = !matches!(value, "" | "0"),
                "SupplementaryGroups" => unit.groups = value.split_whitespace().map(str::to_owned).collect(),
                "UMask" => unit.umask = u32::from_str_radix(value, 8).ok(),
                "NRestarts" => unit.restarts = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        unit
    }
}

/// Queries the state of the unit; an unknown one has the load state `not-found`.
pub async fn show(unit: &str, stop: &Stop) -> Result<Unit, Error> {
    let properties = "LoadState,ActiveState,SubState,UnitFileState,Result,FragmentPath,NRestarts,Job,\
                      StateChangeTimestamp,SupplementaryGroups,UMask";
    let command = systemctl(SHORT).arg("show").arg(unit).arg("--property").arg(properties);
    let rendered = command.render();
    let mut text = String::new();
    let mut collect = |stream, line: &str| {
        if stream == super::Stream::Out {
            text.push_str(line);
            text.push('\n');
        }
    };
    command.run(stop, &mut collect).await?.into_success(&rendered)?;
    Ok(Unit::parse(&text))
}

/// Makes the manager reload the unit files.
pub async fn reload(stop: &Stop) -> Result<(), Error> {
    run(systemctl(SHORT).arg("daemon-reload"), stop).await
}

/// Enables the unit, and starts or restarts it with the current unit file.
pub async fn enable_and_restart(unit: &str, stop: &Stop) -> Result<(), Error> {
    // An earlier start limit must not prevent this start.
    let _ = run(systemctl(SHORT).arg("reset-failed").arg(unit), stop).await;
    run(systemctl(SHORT).arg("enable").arg("--quiet").arg(unit), stop).await?;
    run(systemctl(SHORT).arg("restart").arg("--no-block").arg(unit), stop).await
}

/// Enables the unit.
pub async fn enable(unit: &str, stop: &Stop) -> Result<(), Error> {
    run(systemctl(SHORT).arg("enable").arg("--quiet").arg(unit), stop).await
}

/// Starts the unit, and does not wait.
pub async fn start(unit: &str, stop: &Stop) -> Result<(), Error> {
    // An earlier start limit must not prevent this start.
    let _ = run(systemctl(SHORT).arg("reset-failed").arg(unit), stop).await;
    run(systemctl(SHORT).arg("start").arg("--no-block").arg(unit), stop).await
}

/// Starts the unit without those that it wants, and does not wait.
pub async fn start_alone(unit: &str, stop: &Stop) -> Result<(), Error> {
    let alone = systemctl(SHORT).arg("start").arg("--no-block").arg("--job-mode=ignore-dependencies");
    run(alone.arg(unit), stop).await
}

/// Stops the unit; `timeout` must be longer than the unit's own stop timeout. Of two jobs of the manager the later one
/// counts, so a start by somebody else cancels the stop: then the unit is stopped again.
pub async fn stop_unit(unit: &str, timeout: Duration, stop: &Stop) -> Result<(), Error> {
    let deadline = Deadline::after(timeout);
    let mut stops = STOPS;
    loop {
        stops -= 1;
        match run(systemctl(deadline.left()).arg("stop").arg(unit), stop).await {
            Err(Error::Failed { tail, .. }) if stops > 0 && tail.contains(CANCELLED) => {}
            ended => return ended,
        }
    }
}

/// Tells the manager to stop the unit, and does not wait.
pub async fn begin_to_stop(unit: &str, stop: &Stop) -> Result<(), Error> {
    run(systemctl(SHORT).arg("stop").arg("--no-block").arg(unit), stop).await
}

/// Sends SIGTERM to the unit's main process; one that has none is fine.
pub async fn terminate(unit: &str, stop: &Stop) -> Result<(), Error> {
    // `--kill-who` is understood by every version; its newer spelling is not.
    let _ =
        run(systemctl(SHORT).arg("kill").arg("--kill-who=main").arg("--signal=TERM").arg(unit), stop).await;
    Ok(())
}

/// Disables the unit.
pub async fn disable(unit: &str, stop: &Stop) -> Result<(), Error> {
    run(systemctl(SHORT).arg("disable").arg("--quiet").arg(unit), stop).await
}

/// Resets the failed state of the unit.
pub async fn reset_failed(unit: &str, stop: &Stop) {
    let _ = run(systemctl(SHORT).arg("reset-failed").arg(unit), stop).await;
}

/// The end of the unit's log; empty if the journal cannot be read. It often tells why a deadline has passed, and is read
/// even then.
pub async fn log_tail(unit: &str, signal: &CancellationToken) -> String {
    let stop = &signal.clone().into();
    let command = Command::new("journalctl")
        .arg("--unit")
        .arg(unit)
        .args(["--lines=15", "--no-pager", "--output=cat", "--boot"])
        .env("PATH", PATH)
        .deadline(Deadline::after(LAST_WORDS));
    command.run(stop, &mut |_, _| {}).await.map(|outcome| outcome.tail).unwrap_or_default()
}

/// Whether the clock is synchronized with a time server, as the kernel was told; `None` if systemd does not say.
pub async fn clock_is_synchronized(stop: &Stop) -> Option<bool> {
    let command = Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .env("PATH", PATH)
        .deadline(Deadline::after(SHORT));
    let said = command.run(stop, &mut |_, _| {}).await.ok().filter(Outcome::success)?;
    match said.tail.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// What reads the log of exactly these units, with a time in seconds before each entry, and where it ends as the last line.
#[must_use]
pub fn log_of(units: &[String], lines: usize) -> Command {
    journalctl(units).arg(format!("--lines={lines}")).arg("--show-cursor").deadline(Deadline::after(SHORT))
}

/// The same for what follows that end.
#[must_use]
pub fn follow_log_of(units: &[String], cursor: Option<&str>) -> Command {
    let command = journalctl(units).args(["--follow", "--no-tail"]);
    match cursor {
        Some(cursor) => command.arg(format!("--after-cursor={cursor}")),
        None => command,
    }
}

fn journalctl(units: &[String]) -> Command {
    let command = Command::new("journalctl")
        .args(["--quiet", "--no-pager", "--output=short-unix"])
        .env("PATH", PATH)
        .env("LC_ALL", "C");
    units.iter().fold(command, |command, unit| command.arg(format!("--unit={unit}")))
}

/// Whether SELinux keeps programs of this machine to its policy.
#[must_use]
pub fn selinux_is_enforcing() -> bool {
    std::fs::read_to_string("/sys/fs/selinux/enforce").is_ok_and(|text| text.trim() == "1")
}

/// Gives a file the label of the SELinux policy for its path, if SELinux is enforcing and `restorecon` is installed.
pub async fn relabel(path: &Path, stop: &Stop) {
    let enforcing = selinux_is_enforcing();
    let Some(restorecon) = super::find_program("restorecon", PATH).filter(|_| enforcing) else { return };
    let command = Command::new(restorecon).arg(path).env("PATH", PATH).deadline(Deadline::after(SHORT));
    if let Err(error) = run(command, stop).await {
        tracing::warn!("SELinux may deny access to {0}: run restorecon {0} ({error})", path.display());
    }
}

fn systemctl(timeout: Duration) -> Command {
    Command::new("systemctl")
        .arg("--no-ask-password")
        .arg("--no-pager")
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .deadline(Deadline::after(timeout))
}

async fn run(command: Command, stop: &Stop) -> Result<(), Error> {
    let rendered = command.render();
    command.run(stop, &mut |_, line| tracing::debug!("{line}")).await?.into_success(&rendered)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_of_a_process_is_the_machine_s() {
        let service = |text: &str| service_of(text);
        let ours = Some("runup-actions-runner.service".to_owned());
        assert_eq!(service("0::/system.slice/runup-actions-runner.service\n"), ours);
        assert_eq!(
            service(
                "12:pids:/x.service\n1:name=systemd:/system.slice/runup-actions-runner.service/payload\n"
            ),
            ours
        );
        assert_eq!(
            service("0::/user.slice/user-0.slice/user@0.service/app.slice/mine.service\n").as_deref(),
            Some("user@0.service")
        );
        assert_eq!(service("0::/user.slice/user-0.slice/session-1.scope\n"), None);
        assert_eq!(service("0::/\n"), None);
    }

    #[test]
    fn a_unit_is_what_systemctl_shows() {
        let unit = Unit::parse(
            "LoadState=loaded\nActiveState=activating\nSubState=auto-restart\nUnitFileState=enabled\nResult=exit-code\n\
             FragmentPath=/etc/systemd/system/x.service\nNRestarts=3\n",
        );
        assert!(unit.is_up());
        assert_eq!((&unit.sub, unit.restarts), (&SubState::AutoRestart, 3));
        assert_eq!(unit.fragment.as_deref(), Some(Path::new("/etc/systemd/system/x.service")));
        assert!(unit.exists() && unit.is_enabled());
        let other = Unit::parse("LoadState=bad-setting\nActiveState=maintenance\n");
        assert_eq!(format!("{} {} {}", other.load, other.active, other.enabled), "bad-setting maintenance ");
        assert_eq!(Unit::parse("SupplementaryGroups=docker 44\n").groups, ["docker", "44"]);
        assert_eq!(Unit::parse("SupplementaryGroups=\n").groups, [] as [&str; 0]);
        assert_eq!(Unit::parse("UMask=0077\n").umask, Some(0o77));
        assert!(!Unit::parse("LoadState=not-found\nActiveState=inactive\nFragmentPath=\n").is_up());
    }
}
