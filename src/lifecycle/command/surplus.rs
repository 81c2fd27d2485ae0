//! Instances that are too many, and what all instances share: the lock of their number, and their target.

use crate::deadline::Deadline;
use crate::error::{Class, Failure as _};
use crate::github::{self, Client};
use crate::host::lock::{self, Lock};
use crate::host::systemd;
use crate::lifecycle::command::remove::{Removed, remove};
use crate::lifecycle::context::error::{Error, InstanceError, RegistrationError};
use crate::lifecycle::context::request::RemoveScope;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::{EntryState, Journal, Registered};
use crate::lifecycle::state::service::{UnitOwner, unit_owner};
use crate::lifecycle::state::{observed, ownership};
use crate::lifecycle::step::listener;
use crate::lifecycle::step::registration::deregister;
use crate::lifecycle::step::service::target;
use crate::runner::listener::workers;
use std::time::{Duration, Instant};

/// How soon the server is asked again to delete a busy runner: first, and later for each one that is too many. A request
/// to delete is an expensive one, and GitHub limits those of a minute and of an hour.
const ASK: Duration = Duration::from_secs(3);
const ASK_LATER: Duration = Duration::from_secs(30);
/// How often this machine is searched for the worker of its job: where the worker ends, the server is asked at once,
/// because the moment until the next job is short.
const POLL: Duration = Duration::from_millis(500);
/// How long one attempt holds the lock, for which the runner's own service may wait.
const ATTEMPT: Duration = Duration::from_secs(15);
/// Lets the tests of a debug build be faster.
const FAST: &str = "RUNUP_ANY_DEADLINE";

/// Takes the lock of the number of instances: two runs with other counts follow each other.
///
/// # Errors
/// Another process holds it for too long.
pub async fn lock_instances(site: &Site<'_>) -> Result<Lock, Error> {
    site.make_state()?;
    site.lock_number().await
}

/// Starts the target of all instances, once their units are written.
///
/// # Errors
/// systemd refuses.
pub async fn start_target(site: &Site<'_>) -> Result<(), Error> {
    if systemd::is_running() && site.request.root.is_host() { target::start(site).await } else { Ok(()) }
}

/// Removes an instance, one of `surplus`, in its first idle moment. The server decides which one that is: it refuses to delete a runner that
/// has a job, and gives none to one that it has deleted. Until then, nothing of the instance is touched.
///
/// # Errors
/// `InstanceError::Busy`: it had a job for all of `drain`. After it is off the server, those of [`remove`].
pub async fn remove_surplus(site: &Site<'_>, drain: Duration, surplus: u32) -> Result<Removed, Error> {
    let patience = Deadline::after(drain);
    let site = &site.until(Deadline::after(site.request.deadline.saturating_add(drain)), site.stop.clone());
    let is_fast = cfg!(debug_assertions) && std::env::var_os(FAST).is_some();
    let mut pause = if is_fast { ASK / 60 } else { ASK };
    let mut soonest = pause;
    let worker = workers(&site.dir(), site.runner_uid());
    let (mut known, mut failing) = (None, None);
    // Until it is removed, nothing registers it again, whatever supervises it.
    let _leaving = lock_removal(site).await?;
    let phase = site.phase("idle");
    let is_told = loop {
        // A service that registers by itself needs the lock for that.
        let (lock, journal) = site.open_journal("remove").await?;
        let attempt = site.until(site.deadline.within(ATTEMPT), site.stop.clone());
        let (until, why) = match busy(&attempt, &journal, &mut known).await {
            Ok(None) => break begin_to_stop(site, &journal).await?,
            Ok(Some(busy)) => {
                failing = None;
                (patience, Error::from(busy))
            }
            // What can pass is tried again without the lock.
            Err(error) if error.class() == Class::TempFail => {
                (*failing.get_or_insert_with(|| site.deadline.within(site.request.deadline)), error)
            }
            Err(error) => return Err(error),
        };
        drop(lock);
        if until.passed() {
            return Err(why);
        }
        let longest = (pause * surplus).min(until.left());
        let mut watch = Watch { waited: Duration::ZERO, works: false, has_ended: false };
        while !watch.is_over(soonest, longest) {
            let (from, step) = (Instant::now(), POLL.min(longest.saturating_sub(watch.waited)));
            site.pause("waiting for the end of its job", step).await?;
            watch.see(from.elapsed(), !worker.find().is_empty());
        }
        pause = (pause * 2).min(ASK_LATER);
        if watch.has_ended {
            // If the next job comes first: a queue of short ones must not use up what GitHub allows.
            soonest = (soonest * 2).min(ASK_LATER * surplus);
        }
    };
    phase.end("it has no job, and gets none any more");
    if !is_told {
        listener::dismiss(site).await?;
    }
    Box::pin(remove(site, RemoveScope::Server, Duration::ZERO)).await
}

