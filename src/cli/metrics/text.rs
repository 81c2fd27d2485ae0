//! Samples in the text format of Prometheus, as `node_exporter`'s textfile collector reads it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A metric: its name, its type, its labels besides `dir`, and its help. Whatever file it is in, these are the same: `node_exporter` demands that of a
/// metric in several files.
pub(in crate::cli) type Metric = (&'static str, &'static str, &'static [&'static str], &'static str);

/// Every metric, in the order in which they are written.
pub(in crate::cli) const METRICS: &[Metric] = &[
    ("runup_runner_info", "gauge", &["version"], "The runner, with its version; always 1."),
    (
        "runup_runner_newest_timestamp_seconds",
        "gauge",
        &[],
        "When the version of the runner was last known to be the newest one.",
    ),
    (
        "runup_runner_support_end_timestamp_seconds",
        "gauge",
        &[],
        "Until when GitHub supports the version of the runner at least.",
    ),
    (
        "runup_unit_state",
        "gauge",
        &["state"],
        "Whether the systemd unit of the runner is in the state; one of them is 1.",
    ),
    ("runup_listener_up", "gauge", &[], "Whether the listener of the runner has a process."),
    ("runup_job_running", "gauge", &[], "Whether a job of the runner runs on this machine."),
    (
        "runup_facts_timestamp_seconds",
        "gauge",
        &[],
        "When the version, the unit, the listener and the job were looked at.",
    ),
    ("runup_online", "gauge", &[], "Whether the runner was online when that was last known."),
    ("runup_online_timestamp_seconds", "gauge", &[], "When it was last known whether the runner is online."),
    ("runup_jobs_total", "counter", &["result"], "Jobs of runup run that have ended, by their result."),
    ("runup_last_start_timestamp_seconds", "gauge", &["command"], "When the command was last started."),
    ("runup_last_end_timestamp_seconds", "gauge", &["command"], "When the command last ended."),
    (
        "runup_last_exit_code",
        "gauge",
        &["command", "error"],
        "Exit code of the command when it last ended, with the name of the error.",
    ),
    (
        "runup_last_phase_seconds",
        "gauge",
        &["command", "phase"],
        "Time that the phase took when the command last ran it.",
    ),
];

/// The longest value of a label, in characters.
const LONGEST: usize = 256;

/// The samples of one file, all of one runner.
pub(super) struct Samples {
    dir: String,
    lines: BTreeMap<&'static str, Vec<String>>,
}

impl Samples {
    /// No samples of the runner in this directory.
    pub(super) fn of(dir: &str) -> Self {
        Self { dir: dir.to_owned(), lines: BTreeMap::new() }
    }

    /// Adds one.
    pub(super) fn add(&mut self, metric: &'static str, labels: &[(&str, &str)], value: f64) {
        let known = METRICS.iter().find(|(name, ..)| *name == metric).map(|(_, _, labels, _)| labels);
        debug_assert!(
            known.is_some_and(|known| known.iter().eq(labels.iter().map(|(name, _)| name))),
            "{metric}"
        );
        let mut line = format!("{metric}{{dir=\"{}\"", escaped(&self.dir));
        for (name, value) in labels {
            let _ = write!(line, ",{name}=\"{}\"", escaped(value));
        }
        let _ = write!(line, "}} {value}");
        self.lines.entry(metric).or_default().push(line);
    }

    /// Adds one that an earlier run has written.
    pub(super) fn keep(&mut self, metric: &'static str, line: &str) {
        self.lines.entry(metric).or_default().push(line.to_owned());
    }

    /// Adds a time, if it is known.
    pub(super) fn add_time(
        &mut self,
        metric: &'static str,
        labels: &[(&str, &str)],
        at: Option<jiff::Timestamp>,
    ) {
        if let Some(at) = at {
            #[expect(clippy::cast_precision_loss, reason = "milliseconds of this era fit")]
            let seconds = at.as_millisecond() as f64 / 1000.0;
            self.add(metric, labels, seconds);
        }
    }

    /// The content of the file.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (name, kind, _, help) in METRICS {
            let Some(lines) = self.lines.get(name) else { continue };
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{}\n", lines.join("\n"));
        }
        text
    }
}

/// The value of a label.
fn escaped(value: &str) -> String {
    let value = crate::cli::visible::shortened(value, LONGEST);
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The samples of a counter in the text of such a file, by the value of this label. What is not as it is written here is
/// left out: then the counter begins again, which Prometheus understands.
pub(super) fn counted(text: &str, metric: &str, label: &str) -> BTreeMap<String, u64> {
    let one = |line: &str| {
        let (labels, value) = line.strip_prefix(metric)?.strip_prefix('{')?.rsplit_once("} ")?;
        let (_, name) = labels.rsplit_once(&format!(",{label}=\""))?;
        Some((name.strip_suffix('"')?.to_owned(), value.parse().ok()?))
    };
    text.lines().filter_map(one).collect()
}

/// The samples of these metrics in the text of such a file whose labels begin with these, one for each metric. What is not as
/// it is written here is left out.
pub(super) fn kept(
    text: &str,
    dir: &str,
    metrics: &[&'static str],
    labels: &[(&str, &str)],
) -> Vec<(&'static str, String)> {
    let one = |metric: &&'static str| {
        let mut begin = format!("{metric}{{dir=\"{}\"", escaped(dir));
        for (name, value) in labels {
            let _ = write!(begin, ",{name}=\"{}\"", escaped(value));
        }
        let is_ours = |line: &&str| {
            let rest = line.strip_prefix(&begin).and_then(|rest| rest.rsplit_once("} "));
            let plain = |c: char| c.is_ascii_alphanumeric() || ",=\"_-".contains(c);
            rest.is_some_and(|(labels, value)| labels.chars().all(plain) && value.parse::<f64>().is_ok())
        };
        Some((*metric, text.lines().find(is_ours)?.to_owned()))
    };
    metrics.iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_a_label_stays_in_its_quotes() {
        let mut samples = Samples::of("/opt/a \"b\"\\c\nd");
        samples.add("runup_jobs_total", &[("result", "failed")], 3.0);
        samples.add("runup_jobs_total", &[("result", "succeeded")], 12.0);
        let text = samples.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert_eq!(lines[1], "# TYPE runup_jobs_total counter");
        assert_eq!(lines[2], r#"runup_jobs_total{dir="/opt/a \"b\"\\c\nd",result="failed"} 3"#);
        let counted = counted(&text, "runup_jobs_total", "result");
        assert_eq!(counted, [("failed".to_owned(), 3), ("succeeded".to_owned(), 12)].into());
        assert!(
            super::counted("runup_jobs_total{dir=\"x\"} 3\nruns{ 3\n", "runup_jobs_total", "result")
                .is_empty()
        );
    }

    #[test]
    fn names_follow_the_conventions() {
        for (name, kind, _, help) in METRICS {
            assert!(
                name.starts_with("runup_") && help.ends_with('.') && !help.contains(['\n', '\\']),
                "{name}"
            );
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert_eq!(*kind == "counter", name.ends_with("_total"), "{name}");
        }
    }
}
