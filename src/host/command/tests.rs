use super::*;
use crate::deadline::Stop;
use std::time::Instant as Clock;

/// A shell with only a PATH in its environment.
fn sh(script: &str) -> Command {
    Command::new("/bin/sh").arg("-c").arg(script).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
}

fn secret(text: &str) -> Secret {
    Secret::new(text).expect("a usable secret")
}

/// Runs it, with a deadline that only a broken test reaches; returns its output, line by line.
async fn run(command: Command) -> (Result<Outcome, Error>, Vec<(Stream, String)>) {
    let mut seen = Vec::new();
    let result = command.run(&Stop::never(), &mut |stream, line| seen.push((stream, line.to_owned()))).await;
    (result, seen)
}

/// Whether the process is running, and not a zombie.
fn alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.contains(") Z ") && !stat.contains(") X "))
}

/// Waits until the process has gone.
async fn gone(pid: &str) {
    let limit = Deadline::after(Duration::from_secs(30));
    while alive(pid) {
        assert!(!limit.passed(), "process {pid} is still there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn more_input_than_fits_in_a_pipe_is_an_error_and_nothing_is_started() {
    let (result, seen) = run(sh("echo started").input(vec![b'x'; 5000])).await;
    let error = result.unwrap_err().to_string();
    assert!(error.contains("5000 bytes of input") && seen.is_empty(), "{error}");
}

#[test]
fn a_command_line_is_shown_quoted_with_its_secrets_marked() {
    let command = Command::new("/opt/my runner/config.sh")
        .arg("--name")
        .arg("it's")
        .arg("")
        .secret_arg(secret("s3cret-one"))
        .arg("--note=s3cret-two")
        .env("PATH", "/bin")
        .secret_env("TOKEN", secret("s3cret-two"));
    let shown = r"TOKEN=[secret] '/opt/my runner/config.sh' --name 'it'\''s' '' [secret] --note=[secret]";
    assert_eq!(command.render(), shown);
    assert_eq!(format!("{command:?}"), format!("Command({shown})"));
}

#[tokio::test]
async fn the_environment_is_what_was_given_and_nothing_else() {
    let command = Command::new("/usr/bin/env").env("ONE", "1").secret_env("TWO", secret("canary22"));
    let (outcome, mut seen) = run(command).await;
    assert!(outcome.unwrap().success());
    seen.sort_by(|a, b| a.1.cmp(&b.1));
    let lines: Vec<&str> = seen.iter().map(|(_, line)| line.as_str()).collect();
    assert_eq!(lines, ["ONE=1", "TWO=[secret]"]);
}

#[tokio::test]
async fn a_secret_reaches_the_child_and_comes_back_scrubbed() {
    let command = sh(r#"[ "$T" = canary22 ] && echo "got $T" && echo "err $1" >&2"#)
        .arg("sh")
        .secret_arg(secret("canary33"))
        .secret_env("T", secret("canary22"));
    let (outcome, seen) = run(command).await;
    let outcome = outcome.unwrap();
    assert!(outcome.success());
    assert!(seen.contains(&(Stream::Out, "got [secret]".into())), "{seen:?}");
    assert!(seen.contains(&(Stream::Err, "err [secret]".into())), "{seen:?}");
    assert!(!outcome.tail.contains("canary"));
}

#[tokio::test]
async fn exit_codes_signals_and_the_tail_are_told() {
    let (outcome, _) = run(sh("echo out; echo err >&2; exit 3")).await;
    let outcome = outcome.unwrap();
    assert_eq!((outcome.code, outcome.signal), (Some(3), None));
    let error = outcome.into_success("sh").unwrap_err().to_string();
    assert!(error.starts_with("`sh` failed with exit code 3; it printed:\n"), "{error}");
    let (outcome, _) = run(sh("kill -9 $$")).await;
    assert_eq!(outcome.unwrap().how(), "signal 9");
}

#[tokio::test]
async fn the_input_is_empty_and_the_directory_is_the_one_given() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().canonicalize().unwrap();
    let (outcome, seen) = run(sh("cat; pwd -P").cwd(&here)).await;
    assert!(outcome.unwrap().success());
    assert_eq!(seen, [(Stream::Out, here.display().to_string())]);
}

#[tokio::test]
async fn much_output_on_both_streams_does_not_block() {
    let script = "i=0; while [ $i -lt 20000 ]; do echo 0123456789; echo 0123456789 >&2; i=$((i+1)); done";
    let (outcome, seen) = run(sh(script).all_lines()).await;
    assert!(outcome.unwrap().success());
    assert_eq!(seen.len(), 40_000);
}

#[tokio::test]
async fn a_child_does_not_outlast_the_whole_that_it_is_part_of() {
    let stop = Stop::new(CancellationToken::new(), Deadline::after(Duration::from_millis(200)));
    let begun = Clock::now();
    let command = sh("sleep 60").deadline(Deadline::after(Duration::from_secs(60)));
    let result = command.run(&stop, &mut |_, _| {}).await;
    assert!(matches!(result, Err(Error::Deadline { total, .. }) if total.as_millis() == 200), "{result:?}");
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_child_that_prints_without_end_fills_no_log_and_is_stopped_at_once() {
    let stop = Stop::never();
    let stopper = stop.clone();
    let (mut count, mut bytes) = (0, 0);
    let begun = Clock::now();
    let ender = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        stopper.cancel();
    });
    let result = sh("yes 0123456789012345678901234567890123456789")
        .run(&stop, &mut |_, line| {
            count += 1;
            bytes += line.len();
        })
        .await;
    ender.await.unwrap();
    assert!(matches!(result, Err(Error::Stopped { .. })), "{result:?}");
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap() + 1;
    assert!(seconds < 20 && count > 0);
    assert!(count <= seconds * 2001 + 1 && bytes <= seconds * 1024 * 1024, "{count} lines in {seconds} s");
}

#[tokio::test]
async fn a_deadline_ends_the_child_and_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    // The child ignores SIGTERM, its own child does by inheritance: only the final signal ends them.
    let command = sh("trap '' TERM; sleep 600 & echo $! > \"$1\"; echo started; wait")
        .arg("sh")
        .arg(&pid_file)
        .deadline(Deadline::after(Duration::from_millis(300)))
        .grace(Duration::from_millis(100));
    let begun = Clock::now();
    let (result, _) = run(command).await;
    assert!(begun.elapsed() < Duration::from_secs(30));
    let Err(Error::Deadline { total, tail, command }) = result else { panic!("{result:?}") };
    assert_eq!((total, tail.as_str()), (Duration::from_millis(300), "started"));
    assert!(command.starts_with("/bin/sh -c "));
    gone(&std::fs::read_to_string(pid_file).unwrap()).await;
}

