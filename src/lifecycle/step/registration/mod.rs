//! The step Register: a token, `config.sh`, and then a check of what really happened.
//!
//! The exit code of `config.sh` proves nothing: it can fail after having registered, and exit 0 without having done so.
//! What counts is `.runner` on disk, and then the server.

mod attempts;
pub mod decide;
pub mod deregister;
pub mod script;
pub mod taken;
pub mod token;

use crate::host::process::{self, Which};
use crate::host::{self, Account};
use crate::lifecycle::context::error::{Error, RegistrationError, TrustError};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::checkpoint::{Checkpoint, reach};
use crate::lifecycle::state::drift;
use crate::lifecycle::state::journal::{Act, Asked, EntryState, Journal, Registered, Step};
use crate::lifecycle::state::kept;
use crate::lifecycle::state::observed;
use crate::lifecycle::state::observed::{Seen, Server};
use crate::lifecycle::state::plan::NewRegistration;
use crate::lifecycle::step::environment;
use crate::lifecycle::step::recorded::{self, Begin};
use crate::lifecycle::step::registration::attempts::{Configured, Tried};
use crate::lifecycle::step::registration::token::Token;
use crate::lifecycle::step::{listener, user, work};
use crate::runner::{Guard, LocalState, RunnerFile, config_sh, guard, preflight, state, tree};
use crate::transfer::place;
use std::time::Duration;

/// How long a `config.sh` that was left may take to end.
const ENDING: Duration = Duration::from_secs(20);

/// Takes the step; returns what the server says of the runner, if it could be asked.
///
/// # Errors
/// Nothing of the runner is on the server then, unless the error says so.
pub async fn take(
    site: &Site<'_>,
    journal: &mut Journal,
    new: &NewRegistration,
    seen: &Seen,
    account: &Account,
    token: Option<Token>,
) -> Result<Option<String>, Error> {
    let request = &site.request;
    let target = request.target.as_ref().ok_or(crate::settings::Error::UrlMissing)?;
    let client = site.client.as_ref().ok_or(crate::settings::Error::UrlMissing)?;
    let setting = site.config_setting(account.clone());
    user::check_alone(site, journal, account).await?;

    if new.loses() || taken::applies(site, new) {
        // What it would refuse must be known before that.
        let phase = site.phase("preflight");
        preflight::check(&request.root, &setting.dir, account, (site.deadline, &site.stop)).await?;
        phase.end("config.sh finds what it needs");
    } else {
        // The rest config.sh looks for itself, before it registers.
        preflight::readable(&request.root, &setting.dir, account)?;
    }
    if let Some(port) = target.port_warning() {
        tracing::warn!("{port}");
    }
    if let Some(id) = new.ghost {
        let phase = site.phase("ghost");
        site.within("deleting what was registered before", client.delete(id)).await?;
        phase.end(format!("deleted id {id}, which was registered before, from the server"));
        reach(Checkpoint::RegisterGhostGone);
    }
    let cleared = taken::clear(site, new).await?;
    open_for_config(site, journal, account).await?;
    if new.clean_identity {
        state::clean_identity(&setting.dir)?;
    }
    unseal(site, &new.traces)?;
    work::claim(site, journal, account)?;
    let registered = describe(site, journal, new, seen, cleared).await?;
    journal.set_machine(observed::fingerprint(site));
    // The runner to be converted works until config.sh has replaced it.
    let how = if new.converts { Begin::Over } else { Begin::New };
    let (status, kept) = recorded::take(journal, Act::Register(registered), how, async |journal, act| {
        let Act::Register(registered) = act else { unreachable!("it was just passed") };
        run_script(site, journal, new, seen, &setting, registered, token).await
    })
    .await?;
    if let Some(why) = seen.open_because.filter(|_| kept == Guard::Open) {
        let may = if new.options.disable_update { "" } else { "the runner may update itself, and " };
        tracing::info!("{may}its user owns its programs: {why}");
    }
    if !site.environment.is_empty() {
        // config.sh writes its own PATH where it can.
        environment::put(site, journal, account)?;
    }
    keep(site, journal, account, kept)?;
    Ok(status)
}

