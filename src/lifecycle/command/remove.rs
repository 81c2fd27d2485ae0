//! Removal: the undos of what the journal records, in reverse, each of which treats "already gone" as success.

use crate::host::account;
use crate::lifecycle::command::adopt;
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::request::RemoveScope;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::checkpoint::{Checkpoint, reach};
use crate::lifecycle::state::journal::{Act, Entry, Journal, Registered, Step};
use crate::lifecycle::state::{kept, machine, observed};
use crate::lifecycle::step::registration::deregister::{self, Occasion};
use crate::lifecycle::step::user::release::{self, Undone};
use crate::lifecycle::step::{listener, placing, sequence, service, user};
use crate::runner::kept_logs;
use serde::Serialize;
use std::time::Duration;

/// The result of `remove`.
#[derive(Debug, Clone, Serialize)]
pub struct Removed {
    /// Whether there was anything to remove.
    pub changed: bool,
    /// The runner's directory.
    pub dir: std::path::PathBuf,
    /// What was undone, in order.
    pub undone: Vec<Step>,
    /// The runner that was deregistered.
    pub deregistered: Option<Deregistered>,
    /// What stays on the server, because only this machine was to be cleaned.
    pub left_on_server: Option<LeftOnServer>,
}

impl Removed {
    fn nothing(site: &Site<'_>) -> Self {
        Self {
            changed: false,
            dir: site.request.dir.clone(),
            undone: vec![],
            deregistered: None,
            left_on_server: None,
        }
    }
}

/// A registration that is gone.
#[derive(Debug, Clone, Serialize)]
pub struct Deregistered {
    /// Its name.
    pub name: String,
    /// Its id, if known.
    pub id: Option<u64>,
    /// Where it was registered.
    pub url: String,
}

impl Deregistered {
    fn of(registered: &Registered) -> Self {
        Self { name: registered.name.clone(), id: registered.agent_id, url: registered.url.clone() }
    }
}

/// The entry for a registration that stays; a `copy` of a disk leaves it to the original machine.
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
    /// Where it is registered.
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
    /// Only this machine was to be cleaned, and only the runner's own files say what is registered and where.
    Claimed,
    /// This disk is a copy, and the runner belongs to the original machine.
    OtherMachine,
}

/// Undoes what was done to this machine. A running job of a service of ours gets `drain` to end, and is then cancelled.
///
/// # Errors
/// What could not be undone; the journal keeps it for the next run.
pub async fn remove(site: &Site<'_>, to: RemoveScope, drain: Duration) -> Result<Removed, Error> {
    machine::refuse_to_choose(site, "remove")?;
    // If a lock exists, another run may be about to create something.
    let before = site.read_journal()?;
    if !site.dir().exists() && !before.exists() && !site.has_lock() && release::left(site, &before)?.is_none()
    {
        return Ok(Removed::nothing(site));
    }
    site.check_parents()?;
    if let Some((_, registered)) = before.registered()
        && to == RemoveScope::Server
        && !observed::is_copy(site, &before)
    {
        // Fails early if it must fail, while the service still runs.
        deregister::check_means(site, &before, registered)?;
    }
    service::stop_without_lock(site, &before, drain).await?;
    service::by_hand::stop_beside(site, &before, drain).await?;
    let (_lock, mut journal) = site.open_journal("remove").await?;
    if journal.entries().is_empty() && std::fs::symlink_metadata(site.dir()).is_err() {
        release::take_over(site, &mut journal).await?;
        if journal.entries().is_empty() {
            let has_deleted = placing::stored::release(site).await?.has_deleted;
            let changed = release::release(site, &mut journal).await? == Some(Undone::Deleted) || has_deleted;
            delete_logs(site)?;
            kept::forget(&journal)?;
            journal.delete()?;
            return Ok(Removed { changed, ..Removed::nothing(site) });
        }
    } else if journal.entries().is_empty() {
        adopt::adopt(site, &mut journal, to).await?;
        release::take_over(site, &mut journal).await?;
        if let Some((_, registered)) = journal.registered().filter(|_| to == RemoveScope::Server) {
            // While its own service still runs.
            deregister::check_means(site, &journal, registered)?;
        }
    } else {
        adopt::note_service(site, &mut journal).await?;
    }
    let site = &site.with_user(journal.user().map(str::to_owned));
    sequence::recover(site, &mut journal).await?;

    undo_all(site, &mut journal, to, drain).await
}

/// Undoes what the journal records, last first.
async fn undo_all(
    site: &Site<'_>,
    journal: &mut Journal,
    to: RemoveScope,
    drain: Duration,
) -> Result<Removed, Error> {
    let mut removed = Removed { changed: true, ..Removed::nothing(site) };
    if journal.entry(Step::PlaceRunner).is_some() {
        // Before anything is undone.
        placing::into::check_mounts(site)?;
    }
    let copy = observed::is_copy(site, journal);
    // The service was stopped before the lock was taken. Processes that a job left running would go on writing to what
    // is being deleted, and could block every step.
    listener::end_if_orphaned(site).await?;
    if let Some(account) = site.account()? {
        user::end_processes(site, journal, &account).await?;
    }
    let entries: Vec<Entry> = journal.entries().iter().rev().cloned().collect();
    for Entry { act, .. } in entries {
        // What fails ends it: the next attempt needs a service that still runs, a tree that still exists and its user.
        // Without the user, what is left of a tree would belong to the next user with that id.
        match &act {
            Act::Register(registered) if to != RemoveScope::Server || copy => {
                removed.left_on_server = Some(stays(registered, copy));
                deregister::clean(site, journal).await?;
            }
            Act::Register(registered) => {
                sequence::undo(site, journal, &act, Occasion::Removal, drain).await?;
                removed.deregistered = Some(Deregistered::of(registered));
            }
            act if !sequence::undo(site, journal, act, Occasion::Removal, drain).await? => continue,
            _ => {}
        }
        removed.undone.push(act.step());
    }
    // Also where the record of the tree was lost.
    drop(placing::stored::release(site).await?);
    reach(Checkpoint::RemoveJournalLeft);
    release::release(site, journal).await?;
    delete_logs(site)?;
    kept::forget(journal)?;
    journal.delete()?;
    Ok(removed)
}

/// Deletes the logs of jobs that are over.
fn delete_logs(site: &Site<'_>) -> Result<(), Error> {
    if account::is_root()
        && let Some(dir) = Journal::logs_for(&site.request.root, &site.request.dir)
    {
        kept_logs::delete_all(&dir)?;
    }
    Ok(())
}
