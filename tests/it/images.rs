//! Images that are older than the day on which they boot: what is checked before a baked runner registers, what is
//! replaced, and what an image may not hold.

use crate::rig::{Ran, Rig, finish, names_in, until};
use runup::lifecycle::checkpoint::{Checkpoint, VARIABLE};
use runup::sandbox::{Deprecation, Fault, FaultKind};
use serde_json::{Value, json};
use std::path::PathBuf;

const NEWER: &str = "2.340.0";
const PAST: &str = "2020-01-01T00:00:00Z";
const FUTURE: &str = "2999-01-01T00:00:00Z";

/// A machine that boots from an image which was baked before a newer version came out.
fn old_image() -> Rig {
    let rig = Rig::new();
    rig.run(&["bake"]).expect(0);
    rig.sandbox.offer(NEWER);
    rig.routes();
    rig
}

fn baked(rig: &Rig) -> String {
    rig.run(&["status", "--json"]).json()["runners"][0]["version"].as_str().unwrap().to_owned()
}

fn journal_path(rig: &Rig) -> PathBuf {
    let state = rig.root().join("var/lib/runup");
    let name = names_in(&state).into_iter().find(|name| name.ends_with(".json")).unwrap();
    state.join(name)
}

fn journal(rig: &Rig) -> Value {
    serde_json::from_slice(&std::fs::read(journal_path(rig)).unwrap()).unwrap()
}

/// The journal's entry of the placed tree, changed.
fn change_placed(rig: &Rig, change: impl Fn(&mut Value)) {
    let mut journal = journal(rig);
    let entries = journal["entries"].as_array_mut().unwrap();
    change(entries.iter_mut().find(|entry| entry["step"] == "place-runner").unwrap());
    std::fs::write(journal_path(rig), journal.to_string()).unwrap();
}

fn placed(rig: &Rig) -> Value {
    let journal = journal(rig);
    let entries = journal["entries"].as_array().unwrap();
    entries.iter().find(|entry| entry["step"] == "place-runner").unwrap().clone()
}

/// As an image that was baked long ago: nobody knows any more when its runner was the newest.
fn ages(rig: &Rig) {
    change_placed(rig, |entry| entry["current_at"] = json!(PAST));
}

fn deprecate(rig: &Rig, version: &str, registration: Option<&str>, runtime: Option<&str>, silent: bool) {
    rig.sandbox.deprecate(Deprecation {
        version: version.to_owned(),
        registration_deprecates_at: registration.map(str::to_owned),
        runtime_deprecates_at: runtime.map(str::to_owned),
        silent,
    });
}

/// The calls of ours, without those of `config.sh`.
fn calls(rig: &Rig) -> Vec<String> {
    let theirs = ["runner-registration", "runner-groups-of-runner", "runner-list", "register"];
    rig.routes().into_iter().filter(|route| !theirs.contains(&route.as_str())).collect()
}

fn version_of_the_registered(rig: &Rig) -> String {
    rig.assert_exactly_one_runner();
    rig.state().runners[0].version.clone()
}

fn nothing_beside(rig: &Rig) {
    assert_eq!(rig.opt(), ["actions-runner"]);
}

#[test]
fn a_current_image_is_kept_in_exactly_four_calls() {
    let rig = Rig::new();
    rig.run(&["bake"]).expect(0);
    rig.routes();
    let ran = rig.run(&["install", "--json"]).expect(0);
    assert_eq!(ran.json()["calls"], 4);
    assert_eq!(calls(&rig), ["list-runners", "downloads", "registration-token", "get-runner"]);
    // A registered runner updates itself, and is not looked at.
    rig.sandbox.offer(NEWER);
    rig.run(&["install"]).expect(0).says("nothing to do");
    assert_eq!(calls(&rig), ["get-runner"]);
}

#[test]
fn an_image_that_was_the_newest_lately_is_kept_though_there_is_a_newer_one() {
    let rig = old_image();
    let was = baked(&rig);
    rig.routes();
    rig.run(&["install"]).expect(0);
    assert_eq!(version_of_the_registered(&rig), was);
    let asked = ["list-runners", "downloads", "deprecations", "registration-token", "get-runner"];
    assert_eq!(calls(&rig), asked);
}

