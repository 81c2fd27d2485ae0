//! What a job of an ephemeral runner leaves outside of its tree: gone before the next one, if the user is runup's own.

use crate::rig::{Ran, Rig, SCOPE, Tmpfs, finish, names_in, signal, until};
use runup::host::process::with_env;
use runup::runner::listener::MARKER;
use runup::sandbox::{JobResult, NewJob, RunnerChange};
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

const PART: &str = "bin/RunnerService.js";

/// Hides something at every place in the directory $1 that it can write to, also with modes that close it.
const HIDE: &str = r#"
    for place in $(find "$1" -xdev -type d -writable 2>/dev/null); do
        mkdir -p "$place/hidden-by-job/deep/er" && echo secret >"$place/hidden-by-job/deep/file" &&
            ln -s / "$place/hidden-by-job/link" && mkfifo "$place/hidden-by-job/fifo" &&
            chmod 000 "$place/hidden-by-job/deep/er" && echo "hidden in $place"
        echo hidden-by-job >>"$place/.bashrc"
    done
    cd "$HOME" && mkdir -p .cache/closed && chmod 500 .cache
"#;

/// Looks for what is hidden, and shows the home directory.
const SEEK: &str = r#"
    find "$1" -xdev -name '*hidden-by-job*' 2>/dev/null | sed 's/^/found /'
    grep --recursive --files-with-matches --devices=skip hidden-by-job "$1/home" "$1/srv" "$1/tmp" 2>/dev/null | sed 's/^/found /'
    find "$1/opt" -name 'Worker_*' 2>/dev/null | wc -l | sed 's/^/logs /'
    cat "$HOME/.profile"; ls -A "$HOME"; echo looked
"#;

const LOOK: &str = r#"ls "$HOME" | sed 's/^/home has /'; ls "$1/tmp" | sed 's/^/tmp has /'"#;

/// A machine with directories that all users share, and something for new users; `None` where no user can be created.
fn machine() -> Option<Rig> {
    let rig = Rig::new().making_a_user();
    if !rig.makes_a_user() {
        return None;
    }
    for place in ["tmp", "var/tmp", "srv/shared", "run/lock"] {
        let path = rig.root().join(place);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o1777)).unwrap();
    }
    let file = rig.write("etc/skel/.profile", "as at first\n");
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).unwrap();
    Some(rig)
}

fn queue(rig: &Rig, script: &str) -> u64 {
    // On a machine that is not in a directory, the runner's user has it as its own.
    let script = format!("set +e -- {0}\nHOME={0}/home/fresh\n{script}", rig.root().display());
    rig.sandbox.queue(NewJob::script(SCOPE, &script))
}

fn log_of(rig: &Rig, id: u64) -> String {
    let job = rig.state().jobs.into_iter().find(|job| job.id == id).unwrap();
    assert_eq!(job.result, Some(JobResult::Succeeded), "{}", job.log);
    job.log
}

fn until_idle(rig: &Rig) {
    until("the jobs are done", || rig.state().jobs.iter().all(|job| job.done));
    until("the next one is online", || rig.state().runners.first().is_some_and(|runner| runner.online));
}

fn start(rig: &Rig) -> Child {
    rig.start(&["run", "--ephemeral", "--after-job", "again"])
}

