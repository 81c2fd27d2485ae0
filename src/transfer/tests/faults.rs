//! Downloads over bad connections. The server answers each connection by the next of a list of behaviours.

use super::archive::zip;
use super::*;
use crate::deadline::Deadline;
use crate::net::{Call, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// One answer: head and body as they go over the wire, and whether the connection then hangs.
struct Reply {
    head: String,
    body: Vec<u8>,
    hangs: bool,
}

fn reply(status: &str, headers: &str, body: &[u8], promised: usize) -> Reply {
    let head =
        format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {promised}\r\n{headers}\r\n");
    Reply { head, body: body.to_vec(), hangs: false }
}

/// All of `bytes`, of which `sent` are sent.
fn whole(bytes: &[u8], sent: usize, headers: &str) -> Reply {
    reply("200 OK", headers, &bytes[..sent], bytes.len())
}

/// The rest of `bytes` from `from`, of which those up to `to` are sent.
fn rest(bytes: &[u8], from: usize, to: usize) -> Reply {
    let range = format!("content-range: bytes {from}-{}/{}\r\netag: \"a\"\r\n", bytes.len() - 1, bytes.len());
    reply("206 Partial Content", &range, &bytes[from..to], bytes.len() - from)
}

const TAG: &str = "etag: \"a\"\r\n";

/// Serves the replies and returns the requests.
async fn serve(replies: Vec<Reply>) -> (Source, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/archive?sig=canary", listener.local_addr().unwrap())).unwrap();
    let server = tokio::spawn(async move {
        let mut asked = Vec::new();
        for reply in replies {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            asked.push(String::from_utf8(request).unwrap().to_ascii_lowercase());
            // The client may have closed the connection.
            let _ = stream.write_all(reply.head.as_bytes()).await;
            let _ = stream.write_all(&reply.body).await;
            if reply.hangs {
                // Until the client gives up.
                let _ = stream.read_u8().await;
            }
        }
        asked
    });
    (Source::Http { url, bearer: Secret::new("bearer-canary") }, server)
}

fn archive() -> Vec<u8> {
    // Random bytes do not compress, so the archive can be cut in many places.
    let mut state = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(300_000)
    .collect();
    gzip(&Tar::new().file("noise", 0o644, &noise).finish())
}

#[tokio::test]
async fn a_broken_body_is_resumed_where_it_broke() {
    let bench = Bench::new();
    let bytes = archive();
    let stalled = Reply { hangs: true, ..rest(&bytes, 1000, 200_000) };
    let (source, server) = serve(vec![
        reply("503 Service Unavailable", "", b"", 0),
        whole(&bytes, 1000, TAG),
        stalled,
        reply("502 Bad Gateway", "", b"", 0),
        rest(&bytes, 200_000, bytes.len()),
    ])
    .await;
    let order = bench.order(source, Format::TarGz, Expect::Sha256(sha256(&bytes)));
    let staged = bench.stage(&order).await.unwrap();
    assert_eq!((staged.resumed, staged.received), (2, bytes.len() as u64));
    let asked = server.await.unwrap();
    assert!(!asked[0].contains("range:"));
    assert!(asked[2].contains("range: bytes=1000-\r\n") && asked[2].contains("if-range: \"a\"\r\n"));
    assert!(asked[4].contains("range: bytes=200000-\r\n"));
    assert!(asked.iter().all(|request| request.contains("authorization: bearer bearer-canary\r\n")));
}

#[tokio::test]
async fn a_server_without_range_may_send_the_same_file_again() {
    let bench = Bench::new();
    let bytes = archive();
    let (source, _server) = serve(vec![whole(&bytes, 5000, TAG), whole(&bytes, bytes.len(), TAG)]).await;
    let order = bench.order(source, Format::TarGz, Expect::Sha256(sha256(&bytes)));
    let staged = bench.stage(&order).await.unwrap();
    assert_eq!((staged.resumed, staged.received), (1, bytes.len() as u64));
}

#[tokio::test]
async fn a_file_that_changed_is_started_over() {
    let bench = Bench::new();
    let bytes = archive();
    let other = "etag: \"b\"\r\n";
    let wrong_part = "content-range: bytes 5001-9999/10000\r\n";
    let mut packed = rest(&bytes, 5000, bytes.len());
    packed.head = packed.head.replace(TAG, ENCODED);
    for second in [
        packed,
        whole(&bytes, 10, other),
        reply("206 Partial Content", wrong_part, b"", 4999),
        reply("416 No", "", b"", 0),
    ] {
        let (source, server) =
            serve(vec![whole(&bytes, 5000, TAG), second, whole(&bytes, bytes.len(), other)]).await;
        let order = bench.order(source, Format::TarGz, Expect::Sha256(sha256(&bytes)));
        assert_eq!(bench.stage(&order).await.unwrap().resumed, 0);
        assert!(!server.await.unwrap()[2].contains("range:"));
        place::sweep(&bench.target()).unwrap();
    }
}

/// One of each format, as `sent` makes it, with a header that says that it is compressed.
async fn small_ones_arrive(bench: &Bench, sent: fn(&[u8]) -> Vec<u8>) {
    for (bytes, format) in [
        (gzip(&Tar::new().file("x", 0o644, b"x").finish()), Format::TarGz),
        (zip(&[("x", Some(0o644), b"x")]), Format::Zip),
    ] {
        let sent = sent(&bytes);
        let (source, _server) = serve(vec![whole(&sent, sent.len(), ENCODED)]).await;
        let order = bench.order(source, format, Expect::Sha256(sha256(&bytes)));
        assert_eq!(bench.stage(&order).await.unwrap().received, bytes.len() as u64);
        place::sweep(&bench.target()).unwrap();
    }
}

const ENCODED: &str = "content-encoding: gzip\r\netag: \"a\"\r\n";

/// A middlebox compresses all that passes it: the rest of what broke off would be that of another file.
#[tokio::test]
async fn what_was_compressed_on_the_way_is_decompressed() {
    let bench = Bench::new();
    let bytes = archive();
    let sent = gzip(&bytes);
    let (source, server) = serve(vec![whole(&sent, 5000, ENCODED), whole(&sent, sent.len(), ENCODED)]).await;
    let order = bench.order(source, Format::TarGz, Expect::Sha256(sha256(&bytes)));
    let staged = bench.stage(&order).await.unwrap();
    assert_eq!((staged.resumed, staged.received), (0, bytes.len() as u64));
    assert!(!server.await.unwrap()[1].contains("range:"));
    place::sweep(&bench.target()).unwrap();
    small_ones_arrive(&bench, gzip).await;
}

/// A web server says that of a file because of its name.
#[tokio::test]
async fn an_archive_that_is_only_said_to_be_compressed_is_taken_as_it_is_and_resumed() {
    let bench = Bench::new();
    let bytes = archive();
    let mut second = rest(&bytes, 5000, bytes.len());
    second.head = second.head.replace(TAG, ENCODED);
    let (source, _server) = serve(vec![whole(&bytes, 5000, ENCODED), second]).await;
    let order = bench.order(source, Format::TarGz, Expect::Sha256(sha256(&bytes)));
    let staged = bench.stage(&order).await.unwrap();
    assert_eq!((staged.resumed, staged.received), (1, bytes.len() as u64));
    place::sweep(&bench.target()).unwrap();
    small_ones_arrive(&bench, <[u8]>::to_vec).await;
}

/// Blocks of nothing count as well.
#[tokio::test]
async fn what_is_decoded_to_nothing_ends_at_the_limit() {
    let bench = Bench::new();
    let nothing = [0, 0, 0, 0xff, 0xff].repeat(300_000);
    let start = [0, 2, 0, 0xfd, 0xff, 0x1f, 0x8b];
    let sent = [&gzip(b"")[..10], &start, &nothing].concat();
    let (source, _server) = serve(vec![whole(&sent, sent.len(), ENCODED)]).await;
    let mut order = bench.order(source, Format::TarGz, Expect::Unverified);
    order.limits.received = 1 << 20;
    let error = bench.stage(&order).await.unwrap_err();
    assert!(matches!(error, Error::TooLong { .. }), "{error:?}");
}

#[tokio::test]
async fn without_digest_and_validator_parts_are_not_put_together() {
    let bench = Bench::new();
    let bytes = archive();
    let (source, server) = serve(vec![whole(&bytes, 5000, ""), whole(&bytes, bytes.len(), "")]).await;
    let order = bench.order(source, Format::TarGz, Expect::Unverified);
    assert_eq!(bench.stage(&order).await.unwrap().resumed, 0);
    assert!(!server.await.unwrap()[1].contains("range:"));
}

#[tokio::test]
async fn wrong_bytes_earn_one_fresh_attempt() {
    let bench = Bench::new();
    let bytes = archive();
    let mut wrong = bytes.clone();
    wrong[150_000] ^= 0xff;
    let all = |bytes: &[u8]| whole(bytes, bytes.len(), TAG);
    let expect = Expect::Sha256(sha256(&bytes));
    let (source, _server) = serve(vec![all(&wrong), all(&bytes)]).await;
    bench.stage(&bench.order(source, Format::TarGz, expect)).await.unwrap();
    place::sweep(&bench.target()).unwrap();
    let (source, server) = serve(vec![all(&wrong), all(&wrong)]).await;
    let error = bench.stage(&bench.order(source, Format::TarGz, expect)).await.unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error:?}");
    assert_eq!(server.await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_refusal_is_final_and_shows_no_secret() {
    let bench = Bench::new();
    for (status, class) in
        [(401, Class::NoPerm), (403, Class::NoPerm), (404, Class::Unavailable), (418, Class::Protocol)]
    {
        let (source, _server) = serve(vec![reply(&format!("{status} No"), "", b"no", 2)]).await;
        let error = bench.stage(&bench.order(source, Format::TarGz, Expect::Unverified)).await.unwrap_err();
        assert_eq!(error.class(), class);
        assert!(error.to_string().contains(&status.to_string()));
        assert!(!format!("{error:?} {error}").contains("canary"));
    }
}

#[tokio::test]
async fn an_error_page_is_shown() {
    let bench = Bench::new();
    let page = b"<html>Please log in</html>";
    let (source, _server) = serve(vec![whole(page, page.len(), "")]).await;
    let error = bench.stage(&bench.order(source, Format::TarGz, Expect::Unverified)).await.unwrap_err();
    assert!(error.to_string().contains("Please log in"), "{error}");
}

#[tokio::test]
async fn a_promise_of_too_many_bytes_is_named() {
    let bench = Bench::new();
    let bytes = archive();
    let long = reply("200 OK", TAG, &bytes, bytes.len() + 1);
    let range = format!("content-range: bytes */{}\r\n", bytes.len());
    let (source, _server) = serve(vec![long, reply("416 Range Not Satisfiable", &range, b"", 0)]).await;
    let expect = Expect::Sha256(sha256(&bytes));
    let error = bench.stage(&bench.order(source, Format::TarGz, expect)).await.unwrap_err();
    let Error::Length { promised, received, .. } = error else { panic!("{error:?}") };
    assert_eq!((promised, received), (bytes.len() as u64 + 1, bytes.len() as u64));
}

#[tokio::test]
async fn the_timeout_ends_with_the_source_as_the_cause() {
    let bench = Bench::new();
    let bytes = archive();
    let (source, server) = serve(vec![whole(&bytes, 50_000, TAG)]).await;
    let mut order = bench.order(source, Format::TarGz, Expect::Sha256(sha256(&bytes)));
    order.retry_timeout = Duration::from_millis(300);
    let error = bench.stage(&order).await.unwrap_err();
    server.await.unwrap();
    // Not that a file is truncated, which is what the unpacker sees.
    assert!(matches!(error, Error::Download { received: 50_000, .. }), "{error:?}");
    assert_eq!(error.class(), Class::TempFail);
    assert!(!format!("{error:?} {}", crate::error::chain(&error)).contains("canary"));
}

/// A firewall that lets the API through, and not the host that has the archives.
#[tokio::test]
async fn a_host_that_is_out_of_reach_while_the_api_is_not_is_named_soon() {
    let bench = Bench::new();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/archive", closed.local_addr().unwrap())).unwrap();
    drop(closed);
    let order = |limit| {
        let source = Source::Http { url: url.clone(), bearer: None };
        let order = bench.order(source, Format::TarGz, Expect::Unverified);
        Order { retry_timeout: limit, ..order }
    };
    // The network may not be up yet.
    let error = bench.stage(&order(Duration::from_secs(2))).await.unwrap_err();
    assert!(matches!(error, Error::Download { .. }), "{error:?}");
    let (api, _server) = serve(vec![reply("200 OK", "", b"{}", 2), reply("200 OK", "", b"", 0)]).await;
    let Source::Http { url: api, .. } = api else { unreachable!() };
    let call = Call::new(Method::GET, api, Deadline::after(Duration::from_secs(5)));
    bench.http.call(call).await.unwrap();
    let error = bench.stage(&order(Duration::from_secs(60))).await.unwrap_err();
    assert!(matches!(&error, Error::Blocked { host, .. } if host == "127.0.0.1"), "{error:?}");
    assert_eq!(error.class(), Class::TempFail);
}

#[tokio::test]
async fn a_server_that_requests_a_wait_beyond_the_timeout_is_not_called_again() {
    let bench = Bench::new();
    let (source, _server) = serve(vec![reply("429 No", "retry-after: 3600\r\n", b"", 0)]).await;
    let error = bench.stage(&bench.order(source, Format::TarGz, Expect::Unverified)).await.unwrap_err();
    assert!(matches!(error, Error::AskedToWait { wait_seconds: 3600, .. }), "{error:?}");
}

/// Stops when the first bytes are received.
struct Stopper(CancellationToken);

impl Progress for Stopper {
    fn received(&self, _bytes: u64) {
        self.0.cancel();
    }
}

#[tokio::test]
async fn a_stop_during_a_stall_ends_it() {
    let bench = Bench::new();
    let bytes = archive();
    let (source, _server) = serve(vec![Reply { hangs: true, ..whole(&bytes, 1000, TAG) }]).await;
    let order = bench.order(source, Format::TarGz, Expect::Unverified);
    let stop = CancellationToken::new();
    let error = stage(&bench.http, &order, Arc::new(Stopper(stop.clone())), &stop).await.unwrap_err();
    assert!(matches!(error, Error::Stopped));
    assert!(!order.staging.exists());
}
