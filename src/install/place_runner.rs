//! The step `PlaceRunner`: list, choose, then one stream from the server to a verified tree.

use super::Error;
use super::checkpoint::{Checkpoint, reach};
use super::choose::{Choice, choose};
use super::journal::{Act, Entry, Journal, State, Step};
use super::look::{Seen, Tree};
use super::plan::Care;
use super::site::Site;
use super::{kept, repair, upgrade};
use crate::github::Application;
use crate::host;
use crate::host::account::Account;
use crate::runner::{Guard, Keeper, LocalState, TreeReport, guard, state, tree};
use crate::transfer::{self, Expect, Format, Order, Owner, Staged, place};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One budget for the request and the body, retries included, where the whole run's deadline leaves more.
const PATIENCE: Duration = Duration::from_secs(900);

/// How long a tree goes on being known as the newest on offer before that is written down again.
const NOTED: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

/// Takes the step. A tree that is to be replaced stands until the new one is verified, and the journal says so.
///
/// # Errors
/// Nothing stands beside the runner's folder then, and in it what stood there before.
pub async fn take(
    site: &Site<'_>,
    journal: &mut Journal,
    care: &Care,
    seen: &Seen,
    account: &Account,
) -> Result<(), Error> {
    if care.remove_tree || care.keep_identity {
        check_mounts(site)?;
    }
    if care.keep_identity {
        repair::check_idle(site)?;
    }
    let guarded = site.isolates(account) && !care.keep_identity;
    let choice = choose(site, seen.offer.as_ref().map(|offer| offer.applications.as_slice())).await?;
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
    let old = journal.entry(Step::PlaceRunner).filter(|entry| care.remove_tree && entry.state == State::Done);
    let old = old.map(|entry| entry.act.clone());
    if old.is_none() {
        if !care.keep_identity {
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
    if guarded && care.remove_tree && journal.guard() == Guard::Open {
        kept::keep(site, journal, &dir).inspect_err(|_| discard(&staging))?;
    }
    reach(Checkpoint::PlaceStaged);
    if let Act::PlaceRunner { version, sha256, .. } = &mut act {
        *version = report.version.as_ref().map(ToString::to_string);
        *sha256 = Some(staged.sha256.to_string());
    }
    let put = if care.keep_identity {
        repair::put(site, &staging, account)
    } else if care.remove_tree {
        replace(journal, &act, old, &staging, &dir, care.converts)
    } else {
        put_in_empty_place(&staging, &dir)
    };
    put.inspect_err(|_| discard(&staging))?;
    reach(Checkpoint::PlaceRenamed);
    if guarded {
        guard::lock(&dir, keeper)?;
    }
    // Until it is registered, the one before it has to come back after a cut.
    if !care.converts {
        journal.done(act)?;
    }
    if (care.remove_tree || care.keep_identity) && !care.converts {
        discard(&staging);
    }
    let version = report.version.as_ref().map_or(filename, |version| format!("runner {version}"));
    let resumed = match staged.resumed {
        0 => String::new(),
        1 => ", resumed once".into(),
        times => format!(", resumed {times} times"),
    };
    let digest = staged.sha256.to_string();
    let kept = if care.keep_identity { ", the registration kept" } else { "" };
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

/// A verified tree beside the runner's place.
pub(super) struct Fresh {
    /// Where it is.
    pub staging: PathBuf,
    /// What the journal is to say of it.
    pub act: Act,
}

/// A verified tree beside the runner's, which its user cannot reach yet; nothing of it is in the journal. `listed` is the
/// list of the server, where it was asked for already.
///
/// # Errors
/// Nothing of it stays.
pub(super) async fn stage_fresh(
    site: &Site<'_>,
    account: &Account,
    keeper: Keeper,
    listed: Option<&[Application]>,
) -> Result<Fresh, Error> {
    let choice = choose(site, listed).await?;
    let form = form(&choice)?;
    let verified = matches!(choice.expect, Expect::Sha256(_));
    let current_at = choice.current_at;
    let (staging, staged, report) = stage_runner(site, choice, form, owner(account, true), true).await?;
    guard::furnish(&staging, keeper, report.version, &staged.sha256.to_string())
        .inspect_err(|_| discard(&staging))?;
    let act = Act::PlaceRunner {
        version: report.version.map(|version| version.to_string()),
        platform: site.platform().to_string(),
        sha256: Some(staged.sha256.to_string()),
        verified,
        current_at: current_at.map(|at| at.to_string()),
        replaces: None,
        guard: Guard::Locked,
    };
    Ok(Fresh { staging, act })
}

fn form(choice: &Choice) -> Result<Format, Error> {
    Format::from_filename(&choice.filename)
        .ok_or_else(|| Error::FormUnknown { filename: choice.filename.clone() })
}

/// Downloads, verifies and unpacks what was chosen beside the runner's place, and looks whether it is a runner and nothing but
/// one. On failure nothing of it stays.
async fn stage_runner(
    site: &Site<'_>,
    choice: Choice,
    form: Format,
    owner: Option<Owner>,
    closed: bool,
) -> Result<(PathBuf, Staged, TreeReport), Error> {
    let staging = place::staging_path(&site.dir());
    let order = Order {
        source: choice.source,
        format: form,
        expect: choice.expect,
        staging: staging.clone(),
        owner,
        closed,
        limits: transfer::Limits::default(),
        retry_timeout: site.deadline.left().min(PATIENCE),
    };
    let staged = stage(site, &order).await.inspect_err(|_| discard(&staging))?;
    let report = tree::inspect(&staging, site.platform()).inspect_err(|_| discard(&staging))?;
    if !report.is_runner() {
        discard(&staging);
        return Err(Error::NoRunnerInside { filename: choice.filename, lacks: report.lacks() });
    }
    let personal = state::personal_in(&staging).inspect_err(|_| discard(&staging))?;
    if !personal.is_empty() {
        discard(&staging);
        return Err(Error::PersonalInside { filename: choice.filename, files: personal });
    }
    Ok((staging, staged, report))
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
            let doing = "replace the empty folder";
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

/// A signal and the deadline end it alike; only the first is a signal.
async fn stage(site: &Site<'_>, order: &Order) -> Result<Staged, Error> {
    let stop = site.stop.child_token();
    let staging = transfer::stage(&site.http, order, site.watch.progress(), &stop);
    tokio::pin!(staging);
    let staged = tokio::select! {
        biased;
        staged = &mut staging => staged,
        () = tokio::time::sleep_until(site.deadline.instant()) => {
            stop.cancel();
            staging.await
        }
    };
    match staged {
        Err(transfer::Error::Stopped) => Err(match site.check("downloading and unpacking the runner") {
            Err(why) => why,
            Ok(()) => Error::Stopped,
        }),
        staged => Ok(staged?),
    }
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
    if upgrade::is_running(site)? {
        // What stands beside the place is what that run works with.
        return Ok(());
    }
    upgrade::take_along(site, journal)?;
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

/// A guarded tree is root's from its first file on.
#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "there are no owners on Windows")]
fn owner(account: &Account, guarded: bool) -> Option<Owner> {
    Some(if guarded { Owner { uid: 0, gid: 0 } } else { Owner { uid: account.uid, gid: account.gid } })
}

#[cfg(not(unix))]
fn owner(_: &Account, _: bool) -> Option<Owner> {
    None
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

/// After a failure that already has an error of its own.
pub(super) fn discard(staging: &Path) {
    if let Err(error) = place::remove(staging) {
        tracing::warn!("what was unpacked stays behind: {}", crate::error::chain(&error));
    }
}

fn megabytes(bytes: u64) -> String {
    if bytes < 1_000_000 {
        return format!("{} kB", bytes.div_ceil(1000));
    }
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}
