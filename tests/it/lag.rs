//! GitHub answers from replicas that lag: one answer that something is gone proves nothing.

use crate::rig::Rig;

/// A rig with an installed runner, and its id.
fn installed() -> (Rig, u64) {
    let rig = Rig::new();
    rig.run(&["install"]).expect(0);
    let id = rig.state().runners[0].id;
    (rig, id)
}

fn ids(rig: &Rig) -> Vec<u64> {
    rig.state().runners.iter().map(|runner| runner.id).collect()
}

#[test]
fn one_wrong_404_destroys_no_healthy_runner() {
    let (rig, id) = installed();
    rig.faults(&["get-runner:1:status=404"]);
    rig.run(&["install"]).expect(0).says("nothing to do");
    assert_eq!(ids(&rig), [id]);
    rig.faults(&["get-runner:1:status=404"]);
    rig.run(&["status"]).expect(0);
}

#[test]
fn one_wrong_404_leaves_no_ghost() {
    for fault in ["get-runner:1:status=404", "delete-runner:1:status=404", "runner-delete:1:status=404"] {
        let (rig, _) = installed();
        rig.faults(&[fault]);
        rig.run(&["remove"]).expect(0).says("deregistered");
        assert_eq!(ids(&rig), [] as [u64; 0], "{fault}");
        rig.assert_nothing_left();
    }
}

#[test]
fn a_new_runner_may_be_seen_late() {
    let rig = Rig::new();
    rig.faults(&["get-runner:2:status=404"]);
    rig.run(&["install"]).expect(0);
    rig.assert_exactly_one_runner();
}

#[test]
fn a_page_is_not_a_deletion() {
    let (rig, id) = installed();
    rig.faults(&["runner-delete:status=403", "delete-runner:html=200"]);
    rig.run(&["remove"]).expect(76).says("answered 200");
    assert_eq!(ids(&rig), [id]);
    rig.sandbox.faults_clear();
    rig.run(&["remove"]).expect(0);
    rig.assert_nothing_left();
}

#[test]
fn what_is_really_gone_is_registered_anew() {
    let (rig, id) = installed();
    rig.ask(&["runners", "delete", &id.to_string()]).expect(0);
    rig.run(&["install"]).expect(0).says("registered");
    assert_eq!(ids(&rig).len(), 1);
    assert_ne!(ids(&rig), [id]);
}
