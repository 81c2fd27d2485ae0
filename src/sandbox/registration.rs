//! The calls of `config.sh`: exchanging its token, and adding and removing its runner.

use super::fault::{FaultKind, Unsupported};
use super::reply::Reply;
use super::request::Request;
use super::rest;
use super::route::Route;
use super::scope::Scope;
use super::server::Shared;
use super::token::CredentialKind;
use super::world::NewRunner;
use serde::Deserialize;
use serde_json::json;

/// The kinds of credential for these calls.
const REGISTER: [CredentialKind; 2] = [CredentialKind::Exchanged, CredentialKind::Registration];
const REMOVE: [CredentialKind; 3] =
    [CredentialKind::Exchanged, CredentialKind::Remove, CredentialKind::Registration];

#[derive(Deserialize)]
struct Exchange {
    url: String,
    runner_event: String,
}

#[derive(Deserialize)]
struct Registration {
    url: String,
    #[serde(flatten)]
    runner: NewRunner,
}

/// Answers one call of the runner. For any problem with its token, GitHub answers 404.
pub(super) fn answer(shared: &Shared, route: &Route, request: &Request, faults: &[FaultKind]) -> Reply {
    if faults.contains(&FaultKind::ExpiredToken) || route.scope().is_some_and(Scope::is_missing) {
        return Reply::not_found();
    }
    match route {
        Route::RunnerRegistration => exchange(shared, request, faults),
        Route::Register => register(shared, request, faults),
        Route::RunnerList(scope) if request.credential.is(&REMOVE, scope) => {
            rest::list_runners(&shared.world(), scope, request, faults)
        }
        Route::GroupsOfRunner(scope) if request.credential.is(&REGISTER, scope) => {
            rest::groups(&shared.world())
        }
        Route::RunnerDelete(scope, id) if request.credential.is(&REMOVE, scope) => remove(shared, scope, *id),
        _ => Reply::not_found(),
    }
}

/// `POST /actions/runner-registration`: a registration or remove token for a credential of the runner service.
fn exchange(shared: &Shared, request: &Request, faults: &[FaultKind]) -> Reply {
    let Some(asked) = request.json::<Exchange>() else { return Reply::not_found() };
    let Some(scope) = Scope::of_runner_url(&asked.url).filter(|scope| !scope.is_missing()) else {
        return Reply::not_found();
    };
    let kind = match asked.runner_event.as_str() {
        "register" => CredentialKind::Registration,
        "remove" => CredentialKind::Remove,
        _ => return Reply::not_found(),
    };
    if !request.credential.by_runner() || !request.credential.is(&[kind], &scope) {
        return Reply::not_found();
    }
    let mut world = shared.world();
    world.tokens.used(request.header("authorization"));
    let (token, _) = world.tokens.issue(CredentialKind::Exchanged, scope, false);
    let mut answer = json!({
        "url": format!("{}_services/pipelines/", request.base),
        "token_schema": "OAuthAccessToken",
        "token": token.expose(),
        "use_v2_flow": true,
    });
    let act =
        faults.iter().find_map(|fault| if let FaultKind::Script { act } = fault { Some(*act) } else { None });
    if let Some(act) = act {
        answer["sandbox_fault"] = json!(act.word());
    }
    Reply::json(200, &answer)
}

/// `POST /actions/runners/register`: adds the runner, or replaces the one with this name.
fn register(shared: &Shared, request: &Request, faults: &[FaultKind]) -> Reply {
    let Some(mut asked) = request.json::<Registration>() else {
        return Reply::message(422, "Invalid request.");
    };
    let scope = Scope::of_runner_url(&asked.url);
    let Some(scope) = scope.filter(|scope| request.credential.is(&REGISTER, scope)) else {
        return Reply::not_found();
    };
    let name = asked.runner.name.clone();
    let mut world = shared.world();
    let version = &asked.runner.version;
    if world.refuses_to_register(version) {
        // GitHub's message for this is not documented; this is modelled on the listener's message.
        let message = format!("Runner version v{version} is deprecated and cannot register.");
        return Reply::message(403, &message);
    }
    let unsupported = unsupported(&mut asked.runner, faults);
    let Ok(runner) = world.register(scope, asked.runner) else {
        return Reply::message(409, &format!("A runner with the name {name} already exists."));
    };
    let mut answer = json!({
        "id": runner.record.id,
        "name": runner.record.name,
        "authorization": {
            "authorization_url": format!("{}_services/token", request.base),
            "server_url": format!("{}_services/", request.base),
            "client_id": runner.client.expose(),
        },
    });
    if let Some(flag) = unsupported {
        answer["sandbox_unsupported"] = json!(flag.word());
    }
    Reply::json(201, &answer)
}

/// Removes the features that this server does not support; returns the first one that was requested.
fn unsupported(new: &mut NewRunner, faults: &[FaultKind]) -> Option<Unsupported> {
    let mut found = None;
    for fault in faults {
        let FaultKind::Unsupported { flag } = fault else { continue };
        let requested = match flag {
            Unsupported::Ephemeral => &mut new.ephemeral,
            Unsupported::DisableUpdate => &mut new.disable_update,
        };
        if std::mem::take(requested) {
            found = found.or(Some(*flag));
        }
    }
    found
}

fn remove(shared: &Shared, scope: &Scope, id: u64) -> Reply {
    let mut world = shared.world();
    match world.runner(scope, id) {
        None => Reply::not_found(),
        Some(runner) if runner.record.busy => {
            Reply::message(422, &format!("Runner {:?} is still running a job", runner.record.name))
        }
        Some(_) => {
            world.delete(id);
            Reply::no_content()
        }
    }
}
