//! The step Register: a token, `config.sh`, and then a look at what really happened.
//!
//! The exit code of `config.sh` says nothing for sure: it can fail after having registered, and end well without having
//! done so. What counts is `.runner` on disk, and then the server.

use super::checkpoint::{Checkpoint, reach};
use super::journal::{Act, Asked, Journal, Registered, State, Step};
use super::look::{self, WantedName};
use super::plan::Care;
use super::site::Site;
use super::{Error, drift};
use crate::deadline::Deadline;
use crate::github::{Client, Deletion, Status};
use crate::host::{self, Account, Outcome};
use crate::runner::{LocalState, RunnerFile, complaint, config_sh, preflight, state};
use crate::secret::Secret;
use crate::transfer::place;
use std::time::Duration;

/// How long the undoing of a failed registration may take, whatever is left of the run's own deadline.
const UNWINDING: Duration = Duration::from_secs(60);

/// How long a request of `config.sh` may outlive it, between its network and the server's mind.
const IN_FLIGHT: Duration = Duration::from_secs(2);

/// Takes the step; returns what the server says of the runner, if it could be asked.
///
/// # Errors
/// Nothing of the runner is on the server then, unless the error says so.
pub async fn take(
    site: &Site<'_>,
    journal: &mut Journal,
    care: &Care,
    name: &WantedName,
    account: &Account,
) -> Result<Option<String>, Error> {
    let request = site.request;
    let wanted = request.registration.as_ref().expect("a plan with this step has a registration");
    let target = request.target.as_ref().ok_or(crate::settings::Error::UrlMissing)?;
    let client = site.client.as_ref().ok_or(crate::settings::Error::UrlMissing)?;
    let setting = site.config_setting(account.clone());

    let phase = site.phase("preflight");
    preflight::check(&setting.dir, account, &site.stop).await?;
    phase.end("config.sh finds what it needs");
    if let Some(port) = target.port_warning() {
        tracing::warn!("{port}");
    }
    if let Some(id) = care.ghost {
        let phase = site.phase("ghost");
        site.within("deleting what was registered before", client.delete(id)).await?;
        phase.end(format!("deleted id {id}, which was registered before, from the server"));
        reach(Checkpoint::RegisterGhostGone);
    }
    if care.clean_identity {
        state::clean_identity(&setting.dir)?;
    }
    unseal(site, &care.traces)?;

    let mut registered = Registered {
        url: target.url.to_string(),
        api_url: target.api.to_string(),
        name: name.name.to_string(),
        template: wanted.name.to_string(),
        unique: name.unique,
        agent_id: None,
        asked: Asked::of(request),
    };
    journal.set_machine(look::fingerprint(site));
    journal.begin(Act::Register(registered.clone()))?;
    reach(Checkpoint::RegisterBegun);

    let token = token(site, client).await?;
    reach(Checkpoint::RegisterTokenMinted);

    let phase = site.phase("config.sh");
    let options =
        config_sh::Options { replace: wanted.options.replace || care.reclaim_name, ..wanted.options.clone() };
    let url = target.url.as_str().trim_end_matches('/');
    let command = config_sh::configure(&setting, url, &name.name, &options, &token, site.deadline);
    let shown = command.render();
    tracing::debug!(command = shown, "running config.sh");
    let outcome = command.run(&site.stop, &mut |stream, line| site.watch.line(stream, line)).await;
    drop(token);
    reach(Checkpoint::RegisterConfigured);

    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(host::Error::Deadline { tail, total, .. }) => {
            return Err(Error::ConfigHung { command: shown, after: total, tail });
        }
        Err(error) => return Err(error.into()),
    };
    let file = match judge(state::read(&setting.dir)?, &outcome, &shown) {
        Ok(file) => file,
        Err(error) => {
            if let Error::ConfigFailed { cause: Some(known), .. } = &error
                && known.before_registering
            {
                // Whoever has that name on the server now, it is not we.
                state::clean_identity(&setting.dir)?;
                journal.forget(Step::Register)?;
            }
            return Err(error);
        }
    };
    if !outcome.success() {
        tracing::warn!("config.sh failed ({}), but had registered before it did", outcome.how());
    }
    phase.end(format!("registered {} (id {}) as {}", file.agent_name, file.agent_id, account.name));

    registered.agent_id = Some(file.agent_id);
    let status = confirm(site, client, &file, name.name.as_str()).await?;
    reach(Checkpoint::RegisterConfirmed);
    journal.done(Act::Register(registered))?;
    Ok(status)
}

