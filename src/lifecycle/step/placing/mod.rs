//! The step `PlaceRunner`: list, choose, then one stream from the server to a verified tree.

pub mod archive;
pub mod exchange;
pub mod repair;
pub mod stage;

use crate::host;
use crate::host::account::Account;
use crate::lifecycle::context::checkpoint::{Checkpoint, reach};
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::{Act, Entry, Journal, State, Step};
use crate::lifecycle::state::kept;
use crate::lifecycle::state::observed::{Seen, Tree};
use crate::lifecycle::state::plan::Change;
use crate::lifecycle::step::placing::archive::{Choice, choose};
use crate::lifecycle::step::placing::stage::{discard, form, owner, stage_runner};
use crate::runner::{Guard, LocalState, guard, state, tree};
use crate::transfer::{Expect, place};
use std::path::Path;

/// How long a tree goes on being known as the newest on offer before that is written down again.
const NOTED: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

/// Takes the step. A tree that is to be replaced stands until the new one is verified, and the journal says so.
///
/// # Errors
/// Nothing stands beside the runner's folder then, and in it what stood there before.
pub async fn take(
    site: &Site<'_>,
    journal: &mut Journal,
    change: &Change,
    seen: &Seen,
    account: &Account,
    prepared: Option<Choice>,
) -> Result<(), Error> {
    let replaces = matches!(change, Change::Replace { .. });
    let repairs = matches!(change, Change::Repair);
    let converts = matches!(change, Change::Replace { converts: true });
    if replaces || repairs {
        check_mounts(site)?;
    }
    if repairs {
        repair::check_idle(site)?;
    }
    let guarded = site.isolates(account) && !repairs;
    let listed = seen.offer.as_ref().map(|offer| offer.applications.as_slice());
    let choice = match prepared {
        Some(choice) => choice,
        None => choose(site, listed).await?,
    };
    let form = form(&choice)?;
    let dir = site.dir();
    let platform = site.platform();
    let mut act = Act::PlaceRunner {
        version: None,
        platform: platform.to_string(),
        sha256: None,
        verified: matches!(choice.expect, Expect::Sha256(_)),
        current_at: choice.current_at.map(|at| at.to_string()),
        replaces: None,
        guard: if guarded { Guard::Locked } else { Guard::Open },
    };
    let old = journal.entry(Step::PlaceRunner).filter(|entry| replaces && entry.state == State::Done);
    let old = old.map(|entry| entry.act.clone());
    if old.is_none() {
        if !repairs {
            // A repair is one exchange, of which there is nothing to take back.
            journal.begin(act.clone())?;
        }
        reach(Checkpoint::PlaceBegun);
    }
    make_parents(&dir)?;
    // Somebody else may have made one of them first.
    site.check_parents()?;

    let phase = site.phase("place");
    let expects = matches!(choice.expect, Expect::Sha256(_));
    let filename = choice.filename.clone();
    let (staging, staged, report) =
        stage_runner(site, choice, form, owner(account, guarded), guarded).await?;
    let keeper = site.keeper(account, journal);
    if guarded {
        guard::furnish(&staging, keeper, report.version, &staged.sha256.to_string())
            .inspect_err(|_| discard(&staging))?;
    }
    if guarded && replaces && journal.guard() == Guard::Open {
        kept::keep(site, journal, &dir).inspect_err(|_| discard(&staging))?;
    }
    reach(Checkpoint::PlaceStaged);
    if let Act::PlaceRunner { version, sha256, .. } = &mut act {
        *version = report.version.as_ref().map(ToString::to_string);
        *sha256 = Some(staged.sha256.to_string());
    }
    let put = if repairs {
        repair::put(site, &staging, account)
    } else if replaces {
        replace(journal, &act, old, &staging, &dir, converts)
    } else {
        put_in_empty_place(&staging, &dir)
    };
    put.inspect_err(|_| discard(&staging))?;
    reach(Checkpoint::PlaceRenamed);
    if guarded {
        guard::lock(&dir, keeper)?;
    }
    // Until it is registered, the one before it has to come back after a cut.
    if !converts {
        journal.done(act)?;
    }
    if (replaces || repairs) && !converts {
        discard(&staging);
    }
    let version = report.version.as_ref().map_or(filename, |version| format!("runner {version}"));
    let resumed = match staged.resumed {
        0 => String::new(),
        1 => ", resumed once".into(),
        times => format!(", resumed {times} times"),
    };
    let digest = staged.sha256.to_string();
    let kept = if repairs { ", the registration kept" } else { "" };
    phase.end(format!(
        "{version}: {} received{resumed}, sha256 {}… {}, {} entries in {}{kept}",
        megabytes(staged.received),
        &digest[..12],
        if expects { "as expected" } else { "NOT VERIFIED" },
        staged.entries,
        dir.display(),
    ));
    Ok(())
}

