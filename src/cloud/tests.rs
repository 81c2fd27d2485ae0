//! Each provider's service as a real server on loopback.

use super::*;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// What a fake service does with a request.
enum Reply {
    /// A status and a body.
    Says(u16, String),
    /// Further headers, and nothing else.
    Redirects(String),
    /// Nothing, with the connection open.
    Hangs,
    /// Nothing, with the connection closed.
    HangsUp,
}

fn says(status: u16, body: &str) -> Reply {
    Reply::Says(status, body.to_owned())
}

type Requests = Arc<Mutex<Vec<String>>>;

/// A service whose replies follow from the request's head (in lower case) and how many came before it.
async fn serve(mut reply: impl FnMut(&str, usize) -> Reply + Send + 'static) -> (Url, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let requests = Requests::default();
    let seen = Arc::clone(&requests);
    tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let Some(head) = head(&mut stream).await else { continue };
            let before = seen.lock().unwrap().len();
            seen.lock().unwrap().push(head.clone());
            let text = match reply(&head, before) {
                Reply::Says(status, body) => {
                    let length = body.len();
                    format!(
                        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
                    )
                }
                Reply::Redirects(to) => {
                    format!(
                        "HTTP/1.1 302 X\r\nconnection: close\r\ncontent-length: 0\r\nlocation: {to}\r\n\r\n"
                    )
                }
                Reply::HangsUp => continue,
                Reply::Hangs => {
                    open.push(stream);
                    continue;
                }
            };
            // The client may have given up.
            let _ = stream.write_all(text.as_bytes()).await;
        }
    });
    (url, requests)
}

async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(bytes).unwrap().to_ascii_lowercase())
}

fn aws(base: &Url) -> Notices {
    Notices { every: Duration::from_millis(5), ..Notices::of(&[Provider::Aws], Some(base)) }
}

fn azure(base: &Url) -> Notices {
    Notices { every: Duration::from_millis(5), ..Notices::of(&[Provider::Azure], Some(base)) }
}

fn gcp(base: &Url) -> Notices {
    Notices { every: Duration::from_millis(5), ..Notices::of(&[Provider::Gcp], Some(base)) }
}

/// The notice that is given; fails the test if none comes in time.
async fn noticed(options: &Notices) -> Notice {
    let stop = CancellationToken::new();
    let http = client().unwrap();
    let watching = watch_patiently(&http, options, Duration::from_millis(300), &stop);
    timeout(Duration::from_secs(30), watching).await.expect("a notice in time").unwrap()
}

