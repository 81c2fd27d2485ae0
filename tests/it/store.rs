//! Trees that are made from a verified copy beside them. Only root has such copies.

use crate::rig::{Ran, Rig, Tmpfs, finish, names_in, signal, until};
use runup::lifecycle::checkpoint::Checkpoint;
use rustix::process::Signal;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

const NEWER: &str = "2.999.0";
const LISTENER: &str = "bin/Runner.Listener";
const SECOND: [&str; 3] = ["bake", "--dir", "/opt/second"];

/// A machine of root's.
fn rig() -> Option<Rig> {
    rustix::process::geteuid().is_root().then(Rig::new)
}

fn store(rig: &Rig) -> PathBuf {
    rig.root().join("opt/.runup-store")
}

/// The one entry of the store.
#[track_caller]
fn entry(rig: &Rig) -> PathBuf {
    let names = names_in(&store(rig));
    assert_eq!(names.len(), 1, "{names:?}");
    store(rig).join(&names[0])
}

fn inode(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().ino()
}

/// Everything below a directory: owner, mode and content.
fn facts(dir: &Path) -> BTreeMap<PathBuf, (u32, u32, u32, String)> {
    let (mut facts, mut dirs) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(next) = dirs.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            let content = if meta.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
            let digest = format!("{:?}", Sha256::digest(content));
            if meta.is_dir() {
                dirs.push(path.clone());
            }
            facts.insert(path, (meta.uid(), meta.gid(), meta.mode(), digest));
        }
    }
    facts
}

/// Runs it until it is online, and stops it.
fn run(rig: &Rig, arguments: &[&str]) -> Ran {
    let child = rig.start(&[&["run"], arguments].concat());
    until("it is online", || rig.state().runners.iter().any(|runner| runner.online));
    signal(&child, Signal::TERM);
    finish(child).expect(0)
}

#[test]
fn a_second_runner_is_made_of_the_files_of_the_first_without_a_download() {
    let Some(rig) = rig() else { return };
    rig.run(&["bake"]).expect(0);
    rig.run(&["plan", "--dir", "/opt/second"]).expect(0).says("from the verified copy in /opt/.runup-store");
    rig.run(&SECOND).expect(0).says("from the verified copy in /opt/.runup-store");
    assert_eq!(rig.asked("archive"), 1);
    let kept = entry(&rig);
    let trees = [rig.dir(), rig.root().join("opt/second"), kept.join("tree")];
    let inodes = trees.clone().map(|tree| inode(&tree.join(LISTENER)));
    assert_eq!((inodes[0], inodes[1]), (inodes[2], inodes[2]));
    assert_eq!(std::fs::metadata(store(&rig)).unwrap().mode() & 0o7777, 0o700);
    // What is written for one runner is that runner's.
    for tree in &trees[..2] {
        let meta = std::fs::metadata(tree.join(".env")).unwrap();
        assert_eq!((meta.nlink(), meta.gid()), (1, 65534));
    }
    assert!(!kept.join("tree/.env").exists());
    let status = rig.run(&["status", "--dir", "/opt/second", "--json"]).json();
    assert_eq!(status["store"]["dir"], "/opt/.runup-store", "{status:#}");
    assert_eq!(status["store"]["versions"], serde_json::json!(["2.336.0"]));
    assert!(status["store"]["bytes"].as_u64().unwrap() > 0);
    rig.run(&["bake", "--check"]).expect(78).says("the verified copies in");

    rig.run(&["install", "--dir", "/opt/second"]).expect(0);
    rig.assert_store_is_whole();
    rig.run(&["remove", "--dir", "/opt/second"]).expect(0);
    rig.assert_store_is_whole();
    let removed = rig.run(&["remove", "--dir", "/opt/actions-runner"]).expect(0);
    removed.says("deleted the verified copies in /opt/.runup-store");
    rig.assert_nothing_left();
}

#[test]
fn one_runner_has_no_copy_and_the_third_is_not_downloaded() {
    let Some(rig) = rig() else { return };
    rig.run(&["install"]).expect(0);
    assert!(!store(&rig).exists());
    rig.run(&["install", "--dir", "/opt/second", "--name", "second"]).expect(0);
    rig.assert_store_is_whole();
    rig.run(&["bake", "--dir", "/opt/third"]).expect(0).says("from the verified copy");
    assert_eq!(rig.asked("archive"), 2);
    // One elsewhere is none of its neighbours.
    rig.run(&["install", "--dir", "/srv/fourth", "--name", "fourth"]).expect(0);
    assert_eq!((rig.asked("archive"), names_in(&rig.root().join("srv")).len()), (3, 1));
    // The copy of a failed installation goes with it.
    let other = Rig::new();
    other.faults(&["register:status=403"]);
    other.run(&["install", "--count", "2"]).expect(79);
    other.assert_nothing_left();
}