/// Puts the verified tree into the place of the one that is there, which stands at `staging` afterwards.
fn replace(
    journal: &mut Journal,
    act: &Act,
    old: Option<Act>,
    staging: &Path,
    dir: &Path,
    converts: bool,
) -> Result<(), Error> {
    // What must come back if this fails is not replaced where that takes more than one step.
    let put = if converts { place::exchange } else { place::replace };
    let Some(old) = old else { return Ok(put(staging, dir)?) };
    let mut begun = act.clone();
    if let Act::PlaceRunner { replaces, .. } = &mut begun {
        *replaces = Some(Box::new(old.clone()));
    }
    journal.begin_instead(begun)?;
    reach(Checkpoint::PlaceBegun);
    if let Err(error) = put(staging, dir) {
        // Unless even that failed half-way, the old one is still there.
        if dir.exists() {
            journal.done(old)?;
        }
        return Err(error.into());
    }
    Ok(())
}

fn put_in_empty_place(staging: &Path, dir: &Path) -> Result<(), Error> {
    // A job of this run cannot be under way, and an empty folder holds nothing that could be lost.
    match std::fs::remove_dir(dir) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            let doing = "replace the empty directory";
            return Err(host::Error::Path { doing, path: dir.to_owned(), source }.into());
        }
        _ => {}
    }
    Ok(place::commit(staging, dir)?)
}

/// Writes down that the tree that is there was the newest on offer just now, if it was: from then on counts how long it
/// may stay.
///
/// # Errors
/// The journal cannot be written.
pub fn note_current(journal: &mut Journal, seen: &Seen) -> Result<(), Error> {
    let (Some(offer), Tree::Ours { version: Some(here), .. }) = (&seen.offer, &seen.tree) else {
        return Ok(());
    };
    let noted = journal.placed().and_then(|placed| placed.current_at);
    let is_newest = offer.newest.is_some_and(|newest| newest <= *here);
    if !is_newest || noted.is_some_and(|then| then.duration_until(offer.now).abs() < NOTED) {
        return Ok(());
    }
    let Some(Entry { state: State::Done, act }) = journal.entry(Step::PlaceRunner) else { return Ok(()) };
    let mut act = act.clone();
    if let Act::PlaceRunner { current_at, .. } = &mut act {
        *current_at = Some(offer.now.to_string());
    }
    Ok(journal.done(act)?)
}

/// Refuses to delete what is mounted in the runner's folder, a disk for its jobs for instance: it would be emptied.
///
/// # Errors
/// [`Error::MountedInside`].
pub fn check_mounts(site: &Site<'_>) -> Result<(), Error> {
    let mounts = host::mounts::within(&site.dir());
    if mounts.is_empty() {
        Ok(())
    } else {
        Err(Error::MountedInside { dir: site.request.dir.clone(), mounts })
    }
}

/// Takes the step back.
///
/// # Errors
/// Something stays.
pub fn undo(site: &Site<'_>, journal: &mut Journal) -> Result<(), Error> {
    let dir = site.dir();
    check_mounts(site)?;
    place::remove(&dir)?;
    place::sweep(&dir)?;
    reach(Checkpoint::RemoveTreeGone);
    journal.forget(Step::PlaceRunner)?;
    Ok(())
}

