//! The way back: the undos of what the journal says, in reverse, each of which takes "already gone" for success.
//!
//! Deregistering is a ladder. `config.sh remove` with a remove token is the first rung, where its program can be trusted with
//! one; the server is asked afterwards whatever it said, because it reports success without having done anything when its
//! files are missing, and failure when the server's entry was gone already. The second rung deletes by the id that the server
//! confirmed. Local files go last: while they are there, a later run can still do what this one could not.

use crate::github::{Client, Deletion};
use crate::lifecycle::command::{adopt, install, run};
use crate::lifecycle::context::checkpoint::{Checkpoint, reach};
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::request::RemoveScope;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::{Act, Entry, Journal, Registered, Step};
use crate::lifecycle::state::{kept, observed, ownership};
use crate::lifecycle::step::registration::script;
use crate::lifecycle::step::user::Undone;
use crate::lifecycle::step::{placing, service, user};
use crate::runner::state;
use serde::Serialize;
use std::time::Duration;

/// How long a runner that should be offline is waited for: the server notices late that a session is over.
const OFFLINE: Duration = Duration::from_secs(90);

/// How often a busy runner is looked at again.
const BUSY_POLL: Duration = Duration::from_secs(5);

const FILES_GONE: &str =
    "to delete the runner from the server, and its own files, which config.sh remove needs, are gone";

/// How `remove` ended.
#[derive(Debug, Clone, Serialize)]
pub struct Removed {
    /// Whether there was anything to remove.
    pub changed: bool,
    /// The runner's folder.
    pub dir: std::path::PathBuf,
    /// What was taken back, in order.
    pub undone: Vec<Step>,
    /// The runner that is off the server now.
    pub deregistered: Option<Deregistered>,
    /// What stays on the server, because only this machine was to be cleaned.
    pub left_on_server: Option<LeftOnServer>,
}

/// A registration that is gone.
#[derive(Debug, Clone, Serialize)]
pub struct Deregistered {
    /// Its name.
    pub name: String,
    /// Its id, if known.
    pub id: Option<u64>,
    /// What it was registered with.
    pub url: String,
}

impl Deregistered {
    fn of(registered: &Registered) -> Self {
        Self { name: registered.name.clone(), id: registered.agent_id, url: registered.url.clone() }
    }
}

/// What is said of a registration that stays; a `copy` of a disk leaves it to the machine that it is of.
fn stays(registered: &Registered, copy: bool) -> LeftOnServer {
    LeftOnServer {
        name: registered.name.clone(),
        id: registered.agent_id,
        url: registered.url.clone(),
        why: match registered.api_url.is_empty() {
            _ if copy => Why::OtherMachine,
            true => Why::Claimed,
            false => Why::Asked,
        },
    }
}

/// A registration that stays.
#[derive(Debug, Clone, Serialize)]
pub struct LeftOnServer {
    /// Its name.
    pub name: String,
    /// Its id, if known.
    pub id: Option<u64>,
    /// What it is registered with.
    pub url: String,
    /// Why it stays.
    pub why: Why,
}

/// Why a registration stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// Only this machine was to be cleaned.
    Asked,
    /// Only this machine was to be cleaned, and nobody but the runner's own files says what is registered and where.
    Claimed,
    /// This disk is a copy, and the runner is the machine's that it was copied from.
    OtherMachine,
}

