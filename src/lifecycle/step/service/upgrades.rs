//! The units that upgrade a runner: a timer, and the service that it starts, beside the runner's own service.

use crate::host::{file, systemd};
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::service::{SeenService, read_unit, unit_path};
use crate::runner::unit;
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// How long an upgrade that is told to stop may take to put back what it has begun.
const PUTTING_BACK: Duration = Duration::from_secs(660);

/// The names of the service and of the timer.
pub(crate) fn names(unit: &str) -> [String; 2] {
    let name = unit::upgrade_name(unit);
    [format!("{name}.service"), format!("{name}.timer")]
}

/// Writes the two units' files, or deletes them if runup does not upgrade the runner.
///
/// # Errors
/// A file cannot be written or deleted.
pub(crate) async fn write(site: &Site<'_>, service: &SeenService) -> Result<(), Error> {
    if service.upgrades.iter().any(|extra| extra.wanted.is_none()) {
        if service.upgrades.iter().any(|extra| extra.found.is_some()) {
            disable(site, &service.unit).await?;
        }
        return delete(site, &service.unit);
    }
    for extra in &service.upgrades {
        let path = unit_path(site, &extra.unit);
        file::write_atomic(&path, extra.wanted.as_deref().unwrap_or_default().as_bytes(), 0o644)?;
        systemd::relabel(&path, &site.stop).await;
    }
    Ok(())
}

/// Enables and starts the timer that was written.
///
/// # Errors
/// systemd refuses.
pub(crate) async fn enable(site: &Site<'_>, service: &SeenService) -> Result<(), Error> {
    let [_, timer] = &service.upgrades;
    if timer.wanted.is_some() {
        systemd::enable_and_restart(&timer.unit, &site.stop).await?;
    }
    Ok(())
}

/// Ends a running upgrade, which puts back what it has begun.
///
/// # Errors
/// It does not end.
pub(crate) async fn stop(site: &Site<'_>, unit: &str) -> Result<(), Error> {
    let [service, _] = names(unit);
    // The same program runs by hand and in a unit: one that runs in the upgrade's unit must not stop itself.
    if !systemd::are_in(&service) && systemd::show(&service, &site.stop).await?.runs() {
        systemd::stop_unit(&service, PUTTING_BACK, &site.stop).await?;
    }
    Ok(())
}

/// Disables the timer, and ends a running upgrade. Units of these names that are not ours stay as they are.
///
/// # Errors
/// systemd refuses.
pub(crate) async fn disable(site: &Site<'_>, unit: &str) -> Result<(), Error> {
    let [service, timer] = names(unit);
    let ours = |name: &str| {
        Ok::<_, Error>(read_unit(site, name)?.is_some_and(|text| unit::is_ours(&text, &site.request.dir)))
    };
    if ours(&timer)? && systemd::show(&timer, &site.stop).await?.exists() {
        systemd::stop_unit(&timer, PUTTING_BACK, &site.stop).await?;
        systemd::disable(&timer, &site.stop).await?;
    }
    if ours(&service)? {
        stop(site, unit).await?;
    }
    Ok(())
}

/// Deletes the two units' files, if they are ours.
///
/// # Errors
/// A file stays.
pub(crate) fn delete(site: &Site<'_>, unit: &str) -> Result<(), Error> {
    for name in names(unit) {
        if read_unit(site, &name)?.is_some_and(|text| unit::is_ours(&text, &site.request.dir)) {
            file::remove_written(&unit_path(site, &name))?;
        }
    }
    Ok(())
}

/// What changed in the units since they were written; `written` are their digests.
///
/// # Errors
/// systemd does not answer.
pub(crate) async fn drift(
    site: &Site<'_>,
    unit: &str,
    written: Option<&[String; 2]>,
) -> Result<Vec<String>, Error> {
    let Some(written) = written else { return Ok(Vec::new()) };
    let names = names(unit);
    let mut drift = Vec::new();
    for (name, sha256) in names.iter().zip(written) {
        match read_unit(site, name)? {
            Some(text) if hex::encode(Sha256::digest(text.as_bytes())) == *sha256 => {}
            Some(_) => drift.push(format!("{name} was changed; a change belongs into a drop-in")),
            None => drift.push(format!("{name} is missing; `runup install` writes it again")),
        }
    }
    let [_, timer] = &names;
    let state = systemd::show(timer, &site.stop).await?;
    if state.exists() && (!state.is_enabled() || !state.is_up()) {
        drift.push(format!(
            "{timer} does not run, so the runner is not upgraded: `systemctl enable --now {timer}`"
        ));
    }
    Ok(drift)
}
