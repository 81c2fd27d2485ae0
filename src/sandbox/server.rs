//! The server: reads a request, finds its route, applies faults, runs the call, and writes the answer.

use super::archive::Archives;
use super::body::{Piece, ScriptedBody};
use super::fault::FaultKind;
use super::reply::Reply;
use super::request::{self, Request};
use super::route::Route;
use super::world::{RequestRecord, World};
use super::{clock, conduct, control, download, limit, registration, rest, session};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use url::Url;

/// The longest request that is read; none of GitHub's API or of the runner is longer.
const BODY_LIMIT: usize = 1 << 20;

/// The state that all requests share.
pub(super) struct Shared {
    pub base: Url,
    pub archives: Archives,
    pub stop: CancellationToken,
    pub started: Instant,
    world: Mutex<World>,
}

impl Shared {
    pub fn new(base: Url, world: World, archives: Archives) -> Self {
        Self {
            base,
            archives,
            stop: CancellationToken::new(),
            started: Instant::now(),
            world: Mutex::new(world),
        }
    }

    /// The state. The lock is never held across an await.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers one request.
pub(super) async fn answer(
    State(shared): State<Arc<Shared>>,
    asked: axum::extract::Request,
) -> Response<Body> {
    let (parts, body) = asked.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_LIMIT).await else {
        return write(&shared, Reply::message(413, "Payload Too Large"), &[], "");
    };
    let request = read(&shared, &parts, body);
    let segments = request::segments(&request.path);
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let route = Route::of(&request.method, &segments, request.credential.by_runner());
    if let Route::Control(control) = route {
        return write(&shared, control::answer(&shared, control, &request), &[], "");
    }
    let (number, faults) = {
        let mut world = shared.world();
        world.requests.push(record(&request, &parts.uri, &route, shared.started));
        let host = shared.base[url::Position::BeforeHost..url::Position::AfterPort].to_owned();
        conduct::look(&mut world, &route, &request, &host);
        (world.requests.len() - 1, world.strike(route.name()))
    };
    tracing::debug!(route = route.name(), method = %request.method, path = %request.path, faults = faults.len(), "request");
    let by_runner = request.credential.by_runner();
    let (reply, admitted) = match limit::admit(&shared, &route, &request.method, by_runner) {
        Err(refusal) => (refusal, None),
        Ok(admitted) => {
            for fault in &faults {
                if let FaultKind::Delay { ms } = fault {
                    wait(&shared, *ms).await;
                }
            }
            let reply = instead(&shared, &route, &request, &faults)
                .unwrap_or_else(|| admitted.mark(act(&shared, &route, &request, &faults)));
            (reply, Some(admitted))
        }
    };
    if matches!(route, Route::Message) && reply.status == 204 {
        let hold = shared.world().message_hold;
        wait(&shared, u64::try_from(hold.as_millis()).unwrap_or(u64::MAX)).await;
    }
    for fault in &faults {
        if let FaultKind::DelayAfter { ms } = fault {
            wait(&shared, *ms).await;
        }
    }
    drop(admitted);
    if let Some(record) = shared.world().requests.get_mut(number) {
        record.status = Some(reply.status);
    }
    conduct::answered(&mut shared.world(), &route, &request, &reply, &faults);
    let lost = faults.iter().any(|fault| matches!(fault, FaultKind::LostAnswer));
    let reply = if lost { Reply::message(502, "Bad Gateway") } else { reply };
    write(&shared, reply, &faults, &request.method)
}

fn read(shared: &Shared, parts: &axum::http::request::Parts, body: Bytes) -> Request {
    let header = |name: HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let host = header(header::HOST).unwrap_or_default();
    // Links use the host name of the request, because the client can be on another machine, and the scheme that a server
    // in front of this one, which ends the TLS connection, says.
    let secure = header(HeaderName::from_static("x-forwarded-proto")) == Some("https");
    let scheme = if secure { "https" } else { "http" };
    let base = Url::parse(&format!("{scheme}://{host}/")).unwrap_or_else(|_| shared.base.clone());
    let credential = shared.world().identify(header(header::AUTHORIZATION));
    Request {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: request::pairs(parts.uri.query().unwrap_or_default()),
        headers: parts.headers.clone(),
        body,
        credential,
        base,
    }
}

fn record(request: &Request, uri: &axum::http::Uri, route: &Route, started: Instant) -> RequestRecord {
    RequestRecord {
        method: request.method.clone(),
        path: uri.path_and_query().map_or_else(String::new, ToString::to_string),
        host: request.header("host").unwrap_or_default().to_owned(),
        route: route.name().to_owned(),
        scheme: request.credential.scheme.clone(),
        credential: request.credential.kind,
        range: request.header("range").map(str::to_owned),
        user_agent: request.header("user-agent").map(str::to_owned),
        at: started.elapsed(),
        status: None,
    }
}

/// Waits, unless the sandbox stops.
async fn wait(shared: &Shared, ms: u64) {
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(ms)) => {}
        () = shared.stop.cancelled() => {}
    }
}

