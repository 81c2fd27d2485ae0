//! The way back: the undos of what the journal says, in reverse, each of which takes "already gone" for success.
//!
//! Deregistering is a ladder. `config.sh remove` with a remove token is the first rung; the server is asked afterwards
//! whatever it said, because it reports success without having done anything when its files are missing, and failure
//! when the server's entry was gone already. The second rung deletes by the id of the journal. Local files go last:
//! while they are there, a later run can still do what this one could not.

use super::checkpoint::{Checkpoint, reach};
use super::journal::{Act, Entry, Journal, Registered, Step};
use super::site::Site;
use super::{Error, create_user, engine, place_runner, run};
use crate::github::{Client, Deletion, Status};
use crate::host;
use crate::host::account::{self, Account};
use crate::runner::{LocalState, RunnerFile, TreeReport, complaint, config_sh, state, tree};
use crate::secret::Secret;
use serde::Serialize;
use std::time::Duration;

/// How often a busy runner is looked at again.
const BUSY_POLL: Duration = Duration::from_secs(5);

/// How far removing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The server's entry too.
    Server,
    /// This machine only.
    Local,
}

/// How `remove` ended.
#[derive(Debug, Clone, Serialize)]
pub struct Removed {
    /// Whether there was anything to remove.
    pub changed: bool,
    /// The runner's folder.
    pub dir: std::path::PathBuf,
    /// What was taken back, in order.
    pub undone: Vec<Step>,
    /// What stays on the server, because only this machine was to be cleaned.
    pub left_on_server: Option<LeftOnServer>,
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
}

