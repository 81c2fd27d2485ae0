//! Keeps unattended upgrades from restarting a runner: after an upgrade of a library, needrestart restarts the services
//! that use it, and would end the job that runs.

use crate::host::file;
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::{Journal, Step};
use std::path::{Path, PathBuf};

/// Where needrestart reads settings besides its own file.
const DIR: &str = "/etc/needrestart/conf.d";

const TEXT: &str = "# Written by runup: a restart of a runner's service would end its job. A runner uses the new libraries\n\
                    # after its next start, and runup restarts it for each new version.\n\
                    $nrconf{override_rc}{qr(^runup-)} = 0;\n";

fn path(site: &Site<'_>) -> PathBuf {
    site.request.root.join(&Path::new(DIR).join("runup.conf"))
}

/// Writes the setting, where needrestart is.
///
/// # Errors
/// It cannot be written.
pub(crate) fn write(site: &Site<'_>) -> Result<(), Error> {
    let path = path(site);
    let there = std::fs::read_to_string(&path).is_ok_and(|text| text == TEXT);
    if !there && site.request.root.join(Path::new(DIR)).is_dir() {
        file::write_atomic(&path, TEXT.as_bytes(), 0o644)?;
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
    let path = path(site);
    let ours = std::fs::read_to_string(&path).is_ok_and(|text| text == TEXT);
    if ours && !others.iter().any(used) {
        file::remove_written(&path)?;
    }
    Ok(())
}
