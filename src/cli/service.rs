//! Which service `install` sets up, and what its unit starts.

use super::args::InstallFlags;
use super::request::api_only;
use super::whereabouts::absolute;
use super::{Failed, Session};
use crate::host::{self, account, systemd};
use crate::lifecycle::{Request, WantedService};
use crate::runner::unit::{Main, Upgrades};
use crate::settings::flags::{AfterJob, ServiceKind};
use crate::settings::{Error, Given, Origin};
use std::path::{Path, PathBuf};

/// Options whose values are recorded beside the journal, where the unit's own runup finds them: a command line can be read
/// by every user.
const RECORDED: [&str; 8] =
    ["ca-file", "proxy", "no-proxy", "env", "env-file", "hook-job-started", "hook-job-completed", "path"];

/// Options that are not passed to the unit's `runup run`: they concern this run only, or are passed in another way.
const NOT_FOR_THE_UNIT: [&str; 16] = [
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
    "registration-token-file",
    "wait-for-limit",
    "start-spread",
    "json",
    "verbose",
    "quiet",
];

/// Options of `install` that are passed to the unit's `runup upgrade`. The server comes from the journal.
const FOR_THE_UPGRADE: [&str; 4] = ["state-dir", "allow-http", "token-command", "mirror"];

/// The service, as far as this machine can have one.
pub(super) fn wanted(flags: &InstallFlags, session: &Session) -> Result<Option<WantedService>, Failed> {
    let here = flags.converge.place.root.is_none() && account::is_root() && cfg!(target_os = "linux");
    match flags.service.service {
        ServiceKind::None => return Ok(None),
        ServiceKind::Systemd if !here => {
            let message = "--service systemd needs root, and cannot be used with --root";
            return Err(Error::Contradiction(message.into()).into());
        }
        ServiceKind::Systemd if !systemd::is_running() => {
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
    let file = api_only(&flags.converge.server, session)?.api.filter(|file| *file != "-");
    let token_file = file.map(|file| absolute(Path::new(file))).transpose()?;
    let given = session.given.iter().filter(|given| FOR_THE_UPGRADE.contains(&given.key.as_str()));
    let given = given.filter(|given| given.key != "token-command" || token_file.is_none());
    let mut arguments: Vec<String> = given.filter_map(argument).flatten().collect();
    if let Some(config) = session.config.as_ref() {
        arguments.push(format!("--config={}", absolute(config)?.display()));
    }
    Ok(Some(Upgrades {
        at: flags.service.upgrade_at.clone(),
        spread: flags.service.upgrade_spread.as_secs(),
        arguments,
        token_file,
    }))
}

/// A unit that registers by itself needs a token at every start, so it needs a file that stays, or a command.
fn supervisor(flags: &InstallFlags, leaves: bool, session: &Session) -> Result<Main, Failed> {
    let named = api_only(&flags.converge.server, session)?;
    let file = named.api.filter(|file| *file != "-");
    if file.is_none() && named.command.is_none() {
        let message = "--ephemeral and --remove-on-shutdown need --token-file with a file that stays, or --token-command: \
                       the service needs a token at each start";
        return Err(Error::Contradiction(message.into()).into());
    }
    let token_file = file.map(|file| absolute(Path::new(file))).transpose()?;
    let given = session.given.iter().filter(|given| given.key != "token-command" || file.is_none());
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
    Ok(Main::Supervisor { arguments, token_file })
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
        "dir" | "state-dir" => absolute(&PathBuf::from(&given.value)).ok()?.display().to_string(),
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
        assert_eq!(argument(&given("work", "_work", Origin::Default, false)), None);
        assert_eq!(argument(&given("url", "u", Origin::File("/etc/x".into()), false)), None);
    }
}
