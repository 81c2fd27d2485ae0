//! What several messages and hints say in the same words.

use std::path::Path;

/// The command that removes the runner in `dir`: without the directory, it could mean another one on the machine.
pub(super) fn remove(dir: &Path) -> String {
    format!("runup remove --dir {}", dir.display())
}

/// The first of many names.
pub(super) fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
