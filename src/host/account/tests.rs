//! Tests of [`super`], with real users where we are root.

use super::*;
use crate::deadline::Deadline;
use crate::host::Command;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

#[test]
fn names_that_some_tool_would_refuse_are_refused() {
    for good in ["runner", "_runner", "a", "github-runner_2", &"a".repeat(32)] {
        check_name(good).unwrap();
    }
    for bad in ["", "-x", "1a", "Runner", "a b", "a:b", "a/b", "é", "root$", &"a".repeat(33)] {
        assert!(matches!(check_name(bad), Err(Error::BadUserName { .. })), "{bad}");
    }
}

#[test]
fn the_current_user_is_the_effective_one_and_is_found_by_name() {
    let us = current();
    assert_eq!(us.uid, rustix::process::geteuid().as_raw());
    assert_eq!(is_root(), us.uid == 0);
    if let Some(found) = find(&Root::host(), &us.name).unwrap() {
        assert_eq!(found, us);
    }
    assert_eq!(find(&Root::host(), "no-such-user-here").unwrap(), None);
}

#[test]
fn inside_a_root_its_own_files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let root = Root::at(folder.path().into());
    assert_eq!(find(&root, "ci").unwrap(), None);
    std::fs::create_dir(folder.path().join("etc")).unwrap();
    std::fs::write(
        folder.path().join("etc/passwd"),
        "# a comment\nroot:x:0:0:root:/root:/bin/sh\nci:x:990:991::/home/ci:/sbin/nologin\n+::::::\n",
    )
    .unwrap();
    std::fs::write(folder.path().join("etc/group"), "ci:x:991:\ndocker:x:7:a,ci\nkvm:x:8:\n").unwrap();
    let ci = find(&root, "ci").unwrap().unwrap();
    assert_eq!(ci, Account { name: "ci".into(), uid: 990, gid: 991, home: "/home/ci".into() });
    assert_eq!(groups(&root, &ci), [7, 991]);
    assert!(in_group(&root, &ci, "docker") && in_group(&root, &ci, "ci"));
    assert!(!in_group(&root, &ci, "kvm") && !in_group(&root, &ci, "missing"));
}

#[test]
fn only_the_first_class_that_fits_counts() {
    assert!(may_list(0o755, 0, 0, 7, &[7]));
    assert!(!may_list(0o711, 0, 0, 7, &[7]));
    assert!(!may_list(0o750, 0, 0, 7, &[7]));
    assert!(may_list(0o750, 0, 9, 7, &[7, 9]));
    assert!(may_list(0o700, 7, 9, 7, &[9]));
    assert!(!may_list(0o077, 7, 9, 7, &[9]));
    assert!(!may_list(0o705, 0, 9, 7, &[9]));
}

#[test]
fn the_outermost_closed_folder_is_named_and_missing_ones_are_no_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let closed = folder.path().join("closed");
    std::fs::create_dir_all(closed.join("deep")).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o711)).unwrap();
    let meta = std::fs::metadata(&closed).unwrap();
    let other = Account {
        name: "nobody-at-all".into(),
        uid: meta.uid() + 54_321,
        gid: meta.gid() + 54_321,
        home: "/".into(),
    };
    assert_eq!(first_unreadable_ancestor(&closed.join("deep/missing"), &other), Some(closed.clone()));
    assert_eq!(first_unreadable_ancestor(&folder.path().join("missing/more"), &other), None);
    let root = Account { uid: 0, ..other };
    assert_eq!(first_unreadable_ancestor(&closed, &root), None);
}

#[tokio::test]
async fn a_user_is_made_used_and_deleted_with_its_processes_and_files() {
    let stop = CancellationToken::new();
    let name = format!("runup-test-{}", std::process::id());
    let host = Root::host();
    assert_eq!(delete(&host, &name, &stop).await.unwrap(), Deleted::AlreadyGone);
    if !is_root() {
        assert!(matches!(create(&host, &name, &stop).await, Err(Error::NeedsRoot { .. })));
        println!("skipped: making a user needs root");
        return;
    }
    let account = create(&host, &name, &stop).await.unwrap();
    assert_eq!(account.home, Path::new("/home").join(&name));
    assert!(matches!(create(&host, &name, &stop).await, Err(Error::UserExists { .. })));

    let mut seen = Vec::new();
    let outcome = Command::new("/bin/sh")
        .arg("-c")
        .arg("id -u; id -G; touch ~/mine")
        .env("HOME", &account.home)
        .env("PATH", "/usr/bin:/bin")
        .account(&account)
        .run(&stop, &mut |_, line| seen.push(line.to_owned()))
        .await
        .unwrap();
    assert_eq!(outcome.code, Some(0), "{}", outcome.tail);
    // Its own group and none of root's supplementary ones.
    assert_eq!(seen, [account.uid.to_string(), account.gid.to_string()]);
    assert_eq!(std::fs::metadata(account.home.join("mine")).unwrap().uid(), account.uid);

    let mut lingering = std::process::Command::new("/bin/sleep");
    std::os::unix::process::CommandExt::uid(&mut lingering, account.uid);
    let mut lingering = lingering.arg("600").spawn().unwrap();
    let reaper = std::thread::spawn(move || lingering.wait().unwrap());
    assert_eq!(delete(&host, &name, &stop).await.unwrap(), Deleted::Now);
    assert!(!reaper.join().unwrap().success());
    assert_eq!(find(&host, &name).unwrap(), None);
    assert!(!account.home.exists());
    assert!(!group_file(&host).iter().any(|group| group.name == name), "its group is left");
    assert_eq!(delete(&host, &name, &stop).await.unwrap(), Deleted::AlreadyGone);
}

#[tokio::test]
async fn a_home_folder_that_is_there_is_never_taken_over() {
    if !is_root() {
        println!("skipped: making a user needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = Root::at(folder.path().into());
    std::fs::create_dir_all(folder.path().join("home/ci")).unwrap();
    let result = create(&root, "ci", &CancellationToken::new()).await;
    assert!(matches!(result, Err(Error::HomeTaken { .. })), "{result:?}");
}

#[tokio::test]
async fn a_user_is_made_and_deleted_inside_a_root_and_not_on_the_host() {
    if !is_root() {
        println!("skipped: making a user needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = Root::at(folder.path().into());
    let etc = folder.path().join("etc");
    std::fs::create_dir(&etc).unwrap();
    for (name, text) in [
        ("passwd", "root:x:0:0::/root:/bin/sh\n"),
        ("group", "root:x:0:\n"),
        ("shadow", "root:*:1::::::\n"),
        ("gshadow", "root:*::\n"),
    ] {
        std::fs::write(etc.join(name), text).unwrap();
    }
    let name = format!("runup-test-r{}", std::process::id());
    let stop = CancellationToken::new();
    let account = create(&root, &name, &stop).await.unwrap();
    let home = root.join(&account.home);
    assert_eq!(std::fs::metadata(&home).unwrap().uid(), account.uid);
    assert_eq!(find(&Root::host(), &name).unwrap(), None);
    assert_eq!(delete(&root, &name, &stop).await.unwrap(), Deleted::Now);
    assert!(!home.exists());
}
