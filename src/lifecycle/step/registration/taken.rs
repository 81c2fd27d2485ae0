//! A runner of the requested name that the server has already, and is not known to be ours: whether this one may
//! replace it.
//!
//! `config.sh --replace` takes over whatever has the name by then. A runner that may be replaced only while it is offline
//! is deleted by its id instead, right after the server said so, and `config.sh` then fails if the name is taken again.

use crate::github::{Client, Runner, RunnerStatus};
use crate::lifecycle::context::error::{Error, RegistrationError};
use crate::lifecycle::context::request::Request;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::plan::NewRegistration;

/// Why this run may not replace that runner; `None` if it may.
pub(crate) fn refusal(request: &Request, runner: &Runner) -> Option<Error> {
    let wanted = request.registration.as_ref();
    let (name, id) = (runner.name.clone(), runner.id);
    let error = if wanted.is_some_and(|wanted| wanted.options.replace) {
        return None;
    } else if !replaces_offline(request) {
        RegistrationError::NameTaken { name, id, status: runner.status.to_string() }
    } else if runner.status == RunnerStatus::Offline && !runner.busy {
        return None;
    } else {
        let url = request.target.as_ref().map(|target| target.url.as_str().trim_end_matches('/').to_owned());
        let status = if runner.busy { "running a job".to_owned() } else { runner.status.to_string() };
        RegistrationError::NameInUse { name, id, status, url: url.unwrap_or_default() }
    };
    Some(error.into())
}

/// Before the first step: whether a runner of the name is offline can only be seen on the server.
///
/// # Errors
/// There is no credential to ask it with.
pub(crate) fn check(site: &Site<'_>, new: &NewRegistration) -> Result<(), Error> {
    if applies(site, new) && site.eyes().is_none() {
        let purpose = "--replace=if-offline, which asks the server whether the runner is offline,";
        return Err(RegistrationError::CredentialMissing { purpose }.into());
    }
    Ok(())
}

/// Just before the registration: deletes the runner of that name if it is offline now. Returns whether the name is known
/// to be free.
///
/// # Errors
/// It is not offline any more; the server refuses.
pub(crate) async fn clear(site: &Site<'_>, new: &NewRegistration) -> Result<bool, Error> {
    check(site, new)?;
    let (true, Some(client)) = (applies(site, new), site.eyes()) else { return Ok(false) };
    free(site, client, new.name.name.as_str()).await?;
    Ok(true)
}

/// Deletes the runner of that name, if there is one and this run may replace it.
///
/// # Errors
/// It may not; the server refuses.
pub(crate) async fn free(site: &Site<'_>, client: &Client, name: &str) -> Result<(), Error> {
    let found = site.within("asking for the name", client.runner_named(name)).await?;
    let Some(runner) = found else { return Ok(()) };
    if let Some(error) = refusal(&site.request, &runner) {
        return Err(error);
    }
    let phase = site.phase("replace");
    site.within("deleting the runner of that name", client.delete(runner.id)).await?;
    phase.end(format!(
        "deleted {} (id {}), which was {}, from the server",
        runner.name, runner.id, runner.status
    ));
    Ok(())
}

/// A runner that is known to be ours is not replaced, but taken back.
pub(crate) fn applies(site: &Site<'_>, new: &NewRegistration) -> bool {
    replaces_offline(&site.request) && !new.converts && !new.reclaim_name
}

fn replaces_offline(request: &Request) -> bool {
    request.registration.as_ref().is_some_and(|wanted| wanted.replace_offline)
}