#[test]
fn the_next_job_finds_nothing_that_an_earlier_one_hid() {
    let Some(rig) = machine() else { return };
    let (theirs, kept) = (rig.write("srv/shared/theirs", "x"), rig.root().join("tmp/kept"));
    std::fs::create_dir(&kept).unwrap();
    let (hide, seek) = (queue(&rig, HIDE), queue(&rig, SEEK));
    let child = start(&rig);
    until_idle(&rig);
    let hidden = log_of(&rig, hide);
    for place in ["home/fresh", "tmp", "var/tmp", "srv/shared", "run/lock", "opt/actions-runner"] {
        assert!(hidden.contains(&format!("hidden in {}", rig.root().join(place).display())), "{hidden}");
    }
    let found = log_of(&rig, seek);
    assert!(found.contains("looked") && !found.contains("found "), "{found}");
    assert!(found.contains("as at first") && !found.contains(".cache"), "{found}");
    assert!(found.contains("logs 1"), "only its own log: {found}");
    let uid = std::fs::metadata(rig.root().join("home/fresh")).unwrap().uid();
    let owned = |path: &Path| std::fs::symlink_metadata(path).is_ok_and(|meta| meta.uid() == uid);
    let left: Vec<_> = rig.everything().into_iter().filter(|path| owned(path)).collect();
    let usual = |path: &Path| path.starts_with(rig.dir()) || path.starts_with(rig.root().join("home/fresh"));
    assert!(left.iter().all(|path| usual(path)), "{left:?}");
    assert!(Path::new(&theirs).exists() && kept.exists());
    let profile = std::fs::metadata(rig.root().join("home/fresh/.profile")).unwrap();
    assert_eq!((profile.uid(), profile.mode() & 0o777), (uid, 0o644));

    // Root still has the logs of both, until the runner is removed.
    let logs = rig.root().join("var/log/runup");
    let runner = logs.join(names_in(&logs).first().unwrap());
    let workers = names_in(&runner).iter().filter(|name| name.starts_with("Worker_")).count();
    assert_eq!(workers, 2, "{:?}", names_in(&runner));
    assert_eq!(std::fs::metadata(&logs).unwrap().mode() & 0o777, 0o700);
    let root = rig.root().to_str().unwrap();
    finish(rig.command(&["logs", "--root", root]).spawn().unwrap()).expect(0).says("worker");
    signal(&child, Signal::TERM);
    finish(child).expect(0);
    rig.run(&["remove"]).expect(0);
    assert!(!runner.exists());
    rig.assert_nothing_left();
}

#[test]
fn a_home_directory_with_files_of_the_operator_s_stays() {
    let Some(rig) = machine() else { return };
    rig.run(&["install", "--ephemeral", "--service", "none"]).expect(0);
    let uid = std::fs::metadata(rig.root().join("home/fresh")).unwrap().uid();
    let theirs = rig.write("home/fresh/toolchain", "x");
    std::os::unix::fs::chown(&theirs, Some(uid), Some(uid)).unwrap();
    let (hide, look) = (queue(&rig, HIDE), queue(&rig, LOOK));
    let child = start(&rig);
    until_idle(&rig);
    log_of(&rig, hide);
    let found = log_of(&rig, look);
    assert!(found.contains("home has toolchain") && !found.contains("tmp has"), "{found}");
    signal(&child, Signal::TERM);
    finish(child).expect(0).says("had files before the first job, and is not cleaned");
    assert!(!rig.root().join("tmp/hidden-by-job").exists());
}

/// Waits until the test has done something meanwhile.
const WAIT: &str = r#"mkfifo -m 666 "$1/tmp/gate" && cat "$1/tmp/gate" && echo waited"#;

/// Lets the job go on that waits.
fn open_gate(rig: &Rig) {
    std::fs::OpenOptions::new().write(true).open(rig.root().join("tmp/gate")).unwrap();
}

/// The file of the verified copy.
fn copy_of(rig: &Rig, name: &str) -> PathBuf {
    let store = rig.root().join("opt/.runup-store");
    store.join(names_in(&store).first().unwrap()).join("tree").join(name)
}

fn is_shared(rig: &Rig, name: &str) -> bool {
    let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
    inode(&rig.dir().join(name)) == inode(&copy_of(rig, name))
}

/// What only a job that has become root could do to a locked tree.
fn tamper(rig: &Rig) {
    let at = |name: &str| rig.dir().join(name);
    std::fs::remove_file(at(PART)).unwrap();
    std::fs::write(at(PART), "#!/bin/sh\necho planted\n").unwrap();
    std::fs::write(at("bin/planted.dll"), "").unwrap();
    std::fs::set_permissions(at("externals"), std::fs::Permissions::from_mode(0o777)).unwrap();
}