/// The answer of a fault instead of the call, which then is not carried out.
fn instead(shared: &Shared, route: &Route, request: &Request, faults: &[FaultKind]) -> Option<Reply> {
    faults.iter().find_map(|fault| match fault {
        FaultKind::Status { code, body, .. } => Some(match body {
            Some(body) => Reply { status: *code, headers: Vec::new(), body: Bytes::from(body.clone()) },
            None => Reply::message(*code, "This is a fault of the sandbox"),
        }),
        FaultKind::Html { status } => Some(Reply::html(*status)),
        FaultKind::NotJson => Some(Reply {
            status: 200,
            headers: vec![("content-type", "application/json; charset=utf-8".to_owned())],
            body: Bytes::from_static(b"{\"total_count\": 1, \"runners\": [{\"id\":"),
        }),
        FaultKind::Redirect { url } => {
            let url = url.clone().unwrap_or_else(|| elsewhere(shared, route, request));
            Some(Reply::message(302, "Found").with("location", url))
        }
        FaultKind::RateLimit { seconds } => {
            let seconds = i64::try_from(*seconds).unwrap_or(i64::MAX);
            Some(
                Reply::message(403, "API rate limit exceeded for user ID 1.")
                    .with("x-ratelimit-remaining", "0")
                    .with("x-ratelimit-reset", clock::now(seconds).as_second().to_string()),
            )
        }
        FaultKind::RetryAfter { seconds } => Some(
            Reply::message(429, "You have exceeded a secondary rate limit.")
                .with("retry-after", seconds.to_string()),
        ),
        _ => None,
    })
}

/// The same machine under another host name, where an archive needs no credential, as on a storage host.
fn elsewhere(shared: &Shared, route: &Route, request: &Request) -> String {
    let host = if request.base.host_str() == Some("localhost") { "127.0.0.1" } else { "localhost" };
    let port = shared.base.port().unwrap_or(80);
    match route {
        Route::Archive(platform, version) => {
            format!("http://{host}:{port}/_sandbox/mirror/{platform}/{version}")
        }
        _ => format!("http://{host}:{port}{}", request.path),
    }
}

fn act(shared: &Shared, route: &Route, request: &Request, faults: &[FaultKind]) -> Reply {
    match route {
        Route::Archive(..) | Route::Mirror(..) => download::answer(shared, route, request, faults),
        Route::MirrorSums => download::sums(shared, faults),
        Route::RunnerRegistration
        | Route::Register
        | Route::RunnerList(_)
        | Route::GroupsOfRunner(_)
        | Route::RunnerDelete(..) => registration::answer(shared, route, request, faults),
        Route::Session
        | Route::SessionEnd
        | Route::Message
        | Route::JobScript(_)
        | Route::JobLog(_)
        | Route::JobTaken(_)
        | Route::JobDone(_) => session::answer(shared, route, request, faults),
        _ => {
            let refused = rest::refusal(route, request);
            let reply = refused.unwrap_or_else(|| rest::answer(shared, route, request, faults));
            rest::with_scopes(reply, route, request)
        }
    }
}

/// Writes the answer, after faults have changed headers and body.
fn write(shared: &Shared, reply: Reply, faults: &[FaultKind], method: &str) -> Response<Body> {
    let mut length = reply.body.len();
    let mut skew = 0;
    let mut more: Vec<(String, String)> = vec![
        ("x-github-request-id".to_owned(), request_id()),
        ("x-ratelimit-limit".to_owned(), "5000".to_owned()),
        ("x-ratelimit-remaining".to_owned(), "4999".to_owned()),
        ("x-ratelimit-reset".to_owned(), clock::now(3600).as_second().to_string()),
        ("x-ratelimit-resource".to_owned(), "core".to_owned()),
    ];
    more.extend(reply.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    for fault in faults {
        match fault {
            FaultKind::Clock { seconds } => skew = *seconds,
            FaultKind::WrongLength { by } => {
                length = length.saturating_add_signed(isize::try_from(*by).unwrap_or_default());
            }
            FaultKind::Status { headers, .. } => more.extend(headers.clone()),
            _ => {}
        }
    }
    more.push(("date".to_owned(), clock::http_date(clock::now(skew))));
    // A 204 has no body and no length.
    if reply.status != 204 && method != "HEAD" {
        more.push(("content-length".to_owned(), length.to_string()));
    }
    let body = ScriptedBody::new(pieces(reply.body, faults), shared.stop.clone());
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in more {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// The order in which the body is sent.
fn pieces(body: Bytes, faults: &[FaultKind]) -> Vec<Piece> {
    // Time for sending the data before, because an error discards buffered data.
    let flush = || Piece::Pause(Duration::from_millis(1));
    for fault in faults {
        match fault {
            FaultKind::Cut { after } => {
                return vec![Piece::Data(body.slice(..(*after).min(body.len()))), flush(), Piece::Fail];
            }
            FaultKind::Stall { after } => {
                return vec![Piece::Data(body.slice(..(*after).min(body.len()))), Piece::Forever];
            }
            FaultKind::WrongLength { .. } => return vec![Piece::Data(body), flush()],
            FaultKind::Slow { bytes_per_second } => {
                let step = usize::try_from(bytes_per_second.div_ceil(20)).unwrap_or(usize::MAX).max(1);
                let mut pieces = Vec::new();
                let mut left = body;
                while !left.is_empty() {
                    pieces.push(Piece::Data(left.split_to(step.min(left.len()))));
                    pieces.push(Piece::Pause(Duration::from_millis(50)));
                }
                return pieces;
            }
            _ => {}
        }
    }
    vec![Piece::Data(body)]
}

fn request_id() -> String {
    format!("{:04X}:{:06X}:{:08X}", fastrand::u16(..), fastrand::u32(..1 << 24), fastrand::u32(..))
}
