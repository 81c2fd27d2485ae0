//! `logs`: what GitHub's programs wrote, in the order of time; jobs can write there, and root reads it.

use crate::rig::{PATIENCE, Ran, Rig, finish, signal, until};
use rustix::process::Signal;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

fn installed() -> (Rig, PathBuf) {
    let rig = Rig::new();
    rig.run(&["install"]).expect(0);
    let diag = rig.dir().join("_diag");
    for entry in std::fs::read_dir(&diag).into_iter().flatten() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    std::fs::create_dir_all(&diag).unwrap();
    (rig, diag)
}

fn logs(rig: &Rig, arguments: &[&str]) -> Ran {
    let root = rig.root().to_str().unwrap();
    finish(rig.command(&[&["logs", "--root", root], arguments].concat()).spawn().unwrap())
}

#[test]
fn the_newest_logs_are_shown_in_the_order_of_time() {
    let (rig, diag) = installed();
    let write = |name: &str, text: &str| std::fs::write(diag.join(name), text).unwrap();
    write("Runner_1.log", "[2026-01-31 11:00:00Z INFO Listener] of the last start\n");
    let old = SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::options().write(true).open(diag.join("Runner_1.log")).unwrap().set_modified(old).unwrap();
    write(
        "Runner_2.log",
        "[2026-01-31 12:00:00Z INFO Listener] one\n[2026-01-31 12:00:09Z ERR Listener] four\n",
    );
    write("Worker_2.log", "[2026-01-31 12:00:02Z INFO Worker] two\n  three\n");
    let ran = logs(&rig, &[]).expect(0);
    let expected = "2026-01-31T12:00:00Z listener | [INFO Listener] one\n\
                    2026-01-31T12:00:02Z worker   | [INFO Worker] two\n\
                    2026-01-31T12:00:02Z worker   |   three\n\
                    2026-01-31T12:00:09Z listener | [ERR Listener] four\n";
    assert_eq!(ran.stdout, expected);
    let lines = logs(&rig, &["--json"]).expect(0).json()["lines"].take();
    assert_eq!((lines.as_array().unwrap().len(), &lines[3]["source"]), (4, &"listener".into()));
    assert_eq!(lines[0]["at"], "2026-01-31T12:00:00Z");

    // Of a long log, the end.
    let numbers: Vec<String> = (0..500).map(|number| number.to_string()).collect();
    let text = format!("[2026-01-31 13:00:00Z INFO Listener] {}\n", numbers.join("\n"));
    write("Runner_2.log", &text);
    let ran = logs(&rig, &[]).expect(0);
    assert_eq!(ran.stdout.lines().filter(|line| line.contains("listener |")).count(), 100);
    assert!(ran.stdout.contains("| 499\n") && !ran.stdout.contains("| 399\n"), "{ran:#?}");

    logs(&rig, &["--follow", "--json"]).expect(64);
    logs(&rig, &["--dir", "/opt/none"]).expect(78).says("there is no runner in /opt/none");
}

/// What a job leaves there makes root read nothing else, wait for nothing, and shows nothing that a terminal would obey.
#[test]
fn a_log_that_a_job_wrote_shows_only_itself() {
    let (rig, diag) = installed();
    let secret = rig.write("secret", "[2026-01-31 12:00:00Z INFO X] canary\n");
    let token = "ghp_0123456789abcdefghijklmnopqrstuvwxyz";
    let evil = format!("[2026-01-31 12:00:00Z INFO X] a\u{1b}[2Jb\rc\u{202e}d\u{9b}e {token}\n\0\u{7}\n");
    std::fs::write(diag.join("Worker_1.log"), &evil).unwrap();
    let log = diag.join("Runner_1.log");
    symlink(&secret, &log).unwrap();
    let ran = logs(&rig, &[]).expect(0).says("symbolic link");
    assert!(!ran.all().contains("canary") && !ran.all().contains(token), "{ran:#?}");
    assert!(!ran.stdout.contains(|c: char| c != '\n' && c.is_control() || c == '\u{202e}'), "{ran:#?}");
    assert!(ran.stdout.contains("a\\x1b[2Jb\\x0dc"), "{ran:#?}");

    std::fs::remove_file(&log).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &log, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    logs(&rig, &[]).expect(0).says("a FIFO").says("worker");

    // Nor where the whole directory leads elsewhere.
    std::fs::remove_dir_all(&diag).unwrap();
    let elsewhere = rig.root().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::copy(&secret, elsewhere.join("Runner_1.log")).unwrap();
    symlink(&elsewhere, &diag).unwrap();
    let ran = logs(&rig, &[]).expect(0);
    assert!(!ran.all().contains("canary"), "{ran:#?}");
}

#[test]
fn following_goes_on_with_the_next_file_until_a_signal() {
    let (rig, diag) = installed();
    std::fs::write(diag.join("Runner_1.log"), "[2026-01-31 12:00:00Z INFO Listener] one\n").unwrap();
    for ends in [Signal::INT, Signal::TERM] {
        let root = rig.root().to_str().unwrap();
        let mut child = rig.command(&["logs", "--follow", "--root", root]).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut next = || lines.next().unwrap().unwrap();
        assert!(next().ends_with("one"));
        let mut file = std::fs::File::options().append(true).open(diag.join("Runner_1.log")).unwrap();
        file.write_all(b"two, ").unwrap();
        file.write_all(b"in one line\n").unwrap();
        assert!(next().ends_with("two, in one line"));
        // The listener was started again.
        let second = diag.join("Runner_2.log");
        std::fs::write(&second, "three\n").unwrap();
        let later = SystemTime::now() + PATIENCE;
        std::fs::File::options().write(true).open(&second).unwrap().set_modified(later).unwrap();
        assert!(next().ends_with("three"));
        signal(&child, ends);
        let mut code = None;
        until("it ends", || {
            code = child.try_wait().unwrap().map(|status| status.code());
            code.is_some()
        });
        assert_eq!(code, Some(Some(0)));
        std::fs::remove_file(&second).unwrap();
        std::fs::write(diag.join("Runner_1.log"), "[2026-01-31 12:00:00Z INFO Listener] one\n").unwrap();
    }
}
