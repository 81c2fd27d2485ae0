//! The REST calls under `/api/v3`, as GitHub documents them.

use super::archive::Platform;
use super::fault::FaultKind;
use super::limit::Limiter;
use super::reply::Reply;
use super::request::Request;
use super::route::Route;
use super::scope::{Policy, Scope};
use super::server::Shared;
use super::token::CredentialKind;
use super::world::{NewRunner, RunnerRecord, World, is_read_only};
use super::{app, base64, clock};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The versions of the API that are supported.
const API_VERSIONS: [&str; 2] = ["2022-11-28", "2026-03-10"];

/// The checks of every REST call: user agent, API version, credential, scope.
pub(super) fn refusal(route: &Route, request: &Request) -> Option<Reply> {
    if request.header("user-agent").is_none() {
        return Some(Reply::message(
            403,
            "Request forbidden by administrative rules. Please make sure your request has a User-Agent header",
        ));
    }
    if let Some(version) = request.header("x-github-api-version")
        && !API_VERSIONS.contains(&version)
    {
        return Some(Reply::message(400, &format!("{version:?} is not a supported version")));
    }
    if matches!(
        route,
        Route::Meta
            | Route::RateLimit
            | Route::LatestRelease
            | Route::Release(_)
            | Route::Installation(_)
            | Route::AccessTokens(_)
    ) {
        return None;
    }
    let credential = &request.credential;
    match credential.kind {
        CredentialKind::Api if !credential.expired && is_api_scheme(&credential.scheme) => {}
        CredentialKind::Weak if is_api_scheme(&credential.scheme) => {
            let refused = Reply::message(403, "Resource not accessible by personal access token");
            let permission = route.scope().and_then(|scope| scope.permission(request.method != "GET"));
            return Some(match permission {
                Some(permission) => refused.with("x-accepted-github-permissions", permission),
                None => refused,
            });
        }
        CredentialKind::Installation if !credential.expired && is_api_scheme(&credential.scheme) => {
            let reaches =
                |scope: &Scope| credential.scope.as_ref().is_some_and(|installed| installed.reaches(scope));
            if !route.scope().is_some_and(reaches) {
                return Some(Reply::message(403, "Resource not accessible by integration"));
            }
        }
        _ => return Some(Reply::bad_credentials()),
    }
    let scope = route.scope()?;
    if scope.is_missing() {
        return Some(Reply::not_found());
    }
    policy(route, scope, request)
}

/// What the owner of a scope has forbidden, whatever the credential may do otherwise.
fn policy(route: &Route, scope: &Scope, request: &Request) -> Option<Reply> {
    let (owner, _) = scope.names();
    let creates = matches!(route, Route::RegistrationToken(_) | Route::JitConfig(_));
    match scope.policy()? {
        // A GitHub App is authorized where it is installed.
        Policy::SignOn if request.credential.kind == CredentialKind::Api => {
            let page = format!("{}orgs/{owner}/sso?authorization_request=AZSCKL4U", request.base);
            let message = "Resource protected by organization SAML enforcement. You must grant your Personal Access \
                           token access to this organization.";
            Some(Reply::message(403, message).with("x-github-sso", format!("required; url={page}")))
        }
        Policy::Addresses => Some(Reply::message(
            403,
            &format!(
                "Although you appear to have the correct authorization credentials, the `{owner}` organization has an \
                 IP allow list enabled, and your IP address is not permitted to access this resource."
            ),
        )),
        Policy::NoClassic if request.credential.kind == CredentialKind::Api => Some(Reply::message(
            403,
            &format!(
                "`{owner}` forbids access via a personal access token (classic). Please use a GitHub App, OAuth App, or \
                 a personal access token with fine-grained permissions."
            ),
        )),
        // The reason is a text in `errors`, and not in `message`. Everything but creating a runner works.
        Policy::NoRunners if creates => {
            let errors = "Repository level self-hosted runners are disabled on this repository";
            let mut body = json!({"errors": errors, "documentation_url": "https://docs.github.com/rest"});
            if matches!(route, Route::RegistrationToken(_)) {
                body["message"] = json!("Forbidden");
            }
            Some(Reply::json(403, &body))
        }
        _ => None,
    }
}

