//! `runup run`: the listener seen to in the foreground, through jobs, signals, failures and the loss of its registration.

use crate::rig::{PATIENCE, Ran, Rig, finish, names_in, signal, until};
use runup::host::process::with_env;
use runup::runner::listener::{MARKER, workers};
use runup::sandbox::{Fault, FaultKind, RunnerChange, Scope};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

fn scope() -> Scope {
    "orgs/octo-org".parse().unwrap()
}

fn online(rig: &Rig) -> bool {
    rig.state().runners.first().is_some_and(|runner| runner.online)
}

fn start(rig: &Rig, arguments: &[&str]) -> Child {
    let mut all = vec!["run"];
    all.extend(arguments);
    rig.on_machine(&all).spawn().unwrap()
}

/// Starts it, and waits until it asks for jobs: it is online before it has said so.
fn start_online(rig: &Rig, arguments: &[&str]) -> Child {
    rig.sandbox.requests_clear();
    let child = start(rig, arguments);
    // In a session of its own: a listener that somebody left asks for jobs as well.
    until("the runner asks for jobs", || {
        let requests = rig.sandbox.requests();
        let opened = requests.iter().position(|request| request.route == "session");
        opened.is_some_and(|at| requests[at..].iter().any(|request| request.route == "message"))
    });
    child
}

/// Waits until a worker runs: the server knows of its job before.
fn until_in_a_job(rig: &Rig) {
    until("the job runs", || !workers(&rig.dir(), None).find().is_empty());
}

fn drain(rig: &Rig, deadline: &str) -> Ran {
    let mut command = rig.command(&["drain", "--deadline", deadline, "--root"]);
    finish(command.arg(rig.root()).spawn().unwrap())
}

fn stop(child: Child) -> Ran {
    signal(&child, Signal::TERM);
    finish(child)
}

fn listeners(rig: &Rig) -> Vec<u32> {
    with_env(MARKER, &rig.dir().display().to_string())
}

#[test]
fn it_goes_online_takes_jobs_and_ends_as_told_keeping_its_registration() {
    let rig = Rig::new();
    // The server knows that a job is done before the listener has said so.
    let child = start_online(&rig, &["--drain", "50s"]);
    rig.sandbox.add_job(&scope(), "build", 0);
    rig.sandbox.add_job(&scope(), "test", 0);
    until("both are done", || rig.state().jobs.iter().all(|job| job.done));
    let ran = stop(child).expect(0).says("stopped as requested after 2 jobs");
    assert!(
        ran.stdout.contains("Listening for Jobs") && ran.stdout.contains("Running job: test"),
        "{ran:#?}"
    );
    assert!(!online(&rig), "it has ended its session");
    rig.assert_exactly_one_runner();
    // A process that the listener has just killed is gone a moment later.
    until("its processes are gone", || listeners(&rig).is_empty());

    let again = stop(start_online(&rig, &["--json"])).expect(0);
    assert_eq!(again.json()["because"], "told", "stdout is one document: the listener's lines are on stderr");
    rig.assert_exactly_one_runner();
    rig.run(&["remove"]).expect(0);
    rig.assert_nothing_left();
}

#[test]
fn a_stop_signal_waits_for_the_job_when_told_to_drain() {
    let rig = Rig::new();
    let child = start_online(&rig, &["--drain", "50s"]);
    rig.sandbox.add_job(&scope(), "long", 2);
    until_in_a_job(&rig);
    drain(&rig, "0s").expect(75);
    stop(child).expect(0).says("after 1 job");
    assert!(rig.state().jobs[0].done, "the job was not cut");
}

#[test]
fn a_stop_signal_without_a_drain_cancels_the_job_and_says_so() {
    let rig = Rig::new();
    let child = start_online(&rig, &[]);
    rig.sandbox.add_job(&scope(), "long", 600);
    until_in_a_job(&rig);
    stop(child).expect(128 + 15).says("in the middle of a job").says("--drain");
    assert!(!rig.state().jobs[0].done);
    // A process that was killed can take a while to end.
    until("nothing of the job is left", || listeners(&rig).is_empty());
}

