//! A runner of this machine whose listener was killed during its job, by a power cut for example: the server takes it for
//! busy until it notices that, and deletes no busy runner. A service that failed meanwhile would be restarted, fail
//! again, and soon not be restarted any more.

use crate::deadline::Deadline;
use crate::error::chain;
use crate::github;
use crate::lifecycle::command::run::afresh;
use crate::lifecycle::command::run::running::Running;
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use std::time::Duration;

/// How soon the server is asked again, at first and at last.
const ASK: Duration = Duration::from_secs(1);
const ASK_LATER: Duration = Duration::from_secs(30);

/// How long a service waits at least, whatever the deadline of each attempt: GitHub needs some minutes.
const AT_LEAST: Duration = Duration::from_secs(30 * 60);

/// If a busy runner is what kept this one from being registered, waits until the server no longer takes it for busy; until
/// the deadline `until`, which begins with the first wait. No lock is held meanwhile. Returns whether it is worth another
/// try.
///
/// # Errors
/// A signal came.
pub(crate) async fn wait(
    site: &Site<'_>,
    running: &Running,
    error: &Error,
    until: &mut Option<Deadline>,
) -> Result<bool, Error> {
    let (Error::Github(github::Error::Busy { id, .. }), Some(_)) = (error, site.eyes()) else {
        return Ok(false);
    };
    let deadline = site.request.deadline;
    let patience = if running.patient { deadline.max(AT_LEAST) } else { deadline };
    let until = *until.get_or_insert_with(|| Deadline::after(patience));
    tracing::warn!(
        "runner {id} was killed during its job, and the server has not noticed that yet; waiting for {} s at most",
        until.left().as_secs()
    );
    let mut pause = ASK;
    while !until.passed() {
        tokio::select! {
            () = site.stop.cancelled() => return Err(Error::Stopped),
            () = tokio::time::sleep(pause.min(until.left())) => {}
        }
        pause = (pause * 2).min(ASK_LATER);
        match is_busy(&afresh(site), *id).await {
            Ok(true) => {}
            Ok(false) => return Ok(true),
            Err(error) if error.is_stop() => return Err(Error::Stopped),
            // The next try names what is wrong.
            Err(error) => {
                tracing::debug!("{}", chain(&error));
                return Ok(true);
            }
        }
    }
    Ok(false)
}

async fn is_busy(site: &Site<'_>, id: u64) -> Result<bool, Error> {
    let Some(client) = site.eyes() else { return Ok(false) };
    let found = site.within("asking whether the runner is still busy", client.runner(id)).await?;
    Ok(found.is_some_and(|runner| runner.busy))
}