/// Registers by `config.sh`, with a token; returns what the server says of the runner, and how its tree is to be
/// guarded.
async fn run_script(
    site: &Site<'_>,
    journal: &mut Journal,
    new: &NewRegistration,
    seen: &Seen,
    setting: &config_sh::Setting,
    registered: &mut Registered,
    prepared: Option<Token>,
) -> Result<(Option<String>, Guard), Error> {
    let phase = site.phase("config.sh");
    let mut tried = Tried::default();
    let configured = attempts::register(site, new, seen, setting, registered, prepared, &mut tried).await;
    let Configured { file, kept } = match configured {
        Ok(configured) => configured,
        Err(error) => {
            // Undoing deletes the tree, and its logs with it.
            let log = kept::keep_log(site, journal);
            if !new.converts
                && let Err(error) = note(site, journal, &error, &tried, registered)
            {
                tracing::warn!("{}", crate::error::chain(&error));
            }
            reach(Checkpoint::Refused);
            let Error::ConfigSh(error) = error else { return Err(error) };
            let error = error.with_log(log);
            let limits = (site.deadline, &site.stop);
            if error.is_about_libraries()
                && let Err(lack) =
                    preflight::check(&site.request.root, &setting.dir, &setting.account, limits).await
                && lack.is_about_libraries()
            {
                // It names what is missing, and the command that installs it.
                return Err(lack.into());
            }
            let given = site.request.credentials.registration.as_ref();
            let refused = token::refusal(site, token::REGISTRATION, given, &registered.url, &error);
            return Err(refused.map_or_else(|| error.into(), Error::from));
        }
    };
    kept::forget_log(journal)?;
    phase.end(format!("registered {} (id {}) as {}", file.agent_name, file.agent_id, setting.account.name));

    registered.agent_id = Some(file.agent_id);
    let status = confirm(site, &file, new.name.name.as_str()).await?;
    registered.confirmed = status.is_some();
    registered.may_exist = false;
    Ok((status, kept))
}

/// Records what is known of the server after a registration that has failed. That of a conversion stays, for the tree
/// that comes back.
fn note(
    site: &Site<'_>,
    journal: &mut Journal,
    error: &Error,
    tried: &Tried,
    registered: &Registered,
) -> Result<(), Error> {
    let (is_before, is_taken) = match error {
        Error::ConfigSh(error) => (error.is_before_registering(), error.is_name_taken()),
        _ => (false, false),
    };
    if is_before && !tried.may_have {
        // A runner of that name on the server now is not ours.
        state::clean_identity(&site.dir())?;
        return recorded::never_happened(journal, Step::Register);
    }
    if tried.left_alone || is_taken && !registered.unique {
        return deregister::no_proof(site, journal, registered);
    }
    Ok(())
}

/// What the journal is to say of the new registration.
async fn describe(
    site: &Site<'_>,
    journal: &Journal,
    new: &NewRegistration,
    seen: &Seen,
    cleared: bool,
) -> Result<Registered, Error> {
    let request = &site.request;
    let wanted = request.registration.as_ref().expect("a plan with this step has a registration");
    let name = &new.name;
    let target = request.target.as_ref().ok_or(crate::settings::Error::UrlMissing)?;
    let free = match site.eyes() {
        _ if seen.name_is_free || cleared || new.ghost.is_some() => true,
        Some(client) if !wanted.options.replace && !new.reclaim_name => {
            let asking = client.runner_named(name.name.as_str());
            site.within("asking for the name", asking).await?.is_none()
        }
        _ => false,
    };
    // The server may not have listed it yet.
    let interrupted = match journal.registered() {
        Some((EntryState::Begun, before)) => new.reclaim_name || seen.key || before.may_exist,
        _ => new.reclaim_name,
    };
    // Taking over the name keeps the id.
    let old = journal.registered().filter(|_| new.converts).map(|(_, old)| old);
    Ok(Registered {
        url: target.url.to_string(),
        api_url: target.api.to_string(),
        name: name.name.to_string(),
        template: wanted.name.to_string(),
        unique: name.unique,
        agent_id: old.and_then(|old| old.agent_id),
        confirmed: old.is_some_and(|old| old.confirmed),
        name_was_free: free,
        may_exist: interrupted && !new.converts,
        // What a job may have left is still there, unless the tree is a fresh one.
        unused: new.converts || journal.registered().is_none_or(|(_, old)| old.unused),
        asked: Asked::of(request),
        adopted: journal.registered().is_some_and(|(_, old)| old.adopted),
    })
}