/// The scopes of the API token, and what a call accepts, as for a classic personal access token.
pub(super) fn with_scopes(reply: Reply, route: &Route, request: &Request) -> Reply {
    let Some(scope) = route.scope().filter(|_| request.credential.kind == CredentialKind::Api) else {
        return reply;
    };
    let accepted = match scope {
        Scope::Enterprise(_) => "admin:enterprise, manage_runners:enterprise",
        Scope::Org(_) => "admin:org",
        Scope::Repo(..) => "repo",
    };
    reply
        .with("x-oauth-scopes", "admin:enterprise, admin:org, repo")
        .with("x-accepted-oauth-scopes", accepted)
}

fn is_api_scheme(scheme: &str) -> bool {
    matches!(scheme, "bearer" | "token")
}

/// Answers one REST call with a valid credential.
pub(super) fn answer(shared: &Shared, route: &Route, request: &Request, faults: &[FaultKind]) -> Reply {
    let mut world = shared.world();
    world.age();
    match route {
        Route::ListRunners(scope) => list_runners(&world, scope, request, faults),
        Route::Downloads(scope) => downloads(shared, &mut world, scope, request, faults),
        Route::RegistrationToken(scope) => token(&mut world, CredentialKind::Registration, scope, faults),
        Route::RemoveToken(scope) => token(&mut world, CredentialKind::Remove, scope, faults),
        Route::GetRunner(scope, id) => match world.runner(scope, *id) {
            Some(runner) => Reply::json(200, &runner.record.to_api()),
            None => Reply::not_found(),
        },
        Route::DeleteRunner(scope, id) => delete_runner(&mut world, scope, *id),
        Route::JitConfig(scope) => jitconfig(&mut world, scope, request),
        // Repositories have no groups.
        Route::RunnerGroups(Scope::Repo(..)) => Reply::not_found(),
        Route::RunnerGroups(_) => groups(&world),
        Route::Labels(scope, id, name) => labels(&mut world, scope, *id, name.as_deref(), request),
        Route::Installation(_) | Route::AccessTokens(_) => app::answer(&mut world, route, request, faults),
        Route::LatestRelease => release(shared, (world.newest(), true), request, faults),
        Route::Release(version) if world.versions.contains(version) => {
            release(shared, (version, world.newest() == version), request, faults)
        }
        Route::Meta => Reply::json(
            200,
            &json!({"verifiable_password_authentication": false, "installed_version": "3.21.0"}),
        ),
        Route::RateLimit => {
            let core = world.limiter.as_ref().map_or_else(
                || json!({"limit": 5000, "used": 1, "remaining": 4999, "reset": clock::now(3600).as_second()}),
                Limiter::to_api,
            );
            Reply::json(200, &json!({"resources": {"core": core.clone()}, "rate": core}))
        }
        // Only GitHub Enterprise Cloud has this call, and the sandbox once a deprecation was set.
        Route::Deprecations(_, version) => match world.told_of(version) {
            Some(told) => Reply::json(200, &told),
            None => Reply::not_found(),
        },
        _ => Reply::not_found(),
    }
}

/// `GET .../actions/runners`: pages of at most 100, with `Link`, filtered by `name`.
pub(super) fn list_runners(world: &World, scope: &Scope, request: &Request, faults: &[FaultKind]) -> Reply {
    let number = |key: &str| request.query(key).and_then(|text| text.parse::<usize>().ok());
    let per_page = number("per_page").unwrap_or(30).clamp(1, 100);
    let page = number("page").unwrap_or(1).max(1);
    let name = request.query("name");
    let matches = |record: &&RunnerRecord| {
        record.scope == *scope && name.as_ref().is_none_or(|name| record.name.eq_ignore_ascii_case(name))
    };
    let mut found: Vec<&RunnerRecord> =
        world.runners.iter().map(|runner| &runner.record).filter(matches).collect();
    if faults.contains(&FaultKind::EmptyList) {
        found.clear();
    }
    let total = found.len();
    let shown: Vec<Value> = found
        .iter()
        .skip((page - 1).saturating_mul(per_page))
        .take(per_page)
        .map(|record| record.to_api())
        .collect();
    let reply = Reply::json(200, &json!({"total_count": total, "runners": shown}));
    match link(request, page, total.div_ceil(per_page)) {
        Some(link) => reply.with("link", link),
        None => reply,
    }
}

