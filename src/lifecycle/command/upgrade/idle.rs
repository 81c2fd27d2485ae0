//! Finds an idle moment of a listener, and keeps it idle.
//!
//! A listener cannot be told to take no more jobs. Between a check that finds it idle and the signal that ends it, a
//! job may come, and would be cancelled (actions/runner#4461). So the listener is stopped first (SIGSTOP), and only
//! then checked: a stopped listener starts no job. If it has one, or an answer to read that may bring one, it goes on,
//! and the next idle moment is awaited. If not, it gets SIGINT before it goes on, and ends. It does not acknowledge a
//! job whose message was on its way, and the server gives that job to the next session.

use crate::deadline::Deadline;
use crate::host::freeze::{self, Frozen};
use crate::host::process::{self, Which};
use crate::lifecycle::context::error::{Error, ListenerError};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::{Journal, Registered};
use crate::runner::listener;
use std::time::Duration;

/// How often to check whether a job has ended: between two jobs there may be less than a second.
const JOB: Duration = Duration::from_millis(20);
/// How long a listener that is not idle goes on, at first and at most, before the next check: the server learns that a
/// job is done a moment after the end of its process.
const FIRST: Duration = Duration::from_millis(50);
const LAST: Duration = Duration::from_secs(5);
/// How long the server may take to say whether the runner is busy, while its listener is stopped.
const ANSWER: Duration = Duration::from_secs(10);
/// GitHub ends a job after five days.
const LONGEST: Duration = Duration::from_secs(5 * 24 * 3600);
/// How long an idle listener may take to end.
const ENDING: Duration = Duration::from_secs(45);

/// The processes of one runner.
pub(crate) struct Watched {
    listener: Which,
    worker: Which,
    registered: Registered,
}

impl Watched {
    /// Those of the runner of the journal; `None` without a registration or a user.
    pub fn of(site: &Site<'_>, journal: &Journal) -> Result<Option<Self>, Error> {
        let (Some((_, registered)), Some(account)) = (journal.registered(), site.account()?) else {
            return Ok(None);
        };
        let Which::Program { below, name, .. } = listener::workers(&site.dir(), Some(account.uid)) else {
            return Ok(None);
        };
        let uid = Some(account.uid);
        let listener = Which::Program { uid, below: below.clone(), name: name.replace("Worker", "Listener") };
        let worker = Which::Program { uid, below, name };
        Ok(Some(Self { listener, worker, registered: registered.clone() }))
    }

    /// Continues a listener that a killed run had stopped.
    pub fn thaw(&self) {
        freeze::thaw(&self.listener);
    }

    /// Whether there is a listener.
    pub fn is_listening(&self) -> bool {
        !self.listener.find().is_empty()
    }

    /// The process that runs the listener's job. One that a job left may have that name too, but is not its child.
    fn job(&self) -> Option<u32> {
        let listeners = self.listener.find();
        let of_listener = |pid: &u32| process::parent(*pid).is_some_and(|parent| listeners.contains(&parent));
        self.worker.find().into_iter().find(of_listener)
    }

    /// Waits for an idle moment, until `until` if that is set; returns the listener, stopped in it.
    ///
    /// # Errors
    /// `ListenerError::NotIdle`; a signal. The listener goes on.
    pub async fn wait(&self, site: &Site<'_>, until: Option<Deadline>) -> Result<Frozen, Error> {
        let phase = site.phase("idle");
        let mut pause = FIRST;
        let mut told = false;
        loop {
            if let Some(until) = until.filter(|until| until.passed()) {
                return Err(
                    ListenerError::NotIdle { dir: site.request.dir.clone(), after: until.total() }.into()
                );
            }
            if let Some(pid) = self.job() {
                if !told {
                    told = true;
                    crate::event::wait("a job is running", until.map(Deadline::left));
                    let left = until.map(|until| format!(", {} s at most", until.left().as_secs()));
                    tracing::info!("a job is running; waiting for its end{}", left.unwrap_or_default());
                }
                while process::runs(pid) && until.is_none_or(|until| !until.passed()) {
                    sleep(site, JOB).await?;
                }
                pause = FIRST;
                continue;
            }
            match self.freeze(site).await? {
                Some(frozen) => {
                    phase.end("no job is running");
                    return Ok(frozen);
                }
                None => sleep(site, pause).await?,
            }
            pause = (pause * 2).min(LAST);
        }
    }

    /// Stops the listener, and checks whether it has a job.
    async fn freeze(&self, site: &Site<'_>) -> Result<Option<Frozen>, Error> {
        let frozen = match freeze::freeze(&self.listener).await {
            Ok(frozen) => frozen,
            Err(error) => {
                tracing::debug!("{}", crate::error::chain(&error));
                return Ok(None);
            }
        };
        if self.job().is_some() || frozen.has_unread() {
            return Ok(None);
        }
        let quick = site.until(Deadline::after(ANSWER), site.stop.clone());
        let Some(client) = quick.eyes() else { return Ok(Some(frozen)) };
        let asked = async {
            match self.registered.agent_id {
                Some(id) => client.runner(id).await,
                None => client.runner_named(&self.registered.name).await,
            }
        };
        match quick.within("asking whether the runner is busy", asked).await {
            // The server may have sent a job while it was asked.
            Ok(runner) => {
                let idle = !runner.is_some_and(|runner| runner.busy) && !frozen.has_unread();
                Ok(idle.then_some(frozen))
            }
            Err(error) if error.is_stop() => Err(error),
            // Not known to be idle.
            Err(error) => {
                tracing::warn!("{}", crate::error::chain(&error));
                Ok(None)
            }
        }
    }

    /// Waits until the listener that was told to end has ended. One that has a job after all is not hurried.
    pub async fn gone(&self) {
        let deadline = Deadline::after(ENDING);
        let longest = Deadline::after(LONGEST);
        while self.is_listening() && !longest.passed() && (!deadline.passed() || self.job().is_some()) {
            tokio::time::sleep(JOB).await;
        }
    }
}

async fn sleep(site: &Site<'_>, time: Duration) -> Result<(), Error> {
    tokio::select! {
        () = site.stop.cancelled() => Err(Error::Stopped),
        () = tokio::time::sleep(time) => Ok(()),
    }
}
