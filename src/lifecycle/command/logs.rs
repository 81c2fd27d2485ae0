//! Shows the logs of a runner in the order of time: the journal of its service, and what GitHub's programs wrote.

use crate::error::chain;
use crate::host::{Stream, systemd};
use crate::lifecycle::context::error::{Error, TreeError};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::Journal;
use crate::lifecycle::step::service::upgrades;
use crate::runner::diag::{DiagLogs, Program};
use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, Serializer};
use std::time::Duration;
use tokio::sync::mpsc;

/// How many lines of each log are shown of the time before.
const LINES: usize = 100;

/// How often the logs of GitHub's programs are looked at.
const LOOK: Duration = Duration::from_millis(300);

/// A line of one of the logs. Its text is not ours: jobs can write it.
#[derive(Debug, Clone, Serialize)]
pub struct LogLine {
    /// When it was written, as far as it says.
    #[serde(serialize_with = "in_text")]
    pub at: Option<Timestamp>,
    /// Which log it is from.
    pub source: LogSource,
    /// The text.
    pub text: String,
}

#[expect(clippy::ref_option, reason = "serde passes the field by reference")]
fn in_text<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(|at| at.to_string()).serialize(serializer)
}

/// A log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogSource {
    /// The journal of the service and of the upgrade's service.
    Journal,
    /// The newest log of the listener.
    Listener,
    /// The newest log of a worker, which runs a job.
    Worker,
}

/// Passes the lines to `show`, and with `follow` those that are added, until `show` returns false or a signal comes.
///
/// # Errors
/// There is no runner. A log that cannot be read is a warning.
pub async fn logs(
    site: &Site<'_>,
    follow: bool,
    show: &mut dyn FnMut(&LogLine) -> bool,
) -> Result<(), Error> {
    site.check_parents()?;
    let journal = site.read_journal()?;
    if !site.dir().is_dir() && journal.entries().is_empty() {
        return Err(TreeError::NothingThere { dir: site.request.dir.clone() }.into());
    }
    let units = units_of(site, &journal);
    let (mut lines, cursor) = of_units(site, &units).await?;
    let mut diag = Diag::of(site)?;
    lines.extend(diag.read(LINES));
    lines.sort_by_key(|line| line.at);
    for line in &lines {
        if !show(line) {
            return Ok(());
        }
    }
    if follow { go_on(site, &units, cursor, &mut diag, show).await } else { Ok(()) }
}

/// What the service and the listener have said since the listener last waited for jobs, the oldest line first.
/// Jobs of an open tree can write the listener's log.
pub(crate) async fn since_it_listened(site: &Site<'_>) -> Result<Vec<LogLine>, Error> {
    let unit = units_of(site, &site.read_journal()?).into_iter().take(1).collect::<Vec<_>>();
    let (mut lines, _) = of_units(site, &unit).await?;
    lines.extend(Diag::of(site)?.read(LINES));
    lines.sort_by_key(|line| line.at);
    let listened = lines.iter().rposition(|line| line.text.contains("Listening for Jobs"));
    lines.drain(..listened.map_or(0, |at| at + 1));
    lines.retain(|line| line.source != LogSource::Worker);
    Ok(lines)
}

/// The units whose log is the runner's.
fn units_of(site: &Site<'_>, journal: &Journal) -> Vec<String> {
    let has_systemd = systemd::is_running() && site.request.root.is_host();
    let Some(unit) = journal.unit().filter(|_| has_systemd) else { return Vec::new() };
    let [upgrade, _] = upgrades::names(unit);
    vec![unit.to_owned(), upgrade]
}

/// The end of the journal of the units, and where it ends.
async fn of_units(site: &Site<'_>, units: &[String]) -> Result<(Vec<LogLine>, Option<String>), Error> {
    let (mut lines, mut cursor) = (Vec::new(), None);
    if units.is_empty() {
        return Ok((lines, cursor));
    }
    let mut last = None;
    let mut take = |stream, line: &str| match line.strip_prefix("-- cursor: ") {
        Some(end) if stream == Stream::Out => cursor = Some(end.to_owned()),
        _ => lines.push(of_journal(line, &mut last)),
    };
    match systemd::log_of(units, LINES).run(&site.stop, &mut take).await {
        Ok(outcome) if !outcome.success() => tracing::warn!("journalctl failed with {}", outcome.how()),
        Ok(_) => {}
        Err(error) if site.stop.is_cancelled() => return Err(error.into()),
        Err(error) => tracing::warn!("{}", chain(&error)),
    }
    Ok((lines, cursor))
}

