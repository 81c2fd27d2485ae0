//! Tests the client with real connections on loopback. Each server answers a fixed list of connections and returns the
//! requests.

use super::*;
use crate::error::{Class, Failure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Answers each connection with the next of `answers`, closing it afterwards; returns the requests.
async fn serve(answers: Vec<String>) -> (Url, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/x", listener.local_addr().unwrap())).unwrap();
    let server = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            requests.push(request(&mut stream).await);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        requests
    });
    (url, server)
}

async fn request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(bytes).unwrap().to_ascii_lowercase()
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

fn http() -> Http {
    Http::new(HttpOptions { stall_timeout: Duration::from_millis(200), ..HttpOptions::default() }).unwrap()
}

fn call(url: &Url, seconds: u64) -> Call {
    Call::new(Method::GET, url.clone(), Deadline::after(Duration::from_secs(seconds)))
}

#[tokio::test]
async fn a_call_is_repeated_until_its_answer_is_final() {
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut".to_owned();
    let (url, server) =
        serve(vec![answer("502 Bad Gateway", "", ""), cut, String::new(), answer("404 Not Found", "", "no")])
            .await;
    let got = http().call(call(&url, 60)).await.unwrap();
    assert_eq!((got.status, got.body.as_slice()), (404, b"no".as_slice()));
    assert_eq!(server.await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_refused_credential_is_asked_once() {
    let (url, server) = serve(vec![answer("401 Unauthorized", "", "Bad credentials")]).await;
    let bearer = Secret::new("canary");
    assert_eq!(http().call(Call { bearer, ..call(&url, 60) }).await.unwrap().status, 401);
    assert!(server.await.unwrap()[0].contains("authorization: bearer canary\r\n"));
}

#[tokio::test]
async fn a_wait_beyond_the_deadline_is_refused_at_once_and_says_until_when() {
    let (url, _server) = serve(vec![answer("429 Too Many Requests", "retry-after: 3600\r\n", "")]).await;
    let error = http().call(call(&url, 60)).await.unwrap_err();
    assert_eq!(error.class(), Class::TempFail);
    let Error::RateLimited { until, status, .. } = &error else { panic!("{error:?}") };
    assert!(until.parse::<Timestamp>().unwrap() > Timestamp::now());
    assert_eq!(*status, 429);
    assert!(error.hint().unwrap().contains(until));
}

/// A proxy may cut the sentence that explains the limit.
#[tokio::test]
async fn a_requested_wait_counts_even_if_the_rest_of_the_answer_is_cut_off() {
    let cut = answer("429 Too Many Requests", "retry-after: 3600\r\n", "").replace("length: 0", "length: 9");
    let (url, _server) = serve(vec![cut]).await;
    let error = http().call(call(&url, 60)).await.unwrap_err();
    assert!(matches!(&error, Error::RateLimited { status: 429, .. }), "{error:?}");
}

#[tokio::test]
async fn an_answer_that_is_cut_off_names_its_own_method() {
    let (url, _server) = serve(vec![answer("200 OK", "", "").replace("length: 0", "length: 9")]).await;
    let error = http().call_once(&Call { method: Method::POST, ..call(&url, 60) }).await.unwrap_err();
    assert!(error.to_string().starts_with("POST "), "{error}");
}

#[tokio::test]
async fn nobody_listening_is_tried_until_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/?sig=canary", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let short = Deadline::after(Duration::from_millis(300));
    let error = http().call(Call { deadline: short, ..call(&url, 0) }).await.unwrap_err();
    assert_eq!(error.trouble(), Some(Trouble::Refused));
    assert_eq!(error.class(), Class::TempFail);
    assert!(!format!("{error:?} {}", crate::error::chain(&error)).contains("canary"));
}

#[tokio::test]
async fn a_server_that_says_nothing_is_a_stall_and_the_deadline_ends_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let error = http().open(&url, None, None).await.unwrap_err();
    assert_eq!(error.trouble(), Some(Trouble::Stalled));
    let short = Deadline::after(Duration::from_millis(50));
    let error = http().call(Call { deadline: short, ..call(&url, 0) }).await.unwrap_err();
    assert!(matches!(error, Error::Deadline { attempts: 1, last: None, .. }), "{error:?}");
}

