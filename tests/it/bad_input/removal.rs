//! The way back, from every state that somebody may have left.

use crate::rig::{Rig, finish, names_in, signal, until};
use runup::sandbox::{CredentialKind, RunnerChange};
use rustix::process::Signal;
use std::path::PathBuf;

impl Rig {
    /// A machine with a runner, and a log of requests that begins now.
    fn installed() -> Self {
        let rig = Self::new();
        rig.run(&["install"]).expect(0);
        rig.routes();
        rig
    }

    fn id(&self) -> u64 {
        self.state().runners[0].id
    }

    fn change(&self, change: RunnerChange) {
        assert!(self.sandbox.change_runner(self.id(), change));
    }

    fn forget_journal(&self) {
        let state = self.root().join("var/lib/runup");
        for name in names_in(&state).into_iter().filter(|name| name.ends_with(".json")) {
            std::fs::remove_file(state.join(name)).unwrap();
        }
    }

    fn without_url(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.command(arguments);
        command.arg("--root").arg(self.root());
        command
    }

    #[track_caller]
    fn removes(&self) -> crate::rig::Ran {
        let ran = self.run(&["remove"]).expect(0);
        self.assert_nothing_left();
        ran
    }

    fn identity(&self) -> Vec<PathBuf> {
        [".runner", ".credentials", ".credentials_rsaparams"].map(|name| self.dir().join(name)).into()
    }
}

#[test]
fn a_busy_runner_is_waited_for_and_then_left() {
    let rig = Rig::installed();
    rig.change(RunnerChange { online: Some(true), busy: Some(true), deleted: false });
    let ran = rig.run(&["remove", "--deadline", "1s"]).expect(75).says("still running a job");
    ran.says(&format!("(id {})", rig.id())).hints("--deadline");
    rig.assert_exactly_one_runner();
    rig.change(RunnerChange { online: Some(false), busy: Some(false), deleted: false });
    rig.removes();
}

#[test]
fn local_touches_no_server_and_says_what_is_left_there() {
    let rig = Rig::installed();
    let id = rig.id();
    let name = rig.state().runners[0].name.clone();
    let ran = rig.run_without_token(&["remove", "--local"]).expect(0);
    ran.says("still registered").says(&name).says(&format!("runup runners delete {id} --url {}", rig.url()));
    rig.assert_machine_bare();
    assert_eq!(rig.routes(), [] as [&str; 0]);
    rig.ask(&["runners", "delete", &id.to_string()]).expect(0);
    rig.assert_nothing_left();

    let rig = Rig::installed();
    let left = rig.run(&["remove", "--local", "--json"]).expect(0).json()["left_on_server"].clone();
    assert_eq!((left["id"].clone(), left["url"].clone()), (rig.id().into(), rig.url().into()));
}

#[test]
fn a_remove_token_is_enough() {
    let rig = Rig::installed();
    let file = rig.write("remove-token", rig.ask(&["token", "remove"]).expect(0).stdout);
    rig.routes();
    rig.run_without_token(&["remove", "--trust-tree", "--remove-token-file", &file])
        .expect(0)
        .says("checking that needs a token");
    rig.assert_nothing_left();
    let rig = Rig::installed();
    let token = rig.ask(&["token", "remove"]).expect(0).stdout;
    let mut command = rig.on_machine(&["remove", "--trust-tree"]);
    command.env_remove("RUNUP_TOKEN").env("RUNUP_REMOVE_TOKEN", token.trim());
    finish(command.spawn().unwrap()).expect(0);
    rig.assert_nothing_left();
}

/// Before anything is stopped: that `run` supervises the runner is found out only after that.
#[test]
fn a_remove_token_that_nothing_can_use_is_refused_while_the_runner_runs() {
    let rig = Rig::new();
    let file = rig.write("remove-token", rig.ask(&["token", "remove"]).expect(0).stdout);
    let child = rig.start(&["run"]);
    until("it is online", || rig.state().runners.first().is_some_and(|runner| runner.online));
    let script = rig.dir().join("config.sh");
    std::fs::remove_file(&script).unwrap();
    let ran = rig.run_without_token(&["remove", "--trust-tree", "--remove-token-file", &file]).expect(77);
    ran.says("what config.sh remove works with is gone").hints("--token-file");
    assert!(rig.state().runners[0].online);
    signal(&child, Signal::TERM);
    finish(child);
}

#[test]
fn a_dead_remove_token_alone_changes_nothing() {
    let rig = Rig::installed();
    let file = rig.write("remove-token", rig.ask(&["token", "remove"]).expect(0).stdout);
    rig.sandbox.expire_tokens();
    let ran = rig.run_without_token(&["remove", "--trust-tree", "--remove-token-file", &file]).expect(77);
    ran.says("does not accept the remove token from the file").hints("expired");
    rig.assert_exactly_one_runner();
    // With a credential for the API, the runner is deleted by its id.
    rig.run(&["remove", "--trust-tree", "--remove-token-file", &file]).expect(0).says("by id");
    rig.assert_nothing_left();
}

#[test]
fn a_remove_token_that_expired_on_its_way_is_no_obstacle() {
    let rig = Rig::installed();
    rig.faults(&["remove-token:expired-token"]);
    rig.run(&["remove", "--trust-tree"]).expect(0).says("by id instead");
    rig.assert_nothing_left();
}

#[test]
fn no_credential_at_all_changes_nothing() {
    let rig = Rig::installed();
    rig.run_without_token(&["remove"]).expect(77).says("remove token").hints("--local");
    rig.assert_exactly_one_runner();
    let ran = finish(rig.on_machine(&["remove"]).env("RUNUP_TOKEN", "ghp_wrong").spawn().unwrap());
    ran.expect(77).says("refused");
    rig.assert_exactly_one_runner();
    let weak = rig.sandbox.weak_token();
    let ran = finish(rig.on_machine(&["remove"]).env("RUNUP_TOKEN", weak.expose()).spawn().unwrap());
    ran.expect(77).says("too weak");
    rig.assert_exactly_one_runner();
    rig.removes();
}

