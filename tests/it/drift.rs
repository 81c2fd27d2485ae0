//! What was asked for, what is there, and what a second `install` makes of the difference.

use crate::rig::{Ran, Rig};
use runup::sandbox::RunnerChange;
use serde_json::{Value, json};

fn installed(arguments: &[&str]) -> Rig {
    let rig = Rig::new();
    rig.run(&[&["install"], arguments].concat()).expect(0);
    rig.routes();
    rig
}

/// The runner as the API tells it, with changes of somebody else's.
fn told(rig: &Rig, changes: &Value) -> Value {
    let runner = &rig.state().runners[0];
    let labels: Vec<Value> = runner
        .labels
        .iter()
        .map(|name| json!({"name": name, "type": if name == "gpu" { "custom" } else { "read-only" }}))
        .collect();
    let mut document = json!({
        "id": runner.id, "name": runner.name, "os": runner.os, "status": "offline", "busy": false,
        "runner_group_id": runner.group_id, "ephemeral": runner.ephemeral, "labels": labels,
    });
    document.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    document
}

/// The sentences about drift in what `status` says of that runner.
fn drift(rig: &Rig, changes: &Value) -> (i32, Vec<String>) {
    rig.answer("get-runner", &told(rig, changes));
    let status: Ran = rig.run(&["status", "--json"]);
    rig.sandbox.faults_clear();
    let sentences = serde_json::from_value(status.json()["runners"][0]["drift"].take()).unwrap();
    (status.code, sentences)
}

#[test]
fn status_names_each_difference_from_what_was_asked_for_and_what_mends_it() {
    let rig = installed(&["--labels", "gpu", "--group", "gpu"]);
    assert_eq!(drift(&rig, &json!({})), (0, Vec::new()));

    let (code, said) = drift(&rig, &json!({"labels": [{"name": "slow", "type": "custom"}]}));
    assert_eq!(code, 78);
    assert_eq!(said, ["its labels on the server are slow, but gpu was requested; `runup install` sets them"]);

    let (code, said) = drift(&rig, &json!({"runner_group_id": 1}));
    assert_eq!(code, 78);
    assert_eq!(said, ["its group on the server is Default, but gpu was requested: it was moved"]);

    let (code, said) = drift(&rig, &json!({"ephemeral": true}));
    assert_eq!(code, 78);
    assert!(
        said[0].starts_with("it is registered for one job, and was asked to be for any number"),
        "{said:?}"
    );
}

#[test]
fn labels_are_put_right_without_a_new_registration() {
    let rig = installed(&["--labels", "gpu"]);
    let before = rig.state().runners[0].clone();
    rig.run(&["plan", "--labels", "GPU,large"]).expect(0).says("set GPU,large as the labels");
    rig.routes();

    let again = rig.run(&["install", "--labels", "GPU,large", "--json"]).expect(0).json();
    assert_eq!(again["changed"], true);
    assert_eq!(rig.routes(), ["get-runner", "labels"]);
    let runner = rig.state().runners[0].clone();
    assert_eq!(runner.id, before.id);
    assert_eq!(runner.labels, ["self-hosted", "Linux", "X64", "GPU", "large"].map(String::from));

    rig.run(&["install", "--labels", "large,gpu", "--json"]).expect(0).says("\"changed\": false");
    rig.run(&["status"]).expect(0);
    // Nobody who names no labels wishes them away.
    rig.run(&["install", "--json"]).expect(0).says("\"changed\": false");
}

#[test]
fn what_was_asked_for_is_what_the_last_install_asked_for() {
    let rig = installed(&["--group", "gpu", "--labels", "slow"]);
    // Somebody has set these by hand, and now they are wanted.
    rig.run(&["install", "--labels", "gpu"]).expect(0);
    rig.run(&["install", "--labels", "slow"]).expect(0);
    let id = rig.state().runners[0].id;
    let labels = json!({"labels": [{"name": "gpu", "type": "custom"}]});
    rig.answer("get-runner", &told(&rig, &labels));
    rig.run(&["install", "--labels", "gpu", "--json"]).expect(0).says("\"changed\": false");
    rig.sandbox.faults_clear();
    assert_eq!(drift(&rig, &labels), (0, Vec::new()));
    // A group that is not named with the labels is not forgotten for that.
    let before = rig.state().runners[0].group_id;
    rig.run(&["install", "--group", "Default"]).expect(0);
    let runner = rig.state().runners[0].clone();
    assert!(runner.group_id != before && runner.id != id, "{runner:#?}");
}

