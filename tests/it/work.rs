//! Where jobs work: what they leave is gone before the next job, wherever it is and whatever it is, or there is no next
//! job; and nothing else is touched.

use crate::rig::{Ran, Rig, SCOPE, finish, names_in, signal, until};
use runup::runner::listener::workers;
use runup::sandbox::NewJob;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What the owner of a directory may not write to, may not enter, or reaches by no path.
const HOSTILE: &str = "
    mkdir -p go/mod@v1/sub closed/in/side
    echo cached >go/mod@v1/sub/leftover
    chmod 0444 go/mod@v1/sub/leftover
    chmod 0555 go/mod@v1/sub go/mod@v1 go
    echo secret >closed/in/side/leftover
    chmod 0000 closed/in/side closed/in closed
    name=$(printf 'd%.0s' {1..200})
    for level in {1..60}; do
        mkdir $name && cd -P $name 2>/dev/null && touch leftover && chmod 0555 . || exit 1
        cd -P . 2>/dev/null; chmod 0755 .
    done
    chmod 0555 .
";

fn run(rig: &Rig, arguments: &[&str]) -> Child {
    let mut all = vec!["run"];
    all.extend(arguments);
    rig.on_machine(&all).spawn().unwrap()
}

/// Whether the program could do it; some filesystems cannot.
fn does(program: &str, arguments: &[&str], path: &Path) -> bool {
    Command::new(program).args(arguments).arg(path).output().is_ok_and(|ran| ran.status.success())
}

fn until_in_a_job(rig: &Rig) {
    until("the job runs", || !workers(&rig.dir(), None).find().is_empty());
}

#[test]
fn whatever_a_job_leaves_is_gone_before_the_next_one() {
    let rig = Rig::new();
    rig.sandbox.queue(NewJob::script(SCOPE, HOSTILE));
    let look = rig.sandbox.queue(NewJob::script(SCOPE, "find \"$RUNNER_WORKSPACE/..\" -name 'left*'"));
    let child = run(&rig, &["--ephemeral", "--after-job", "again"]);
    until("both are done", || rig.state().jobs.iter().all(|job| job.done));
    let jobs = rig.state().jobs;
    assert_eq!(jobs[0].result, Some(runup::sandbox::JobResult::Succeeded), "{}", jobs[0].log);
    let found = &jobs.iter().find(|job| job.id == look).unwrap().log;
    assert!(!found.contains("leftover"), "{found}");
    stop_idle(&rig, child).expect(0);
    assert_eq!(
        names_in(&rig.dir()).into_iter().filter(|name| name.contains("_work")).collect::<Vec<_>>(),
        [""; 0]
    );
}

/// Stops it once it waits for another job.
fn stop_idle(rig: &Rig, child: Child) -> Ran {
    until("the next one is online", || rig.state().runners.first().is_some_and(|runner| runner.online));
    signal(&child, rustix::process::Signal::TERM);
    finish(child)
}

/// As a container that ran as root leaves it.
#[test]
fn root_deletes_what_is_root_s_immutable_or_mounted_by_a_job() {
    if !is_root() {
        return;
    }
    let rig = Rig::new();
    rig.sandbox.add_job(&SCOPE.parse().unwrap(), "only", 1);
    let child = run(&rig, &["--ephemeral"]);
    until_in_a_job(&rig);
    let work = rig.dir().join("_work");
    let (closed, frozen) = (work.join("root/closed"), work.join("frozen"));
    std::fs::create_dir_all(&closed).unwrap();
    std::fs::create_dir_all(&frozen).unwrap();
    std::fs::write(closed.join("file"), "x").unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o500)).unwrap();
    let outside = rig.root().join("outside");
    std::fs::write(&outside, "x").unwrap();
    // The name of a file that root has protected elsewhere stays protected there.
    let linked =
        std::fs::hard_link(&outside, frozen.join("linked")).is_ok() && does("chattr", &["+i"], &outside);
    std::fs::write(frozen.join("file"), "x").unwrap();
    let can_freeze = does("chattr", &["+a"], &frozen.join("file")) && does("chattr", &["+i"], &frozen);
    let mount = work.join("mount");
    std::fs::create_dir(&mount).unwrap();
    let can_mount = does("mount", &["-t", "tmpfs", "tmpfs"], &mount);
    if can_mount {
        std::fs::write(mount.join("file"), "x").unwrap();
    }
    let ran = finish(child);
    let protected = does("sh", &["-c", "lsattr \"$0\" | grep -q i-"], &outside);
    does("chattr", &["-R", "-i", "-a"], &frozen);
    does("chattr", &["-i"], &outside);
    does("umount", &["-l"], &mount);
    ran.expect(0).says("the job is done");
    assert!(!work.exists(), "{:?}", names_in(&work));
    assert!(protected || !linked || !can_freeze, "the other name of a file lost its protection");
    rig.run(&["remove"]).expect(0);
    std::fs::remove_file(outside).unwrap();
    rig.assert_nothing_left();
}

