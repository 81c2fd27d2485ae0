//! What follows when a listener ends by itself: another one after a pause, or the end of `run`.

use crate::deadline::Deadline;
use crate::error::chain;
use crate::event;
use crate::host::Outcome;
use crate::host::file::remove_if_present;
use crate::host::process::Which;
use crate::lifecycle::context::error::{Error, ListenerError};
use crate::lifecycle::context::site::Site;
use crate::runner::listener::{self, Next};
use crate::runner::{asset, complaint, tree};
use jiff::Timestamp;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// How often to check whether a job still runs, or an update is through.
pub(crate) const LOOK: Duration = Duration::from_millis(250);

/// How long a self-update may take to put its files in place.
const UPDATE: Duration = Duration::from_secs(60);

/// How often within [`LATELY`] a runner may update itself.
const MOST_UPDATES: usize = 3;
const LATELY: Duration = Duration::from_secs(60 * 60);

/// How often within [`LOST_WITHIN`] a deleted runner is re-registered, or a broken one replaced.
const MOST_LOST: usize = 3;
const LOST_WITHIN: Duration = Duration::from_secs(600);

/// The pause between two attempts at a session that is in use. The listener itself has waited for minutes then.
const CONFLICT: Duration = Duration::from_secs(5);

/// How the listener ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was told to end.
    Told {
        /// A job was running that could not finish.
        cut: bool,
        /// When the machine is taken away, if that is the reason.
        until: Option<Deadline>,
    },
    /// By itself, as it should.
    Itself,
    /// The server has deleted the runner, as the listener or the server says.
    Deleted,
    /// Its self-update was interrupted, and left no complete runner.
    Broken,
}

/// What has gone wrong since a listener last worked.
#[derive(Default)]
pub(crate) struct Trouble {
    failures: u32,
    /// Until when a session that is in use is waited for.
    conflict: Option<Deadline>,
    /// These count on while listeners work, and when the runner is replaced or registered again: the next one may be
    /// told the same.
    updates: Repeats,
    again: Repeats,
    /// The updates for which an earlier run has ended.
    earlier: Repeats,
}

/// When listeners have ended in order to be started again, as far as that was lately. The server can tell them to do so
/// for ever.
#[derive(Default)]
struct Repeats(Vec<Timestamp>);

impl Repeats {
    /// Adds one, and returns the pause before the next start: none after the first one.
    fn add(&mut self, now: Timestamp) -> Duration {
        self.0.retain(|then| ago(*then, now).is_some());
        let before = self.0.len();
        self.0.push(now);
        if before == 0 { Duration::ZERO } else { Duration::from_secs(1 << (before - 1).min(5)) }
    }

    /// How long until no more than `most` of them are lately.
    fn left(&self, most: usize, now: Timestamp) -> Option<Duration> {
        let lately: Vec<Duration> = self.0.iter().filter_map(|then| ago(*then, now)).collect();
        let first = lately.len().checked_sub(most + 1)?;
        Some(LATELY.saturating_sub(lately[first]))
    }
}

/// How long ago that was, if it was lately. A time to come is of a clock that was wrong.
fn ago(then: Timestamp, now: Timestamp) -> Option<Duration> {
    Duration::try_from(then.duration_until(now)).ok().filter(|ago| *ago < LATELY)
}

impl Trouble {
    /// What an earlier run has recorded that ended because of its updates: a service is started again after that.
    pub(crate) fn recorded(site: &Site<'_>) -> Result<Self, Error> {
        Ok(Self { earlier: Repeats(site.read_journal()?.updates()), ..Self::default() })
    }

    /// Waits before the first listener if the runner has updated itself too often lately. Each update downloads all of it.
    pub(crate) async fn hold_back(&self, site: &Site<'_>) {
        let Some(left) = self.earlier.left(MOST_UPDATES, Timestamp::now()) else { return };
        event::wait("the runner has updated itself too often", Some(left));
        tracing::warn!(
            "the runner has updated itself more than {MOST_UPDATES} times within an hour; starting it in {} min",
            left.as_secs().div_ceil(60)
        );
        tokio::select! {
            () = site.stop.cancelled() => {}
            () = tokio::time::sleep(left) => {}
        }
    }

    /// A listener works, or another runner has its first one.
    pub(crate) fn is_over(&mut self) {
        (self.failures, self.conflict) = (0, None);
    }

    /// What follows from a listener's end: the end of the supervision, or another listener after a pause.
    pub(crate) async fn next(
        &mut self,
        site: &Site<'_>,
        outcome: Outcome,
    ) -> Result<ControlFlow<Ended, Duration>, Error> {
        Ok(ControlFlow::Continue(match listener::after(&outcome) {
            Next::Done => return Ok(ControlFlow::Break(Ended::Itself)),
            Next::Deleted => return Ok(ControlFlow::Break(Ended::Deleted)),
            Next::Deprecated => return Err(deprecated(site).await),
            Next::Failed => return Err(failed(outcome)),
            Next::Again => self.again.add(Timestamp::now()),
            Next::Conflict => {
                let until = *self.conflict.get_or_insert_with(|| Deadline::after(site.request.deadline));
                if until.passed() {
                    return Err(ListenerError::SessionConflict { total: until.total() }.into());
                }
                tracing::warn!("another session of this runner is open; trying again");
                let pause = CONFLICT.min(until.left());
                event::retry("another session of this runner is open", pause);
                pause
            }
            Next::Updating => return self.update(site, outcome).await,
            Next::Retry => self.failure(outcome)?,
        }))
    }