/// Watches until `requests` has seen `count` more requests, and asserts that there was no notice by then.
async fn goes_unnoticed(options: &Notices, requests: &Requests, count: usize) {
    let stop = CancellationToken::new();
    let patience = Duration::from_millis(300);
    let http = client().unwrap();
    let before = requests.lock().unwrap().len();
    let enough = async {
        while requests.lock().unwrap().len() < before + count {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        stop.cancel();
        std::future::pending::<()>().await;
    };
    let watched = tokio::select! {
        watched = watch_patiently(&http, options, patience, &stop) => watched,
        () = enough => unreachable!("it waits for ever"),
        () = tokio::time::sleep(Duration::from_secs(30)) => panic!("too few questions: {requests:?}"),
    };
    assert_eq!(watched, None);
}

/// An hour from now, as `format` writes it.
fn in_an_hour(format: &str) -> String {
    let then = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    then.strftime(format).to_string()
}

#[track_caller]
fn assert_about_an_hour(left: Duration) {
    let minutes = left.as_secs() / 60;
    assert!((58..=60).contains(&minutes), "{left:?}");
}

const AWS_TIME: &str = "%Y-%m-%dT%H:%M:%SZ";
const AZURE_TIME: &str = "%a, %d %b %Y %H:%M:%S GMT";

#[tokio::test]
async fn aws_gives_notice_after_silence_and_is_asked_in_one_session() {
    let (url, requests) = serve(|head, before| match head.split(' ').nth(1).unwrap() {
        "/latest/api/token" => says(200, "session-1\n"),
        "/latest/meta-data/spot/instance-action" if before > 4 => {
            says(200, &format!(r#"{{"action": "terminate", "time": "{}"}}"#, in_an_hour(AWS_TIME)))
        }
        "/latest/meta-data/autoscaling/target-lifecycle-state" => says(200, "InService"),
        _ => says(404, "<html>Not Found</html>"),
    })
    .await;
    let notice = noticed(&aws(&url)).await;
    assert_eq!((notice.provider, notice.what.as_str()), ("aws", "spot instance action terminate"));
    assert_about_an_hour(notice.left);
    let requests = requests.lock().unwrap();
    assert!(requests[0].starts_with("put /latest/api/token http/1.1\r\n"), "{}", requests[0]);
    assert!(requests[0].contains("x-aws-ec2-metadata-token-ttl-seconds: 21600\r\n"));
    assert!(requests[1..].iter().all(|one| one.contains("x-aws-ec2-metadata-token: session-1\r\n")));
    assert!(requests.iter().all(|one| !one.contains("authorization")));
}

#[tokio::test]
async fn aws_leaves_two_minutes_where_it_names_no_time() {
    let (url, _) = serve(|head, _| match head {
        put if put.starts_with("put") => says(200, "session"),
        _ => says(200, r#"{"action": "stop"}"#),
    })
    .await;
    assert_eq!(noticed(&aws(&url)).await.left, Duration::from_secs(120));
}

#[tokio::test]
async fn a_session_that_aws_ends_is_opened_again() {
    let (url, requests) = serve(|head, before| match head {
        put if put.starts_with("put") => says(200, if before == 0 { "old" } else { "new" }),
        old if old.contains("token: old\r\n") => says(401, ""),
        _ => says(200, r#"{"action": "hibernate", "time": "soon"}"#),
    })
    .await;
    assert_eq!(noticed(&aws(&url)).await.what, "spot instance action hibernate");
    assert_eq!(requests.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn an_auto_scaling_group_that_terminates_the_instance_is_a_notice() {
    let (url, _) = serve(|head, _| match head {
        put if put.starts_with("put") => says(200, "session"),
        state if state.contains("/autoscaling/target-lifecycle-state") => says(200, "Terminated"),
        _ => says(404, ""),
    })
    .await;
    assert_eq!(noticed(&aws(&url)).await.left, LIFECYCLE_HOOK);
}

const LIFECYCLE_HOOK: Duration = Duration::from_secs(30);

fn events(events: &str) -> Reply {
    Reply::Says(200, format!(r#"{{"DocumentIncarnation": 1, "Events": [{events}]}}"#))
}

#[tokio::test]
async fn azure_gives_notice_of_what_ends_this_machine_and_of_nothing_else() {
    let (url, requests) = serve(|head, before| {
        if head.starts_with("get /metadata/instance/compute/name?api-version=2021-02-01&format=text ") {
            return says(200, "pool_7");
        }
        let not_before = in_an_hour(AZURE_TIME);
        match before {
            0 => events(""),
            1 => events(r#"{"EventType": "Reboot", "Resources": ["pool_7"], "NotBefore": ""}"#),
            2..5 => events(r#"{"EventType": "Preempt", "Resources": ["pool_70"], "NotBefore": ""}"#),
            _ => events(&format!(
                r#"{{"EventType": "Preempt", "Resources": ["pool_70"], "NotBefore": ""}},
                   {{"EventType": "Terminate", "Resources": ["POOL_7"], "NotBefore": "{not_before}"}}"#
            )),
        }
    })
    .await;
    let notice = noticed(&azure(&url)).await;
    assert_eq!((notice.provider, notice.what.as_str()), ("azure", "scheduled event Terminate"));
    assert_about_an_hour(notice.left);
    let requests = requests.lock().unwrap();
    assert!(requests[0].starts_with("get /metadata/scheduledevents?api-version=2020-07-01 "));
    assert!(requests.iter().all(|one| one.contains("\r\nmetadata: true\r\n")));
    assert_eq!(requests.iter().filter(|one| one.contains("/compute/name")).count(), 1, "asked once");
}

#[tokio::test]
async fn an_azure_event_that_has_started_leaves_half_a_minute() {
    let (url, _) = serve(|head, _| match head {
        name if name.contains("/compute/name") => says(404, ""),
        _ => events(
            r#"{"EventType": "Preempt", "EventStatus": "Started", "Resources": ["a"], "NotBefore": ""}"#,
        ),
    })
    .await;
    assert_eq!(noticed(&azure(&url)).await.left, Duration::from_secs(30));
}

#[tokio::test]
async fn google_gives_notice_when_it_says_true() {
    let (url, requests) = serve(|_, before| says(200, if before < 3 { "FALSE" } else { "TRUE" })).await;
    let notice = noticed(&gcp(&url)).await;
    assert_eq!((notice.provider, notice.left), ("gcp", Duration::from_secs(23)));
    let requests = requests.lock().unwrap();
    assert_eq!(requests.len(), 4);
    assert!(requests[0].starts_with("get /computemetadata/v1/instance/preempted "));
    assert!(requests[0].contains("metadata-flavor: google\r\n"));
}

#[tokio::test]
async fn nonsense_refusals_and_hang_ups_are_no_notice() {
    for options in [aws, azure, gcp] {
        let (elsewhere, _) = serve(|_, _| says(200, "TRUE")).await;
        let (url, requests) = serve(move |head, before| match before % 9 {
            _ if head.starts_with("put") => says(200, "session"),
            0 => says(200, "<html>TRUE</html>"),
            1 => says(200, ""),
            2 => says(500, "TRUE"),
            3 => says(403, r#"{"action": "terminate"}"#),
            4 => Reply::HangsUp,
            5 => says(200, r#"{"action": 7, "Events": {"EventType": "Preempt"}}"#),
            6 => says(200, "\u{0}\u{1}"),
            7 => Reply::Redirects(elsewhere.to_string()),
            _ => says(429, ""),
        })
        .await;
        goes_unnoticed(&options(&url), &requests, 20).await;
    }
}

#[tokio::test]
async fn a_session_of_nonsense_is_not_opened() {
    let (url, requests) = serve(|_, _| says(200, "two\r\nlines")).await;
    goes_unnoticed(&aws(&url), &requests, 5).await;
    assert!(requests.lock().unwrap().iter().all(|one| one.starts_with("put")));
}

#[tokio::test]
async fn an_endpoint_that_hangs_is_asked_again_and_does_not_hold_up_another() {
    let (url, _) = serve(|_, before| if before < 2 { Reply::Hangs } else { says(200, "TRUE") }).await;
    assert_eq!(noticed(&gcp(&url)).await.provider, "gcp");

    let (mute, _) = serve(|_, _| Reply::Hangs).await;
    let both = Notices { aws: Some(mute.clone()), azure: Some(mute), ..gcp(&url) };
    assert_eq!(noticed(&both).await.provider, "gcp");
}

#[tokio::test]
async fn nobody_listening_or_nobody_to_ask_is_a_wait_until_it_is_stopped() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    for options in [aws(&url), Notices::default()] {
        let stop = CancellationToken::new();
        let http = client().unwrap();
        let watching = watch(&http, &options, &stop);
        tokio::pin!(watching);
        assert!(timeout(Duration::from_millis(50), &mut watching).await.is_err());
        stop.cancel();
        assert_eq!(timeout(Duration::from_secs(30), watching).await, Ok(None));
    }
    assert!(Notices::default().is_empty() && !aws(&url).is_empty());
}

#[test]
fn providers_are_asked_where_they_are_unless_told_otherwise() {
    let all = Notices::of(&Provider::ALL, None);
    assert_eq!(all.gcp.unwrap().as_str(), "http://169.254.169.254/");
    assert!(all.aws.is_some() && all.azure.is_some());
    let other: Url = "http://127.0.0.1:1/x".parse().unwrap();
    assert_eq!(
        Notices::of(&[Provider::Aws], Some(&other)),
        Notices { aws: Some(other), ..Notices::default() }
    );
}

/// The identity that the service tells.
async fn told(provider: Provider, base: &Url, limit: Duration) -> Result<Identity, Error> {
    let http = client().unwrap();
    identity(&http, &[provider], Some(base), "--label-from cloud", Deadline::after(limit)).await
}

const IN_TIME: Duration = Duration::from_secs(30);

const AWS_IDENTITY: &str = r#"{"accountId": "123456789012", "architecture": "arm64", "availabilityZone": "eu-west-1a",
    "instanceId": "i-0123456789abcdef0", "instanceType": "m7g.large", "region": "eu-west-1", "version": "2017-09-30"}"#;

#[tokio::test]
async fn each_cloud_tells_what_the_machine_is() {
    let (url, requests) = serve(|head, _| match head.split(' ').nth(1).unwrap() {
        "/latest/api/token" => says(200, "session-1"),
        "/latest/dynamic/instance-identity/document"
            if head.contains("x-aws-ec2-metadata-token: session-1") =>
        {
            says(200, AWS_IDENTITY)
        }
        _ => says(401, ""),
    })
    .await;
    let it = told(Provider::Aws, &url, IN_TIME).await.unwrap();
    assert_eq!(it.instance_id, "i-0123456789abcdef0");
    assert_eq!(it.labels(), ["aws", "eu-west-1", "eu-west-1a", "m7g.large"]);
    assert!(requests.lock().unwrap()[0].starts_with("put "));

    let azure = |zone: &'static str| {
        serve(move |head, _| match head.split(' ').nth(1).unwrap() {
            "/metadata/instance/compute?api-version=2021-02-01&format=json"
                if head.contains("metadata: true") =>
            {
                let id = "02aab8a4-74ef-476e-8182-f6d2ba4166a6";
                says(
                    200,
                    &format!(
                        r#"{{"location": "westeurope", "name": "m", "vmId": "{id}", "vmSize": "Standard_D2s_v5", "zone": "{zone}"}}"#
                    ),
                )
            }
            _ => says(400, ""),
        })
    };
    let it = told(Provider::Azure, &azure("2").await.0, IN_TIME).await.unwrap();
    assert_eq!(it.instance_id, "02aab8a4-74ef-476e-8182-f6d2ba4166a6");
    assert_eq!(it.labels(), ["azure", "westeurope", "westeurope-2", "Standard_D2s_v5"]);
    let it = told(Provider::Azure, &azure("").await.0, IN_TIME).await.unwrap();
    assert_eq!(it.labels(), ["azure", "westeurope", "Standard_D2s_v5"]);

    let (url, _) = serve(|head, _| match head.split(' ').nth(1).unwrap() {
        _ if !head.contains("metadata-flavor: google") => says(403, ""),
        "/computemetadata/v1/instance/id" => says(200, "4520031799277581759"),
        "/computemetadata/v1/instance/zone" => says(200, "projects/123/zones/europe-west1-b"),
        "/computemetadata/v1/instance/machine-type" => says(200, "projects/123/machineTypes/n2-standard-4"),
        _ => says(404, ""),
    })
    .await;
    let it = told(Provider::Gcp, &url, IN_TIME).await.unwrap();
    assert_eq!((it.instance_id.as_str(), it.region.as_str()), ("4520031799277581759", "europe-west1"));
    assert_eq!(it.labels(), ["gcp", "europe-west1", "europe-west1-b", "n2-standard-4"]);
}

#[tokio::test]
async fn a_service_that_comes_up_late_is_waited_for_and_a_refusal_is_not() {
    let (url, _) = serve(|head, before| match before {
        0 => Reply::HangsUp,
        1 => says(503, ""),
        _ if head.starts_with("put ") => says(200, "session-1"),
        _ => says(200, AWS_IDENTITY),
    })
    .await;
    assert_eq!(told(Provider::Aws, &url, IN_TIME).await.unwrap().region, "eu-west-1");

    let (silent, _) = serve(|_, _| Reply::HangsUp).await;
    let error = told(Provider::Aws, &silent, Duration::from_millis(600)).await.unwrap_err();
    assert_eq!(crate::error::Failure::class(&error), crate::error::Class::TempFail, "{error:?}");
    // Nothing that a name or a label cannot hold is taken from there; nor is the page of a captive portal.
    for (body, redirects) in [
        (AWS_IDENTITY.replace("m7g.large", "self-hosted,gpu"), false),
        (AWS_IDENTITY.replace("i-0123456789abcdef0", "-x"), false),
        ("<html>Welcome</html>".to_owned(), false),
        (AWS_IDENTITY.to_owned(), true),
    ] {
        let (url, requests) = serve(move |head, _| match head {
            _ if head.starts_with("put ") => says(200, "session-1"),
            _ if redirects && !head.contains("elsewhere") => Reply::Redirects("/elsewhere".to_owned()),
            _ => says(200, &body),
        })
        .await;
        let error = told(Provider::Aws, &url, IN_TIME).await.unwrap_err();
        assert_eq!(crate::error::Failure::class(&error), crate::error::Class::Unavailable, "{error:?}");
        assert!(requests.lock().unwrap().len() <= 3, "it is not asked again");
    }
}
