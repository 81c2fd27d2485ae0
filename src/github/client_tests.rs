use super::super::answer::START;
use super::*;
use crate::error::{Class, Failure, chain};
use crate::net::HttpOptions;
use crate::secret::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const TOKEN: &str = "ghp_canary";

/// A client of a server that sends these answers in turn, one per connection; the task returns the requests.
async fn client_of(answers: Vec<String>) -> (Client, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/octo-org", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            requests.push(String::from_utf8(request).unwrap());
        }
        requests
    });
    let http =
        Http::new(HttpOptions { user_agent: "runup-test/1".to_owned(), ..HttpOptions::default() }).unwrap();
    let target = Target::parse(&url, None, false).unwrap();
    let timeout = Duration::from_secs(5);
    (
        Client::new(
            http,
            target,
            Secret::new(TOKEN).map(|token| Credential::token(token, "RUNUP_TOKEN")),
            timeout,
        ),
        server,
    )
}

fn answer(status: u16, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
}

fn json(status: u16, body: &str) -> String {
    answer(status, "content-type: application/json\r\n", body)
}

fn page(ids: std::ops::Range<u64>, next: bool) -> String {
    let runners: Vec<_> = ids
        .map(|id| {
            serde_json::json!({
                "id": id, "name": format!("r{id}"), "os": "linux", "busy": id == 3,
                "status": if id % 2 == 0 { "online" } else { "offline" },
                "labels": [{ "name": "GPU" }],
            })
        })
        .collect();
    let link = if next {
        "link: <http://elsewhere/?page=1>; rel=\"last\", <http://e/?a=1,2>; rel=\"next\"\r\n"
    } else {
        ""
    };
    answer(200, link, &serde_json::json!({ "total_count": 5, "runners": runners }).to_string())
}

/// The error of `downloads` when the server sends this answer.
async fn downloads_error(answer: String) -> Error {
    let (client, server) = client_of(vec![answer]).await;
    let error = client.downloads().await.unwrap_err();
    server.await.unwrap();
    let shown = format!("{} {:?} {error:?}", chain(&error), error.hint());
    assert!(!shown.contains(TOKEN), "{shown}");
    error
}

#[tokio::test]
async fn a_call_carries_the_headers_that_github_asks_for() {
    let body = include_str!("../../tests/fixtures/registration-token.json");
    let (client, server) = client_of(vec![json(201, body)]).await;
    let token = client.registration_token().await.unwrap();
    assert_eq!(token.token.expose(), "LLBF3JGZDX3P5PMEXLND6TS6FCWO6");
    let request = server.await.unwrap().remove(0).to_lowercase();
    assert!(
        request.starts_with("post /api/v3/orgs/octo-org/actions/runners/registration-token http"),
        "{request}"
    );
    for line in [
        "accept: application/vnd.github+json",
        "authorization: bearer ghp_canary",
        "x-github-api-version: 2022-11-28",
        "user-agent: runup-test/1",
    ] {
        assert!(request.contains(&format!("\r\n{line}\r\n")), "{line} in {request}");
    }
    assert_eq!(client.calls(), 1);
}

#[tokio::test]
async fn every_page_is_read_once_and_filtered() {
    // Runner 2 moved to the second page while the first was read.
    let pages = vec![page(0..3, true), page(2..5, false)];
    let (client, server) = client_of(pages.clone()).await;
    let ids: Vec<u64> = client.runners(&Filter::default()).await.unwrap().iter().map(|one| one.id).collect();
    assert_eq!(ids, [0, 1, 2, 3, 4]);
    let requests = server.await.unwrap();
    assert!(requests[0].starts_with("GET /api/v3/orgs/octo-org/actions/runners?per_page=100&page=1 "));
    assert!(requests[1].starts_with("GET /api/v3/orgs/octo-org/actions/runners?per_page=100&page=2 "));

    let (client, _server) = client_of(pages.clone()).await;
    let filter =
        Filter { status: Some(RunnerStatus::Online), label: Some("gpu".to_owned()), ..Filter::default() };
    let ids: Vec<u64> = client.runners(&filter).await.unwrap().iter().map(|one| one.id).collect();
    assert_eq!(ids, [0, 2, 4]);

    let (client, server) = client_of(pages).await;
    assert_eq!(client.runner_named("R4").await.unwrap().unwrap().id, 4);
    assert!(server.await.unwrap()[1].contains("&name=R4 "));
}

#[tokio::test]
async fn a_list_that_announces_pages_for_ever_is_given_up() {
    let (client, _server) = client_of(vec![page(0..3, true), page(0..3, true)]).await;
    let error = client.runners(&Filter::default()).await.unwrap_err();
    assert!(matches!(error, Error::EndlessPages { page: 2, .. }), "{error}");
    assert_eq!(error.class(), Class::Protocol);
}