fn is_whole(rig: &Rig) {
    assert!(is_shared(rig, PART) && !rig.dir().join("bin/planted.dll").exists());
    let externals = std::fs::metadata(rig.dir().join("externals")).unwrap();
    assert_eq!(
        externals.mode() & 0o777,
        std::fs::metadata(copy_of(rig, "externals")).unwrap().mode() & 0o777
    );
    assert_eq!(rig.asked("archive"), 1);
    rig.assert_store_is_whole();
}

#[test]
fn the_tree_is_as_its_verified_copy_before_the_next_job() {
    let Some(rig) = machine() else { return };
    rig.run(&["bake"]).expect(0);
    // Of an operator's, before the first job.
    let theirs = rig.write("opt/actions-runner/externals/node12/bin/node", "theirs");
    let hook = rig.write("opt/actions-runner/hook.sh", "theirs");
    let wait = queue(&rig, WAIT);
    let child = start(&rig);
    until("the job waits", || rig.root().join("tmp/gate").exists());
    tamper(&rig);
    open_gate(&rig);
    until_idle(&rig);
    assert!(log_of(&rig, wait).contains("waited"));
    is_whole(&rig);
    assert!(Path::new(&theirs).exists() && Path::new(&hook).exists());

    // The same after a kill, before there is a next job.
    queue(&rig, WAIT);
    until("the job waits", || rig.root().join("tmp/gate").exists());
    tamper(&rig);
    signal(&child, Signal::KILL);
    let said = finish(child).all();
    assert!(
        said.contains("bin/RunnerService.js, bin/planted.dll, externals in /opt/actions-runner"),
        "{said}"
    );
    assert!(
        !said.contains("node12 in /opt") && said.contains("externals/node12 in the runner's directory stay")
    );
    let cut = rig.state().runners[0].id;
    let child = start(&rig);
    until(
        "the next one is online",
        || matches!(&rig.state().runners[..], [runner] if runner.online && runner.id != cut),
    );
    assert!(!rig.root().join("tmp/gate").exists());
    signal(&child, Signal::TERM);
    finish(child).expect(0).says("externals in /opt/actions-runner changed during the job");
    is_whole(&rig);
    assert!(Path::new(&theirs).exists() && Path::new(&hook).exists());
}

/// Kills the supervisor of a job by `kill`, and starts another one, which does the next job. Returns the result of the
/// first job, and what the second supervisor said. `meanwhile` comes once that was started.
fn next_job_after(kill: impl Fn(&Rig, &Child), meanwhile: impl Fn(&Rig)) -> (Option<JobResult>, Ran) {
    let rig = Rig::new();
    let gate = rig.root().join("opt/actions-runner/_work/gate");
    let cut = rig.sandbox.queue(NewJob::script(SCOPE, "mkfifo ../../gate && cat ../../gate"));
    let child = start(&rig);
    until("the job waits", || gate.exists());
    kill(&rig, &child);
    finish(child);
    let next = rig.sandbox.queue(NewJob::script(SCOPE, "ls ../.. | sed 's/^/work has /'"));
    let child = start(&rig);
    meanwhile(&rig);
    until("the next job is done", || rig.state().jobs.iter().any(|job| job.id == next && job.done));
    assert!(!log_of(&rig, next).contains("gate"));
    until("one is online", || matches!(&rig.state().runners[..], [runner] if runner.online));
    signal(&child, Signal::TERM);
    let ran = finish(child).expect(0);
    let cut = rig.state().jobs.into_iter().find(|job| job.id == cut).and_then(|job| job.result);
    (cut, ran)
}

#[test]
fn the_next_job_is_done_after_a_supervisor_was_killed_during_one() {
    let (cut, ran) = next_job_after(|_, child| signal(child, Signal::KILL), |_| {});
    // Its listener could still tell the server.
    assert_eq!(cut, Some(JobResult::Canceled));
    ran.says("ending a listener that outlived the run that had started it");
}