/// The `Link` header of page `page` of `last`.
fn link(request: &Request, page: usize, last: usize) -> Option<String> {
    let to = |page: usize, rel: &str| {
        let mut url = request.base.join(&request.path).ok()?;
        {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(request.query.iter().filter(|(key, _)| key != "page"));
            query.append_pair("page", &page.to_string());
        }
        Some(format!("<{url}>; rel=\"{rel}\""))
    };
    let mut links = Vec::new();
    if page > 1 {
        links.extend([to(page - 1, "prev"), to(1, "first")]);
    }
    if page < last {
        links.extend([to(page + 1, "next"), to(last, "last")]);
    }
    let links: Vec<String> = links.into_iter().flatten().collect();
    (!links.is_empty()).then(|| links.join(", "))
}

fn token(world: &mut World, kind: CredentialKind, scope: &Scope, faults: &[FaultKind]) -> Reply {
    let dead = faults.contains(&FaultKind::ExpiredToken);
    let (value, expires_at) = world.tokens.issue(kind, scope.clone(), dead);
    Reply::json(201, &json!({"token": value.expose(), "expires_at": expires_at}))
}

fn delete_runner(world: &mut World, scope: &Scope, id: u64) -> Reply {
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

fn downloads(
    shared: &Shared,
    world: &mut World,
    scope: &Scope,
    request: &Request,
    faults: &[FaultKind],
) -> Reply {
    if faults.contains(&FaultKind::EmptyList) {
        return Reply::json(200, &json!([]));
    }
    let dead = faults.contains(&FaultKind::ExpiredToken);
    let (token, _) = world.tokens.issue(CredentialKind::Download, scope.clone(), dead);
    let mut list = Vec::new();
    let mut entry = |os: &str, architecture: &str, id: &str, version: &str, filename: &str, sum: String| {
        let path = format!("_services/pipelines/_apis/distributedtask/packagedownload/agent/{id}/{version}");
        list.push(json!({
            "os": os,
            "architecture": architecture,
            "download_url": format!("{}{path}", request.base),
            "filename": filename,
            "temp_download_token": token.expose(),
            "sha256_checksum": sum,
        }));
    };
    let newest = world.newest();
    for platform in Platform::ALL {
        let archive = shared.archives.get(platform, newest);
        entry(
            platform.os,
            platform.architecture,
            platform.id,
            newest,
            &archive.filename,
            archive.sha256.clone(),
        );
    }
    // An unknown field, which a client must ignore.
    let haiku = format!("actions-runner-haiku-x64-{newest}.tar.gz");
    entry("haiku", "x64", "haiku-x64", newest, &haiku, "0".repeat(64));
    for version in world.versions.iter().skip(1) {
        let archive = shared.archives.get(Platform::ALL[0], version);
        let it = Platform::ALL[0];
        entry(it.os, it.architecture, it.id, version, &archive.filename, archive.sha256.clone());
    }
    for fault in faults {
        for entry in &mut list {
            spoil_checksum(fault, entry);
        }
    }
    Reply::json(200, &Value::Array(list))
}

/// `GET /repos/actions/runner/releases/…`: public, with archives that need no credential, and notes that tell their
/// digests once more. The older versions are there for one platform only.
fn release(
    shared: &Shared,
    (version, is_newest): (&str, bool),
    request: &Request,
    faults: &[FaultKind],
) -> Reply {
    let mut notes = "## SHA-256 Checksums\n\n".to_owned();
    let mut assets = Vec::new();
    for platform in Platform::ALL.into_iter().take(if is_newest { usize::MAX } else { 1 }) {
        let archive = shared.archives.get(platform, version);
        let (id, digest) = (platform.id, &archive.sha256);
        let _ =
            writeln!(notes, "- {} <!-- BEGIN SHA {id} -->{digest}<!-- END SHA {id} -->", archive.filename);
        let mut asset = json!({
            "name": archive.filename,
            "sha256_checksum": digest,
            "browser_download_url": format!("{}_sandbox/mirror/{id}/{version}", request.base),
        });
        for fault in faults {
            spoil_checksum(fault, &mut asset);
        }
        if let Some(fields) = asset.as_object_mut()
            && let Some(Value::String(digest)) = fields.remove("sha256_checksum")
        {
            fields.insert("digest".to_owned(), json!(format!("sha256:{digest}")));
        }
        assets.push(asset);
    }
    Reply::json(200, &json!({"tag_name": format!("v{version}"), "assets": assets, "body": notes}))
}

fn spoil_checksum(fault: &FaultKind, entry: &mut Value) {
    let Some(entry) = entry.as_object_mut() else { return };
    match fault {
        FaultKind::NoChecksum => {
            entry.remove("sha256_checksum");
        }
        FaultKind::EmptyChecksum => entry["sha256_checksum"] = json!(""),
        FaultKind::MalformedChecksum => entry["sha256_checksum"] = json!("f1fa17-not-a-digest"),
        FaultKind::WrongChecksum => entry["sha256_checksum"] = json!("5ea1".repeat(16)),
        _ => {}
    }
}

/// The runner groups of a scope.
pub(super) fn groups(world: &World) -> Reply {
    let group = |(at, name): (usize, &String)| json!({"id": at + 1, "name": name, "visibility": "all", "default": at == 0, "is_hosted": false});
    let groups: Vec<Value> = world.groups.iter().enumerate().map(group).collect();
    Reply::json(200, &json!({"total_count": groups.len(), "runner_groups": groups}))
}

/// `POST .../generate-jitconfig`: the three files of a configured runner, as base64 in JSON in base64.
fn jitconfig(world: &mut World, scope: &Scope, request: &Request) -> Reply {
    let Some(mut new) =
        request.json::<NewRunner>().filter(|new| !new.name.is_empty() && !new.labels.is_empty())
    else {
        return Reply::message(422, "Invalid request.\n\n\"name\", \"labels\" weren't supplied.");
    };
    new.ephemeral = true;
    new.replace = false;
    world.newest().clone_into(&mut new.version);
    let name = new.name.clone();
    let group = world.groups.get(usize::try_from(new.group_id).unwrap_or(0).wrapping_sub(1)).cloned();
    let Some(group) = group else { return Reply::message(422, "Invalid runner group") };
    let Ok(runner) = world.register(scope.clone(), new) else {
        return Reply::message(
            409,
            &format!("Already exists - A runner with the name {name} already exists."),
        );
    };
    let record = runner.record.clone();
    let settings = json!({
        "agentId": record.id, "agentName": record.name, "poolId": record.group_id, "poolName": group,
        "serverUrl": format!("{}_services/pipelines/", request.base), "gitHubUrl": "", "workFolder": "_work",
        "useV2Flow": true, "serverUrlV2": format!("{}_services/", request.base), "ephemeral": true,
    });
    let credentials = json!({"scheme": "OAuth", "data": {
        "clientId": runner.client.expose(),
        "authorizationUrl": format!("{}_services/token", request.base),
        "requireFipsCryptography": "True",
    }});
    let encoded = |value: &Value| base64::encode(value.to_string().as_bytes());
    let files = json!({
        ".runner": encoded(&settings),
        ".credentials": encoded(&credentials),
        ".credentials_rsaparams": encoded(&json!({"d": "", "modulus": ""})),
    });
    Reply::json(201, &json!({"runner": record.to_api(), "encoded_jit_config": encoded(&files)}))
}

/// The label calls: list, add, set, clear, and remove one.
fn labels(world: &mut World, scope: &Scope, id: u64, name: Option<&str>, request: &Request) -> Reply {
    if world.runner(scope, id).is_none() {
        return Reply::not_found();
    }
    let Some(runner) = world.runner_by_id(id) else { return Reply::not_found() };
    let labels = &mut runner.record.labels;
    let given = || -> Option<Vec<String>> {
        serde_json::from_value(request.json::<Value>()?.get("labels")?.clone()).ok()
    };
    match (request.method.as_str(), name) {
        ("POST" | "PUT", _) => {
            let Some(given) = given() else { return Reply::message(422, "Invalid request.") };
            if request.method == "PUT" {
                labels.retain(|label| is_read_only(label));
            }
            for label in given {
                if !labels.iter().any(|have| have.eq_ignore_ascii_case(&label)) {
                    labels.push(label);
                }
            }
        }
        ("DELETE", None) => labels.retain(|label| is_read_only(label)),
        ("DELETE", Some(name)) => {
            let Some(at) = labels.iter().position(|label| label.eq_ignore_ascii_case(name)) else {
                return Reply::not_found();
            };
            if is_read_only(name) {
                return Reply::message(422, "Read-only labels cannot be removed");
            }
            labels.remove(at);
        }
        _ => {}
    }
    let labels = runner.record.labels_to_api();
    Reply::json(200, &json!({"total_count": labels.len(), "labels": labels}))
}
