//! Writes and deletes the setting that keeps needrestart from restarting a runner.

use crate::host::file;
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::{Journal, Step};
use crate::lifecycle::state::needrestart;

/// Writes the setting, where needrestart is.
///
/// # Errors
/// It cannot be written.
pub(crate) fn write(site: &Site<'_>) -> Result<(), Error> {
    if needrestart::is_missing(site) {
        file::write_atomic(&needrestart::path(site), needrestart::TEXT.as_bytes(), 0o644)?;
    }
    Ok(())
}

/// Deletes it, unless another runner has a service.
///
/// # Errors
/// It cannot be deleted.
pub(crate) fn delete_with_the_last(site: &Site<'_>, journal: &Journal) -> Result<(), Error> {
    let others = Journal::all(&site.state)?;
    let used = |other: &Journal| other.path() != journal.path() && other.entry(Step::WriteService).is_some();
    if needrestart::is_written(site) && !others.iter().any(used) {
        file::remove_written(&needrestart::path(site))?;
    }
    Ok(())
}
