//! Checks that a job cannot change what root runs at every boot.

use crate::host::{Account, Root, account};
use crate::lifecycle::context::error::{Error, TrustError};
use std::path::Path;

/// Refuses a file that the runner's user, or any user, can write or swap: every directory above it counts, and for a
/// link also those that it leads through.
///
/// # Errors
/// `TrustError::NotForRoot`.
#[cfg(unix)]
pub(crate) fn check(file: &Path, account: Option<&Account>) -> Result<(), Error> {
    use std::os::unix::fs::MetadataExt as _;
    let real = fs_err::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let gids = account.map(|user| account::groups(&Root::host(), user)).unwrap_or_default();
    for path in file.ancestors().chain(real.ancestors()) {
        let Ok(meta) = std::fs::symlink_metadata(path) else { continue };
        // The mode of a link means nothing. In a sticky directory, a file's owner decides, which is checked as well.
        let closed = meta.is_symlink() || (meta.is_dir() && meta.mode() & 0o1000 != 0);
        let by_user = account.is_some_and(|user| {
            let by_group = gids.contains(&meta.gid()) && meta.mode() & 0o020 != 0 && !closed;
            user.uid != 0 && (meta.uid() == user.uid || by_group)
        });
        let who = match account {
            Some(user) if by_user => format!("the runner's user {}", user.name),
            _ if meta.mode() & 0o002 != 0 && !closed => "any user".to_owned(),
            _ => continue,
        };
        return Err(TrustError::NotForRoot { file: file.to_owned(), path: path.to_owned(), who }.into());
    }
    Ok(())
}

/// Windows has no such service.
///
/// # Errors
/// None.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
pub(crate) fn check(_: &Path, _: Option<&Account>) -> Result<(), Error> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};

    #[test]
    fn what_the_runner_s_user_or_everybody_can_change_is_not_for_root() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("below");
        let file = below.join("runup");
        std::fs::create_dir(&below).unwrap();
        std::fs::write(&file, "").unwrap();
        let mode =
            |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        let (uid, gid) = std::fs::metadata(&file).map(|meta| (meta.uid(), meta.gid())).unwrap();
        let user = |uid, gid| Account { name: "runner".into(), uid, gid, home: "/".into() };
        let stranger = user(uid + 1, gid + 1);
        let refused = |account: Option<&Account>| match check(&file, account) {
            Err(Error::Trust(TrustError::NotForRoot { path, who, .. })) => Some((path, who)),
            other => other.map(|()| None).unwrap(),
        };
        mode(&below, 0o755);
        mode(&file, 0o775);
        assert_eq!(refused(Some(&stranger)), None);
        let through_group = user(uid + 1, gid);
        assert_eq!(refused(Some(&through_group)), Some((file.clone(), "the runner's user runner".into())));
        mode(&file, 0o755);
        assert_eq!(refused(Some(&through_group)), None);
        mode(&below, 0o757);
        assert_eq!(refused(Some(&stranger)), Some((below.clone(), "any user".into())));
        assert_eq!(refused(None), Some((below.clone(), "any user".into())));
        mode(&below, 0o755);

        // The owner can only be told from root if there are two users.
        if account::is_root() {
            std::os::unix::fs::chown(&below, Some(65534), None).unwrap();
            let nobody = user(65534, 65534);
            assert_eq!(refused(Some(&nobody)).unwrap().0, below);
            assert_eq!(refused(Some(&user(1, 1))), None);
            let link = directory.path().join("link");
            symlink(&file, &link).unwrap();
            assert!(
                matches!(check(&link, Some(&nobody)), Err(Error::Trust(TrustError::NotForRoot { path, .. })) if path == below)
            );
        }
    }
}
