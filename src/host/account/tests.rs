//! Tests of [`super`], with real users if they run as root.

use super::*;
use crate::deadline::{Deadline, Stop};
use crate::host::Command;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::Duration;

/// All that comes with a user is runup's.
fn all() -> Made<'static> {
    Made { group: true, home: true, dir: Path::new("/opt/r") }
}

fn new(name: &str) -> NewUser<'_> {
    NewUser { name, ids: WantedIds::default(), dir: Path::new("/opt/r"), again: false }
}

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
    let dir = tempfile::tempdir().unwrap();
    let root = Root::at(dir.path().into());
    assert_eq!(find(&root, "ci").unwrap(), None);
    std::fs::create_dir(dir.path().join("etc")).unwrap();
    std::fs::write(
        dir.path().join("etc/passwd"),
        "# a comment\nroot:x:0:0:root:/root:/bin/sh\nci:x:990:991::/home/ci:/sbin/nologin\n+::::::\n",
    )
    .unwrap();
    std::fs::write(dir.path().join("etc/group"), "ci:x:991:\ndocker:x:7:a,ci\nkvm:x:8:\n").unwrap();
    let ci = find(&root, "ci").unwrap().unwrap();
    assert_eq!(ci, Account { name: "ci".into(), uid: 990, gid: 991, home: "/home/ci".into() });
    assert_eq!(groups(&root, &ci), [7, 991]);
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
fn the_outermost_closed_directory_is_named_and_missing_ones_are_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let closed = dir.path().join("closed");
    std::fs::create_dir_all(closed.join("deep")).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o711)).unwrap();
    let meta = std::fs::metadata(&closed).unwrap();
    let other = Account {
        name: "nobody-at-all".into(),
        uid: meta.uid() + 54_321,
        gid: meta.gid() + 54_321,
        home: "/".into(),
    };
    assert_eq!(
        first_unreadable_ancestor(&Root::host(), &closed.join("deep/missing"), &other),
        Some(closed.clone())
    );
    assert_eq!(first_unreadable_ancestor(&Root::host(), &dir.path().join("missing/more"), &other), None);
    let root = Account { uid: 0, ..other };
    assert_eq!(first_unreadable_ancestor(&Root::host(), &closed, &root), None);
}

#[tokio::test]
async fn a_user_is_made_used_and_deleted_with_its_processes_and_files() {
    let stop = Stop::never();
    let name = format!("runup-test-{}", std::process::id());
    let host = Root::host();
    assert_eq!(delete(&host, &name, all(), &stop).await.unwrap(), Deleted::AlreadyGone);
    if !is_root() {
        assert!(matches!(create(&host, &new(&name), &stop).await, Err(Error::NeedsRoot { .. })));
        println!("skipped: making a user needs root");
        return;
    }
    let account = create(&host, &new(&name), &stop).await.unwrap();
    assert_eq!(account.home, Path::new("/home").join(&name));
    assert!(matches!(create(&host, &new(&name), &stop).await, Err(Error::UserExists { .. })));

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
    assert_eq!(delete(&host, &name, all(), &stop).await.unwrap(), Deleted::Now);
    assert!(!reaper.join().unwrap().success());
    assert_eq!(find(&host, &name).unwrap(), None);
    assert!(!account.home.exists());
    assert!(!group_file(&host).iter().any(|group| group.name == name), "its group is left");
    assert_eq!(delete(&host, &name, all(), &stop).await.unwrap(), Deleted::AlreadyGone);
}

