//! The step `PlaceRunner`: list, choose, then one stream from the server to a verified tree.

pub mod archive;
pub mod claims;
#[cfg(unix)]
pub mod compared;
#[cfg(not(unix))]
#[path = "no_compared.rs"]
pub mod compared;
pub mod decide;
pub mod exchange;
pub mod into;
pub mod repair;
pub mod stage;
#[cfg(unix)]
pub mod stored;
#[cfg(not(unix))]
#[path = "no_stored.rs"]
pub mod stored;

use crate::host;
use crate::host::account::Account;
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::checkpoint::{Checkpoint, reach};
use crate::lifecycle::state::journal::{Act, Entry, EntryState, Journal, Step};
use crate::lifecycle::state::kept;
use crate::lifecycle::state::observed::Seen;
use crate::lifecycle::state::plan::Change;
use crate::lifecycle::step::environment;
use crate::lifecycle::step::placing::archive::{Choice, choose};
use crate::lifecycle::step::placing::stage::{Unpacked, discard, form, owner, stage_runner};
use crate::lifecycle::step::recorded::{self, Begin};
use crate::lifecycle::step::work;
use crate::runner::{Guard, LocalState, guard, state, tree};
use crate::transfer::{Expect, Format, place};
use std::path::{Path, PathBuf};

/// What this run does about the tree.
struct Placing<'a> {
    site: &'a Site<'a>,
    change: &'a Change,
    account: &'a Account,
    guarded: bool,
    /// The tree that is there was placed completely.
    replaces_done: bool,
}

/// The new tree beside its place.
struct New {
    staging: PathBuf,
    /// A description for people.
    detail: String,
}

/// Takes the step. A tree that is to be replaced stays until the new one is verified, and the journal records that.
///
/// # Errors
/// Nothing is left beside the runner's directory then, and the directory holds what it held before.
pub async fn take(
    site: &Site<'_>,
    journal: &mut Journal,
    change: &Change,
    seen: &Seen,
    account: &Account,
    prepared: Option<Choice>,
) -> Result<(), Error> {
    let repairs = matches!(change, Change::Repair);
    // Before anything is downloaded that could not be put there.
    let into = into::applies(site)?;
    if repairs || matches!(change, Change::Replace { converts: true }) {
        into::check_exchange(site)?;
    }
    if repairs {
        repair::check_idle(site)?;
    }
    let before = journal.entry(Step::PlaceRunner).cloned();
    let done = before.as_ref().is_some_and(|entry| entry.state == EntryState::Done);
    let guarded = site.isolates(account) && !repairs;
    let placing = Placing { site, change, account, guarded, replaces_done: done };
    let listed = seen.offer.as_ref().map(|offer| offer.applications.as_slice());
    let choice = match prepared {
        Some(choice) => choice,
        None => choose(site, listed).await?,
    };
    let format = form(&choice)?;
    let mut act = Act::PlaceRunner {
        version: None,
        platform: site.platform().to_string(),
        sha256: None,
        verified: matches!(choice.expect, Expect::Sha256(_)),
        current_at: choice.current_at.map(|at| at.to_string()),
        replaces: None,
        in_place: false,
        guard: if placing.guarded { Guard::Locked } else { Guard::Open },
    };
    let phase = site.phase("place");
    let detail = if into {
        placing.put_into(journal, choice, format, act).await?
    } else if repairs {
        placing.repair(journal, choice, format, act).await?
    } else if placing.converts() || done && matches!(change, Change::Replace { .. }) {
        let new = placing.stage(journal, choice, format, &mut act).await?;
        placing.replace(journal, act, before, &new).await?;
        if !placing.converts() {
            discard(&new.staging);
        }
        new.detail
    } else {
        recorded::take(journal, act, Begin::New, async |journal, act| {
            let new = placing.stage(journal, choice, format, act).await?;
            placing.put_first(&new.staging).inspect_err(|_| discard(&new.staging))?;
            placing.guard(journal)?;
            if matches!(change, Change::Replace { .. }) {
                discard(&new.staging);
            }
            Ok(new.detail)
        })
        .await?
    };
    phase.end(format!("{detail}{}", if repairs { ", the registration kept" } else { "" }));
    Ok(())
}

