//! The calls of a listener: its session, its messages, its jobs.
//!
//! This is not GitHub's protocol, which is long-polling, encrypted and large; only what can be seen from outside is the
//! same: when the runner is online and busy, and when it is gone.

use super::fault::FaultKind;
use super::reply::Reply;
use super::request::Request;
use super::route::Route;
use super::server::Shared;
use super::token::CredentialKind;
use super::update;
use super::world::World;
use serde::Deserialize;
use serde_json::json;
use std::time::Instant;

/// What a listener tells of itself when it opens its session.
#[derive(Deserialize)]
struct Opening {
    version: String,
    platform: Option<String>,
}

/// Whether the version of a listener that wants a session gets none any more.
fn is_deprecated(world: &mut World, id: u64, request: &Request) -> bool {
    // A runner may have updated itself since it registered.
    let said = request.json::<Opening>().map(|opening| opening.version);
    let version = said.or_else(|| Some(world.runner_by_id(id)?.record.version.clone()));
    version.is_some_and(|version| world.refuses_to_talk_to(&version))
}

/// Answers one call of a listener.
pub(super) fn answer(shared: &Shared, route: &Route, request: &Request, faults: &[FaultKind]) -> Reply {
    let mut world = shared.world();
    world.age();
    // A deleted or replaced runner's credential is not known any more.
    if request.credential.kind != CredentialKind::Runner {
        return Reply::not_found();
    }
    let Some(id) = request.credential.runner else { return Reply::not_found() };
    if matches!(route, Route::Session) && is_deprecated(&mut world, id, request) {
        return Reply::message(426, "This version of the runner is deprecated.");
    }
    let Some(runner) = world.runner_by_id(id) else { return Reply::not_found() };
    match route {
        Route::Session => {
            let exit = faults.iter().find_map(|fault| match fault {
                FaultKind::Exit { code } => Some(*code),
                _ => None,
            });
            if let Some(code) = exit {
                return Reply::json(200, &json!({"sandbox_exit": code}));
            }
            if runner.seen.is_some() {
                return Reply::message(409, "A session for this runner already exists.");
            }
            runner.record.online = true;
            runner.seen = Some(Instant::now());
            if let Some(opening) = request.json::<Opening>() {
                runner.record.version = opening.version;
                runner.platform = opening.platform;
            }
            Reply::json(200, &json!({"session_id": id}))
        }
        Route::SessionEnd => {
            runner.record.online = false;
            runner.record.busy = false;
            runner.seen = None;
            Reply::no_content()
        }
        Route::Message => {
            runner.seen = Some(Instant::now());
            runner.record.online = true;
            let scope = runner.record.scope.clone();
            if let Some(message) = update::message(shared, &mut world, id, &request.base) {
                return Reply::json(200, &message);
            }
            let waiting = |job: &&mut super::JobRecord| job.scope == scope && job.runner.is_none();
            let Some(job) = world.jobs.iter_mut().find(waiting) else { return Reply::no_content() };
            job.runner = Some(id);
            let answer = json!({"job_id": job.id, "job_name": job.name, "seconds": job.seconds});
            if let Some(runner) = world.runner_by_id(id) {
                runner.record.busy = true;
            }
            Reply::json(200, &answer)
        }
        Route::JobDone(job) => {
            runner.record.busy = false;
            runner.seen = Some(Instant::now());
            let ephemeral = runner.record.ephemeral;
            let mine = world.jobs.iter_mut().find(|record| record.id == *job && record.runner == Some(id));
            let Some(record) = mine else { return Reply::not_found() };
            record.done = true;
            if ephemeral {
                world.delete(id);
            }
            Reply::no_content()
        }
        _ => Reply::not_found(),
    }
}
