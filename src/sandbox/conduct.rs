//! What no good client does: calls that GitHub would answer, or refuse, without saying that they endanger a runner or a
//! token. They are only recorded; a test decides whether there may be any.

use super::clock;
use super::fault::FaultKind;
use super::reply::Reply;
use super::request::Request;
use super::route::Route;
use super::token::CredentialKind;
use super::world::World;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// A clock's imprecision: the client counts from the arrival of the answer.
const TOLERANCE: Duration = Duration::from_millis(20);

/// What was seen of the clients so far.
#[derive(Debug, Default)]
pub(super) struct Conduct {
    /// The runners that an answer has mentioned. Ids are not guessed.
    told: BTreeSet<u64>,
    /// Until when the API is not to be called.
    limited: Option<Instant>,
    /// A runner was registered since the record of the requests was cleared.
    has_new: bool,
    /// The credentials that have registered a runner.
    registered: BTreeSet<String>,
    violations: Vec<String>,
}

impl Conduct {
    pub fn violations(&self) -> Vec<String> {
        self.violations.clone()
    }

    /// Adds one that a call has noticed.
    pub fn note(&mut self, what: String) {
        self.violations.push(what);
    }

    /// The API may be called again.
    pub fn forgive(&mut self) {
        self.limited = None;
    }

    /// From here on, no runner is new.
    pub fn begin(&mut self) {
        self.has_new = false;
    }
}

/// Checks a request before it is carried out; `host` is the name under which the server was started.
pub(super) fn look(world: &mut World, route: &Route, request: &Request, host: &str) {
    let mut found = Vec::new();
    let kind = request.credential.kind;
    let asked = request.header("host").unwrap_or_default();
    if kind != CredentialKind::None && asked != host {
        found.push(format!("sent a credential ({kind:?}) to {asked}, which is another host than {host}"));
    }
    let is_archive = matches!(route, Route::Archive(..) | Route::Mirror(..));
    if is_archive && !matches!(kind, CredentialKind::None | CredentialKind::Download) {
        found.push(format!("sent a credential ({kind:?}) with the request for an archive"));
    }
    let is_early = || world.conduct.limited.is_some_and(|until| Instant::now() + TOLERANCE < until);
    if is_rest(route) && !request.credential.by_runner() && is_early() {
        let new = if world.conduct.has_new { ", with a new runner" } else { "" };
        found.push(format!("called the API before the time after which it was told to{new}"));
    }
    match route {
        Route::RunnerRegistration => {
            let event =
                request.json::<Value>().and_then(|body| Some(body["runner_event"].as_str()?.to_owned()));
            let fits = match kind {
                CredentialKind::Registration => event.as_deref() == Some("register"),
                CredentialKind::Remove => event.as_deref() == Some("remove"),
                _ => false,
            };
            if !fits {
                found
                    .push(format!("used a credential of the kind {kind:?} to {}", event.unwrap_or_default()));
            }
        }
        Route::DeleteRunner(scope, id) | Route::RunnerDelete(scope, id) => {
            if !world.conduct.told.contains(id) {
                found.push(format!("deleted the runner {id}, of which no answer has told it"));
            }
            if world.runner(scope, *id).is_some_and(|runner| runner.record.busy) {
                found.push(format!("deleted the runner {id}, which was running a job"));
            }
        }
        _ => {}
    }
    let call = format!("{} {}: ", request.method, request.path);
    world.conduct.violations.extend(found.into_iter().map(|what| call.clone() + &what));
}

/// Learns from an answer what the client now knows.
pub(super) fn answered(
    world: &mut World,
    route: &Route,
    request: &Request,
    reply: &Reply,
    faults: &[FaultKind],
) {
    let arrives = !faults.iter().any(|fault| {
        matches!(fault, FaultKind::LostAnswer | FaultKind::Cut { .. } | FaultKind::Stall { .. })
    });
    if arrives && matches!(reply.status, 403 | 429) && is_rest(route) && !request.credential.by_runner() {
        // A later refusal that names no time, or an earlier one, does not lift the limit.
        let until = wait_of(reply).map(|wait| Instant::now() + wait);
        world.conduct.limited = world.conduct.limited.max(until);
    }
    world.conduct.has_new |= matches!(route, Route::Register | Route::JitConfig(_)) && reply.status == 201;
    if matches!(route, Route::Register) && reply.status == 201 {
        let credential = request.header("authorization").unwrap_or_default().to_owned();
        if !world.conduct.registered.insert(credential) {
            let call = format!("{} {}: ", request.method, request.path);
            world.conduct.violations.push(call + "registered a second runner with one token");
        }
    }
    let tells = matches!(
        route,
        Route::ListRunners(_)
            | Route::RunnerList(_)
            | Route::GetRunner(..)
            | Route::JitConfig(_)
            | Route::Register
    );
    if arrives
        && tells
        && let Ok(body) = serde_json::from_slice::<Value>(&reply.body)
    {
        tell(&mut world.conduct.told, &body);
    }
}

/// How long the answer asks the client to wait: by `retry-after`, or until its primary limit is reset.
fn wait_of(reply: &Reply) -> Option<Duration> {
    let header = |wanted: &str| {
        let found = reply.headers.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, value)| value.as_str())
    };
    if let Some(seconds) = header("retry-after") {
        return seconds.parse().ok().map(Duration::from_secs);
    }
    header("x-ratelimit-remaining").filter(|left| *left == "0")?;
    let reset = jiff::Timestamp::from_second(header("x-ratelimit-reset")?.parse().ok()?).ok()?;
    Duration::try_from(reset.duration_since(clock::now(0))).ok()
}

/// The calls that need the API token.
fn is_rest(route: &Route) -> bool {
    route.scope().is_some()
}

/// The ids of the runners in a document; labels have ids of their own.
fn tell(told: &mut BTreeSet<u64>, document: &Value) {
    match document {
        Value::Array(items) => items.iter().for_each(|item| tell(told, item)),
        Value::Object(fields) => {
            if fields.contains_key("name") {
                told.extend(fields.get("id").and_then(Value::as_u64));
            }
            fields.iter().filter(|(name, _)| *name != "labels").for_each(|(_, value)| tell(told, value));
        }
        _ => {}
    }
}
