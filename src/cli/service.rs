//! Which service `install` sets up, and what its unit starts.

use super::args::InstallFlags;
use super::credential::api_only;
use super::whereabouts::absolute;
use super::{Failed, Session};
use crate::host::{self, account, systemd};
use crate::lifecycle::{Request, WantedService};
use crate::runner::unit::{CredentialFile, Main, Upgrades};
use crate::settings::app::{self, NamedKey};
use crate::settings::credential::Files;
use crate::settings::flags::{AfterJob, ServiceKind};
use crate::settings::{Error, Given, Origin};
use std::path::{Path, PathBuf};

/// Options whose values are recorded beside the journal, where the unit's own runup finds them: a command line can be read
/// by every user.
const RECORDED: [&str; 9] = [
    "ca-file",
    "proxy",
    "no-proxy",
    "env",
    "env-file",
    "hook-job-started",
    "hook-job-completed",
    "path",
    "tool-cache",
];

/// Options that are not passed to the unit's `runup run`: they concern this run only, or are passed in another way.
const NOT_FOR_THE_UNIT: [&str; 18] = [
    "adopt",
    "count",
    "deps",
    "service",
    "drain",
    "remove-on-shutdown",
    "after-job",
    "upgrade-at",
    "upgrade-spread",
    "token-file",
    "app-key-file",
    "registration-token-file",
    "wait-for-limit",
    "start-spread",
    "events",
    "json",
    "verbose",
    "quiet",
];

/// Options of `install` that are passed to the unit's `runup upgrade`. The server comes from the journal.
const FOR_THE_UPGRADE: [&str; 9] = [
    "state-dir",
    "allow-http",
    "token-command",
    "app-id",
    "app-installation-id",
    "app-key-command",
    "app-sign-command",
    "mirror",
    "metrics",
];

/// The service, as far as this machine can have one.
pub(super) fn wanted(flags: &InstallFlags, session: &Session) -> Result<Option<WantedService>, Failed> {
    let here = flags.converge.place.root.is_none() && account::is_root() && cfg!(target_os = "linux");
    match flags.service.service {
        ServiceKind::None => return Ok(None),
        ServiceKind::Systemd if !here => {
            let message = "--service systemd needs root, and cannot be used with --root";
            return Err(Error::Contradiction(message.into()).into());
        }
        ServiceKind::Systemd if lacks_systemd(flags) => {
            return Err(crate::lifecycle::ServiceError::NoSystemd.into());
        }
        ServiceKind::Auto if !here => return Ok(None),
        ServiceKind::Auto if !systemd::is_running() => {
            tracing::warn!(
                "systemd does not run this machine, so no service is installed; start the runner with `runup run`, or \
                 in another way"
            );
            return Ok(None);
        }
        ServiceKind::Systemd | ServiceKind::Auto => {}
    }
    let ephemeral = flags.converge.runner.ephemeral;
    let leaves = flags.service.remove_on_shutdown.unwrap_or(ephemeral);
    let main = if ephemeral || leaves { supervisor(flags, leaves, session)? } else { Main::Runsvc };
    let program = std::env::current_exe().map_err(host::Error::from)?;
    let upgrades = upgrades(flags, session)?;
    Ok(Some(WantedService {
        program,
        main,
        drain: flags.service.drain,
        upgrades,
        by_number: session.by_number(),
        in_target: false,
    }))
}

/// Whether a service of systemd is requested that this machine cannot have.
pub(super) fn lacks_systemd(flags: &InstallFlags) -> bool {
    flags.service.service == ServiceKind::Systemd && !systemd::is_running()
}

/// A runner that was set up by hand stays registered, and its name is confirmed by an explicit `--name`.
pub(super) fn adopt(request: &mut Request, flags: &InstallFlags, session: &Session) -> Result<(), Failed> {
    if !flags.adopt {
        return Ok(());
    }
    if flags.converge.runner.ephemeral || request.registers_by_itself() {
        let message = "--adopt cannot be used with --ephemeral or --remove-on-shutdown: the runner keeps its registration";
        return Err(Error::Contradiction(message.into()).into());
    }
    request.adopt = true;
    let by_operator = |origin: &Origin| matches!(origin, Origin::Flag | Origin::Variable(_));
    let named = session.given.iter().any(|given| given.key == "name" && by_operator(&given.origin));
    request.confirmed_name = named.then(|| flags.converge.runner.name.to_string());
    Ok(())
}