#[test]
fn what_only_a_new_registration_can_change_is_registered_anew() {
    let rig = installed(&["--labels", "gpu"]);
    let before = rig.state().runners[0].id;
    rig.run(&["install", "--labels", "gpu", "--ephemeral"]).expect(0);
    rig.assert_exactly_one_runner();
    let runner = rig.state().runners[0].clone();
    assert!(runner.ephemeral && runner.id != before);
    rig.run(&["install", "--labels", "gpu", "--ephemeral", "--json"]).expect(0).says("\"changed\": false");
}

#[test]
fn a_runner_in_the_middle_of_a_job_is_not_registered_anew() {
    let rig = installed(&[]);
    let id = rig.state().runners[0].id;
    let busy = |busy| RunnerChange { online: Some(busy), busy: Some(busy), deleted: false };
    rig.sandbox.change_runner(id, busy(true));
    rig.run(&["install", "--group", "gpu"])
        .expect(75)
        .says("is running a job, and --group can only be changed between jobs");
    assert_eq!(rig.state().runners[0].id, id);

    rig.sandbox.change_runner(id, busy(false));
    rig.run(&["install", "--group", "gpu"]).expect(0);
    rig.assert_exactly_one_runner();
    assert_eq!(rig.state().runners[0].group_id, 2);
}

#[test]
fn without_a_credential_a_change_is_refused_and_what_is_there_stays() {
    let rig = installed(&[]);
    let before = rig.state().runners;
    rig.run_without_token(&["install", "--work", "elsewhere"])
        .expect(77)
        .says("was registered with a different --work")
        .says("--token-file");
    rig.run_without_token(&["install", "--labels", "gpu"]).expect(77).says("--labels");
    assert_eq!(rig.state().runners, before);
    rig.run_without_token(&["install"]).expect(0);
}

#[test]
fn a_group_that_does_not_exist_costs_no_runner_that_works() {
    let rig = installed(&[]);
    let before = rig.state().runners;
    rig.run(&["install", "--group", "no-such"])
        .expect(78)
        .says("the runner group \"no-such\" does not exist");
    assert_eq!(rig.state().runners, before);
    rig.assert_exactly_one_runner();
    rig.run(&["install", "--json"]).expect(0).says("\"changed\": false");
}

/// The rig as somebody else's: a user that the machine has, and one that it has not.
fn of_another_user(mut rig: Rig, name: &'static str) -> Option<Rig> {
    rig.user?;
    let passwd = rig.root().join("etc/passwd");
    let users = std::fs::read_to_string(&passwd).unwrap();
    std::fs::write(passwd, format!("{users}other:x:65533:65534:other:/nonexistent:/usr/sbin/nologin\n"))
        .unwrap();
    rig.user = Some(name);
    Some(rig)
}

#[test]
fn another_user_than_the_one_whose_the_runner_is_gets_no_runner_that_it_cannot_run() {
    for name in ["other", "nobody-yet"] {
        // Only root gives a runner to somebody.
        let Some(rig) = of_another_user(installed(&[]), name) else { return };
        let before = rig.state().runners;
        for command in ["plan", "install"] {
            rig.run(&[command])
                .expect(78)
                .says(&format!("belongs to the user nobody, but {name} was requested"))
                .says("--user nobody");
        }
        assert_eq!(rig.state().runners, before);
    }
}

#[test]
fn a_baked_runner_of_another_user_is_replaced_before_it_registers() {
    let rig = Rig::new();
    rig.run(&["bake"]).expect(0);
    let Some(rig) = of_another_user(rig, "other") else { return };
    rig.run(&["install", "--no-refresh"]).expect(78).says("belongs to the user nobody");
    rig.run(&["install"]).expect(0);
    rig.assert_exactly_one_runner();
    let owner = |name| std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(rig.dir().join(name)).unwrap());
    // Without a service of ours that could update it, it is its user's.
    assert_eq!([owner("config.sh"), owner(".runner")], [65533, 65533]);
}
