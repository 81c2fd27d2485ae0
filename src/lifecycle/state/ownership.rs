//! Which runner on the server is ours. Every deletion that was not requested by name relies on this.
//!
//! A job can write any id into its runner's files, so these prove nothing. What counts is the server: the id that it
//! confirmed for our name, or a name that only this machine can have, or that was free when we registered it.

use crate::deadline::Deadline;
use crate::github::{Client, Runner, RunnerStatus};
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::Registered;
use crate::runner::state;
use std::time::Duration;

/// How often a runner that should be offline is checked.
const POLL: Duration = Duration::from_secs(1);

/// The server's runner that is the journal's and may be deleted, if there is one. One whose id the server never
/// confirmed must be offline, which is waited for at most `patience`.
///
/// # Errors
/// The server cannot be asked.
pub(crate) async fn ours(
    site: &Site<'_>,
    client: &Client,
    registered: &Registered,
    patience: Duration,
) -> Result<Option<Runner>, Error> {
    if let Some(id) = registered.agent_id {
        let found =
            site.within("asking for the runner", client.runner_unless_gone(id, &registered.name)).await?;
        match found {
            Some(runner) if !runner.is_named(&registered.name) => tracing::warn!(
                "the runner with the id {id} is called {} on the server, and not {}: it is left alone",
                runner.name,
                registered.name
            ),
            Some(runner) if registered.confirmed => return Ok(Some(runner)),
            Some(runner) => return once_offline(site, client, runner, patience).await,
            None if registered.confirmed => return Ok(None),
            None => {}
        }
    }
    let found = site.within("asking for the runner's name", client.runner_named(&registered.name)).await?;
    match found {
        Some(runner) if may_be_ours(site, registered) => once_offline(site, client, runner, patience).await,
        Some(runner) => {
            tracing::warn!(
                "{} (id {}) on the server may be another machine's: it is left alone",
                runner.name,
                runner.id
            );
            Ok(None)
        }
        None => Ok(None),
    }
}

/// Whether a runner of the journal's name can only be this machine's: no other can generate the name; or it was free
/// when we registered it within the last hour, and config.sh had created its key, without which it registers nothing. That somebody asked to
/// replace whoever has the name does not make it ours. Nothing shows whether a just-in-time runner was requested: only its name can tell.
pub(crate) fn may_be_ours(site: &Site<'_>, registered: &Registered) -> bool {
    registered.unique || (registered.name_was_free && state::has_new_key(&site.dir()))
}

/// Ours is always stopped at this point: one that is online is not ours.
async fn once_offline(
    site: &Site<'_>,
    client: &Client,
    mut runner: Runner,
    patience: Duration,
) -> Result<Option<Runner>, Error> {
    let deadline = Deadline::after(patience.min(site.deadline.left()));
    while runner.status == RunnerStatus::Online {
        if deadline.passed() {
            tracing::warn!("{} (id {}) is online on the server: it is left alone", runner.name, runner.id);
            return Ok(None);
        }
        tokio::select! {
            () = site.stop.cancelled() => return Err(Error::Stopped),
            () = tokio::time::sleep(POLL.min(deadline.left())) => {}
        }
        match site
            .within(
                "waiting for the runner to be offline",
                client.runner_unless_gone(runner.id, &runner.name),
            )
            .await?
        {
            Some(now) => runner = now,
            None => return Ok(None),
        }
    }
    Ok(Some(runner))
}
