//! Who has a claim on a user: runners that share one, and what interrupted runs and lost journals leave of it.

use crate::rig::{Rig, finish, names_in, signal, until};
use runup::host::account::MARKER;
use runup::lifecycle::checkpoint::Checkpoint;
use runup::sandbox::{Fault, FaultKind, RunnerChange};
use rustix::process::Signal;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const A: [&str; 4] = ["--dir", "/opt/a", "--name", "a"];
const B: [&str; 4] = ["--dir", "/opt/b", "--name", "b"];

/// A machine on which users are created; `None` if that is not possible here.
fn rig() -> Option<Rig> {
    let rig = Rig::new().making_a_user();
    rig.write("etc/shadow", "root:*:1::::::\n");
    rig.write("etc/gshadow", "root:*::\n");
    if !rig.makes_a_user() {
        return None;
    }
    Some(rig)
}

fn with<'a>(command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&[command], more].concat()
}

fn remove<'a>(runner: &[&'a str]) -> Vec<&'a str> {
    with("remove", &runner[..2])
}

fn read(rig: &Rig, file: &str) -> String {
    std::fs::read_to_string(rig.root().join("etc").join(file)).unwrap()
}

fn edit(rig: &Rig, file: &str, change: impl Fn(&str) -> Option<String>) {
    let text: String = read(rig, file).lines().filter_map(change).map(|line| line + "\n").collect();
    std::fs::write(rig.root().join("etc").join(file), text).unwrap();
}

/// The uid of the user; `None` if it does not exist.
fn uid(rig: &Rig) -> Option<u32> {
    let text = read(rig, "passwd");
    let line = text.lines().find(|line| line.starts_with("fresh:"))?;
    line.split(':').nth(2)?.parse().ok()
}

fn home(rig: &Rig) -> PathBuf {
    rig.root().join("home/fresh")
}

#[track_caller]
fn assert_home_is_right(rig: &Rig) {
    let meta = std::fs::symlink_metadata(home(rig)).unwrap();
    assert_eq!((Some(meta.uid()), meta.mode() & 0o7777), (uid(rig), 0o700));
}

#[track_caller]
fn assert_no_user(rig: &Rig) {
    for file in ["passwd", "shadow", "group", "gshadow"] {
        assert!(!read(rig, file).contains("fresh"), "{file}: {}", read(rig, file));
    }
    assert!(!home(rig).exists());
}

/// The journal of the runner in `/opt/NAME` and what is beside it are gone, and with `tree` its tree as well.
fn lose_journal(rig: &Rig, name: &str, tree: bool) {
    let state = rig.root().join("var/lib/runup");
    let lost = |file: &String| file.starts_with(&format!("opt-{name}-"));
    let files: Vec<String> = names_in(&state).into_iter().filter(lost).collect();
    assert!(files.iter().any(|file| file.ends_with(".json")), "{files:?}");
    for file in files {
        std::fs::remove_file(state.join(file)).unwrap();
    }
    if tree {
        std::fs::remove_dir_all(rig.root().join("opt").join(name)).unwrap();
    }
}

/// Starts an installation, and stops its process where it waits for the answer of this route.
fn stopped_at(rig: &Rig, arguments: &[&str], route: &str) -> Child {
    rig.sandbox.requests_clear();
    rig.sandbox.fault(Fault::new(route, FaultKind::Delay { ms: 700 }).times(1));
    let child = rig.start(arguments);
    rig.until_asked(route);
    signal(&child, Signal::STOP);
    child
}

#[test]
fn an_install_that_goes_on_in_another_directory_keeps_its_user() {
    // Before it has a claim, and after.
    for route in ["registration-token", "archive"] {
        let Some(rig) = rig() else { return };
        rig.run(&with("install", &A)).expect(0);
        let child = stopped_at(&rig, &with("install", &B), route);
        let removed = rig.run(&remove(&A)).expect(0);
        if route == "archive" {
            removed.says("kept the user fresh for the runner in /opt/b");
        }
        signal(&child, Signal::CONT);
        finish(child).expect(0);
        let tree = std::fs::metadata(rig.root().join("opt/b/_diag")).unwrap();
        assert_eq!(Some(tree.uid()), uid(&rig), "its tree belongs to no user, at {route}");
        assert_home_is_right(&rig);
        rig.run(&with("install", &B)).expect(0).says("nothing to do");
        // It is the last one, whoever created the user.
        rig.run(&remove(&B)).expect(0);
        assert_no_user(&rig);
        rig.assert_nothing_left();
    }
}