#[test]
fn an_image_that_is_too_old_is_refreshed_in_place() {
    let rig = old_image();
    let was = baked(&rig);
    ages(&rig);
    // The server would refuse it: the guard matters.
    deprecate(&rig, &was, Some(PAST), Some(PAST), true);
    let why = format!("refresh runner {was} to {NEWER} in /opt/actions-runner: it was the newest");
    rig.run(&["plan"]).expect(0).says(&why);
    assert_eq!(baked(&rig), was, "a plan does nothing");
    rig.routes();

    rig.run(&["install"]).expect(0);
    assert_eq!(version_of_the_registered(&rig), NEWER);
    nothing_beside(&rig);
    let asked = ["list-runners", "downloads", "deprecations", "registration-token", "archive", "get-runner"];
    assert_eq!(calls(&rig), asked);
    let placed = placed(&rig);
    assert_eq!((&placed["state"], &placed["version"]), (&json!("done"), &json!(NEWER)));
    assert!(placed["current_at"].as_str().is_some_and(|at| at > "2026") && placed.get("replaces").is_none());
    rig.run(&["remove"]).expect(0);
    rig.assert_nothing_left();
}

#[test]
fn the_dates_of_a_server_that_tells_decide() {
    let rig = old_image();
    let was = baked(&rig);
    ages(&rig);
    deprecate(&rig, &was, Some(FUTURE), None, false);
    rig.run(&["install"]).expect(0);
    assert_eq!(version_of_the_registered(&rig), was, "old, and good for as long as its server says");

    let rig = old_image();
    deprecate(&rig, &was, None, Some(PAST), false);
    rig.run(&["install"]).expect(0);
    assert_eq!(version_of_the_registered(&rig), NEWER, "young, and over by its server");
}

#[test]
fn an_end_in_the_next_days_is_warned_of() {
    let rig = old_image();
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(48);
    deprecate(&rig, &baked(&rig), Some(&soon.to_string()), None, false);
    rig.run(&["install"]).expect(0).says("can register only until");
}

#[test]
fn without_leave_to_refresh_it_is_an_exit_code_of_its_own_and_nothing_is_registered() {
    let rig = old_image();
    let was = baked(&rig);
    ages(&rig);
    for command in ["install", "run", "plan", "bake"] {
        let ran = rig.run(&[command, "--no-refresh"]).expect(80);
        assert!(ran.stderr.contains(&was) && ran.stderr.contains(NEWER), "{ran:#?}");
    }
    assert_eq!(rig.state().runners, []);
    assert_eq!(baked(&rig), was);
    rig.run(&["bake"]).expect(0).says("done: ");
    assert_eq!(baked(&rig), NEWER);
}

#[test]
fn a_chosen_version_is_kept_unless_the_server_says_that_it_is_over() {
    let rig = old_image();
    let was = baked(&rig);
    ages(&rig);
    rig.run(&["install", "--runner-version", &was]).expect(0);
    assert_eq!(version_of_the_registered(&rig), was);

    let rig = old_image();
    deprecate(&rig, &was, Some(PAST), None, false);
    rig.run(&["install", "--runner-version", &was]).expect(80).says("--runner-version");
    assert_eq!(rig.state().runners, []);
    assert_eq!(baked(&rig), was);
}

#[test]
fn a_version_that_was_chosen_has_no_day_on_which_it_was_the_newest() {
    let rig = Rig::new();
    let version = rig.sandbox.runner_version();
    rig.run(&["bake", "--runner-version", &version]).expect(0);
    assert!(placed(&rig).get("current_at").is_none());
    // But it is the newest now, and that is worth knowing.
    rig.run(&["install"]).expect(0);
    assert!(placed(&rig)["current_at"].is_string());
}

