//! The REST calls, the archives and the control calls.

use super::super::{CredentialKind as Kind, Error, Options, RunnerChange, Scope, spawn_in_thread};
use super::{call, call_with, download, sandbox, send};
use sha2::{Digest, Sha256};
use std::io::Read;

const SCOPES: [&str; 3] = ["enterprises/big", "orgs/acme", "repos/acme/tools"];

#[test]
fn the_six_calls_answer_in_each_scope() {
    let sandbox = sandbox();
    for scope in SCOPES {
        let id = sandbox.add_runner(&scope.parse().unwrap(), "one", &["self-hosted", "gpu"]).unwrap();
        let path = format!("/api/v3/{scope}/actions/runners");
        let list = call(&sandbox, "GET", &path);
        assert_eq!(list.status, 200);
        assert_eq!(list.json()["total_count"], 1);
        let runner = &list.json()["runners"][0];
        assert_eq!(runner["id"], id);
        assert_eq!(runner["status"], "offline");
        assert_eq!(runner["labels"][0]["type"], "read-only");
        assert_eq!(runner["labels"][1]["type"], "custom");
        assert_eq!(call(&sandbox, "GET", &format!("{path}/{id}")).json()["name"], "one");
        assert_eq!(call(&sandbox, "GET", &format!("{path}/downloads")).status, 200);
        for kind in ["registration-token", "remove-token"] {
            let token = call(&sandbox, "POST", &format!("{path}/{kind}"));
            assert_eq!(token.status, 201);
            assert!(token.json()["expires_at"].as_str().unwrap().ends_with("-08:00"));
        }
        assert_eq!(call(&sandbox, "DELETE", &format!("{path}/{id}")).status, 204);
        assert_eq!(call(&sandbox, "DELETE", &format!("{path}/{id}")).status, 404);
        assert_eq!(call(&sandbox, "GET", &format!("{path}/{id}")).status, 404);
        assert_eq!(call(&sandbox, "GET", &format!("{path}/")).status, 404, "a trailing slash");
    }
    assert_eq!(call(&sandbox, "GET", "/api/v3/orgs/missing-one/actions/runners").status, 404);
}

#[test]
fn credentials_are_told_apart_and_never_logged() {
    let sandbox = sandbox();
    let path = "/api/v3/orgs/acme/actions/runners/registration-token";
    assert_eq!(send(&sandbox, "POST", path, &[], "").status, 401);
    let wrong = send(&sandbox, "POST", path, &["Authorization: Bearer nonsense"], "");
    assert_eq!((wrong.status, wrong.json()["message"].as_str()), (401, Some("Bad credentials")));
    let classic = format!("Authorization: token {}", sandbox.token().expose());
    assert_eq!(send(&sandbox, "POST", path, &[&classic], "").status, 201);
    let weak = format!("Authorization: Bearer {}", sandbox.weak_token().expose());
    let refused = send(&sandbox, "POST", path, &[&weak], "");
    assert_eq!(refused.status, 403);
    assert_eq!(
        refused.header("x-accepted-github-permissions"),
        Some("organization_self_hosted_runners=write")
    );
    sandbox.revoke_api_token();
    assert_eq!(call(&sandbox, "POST", path).status, 401);

    let requests = sandbox.requests();
    let kinds: Vec<Kind> = requests.iter().map(|request| request.credential).collect();
    assert_eq!(kinds, [Kind::None, Kind::Unknown, Kind::Api, Kind::Weak, Kind::Api]);
    let log =
        format!("{requests:?} {:?} {}", sandbox.state(), serde_json::to_string(&sandbox.state()).unwrap());
    assert!(!log.contains(sandbox.token().expose()) && !log.contains(sandbox.weak_token().expose()));
}

#[test]
fn api_rules_are_kept() {
    let sandbox = sandbox();
    let authorization = format!("Authorization: Bearer {}", sandbox.token().expose());
    let path = "/api/v3/orgs/acme/actions/runners";
    let version = |version: &str| {
        send(&sandbox, "GET", path, &[&authorization, &format!("X-GitHub-Api-Version: {version}")], "").status
    };
    assert_eq!((version("2022-11-28"), version("2031-01-01")), (200, 400));
    let answer = call(&sandbox, "GET", path);
    assert!(answer.header("x-github-request-id").is_some() && answer.header("date").is_some());
    assert!(answer.header("x-ratelimit-remaining").is_some());
    assert_eq!(send(&sandbox, "GET", "/api/v3/meta", &[], "").json()["installed_version"], "3.21.0");
    assert_eq!(send(&sandbox, "GET", "/api/v3/rate_limit", &[], "").status, 200);
}

