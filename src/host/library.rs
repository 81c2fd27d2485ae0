//! What programs and dynamic libraries this machine has.

use std::path::{Path, PathBuf};

/// The file that running `name` would run, given a PATH; a name with a slash is looked at as it is. `None` if there is
/// no such file that somebody may execute.
#[must_use]
pub fn find_program(name: &str, path_list: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|file| is_program(file));
    }
    std::env::split_paths(path_list)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    let Ok(meta) = fs_err::metadata(file) else { return false };
    #[cfg(unix)]
    let executable = std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o111 != 0;
    #[cfg(not(unix))]
    let executable = true;
    meta.is_file() && executable
}
