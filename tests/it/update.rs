//! Updates of the runner by itself: lived through, and repaired when they were cut off.

use crate::rig::{Rig, finish, names_in, signal, until};
use runup::lifecycle::checkpoint::Checkpoint;
use runup::sandbox::{Fault, FaultKind, Scope, Update};
use rustix::process::Signal;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt;
use std::process::Child;

fn scope() -> Scope {
    "orgs/octo-org".parse().unwrap()
}

fn online(rig: &Rig) -> bool {
    rig.state().runners.first().is_some_and(|runner| runner.online)
}

fn start(rig: &Rig, arguments: &[&str]) -> Child {
    rig.start(&[&["run", "--self-update"], arguments].concat())
}

fn start_online(rig: &Rig, arguments: &[&str]) -> Child {
    let child = start(rig, arguments);
    until("it is online", || online(rig));
    child
}

fn stop(child: Child) -> crate::rig::Ran {
    signal(&child, Signal::TERM);
    finish(child)
}

fn version(rig: &Rig) -> Option<String> {
    rig.state().runners.first().map(|runner| runner.version.clone())
}

/// Waits until the server has a session with a runner of this version.
fn until_updated(rig: &Rig, to: &str) {
    until(to, || online(rig) && version(rig).as_deref() == Some(to));
}

fn do_job(rig: &Rig) {
    let job = rig.sandbox.add_job(&scope(), "job", 0);
    until("the job is done", || rig.state().jobs.iter().any(|it| it.id == job && it.done));
}

/// What it says, line by line, as long as it runs.
fn lines(child: &mut Child) -> impl Iterator<Item = String> {
    let stderr = child.stderr.as_mut().unwrap();
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        // Nothing more is read than what is looked at: the rest is for `finish`.
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            stderr.read_exact(&mut byte).ok()?;
            line.push(byte[0]);
        }
        Some(String::from_utf8_lossy(&line).into_owned())
    })
}

#[test]
fn it_lives_through_updates_of_the_runner_between_jobs() {
    let rig = Rig::new();
    // The server knows that a job is done before the listener has said so.
    let child = start_online(&rig, &["--drain", "50s"]);
    do_job(&rig);
    for to in ["2.337.0", "2.338.0"] {
        rig.sandbox.offer_update(Update::to(to));
        until_updated(&rig, to);
        do_job(&rig);
    }
    let bin = std::fs::read_link(rig.dir().join("bin")).unwrap();
    assert_eq!(bin, rig.dir().join("bin.2.338.0"));
    stop(child).expect(0).says("has updated itself").says("after 3 jobs");
    assert_eq!(rig.asked("register"), 1);
    rig.assert_exactly_one_runner();

    let status = rig.run(&["status", "--json"]).expect(0).json()["runners"][0].clone();
    assert_eq!((&status["version"], &status["drift"]), (&"2.338.0".into(), &serde_json::json!([])));
    let again = rig.run(&["install", "--json"]).expect(0).json();
    assert_eq!((&again["changed"], &again["version"]), (&false.into(), &"2.338.0".into()));
    rig.run(&["remove"]).expect(0);
    rig.assert_nothing_left();
}

/// A server, or a tree that an update does not change, can tell the listener to update itself for ever: each time is a
/// download of the whole runner.
#[test]
fn a_runner_that_updates_itself_again_and_again_ends_with_an_error() {
    // One that is cut off counts, although the runner is replaced after it: it is two updates to the same version.
    let whole = [Update::to("2.337.0"), Update::to("2.338.0"), Update::to("2.339.0")];
    let broken = [Update::to("2.337.0").cut_off(), Update::to("2.338.0")];
    for updates in [&whole[..], &broken] {
        let rig = Rig::new();
        let token = rig.write("token", rig.sandbox.token().expose());
        let child = start_online(&rig, &["--token-file", &token]);
        for update in updates {
            rig.sandbox.offer_update(update.clone());
            until_updated(&rig, &update.version);
        }
        rig.sandbox.offer_update(Update::to("2.340.0"));
        finish(child).expect(79).says("updates itself again, after 3 times within an hour").says("hint: ");
        // The last one was not cut off: its script moves the files after the listener's end.
        let bin = rig.dir().join("bin");
        assert_eq!(std::fs::read_link(&bin).unwrap(), rig.dir().join("bin.2.340.0"));
        assert!(bin.join("Runner.Listener").exists());
        // A service manager starts it again.
        let mut child = start(&rig, &["--token-file", &token]);
        let waits = "updated itself more than 3 times within an hour; starting it in 60 min";
        assert_eq!(lines(&mut child).filter(|line| line.contains(waits)).take(1).count(), 1);
        stop(child).expect(0);
    }
}

