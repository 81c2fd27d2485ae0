//! The target that the units of all instances belong to: `systemctl stop runup.target` stops them all.

use crate::host::{file, systemd};
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::Journal;
use crate::lifecycle::state::service::{read_unit, unit_path};
use crate::runner::unit::{TARGET, TARGET_TEXT};

/// Writes the target, for a unit that belongs to it. An operator's own one stays as it is.
///
/// # Errors
/// It cannot be written.
pub(crate) async fn write(site: &Site<'_>) -> Result<(), Error> {
    let wanted = site.request.service.as_ref().is_some_and(|service| service.in_target);
    if wanted && read_unit(site, TARGET)?.is_none() {
        let path = unit_path(site, TARGET);
        file::write_atomic(&path, TARGET_TEXT.as_bytes(), 0o644)?;
        systemd::relabel(&path, &site.stop).await;
    }
    Ok(())
}

/// Starts the target, so that what stops it later stops the runners, and enables it.
///
/// # Errors
/// systemd refuses.
pub(crate) async fn start(site: &Site<'_>) -> Result<(), Error> {
    if read_unit(site, TARGET)?.is_some_and(|text| text == TARGET_TEXT) {
        systemd::enable(TARGET, &site.stop).await?;
        // Each unit was started on its own, unless it is to stay as it is: one that is upgraded, or is too many.
        systemd::start_alone(TARGET, &site.stop).await?;
    }
    Ok(())
}

/// Deletes the target, unless another instance belongs to it.
///
/// # Errors
/// It cannot be deleted.
pub(crate) async fn delete_with_the_last(site: &Site<'_>, journal: &Journal) -> Result<(), Error> {
    if read_unit(site, TARGET)?.is_none_or(|text| text != TARGET_TEXT) {
        return Ok(());
    }
    let others = Journal::all(&site.state)?;
    let belongs = |other: &Journal| {
        other.path() != journal.path()
            && other.instance().is_some_and(|it| it.number > 1)
            && other.unit().is_some()
    };
    if others.iter().any(belongs) {
        return Ok(());
    }
    if systemd::is_running() && site.request.root.is_host() {
        systemd::disable(TARGET, &site.stop).await?;
    }
    file::remove_written(&unit_path(site, TARGET))?;
    // The link of a unit that stays.
    let links = unit_path(site, &format!("{TARGET}.wants"));
    match std::fs::remove_dir_all(&links) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(crate::host::Error::from(error).into());
        }
        _ => {}
    }
    if systemd::is_running() && site.request.root.is_host() {
        systemd::reload(&site.stop).await?;
    }
    Ok(())
}