#[test]
fn lists_come_in_pages_that_lead_to_each_other() {
    let sandbox = sandbox();
    let scope: Scope = "orgs/acme".parse().unwrap();
    for number in 0..65 {
        sandbox.add_runner(&scope, &format!("r{number}"), &[]).unwrap();
    }
    let mut path = "/api/v3/orgs/acme/actions/runners".to_owned();
    let mut sizes = Vec::new();
    loop {
        let answer = call(&sandbox, "GET", &path);
        assert_eq!(answer.json()["total_count"], 65);
        sizes.push(answer.json()["runners"].as_array().unwrap().len());
        let link = answer.header("link").unwrap().to_owned();
        let Some(next) = link.split(", ").find(|link| link.ends_with("rel=\"next\"")) else { break };
        let url = url::Url::parse(next.split(['<', '>']).nth(1).unwrap()).unwrap();
        path = format!("{}?{}", url.path(), url.query().unwrap());
    }
    assert_eq!(sizes, [30, 30, 5]);
    let named = call(&sandbox, "GET", "/api/v3/orgs/acme/actions/runners?name=R7&per_page=500");
    assert_eq!(named.json()["total_count"], 1);
    assert!(named.header("link").is_none());
}

#[test]
fn a_busy_runner_is_not_deleted() {
    let sandbox = sandbox();
    let id = sandbox.add_runner(&"orgs/acme".parse().unwrap(), "one", &[]).unwrap();
    assert!(sandbox.change_runner(id, RunnerChange { busy: Some(true), ..RunnerChange::default() }));
    let path = format!("/api/v3/orgs/acme/actions/runners/{id}");
    assert_eq!(call(&sandbox, "DELETE", &path).status, 422);
    assert_eq!(sandbox.state().runners.len(), 1);
}

#[test]
fn a_just_in_time_runner_gets_its_files_and_its_name_once() {
    let sandbox = sandbox();
    let path = "/api/v3/repos/acme/tools/actions/runners/generate-jitconfig";
    let body = r#"{"name":"jit","runner_group_id":1,"labels":["x"],"work_folder":"_work"}"#;
    let made = call_with(&sandbox, "POST", path, body);
    assert_eq!(made.status, 201);
    assert_eq!(made.json()["runner"]["name"], "jit");
    assert!(made.json()["encoded_jit_config"].as_str().unwrap().len() > 100);
    assert_eq!(call_with(&sandbox, "POST", path, body).status, 409);
    assert_eq!(call_with(&sandbox, "POST", path, "{}").status, 422);
    assert!(sandbox.state().runner("repos/acme/tools", "jit").unwrap().ephemeral);
}