#[tokio::test]
async fn another_host_does_not_get_the_credential() {
    let (far, far_server) = serve(vec![answer("200 OK", "", "here")]).await;
    let (near, near_server) = serve(vec![answer("302 Found", &format!("location: {far}\r\n"), "")]).await;
    let secret = Secret::new("canary").unwrap();
    let mut body = http().open(&near, Some(&secret), None).await.unwrap();
    assert_eq!(body.url(), &far);
    assert_eq!(body.chunk().await.unwrap().unwrap(), "here");
    assert!(near_server.await.unwrap()[0].contains("canary"));
    let asked = &far_server.await.unwrap()[0];
    assert!(!asked.contains("canary") && !asked.contains("authorization"), "{asked}");
}

#[tokio::test]
async fn a_credential_is_not_sent_without_encryption() {
    let far = Url::parse("http://far.invalid/x").unwrap();
    let secret = Secret::new("canary").unwrap();
    let bearer = Some(secret.clone());
    let error = http().call(Call { bearer: bearer.clone(), ..call(&far, 60) }).await.unwrap_err();
    assert!(matches!(error, Error::PlainBearer { .. }), "{error:?}");
    assert_eq!(error.class(), Class::Config);
    let error = http().open(&far, Some(&secret), None).await.unwrap_err();
    assert!(matches!(error, Error::PlainBearer { .. }) && error.hint().is_some(), "{error:?}");
    // Without a credential, or with `allow_http`, the request is tried; the name does not resolve.
    let tried = |error: &Error| error.trouble() == Some(Trouble::Dns);
    let error = http().open(&far, None, None).await.unwrap_err();
    assert!(tried(&error), "{error:?}");
    let allowed = Http::new(HttpOptions { allow_http: true, ..HttpOptions::default() }).unwrap();
    let error = allowed.open(&far, Some(&secret), None).await.unwrap_err();
    assert!(tried(&error), "{error:?}");
    // A redirect to another host need not be refused, because that host never gets the credential.
    let (near, server) = serve(vec![answer("302 Found", &format!("location: {far}\r\n"), "")]).await;
    let error = http().open(&near, Some(&secret), None).await.unwrap_err();
    assert!(tried(&error), "{error:?}");
    assert!(server.await.unwrap()[0].contains("canary"));
}

#[tokio::test]
async fn a_range_is_asked_for_with_its_validator() {
    let (url, server) = serve(vec![answer("206 Partial Content", "", "rest")]).await;
    let range = Range { from: 7, if_range: Some("\"tag\"".to_owned()) };
    assert_eq!(http().open(&url, None, Some(range)).await.unwrap().status(), 206);
    let asked = &server.await.unwrap()[0];
    assert!(asked.contains("range: bytes=7-\r\n") && asked.contains("if-range: \"tag\"\r\n"), "{asked}");
}

#[tokio::test]
async fn plain_http_on_an_https_port_is_fatal_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let https = Url::parse(&format!("https://{}/", listener.local_addr().unwrap())).unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // Closed after the client has read the answer, because the reset would arrive before it.
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let error = http().call(call(&https, 60)).await.unwrap_err();
    assert_eq!(error.trouble(), Some(Trouble::Tls), "{error:?}");
    server.await.unwrap();
}

#[tokio::test]
async fn a_request_goes_through_the_proxy_with_its_credentials() {
    let (proxy, server) = serve(vec![answer("200 OK", "", "by proxy")]).await;
    let port = proxy.port().unwrap();
    let vars = [("http_proxy".to_owned(), format!("http://user:p%40ss@127.0.0.1:{port}"))];
    let http =
        Http::new(HttpOptions { proxy: ProxyRules::from_vars(vars).unwrap(), ..HttpOptions::default() })
            .unwrap();
    let url = Url::parse("http://far.invalid/file").unwrap();
    assert_eq!(http.call(call(&url, 60)).await.unwrap().body, b"by proxy");
    let asked = &server.await.unwrap()[0];
    assert!(asked.starts_with("get http://far.invalid/file http/1.1\r\n"), "{asked}");
    // user:p@ss
    assert!(asked.contains("proxy-authorization: basic dxnlcjpwqhnz"), "{asked}");
}

#[tokio::test]
async fn the_size_of_an_answer_is_limited() {
    let body = "x".repeat(BODY_LIMIT + 1);
    let (url, _server) = serve(vec![answer("200 OK", "", &body)]).await;
    assert!(matches!(http().call(call(&url, 60)).await.unwrap_err(), Error::BodyTooLarge { .. }));
}