/// How the runner is upgraded; `None` if the operator disabled updates.
fn upgrades(flags: &InstallFlags, session: &Session) -> Result<Option<Upgrades>, Failed> {
    if flags.converge.runner.disable_update || flags.converge.runner.ephemeral {
        return Ok(None);
    }
    let named = api_only(&flags.converge.server, session)?;
    let credential = credential_file(&named)?;
    let given = session.given.iter().filter(|given| FOR_THE_UPGRADE.contains(&given.key.as_str()));
    let given = given.filter(|given| !is_of_another_credential(given, &named));
    let mut arguments: Vec<String> = given.filter_map(argument).flatten().collect();
    if let Some(config) = session.config.as_ref() {
        arguments.push(format!("--config={}", absolute(config)?.display()));
    }
    Ok(Some(Upgrades {
        at: flags.service.upgrade_at.clone(),
        spread: flags.service.upgrade_spread.as_secs(),
        arguments,
        credential,
    }))
}

/// A unit that registers by itself needs a token at every start, so it needs a file that stays, or a command.
fn supervisor(flags: &InstallFlags, leaves: bool, session: &Session) -> Result<Main, Failed> {
    let named = api_only(&flags.converge.server, session)?;
    let credential = credential_file(&named)?;
    let stays = named.command.is_some() || named.app.as_ref().is_some_and(|app| app.key.is_some());
    if credential.is_none() && !stays {
        let message = "--ephemeral and --remove-on-shutdown need --token-file with a file that stays, --token-command, or \
                       --app-id with one of its options for the key: the service needs a token at each start";
        return Err(Error::Contradiction(message.into()).into());
    }
    let given = session.given.iter().filter(|given| !is_of_another_credential(given, &named));
    let mut arguments: Vec<String> = given.filter_map(argument).flatten().collect();
    if let Some(config) = session.config.as_ref() {
        arguments.push(format!("--config={}", absolute(config)?.display()));
    }
    // What was recorded wins over what the configuration file sets, as the flag that was recorded did.
    let recorded = session.given.iter().filter(|given| RECORDED.contains(&given.key.as_str()));
    let recorded: Vec<&str> =
        recorded.filter(|given| is_ours(given)).map(|given| given.key.as_str()).collect();
    if !recorded.is_empty() {
        arguments.push(format!("--as-recorded={}", recorded.join(",")));
    }
    arguments.extend(
        session.by_number().then_some(session.number).flatten().map(|number| format!("--instance={number}")),
    );
    // A unit that fails and is restarted would use up the limit, and its own restarts.
    arguments.push("--wait-for-limit".to_owned());
    arguments.push(format!("--drain={}s", flags.service.drain.as_secs()));
    arguments.push(format!("--remove-on-shutdown={leaves}"));
    if flags.converge.runner.ephemeral {
        let after = match flags.service.after_job {
            AfterJob::Stop => "stop",
            AfterJob::Again => "again",
            AfterJob::Poweroff => "poweroff",
        };
        arguments.push(format!("--after-job={after}"));
    }
    Ok(Main::Supervisor { arguments, credential })
}

/// The file that systemd is to read for the unit.
fn credential_file(named: &Files<'_>) -> Result<Option<CredentialFile>, Failed> {
    let key = named.app.as_ref().and_then(|app| app.key.as_ref());
    Ok(match (named.api.filter(|file| *file != "-"), key) {
        (Some(file), _) => Some(CredentialFile::Token(absolute(Path::new(file))?)),
        (None, Some(NamedKey::File(file))) => Some(CredentialFile::AppKey(absolute(Path::new(file))?)),
        _ => None,
    })
}

/// Whether the option belongs to a credential that another one takes precedence over.
fn is_of_another_credential(given: &Given, named: &Files<'_>) -> bool {
    let key = named.app.as_ref().and_then(|app| app.key.as_ref());
    match given.key.as_str() {
        "token-command" => named.command.is_none(),
        "app-key-command" => !matches!(key, Some(NamedKey::Command(_))),
        "app-sign-command" => !matches!(key, Some(NamedKey::SignCommand(_))),
        other => named.app.is_none() && app::KEYS.contains(&other),
    }
}

