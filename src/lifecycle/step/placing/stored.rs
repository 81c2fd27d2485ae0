//! When verified copies are kept beside the runners, what is made from them, and when they go.
//!
//! There is a store if more trees will be made from it, if the directory above has a second runner, and in an image where
//! it takes no space: one runner alone needs no second copy. Only root has one, for trees of other users. It is filled
//! from what was just verified, before the tree is given its settings, and never from a tree that is in use.

use crate::error::chain;
use crate::host::{self, account, lock};
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::finding::Finding;
use crate::lifecycle::context::request::KeepCopy;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::Journal;
use crate::runner::RunnerVersion;
use crate::transfer::store::{Cost, Entry, Failed, Making, Store};
use crate::transfer::{self, Owner, Sha256Digest};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::spawn_blocking;

/// Held while the store is read or changed.
const LOCK: &str = "store.lock";

pub(super) fn store(site: &Site<'_>) -> Store {
    Store::beside(&site.dir())
}

/// The store, if it has the archive with this digest.
pub(crate) fn find(site: &Site<'_>, sha256: Sha256Digest) -> Option<PathBuf> {
    let store = store(site);
    (account::is_root() && store.find(sha256).is_some()).then(|| shown(site, &store))
}

/// The verified copies beside a runner.
#[derive(Debug, Clone, Serialize)]
pub struct StoredCopies {
    /// The directory that has them.
    pub dir: PathBuf,
    /// Their versions.
    pub versions: Vec<String>,
    /// The bytes of their files, which runners beside them share where hard links are possible.
    pub bytes: u64,
}

/// What is in the stores of a machine: each is read once for all the runners beside it.
#[derive(Debug, Clone, Default)]
pub struct Stores(Arc<Mutex<BTreeMap<PathBuf, Option<StoredCopies>>>>);

/// What is in the store; `None` if there is none, or if only root can see it.
pub(crate) fn copies(site: &Site<'_>, known: &Stores) -> Option<StoredCopies> {
    let store = store(site);
    let mut known = known.0.lock().unwrap_or_else(PoisonError::into_inner);
    known.entry(store.dir().to_owned()).or_insert_with(|| read(site, &store)).clone()
}

fn read(site: &Site<'_>, store: &Store) -> Option<StoredCopies> {
    let entries = store.entries().ok().filter(|entries| !entries.is_empty() && account::is_root())?;
    let versions = entries.iter().map(Entry::version).collect();
    let bytes = entries.iter().map(Entry::size).sum();
    Some(StoredCopies { dir: shown(site, store), versions, bytes })
}

/// Makes a tree from the verified copy of the archive with this digest, in the new directory `staging`, and returns the
/// store and the number of entries; `None` if there is no such copy. A `guarded` tree shares its files with it. A damaged
/// copy is deleted.
///
/// # Errors
/// The tree cannot be written; nothing of it stays.
pub(crate) async fn make(
    site: &Site<'_>,
    sha256: Sha256Digest,
    staging: &Path,
    owner: Option<Owner>,
    guarded: bool,
) -> Result<Option<(PathBuf, u64)>, Error> {
    if find(site, sha256).is_none() {
        return Ok(None);
    }
    let (_lock, store) = (take_lock(site, LOCK).await?, store(site));
    store.sweep()?;
    let Some(entry) = store.find(sha256) else { return Ok(None) };
    let shares = guarded && !site.request.self_update;
    let making = Making { shares, owner, closed: guarded };
    let (of, to) = (entry.clone(), staging.to_owned());
    let made = spawn_blocking(move || of.make(sha256, &to, making)).await;
    match made.map_err(transfer::Error::Bug)? {
        Ok(made) => {
            if shares && made.copied > 0 {
                tracing::info!(
                    "the runner in {} takes {} MB of its own: its files cannot be links to those in {}",
                    site.request.dir.display(),
                    made.copied.div_ceil(1_000_000),
                    shown(site, &store).display()
                );
            }
            prune(site, &store, sha256);
            Ok(Some((shown(site, &store), made.entries)))
        }
        Err(Failed::Damaged(what)) => {
            tracing::warn!(
                "the verified copy {} is damaged, and is deleted: {what}; downloading the runner instead",
                entry.path().display()
            );
            entry.delete()?;
            Ok(None)
        }
        Err(Failed::Writing(error)) => Err(error.into()),
    }
}