#[test]
fn what_an_ordinary_user_cannot_delete_stops_the_next_job_and_not_this_one() {
    if !is_root() {
        return;
    }
    let rig = Rig::new();
    let scope = SCOPE.parse().unwrap();
    rig.sandbox.add_job(&scope, "first", 1);
    let child = rig.as_nobody(&["run", "--ephemeral"]);
    until_in_a_job(&rig);
    let left = rig.dir().join("_work/of-root");
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("secret"), "x").unwrap();
    // A container is replaced after this; its job succeeded.
    let ran = finish(child).expect(0).says("the job is done").says("of-root/secret");
    assert!(ran.stderr.contains("the next start tries again"), "{ran:#?}");
    assert_eq!(rig.state().runners, []);

    rig.sandbox.add_job(&scope, "second", 0);
    let ran = finish(rig.as_nobody(&["run", "--ephemeral"])).expect(75);
    let ran = ran.says("cannot be deleted").says("of-root/secret").says("as root");
    assert!(!ran.stderr.contains('\u{1b}'), "{ran:#?}");
    assert_eq!(rig.state().runners, [], "it is not registered");
    assert!(!rig.state().jobs[1].done);

    let aside = rig.everything().into_iter().find(|path| path.ends_with("of-root")).unwrap();
    std::fs::remove_dir_all(aside).unwrap();
    finish(rig.as_nobody(&["run", "--ephemeral"])).expect(0).says("the job is done");
    assert!(rig.state().jobs[1].done);

    // The same within one run.
    rig.sandbox.add_job(&scope, "third", 1);
    rig.sandbox.add_job(&scope, "fourth", 0);
    let child = rig.as_nobody(&["run", "--ephemeral", "--after-job", "again"]);
    until_in_a_job(&rig);
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("secret"), "x").unwrap();
    finish(child).expect(75).says("of-root/secret");
    assert!(!rig.state().jobs[3].done);
}

#[test]
fn what_a_killed_run_left_is_gone_before_the_next_job() {
    let rig = Rig::new();
    let scope = SCOPE.parse().unwrap();
    rig.sandbox.add_job(&scope, "first", 60);
    let mut child = run(&rig, &["--ephemeral"]);
    until_in_a_job(&rig);
    std::fs::write(rig.dir().join("_work/secret"), "x").unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    // As root, it ends at once, because the server still has the job.
    let child = run(&rig, &["--ephemeral"]);
    until("it is cleaned", || !rig.dir().join("_work/secret").exists());
    signal(&child, rustix::process::Signal::TERM);
    finish(child);
}

/// A work directory elsewhere, on this machine.
struct Elsewhere {
    rig: Rig,
    work: PathBuf,
}

impl Elsewhere {
    fn new() -> Self {
        let rig = Rig::new();
        let work = rig.root().join("mnt/disk/x");
        Self { rig, work }
    }

