//! What is wrong with the machine: something in the way, no permission, no space, the wrong user.

use crate::rig::{Ran, Rig, Tmpfs, finish, names_in};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A run that failed and touched neither the server nor what was in the way.
#[track_caller]
fn refused(rig: &Rig, arguments: &[&str], code: i32) -> Ran {
    let ours = rig.root().join("var");
    let others =
        || -> Vec<PathBuf> { rig.everything().into_iter().filter(|path| !path.starts_with(&ours)).collect() };
    let before = others();
    let ran = rig.run(arguments).expect(code);
    assert_eq!(rig.state().runners, []);
    assert_eq!(rig.asked("archive"), 0, "nothing is downloaded in vain");
    assert_eq!(others(), before);
    assert!(names_in(&rig.root().join("var/lib/runup")).iter().all(|name| name.ends_with(".lock")));
    ran
}

#[test]
fn a_folder_that_is_not_ours_is_left_alone() {
    let rig = Rig::new();
    rig.write("opt/actions-runner/thesis.txt", "three years");
    for command in ["install", "bake", "plan"] {
        refused(&rig, &[command], 78)
            .says("/opt/actions-runner exists and was not created by runup")
            .says("hint: Choose another --dir");
    }
    let thesis = std::fs::read_to_string(rig.dir().join("thesis.txt")).unwrap();
    assert_eq!(thesis, "three years");
    // Nor does the way back take what did not come from here.
    rig.run(&["remove"]).expect(78).says("no runner in /opt/actions-runner");
    assert!(rig.dir().join("thesis.txt").exists());
}