#[tokio::test]
async fn a_home_directory_that_is_there_is_never_taken_over() {
    if !is_root() {
        println!("skipped: making a user needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = Root::at(dir.path().into());
    std::fs::create_dir_all(dir.path().join("home/ci")).unwrap();
    let result = create(&root, &new("ci"), &Stop::never()).await;
    assert!(matches!(result, Err(Error::HomeTaken { .. })), "{result:?}");
}

#[tokio::test]
async fn a_user_is_made_and_deleted_inside_a_root_and_not_on_the_host() {
    if !is_root() {
        println!("skipped: making a user needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = Root::at(dir.path().into());
    let etc = dir.path().join("etc");
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
    let stop = Stop::never();
    let account = create(&root, &new(&name), &stop).await.unwrap();
    let home = root.join(&account.home);
    assert_eq!(std::fs::metadata(&home).unwrap().uid(), account.uid);
    assert_eq!(find(&Root::host(), &name).unwrap(), None);
    assert_eq!(delete(&root, &name, all(), &stop).await.unwrap(), Deleted::Now);
    assert!(!home.exists());
}

/// A uid that no other test uses; it needs no entry in the user database.
fn throw_away() -> Account {
    let uid = fastrand::u32(200_000..300_000);
    Account { name: format!("throw-away-{uid}"), uid, gid: uid, home: "/".into() }
}

#[tokio::test]
async fn a_bomb_of_respawning_processes_is_ended() {
    if !is_root() {
        println!("skipped: becoming another user needs root");
        return;
    }
    let account = throw_away();
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let script = dir.path().join("respawn");
    // Each one starts its successor in a new session, and exits.
    std::fs::write(&script, "trap '' TERM INT HUP\nsleep 0.02\necho >>\"$1\"\nsetsid sh \"$0\" \"$1\" &\n")
        .unwrap();
    let count = dir.path().join("count");
    std::fs::write(&count, "").unwrap();
    std::fs::set_permissions(&count, std::fs::Permissions::from_mode(0o666)).unwrap();
    for _ in 0..3 {
        let mut bomb = std::process::Command::new("/bin/sh");
        std::os::unix::process::CommandExt::uid(&mut bomb, account.uid);
        std::os::unix::process::CommandExt::gid(&mut bomb, account.gid);
        let mut bomb = bomb.arg(&script).arg(&count).current_dir("/").spawn().unwrap();
        std::thread::spawn(move || bomb.wait().unwrap());
    }
    let generations = || std::fs::metadata(&count).unwrap().len();
    let limit = Deadline::after(Duration::from_secs(60));
    while generations() < 20 {
        assert!(!limit.passed(), "it does not respawn");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let which = crate::host::process::Which::OfUser(account.uid);
    end_account(&account, Deadline::after(Duration::from_secs(30))).await.unwrap();
    assert_eq!(which.find(), [] as [u32; 0]);
    let ended = generations();
    assert_eq!(end_account(&account, Deadline::after(Duration::from_secs(30))).await.unwrap(), 0);
    assert_eq!(generations(), ended, "one of them goes on");
}

#[tokio::test]
async fn the_processes_of_root_and_of_ourselves_are_never_ended() {
    let soon = Deadline::after(Duration::from_millis(10));
    let us = current();
    for uid in [0, u32::MAX, us.uid] {
        let account = Account { uid, ..us.clone() };
        assert!(matches!(end_account(&account, soon).await, Err(Error::MustNotEnd { .. })), "{uid}");
    }
    if !is_root() {
        assert!(matches!(end_account(&throw_away(), soon).await, Err(Error::NeedsRoot { .. })));
    }
}

/// An image with these users and groups and nothing else.
fn image(passwd: &str, group: &str) -> (tempfile::TempDir, Root) {
    // Not in /tmp: there a test that deletes a real user with the same number would take an image's files for its own.
    let program = std::env::current_exe().expect("this is a program");
    let beside = program.parent().expect("it is in a directory");
    let dir =
        tempfile::tempdir_in(beside).or_else(|_| tempfile::tempdir()).expect("the image can be written");
    let etc = dir.path().join("etc");
    std::fs::create_dir(&etc).expect("the image can be written");
    for (name, text) in [
        ("passwd", format!("root:x:0:0::/root:/bin/sh\n{passwd}")),
        ("group", format!("root:x:0:\n{group}")),
        ("shadow", "root:*:1::::::\n".into()),
        ("gshadow", "root:*::\n".into()),
    ] {
        std::fs::write(etc.join(name), text).expect("the image can be written");
    }
    let root = Root::at(dir.path().into());
    (dir, root)
}

fn put(root: &Root, path: &str, text: &str) {
    let path = root.join(Path::new(path));
    std::fs::create_dir_all(path.parent().expect("the image can be written"))
        .expect("the image can be written");
    std::fs::write(path, text).expect("the image can be written");
}

#[tokio::test]
async fn a_new_user_gets_a_number_that_neither_images_nor_other_users_have() {
    if !is_root() {
        println!("skipped: making a user needs root");
        return;
    }
    let stop = Stop::never();
    let lowest = *OWN_IDS.start();
    // The lowest is a user's, the next a group's, the one after it a primary group's only.
    let (_dir, root) = image(
        &format!("a:x:{lowest}:100::/:\nb:x:7:{}::/:\n", lowest + 2),
        &format!("c:x:{}:\n", lowest + 1),
    );
    let account = create(&root, &new("ci"), &stop).await.unwrap();
    assert_eq!((account.uid, account.gid), (lowest + 3, lowest + 3));
    let home = std::fs::metadata(root.join(&account.home)).unwrap();
    assert_eq!((home.uid(), home.gid(), home.mode() & 0o7777), (account.uid, account.gid, 0o700));
    assert!(!root.join(Path::new("/etc/subuid")).exists(), "subordinate ids were handed out");
    let second = create(&root, &new("ci-2"), &stop).await.unwrap();
    assert_eq!(second.uid, lowest + 4);
    delete(&root, "ci", all(), &stop).await.unwrap();
    // An interrupted creation leaves the group; its id is used again.
    assert_eq!(create_group(&root, "ci", None, &stop).await.unwrap(), lowest + 3);
    assert_eq!(create(&root, &new("ci"), &stop).await.unwrap().uid, lowest + 3);
}

#[tokio::test]
async fn a_home_that_useradd_left_half_made_is_put_right_and_a_foreign_one_is_refused() {
    if !is_root() {
        println!("skipped: making a user needs root");
        return;
    }
    let (_dir, root) = image("ci:x:60900:60900::/home/ci:/bin/false\n", "ci:x:60900:\n");
    let account = find(&root, "ci").unwrap().unwrap();
    let home = root.join(&account.home);
    std::fs::create_dir(home.parent().unwrap()).unwrap();
    let check = || {
        let meta = std::fs::symlink_metadata(&home).unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (60900, 60900, 0o700));
    };
    ensure_home(&root, &account).unwrap();
    check();
    std::os::unix::fs::chown(&home, Some(0), Some(0)).unwrap();
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o755)).unwrap();
    ensure_home(&root, &account).unwrap();
    check();
    std::os::unix::fs::chown(&home, Some(1234), None).unwrap();
    assert!(matches!(ensure_home(&root, &account), Err(Error::HomeTaken { .. })));
    std::fs::remove_dir(&home).unwrap();
    std::os::unix::fs::symlink("/tmp", &home).unwrap();
    assert!(matches!(ensure_home(&root, &account), Err(Error::HomeTaken { .. })));
}

/// The user that is created again so that userdel can delete it stays if runup is killed in between.
#[tokio::test]
async fn a_user_that_is_half_deleted_and_then_needed_is_one_that_runup_could_have_created() {
    if !is_root() {
        println!("skipped: making a user needs root");
        return;
    }
    let stop = Stop::never();
    for group in ["", "ci:x:60900:\n"] {
        let (_dir, root) = image("", group);
        put(&root, "/etc/shadow", "root:*:1::::::\nci:!:1::::::\n");
        assert!(unfinished::add_again(&root, "ci", all(), &stop).await.unwrap());
        let account = find(&root, "ci").unwrap().unwrap();
        assert_eq!(mark(&root, &account, Path::new("/opt/r")).unwrap(), Marked::ForThis);
        assert_eq!(group_id(&root, "ci"), Some(account.gid));
        assert!(OWN_IDS.contains(&account.uid) && !has_home(&root, &account));
        ensure_home(&root, &account).unwrap();
        assert_eq!(std::fs::metadata(root.join(Path::new("/home/ci"))).unwrap().uid(), account.uid);
        assert_eq!(delete(&root, "ci", all(), &stop).await.unwrap(), Deleted::Now);
        for file in ["passwd", "shadow", "group", "gshadow"] {
            let text = std::fs::read_to_string(root.join(Path::new("/etc")).join(file)).unwrap();
            assert!(!text.contains("ci:"), "{file}: {text}");
        }
    }
    // That of an operator stays elsewhere.
    let (_dir, root) = image("ci:x:60900:60900::/srv/ci:/bin/false\n", "ci:x:60900:\n");
    ensure_home(&root, &find(&root, "ci").unwrap().unwrap()).unwrap();
    assert!(!root.join(Path::new("/srv/ci")).exists());
}

#[tokio::test]
async fn a_group_is_created_joined_and_deleted() {
    let stop = Stop::never();
    let (_dir, root) = image("ci:x:900:900::/:\nother:x:901:900::/:\n", "ci:x:900:\nmore:x:950:a,b\n");
    assert_eq!(primary_group_members(&root, 900), ["ci", "other"]);
    assert_eq!(primary_group_members(&root, 950), ["a", "b"]);
    assert_eq!(delete_group(&root, "ci-own", &stop).await.unwrap(), Deleted::AlreadyGone);
    if !is_root() {
        assert!(matches!(create_group(&root, "ci-own", None, &stop).await, Err(Error::NeedsRoot { .. })));
        println!("skipped: making a group needs root");
        return;
    }
    let gid = create_group(&root, "ci-own", None, &stop).await.unwrap();
    assert!(OWN_IDS.contains(&gid));
    assert!(matches!(create_group(&root, "ci-own", None, &stop).await, Err(Error::GroupExists { .. })));
    for _ in 0..2 {
        add_to_group(&root, "ci", "ci-own", &stop).await.unwrap();
    }
    assert_eq!(primary_group_members(&root, gid), ["ci"]);
    let ci = find(&root, "ci").unwrap().unwrap();
    assert!(groups(&root, &ci).contains(&gid));
    assert_eq!(delete_group(&root, "ci-own", &stop).await.unwrap(), Deleted::Now);
    assert_eq!(groups(&root, &ci), [900]);
}

#[tokio::test]
async fn a_child_has_the_supplementary_groups_of_its_user_and_none_of_a_namesake() {
    if !is_root() {
        println!("skipped: becoming another user needs root");
        return;
    }
    let (_dir, root) = image("nobody-here:x:261234:261234::/:\n", "docker:x:261999:nobody-here\n");
    let ids = async |account: &Account, root: &Root| {
        let mut seen = Vec::new();
        Command::new("/usr/bin/id")
            .arg("-G")
            .account(account)
            .groups_of(root)
            .cwd("/")
            .run(&Stop::never(), &mut |_, line| seen.push(line.to_owned()))
            .await
            .unwrap();
        seen
    };
    let account = find(&root, "nobody-here").unwrap().unwrap();
    assert_eq!(ids(&account, &root).await, ["261234 261999"]);
    let namesake = Account { uid: 261_235, ..account };
    assert_eq!(ids(&namesake, &root).await, ["261234"]);
    assert_eq!(ids(&namesake, &Root::host()).await, ["261234"]);
}

#[test]
fn each_way_to_root_is_named_and_a_user_without_one_is_isolated() {
    let (_dir, root) = image(
        "ci:x:900:900::/home/ci:/bin/false\n",
        "ci:x:900:\nkvm:x:10:ci\nadm:x:11:ci\nincus:x:12:ci\nbuild:x:13:ci\ndocker:x:14:\n",
    );
    let ci = find(&root, "ci").unwrap().unwrap();
    let ways = || ways_to_root(&root, &ci, &[]);
    assert_eq!(ways(), [] as [&str; 0]);
    assert_eq!(ways_to_root(&root, &Account { uid: 0, ..ci.clone() }, &[]), ["it is root"]);

    put(&root, "/etc/group", "ci:x:900:\ndocker:x:14:other,ci\ndisk:x:6:ci\nbuild:x:13:ci\n");
    assert_eq!(ways(), ["member of the group disk", "member of the group docker"]);
    // A primary group counts as well.
    put(&root, "/etc/group", "wheel:x:900:\nbuild:x:13:ci\n");
    assert_eq!(ways(), ["member of the group wheel"]);
    put(&root, "/etc/group", "ci:x:900:\nbuild:x:13:ci\n");

    put(&root, "/usr/bin/doas", "");
    put(&root, "/etc/doas.conf", "permit nopass keepenv :build as root\npermit :wheel\n");
    assert_eq!(ways(), ["password-less doas (/etc/doas.conf)"]);
    put(&root, "/etc/doas.conf", "permit persist :build\ndeny nopass ci\n");
    assert_eq!(ways(), [] as [&str; 0]);
}

#[test]
fn sudo_without_a_password_is_a_way_to_root() {
    let (_dir, root) = image("ci:x:900:900::/home/ci:/bin/false\n", "ci:x:900:\nbuild:x:13:ci\n");
    let ci = find(&root, "ci").unwrap().unwrap();
    let ways = || ways_to_root(&root, &ci, &[]);
    put(&root, "/etc/sudoers", "ci ALL=(ALL) NOPASSWD: ALL\n");
    assert_eq!(ways(), [] as [&str; 0], "there is no sudo");
    put(&root, "/usr/bin/sudo", "");
    for (rule, all) in [
        ("ci ALL=(ALL:ALL) NOPASSWD:ALL", true),
        ("ci ALL = NOPASSWD: ALL", true),
        ("other, ci ALL=(root) SETENV:NOPASSWD: \\\n ALL", true),
        ("%build ALL=(ALL) NOPASSWD: ALL # the builders", true),
        ("%#13 ALL=(#0) NOPASSWD: ALL", true),
        ("#900 ALL=(www, root) NOPASSWD: ALL", true),
        ("ALL ALL=NOPASSWD: ALL", true),
        ("User_Alias CI = other, ci : MORE = x\nCI ALL=NOPASSWD: ALL", true),
        ("Defaults:ci !authenticate\nci ALL=(ALL) ALL", true),
        ("Defaults env_reset, !authenticate\nci ALL=(ALL) ALL", true),
        ("ci ALL=(ALL) /bin/a, NOPASSWD: /bin/b", false),
        ("ci ALL=NOPASSWD: /usr/bin/systemctl restart x, /usr/bin/apt", false),
    ] {
        put(&root, "/etc/sudoers", rule);
        let some = if all { "" } else { " for some commands" };
        assert_eq!(ways(), [format!("password-less sudo{some} (/etc/sudoers)")], "{rule}");
    }
    for rule in [
        "# ci ALL=(ALL) NOPASSWD: ALL",
        "ci ALL=(ALL) ALL",
        "ci ALL=(www) NOPASSWD: ALL",
        "ci ALL=(ALL) NOPASSWD: !ALL",
        "other ALL=(ALL) NOPASSWD: ALL",
        "ALL, !ci ALL=(ALL) NOPASSWD: ALL",
        "%adm ALL=(ALL) NOPASSWD: ALL",
        "ci ALL=(ALL) PASSWD: ALL",
        "Cmnd_Alias ci = /bin/x",
        "#include /etc/sudoers",
    ] {
        put(&root, "/etc/sudoers", rule);
        assert_eq!(ways(), [] as [&str; 0], "{rule}");
    }
    put(&root, "/etc/sudoers", "@includedir sudoers.d\n");
    put(&root, "/etc/sudoers.d/90-ci", "ci ALL=(ALL) NOPASSWD: ALL\n");
    put(&root, "/etc/sudoers.d/90-ci.bak", "ci ALL=NOPASSWD: ALL\n");
    assert_eq!(ways(), ["password-less sudo (/etc/sudoers.d/90-ci)"]);
}

#[test]
fn an_engine_socket_that_the_user_may_write_is_a_way_to_root() {
    let (dir, root) = image("", "docker:x:14:\n");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = root.join(Path::new("/run/podman/podman.sock"));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    if is_root() {
        // Whoever is in the group 0 has another way.
        std::os::unix::fs::chown(&path, None, Some(4711)).unwrap();
    }
    let meta = std::fs::metadata(&path).unwrap();
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(path.parent().unwrap(), 0o755);
    mode(&root.join(Path::new("/run")), 0o755);
    let other =
        Account { name: "other".into(), uid: meta.uid() + 77, gid: meta.gid() + 77, home: "/".into() };
    let grouped = Account { gid: meta.gid(), ..other.clone() };
    mode(&path, 0o660);
    assert_eq!(ways_to_root(&root, &other, &[]), [] as [&str; 0]);
    let ways = ways_to_root(&root, &grouped, &[]);
    assert!(ways.iter().any(|way| way == "may use the socket /run/podman/podman.sock"), "{ways:?}");
    mode(&path, 0o666);
    assert_eq!(ways_to_root(&root, &other, &[]), ["may use the socket /run/podman/podman.sock"]);
    mode(path.parent().unwrap(), 0o700);
    assert_eq!(ways_to_root(&root, &other, &[]), [] as [&str; 0], "the directory is closed");
}

#[tokio::test]
async fn what_a_user_has_on_the_machine_goes_with_it() {
    if !is_root() {
        println!("skipped: making a user needs root");
        return;
    }
    let stop = Stop::never();
    let (host, name) = (Root::host(), format!("runup-test-b{}", std::process::id()));
    let account = create(&host, &new(&name), &stop).await.unwrap();
    // Respawning, writing to every writable directory, and creating IPC objects.
    let script = r#"
        for dir in /tmp /var/tmp /dev/shm; do mkdir "$dir/$1"; echo x >"$dir/$1/file"; ln -s /etc/passwd "$dir/$1.link"; done
        ipcmk -M 10 && ipcmk -S 1 && ipcmk -Q
        exec >/dev/null 2>&1
        again='sleep 0.02; setsid sh -c "$0" "$0" &'
        setsid sh -c "$again" "$again" &
        exit 0"#;
    let outcome = Command::new("/bin/sh")
        .args(["-c", script, "sh", &name])
        .env("PATH", "/usr/bin:/bin")
        .account(&account)
        .leaves_behind(&[0])
        .run(&stop, &mut |_, _| ())
        .await
        .unwrap();
    assert_eq!(outcome.code, Some(0), "{}", outcome.tail);
    let ipc = || {
        let hers = |kind: &str| {
            let table = std::fs::read_to_string(format!("/proc/sysvipc/{kind}")).unwrap_or_default();
            table.split_whitespace().any(|word| word == account.uid.to_string())
        };
        ["shm", "sem", "msg"].map(hers)
    };
    assert_eq!(ipc(), [true; 3]);
    let crontabs = ["/var/spool/cron/crontabs", "/var/spool/cron"].map(Path::new);
    let crontab =
        crontabs.into_iter().find(|directory| directory.is_dir()).map(|directory| directory.join(&name));
    if let Some(crontab) = &crontab {
        std::fs::write(crontab, "* * * * * true\n").unwrap();
        std::os::unix::fs::chown(crontab, Some(account.uid), None).unwrap();
    }

    assert_eq!(delete(&host, &name, all(), &stop).await.unwrap(), Deleted::Now);
    for directory in ["/tmp", "/var/tmp", "/dev/shm"] {
        for left in [name.clone(), format!("{name}.link")] {
            assert!(
                std::fs::symlink_metadata(Path::new(directory).join(&left)).is_err(),
                "{directory}/{left}"
            );
        }
    }
    assert_eq!(ipc(), [false; 3]);
    assert!(crontab.is_none_or(|crontab| !crontab.exists()));
    assert!(!account.home.exists());
    assert_eq!(crate::host::process::Which::OfUser(account.uid).find(), [] as [u32; 0]);
}

#[tokio::test]
async fn a_user_stays_while_something_of_it_cannot_be_deleted() {
    if !is_root() {
        println!("skipped: making a user needs root");
        return;
    }
    let stop = Stop::never();
    let (_dir, root) = image("", "");
    let account = create(&root, &new("ci"), &stop).await.unwrap();
    for path in [
        "/var/spool/cron/crontabs/ci",
        "/var/lib/systemd/linger/ci",
        "/var/mail/ci",
        "/tmp/hers",
        "/tmp/theirs",
    ] {
        put(&root, path, "x");
        if !path.ends_with("theirs") {
            std::os::unix::fs::chown(root.join(Path::new(path)), Some(account.uid), None).unwrap();
        }
    }
    let place = root.join(&account.home).join("mounted");
    std::fs::create_dir(&place).unwrap();
    std::os::unix::fs::chown(&place, Some(account.uid), None).unwrap();
    let run = |program: &str, arguments: &[&Path]| {
        std::process::Command::new(program).args(arguments).output().is_ok_and(|ran| ran.status.success())
    };
    let mounted = run("mount", &[Path::new("--bind"), &root.join(Path::new("/etc")), &place]);
    if mounted {
        let result = delete(&root, "ci", all(), &stop).await;
        assert!(run("umount", &[&place]));
        let Err(Error::FilesLeft { left, .. }) = result else { panic!("{result:?}") };
        assert_eq!(left, [root.join(&account.home).display().to_string()]);
        assert_eq!(
            find(&root, "ci").unwrap().unwrap().uid,
            account.uid,
            "its number is free for the next user"
        );
    }
    assert_eq!(delete(&root, "ci", all(), &stop).await.unwrap(), Deleted::Now);
    for gone in
        ["/home/ci", "/var/spool/cron/crontabs/ci", "/var/lib/systemd/linger/ci", "/var/mail/ci", "/tmp/hers"]
    {
        assert!(!root.join(Path::new(gone)).exists(), "{gone}");
    }
    assert!(root.join(Path::new("/tmp/theirs")).exists() && root.join(Path::new("/etc/passwd")).exists());
}
