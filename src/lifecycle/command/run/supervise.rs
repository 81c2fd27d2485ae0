//! Supervises one registration's listener: starts it, restarts it if its end calls for that, and ends it on request.

use crate::cloud;
use crate::cloud::Notice;
use crate::deadline::Deadline;
use crate::event;
use crate::host::Outcome;
use crate::host::systemd;
use crate::lifecycle::command::run::adrift::{Adrift, Finding};
use crate::lifecycle::command::run::clean::is_ephemeral;
use crate::lifecycle::command::run::running::Running;
use crate::lifecycle::command::run::trouble::{Ended, LOOK, Trouble};
use crate::lifecycle::context::error::{Error, ListenerError, TreeError};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::service;
use crate::lifecycle::step::registration::deregister;
use crate::runner::listener::{self, JobResult, News, Next};
use crate::runner::{JitIdentity, config_sh};
use crate::secret::Secret;
use std::cell::Cell;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long an ephemeral listener may take to end after its job.
const EPILOGUE: Duration = Duration::from_secs(10);

/// How long an idle listener may take to end its session on a server that may not answer any more, and any listener if
/// the machine is being taken away.
const GOODBYE: Duration = Duration::from_secs(8);

/// The part of a spot notice's time that is kept for the listener's end and the server: both fit into the 30 s of the
/// shortest notice.
const RESERVE: Duration = GOODBYE.saturating_add(deregister::SILENCE);

