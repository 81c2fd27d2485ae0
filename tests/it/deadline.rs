//! The deadline is the deadline: whatever does not answer, and with all that is undone.

use crate::rig::{Ran, Rig, finish};
use std::time::{Duration, Instant};

/// The shortest deadline of `install`.
const DEADLINE: Duration = Duration::from_secs(20);
/// For starting and ending processes on a busy machine.
const MARGIN: Duration = Duration::from_secs(5);

/// What of an installation does not answer any more. Each was undone for up to a minute after the deadline.
const SILENT: [&[&str]; 13] = [
    &["list-runners:delay=forever"],
    &["downloads:delay=forever"],
    &["archive:stall=2000"],
    &["archive:slow=10"],
    &["registration-token:delay=forever"],
    &["runner-registration:delay=forever"],
    &["runner-groups-of-runner:delay=forever"],
    &["runner-list:delay=forever"],
    &["register:delay-after=forever"],
    &["runner-registration:script=hang"],
    // With nothing that could be asked or deleted afterwards either.
    &["runner-registration:script=hang-after-register", "list-runners+1:delay=forever"],
    &["get-runner:delay=forever", "list-runners+1:delay=forever"],
    &["get-runner:status=500", "delete-runner:delay=forever"],
];

fn timed(rig: &Rig, arguments: &[&str]) -> (Ran, Duration) {
    let began = Instant::now();
    let ran = finish(rig.start(arguments));
    (ran, began.elapsed())
}

/// All at once: each of them waits.
#[test]
fn whatever_does_not_answer_install_ends_at_the_deadline_with_its_undoing() {
    std::thread::scope(|scope| {
        for faults in SILENT {
            scope.spawn(move || {
                let rig = Rig::new();
                rig.faults(faults);
                let (ran, took) = timed(&rig, &["install", "--deadline", "20s"]);
                assert!(took < DEADLINE + MARGIN, "{faults:?}: {took:?}: {ran:#?}");
                assert_eq!(ran.code, 75, "{faults:?}: {ran:#?}");
                assert_eq!(rig.processes(), [] as [&str; 0], "{faults:?}");
                if rig.state().runners.is_empty() {
                    rig.assert_nothing_left();
                } else {
                    // It says so, and the next run knows.
                    let ran = ran.says("not undone: the server still has the runner");
                    rig.sandbox.faults_clear();
                    rig.run(&["remove"]).expect(0);
                    assert_eq!(rig.state().runners, [], "{faults:?}: {ran:#?}");
                }
            });
        }
    });
}

#[test]
fn a_deadline_that_leaves_no_time_for_undoing_is_refused() {
    let rig = Rig::new();
    let run = |arguments: &[&str]| {
        let mut command = rig.on_machine(arguments);
        finish(command.env_remove("RUNUP_ANY_DEADLINE").spawn().unwrap())
    };
    for command in ["install", "plan"] {
        let ran = run(&[command, "--deadline", "19s"]).expect(64);
        ran.says("--deadline 19s is too short").says("20 s");
    }
    assert_eq!(rig.routes(), [] as [&str; 0]);
    // A unit of an older version starts it like this, again and again.
    rig.sandbox.add_job(&crate::rig::SCOPE.parse().unwrap(), "only", 0);
    let ran = run(&["run", "--ephemeral", "--deadline", "19s"]).expect(0);
    ran.says("warning: --deadline 19s is too short").says("the job is done");
    // What registers nothing may be as short as it likes.
    run(&["remove", "--deadline", "10s"]).expect(0);
}