#[test]
fn a_refresh_whose_download_fails_costs_nothing_and_the_next_one_converges() {
    let rig = old_image();
    let was = baked(&rig);
    ages(&rig);
    let before = placed(&rig);
    rig.faults(&["archive:corrupt=9000"]);
    rig.run(&["install"]).expect(65).says("SHA-256");
    assert_eq!(baked(&rig), was);
    assert_eq!(placed(&rig), before, "the journal says what is there");
    nothing_beside(&rig);
    rig.sandbox.faults_clear();
    rig.run(&["install"]).expect(0);
    assert_eq!(version_of_the_registered(&rig), NEWER);
}

#[test]
fn a_refreshed_tree_stays_when_registering_fails() {
    let rig = old_image();
    ages(&rig);
    rig.faults(&["register:status=403"]);
    rig.run(&["install"]).expect(79);
    assert_eq!(baked(&rig), NEWER);
    rig.sandbox.faults_clear();
    rig.routes();
    rig.run(&["install"]).expect(0);
    assert!(!calls(&rig).contains(&"archive".to_owned()), "there is nothing to download again");
    rig.assert_exactly_one_runner();
}

#[test]
fn a_refresh_that_is_killed_anywhere_is_finished_by_the_next_install() {
    for checkpoint in Checkpoint::ALL {
        let name = checkpoint.name();
        let comes_by = name.starts_with("place-") || name.starts_with("register-");
        if !comes_by || checkpoint == Checkpoint::RegisterGhostGone {
            continue;
        }
        for then in ["install", "remove"] {
            let rig = old_image();
            ages(&rig);
            let Ran { code, .. } = finish(rig.on_machine(&["install"]).env(VARIABLE, name).spawn().unwrap());
            assert_eq!(code, -9, "{name} was not reached");
            assert!(rig.dir().join("config.sh").exists(), "{name}: there is always a whole runner");
            rig.run(&[then]).expect(0);
            if then == "remove" {
                rig.assert_nothing_left();
                continue;
            }
            assert_eq!(version_of_the_registered(&rig), NEWER, "{name}");
            assert_eq!(placed(&rig)["version"], NEWER, "{name}");
            nothing_beside(&rig);
        }
    }
}

#[test]
fn between_two_jobs_an_ephemeral_runner_is_refreshed_as_well() {
    let rig = Rig::new();
    rig.run(&["bake"]).expect(0);
    let was = baked(&rig);
    let child = rig.start(&["run", "--ephemeral", "--after-job", "again"]);
    until("it is online", || rig.state().runners.iter().any(|runner| runner.online && runner.version == was));
    rig.sandbox.offer(NEWER);
    deprecate(&rig, &was, Some(PAST), Some(PAST), false);
    rig.sandbox.add_job(&"orgs/octo-org".parse().unwrap(), "build", 0);
    until("the next one is newer", || {
        rig.state().runners.iter().any(|runner| runner.online && runner.version == NEWER)
    });
    crate::rig::signal(&child, rustix::process::Signal::TERM);
    finish(child).expect(0);
    nothing_beside(&rig);
}

#[test]
fn a_just_in_time_runner_is_not_made_of_a_tree_that_is_too_old() {
    let rig = old_image();
    ages(&rig);
    rig.sandbox.add_job(&"orgs/octo-org".parse().unwrap(), "build", 0);
    rig.run(&["run", "--jit", "--labels", "gpu"]).expect(0);
    assert_eq!(baked(&rig), NEWER);
    let rig = old_image();
    ages(&rig);
    rig.run(&["run", "--jit", "--labels", "gpu", "--no-refresh"]).expect(80);
    assert_eq!(rig.state().runners, []);
}

#[test]
fn a_runner_that_its_server_has_forgotten_registers_with_a_new_enough_tree() {
    let rig = Rig::new();
    rig.run(&["install"]).expect(0);
    let was = baked(&rig);
    let gone = runup::sandbox::RunnerChange { deleted: true, ..Default::default() };
    rig.sandbox.change_runner(rig.state().runners[0].id, gone);
    rig.sandbox.offer(NEWER);
    deprecate(&rig, &was, Some(PAST), Some(PAST), false);
    rig.run(&["install"]).expect(0);
    assert_eq!(version_of_the_registered(&rig), NEWER);
}

