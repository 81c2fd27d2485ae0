//! What a killed run leaves beside a runner's directory: deleted by the next run, and found in an image.

use crate::rig::Rig;

/// As a version that made names from such names has left it: killed while it deleted what a repair had replaced.
const NESTED: &str = "..actions-runner.runup-staging.runup-removed-0123abcd";
const OTHERS: &str = ".another.runup-removed-0123abcd";

fn leave(rig: &Rig, names: &[&str]) {
    for name in names {
        rig.write(&format!("opt/{name}/.credentials"), "{}");
    }
}

#[test]
fn the_next_run_deletes_what_a_killed_one_was_deleting() {
    let rig = Rig::new();
    let all = [NESTED, ".actions-runner.runup-staging", ".actions-runner.runup-removed-0123abcd"];
    leave(&rig, &all);
    rig.run(&["install"]).expect(0);
    assert_eq!(rig.opt(), ["actions-runner"]);
    for command in ["install", "bake", "remove"] {
        if command == "bake" {
            rig.run(&["remove"]).expect(0);
        }
        leave(&rig, &all);
        rig.run(&[command]).expect(0);
        let there = rig.opt();
        assert_eq!(
            there,
            ["actions-runner"].map(str::to_owned)[usize::from(command == "remove")..],
            "{command}"
        );
    }
    rig.assert_nothing_left();
}

#[test]
fn an_image_with_anything_of_a_runner_beside_it_is_not_sealed() {
    let rig = Rig::new();
    rig.run(&["bake"]).expect(0);
    rig.write("etc/machine-id", "");
    rig.run(&["bake", "--check"]).expect(0);
    leave(&rig, &[NESTED, OTHERS]);
    // Names that only look like it.
    leave(&rig, &[".another.runup-removed-keep", "another.runup-staging"]);
    let report = rig.run(&["bake", "--check", "--json"]).expect(78).json();
    let found: Vec<String> = report["found"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("{}: {}", one["what"].as_str().unwrap(), one["fix"].as_str().unwrap()))
        .collect();
    assert_eq!(found.len(), 2, "{found:#?}");
    let says = |name: &str, fix: &str| found.iter().any(|one| one.contains(name) && one.contains(fix));
    assert!(says(NESTED, "run `runup bake") && says(OTHERS, "delete it"), "{found:#?}");
    rig.run(&["bake"]).expect(0);
    let there = rig.opt();
    assert!(!there.contains(&NESTED.to_owned()) && there.contains(&OTHERS.to_owned()), "{there:?}");
    rig.run(&["bake", "--check"]).expect(78).says(OTHERS);
    // If the other one is a runner of the image, its next run knows what that is for.
    rig.run(&["bake", "--dir", "/opt/another"]).expect(0);
    leave(&rig, &[OTHERS]);
    rig.run(&["bake", "--check"]).expect(78).says("run `runup bake --dir /opt/another");
    rig.run(&["bake", "--dir", "/opt/another"]).expect(0);
    rig.run(&["bake", "--check"]).expect(0);
}

/// A runner of such a name would be deleted by the next run for the runner beside it.
#[test]
fn no_runner_and_no_job_gets_a_directory_of_such_a_name() {
    let rig = Rig::new();
    for dir in ["/opt/.actions-runner.runup-staging", "/opt/.r.runup-removed-0123abcd/runner"] {
        rig.run(&["install", "--dir", dir]).expect(64).says("--dir");
    }
    rig.run(&["install", "--work", "/opt/.actions-runner.runup-staging/work"])
        .expect(78)
        .says("runup deletes");
    rig.assert_nothing_left();
}
