use super::*;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};

const SHA256: [u8; 32] = [0xab; 32];

fn digest() -> Sha256Digest {
    Sha256Digest::new(SHA256)
}

const SHARING: Making = Making { shares: true, owner: None, closed: true };
const COPYING: Making = Making { shares: false, owner: None, closed: false };

/// A directory with a verified tree, and the store beside it.
fn filled() -> (tempfile::TempDir, Store, Entry) {
    let place = tempfile::tempdir().unwrap();
    let tree = place.path().join("tree");
    fs_err::create_dir_all(tree.join("bin/deep")).unwrap();
    for (name, text, mode) in
        [("run.sh", "#!/bin/sh\n", 0o755), ("bin/deep/data", "data", 0o644), ("empty", "", 0o600)]
    {
        fs_err::write(tree.join(name), text).unwrap();
        fs_err::set_permissions(tree.join(name), Permissions::from_mode(mode)).unwrap();
    }
    symlink("deep/data", tree.join("bin/link")).unwrap();
    let store = Store::beside(&tree);
    assert!(!store.exists() && store.find(digest()).is_none());
    store.fill(&tree, Some("2.330.0"), digest(), Cost::Space).unwrap();
    let entry = store.find(digest()).unwrap();
    assert!(entry.path().ends_with(".runup-store/2.330.0-abababababab"));
    (place, store, entry)
}

fn inode(path: &Path) -> u64 {
    fs_err::metadata(path).unwrap().ino()
}

