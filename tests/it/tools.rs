//! Tools that the jobs of all runners share.

use crate::rig::{Ran, Rig, SCOPE, finish, signal, until};
use runup::sandbox::{JobResult, NewJob};
use rustix::process::Signal;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Child;

const TOOLS: [&str; 2] = ["node/20.1.0/x64", "node/22.0.0/x64"];

/// Looks as `actions/setup-node` does, tries to change a tool, and adds one.
const JOB: &str = r#"
    mkdir -p "$RUNNER_TOOL_CACHE/node" && cd "$RUNNER_TOOL_CACHE/node"
    for tool in */*.complete; do
        # Not a link that leads nowhere.
        [ ! -e $tool ] || echo "found $tool: $("${tool%.complete}/bin/node")"
    done
    echo 'echo changed' >20.1.0/x64/bin/node || true
    mkdir -p 24.0.0/x64/bin && printf '#!/bin/sh\necho added\n' >24.0.0/x64/bin/node && chmod 755 24.0.0/x64/bin/node
    touch 24.0.0/x64.complete
"#;

/// A directory of tools that nobody can write to, as far as that is possible for this user.
fn shared(rig: &Rig) {
    for tool in TOOLS {
        let node = rig.write(&format!("srv/tools/{tool}/bin/node"), format!("#!/bin/sh\necho {tool}\n"));
        std::fs::set_permissions(node, std::fs::Permissions::from_mode(0o555)).unwrap();
        rig.write(&format!("srv/tools/{tool}.complete"), "");
    }
}

fn queue(rig: &Rig) -> u64 {
    rig.sandbox.queue(NewJob::script(SCOPE, JOB))
}

fn log_of(rig: &Rig, id: u64) -> String {
    let found = || rig.state().jobs.into_iter().find(|job| job.id == id && job.result.is_some());
    until("the job has ended", || found().is_some_and(|job| job.done));
    let job = found().unwrap();
    assert_eq!(job.result, Some(JobResult::Succeeded), "{}", job.log);
    job.log
}

/// A runner that lets a job end when it is told to.
fn start(rig: &Rig, more: &[&str]) -> Child {
    rig.start(&[&["run", "--drain", "60s"], more].concat())
}

fn stop(child: Child) -> Ran {
    signal(&child, Signal::TERM);
    finish(child).expect(0)
}

const SHARED: &str =
    "found 20.1.0/x64.complete: node/20.1.0/x64\nfound 22.0.0/x64.complete: node/22.0.0/x64\n";
const ADDED: &str = "found 24.0.0/x64.complete: added\n";

#[test]
fn each_job_of_an_ephemeral_runner_finds_them_and_not_what_another_job_added() {
    let rig = Rig::new().making_a_user();
    if rig.user.is_some() && !rig.makes_a_user() {
        return;
    }
    shared(&rig);
    let (first, second) = (queue(&rig), queue(&rig));
    let child = start(&rig, &["--ephemeral", "--after-job", "again", "--tool-cache", "/srv/tools"]);
    for id in [first, second] {
        let log = log_of(&rig, id);
        assert!(log.contains(SHARED) && !log.contains(ADDED), "{log}");
    }
    // One that is gone later does not stop the next rounds.
    std::fs::rename(rig.root().join("srv/tools"), rig.root().join("srv/gone")).unwrap();
    let without = [queue(&rig), queue(&rig)].map(|id| log_of(&rig, id));
    assert!(!without[1].contains("found 20.1.0"), "{without:?}");
    std::fs::rename(rig.root().join("srv/gone"), rig.root().join("srv/tools")).unwrap();
    until("the next one is online", || rig.state().runners.first().is_some_and(|runner| runner.online));
    stop(child);
    rig.run(&["remove"]).expect(0);
    assert!(rig.root().join("srv/tools/node/22.0.0/x64/bin/node").is_file());
}

#[test]
fn a_runner_that_stays_keeps_what_its_jobs_add_and_the_setting() {
    let rig = Rig::new();
    shared(&rig);
    let plan = rig.run(&["plan", "--tool-cache", "/srv/tools", "--json"]).expect(0);
    assert!(plan.json()["steps"].to_string().contains("tool-cache"), "{plan:?}");
    let child = start(&rig, &["--tool-cache", "/srv/tools"]);
    let log = log_of(&rig, queue(&rig));
    assert!(log.contains(SHARED) && !log.contains(ADDED), "{log}");
    stop(child);
    // A tool that came later is found after the next start.
    rig.write("srv/tools/node/23.0.0/x64.complete", "");
    let node = rig.write("srv/tools/node/23.0.0/x64/bin/node", "#!/bin/sh\necho later\n");
    std::fs::set_permissions(node, std::fs::Permissions::from_mode(0o555)).unwrap();
    let child = start(&rig, &[]);
    let log = log_of(&rig, queue(&rig));
    assert!(log.contains("found 23.0.0/x64.complete: later\n") && log.contains(ADDED), "{log}");
    stop(child);
    // A job can do without, so what is wrong with them later stops none.
    std::fs::remove_dir_all(rig.root().join("srv/tools")).unwrap();
    for more in [&[] as &[&str], &["--tool-cache", "none"]] {
        let child = start(&rig, more);
        let log = log_of(&rig, queue(&rig));
        assert!(log.contains(ADDED) && !log.contains("found 20.1.0"), "{log}");
        let said = stop(child).stderr;
        assert_eq!(
            said.contains("the tools of --tool-cache are not available to jobs"),
            more.is_empty(),
            "{said}"
        );
    }
    let plan = rig.run(&["plan", "--json"]).expect(0);
    assert!(!plan.all().contains("tool-cache"), "{plan:?}");
}
