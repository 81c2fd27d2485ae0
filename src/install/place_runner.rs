//! The step `PlaceRunner`: list, choose, then one stream from the server to a verified tree.

use super::Error;
use super::checkpoint::{Checkpoint, reach};
use super::journal::{Act, Entry, Journal, State, Step};
use super::look::{Seen, Tree};
use super::plan::Care;
use super::repair;
use super::site::Site;
use crate::github::Application;
use crate::host;
use crate::host::account::Account;
use crate::runner::{asset, tree};
use crate::transfer::{self, DigestError, Expect, Form, Order, Owner, Sha256Digest, Source, Staged, place};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One budget for the request and the body, retries included, where the whole run's deadline leaves more.
const PATIENCE: Duration = Duration::from_secs(900);

/// What is fetched, from where, and what it must be.
struct Choice {
    filename: String,
    source: Source,
    expect: Expect,
    /// When it was the newest on offer, if that is why it was chosen.
    current_at: Option<jiff::Timestamp>,
}

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
    let choice = choose(site, seen.offer.as_ref().map(|offer| offer.applications.as_slice())).await?;
    let form = Form::from_filename(&choice.filename)
        .ok_or_else(|| Error::FormUnknown { filename: choice.filename.clone() })?;
    let dir = site.dir();
    let platform = site.platform();
    let mut act = Act::PlaceRunner {
        version: None,
        platform: platform.to_string(),
        sha256: None,
        verified: matches!(choice.expect, Expect::Sha256(_)),
        current_at: choice.current_at.map(|at| at.to_string()),
        replaces: None,
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
    let staging = place::staging_path(&dir);
    let order = Order {
        source: choice.source,
        form,
        expect: choice.expect,
        staging: staging.clone(),
        owner: owner(account),
        limits: transfer::Limits::default(),
        patience: site.deadline.left().min(PATIENCE),
    };
    let staged = stage(site, &order).await.inspect_err(|_| discard(&staging))?;
    let report = tree::inspect(&staging, platform).inspect_err(|_| discard(&staging))?;
    if !report.is_runner() {
        discard(&staging);
        return Err(Error::NoRunnerInside { filename: choice.filename, lacks: report.lacks() });
    }
    reach(Checkpoint::PlaceStaged);
    if let Act::PlaceRunner { version, sha256, .. } = &mut act {
        *version = report.version.as_ref().map(ToString::to_string);
        *sha256 = Some(staged.sha256.to_string());
    }
    let put = if care.keep_identity {
        repair::put(site, &staging, account)
    } else if care.remove_tree {
        replace(journal, &act, old, &staging, &dir)
    } else {
        put_in_empty_place(&staging, &dir)
    };
    put.inspect_err(|_| discard(&staging))?;
    reach(Checkpoint::PlaceRenamed);
    journal.done(act)?;
    if care.remove_tree || care.keep_identity {
        discard(&staging);
    }
    let version = report
        .version
        .as_ref()
        .map_or_else(|| choice.filename.clone(), |version| format!("runner {version}"));
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
        if matches!(order.expect, Expect::Sha256(_)) { "as expected" } else { "NOT VERIFIED" },
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
) -> Result<(), Error> {
    let Some(old) = old else { return Ok(place::replace(staging, dir)?) };
    let mut begun = act.clone();
    if let Act::PlaceRunner { replaces, .. } = &mut begun {
        *replaces = Some(Box::new(old.clone()));
    }
    journal.begin_instead(begun)?;
    reach(Checkpoint::PlaceBegun);
    if let Err(error) = place::replace(staging, dir) {
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
    let dir = site.dir();
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
    let Act::PlaceRunner { version, replaces, .. } = &mut act else { return Ok(()) };
    let found = report.version.map(|version| version.to_string());
    match replaces.take() {
        // Which of two stands there, only the version tells; where it does not, it is the old one that has to be looked
        // at again.
        Some(old) if found != *version || old.version() == version.as_deref() => act = *old,
        _ => *version = found,
    }
    Ok(journal.done(act)?)
}

async fn choose(site: &Site<'_>, listed: Option<&[Application]>) -> Result<Choice, Error> {
    let asked = &site.request.archive;
    if let Some(archive) = &asked.archive {
        return chosen_by_hand(site, archive);
    }
    let client = site.client.as_ref().ok_or(crate::settings::Error::UrlMissing)?;
    if !client.has_token() {
        return Err(Error::CredentialMissing { purpose: "to ask which runner applications are on offer" });
    }
    let asked_now;
    let applications = if let Some(listed) = listed {
        listed
    } else {
        let phase = site.phase("list");
        asked_now = site.within("asking for the runner applications", client.downloads()).await?;
        site.check_clock()?;
        phase.end(format!("{} runner applications on offer at {}", asked_now.len(), client.target().url));
        &asked_now
    };

    let phase = site.phase("pick");
    let picked = asset::choose(applications, site.platform(), asked.version.as_ref())?;
    let application = picked.application.clone();
    let expect = expected(site, &application)?;
    let source = match &asked.mirror {
        Some(mirror) => {
            let url = format!("{}/{}", mirror.trim_end_matches('/'), application.filename);
            Source::Http { url: parse_url(&url)?, bearer: None }
        }
        None => Source::Http {
            url: application.download_url.clone(),
            bearer: application.temp_download_token.clone(),
        },
    };
    phase.end(format!("{} for {}", application.filename, site.platform()));
    let current_at = asked.version.is_none().then(|| client.now());
    Ok(Choice { filename: application.filename, source, expect, current_at })
}

fn chosen_by_hand(site: &Site<'_>, archive: &str) -> Result<Choice, Error> {
    let asked = &site.request.archive;
    let filename = archive.split(['?', '#']).next().unwrap_or(archive);
    let filename = filename.rsplit(['/', '\\']).next().unwrap_or(filename).to_owned();
    let expect = match &asked.sha256 {
        Some(digest) => Expect::Sha256(*digest),
        None if asked.accept_unverified => unverified(&filename),
        None => return Err(Error::ArchiveWithoutDigest { archive: archive.to_owned() }),
    };
    let source = if archive.starts_with("http://") || archive.starts_with("https://") {
        Source::Http { url: parse_url(archive)?, bearer: None }
    } else if archive.contains("://") {
        return Err(Error::ArchiveUnclear { archive: archive.to_owned() });
    } else {
        let path = PathBuf::from(archive);
        if !path.exists() {
            return Err(Error::ArchiveMissing { path });
        }
        Source::File(path)
    };
    Ok(Choice { filename, source, expect, current_at: None })
}

fn parse_url(text: &str) -> Result<url::Url, Error> {
    text.parse().map_err(|_| Error::ArchiveUnclear { archive: text.to_owned() })
}

/// The digest that the archive must have: the operator's, the list's, and if both speak they must agree.
fn expected(site: &Site<'_>, application: &Application) -> Result<Expect, Error> {
    let asked = &site.request.archive;
    let filename = application.filename.clone();
    let listed = match application.sha256_checksum.as_deref() {
        None => Err(Error::ChecksumAbsent { filename: filename.clone() }),
        Some(text) => text.parse::<Sha256Digest>().map_err(|error| match error {
            DigestError::Empty => Error::ChecksumEmpty { filename: filename.clone() },
            DigestError::Malformed { .. } => Error::ChecksumMalformed {
                filename: filename.clone(),
                found: text.chars().take(80).collect(),
            },
        }),
    };
    match (&asked.sha256, listed) {
        (Some(given), Ok(listed)) if *given != listed => {
            Err(Error::ChecksumsDisagree { filename, given: given.to_string(), listed: listed.to_string() })
        }
        (Some(given), _) => Ok(Expect::Sha256(*given)),
        (None, Ok(listed)) => Ok(Expect::Sha256(listed)),
        (None, Err(_)) if asked.accept_unverified => Ok(unverified(&filename)),
        (None, Err(error)) => Err(error),
    }
}

fn unverified(filename: &str) -> Expect {
    tracing::warn!(
        "{filename} is NOT VERIFIED, as --accept-unverified asks: whoever can change it on its way can run anything here"
    );
    Expect::Unverified
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "there are no owners on Windows")]
fn owner(account: &Account) -> Option<Owner> {
    Some(Owner { uid: account.uid, gid: account.gid })
}

#[cfg(not(unix))]
fn owner(_: &Account) -> Option<Owner> {
    None
}

fn make_parents(dir: &Path) -> Result<(), Error> {
    let Some(parent) = dir.parent() else { return Ok(()) };
    // The runner's user has to pass; an ordinary user is it.
    let mode = if host::account::is_root() { 0o755 } else { 0o777 & !host::umask::original() };
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
