//! What an operator sets for the runner and its jobs reaches them, and stays.

use crate::rig::{Rig, SCOPE, finish, names_in, signal, until};
use runup::sandbox::NewJob;
use rustix::process::Signal;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

const PROXY: &str = "http://bob:hush-canary@proxy.test:3128";

/// Runs this script as the next job of the runner, and returns its output.
fn job(rig: &Rig, script: &str) -> String {
    let id = rig.sandbox.queue(NewJob::script(SCOPE, script));
    let found = || rig.state().jobs.into_iter().find(|job| job.id == id && job.result.is_some());
    until("the job has ended", || found().is_some());
    found().unwrap().log
}

fn hook(rig: &Rig, name: &str, text: &str) -> String {
    let path = rig.write(name, format!("#!/bin/sh\n{text}\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("/{name}")
}

fn dot_env(rig: &Rig) -> String {
    std::fs::read_to_string(rig.dir().join(".env")).unwrap()
}

fn record(rig: &Rig) -> Option<PathBuf> {
    let state = rig.root().join("var/lib/runup");
    let name = names_in(&state).into_iter().find(|name| name.ends_with(".environment"))?;
    Some(state.join(name))
}

#[test]
fn what_is_set_reaches_the_jobs_and_no_message() {
    let rig = Rig::new();
    let all = [
        "--proxy",
        PROXY,
        "--no-proxy",
        "internal.test",
        "--env",
        "OF_THE_JOBS=secret-canary",
        "--env",
        "SPACED=a \"b\" = $c",
        "--path",
        "/usr/local/bin:/usr/bin:/bin:/opt/tools",
    ];
    let plan = rig.run(&[&["plan", "--json"], &all[..]].concat()).expect(0);
    let steps = plan.json()["steps"].to_string();
    for name in ["OF_THE_JOBS", "SPACED", "PATH", "https_proxy"] {
        assert!(steps.contains(name), "{steps}");
    }
    let installed = rig.run(&[&["install"], &all[..]].concat()).expect(0);
    let status = rig.run(&["status", "--json"]).expect(0);
    let verbose = rig.run(&[&["install", "--verbose"], &all[..]].concat()).expect(0);
    for ran in [&plan, &installed, &status, &verbose] {
        assert!(!ran.all().contains("canary"), "{ran:#?}");
    }
    // Nothing that is set needs to be said again.
    rig.run(&["install"]).expect(0).says("nothing to do");

    let child = rig.start(&["run", "--drain", "50s"]);
    let found = job(&rig, "env");
    for line in [
        &format!("https_proxy={PROXY}"),
        &format!("http_proxy={PROXY}"),
        "no_proxy=internal.test",
        "OF_THE_JOBS=secret-canary",
        "SPACED=a \"b\" = $c",
        "PATH=/usr/local/bin:/usr/bin:/bin:/opt/tools",
    ] {
        assert!(found.lines().any(|found| found == line), "{line} is not in {found}");
    }
    signal(&child, Signal::TERM);
    finish(child).expect(0);

    // The usual PATH comes back.
    rig.run(&["install", "--path", "none"]).expect(0);
    let path = std::fs::read_to_string(rig.dir().join(".path")).unwrap();
    assert!(!path.contains("/opt/tools") && path.contains("/usr/bin"), "{path}");

    let mode = std::fs::metadata(record(&rig).unwrap()).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode, std::fs::metadata(rig.dir().join(".env")).unwrap().permissions().mode() & 0o007),
        (0o600, 0)
    );
    rig.run(&["remove"]).expect(0);
    rig.assert_nothing_left();
}

