//! What keeps needrestart from restarting a runner: after an upgrade of a library, it restarts the services that use it, and
//! would end the job that runs.

use crate::lifecycle::context::site::Site;
use std::path::{Path, PathBuf};

/// Where needrestart reads settings besides its own file.
const DIR: &str = "/etc/needrestart/conf.d";

/// The setting.
pub(crate) const TEXT: &str = "# Written by runup: a restart of a runner's service would end its job. A runner uses the new libraries\n\
                               # after its next start, and runup restarts it for each new version.\n\
                               $nrconf{override_rc}{qr(^runup-)} = 0;\n";

/// The file of the setting.
pub(crate) fn path(site: &Site<'_>) -> PathBuf {
    site.request.root.join(&Path::new(DIR).join("runup.conf"))
}

/// Whether the file has the setting.
pub(crate) fn is_written(site: &Site<'_>) -> bool {
    std::fs::read_to_string(path(site)).is_ok_and(|text| text == TEXT)
}

/// Whether needrestart is there, which may be installed after the runner, and could restart its service.
pub(crate) fn is_missing(site: &Site<'_>) -> bool {
    !is_written(site) && site.request.root.join(Path::new(DIR)).is_dir()
}
