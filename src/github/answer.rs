//! Reads an answer: its headers, its message, its document.

use super::error::{Error, Reply};
use crate::net::{Answer, answered_at, redact};
use jiff::Timestamp;
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// How much of an answer that is not JSON is shown, in characters.
pub(super) const START: usize = 80;
/// How much of a message is shown, in characters.
const MOST_SAID: usize = 400;

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

/// When a rate limit is reset, by our clock: `Retry-After` in seconds, else `X-RateLimit-Reset` in seconds since the
/// epoch by the server's.
pub(super) fn until(answer: &Answer) -> Option<Timestamp> {
    let number = |name| header(answer, name)?.trim().parse::<i64>().ok();
    let now = Timestamp::now().as_second();
    let left = match number("retry-after") {
        Some(seconds) => seconds,
        None => number("x-ratelimit-reset")?.checked_sub(answered_at(&answer.headers).as_second())?,
    };
    Timestamp::from_second(now.checked_add(left)?).ok()
}

/// GitHub's `message`, followed by its `errors`; `None` if the body is not a JSON object.
pub(super) fn message(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Refusal<'a> {
        #[serde(borrow, default)]
        message: Option<&'a RawValue>,
        #[serde(borrow, default)]
        errors: Option<&'a RawValue>,
    }
    #[derive(serde::Deserialize)]
    struct Detail {
        message: String,
    }

    // serde accepts an array as a struct whose fields come in order.
    if !body.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    let body: Refusal<'_> = serde_json::from_slice(body).ok()?;
    let mut text = body.message.and_then(|raw| short_text(raw.get())).unwrap_or_default();
    let mut add = |raw: &RawValue| {
        let detail = short_text(raw.get())
            .or_else(|| serde_json::from_str::<Detail>(raw.get()).ok().map(|detail| detail.message));
        if let Some(detail) =
            detail.filter(|detail| text.len() < MOST_SAID && !text.contains(detail.as_str()))
        {
            let comma = if text.is_empty() { "" } else { "; " };
            text = format!("{text}{comma}{detail}");
        }
    };
    if let Some(errors) = body.errors {
        // GitHub sends a list, or one text. Anything else adds nothing.
        if errors.get().starts_with('"') {
            add(errors);
        }
        let _ = super::listing::each(errors.get().as_bytes(), |raw: &RawValue| add(raw));
    }
    Some(text.chars().filter(|c| !c.is_control()).take(MOST_SAID).collect())
}

fn short_text(json: &str) -> Option<String> {
    let text: String = serde_json::from_str(json).ok()?;
    Some(text.chars().take(MOST_SAID).collect())
}

/// How a body begins, printable characters only. Text that looks like JSON is not shown, because it may hold a token.
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
    serde_json::from_slice(&answer.body).map_err(|source| unreadable(method, answer, what, source))
}

/// The error for a body that is not JSON, or not the expected document.
pub(super) fn unreadable(
    method: &Method,
    answer: &Answer,
    what: &'static str,
    source: serde_json::Error,
) -> Error {
    if serde_json::from_slice::<serde::de::IgnoredAny>(&answer.body).is_err() {
        let (url, start) = (redact(&answer.url), start(&answer.body));
        return Error::NotJson { method: method.to_string(), url, status: answer.status, start };
    }
    bad_document(method, answer, what, source)
}

pub(super) fn bad_document(
    method: &Method,
    answer: &Answer,
    what: &'static str,
    source: serde_json::Error,
) -> Error {
    let said = source.to_string();
    // The message quotes what it found, which can be the whole answer.
    let source = match said.char_indices().nth(MOST_SAID) {
        Some((end, _)) => serde::de::Error::custom(format_args!("{}[...]", &said[..end])),
        None => source,
    };
    Error::BadDocument { what, method: method.to_string(), url: redact(&answer.url), source }
}