/// Runs the listener until it is done. `jobs` counts the jobs that it takes; `trouble` is of the whole run.
///
/// # Errors
/// The listener cannot do its work, and restarting it would not help.
pub(crate) async fn supervise(
    site: &Site<'_>,
    running: &Running,
    jit: Option<&Secret>,
    jobs: &mut u32,
    trouble: &mut Trouble,
) -> Result<Ended, Error> {
    let account = site
        .account()?
        .ok_or_else(|| Error::Tree(TreeError::NothingThere { dir: site.request.dir.clone() }))?;
    crate::lifecycle::command::prepare_start::prepare(site).await?;
    // A unit that starts us as root has set its groups for us, not for the runner.
    let groups = service::groups_of_unit(site, systemd::own_service().as_deref()).await?;
    let setting = site.listener_setting(account, groups);
    trouble.is_over();
    trouble.hold_back(site).await;
    // The machine's end is announced once, whichever listener runs then.
    let announced = announced(running, &site.stop);
    tokio::pin!(announced);
    loop {
        if site.stop.is_cancelled() {
            return Ok(Ended::Told { cut: false, until: None });
        }
        let (work, told) = (Work::default(), Told::default());
        let outcome = listen(site, running, &setting, jit, announced.as_mut(), &work, &told).await;
        work.end();
        let outcome = outcome?;
        *jobs += work.jobs.load(Relaxed);
        match told.finding.get() {
            // A configuration for one runner has served its time.
            Some(Finding::Gone) if running.handed().is_some() => return Ok(Ended::Itself),
            Some(Finding::Gone) => return Ok(Ended::Deleted),
            Some(Finding::Unclear) => continue,
            None => {}
        }
        // A job may have just ended, or begun.
        let busy = work.busy.load(Relaxed);
        let until = told.until.get();
        let Some(outcome) = outcome else {
            tracing::warn!("the listener does not end, and is killed");
            return Ok(Ended::Told { cut: busy || told.in_a_job.get(), until });
        };
        tracing::debug!(how = outcome.how(), "the listener has ended");
        if told.interrupt.is_cancelled() {
            let cut = busy || (told.in_a_job.get() && work.canceled.load(Relaxed));
            return Ok(Ended::Told { cut, until });
        }
        let listened = work.listened.load(Relaxed);
        if listened {
            trouble.is_over();
        }
        if let Some(identity) = running.handed() {
            refuse_used(identity, listener::after(&outcome), &outcome, listened)?;
        }
        let pause = match trouble.next(site, outcome).await? {
            ControlFlow::Break(ended) => return Ok(ended),
            ControlFlow::Continue(pause) => pause,
        };
        tokio::select! {
            () = site.stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Runs one listener until it ends, or is told to end; returns `None` if it has to be killed then.
async fn listen(
    site: &Site<'_>,
    running: &Running,
    setting: &config_sh::Setting,
    jit: Option<&Secret>,
    announced: Pin<&mut impl Future<Output = Notice>>,
    work: &Work,
    told: &Told,
) -> Result<Option<Outcome>, Error> {
    let mut on_line = |stream, line: &str| {
        work.note(line);
        site.watch.output(stream, line);
        if listener::is_conflict(line) && !work.conflict.swap(true, Relaxed) {
            tracing::warn!("another listener has this runner's session; the runner waits for its end");
        }
    };
    tracing::debug!("starting the listener");
    let child = listener::command(setting, jit).supervise(&told.interrupt, &mut on_line);
    let ending = async {
        let until = tokio::select! {
            () = site.stop.cancelled() => None,
            notice = announced => Some(Deadline::after(notice.left)),
            finding = work.adrift.in_vain(site, || work.busy.load(Relaxed)) => {
                tracing::warn!("{}", match finding {
                    Finding::Gone => "the listener tries to reconnect a runner that the server has deleted; ending it",
                    Finding::Unclear => "the server does not know the runner, as the listener prints; starting it again",
                });
                told.finding.set(Some(finding));
                told.interrupt.cancel();
                tokio::time::sleep(GOODBYE).await;
                return;
            }
        };
        told.until.set(until);
        // Whatever requested it, from here on everything ends.
        site.stop.cancel();
        told.in_a_job.set(!work.drained(site, running, until).await);
        told.interrupt.cancel();
        let patience = if told.in_a_job.get() && until.is_none() { listener::GRACE } else { GOODBYE };
        tokio::time::sleep(patience).await;
    };
    Ok(tokio::select! {
        ended = child => Some(ended?),
        // Dropped, it is killed with all that it has started.
        () = ending => None,
    })
}

/// A just-in-time configuration is for one runner and one job; what the listener says shows that it was used before
/// (contract, sections 2.4 and 5). The listener itself has retried for some minutes.
fn refuse_used(identity: &JitIdentity, next: Next, outcome: &Outcome, listened: bool) -> Result<(), Error> {
    let (name, id) = (identity.runner().agent_name.clone(), identity.runner().agent_id);
    let gone = match next {
        Next::Conflict => return Err(ListenerError::JitConfigInUse { name, id }.into()),
        Next::Deleted => true,
        Next::Failed => listener::misses_runner(&outcome.tail),
        // The server has revoked its credential: it never listened.
        Next::Done => !listened,
        _ => false,
    };
    if gone { Err(Error::Listener(ListenerError::JitConfigUsed { name, id })) } else { Ok(()) }
}

/// The result of a request to end.
#[derive(Default)]
struct Told {
    /// Cancelled once the listener is interrupted.
    interrupt: CancellationToken,
    until: Cell<Option<Deadline>>,
    /// Why it was interrupted, if nothing else ends.
    finding: Cell<Option<Finding>>,
    in_a_job: Cell<bool>,
}

/// What the listener has said of its work.
#[derive(Default)]
struct Work {
    listened: AtomicBool,
    online: AtomicBool,
    busy: AtomicBool,
    canceled: AtomicBool,
    conflict: AtomicBool,
    jobs: AtomicU32,
    adrift: Adrift,
}

impl Work {
    fn note(&self, line: &str) {
        let news = listener::news(line);
        if let Some(news) = news {
            self.adrift.note(news);
        }
        match news {
            Some(News::Listening) => {
                self.listened.store(true, Relaxed);
                self.set_online(true);
            }
            Some(News::Job) => {
                if !self.busy.swap(true, Relaxed) {
                    event::job_begin();
                }
                self.jobs.fetch_add(1, Relaxed);
            }
            Some(News::JobDone { result }) => {
                if self.busy.swap(false, Relaxed) {
                    event::job_end(result.as_str());
                }
                self.canceled.store(result == JobResult::Canceled, Relaxed);
            }
            Some(News::Disconnected { .. }) => self.set_online(false),
            Some(News::Reconnected) => self.set_online(true),
            None => {}
        }
    }

    fn set_online(&self, online: bool) {
        match (self.online.swap(online, Relaxed), online) {
            (false, true) => event::online(),
            (true, false) => event::offline(),
            _ => {}
        }
    }

    /// The listener has ended, and with it the job that it had.
    fn end(&self) {
        if self.busy.load(Relaxed) {
            event::job_end(JobResult::Canceled.as_str());
        }
        self.set_online(false);
    }

    /// Waits for the end of a running job, as long as the machine has; returns whether none is left.
    async fn drained(&self, site: &Site<'_>, running: &Running, until: Option<Deadline>) -> bool {
        let workers = listener::workers(&site.dir(), site.runner_uid());
        let left = until.map_or(Duration::MAX, |until| until.left().saturating_sub(RESERVE));
        let patience = running.drain.min(left);
        let deadline = Deadline::after(patience);
        let mut told = false;
        while self.busy.load(Relaxed) || !workers.find().is_empty() {
            if deadline.passed() || running.insist.is_cancelled() {
                return false;
            }
            if !told {
                told = true;
                event::wait("a job is running", Some(patience));
                tracing::info!("a job is running; waiting for its end, {} s at most", patience.as_secs());
            }
            tokio::select! {
                () = running.insist.cancelled() => {}
                () = tokio::time::sleep(LOOK.min(deadline.left())) => {}
            }
        }
        if is_ephemeral(site) && self.jobs.load(Relaxed) > 0 {
            // Its work is done, and it is about to end by itself.
            tokio::time::sleep(EPILOGUE.min(left)).await;
        }
        true
    }
}

/// Waits for an announcement that the machine will be taken away.
async fn announced(running: &Running, stop: &CancellationToken) -> Notice {
    if let Some((http, notices)) = &running.notices
        && let Some(notice) = cloud::watch(http, notices, stop).await
    {
        tracing::warn!("{}: {}; {} s are left", notice.provider, notice.what, notice.left.as_secs());
        return notice;
    }
    std::future::pending().await
}