#[test]
fn without_config_sh_it_is_deleted_by_id() {
    let rig = Rig::installed();
    std::fs::remove_file(rig.dir().join("config.sh")).unwrap();
    rig.removes();
    assert_eq!(rig.asked("delete-runner"), 1);
}

#[test]
fn without_its_files_it_is_deleted_by_id() {
    let rig = Rig::installed();
    for file in rig.identity() {
        std::fs::remove_file(file).unwrap();
    }
    rig.removes();
    assert_eq!((rig.asked("delete-runner"), rig.asked("runner-registration")), (1, 0));
}

#[test]
fn without_its_whole_folder_it_is_deleted_by_id() {
    let rig = Rig::installed();
    std::fs::remove_dir_all(rig.dir()).unwrap();
    rig.removes();
}

#[test]
fn a_runner_that_the_server_forgot_is_cleaned_up_here() {
    let rig = Rig::installed();
    rig.change(RunnerChange { deleted: true, ..RunnerChange::default() });
    rig.removes().says("no longer has");
    assert_eq!(rig.asked("runner-registration"), 0, "config.sh would only fail");
}

#[test]
fn a_hanging_config_sh_is_no_obstacle() {
    let rig = Rig::installed();
    rig.faults(&["runner-delete:delay=forever"]);
    // The script has half of the time, and the other half is enough to delete the runner by its id.
    rig.run(&["remove", "--trust-tree", "--deadline", "6s"]).expect(0).says("by id instead");
    assert_eq!(rig.processes(), [] as [&str; 0]);
    rig.assert_nothing_left();
}

#[test]
fn a_runner_without_a_journal_is_adopted() {
    let rig = Rig::installed();
    rig.forget_journal();
    rig.removes().says("adopting");
    // What the machine's configuration calls its runners confirms nothing, and forbids nothing.
    let rig = Rig::installed();
    rig.forget_journal();
    let config = rig.write("names.toml", "name = \"box-{random}\"\n");
    rig.run(&["remove", "--config", &config]).expect(0).says("adopting");
    rig.assert_nothing_left();
}

#[test]
fn a_credential_does_not_go_where_only_the_runners_folder_says() {
    let rig = Rig::installed();
    rig.forget_journal();
    let ran = finish(rig.without_url(&["remove"]).spawn().unwrap()).expect(78);
    ran.says("only --url can say which server may get the credential").hints("--url");
    assert_eq!(rig.routes(), [] as [&str; 0]);
    // Not even for a look.
    finish(rig.without_url(&["status"]).spawn().unwrap()).expect(0).says("not asked");
    assert_eq!(rig.routes(), [] as [&str; 0]);
    rig.assert_exactly_one_runner();
    // Nor to another server than the directory says.
    let ran = finish(rig.without_url(&["remove", "--url", "http://127.0.0.1:9/other"]).spawn().unwrap());
    ran.expect(78).says("127.0.0.1:9/other").hints("");
    rig.removes();
}

#[test]
fn the_journal_knows_the_server() {
    let rig = Rig::installed();
    let other = finish(rig.without_url(&["remove", "--url", "http://127.0.0.1:9/other"]).spawn().unwrap());
    other.expect(78).says(&rig.url()).hints("Omit --url");
    rig.assert_exactly_one_runner();
    finish(rig.without_url(&["remove"]).spawn().unwrap()).expect(0);
    rig.assert_nothing_left();
}

/// A job can write anything into the runner's directory, the id of another runner included.
#[test]
fn a_job_cannot_make_remove_delete_another_runner() {
    let rig = Rig::installed();
    let other = rig.sandbox.add_runner(&crate::rig::SCOPE.parse().unwrap(), "other", &[]).unwrap();
    let file = rig.dir().join(".runner");
    let text = std::fs::read_to_string(&file).unwrap();
    let ours = rig.state().runners[0].clone();
    let forged = text
        .replace(&format!("\"agentId\": {}", ours.id), &format!("\"agentId\": {other}"))
        .replace(&ours.name, "other");
    assert_ne!(forged, text);
    std::fs::write(&file, forged).unwrap();
    rig.run(&["install"]).expect(78).says("the runner's files were changed");
    rig.run(&["remove"]).expect(0);
    rig.assert_machine_bare();
    let left: Vec<u64> = rig.state().runners.iter().map(|runner| runner.id).collect();
    assert_eq!(left, [other]);
}

#[test]
fn a_service_stands_in_the_way_unless_it_is_long_gone() {
    let rig = Rig::installed();
    std::fs::write(rig.dir().join(".service"), "actions.runner.x.service\n").unwrap();
    let unit =
        rig.write("etc/systemd/system/actions.runner.x.service", "WorkingDirectory=/opt/actions-runner\n");
    rig.run(&["remove"])
        .expect(78)
        .says("actions.runner.x.service")
        .hints("systemctl disable --now actions.runner.x.service");
    rig.assert_exactly_one_runner();
    std::fs::remove_file(unit).unwrap();
    rig.removes();
}

#[test]
fn no_token_goes_further_than_it_must() {
    let rig = Rig::installed();
    rig.run(&["remove", "--trust-tree"]).expect(0);
    for request in rig.sandbox.requests() {
        let by_runner =
            ["runner-registration", "runner-list", "runner-delete"].contains(&request.route.as_str());
        assert_eq!(by_runner, request.credential != CredentialKind::Api, "{request:?}");
    }
}
