//! Tests of [`super`], with real processes.

use super::*;

/// Starts it and waits for its first line: the environment is its own by then, and what is before that line has been done.
fn up(command: &mut std::process::Command) -> std::process::Child {
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let out = child.stdout.as_mut().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
    child
}

fn marked(uid: Option<u32>, value: &str) -> Which {
    Which::MarkedBy { uid, key: "RUNUP_TEST_MARK".into(), value: value.into() }
}

#[tokio::test]
async fn a_marked_process_and_its_children_are_found_and_ended() {
    let mark = format!("mark-{}-ended", std::process::id());
    let mut child = up(std::process::Command::new("/bin/sh")
        .args(["-c", "sleep 600 & echo up; wait"])
        .env("RUNUP_TEST_MARK", &mark));
    assert!(marked(None, &mark).find().contains(&child.id()));
    assert!(marked(None, "mark").find().is_empty(), "a part of the value is not the value");

    let reaper = std::thread::spawn(move || child.wait().unwrap());
    let which = marked(None, &mark);
    let ended = end(&which, Ask::Terminate, Deadline::after(Duration::from_secs(30))).await.unwrap();
    assert!(ended >= 2, "{ended}");
    assert!(!reaper.join().unwrap().success());
    assert!(which.find().is_empty());
}

#[tokio::test]
async fn a_process_of_another_user_never_counts_where_the_user_is_known() {
    let mark = format!("mark-{}-uid", std::process::id());
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().canonicalize().unwrap();
    let script = below.join("Some.Listener");
    std::fs::write(&script, "echo up; read line").unwrap();
    let mut child = up(std::process::Command::new("/bin/sh")
        .arg(&script)
        .env("RUNUP_TEST_MARK", &mark)
        .stdin(std::process::Stdio::piped()));
    let us = rustix::process::geteuid().as_raw();
    let program = |uid| Which::Program { uid, below: below.clone(), name: "Some.Listener".into() };
    for (uid, counts) in [(None, true), (Some(us), true), (Some(us + 1), false)] {
        assert_eq!(marked(uid, &mark).find().contains(&child.id()), counts, "{uid:?}");
        assert_eq!(program(uid).find().contains(&child.id()), counts, "{uid:?}");
    }
    let soon = Deadline::after(Duration::from_secs(20));
    assert_eq!(end(&marked(Some(us + 1), &mark), Ask::Terminate, soon).await.unwrap(), 0);
    assert!(child.try_wait().unwrap().is_none(), "another user's process was ended");
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[tokio::test]
async fn a_listener_is_interrupted_and_never_terminated() {
    for (script, signal) in [
        ("trap 'exit 7' INT; trap 'exit 8' TERM; echo up; while :; do sleep 0.05; done", None),
        // As one that a background shell started.
        ("trap '' INT; trap 'exit 8' TERM; echo up; while :; do sleep 0.05; done", Some(9)),
    ] {
        let mark = format!("mark-{}-asked-{}", std::process::id(), signal.is_some());
        // Where the tests run in the background, they ignore SIGINT, and so would every shell of theirs.
        let mut child = up(std::process::Command::new("env")
            .args(["--default-signal=INT", "/bin/sh", "-c", script])
            .env("RUNUP_TEST_MARK", &mark));
        let reaper = std::thread::spawn(move || child.wait().unwrap());
        let soon = Deadline::after(Duration::from_secs(60));
        end(&marked(None, &mark), Ask::Interrupt, soon).await.unwrap();
        let status = reaper.join().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), signal, "{status}");
        assert_eq!(status.code(), signal.is_none().then_some(7), "{status}");
    }
}

#[tokio::test]
async fn a_process_that_ignores_the_polite_signal_is_killed() {
    let mark = format!("mark-{}-deaf", std::process::id());
    let mut child = up(std::process::Command::new("/bin/sh")
        .args(["-c", "trap '' TERM; echo up; while :; do sleep 1; done"])
        .env("RUNUP_TEST_MARK", &mark));
    let reaper = std::thread::spawn(move || child.wait().unwrap());
    // Half of the deadline is for the first signal.
    let which = marked(None, &mark);
    end(&which, Ask::Terminate, Deadline::after(Duration::from_secs(1))).await.unwrap();
    let status = reaper.join().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
}

#[test]
fn a_script_is_found_by_its_path_and_not_by_one_like_it() {
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().canonicalize().unwrap();
    std::fs::create_dir(below.join("bin")).unwrap();
    let script = below.join("bin/Some.Worker");
    std::fs::write(&script, "echo up; read line").unwrap();
    let mut child =
        up(std::process::Command::new("/bin/sh").arg(&script).stdin(std::process::Stdio::piped()));
    let which = |below: PathBuf, name: &str| Which::Program { uid: None, below, name: name.into() };
    assert_eq!(which(below.clone(), "Some.Worker").find(), [child.id()]);
    assert_eq!(which(below.clone(), "Worker").find(), [] as [u32; 0]);
    assert_eq!(which(below.join("bi"), "Some.Worker").find(), [] as [u32; 0]);
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_eq!(which(below, "Some.Worker").find(), [] as [u32; 0]);
}

#[test]
fn we_and_our_ancestors_are_never_found() {
    let found = Which::OfUser(rustix::process::geteuid().as_raw()).find();
    assert!(!found.contains(&std::process::id()));
    assert!(!found.contains(&std::os::unix::process::parent_id()));
}

#[test]
fn a_message_does_not_show_the_value() {
    let which = Which::MarkedBy { uid: None, key: "KEY".into(), value: "value".into() };
    assert!(!which.to_string().contains("value"));
}