/// Looks at what `config.sh` would find out only after the runner that works is gone. Whoever may not list the groups leaves
/// it to that.
///
/// # Errors
/// [`Error::NoSuchGroup`]; a signal or the deadline.
pub async fn check(site: &Site<'_>) -> Result<(), Error> {
    let group = site.request.registration.as_ref().and_then(|wanted| wanted.options.group.as_deref());
    let (Some(client), Some(name)) = (site.eyes(), group) else { return Ok(()) };
    match site.within("asking for the runner groups", client.group_named(name)).await {
        Ok(None) => Err(Error::NoSuchGroup { name: name.to_owned() }),
        Err(error) if error.is_stop() => Err(error),
        Err(error) => {
            tracing::debug!("{}", crate::error::chain(&error));
            Ok(())
        }
        Ok(Some(_)) => Ok(()),
    }
}

/// Deletes what the runner of the machine left that the image was made of.
///
/// # Errors
/// Something stays.
pub(super) fn unseal(site: &Site<'_>, traces: &[&str]) -> Result<(), Error> {
    for name in traces {
        let path = site.dir().join(name);
        if !host::mounts::within(&path).is_empty() {
            tracing::warn!("{} is mounted, and stays as it is", path.display());
            continue;
        }
        place::sweep(&path)?;
        place::remove(&path)?;
        tracing::warn!(
            "the image was not sealed: deleted {}, which another machine's runner left",
            path.display()
        );
    }
    Ok(())
}

/// Puts the labels right of a runner that stays as it is otherwise.
///
/// # Errors
/// The server refuses them.
pub async fn relabel(site: &Site<'_>, journal: &mut Journal, id: u64) -> Result<(), Error> {
    let client = site.client.as_ref().ok_or(crate::settings::Error::UrlMissing)?;
    let asked = Asked::of(site.request);
    let labels = asked.as_ref().and_then(|asked| asked.labels.clone()).unwrap_or_default();
    let phase = site.phase("labels");
    site.within("setting the runner's labels", client.set_labels(id, &labels)).await?;
    phase.end(format!("its labels are now {}", drift::listed(&labels)));
    note_asked(site, journal)?;
    Ok(())
}

/// Writes down what is asked of a registration that stays: `status` compares with that.
///
/// # Errors
/// The journal cannot be written.
pub fn note_asked(site: &Site<'_>, journal: &mut Journal) -> Result<(), Error> {
    let Some((State::Done, registered)) = journal.registered() else { return Ok(()) };
    let (Some(then), Some(now)) = (&registered.asked, Asked::of(site.request)) else { return Ok(()) };
    let asked = now.since(then);
    if asked != *then {
        let registered = Registered { asked: Some(asked), ..registered.clone() };
        journal.done(Act::Register(registered))?;
    }
    Ok(())
}

/// A registration token: the one that was given, or a fresh one, minted as late as possible because it lives an hour.
async fn token(site: &Site<'_>, client: &Client) -> Result<Secret, Error> {
    if let Some(token) = &site.request.credentials.registration {
        return Ok(token.clone());
    }
    if !client.has_token() {
        return Err(Error::CredentialMissing {
            purpose: "to ask for a registration token, and no registration token",
        });
    }
    let phase = site.phase("token");
    let token = site.within("asking for a registration token", client.registration_token()).await?;
    site.check_clock()?;
    phase.end(format!("registration token, good until {}", token.expires_at));
    Ok(token.token)
}