#[test]
fn a_second_signal_ends_the_draining() {
    let rig = Rig::new();
    let mut child = start_online(&rig, &["--drain", "10m"]);
    rig.sandbox.add_job(&scope(), "long", 600);
    until_in_a_job(&rig);
    // Those that come at once are the same request, such as the two of timeout(1).
    signal(&child, Signal::TERM);
    until("it ends", || {
        signal(&child, Signal::INT);
        child.try_wait().unwrap().is_some()
    });
    // Whichever of the two the kernel hands over first.
    let ran = finish(child);
    assert!([128 + 15, 128 + 2].contains(&ran.code), "{ran:#?}");
}

#[test]
fn drain_waits_for_the_job_to_end() {
    let rig = Rig::new();
    drain(&rig, "1s").expect(0).says("is idle");
    // The server knows that the job is done before the listener has said so.
    let child = start_online(&rig, &["--drain", "50s"]);
    rig.sandbox.add_job(&scope(), "short", 1);
    until_in_a_job(&rig);
    drain(&rig, "50s").expect(0);
    until("the server knows that the job is done", || rig.state().jobs[0].done);
    stop(child).expect(0);
}

#[test]
fn an_ephemeral_runner_takes_one_job_and_leaves_a_clean_tree() {
    let rig = Rig::new();
    rig.sandbox.add_job(&scope(), "only", 1);
    rig.sandbox.add_job(&scope(), "never", 0);
    let child = start(&rig, &["--ephemeral"]);
    until_in_a_job(&rig);
    // What a job leaves, for the next one to find.
    std::fs::write(rig.dir().join("_work/secret-of-the-job"), "x").unwrap();
    std::fs::write(rig.dir().join(".env"), "LD_PRELOAD=/tmp/evil.so\n").unwrap();
    finish(child).expect(0).says("the job is done");
    let state = rig.state();
    assert_eq!(state.runners, []);
    assert!(state.jobs[0].done && !state.jobs[1].done);
    for name in ["_work", ".env", ".runner", ".credentials", ".credentials_rsaparams"] {
        assert!(!rig.dir().join(name).exists(), "{name}");
    }
    assert!(!names_in(&rig.dir().join("_diag")).is_empty(), "the logs stay");
    rig.run(&["remove"]).expect(0);
    rig.assert_nothing_left();
}

/// A link in place of the work directory is deleted, and what it leads to is not.
#[test]
fn a_hostile_work_folder_leads_nowhere() {
    let rig = Rig::new();
    let precious = rig.root().join("precious");
    std::fs::create_dir(&precious).unwrap();
    std::fs::write(precious.join("file"), "x").unwrap();
    rig.sandbox.add_job(&scope(), "only", 1);
    let child = start(&rig, &["--ephemeral"]);
    until_in_a_job(&rig);
    std::fs::remove_dir_all(rig.dir().join("_work")).unwrap();
    std::os::unix::fs::symlink(&precious, rig.dir().join("_work")).unwrap();
    finish(child).expect(0);
    assert!(precious.join("file").exists());
    assert!(std::fs::symlink_metadata(rig.dir().join("_work")).is_err());
}

#[test]
fn again_takes_one_job_with_each_registration() {
    let rig = Rig::new();
    rig.sandbox.add_job(&scope(), "first", 0);
    rig.sandbox.add_job(&scope(), "second", 0);
    let child = start(&rig, &["--ephemeral", "--after-job", "again"]);
    until("both are done", || rig.state().jobs.iter().all(|job| job.done));
    until("the third is online", || online(&rig));
    let takers: Vec<_> = rig.state().jobs.iter().map(|job| job.runner).collect();
    assert_ne!(takers[0], takers[1], "each job had a runner of its own");
    stop(child).expect(0).says("the runner was deregistered");
    assert_eq!(rig.state().runners, [], "an idle ephemeral runner is no ghost");
}

