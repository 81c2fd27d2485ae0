//! Tests the faults from the view of a client.

use super::super::{Background, CredentialKind, Fault};
use super::{Answer, call, download, sandbox, send, try_send, until};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn faulty(text: &str) -> Background {
    let sandbox = sandbox();
    sandbox.fault(text.parse::<Fault>().unwrap());
    sandbox
}

fn archive(sandbox: &Background) -> Answer {
    let it = download(sandbox, "linux", "x64");
    send(sandbox, "GET", &it.path, &[&it.authorization], "")
}

const LIST: &str = "/api/v3/orgs/acme/actions/runners";

#[test]
fn a_status_replaces_the_act() {
    let sandbox = faulty("registration-token:1:status=502");
    let path = format!("{LIST}/registration-token");
    assert_eq!(call(&sandbox, "POST", &path).status, 502);
    assert!(sandbox.state().tokens.is_empty());
    assert_eq!(call(&sandbox, "POST", &path).status, 201);
}

#[test]
fn a_body_is_cut_stalled_corrupt_or_of_another_length() {
    let sound = archive(&sandbox()).body;
    let cut = archive(&faulty("archive:cut=1000"));
    assert_eq!(cut.body, sound[..1000]);
    assert_eq!(cut.header("content-length").unwrap(), sound.len().to_string());
    let stalling = faulty("archive:stall=10");
    let it = download(&stalling, "linux", "x64");
    let silence = Duration::from_secs(2);
    let stalled = try_send(&stalling, "GET", &it.path, &[&it.authorization], "", silence).unwrap();
    assert_eq!(stalled.body, sound[..10]);
    let corrupt = archive(&faulty("archive:corrupt=77")).body;
    let different: Vec<usize> = (0..sound.len()).filter(|&at| corrupt[at] != sound[at]).collect();
    assert_eq!(different, [77]);
    let longer = archive(&faulty("archive:wrong-length=5"));
    assert_eq!(longer.header("content-length").unwrap(), (sound.len() + 5).to_string());
    assert_eq!(longer.body, sound);
    let shorter = archive(&faulty("archive:wrong-length=-5"));
    assert_eq!(shorter.body, sound[..sound.len() - 5]);
}

#[test]
fn a_server_without_ranges_sends_everything() {
    let sandbox = faulty("archive:no-range");
    let it = download(&sandbox, "linux", "x64");
    let answer = send(&sandbox, "GET", &it.path, &[&it.authorization, "Range: bytes=10-"], "");
    assert_eq!(answer.status, 200);
    assert!(answer.header("accept-ranges").is_none());
}

#[test]
fn a_redirect_leads_to_another_host_that_wants_no_credential() {
    let sandbox = faulty("archive:redirect");
    let moved = archive(&sandbox);
    assert_eq!(moved.status, 302);
    let to = url::Url::parse(moved.header("location").unwrap()).unwrap();
    assert_eq!(to.host_str(), Some("localhost"));
    assert_eq!(send(&sandbox, "GET", to.path(), &[], "").status, 200);
    let last = sandbox.requests().pop().unwrap();
    assert_eq!((last.route.as_str(), last.credential), ("mirror", CredentialKind::None));
}

#[test]
fn the_downloads_list_can_lie() {
    let checksum = |fault: &str| {
        let list = call(&faulty(fault), "GET", &format!("{LIST}/downloads")).json();
        list[0].get("sha256_checksum").map(|sum| sum.as_str().unwrap().to_owned())
    };
    let true_one = download(&sandbox(), "linux", "x64").sha256;
    assert_eq!(checksum("downloads:no-checksum"), None);
    assert_eq!(checksum("downloads:empty-checksum").unwrap(), "");
    assert_ne!(checksum("downloads:malformed-checksum").unwrap().len(), 64);
    let wrong = checksum("downloads:wrong-checksum").unwrap();
    assert!(wrong.len() == 64 && wrong != true_one);
    let list = |fault: &str| call(&faulty(fault), "GET", &format!("{LIST}/downloads"));
    assert_eq!(list("downloads:empty-list").body, b"[]");
    assert!(serde_json::from_slice::<serde_json::Value>(&list("downloads:not-json").body).is_err());
    let page = list("downloads:html=502");
    assert!(page.status == 502 && page.header("content-type").unwrap().starts_with("text/html"));
}

#[test]
fn an_expired_token_says_otherwise() {
    let sandbox = faulty("registration-token:expired-token");
    let token = call(&sandbox, "POST", &format!("{LIST}/registration-token"));
    assert_eq!(token.status, 201);
    assert!(sandbox.state().tokens[0].expired);
    assert_eq!(archive(&faulty("archive:expired-token")).status, 401);
}

#[test]
fn limits_and_clocks_are_in_the_headers() {
    let limited = call(&faulty("list-runners:rate-limit=30"), "GET", LIST);
    assert_eq!((limited.status, limited.header("x-ratelimit-remaining")), (403, Some("0")));
    let reset: i64 = limited.header("x-ratelimit-reset").unwrap().parse().unwrap();
    assert!((reset - jiff::Timestamp::now().as_second() - 30).abs() < 5);
    let later = call(&faulty("list-runners:retry-after=7"), "GET", LIST);
    assert_eq!((later.status, later.header("retry-after")), (429, Some("7")));
    let skewed = call(&faulty("*:clock=86400"), "GET", LIST);
    assert_ne!(skewed.header("date"), call(&sandbox(), "GET", LIST).header("date"));
    assert_eq!(skewed.status, 200);
}

#[test]
fn a_late_answer_comes_before_or_after_the_act() {
    let path = format!("{LIST}/registration-token");
    let late = faulty("registration-token:1:delay=120");
    let start = Instant::now();
    assert_eq!(call(&late, "POST", &path).status, 201);
    assert!(start.elapsed() >= Duration::from_millis(120));
    // The client gives up after its timeout; the token is created all the same.
    let never = faulty("registration-token:delay-after=forever");
    let authorization = format!("Authorization: Bearer {}", never.token().expose());
    assert!(try_send(&never, "POST", &path, &[&authorization], "", Duration::from_millis(200)).is_none());
    until("the token is there", || never.state().tokens.len() == 1);
    assert_eq!(never.requests()[0].status, None);
}

#[test]
fn a_slow_body_is_whole() {
    let sandbox = faulty("list-runners:slow=100");
    let start = Instant::now();
    let answer = call(&sandbox, "GET", LIST);
    assert_eq!(answer.json()["total_count"], 0);
    assert!(start.elapsed() >= Duration::from_millis(200));
}

#[test]
fn stopping_ends_what_stalls() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let sandbox = super::super::start(super::super::Options::default()).await.unwrap();
        sandbox.fault("meta:stall".parse().unwrap());
        let address = sandbox.shared.base.socket_addrs(|| None).unwrap()[0];
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /api/v3/meta HTTP/1.1\r\nHost: h\r\nUser-Agent: t\r\n\r\n").await.unwrap();
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).await.unwrap();
        tokio::time::timeout(Duration::from_secs(10), sandbox.shutdown()).await.expect("it stops");
        let mut rest = Vec::new();
        drop(
            tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest))
                .await
                .expect("it closes"),
        );
    });
}
