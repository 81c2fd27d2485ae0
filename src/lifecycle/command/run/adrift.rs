//! A listener that has lost its connection, and may retry for ever: GitHub's does that for a runner that the server has
//! deleted (actions/runner#4191).
//!
//! Jobs can forge what the listener prints, so it is a hint only. The server decides if it can be asked: two different
//! questions, at once and then more and more rarely. If not, another listener has to open a session, which the server
//! refuses to a deleted runner.

use crate::deadline::Deadline;
use crate::error::chain;
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::runner::listener::News;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The pause between the first two attempts to ask the server. It doubles, up to [`LONGEST`].
const PAUSE: Duration = Duration::from_secs(5 * 60);
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// How long a listener without a confirmation may retry before another one takes its place.
const UNCLEAR: Duration = Duration::from_secs(10 * 60);

/// How long the two questions may take.
const ASKING: Duration = Duration::from_secs(60);

/// How often to check whether a job has ended, or a pause is over.
const LOOK: Duration = Duration::from_secs(1);

/// What follows for the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The server no longer has the runner.
    Gone,
    /// It was told so, and that cannot be checked.
    Unclear,
}

/// Since when the listener has had no connection.
#[derive(Default)]
pub(crate) struct Adrift {
    since: Mutex<Option<Lost>>,
    changed: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Lost {
    at: Instant,
    /// It was told that the server does not know the runner.
    unknown: bool,
}

impl Adrift {
    /// Takes note of what the listener printed.
    pub(crate) fn note(&self, news: News) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        *since = match news {
            News::Disconnected { unknown } => {
                Some(Lost { at: since.map_or_else(Instant::now, |lost| lost.at), unknown })
            }
            News::Listening | News::Reconnected | News::Job => None,
            News::JobDone { .. } => return,
        };
        self.changed.notify_one();
    }

    fn lost(&self) -> Option<Lost> {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is known, or has to be found out, that the listener waits in vain. A running job is not disturbed.
    pub(crate) async fn in_vain(&self, site: &Site<'_>, is_busy: impl Fn() -> bool) -> Finding {
        let mut questions = Questions::default();
        loop {
            let Some(lost) = self.lost() else {
                questions.reconnected();
                self.changed.notified().await;
                continue;
            };
            if !is_busy() {
                let can_ask = site.eyes().is_some();
                // It may have reconnected, and have a job, while the server was asked.
                if can_ask
                    && questions.are_due(Instant::now())
                    && is_gone(site).await
                    && self.lost().is_some()
                    && !is_busy()
                {
                    return Finding::Gone;
                }
                if !can_ask && lost.unknown && lost.at.elapsed() >= UNCLEAR {
                    return Finding::Unclear;
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// When the server was last asked.
#[derive(Default)]
struct Questions {
    last: Option<Instant>,
    pause: Duration,
}

impl Questions {
    /// The next loss of the connection is asked about soon, but not more often than that.
    fn reconnected(&mut self) {
        self.pause = self.pause.min(PAUSE);
    }

    /// Whether the server may be asked again; then it is.
    fn are_due(&mut self, now: Instant) -> bool {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < self.pause) {
            return false;
        }
        self.pause = if self.last.is_none() { PAUSE } else { self.pause.saturating_mul(2).min(LONGEST) };
        self.last = Some(now);
        true
    }
}

/// Whether the server no longer has the runner.
async fn is_gone(site: &Site<'_>) -> bool {
    let site = site.until(Deadline::after(ASKING), site.stop.clone());
    match ask(&site).await {
        Ok(gone) => gone,
        Err(error) => {
            tracing::debug!("the server cannot be asked for the runner: {}", chain(&error));
            false
        }
    }
}

async fn ask(site: &Site<'_>) -> Result<bool, Error> {
    let journal = site.read_journal()?;
    let registered = journal.registered().map(|(_, registered)| registered);
    let (Some(client), Some(registered)) = (site.eyes(), registered) else { return Ok(false) };
    let Some(id) = registered.agent_id else { return Ok(false) };
    let question = client.runner_unless_gone(id, &registered.name);
    Ok(site.within("asking for the runner", question).await?.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::listener::JobResult;

    #[test]
    fn the_server_is_asked_at_once_and_then_more_and_more_rarely() {
        let (mut questions, begin) = (Questions::default(), Instant::now());
        let asked: Vec<u64> = (0..6 * 60)
            .filter(|minute| questions.are_due(begin + Duration::from_secs(minute * 60)))
            .collect();
        assert_eq!(asked, [0, 5, 15, 35, 75, 135, 195, 255, 315]);
    }

    #[test]
    fn a_connection_is_lost_until_it_is_there_again() {
        let adrift = Adrift::default();
        adrift.note(News::Disconnected { unknown: false });
        let first = adrift.lost().unwrap().at;
        adrift.note(News::JobDone { result: JobResult::Succeeded });
        adrift.note(News::Disconnected { unknown: true });
        assert!(adrift.lost().is_some_and(|lost| lost.unknown && lost.at == first));
        for news in [News::Reconnected, News::Listening, News::Job] {
            adrift.note(News::Disconnected { unknown: true });
            adrift.note(news);
            assert!(adrift.lost().is_none(), "{news:?}");
        }
    }
}