#[test]
fn a_persistent_runner_leaves_the_server_when_asked_to() {
    let rig = Rig::new();
    let child = start_online(&rig, &["--remove-on-shutdown"]);
    stop(child).expect(0);
    assert_eq!(rig.state().runners, []);
    assert!(!rig.dir().join(".runner").exists() && rig.dir().join("config.sh").exists(), "the tree stays");
}

/// A registration token registers, and can do nothing else: Kubernetes ends a pool for a 77.
#[test]
fn with_nothing_to_deregister_with_a_stop_is_obeyed_and_the_runner_that_stays_is_named() {
    let rig = Rig::new();
    let token = rig.ask(&["token", "registration"]).expect(0).stdout;
    let start = |arguments: &[&str]| {
        let mut command = rig.on_machine(&["run", "--ephemeral", "--name", "left"]);
        command.args(arguments).env_remove("RUNUP_TOKEN").env("RUNUP_REGISTRATION_TOKEN", token.trim());
        command.spawn().unwrap()
    };
    rig.run(&["bake"]).expect(0);
    let child = start(&[]);
    rig.until_asked("message");
    let id = rig.state().runners[0].id;
    stop(child).expect(0).says(&format!("left (id {id}) stays on the server")).says("after a day");
    assert_eq!(rig.state().runners.len(), 1);

    // It is the same runner at the next start, and its one job is not lost.
    rig.sandbox.add_job(&scope(), "only", 0);
    finish(start(&[])).expect(0).says("the job is done");
    assert_eq!(rig.state().runners, []);
    finish(start(&["--remove-on-shutdown"])).expect(64).says("--remove-on-shutdown needs");
}

/// The same where a listener fails: what stays is named, and the failure is the listener's.
#[test]
fn a_failure_without_a_token_names_the_runner_that_stays() {
    let rig = Rig::new();
    rig.run(&["bake"]).expect(0);
    let token = rig.ask(&["token", "registration"]).expect(0).stdout;
    rig.sandbox.fault(Fault::new("session", FaultKind::Exit { code: 1 }));
    let mut command = rig.on_machine(&["run", "--ephemeral", "--name", "left"]);
    command.env_remove("RUNUP_TOKEN").env("RUNUP_REGISTRATION_TOKEN", token.trim());
    finish(command.spawn().unwrap()).expect(79).says("left (id 1) stays on the server");
}

#[test]
fn what_a_shutdown_could_not_take_off_the_server_the_next_run_finds() {
    let rig = Rig::new();
    let child = start_online(&rig, &["--ephemeral"]);
    let ghost = rig.state().runners[0].id;
    let down = FaultKind::Status { code: 403, body: None, headers: BTreeMap::new() };
    rig.sandbox.fault(Fault::new("delete-runner", down));
    stop(child).expect(77).says("the next run finishes this");
    assert_eq!(rig.state().runners[0].id, ghost);
    rig.sandbox.faults_clear();

    stop(start_online(&rig, &["--ephemeral"])).expect(0);
    assert_eq!(rig.state().runners, []);
}

#[test]
fn a_listener_that_outlived_its_supervisor_is_ended_first() {
    let rig = Rig::new();
    let mut child = start_online(&rig, &[]);
    let orphans = listeners(&rig);
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    assert!(!listeners(&rig).is_empty(), "the listener outlives us, as it would");
    let child = start_online(&rig, &[]);
    assert!(listeners(&rig).iter().all(|pid| !orphans.contains(pid)), "it is another listener");
    stop(child).expect(0).says("outlived");
    rig.assert_exactly_one_runner();

    let mut child = start_online(&rig, &[]);
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    rig.run(&["remove"]).expect(0);
    rig.assert_nothing_left();
    assert_eq!(listeners(&rig), [] as [u32; 0]);
}

#[test]
fn two_of_them_do_not_fight_over_one_runner() {
    let rig = Rig::new();
    let child = start_online(&rig, &[]);
    rig.run(&["run"]).expect(75);
    rig.run(&["install"]).expect(0).says("nothing to do");
    rig.run(&["remove"]).expect(75).says("run");
    assert!(online(&rig), "none of them disturbed the first one");
    stop(child).expect(0);
}