#[test]
fn the_last_of_two_runners_deletes_the_user_whichever_created_it() {
    for (first, second) in [(A, B), (B, A)] {
        for marked in [true, false] {
            let Some(rig) = rig() else { return };
            rig.run(&with("install", &A)).expect(0);
            rig.run(&with("install", &B)).expect(0);
            assert!(
                read(&rig, "passwd").contains(":created by runup for /opt/a:"),
                "{}",
                read(&rig, "passwd")
            );
            if !marked {
                // An older runup created it.
                edit(&rig, "passwd", |line| Some(line.replace("created by runup for /opt/a", "")));
            }
            rig.run(&remove(&first)).expect(0);
            assert!(uid(&rig).is_some());
            assert_home_is_right(&rig);
            rig.run(&with("install", &second)).expect(0).says("nothing to do");
            rig.run(&remove(&second)).expect(0);
            assert_no_user(&rig);
            rig.assert_nothing_left();
        }
    }
}

#[test]
fn two_removals_at_once_leave_no_user() {
    for _ in 0..3 {
        let Some(rig) = rig() else { return };
        rig.run(&with("install", &A)).expect(0);
        rig.run(&with("install", &B)).expect(0);
        let both = [A, B].map(|runner| rig.start(&remove(&runner)));
        for child in both {
            finish(child).expect(0);
        }
        assert_no_user(&rig);
        rig.assert_nothing_left();
    }
}

#[test]
fn two_installations_at_once_share_the_user_that_one_of_them_creates() {
    let Some(rig) = rig() else { return };
    let both = [A, B].map(|runner| rig.start(&with("install", &runner)));
    for child in both {
        finish(child).expect(0);
    }
    assert_eq!(read(&rig, "passwd").matches("fresh:x").count(), 1);
    assert_home_is_right(&rig);
    rig.run(&remove(&A)).expect(0);
    assert!(uid(&rig).is_some());
    rig.run(&remove(&B)).expect(0);
    assert_no_user(&rig);
}

#[test]
fn a_claim_that_a_killed_install_left_is_let_go_by_its_remove() {
    let Some(rig) = rig() else { return };
    rig.run(&with("install", &A)).expect(0);
    let mut child = stopped_at(&rig, &with("install", &B), "archive");
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    rig.run(&remove(&A)).expect(0).says("kept the user fresh for the runner in /opt/b");
    rig.run(&remove(&B)).expect(0);
    assert_no_user(&rig);
    rig.assert_nothing_left();
}

#[test]
fn a_useradd_that_outlives_a_killed_install_is_waited_for() {
    let Some(rig) = rig() else { return };
    rig.die_at(Checkpoint::UserBegun, &with("install", &A));
    std::fs::write(rig.root().join("etc/group"), format!("{}fresh:x:60999:\n", read(&rig, "group"))).unwrap();
    std::fs::create_dir(rig.root().join("home")).unwrap();
    // It waits for this lock. It is killed itself before it has created the home directory.
    let lock = rig.write("etc/passwd.lock", format!("{}\0", std::process::id()));
    let mut useradd = Command::new("/usr/sbin/useradd");
    useradd.env(MARKER, rig.root()).arg("--prefix").arg(rig.root());
    useradd.args([
        "-r",
        "-u",
        "60999",
        "-g",
        "60999",
        "-M",
        "-d",
        "/home/fresh",
        "-s",
        "/bin/false",
        "fresh",
    ]);
    let mut useradd = useradd.spawn().unwrap();
    let log = rig.root().join("stderr");
    let mut install = rig.on_machine(&with("install", &A));
    let mut install =
        install.stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    until("the installation waits", || {
        let said = std::fs::read_to_string(&log).unwrap();
        said.contains("waiting for useradd or userdel, left by a run that was killed")
    });
    std::fs::remove_file(lock).unwrap();
    assert!(useradd.wait().unwrap().success(), "its user was created by another program meanwhile");
    let status = install.wait().unwrap();
    assert!(status.success(), "{}", std::fs::read_to_string(&log).unwrap());
    assert_eq!(uid(&rig), Some(60999));
    assert_home_is_right(&rig);
    rig.run(&remove(&A)).expect(0);
    assert_no_user(&rig);
    rig.assert_nothing_left();
}

#[test]
fn a_home_that_a_killed_useradd_left_half_made_is_put_right_by_whoever_uses_it_next() {
    let missing = |home: &Path| std::fs::remove_dir_all(home).unwrap();
    let of_root = |home: &Path| chown(home, Some(0), Some(0)).unwrap();
    let closed = |home: &Path| std::fs::set_permissions(home, PermissionsExt::from_mode(0o0)).unwrap();
    for (next, checkpoint) in
        [(A, Checkpoint::UserMade), (B, Checkpoint::UserMade), (A, Checkpoint::PlaceBegun)]
    {
        for cut in [missing, of_root, closed] {
            let Some(rig) = rig() else { return };
            rig.die_at(checkpoint, &with("install", &A));
            cut(&home(&rig));
            rig.run(&with("install", &next)).expect(0);
            assert_home_is_right(&rig);
            for runner in [next, A] {
                rig.run(&remove(&runner)).expect(0);
            }
            assert_no_user(&rig);
            rig.assert_nothing_left();
        }
    }
}

