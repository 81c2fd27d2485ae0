//! `--deps`: what is said where nothing may be installed, and package managers that are not this machine's, as
//! stand-ins in a root of their own. Debian's real one is at work in `tests/boot`.

use crate::rig::{Ran, Rig, finish, names_in};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;

const FEDORA: &str = "ID=fedora\nVERSION_ID=42\nPRETTY_NAME=\"Fedora Linux 42\"\n";
const SUSE: &str =
    "ID=opensuse-leap\nID_LIKE=\"suse opensuse\"\nVERSION_ID=15.6\nPRETTY_NAME=\"openSUSE Leap 15.6\"\n";

/// Everything in the table but the libraries and programs that the test takes away.
const LIBRARIES: [&str; 6] =
    ["libicuuc.so.74", "libssl.so.3", "libgssapi_krb5.so.2", "libz.so.1", "libstdc++.so.6", "libgcc_s.so.1"];

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A system that has all that the runner needs, but these.
fn system(os_release: &str, without: &[&str]) -> Rig {
    let rig = Rig::new();
    rig.write("etc/os-release", os_release);
    rig.write("etc/pki/tls/certs/ca-bundle.crt", "certificates");
    for name in ["ldd", "ldconfig", "grep", "bash"] {
        program(&rig, name, "#!/bin/sh\n");
    }
    for name in LIBRARIES.iter().filter(|name| !without.contains(name)) {
        rig.write(&format!("usr/lib64/{name}"), some_library());
    }
    rig
}

/// What a library for this machine begins with: as our own binary does.
fn some_library() -> Vec<u8> {
    std::fs::read(env!("CARGO_BIN_EXE_runup")).unwrap()[..4096].to_vec()
}