#[test]
fn a_failing_listener_is_started_again_and_an_updating_one_after_its_update() {
    let rig = Rig::new();
    for (at, code) in [2, 3, 6, 4].into_iter().enumerate() {
        let fault = Fault::new("session", FaultKind::Exit { code }).skipping(u32::try_from(at).unwrap());
        // Each fault counts the requests of its own.
        rig.sandbox.fault(fault.times(1));
    }
    let child = start_online(&rig, &["--self-update"]);
    assert!(std::fs::symlink_metadata(rig.dir().join("bin")).unwrap().is_symlink(), "it has updated itself");
    assert!(!rig.dir().join("update.finished").exists());
    stop(child).expect(0).says("has updated itself").says("starting it again");
    rig.assert_exactly_one_runner();
}

#[test]
fn a_deprecated_version_is_an_exit_code_of_its_own() {
    let rig = Rig::new();
    let newest = rig.sandbox.runner_version();
    let gone = FaultKind::Status { code: 426, body: None, headers: BTreeMap::new() };
    rig.sandbox.fault(Fault::new("session", gone));
    let ran = finish(start(&rig, &["--runner-version", "2.328.0"])).expect(80);
    assert!(ran.stderr.contains("2.328.0"), "{ran:#?}");
    // Where jobs run as our own user, the token to ask with is dropped by then.
    assert!(rig.user.is_none() || ran.stderr.contains(&newest), "{ran:#?}");
}

#[test]
fn a_session_that_somebody_else_has_is_waited_for_to_the_deadline() {
    let rig = Rig::new();
    rig.run(&["install"]).expect(0);
    rig.sandbox.fault(Fault::new("session", FaultKind::Exit { code: 5 }));
    let began = Instant::now();
    finish(start(&rig, &["--deadline", "3s"])).expect(75).says("another session");
    assert!(began.elapsed() < PATIENCE / 2);
}

#[test]
fn a_listener_that_cannot_work_is_not_started_for_ever() {
    let rig = Rig::new();
    rig.sandbox.fault(Fault::new("session", FaultKind::Exit { code: 1 }));
    let ran = finish(start(&rig, &[])).expect(79);
    assert!(ran.stderr.contains("the end of its output"), "{ran:#?}");
}

#[test]
fn a_runner_deleted_behind_our_back_is_registered_again() {
    let rig = Rig::new();
    // One in the environment is dropped where jobs run as our own user.
    let token = rig.write("token", rig.sandbox.token().expose());
    let child = start_online(&rig, &["--token-file", &token]);
    let first = rig.state().runners[0].id;
    rig.sandbox.change_runner(first, RunnerChange { deleted: true, ..RunnerChange::default() });
    until("another one is online", || online(&rig) && rig.state().runners[0].id != first);
    stop(child).expect(0).says("the server has deleted the runner");
    rig.assert_exactly_one_runner();
}

/// GitHub's listener can retry for ever then, and says so once.
#[test]
fn a_deleted_runner_whose_listener_tries_to_reconnect_is_noticed() {
    let rig = Rig::new();
    let token = rig.write("token", rig.sandbox.token().expose());
    rig.faults(&["message:forgotten"]);
    let child = start_online(&rig, &["--token-file", &token, "--jit"]);
    let first = rig.state().runners[0].id;
    rig.sandbox.change_runner(first, RunnerChange { deleted: true, ..RunnerChange::default() });
    until("another one is online", || online(&rig) && rig.state().runners[0].id != first);
    stop(child)
        .expect(0)
        .says("Registration 00000000-0000-4000-8000-000000000000 was not found.. Retrying")
        .says("the listener tries to reconnect a runner that the server has deleted");
}

/// What a job could print for the listener decides nothing, and costs few calls.
#[test]
fn a_runner_that_the_server_has_is_left_alone_whatever_its_listener_says() {
    let rig = Rig::new();
    let token = rig.write("token", rig.sandbox.token().expose());
    let child = start_online(&rig, &["--token-file", &token, "--jit"]);
    rig.routes();
    rig.faults(&["message:2:status=400"]);
    until("the server is asked", || rig.asked("get-runner") > 0);
    // It is connected again by now, and stays.
    until("it asks for jobs", || rig.state().runners.len() == 1 && online(&rig) && rig.asked("message") > 4);
    assert_eq!((rig.asked("get-runner"), rig.asked("session")), (1, 0));
    stop(child).expect(0);
}

