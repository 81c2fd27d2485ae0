//! Converges: recovers interrupted runs, observes, plans, applies the steps, and unwinds its own if one fails.

use crate::error::chain;
use crate::host::lock::Lock;
use crate::host::{self, account};
use crate::lifecycle::command::{convert, seal};
use crate::lifecycle::context::error::{Error, ServiceError, UserError};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::{Act, Journal, Step};
use crate::lifecycle::state::observed::{Seen, Server, Tree, look, look_at_offer};
use crate::lifecycle::state::plan::{Plan, Planned};
use crate::lifecycle::state::user::not_found_yet;
use crate::lifecycle::state::{index, isolation};
use crate::lifecycle::step::placing::stage;
use crate::lifecycle::step::precheck::Prepared;
use crate::lifecycle::step::registration::deregister::Occasion;
use crate::lifecycle::step::{libraries, listener, sequence, service, user};
use crate::runner::{Guard, preflight};
use serde::Serialize;
use std::time::Duration;

/// The result of `install` or `bake`.
#[derive(Debug, Clone, Serialize)]
pub struct Installed {
    /// Whether anything was done.
    pub changed: bool,
    /// The runner's directory.
    pub dir: std::path::PathBuf,
    /// Its version, as far as its files tell it.
    pub version: Option<String>,
    /// The user that it runs as.
    pub user: Option<String>,
    /// Whether jobs are kept from what is root's; `None` if they run as the user that runs this.
    pub isolated: Option<bool>,
    /// How the tree is guarded from its jobs, if they run as another user.
    pub guard: Option<Guard>,
    /// The runner on the server; `None` for an image.
    pub runner: Option<RegisteredRunner>,
    /// The steps and what was done about each.
    pub steps: Vec<Planned>,
    /// The unit that runs it; `None` without a service.
    pub service: Option<String>,
    /// The number of REST calls.
    pub calls: u32,
}

impl Installed {
    /// Whether the runner is online; `None` if the server was not asked.
    #[must_use]
    pub fn online(&self) -> Option<bool> {
        Some(self.runner.as_ref()?.status.as_ref()? == "online")
    }
}

/// The registered runner.
#[derive(Debug, Clone, Serialize)]
pub struct RegisteredRunner {
    /// Its id on the server, once known.
    pub id: Option<u64>,
    /// Its name on the server.
    pub name: String,
    /// Where it is registered.
    pub url: String,
    /// `offline` or `online`; `None` if the server could not be asked.
    pub status: Option<String>,
}

/// Converges this machine to what is requested.
///
/// # Errors
/// What this run had done is undone then (unless the request says to keep it); what could not be undone is in the error
/// and in the journal.
pub async fn install(site: &Site<'_>) -> Result<Installed, Error> {
    let site = &site.at_work();
    if site.request.service.is_some() {
        crate::lifecycle::step::metadata::check(site)?;
    }
    let (mut lock, mut journal) = prepare(site, "install").await?;
    site.refuse_beside_removal()?;
    sequence::recover(site, &mut journal).await?;
    let (mut plan, mut seen) = decide(site, &journal).await?;
    let mut prepared = Prepared::default().check(site, &plan, &seen).await?;
    let before = service::Before::look(&journal, &seen);
    // A tree is not exchanged under a service that runs from it either.
    let places = plan.takes(Step::PlaceRunner);
    let runs = seen.service.as_ref().is_some_and(|one| one.state.runs());
    if !runs && (places || plan.registers(&site.request) || plan.starts_service()) {
        listener::refuse_beside_run(site).await?;
    }
    let stops = seen.service.as_ref().is_some_and(|one| runs && (places || !one.is_written()));
    if stops {
        // A service that registers by itself deregisters when it is stopped, and needs the lock for that: what has to
        // be done is known only afterwards.
        drop(lock);
        match stop_and_decide(site, &journal, prepared).await {
            Ok(decided) => (lock, journal, plan, seen, prepared) = decided,
            Err(error) => {
                before.resume(site, &journal).await;
                return Err(error);
            }
        }
    }
    stage::announce(site, &mut plan, prepared.choice.as_ref());
    if let Err(error) = make_ready(site, &mut journal, &mut plan, &mut seen).await {
        if stops {
            before.resume(site, &journal).await;
        }
        return Err(error);
    }
    let then = journal.clone();
    let cause = match sequence::take(site, &mut journal, &plan, &seen, prepared).await {
        Err(cause) if plan.converts() => {
            let (plan, seen) =
                convert::failed(site, &mut journal, &then, &before, (plan, seen), cause).await?;
            return Ok(report(site, &journal, plan, seen, None).await);
        }
        Ok(status) if plan.takes(Step::StartService) => {
            // A service that registers by itself needs the lock to come up.
            drop(lock);
            match service::wait_until_online(site, &journal, &seen, plan.starts_service()).await {
                Ok(online) => {
                    journal.reload()?;
                    return Ok(report(site, &journal, plan, seen, online.or(status)).await);
                }
                // It replaced another service: it stays, systemd retries, and nothing better could be put back.
                Err(cause) if before.there && !cause.is_stop() => return Err(cause),
                // The service runs, and comes up by itself once it may ask.
                Err(cause @ Error::Service(ServiceError::LimitReached { .. })) => return Err(cause),
                Err(cause) => cause,
            }
        }
        Ok(status) => return Ok(report(site, &journal, plan, seen, status).await),
        Err(cause) => cause,
    };
    let cause = Box::pin(unwind(site, &mut journal, &plan, cause)).await;
    before.resume(site, &journal).await;
    Err(cause)
}