    /// After a listener that has ended for an update.
    async fn update(
        &mut self,
        site: &Site<'_>,
        outcome: Outcome,
    ) -> Result<ControlFlow<Ended, Duration>, Error> {
        let pause = self.updates.add(Timestamp::now());
        // Whatever follows: an update that is cut off while it moves its files leaves no runner.
        let through = updated(site).await?;
        if self.updates.0.len() > MOST_UPDATES {
            self.record(site).await?;
            let (dir, times) = (site.request.dir.clone(), MOST_UPDATES);
            return Err(ListenerError::UpdatesAgain { dir, times }.into());
        }
        if through {
            return Ok(ControlFlow::Continue(pause));
        }
        if !tree::inspect(&site.dir(), site.platform())?.is_runner() {
            return Ok(ControlFlow::Break(Ended::Broken));
        }
        Ok(ControlFlow::Continue(self.failure(outcome)?.max(pause)))
    }

    async fn record(&self, site: &Site<'_>) -> Result<(), Error> {
        let site = site.until(Deadline::after(site.request.deadline), site.stop.clone());
        let (_lock, mut journal) = site.open_journal("run").await?;
        Ok(journal.set_updates(&self.updates.0)?)
    }

    /// The pause before the next attempt.
    fn failure(&mut self, outcome: Outcome) -> Result<Duration, Error> {
        self.failures += 1;
        let Some(pause) = listener::back_off(self.failures) else { return Err(failed(outcome)) };
        let (how, seconds) = (outcome.how(), pause.as_secs());
        event::retry(format_args!("the listener failed with {how}"), pause);
        tracing::warn!("the listener failed with {how}; starting it again in {seconds} s");
        Ok(pause)
    }
}

fn failed(outcome: Outcome) -> Error {
    let (status, cause) = (outcome.how(), complaint::recognise(&outcome.tail));
    Error::Listener(ListenerError::ListenerFailed { status, cause, tail: outcome.tail })
}

/// Waits for the runner's self-update; returns whether it says that it is through.
async fn updated(site: &Site<'_>) -> Result<bool, Error> {
    let dir = site.dir();
    let finished = dir.join(listener::UPDATE_FINISHED);
    let script = Which::MarkedBy {
        uid: site.runner_uid(),
        key: listener::MARKER.to_owned(),
        value: dir.display().to_string(),
    };
    let deadline = Deadline::after(UPDATE);
    tracing::info!("the runner updates itself");
    loop {
        // Checked before the file: a script that ends between the two has written it.
        let gone = cfg!(target_os = "linux") && script.find().is_empty();
        if remove_if_present(&finished)? {
            tracing::info!("the runner has updated itself");
            return Ok(true);
        }
        if gone || deadline.passed() || site.stop.is_cancelled() {
            return Ok(false);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The error for a version that GitHub no longer supports; names the installed and the newest version.
async fn deprecated(site: &Site<'_>) -> Error {
    let here = tree::inspect(&site.dir(), site.platform()).ok().and_then(|report| report.version);
    let mut newest = None;
    let site = site.until(Deadline::after(UPDATE), site.stop.clone());
    if let Some(client) = site.eyes() {
        match site.within("asking for the runner applications", client.downloads()).await {
            Ok(offered) => {
                newest =
                    asset::choose(&offered, site.platform(), None).ok().and_then(|choice| choice.version);
            }
            Err(error) => tracing::debug!("{}", chain(&error)),
        }
    }
    let text = |version: Option<crate::runner::RunnerVersion>| version.map(|version| version.to_string());
    Error::Listener(ListenerError::VersionDeprecated { here: text(here), newest: text(newest) })
}

/// Recent corrections, and when they were made.
#[derive(Default)]
pub(crate) struct Lost {
    pub deleted: VecDeque<Instant>,
    pub broken: VecDeque<Instant>,
}

/// Whether one more correction is allowed; if there were too many lately, how many.
pub(crate) fn once_more(times: &mut VecDeque<Instant>) -> Result<(), usize> {
    let now = Instant::now();
    times.retain(|then| now.duration_since(*then) < LOST_WITHIN);
    if times.len() >= MOST_LOST {
        return Err(times.len());
    }
    times.push_back(now);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_is_to_be_started_again_and_again_is_started_more_and_more_rarely() {
        let (mut repeats, begin) = (Repeats::default(), Timestamp::UNIX_EPOCH);
        let pauses: Vec<u64> =
            (0..9).map(|second| repeats.add(begin + Duration::from_secs(second)).as_secs()).collect();
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 32, 32]);
        assert_eq!(repeats.add(begin + 2 * LATELY), Duration::ZERO);
        assert_eq!(repeats.0.len(), 1);
    }

    #[test]
    fn only_what_was_lately_holds_the_next_start_back() {
        let minutes = |minutes: u64| Timestamp::UNIX_EPOCH + Duration::from_secs(minutes * 60);
        let repeats = |times: &[u64]| Repeats(times.iter().map(|time| minutes(*time)).collect());
        let now = minutes(100);
        assert_eq!(repeats(&[97, 98, 99]).left(3, now), None);
        assert_eq!(repeats(&[50, 97, 98, 99]).left(3, now), Some(Duration::from_secs(10 * 60)));
        assert_eq!(repeats(&[40, 97, 98, 99]).left(3, now), None, "an hour ago");
        assert_eq!(repeats(&[97, 98, 99, 200]).left(3, now), None, "the clock was wrong");
        assert_eq!(repeats(&[10, 96, 97, 98, 99]).left(3, now), Some(Duration::from_secs(56 * 60)));
    }
}