/// Takes back what was done to this machine. A running job of a service of ours gets `drain` to end, and is then
/// cancelled.
///
/// # Errors
/// What could not be taken back; the journal keeps it for the next run.
pub async fn remove(site: &Site<'_>, to: RemoveScope, drain: Duration) -> Result<Removed, Error> {
    let nothing = || Removed {
        changed: false,
        dir: site.request.dir.clone(),
        undone: vec![],
        deregistered: None,
        left_on_server: None,
    };
    // Where there is a lock, another run may be about to make something.
    if !site.dir().exists() && !site.read_journal()?.exists() && !site.has_lock() {
        return Ok(nothing());
    }
    site.check_parents()?;
    let before = site.read_journal()?;
    if let Some((_, registered)) = before.registered()
        && to == RemoveScope::Server
        && !observed::is_copy(site, &before)
    {
        // What must fail, fails while the service still runs.
        check_means(site, registered)?;
    }
    service::stop_without_lock(site, &before, drain).await?;
    let (_lock, mut journal) = site.open_journal("remove").await?;
    if journal.entries().is_empty() {
        if std::fs::symlink_metadata(site.dir()).is_err() {
            journal.delete()?;
            return Ok(nothing());
        }
        adopt::adopt(site, &mut journal, to)?;
    }
    install::recover(site, &mut journal).await?;

    let mut removed = Removed { changed: true, ..nothing() };
    let mut errors: Vec<Error> = Vec::new();
    if journal.entry(Step::PlaceRunner).is_some() {
        // Before anything is taken back.
        placing::check_mounts(site)?;
    }
    let copy = observed::is_copy(site, &journal);
    let entries: Vec<Entry> = journal.entries().iter().rev().cloned().collect();
    // The service was stopped before the lock was taken. What a job left running would go on writing where it is deleted, and
    // could hold up every step.
    run::end_if_orphaned(site).await?;
    if let Some(account) = site.account()? {
        user::end_processes(site, &journal, &account).await?;
    }
    for entry in entries {
        let step = entry.act.step();
        let undone = match &entry.act {
            Act::Register(registered) => match to {
                RemoveScope::Server if !copy => deregister(site, &mut journal, registered)
                    .await
                    .inspect(|()| removed.deregistered = Some(Deregistered::of(registered))),
                _ => {
                    removed.left_on_server = Some(stays(registered, copy));
                    clean(site, &mut journal)
                }
            },
            Act::StartService { unit } => {
                let phase = site.phase("stop");
                service::undo_start(site, &mut journal, drain)
                    .await
                    .map(|()| phase.end(format!("stopped and disabled {unit}")))
            }
            Act::WriteService { unit, .. } => {
                let phase = site.phase("unit");
                service::undo_write(site, &mut journal)
                    .await
                    .map(|()| phase.end(format!("deleted the unit {unit}")))
            }
            Act::PlaceRunner { .. } => {
                let phase = site.phase("delete");
                placing::undo(site, &mut journal)
                    .map(|()| phase.end(format!("deleted {}", site.request.dir.display())))
            }
            Act::CreateUser { name } => {
                let phase = site.phase("user");
                user::undo(site, &mut journal, name).await.map(|undone| match undone {
                    Undone::Deleted => phase.end(format!("deleted the user {name}, whom runup had made")),
                    Undone::HandedTo(dir) => {
                        phase.end(format!("kept the user {name} for the runner in {}", dir.display()));
                    }
                })
            }
        };
        match undone {
            Ok(()) => removed.undone.push(step),
            Err(error) => {
                // A service that still runs, a tree that is still there and its user are what the next attempt works with:
                // without its user, what is left of a tree would be the next user's of that number.
                errors.push(error);
                break;
            }
        }
    }
    if errors.is_empty() {
        reach(Checkpoint::RemoveJournalLeft);
        user::delete_group(site, &journal).await?;
        kept::forget(&journal)?;
        journal.delete()?;
        return Ok(removed);
    }
    Err(if errors.len() == 1 { errors.remove(0) } else { Error::Several { errors } })
}

/// Whether a unit's text names the folder `dir` or something in it.
fn names_folder(unit: &str, dir: &str) -> bool {
    unit.match_indices(dir).any(|(at, _)| {
        unit[at + dir.len()..]
            .chars()
            .next()
            .is_none_or(|next| next == '/' || next == '"' || next.is_whitespace())
    })
}

