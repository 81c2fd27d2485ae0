//! Runs a runner that was created elsewhere and whose just-in-time configuration was handed to us: it is placed and run
//! here, and never registered.
//!
//! This machine has no credential, or none for this runner. What the configuration says of the runner is recorded as a
//! claim, to recognise an interrupted run; it never justifies a deletion.

use crate::lifecycle::command::run::clean;
use crate::lifecycle::command::{adopt, install};
use crate::lifecycle::context::error::{ArchiveError, Error, RegistrationError, TreeError};
use crate::lifecycle::context::request::Archive;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::{Act, EntryState, Journal, Step};
use crate::lifecycle::state::observed;
use crate::lifecycle::step::placing::archive;
use crate::lifecycle::step::recorded::{self, Begin};
use crate::lifecycle::step::{registration, work};
use crate::runner::{JitIdentity, LocalState, RunnerFile, preflight, state};
use std::sync::Arc;

/// Places the runner, and prepares the tree for the listener that gets the configuration.
///
/// # Errors
/// As for `install`; the tree belongs to another runner; a tree is neither there nor available.
pub(crate) async fn converge(site: &Site<'_>, identity: &JitIdentity) -> Result<(), Error> {
    let archive = archive_of(site);
    {
        let (_lock, mut journal) = site.open_journal("run").await?;
        refuse_other_runner(site, &mut journal, identity.runner())?;
        let placed = journal.entry(Step::PlaceRunner).is_some();
        if !placed && archive.archive.is_none() && !archive.from_release && site.eyes().is_none() {
            return Err(ArchiveError::NothingToPlace { dir: site.request.dir.clone() }.into());
        }
    }
    let placing = site.request.without_registration(archive);
    install::install(&Site { request: Arc::new(placing), ..site.clone() }).await?;

    let (_lock, mut journal) = site.open_journal("run").await?;
    let account = site
        .account()?
        .ok_or_else(|| Error::Tree(TreeError::NothingThere { dir: site.request.dir.clone() }))?;
    preflight::check(&site.request.root, &site.dir(), &account, (site.deadline, &site.stop)).await?;
    registration::unseal(site, &observed::traces(site, &journal)?)?;
    // The listener writes its own three files; another one of an earlier runner would be read as well.
    state::clean_identity(&site.dir())?;
    work::claim(site, &mut journal, &account)?;
    let url = site.request.target.as_ref().map(|target| target.url.as_str().trim_end_matches('/').to_owned());
    let url = url.or_else(|| identity.runner().github_url.clone()).unwrap_or_default();
    journal.set_machine(observed::fingerprint(site));
    let act = Act::Register(adopt::adopted(identity.runner(), url, String::new()));
    // The listener takes this step, and ends it.
    recorded::begin(&mut journal, act, Begin::New)
}

/// After the listener: removes that runner from the tree and the journal.
///
/// # Errors
/// Something stays.
pub(crate) async fn end(site: &Site<'_>, before: &clean::Snapshot) -> Result<(), Error> {
    let (_lock, mut journal) = site.open_journal("run").await?;
    let cleaned =
        recorded::undo(&mut journal, Step::Register, async |_| Ok(clean::leave_tree(site, before).await));
    if cleaned.await? {
        journal.set_used(None)?;
    }
    Ok(())
}

/// The archive, without a list where none is needed.
fn archive_of(site: &Site<'_>) -> Archive {
    let asked = &site.request.archive;
    match archive::without_list(site) {
        Some(url) => Archive { archive: Some(url), mirror: None, ..asked.clone() },
        None => asked.clone(),
    }
}

/// Refuses a tree that is another runner's. A configuration that an interrupted run left is ours, and is deleted.
fn refuse_other_runner(site: &Site<'_>, journal: &mut Journal, wanted: &RunnerFile) -> Result<(), Error> {
    let dir = || site.request.dir.clone();
    if let Some((state, registered)) = journal.registered() {
        let ours = state == EntryState::Begun && registered.api_url.is_empty();
        if !ours && !observed::is_copy(site, journal) {
            let found = format!("{} at {}", registered.name, registered.url);
            let wanted = format!("{} of --jit-config-file", wanted.agent_name);
            return Err(RegistrationError::ConfiguredOtherwise { dir: dir(), found, wanted }.into());
        }
        recorded::never_happened(journal, Step::Register)?;
    } else if journal.entry(Step::PlaceRunner).is_some()
        && let LocalState::Configured(file) = state::read(&site.dir())?
        && file.agent_id != wanted.agent_id
    {
        let url = file.github_url.unwrap_or_else(|| "an unknown server".to_owned());
        return Err(RegistrationError::ConfiguredByHand { dir: dir(), name: file.agent_name, url }.into());
    }
    Ok(())
}