/// The timers of the runtime do not run while there is always more to read.
#[tokio::test]
async fn a_deadline_ends_a_child_that_prints_faster_than_its_output_is_passed_on() {
    // By its waits, not by its work, so that it takes as long on a busy machine.
    for script in ["exec yes $0", "trap '' TERM; yes $0 & wait; wait"] {
        let command = sh(script)
            .arg("x".repeat(100))
            .deadline(Deadline::after(Duration::from_millis(300)))
            .grace(Duration::from_millis(100));
        let begun = Clock::now();
        let mut slowly = |_, _: &str| std::thread::sleep(Duration::from_millis(3));
        let result = command.run(&Stop::never(), &mut slowly).await;
        assert!(matches!(result, Err(Error::Deadline { .. })), "{result:?}");
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_child_told_to_end_may_tidy_up() {
    let stop = Stop::never();
    let mut seen = Vec::new();
    let teller = stop.clone();
    let result = sh("trap 'echo tidied; exit 0' TERM; echo ready; while :; do sleep 0.01; done")
        .run(&stop, &mut |stream, line| {
            // On the other stream the shell may report the sleep that the signal ended.
            if stream == Stream::Out {
                seen.push(line.to_owned());
            }
            teller.cancel();
        })
        .await;
    assert!(matches!(result, Err(Error::Stopped { .. })), "{result:?}");
    assert_eq!(seen, ["ready", "tidied"]);
}

#[tokio::test]
async fn told_to_stop_before_it_starts_nothing_starts() {
    let dir = tempfile::tempdir().unwrap();
    let stop = Stop::never();
    stop.cancel();
    let result = sh("touch started").cwd(dir.path()).run(&stop, &mut |_, _| ()).await;
    assert!(matches!(result, Err(Error::Stopped { .. })));
    assert!(!dir.path().join("started").exists());
}

#[tokio::test]
async fn a_grandchild_that_holds_the_pipes_does_not_hang_us_and_does_not_outlive_us() {
    let begun = Clock::now();
    let (outcome, seen) = run(sh("sleep 600 & echo $!")).await;
    assert!(outcome.unwrap().success());
    assert!(begun.elapsed() < Duration::from_secs(30));
    gone(&seen[0].1).await;
}

#[tokio::test]
async fn dropping_the_future_ends_the_group() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let stop = Stop::never();
    let ready = Stop::never();
    let mut on_line = |_: Stream, _: &str| ready.cancel();
    let running = sh("sleep 600 & echo $! > \"$1\"; echo ready; wait").arg("sh").arg(&pid_file);
    tokio::select! {
        _ = running.run(&stop, &mut on_line) => panic!("ended by itself"),
        () = ready.cancelled() => {}
    }
    gone(&std::fs::read_to_string(pid_file).unwrap()).await;
}

#[tokio::test]
async fn each_way_of_not_starting_has_its_own_error() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    let mode = |mode| std::fs::set_permissions(&script, std::fs::Permissions::from_mode(mode)).unwrap();

    mode(0o644);
    let (result, _) = run(Command::new(&script)).await;
    assert!(matches!(result, Err(Error::NotExecutable { .. })), "{result:?}");
    mode(0o755);
    let (result, _) = run(Command::new("./script").cwd(dir.path())).await;
    assert!(matches!(result, Err(Error::InterpreterMissing { .. })), "{result:?}");
    let (result, _) = run(Command::new("/no/such/program")).await;
    assert!(matches!(result, Err(Error::ProgramMissing { .. })), "{result:?}");
    let (result, _) = run(Command::new("no-such-program-at-all").env("PATH", "/bin")).await;
    assert!(matches!(result, Err(Error::ProgramMissing { .. })), "{result:?}");
    let (result, _) = run(sh("true").cwd("/no/such/directory")).await;
    assert!(matches!(result, Err(Error::DirectoryMissing { .. })), "{result:?}");
}

