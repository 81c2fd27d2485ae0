//! A runner's directory that is a mount point, or has its work directory as one: a volume of a container, or a disk.

use crate::rig::{Rig, SCOPE, Tmpfs, finish, names_in, signal, until};
use runup::lifecycle::checkpoint::Checkpoint;
use runup::sandbox::NewJob;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// A new filesystem with what it brings along; `None` where it cannot be mounted.
fn disk(at: &Path, mode: u32) -> Option<Tmpfs> {
    let disk = Tmpfs::mount(at.to_owned(), &format!("mode={mode:o},size=64m"))?;
    let lost = at.join("lost+found");
    std::fs::create_dir(&lost).unwrap();
    std::fs::set_permissions(&lost, std::fs::Permissions::from_mode(0o700)).unwrap();
    Some(disk)
}

fn job(rig: &Rig, script: &str) -> u64 {
    rig.sandbox.queue(NewJob::script(SCOPE, script))
}

fn log(rig: &Rig, id: u64) -> String {
    rig.state().jobs.iter().find(|job| job.id == id).unwrap().log.clone()
}

#[test]
fn a_runner_is_placed_into_a_mounted_directory_replaced_there_and_removed_from_it() {
    let rig = Rig::new();
    // As Kubernetes mounts a volume.
    let Some(_disk) = disk(&rig.dir(), 0o777) else { return };
    rig.run(&["bake"]).expect(0);
    let meta = std::fs::metadata(rig.dir()).unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o7777), (0, 0o1770), "locked like any other");
    assert!(rig.dir().join("bin/Runner.Listener").exists());
    // A newer version takes the place of the old one, which jobs have not used.
    rig.sandbox.offer("2.340.0");
    rig.run(&["install", "--runner-version", "2.340.0"]).expect(0).says("2.340.0");
    rig.assert_exactly_one_runner();
    assert!(!names_in(&rig.dir()).iter().any(|name| name.contains("runup-")), "{:?}", names_in(&rig.dir()));
    rig.run(&["install"]).expect(0).says("nothing to do");
    rig.run(&["remove"]).expect(0);
    assert_eq!(names_in(&rig.dir()), ["lost+found"], "the mount point stays");
    assert_eq!(rig.state().runners, []);
    assert_eq!(std::fs::metadata(rig.dir()).unwrap().mode() & 0o7777, 0o755);
    // And once more into what was left.
    rig.run(&["install"]).expect(0);
    rig.run(&["remove"]).expect(0);
}

#[test]
fn a_cut_in_a_mounted_directory_is_emptied_and_placed_again() {
    let checkpoints =
        [Checkpoint::PlaceBegun, Checkpoint::PlaceStaged, Checkpoint::PlaceRenamed, Checkpoint::PlaceGuarded];
    for checkpoint in checkpoints {
        for next in ["install", "remove"] {
            let rig = Rig::new();
            let Some(_disk) = disk(&rig.dir(), 0o755) else { return };
            rig.die_at(checkpoint, &["install"]);
            // Whatever is there, it is not trusted to be the runner.
            let altered = rig.dir().join("bin/Runner.Listener");
            if altered.exists() {
                std::fs::write(&altered, "#!/bin/sh\nexit 9\n").unwrap();
            }
            let ran = rig.run(&[next]).expect(0);
            if next == "install" {
                rig.assert_exactly_one_runner();
                assert!(std::fs::metadata(&altered).unwrap().len() > 20, "{}", checkpoint.name());
                assert!(ran.stderr.contains("was cut off"), "{ran:#?}");
                rig.run(&["remove"]).expect(0);
            }
            assert_eq!(names_in(&rig.dir()), ["lost+found"], "{} then {next}", checkpoint.name());
        }
    }
    // A refresh that is cut off.
    let rig = Rig::new();
    let Some(_disk) = disk(&rig.dir(), 0o755) else { return };
    rig.run(&["bake"]).expect(0);
    rig.sandbox.offer("2.340.0");
    let newer = ["install", "--runner-version", "2.340.0"];
    rig.die_at(Checkpoint::PlaceStaged, &newer);
    assert!(rig.dir().join("config.sh").exists(), "the old one stays until the new one is verified");
    rig.die_at(Checkpoint::PlaceRenamed, &newer);
    rig.run(&newer).expect(0).says("was cut off");
    rig.assert_exactly_one_runner();
}

#[test]
fn a_mounted_work_directory_is_used_cleaned_between_jobs_and_left_empty() {
    let rig = Rig::new();
    let work = rig.dir().join("_work");
    let Some(_disk) = disk(&work, 0o755) else { return };
    job(&rig, &format!("touch {0}/secret; mkdir -p {0}/a/b; chmod 0 {0}/a", work.display()));
    let second = job(&rig, &format!("ls -A {}; id -u; stat -c %u {}", work.display(), work.display()));
    let child = rig.start(&["run", "--ephemeral", "--after-job", "again"]);
    until("both are done", || rig.state().jobs.iter().all(|job| job.done));
    until("the next one is online", || rig.state().runners.first().is_some_and(|runner| runner.online));
    signal(&child, rustix::process::Signal::TERM);
    let ran = finish(child).expect(0);
    let seen = log(&rig, second);
    assert!(!seen.contains("secret") && seen.contains("lost+found"), "{seen} {ran:#?}");
    rig.run(&["remove"]).expect(0);
    assert_eq!(names_in(&work), ["lost+found"]);
    assert_eq!(names_in(&rig.dir()), ["_work"], "only what is mounted stays");
    assert_eq!(std::fs::metadata(&work).unwrap().uid(), 0);
}

