//! Replaces the incomplete tree of a registered runner with a complete one. An interrupted self-update of the runner
//! leaves such a tree: its old directories are gone and the new ones not there yet.
//!
//! Jobs can write the old tree, so nothing of it is completed or trusted: a verified tree is staged beside it, the few
//! files that identify this runner are copied without following a link, and one step exchanges the two. The runner's
//! user could read and write what the files say before, so it gains nothing. The runner stays registered, which
//! removing and re-registering it could not guarantee.

use crate::host;
use crate::host::account::Account;
use crate::host::file::read_untrusted_for;
use crate::host::process::Which;
use crate::lifecycle::context::error::{Error, TreeError};
use crate::lifecycle::context::site::Site;
use crate::runner::{listener, state, tree};
use crate::transfer::place;
use std::io::Write as _;
use std::path::{Component, Path};

/// The settings of the runner besides its identity.
const STEERING: [&str; 3] = [".env", ".path", ".setup_info"];

/// Real ones have a few kilobytes at most.
const LIMIT: u64 = 256 * 1024;

/// Refuses to exchange a tree under a listener that `run` has started, which may be in the middle of its update.
///
/// # Errors
/// `TreeError::TreeIncomplete`.
pub(crate) fn check_idle(site: &Site<'_>) -> Result<(), Error> {
    let dir = site.dir();
    let marked = Which::MarkedBy {
        uid: site.runner_uid(),
        key: listener::MARKER.to_owned(),
        value: dir.display().to_string(),
    };
    if marked.find().is_empty() {
        return Ok(());
    }
    let missing = tree::inspect(&dir, site.platform())?.lacks();
    Err(Error::Tree(TreeError::TreeIncomplete { dir: site.request.dir.clone(), missing }))
}

/// Exchanges the tree for the staged one, whose path the old one gets. Its logs and the work directory move along.
///
/// # Errors
/// The old tree stands as before.
pub(crate) fn put(site: &Site<'_>, staging: &Path, account: &Account) -> Result<(), Error> {
    let dir = site.dir();
    carry(&dir, staging, account)?;
    if site.request.adopt
        && let Some(bytes) = read_untrusted_for(account, &staging.join("bin"), "runsvc.sh", LIMIT)?
    {
        // The runner's own service starts that copy, until another one has replaced it.
        write(staging, "runsvc.sh", &bytes, account)?;
    }
    place::replace(staging, &dir)?;
    let work = site.request.registration.as_ref().map_or(state::WORK_DIR, |wanted| &wanted.options.work);
    for name in [state::LOG_DIR, work] {
        // A work directory elsewhere is not touched anyway.
        let plain = matches!(Path::new(name).components().collect::<Vec<_>>()[..], [Component::Normal(_)]);
        let old = staging.join(name);
        if plain && std::fs::symlink_metadata(&old).is_ok_and(|metadata| metadata.is_dir()) {
            // A rename follows no link, whatever is there by now.
            if let Err(error) = std::fs::rename(&old, dir.join(name)) {
                tracing::warn!("{name} of the incomplete runner is lost: {error}");
            }
        }
    }
    Ok(())
}

/// Copies the identity and the settings of the jobs' environment into the staged tree.
fn carry(dir: &Path, staging: &Path, account: &Account) -> Result<(), Error> {
    for name in state::IDENTITY_FILES {
        if let Some(bytes) = read_untrusted_for(account, dir, name, LIMIT)? {
            write(staging, name, &bytes, account)?;
        }
    }
    for name in STEERING {
        match read_untrusted_for(account, dir, name, LIMIT) {
            Ok(Some(bytes)) => write(staging, name, &bytes, account)?,
            Ok(None) => {}
            Err(error) => tracing::warn!("{name} is not kept: {}", crate::error::chain(&error)),
        }
    }
    Ok(())
}

/// Writes a new file in the staged tree, which the runner's user owns by now: what is there already is not opened.
fn write(staging: &Path, name: &str, bytes: &[u8], account: &Account) -> Result<(), Error> {
    let path = staging.join(name);
    let failed = |source| host::Error::Path { doing: "write", path: path.clone(), source };
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    let mut file = options.open(&path).map_err(failed)?;
    give(&file, mode(name), account).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    Ok(())
}

fn mode(name: &str) -> u32 {
    match name {
        "runsvc.sh" => 0o755,
        name if name.starts_with(".credentials") => 0o600,
        _ => 0o644,
    }
}

#[cfg(unix)]
fn give(file: &std::fs::File, mode: u32, account: &Account) -> std::io::Result<()> {
    use std::os::unix::fs::{PermissionsExt as _, fchown};
    if host::account::is_root() {
        fchown(file, Some(account.uid), Some(account.gid))?;
    }
    file.set_permissions(std::fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "there are no owners on Windows")]
fn give(_: &std::fs::File, _: u32, _: &Account) -> std::io::Result<()> {
    Ok(())
}
