//! When the machine gets the libraries that the runner needs: once nothing else can refuse the run, and before its first
//! step. It is no step: others may use them by the time of a removal, so there is no way back to offer.

use crate::host::{Os, account};
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::runner::libraries;

/// Refuses what cannot work, before anything is done: a system that nobody knows, and a user who is not root.
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

/// Installs what is missing. Where nothing is, no package manager is started.
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
    let environment = &site.request.environment;
    let packages =
        libraries::install(root, &site.machine, &needs, environment, site.deadline, &site.stop).await?;
    phase.end(format!("installed {}", packages.join(", ")));
    Ok(())
}

/// The command that would install what is missing; `None` where nothing would be started.
///
/// # Errors
/// A system that nobody knows, or that is too old; but anybody may ask.
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
