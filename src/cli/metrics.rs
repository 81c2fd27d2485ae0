//! The metrics of `--metrics`, for `node_exporter`'s textfile collector: files that are replaced as a whole, from what this
//! machine knows. No call is made for them, and no failure to write one is a failure of the command.
//!
//! Each runner has files of its own, and each file has metrics that no other file of the runner has: two samples with the
//! same name and labels would spoil all metrics of the collector.

mod text;

pub(super) use text::METRICS;

use super::args::Command;
use super::events::{Fields, Runner};
use super::output::Failed;
use super::screen::Screen;
use crate::event;
use crate::host::file::{read_untrusted, replace};
use crate::host::owner::who_else_can_change;
use crate::lifecycle::{Facts, Site, facts, unique_name, unit_state};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use text::Samples;
use tracing::{Event, Subscriber, span};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// The states of a unit, as `node_exporter` has them.
const STATES: [&str; 5] = ["active", "activating", "deactivating", "failed", "inactive"];
/// The results of a job.
const RESULTS: [&str; 4] = ["succeeded", "failed", "canceled", "other"];
/// The most that is read of a file of an earlier run.
const LIMIT: u64 = 1 << 20;
/// How many writes may follow each other at once, and how many more each second: what is counted in between is written
/// with the next one. A job can make its listener tell of one job after the other.
const BURST: u32 = 30;
const WRITES_A_SECOND: u32 = 1;
/// What no single runner has.
const ALL: &str = "";

/// The directory of a command's metrics, if it writes some.
pub(super) fn of(command: &Command) -> Option<(&'static str, &Path)> {
    let (name, dir) = match command {
        Command::Install(flags) => ("install", &flags.metrics.metrics),
        Command::Run(flags) => ("run", &flags.metrics.metrics),
        Command::Upgrade(flags) => ("upgrade", &flags.metrics.metrics),
        Command::Status(flags) => ("status", &flags.metrics.metrics),
        Command::Remove(flags) => ("remove", &flags.metrics.metrics),
        _ => return None,
    };
    Some((name, dir.as_deref()?))
}

/// The metrics of one command.
pub(super) struct Metrics {
    command: &'static str,
    dir: PathBuf,
    began: Timestamp,
    screen: Arc<Screen>,
    known: Mutex<Known>,
}

/// What is known so far.
#[derive(Default)]
struct Known {
    /// By the name of the runner's directory, as the log has it, and by the phase.
    phases: BTreeMap<(String, String), f64>,
    /// By the unique name.
    runners: BTreeMap<String, Watched>,
    /// Of `run`, which has one runner.
    jobs: BTreeMap<String, u64>,
    /// The samples of how the run before it ended, which are the last ones until this one ends.
    before: Vec<(&'static str, String)>,
    is_told: bool,
    /// When something was last written because of an event, and how many writes were left then.
    writes: Option<(Instant, f64)>,
}

impl Known {
    /// Whether one more event may be written now.
    fn admits(&mut self, now: Instant) -> bool {
        let (most, more) = (f64::from(BURST), f64::from(WRITES_A_SECOND));
        let left = self.writes.map_or(most, |(then, left)| {
            now.saturating_duration_since(then).as_secs_f64().mul_add(more, left).min(most)
        });
        let admits = left >= 1.0;
        self.writes = Some((now, if admits { left - 1.0 } else { left }));
        admits
    }
}

/// A runner whose metrics are written.
struct Watched {
    dir: PathBuf,
    /// Looks at it again.
    look: Option<Look>,
    /// How it ended, if the command is about several.
    outcome: Option<(u8, Option<String>)>,
}

/// Looks at a runner again.
pub(super) type Look = Arc<dyn Fn() -> Option<Facts> + Send + Sync>;

impl Metrics {
    pub(super) fn new((command, dir): (&'static str, &Path), screen: &Arc<Screen>) -> Self {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        let (began, known) = (Timestamp::now(), Mutex::default());
        Self { command, dir, began, screen: Arc::clone(screen), known }
    }

    /// The command is about this runner.
    pub(super) fn remember(&self, site: &Site<'_>) {
        self.add(site, None);
    }

    /// `run` is about this runner, at which it looks when something happens.
    pub(super) fn supervise(&self, site: &Site<'_>, look: Look) {
        let name = self.add(site, Some(look));
        let before = read_untrusted(&self.path(&name, "run"), LIMIT).ok().flatten().unwrap_or_default();
        let before = String::from_utf8_lossy(&before).into_owned();
        let mut jobs = text::counted(&before, "runup_jobs_total", "result");
        jobs.retain(|result, _| RESULTS.contains(&result.as_str()));
        for result in RESULTS {
            jobs.entry(result.to_owned()).or_default();
        }
        let dir = site.request.dir.to_string_lossy().into_owned();
        let ends = ["runup_last_end_timestamp_seconds", "runup_last_exit_code"];
        let before = text::kept(&before, &dir, &ends, &[("command", self.command)]);
        {
            let mut known = self.known();
            (known.jobs, known.before) = (jobs, before);
        }
        self.write_command(&name, None);
    }

    fn add(&self, site: &Site<'_>, look: Option<Look>) -> String {
        let name = unique_name(site);
        let watched = Watched { dir: site.request.dir.clone(), look, outcome: None };
        self.known().runners.insert(name.clone(), watched);
        name
    }

    /// Writes what is known of the runner; `online`, if that was learned just now.
    pub(super) async fn observe(&self, site: &Site<'_>, online: Option<bool>) {
        let Ok(facts) = facts(site) else { return };
        let (name, dir) = (unique_name(site), &site.request.dir);
        let state = match &facts.unit {
            Some(unit) => unit_state(site, unit).await,
            None => None,
        };
        self.write_facts((&name, dir), &facts, state.as_deref());
        if let Some(online) = online {
            self.write_online((&name, dir), online);
        }
    }

    /// How the command ended for one of several runners.
    pub(super) fn ended<T>(&self, dir: &Path, result: &Result<T, Failed>) {
        let (code, error) = result.as_ref().err().map_or((0, None), Failed::outcome);
        let mut known = self.known();
        if let Some(watched) = known.runners.values_mut().find(|watched| watched.dir == dir) {
            watched.outcome = Some((code, error));
        }
    }

    /// The command has ended: `status` and `remove` have nothing to tell of it.
    pub(super) fn end(&self, code: u8, error: Option<&str>) {
        if ["status", "remove"].contains(&self.command) {
            return;
        }
        let names: Vec<String> = self.known().runners.keys().cloned().collect();
        for name in names {
            self.look(&name);
            self.write_command(&name, Some((code, error.map(str::to_owned))));
        }
    }

    /// The runner was removed, and so are its metrics.
    pub(super) fn forget(&self, site: &Site<'_>) {
        if let Err(error) = self.check() {
            return self.warn(&error);
        }
        let prefix = format!("runup-{}-", unique_name(site));
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(&prefix)
                && name.ends_with(".prom")
                && let Err(error) = std::fs::remove_file(entry.path())
            {
                self.warn(&format!("{}: {error}", entry.path().display()));
            }
        }
    }