#[test]
fn an_image_for_another_platform_is_refused_or_replaced() {
    let other = if cfg!(target_arch = "aarch64") { "x64" } else { "arm64" };
    let bake = ["bake", "--os", "linux", "--arch", other];
    let rig = Rig::new();
    rig.run(&bake).expect(0);
    let told = format!("it is for linux-{other}, and this machine is linux-");
    rig.run(&["install", "--no-refresh"]).expect(78).says(&told).says("architecture");
    assert_eq!(rig.state().runners, []);

    rig.faults(&["archive:1:status=404"]);
    assert_ne!(rig.run(&["install"]).code, 0);
    assert_eq!(placed(&rig)["platform"], format!("linux-{other}"), "what was there stays");

    rig.run(&["plan"]).expect(0).says(&told);
    rig.run(&["install"]).expect(0).says("done");
    rig.assert_exactly_one_runner();
    nothing_beside(&rig);
    let listener = std::fs::read_to_string(rig.dir().join("bin/Runner.Listener")).unwrap();
    assert!(!listener.contains(&format!("linux-{other}")));
}

#[test]
fn a_refresh_for_another_platform_that_is_killed_converges() {
    let other = if cfg!(target_arch = "aarch64") { "x64" } else { "arm64" };
    for checkpoint in [Checkpoint::PlaceStaged, Checkpoint::PlaceBegun, Checkpoint::PlaceRenamed] {
        let rig = Rig::new();
        rig.run(&["bake", "--os", "linux", "--arch", other]).expect(0);
        let mut command = rig.on_machine(&["install"]);
        let Ran { code, .. } = finish(command.env(VARIABLE, checkpoint.name()).spawn().unwrap());
        assert_eq!(code, -9);
        rig.run(&["install"]).expect(0);
        rig.assert_exactly_one_runner();
        assert_ne!(placed(&rig)["platform"], format!("linux-{other}"));
        nothing_beside(&rig);
    }
}

/// What a server answers that tells nobody about its versions costs no second look at the scope.
#[test]
fn a_deprecations_call_that_is_no_document_is_said_to_be_none() {
    let rig = old_image();
    rig.sandbox.fault(Fault::new("deprecations", FaultKind::NotJson));
    rig.run(&["install"]).expect(76);
    assert_eq!(rig.state().runners, []);
}

/// Empties the machine id, as an image has it.
fn seal_machine(rig: &Rig) {
    rig.write("etc/machine-id", "");
}

fn boots_as(rig: &Rig, id: char) {
    rig.write("etc/machine-id", format!("{}\n", id.to_string().repeat(32)));
}

/// What `bake --check` finds, as a list of texts.
#[track_caller]
fn found(rig: &Rig) -> Vec<String> {
    let report = rig.run(&["bake", "--check", "--json"]).expect(78).json();
    assert_eq!(report["sealed"], false);
    let found = report["found"].as_array().unwrap();
    found.iter().map(|one| format!("{}: {}", one["what"], one["fix"]).replace('"', "")).collect()
}

#[test]
fn a_sealed_image_passes_the_check_which_asks_nobody_and_changes_nothing() {
    let rig = Rig::new();
    rig.run(&["bake"]).expect(0).says("machine id");
    seal_machine(&rig);
    rig.routes();
    let before = rig.everything();
    let ran = rig.run_without_token(&["bake", "--check"]).expect(0);
    assert!(ran.stdout.starts_with("sealed: runner 2.336.0"), "{ran:#?}");
    for place in ["/opt/actions-runner", "/var/lib/runup", "etc/runup/token", "/etc/machine-id"] {
        assert!(ran.stdout.contains(place), "{place} in {ran:#?}");
    }
    let report = rig.run(&["bake", "--check", "--json"]).expect(0).json();
    assert_eq!((&report["sealed"], &report["found"]), (&json!(true), &json!([])));
    assert_eq!(rig.routes(), [] as [&str; 0]);
    assert_eq!(rig.everything(), before);
    rig.write("etc/machine-id", "uninitialized\n");
    rig.run(&["bake", "--check"]).expect(0);
    std::fs::remove_file(rig.root().join("etc/machine-id")).unwrap();
    rig.run(&["bake", "--check"]).expect(0);
}