/// An option for the unit's command line. What the configuration file sets, `run` reads from there.
fn argument(given: &Given) -> Option<Vec<String>> {
    if !is_ours(given) || [&NOT_FOR_THE_UNIT[..], &RECORDED[..]].concat().contains(&given.key.as_str()) {
        return None;
    }
    if given.switch {
        // What is switched off here may be switched on in the file.
        let off = if given.value == "true" { "" } else { "=false" };
        return Some(vec![format!("--{}{off}", given.key)]);
    }
    let value = match given.key.as_str() {
        // The unit starts in another directory.
        "dir" | "state-dir" | "metrics" => absolute(&PathBuf::from(&given.value)).ok()?.display().to_string(),
        _ => given.value.clone(),
    };
    Some(vec![format!("--{}={value}", given.key)])
}

/// Whether the configuration file does not set it.
fn is_ours(given: &Given) -> bool {
    matches!(given.origin, Origin::Flag | Origin::Variable(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(key: &str, value: &str, origin: Origin, switch: bool) -> Given {
        Given { key: key.into(), value: value.into(), origin, switch }
    }

    #[test]
    fn the_unit_gets_what_was_set_and_no_secret() {
        let variable = || Origin::Variable("RUNUP_X".into());
        assert_eq!(argument(&given("labels", "a,b", Origin::Flag, false)).unwrap(), ["--labels=a,b"]);
        assert_eq!(argument(&given("ephemeral", "true", variable(), true)).unwrap(), ["--ephemeral"]);
        assert_eq!(argument(&given("ephemeral", "false", variable(), true)).unwrap(), ["--ephemeral=false"]);
        assert_eq!(argument(&given("ephemeral", "false", Origin::Default, true)), None);
        assert_eq!(argument(&given("proxy", "http://proxy:3128", Origin::Flag, false)), None);
        assert_eq!(argument(&given("token-file", "/t", Origin::Flag, false)), None);
        // The events are of this command; the metrics are of the runner.
        assert_eq!(argument(&given("events", "fd:3", Origin::Flag, false)), None);
        assert_eq!(argument(&given("metrics", "/m", Origin::Flag, false)).unwrap(), ["--metrics=/m"]);
        assert_eq!(argument(&given("app-key-file", "/k", Origin::Flag, false)), None);
        assert_eq!(argument(&given("app-id", "1", Origin::Flag, false)).unwrap(), ["--app-id=1"]);
        assert_eq!(argument(&given("work", "_work", Origin::Default, false)), None);
        assert_eq!(argument(&given("url", "u", Origin::File("/etc/x".into()), false)), None);
    }

    #[test]
    fn the_unit_gets_the_options_of_the_credential_that_counts_and_of_no_other() {
        let app = |key| app::NamedApp { id: "1".into(), installation: None, key: Some(key) };
        let (command, sign) = (NamedKey::Command("c".into()), NamedKey::SignCommand("s".into()));
        let kept = |named: &Files<'_>| -> Vec<&str> {
            let all = [
                "token-command",
                "app-id",
                "app-installation-id",
                "app-key-command",
                "app-sign-command",
                "labels",
            ];
            let of = |key: &&str| !is_of_another_credential(&given(key, "x", Origin::Flag, false), named);
            all.into_iter().filter(of).collect()
        };
        let named = Files { app: Some(app(command)), ..Files::default() };
        assert_eq!(kept(&named), ["app-id", "app-installation-id", "app-key-command", "labels"]);
        assert_eq!(credential_file(&named).ok().flatten(), None);
        let named = Files { app: Some(app(sign)), ..Files::default() };
        assert_eq!(kept(&named), ["app-id", "app-installation-id", "app-sign-command", "labels"]);
        let named = Files { app: Some(app(NamedKey::File("/k".into()))), ..Files::default() };
        assert_eq!(kept(&named), ["app-id", "app-installation-id", "labels"]);
        assert_eq!(credential_file(&named).ok().flatten(), Some(CredentialFile::AppKey("/k".into())));
        let named = Files { command: Some("x"), ..Files::default() };
        assert_eq!(kept(&named), ["token-command", "labels"]);
        let named = Files { api: Some("/t"), ..Files::default() };
        assert_eq!(kept(&named), ["labels"]);
        assert_eq!(credential_file(&named).ok().flatten(), Some(CredentialFile::Token("/t".into())));
    }
}