#[test]
fn labels_converge() {
    let sandbox = sandbox();
    let id = sandbox.add_runner(&"orgs/acme".parse().unwrap(), "one", &["self-hosted", "a"]).unwrap();
    let path = format!("/api/v3/orgs/acme/actions/runners/{id}/labels");
    assert_eq!(call_with(&sandbox, "POST", &path, r#"{"labels":["b"]}"#).json()["total_count"], 3);
    assert_eq!(call_with(&sandbox, "PUT", &path, r#"{"labels":["c"]}"#).json()["total_count"], 2);
    assert_eq!(call(&sandbox, "DELETE", &format!("{path}/nope")).status, 404);
    assert_eq!(call(&sandbox, "DELETE", &format!("{path}/self-hosted")).status, 422);
    assert_eq!(call(&sandbox, "DELETE", &format!("{path}/c")).json()["total_count"], 1);
}

#[test]
fn every_offered_archive_is_there_small_and_as_its_checksum_says() {
    let sandbox = sandbox();
    let list = call(&sandbox, "GET", "/api/v3/orgs/acme/actions/runners/downloads").json();
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 9, "seven platforms, one unknown, one older version");
    for entry in list {
        let path = url::Url::parse(entry["download_url"].as_str().unwrap()).unwrap().path().to_owned();
        let token = format!("Authorization: Bearer {}", entry["temp_download_token"].as_str().unwrap());
        let answer = send(&sandbox, "GET", &path, &[&token], "");
        if entry["os"] == "haiku" {
            assert_eq!(answer.status, 404);
            continue;
        }
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.body.len() < 100_000);
        assert_eq!(hex::encode(Sha256::digest(&answer.body)), entry["sha256_checksum"].as_str().unwrap());
    }
}

#[test]
fn behind_a_server_that_ends_tls_all_links_are_https() {
    let sandbox = sandbox();
    let authorization = format!("Authorization: Bearer {}", sandbox.token().expose());
    let path = "/api/v3/orgs/acme/actions/runners/downloads";
    for (headers, scheme) in [
        (vec![authorization.as_str()], "http"),
        (vec![authorization.as_str(), "X-Forwarded-Proto: https"], "https"),
    ] {
        let list = send(&sandbox, "GET", path, &headers, "").json();
        for entry in list.as_array().unwrap() {
            let url = url::Url::parse(entry["download_url"].as_str().unwrap()).unwrap();
            assert_eq!(url.scheme(), scheme);
        }
    }
}

#[test]
fn an_archive_has_the_shape_of_github_s() {
    let sandbox = sandbox();
    let linux = download(&sandbox, "linux", "x64");
    assert_eq!(linux.filename, "actions-runner-linux-x64-2.336.0.tar.gz");
    let bytes = send(&sandbox, "GET", &linux.path, &[&linux.authorization], "").body;
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
    let mut links = 0;
    for (at, entry) in tar.entries().unwrap().enumerate() {
        let entry = entry.unwrap();
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        assert!(name.starts_with("./"), "{name}");
        assert_eq!(at == 0, name == "./");
        assert_eq!(entry.header().uid().unwrap(), 1001);
        links += usize::from(entry.header().entry_type().is_symlink());
    }
    assert_eq!(links, 4);
    let windows = download(&sandbox, "win", "x64");
    let bytes = send(&sandbox, "GET", &windows.path, &[&windows.authorization], "").body;
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    let mut text = String::new();
    zip.by_name("config.cmd").unwrap().read_to_string(&mut text).unwrap();
    assert!(text.contains("configure %*"));
}

#[test]
fn an_archive_can_be_resumed_if_it_is_the_same() {
    let sandbox = sandbox();
    let it = download(&sandbox, "linux", "x64");
    let whole = send(&sandbox, "GET", &it.path, &[&it.authorization], "");
    let tag = whole.header("etag").unwrap().to_owned();
    let part = |range: &str, tag: &str| {
        let headers = [&*it.authorization, &format!("Range: {range}"), &format!("If-Range: {tag}")];
        send(&sandbox, "GET", &it.path, &headers, "")
    };
    let rest = part("bytes=1000-", &tag);
    assert_eq!(rest.status, 206);
    assert_eq!(rest.body, whole.body[1000..]);
    let length = whole.body.len();
    assert_eq!(rest.header("content-range").unwrap(), format!("bytes 1000-{}/{length}", length - 1));
    assert_eq!(part("bytes=1000-", "\"other\"").status, 200);
    assert_eq!(part(&format!("bytes={length}-"), &tag).status, 416);
}

#[test]
fn the_api_token_opens_no_download_and_is_seen_there() {
    let sandbox = sandbox();
    let it = download(&sandbox, "linux", "x64");
    assert_eq!(sandbox.state().leaks, 0);
    assert_eq!(call(&sandbox, "GET", &it.path).status, 401);
    assert_eq!(sandbox.state().leaks, 1);
    assert_eq!(send(&sandbox, "GET", &it.path, &[], "").status, 401);
    sandbox.expire_tokens();
    assert_eq!(send(&sandbox, "GET", &it.path, &[&it.authorization], "").status, 401);
}

#[test]
fn other_processes_see_and_change_the_same_state() {
    let sandbox = sandbox();
    let id = sandbox.add_runner(&"orgs/acme".parse().unwrap(), "one", &[]).unwrap();
    assert_eq!(send(&sandbox, "GET", "/_sandbox/state", &[], "").status, 401);
    assert_eq!(call(&sandbox, "GET", "/_sandbox/state").json()["runners"][0]["scope"], "orgs/acme");
    let path = format!("/_sandbox/runners/{id}");
    assert_eq!(call_with(&sandbox, "PATCH", &path, r#"{"online":true,"busy":true}"#).status, 204);
    assert!(sandbox.state().runners[0].online && sandbox.state().runners[0].busy);
    let fault = r#"{"route":"meta","count":1,"kind":"status","code":502}"#;
    assert_eq!(call_with(&sandbox, "POST", "/_sandbox/faults", fault).status, 204);
    assert_eq!(
        call_with(&sandbox, "POST", "/_sandbox/faults", r#"{"route":"no","kind":"stall"}"#).status,
        422
    );
    assert_eq!(call(&sandbox, "GET", "/api/v3/meta").status, 502);
    assert_eq!(call(&sandbox, "GET", "/_sandbox/requests").json()[0]["status"], 502);
    assert_eq!(call(&sandbox, "DELETE", "/_sandbox/faults").status, 204);
    assert_eq!(call_with(&sandbox, "PATCH", &path, r#"{"deleted":true}"#).status, 204);
    assert!(sandbox.state().runners.is_empty());
}

#[test]
fn other_processes_put_versions_on_offer_and_end_their_support() {
    let sandbox = sandbox();
    let told = "/api/v3/orgs/acme/actions/runners/deprecations/2.336.0";
    assert_eq!(call(&sandbox, "GET", told).status, 404, "as on github.com");
    assert_eq!(call_with(&sandbox, "POST", "/_sandbox/versions", r#"{"version":"2.340.0"}"#).status, 204);
    assert_eq!(call_with(&sandbox, "POST", "/_sandbox/versions", r#"{"version":"../x"}"#).status, 422);
    assert_eq!(sandbox.runner_version(), "2.340.0");
    let list = call(&sandbox, "GET", "/api/v3/orgs/acme/actions/runners/downloads").json();
    let offered = |version: &str| {
        let names = list.as_array().unwrap().iter().filter_map(|one| one["filename"].as_str());
        names.filter(|name| name.contains(version)).count()
    };
    assert!(offered("2.340.0") >= 7 && offered("2.336.0") == 1, "{list:#}");
    let silent = r#"{"version":"2.336.0","registration_deprecates_at":"2020-01-01T00:00:00Z","silent":true}"#;
    assert_eq!(call_with(&sandbox, "POST", "/_sandbox/deprecations", silent).status, 204);
    assert_eq!(call(&sandbox, "GET", told).status, 404);
    let aloud = silent.replace("true", "false");
    assert_eq!(call_with(&sandbox, "POST", "/_sandbox/deprecations", &aloud).status, 204);
    assert_eq!(
        call(&sandbox, "GET", told).json(),
        serde_json::json!({"runner_version": "2.336.0", "registration_deprecates_at": "2020-01-01T00:00:00Z"})
    );
    let never = r#"{"version":"2.336.0","runtime_deprecates_at":"soon"}"#;
    assert_eq!(call_with(&sandbox, "POST", "/_sandbox/deprecations", never).status, 422);
}

#[test]
fn it_listens_on_loopback_unless_told() {
    let listen = "0.0.0.0:0".parse().unwrap();
    let refused = spawn_in_thread(Options { listen, ..Options::default() });
    assert!(matches!(refused, Err(Error::NotLoopback { .. })));
    let allowed = spawn_in_thread(Options { listen, allow_remote: true, ..Options::default() }).unwrap();
    assert_eq!(allowed.base_url().host_str(), Some("127.0.0.1"));
    let token = Some("two words".to_owned());
    assert!(matches!(spawn_in_thread(Options { token, ..Options::default() }), Err(Error::Token)));
    let port = allowed.base_url().port().unwrap();
    let listen = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    assert!(matches!(spawn_in_thread(Options { listen, ..Options::default() }), Err(Error::Listen { .. })));
}