#[test]
fn an_option_replaces_what_it_set_and_none_takes_it_back() {
    let rig = Rig::new();
    let started = hook(&rig, "usr/local/bin/started.sh", "exit 0");
    rig.run(&["install", "--proxy", PROXY, "--env", "A=1", "--hook-job-started", &started]).expect(0);
    assert!(
        dot_env(&rig).contains(&format!("\nACTIONS_RUNNER_HOOK_JOB_STARTED={started}\n")),
        "{}",
        dot_env(&rig)
    );
    rig.run(&["plan", "--env", "B=2"]).expect(0).says("set A, B for the runner");
    rig.run(&["install", "--env", "B=2"]).expect(0);
    let now = dot_env(&rig);
    assert!(
        now.contains("\nB=2\n") && now.contains(PROXY) && now.contains(&started) && !now.contains("A=1"),
        "{now}"
    );
    rig.run(&["install", "--proxy", "none", "--hook-job-started", "none"]).expect(0);
    let now = dot_env(&rig);
    assert!(now.contains("\nB=2\n") && !now.contains("proxy") && !now.contains(&started), "{now}");
}

#[test]
fn the_operator_s_own_lines_stay_and_win() {
    let rig = Rig::new();
    rig.run(&["install", "--env", "A=1"]).expect(0);
    let own = format!("{}A=mine\nOWN=x=y\n", dot_env(&rig));
    std::fs::write(rig.dir().join(".env"), &own).unwrap();
    rig.run(&["install"]).expect(0).says("nothing to do");
    // What runup wrote comes back if it is gone, and nothing else does.
    std::fs::write(rig.dir().join(".env"), "OWN=x=y\n").unwrap();
    rig.run(&["status"]).says(".env");
    rig.run(&["plan"]).expect(0).says("write .env again");
    rig.run(&["install"]).expect(0);
    assert_eq!(dot_env(&rig), own.replace("A=mine\n", ""));
}

#[test]
fn a_refresh_of_an_image_keeps_what_was_baked() {
    let rig = Rig::new();
    rig.run(&["bake", "--env", "BAKED=yes", "--proxy", PROXY, "--runner-version", "2.328.0"]).expect(0);
    // In the tree of an ordinary user, a job could have written it.
    let own = if rustix::process::geteuid().is_root() { "OWN=1\n" } else { "" };
    std::fs::write(rig.dir().join(".env"), format!("{}{own}", dot_env(&rig))).unwrap();
    let machine_id = rig.root().join("etc/machine-id");
    let id = std::fs::read(&machine_id).unwrap();
    std::fs::write(&machine_id, "").unwrap();
    rig.run(&["bake", "--check"]).expect(0);
    std::fs::write(&machine_id, id).unwrap();
    rig.run(&["plan"]).expect(0).says("refresh");
    let child = rig.start(&["run", "--drain", "50s"]);
    let found = job(&rig, "env");
    assert!(found.contains("\nBAKED=yes\n") && found.contains(own), "{found}");
    signal(&child, Signal::TERM);
    finish(child).expect(0);
    let now = dot_env(&rig);
    assert!(now.contains("\nBAKED=yes\n") && now.contains(PROXY) && now.ends_with(own), "{now}");
}

#[test]
fn certificates_are_trusted_beside_the_system_s_wherever_their_file_is() {
    let rig = Rig::new();
    let mine = rcgen::generate_simple_self_signed(vec!["ca.test".to_owned()]).unwrap().cert.pem();
    let file = rig.write("root/ca.pem", &mine);
    rig.run(&["install", "--ca-file", &file]).expect(0);
    std::fs::remove_file(&file).unwrap();
    rig.run(&["install"]).expect(0).says("nothing to do");
    let child = rig.start(&["run", "--drain", "50s"]);
    let in_root = format!("cat {}$SSL_CERT_FILE", rig.root().display());
    let script = format!("{in_root} && test \"$SSL_CERT_FILE\" = \"$NODE_EXTRA_CA_CERTS\" && echo same");
    let found = job(&rig, &script);
    assert!(found.contains(mine.trim()) && found.ends_with("same\n"), "{found}");
    signal(&child, Signal::TERM);
    finish(child).expect(0);
    rig.run(&["remove"]).expect(0);
    rig.assert_nothing_left();
}