#[test]
fn a_refresh_comes_from_the_copy_and_the_old_one_goes_with_its_last_runner() {
    let Some(rig) = rig() else { return };
    rig.run(&["bake"]).expect(0);
    rig.run(&SECOND).expect(0);
    rig.sandbox.offer(NEWER);
    rig.run(&["bake"]).expect(0).says(NEWER);
    assert_eq!((names_in(&store(&rig)).len(), rig.asked("archive")), (2, 2), "the second one has the old");
    rig.run(&SECOND).expect(0).says(NEWER);
    assert_eq!(rig.asked("archive"), 2);
    assert!(entry(&rig).file_name().unwrap().to_str().unwrap().starts_with(NEWER));
    rig.assert_store_is_whole();
}

#[test]
fn an_incomplete_runner_is_completed_from_the_copy() {
    let Some(rig) = rig() else { return };
    rig.run(&["bake"]).expect(0);
    run(&rig, &[]);
    let id = rig.state().runners[0].id;
    std::fs::remove_file(rig.dir().join("bin/Runner.Worker")).unwrap();
    run(&rig, &[]);
    rig.assert_exactly_one_runner();
    assert_eq!((rig.state().runners[0].id, rig.asked("archive")), (id, 1));
    rig.assert_store_is_whole();
}

#[test]
fn two_that_are_installed_at_once_are_downloaded_once() {
    let Some(rig) = rig() else { return };
    let both = [rig.start(&["bake"]), rig.start(&["bake", "--dir", "/opt/second"])];
    for child in both {
        finish(child).expect(0);
    }
    assert_eq!(rig.asked("archive"), 1);
    rig.assert_store_is_whole();
}

#[test]
fn a_run_that_was_killed_leaves_a_whole_copy_or_none() {
    let Some(rig) = rig() else { return };
    for cut in [Checkpoint::PlaceStaged, Checkpoint::PlaceRenamed] {
        rig.die_at(cut, &["bake"]);
        rig.assert_store_is_whole();
        rig.run(&["bake"]).expect(0);
        for litter in
            [".runup-store/.2.1.0-0123456789ab.runup-staging/tree", "..runup-store.runup-removed-01234567"]
        {
            std::fs::create_dir_all(rig.root().join("opt").join(litter)).unwrap();
        }
        rig.run(&["bake"]).expect(0).says("nothing to do");
        assert_eq!(names_in(&rig.root().join("opt")), [".runup-store", "actions-runner"], "{}", cut.name());
        rig.assert_store_is_whole();
        rig.run(&["remove"]).expect(0);
        rig.assert_nothing_left();

        rig.die_at(cut, &["bake"]);
        rig.run(&["remove"]).expect(0);
        rig.assert_nothing_left();
    }
}

/// The user of the runner gets its files; those of the others are as they were.
#[test]
fn a_runner_that_updates_itself_shares_nothing_any_more() {
    let Some(rig) = rig() else { return };
    rig.run(&["bake", "--dir", "/opt/second"]).expect(0);
    run(&rig, &[]);
    let own = rig.dir().join(LISTENER);
    assert_eq!(inode(&own), inode(&entry(&rig).join("tree").join(LISTENER)));
    let others = [rig.root().join("opt/second"), store(&rig)];
    let before = others.clone().map(|dir| facts(&dir));
    run(&rig, &["--self-update"]);
    let meta = std::fs::metadata(&own).unwrap();
    assert_eq!((meta.uid(), meta.nlink()), (65534, 1));
    assert!(others.clone().map(|dir| facts(&dir)) == before, "the store and the neighbour are unchanged");
    // A new one is copied at once.
    rig.run(&["install", "--self-update", "--dir", "/opt/third", "--name", "third"])
        .expect(0)
        .says("from the verified copy");
    assert_eq!(std::fs::metadata(rig.root().join("opt/third").join(LISTENER)).unwrap().uid(), 65534);
    assert!(others.map(|dir| facts(&dir)) == before);
    assert_eq!(rig.asked("archive"), 1);
}

