//! Which process supervises a runner's listener: one `run` at a time, and never beside a service.

use crate::deadline::Deadline;
use crate::host::lock::{self, Lock};
use crate::host::process::{self, Which};
use crate::host::systemd;
use crate::lifecycle::context::error::{Error, ServiceError};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::Journal;
use crate::runner::listener;
use std::time::Duration;

/// How long another `run` of the same runner may take to end.
pub(crate) const HOLD: Duration = Duration::from_secs(5);

/// How long a listener that outlived its supervisor may take to end.
const ORPHAN: Duration = Duration::from_secs(30);

/// The lock of the process that supervises this runner.
pub(crate) async fn hold(site: &Site<'_>, deadline: Deadline) -> Result<Lock, Error> {
    site.make_state()?;
    let path = Journal::run_lock_for(&site.state, &site.request.dir);
    Ok(lock::acquire(&path, "run", deadline, &site.stop).await?)
}

/// Refuses to run a runner that a service of ours also runs, unless we are that service: the server knows one session.
pub(crate) async fn refuse_beside_service(site: &Site<'_>) -> Result<(), Error> {
    let journal = site.read_journal()?;
    let Some(unit) = journal.unit().filter(|_| site.request.root.is_host() && systemd::is_running()) else {
        return Ok(());
    };
    if systemd::are_in(unit) || !systemd::show(unit, &site.stop).await?.runs() {
        return Ok(());
    }
    let (dir, unit) = (site.request.dir.clone(), unit.to_owned());
    Err(Error::Service(ServiceError::ServiceThere { dir, unit, asked: "`runup run`" }))
}

/// The listener of this runner, and what it has started.
fn of_runner(site: &Site<'_>) -> Which {
    Which::MarkedBy {
        uid: site.runner_uid(),
        key: listener::MARKER.to_owned(),
        value: site.dir().display().to_string(),
    }
}

/// Ends a listener whose supervisor was killed, before anything is done to its runner.
pub(crate) async fn end_orphan(site: &Site<'_>) -> Result<(), Error> {
    let orphan = of_runner(site);
    let pids = orphan.find();
    if pids.is_empty() {
        return Ok(());
    }
    tracing::warn!("ending a listener that outlived the run that had started it (process {pids:?})");
    process::end(&orphan, process::Ask::Interrupt, site.deadline.within(ORPHAN)).await?;
    Ok(())
}

/// For a runner that is off the server and gets no job any more: ends its listener, and waits for the run that supervises
/// it. That run may not register it again, and so ends too.
pub(crate) async fn dismiss(site: &Site<'_>) -> Result<(), Error> {
    if !lock::is_held(&Journal::run_lock_for(&site.state, &site.request.dir))? {
        return Ok(());
    }
    let listener = of_runner(site);
    if !listener.find().is_empty() {
        process::end(&listener, process::Ask::Interrupt, site.deadline.within(ORPHAN)).await?;
    }
    // It may have to clean up first.
    hold(site, site.deadline).await.map(drop)
}

/// For `install`, before it replaces a runner or registers it anew: a `run` would take that for a deletion, and register
/// it again. This process can be that `run`.
///
/// # Errors
/// One supervises this runner.
pub(crate) async fn refuse_beside_run(site: &Site<'_>) -> Result<(), Error> {
    let path = Journal::run_lock_for(&site.state, &site.request.dir);
    if lock::is_ours(&path) || !lock::is_held(&path)? {
        return Ok(());
    }
    hold(site, Deadline::after(HOLD).within(site.deadline.left())).await.map(drop)
}

/// For `remove`: checks that no `run` supervises this runner, and ends a listener that a killed `run` left.
pub(crate) async fn end_if_orphaned(site: &Site<'_>) -> Result<(), Error> {
    let _held = hold(site, Deadline::after(HOLD).within(site.deadline.left())).await?;
    end_orphan(site).await
}