#[test]
fn without_a_baked_runner_there_is_nothing_to_check() {
    let rig = Rig::new();
    let before = rig.everything();
    rig.run(&["bake", "--check"]).expect(69).says("no baked runner");
    assert_eq!(rig.everything(), before);
    rig.run(&["bake"]).expect(0);
    std::fs::remove_file(rig.dir().join("config.sh")).unwrap();
    rig.run(&["bake", "--check"]).expect(69).says("no config.sh");
}

#[test]
fn everything_that_an_image_may_not_hold_is_found_each_with_what_to_do() {
    let rig = Rig::new();
    rig.run(&["bake"]).expect(0);
    let tree = ["/.runner", "/.credentials", "/.service", "/_diag/x", "/_work/x"];
    for name in tree {
        rig.write(&format!("opt/actions-runner{name}"), "{}");
    }
    rig.write("opt/.actions-runner.runup-removed-0123abcd/.credentials", "{}");
    rig.write("etc/runup/token", "a-token\n");
    rig.write("etc/runup/config.toml", "registration-token-file = \"/etc/other\"\n");
    rig.write("etc/other", "another-token\n");
    rig.write("var/lib/dbus/machine-id", "00112233445566778899aabbccddeeff\n");
    let found = found(&rig);
    let expected = [
        "/opt/actions-runner/.runner: take that runner off",
        "/opt/actions-runner/.credentials: take that runner off",
        "/opt/actions-runner/.service: remove the service",
        "/opt/actions-runner/_diag: delete it",
        "/opt/actions-runner/_work: delete it",
        ".actions-runner.runup-removed-0123abcd, what is left",
        "etc/runup/token: delete it",
        "etc/other: delete it",
        "the machine id in",
        "dbus/machine-id: empty it",
    ];
    for text in expected {
        assert!(found.iter().any(|one| one.contains(text)), "no {text:?} in {found:#?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    assert!(!found.concat().contains("a-token"));
    let ran = rig.run(&["bake", "--check"]).expect(78);
    assert!(ran.stdout.starts_with("not sealed") && ran.stdout.contains("delete it"), "{ran:#?}");
}

#[test]
fn a_registration_in_any_journal_and_a_lock_are_found() {
    let rig = Rig::new();
    rig.run(&["bake"]).expect(0);
    rig.run(&["install", "--dir", "/opt/second"]).expect(0);
    seal_machine(&rig);
    let second = found(&rig);
    assert!(second.len() == 1 && second[0].contains("runup remove --dir /opt/second"), "{second:?}");

    let rig = Rig::new();
    rig.run(&["bake"]).expect(0);
    seal_machine(&rig);
    let state = rig.root().join("var/lib/runup");
    let name = names_in(&state).into_iter().find(|name| name.ends_with(".lock")).unwrap();
    let lock = std::fs::File::open(state.join(name)).unwrap();
    lock.lock().unwrap();
    assert!(found(&rig)[0].contains("is held"));
    lock.unlock().unwrap();
    rig.run(&["bake", "--check"]).expect(0);
}

#[test]
fn a_cut_off_bake_is_no_image() {
    let rig = Rig::new();
    let mut command = rig.on_machine(&["bake"]);
    let Ran { code, .. } = finish(command.env(VARIABLE, Checkpoint::PlaceRenamed.name()).spawn().unwrap());
    assert_eq!(code, -9);
    seal_machine(&rig);
    assert!(found(&rig)[0].contains("cut off"));
    rig.run(&["bake"]).expect(0);
    rig.run(&["bake", "--check"]).expect(0);
}

#[test]
fn baking_into_an_image_with_a_token_is_refused() {
    let rig = Rig::new();
    rig.write("etc/runup/token", "a-token\n");
    let ran = rig.run(&["bake"]).expect(78).says("etc/runup/token");
    assert!(ran.stderr.contains("give each machine its own"), "{ran:#?}");
    assert!(!rig.dir().exists(), "before anything is placed");
}

#[test]
fn a_runner_that_somebody_configured_by_hand_is_not_taken_over() {
    let rig = Rig::new();
    rig.run(&["install"]).expect(0);
    // As config.sh by hand in a baked tree: all of it is there, and the journal knows nothing of it.
    let mut journal = journal(&rig);
    let entries = journal["entries"].as_array_mut().unwrap();
    entries.retain(|entry| entry["step"] != "register");
    journal.as_object_mut().unwrap().remove("machine");
    std::fs::write(journal_path(&rig), journal.to_string()).unwrap();
    let name = rig.state().runners[0].name.clone();
    let ran = rig.run(&["install"]).expect(78).says(&name).says("but not by runup");
    assert!(
        ran.stderr.contains("runup runners delete") && ran.stderr.contains("opt/actions-runner --local"),
        "{ran:#?}"
    );
    assert_eq!(rig.state().runners.len(), 1);
    // And what it says helps.
    rig.ask(&["runners", "delete", &name]).expect(0);
    rig.run(&["remove", "--local"]).expect(0);
    rig.run(&["install"]).expect(0);
    rig.assert_exactly_one_runner();
}

#[test]
fn what_the_template_s_runner_left_goes_before_registering() {
    let rig = Rig::new();
    rig.run(&["bake"]).expect(0);
    for name in [".credentials", ".credentials_rsaparams", ".service", "_diag/Runner_1.log", "_work/_tool/x"]
    {
        rig.write(&format!("opt/actions-runner/{name}"), "of the template");
    }
    rig.run(&["plan"]).expect(0).says("goes first: .service, _diag, .credentials, .credentials_rsaparams");
    rig.run(&["install"]).expect(0).says("not sealed").says("_diag");
    rig.assert_exactly_one_runner();
    assert!(!rig.dir().join("_diag/Runner_1.log").exists() && !rig.dir().join(".service").exists());
    assert!(rig.dir().join("_work/_tool/x").exists(), "a tool cache may be in an image on purpose");
    for file in [".credentials", ".credentials_rsaparams"] {
        assert!(!std::fs::read_to_string(rig.dir().join(file)).unwrap().contains("of the template"));
    }
}

#[test]
fn the_logs_of_this_machine_s_own_earlier_runners_stay() {
    let rig = Rig::new();
    rig.sandbox.add_job(&"orgs/octo-org".parse().unwrap(), "build", 0);
    rig.run(&["run", "--ephemeral"]).expect(0);
    let logs = names_in(&rig.dir().join("_diag"));
    assert!(!logs.is_empty());
    rig.run(&["install"]).expect(0);
    let now = names_in(&rig.dir().join("_diag"));
    assert!(logs.iter().all(|log| now.contains(log)), "{logs:?} in {now:?}");
}

#[test]
fn two_machines_with_one_image_get_two_identities() {
    let rig = Rig::new();
    rig.run(&["bake"]).expect(0);
    seal_machine(&rig);
    rig.run(&["bake", "--check"]).expect(0);
    let other = tempfile::tempdir().unwrap();
    let copy = std::process::Command::new("cp").arg("-a").arg(rig.root()).arg(other.path()).status().unwrap();
    assert!(copy.success());
    let second = other.path().join(rig.root().file_name().unwrap());
    boots_as(&rig, 'a');
    rig.run(&["install"]).expect(0);
    std::fs::write(second.join("etc/machine-id"), "b".repeat(32)).unwrap();
    std::fs::set_permissions(other.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = rig.command(&["install", "--url", &rig.url(), "--root", second.to_str().unwrap()]);
    if let Some(user) = rig.user {
        command.args(["--user", user]);
    }
    finish(command.spawn().unwrap()).expect(0);
    let runners = rig.state().runners;
    assert_eq!(runners.len(), 2, "{runners:#?}");
    assert!(runners[0].name != runners[1].name && runners[0].id != runners[1].id);
}
