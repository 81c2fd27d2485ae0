//! The step `PlaceRunner`: list, choose, then one stream from the server to a verified tree.

use super::Error;
use super::checkpoint::{Checkpoint, reach};
use super::journal::{Act, Journal, Step};
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
}

/// Takes the step.
///
/// # Errors
/// Nothing stands in the runner's folder then, and nothing beside it.
pub async fn take(
    site: &Site<'_>,
    journal: &mut Journal,
    care: &Care,
    account: &Account,
) -> Result<(), Error> {
    if care.remove_tree || care.keep_identity {
        check_mounts(site)?;
    }
    if care.keep_identity {
        repair::check_idle(site)?;
    }
    let choice = choose(site).await?;
    let form = Form::from_filename(&choice.filename)
        .ok_or_else(|| Error::FormUnknown { filename: choice.filename.clone() })?;
    let dir = site.dir();
    let platform = site.platform();
    let mut act = Act::PlaceRunner {
        version: None,
        platform: platform.to_string(),
        sha256: None,
        verified: matches!(choice.expect, Expect::Sha256(_)),
    };
    if !care.keep_identity {
        // A repair is one exchange, of which there is nothing to take back.
        journal.begin(act.clone())?;
    }
    reach(Checkpoint::PlaceBegun);
    if care.remove_tree {
        place::remove(&dir)?;
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
    if care.keep_identity {
        repair::put(site, &staging, account)?;
    } else {
        put(&staging, &dir)?;
    }
    reach(Checkpoint::PlaceRenamed);

    if let Act::PlaceRunner { version, sha256, .. } = &mut act {
        *version = report.version.as_ref().map(ToString::to_string);
        *sha256 = Some(staged.sha256.to_string());
    }
    journal.done(act)?;
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

/// Puts the staged tree where nothing is.
fn put(staging: &Path, dir: &Path) -> Result<(), Error> {
    // A job of this run cannot be under way, and an empty folder holds nothing that could be lost.
    match std::fs::remove_dir(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            discard(staging);
            let path = dir.to_owned();
            return Err(host::Error::Path { doing: "replace the empty folder", path, source: error }.into());
        }
        _ => {}
    }
    Ok(place::commit(staging, dir).inspect_err(|_| discard(staging))?)
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
    let Some(entry) = journal.entry(Step::PlaceRunner) else { return Ok(()) };
    let mut act = entry.act.clone();
    let begun = entry.state == super::journal::State::Begun;
    // The rename is the last thing that happens, so a complete tree is a verified one.
    if begun
        && let Ok(report) = tree::inspect(&dir, site.platform())
        && report.is_runner()
    {
        if let Act::PlaceRunner { version, .. } = &mut act {
            *version = report.version.map(|version| version.to_string());
        }
        journal.done(act)?;
    }
    Ok(())
}

async fn choose(site: &Site<'_>) -> Result<Choice, Error> {
    let asked = &site.request.archive;
    if let Some(archive) = &asked.archive {
        return chosen_by_hand(site, archive);
    }
    let client = site.client.as_ref().ok_or(crate::settings::Error::UrlMissing)?;
    if !client.has_token() {
        return Err(Error::CredentialMissing { purpose: "to ask which runner applications are on offer" });
    }
    let phase = site.phase("list");
    let applications = site.within("asking for the runner applications", client.downloads()).await?;
    site.check_clock()?;
    phase.end(format!("{} runner applications on offer at {}", applications.len(), client.target().url));

    let phase = site.phase("pick");
    let picked = asset::choose(&applications, site.platform(), asked.version.as_ref())?;
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
    Ok(Choice { filename: application.filename, source, expect })
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
    Ok(Choice { filename, source, expect })
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
    std::fs::create_dir_all(parent).map_err(|source| host::Error::Path {
        doing: host::CREATE_FOLDER,
        path: parent.to_owned(),
        source,
    })?;
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