/// What a copy of what is placed now may cost; `None` if none is to be kept.
fn wanted(site: &Site<'_>) -> Result<Option<Cost>, Error> {
    let for_group = site.account()?.is_some_and(|account| site.bakes_for_group(&account));
    if !account::is_root() || site.request.self_update || for_group {
        return Ok(None);
    }
    let has_others = || others(site).is_some_and(|others| !others.is_empty());
    let keep = site.request.archive.keep_copy;
    Ok(if keep == KeepCopy::Always || store(site).exists() || has_others() {
        Some(Cost::Space)
    } else {
        (keep == KeepCopy::IfFree).then_some(Cost::Nothing)
    })
}

/// The right to keep a copy.
pub(crate) struct Turn {
    cost: Cost,
    _lock: lock::Lock,
}

/// Waits until no other run downloads a runner of which it keeps a copy. `None` if this one keeps none.
///
/// # Errors
/// A signal, or the deadline.
pub(crate) async fn take_turn(site: &Site<'_>) -> Result<Option<Turn>, Error> {
    let Some(cost) = wanted(site)? else { return Ok(None) };
    let lock = take_lock(site, "store.download.lock").await?;
    Ok(Some(Turn { cost, _lock: lock }))
}

/// Keeps a copy of the tree that was just verified. A runner without it is complete, so a failure is a warning.
///
/// # Errors
/// A signal, or the deadline.
pub(crate) async fn keep(
    site: &Site<'_>,
    turn: &Turn,
    tree: &Path,
    version: Option<RunnerVersion>,
    sha256: Sha256Digest,
) -> Result<(), Error> {
    let store = store(site);
    let _lock = take_lock(site, LOCK).await?;
    store.sweep()?;
    if store.find(sha256).is_some() {
        return Ok(());
    }
    let phase = site.phase("keep");
    let (into, tree, version) = (store.clone(), tree.to_owned(), version.map(|version| version.to_string()));
    let cost = turn.cost;
    let filled = spawn_blocking(move || into.fill(&tree, version.as_deref(), sha256, cost)).await;
    let dir = shown(site, &store);
    match filled.map_err(transfer::Error::Bug)? {
        Ok(true) => {
            prune(site, &store, sha256);
            phase.end(format!("a verified copy in {}, for more runners", dir.display()));
            return Ok(());
        }
        Ok(false) => {
            tracing::debug!("no copy is kept in {}: its files cannot be links there", dir.display());
        }
        Err(error) => {
            tracing::warn!("no copy is kept for more runners in {}: {}", dir.display(), chain(&error));
        }
    }
    if store.entries().is_ok_and(|entries| entries.is_empty())
        && let Err(error) = store.clear()
    {
        tracing::warn!("{}", chain(&error));
    }
    Ok(())
}

/// Holds back other removals until this one is in the journal: of two at once, one must see that it is the last.
pub(crate) struct Released {
    /// The store was deleted with the last runner of the directory above.
    pub has_deleted: bool,
    _lock: Option<lock::Lock>,
}

/// Deletes the store with the last runner of the directory above. The journal must forget that runner before the result
/// is dropped.
///
/// # Errors
/// Something of it stays.
pub(crate) async fn release(site: &Site<'_>) -> Result<Released, Error> {
    let store = store(site);
    if !account::is_root() || !store.exists() {
        sweep(site).await?;
        return Ok(Released { has_deleted: false, _lock: None });
    }
    let lock = take_lock(site, LOCK).await?;
    let last = others(site).is_some_and(|others| others.is_empty());
    if last {
        store.clear()?;
        let dir = shown(site, &store);
        tracing::info!("deleted the verified copies in {}: no runner is left beside them", dir.display());
    } else {
        store.sweep()?;
    }
    Ok(Released { has_deleted: last, _lock: Some(lock) })
}

