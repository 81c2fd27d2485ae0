//! Several runners of one configuration: `--count`, `[instance.N]` and `--instance`.

use crate::rig::{Ran, Rig, SCOPE, finish, names_in};
use runup::lifecycle::checkpoint::Checkpoint;
use runup::sandbox::{RunnerChange, Scope};
use serde_json::Value;
use std::path::Path;

/// A machine on which further users can be created, if this takes any; `None` if root has no tools for that here.
fn rig() -> Option<Rig> {
    let rig = Rig::new().making_a_user();
    (rig.user.is_none() || rig.makes_a_user()).then_some(rig)
}

fn on_server(rig: &Rig) -> Vec<String> {
    let mut names: Vec<String> = rig.state().runners.iter().map(|runner| runner.name.clone()).collect();
    names.sort();
    names
}

/// The directories of runners, by their last part, without that of the verified copies.
fn on_disk(rig: &Rig) -> Vec<String> {
    names_in(&rig.root().join("opt")).into_iter().filter(|name| name != ".runup-store").collect()
}

fn count(rig: &Rig, count: &str) -> Ran {
    rig.run(&["install", "--name", "box", "--count", count])
}

/// The numbers and the directories in a document, and the error of each that failed.
fn instances(ran: &Ran) -> Vec<(u64, String, bool)> {
    let document = ran.json();
    let instances = document["instances"].as_array().unwrap_or_else(|| panic!("no instances: {document:#}"));
    let dir = |one: &Value| one["dir"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    instances
        .iter()
        .map(|one| (one["instance"].as_u64().unwrap_or(0), dir(one), one.get("error").is_none()))
        .collect()
}

fn three() -> Vec<(u64, String, bool)> {
    let dirs = ["actions-runner", "actions-runner-2", "actions-runner-3"];
    (1..).zip(dirs).map(|(number, dir)| (number, dir.to_owned(), true)).collect()
}

/// Makes the runner of this name busy, or idle.
fn busy(rig: &Rig, name: &str, busy: bool) {
    let id = rig.state().runners.iter().find(|runner| runner.name == name).unwrap().id;
    rig.sandbox.change_runner(id, RunnerChange { busy: Some(busy), ..RunnerChange::default() });
}

#[test]
fn a_count_installs_that_many_without_one_the_number_stays_and_each_command_takes_all_or_asks() {
    let Some(rig) = rig() else { return };
    let installed = rig.run(&["install", "--name", "box", "--count", "3", "--json"]).expect(0);
    assert_eq!(instances(&installed), three());
    assert_eq!(on_server(&rig), ["box", "box-2", "box-3"]);
    // What holds for all is asked once.
    let asked: Vec<String> = rig.routes();
    for route in ["registration-token", "downloads"] {
        let times = asked.iter().filter(|asked| asked.contains(route)).count();
        assert_eq!(times, 1, "{route}: {asked:?}");
    }
    if rig.makes_a_user() {
        assert_eq!(asked.iter().filter(|asked| asked.contains("archive")).count(), 1, "{asked:?}");
        let passwd = std::fs::read_to_string(rig.root().join("etc/passwd")).unwrap();
        for user in ["fresh:", "fresh-2:", "fresh-3:"] {
            assert!(passwd.lines().any(|line| line.starts_with(user)), "{user} in {passwd}");
        }
    }

    let again = rig.run(&["install", "--name", "box", "--json"]).expect(0);
    assert_eq!(instances(&again), three());
    assert!(
        again.json()["instances"].as_array().unwrap().iter().all(|one| one["changed"] == false),
        "{again:?}"
    );
    assert_eq!(instances(&rig.run(&["plan", "--name", "box", "--json"]).expect(0)), three());
    assert_eq!(instances(&rig.run(&["status", "--json"]).expect(0)), three());
    for command in ["logs", "drain"] {
        let mut all = rig.command(&[command, "--json", "--root", rig.root().to_str().unwrap()]);
        assert_eq!(instances(&finish(all.spawn().unwrap()).expect(0)), three());
    }
    rig.run(&["status", "--instance", "2"]).expect(0).says("/opt/actions-runner-2").says("box-2");
    rig.run(&["status", "--instance", "4"]).expect(69).says("no instance 4").says("1, 2, 3");

    // What destroys chooses none by itself, also if the file or a variable names the directory of the first one.
    let refused = |command: &str| {
        rig.run(&[command]).expect(78).says("this machine has 3 runners").says("--instance N").says("--all");
        let mut named = rig.on_machine(&[command]);
        finish(named.env("RUNUP_DIR", "/opt/actions-runner").spawn().unwrap()).expect(78).says("3 runners");
    };
    refused("remove");
    refused("upgrade");
    assert_eq!(on_server(&rig), ["box", "box-2", "box-3"]);

    rig.run(&["remove", "--instance", "2"]).expect(0).says("removed the runner in");
    assert_eq!(on_server(&rig), ["box", "box-3"]);
    // It is not one of those that are there any more, and only a count brings it back.
    rig.run(&["install", "--name", "box"]).expect(0);
    assert_eq!(on_server(&rig), ["box", "box-3"]);
    count(&rig, "3").expect(0);
    assert_eq!(on_server(&rig), ["box", "box-2", "box-3"]);
    let removed = rig.run(&["remove", "--all", "--json"]).expect(0);
    assert_eq!(instances(&removed), three());
    rig.assert_nothing_left();
}

#[test]
fn an_image_boots_to_four_in_as_many_calls_and_three_more() {
    let Some(rig) = rig() else { return };
    let config = rig.write("etc/runup/config.toml", "name = \"box\"\ncount = 4\n");
    rig.run(&["bake", "--config", &config]).expect(0);
    rig.routes();
    rig.run(&["install", "--config", &config]).expect(0);
    assert_eq!(on_server(&rig), ["box", "box-2", "box-3", "box-4"]);
    let is_api = |route: &&String| {
        ["list-runners", "downloads", "registration-token", "get-runner"].contains(&route.as_str())
    };
    let mut calls: Vec<String> = rig.routes().iter().filter(is_api).cloned().collect();
    calls.sort();
    let ours = [
        "downloads",
        "get-runner",
        "get-runner",
        "get-runner",
        "get-runner",
        "list-runners",
        "registration-token",
    ];
    assert_eq!(calls, ours);
    rig.run(&["remove", "--all", "--config", &config]).expect(0);
}

#[test]
fn the_runner_that_is_there_becomes_the_first_one_as_it_is() {
    let Some(rig) = rig() else { return };
    rig.run(&["install", "--name", "box"]).expect(0);
    let before = rig.state().runners;
    let installed = rig.run(&["install", "--name", "box", "--count", "2", "--json"]).expect(0).json();
    assert_eq!(installed["instances"][0]["changed"], false, "{installed:#}");
    assert_eq!(rig.state().runners[0].id, before[0].id);
    assert_eq!(on_server(&rig), ["box", "box-2"]);
    // A machine with one runner has the document of one, unless a count is given.
    count(&rig, "1").expect(0).says("removed the runner in /opt/actions-runner-2");
    let one = rig.run(&["install", "--name", "box", "--json"]).expect(0).json();
    assert_eq!((&one["changed"], &one["instances"]), (&Value::Bool(false), &Value::Null), "{one:#}");
    assert_eq!(rig.state().runners[0].id, before[0].id);
    rig.run(&["remove"]).expect(0);
    rig.assert_nothing_left();
}

#[test]
fn one_file_describes_all_and_a_table_what_differs() {
    let Some(rig) = rig() else { return };
    let file = "name = \"box-{index}\"\nlabels = [\"all\"]\ncount = 3\n\
                [instance.2]\nlabels = [\"gpu\"]\nname = \"large\"\n\
                [instance.3]\ndir = \"/srv/third\"\n";
    let file = rig.write("config.toml", file);
    rig.run(&["install", "--config", &file]).expect(0);
    assert_eq!(on_server(&rig), ["box-1", "box-3", "large"]);
    assert!(
        rig.root().join("srv/third/.runner").exists() && !rig.root().join("opt/actions-runner-3").exists()
    );
    let labels = |name: &str| {
        let runners = rig.state().runners;
        format!("{:?}", runners.iter().find(|runner| runner.name == name).unwrap().labels)
    };
    assert!(labels("large").contains("gpu") && !labels("large").contains("all"), "{}", labels("large"));
    assert!(labels("box-3").contains("all"), "{}", labels("box-3"));

    // A flag is for all.
    let plan = rig.run(&["plan", "--config", &file, "--labels", "flag", "--json"]).expect(0).json();
    for one in plan["instances"].as_array().unwrap() {
        assert!(
            one["settings"]
                .as_array()
                .unwrap()
                .iter()
                .any(|it| it["key"] == "labels" && it["value"] == "flag")
        );
    }
    // An instance that is elsewhere is not installed a second time.
    let moved = "name = \"box-{index}\"\ncount = 3\n[instance.3]\ndir = \"/srv/other\"\n";
    let moved = rig.write("moved.toml", moved);
    rig.run(&["install", "--config", &moved]).expect(78).says("instance 3 is installed in /srv/third");
    let same =
        "name = \"box-{index}\"\ncount = 5\n[instance.4]\ndir = \"/srv/a\"\n[instance.5]\ndir = \"/srv/a\"\n";
    let same = rig.write("same.toml", format!("{same}[instance.3]\ndir = \"/srv/third\"\n"));
    rig.run(&["install", "--config", &same]).expect(78).says("instances 4 and 5 would both be in /srv/a");
    assert_eq!(on_server(&rig), ["box-1", "box-3", "large"]);
    rig.run(&["remove", "--all", "--config", &file]).expect(0);
    rig.assert_machine_bare();
}

#[test]
fn a_number_or_table_that_cannot_be_is_refused_before_anything_is_done() {
    let rig = Rig::new();
    for wrong in ["0", "65", "-1", "many"] {
        rig.run(&["install", &format!("--count={wrong}")]).expect(64).says("count");
    }
    for (text, says) in [
        ("count = 0", "count"),
        ("count = 65", "count"),
        ("[instance.0]\nlabels = [\"a\"]", "instance.0"),
        ("[instance.65]\nlabels = [\"a\"]", "instance.65"),
        ("[instance.02]\nlabels = [\"a\"]", "instance.02"),
        ("instance = 2", "instance"),
        ("[instance]\n2 = \"a\"", "instance.2"),
        ("[instance.2]\ncount = 3", "count"),
        ("[instance.2]\nstate-dir = \"/x\"", "state-dir"),
        ("[instance.2]\nlabells = [\"a\"]", "labels = "),
        ("[instance.2]\nreplace = \"perhaps\"", "replace"),
        ("count = 2\nuser-id = 4711", "[instance.N]"),
    ] {
        if text.contains("user-id") && rig.user.is_none() {
            continue;
        }
        let file = rig.write("config.toml", format!("{text}\n"));
        let code = if text.contains("user-id") { 64 } else { 78 };
        rig.run(&["install", "--config", &file]).expect(code).says(says);
    }
    rig.assert_nothing_left();
}

#[test]
fn a_runner_of_its_own_is_never_taken_for_an_instance() {
    let Some(rig) = rig() else { return };
    rig.run(&["install", "--name", "own", "--dir", "/opt/actions-runner-2"]).expect(0);
    count(&rig, "2").expect(78).says("/opt/actions-runner-2, has a runner that was installed on its own");
    assert_eq!(on_server(&rig), ["own"], "nothing is done before");
    count(&rig, "1").expect(0);
    assert_eq!(on_server(&rig), ["box", "own"], "and a lower number does not remove it");
    let file = rig.write("config.toml", "count = 2\n[instance.2]\ndir = \"/opt/second\"\n");
    rig.run(&["install", "--name", "box", "--config", &file]).expect(0);
    assert_eq!(on_server(&rig), ["box", "box-2", "own"]);
    // The other way round: what is an instance is not installed as if it were alone.
    rig.run(&["install", "--name", "x", "--dir", "/opt/second"])
        .expect(78)
        .says("the runner in /opt/second is instance 2 of /opt/actions-runner");
    count(&rig, "1").expect(0);
    assert_eq!(on_server(&rig), ["box", "own"]);
    rig.run(&["remove", "--all"]).expect(0);
}

#[test]
fn a_lower_count_removes_each_in_its_first_idle_moment_and_a_busy_one_stays_as_it_is() {
    let Some(rig) = rig() else { return };
    count(&rig, "4").expect(0);
    busy(&rig, "box-3", true);
    let tree = rig.root().join("opt/actions-runner-3");
    let before = (names_in(&tree), journal(&rig, "opt-actions-runner-3"));
    let lower =
        |drain: &str| rig.run(&["install", "--name", "box", "--count", "1", "--drain", drain, "--json"]);
    let lowered = lower("0s").expect(75).says("box-3").says("still running a job, and stays");
    assert_eq!(
        instances(&lowered),
        [
            (1, "actions-runner".to_owned(), true),
            (4, "actions-runner-4".to_owned(), true),
            (3, "actions-runner-3".to_owned(), false),
            (2, "actions-runner-2".to_owned(), true),
        ]
    );
    assert_eq!(on_server(&rig), ["box", "box-3"]);
    assert_eq!(on_disk(&rig), ["actions-runner", "actions-runner-3"]);
    assert_eq!((names_in(&tree), journal(&rig, "opt-actions-runner-3")), before, "nothing of it is touched");
    rig.run(&["status", "--instance", "3"]).expect(0).says("registered");

    // It ends its job while a run waits for that.
    rig.sandbox.requests_clear();
    let waiting = rig.start(&["install", "--name", "box", "--count", "1", "--drain", "60s"]);
    let is_refused = || rig.sandbox.requests().iter().any(|it| it.status == Some(422));
    crate::rig::until("the server has refused", is_refused);
    busy(&rig, "box-3", false);
    finish(waiting).expect(0).says("removed the runner in /opt/actions-runner-3");
    assert_eq!((on_server(&rig), on_disk(&rig)), (vec!["box".to_owned()], vec!["actions-runner".to_owned()]));
    rig.run(&["remove"]).expect(0);
    rig.assert_nothing_left();
}

/// The journal whose name begins like this.
fn journal(rig: &Rig, name: &str) -> String {
    let state = rig.root().join("var/lib/runup");
    let files = names_in(&state);
    let file = files.iter().find(|file| file.starts_with(name) && file.ends_with(".json"));
    std::fs::read_to_string(state.join(file.unwrap_or_else(|| panic!("no {name} in {files:?}")))).unwrap()
}

#[test]
fn one_that_fails_leaves_its_neighbours_and_decides_the_exit_code() {
    let Some(rig) = rig() else { return };
    rig.write("opt/actions-runner-2/precious", "mine");
    let failed = rig.run(&["install", "--name", "box", "--count", "3", "--json"]).expect(78);
    let failed = failed.says("failed to install the runner in /opt/actions-runner-2");
    // The lines of each say which one they are about.
    let failed = failed.says("[actions-runner-3] config.sh ").says("[actions-runner-2] detect ");
    assert_eq!(instances(&failed).iter().map(|one| one.2).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(on_server(&rig), ["box", "box-3"]);
    assert_eq!(std::fs::read(rig.root().join("opt/actions-runner-2/precious")).unwrap(), b"mine");
    // One that can pass is worth another run, whichever it is.
    let scope: Scope = SCOPE.parse().unwrap();
    let other = rig.sandbox.add_runner(&scope, "box-4", &[]).unwrap();
    rig.sandbox.change_runner(other, RunnerChange { online: Some(true), ..RunnerChange::default() });
    rig.run(&["install", "--name", "box", "--count", "4", "--replace=if-offline"])
        .expect(75)
        .says("box-4 is online");
    std::fs::remove_dir_all(rig.root().join("opt/actions-runner-2")).unwrap();
    rig.run(&["remove", "--all"]).expect(0);
    assert_eq!(on_server(&rig), ["box-4"]);
}

#[test]
fn two_runs_with_other_counts_follow_each_other() {
    let Some(rig) = rig() else { return };
    let run = |count: &str| rig.start(&["install", "--name", "box", "--count", count]);
    let (three, two) = (run("3"), run("2"));
    let (three, two) = (finish(three).expect(0), finish(two).expect(0));
    let left = on_server(&rig);
    let all = ["box", "box-2", "box-3"];
    assert!(left == all || left == all[..2], "{left:?}: {three:?} {two:?}");
    assert_eq!(on_disk(&rig).len(), left.len());
    assert_eq!(instances(&rig.run(&["status", "--json"]).expect(0)).len(), left.len());
    rig.run(&["remove", "--all"]).expect(0);
    rig.assert_nothing_left();
}

/// A `config.sh` that outlives its killed run registers after the next run has listed the runners for a new one.
#[test]
fn a_runner_that_a_killed_run_registers_late_is_known_as_ours() {
    let Some(rig) = rig() else { return };
    count(&rig, "1").expect(0);
    rig.die_at(Checkpoint::RegisterTokenMinted, &["install", "--name", "box", "--count", "2"]);
    let state = rig.root().join("var/lib/runup");
    let lock = names_in(&state)
        .into_iter()
        .find(|name| name.starts_with("opt-actions-runner-2") && name.ends_with(".lock"));
    let lock = std::fs::File::open(state.join(lock.unwrap())).unwrap();
    lock.lock().unwrap();
    rig.sandbox.requests_clear();
    let installing = rig.start(&["install", "--name", "box", "--count", "3"]);
    rig.until_asked("list-runners");
    crate::rig::until("box-3 is there", || on_server(&rig).contains(&"box-3".to_owned()));
    rig.sandbox.add_runner(&SCOPE.parse().unwrap(), "box-2", &[]).unwrap();
    rig.write("opt/actions-runner-2/.credentials_rsaparams", "{}");
    drop(lock);
    finish(installing).expect(0).says("which was registered before");
    assert_eq!(on_server(&rig), ["box", "box-2", "box-3"]);
    rig.run(&["remove", "--all"]).expect(0);
    rig.assert_nothing_left();
}

#[test]
fn the_token_on_standard_input_is_for_all() {
    let Some(rig) = rig() else { return };
    for (count, names) in [("2", &["box", "box-2"][..]), ("1", &["box"])] {
        let mut command =
            rig.on_machine(&["install", "--name", "box", "--count", count, "--token-file", "-"]);
        command.env_remove("RUNUP_TOKEN").stdin(std::fs::File::open(token(&rig)).unwrap());
        finish(command.spawn().unwrap()).expect(0);
        assert_eq!(on_server(&rig), names);
    }
    rig.run(&["remove", "--all"]).expect(0);
}

#[test]
fn standard_input_is_for_the_option_that_names_it_and_no_other_credential_moves_with_it() {
    let Some(rig) = rig() else { return };
    let issued = rig.ask(&["token", "registration"]).expect(0).stdout;
    let issued = rig.write("issued", issued);
    private(&rig, "good", rig.sandbox.token().expose());
    private(&rig, "other", "of-another-server");
    let path = |name: &str| rig.root().join(name).display().to_string();
    let file = format!(
        "name = \"box-{{index}}\"\ntoken-file = \"{}\"\n[instance.2]\ntoken-file = \"{}\"\n",
        path("good"),
        path("other")
    );
    let file = rig.write("config.toml", file);
    let install = ["install", "--config", &file, "--count", "2", "--registration-token-file", "-"];
    let mut command = rig.on_machine(&install);
    command.env_remove("RUNUP_TOKEN").stdin(std::fs::File::open(issued).unwrap());
    finish(command.spawn().unwrap()).expect(77).says("actions-runner-2");
    assert_eq!(on_server(&rig), ["box-1"], "the second one has a token of its own, which is refused");
    rig.run(&["remove", "--all"]).expect(0);
}

#[test]
fn each_command_about_all_takes_what_is_set_for_each() {
    let Some(rig) = rig() else { return };
    count(&rig, "3").expect(0);
    private(&rig, "good", rig.sandbox.token().expose());
    private(&rig, "other", "of-another-server");
    let path = |name: &str| rig.root().join(name).display().to_string();
    let own = |number: u32| format!("[instance.{number}]\ntoken-file = \"{}\"\n", path("good"));
    let file = format!("name = \"box\"\ntoken-file = \"{}\"\n{}", path("other"), own(1) + &own(3));
    let file = rig.write("config.toml", file);
    let run = |arguments: &[&str]| {
        let mut command = rig.on_machine(&[arguments, &["--config", &file]].concat());
        finish(command.env_remove("RUNUP_TOKEN").spawn().unwrap())
    };
    let status = run(&["status", "--json"]);
    let asked: Vec<bool> =
        status.json()["instances"].as_array().unwrap().iter().map(|one| one["not_asked"].is_null()).collect();
    assert_eq!(asked, [true, false, true], "{status:#?}");
    run(&["remove", "--all"]).expect(77).says("actions-runner-2");
    assert_eq!(on_server(&rig), ["box-2"]);
    rig.run(&["remove", "--all"]).expect(0);
    rig.assert_nothing_left();
}

/// A runner of `elsewhere` is instance 2, and the file sets its URL and its token; the command has a token for the first one.
#[test]
fn what_a_flag_or_a_variable_puts_before_the_token_of_one_instance_is_not_sent_to_its_server() {
    let Some(rig) = rig() else { return };
    let elsewhere = Rig::new();
    private(&rig, "ours", rig.sandbox.token().expose());
    private(&rig, "theirs", elsewhere.sandbox.token().expose());
    let path = |name: &str| rig.root().join(name).display().to_string();
    let file = format!(
        "url = \"{}\"\nname = \"box\"\n[instance.2]\nurl = \"{}\"\ntoken-file = \"{}\"\n",
        rig.url(),
        elsewhere.url(),
        path("theirs")
    );
    let file = rig.write("config.toml", file);
    let root = rig.root().display().to_string();
    let ask = |arguments: &[&str], variables: &[(&str, &str)]| {
        let user = rig.user.map(|user| vec!["--user", user]).unwrap_or_default();
        let all = [arguments, &["--config", &file, "--root", &root, "--json"], &user[..]].concat();
        let mut command = rig.command(&all);
        finish(command.env_remove("RUNUP_TOKEN").envs(variables.iter().copied()).spawn().unwrap())
    };
    let (token, ours) = (rig.sandbox.token(), path("ours"));
    let github = [("GITHUB_TOKEN", token.expose())];
    ask(&["install", "--count", "2"], &github).expect(0);
    assert_eq!((on_server(&rig), on_server(&elsewhere)), (vec!["box".to_owned()], vec!["box-2".to_owned()]));

    let runup = [("RUNUP_TOKEN", token.expose())];
    let flag: &[&str] = &["--token-file", &ours];
    let command: &str = &format!("cat {ours}");
    let other: &[&str] = &["--token-command", command];
    elsewhere.sandbox.requests_clear();
    for (flags, variables) in [(flag, &[][..]), (other, &[]), (&[], &runup[..])] {
        let status = ask(&[&["status"], flags].concat(), variables);
        let of = |at: usize| status.json()["instances"][at]["not_asked"].clone();
        assert_eq!((of(0), of(1)), (Value::Null, "its server is not the one of --url".into()), "{status:#?}");
        let upgrade = ask(&[&["upgrade", "--all"], flags].concat(), variables);
        let upgraded: Vec<_> = instances(&upgrade).iter().map(|one| (one.0, one.2)).collect();
        assert_eq!(upgraded, [(1, true), (2, false)], "{upgrade:#?}");
    }
    assert_eq!(elsewhere.sandbox.requests().len(), 0);
    // The variable of GitHub's tools comes after the file.
    let status = ask(&["status"], &github).expect(0);
    assert!(status.json()["instances"].as_array().unwrap().iter().all(|one| one["not_asked"].is_null()));

    // A remove token for the first one is not for the other one either, which has a token of its own.
    let issued = [github[0], ("RUNUP_REMOVE_TOKEN", "of-the-first-one")];
    elsewhere.sandbox.requests_clear();
    ask(&["remove", "--all", "--token-file", &ours], &issued).says("its server is not the one of --url");
    assert_eq!((elsewhere.sandbox.requests().len(), on_server(&elsewhere)), (0, vec!["box-2".to_owned()]));
    ask(&["remove", "--all"], &issued).expect(0);
    assert!(on_server(&rig).is_empty() && on_server(&elsewhere).is_empty());
    rig.assert_nothing_left();
}

/// What is left of it then is a journal without an entry, which may still claim a user.
#[test]
fn a_removal_that_was_killed_at_its_end_is_finished_by_that_of_all() {
    let Some(rig) = rig() else { return };
    count(&rig, "2").expect(0);
    rig.die_at(Checkpoint::RemoveJournalLeft, &["remove", "--instance", "2"]);
    let journals = || {
        let names = std::fs::read_dir(rig.root().join("var/lib/runup")).unwrap().flatten();
        names.filter(|entry| entry.file_name().to_string_lossy().ends_with(".json")).count()
    };
    assert_eq!(journals(), 2);
    rig.run(&["remove", "--all"]).expect(0);
    assert_eq!(journals(), 0);
    rig.assert_nothing_left();
}

/// Whatever supervises it, and however its runner ends.
#[test]
fn a_runner_in_the_foreground_that_is_too_many_ends_and_does_not_register_again() {
    for options in [&[][..], &["--ephemeral", "--after-job", "again"]] {
        let Some(rig) = rig() else { return };
        count(&rig, "2").expect(0);
        let child = rig.start(&[&["run", "--instance", "2", "--name", "box"], options].concat());
        let is_online = || rig.state().runners.iter().any(|runner| runner.name == "box-2" && runner.online);
        crate::rig::until("it is online", is_online);
        count(&rig, "1").expect(0).says("removed the runner in /opt/actions-runner-2");
        finish(child).expect(0).says("the runner is being removed");
        assert_eq!(on_server(&rig), ["box"]);
        assert_eq!(on_disk(&rig), ["actions-runner"]);
        rig.run(&["remove"]).expect(0);
        rig.assert_nothing_left();
    }
}

fn private(rig: &Rig, name: &str, text: &str) {
    rig.write(name, text);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(rig.root().join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

#[test]
fn what_only_an_installation_needs_keeps_no_surplus() {
    let Some(rig) = rig() else { return };
    count(&rig, "3").expect(0);
    let file = "name = \"box\"\ncount = 1\nephemeral = true\nafter-job = \"poweroff\"\n\
                [instance.3]\nenv-file = \"/nowhere/gone.env\"\n";
    let file = rig.write("config.toml", file);
    let lowered = rig.run(&["install", "--config", &file, "--json"]).expect(0);
    assert_eq!(instances(&lowered).iter().map(|one| one.0).collect::<Vec<_>>(), [1, 3, 2]);
    assert_eq!(on_server(&rig), ["box"]);
    // One that cannot be removed is the error of that one, beside the results of the others.
    count(&rig, "3").expect(0);
    let file =
        rig.write("config.toml", "name = \"box\"\ncount = 1\n[instance.3]\nca-file = \"/nowhere/ca.pem\"\n");
    let lowered = rig.run(&["install", "--config", &file, "--json"]);
    let errors: Vec<_> = instances(&lowered).iter().map(|one| (one.0, one.2)).collect();
    assert_eq!(errors, [(1, true), (3, false), (2, true)], "{lowered:?}");
    assert_eq!(on_server(&rig), ["box", "box-3"]);
    count(&rig, "1").expect(0);
    rig.run(&["remove", "--all"]).expect(0);
}

#[test]
fn two_instances_cannot_have_one_name() {
    let Some(rig) = rig() else { return };
    let file = "name = \"box\"\ncount = 3\nreplace = \"if-offline\"\n\
                [instance.2]\nname = \"gpu\"\n[instance.3]\nname = \"GPU\"\n";
    let file = rig.write("config.toml", file);
    for command in ["plan", "install"] {
        rig.run(&[command, "--config", &file]).expect(78).says("instances 2 and 3 would both be named");
    }
    assert!(on_server(&rig).is_empty(), "nothing is done before");
    rig.assert_nothing_left();
}

#[test]
fn a_journal_that_cannot_be_read_is_a_failure_after_the_others() {
    let Some(rig) = rig() else { return };
    count(&rig, "3").expect(0);
    let state = rig.root().join("var/lib/runup");
    let file = names_in(&state)
        .into_iter()
        .find(|it| it.starts_with("opt-actions-runner-2") && it.ends_with(".json"));
    let path = state.join(file.unwrap());
    let text = std::fs::read(&path).unwrap();
    std::fs::write(&path, "{").unwrap();
    for command in ["plan", "install"] {
        let ran = rig.run(&[command, "--name", "box", "--json"]);
        assert_ne!(ran.code, 0, "{command}: {ran:?}");
        assert_eq!(instances(&ran).iter().map(|one| one.0).collect::<Vec<_>>(), [1, 3], "{command}");
    }
    std::fs::write(&path, text).unwrap();
    rig.run(&["remove", "--all"]).expect(0);
}

fn token(rig: &Rig) -> impl AsRef<Path> {
    rig.write("token", rig.sandbox.token().expose())
}