#[test]
fn a_ca_file_must_exist_and_hold_a_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    let with = |path: &std::path::Path| {
        Http::new(HttpOptions { ca_file: Some(path.into()), ..HttpOptions::default() })
    };
    assert_eq!(with(&path).unwrap_err().class(), Class::NoInput);
    fs_err::write(&path, "no certificate").unwrap();
    assert_eq!(with(&path).unwrap_err().class(), Class::Data);
}

/// The message was about the server's host, which the proxy should have connected to.
#[tokio::test]
async fn a_proxy_that_cannot_be_reached_is_named_with_its_variable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let far = Url::parse("https://192.0.2.1/x").unwrap();
    for (proxy, trouble, said) in [
        (
            "http://me:canary@proxy.invalid:3128",
            Trouble::Dns,
            "proxy http://***@proxy.invalid:3128 (from https_proxy): ",
        ),
        (
            &*format!("http://{address}"),
            Trouble::Refused,
            &*format!("proxy http://{address} (from https_proxy): "),
        ),
    ] {
        let rules = ProxyRules::from_vars([("https_proxy".to_owned(), proxy.to_owned())]).unwrap();
        let http = Http::new(HttpOptions { proxy: rules, ..HttpOptions::default() }).unwrap();
        let error = http.open(&far, None, None).await.unwrap_err();
        assert_eq!(error.trouble(), Some(trouble), "{error:?}");
        let message = error.to_string();
        assert!(message.contains(said) && !message.contains("canary"), "{message}");
        assert!(error.hint().unwrap().contains("https_proxy"));
    }
}

/// A middlebox may compress what it was asked to leave alone.
#[tokio::test]
async fn an_answer_that_was_compressed_on_the_way_is_read_up_to_the_limit() {
    use std::io::Write as _;
    let compressed = |body: &[u8]| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(body).unwrap();
        gzip.finish().unwrap()
    };
    let cut = compressed(b"{\"a\": 1}")[..9].to_vec();
    let bodies = [compressed(b"{\"a\": 1}"), cut.clone(), compressed(&vec![b' '; BODY_LIMIT + 1])];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/x", listener.local_addr().unwrap())).unwrap();
    let server = tokio::spawn(async move {
        let mut requests = Vec::new();
        for body in bodies {
            let (mut stream, _) = listener.accept().await.unwrap();
            requests.push(request(&mut stream).await);
            let head = answer("200 OK", "content-encoding: GZIP\r\n", "")
                .replace("-length: 0", &format!("-length: {}", body.len()));
            stream.write_all(head.as_bytes()).await.unwrap();
            let _ = stream.write_all(&body).await;
        }
        requests
    });
    let http = http();
    assert_eq!(http.call(call(&url, 60)).await.unwrap().body, b"{\"a\": 1}");
    assert_eq!(http.call(call(&url, 60)).await.unwrap().body, cut, "what cannot be read is shown as it is");
    let error = http.call(call(&url, 60)).await.unwrap_err();
    assert!(matches!(error, Error::BodyTooLarge { .. }), "{error:?}");
    assert!(server.await.unwrap().iter().all(|request| request.contains("accept-encoding: identity")));
}

/// With a tunnel it is a failed connection, without one an answer: both were repeated or taken for GitHub's.
#[tokio::test]
async fn a_proxy_that_refuses_the_credentials_is_final_and_named() {
    for url in ["http://far.invalid/x", "https://far.invalid/x"] {
        let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
        let (proxy, server) = serve(vec![refusal.into()]).await;
        let port = proxy.port().unwrap();
        let vars = ["http_proxy", "https_proxy"]
            .map(|name| (name.to_owned(), format!("http://user:canary@127.0.0.1:{port}")));
        let rules = ProxyRules::from_vars(vars).unwrap();
        let http = Http::new(HttpOptions { proxy: rules, ..HttpOptions::default() }).unwrap();
        let error = http.call(call(&Url::parse(url).unwrap(), 60)).await.unwrap_err();
        assert_eq!(error.class(), Class::NoPerm, "{error:?}");
        let said = format!("{error} {}", error.hint().unwrap());
        assert!(said.contains("407") && said.contains("_proxy") && !said.contains("canary"), "{said}");
        server.await.unwrap();
    }
}
