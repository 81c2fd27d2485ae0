//! Keeps jobs from the cloud's metadata: with it, a process can act as the machine, whose identity may fetch the very
//! token that runup works with.

use crate::error::chain;
use crate::host::account::{self, Account};
use crate::host::metadata_rule;
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;

/// Whether this run keeps jobs from it at all: as root, on the machine itself. A job of an ordinary user's runner has
/// runup's own rights.
fn is_ours_to_deny(site: &Site<'_>) -> bool {
    site.request.root.is_host() && account::is_root()
}

/// Refuses early where [`deny`] would fail later, after the runner is registered.
///
/// # Errors
/// The rules cannot be set here.
pub(crate) fn check(site: &Site<'_>) -> Result<(), Error> {
    let jobs_are_root = site.user.as_deref().is_none_or(|user| user == "root");
    if site.request.allow_metadata || jobs_are_root || !is_ours_to_deny(site) {
        return Ok(());
    }
    Ok(metadata_rule::check()?)
}

/// Before each start of a runner: denies its user the metadata, or allows it again if that is requested.
///
/// # Errors
/// It cannot be denied, so no job may run.
pub(crate) fn deny(site: &Site<'_>, account: &Account) -> Result<(), Error> {
    if account.uid == 0 || !is_ours_to_deny(site) {
        return Ok(());
    }
    if site.request.allow_metadata {
        allow(site, account);
        return Ok(());
    }
    metadata_rule::deny(account.uid)?;
    tracing::debug!("the user {} is denied the cloud's metadata", account.name);
    Ok(())
}

/// Before the user is deleted, because another one may get its id. A rule that cannot be removed denies too much, not
/// too little, and is gone after a reboot.
pub(crate) fn allow(site: &Site<'_>, account: &Account) {
    if account.uid == 0 || !is_ours_to_deny(site) {
        return;
    }
    if let Err(error) = metadata_rule::allow(account.uid) {
        tracing::debug!("{}", chain(&error));
    }
}
