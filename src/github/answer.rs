//! What an answer says: its headers, its message, its document.

use super::error::{Error, Reply};
use crate::net::{Answer, redact};
use jiff::Timestamp;
use reqwest::Method;
use serde::de::DeserializeOwned;

/// How much of an answer that is not JSON is shown, in characters.
pub(super) const START: usize = 80;

pub(super) fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.get(name)?.to_str().ok()
}

pub(super) fn has_next(answer: &Answer) -> bool {
    answer.headers.get_all("link").iter().filter_map(|value| value.to_str().ok()).any(|links| {
        links.split(',').any(|link| {
            link.split(';').skip(1).any(|parameter| {
                let (key, value) = parameter.split_once('=').unwrap_or_default();
                key.trim().eq_ignore_ascii_case("rel")
                    && value.trim().trim_matches('"').split(' ').any(|word| word.eq_ignore_ascii_case("next"))
            })
        })
    })
}

pub(super) fn is_rate_limit(answer: &Answer, reply: &Reply) -> bool {
    header(answer, "retry-after").is_some()
        || header(answer, "x-ratelimit-remaining") == Some("0")
        || reply.message.to_lowercase().contains("rate limit")
}

/// When a rate limit is over: `Retry-After` in seconds, else `X-RateLimit-Reset` in seconds of the epoch.
pub(super) fn until(answer: &Answer) -> Option<Timestamp> {
    let number = |name| header(answer, name)?.trim().parse::<i64>().ok();
    match number("retry-after") {
        Some(seconds) => Timestamp::from_second(Timestamp::now().as_second().checked_add(seconds)?).ok(),
        None => Timestamp::from_second(number("x-ratelimit-reset")?).ok(),
    }
}

/// GitHub's `message`, with what its `errors` add; `None` if the body is not a JSON object.
pub(super) fn message(body: &[u8]) -> Option<String> {
    let body: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body).ok()?;
    let mut text = body.get("message").and_then(|message| message.as_str()).unwrap_or_default().to_owned();
    for error in body.get("errors").and_then(|errors| errors.as_array()).into_iter().flatten() {
        let detail = error.as_str().or_else(|| error.get("message")?.as_str());
        if let Some(detail) = detail.filter(|detail| !text.contains(detail)) {
            text = format!("{text}; {detail}");
        }
    }
    Some(text.chars().filter(|c| !c.is_control()).take(400).collect())
}

/// How a body begins, printable characters only. Of what looks like JSON nothing is shown: it may hold a token.
pub(super) fn start(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(START * 8)]);
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let text = words.collect::<Vec<_>>().join(" ");
    if text.starts_with(['{', '[', '"']) {
        return "broken JSON".to_owned();
    }
    text.chars().take(START).collect()
}

pub(super) fn read<T: DeserializeOwned>(
    method: &Method,
    answer: &Answer,
    what: &'static str,
) -> Result<T, Error> {
    serde_json::from_slice(&answer.body).map_err(|source| {
        if serde_json::from_slice::<serde::de::IgnoredAny>(&answer.body).is_err() {
            let (url, start) = (redact(&answer.url), start(&answer.body));
            return Error::NotJson { method: method.to_string(), url, status: answer.status, start };
        }
        bad_document(method, answer, what, source)
    })
}

pub(super) fn bad_document(
    method: &Method,
    answer: &Answer,
    what: &'static str,
    source: serde_json::Error,
) -> Error {
    Error::BadDocument { what, method: method.to_string(), url: redact(&answer.url), source }
}