fn program(rig: &Rig, name: &str, text: &str) {
    let path = rig.write(&format!("usr/bin/{name}"), text);
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

fn bake(rig: &Rig, arguments: &[&str]) -> Ran {
    let mut all = vec!["bake", "--deps"];
    all.extend(arguments);
    rig.run(&all)
}

#[test]
fn where_nothing_is_missing_no_package_manager_is_started() {
    // There is none to start: it would fail.
    let rig = system(FEDORA, &[]);
    bake(&rig, &[]).expect(0).says("all that the runner needs is there");
    // A distribution that nobody knows is no obstacle then.
    let rig = system("ID=arch\nPRETTY_NAME=\"Arch Linux\"\n", &[]);
    bake(&rig, &[]).expect(0).says("all that the runner needs is there");
}

#[test]
fn an_unknown_distribution_is_69_with_the_list() {
    let rig = system("ID=arch\nPRETTY_NAME=\"Arch Linux\"\n", &["libicuuc.so.74"]);
    for command in ["install", "bake", "plan"] {
        rig.run(&[command, "--deps"])
            .expect(69)
            .says("does not know how to install packages on Arch Linux, and these are missing: libicu")
            .says("hint: Install what provides these by the distribution's own means");
    }
    assert_eq!(rig.routes().iter().filter(|route| *route == "archive").count(), 0);
    rig.assert_nothing_left();
    let rig = system("ID=amzn\nVERSION_ID=2\nPRETTY_NAME=\"Amazon Linux 2\"\n", &[]);
    bake(&rig, &[]).expect(69).says("Amazon Linux 2 is too old").says("glibc 2.26");
}

#[test]
fn who_is_not_root_gets_the_command_and_nothing_is_done() {
    let rig = system(FEDORA, &["libicuuc.so.74", "libssl.so.3"]);
    let wanted = format!(
        "chroot {} dnf install -y --setopt=install_weak_deps=0 libicu openssl-libs\n",
        rig.root().display()
    );
    // As whoever it is that runs it can read a system.
    for file in rig.everything().into_iter().filter(|path| path.is_file()) {
        let executable = std::fs::metadata(&file).unwrap().permissions().mode() & 0o111;
        std::fs::set_permissions(file, PermissionsExt::from_mode(0o644 | executable)).unwrap();
    }
    let before = rig.everything();
    let run = |arguments: &[&str]| -> Option<Ran> {
        let mut command = rig.on_machine(arguments);
        if is_root() {
            // Who names oneself needs no root for that name.
            std::os::unix::process::CommandExt::uid(&mut command, 65534);
        }
        command.spawn().ok().map(finish)
    };
    for command in ["bake", "install"] {
        let Some(ran) = run(&[command, "--deps"]) else {
            eprintln!("skipped: nobody cannot reach the binary");
            return;
        };
        let ran = ran.expect(77).says("only root can install what is missing: libicu, OpenSSL");
        assert_eq!(ran.stdout, wanted, "stdout is the command, and nothing else");
    }
    let error = run(&["bake", "--deps", "--json"]).unwrap().expect(77).json();
    assert_eq!(error["error"]["command"], wanted.trim_end());
    assert_eq!(error["error"]["class"], "no-permission");
    assert_eq!(rig.everything(), before);
    assert_eq!(rig.routes(), [] as [&str; 0], "nor is anybody asked");
    // A plan is only words, and anybody may have it.
    rig.run(&["plan", "--deps"]).expect(0).says(wanted.trim_end());
    let plan = rig.run(&["plan", "--deps", "--json"]).expect(0).json();
    assert_eq!(plan["deps"], wanted.trim_end());
    let plan = rig.run(&["plan", "--json"]).expect(0).json();
    assert!(plan["deps"].is_null(), "nobody asked for it");
}

/// A shell in the root, with what it is linked to; `false` where that cannot be.
fn give_a_shell(rig: &Rig) -> bool {
    let Ok(listed) = Command::new("ldd").arg("/bin/sh").output() else { return false };
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
    for file in libraries.chain(["/bin/sh"]) {
        let Ok(bytes) = std::fs::read(file) else { return false };
        let path = rig.write(file.trim_start_matches('/'), bytes);
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let shell = |text: &str| Command::new("chroot").arg(rig.root()).args(["/bin/sh", "-c", text]).status();
    is_root() && shell("exit 7").is_ok_and(|status| status.code() == Some(7))
}

/// A package manager that writes down how it was called, and brings these libraries.
fn stand_in(rig: &Rig, name: &str, brings: &[&str], end: &str) {
    let mut script =
        String::from("#!/bin/sh\necho \"${0##*/} $*|$http_proxy|$ZYPP_LOCK_TIMEOUT|$SECRET\" >>/calls\n");
    for library in brings {
        rig.write(&format!("new/{library}"), some_library());
        // The shell alone can move nothing, but it can tell the loader where to look.
        script.push_str("case $* in *install*) echo /new >>/etc/ld.so.conf ;; esac\n");
    }
    program(rig, name, &format!("{script}{end}\n"));
}

fn calls(rig: &Rig) -> Vec<String> {
    let text = std::fs::read_to_string(rig.root().join("calls")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn each_package_manager_is_called_once_as_it_wants_to_be() {
    for (os_release, name, wanted) in [
        (
            FEDORA,
            "dnf",
            &["dnf install -y --setopt=install_weak_deps=0 libicu|http://proxy.test:3128||"] as &[&str],
        ),
        (
            FEDORA,
            "microdnf",
            &["microdnf install -y --setopt=install_weak_deps=0 libicu|http://proxy.test:3128||"],
        ),
        (
            SUSE,
            "zypper",
            &[
                "zypper --non-interactive refresh|http://proxy.test:3128|300|",
                "zypper --non-interactive install --no-recommends libicu|http://proxy.test:3128|300|",
            ],
        ),
    ] {
        let rig = system(os_release, &["libicuuc.so.74"]);
        if !give_a_shell(&rig) {
            eprintln!("skipped: only root may chroot, and not everywhere");
            return;
        }
        stand_in(&rig, name, &["libicuuc.so.74"], "exit 0");
        let run = || {
            let mut command = rig.on_machine(&["bake", "--deps"]);
            command
                .env("http_proxy", "http://proxy.test:3128")
                .env("no_proxy", "127.0.0.1")
                .env("SECRET", "x");
            finish(command.spawn().unwrap())
        };
        run().expect(0).says("installed libicu").says("has no name server in its /etc/resolv.conf");
        assert_eq!(calls(&rig), wanted);
        run().expect(0).says("all that the runner needs is there");
        assert_eq!(calls(&rig).len(), wanted.len(), "the second run starts none");
        rig.run(&["remove"]).expect(0);
        assert_eq!(calls(&rig).len(), wanted.len(), "nor does a removal");
        assert!(rig.root().join("new/libicuuc.so.74").exists());
    }
}

#[test]
fn a_package_manager_that_fails_is_said_with_its_last_words() {
    for (end, code, said) in [
        ("echo 'Error: Unable to find a match: libicu'; exit 1", 71, "package sources"),
        (
            "echo 'Curl error (6): Could not resolve host' >&2; exit 1",
            75,
            "has no name server: use the machine's file",
        ),
        ("echo 'Error: rpmdb is damaged'; exit 1", 71, "Fix what its output says"),
        ("exit 0", 71, "installed libicu, but these are still missing: libicu"),
    ] {
        let rig = system(FEDORA, &["libicuuc.so.74"]);
        if !give_a_shell(&rig) {
            eprintln!("skipped: only root may chroot, and not everywhere");
            return;
        }
        stand_in(&rig, "dnf", &[], end);
        let ran = bake(&rig, &[]).expect(code).says(said);
        if let Some((_, words)) = end.split_once('\'') {
            let words = words.split('\'').next().unwrap();
            assert!(ran.stderr.contains(&format!("  | {words}")), "{ran:#?}");
            ran.says("dnf install -y --setopt=install_weak_deps=0 libicu` failed with exit code 1");
        }
        assert_eq!(rig.asked("archive"), 0, "nothing is downloaded in vain");
        rig.assert_nothing_left();
    }
}

#[test]
fn a_system_without_its_package_manager_is_71() {
    let rig = system(FEDORA, &["libicuuc.so.74"]);
    if is_root() {
        bake(&rig, &[]).expect(71).says("dnf was not found to install what is missing: libicu");
        rig.assert_nothing_left();
    }
}

#[test]
fn run_has_no_such_option_and_reads_a_file_that_sets_it() {
    let rig = Rig::new();
    rig.run(&["run", "--deps"]).expect(64).says("--deps");
    let file = rig.write("config.toml", "deps = true\n");
    // Not the key is refused: the option that comes after it.
    rig.run(&["run", "--config", &file, "--after-job", "again"]).expect(64).says("--after-job needs");
}

/// A library of this machine that needs one which nobody has; `None` without glibc.
#[cfg(target_os = "linux")]
fn broken() -> Option<Vec<u8>> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps.split_whitespace().find(|word| word.ends_with("/libgcc_s.so.1"))?;
    let mut bytes = std::fs::read(path).ok()?;
    for at in 0..bytes.len() - 9 {
        if bytes[at..].starts_with(b"libc.so.6") {
            bytes[at + 3] = b'q';
        }
    }
    Some(bytes)
}

/// The files of the runner, each with its mode, owner and size.
#[cfg(target_os = "linux")]
fn files(rig: &Rig) -> Vec<(PathBuf, u32, u32, u32, u64)> {
    let ours = rig.everything().into_iter().filter(|path| path.starts_with(rig.dir()));
    ours.map(|path| {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let bytes = if meta.is_file() { meta.len() } else { 0 };
        (path, meta.mode(), meta.uid(), meta.gid(), bytes)
    })
    .collect()
}

/// What the journal says of the runner; whose logs are in its directory is noted when it is first registered.
#[cfg(target_os = "linux")]
fn journal(rig: &Rig) -> serde_json::Value {
    let state = rig.root().join("var/lib/runup");
    let name = names_in(&state).into_iter().find(|name| name.ends_with(".json")).unwrap();
    let mut journal: serde_json::Value =
        serde_json::from_slice(&std::fs::read(state.join(name)).unwrap()).unwrap();
    journal.as_object_mut().unwrap().remove("machine");
    journal
}

/// `config.sh` refuses, and what it refuses is explained.
#[cfg(target_os = "linux")]
#[test]
fn a_runner_of_an_image_whose_libraries_are_missing_is_not_registered() {
    let Some(broken) = broken() else { return };
    let rig = Rig::new();
    rig.run(&["bake"]).expect(0);
    let library = rig.write("opt/actions-runner/bin/libcoreclr.so", broken);
    std::fs::set_permissions(&library, std::fs::Permissions::from_mode(0o644)).unwrap();
    let baked = (files(&rig), journal(&rig));
    rig.run(&["install"]).expect(71).says("libraries that are not installed: libq.so.6");
    assert_eq!(rig.state().runners, []);
    for (before, now) in baked.0.iter().zip(&files(&rig)) {
        assert_eq!(now, before, "the image is as it was");
    }
    assert_eq!((files(&rig).len(), journal(&rig)), (baked.0.len(), baked.1));
    std::fs::remove_file(library).unwrap();
    rig.run(&["install"]).expect(0);
    rig.assert_exactly_one_runner();
}

#[cfg(target_os = "linux")]
#[test]
fn no_runner_is_deleted_for_a_new_one_that_could_not_be_registered() {
    let Some(broken) = broken() else { return };
    let rig = Rig::new();
    rig.add_offline_runner("box");
    rig.run(&["bake"]).expect(0);
    let library = rig.write("opt/actions-runner/bin/libcoreclr.so", broken);
    std::fs::set_permissions(&library, std::fs::Permissions::from_mode(0o644)).unwrap();
    let install = ["install", "--name", "box", "--replace=if-offline"];
    rig.run(&install).expect(71).says("libraries that are not installed: libq.so.6");
    assert_eq!(rig.state().runners.len(), 1, "the old one is still there");
    std::fs::remove_file(library).unwrap();
    rig.run(&install).expect(0);
    rig.assert_exactly_one_runner();
}