#[test]
fn an_ephemeral_runner_updates_itself_and_does_its_job() {
    let rig = Rig::new();
    rig.sandbox.offer_update(Update::to("2.337.0"));
    rig.sandbox.add_job(&scope(), "only", 0);
    finish(start(&rig, &["--ephemeral"])).expect(0).says("has updated itself").says("the job is done");
    assert!(rig.state().runners.is_empty() && rig.state().jobs[0].done);
    assert!(!rig.dir().join("_work").exists(), "what the update had staged is gone as well");
}

#[test]
fn an_update_that_is_cut_off_is_repaired_and_the_runner_stays_the_same() {
    let rig = Rig::new();
    // The server knows that a job is done before the listener has said so.
    // A token of the environment is dropped where jobs share the user; one in a file is read again for the repair.
    let token = rig.write("token", rig.sandbox.token().expose());
    let child = start_online(&rig, &["--drain", "50s", "--token-file", &token]);
    do_job(&rig);
    let before = rig.state().runners[0].clone();
    std::fs::write(rig.dir().join("_work/kept"), "a cache").unwrap();
    rig.sandbox.offer_update(Update::to("2.337.0").cut_off());
    // Repaired, it is of the version on offer, and is told to update itself once more: this time to the end.
    until_updated(&rig, "2.337.0");
    do_job(&rig);
    assert!(rig.dir().join("_work/kept").exists());
    stop(child).expect(0).says("was cut off").says("the registration kept").says("has updated itself");
    assert_eq!(rig.state().runners[0].id, before.id);
    assert_eq!(rig.asked("register"), 1, "its registration was kept");
    rig.assert_exactly_one_runner();
    rig.run(&["remove"]).expect(0);
    rig.assert_nothing_left();
}

/// The half-moved tree that a power cut in the middle of an update leaves.
fn half_moved() -> Rig {
    let rig = Rig::new();
    rig.run(&["install"]).expect(0);
    let dir = rig.dir();
    std::fs::rename(dir.join("bin"), dir.join("bin.2.336.0")).unwrap();
    rig.sandbox.requests_clear();
    rig
}

#[test]
fn install_repairs_a_half_moved_tree_without_registering_again() {
    let rig = half_moved();
    std::fs::write(rig.dir().join(".env"), "LANG=C\n").unwrap();
    let key = std::fs::read(rig.dir().join(".credentials_rsaparams")).unwrap();
    let status = rig.run(&["status"]).expect(78);
    assert!(status.stdout.contains("incomplete") && status.stdout.contains("runup install"), "{status:#?}");
    let plan = rig.run(&["plan"]).expect(0);
    assert!(
        plan.stdout.contains("bin/Runner.Listener") && plan.stdout.contains("keep its registration"),
        "{plan:#?}"
    );
    rig.run(&["install"]).expect(0);
    assert_eq!(rig.asked("register"), 0);
    assert_eq!(std::fs::read(rig.dir().join(".credentials_rsaparams")).unwrap(), key);
    assert_eq!(std::fs::read_to_string(rig.dir().join(".env")).unwrap(), "LANG=C\n");
    assert!(!rig.dir().join("bin.2.336.0").exists(), "nothing of the old tree stays");
    assert_eq!(names_in(&rig.root().join("opt")), ["actions-runner"]);
    rig.assert_exactly_one_runner();
    stop(start_online(&rig, &[])).expect(0);
}

