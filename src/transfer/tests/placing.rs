//! Moving trees into their place and away.

use super::*;

struct Place {
    _folder: tempfile::TempDir,
    target: PathBuf,
    staging: PathBuf,
}

fn place_with_staging() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("runner");
    let staging = place::staging_path(&target);
    assert_eq!(staging, folder.path().join(".runner.runup-staging"));
    fs_err::create_dir_all(staging.join("bin")).unwrap();
    fs_err::write(staging.join("bin/new"), "new").unwrap();
    Place { _folder: folder, target, staging }
}

#[test]
fn nothing_is_replaced() {
    let Place { _folder, target, staging } = place_with_staging();
    // An ordinary rename would replace the empty folder.
    fs_err::create_dir(&target).unwrap();
    assert!(matches!(place::commit(&staging, &target), Err(Error::Occupied { .. })));
    fs_err::remove_dir(&target).unwrap();
    fs_err::write(&target, "").unwrap();
    assert!(matches!(place::commit(&staging, &target), Err(Error::Occupied { .. })));
    fs_err::remove_file(&target).unwrap();
    place::commit(&staging, &target).unwrap();
    assert_eq!(fs_err::read(target.join("bin/new")).unwrap(), b"new");
}

#[cfg(target_os = "linux")]
#[test]
fn an_exchange_keeps_both_trees() {
    let Place { _folder, target, staging } = place_with_staging();
    fs_err::create_dir(&target).unwrap();
    fs_err::write(target.join("old"), "").unwrap();
    place::exchange(&staging, &target).unwrap();
    assert!(target.join("bin/new").exists() && staging.join("old").exists());
}

#[test]
fn removing_is_done_when_it_is_gone() {
    let Place { _folder, target, staging } = place_with_staging();
    place::commit(&staging, &target).unwrap();
    place::remove(&target).unwrap();
    assert_eq!(fs_err::read_dir(target.parent().unwrap()).unwrap().count(), 0);
    place::remove(&target).unwrap();
    place::remove(&target.join("not/even/a/folder")).unwrap();
    assert!(matches!(place::remove(Path::new("/")), Err(Error::NoPlace { .. })));
}

#[cfg(unix)]
#[test]
fn a_link_is_unlinked_and_never_followed() {
    let Place { _folder, target, staging } = place_with_staging();
    fs_err::os::unix::fs::symlink(&staging, &target).unwrap();
    place::remove(&target).unwrap();
    assert!(staging.join("bin/new").exists());
    fs_err::create_dir(&target).unwrap();
    fs_err::os::unix::fs::symlink(&staging, target.join("link")).unwrap();
    place::remove(&target).unwrap();
    assert!(staging.join("bin/new").exists());
}

#[cfg(unix)]
#[test]
fn folders_that_a_job_has_locked_are_deleted_too() {
    use std::os::unix::fs::PermissionsExt;
    let Place { _folder, target, staging } = place_with_staging();
    place::commit(&staging, &target).unwrap();
    fs_err::set_permissions(target.join("bin"), std::fs::Permissions::from_mode(0o500)).unwrap();
    place::remove(&target).unwrap();
    assert!(!target.exists());
}

#[test]
fn only_our_own_litter_is_swept() {
    let Place { _folder, target, staging } = place_with_staging();
    let beside = |name: &str| target.with_file_name(name);
    fs_err::create_dir(beside(".runner.runup-removed-0123abcd")).unwrap();
    let theirs = [
        ".runner.runup-removed-",
        ".runner.runup-removed-0123abcde",
        ".runner.runup-removed-keep-me!",
        ".runner2.runup-staging",
        "runner.runup-staging",
    ];
    for name in theirs {
        fs_err::create_dir(beside(name)).unwrap();
    }
    fs_err::create_dir(&target).unwrap();
    place::sweep(&target).unwrap();
    assert!(target.exists() && !staging.exists() && !beside(".runner.runup-removed-0123abcd").exists());
    assert!(theirs.iter().all(|name| beside(name).exists()));
    place::sweep(&target.join("nothing/here")).unwrap();
}