/// What was set stays set, whatever the environment of the next run is: a boot has none.
#[test]
fn a_boot_changes_nothing_that_a_shell_has_set() {
    let rig = Rig::new();
    let mine = rcgen::generate_simple_self_signed(vec!["ca.test".to_owned()]).unwrap().cert.pem();
    let file = rig.write("etc/ssl/mine.pem", &mine);
    // The machine has them at the place where the shell has them.
    rig.write(file.trim_start_matches('/'), &mine);
    let mut shell = rig.on_machine(&["install"]);
    shell.env("HTTPS_PROXY", PROXY).env("no_proxy", "internal.test").env("SSL_CERT_FILE", &file);
    finish(shell.spawn().unwrap()).expect(0);
    let before = dot_env(&rig);
    assert!(
        before.contains("HTTPS_PROXY") && before.contains("internal.test") && before.contains("mine.pem"),
        "{before}"
    );
    rig.run(&["install"]).expect(0).says("nothing to do");
    assert_eq!(dot_env(&rig), before);
}

#[test]
fn a_repair_keeps_what_was_set() {
    let rig = Rig::new();
    let mine = rcgen::generate_simple_self_signed(vec!["ca.test".to_owned()]).unwrap().cert.pem();
    let file = rig.write("root/ca.pem", mine);
    rig.run(&["install", "--env", "A=1", "--ca-file", &file]).expect(0);
    let dir = rig.dir();
    std::fs::rename(dir.join("bin"), dir.join("bin.2.336.0")).unwrap();
    rig.run(&["install"]).expect(0);
    assert!(dot_env(&rig).contains("\nA=1\n") && dir.join(".ca-bundle.pem").exists(), "{}", dot_env(&rig));
    rig.run(&["install"]).expect(0).says("nothing to do");
}

/// A secret that is mounted as a variable ends with a line break, and one in the middle would be another line of `.env`.
#[test]
fn a_proxy_of_several_lines_is_one_or_none() {
    let rig = Rig::new();
    let with = |proxy: &str| finish(rig.on_machine(&["install"]).env("https_proxy", proxy).spawn().unwrap());
    with(&format!("{PROXY}\n")).expect(0);
    assert!(dot_env(&rig).contains(&format!("\nhttps_proxy={PROXY}\n")), "{}", dot_env(&rig));
    let mut command = rig.on_machine(&["install"]);
    finish(command.env("no_proxy", "a.test\nLD_PRELOAD=/x").spawn().unwrap())
        .expect(64)
        .says("control character");
    rig.run(&["status"]).expect(0);
}

/// Jobs can write the tree of a runner that updates itself, and root reads no certificates there.
#[test]
fn root_trusts_no_certificates_of_the_tree() {
    let rig = Rig::new();
    let mine = rcgen::generate_simple_self_signed(vec!["ca.test".to_owned()]).unwrap().cert.pem();
    let file = rig.write("root/ca.pem", mine);
    rig.run(&["install", "--self-update", "--ca-file", &file]).expect(0);
    std::fs::remove_file(&file).unwrap();
    std::fs::write(rig.dir().join(".ca-bundle.pem"), "garbage").unwrap();
    rig.run(&["status"]).says(".ca-bundle.pem is not as runup wrote it");
    rig.run(&["install", "--self-update"]).expect(0);
    rig.run(&["status"]).expect(0);
}

/// The proxy of the machine that builds an image is not the image's.
#[test]
fn an_image_has_only_what_options_set() {
    let rig = Rig::new();
    let mut bake = rig.on_machine(&["bake", "--env", "BAKED=1"]);
    finish(bake.env("https_proxy", PROXY).env("SSL_CERT_FILE", "/nowhere/ca.pem").spawn().unwrap()).expect(0);
    assert!(dot_env(&rig).contains("\nBAKED=1\n") && !dot_env(&rig).contains("proxy"), "{}", dot_env(&rig));
    assert!(!dot_env(&rig).contains("SSL_CERT_FILE"), "{}", dot_env(&rig));
}

