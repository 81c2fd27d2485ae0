//! Puts a complete tree in the place of an incomplete one whose runner is registered: an update of the runner by itself
//! that was cut off leaves one, when its old folders are away and the new ones not there yet.
//!
//! The old tree belongs to jobs, so nothing of it is completed or trusted: a verified tree is staged beside it, the few
//! files that make the runner this runner are copied without following a link, and the two change places in one step.
//! What the files say was the runner's user's to read and write before, and is so afterwards: nobody gains by it. The runner
//! stays registered as it is, which a removal and a new registration could not promise.

use crate::host;
use crate::host::account::Account;
use crate::host::file::read_untrusted_for;
use crate::host::process::Which;
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::runner::{listener, state, tree};
use crate::transfer::place;
use std::io::Write as _;
use std::path::{Component, Path};

/// What steers the runner besides its identity.
const STEERING: [&str; 3] = [".env", ".path", ".setup_info"];

/// Real ones have less than some kilobytes.
const LIMIT: u64 = 256 * 1024;

/// Refuses to exchange a tree under a listener that `run` has started, which may be in the middle of its update.
///
/// # Errors
/// [`Error::TreeIncomplete`].
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
    Err(Error::TreeIncomplete { dir: site.request.dir.clone(), missing })
}

/// Exchanges the tree for the staged one, which the old one is then. Its logs and the jobs' work folder go along.
///
/// # Errors
/// The old tree stands as before.
pub(crate) fn put(site: &Site<'_>, staging: &Path, account: &Account) -> Result<(), Error> {
    let dir = site.dir();
    carry(&dir, staging, account)?;
    place::replace(staging, &dir)?;
    let work = site.request.registration.as_ref().map_or(state::WORK_DIR, |wanted| &wanted.options.work);
    for name in [state::LOG_DIR, work] {
        // One that lies elsewhere is not touched anyway.
        let plain = matches!(Path::new(name).components().collect::<Vec<_>>()[..], [Component::Normal(_)]);
        let old = staging.join(name);
        if plain && std::fs::symlink_metadata(&old).is_ok_and(|metadata| metadata.is_dir()) {
            // A rename follows nothing, whatever stands there by now.
            if let Err(error) = std::fs::rename(&old, dir.join(name)) {
                tracing::warn!("{name} of the incomplete runner is lost: {error}");
            }
        }
    }
    Ok(())
}

/// Copies the identity into the staged tree, and what the jobs' environment is made of.
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

/// Writes a new file in the staged tree, which is the runner's user's by now: what stands there already is not opened.
fn write(staging: &Path, name: &str, bytes: &[u8], account: &Account) -> Result<(), Error> {
    let path = staging.join(name);
    let failed = |source| host::Error::Path { doing: "write", path: path.clone(), source };
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    let mut file = options.open(&path).map_err(failed)?;
    give(&file, if name.starts_with(".credentials") { 0o600 } else { 0o644 }, account).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    Ok(())
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
