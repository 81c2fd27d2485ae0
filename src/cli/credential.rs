//! Which credential for the REST API the options mean.

use super::Session;
use crate::github::{AppError, Credential, Scope, Target};
use crate::settings::credential::Files;
use crate::settings::flags::Server;
use crate::settings::{Credentials, Error, Origin, app};
use std::cmp::Reverse;
use std::path::Path;

/// Where to look for the credential. One in the environment, or of systemd, takes precedence over one that the
/// configuration file names, as for every setting.
pub(super) fn files<'a>(server: &'a Server, session: &Session) -> Result<Files<'a>, Error> {
    let files = api_only(server, session)?;
    Ok(match session.environment.get("RUNUP_TOKEN") {
        Some(_) => without_configured(files, session),
        None => or_systemd(files, session),
    })
}

/// Prefers a systemd credential: in this way, the unit gets the file that a flag named, which took precedence over what
/// the configuration file names.
pub(super) fn or_systemd<'a>(mut files: Files<'a>, session: &Session) -> Files<'a> {
    let dir = session.environment.get("CREDENTIALS_DIRECTORY").map(Path::new);
    let is_there = |name: &str| dir.is_some_and(|dir| dir.join(name).exists());
    if let Some(named) = files.app.as_mut().filter(|_| is_there(app::SYSTEMD)) {
        named.key.take_if(|key| is_configured(key.option(), session));
        return files;
    }
    if is_there("runup.token") { without_configured(files, session) } else { files }
}

/// Without what the configuration file names.
fn without_configured<'a>(files: Files<'a>, session: &Session) -> Files<'a> {
    let api = files.api.filter(|_| !is_configured("token-file", session));
    let command = files.command.filter(|_| !is_configured("token-command", session));
    let app = files.app.filter(|_| !is_configured("app-id", session));
    Files { api, command, app, ..Files::default() }
}

fn is_configured(option: &str, session: &Session) -> bool {
    session.given.iter().any(|given| given.key == option && matches!(given.origin, Origin::File(_)))
}

/// Where the options take the credential for the REST API from. The two options cannot be used together, but a flag takes
/// precedence over the environment, and that over the file.
pub(super) fn api_only<'a>(server: &'a Server, session: &Session) -> Result<Files<'a>, Error> {
    let rank = |option: &str| {
        session.given.iter().find(|given| given.key == option).map(|given| given.origin.rank())
    };
    let (api, command) = (server.token_file.as_deref(), server.token_command.as_deref());
    let app = server.app.named(rank)?;
    let mut named = Vec::new();
    named.extend(api.map(|_| "token-file"));
    named.extend(command.map(|_| "token-command"));
    named.extend(app.as_ref().map(|_| "app-id"));
    named.sort_by_key(|option| Reverse(rank(option)));
    if let [one, other, ..] = named[..]
        && rank(one) == rank(other)
    {
        return Err(Error::Contradiction(format!("--{one} and --{other} cannot be used together")));
    }
    let chosen = |option: &str| named.first() == Some(&option);
    Ok(Files {
        api: api.filter(|_| chosen("token-file")),
        command: command.filter(|_| chosen("token-command")),
        app: app.filter(|_| chosen("app-id")),
        ..Files::default()
    })
}

/// Refuses an App where GitHub has no calls for one.
pub(super) fn check_app(target: Option<&Target>, credentials: &Credentials) -> Result<(), AppError> {
    match (target.map(|target| &target.scope), &credentials.api) {
        (Some(Scope::Enterprise(name)), Some(Credential::App(_))) => {
            Err(AppError::Enterprise { name: name.to_string() })
        }
        _ => Ok(()),
    }
}