#[test]
fn a_runner_in_an_image_gets_no_certificates_that_only_the_host_has() {
    let rig = Rig::new();
    let bundle = rig.write("host-ca.pem", "");
    let set = |file: &str| {
        let mut install = rig.on_machine(&["install", "--env", "A=1"]);
        finish(install.env("SSL_CERT_FILE", file).spawn().unwrap()).expect(0);
        dot_env(&rig)
    };
    assert!(!set(&bundle).contains("SSL_CERT_FILE"), "{}", dot_env(&rig));
    // What it has at the same place, it can use.
    rig.write(bundle.trim_start_matches('/'), "");
    assert!(set(&bundle).contains(&format!("\nSSL_CERT_FILE={bundle}\n")), "{}", dot_env(&rig));
}

#[test]
fn certificates_can_be_taken_back() {
    let rig = Rig::new();
    let pem = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
    let file = rig.write("home/op/ca.pem", pem);
    rig.run(&["install", "--ca-file", &file, "--env", "A=1"]).expect(0);
    let copies = || {
        let names = names_in(&rig.root().join("var/lib/runup"));
        names.into_iter().filter(|name| name.ends_with(".ca.pem")).count()
    };
    assert!(dot_env(&rig).contains(".ca-bundle.pem") && copies() == 1, "{}", dot_env(&rig));
    rig.run(&["plan", "--ca-file", "none"]).expect(0).says("set CURL_CA_BUNDLE");
    rig.run(&["install", "--ca-file", "none"]).expect(0);
    assert!(!dot_env(&rig).contains(".pem") && dot_env(&rig).contains("\nA=1\n"), "{}", dot_env(&rig));
    assert_eq!(copies(), 0);
    std::fs::remove_file(file).unwrap();
    rig.run(&["install"]).expect(0).says("nothing to do");
}

/// The lines of the block are recognised, also where the line above or below them is gone.
#[test]
fn a_block_that_lost_its_first_or_last_line_is_still_runup_s() {
    let rig = Rig::new();
    rig.run(&["install", "--env", "A=1"]).expect(0);
    let whole = dot_env(&rig);
    let lines: Vec<&str> = whole.lines().collect();
    for gone in [0, lines.len() - 1] {
        let mut torn = lines.clone();
        torn.remove(gone);
        torn.push("OWN=x");
        std::fs::write(rig.dir().join(".env"), torn.join("\n") + "\n").unwrap();
        rig.run(&["install", "--env", "B=2"]).expect(0);
        assert_eq!(dot_env(&rig), whole.replace("A=1", "B=2") + "OWN=x\n");
        rig.run(&["install", "--env", "A=1"]).expect(0);
    }
}

/// What `install` was told by a flag and the unit does not repeat on its command line.
#[test]
fn what_was_recorded_from_a_flag_wins_over_the_file_in_the_unit() {
    let rig = Rig::new();
    rig.run(&["install", "--env", "A=flag"]).expect(0);
    let file = rig.write("config.toml", "env = [\"A=file\"]\npath = \"/usr/bin:/bin:/file\"\n");
    for (more, wanted) in [(&["--as-recorded=env,proxy"] as &[&str], "\nA=flag\n"), (&[], "\nA=file\n")] {
        let child = rig.start(&[&["run", "--config", &file], more].concat());
        until("the runner is online", || rig.state().runners.iter().any(|runner| runner.online));
        signal(&child, Signal::TERM);
        finish(child).expect(0);
        until("it is offline", || rig.state().runners.iter().all(|runner| !runner.online));
        assert!(dot_env(&rig).contains(wanted), "{}", dot_env(&rig));
        let path = std::fs::read_to_string(rig.dir().join(".path")).unwrap();
        assert_eq!(path.trim(), "/usr/bin:/bin:/file", "no flag had set it");
    }
}

