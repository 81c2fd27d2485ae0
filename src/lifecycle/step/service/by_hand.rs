//! The service that an operator has set up with GitHub's `svc.sh`: it is stopped, and runs again or is deleted.

use crate::host::{account, file, systemd};
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::by_hand;
use crate::lifecycle::state::journal::{Act, Entry, Journal, Step};
use crate::lifecycle::step::recorded;
use crate::lifecycle::step::service::stop;
use crate::runner::state;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The unit's own setting leaves the processes of jobs alive; they could read a token, or write to what replaces them.
const DROP_IN: &str =
    "# Written by runup until this runner is taken over or removed.\n[Service]\nKillMode=mixed\n";

/// Whether this run can ask systemd about the machine that it works on.
fn manages(site: &Site<'_>) -> bool {
    systemd::is_running() && site.request.root.is_host()
}

fn drop_in(unit: &str) -> PathBuf {
    Path::new("/run/systemd/system").join(format!("{unit}.d/runup.conf"))
}

/// Makes the end of the service the end of all its processes.
///
/// # Errors
/// systemd refuses.
pub(crate) async fn end_all_of_it(site: &Site<'_>, unit: &str) -> Result<(), Error> {
    if manages(site) {
        let path = drop_in(unit);
        file::create_dir_all(path.parent().unwrap_or(&path), 0o755)?;
        file::write_atomic(&path, DROP_IN.as_bytes(), 0o644)?;
        systemd::reload(&site.stop).await?;
    }
    Ok(())
}

/// Takes that back.
async fn as_before(site: &Site<'_>, unit: &str) -> Result<(), Error> {
    let path = drop_in(unit);
    if manages(site) && file::remove_if_present(&path)? {
        // Another drop-in of an operator keeps the directory.
        let _ = std::fs::remove_dir(path.parent().unwrap_or(&path));
        systemd::reload(&site.stop).await?;
    }
    Ok(())
}

/// Starts it again, if it ran: what was begun has failed.
///
/// # Errors
/// systemd refuses.
pub(crate) async fn resume(site: &Site<'_>, unit: &str, ran: bool) -> Result<(), Error> {
    as_before(site, unit).await?;
    if ran && manages(site) && !systemd::show(unit, &site.stop).await?.is_up() {
        systemd::start(unit, &site.stop).await?;
        tracing::info!("{unit} is started again, as it was");
    }
    Ok(())
}

/// Stops one that is beside runup's own, before `remove` ends the processes of the runner's user.
///
/// # Errors
/// It does not stop.
pub(crate) async fn stop_beside(site: &Site<'_>, journal: &Journal, drain: Duration) -> Result<(), Error> {
    // Whoever is not root, and has such a service, is refused later.
    if !journal.entries().is_empty()
        && account::is_root()
        && let Some(service) = by_hand::find(site, journal)?
        && by_hand::runs(site, &service.unit).await?
    {
        stop(site, &service.unit, drain).await?;
    }
    Ok(())
}

/// Undoes the step `Adopt`: stops the service, if it still runs, and deletes its unit.
///
/// # Errors
/// Something of it stays.
pub(crate) async fn undo(site: &Site<'_>, journal: &mut Journal, drain: Duration) -> Result<(), Error> {
    let Some(Entry { act: Act::Adopt { unit, .. }, .. }) = journal.entry(Step::Adopt).cloned() else {
        return Ok(());
    };
    recorded::undo(journal, Step::Adopt, async |_| {
        let (Some(unit), Some(folder)) = (&unit, by_hand::folder(site)) else { return Ok(()) };
        let file = folder.join(unit);
        // Its file goes last: without it, an earlier run has stopped and disabled it.
        if manages(site) && std::fs::symlink_metadata(&file).is_ok() {
            end_all_of_it(site, unit).await?;
            stop(site, unit, drain).await?;
            systemd::disable(unit, &site.stop).await?;
        }
        // In an image, nothing but this disables it.
        file::remove_if_present(&folder.join("multi-user.target.wants").join(unit))?;
        file::remove_if_present(&file)?;
        let dropins = folder.join(format!("{unit}.d"));
        if dropins.is_dir() {
            tracing::info!("{} stays: runup did not write what is in it", dropins.display());
        }
        as_before(site, unit).await?;
        if manages(site) {
            systemd::reload(&site.stop).await?;
            systemd::reset_failed(unit, &site.stop).await;
        }
        // In an adopted runner, it names the new unit by now.
        if state::service(&site.dir())?.is_some_and(|named| named == *unit) {
            state::clean_service(&site.dir())?;
        }
        Ok(())
    })
    .await
}