/// Takes the runner of the journal off the server, and its identity out of the tree.
pub(crate) async fn deregister(
    site: &Site<'_>,
    journal: &mut Journal,
    registered: &Registered,
) -> Result<(), Error> {
    check_means(site, registered)?;
    check_service(site)?;
    // An adopted registration has no address: only the operator can say where the credential goes.
    let own;
    let client = match (&site.request.credentials.api, registered.api_url.is_empty()) {
        (None, _) => None,
        (Some(_), true) => {
            let dir = || site.request.dir.clone();
            Some(site.client.as_deref().ok_or_else(|| Error::UrlNeededToAdopt { dir: dir() })?)
        }
        (Some(_), false) => {
            own = site.client_at(&registered.url, &registered.api_url)?;
            Some(&own)
        }
    };
    let mut id = registered.agent_id;
    if let Some(client) = client {
        let phase = site.phase("look");
        match ownership::ours(site, client, registered, OFFLINE).await? {
            None => {
                phase.end(format!("the server has no runner {} of this machine any more", registered.name));
                reach(Checkpoint::RemoveDeregistered);
                return clean(site, journal);
            }
            Some(runner) => {
                phase.end(format!("the server has {} (id {}, {})", runner.name, runner.id, runner.status));
                id = Some(runner.id);
                if runner.busy {
                    wait_until_idle(site, client, &runner).await?;
                }
            }
        }
    }

    let script = script::remove(site, journal, registered, client).await;
    site.check("deregistering")?;
    let Some(client) = client else {
        // Nobody can look. The script's word counts, and only if there was something for it to work with.
        let phase = site.phase("check");
        return match script {
            Ok(()) => {
                phase.end(
                    "config.sh says that the server forgot the runner; nobody checked, that takes a token",
                );
                reach(Checkpoint::RemoveDeregistered);
                clean(site, journal)
            }
            Err(Error::NothingThere { .. }) => Err(Error::NoWayToDeregister { purpose: FILES_GONE }),
            Err(error) => Err(error),
        };
    };
    match &script {
        Ok(()) | Err(Error::NothingThere { .. }) => {}
        Err(error) if error.is_stop() => return Err(Error::Stopped),
        Err(Error::TreeNotGuarded { .. }) => {
            tracing::info!("jobs could change the config.sh that is there; deleting by id instead");
        }
        Err(error) => tracing::warn!("{}; deleting by id instead", crate::error::chain(error)),
    }
    let phase = site.phase("check");
    let doing = "asking whether the runner is gone";
    let detail = match id {
        Some(id) if site.within(doing, client.runner(id)).await?.is_some() => {
            match site.within("deleting the runner", client.delete(id)).await? {
                Deletion::Deleted => format!("deleted {} (id {id}) from the server", registered.name),
                Deletion::AlreadyGone => format!("the server has no {} (id {id}) any more", registered.name),
            }
        }
        _ => format!("the server has no {} any more", registered.name),
    };
    phase.end(detail);
    reach(Checkpoint::RemoveDeregistered);
    clean(site, journal)
}

/// Whether the request says what deregistering needs: the right server, and a credential of some kind.
fn check_means(site: &Site<'_>, registered: &Registered) -> Result<(), Error> {
    let request = &site.request;
    if let Some(given) = &request.target {
        let given = given.url.as_str().trim_end_matches('/');
        let known = registered.url.trim_end_matches('/');
        if !known.is_empty() && !given.eq_ignore_ascii_case(known) {
            let (dir, given) = (request.dir.clone(), given.to_owned());
            return Err(Error::OtherUrl { dir, given, journal: registered.url.clone() });
        }
    }
    if request.credentials.api.is_none() {
        if !script::is_configured(site, registered)? {
            return Err(Error::NoWayToDeregister { purpose: FILES_GONE });
        }
        if request.credentials.remove.is_none() {
            return Err(Error::NoWayToDeregister { purpose: script::NO_REMOVE_TOKEN });
        }
    }
    Ok(())
}

async fn wait_until_idle(
    site: &Site<'_>,
    client: &Client,
    runner: &crate::github::Runner,
) -> Result<(), Error> {
    let phase = site.phase("drain");
    tracing::info!(
        "{} is running a job; waiting for its end, {} s at most",
        runner.name,
        site.deadline.left().as_secs()
    );
    loop {
        let busy = || Error::Busy { name: runner.name.clone(), id: runner.id };
        let pause = BUSY_POLL.min(site.deadline.left());
        tokio::select! {
            () = site.stop.cancelled() => return Err(Error::Stopped),
            () = tokio::time::sleep(pause) => {}
        }
        if site.deadline.passed() {
            return Err(busy());
        }
        match site.within("waiting for the end of its job", client.runner(runner.id)).await? {
            Some(now) if now.busy => {}
            _ => {
                phase.end(format!("{} has finished its job", runner.name));
                return Ok(());
            }
        }
    }
}

/// `config.sh remove` refuses while `.service` is there, even when the unit is long gone.
fn check_service(site: &Site<'_>) -> Result<(), Error> {
    let dir = site.dir();
    let Some(unit) = state::service(&dir)? else { return Ok(()) };
    // A job may have written any unit's name there; the unit's own file, which it cannot write, has to agree.
    let unit_file = site.request.root.resolve(&std::path::Path::new("/etc/systemd/system").join(&unit));
    let text = unit_file.and_then(|file| fs_err::read(file).ok()).unwrap_or_default();
    if names_folder(&String::from_utf8_lossy(&text), &site.request.dir.to_string_lossy()) {
        return Err(Error::ServiceInstalled { dir: site.request.dir.clone(), unit });
    }
    tracing::info!("deleting the stale .service: there is no unit {unit} for this folder");
    state::clean_service(&dir)?;
    Ok(())
}

pub(crate) fn clean(site: &Site<'_>, journal: &mut Journal) -> Result<(), Error> {
    state::clean_identity(&site.dir())?;
    reach(Checkpoint::RemoveCleaned);
    journal.forget(Step::Register)?;
    Ok(())
}