/// After a cut: deletes what stands beside the place, and says whether the tree made it.
///
/// # Errors
/// The litter cannot be deleted.
pub fn recover(site: &Site<'_>, journal: &mut Journal) -> Result<(), Error> {
    if mend_conversion(site, journal)? {
        return Ok(());
    }
    let dir = site.dir();
    if exchange::upgrade_is_running(site)? {
        // What stands beside the place is what that run works with.
        return Ok(());
    }
    exchange::take_along(site, journal)?;
    if dir.parent().is_some_and(Path::is_dir) {
        place::sweep(&dir)?;
    }
    let Some(Entry { state: State::Begun, act }) = journal.entry(Step::PlaceRunner) else { return Ok(()) };
    // The rename is the last thing that happens, so a complete tree is a verified one.
    let Ok(report) = tree::inspect(&dir, site.platform()) else { return Ok(()) };
    if !report.is_runner() {
        return Ok(());
    }
    let mut act = act.clone();
    let Act::PlaceRunner { version, replaces, guard, .. } = &mut act else { return Ok(()) };
    let guarded = *guard;
    let found = report.version.map(|version| version.to_string());
    match replaces.take() {
        // Which of two stands there, only the version tells; where it does not, it is the old one that has to be looked
        // at again.
        Some(old) if found != *version || old.version() == version.as_deref() => act = *old,
        _ => {
            *version = found;
            // A sealed one was sealed before it was put there.
            if guarded == Guard::Locked
                && let Some(account) = site.account()?
            {
                // It was cut off before its user could look into it.
                guard::lock(&dir, site.keeper(&account, journal))?;
            }
        }
    }
    Ok(journal.done(act)?)
}

/// A conversion is through: what it replaced is nobody any more.
///
/// # Errors
/// The journal cannot be written; the old tree stays.
pub fn conclude(site: &Site<'_>, journal: &mut Journal) -> Result<(), Error> {
    if let Some(Entry { act, .. }) = journal.entry(Step::PlaceRunner).cloned() {
        let mut act = act;
        if let Act::PlaceRunner { replaces, .. } = &mut act {
            *replaces = None;
        }
        journal.done(act)?;
    }
    discard(&place::staging_path(&site.dir()));
    Ok(())
}

/// After a conversion that was cut off: the old tree comes back if the new one was not registered, and goes if it was. Whether
/// there was one.
fn mend_conversion(site: &Site<'_>, journal: &mut Journal) -> Result<bool, Error> {
    let Some(Entry { state: State::Begun, act }) = journal.entry(Step::PlaceRunner).cloned() else {
        return Ok(false);
    };
    let Act::PlaceRunner { replaces: Some(old), guard, .. } = act else { return Ok(false) };
    let converts = guard != Guard::Open && matches!(*old, Act::PlaceRunner { guard: Guard::Open, .. });
    let Some((_, registered)) = journal.registered().filter(|_| converts) else { return Ok(false) };
    let registered = registered.clone();
    let (dir, staging) = (site.dir(), place::staging_path(&site.dir()));
    let configured = |dir: &Path| Ok::<_, Error>(matches!(state::read(dir)?, LocalState::Configured(_)));
    match (configured(&dir)?, configured(&staging)?) {
        (false, true) => {
            put_back(site, journal, *old)?;
            journal.done(Act::Register(registered))?;
        }
        (true, true) => conclude(site, journal)?,
        // Not exchanged yet.
        _ => return Ok(false),
    }
    Ok(true)
}

/// Puts the tree back that a new one has replaced, and which stands beside it.
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

fn make_parents(dir: &Path) -> Result<(), Error> {
    let Some(parent) = dir.parent() else { return Ok(()) };
    // The runner's user has to pass; an ordinary user is it.
    let mode = if host::account::is_root() { 0o755 } else { 0o755 & !host::umask::original() };
    host::file::create_dir_all(parent, mode)?;
    Ok(())
}

fn megabytes(bytes: u64) -> String {
    if bytes < 1_000_000 {
        return format!("{} kB", bytes.div_ceil(1000));
    }
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}