/// Ends a `config.sh` that may still be about to register: it outlived an interrupted run.
///
/// # Errors
/// It does not end.
pub(crate) async fn recover(site: &Site<'_>, journal: &Journal) -> Result<(), Error> {
    let leftovers = Which::MarkedBy {
        uid: site.runner_uid(),
        key: config_sh::MARKER.to_owned(),
        value: site.dir().display().to_string(),
    };
    let pids = leftovers.find();
    if !pids.is_empty() && journal.entry(Step::Register).is_some() {
        tracing::warn!("ending config.sh, left by a run that was cut off (process {pids:?})");
        process::end(&leftovers, process::Ask::Terminate, site.deadline.within(ENDING)).await?;
    }
    Ok(())
}

/// Completes the record, and the guarding, of a registration that stays.
///
/// # Errors
/// The journal cannot be written; the tree cannot be sealed.
pub(crate) fn settle(site: &Site<'_>, journal: &mut Journal, seen: &Seen) -> Result<(), Error> {
    if let (Some((EntryState::Begun, registered)), LocalState::Configured(file)) =
        (journal.registered(), &seen.local)
    {
        // Without the server's answer, the id is only what the files say.
        let (agent_id, confirmed) = match &seen.server {
            Server::Has(runner) => (runner.id, true),
            _ => (file.agent_id, false),
        };
        let registered =
            Registered { agent_id: Some(agent_id), confirmed, may_exist: false, ..registered.clone() };
        journal.done(Act::Register(registered))?;
    }
    if matches!(seen.server, Server::Has(_)) {
        note_asked(site, journal)?;
    }
    if journal.guard() == Guard::Locked
        && seen.wanted_guard == Guard::Sealed
        && matches!(journal.registered(), Some((EntryState::Done, _)))
        && let (LocalState::Configured(_), Some(account)) = (&seen.local, &seen.account)
    {
        keep(site, journal, account, Guard::Sealed)?;
    }
    Ok(())
}

/// Before a program of the tree gets a token: ends a listener that a killed `run` left, which would delete the new
/// identity because its own is gone; ends the runner user's processes; and gives what can be run to root.
async fn open_for_config(site: &Site<'_>, journal: &mut Journal, account: &Account) -> Result<(), Error> {
    let dir = site.dir();
    listener::end_orphan(site).await?;
    user::end_processes(site, journal, account).await?;
    if !site.isolates(account) {
        return Ok(());
    }
    if journal.guard() == Guard::Open {
        return Err(TrustError::TreeNotGuarded { dir: site.request.dir.clone() }.into());
    }
    let keeper = site.keeper(account, journal);
    if journal.guard() == Guard::Sealed {
        journal.set_guard(Guard::Locked)?;
        guard::unseal(&dir, keeper)?;
    }
    guard::lock(&dir, keeper)?;
    state::discard_svc(&dir)?;
    #[cfg(unix)]
    if let Some(path) = tree::writable_by_others(&dir)? {
        return Err(TrustError::UnsafeTree { path }.into());
    }
    Ok(())
}