    /// Looks at the runner of `run` again, and writes that.
    fn look(&self, name: &str) {
        let (look, dir) = {
            let known = self.known();
            let Some(watched) = known.runners.get(name) else { return };
            (watched.look.clone(), watched.dir.clone())
        };
        if let Some(facts) = look.and_then(|look| look()) {
            // The unit in which it runs, if there is one.
            let state = facts.unit.as_ref().and_then(|unit| {
                crate::host::systemd::own_service().filter(|own| own == unit).map(|_| "active")
            });
            self.write_facts((name, &dir), &facts, state);
        }
    }

    fn write_facts(&self, (name, dir): (&str, &Path), facts: &Facts, state: Option<&str>) {
        let mut samples = Samples::of(&dir.to_string_lossy());
        let is = |yes: bool| f64::from(u8::from(yes));
        if let Some(version) = &facts.version {
            samples.add("runup_runner_info", &[("version", version)], 1.0);
        }
        samples.add_time("runup_runner_newest_timestamp_seconds", &[], facts.newest_at);
        samples.add_time("runup_runner_support_end_timestamp_seconds", &[], facts.supported_until);
        for known in STATES.iter().filter(|_| state.is_some()) {
            samples.add("runup_unit_state", &[("state", known)], is(state == Some(known)));
        }
        for (metric, value) in [("runup_listener_up", facts.listener), ("runup_job_running", facts.job)] {
            if let Some(value) = value {
                samples.add(metric, &[], is(value));
            }
        }
        samples.add_time("runup_facts_timestamp_seconds", &[], Some(Timestamp::now()));
        self.write(name, "facts", &samples);
    }

    fn write_online(&self, (name, dir): (&str, &Path), online: bool) {
        let mut samples = Samples::of(&dir.to_string_lossy());
        samples.add("runup_online", &[], f64::from(u8::from(online)));
        samples.add_time("runup_online_timestamp_seconds", &[], Some(Timestamp::now()));
        self.write(name, "online", &samples);
    }