#[test]
fn a_damaged_copy_is_deleted_and_the_runner_downloaded() {
    let Some(rig) = rig() else { return };
    rig.run(&["bake"]).expect(0);
    let path = entry(&rig).join("tree/config.sh");
    let file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.set_len(3).unwrap();
    let ran = rig.run(&SECOND).expect(0).says("is damaged, and is deleted: the size of");
    assert_eq!((ran.stderr.matches("damaged").count(), rig.asked("archive")), (1, 2));
    rig.assert_store_is_whole();

    // Other bytes under the same metadata are found by the check of an image.
    let path = entry(&rig).join("tree/config.sh");
    let then = std::fs::metadata(&path).unwrap().modified().unwrap();
    let text = std::fs::read_to_string(&path).unwrap().replace('e', "f");
    std::fs::write(&path, text).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(then).unwrap();
    let check = rig.run(&["bake", "--check", "--dir", "/opt/second"]).expect(78);
    assert!(check.stdout.contains("the content of") && check.stdout.contains("delete it"), "{check:#?}");
}

#[test]
fn a_full_disk_leaves_the_runner_without_a_copy_or_nothing() {
    let Some(sample) = rig() else { return };
    sample.run(&["bake"]).expect(0);
    let files = facts(&sample.dir()).len();
    let rig = Rig::new();
    let mount = |inodes: usize| {
        Tmpfs::mount(rig.root().join("opt"), &format!("mode=755,size=64m,nr_inodes={inodes}"))
    };
    // Each name of a file counts.
    let Some(_opt) = mount(files + 12) else { return };
    rig.run(&["bake"]).expect(0).says("no copy is kept for more runners");
    assert_eq!(names_in(&rig.root().join("opt")), ["actions-runner"]);

    let rig = Rig::new();
    let mount = |inodes: usize| {
        Tmpfs::mount(rig.root().join("opt"), &format!("mode=755,size=64m,nr_inodes={inodes}"))
    };
    let Some(_opt) = mount(2 * files + 20) else { return };
    rig.run(&["bake"]).expect(0);
    rig.run(&SECOND).expect(74).says("takes no more files");
    assert_eq!(names_in(&rig.root().join("opt")), [".runup-store", "actions-runner"]);
    rig.assert_store_is_whole();
}

#[test]
fn where_no_link_can_lead_the_files_are_copied_and_that_is_said() {
    let Some(rig) = rig() else { return };
    let Some(_disk) = Tmpfs::mount(rig.root().join("opt/second"), "mode=755,size=64m") else { return };
    rig.run(&["bake"]).expect(0);
    let ran = rig.run(&SECOND).expect(0).says("from the verified copy");
    ran.says("the runner in /opt/second takes 1 MB of its own");
    let copy = rig.root().join("opt/second").join(LISTENER);
    assert_eq!((rig.asked("archive"), std::fs::metadata(copy).unwrap().nlink()), (1, 1));
    rig.assert_store_is_whole();
}

/// One runner alone gets no second copy that takes space; one of several does.
#[test]
fn an_image_has_a_copy_where_it_takes_no_space_and_for_several_runners() {
    let Some(rig) = rig() else { return };
    let check = |settings: &str, has_copy: bool| {
        std::fs::create_dir_all(rig.root().join("etc/runup")).unwrap();
        std::fs::write(rig.root().join("etc/runup/config.toml"), settings).unwrap();
        let ran = rig.run(&["bake"]).expect(0);
        assert!(!ran.all().contains("no copy"), "{ran:#?}");
        assert_eq!(store(&rig).exists(), has_copy, "{settings}");
        rig.run(&["remove"]).expect(0);
        assert!(!store(&rig).exists());
    };
    check("", true);
    check("self-update = true\n", false);
    let Some(_disk) = Tmpfs::mount(rig.dir(), "mode=755,size=64m") else { return };
    check("", false);
    check("count = 3\n", true);
}

/// Its next tree is made from it.
#[test]
fn a_runner_that_registers_again_after_each_job_has_a_copy() {
    let Some(rig) = rig() else { return };
    run(&rig, &["--ephemeral", "--after-job", "again"]);
    rig.assert_store_is_whole();
}

/// What another user could have written makes no tree of root's.
#[test]
fn a_store_that_others_can_enter_is_not_used() {
    let Some(rig) = rig() else { return };
    rig.run(&["bake"]).expect(0);
    std::fs::set_permissions(store(&rig), std::fs::Permissions::from_mode(0o770)).unwrap();
    rig.run(&SECOND).expect(0).says("no copy is kept");
    assert_eq!(rig.asked("archive"), 2);
}

impl Rig {
    /// The store has what the check of an image reads, and no litter.
    #[track_caller]
    pub fn assert_store_is_whole(&self) {
        let names = names_in(&store(self));
        assert!(!names.is_empty() && names.iter().all(|name| !name.starts_with('.')), "{names:?}");
        let check = self.run(&["bake", "--check", "--dir", "/opt/actions-runner"]);
        assert!(!check.all().contains(".runup-store/"), "{check:#?}");
    }
}