#[tokio::test]
async fn another_user_is_become_only_by_root() {
    let us = account::current();
    let (outcome, _) = run(sh("true").account(&us)).await;
    assert!(outcome.unwrap().success());
    let other = Account { name: "other".into(), uid: us.uid + 4321, gid: us.gid + 4321, home: "/".into() };
    let (result, seen) = run(sh("id -u; id -g; id -G").cwd("/").account(&other)).await;
    if account::is_root() {
        assert!(result.unwrap().success());
        let ids: Vec<String> = seen.into_iter().map(|(_, line)| line).collect();
        assert_eq!(ids, [other.uid.to_string(), other.gid.to_string(), other.gid.to_string()]);
    } else {
        assert!(matches!(result, Err(Error::CannotBecome { .. })), "{result:?}");
    }
}

/// What a child gets: session, umask, ignored and blocked signals, open descriptors, terminal.
const LOOK_AROUND: &str = r#"
read -r stat </proc/self/stat
echo "stat ${stat##*) }"
echo "umask $(umask)"
while read -r name value; do case $name in SigIgn:|SigBlk:) echo "$name $value";; esac; done </proc/self/status
for fd in /proc/self/fd/*; do case ${fd##*/} in [3-9]|[1-9][0-9]*) [ ! -e "$fd" ] || echo "open ${fd##*/}";; esac; done
if (exec 9<>/dev/tty) 2>/dev/null; then echo terminal; else echo "no terminal"; fi
"#;

fn session_of_this_process() -> String {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("the child tells what it finds");
    stat.rsplit_once(") ")
        .expect("the child tells what it finds")
        .1
        .split_whitespace()
        .nth(3)
        .expect("the child tells what it finds")
        .to_owned()
}

async fn look_around(account: Option<&Account>) {
    let mut command = sh(LOOK_AROUND).cwd("/");
    if let Some(account) = account {
        command = command.account(account);
    }
    let (outcome, seen) = run(command).await;
    assert!(outcome.expect("the child tells what it finds").success(), "{seen:?}");
    let lines: Vec<&str> = seen.iter().map(|(_, line)| line.as_str()).collect();
    // State, parent, group, session.
    let stat: Vec<&str> = lines[0].split_whitespace().skip(1).collect();
    assert_eq!(stat[2], stat[3], "it leads neither its group nor its session: {lines:?}");
    assert_ne!(stat[3], session_of_this_process());
    assert_eq!(stat[4], "0", "it has a terminal: {lines:?}");
    let rest: Vec<&str> = lines[1..].to_vec();
    let none = "0000000000000000";
    assert_eq!(rest, ["umask 0022", &format!("SigBlk: {none}"), &format!("SigIgn: {none}"), "no terminal"]);
}

/// Not a test, but the program that the next one runs in a terminal, with an open descriptor and ignored signals.
#[tokio::test]
async fn looks_around_from_a_terminal() {
    if std::env::var_os("RUNUP_TEST_TERMINAL").is_none() {
        return;
    }
    // Without these, the test would show nothing.
    assert!(std::fs::File::options().read(true).write(true).open("/dev/tty").is_ok(), "no terminal here");
    assert!(std::fs::read_link("/proc/self/fd/7").is_ok(), "no descriptor was left open");
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    assert_eq!(u64::from_str_radix(ignored.trim(), 16).unwrap() & 0b11, 0b11, "HUP and INT are not ignored");

    look_around(None).await;
    if account::is_root() {
        let other = Account { name: "no-such-user".into(), uid: 234_567, gid: 234_567, home: "/".into() };
        look_around(Some(&other)).await;
    }
    println!("looked around");
}

#[cfg(target_os = "linux")]
#[test]
fn a_child_cannot_reach_our_terminal_and_inherits_nothing() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let side = std::fs::File::options().read(true).write(true).open(name).unwrap();
    let ran = std::process::Command::new("setsid")
        .args(["--ctty", "--wait", "/bin/sh", "-c"])
        .arg("trap '' HUP INT; umask 0; exec \"$0\" --exact host::command::tests::looks_around_from_a_terminal --nocapture 7</dev/null")
        .arg(std::env::current_exe().unwrap())
        .env("RUNUP_TEST_TERMINAL", "1")
        .stdin(side)
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success() && text.contains("looked around"), "{text}");
}