/// Stops the service, which may write to the journal until it ends, and decides again.
async fn stop_and_decide(
    site: &Site<'_>,
    journal: &Journal,
    prepared: Prepared,
) -> Result<(Lock, Journal, Plan, Seen, Prepared), Error> {
    let drain = site.request.service.as_ref().map_or(Duration::ZERO, |service| service.drain);
    service::stop_without_lock(site, journal, drain).await?;
    let (lock, journal) = prepare(site, "install").await?;
    let (plan, seen) = decide(site, &journal).await?;
    // A job may have taken so long that the link to the archive has expired.
    let prepared = Prepared { choice: None, ..prepared }.check(site, &plan, &seen).await?;
    Ok((lock, journal, plan, seen, prepared))
}

/// What comes before the first step. If another run has created or deleted the user since it was seen, the plan is made
/// again.
pub(crate) async fn make_ready(
    site: &Site<'_>,
    journal: &mut Journal,
    plan: &mut Plan,
    seen: &mut Seen,
) -> Result<(), Error> {
    libraries::ensure(site).await?;
    let result = claim(site, journal, plan, seen).await;
    if result.is_err() && journal.entries().is_empty() {
        // A claim that stays would keep another runner from deleting the user.
        if let Err(error) = user::release::release(site, journal).await {
            tracing::warn!("failed to let go of the user; `runup remove` does it: {}", chain(&error));
        } else {
            journal.delete()?;
        }
    }
    result
}

async fn claim(
    site: &Site<'_>,
    journal: &mut Journal,
    plan: &mut Plan,
    seen: &mut Seen,
) -> Result<(), Error> {
    if user::claim(site, journal, plan, seen).await? {
        (*plan, *seen) = decide(site, journal).await?;
    }
    if plan.registers(&site.request) {
        index::claim(site, journal, seen.name.as_ref().and_then(|name| name.index)).await?;
    }
    sequence::settle(site, journal, plan, seen)
}

/// The same plan, which ends after the placed runner, then sealed.
///
/// # Errors
/// As for `install`; and `TreeError::NotSealed` if the image holds what no image may hold.
pub async fn bake(site: &Site<'_>) -> Result<Installed, Error> {
    let site = &site.at_work();
    let (_lock, mut journal) = prepare(site, "bake").await?;
    sequence::recover(site, &mut journal).await?;
    // Before anything is downloaded: an identity that is there already will not go away by itself.
    seal::check(site, &journal)?;
    let (mut plan, mut seen) = decide(site, &journal).await?;
    let prepared = Prepared::default().check(site, &plan, &seen).await?;
    stage::announce(site, &mut plan, prepared.choice.as_ref());
    make_ready(site, &mut journal, &mut plan, &mut seen).await?;
    match sequence::take(site, &mut journal, &plan, &seen, prepared).await {
        Ok(_) => {
            let phase = site.phase("seal");
            seal::check(site, &journal)?;
            share(site)?;
            phase.end("no identity, no token and no log in the image");
            seal::remind(site);
            Ok(report(site, &journal, plan, seen, None).await)
        }
        Err(cause) => Err(Box::pin(unwind(site, &mut journal, &plan, cause)).await),
    }
}

/// Gives group 0 the rights of the owner, if the image is for it.
fn share(site: &Site<'_>) -> Result<(), Error> {
    if site.account()?.is_some_and(|account| site.bakes_for_group(&account)) {
        host::share::with_group(&site.dir())?;
        host::share::with_group(&site.state)?;
    }
    Ok(())
}

/// What `install` would do, without doing any of it.
///
/// # Errors
/// What is there contradicts what was requested, as `install` would say.
pub async fn plan(site: &Site<'_>) -> Result<(Plan, Seen), Error> {
    preflight::libc(&site.machine)?;
    site.check_parents()?;
    let journal = site.read_journal()?;
    if let Some(error) = not_found_yet(site, &journal)? {
        return Err(error.into());
    }
    let (mut plan, seen) = decide(site, &journal).await?;
    let prepared = Prepared::default().look(site, &plan, &seen).await?;
    stage::announce(site, &mut plan, prepared.choice.as_ref());
    Ok((plan, seen))
}