/// Takes back what was done to this machine.
///
/// # Errors
/// What could not be taken back; the journal keeps it for the next run.
pub async fn remove(site: &Site<'_>, to: Reach) -> Result<Removed, Error> {
    if !site.dir().exists() && !site.read_journal()?.exists() {
        let removed =
            Removed { changed: false, dir: site.request.dir.clone(), undone: vec![], left_on_server: None };
        return Ok(removed);
    }
    site.check_parents()?;
    let (_lock, mut journal) = site.open_journal("remove").await?;
    if !journal.exists() {
        adopt(site, &mut journal, to)?;
    }
    engine::recover(site, &mut journal).await?;
    run::end_if_orphaned(site).await?;

    let mut removed =
        Removed { changed: true, dir: site.request.dir.clone(), undone: vec![], left_on_server: None };
    let mut errors: Vec<Error> = Vec::new();
    let entries: Vec<Entry> = journal.entries().iter().rev().cloned().collect();
    for entry in entries {
        let step = entry.act.step();
        let undone = match &entry.act {
            Act::Register(registered) => match to {
                Reach::Server => deregister(site, &mut journal, registered).await,
                Reach::Local => {
                    removed.left_on_server = Some(LeftOnServer {
                        name: registered.name.clone(),
                        id: registered.agent_id,
                        url: registered.url.clone(),
                    });
                    clean(site, &mut journal)
                }
            },
            Act::PlaceRunner { .. } => {
                let phase = site.phase("delete");
                place_runner::undo(site, &mut journal)
                    .map(|()| phase.end(format!("deleted {}", site.request.dir.display())))
            }
            Act::CreateUser { name } => {
                let phase = site.phase("user");
                create_user::undo(site, &mut journal, name)
                    .await
                    .map(|()| phase.end(format!("deleted the user {name}, whom runup had made")))
            }
        };
        match undone {
            Ok(()) => removed.undone.push(step),
            Err(error) if step == Step::Register => {
                // The tree and the user are what the next attempt works with.
                errors.push(error);
                break;
            }
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        reach(Checkpoint::RemoveJournalLeft);
        journal.delete()?;
        return Ok(removed);
    }
    Err(if errors.len() == 1 { errors.remove(0) } else { Error::Several { errors } })
}

/// Without a journal: writes down what a hand-made runner consists of, so that the way back is the same.
fn adopt(site: &Site<'_>, journal: &mut Journal, to: Reach) -> Result<(), Error> {
    let dir = site.dir();
    let nothing = || Error::NothingThere { dir: site.request.dir.clone() };
    let report = tree::inspect(&dir, site.platform())?;
    let state = state::read(&dir)?;
    let is_runner = report.is_runner() || matches!(state, LocalState::Configured(_));
    if !is_runner {
        return Err(nothing());
    }
    let registered = match state {
        LocalState::Configured(file) => {
            let on_disk = file.github_url.as_deref().unwrap_or_default().trim_end_matches('/').to_owned();
            // The folder belongs to jobs. A credential goes where the operator says, never where a file in it says.
            let Some(target) = &site.request.target else {
                if to == Reach::Server && site.request.credentials.api.is_some() {
                    return Err(Error::UrlNeededToAdopt { dir: site.request.dir.clone() });
                }
                let registered = adopted(&file, on_disk.clone(), on_disk);
                return write_adopted(site, journal, &report, Some(registered));
            };
            let given = target.url.as_str().trim_end_matches('/').to_owned();
            if !on_disk.is_empty() && !on_disk.eq_ignore_ascii_case(&given) {
                return Err(Error::OtherUrl { dir: site.request.dir.clone(), given, journal: on_disk });
            }
            Some(adopted(&file, given, target.api.to_string()))
        }
        _ => None,
    };
    write_adopted(site, journal, &report, registered)
}

fn adopted(file: &RunnerFile, url: String, api_url: String) -> Registered {
    Registered {
        url,
        api_url,
        name: file.agent_name.clone(),
        template: file.agent_name.clone(),
        unique: false,
        agent_id: Some(file.agent_id),
    }
}

fn write_adopted(
    site: &Site<'_>,
    journal: &mut Journal,
    report: &TreeReport,
    registered: Option<Registered>,
) -> Result<(), Error> {
    tracing::info!("adopting the runner in {}, which runup did not set up", site.request.dir.display());
    journal.done(Act::PlaceRunner {
        version: report.version.as_ref().map(ToString::to_string),
        platform: site.platform().to_string(),
        sha256: None,
        verified: false,
    })?;
    if let Some(registered) = registered {
        journal.done(Act::Register(registered))?;
    }
    Ok(())
}

pub(super) async fn deregister(
    site: &Site<'_>,
    journal: &mut Journal,
    registered: &Registered,
) -> Result<(), Error> {
    let dir = site.dir();
    if let Some(given) = &site.request.target {
        let given = given.url.as_str().trim_end_matches('/');
        if !given.eq_ignore_ascii_case(registered.url.trim_end_matches('/')) {
            let (dir, given) = (site.request.dir.clone(), given.to_owned());
            return Err(Error::OtherUrl { dir, given, journal: registered.url.clone() });
        }
    }
    check_service(site)?;
    let client = if site.request.credentials.api.is_some() {
        Some(site.client_at(&registered.url, &registered.api_url)?)
    } else {
        None
    };
    let configured = matches!(state::read(&dir)?, LocalState::Configured(_));

    let mut id = registered.agent_id;
    if let Some(client) = &client {
        let phase = site.phase("look");
        match find(site, client, registered, configured).await? {
            None => {
                phase.end(format!("the server has no runner {} any more", registered.name));
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

    let script = if configured && config_sh::path(&dir).exists() {
        config_remove(site, client.as_ref()).await
    } else {
        Err(Error::NothingThere { dir: site.request.dir.clone() })
    };
    site.check("deregistering")?;
    let Some(client) = &client else {
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
            Err(Error::NothingThere { .. }) => Err(Error::CredentialMissing {
                purpose: "to delete the runner from the server, and its own files, which config.sh remove needs, are gone",
            }),
            Err(error) => Err(error),
        };
    };
    match &script {
        Ok(()) | Err(Error::NothingThere { .. }) => {}
        Err(error) if error.is_stop() => return Err(Error::Stopped),
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

/// The runner of the journal on the server. Without an id, one of that name counts only if it can be nobody else's.
async fn find(
    site: &Site<'_>,
    client: &Client,
    registered: &Registered,
    configured: bool,
) -> Result<Option<crate::github::Runner>, Error> {
    let doing = "asking for the runner";
    if let Some(id) = registered.agent_id {
        return site.within(doing, client.runner(id)).await;
    }
    let found = site.within(doing, client.runner_named(&registered.name)).await?;
    let ours = registered.unique || configured || state::has_key(&site.dir());
    Ok(found.filter(|runner| ours && (configured || runner.status != Status::Online)))
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
        match client.runner(runner.id).await? {
            Some(now) if now.busy => {}
            _ => {
                phase.end(format!("{} has finished its job", runner.name));
                return Ok(());
            }
        }
    }
}

/// The first rung.
async fn config_remove(site: &Site<'_>, client: Option<&Client>) -> Result<(), Error> {
    let token: Secret = match (&site.request.credentials.remove, client) {
        (Some(token), _) => token.clone(),
        (None, Some(client)) => {
            let phase = site.phase("token");
            let token = site.within("asking for a remove token", client.remove_token()).await?;
            phase.end(format!("remove token, good until {}", token.expires_at));
            token.token
        }
        (None, None) => {
            return Err(Error::CredentialMissing {
                purpose: "to ask for a remove token, and no remove token",
            });
        }
    };
    reach(Checkpoint::RemoveTokenMinted);
    let Some(account) = owner_of_tree(site)? else {
        return Err(Error::NothingThere { dir: site.request.dir.clone() });
    };
    let phase = site.phase("config.sh");
    let command = config_sh::remove(&site.config_setting(account), &token, site.deadline);
    let shown = command.render();
    let outcome = command.run(&site.stop, &mut |stream, line| site.watch.line(stream, line)).await;
    match outcome {
        Ok(outcome) if outcome.success() => {
            phase.end("config.sh remove ended well");
            Ok(())
        }
        Ok(outcome) => Err(Error::ConfigFailed {
            command: shown,
            status: outcome.how(),
            cause: complaint::recognise(&outcome.tail),
            tail: outcome.tail,
        }),
        Err(host::Error::Deadline { tail, total, .. }) => {
            Err(Error::ConfigHung { command: shown, after: total, tail })
        }
        Err(error) => Err(error.into()),
    }
}

/// Who runs `config.sh remove`: whoever owns the tree, so that a runner made by other means works too.
#[cfg(unix)]
fn owner_of_tree(site: &Site<'_>) -> Result<Option<Account>, Error> {
    use std::os::unix::fs::MetadataExt as _;
    if !account::is_root() {
        return Ok(Some(account::current()));
    }
    let dir = site.dir();
    let metadata = fs_err::symlink_metadata(&dir).map_err(host::Error::from)?;
    Ok(account::find_by_id(&site.request.root, metadata.uid())?)
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "the other platform can fail")]
fn owner_of_tree(_: &Site<'_>) -> Result<Option<Account>, Error> {
    Ok(Some(account::current()))
}

/// `config.sh remove` refuses while `.service` is there, even when the unit is long gone.
fn check_service(site: &Site<'_>) -> Result<(), Error> {
    let dir = site.dir();
    let Some(unit) = state::service(&dir)? else { return Ok(()) };
    let unit_file = site.request.root.join(&std::path::Path::new("/etc/systemd/system").join(&unit));
    if unit_file.exists() {
        return Err(Error::ServiceInstalled { dir: site.request.dir.clone(), unit });
    }
    tracing::info!("deleting the stale .service: there is no unit {unit}");
    state::clean_service(&dir)?;
    Ok(())
}

pub(super) fn clean(site: &Site<'_>, journal: &mut Journal) -> Result<(), Error> {
    state::clean_identity(&site.dir())?;
    reach(Checkpoint::RemoveCleaned);
    journal.forget(Step::Register)?;
    Ok(())
}
