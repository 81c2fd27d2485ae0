//! Tests the sandbox with real HTTP, and its runner with real processes.

mod conduct;
mod config;
mod faults;
mod jobs;
mod listener;
mod rest;
mod trees;
mod unkind;
#[cfg(unix)]
mod update;

use super::{Background, Options, spawn_in_thread};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// One answer, as received.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Waits for a condition, or fails with its description.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: not within 20 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn sandbox() -> Background {
    spawn_in_thread(Options::default()).unwrap()
}

fn send(sandbox: &Background, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
    try_send(sandbox, method, path, headers, body, Duration::from_secs(20)).expect("an answer has a head")
}

/// Sends one request with these header lines, and reads until the connection closes or has been silent for so long;
/// `None` if not even a head came.
fn try_send(
    sandbox: &Background,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &str,
    silence: Duration,
) -> Option<Answer> {
    let base = sandbox.base_url();
    let authority = format!("{}:{}", base.host_str().unwrap(), base.port().unwrap());
    let mut stream = TcpStream::connect(&authority).unwrap();
    stream.set_read_timeout(Some(silence)).unwrap();
    let headers = [headers, &[""]].concat().join("\r\n");
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: test\r\nConnection: close\r\n\
         Content-Length: {length}\r\n{headers}\r\n{body}"
    )
    .unwrap();
    let mut bytes = Vec::new();
    // A cut or a stall is an error here; the data before it counts.
    drop(stream.read_to_end(&mut bytes));
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Some(Answer { status, head, body: bytes[end + 4..].to_vec() })
}

/// The same with the API token.
fn call(sandbox: &Background, method: &str, path: &str) -> Answer {
    call_with(sandbox, method, path, "")
}

fn call_with(sandbox: &Background, method: &str, path: &str, body: &str) -> Answer {
    let authorization = format!("Authorization: Bearer {}", sandbox.token().expose());
    send(sandbox, method, path, &[&authorization], body)
}

/// The entry of this platform in the downloads list: path, token, checksum, file name.
struct Download {
    path: String,
    authorization: String,
    sha256: String,
    filename: String,
}

fn download(sandbox: &Background, os: &str, architecture: &str) -> Download {
    let list = call(sandbox, "GET", "/api/v3/orgs/acme/actions/runners/downloads").json();
    let is_it = |entry: &&serde_json::Value| entry["os"] == os && entry["architecture"] == architecture;
    let entry = list.as_array().unwrap().iter().find(is_it).unwrap();
    let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    Download {
        path: url::Url::parse(&text("download_url")).unwrap().path().to_owned(),
        authorization: format!("Authorization: Bearer {}", text("temp_download_token")),
        sha256: text("sha256_checksum"),
        filename: text("filename"),
    }
}