    /// Writes what the command did, with its end if that is known.
    fn write_command(&self, name: &str, end: Option<(u8, Option<String>)>) {
        let samples = {
            let known = self.known();
            let Some(watched) = known.runners.get(name) else { return };
            let mut samples = Samples::of(&watched.dir.to_string_lossy());
            let command = ("command", self.command);
            for (result, number) in &known.jobs {
                #[expect(clippy::cast_precision_loss, reason = "no runner has that many jobs")]
                samples.add("runup_jobs_total", &[("result", result)], *number as f64);
            }
            samples.add_time("runup_last_start_timestamp_seconds", &[command], Some(self.began));
            if end.is_none() {
                known.before.iter().for_each(|(metric, line)| samples.keep(metric, line));
            }
            if let Some(end) = end {
                // Of one runner alone, the command's own end tells the signal as well.
                let own = watched.outcome.clone().filter(|_| known.runners.len() > 1);
                let (code, error) = own.unwrap_or(end);
                samples.add_time("runup_last_end_timestamp_seconds", &[command], Some(Timestamp::now()));
                let labels = [command, ("error", error.as_deref().unwrap_or_default())];
                samples.add("runup_last_exit_code", &labels, f64::from(code));
            }
            let own = watched.dir.file_name().map(|name| name.to_string_lossy().into_owned());
            for ((runner, phase), seconds) in &known.phases {
                if runner == ALL || Some(runner) == own.as_ref() {
                    samples.add("runup_last_phase_seconds", &[command, ("phase", phase)], *seconds);
                }
            }
            samples
        };
        self.write(name, self.command, &samples);
    }

    fn path(&self, name: &str, what: &str) -> PathBuf {
        self.dir.join(format!("runup-{name}-{what}.prom"))
    }

    fn write(&self, name: &str, what: &str, samples: &Samples) {
        let path = self.path(name, what);
        if let Err(error) = self.put(&path, samples.text().as_bytes()) {
            self.warn(&error);
        }
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> Result<(), String> {
        self.check()?;
        replace(path, bytes, 0o644).map_err(|error| crate::error::chain(&error))
    }

    /// As root, in a directory of another user, files could be written and deleted anywhere.
    fn check(&self) -> Result<(), String> {
        let dir =
            std::fs::File::open(&self.dir).map_err(|error| format!("{}: {error}", self.dir.display()))?;
        if !crate::host::account::is_root() {
            return Ok(());
        }
        match who_else_can_change(&self.dir, &dir) {
            Ok(None) => Ok(()),
            Ok(Some(found)) => Err(format!("{} {}", found.path.display(), found.why)),
            Err(error) => Err(crate::error::chain(&error)),
        }
    }

    /// Once: the next attempt would most likely fail as well.
    fn warn(&self, why: &str) {
        if !std::mem::replace(&mut self.known().is_told, true) {
            self.screen.warn(&format!("the metrics were not written: {why}"));
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, fields: &Fields, runner: Option<String>) {
        let text = |name| fields.get(name).and_then(Value::as_str);
        match text("event") {
            Some("phase-end") => {
                if let (Some(phase), Some(seconds)) =
                    (text("phase"), fields.get("seconds").and_then(Value::as_f64))
                {
                    let key = (runner.unwrap_or_default(), phase.to_owned());
                    self.known().phases.insert(key, seconds);
                }
            }
            Some(online @ ("online" | "offline")) => self.of_run(|name, dir| {
                self.write_online((name, dir), online == "online");
            }),
            Some("job-begin") => self.of_run(|_, _| {}),
            Some("job-end") => {
                let result = text("result").unwrap_or_default();
                if let Some(number) = self.known().jobs.get_mut(result) {
                    *number += 1;
                }
                self.of_run(|name, _| self.write_command(name, None));
            }
            _ => {}
        }
    }

    /// Something has happened to the runner of `run`.
    fn of_run(&self, what: impl Fn(&str, &Path)) {
        if !self.known().admits(Instant::now()) {
            return;
        }
        let supervised = |(name, watched): (&String, &Watched)| {
            watched.look.is_some().then(|| (name.clone(), watched.dir.clone()))
        };
        let found = self.known().runners.iter().find_map(supervised);
        if let Some((name, dir)) = found {
            what(&name, &dir);
            self.look(&name);
        }
    }
}

/// Hears of the events.
pub(super) struct Ear(pub Arc<Metrics>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Ear {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        Runner::attach(attributes, id, &context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        debug_assert_eq!(event.metadata().target(), event::TARGET);
        self.0.note(&Fields::of(event), Runner::of(event, &context));
    }
}

#[cfg(test)]
mod tests {
    use super::{BURST, Known};
    use std::time::{Duration, Instant};

    /// A job that tells of one job after the other keeps nothing else from being done.
    #[test]
    fn a_flood_of_events_is_written_once_a_second() {
        let (mut known, start) = (Known::default(), Instant::now());
        let admitted =
            |known: &mut Known, at: Duration| (0..1000).filter(|_| known.admits(start + at)).count();
        assert_eq!(admitted(&mut known, Duration::ZERO), BURST as usize);
        assert_eq!(admitted(&mut known, Duration::from_secs(1)), 1);
        assert_eq!(admitted(&mut known, Duration::from_secs(4)), 3);
        assert_eq!(admitted(&mut known, Duration::from_secs(4000)), BURST as usize);
    }
}
