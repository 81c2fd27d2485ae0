//! A verified tree beside the runner's directory: downloaded, verified, unpacked, and checked.

use crate::github::Application;
use crate::host::account::Account;
use crate::lifecycle::context::error::{ArchiveError, Error};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::Act;
use crate::lifecycle::step::placing::archive::{Choice, choose};
use crate::runner::{Guard, Keeper, TreeReport, guard, state, tree};
use crate::transfer::{self, Expect, Format, Order, Owner, Staged, place};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One budget for request and body, retries included, unless the whole run's deadline leaves less.
const RETRYING: Duration = Duration::from_secs(900);

/// A verified tree beside the runner's directory.
pub(crate) struct Fresh {
    /// Its path.
    pub staging: PathBuf,
    /// What the journal is to record of it.
    pub act: Act,
}

/// Stages a verified tree beside the runner's, which its user cannot reach yet and which is not in the journal.
/// `listed` is the server's list, if it was fetched already.
///
/// # Errors
/// Nothing of it stays.
pub(crate) async fn stage_fresh(
    site: &Site<'_>,
    account: &Account,
    keeper: Keeper,
    listed: Option<&[Application]>,
) -> Result<Fresh, Error> {
    let choice = choose(site, listed).await?;
    let format = form(&choice)?;
    let verified = matches!(choice.expect, Expect::Sha256(_));
    let current_at = choice.current_at;
    let (staging, staged, report) = stage_runner(site, choice, format, owner(account, true), true).await?;
    guard::furnish(&staging, keeper, report.version, &staged.sha256.to_string())
        .inspect_err(|_| discard(&staging))?;
    let act = Act::PlaceRunner {
        version: report.version.map(|version| version.to_string()),
        platform: site.platform().to_string(),
        sha256: Some(staged.sha256.to_string()),
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

/// Downloads, verifies and unpacks the choice beside the runner's directory, and checks that it is a runner and nothing
/// else. On failure nothing of it stays.
pub(crate) async fn stage_runner(
    site: &Site<'_>,
    choice: Choice,
    format: Format,
    owner: Option<Owner>,
    closed: bool,
) -> Result<(PathBuf, Staged, TreeReport), Error> {
    let dir = site.dir();
    let into = !crate::host::mounts::within(&dir).is_empty();
    let staging = if into { place::staging_inside(&dir) } else { place::staging_path(&dir) };
    let order = Order {
        source: choice.source,
        format,
        expect: choice.expect,
        staging: staging.clone(),
        owner,
        closed,
        limits: transfer::Limits::default(),
        retry_timeout: site.deadline.left().min(RETRYING),
    };
    let staged = stage(site, &order).await.inspect_err(|_| discard(&staging))?;
    let report = tree::inspect(&staging, site.platform()).inspect_err(|_| discard(&staging))?;
    if !report.is_runner() {
        discard(&staging);
        return Err(ArchiveError::NoRunnerInside { filename: choice.filename, lacks: report.lacks() }.into());
    }
    let personal = state::personal_in(&staging).inspect_err(|_| discard(&staging))?;
    if !personal.is_empty() {
        discard(&staging);
        return Err(ArchiveError::PersonalInside { filename: choice.filename, files: personal }.into());
    }
    Ok((staging, staged, report))
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