#[test]
fn a_runner_deleted_again_and_again_is_somebody_s_will() {
    let rig = Rig::new();
    let token = rig.write("token", rig.sandbox.token().expose());
    let child = start(&rig, &["--token-file", &token]);
    for _ in 0..4 {
        until("it is online", || online(&rig));
        let id = rig.state().runners[0].id;
        rig.sandbox.change_runner(id, RunnerChange { deleted: true, ..RunnerChange::default() });
    }
    finish(child).expect(79).says("again");
}

#[test]
fn an_ephemeral_runner_whose_listener_gives_up_is_no_ghost() {
    // An open tree has lost its identity then, and a runner that is online is left to whoever runs it.
    let told_while_online = rustix::process::geteuid().is_root().then_some(("message:status=404", 79));
    for (fault, code) in
        [("session:status=404", 79), ("session:1:exit=0", 0)].into_iter().chain(told_while_online)
    {
        let rig = Rig::new();
        rig.faults(&[fault]);
        finish(start(&rig, &["--ephemeral"])).expect(code);
        assert_eq!(rig.state().runners, [], "{fault}");
    }
}

#[test]
fn a_just_in_time_runner_takes_its_job_without_config_sh() {
    let rig = Rig::new();
    rig.sandbox.add_job(&scope(), "only", 0);
    finish(start(&rig, &["--jit", "--labels", "gpu", "-v"])).expect(0).says("the job is done");
    assert_eq!(rig.state().runners, []);
    assert!(rig.state().jobs[0].done);
    let routes = rig.routes();
    assert!(!routes.iter().any(|route| route == "register" || route == "registration-token"), "{routes:?}");
    rig.run(&["remove"]).expect(0);
    rig.assert_nothing_left();
}

#[test]
fn a_just_in_time_runner_of_a_run_that_was_killed_is_found() {
    let rig = Rig::new();
    let mut child = start_online(&rig, &["--jit"]);
    let first = rig.state().runners[0].clone();
    assert!(first.ephemeral && first.labels.iter().any(|label| label == "self-hosted"), "{first:?}");
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    let child = start(&rig, &["--jit"]);
    until("another one is online", || {
        let runners = rig.state().runners;
        runners.len() == 1 && runners[0].online && runners[0].id != first.id
    });
    stop(child).expect(0);
    assert_eq!(rig.state().runners, []);
}

#[test]
fn a_just_in_time_runner_whose_answer_was_lost_is_no_ghost() {
    for options in [&["--jit"][..], &["--jit", "--name", "box"]] {
        let rig = Rig::new();
        rig.faults(&["jitconfig:1:lost-answer"]);
        rig.sandbox.add_job(&scope(), "only", 0);
        finish(start(&rig, options)).expect(0).says("the job is done");
        assert_eq!(rig.state().runners, []);
    }
    // Every answer is lost, and the server deletes nothing any more.
    let rig = Rig::new();
    rig.faults(&["jitconfig:lost-answer", "delete-runner:status=403"]);
    finish(start(&rig, &["--jit", "--deadline", "5s"]));
    assert_eq!(rig.state().runners.len(), 1);
    rig.sandbox.faults_clear();
    rig.run(&["remove"]).expect(0);
    rig.assert_nothing_left();
}

#[test]
fn another_machine_that_was_faster_keeps_its_just_in_time_runner() {
    let rig = Rig::new();
    let id = rig.sandbox.add_runner(&scope(), "box", &[]).unwrap();
    // It got the name after this machine had found it free.
    rig.faults(&["list-runners:1:empty-list"]);
    finish(start(&rig, &["--jit", "--name", "box"])).expect(78).says("already exists");
    assert_eq!(rig.state().runners.iter().map(|runner| runner.id).collect::<Vec<_>>(), [id]);
}