/// An ordinary user's runner goes on with the registration that it has: jobs could change its files anyway.
#[test]
fn the_next_job_is_done_after_all_were_killed_during_one() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let kill = |rig: &Rig, child: &Child| {
        rig.sandbox.end_sessions_after(Duration::from_secs(3600));
        signal(child, Signal::KILL);
        let dir = rig.dir().display().to_string();
        until("all are killed", || {
            let pids = with_env(MARKER, &dir);
            for pid in pids.iter().filter_map(|pid| Pid::from_raw(i32::try_from(*pid).unwrap())) {
                let _ = kill_process(pid, Signal::KILL);
            }
            pids.is_empty()
        });
    };
    // The server notices only after it has refused to delete the busy runner.
    let notice = |rig: &Rig| {
        until("its deletion was refused", || rig.asked("delete-runner") > 0);
        rig.sandbox.end_sessions_after(Duration::from_secs(4));
    };
    let (cut, ran) = next_job_after(kill, notice);
    assert_eq!(cut, Some(JobResult::Abandoned));
    ran.says("was killed during its job, and the server has not noticed that yet");
}

#[test]
fn a_runner_that_stays_busy_after_a_kill_is_waited_for_until_the_deadline_or_a_signal() {
    let rig = Rig::new();
    rig.run(&["install", "--ephemeral", "--service", "none"]).expect(0);
    let id = rig.state().runners[0].id;
    rig.sandbox.change_runner(id, RunnerChange { online: Some(false), busy: Some(true), deleted: false });
    std::fs::remove_file(rig.dir().join(".runner")).unwrap();
    rig.run(&["run", "--ephemeral", "--deadline", "3s"]).expect(75).says("is running a job");
    let child = rig.start(&["run", "--ephemeral"]);
    rig.routes();
    until("it waits", || rig.asked("get-runner") > 2);
    // Meanwhile, other commands work.
    rig.run(&["status"]);
    signal(&child, Signal::TERM);
    finish(child).expect(143);
    assert_eq!(rig.state().runners[0].id, id);
}

#[test]
fn a_tree_that_no_job_has_changed_is_compared_once() {
    let Some(rig) = machine() else { return };
    rig.run(&["bake"]).expect(0);
    for _ in 0..3 {
        queue(&rig, "true");
    }
    let child = rig.start(&["run", "--ephemeral", "--after-job", "again", "--verbose"]);
    until_idle(&rig);
    signal(&child, Signal::TERM);
    let ran = finish(child).expect(0);
    assert_eq!(ran.all().matches("compared the runner's files with their copy").count(), 1, "{ran:?}");
}

#[test]
fn a_tree_whose_copy_has_changed_with_it_is_downloaded_again() {
    let Some(rig) = machine() else { return };
    let wait = queue(&rig, WAIT);
    let child = start(&rig);
    until("the job waits", || rig.root().join("tmp/gate").exists());
    assert!(is_shared(&rig, PART));
    let before = std::fs::read(rig.dir().join(PART)).unwrap();
    std::fs::write(rig.dir().join(PART), "#!/bin/sh\necho planted\n").unwrap();
    open_gate(&rig);
    until_idle(&rig);
    assert!(log_of(&rig, wait).contains("waited"));
    assert_eq!(std::fs::read(rig.dir().join(PART)).unwrap(), before);
    assert_eq!(rig.asked("archive"), 2);
    rig.assert_store_is_whole();
    signal(&child, Signal::TERM);
    finish(child).expect(0).says("is damaged");
}

#[test]
fn a_disk_that_is_nearly_full_is_named_before_the_next_job() {
    let Some(rig) = machine() else { return };
    let opt = rig.root().join("opt");
    let Some(_disk) = Tmpfs::mount(opt.clone(), "mode=755,size=64m") else { return };
    let child = start(&rig);
    until("it is online", || rig.state().runners.first().is_some_and(|runner| runner.online));
    let disk = rustix::fs::statvfs(&opt).unwrap();
    let bytes = disk.f_bavail * disk.f_frsize - (4 << 20);
    std::fs::create_dir(opt.join("ballast")).unwrap();
    std::fs::write(opt.join("ballast/file"), vec![1; usize::try_from(bytes).unwrap()]).unwrap();
    queue(&rig, "true");
    until_idle(&rig);
    signal(&child, Signal::TERM);
    let ran = finish(child).expect(0).says("of the disk of /opt/actions-runner");
    let ran = ran.says(" is free for the next job; the cleaning has freed ");
    ran.says(" MB in /opt/ballast");
}