#[test]
fn a_file_or_a_link_in_its_place_is_left_alone() {
    let rig = Rig::new();
    rig.write("opt/actions-runner", "a file");
    refused(&rig, &["install"], 78).says("it is not a directory");
    let rig = Rig::new();
    std::fs::create_dir_all(rig.root().join("opt")).unwrap();
    std::fs::create_dir(rig.root().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(rig.root().join("elsewhere"), rig.dir()).unwrap();
    refused(&rig, &["install"], 78).says("symbolic link");
}

#[test]
fn a_runner_that_was_set_up_by_hand_is_left_alone() {
    let rig = Rig::new();
    rig.run(&["bake"]).expect(0);
    for name in names_in(&rig.root().join("var/lib/runup")) {
        std::fs::remove_file(rig.root().join("var/lib/runup").join(name)).unwrap();
    }
    rig.routes();
    refused(&rig, &["install"], 78)
        .says("it contains a runner that was installed another way")
        .says("runup remove --dir");
}

#[test]
fn an_empty_folder_is_taken() {
    let rig = Rig::new();
    std::fs::create_dir_all(rig.dir()).unwrap();
    rig.run(&["install"]).expect(0);
    rig.assert_exactly_one_runner();
}

#[test]
fn a_place_that_cannot_be_made_is_73() {
    let rig = Rig::new();
    rig.write("opt", "a file where a directory is needed");
    let ran = rig.run(&["install"]).expect(73).says(rig.root().join("opt").to_str().unwrap());
    assert!(ran.stderr.contains("hint: "), "{ran:#?}");
    assert_eq!(rig.state().runners, []);
    let rig = Rig::new();
    rig.write("var/lib", "a file where a directory is needed");
    rig.run(&["install"]).expect(73).says(rig.root().join("var/lib").to_str().unwrap());
}

#[test]
fn a_place_that_may_not_be_written_is_77() {
    if is_root() {
        // Root may write anywhere; the other half of this test is the one before.
        return;
    }
    let rig = Rig::new();
    let opt = rig.root().join("opt");
    std::fs::create_dir(&opt).unwrap();
    std::fs::set_permissions(&opt, PermissionsExt::from_mode(0o555)).unwrap();
    let ran = rig.run(&["install"]).expect(77).says(opt.to_str().unwrap());
    assert!(ran.stderr.contains("hint: "), "{ran:#?}");
    rig.assert_nothing_left();
    std::fs::set_permissions(&opt, PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn a_full_disk_is_seen_and_nothing_stays_on_it() {
    let rig = Rig::new();
    let Some(_opt) = Tmpfs::mount(rig.root().join("opt"), "mode=755,size=48k") else {
        eprintln!("skipped: only root may mount, and not everywhere");
        return;
    };
    rig.refuses(74, &[])
        .says("bytes are free")
        .says(rig.root().join("opt").to_str().unwrap())
        .hints("ree some space");
    // Few enough files, but too many of them: the disk is full in the middle.
    let rig = Rig::new();
    let Some(_opt) = Tmpfs::mount(rig.root().join("opt"), "mode=755,size=64m,nr_inodes=12") else { return };
    rig.refuses(74, &[]).says("takes no more files").hints("inodes");
}

#[test]
fn a_read_only_disk_is_73() {
    let rig = Rig::new();
    let Some(_opt) = Tmpfs::mount(rig.root().join("opt"), "mode=755,size=1m,ro") else {
        eprintln!("skipped: only root may mount, and not everywhere");
        return;
    };
    let ran = rig.refuses(73, &[]).says("Read-only file system").hints("read-only");
    assert!(!ran.stderr.contains("not undone"), "nothing was done: {ran:#?}");
    ran.says(rig.root().join("opt").to_str().unwrap());
}

#[test]
fn another_user_takes_root() {
    let mut rig = Rig::new();
    if is_root() {
        use std::os::unix::process::CommandExt as _;
        let mut command = rig.on_machine(&["install"]);
        let Ok(child) = command.uid(65534).gid(65534).spawn() else {
            eprintln!("skipped: nobody cannot reach the binary");
            return;
        };
        // Who runs it as oneself needs no root for that name.
        assert_ne!(finish(child).expect(77).stderr, "");
        rig.user = Some("daemon");
        let child = rig.on_machine(&["install"]).uid(65534).gid(65534).spawn().unwrap();
        finish(child).expect(77).says("--user daemon").says("requires root").hints("Run as root");
    } else {
        rig.user = Some("daemon");
        rig.refuses(77, &[]).says("--user daemon").says("requires root").hints("Run as root");
    }
    rig.assert_nothing_left();
}

#[test]
fn root_under_another_name_is_no_user_for_jobs() {
    let mut rig = Rig::new();
    if !is_root() {
        return;
    }
    let passwd = rig.root().join("etc/passwd");
    let mut text = std::fs::read_to_string(&passwd).unwrap();
    text.push_str("toor:x:0:0:root:/root:/bin/sh\n");
    std::fs::write(&passwd, text).unwrap();
    rig.user = Some("toor");
    rig.refuses(78, &[]).says("toor").says("root under another name").hints("--user root");
    rig.run(&["plan"]).expect(78).says("toor");
}

#[test]
fn a_name_that_no_user_can_have_is_refused_at_once() {
    let mut rig = Rig::new();
    if !is_root() {
        return;
    }
    for name in ["two words", "-rf", "a:b", ""] {
        rig.user = None;
        let given = format!("--user={name}");
        let before = rig.everything().len();
        let ran = rig.run(&["install", &given]).expect(64).says(&format!("{name:?}"));
        assert!(rig.everything().len() <= before + 4, "{ran:#?}");
        assert_eq!(rig.asked("archive"), 0);
    }
    rig.assert_nothing_left();
}

#[test]
fn a_folder_that_config_sh_would_refuse_is_said_before() {
    let rig = Rig::new();
    for (option, value) in [("--group", "-x"), ("--work", " "), ("--name", "{nothing}")] {
        rig.refuses(64, &[&format!("{option}={value}")]).says(option);
    }
    rig.refuses(64, &["--dir", "relative"]).says("--dir relative must be absolute");
    rig.refuses(64, &["--dir", "/"]).says("--dir /");
    rig.refuses(64, &["--dir", "/opt/../etc/actions"]).says("..");
}
