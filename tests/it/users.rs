//! The runner's user: its ids, and where users come from.

use super::rig::{Ran, Rig, SCOPE, finish};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

fn file(rig: &Rig, name: &str) -> String {
    std::fs::read_to_string(rig.root().join("etc").join(name)).unwrap()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn a_user_that_runup_creates_gets_the_wanted_ids_and_goes_with_the_runner() {
    let rig = Rig::new().making_a_user();
    if !is_root() {
        rig.run(&["plan", "--user-id", "4711"]).expect(64).says("--user-id needs root");
        return;
    }
    if !rig.makes_a_user() {
        return;
    }
    let wanted = ["--user-id", "4711", "--group-id", "4712"];
    rig.run(&[&["plan"], &wanted[..]].concat())
        .expect(0)
        .says("create the system user fresh with the user id 4711 and the group id 4712");
    for command in ["bake", "install"] {
        rig.run(&[&[command], &wanted[..]].concat()).expect(0);
        assert!(file(&rig, "passwd").contains(":4711:4712:"), "{}", file(&rig, "passwd"));
        assert!(file(&rig, "group").contains(":4712:"), "{}", file(&rig, "group"));
    }
    // It is there now, and has these ids.
    rig.run(&[&["install"], &wanted[..]].concat()).expect(0).says("nothing to do");
    for (option, id, found) in [("--user-id", "4713", "4711"), ("--group-id", "4711", "4712")] {
        for command in ["plan", "install"] {
            rig.run(&[command, option, id])
                .expect(78)
                .says(&format!("id {found}, but {option} {id} was requested"));
        }
    }
    rig.run(&["remove"]).expect(0);
    assert!(!file(&rig, "group").contains("fresh"), "{}", file(&rig, "group"));
    rig.assert_nothing_left();

    // A user and its group have the same id if they can.
    rig.run(&["install", "--user-id", "4711"]).expect(0);
    assert!(file(&rig, "passwd").contains(":4711:4711:"), "{}", file(&rig, "passwd"));
    rig.run(&["remove"]).expect(0);
    rig.assert_nothing_left();
}

#[test]
fn an_id_that_cannot_be_the_user_s_is_refused_before_anything_is_done() {
    if !is_root() {
        return;
    }
    let rig = Rig::new().making_a_user();
    rig.write("etc/group", "root:x:0:\nnogroup:x:65534:\nusers:x:100:\n");
    rig.write("etc/passwd", format!("{}ci:x:1001:100::/:/bin/sh\n", file(&rig, "passwd")));
    for id in ["0", "65534", "65535", "4294967294", "4294967295", "99999999999"] {
        for option in ["--user-id", "--group-id"] {
            rig.run(&["plan", option, id]).expect(78).says(&format!("{option} {id} cannot be used"));
        }
    }
    let theirs = rig.user == Some("nobody");
    for command in ["plan", "install", "bake"] {
        if !theirs {
            rig.run(&[command, "--user-id", "1001"]).expect(78).says("the user ci has it");
            rig.run(&[command, "--group-id", "100"]).expect(78).says("the group users has it");
        }
    }
    assert!(!rig.dir().exists() && rig.state().runners.is_empty());
}

#[test]
fn a_named_user_of_an_image_is_not_created_where_a_directory_service_could_have_it() {
    let mut rig = Rig::new().making_a_user();
    rig.write("etc/nsswitch.conf", "passwd: files [NOTFOUND=continue] sss systemd\n");
    if !rig.makes_a_user() {
        return;
    }
    for command in ["plan", "install", "bake"] {
        let ran = rig.run(&[command]).expect(78).says("the user fresh is not in the image's /etc/passwd");
        assert!(ran.stderr.contains("from sss\n") && ran.stderr.contains("useradd"), "{ran:#?}");
    }
    rig.assert_nothing_left();
    // These are on every machine.
    rig.write("etc/nsswitch.conf", "passwd: files systemd\n");
    rig.run(&["plan"]).expect(0).says("create the system user fresh");
    // The default user is runup's own.
    rig.write("etc/nsswitch.conf", "passwd: files sss\n");
    rig.user = None;
    rig.run(&["plan"]).expect(0).says("create the system user actions-runner");
}

/// Runs a command on this machine, and not in a root of the rig, as a user without an entry in the user database, whose
/// group is 0: as `OpenShift` does, or `docker run --user 1001:0`.
fn as_anyone(rig: &Rig, home: Option<&str>, arguments: &[&str]) -> Ran {
    use std::os::unix::process::CommandExt as _;
    // The directory of the build may be closed to other users. Another process copies: a file that is open for writing in
    // a child of another test could not be started.
    let program = rig.root().join("runup");
    if !program.exists() {
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_runup")).arg(&program).status();
        assert!(copied.unwrap().success());
    }
    let usual = rig.command(arguments);
    let mut command = Command::new(program);
    command.args(arguments).arg("--url").arg(rig.url()).env_clear().current_dir("/");
    command.envs(
        usual.get_envs().filter_map(|(name, value)| Some((name, value?))).filter(|(name, _)| *name != "HOME"),
    );
    command.envs(home.map(|home| ("HOME", home)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(command.uid(1_234_567).gid(0).spawn().unwrap())
}

#[test]
fn any_user_of_group_0_places_and_runs_whatever_its_home_is() {
    if !is_root() {
        return;
    }
    let rig = Rig::new();
    let place = rig.root().join("place");
    std::fs::create_dir(&place).unwrap();
    std::fs::set_permissions(&place, PermissionsExt::from_mode(0o775)).unwrap();
    let dir = place.join("runner");
    let dir = dir.to_str().unwrap();
    let closed = rig.root().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
    for home in [None, Some("/"), closed.to_str(), Some("/nonexistent")] {
        as_anyone(&rig, home, &["install", "--dir", dir]).expect(0);
        as_anyone(&rig, home, &["status", "--dir", dir]).expect(0).says("registered");
        assert!(place.join(".runup").is_dir(), "{home:?}");
        as_anyone(&rig, home, &["remove", "--dir", dir]).expect(0).says("deregistered");
        assert_eq!(rig.state().runners, []);
    }
    rig.sandbox.add_job(&SCOPE.parse().unwrap(), "build", 0);
    as_anyone(&rig, None, &["run", "--ephemeral", "--after-job", "stop", "--dir", dir])
        .expect(0)
        .says("the job is done after 1 job");
}

#[test]
fn an_image_of_group_0_is_run_by_any_user_of_it_and_refreshed() {
    if !is_root() {
        return;
    }
    let rig = Rig::new();
    let (dir, state) = (rig.root().join("image/actions-runner"), rig.root().join("image-state"));
    let (dir, state) = (dir.to_str().unwrap(), state.to_str().unwrap());
    let at = ["--dir", dir, "--state-dir", state];
    let bake = || {
        finish(
            rig.command(&[&["bake", "--user", "root", "--url", &rig.url()], &at[..]].concat())
                .spawn()
                .unwrap(),
        )
    };
    bake().expect(0);
    let mode = |path: &str| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode(dir), mode(state), mode(&format!("{dir}/config.sh"))], [0o775, 0o770, 0o775]);
    // What group 0 may write is root's.
    bake().expect(0).says("nothing to do");

    as_anyone(&rig, None, &[&["install"], &at[..]].concat()).expect(0);
    as_anyone(&rig, None, &[&["remove"], &at[..]].concat()).expect(0);
    assert!(rig.state().runners.is_empty() && !std::path::Path::new(dir).exists());
}

#[test]
fn a_state_directory_that_cannot_be_used_is_refused_with_the_option_that_moves_it() {
    let rig = Rig::new();
    let file = rig.write("file", "");
    let dir = rig.root().join("runner");
    let state = format!("{file}/state");
    let install = |state: &str| {
        let arguments =
            ["install", "--url", &rig.url(), "--dir", dir.to_str().unwrap(), "--state-dir", state];
        finish(rig.command(&arguments).spawn().unwrap())
    };
    for hint in ["--state-dir", "RUNUP_STATE_DIR"] {
        let ran = install(&state).says(hint);
        assert!(ran.code != 0 && ran.stderr.contains(&state), "{ran:#?}");
    }
    if is_root() {
        let theirs = rig.root().join("theirs");
        std::fs::create_dir(&theirs).unwrap();
        std::os::unix::fs::chown(&theirs, Some(65534), None).unwrap();
        install(&format!("{}/state", theirs.display())).expect(78).says("refusing --state-dir");
    }
    assert!(!dir.exists() && rig.state().runners.is_empty());
}