    fn work(&self) -> &str {
        self.work.to_str().unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Child {
        let mut all = vec!["--work", self.work()];
        all.extend(arguments);
        run(&self.rig, &all)
    }

    fn install(&self) -> Ran {
        self.rig.run(&["install", "--service", "none", "--work", self.work()])
    }
}

#[test]
fn a_work_directory_elsewhere_is_created_cleaned_between_jobs_and_removed() {
    let here = Elsewhere::new();
    let rig = &here.rig;
    let umask = "umask 077; exec \"$0\" \"$@\"";
    let report = format!("ls -A {0}; ls -A {0}/hello; stat -c %a {0}", here.work());
    rig.sandbox.queue(NewJob::script(SCOPE, &format!("{HOSTILE}\nmkdir -m 700 {}/mine", here.work())));
    rig.sandbox.queue(NewJob::script(SCOPE, &report));
    let command = rig.on_machine(&["run", "--work", here.work(), "--ephemeral", "--after-job", "again"]);
    let mut child = Command::new("sh");
    child.args(["-c", umask]).arg(command.get_program()).args(command.get_args());
    child.env_clear().envs(command.get_envs().map(|(name, value)| (name, value.unwrap())));
    let child = child.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("both are done", || rig.state().jobs.iter().all(|job| job.done));
    let ran = stop_idle(rig, child).expect(0);
    let jobs = rig.state().jobs;
    assert_eq!(jobs[0].result, Some(runup::sandbox::JobResult::Succeeded), "{ran:#?}: {}", jobs[0].log);
    assert_eq!(jobs[1].result, Some(runup::sandbox::JobResult::Succeeded), "{ran:#?}: {}", jobs[1].log);
    assert!(!jobs[1].log.contains("mine"), "{}", jobs[1].log);
    let parent = std::fs::metadata(rig.root().join("mnt")).unwrap();
    if is_root() {
        assert_eq!((parent.uid(), parent.mode() & 0o777), (0, 0o755), "its user passes, whatever the umask");
        assert_eq!(std::fs::metadata(&here.work).unwrap().uid(), 65534);
        // As a container leaves it.
        std::fs::write(here.work.join("of-root"), "x").unwrap();
    }
    let precious = rig.root().join("precious");
    std::fs::write(&precious, "x").unwrap();
    symlink(rig.root(), here.work.join("link")).unwrap();
    std::fs::write(rig.root().join("mnt/neighbour"), "x").unwrap();
    rig.run(&["remove"]).expect(0);
    assert!(precious.exists());
    assert_eq!(names_in(&rig.root().join("mnt")), ["neighbour"], "what runup created, and nothing else");
    rig.assert_nothing_left();
}

#[test]
fn a_work_directory_of_others_is_refused_and_survives_everything() {
    let here = Elsewhere::new();
    let rig = &here.rig;
    // Owned by the runner's user, and yet not this runner's.
    std::fs::create_dir_all(&here.work).unwrap();
    std::fs::write(here.work.join("thesis"), "x").unwrap();
    if is_root() {
        chown(&here.work, Some(65534), Some(65534)).unwrap();
    }
    here.install().expect(78).says("it contains other files, such as thesis");
    assert_eq!(rig.state().runners, []);
    rig.run(&["remove"]).expect(0);
    assert!(here.work.join("thesis").exists());
    std::fs::remove_file(here.work.join("thesis")).unwrap();
    std::fs::create_dir(here.work.join("lost+found")).unwrap();
    std::fs::set_permissions(here.work.join("lost+found"), std::fs::Permissions::from_mode(0o700)).unwrap();
    here.install().expect(0);
    // A directory that was there stays, empty; so does another one in the same place.
    for (other, why) in [(here.work.clone(), "work there"), (here.work.join("in"), "work there")] {
        let second = ["install", "--service", "none", "--dir", "/opt/second", "--name", "second", "--work"];
        let mut arguments = second.to_vec();
        arguments.push(other.to_str().unwrap());
        rig.run(&arguments).expect(78).says(why);
    }
    std::fs::write(here.work.join("left"), "x").unwrap();
    rig.run(&["remove"]).expect(0);
    let left = names_in(&here.work);
    assert!(left.is_empty() || is_root() && left == ["lost+found"], "{left:?}");
}

/// The volume of a container that was replaced.
#[test]
fn a_marked_work_directory_is_taken_back_without_a_journal_and_empty() {
    let here = Elsewhere::new();
    let rig = &here.rig;
    here.install().expect(0);
    std::fs::write(here.work.join("secret"), "x").unwrap();
    std::fs::remove_dir_all(rig.root().join("var")).unwrap();
    std::fs::remove_dir_all(rig.dir()).unwrap();
    rig.sandbox.queue(NewJob::script(SCOPE, &format!("ls -A {}", here.work())));
    finish(here.run(&["--ephemeral", "--name", "second"])).expect(0);
    let jobs = rig.state().jobs;
    assert!(jobs[0].done && !jobs[0].log.contains("secret"), "{}", jobs[0].log);
    rig.run(&["remove"]).expect(0);
}
