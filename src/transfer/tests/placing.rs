//! Tests moving trees to their target and away.

use super::*;

struct Place {
    _dir: tempfile::TempDir,
    target: PathBuf,
    staging: PathBuf,
}

fn place_with_staging() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("runner");
    let staging = place::staging_path(&target);
    assert_eq!(staging, dir.path().join(".runner.runup-staging"));
    fs_err::create_dir_all(staging.join("bin")).unwrap();
    fs_err::write(staging.join("bin/new"), "new").unwrap();
    Place { _dir: dir, target, staging }
}

#[test]
fn nothing_is_replaced() {
    let Place { _dir, target, staging } = place_with_staging();
    // An ordinary rename replaces an empty directory.
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
    let Place { _dir, target, staging } = place_with_staging();
    fs_err::create_dir(&target).unwrap();
    fs_err::write(target.join("old"), "").unwrap();
    place::exchange(&staging, &target).unwrap();
    assert!(target.join("bin/new").exists() && staging.join("old").exists());
}

#[test]
fn removing_is_done_when_it_is_gone() {
    let Place { _dir, target, staging } = place_with_staging();
    place::commit(&staging, &target).unwrap();
    place::remove(&target).unwrap();
    assert_eq!(fs_err::read_dir(target.parent().unwrap()).unwrap().count(), 0);
    place::remove(&target).unwrap();
    place::remove(&target.join("not/even/a/directory")).unwrap();
    assert!(matches!(place::remove(Path::new("/")), Err(Error::NoPlace { .. })));
}

#[cfg(unix)]
#[test]
fn a_link_is_unlinked_and_never_followed() {
    let Place { _dir, target, staging } = place_with_staging();
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
fn directories_that_a_job_has_locked_are_deleted_too() {
    use std::os::unix::fs::PermissionsExt;
    let Place { _dir, target, staging } = place_with_staging();
    place::commit(&staging, &target).unwrap();
    fs_err::set_permissions(target.join("bin"), std::fs::Permissions::from_mode(0o500)).unwrap();
    place::remove(&target).unwrap();
    assert!(!target.exists());
}

/// What protects a directory is taken away in the tree only, where a job may have put a link to any directory.
#[cfg(target_os = "linux")]
#[test]
fn what_is_immutable_is_deleted_and_nothing_behind_a_link_is_changed() {
    use std::os::unix::fs::PermissionsExt;
    let Place { _dir, target, staging } = place_with_staging();
    place::commit(&staging, &target).unwrap();
    let (bin, outside) = (target.join("bin"), target.with_file_name("outside"));
    fs_err::create_dir(&outside).unwrap();
    for dir in [&bin, &outside] {
        fs_err::write(dir.join("file"), "x").unwrap();
    }
    fs_err::os::unix::fs::symlink(&outside, bin.join("link")).unwrap();
    for dir in [&bin, &outside] {
        fs_err::set_permissions(dir, std::fs::Permissions::from_mode(0o555)).unwrap();
    }
    let chattr = |path: &Path| {
        let run = std::process::Command::new("chattr").arg("+i").arg(path).output();
        run.is_ok_and(|ran| ran.status.success())
    };
    // Only root may, and not on every filesystem.
    let frozen = [bin.join("file"), bin.clone(), target.clone()].iter().filter(|path| chattr(path)).count();
    assert!(frozen == 0 || frozen == 3);
    place::remove(&target).unwrap();
    assert!(!target.exists() && outside.join("file").exists());
    assert_eq!(fs_err::metadata(&outside).unwrap().permissions().mode() & 0o7777, 0o555);
    fs_err::set_permissions(&outside, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A kill between the two halves of a removal left `..runner.runup-staging.runup-removed-X` for ever: with the credentials
/// of a runner that was repaired.
#[test]
fn whatever_was_about_to_be_deleted_when_it_was_killed_is_swept() {
    let Place { _dir, target, staging } = place_with_staging();
    fs_err::create_dir(&target).unwrap();
    let aside = place::move_aside(&staging).unwrap().unwrap();
    let again = place::move_aside(&aside).unwrap().unwrap();
    assert_eq!(place::litter(&target).unwrap(), [again]);
    let of_an_older_version = target.with_file_name("..runner.runup-staging.runup-removed-0123abcd");
    fs_err::create_dir(&of_an_older_version).unwrap();
    place::sweep(&target).unwrap();
    assert_eq!(place::litter_of_any(&target).unwrap(), [] as [PathBuf; 0]);
    // The same in a directory that cannot be renamed.
    fs_err::create_dir(place::staging_inside(&target)).unwrap();
    place::move_aside(&place::staging_inside(&target)).unwrap().unwrap();
    place::sweep_inside(&target).unwrap();
    assert_eq!(fs_err::read_dir(&target).unwrap().count(), 0);
    // One step deletes a file, which is never moved.
    fs_err::write(target.join(".env"), "").unwrap();
    place::remove(&target.join(".env")).unwrap();
    assert_eq!(fs_err::read_dir(&target).unwrap().count(), 0);
}

#[test]
fn only_our_own_litter_is_swept() {
    let Place { _dir, target, staging } = place_with_staging();
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

#[test]
fn a_tree_takes_the_place_of_another_and_nothing_of_it_is_lost_before() {
    let Place { _dir, target, staging } = place_with_staging();
    fs_err::create_dir(&target).unwrap();
    fs_err::write(target.join("old"), "").unwrap();
    place::replace(&staging, &target).unwrap();
    assert!(target.join("bin/new").exists() && !target.join("old").exists());
    assert!(place::litter(&target).unwrap().iter().all(|path| *path == staging));
    place::sweep(&target).unwrap();
    assert_eq!(fs_err::read_dir(target.parent().unwrap()).unwrap().count(), 1);
    // Without a new tree the old one stays.
    place::replace(&staging, &target).unwrap_err();
    assert!(target.join("bin/new").exists());
}

/// In a container, a directory of an image layer can be deleted, but not moved or exchanged.
#[cfg(target_os = "linux")]
#[test]
fn a_tree_of_an_image_s_layer_is_replaced_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["lower/opt/runner/bin", "upper", "work", "merged"] {
        fs_err::create_dir_all(at(name)).unwrap();
    }
    fs_err::write(at("lower/opt/runner/bin/old"), "").unwrap();
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| at(name).display().to_string());
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work},redirect_dir=off");
    let merged = at("merged");
    let run = |command: &str, arguments: &[&str]| {
        let mut command = std::process::Command::new(command);
        command.args(arguments).arg(&merged).output().is_ok_and(|ran| ran.status.success())
    };
    if !run("mount", &["-t", "overlay", "overlay", "-o", &options]) {
        println!("skipped: may not mount");
        return;
    }
    let target = merged.join("opt/runner");
    let staging = place::staging_path(&target);
    let outcome = std::panic::catch_unwind(|| {
        assert!(fs_err::rename(&target, merged.join("opt/other")).is_err(), "it could be moved after all");
        fs_err::create_dir_all(staging.join("bin")).unwrap();
        fs_err::write(staging.join("bin/new"), "new").unwrap();
        place::replace(&staging, &target).unwrap();
        assert!(target.join("bin/new").exists() && !target.join("bin/old").exists());
        place::remove(&target).unwrap();
        assert!(!target.exists());
    });
    assert!(run("umount", &[]));
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}
