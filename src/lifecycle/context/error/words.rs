//! What several messages and hints say in the same words.

use crate::error;
use std::path::{Path, PathBuf};

/// The command that removes the runner in `dir`: without the directory, it could mean another one on the machine.
pub(super) fn remove(dir: &Path) -> String {
    format!("runup remove --dir {}", dir.display())
}

/// How to choose one of several runners.
pub(super) fn choose(dirs: &[PathBuf], command: &str) -> String {
    let dir = dirs.first().map(|dir| dir.display().to_string()).unwrap_or_default();
    let all = if matches!(command, "remove" | "upgrade") {
        ", or the number of an instance with --instance N, or --all for every runner"
    } else {
        ""
    };
    format!("Pass the directory of the one that is meant, `runup {command} --dir {dir}`{all}.")
}

/// The first of many paths.
pub(super) fn listed(paths: &[PathBuf]) -> String {
    shortened(&paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>())
}

/// The first of many names.
pub(super) fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 8;
    error::few(names, SHOWN)
}
