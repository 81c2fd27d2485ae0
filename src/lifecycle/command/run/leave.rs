//! How `run` takes its runner back when it ends.

use crate::deadline::Deadline;
use crate::lifecycle::command::run::clean;
use crate::lifecycle::command::run::handed;
use crate::lifecycle::command::run::running::{LeftRunner, RunResult, Running};
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::request::Request;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::Journal;
use crate::lifecycle::step::registration::deregister::{self, Occasion};
use tokio_util::sync::CancellationToken;

/// Takes the runner off the server and out of its directory, if that was requested and is possible; else records the
/// one that stays there.
pub(crate) async fn quit(
    site: &Site<'_>,
    running: &Running,
    until: Option<Deadline>,
    before: &clean::Snapshot,
    result: &mut RunResult,
) -> Result<(), Error> {
    let leaves = leaving(site, running, until);
    if let Some(identity) = running.handed() {
        let runner = identity.runner();
        result.left_on_server =
            Some(LeftRunner { name: runner.agent_name.clone(), id: Some(runner.agent_id) });
        return handed::end(&leaves, before).await;
    }
    if !(running.remove_on_shutdown && can_deregister(&site.request)) {
        let journal = site.read_journal()?;
        let ephemeral = clean::is_ephemeral(site);
        result.left_on_server = journal
            .registered()
            .filter(|_| ephemeral)
            .map(|(_, registered)| LeftRunner { name: registered.name.clone(), id: registered.agent_id });
        return Ok(());
    }
    deregister(&leaves, Occasion::Shutdown).await.inspect_err(|_| {
        let journal = site.read_journal().ok();
        let name =
            journal.as_ref().and_then(Journal::registered).map(|(_, registered)| registered.name.as_str());
        tracing::warn!(
            "{} may be left on the server; the journal knows it, and the next run finishes this",
            name.unwrap_or("the runner")
        );
    })?;
    result.deregistered = true;
    if clean::leave_tree(&leaves, before).await {
        clean::note_clean(&leaves).await?;
    }
    Ok(())
}

/// Leaves because of an error, as after a signal: a runner that nothing starts again must not stay on the server.
pub(crate) async fn give_up(
    site: &Site<'_>,
    running: &Running,
    error: Error,
    before: &clean::Snapshot,
    result: &mut RunResult,
) -> Error {
    leave(site, running, before, result).await;
    if let Some(left) = &result.left_on_server {
        tracing::warn!("{left}");
    }
    error
}

/// Takes the runner off the server as after a signal; what fails is only said.
pub(crate) async fn leave(
    site: &Site<'_>,
    running: &Running,
    before: &clean::Snapshot,
    result: &mut RunResult,
) {
    quit(site, running, None, before, result).await.unwrap_or_else(|error| warn(&error));
}

/// Takes the runner of the journal off the server.
pub(crate) async fn deregister(site: &Site<'_>, occasion: Occasion) -> Result<(), Error> {
    let (_lock, mut journal) = site.open_journal("run").await?;
    deregister::deregister(site, &mut journal, occasion).await
}

/// For what has to be done in spite of a signal.
pub(crate) fn leaving<'a>(site: &Site<'a>, running: &Running, until: Option<Deadline>) -> Site<'a> {
    let patience = until.map_or(running.leaving, |until| running.leaving.min(until.left()));
    site.until(Deadline::after(patience), CancellationToken::new())
}

/// Whether the request has what deregistering needs.
fn can_deregister(request: &Request) -> bool {
    request.credentials.api.is_some() || request.credentials.remove.is_some()
}

pub(crate) fn warn(error: &Error) {
    tracing::warn!("{}", crate::error::chain(error));
}
