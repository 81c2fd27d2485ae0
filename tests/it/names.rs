//! The names that runners get, and what stays of them.

use crate::rig::{Rig, finish};
use runup::sandbox::RunnerChange;

fn names(rig: &Rig) -> Vec<String> {
    let mut names: Vec<String> = rig.state().runners.iter().map(|runner| runner.name.clone()).collect();
    names.sort();
    names
}

#[test]
fn the_runners_of_a_machine_have_numbers_that_stay() {
    let rig = Rig::new();
    let install = |dir: &str, more: &[&str]| {
        let template = ["install", "--name", "box-{index}", "--dir", dir];
        rig.run(&[&template as &[&str], more].concat())
    };
    // The directory tells it, or it is the first that is free, also if the names of others have none.
    rig.run(&["install", "--name", "plain", "--dir", "/opt/actions-runner-2"]).expect(0);
    install("/srv/ci", &[]).expect(0);
    install("/opt/actions-runner-4", &[]).expect(0);
    install("/opt/actions-runner", &[]).expect(0);
    assert_eq!(names(&rig), ["box-1", "box-3", "box-4", "plain"]);
    // It stays the same when the runner is registered again, whatever became free.
    rig.run(&["remove", "--dir", "/opt/actions-runner-2"]).expect(0);
    install("/opt/actions-runner", &["--work", "_other"]).expect(0).says("registered box-3");
    rig.run(&["plan", "--dir", "/srv/ci", "--name", "box-{index}"]).expect(0).says("box-1 is registered");
    assert_eq!(names(&rig), ["box-1", "box-3", "box-4"]);
    rig.run(&["plan", "--dir", "/srv/b", "--name", "{dir}-{index}"]).expect(0).says("register b-2 at");
}

#[test]
fn a_just_in_time_runner_takes_the_place_of_an_offline_one_and_not_of_a_live_one() {
    let rig = Rig::new();
    let scope: runup::sandbox::Scope = crate::rig::SCOPE.parse().unwrap();
    let old = rig.sandbox.add_runner(&scope, "box-1", &[]).unwrap();
    let run = |replace: &str| {
        let mut command = rig.on_machine(&["run", "--jit", "--name", "box-{index}", replace]);
        finish(command.spawn().unwrap())
    };
    let is_online = |online| {
        rig.sandbox.change_runner(old, RunnerChange { online: Some(online), ..RunnerChange::default() });
    };
    is_online(true);
    run("--replace=if-offline").expect(75).says("box-1 is online");
    assert_eq!(rig.state().runners[0].id, old);
    is_online(false);
    run("--no-replace").expect(78).says("already registered");
    assert_eq!(rig.state().runners[0].id, old);
    rig.sandbox.add_job(&scope, "only", 0);
    run("--replace=if-offline").expect(0).says("which was offline, from the server").says("the job is done");
    assert_eq!(names(&rig), Vec::<String>::new());
}
