//! The calls of a listener: its session, its messages, its jobs.
//!
//! This is not GitHub's protocol, which is long-polling, encrypted and large; only its effects are the same: when the
//! runner is online, busy, and deleted.

use super::fault::FaultKind;
use super::job::JobResult;
use super::reply::Reply;
use super::request::Request;
use super::route::Route;
use super::server::Shared;
use super::token::CredentialKind;
use super::update;
use super::world::{Runner, World};
use serde::Deserialize;
use serde_json::json;
use std::time::Instant;

/// What a listener sends when it opens its session.
#[derive(Deserialize)]
struct Opening {
    version: String,
    platform: Option<String>,
}

/// What a listener sends at the end of a job.
#[derive(Deserialize)]
struct End {
    result: JobResult,
}

/// Whether the version of a listener is too old for a session.
fn is_deprecated(world: &mut World, id: u64, request: &Request) -> bool {
    // The runner can have updated itself since it registered.
    let said = request.json::<Opening>().map(|opening| opening.version);
    let version = said.or_else(|| Some(world.runner_by_id(id)?.record.version.clone()));
    version.is_some_and(|version| world.refuses_to_talk_to(&version))
}

/// Answers one call of a listener.
pub(super) fn answer(shared: &Shared, route: &Route, request: &Request, faults: &[FaultKind]) -> Reply {
    let mut world = shared.world();
    world.age();
    if request.credential.kind != CredentialKind::Runner {
        return unknown_client(&world, request, faults);
    }
    let Some(id) = request.credential.runner else { return Reply::not_found() };
    if matches!(route, Route::Session) && is_deprecated(&mut world, id, request) {
        return Reply::message(426, "This version of the runner is deprecated.");
    }
    let Some(runner) = world.runner_by_id(id) else { return Reply::not_found() };
    match route {
        Route::Session => open(runner, request, faults),
        Route::SessionEnd => {
            runner.record.online = false;
            runner.record.busy = false;
            runner.seen = None;
            world.end_jobs(id, JobResult::Canceled);
            Reply::no_content()
        }
        Route::Message => next_message(shared, &mut world, id, request),
        Route::JobScript(job) => match world.running_job(*job, id).and_then(|job| job.script.clone()) {
            Some(script) => Reply { status: 200, headers: Vec::new(), body: script.into() },
            None => Reply::not_found(),
        },
        Route::JobLog(job) => match world.running_job(*job, id) {
            Some(job) => {
                job.keep_log(&request.body);
                Reply::no_content()
            }
            None => Reply::not_found(),
        },
        Route::JobTaken(job) => match world.running_job(*job, id) {
            Some(job) => {
                job.acknowledged = true;
                Reply::no_content()
            }
            None => Reply::not_found(),
        },
        Route::JobDone(job) => {
            runner.record.busy = false;
            runner.seen = Some(Instant::now());
            let ephemeral = runner.record.ephemeral;
            let Some(record) = world.running_job(*job, id) else { return Reply::not_found() };
            record.done = true;
            record.result = Some(request.json::<End>().map_or(JobResult::Succeeded, |end| end.result));
            if ephemeral {
                world.delete(id);
            }
            Reply::no_content()
        }
        _ => Reply::not_found(),
    }
}

/// A listener begins its session.
fn open(runner: &mut Runner, request: &Request, faults: &[FaultKind]) -> Reply {
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
    Reply::json(200, &json!({"session_id": runner.record.id}))
}

/// The next message for a listener, if there is one: an update or a job.
fn next_message(shared: &Shared, world: &mut World, id: u64, request: &Request) -> Reply {
    let Some(runner) = world.runner_by_id(id) else { return Reply::not_found() };
    runner.seen = Some(Instant::now());
    runner.record.online = true;
    // Called while a job runs, so that the session continues.
    if request.query("status") == Some("Busy") {
        return Reply::no_content();
    }
    if let Some(message) = update::message(shared, world, id, &request.base) {
        return Reply::json(200, &message);
    }
    let Some(job) = world.take_job(id) else { return Reply::no_content() };
    if let Some(runner) = world.runner_by_id(id) {
        runner.record.busy = true;
    }
    let script = job.script.is_some();
    Reply::json(
        200,
        &json!({"job_id": job.id, "job_name": job.name, "seconds": job.seconds, "script": script}),
    )
}

/// A deleted runner is not found; the credential of a replaced one is refused, as by GitHub's token service.
fn unknown_client(world: &World, request: &Request, faults: &[FaultKind]) -> Reply {
    if faults.contains(&FaultKind::Forgotten) {
        let description = "Registration 00000000-0000-4000-8000-000000000000 was not found.";
        return Reply::json(400, &json!({"error": "invalid_request", "error_description": description}));
    }
    let header = request.header("authorization").and_then(|header| header.split_once(' '));
    if header.is_some_and(|(_, client)| world.was_rotated(client.trim())) {
        return Reply::json(400, &json!({"error": "invalid_client"}));
    }
    Reply::not_found()
}