/// Deletes what a killed run has left in the store, or of it.
///
/// # Errors
/// Something of it stays.
pub(crate) async fn sweep(site: &Site<'_>) -> Result<(), Error> {
    let store = store(site);
    if !account::is_root() {
        return Ok(());
    }
    transfer::place::sweep(store.dir())?;
    if !store.litter()?.is_empty() {
        // Another run may be filling it.
        let _lock = take_lock(site, LOCK).await?;
        store.sweep()?;
    }
    Ok(())
}

/// The stores beside the runners of this machine, and what is wrong with what is in them. All of it is read.
///
/// # Errors
/// One cannot be read.
pub(crate) fn inspect(site: &Site<'_>) -> Result<(Vec<PathBuf>, Vec<Finding>), Error> {
    examine(&places(site)?)
}

/// The same beside other work: it reads all that the copies hold.
///
/// # Errors
/// As above.
pub(crate) async fn inspect_beside(site: &Site<'_>) -> Result<(Vec<PathBuf>, Vec<Finding>), Error> {
    let places = places(site)?;
    spawn_blocking(move || examine(&places)).await.map_err(transfer::Error::Bug)?
}

/// Where copies can be.
fn places(site: &Site<'_>) -> Result<Vec<PathBuf>, Error> {
    let journals = Journal::all(&site.state)?;
    let dirs = journals.iter().filter_map(|journal| site.request.root.locate(journal.dir()));
    let mut dirs: Vec<PathBuf> = dirs.chain([site.dir()]).collect();
    dirs.sort();
    dirs.dedup_by_key(|dir| Store::beside(dir).dir().to_owned());
    dirs.retain(|dir| Store::beside(dir).exists());
    Ok(dirs)
}

fn examine(places: &[PathBuf]) -> Result<(Vec<PathBuf>, Vec<Finding>), Error> {
    let mut found = Vec::new();
    let stores: Vec<Store> = places.iter().map(|dir| Store::beside(dir)).collect();
    for store in &stores {
        let failed = |source| host::Error::Path { doing: "read", path: store.dir().to_owned(), source };
        for entry in store.entries().map_err(failed)? {
            if let Err(Failed::Damaged(what)) = entry.verify() {
                let what = format!("{}, which is damaged: {what}", entry.path().display());
                let fix = "delete it: the next runner is downloaded, and verified again".to_owned();
                found.push(Finding { what, fix });
            }
        }
        found.extend(store.litter()?.into_iter().map(|path| Finding {
            what: format!("{}, which runup was about to delete", path.display()),
            fix: "delete it".to_owned(),
        }));
    }
    Ok((stores.iter().map(|store| store.dir().to_owned()).collect(), found))
}

/// Deletes what no other runner beside this one is made from, once the copy of `sha256` is there.
fn prune(site: &Site<'_>, store: &Store, sha256: Sha256Digest) {
    let Some(journals) = others(site) else { return };
    let used: Vec<&str> = journals.iter().filter_map(|journal| journal.placed()?.sha256).collect();
    let wanted = sha256.to_string();
    for entry in store.entries().unwrap_or_default() {
        if used.iter().any(|sha256| entry.may_be_of(sha256)) || entry.may_be_of(&wanted) {
            continue;
        }
        if let Err(error) = entry.delete() {
            tracing::warn!("an old copy stays: {}", chain(&error));
        }
    }
}

/// The other runners in the directory above; unknown if a journal cannot be read.
fn others(site: &Site<'_>) -> Option<Vec<Journal>> {
    let own = &site.request.dir;
    let mut journals = Journal::all(&site.state).ok()?;
    journals.retain(|journal| {
        journal.dir() != own && journal.dir().parent() == own.parent() && journal.placed().is_some()
    });
    Some(journals)
}

/// Holds back others that read or change the store.
///
/// # Errors
/// A signal, or the deadline.
pub(super) async fn hold(site: &Site<'_>) -> Result<lock::Lock, Error> {
    take_lock(site, LOCK).await
}

async fn take_lock(site: &Site<'_>, name: &str) -> Result<lock::Lock, Error> {
    site.make_state()?;
    Ok(lock::acquire(&site.state.join(name), "runup", site.deadline, &site.stop).await?)
}

/// Its path as the machine sees it.
fn shown(site: &Site<'_>, store: &Store) -> PathBuf {
    site.request.root.strip(store.dir()).unwrap_or_else(|| store.dir().to_owned())
}