fn damage(result: Result<impl std::fmt::Debug, Failed>) -> String {
    match result {
        Err(Failed::Damaged(what)) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_tree_is_made_of_the_same_files_or_of_copies() {
    let (place, _store, entry) = filled();
    for (making, name) in [(SHARING, "shared"), (COPYING, "copied")] {
        let tree = place.path().join(name);
        let made = entry.make(digest(), &tree, making).unwrap();
        assert_eq!((made.entries, made.copied), (6, if making.shares { 0 } else { 14 }));
        assert_eq!(fs_err::read_to_string(tree.join("bin/link")).unwrap(), "data");
        assert_eq!(fs_err::metadata(tree.join("run.sh")).unwrap().mode() & 0o7777, 0o755);
        let bits = if making.closed { 0o700 } else { 0o755 };
        assert_eq!(fs_err::metadata(&tree).unwrap().mode() & 0o7777, bits);
        let same = inode(&tree.join("run.sh")) == inode(&entry.path().join("tree/run.sh"));
        assert_eq!(same, making.shares, "{name}");
        // What a copy's owner does to it is not done to the store.
        if !making.shares {
            fs_err::write(tree.join("run.sh"), "other").unwrap();
        }
    }
    assert_eq!(entry.verify().unwrap(), 6);
}

#[test]
fn what_is_damaged_is_noticed_before_anything_is_made_of_it() {
    type Harm = fn(&Path);
    let harms: [(Harm, &str); 7] = [
        (|tree| fs_err::remove_file(tree.join("bin/deep/data")).unwrap(), "No such file"),
        (
            |tree| {
                fs_err::OpenOptions::new().write(true).open(tree.join("run.sh")).unwrap().set_len(3).unwrap();
            },
            "the size",
        ),
        (
            |tree| fs_err::set_permissions(tree.join("run.sh"), Permissions::from_mode(0o777)).unwrap(),
            "the mode",
        ),
        (|tree| fs_err::write(tree.join("run.sh"), "#!/bin/xx\n").unwrap(), "the time"),
        (
            |tree| {
                fs_err::remove_file(tree.join("bin/link")).unwrap();
                symlink("/etc/passwd", tree.join("bin/link")).unwrap();
            },
            "the target",
        ),
        (|tree| fs_err::write(tree.join("../manifest.json"), "{").unwrap(), "manifest.json is damaged"),
        (
            |tree| {
                let path = tree.join("../manifest.json");
                let text = fs_err::read_to_string(&path).unwrap().replace("bin/deep/data", "../../x/y/data");
                fs_err::write(path, text).unwrap();
            },
            "names",
        ),
    ];
    for (harm, what) in harms {
        let (place, _store, entry) = filled();
        harm(&entry.path().join("tree"));
        let staging = place.path().join("staging");
        let found = damage(entry.make(digest(), &staging, SHARING));
        assert!(found.contains(what), "{what}: {found}");
        assert!(!staging.exists(), "{what}");
        damage(entry.verify());
    }
    let (place, _store, entry) = filled();
    let other = Sha256Digest::new([0xac; 32]);
    damage(entry.make(other, &place.path().join("staging"), SHARING));
}

/// A disk that returns other bytes changes no metadata.
#[test]
fn other_content_under_the_same_metadata_is_found_by_the_full_check() {
    let (place, _store, entry) = filled();
    let path = entry.path().join("tree/run.sh");
    let then = fs_err::metadata(&path).unwrap().modified().unwrap();
    fs_err::write(&path, "#!/bin/xx\n").unwrap();
    fs_err::File::options().write(true).open(&path).unwrap().file().set_modified(then).unwrap();
    entry.make(digest(), &place.path().join("staging"), SHARING).unwrap();
    assert!(damage(entry.verify()).contains("the content of"));

    let (_place, _store, entry) = filled();
    fs_err::write(entry.path().join("tree/bin/more"), "").unwrap();
    assert!(damage(entry.verify()).contains("bin/more is not of the archive"));
}

#[test]
fn what_a_killed_run_left_is_litter_and_an_entry_is_not() {
    let (place, store, entry) = filled();
    for name in [".2.331.0-cccccccccccc.runup-staging", ".2.329.0-dddddddddddd.runup-removed-01234567"] {
        fs_err::create_dir(store.dir().join(name)).unwrap();
    }
    assert_eq!((store.entries().unwrap().len(), store.litter().unwrap().len()), (1, 2));
    store.sweep().unwrap();
    assert_eq!(fs_err::read_dir(store.dir()).unwrap().count(), 1);
    entry.verify().unwrap();
    assert_eq!(place::litter_of_any(store.dir()).unwrap(), [] as [PathBuf; 0]);
    store.clear().unwrap();
    assert_eq!(fs_err::read_dir(place.path()).unwrap().count(), 1, "the tree stays");
}

#[test]
fn a_store_that_others_can_enter_or_that_is_a_link_is_not_used() {
    let (place, store, _entry) = filled();
    fs_err::set_permissions(store.dir(), Permissions::from_mode(0o755)).unwrap();
    assert!(!store.exists() && store.find(digest()).is_none());
    let moved = place.path().join("moved");
    fs_err::set_permissions(store.dir(), Permissions::from_mode(0o700)).unwrap();
    fs_err::rename(store.dir(), &moved).unwrap();
    symlink(&moved, store.dir()).unwrap();
    assert!(!store.exists() && store.find(digest()).is_none());
    store.fill(&place.path().join("tree"), None, digest(), Cost::Space).unwrap_err();
    store.clear().unwrap();
    assert!(moved.join("2.330.0-abababababab/manifest.json").exists());
}

#[cfg(target_os = "linux")]
mod compared {
    use super::*;

    fn compare(entry: &Entry, tree: &Path) -> Vec<String> {
        let mut found: Vec<String> = entry
            .compare(digest(), tree, &|| false)
            .unwrap()
            .different
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        found.sort();
        found
    }

    type Harm = fn(&Path);

    /// What is done to a tree, and what is then said to differ in one that shares its files.
    const HARMS: [(Harm, &[&str]); 9] = [
        (|tree| fs_err::remove_file(tree.join("run.sh")).unwrap(), &["run.sh"]),
        (
            |tree| {
                fs_err::remove_file(tree.join("run.sh")).unwrap();
                fs_err::write(tree.join("run.sh"), "#!/bin/xx\n").unwrap();
                fs_err::set_permissions(tree.join("run.sh"), Permissions::from_mode(0o755)).unwrap();
            },
            &["run.sh"],
        ),
        (
            |tree| {
                fs_err::remove_file(tree.join("bin/deep/data")).unwrap();
                symlink("/etc/passwd", tree.join("bin/deep/data")).unwrap();
            },
            &["bin/deep/data"],
        ),
        (
            |tree| {
                fs_err::remove_file(tree.join("bin/link")).unwrap();
                symlink("/etc/passwd", tree.join("bin/link")).unwrap();
            },
            &["bin/link"],
        ),
        (|tree| fs_err::write(tree.join("bin/deep/more"), "").unwrap(), &["bin/deep/more"]),
        (|tree| fs_err::create_dir_all(tree.join("bin/new/deep")).unwrap(), &["bin/new"]),
        (
            |tree| fs_err::set_permissions(tree.join("bin/deep"), Permissions::from_mode(0o777)).unwrap(),
            &["bin/deep"],
        ),
        (
            |tree| {
                fs_err::rename(tree.join("bin"), tree.join("other")).unwrap();
                symlink("other", tree.join("bin")).unwrap();
            },
            &["bin"],
        ),
        // What is at the top besides is known to others.
        (|tree| fs_err::write(tree.join(".env"), "").unwrap(), &[]),
    ];

    #[test]
    fn what_differs_in_a_tree_is_found_and_put_back() {
        for (number, (harm, expected)) in HARMS.into_iter().enumerate() {
            let (place, _store, entry) = filled();
            let tree = place.path().join("made");
            entry.make(digest(), &tree, SHARING).unwrap();
            assert_eq!(compare(&entry, &tree), [] as [String; 0]);
            harm(&tree);
            let found = compare(&entry, &tree);
            assert_eq!(found, expected, "{number}");
            let paths: Vec<PathBuf> = found.iter().map(PathBuf::from).collect();
            entry.restore(digest(), &tree, &paths).unwrap();
            assert_eq!(compare(&entry, &tree), [] as [String; 0], "{number}");
            assert_eq!(inode(&tree.join("run.sh")), inode(&entry.path().join("tree/run.sh")), "{number}");
            assert_eq!(entry.verify().unwrap(), 6, "the store is as it was");
        }
    }

    /// As where hard links are impossible: each file of the tree is its own.
    #[test]
    fn a_tree_of_copies_is_compared_without_times() {
        let (place, _store, entry) = filled();
        let tree = place.path().join("made");
        let copying = Making { closed: true, ..COPYING };
        entry.make(digest(), &tree, copying).unwrap();
        assert_eq!(compare(&entry, &tree), [] as [String; 0]);
        fs_err::write(tree.join("run.sh"), "longer than it was before").unwrap();
        fs_err::set_permissions(tree.join("empty"), Permissions::from_mode(0o644)).unwrap();
        assert_eq!(compare(&entry, &tree), ["empty", "run.sh"]);
        // A link among copies tells what the tree was made of.
        fs_err::remove_file(tree.join("run.sh")).unwrap();
        fs_err::hard_link(entry.path().join("tree/run.sh"), tree.join("run.sh")).unwrap();
        assert_eq!(compare(&entry, &tree), ["bin/deep/data", "empty"]);
    }

    #[test]
    fn a_file_that_both_share_is_not_trusted_once_it_has_changed() {
        let (place, _store, entry) = filled();
        let tree = place.path().join("made");
        entry.make(digest(), &tree, SHARING).unwrap();
        fs_err::write(tree.join("run.sh"), "#!/bin/xx\n").unwrap();
        let found = entry.compare(digest(), &tree, &|| false);
        assert!(matches!(&found, Err(Unclear::Damaged(what)) if what.contains("run.sh")), "{found:?}");
        let (place, _store, entry) = filled();
        let tree = place.path().join("made");
        entry.make(digest(), &tree, SHARING).unwrap();
        assert!(matches!(entry.compare(digest(), &tree, &|| true), Err(Unclear::GivenUp)));
        assert!(matches!(
            entry.compare(digest(), &place.path().join("missing"), &|| false),
            Err(Unclear::Unreadable(_))
        ));
    }

    /// As after a `chmod --recursive` of a tree, which is the store's as well.
    #[test]
    fn a_copy_whose_modes_and_times_have_changed_is_mended_if_its_content_has_not() {
        let (_place, _store, entry) = filled();
        let at = |name: &str| entry.path().join("tree").join(name);
        fs_err::set_permissions(at("run.sh"), Permissions::from_mode(0o777)).unwrap();
        fs_err::set_permissions(at("bin"), Permissions::from_mode(0o700)).unwrap();
        fs_err::write(at("bin/deep/data"), "data").unwrap();
        damage(entry.verify());
        entry.mend(digest()).unwrap();
        assert_eq!(entry.verify().unwrap(), 6);
        fs_err::write(at("bin/deep/data"), "DATA").unwrap();
        assert!(damage(entry.mend(digest())).contains("bin/deep/data"));
        fs_err::write(at("bin/deep/data"), "data").unwrap();
        fs_err::remove_file(at("run.sh")).unwrap();
        symlink("empty", at("run.sh")).unwrap();
        damage(entry.mend(digest()));
    }

    /// One call for each file tells whether there is anything to compare, whatever has changed.
    #[test]
    fn a_tree_that_has_not_changed_has_the_same_prints_and_any_other_has_not() {
        for (number, (harm, expected)) in HARMS.into_iter().enumerate() {
            let (place, _store, entry) = filled();
            let tree = place.path().join("made");
            entry.make(digest(), &tree, SHARING).unwrap();
            let prints = entry.compare(digest(), &tree, &|| false).unwrap().prints(digest(), &tree).unwrap();
            assert!(prints.hold(digest(), &tree, &|| false));
            assert!(!prints.hold(Sha256Digest::new([0; 32]), &tree, &|| false));
            assert!(!prints.hold(digest(), &tree, &|| true));
            // The clock of a filesystem has some milliseconds.
            let begun = std::time::Instant::now();
            let probe = place.path().join("probe");
            let changed = |path: &Path| {
                let meta = fs_err::symlink_metadata(path).unwrap();
                (meta.ctime(), meta.ctime_nsec())
            };
            let latest = changed(&tree.join("bin/link"));
            while {
                fs_err::write(&probe, "x").unwrap();
                changed(&probe) <= latest
            } {
                assert!(begun.elapsed().as_secs() < 10);
            }
            harm(&tree);
            assert_eq!(prints.hold(digest(), &tree, &|| false), expected.is_empty(), "{number}");
        }
    }
}
