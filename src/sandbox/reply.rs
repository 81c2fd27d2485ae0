//! An answer of the sandbox, before faults are applied.

use bytes::Bytes;
use serde_json::{Value, json};

/// Status, headers and body; the common headers (length, date, request id) are added when it is sent.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
}

impl Reply {
    pub fn json(status: u16, body: &Value) -> Self {
        let headers = vec![("content-type", "application/json; charset=utf-8".to_owned())];
        Self { status, headers, body: Bytes::from(body.to_string()) }
    }

    /// GitHub's error document.
    pub fn message(status: u16, message: &str) -> Self {
        let body = json!({
            "message": message,
            "documentation_url": "https://docs.github.com/rest",
            "status": status.to_string(),
        });
        Self::json(status, &body)
    }

    pub fn no_content() -> Self {
        Self { status: 204, headers: Vec::new(), body: Bytes::new() }
    }

    /// GitHub's answer for everything that does not exist, may not be seen, or is in another scope.
    pub fn not_found() -> Self {
        Self::message(404, "Not Found")
    }

    pub fn bad_credentials() -> Self {
        Self::message(401, "Bad credentials")
    }

    /// The answer of a proxy or a load balancer in front of GitHub.
    pub fn html(status: u16) -> Self {
        let body = "<!DOCTYPE html>\n<html><head><title>Unicorn! &middot; GitHub</title></head>\
                    <body><p>We had issues producing the response to your request.</p></body></html>\n";
        Self {
            status,
            headers: vec![("content-type", "text/html; charset=utf-8".to_owned())],
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}
