//! The sandbox's own calls under `/_sandbox`, for other processes. They need the API token.

use super::deprecation::Deprecation;
use super::fault::Fault;
use super::job::NewJob;
use super::reply::Reply;
use super::request::Request;
use super::route::Control;
use super::scope::Scope;
use super::server::Shared;
use super::token::CredentialKind;
use super::update::Update;
use super::world::{NewRunner, RunnerChange, World};
use crate::secret::Secret;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct NewVersion {
    version: String,
}

/// A runner of another machine.
#[derive(Deserialize)]
struct ElsewhereRunner {
    scope: String,
    name: String,
}

/// Answers one control call.
pub(super) fn answer(shared: &Shared, control: Control, request: &Request) -> Reply {
    if request.credential.kind != CredentialKind::Api {
        return Reply::bad_credentials();
    }
    let mut world = shared.world();
    match control {
        Control::State => Reply::json(200, &json!(world.snapshot())),
        Control::Requests => Reply::json(200, &json!(world.requests)),
        Control::AddFault => add_fault(&mut world, request),
        Control::ClearFaults => {
            world.end_faults();
            Reply::no_content()
        }
        Control::PatchRunner(id) => match request.json::<RunnerChange>() {
            Some(change) if world.change(id, change) => Reply::no_content(),
            Some(_) => Reply::not_found(),
            None => Reply::message(400, "Problems parsing JSON"),
        },
        Control::Offer => match request.json::<NewVersion>() {
            Some(new) if super::is_version(&new.version) => {
                world.offer(&new.version);
                Reply::no_content()
            }
            Some(new) => Reply::message(422, &format!("{:?} is not a runner version", new.version)),
            None => Reply::message(400, "Problems parsing JSON"),
        },
        Control::Deprecate => match request.json::<Deprecation>().map(|new| (new.check(), new)) {
            Some((Ok(()), new)) => {
                world.deprecate(new);
                Reply::no_content()
            }
            Some((Err(error), _)) => Reply::message(422, &error),
            None => Reply::message(400, "Problems parsing JSON"),
        },
        Control::AddJob => {
            let Some(job) = request.json::<NewJob>() else {
                return Reply::message(400, "Problems parsing JSON");
            };
            match job.scope.parse::<Scope>() {
                Ok(scope) => Reply::json(201, &json!({"id": world.add_job(scope, job)})),
                Err(error) => Reply::message(422, &error),
            }
        }
        Control::AddRunner => add_runner(&mut world, request),
        Control::Tokens => {
            let issued = world.tokens.issued();
            Reply::json(200, &json!(issued.iter().map(Secret::expose).collect::<Vec<_>>()))
        }
        Control::AddUpdate => match request.json::<Update>() {
            Some(update) if update.is_valid() => {
                world.updates.push(update);
                Reply::no_content()
            }
            Some(update) => Reply::message(422, &format!("{:?} is not a runner version", update.version)),
            None => Reply::message(400, "Problems parsing JSON"),
        },
    }
}

fn add_fault(world: &mut World, request: &Request) -> Reply {
    match request.json::<Value>().map(serde_json::from_value::<Fault>) {
        Some(Ok(fault)) => match fault.check() {
            Ok(()) => {
                world.faults.push(fault);
                Reply::no_content()
            }
            Err(error) => Reply::message(422, &error.to_string()),
        },
        Some(Err(error)) => Reply::message(422, &error.to_string()),
        None => Reply::message(400, "Problems parsing JSON"),
    }
}

fn add_runner(world: &mut World, request: &Request) -> Reply {
    let Some(new) = request.json::<ElsewhereRunner>() else {
        return Reply::message(400, "Problems parsing JSON");
    };
    let scope = match new.scope.parse::<Scope>() {
        Ok(scope) => scope,
        Err(error) => return Reply::message(422, &error),
    };
    let newest = world.newest().to_owned();
    match world.register(scope, NewRunner::elsewhere(&new.name, &newest, Vec::new())) {
        Ok(runner) => Reply::json(201, &json!({"id": runner.record.id})),
        Err(_) => Reply::message(409, "the name is taken"),
    }
}
