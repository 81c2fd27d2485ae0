//! Many machines that share GitHub's limits, and what the fake server knows of these.

use super::rig::Rig;
use fleet::Storm;
use std::path::Path;
use std::time::Duration;

#[path = "../../benches/storm/fleet.rs"]
mod fleet;

fn storm(one_token: bool) -> Storm {
    Storm {
        machines: 8,
        minute: Duration::from_secs(2),
        start_spread: Duration::from_millis(500),
        one_token,
        used: 0,
        apart: false,
        patience: super::rig::PATIENCE,
    }
}

#[test]
fn machines_that_meet_a_used_up_limit_all_come_online_and_leave_no_ghost() {
    // Of the 80 tokens a minute, the machines get few at once.
    let storm = Storm { used: 77, minute: Duration::from_secs(5), ..storm(false) };
    let report = storm.run(Path::new(env!("CARGO_BIN_EXE_runup"))).unwrap();
    assert_eq!((report.online, report.ghosts), (8, 0), "{report:#?}\n{}", report.logs);
}

#[test]
fn machines_with_one_registration_token_need_no_other_call() {
    let report = storm(true).run(Path::new(env!("CARGO_BIN_EXE_runup"))).unwrap();
    assert_eq!((report.online, report.ghosts, report.refused), (8, 0, 0), "{report:#?}\n{}", report.logs);
}

#[test]
fn a_limit_that_is_used_up_is_waited_for() {
    let rig = Rig::with(runup::sandbox::Options {
        limit_window: Some(Duration::from_secs(2)),
        ..Default::default()
    });
    fleet::use_up(&rig.sandbox, 80).unwrap();
    rig.sandbox.requests_clear();
    rig.ask(&["token", "registration"]).expect(0).says("as the server requested");
    let statuses: Vec<_> = rig.sandbox.requests().iter().map(|request| request.status).collect();
    assert_eq!(statuses, [Some(403), Some(201)]);
}