/// What `config.sh` left behind decides; its exit code and output only explain.
fn judge(state: LocalState, outcome: &Outcome, command: &str) -> Result<RunnerFile, Error> {
    let command = command.to_owned();
    match state {
        LocalState::Configured(file) => Ok(file),
        _ if outcome.success() => {
            Err(Error::ConfigLied { command, missing: "there is no .runner", tail: outcome.tail.clone() })
        }
        _ => Err(Error::ConfigFailed {
            command,
            status: outcome.how(),
            cause: complaint::recognise(&outcome.tail),
            tail: outcome.tail.clone(),
        }),
    }
}

/// What the server says of the new runner; `None` where there is no credential to ask with.
async fn confirm(
    site: &Site<'_>,
    client: &Client,
    file: &RunnerFile,
    name: &str,
) -> Result<Option<String>, Error> {
    if !client.has_token() {
        tracing::warn!("not confirmed on the server: that takes a token for the API");
        return Ok(None);
    }
    let phase = site.phase("confirm");
    let runner = site.within("asking for the new runner", client.runner(file.agent_id)).await?;
    match runner {
        Some(runner) if runner.name.eq_ignore_ascii_case(name) => {
            phase.end(format!("the server has {} (id {}, {})", runner.name, runner.id, runner.status));
            Ok(Some(runner.status.to_string()))
        }
        _ => Err(Error::NotOnServer { name: name.to_owned(), id: file.agent_id }),
    }
}

/// Takes a registration of this very run back, after a later failure or a signal.
///
/// Without the key that `config.sh` makes just before it registers, nothing was registered: a runner of that name is
/// somebody else's, which `--replace` was to take over. With it, the name was free when the run began (or the plan
/// refused), so what has it now, and is not online, is ours.
///
/// # Errors
/// The server may still have the runner.
pub async fn unwind(site: &Site<'_>, journal: &mut Journal) -> Result<(), Error> {
    let Some((_, registered)) = journal.registered() else { return Ok(()) };
    let registered = registered.clone();
    let dir = site.dir();
    let id = registered.agent_id.or(match state::read(&dir)? {
        LocalState::Configured(file) => Some(file.agent_id),
        _ => None,
    });
    if id.is_none() && !state::has_key(&dir) {
        state::clean_identity(&dir)?;
        journal.forget(Step::Register)?;
        return Ok(());
    }
    let deadline = Deadline::after(UNWINDING);
    let Some(client) = site.eyes() else {
        state::clean_identity(&dir)?;
        // Without a credential nobody can look, so the entry stays for the run that has one.
        return Err(Error::StillOnServer { name: registered.name, id: registered.agent_id });
    };
    let work = async {
        let by_name = async || {
            let found = client.runner_named(&registered.name).await?;
            Ok::<_, Error>(found.filter(|runner| runner.status != Status::Online))
        };
        let mut runner = match id {
            Some(id) => client.runner(id).await?,
            None => by_name().await?,
        };
        if runner.is_none() && id.is_none() {
            // The request of a config.sh that was killed may still be on its way.
            tokio::time::sleep(IN_FLIGHT).await;
            runner = by_name().await?;
        }
        if let Some(runner) = runner {
            match client.delete(runner.id).await? {
                Deletion::Deleted => {
                    tracing::info!("took {} (id {}) off the server again", runner.name, runner.id);
                }
                Deletion::AlreadyGone => {}
            }
        }
        Ok::<_, Error>(())
    };
    match tokio::time::timeout_at(deadline.instant(), work).await {
        Ok(result) => result?,
        Err(_) => {
            return Err(Error::StillOnServer { name: registered.name, id: registered.agent_id });
        }
    }
    state::clean_identity(&dir)?;
    journal.forget(Step::Register)?;
    Ok(())
}