/// A line of `short-unix`: seconds, host name, program, text. One without a time continues the one above.
fn of_journal(line: &str, last: &mut Option<Timestamp>) -> LogLine {
    let parts = line.split_once(' ').and_then(|(time, rest)| {
        let (seconds, fraction) = time.split_once('.')?;
        let micros: i64 = fraction.parse().ok().filter(|_| fraction.len() == 6)?;
        let at = Timestamp::from_second(seconds.parse().ok()?).ok()?;
        let at = at.checked_add(SignedDuration::from_micros(micros)).ok()?;
        Some((at, rest.split_once(' ')?.1))
    });
    let (at, text) = match parts {
        Some((at, text)) => (Some(at), text),
        None => (*last, line),
    };
    *last = at;
    LogLine { at, source: LogSource::Journal, text: text.to_owned() }
}

/// The logs of GitHub's programs.
struct Diag([(LogSource, DiagLogs); 2]);

impl Diag {
    fn of(site: &Site<'_>) -> Result<Self, Error> {
        let (dir, reader) = (site.dir(), site.account()?);
        let of = |program| {
            let kept = Journal::logs_for(&site.request.root, &site.request.dir);
            DiagLogs::of(&dir, kept, program, reader.clone())
        };
        Ok(Self([(LogSource::Listener, of(Program::Listener)), (LogSource::Worker, of(Program::Worker))]))
    }

    /// What was added, at most the last `most` lines of each.
    fn read(&mut self, most: usize) -> Vec<LogLine> {
        let mut lines = Vec::new();
        for (source, logs) in &mut self.0 {
            match logs.read() {
                Ok(mut read) => {
                    let read = read.drain(read.len().saturating_sub(most)..);
                    lines.extend(read.map(|line| LogLine { at: line.at, source: *source, text: line.text }));
                }
                Err(error) => tracing::warn!("{}", chain(&error)),
            }
        }
        lines
    }
}

/// Shows what is added, until a signal ends it.
async fn go_on(
    site: &Site<'_>,
    units: &[String],
    cursor: Option<String>,
    diag: &mut Diag,
    show: &mut dyn FnMut(&LogLine) -> bool,
) -> Result<(), Error> {
    let (sender, mut added) = mpsc::unbounded_channel();
    let mut last = None;
    let mut take = |_, line: &str| {
        // Without a receiver, everything has ended.
        let _ = sender.send(of_journal(line, &mut last));
    };
    let journal = async {
        if !units.is_empty() {
            match systemd::follow_log_of(units, cursor.as_deref()).supervise(&site.stop, &mut take).await {
                Ok(outcome) if site.stop.is_cancelled() || outcome.success() => {}
                Ok(outcome) => tracing::warn!("journalctl failed with {}", outcome.how()),
                Err(error) => tracing::warn!("{}", chain(&error)),
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::pin!(journal);
    loop {
        tokio::select! {
            () = site.stop.cancelled() => return Ok(()),
            () = &mut journal => {}
            () = tokio::time::sleep(LOOK) => {}
        }
        let mut lines = diag.read(usize::MAX);
        while let Ok(line) = added.try_recv() {
            lines.push(line);
        }
        lines.sort_by_key(|line| line.at);
        if lines.iter().any(|line| !show(line)) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_journal_has_its_time_or_the_one_above() {
        let mut last = None;
        let line = of_journal("1764340000.250000 box runsvc.sh[7]: Listening for Jobs", &mut last);
        assert_eq!(line.at.map(|at| at.to_string()).as_deref(), Some("2025-11-28T14:26:40.25Z"));
        assert_eq!(line.text, "runsvc.sh[7]: Listening for Jobs");
        let next = of_journal("    of several lines 1764340001.250000", &mut last);
        assert_eq!((next.at, next.text.as_str()), (line.at, "    of several lines 1764340001.250000"));
        assert_eq!(of_journal("99999999999999999.000000 x y", &mut None).at, None);
    }
}