/// Some versions of useradd create it before they write `/etc/passwd`.
#[test]
fn a_home_without_its_user_is_used_or_deleted_if_it_was_not_there_before() {
    for next in ["install", "remove"] {
        for owner in [0, 60706] {
            let Some(rig) = rig() else { return };
            rig.die_at(Checkpoint::UserBegun, &with("install", &A));
            std::fs::create_dir_all(home(&rig)).unwrap();
            chown(home(&rig), Some(owner), Some(owner)).unwrap();
            rig.run(&with(next, if next == "install" { &A } else { &A[..2] })).expect(0);
            if next == "install" {
                assert_home_is_right(&rig);
                rig.run(&remove(&A)).expect(0);
            }
            assert_no_user(&rig);
            rig.assert_nothing_left();
        }
    }
    // One that was there is the operator's.
    let Some(rig) = rig() else { return };
    std::fs::create_dir_all(home(&rig)).unwrap();
    rig.run(&with("install", &[&A[..], &["--keep-on-failure"]].concat())).expect(78).says("already exists");
    rig.run(&remove(&A)).expect(0);
    assert!(home(&rig).exists() && uid(&rig).is_none());
}

#[test]
fn a_home_that_the_operator_has_kept_of_a_deleted_user_stays() {
    let Some(rig) = rig() else { return };
    rig.run(&with("install", &A)).expect(0);
    for file in ["passwd", "shadow", "group", "gshadow"] {
        edit(&rig, file, |line| (!line.starts_with("fresh:")).then(|| line.to_owned()));
    }
    chown(home(&rig), Some(0), Some(0)).unwrap();
    std::fs::write(home(&rig).join("kept"), "x").unwrap();
    rig.run(&with("install", &A)).expect(78);
    rig.run(&remove(&A)).expect(0);
    assert!(home(&rig).join("kept").exists() && uid(&rig).is_none());
}

#[test]
fn what_a_killed_userdel_left_goes_with_the_next_remove() {
    let Some(rig) = rig() else { return };
    std::fs::write(rig.root().join("etc/group"), format!("{}kvm:x:99:other\n", read(&rig, "group"))).unwrap();
    for next in ["remove", "install"] {
        rig.run(&with("install", &[&A[..], &["--groups", "kvm"]].concat())).expect(0);
        assert!(read(&rig, "group").contains("kvm:x:99:other,fresh"));
        rig.die_at(Checkpoint::RemoveTreeGone, &[&remove(&A)[..], &["--trust-tree"]].concat());
        // It writes passwd first.
        std::fs::remove_dir_all(home(&rig)).unwrap();
        edit(&rig, "passwd", |line| (!line.starts_with("fresh:")).then(|| line.to_owned()));
        assert!(read(&rig, "shadow").contains("fresh"));
        if next == "install" {
            rig.run(&with("install", &A)).expect(0);
            assert_home_is_right(&rig);
        }
        rig.run(&remove(&A)).expect(0);
        assert_no_user(&rig);
        assert!(read(&rig, "group").contains("kvm:x:99:other\n"), "{}", read(&rig, "group"));
        rig.assert_nothing_left();
    }
}

#[test]
fn a_lock_of_the_user_database_that_stays_is_explained_and_one_that_goes_is_waited_for() {
    let Some(rig) = rig() else { return };
    let lock = rig.write("etc/group.lock", format!("{}\0", std::process::id()));
    let install = rig.start(&with("install", &A));
    let users = rig.root().join("var/lib/runup/users.lock");
    // It does not hold its own lock while it waits for the one of another program.
    until("the installation is about to create its user", || users.exists());
    assert_no_user(&rig);
    std::fs::remove_file(&lock).unwrap();
    finish(install).expect(0);
    let lock = rig.write("etc/passwd.lock", "");
    let ran = rig.run(&[&remove(&A)[..], &["--deadline", "3s"]].concat()).expect(75);
    ran.says(&format!("{lock} was not deleted, which names no process")).says(&format!("`rm {lock}`"));
    // A power cut has left it, and its number is another process's by now.
    std::fs::write(&lock, format!("{}\0", std::process::id())).unwrap();
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    std::fs::File::options().write(true).open(&lock).unwrap().set_modified(old).unwrap();
    rig.run(&remove(&A)).expect(0);
    assert_no_user(&rig);
    rig.assert_nothing_left();
}

