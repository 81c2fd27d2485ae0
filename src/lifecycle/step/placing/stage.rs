//! A verified tree beside the runner's directory: made from a verified copy, or downloaded, verified and unpacked; and
//! checked.

use crate::github::Application;
use crate::host::account::Account;
use crate::lifecycle::context::error::{ArchiveError, Error};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::{Act, Step};
use crate::lifecycle::state::plan::{Plan, Planned};
use crate::lifecycle::step::placing::archive::{Choice, choose};
use crate::lifecycle::step::placing::decide::DOWNLOADED;
use crate::lifecycle::step::placing::stored;
use crate::runner::{Guard, Keeper, TreeReport, guard, state, tree};
use crate::transfer::{self, Expect, Format, Order, Owner, Sha256Digest, Staged, place};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One budget for request and body, retries included, unless the whole run's deadline leaves less.
const RETRYING: Duration = Duration::from_secs(900);

/// A verified tree beside the runner's directory, as it was unpacked.
pub(crate) struct Unpacked {
    /// Its path.
    pub staging: PathBuf,
    /// The digest of its archive.
    pub sha256: Sha256Digest,
    /// Where it came from, for people.
    pub origin: String,
    /// Files, directories and links.
    pub entries: u64,
    /// What it is.
    pub report: TreeReport,
}

/// A verified tree beside the runner's directory, with its settings.
pub(crate) struct Fresh {
    /// Its path.
    pub staging: PathBuf,
    /// What the journal is to record of it.
    pub act: Act,
}

/// Says in the plan that the runner comes from a verified copy, if the chosen one does.
pub(crate) fn announce(site: &Site<'_>, plan: &mut Plan, choice: Option<&Choice>) {
    let Some(Expect::Sha256(sha256)) = choice.map(|choice| choice.expect) else { return };
    let Some(store) = stored::find(site, sha256) else { return };
    let places = |planned: &&mut Planned| planned.step == Step::PlaceRunner && planned.change().is_some();
    for planned in plan.steps.iter_mut().filter(places) {
        let detail = planned.detail.replace(DOWNLOADED, "place");
        planned.detail = format!("{detail}, from the verified copy in {}", store.display());
    }
}

/// Stages a verified tree beside the runner's, which its user cannot reach yet and which is not in the journal.
/// `listed` is the server's list, if it was fetched already; a copy is `kept` for other runners, if they have use for it.
///
/// # Errors
/// Nothing of it stays.
pub(crate) async fn stage_fresh(
    site: &Site<'_>,
    account: &Account,
    keeper: Keeper,
    listed: Option<&[Application]>,
    kept: bool,
) -> Result<Fresh, Error> {
    let choice = choose(site, listed).await?;
    let format = form(&choice)?;
    let verified = matches!(choice.expect, Expect::Sha256(_));
    let current_at = choice.current_at;
    let owner = owner(account, true);
    let Unpacked { staging, sha256, report, .. } =
        stage_runner(site, choice, format, owner, true, kept).await?;
    guard::furnish(&staging, keeper, report.version, &sha256.to_string())
        .inspect_err(|_| discard(&staging))?;
    let act = Act::PlaceRunner {
        version: report.version.map(|version| version.to_string()),
        platform: site.platform().to_string(),
        sha256: Some(sha256.to_string()),
        verified,
        current_at: current_at.map(|at| at.to_string()),
        replaces: None,
        in_place: false,
        guard: Guard::Locked,
    };
    Ok(Fresh { staging, act })
}

pub(crate) fn form(choice: &Choice) -> Result<Format, Error> {
    Format::from_filename(&choice.filename)
        .ok_or_else(|| Error::Archive(ArchiveError::FormUnknown { filename: choice.filename.clone() }))
}

/// Makes the chosen tree beside the runner's directory from a verified copy, or downloads, verifies and unpacks it; and
/// checks that it is a runner and nothing else. On failure nothing of it stays. A copy of a `guarded` one is `kept` for
/// other runners, if they have use for it.
pub(crate) async fn stage_runner(
    site: &Site<'_>,
    choice: Choice,
    format: Format,
    owner: Option<Owner>,
    guarded: bool,
    kept: bool,
) -> Result<Unpacked, Error> {
    let dir = site.dir();
    let into = !crate::host::mounts::within(&dir).is_empty();
    let staging = if into { place::staging_inside(&dir) } else { place::staging_path(&dir) };
    let (filename, expect) = (choice.filename.clone(), choice.expect);
    let wanted = if let Expect::Sha256(sha256) = expect { Some(sha256) } else { None };
    let (mut stored, mut turn) = (None, None);
    if let Some(sha256) = wanted {
        stored = stored::make(site, sha256, &staging, owner, guarded).await?;
        if stored.is_none() && guarded && kept {
            turn = stored::take_turn(site).await?;
        }
        if turn.is_some() {
            // Another run may have kept it meanwhile.
            stored = stored::make(site, sha256, &staging, owner, guarded).await?;
        }
    }
    let downloads = stored.is_none();
    let (sha256, entries, origin) = if let (Some(sha256), Some((store, entries))) = (wanted, stored) {
        (sha256, entries, format!("from the verified copy in {}", store.display()))
    } else {
        let order = Order {
            source: choice.source,
            format,
            expect,
            staging: staging.clone(),
            owner,
            closed: guarded,
            limits: transfer::Limits::default(),
            retry_timeout: site.deadline.left().min(RETRYING),
        };
        let staged = stage(site, &order).await.inspect_err(|_| discard(&staging))?;
        (staged.sha256, staged.entries, received(&staged))
    };
    let report = check(site, &staging, &filename).inspect_err(|_| discard(&staging))?;
    if let Some(turn) = turn.filter(|_| downloads) {
        stored::keep(site, &turn, &staging, report.version, sha256)
            .await
            .inspect_err(|_| discard(&staging))?;
    }
    Ok(Unpacked { staging, sha256, origin, entries, report })
}

/// Refuses what is not a runner, or more than that.
fn check(site: &Site<'_>, staging: &Path, filename: &str) -> Result<TreeReport, Error> {
    let report = tree::inspect(staging, site.platform())?;
    let filename = filename.to_owned();
    if !report.is_runner() {
        return Err(ArchiveError::NoRunnerInside { filename, lacks: report.lacks() }.into());
    }
    let files = state::personal_in(staging)?;
    if !files.is_empty() {
        return Err(ArchiveError::PersonalInside { filename, files }.into());
    }
    Ok(report)
}

fn received(staged: &Staged) -> String {
    let resumed = match staged.resumed {
        0 => String::new(),
        1 => ", resumed once".into(),
        times => format!(", resumed {times} times"),
    };
    format!("{} received{resumed}", megabytes(staged.received))
}

fn megabytes(bytes: u64) -> String {
    if bytes < 1_000_000 {
        return format!("{} kB", bytes.div_ceil(1000));
    }
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
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

/// A guarded tree belongs to root from its first file on.
#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "there are no owners on Windows")]
pub(crate) fn owner(account: &Account, guarded: bool) -> Option<Owner> {
    Some(if guarded { Owner { uid: 0, gid: 0 } } else { Owner { uid: account.uid, gid: account.gid } })
}

#[cfg(not(unix))]
pub(crate) fn owner(_: &Account, _: bool) -> Option<Owner> {
    None
}

/// Cleans up after a failure that already has an error of its own.
pub(crate) fn discard(staging: &Path) {
    if let Err(error) = place::remove(staging) {
        tracing::warn!("what was unpacked stays behind: {}", crate::error::chain(&error));
    }
}
