//! Other users of the machine: what they own is not obeyed, what runup writes is not open to them, and they do not hold it
//! up.

use crate::rig::{Ran, Rig, finish, until};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Command, Stdio};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The same command, by way of a shell that does this first.
fn after(first: &str, command: &Command) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell
        .arg("-c")
        .arg(format!("{first} exec \"$0\" \"$@\""))
        .arg(command.get_program())
        .args(command.get_args());
    shell.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    shell
}

fn run(mut command: Command) -> Ran {
    finish(command.spawn().unwrap())
}

#[test]
fn root_obeys_no_configuration_that_another_user_can_change() {
    if !is_root() {
        println!("skipped: only root has others to mind");
        return;
    }
    let rig = Rig::new();
    let proof = rig.root().join("obeyed");
    let config = rig.write("home/op/c.toml", format!("token-command = \"touch {}\"\n", proof.display()));
    let (file, dir) = (Path::new(&config), Path::new(&config).parent().unwrap());
    let refused = |config: &str, text: &str| {
        let ran = rig.run_without_token(&["plan", "--config", config]).expect(78).says(text);
        ran.says(&format!("install -D -o root -m 644 {config} /etc/runup/config.toml"));
        assert!(!proof.exists(), "its command was run");
    };
    chown(file, Some(234_567), None).unwrap();
    refused(&config, &format!("{config}: it belongs to the user with the id 234567"));
    chown(file, Some(0), None).unwrap();
    chown(dir, Some(234_567), None).unwrap();
    refused(&config, &format!("{} belongs to the user with the id 234567", dir.display()));
    // By way of a link of root's own, too, and by the variable.
    let link = rig.root().join("link.toml");
    std::os::unix::fs::symlink(file, &link).unwrap();
    refused(link.to_str().unwrap(), &format!("{} belongs to the user", dir.display()));
    let mut command = rig.on_machine(&["plan"]);
    command.env_remove("RUNUP_TOKEN").env("RUNUP_CONFIG", file);
    run(command).expect(78);
    chown(dir, Some(0), Some(234_567)).unwrap();
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o775)).unwrap();
    refused(&config, &format!("{} can be written by the group with the id 234567", dir.display()));
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_ne!(rig.run_without_token(&["plan", "--config", &config]).code, 78);
    assert!(proof.exists(), "root's own is obeyed");
}

#[test]
fn in_a_user_namespace_an_owner_who_is_not_mapped_counts_as_root() {
    let rig = Rig::new();
    let config = rig.write("c.toml", "name = \"from-the-file\"\n");
    let mode = |mode| std::fs::set_permissions(&config, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    let unshare = |arguments: &[&str]| {
        let command = rig.command(arguments);
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--"]).arg(command.get_program()).args(command.get_args());
        unshare.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        run(unshare)
    };
    let allowed = Command::new("unshare").args(["--user", "--map-root-user", "true"]).output();
    if !is_root() || !allowed.is_ok_and(|ran| ran.status.success()) {
        println!("skipped: this needs root and user namespaces");
        return;
    }
    chown(&config, Some(234_567), Some(234_567)).unwrap();
    let arguments = ["plan", "--config", &config];
    unshare(&arguments).expect(64).says("--url is missing");
    mode(0o664);
    unshare(&arguments).expect(64).says("--url is missing");
    mode(0o646);
    unshare(&arguments).expect(78).says("can be written by every user");
    // Where the owner is mapped, it is another user.
    run(rig.command(&arguments)).expect(78);
    mode(0o644);
    run(rig.command(&arguments)).expect(78).says("belongs to the user with the id 234567");
}

#[test]
fn whatever_the_umask_is_nothing_is_open_to_others_and_the_runner_can_work() {
    for umask in ["000", "077"] {
        let rig = Rig::new();
        let first = format!("umask {umask};");
        let before = rig.everything();
        run(after(&first, &rig.on_machine(&["install"]))).expect(0);
        for path in rig.everything().iter().filter(|path| !before.contains(path)) {
            let meta = std::fs::symlink_metadata(path).unwrap();
            let sticky = meta.mode() & 0o1000 != 0;
            let open = !meta.is_symlink() && !sticky && meta.mode() & 0o002 != 0;
            assert!(!open, "under umask {umask}, {} has the mode {:o}", path.display(), meta.mode());
        }
        let state = std::fs::metadata(rig.root().join("var/lib/runup")).unwrap();
        assert_eq!(state.mode() & 0o7777, 0o700, "under umask {umask}");
        if is_root() {
            let parent = std::fs::metadata(rig.dir().parent().unwrap()).unwrap();
            assert_eq!(parent.mode() & 0o7777, 0o755, "the runner's user must pass, under umask {umask}");
        }
        run(after(&first, &rig.on_machine(&["status"]))).expect(0);
        run(after(&first, &rig.on_machine(&["remove"]))).expect(0);
        rig.assert_nothing_left();
    }
}

#[test]
fn man_pages_follow_the_umask_of_who_asks_for_them_and_are_never_open() {
    let directory = tempfile::tempdir().unwrap();
    for (umask, file, dir) in [("000", 0o644, 0o755), ("022", 0o644, 0o755), ("077", 0o600, 0o700)] {
        let pages = directory.path().join(umask);
        let mut command = Command::new(env!("CARGO_BIN_EXE_runup"));
        command.args(["generate", "man"]).arg(&pages);
        run(after(&format!("umask {umask};"), &command)).expect(0);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&pages.join("runup.1")), mode(&pages)), (file, dir), "under umask {umask}");
    }
}

#[test]
fn a_token_command_cannot_reach_the_terminal_of_who_runs_runup() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let rig = Rig::new();
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let side = std::fs::File::options().read(true).write(true).open(name).unwrap();
    let script = rig.write(
        "command",
        format!(
            "if (exec 9<>/dev/tty) 2>/dev/null; then echo reached; else echo safe; fi >{}/proof\necho {}\n",
            rig.root().display(),
            rig.sandbox.token().expose()
        ),
    );
    let command = rig.on_machine(&["plan", "--token-command", &format!("sh {script}")]);
    // A shell that has the terminal, as an administrator's: it can open it, so a child of it could.
    let mut shell = Command::new("setsid");
    shell
        .args(["--ctty", "--wait", "/bin/sh", "-c"])
        .arg("(exec 9<>/dev/tty) || exit 99; \"$0\" \"$@\" </dev/null");
    shell.arg(command.get_program()).args(command.get_args()).env_clear();
    shell.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?)))).env_remove("RUNUP_TOKEN");
    let child = shell.stdin(side).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    finish(child).expect(0);
    // The shell creates the file before it writes into it.
    let proof = || std::fs::read_to_string(rig.root().join("proof")).unwrap_or_default();
    until("the command has run", || proof().ends_with('\n'));
    assert_eq!(proof(), "safe\n");
}