#[tokio::test]
async fn one_bad_element_does_not_spoil_the_downloads() {
    let good = r#"{"os":"plan9","architecture":"mips","download_url":"https://h/x","filename":"a.tar.gz"}"#;
    let bad =
        r#"{"os":"linux"},null,{"os":"a","architecture":"b","download_url":"file:///x","filename":"c"}"#;
    let (client, _server) = client_of(vec![json(200, &format!("[{bad},{good}]"))]).await;
    let list = client.downloads().await.unwrap();
    assert_eq!(list.iter().map(|one| one.os.as_str()).collect::<Vec<_>>(), ["plan9"]);
}

#[tokio::test]
async fn no_credential_is_said_before_anything_is_sent() {
    let (client, _server) = client_of(vec![]).await;
    let client = Client { credential: None, ..client };
    let error = client.remove_token().await.unwrap_err();
    assert!(matches!(error, Error::MissingCredential { .. }));
    assert_eq!((error.class(), client.calls(), client.has_token()), (Class::NoPerm, 0, false));
    assert!(error.to_string().starts_with("POST http://127.0.0.1:"), "{error}");
    assert!(error.hint().unwrap().contains("RUNUP_TOKEN"));
}

#[tokio::test]
async fn a_refused_credential_is_not_a_weak_one() {
    let error = downloads_error(json(401, r#"{"message":"Bad credentials ghp_canary"}"#)).await;
    assert!(matches!(error, Error::Unauthorized(_)));
    assert!(error.to_string().contains("Bad credentials [secret]"), "{error}");
    assert_eq!(error.class(), Class::NoPerm);

    let headers = "x-accepted-github-permissions: organization_self_hosted_runners=read\r\n\
                   x-github-request-id: A:B:C\r\n";
    let body = r#"{"message":"Resource not accessible by personal access token"}"#;
    let error = downloads_error(answer(403, headers, body)).await;
    assert!(matches!(error, Error::Forbidden { .. }));
    assert!(error.to_string().contains("(request id A:B:C)"), "{error}");
    let hint = error.hint().unwrap();
    for part in ["admin:org", "\"Self-hosted runners\": read", "organization_self_hosted_runners=read"] {
        assert!(hint.contains(part), "{hint}");
    }
}

#[tokio::test]
async fn not_found_names_its_three_meanings() {
    let error = downloads_error(json(404, r#"{"message":"Not Found"}"#)).await;
    assert!(matches!(error, Error::NotFound { .. }));
    assert_eq!(error.class(), Class::NoPerm);
    let hint = error.hint().unwrap();
    for part in ["the organization octo-org does not exist", "may not see it", "another scope", "admin:org"] {
        assert!(hint.contains(part), "{hint}");
    }
}

#[tokio::test]
async fn what_is_not_github_is_recognised() {
    let html = "<!DOCTYPE html>\n<html>\u{1b}[31m<title>Sign in</title>".to_owned() + &"x".repeat(500);
    for status in [200, 404] {
        let error = downloads_error(answer(status, "content-type: text/html\r\n", &html)).await;
        assert_eq!(error.class(), Class::Protocol);
        let Error::NotJson { start, .. } = error else { panic!("{error}") };
        assert!(start.starts_with("<!DOCTYPE html> <html> [31m<title>Sign in</title>xx"), "{start}");
        assert_eq!(start.chars().count(), START);
    }
    let error = downloads_error(json(200, r#"{"message":"hello"}"#)).await;
    assert!(matches!(error, Error::BadDocument { .. }), "{error}");
    let error = downloads_error(json(418, r#"{"message":"teapot"}"#)).await;
    assert!(matches!(error, Error::Odd(_)), "{error}");
    assert_eq!(error.class(), Class::Protocol);
}

#[tokio::test]
async fn half_a_token_document_shows_no_token() {
    let (client, _server) = client_of(vec![json(201, r#"{"token":"LLcanary","expires"#)]).await;
    let error = client.registration_token().await.unwrap_err();
    assert!(matches!(error, Error::NotJson { .. }));
    assert!(!format!("{} {error:?}", chain(&error)).contains("canary"));
}

#[tokio::test]
async fn a_rate_limit_is_to_be_tried_again() {
    let error = downloads_error(answer(429, "retry-after: 3600\r\n", r#"{"message":"slow down"}"#)).await;
    assert_eq!(error.class(), Class::TempFail);
    let headers = "x-ratelimit-remaining: 0\r\nx-ratelimit-reset: 4102444800\r\n";
    let error = downloads_error(answer(403, headers, r#"{"message":"API rate limit exceeded"}"#)).await;
    assert_eq!(error.class(), Class::TempFail);
}

#[tokio::test]
async fn a_missing_runner_is_told_from_a_hidden_scope() {
    let missing = || json(404, r#"{"message":"Not Found"}"#);
    let (client, server) = client_of(vec![missing(), page(0..1, false)]).await;
    assert_eq!(client.runner(9).await.unwrap(), None);
    assert!(server.await.unwrap()[1].contains("/actions/runners?per_page=1 "));
    let (client, _server) = client_of(vec![missing(), missing()]).await;
    assert!(matches!(client.runner(9).await, Err(Error::NotFound { .. })));

    // A deletion that meets 404 is believed if the runner is not there a moment later either.
    let (client, _server) = client_of(vec![missing(), missing(), page(0..1, false)]).await;
    assert_eq!(client.delete(9).await.unwrap(), Deletion::AlreadyGone);
    // One that stays is not gone, however often the server claims that it cannot find it.
    let there = || json(200, include_str!("../../tests/fixtures/runner.json"));
    let (client, _server) = client_of(vec![missing(), there(), missing(), there(), missing()]).await;
    assert!(matches!(client.delete(23).await, Err(Error::NotFound { .. })));
    // Only 204 is a deletion.
    for reply in [json(200, "{}"), answer(200, "content-type: text/html\r\n", "<html>sign in</html>")] {
        let (client, _server) = client_of(vec![reply]).await;
        client.delete(9).await.unwrap_err();
    }
    let (client, _server) = client_of(vec![missing(), missing(), missing()]).await;
    assert!(matches!(client.delete(9).await, Err(Error::NotFound { .. })));
    let (client, _server) = client_of(vec![answer(204, "", "")]).await;
    assert_eq!(client.delete(9).await.unwrap(), Deletion::Deleted);

    let (client, _server) =
        client_of(vec![json(200, include_str!("../../tests/fixtures/runner.json"))]).await;
    assert_eq!(client.runner(23).await.unwrap().unwrap().name, "MBP");
}

#[tokio::test]
async fn a_busy_runner_is_told_from_a_bad_request() {
    let said = r#"{"message":"Runner \"r3\" is currently running a job and cannot be deleted."}"#;
    let (client, _server) = client_of(vec![json(422, said)]).await;
    let error = client.delete(3).await.unwrap_err();
    assert!(matches!(error, Error::Busy { id: 3, .. }), "{error}");
    assert_eq!(error.class(), Class::TempFail);

    // With an unknown message, the runner itself is queried.
    let unsaid = || json(422, r#"{"message":"Validation Failed","errors":[{"message":"no"},"never"]}"#);
    for (busy, name) in [(true, "Busy"), (false, "Unprocessable")] {
        let runner = format!(r#"{{"id":3,"name":"r3","os":"linux","status":"online","busy":{busy}}}"#);
        let (client, _server) = client_of(vec![unsaid(), json(200, &runner)]).await;
        let error = client.delete(3).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(name), "{error:?}");
        assert!(error.to_string().contains("Validation Failed; no; never"), "{error}");
    }
}

#[tokio::test]
async fn the_clock_is_compared_with_the_servers() {
    let (client, _server) =
        client_of(vec![answer(200, "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "[]")]).await;
    assert_eq!(client.clock_skew(), None);
    client.downloads().await.unwrap();
    let skew = client.clock_skew().unwrap();
    let expected = Timestamp::now().as_second() - 784_111_777;
    assert!((expected - skew.as_secs()).abs() < 60, "{skew}");
}

#[test]
fn permissions_are_named_for_each_scope() {
    let scope = |url: &str| Target::parse(url, None, false).unwrap().scope;
    let repository = needed(&scope("https://github.com/o/r"), Access::Write);
    assert!(repository.contains("scope repo,") && repository.contains("\"Administration\": write"));
    let enterprise = needed(&scope("https://github.com/enterprises/e"), Access::Write);
    assert!(enterprise.contains("manage_runners:enterprise") && enterprise.contains("cannot"));
}

fn new_jit_runner() -> crate::github::NewJitRunner {
    let (name, labels) = ("jit-1".to_owned(), vec!["x".to_owned()]);
    crate::github::NewJitRunner { name, runner_group_id: 1, labels, work_folder: "_work".to_owned() }
}

#[tokio::test]
async fn a_name_in_use_and_a_server_without_the_call_are_told_apart() {
    let taken = json(409, r#"{"message":"Already exists - A runner with the name jit-1 already exists."}"#);
    let (client, _) = client_of(vec![taken]).await;
    let error = client.generate_jitconfig(&new_jit_runner()).await.unwrap_err();
    assert!(matches!(error, Error::NameTaken { .. }) && error.class() == Class::Config, "{error}");

    let absent = json(404, r#"{"message":"Not Found"}"#);
    let (client, _) = client_of(vec![absent.clone(), page(0..0, false)]).await;
    let error = client.generate_jitconfig(&new_jit_runner()).await.unwrap_err();
    assert!(matches!(error, Error::NoJit { .. }) && error.class() == Class::Unavailable, "{error}");

    // If the runners cannot be listed either, the scope or the credential is wrong.
    let (client, _) = client_of(vec![absent.clone(), absent]).await;
    let error = client.generate_jitconfig(&new_jit_runner()).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn a_just_in_time_configuration_is_a_secret() {
    let body = r#"{"runner":{"id":7,"name":"jit-1","os":"unknown","status":"offline","busy":false,"labels":[]},
                   "encoded_jit_config":"CANARY"}"#;
    let (client, _) = client_of(vec![json(201, body)]).await;
    let made = client.generate_jitconfig(&new_jit_runner()).await.unwrap();
    assert_eq!((made.runner.id, made.encoded.expose()), (7, "CANARY"));
    assert!(!format!("{made:?}").contains("CANARY"));
}

#[tokio::test]
async fn the_end_of_a_version_is_told_or_not_and_nobody_asks_twice() {
    let told = r#"{"runner_version":"2.328.0","registration_deprecates_at":"2026-09-01T00:00:00Z","runtime_deprecates_at":""}"#;
    let (client, server) = client_of(vec![
        json(200, told),
        json(200, r#"{"runner_version":"2.336.0"}"#),
        json(404, r#"{"message":"Not Found"}"#),
        json(200, r#"{"registration_deprecates_at":"soon"}"#),
    ])
    .await;
    let dates = client.deprecation("2.328.0").await.unwrap().unwrap();
    assert_eq!(dates.registration_at.unwrap().to_string(), "2026-09-01T00:00:00Z");
    assert_eq!(dates.runtime_at, None);
    assert_eq!(client.deprecation("2.336.0").await.unwrap(), Some(crate::github::Deprecation::default()));
    assert_eq!(client.deprecation("2.336.0").await.unwrap(), None);
    let error = client.deprecation("2.336.0").await.unwrap_err();
    assert!(chain(&error).contains("not an RFC 3339 time"), "{error:?}");
    assert_eq!(client.calls(), 4);
    let requests = server.await.unwrap();
    assert!(
        requests[0].starts_with("GET /api/v3/orgs/octo-org/actions/runners/deprecations/2.328.0 "),
        "{}",
        requests[0]
    );
}

#[tokio::test]
async fn the_time_is_the_server_s() {
    let (client, server) =
        client_of(vec![answer(200, "date: Tue, 24 Nov 2020 12:00:00 GMT\r\n", "[]")]).await;
    client.downloads().await.unwrap();
    server.await.unwrap();
    let off = client.now().duration_since("2020-11-24T12:00:00Z".parse().unwrap()).as_secs();
    assert!((-1..30).contains(&off), "{off} s");
}

#[tokio::test]
async fn a_group_on_a_later_page_is_found_and_no_page_after_it_is_asked_for() {
    let groups = |from: u64| {
        let groups: Vec<_> =
            (from..from + 3).map(|id| serde_json::json!({"id": id, "name": format!("Group {id}")})).collect();
        let body = serde_json::json!({ "total_count": 9, "runner_groups": groups }).to_string();
        answer(200, "link: <http://h/?page=9>; rel=\"next\"\r\n", &body)
    };
    let (client, server) = client_of(vec![groups(1), groups(4)]).await;
    assert_eq!(client.group_named("GROUP 5").await.unwrap(), Some(5));
    assert_eq!(server.await.unwrap().len(), 2);
    let (client, _server) = client_of(vec![groups(1), groups(1)]).await;
    assert!(matches!(client.group_name(7).await.unwrap_err(), Error::EndlessPages { page: 2, .. }));
}

#[tokio::test]
async fn all_pages_together_have_one_deadline() {
    // The server no longer answers, so each page takes all of its time.
    let (client, _server) = client_of(vec![]).await;
    let client = client.until(Deadline::after(Duration::from_millis(300)));
    let began = std::time::Instant::now();
    let error = client.runners(&Filter::default()).await.unwrap_err();
    assert_eq!(error.class(), Class::TempFail, "{error}");
    assert_eq!(client.runners(&Filter::default()).await.unwrap_err().class(), Class::TempFail);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}
