//! Keeps the settings of a runner whose tree its jobs could change. An operator's lines cannot be told from a job's, so
//! none is taken over unasked: they are kept where only root can read them, and a warning says how to take them over.
//!
//! And the log of a `config.sh` that failed, which undoing deletes with the tree.

use crate::host::file::{read_untrusted_in, remove_written, write_atomic};
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::environment::recorded;
use crate::lifecycle::state::journal::Journal;
use crate::runner::config_sh;
use crate::runner::environment::own_lines;
use crate::runner::state::LOG_DIR;
use std::path::{Path, PathBuf};

/// A real one has a few kilobytes.
const LIMIT: u64 = 256 * 1024;

/// That of a `config.sh` that failed has less than a megabyte.
const LOG_LIMIT: u64 = 8 * 1024 * 1024;

/// Keeps `.env` and `.path` of the tree `old` in the state directory, and warns once.
///
/// # Errors
/// They cannot be written.
pub(crate) fn keep(site: &Site<'_>, journal: &Journal, old: &Path) -> Result<(), Error> {
    let recorded = recorded(site)?;
    let mut names = Vec::new();
    let mut commands = Vec::new();
    for (name, extension) in [(".env", "env.kept"), (".path", "path.kept")] {
        // A link or a FIFO in its place has no lines.
        let Some(bytes) = read_untrusted_in(old, name, LIMIT).ok().flatten() else { continue };
        let text = String::from_utf8_lossy(&bytes);
        // What runup writes itself is written again.
        let lines = if name == ".env" { own_lines(&text, &recorded) } else { Vec::new() };
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

/// Keeps the newest log of `config.sh` beside the journal; returns its path, or `None` if there is no log or it cannot
/// be kept: the failure that it is about is what counts.
pub(crate) fn keep_log(site: &Site<'_>, journal: &Journal) -> Option<PathBuf> {
    let logs = site.dir().join(LOG_DIR);
    let names =
        std::fs::read_dir(&logs).ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    // The names have the time, so that they sort by it.
    let newest = names.filter(|name| name.starts_with("Runner_")).max()?;
    let bytes = read_untrusted_in(&logs, &newest, LOG_LIMIT).ok()??;
    let kept = journal.path().with_extension("log");
    write_atomic(&kept, &bytes, 0o600).ok()?;
    Some(kept)
}

/// Deletes the log that an earlier failure left.
///
/// # Errors
/// It stays.
pub(crate) fn forget_log(journal: &Journal) -> Result<(), Error> {
    remove_written(&journal.path().with_extension("log"))?;
    Ok(())
}

/// Deletes what is kept of a runner that is removed.
///
/// # Errors
/// It stays.
pub(crate) fn forget(journal: &Journal) -> Result<(), Error> {
    for extension in ["env.kept", "path.kept", "log"] {
        remove_written(&journal.path().with_extension(extension))?;
    }
    Ok(())
}