/// The entry of the old tree stays true until the exchange, which is the only thing that a repair does: one that was
/// begun would be taken for a first placing, or for a conversion, by the next run.
#[test]
fn a_repair_that_is_killed_leaves_no_tree_that_counts_as_begun() {
    for checkpoint in [Checkpoint::PlaceStaged, Checkpoint::PlaceRenamed] {
        let rig = half_moved();
        let id = rig.state().runners[0].id;
        rig.die_at(checkpoint, &["install"]);
        let state = rig.root().join("var/lib/runup");
        let journals = || std::fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path());
        let journal = journals().find(|path| path.extension().is_some_and(|end| end == "json")).unwrap();
        let journal = std::fs::read_to_string(journal).unwrap();
        assert!(!journal.contains("\"begun\""), "{}: {journal}", checkpoint.name());
        rig.run(&["install"]).expect(0);
        rig.assert_exactly_one_runner();
        assert_eq!((rig.state().runners[0].id, rig.asked("register")), (id, 0), "{}", checkpoint.name());
    }
}

#[test]
fn a_repair_that_fails_leaves_what_was_there() {
    let rig = half_moved();
    rig.sandbox.fault(Fault::new("archive", FaultKind::Corrupt { at: 5000 }));
    rig.run(&["install"]).expect(65);
    rig.assert_exactly_one_runner();
    assert!(rig.dir().join("bin.2.336.0").exists());
    rig.sandbox.faults_clear();
    rig.run(&["install"]).expect(0);
    rig.assert_exactly_one_runner();
}

/// A job may have put anything in the place of the files that are kept: nothing is followed, and nothing is lost.
#[test]
fn a_repair_follows_no_link_out_of_the_tree() {
    let rig = half_moved();
    let secret = rig.write("precious", "secret of root");
    let dir = rig.dir();
    for (name, link) in [(".credentials", 78), (".env", 0)] {
        let kept = std::fs::read(dir.join(name)).unwrap_or_default();
        let _ = std::fs::remove_file(dir.join(name));
        std::os::unix::fs::symlink(&secret, dir.join(name)).unwrap();
        let ran = rig.run(&["install"]);
        assert_eq!(ran.code == 0, link == 0, "{ran:#?}");
        assert!(!ran.all().contains("secret of root"));
        if link != 0 {
            assert!(dir.join("bin.2.336.0").exists(), "the old tree stands");
            std::fs::remove_file(dir.join(name)).unwrap();
            std::fs::write(dir.join(name), kept).unwrap();
        }
    }
    assert!(std::fs::symlink_metadata(dir.join(".env")).is_err(), "the link is not kept");
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret of root");
    rig.assert_exactly_one_runner();
}

/// Where the kernel lets users link to what they do not own, a job can make a name in the tree for any file of root's.
#[test]
fn a_repair_gives_the_runner_s_user_nothing_that_it_could_not_read() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let rig = half_moved();
    let secret = rig.write("precious", "secret of root");
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
    let env = rig.dir().join(".env");
    let _ = std::fs::remove_file(&env);
    std::fs::hard_link(&secret, &env).unwrap();
    rig.run(&["install"]).expect(0).says(".env is not kept");
    assert!(std::fs::symlink_metadata(&env).is_err(), "it is not in the new tree");
    rig.assert_exactly_one_runner();

    // What root has put there for it is kept: the user can read it.
    let rig = half_moved();
    let env = rig.dir().join(".env");
    std::fs::write(&env, "LANG=C\n").unwrap();
    std::os::unix::fs::chown(&env, Some(0), Some(65534)).unwrap();
    std::fs::set_permissions(&env, PermissionsExt::from_mode(0o640)).unwrap();
    rig.run(&["install"]).expect(0);
    assert_eq!(std::fs::read_to_string(&env).unwrap(), "LANG=C\n");
}

#[test]
fn a_pinned_version_that_has_updated_itself_is_drift_and_runs_on() {
    let rig = Rig::new();
    let pinned = ["--runner-version", "2.336.0"];
    let child = start_online(&rig, &pinned);
    rig.sandbox.offer_update(Update::to("2.337.0"));
    until_updated(&rig, "2.337.0");
    stop(child).expect(0);
    let status = rig.run(&["status", "--json"]).expect(78).json()["runners"][0].clone();
    assert!(status["drift"][0].as_str().unwrap().contains("has updated itself"), "{status}");
    rig.run(&["install", "--runner-version", "2.336.0"]).expect(0).says("nothing to do");
    stop(start_online(&rig, &pinned)).expect(0);
    assert_eq!(version(&rig).as_deref(), Some("2.337.0"));
}