/// As a pod has them: both are volumes, and nothing runs as root.
#[test]
fn an_ordinary_user_places_into_volumes_and_empties_them() {
    let rig = Rig::new();
    let Some(_dir) = disk(&rig.dir(), 0o777) else { return };
    let work = rig.dir().join("jobs");
    let Some(_work) = disk(&work, 0o777) else { return };
    std::fs::create_dir_all(rig.root().join("var/lib")).unwrap();
    std::os::unix::fs::chown(rig.root().join("var/lib"), Some(65534), None).unwrap();
    let run = ["run", "--ephemeral", "--work", "jobs"];
    job(
        &rig,
        &format!("mkdir -p {0}/a/b; touch {0}/a/b/secret; chmod 0555 {0}/a/b; chmod 0 {0}/a", work.display()),
    );
    finish(rig.as_nobody(&run)).expect(0).says("the job is done");
    // The container is replaced, and nothing but the volume of the jobs stays.
    std::fs::remove_dir_all(rig.root().join("var")).unwrap();
    for name in names_in(&rig.dir()).into_iter().filter(|name| !["jobs", "lost+found"].contains(&&**name)) {
        let path = rig.dir().join(name);
        let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
    }
    std::fs::create_dir_all(rig.root().join("var/lib")).unwrap();
    std::os::unix::fs::chown(rig.root().join("var/lib"), Some(65534), None).unwrap();
    std::fs::write(work.join("left-by-a-kill"), "x").unwrap();
    let second = job(&rig, &format!("ls -A {}", work.display()));
    finish(rig.as_nobody(&run)).expect(0).says("the job is done");
    let seen = log(&rig, second);
    assert!(!seen.contains("/a") && !seen.contains("left-by-a-kill"), "{seen}");
    finish(rig.as_nobody(&["remove"])).expect(0);
    assert_eq!(
        (names_in(&work), names_in(&rig.dir())),
        (vec!["lost+found".into()], vec!["jobs".into(), "lost+found".into()])
    );
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_downloaded() {
    let rig = Rig::new();
    let data = rig.dir().join("data");
    let Some(disk_of_others) = disk(&data, 0o755) else { return };
    rig.run(&["install"]).expect(78).says("something is mounted in").says("data");
    assert_eq!(rig.asked("archive"), 0);
    drop(disk_of_others);
    std::fs::remove_dir_all(rig.dir()).unwrap();
    // A disk for jobs that holds somebody's files.
    let work = rig.dir().join("_work");
    let Some(_work) = disk(&work, 0o755) else { return };
    std::fs::write(work.join("thesis"), "x").unwrap();
    rig.run(&["install"]).expect(78).says("it contains other files, such as thesis");
    assert_eq!(rig.asked("archive"), 0);
    assert!(work.join("thesis").exists() && rig.state().runners.is_empty());
}

#[test]
fn a_registered_runner_in_a_mounted_directory_is_not_exchanged() {
    let rig = Rig::new();
    let Some(_disk) = disk(&rig.dir(), 0o755) else { return };
    let child = rig.start(&["run"]);
    until("it is online", || rig.state().runners.first().is_some_and(|runner| runner.online));
    signal(&child, rustix::process::Signal::TERM);
    finish(child).expect(0);
    rig.sandbox.offer("2.340.0");
    rig.run(&["upgrade"]).expect(78).says("is a mount point").says("hint: Run `");
    std::fs::remove_file(rig.dir().join("run.sh")).unwrap();
    rig.run(&["install"]).expect(78).says("is a mount point");
    rig.run(&["remove"]).expect(0);
    rig.run(&["install"]).expect(0).says("2.340.0");
}

/// The operator's disk has come over what was a plain directory: what is on it is not the jobs'.
#[test]
fn a_disk_that_came_over_the_work_directory_is_not_emptied_before_the_next_job() {
    let rig = Rig::new();
    job(&rig, "touch leftover");
    let run = ["run", "--ephemeral"];
    finish(rig.start(&run)).expect(0);
    let work = rig.dir().join("_work");
    std::fs::create_dir_all(&work).unwrap();
    let Some(_disk) = disk(&work, 0o755) else { return };
    std::fs::write(work.join("precious"), "").unwrap();
    job(&rig, "true");
    finish(rig.start(&[&run[..], &["--deadline", "5s"]].concat())).expect(78).says("precious");
    assert!(work.join("precious").exists());
}