#[test]
fn a_server_without_just_in_time_runners_says_so_and_nothing_is_registered() {
    let rig = Rig::new();
    let absent = FaultKind::Status {
        code: 404,
        body: Some(r#"{"message":"Not Found"}"#.into()),
        headers: BTreeMap::new(),
    };
    rig.sandbox.fault(Fault::new("jitconfig", absent));
    finish(start(&rig, &["--jit"])).expect(69).says("3.10");
    assert_eq!(rig.state().runners, []);
    rig.sandbox.faults_clear();
    rig.sandbox.add_runner(&scope(), "taken", &[]).unwrap();
    finish(start(&rig, &["--jit", "--name", "taken"])).expect(78).says("already registered");
    assert_eq!(rig.state().runners.len(), 1, "it is not ours");
}

#[test]
#[cfg(target_os = "linux")]
fn the_listener_and_its_jobs_get_no_credential_of_ours() {
    for arguments in [&[][..], &["--jit"]] {
        let rig = Rig::new();
        let mut all = vec!["run", "-v"];
        all.extend(arguments);
        let mut command = rig.on_machine(&all);
        let child = command.env("UNRELATED", "canary-of-the-environment").spawn().unwrap();
        until("it is online", || online(&rig));
        rig.sandbox.add_job(&scope(), "long", 2);
        until_in_a_job(&rig);
        let pids = listeners(&rig);
        assert!(pids.len() >= 2, "{pids:?}");
        for pid in pids {
            let read = |file: &str| {
                String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default())
                    .into_owned()
            };
            for text in [read("environ"), read("cmdline")] {
                assert!(!text.contains(rig.sandbox.token().expose()), "{text}");
                assert!(!text.contains("canary-of-the-environment"), "{text}");
            }
            assert!(!read("cmdline").contains("jitconfig"));
        }
        let ran = if arguments.is_empty() { stop(child) } else { finish(child) };
        assert!(!ran.stderr.contains(rig.sandbox.token().expose()));
    }
}

/// A metadata service that says that this machine is taken away once `announced` is set.
fn metadata(announced: Arc<AtomicBool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while reader.read_line(&mut request).is_ok_and(|count| count > 2) {}
            let body = if announced.load(Ordering::SeqCst) { "TRUE" } else { "FALSE" };
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
        }
    });
    url
}

#[test]
fn a_spot_notice_is_a_stop_signal_with_an_end() {
    let rig = Rig::new();
    let announced = Arc::new(AtomicBool::new(false));
    let url = metadata(Arc::clone(&announced));
    let mut arguments = vec!["--ephemeral", "--after-job", "again", "--drain", "10m"];
    arguments.extend(["--cloud", "gcp", "--metadata-url", &url]);
    let child = start_online(&rig, &arguments);
    announced.store(true, Ordering::SeqCst);
    finish(child).expect(0).says("gcp").says("the runner was deregistered");
    assert_eq!(rig.state().runners, []);
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let rig = Rig::new();
    finish(start(&rig, &["--after-job", "again"])).expect(64).says("--ephemeral --after-job again");
    for command in ["install", "plan"] {
        rig.run(&[command, "--after-job", "again"]).expect(64).says("--ephemeral --after-job again");
    }
    finish(start(&rig, &["--ephemeral", "--after-job", "poweroff"])).expect(64).says("--root");
}

#[test]
fn a_rate_limit_is_waited_for_if_that_is_asked_for_and_a_stop_ends_the_waiting() {
    let rig = Rig::new();
    rig.faults(&["*:rate-limit=2700"]);
    // Reset after the deadline: there is no use in waiting for it.
    rig.run(&["run", "--ephemeral"]).expect(75).says("Try again after");
    let log = rig.root().join("log");
    let mut command = rig.on_machine(&["run", "--ephemeral", "--wait-for-limit"]);
    let mut child = command.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    until("it waits", || std::fs::read_to_string(&log).unwrap().contains("; waiting 2"));
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    rig.assert_nothing_left();
}