impl Placing<'_> {
    /// Whether the old tree has to come back unless the new one is registered.
    fn converts(&self) -> bool {
        matches!(self.change, Change::Replace { converts: true })
    }

    /// Stages the chosen runner, and completes what is recorded of it.
    async fn stage(
        &self,
        journal: &Journal,
        choice: Choice,
        format: Format,
        act: &mut Act,
    ) -> Result<New, Error> {
        let (site, dir) = (self.site, self.site.dir());
        make_parents(&dir, site.bakes_for_group(self.account))?;
        // Another process may have created one of them first.
        site.check_parents()?;
        let verified = matches!(choice.expect, Expect::Sha256(_));
        let filename = choice.filename.clone();
        let owner = owner(self.account, self.guarded);
        let Unpacked { staging, sha256, origin, entries, report } =
            stage_runner(site, choice, format, owner, self.guarded, true).await?;
        let digest = sha256.to_string();
        // A repair takes the files of the tree along.
        if self.guarded || !site.environment.is_empty() && !matches!(self.change, Change::Repair) {
            let replaces = self.replaces_done && matches!(self.change, Change::Replace { .. });
            environment::furnish(site, journal, self.account, &staging, replaces)
                .inspect_err(|_| discard(&staging))?;
        }
        if self.guarded {
            let keeper = site.keeper(self.account, journal);
            guard::furnish(&staging, keeper, report.version, &digest).inspect_err(|_| discard(&staging))?;
            let drops = matches!(self.change, Change::Replace { .. }) && !site.request.adopt;
            if drops && journal.guard() == Guard::Open {
                kept::keep(site, journal, &dir).inspect_err(|_| discard(&staging))?;
            }
        }
        reach(Checkpoint::PlaceStaged);
        let named = report.version.as_ref().map(ToString::to_string);
        let detail = format!(
            "{}: {origin}, sha256 {}… {}, {entries} entries in {}",
            named.as_ref().map_or(filename, |version| format!("runner {version}")),
            &digest[..12],
            if verified { "as expected" } else { "NOT VERIFIED" },
            dir.display(),
        );
        if let Act::PlaceRunner { version, sha256, .. } = act {
            (*version, *sha256) = (named, Some(digest));
        }
        Ok(New { staging, detail })
    }

    /// Puts the new tree into the directory; one that is there stays until the new one is verified.
    async fn put_into(
        &self,
        journal: &mut Journal,
        choice: Choice,
        format: Format,
        mut act: Act,
    ) -> Result<String, Error> {
        let (site, dir) = (self.site, self.site.dir());
        if let Act::PlaceRunner { in_place, .. } = &mut act {
            *in_place = true;
        }
        work::check(site, journal)?;
        // Root works in it from now on, so its user must not change it meanwhile.
        into::own(&dir, into::ROOT)?;
        let keeper = site.keeper(self.account, journal);
        let before = journal.entry(Step::PlaceRunner).is_some();
        let mut chosen = Some((choice, format));
        let mut staged = None;
        if self.replaces_done
            && let Some((choice, format)) = chosen.take()
        {
            let new = self.stage(journal, choice, format, &mut act).await;
            staged = Some(new.inspect_err(|_| into::give_back(&dir, keeper))?);
        }
        let how = if before { Begin::Over } else { Begin::New };
        recorded::take(journal, act, how, async |journal, act| {
            let new = match (staged, chosen) {
                (None, Some((choice, format))) => self.stage(journal, choice, format, act).await?,
                (staged, _) => staged.expect("it was staged, or is chosen"),
            };
            place::put_into(&new.staging, &dir).inspect_err(|_| discard(&new.staging))?;
            reach(Checkpoint::PlaceRenamed);
            if !self.guarded {
                into::own(&dir, keeper)?;
            }
            self.guard(journal)?;
            Ok(new.detail)
        })
        .await
    }

    /// Puts the programs of the new tree into the current one.
    async fn repair(
        &self,
        journal: &mut Journal,
        choice: Choice,
        format: Format,
        mut act: Act,
    ) -> Result<String, Error> {
        let new = self.stage(journal, choice, format, &mut act).await?;
        repair::put(self.site, &new.staging, self.account).inspect_err(|_| discard(&new.staging))?;
        reach(Checkpoint::PlaceRenamed);
        // One exchange, which is not undone: until it has happened, the entry of the tree that is there stays true.
        journal.done(act)?;
        discard(&new.staging);
        if !self.site.environment.is_empty() {
            environment::put(self.site, journal, self.account)?;
        }
        Ok(new.detail)
    }

    /// Puts the new tree in the place of the current one, which is at the staged path afterwards.
    async fn replace(
        &self,
        journal: &mut Journal,
        mut act: Act,
        before: Option<Entry>,
        new: &New,
    ) -> Result<(), Error> {
        if let (Act::PlaceRunner { replaces, .. }, Some(Entry { state: EntryState::Done, act: old })) =
            (&mut act, &before)
        {
            *replaces = Some(Box::new(old.clone()));
        }
        let how = if self.converts() { Begin::Tentatively } else { Begin::Over };
        let mut exchanged = false;
        let result = recorded::take(journal, act, how, async |journal, act| {
            let dir = self.site.dir();
            // A tree that must come back if this fails is not replaced if that takes more than one step.
            let put = if self.converts() { place::exchange } else { place::replace };
            if let Err(error) = put(&new.staging, &dir) {
                // Unless even that failed half-way, the old one is still there.
                if dir.exists() {
                    recorded::restore(journal, Step::PlaceRunner, before)?;
                }
                return Err(error.into());
            }
            exchanged = true;
            reach(Checkpoint::PlaceRenamed);
            if let Act::PlaceRunner { replaces, .. } = act {
                *replaces = None;
            }
            self.guard(journal)
        })
        .await;
        if result.is_err() && !exchanged {
            discard(&new.staging);
        }
        result
    }

    /// Puts the new tree where nothing is, or something of no use.
    fn put_first(&self, staging: &Path) -> Result<(), Error> {
        let dir = self.site.dir();
        match self.change {
            Change::Replace { .. } => place::replace(staging, &dir)?,
            _ => put_in_empty_place(staging, &dir)?,
        }
        reach(Checkpoint::PlaceRenamed);
        Ok(())
    }

    fn guard(&self, journal: &Journal) -> Result<(), Error> {
        if self.guarded {
            guard::lock(&self.site.dir(), self.site.keeper(self.account, journal))?;
        }
        Ok(())
    }
}