#[test]
fn without_its_journal_the_user_is_found_by_its_mark() {
    for tree in [true, false] {
        let Some(rig) = rig() else { return };
        rig.run(&with("bake", &A[..2])).expect(0);
        lose_journal(&rig, "a", tree);
        rig.run(&remove(&A)).expect(0).says("runup had created the user fresh for this runner");
        assert_no_user(&rig);
        rig.assert_nothing_left();
        rig.run(&remove(&A)).expect(0).says("nothing to do");
    }
}

#[test]
fn without_its_journal_a_user_stays_that_another_runner_needs_or_that_has_no_mark() {
    let Some(rig) = rig() else { return };
    rig.run(&with("bake", &A[..2])).expect(0);
    rig.run(&with("bake", &B[..2])).expect(0);
    lose_journal(&rig, "a", true);
    rig.run(&remove(&A)).expect(0).says("stays for the runner in /opt/b");
    assert_home_is_right(&rig);
    rig.run(&remove(&B)).expect(0);
    assert_no_user(&rig);

    // An older runup created it, or the operator; or it is another directory's.
    for comment in ["", "created by runup for /opt/ab", "operator,created by runup for /opt/a"] {
        rig.run(&with("bake", &A[..2])).expect(0);
        edit(&rig, "passwd", |line| Some(line.replace("created by runup for /opt/a", comment)));
        lose_journal(&rig, "a", true);
        rig.run(&remove(&A)).expect(0).says("nothing to do");
        assert!(uid(&rig).is_some(), "{comment}");
        edit(&rig, "passwd", |line| (!line.starts_with("fresh:")).then(|| line.to_owned()));
        edit(&rig, "group", |line| (!line.starts_with("fresh:")).then(|| line.to_owned()));
        std::fs::remove_dir_all(home(&rig)).unwrap();
    }
}

#[test]
fn an_adoption_that_fails_keeps_the_user_that_runup_had_created_for_this_directory() {
    let Some(rig) = rig() else { return };
    rig.run(&with("install", &A)).expect(0);
    lose_journal(&rig, "a", false);
    let id = rig.state().runners[0].id;
    let busy = |busy| RunnerChange { online: Some(busy), busy: Some(busy), ..Default::default() };
    assert!(rig.sandbox.change_runner(id, busy(true)));
    let adopt = [&A[..], &["--adopt", "--deadline", "4s"]].concat();
    let ran = rig.run(&with("install", &adopt));
    let ran = ran.expect(75).says(&format!("/runners/{id}: gave up"));
    assert!(rig.root().join("opt/a/.runner").exists() && uid(&rig).is_some(), "{ran:#?}");
    assert_home_is_right(&rig);
    assert!(rig.sandbox.change_runner(id, busy(false)));
    rig.run(&with("install", &adopt)).expect(0);
    rig.run(&remove(&A)).expect(0);
    assert_no_user(&rig);
    rig.assert_nothing_left();
}

#[test]
fn a_user_that_another_runner_created_is_that_one_s_although_its_journal_is_not_found() {
    let elsewhere = [&A[..], &["--state-dir", "/srv/state"]].concat();
    for tree in [true, false] {
        let Some(rig) = rig() else { return };
        rig.run(&with("install", &elsewhere)).expect(0);
        rig.run(&with("install", &B)).expect(0);
        rig.run(&remove(&B)).expect(0);
        assert!(uid(&rig).is_some(), "the runner that created it has no user");
        assert_home_is_right(&rig);
        if tree {
            rig.run(&[&remove(&A)[..], &["--state-dir", "/srv/state"]].concat()).expect(0);
        } else {
            std::fs::remove_dir_all(rig.root().join("srv/state")).unwrap();
            std::fs::remove_dir_all(rig.root().join("opt/a")).unwrap();
            rig.run(&remove(&A)).expect(0).says("runup had created the user fresh for this runner");
        }
        assert_no_user(&rig);
    }
}

#[test]
fn a_group_of_the_operator_with_the_name_of_the_user_stays() {
    for gid in [4321, 60710] {
        for checkpoint in [None, Some(Checkpoint::UserBegun), Some(Checkpoint::UserMade)] {
            let Some(rig) = rig() else { return };
            let line = format!("fresh:x:{gid}:");
            std::fs::write(rig.root().join("etc/group"), format!("{}{line}\n", read(&rig, "group"))).unwrap();
            if let Some(checkpoint) = checkpoint {
                rig.die_at(checkpoint, &with("install", &A));
            } else {
                rig.run(&with("install", &A)).expect(0);
                assert!(read(&rig, "passwd").contains(&format!(":{gid}:created")));
            }
            rig.run(&remove(&A)).expect(0);
            assert!(uid(&rig).is_none() && !home(&rig).exists());
            assert!(
                read(&rig, "group").lines().any(|it| it == line),
                "{gid} {checkpoint:?}: {}",
                read(&rig, "group")
            );
            rig.assert_nothing_left();
        }
    }
}