/// Observes and plans; if an existing tree is about to register, or is an image's, checks whether it is new enough, and
/// plans again.
pub(crate) async fn decide(site: &Site<'_>, journal: &Journal) -> Result<(Plan, Seen), Error> {
    let mut seen = look(site, journal).await?;
    site.check_clock()?;
    let plan = sequence::plan(&site.request, journal, &seen)?;
    let counts = site.request.bakes() || plan.registers(&site.request);
    if !counts || plan.takes(Step::PlaceRunner) {
        return Ok((plan, seen));
    }
    seen.offer = look_at_offer(site, &seen).await?;
    Ok((sequence::plan(&site.request, journal, &seen)?, seen))
}

pub(crate) async fn prepare(site: &Site<'_>, doing: &str) -> Result<(Lock, Journal), Error> {
    let phase = site.phase("detect");
    if let Some(name) = site.user.as_ref().filter(|_| !account::is_root()) {
        return Err(UserError::NotRoot { name: name.clone() }.into());
    }
    if site.request.archive.os.is_none() {
        preflight::libc(&site.machine)?;
    }
    for note in &site.machine.notes {
        tracing::warn!("{note}");
    }
    site.check_parents()?;
    phase.end(format!("{} on {}", site.platform(), site.system()));
    libraries::check(site).await?;
    user::wait_for_service(site).await?;
    let (lock, mut journal) = site.open_journal(doing).await?;
    journal.set_instance(site.request.instance.clone());
    Ok((lock, journal))
}

/// Undoes the steps of this run, last first. What was there before stays.
async fn unwind(site: &Site<'_>, journal: &mut Journal, plan: &Plan, cause: Error) -> Error {
    if site.request.keep_on_failure {
        return cause;
    }
    let mut left = Vec::new();
    let site = site.for_undoing();
    if plan.takes(Step::StartService) && journal.began(Step::StartService) {
        // The lock was released for the service to come up, which may have written to the journal.
        if let Err(error) = service::stop_without_lock(&site, journal, Duration::ZERO).await {
            return Error::Unwound { cause: Box::new(cause), left: vec![error] };
        }
        if let Err(error) = journal.reload() {
            return Error::Unwound { cause: Box::new(cause), left: vec![error.into()] };
        }
    }
    for planned in plan.steps.iter().rev().filter(|planned| planned.change().is_some()) {
        // A step that this run did not reach is still as an earlier run, or another machine, left it.
        let Some(act) = journal.entry(planned.step).map(|entry| entry.act.clone()) else { continue };
        if !journal.began(planned.step) {
            continue;
        }
        if let Err(error) = sequence::undo(&site, journal, &act, Occasion::Unwinding, Duration::ZERO).await {
            left.push(error);
            // A later undo could delete for good what the failed one still needs.
            break;
        }
        tracing::info!("undid {}", planned.step);
    }
    if journal.entries().is_empty() {
        if let Err(error) = user::release::release(&site, journal).await {
            left.push(error);
        } else if let Err(error) = journal.delete() {
            left.push(error.into());
        }
    }
    if left.is_empty() { cause } else { Error::Unwound { cause: Box::new(cause), left } }
}

pub(crate) async fn report(
    site: &Site<'_>,
    journal: &Journal,
    plan: Plan,
    seen: Seen,
    status: Option<String>,
) -> Installed {
    // What was kept was observed, what was done was confirmed.
    let status = status.or(match seen.server {
        Server::Has(runner) if !seen.clone => Some(runner.status.to_string()),
        _ => None,
    });
    let version = match (&seen.tree, journal.entry(Step::PlaceRunner).map(|entry| &entry.act)) {
        // It may have updated itself since it was placed.
        (Tree::Ours { version: Some(version), .. }, _) if !plan.takes(Step::PlaceRunner) => {
            Some(version.to_string())
        }
        (_, Some(Act::PlaceRunner { version, .. })) => version.clone(),
        _ => None,
    };
    let runner = journal.registered().map(|(_, registered)| RegisteredRunner {
        id: registered.agent_id,
        name: registered.name.clone(),
        url: registered.url.clone(),
        status,
    });
    let isolated = isolation::look(site, journal).await;
    Installed {
        changed: !plan.is_empty(),
        dir: site.request.dir.clone(),
        version,
        user: site.user.clone(),
        isolated,
        guard: isolated.map(|_| journal.guard()),
        runner,
        steps: plan.steps,
        service: journal.unit().map(str::to_owned),
        calls: site.client.as_deref().map_or(0, crate::github::Client::calls),
    }
}