fn put_in_empty_place(staging: &Path, dir: &Path) -> Result<(), Error> {
    // No job of this run can be running, and an empty directory holds nothing that could be lost.
    match std::fs::remove_dir(dir) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            let doing = "replace the empty directory";
            return Err(host::Error::Path { doing, path: dir.to_owned(), source }.into());
        }
        _ => {}
    }
    Ok(place::commit(staging, dir)?)
}

/// Undoes the step.
///
/// # Errors
/// Something stays.
pub async fn undo(site: &Site<'_>, journal: &mut Journal) -> Result<(), Error> {
    let dir = site.dir();
    let into = into::applies(site)?;
    work::release(site, journal)?;
    // The journal has forgotten the tree when what holds back other removals is dropped.
    let released = recorded::undo(journal, Step::PlaceRunner, async |_| {
        if into {
            into::empty(site)?;
        } else {
            place::remove(&dir)?;
        }
        place::sweep(&dir)?;
        stored::release(site).await
    })
    .await?;
    drop(released);
    Ok(())
}

/// After an interruption: deletes what is left beside the place, and returns whether the tree got there.
///
/// # Errors
/// The leftovers cannot be deleted.
pub fn recover(site: &Site<'_>, journal: &mut Journal) -> Result<(), Error> {
    if mend_conversion(site, journal)? {
        return Ok(());
    }
    let dir = site.dir();
    if exchange::upgrade_is_running(site)? {
        // That run works with what stands beside the place.
        return Ok(());
    }
    exchange::take_along(site, journal)?;
    if into::recover(site, journal)? {
        return Ok(());
    }
    if dir.is_dir() {
        place::sweep_inside(&dir)?;
    }
    if dir.parent().is_some_and(Path::is_dir) {
        place::sweep(&dir)?;
    }
    let Some(Entry { state: EntryState::Begun, act }) = journal.entry(Step::PlaceRunner) else {
        return Ok(());
    };
    // The rename is the last act, so a complete tree is a verified one.
    let Ok(report) = tree::inspect(&dir, site.platform()) else { return Ok(()) };
    if !report.is_runner() {
        return Ok(());
    }
    let mut act = act.clone();
    let Act::PlaceRunner { version, replaces, guard, .. } = &mut act else { return Ok(()) };
    let guarded = *guard;
    let found = report.version.map(|version| version.to_string());
    match replaces.take() {
        // Only the version tells which of the two is there; if it does not, assume the old one, which is then checked
        // again.
        Some(old) if found != *version || old.version() == version.as_deref() => act = *old,
        _ => {
            *version = found;
            // A sealed tree was sealed before it was put there.
            if guarded == Guard::Locked
                && let Some(account) = site.account()?
            {
                // It was interrupted before its user could look into it.
                guard::lock(&dir, site.keeper(&account, journal))?;
            }
        }
    }
    Ok(journal.done(act)?)
}

