//! Gives a group the rights of the owner: what a container that runs as any user of group 0 needs of its image.

use super::Error;
use std::path::Path;

/// Gives the group of everything below `path`, and of `path` itself, the rights that its owner has. Links are not
/// followed. For trees in which no job has run.
#[cfg(unix)]
pub fn with_group(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt as _;
    let meta = fs_err::symlink_metadata(path)?;
    if meta.is_symlink() {
        return Ok(());
    }
    let mode = meta.permissions().mode() & 0o7777;
    let shared = mode | (mode & 0o700) >> 3;
    if mode != shared {
        fs_err::set_permissions(path, std::fs::Permissions::from_mode(shared))?;
    }
    if meta.is_dir() {
        for entry in fs_err::read_dir(path)? {
            with_group(&entry?.path())?;
        }
    }
    Ok(())
}

/// Windows has no such groups.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
pub fn with_group(_: &Path) -> Result<(), Error> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn the_group_may_what_the_owner_may_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mode = |name: &str| std::fs::metadata(at(name)).unwrap().permissions().mode() & 0o777;
        std::fs::create_dir(at("tree")).unwrap();
        for (name, bits) in
            [("tree/program", 0o755), ("tree/secret", 0o600), ("tree/fixed", 0o444), ("other", 0o600)]
        {
            std::fs::write(at(name), "").unwrap();
            std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(bits)).unwrap();
        }
        symlink(at("other"), at("tree/link")).unwrap();
        with_group(&at("tree")).unwrap();
        assert_eq!(
            ["tree/program", "tree/secret", "tree/fixed", "other"].map(mode),
            [0o775, 0o660, 0o444, 0o600]
        );
        assert_eq!(mode("tree") & 0o070, 0o070);
    }
}