/// What is seen of the worker between two times that the server is asked.
struct Watch {
    waited: Duration,
    works: bool,
    has_ended: bool,
}

impl Watch {
    fn see(&mut self, after: Duration, works: bool) {
        self.waited += after;
        self.has_ended |= self.works && !works;
        self.works = works;
    }

    /// Whether to ask again: if a worker has ended, not before the `shortest` time, because a job can make any number of
    /// processes that look like one.
    fn is_over(&self, shortest: Duration, longest: Duration) -> bool {
        self.waited >= longest || self.has_ended && self.waited >= shortest
    }
}

/// Asks the server to delete the runner; `None` if it has none of this instance any more.
async fn busy(
    site: &Site<'_>,
    journal: &Journal,
    known: &mut Option<u64>,
) -> Result<Option<InstanceError>, Error> {
    let Some((state, registered)) = journal.registered() else { return Ok(None) };
    // No listener was started with it.
    if state == EntryState::Begun || observed::is_copy(site, journal) {
        return Ok(None);
    }
    deregister::check_means(site, journal, registered)?;
    if site.request.credentials.api.is_none() {
        let purpose = "removing an instance between two jobs";
        return Err(RegistrationError::NoWayToDeregister { purpose }.into());
    }
    let client = site.client_at(&registered.url, &registered.api_url)?;
    let Some(id) = id(site, &client, registered, *known).await? else { return Ok(None) };
    *known = Some(id);
    match site.within("deleting the runner", client.delete(id)).await {
        Ok(_) => Ok(None),
        Err(Error::Github(github::Error::Busy { .. })) => {
            let (dir, name) = (site.request.dir.clone(), registered.name.clone());
            Ok(Some(InstanceError::Busy { dir, name, id }))
        }
        Err(error) => Err(error),
    }
}

/// The id of the runner on the server, which counts only if the server has confirmed that it is this one.
async fn id(
    site: &Site<'_>,
    client: &Client,
    registered: &Registered,
    known: Option<u64>,
) -> Result<Option<u64>, Error> {
    if known.is_some() && known == registered.agent_id {
        return Ok(known);
    }
    if !registered.confirmed {
        let (dir, name) = (site.request.dir.clone(), registered.name.clone());
        return Err(InstanceError::NotConfirmed { dir, name }.into());
    }
    Ok(ownership::ours(site, client, registered, Duration::ZERO).await?.map(|runner| runner.id))
}

async fn lock_removal(site: &Site<'_>) -> Result<Lock, Error> {
    site.make_state()?;
    let path = Journal::removal_lock_for(&site.state, &site.request.dir);
    Ok(lock::acquire(&path, "remove", site.deadline, &site.stop).await?)
}

/// Tells its service to stop while the lock is held, so that it starts nothing in vain; whether there is one that runs.
async fn begin_to_stop(site: &Site<'_>, journal: &Journal) -> Result<bool, Error> {
    if let Some(unit) = journal.unit()
        && systemd::is_running()
        && site.request.root.is_host()
        && unit_owner(site, unit)? != UnitOwner::Operator
        && systemd::show(unit, &site.stop).await?.runs()
    {
        systemd::begin_to_stop(unit, &site.stop).await?;
        return Ok(true);
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often the machine is looked at until the server is asked again, and whether a worker has ended.
    fn looks(seen: impl IntoIterator<Item = bool>, longest: Duration) -> (usize, bool) {
        let mut watch = Watch { waited: Duration::ZERO, works: false, has_ended: false };
        let mut seen = seen.into_iter();
        let mut looks = 0;
        while !watch.is_over(ASK, longest) {
            watch.see(POLL, seen.next().unwrap());
            looks += 1;
        }
        (looks, watch.has_ended)
    }

    #[test]
    fn the_server_is_asked_again_as_soon_as_a_worker_has_ended_but_not_for_each_of_many() {
        let works_for = |looks| (0..).map(move |look| look < looks);
        assert_eq!(looks(works_for(20), ASK_LATER), (21, true));
        assert_eq!(looks(works_for(1), ASK_LATER), (6, true), "never sooner than three seconds");
        assert_eq!(looks((0..).map(|look| look % 2 == 0), ASK_LATER), (6, true));
        assert_eq!(looks(works_for(100), ASK * 2), (12, false));
        assert_eq!(looks(works_for(0), ASK * 2), (12, false));
    }
}