/// After a conversion: forgets the replaced tree, which has no registration any more.
///
/// # Errors
/// The journal cannot be written; the old tree stays.
pub fn conclude(site: &Site<'_>, journal: &mut Journal) -> Result<(), Error> {
    if let Some(Entry { mut act, .. }) = journal.entry(Step::PlaceRunner).cloned() {
        if let Act::PlaceRunner { replaces, .. } = &mut act {
            *replaces = None;
        }
        journal.done(act)?;
    }
    discard(&place::staging_path(&site.dir()));
    Ok(())
}

/// After an interrupted conversion: the old tree comes back if the new one was not registered, and is deleted if it
/// was, or if it is another runner than the journal's. Returns whether there was a conversion.
fn mend_conversion(site: &Site<'_>, journal: &mut Journal) -> Result<bool, Error> {
    let Some(Entry { state: EntryState::Begun, act }) = journal.entry(Step::PlaceRunner).cloned() else {
        return Ok(false);
    };
    let Act::PlaceRunner { replaces: Some(old), guard, .. } = act else { return Ok(false) };
    let converts = guard != Guard::Open && matches!(*old, Act::PlaceRunner { guard: Guard::Open, .. });
    let Some((_, registered)) = journal.registered().filter(|_| converts) else { return Ok(false) };
    let registered = registered.clone();
    let (dir, staging) = (site.dir(), place::staging_path(&site.dir()));
    let configured = |dir: &Path| {
        Ok::<_, Error>(match state::read(dir)? {
            LocalState::Configured(file) => Some(file.agent_id),
            _ => None,
        })
    };
    match (configured(&dir)?, configured(&staging)?) {
        (None, Some(id)) if registered.agent_id.is_none_or(|known| known == id) => {
            put_back(site, journal, *old)?;
            journal.done(Act::Register(registered))?;
        }
        (_, Some(_)) => conclude(site, journal)?,
        // Not exchanged yet.
        _ => return Ok(false),
    }
    Ok(true)
}

/// Puts back the tree that a new one has replaced, and which stands beside it.
///
/// # Errors
/// The new one stays.
pub fn put_back(site: &Site<'_>, journal: &mut Journal, old: Act) -> Result<(), Error> {
    let dir = site.dir();
    let staging = place::staging_path(&dir);
    place::replace(&staging, &dir)?;
    journal.done(old)?;
    discard(&staging);
    Ok(())
}

/// Creates the directories above the runner's; `shared` ones can be written by their group, which may have to replace the
/// runner one day.
fn make_parents(dir: &Path, shared: bool) -> Result<(), Error> {
    let Some(parent) = dir.parent() else { return Ok(()) };
    host::file::create_dir_all(parent, if shared { 0o775 } else { work::dir_mode() })?;
    Ok(())
}
