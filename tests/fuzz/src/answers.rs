//! The answers of the API, to every call: no wait, no memory, no message beyond the limits, and no credential in a message.

use crate::machine::{HTTP, failure, wait_for};
use crate::server::answering;
use runup::github::{Client, Credential, Error, Filter, NewJitRunner, Target};
use runup::host::Platform;
use runup::runner::asset;
use runup::secret::Secret;
use std::time::Duration;

const TOKEN: &str = "ghp_canary0123456789canary0123456789abcd";
/// Between two answers.
const SEPARATOR: u8 = 0x1e;

/// The first byte chooses a call. Then come answers: the status, headers in lines, an empty line, the body. The last answer is
/// repeated.
pub fn run(data: &[u8]) -> bool {
    let [call, rest @ ..] = data else { return false };
    let mut answers: Vec<Vec<u8>> = rest.split(|byte| *byte == SEPARATOR).take(5).map(answer).collect();
    let last = answers.pop().unwrap_or_default();
    let script = answers
        .into_iter()
        .map(|bytes| Box::new(move |_: &str| bytes.clone()) as Box<dyn Fn(&str) -> Vec<u8> + Send>);
    let address = answering(script.collect(), Box::new(move |_| last.clone()));
    let target = Target::parse(&format!("http://{address}/octo-org"), None, false).unwrap();
    let credential = Secret::new(TOKEN).map(|token| Credential::token(token, "RUNUP_TOKEN"));
    let client = Client::new(HTTP.clone(), target, credential, Duration::from_millis(500));
    let outcome = wait_for(ask(&client, *call));
    let _ = client.now();
    match outcome {
        Ok(()) => true,
        Err(error) => {
            failure(&error);
            let contains = |bytes: &[u8]| bytes.windows(16).any(|window| window == &TOKEN.as_bytes()[..16]);
            let text = format!("{error:?} {}", runup::error::chain(&error));
            assert!(!contains(text.as_bytes()) || contains(data), "{text}");
            false
        }
    }
}

async fn ask(client: &Client, call: u8) -> Result<(), Error> {
    match call {
        b'd' => {
            let offered = client.downloads().await?;
            for platform in ["linux-x64", "win-x64", "linux-arm"] {
                let platform: Platform = platform.parse().unwrap();
                if let Err(error) = asset::choose(&offered, platform, None) {
                    failure(&error);
                }
            }
        }
        b'p' => _ = client.release(None).await?,
        b'r' => _ = client.runners(&Filter::default()).await?,
        b'n' => _ = client.runners_where(Some("box"), |runner| runner.is_named("box")).await?,
        b'i' => _ = client.runner(23).await?,
        b't' => _ = client.registration_token().await?,
        b'g' => _ = client.group_named("builders").await?,
        b'x' => _ = client.deprecation("2.336.0").await?,
        b'e' => _ = client.delete(23).await?,
        _ => {
            let new = NewJitRunner {
                name: "box".to_owned(),
                runner_group_id: 1,
                labels: vec!["gpu".to_owned()],
                work_folder: "_work".to_owned(),
            };
            client.generate_jitconfig(&new).await?;
        }
    }
    Ok(())
}

/// An answer with a correct length, so that the body can be changed freely.
fn answer(text: &[u8]) -> Vec<u8> {
    let end = text.windows(2).position(|pair| pair == b"\n\n").unwrap_or(text.len());
    let (head, body) = (&text[..end], text.get(end + 2..).unwrap_or_default());
    let mut lines = head.split(|byte| *byte == b'\n');
    let status = lines.next().and_then(|line| std::str::from_utf8(line).ok()?.parse::<u16>().ok());
    let status = status.filter(|status| (100..1000).contains(status)).unwrap_or(200);
    let mut bytes = format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n", body.len())
        .into_bytes();
    for line in lines.filter(|line| line.contains(&b':')) {
        bytes.extend_from_slice(line);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

pub fn good() -> Vec<u8> {
    b"r200\ncontent-type: application/json\n\n{\"total_count\":1,\"runners\":[{\"id\":23,\"name\":\"box\",\"os\":\"linux\",\
      \"status\":\"online\",\"busy\":false,\"labels\":[{\"id\":1,\"name\":\"gpu\",\"type\":\"custom\"}]}]}"
        .to_vec()
}
