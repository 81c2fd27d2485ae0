//! Installs the libraries that the runner needs, after every check that can refuse the run and before its first step.
//! This is not a step: other programs may use the libraries by the time of a removal, so it cannot be undone.

use crate::host::{Os, account};
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::runner::libraries;

/// Refuses what cannot work, before anything is done: an unknown system, and a user who is not root.
///
/// # Errors
/// [`libraries::Error::NeedsRoot`], with the command for root, and those of [`libraries::check`].
pub async fn check(site: &Site<'_>) -> Result<(), Error> {
    if !asked_for(site) {
        return Ok(());
    }
    let root = &site.request.root;
    let needs = libraries::missing(root, &site.machine);
    libraries::check(root, &site.machine, &needs)?;
    if needs.is_empty() || account::is_root() {
        return Ok(());
    }
    let command = libraries::command(root, &site.machine.distribution, &needs, &site.stop).await?;
    Err(libraries::Error::NeedsRoot { missing: libraries::words(&needs), command }.into())
}

/// Installs what is missing. If nothing is, no package manager is started.
///
/// # Errors
/// Something is still missing.
pub async fn ensure(site: &Site<'_>) -> Result<(), Error> {
    if !asked_for(site) {
        return Ok(());
    }
    let phase = site.phase("libraries");
    let root = &site.request.root;
    let needs = libraries::missing(root, &site.machine);
    if needs.is_empty() {
        phase.end("all that the runner needs is there");
        return Ok(());
    }
    tracing::info!(
        "installing what the runner needs and is missing: {}",
        libraries::words(&needs).join(", ")
    );
    let environment = &site.request.environment.own;
    let packages =
        libraries::install(root, &site.machine, &needs, environment, site.deadline, &site.stop).await?;
    phase.end(format!("installed {}", packages.join(", ")));
    Ok(())
}

/// The command that would install what is missing; `None` if nothing would be started.
///
/// # Errors
/// The system is unknown or too old; root is not needed.
pub async fn command(site: &Site<'_>) -> Result<Option<String>, Error> {
    if !asked_for(site) {
        return Ok(None);
    }
    let root = &site.request.root;
    let needs = libraries::missing(root, &site.machine);
    libraries::check(root, &site.machine, &needs)?;
    if needs.is_empty() {
        return Ok(None);
    }
    Ok(Some(libraries::command(root, &site.machine.distribution, &needs, &site.stop).await?))
}

/// A runner for another system than Linux brings all that it needs.
fn asked_for(site: &Site<'_>) -> bool {
    site.request.deps && site.platform().os == Os::Linux
}