/// Guards the tree of a registered runner for as long as it stays that runner.
///
/// # Errors
/// It is as it was while config.sh ran.
pub(crate) fn keep(
    site: &Site<'_>,
    journal: &mut Journal,
    account: &Account,
    kept: Guard,
) -> Result<(), Error> {
    if !site.isolates(account) || journal.guard() == kept && kept != Guard::Sealed {
        return Ok(());
    }
    let (dir, keeper) = (site.dir(), site.keeper(account, journal));
    match kept {
        Guard::Open => {
            // It copies what it shares with other runners, which can take seconds.
            let phase = site.phase("owner");
            // From here on, nothing of it is trusted.
            journal.set_guard(kept)?;
            guard::open(&dir, keeper)?;
            phase.end(format!("{} owns the files of the runner", account.name));
        }
        Guard::Locked => {}
        Guard::Sealed => {
            guard::seal(&dir, keeper, site.work())?;
            journal.set_guard(kept)?;
        }
    }
    Ok(())
}

/// Refuses a runner group that does not exist, which `config.sh` would notice only at the end. A credential that may
/// not list the groups leaves it to that.
///
/// # Errors
/// `RegistrationError::NoSuchGroup`; a signal or the deadline.
pub async fn check_group(site: &Site<'_>) -> Result<(), Error> {
    let group = site.request.registration.as_ref().and_then(|wanted| wanted.options.group.as_deref());
    let (Some(client), Some(name)) = (site.eyes(), group) else { return Ok(()) };
    match site.within("asking for the runner groups", client.group_named(name)).await {
        Ok(None) => Err(Error::Registration(RegistrationError::NoSuchGroup { name: name.to_owned() })),
        Err(error) if error.is_stop() => Err(error),
        Err(error) => {
            tracing::debug!("{}", crate::error::chain(&error));
            Ok(())
        }
        Ok(Some(_)) => Ok(()),
    }
}

/// Deletes what the runner of the image's original machine has left.
///
/// # Errors
/// Something stays.
pub(crate) fn unseal(site: &Site<'_>, traces: &[&str]) -> Result<(), Error> {
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

/// Corrects the labels of a runner that stays as it is otherwise.
///
/// # Errors
/// The server refuses them.
pub async fn relabel(site: &Site<'_>, journal: &mut Journal, id: u64) -> Result<(), Error> {
    let client = site.client.as_ref().ok_or(crate::settings::Error::UrlMissing)?;
    let asked = Asked::of(&site.request);
    let labels = asked.as_ref().and_then(|asked| asked.labels.clone()).unwrap_or_default();
    let phase = site.phase("labels");
    site.within("setting the runner's labels", client.set_labels(id, &labels)).await?;
    phase.end(format!("its labels are now {}", drift::listed(&labels)));
    note_asked(site, journal)?;
    Ok(())
}

/// Records what is requested of a registration that stays: `status` compares with that.
///
/// # Errors
/// The journal cannot be written.
pub fn note_asked(site: &Site<'_>, journal: &mut Journal) -> Result<(), Error> {
    let Some((EntryState::Done, registered)) = journal.registered() else { return Ok(()) };
    let (Some(then), Some(now)) = (&registered.asked, Asked::of(&site.request)) else { return Ok(()) };
    let asked = now.since(then);
    if asked != *then {
        let registered = Registered { asked: Some(asked), ..registered.clone() };
        journal.done(Act::Register(registered))?;
    }
    Ok(())
}

/// What the server says of the new runner; `None` without a credential to ask with.
async fn confirm(site: &Site<'_>, file: &RunnerFile, name: &str) -> Result<Option<String>, Error> {
    let Some(client) = site.eyes() else {
        tracing::warn!("not confirmed on the server: that takes a token for the API");
        return Ok(None);
    };
    let phase = site.phase("confirm");
    let runner =
        site.within("asking for the new runner", client.runner_unless_gone(file.agent_id, name)).await?;
    match runner {
        Some(runner) if runner.name.eq_ignore_ascii_case(name) => {
            phase.end(format!("the server has {} (id {}, {})", runner.name, runner.id, runner.status));
            Ok(Some(runner.status.to_string()))
        }
        _ => Err(Error::Registration(RegistrationError::NotOnServer {
            name: name.to_owned(),
            id: file.agent_id,
        })),
    }
}
