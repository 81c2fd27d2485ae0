//! Keeps the settings of a runner whose tree its jobs could change. An operator's lines cannot be told from a job's, so
//! none is taken over unasked: they are kept where only root can read them, and a warning says how to take them over.

use crate::host::file::{read_untrusted_in, write_atomic};
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::Journal;
use crate::runner::config_sh;
use crate::runner::environment::own_lines;
use std::path::Path;

/// A real one has a few kilobytes.
const LIMIT: u64 = 256 * 1024;

/// Keeps `.env` and `.path` of the tree `old` in the state directory, and warns once.
///
/// # Errors
/// They cannot be written.
pub(crate) fn keep(site: &Site<'_>, journal: &Journal, old: &Path) -> Result<(), Error> {
    let mut names = Vec::new();
    let mut commands = Vec::new();
    for (name, extension) in [(".env", "env.kept"), (".path", "path.kept")] {
        // A link or a FIFO in its place has no lines.
        let Some(bytes) = read_untrusted_in(old, name, LIMIT).ok().flatten() else { continue };
        let text = String::from_utf8_lossy(&bytes);
        // What runup writes itself is written again.
        let lines = if name == ".env" { own_lines(&text) } else { Vec::new() };
        let keys = lines.iter().filter_map(|line| Some(line.split_once('=')?.0.to_owned()));
        let keys: Vec<String> = keys.filter(|key| key != "LANG").collect();
        let usual = site.environment.path().unwrap_or(config_sh::PATH);
        let is_usual = name == ".path" && text.trim() == usual;
        if is_usual || (name == ".env" && keys.is_empty()) {
            continue;
        }
        let kept = journal.path().with_extension(extension);
        write_atomic(&kept, &bytes, 0o600)?;
        names.push(if keys.is_empty() { name.to_owned() } else { format!("{name} ({})", keys.join(", ")) });
        let to = site.request.dir.join(name);
        commands.push(format!("`cat {} >{}`", kept.display(), to.display()));
    }
    if !names.is_empty() {
        tracing::warn!(
            "jobs could have written {}, so it is not taken over; after a look at it, {} as root does that",
            names.join(" and "),
            commands.join(" and ")
        );
    }
    Ok(())
}

/// Deletes what is kept of a runner that is removed.
///
/// # Errors
/// It stays.
pub(crate) fn forget(journal: &Journal) -> Result<(), Error> {
    for extension in ["env.kept", "path.kept"] {
        crate::host::file::remove_written(&journal.path().with_extension(extension))?;
    }
    Ok(())
}