#[test]
fn what_the_runner_could_not_use_is_refused_before_anything_is_done() {
    let rig = Rig::new();
    let plain = rig.write("usr/local/bin/plain.sh", "#!/bin/sh\n");
    assert!(std::fs::metadata(&plain).unwrap().permissions().mode() & 0o111 == 0);
    for (arguments, code, why) in [
        (&["--proxy", "socks5://proxy.test"] as &[&str], 78, "scheme"),
        (&["--hook-job-started", "/usr/local/bin/none.sh"], 78, "it does not exist"),
        (&["--hook-job-completed", "/usr/local/bin/plain.sh"], 78, "it is not executable"),
        (&["--hook-job-completed", "/usr/local/bin/hook.py"], 64, ".sh, .ps1 or .js"),
        (&["--env", "PATH=/x"], 64, "--path"),
        (&["--env", "no value-canary"], 64, "KEY=VALUE"),
        (&["--env", "A=line\nB-C=two"], 64, "letters"),
        (&["--env-file", "/nowhere/file"], 66, "/nowhere/file"),
        (&["--path", "relative:/bin"], 64, "absolute"),
        (&["--tool-cache", "/nowhere/tools"], 78, "it is not a directory"),
        (&["--tool-cache", "/usr/local/bin/plain.sh"], 78, "it is not a directory"),
        (
            &["--tool-cache", "/usr", "--env", "RUNNER_TOOL_CACHE=/usr"],
            78,
            "RUNNER_TOOL_CACHE is set for jobs",
        ),
    ] {
        for command in ["plan", "install"] {
            let ran = rig.run(&[&[command], arguments].concat()).expect(code).says(why);
            assert!(!ran.all().contains("canary"), "{ran:#?}");
        }
    }
    assert!(!rig.dir().exists() && rig.state().runners.is_empty());
}

#[test]
fn hosts_that_the_runner_ignores_and_labels_that_are_one_are_said() {
    let rig = Rig::new();
    let ran = rig
        .run(&["plan", "--proxy", PROXY, "--no-proxy", "ok.test,10.0.0.0/8,*.x", "--labels", "a b"])
        .expect(0);
    assert!(ran.stderr.contains("\"10.0.0.0/8\"") && ran.stderr.contains("\"*.x\""), "{ran:#?}");
    assert!(!ran.stderr.contains("ok.test") && ran.stderr.contains("\"a b\" is one label"), "{ran:#?}");
    rig.run(&["plan", "--labels", ",", "--no-default-labels"]).expect(64).says("--labels");
}

#[test]
fn a_user_that_runup_creates_gets_its_groups_and_one_of_the_operator_s_does_not() {
    let rig = Rig::new().making_a_user();
    std::fs::write(rig.root().join("etc/group"), "root:x:0:\nnogroup:x:65534:\nkvm:x:300:\nvideo:x:301:\n")
        .unwrap();
    if !rustix::process::geteuid().is_root() {
        rig.run(&["plan", "--groups", "kvm"]).expect(64).says("--groups needs root");
        return;
    }
    rig.run(&["plan", "--groups", "absent"]).expect(78).says("group absent");
    if !rig.makes_a_user() {
        return;
    }
    rig.run(&["install", "--groups", "kvm"]).expect(0);
    let groups = || std::fs::read_to_string(rig.root().join("etc/group")).unwrap();
    assert!(groups().contains("kvm:x:300:fresh\n"), "{}", groups());
    rig.run(&["plan", "--groups", "kvm,video"]).expect(0).says("add the user fresh to video");
    rig.run(&["install", "--groups", "kvm,video"]).expect(0);
    assert!(groups().contains("video:x:301:fresh\n"), "{}", groups());
    rig.run(&["remove"]).expect(0);
    assert!(groups().contains("kvm:x:300:\n") && groups().contains("video:x:301:\n"), "{}", groups());
    rig.assert_nothing_left();

    let theirs = Rig::new();
    std::fs::write(theirs.root().join("etc/group"), "root:x:0:\nnogroup:x:65534:\nkvm:x:300:\n").unwrap();
    theirs.run(&["plan", "--groups", "kvm"]).expect(78).says("usermod --append --groups kvm nobody");
}
