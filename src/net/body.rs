//! A body that is read in chunks, and the range to request.

use super::{Error, HeaderMap, Method, Url, redact, transport_error};
use bytes::Bytes;
use reqwest::Response;
use reqwest::header::{HeaderValue, IF_RANGE, RANGE};

/// The rest of a body, from a byte on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The first byte to request, counted from zero.
    pub from: u64,
    /// The strong `ETag` or the `Last-Modified` of the part that was received: a server whose file has changed since
    /// answers 200 with the whole file instead of 206 with the rest.
    pub if_range: Option<String>,
}

impl Range {
    pub(super) fn write(&self, headers: &mut HeaderMap, url: &Url) -> Result<(), Error> {
        let range =
            HeaderValue::try_from(format!("bytes={}-", self.from)).expect("digits are a header value");
        headers.insert(RANGE, range);
        if let Some(validator) = &self.if_range {
            let value = HeaderValue::from_str(validator)
                .map_err(|_| Error::Header { name: IF_RANGE.to_string(), url: redact(url) })?;
            headers.insert(IF_RANGE, value);
        }
        Ok(())
    }
}

/// An answer whose body has not been read yet.
#[derive(Debug)]
pub struct Body {
    response: Response,
    /// The method of the request, for errors.
    method: Method,
}

impl Body {
    pub(super) fn new(response: Response, method: Method) -> Self {
        Self { response, method }
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// A header's value, if it exists and is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// The URL that answered: the target of the last redirect.
    #[must_use]
    pub fn url(&self) -> &Url {
        self.response.url()
    }

    /// The `Content-Length`, in bytes.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// The next chunk; `None` at the end. Fails if the connection is cut or stalls.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let chunk = self.response.chunk().await;
        chunk.map_err(|source| transport_error(&self.method, self.response.url(), None, source))
    }

    pub(super) fn into_parts(mut self) -> (u16, HeaderMap, Url) {
        let headers = std::mem::take(self.response.headers_mut());
        (self.status(), headers, self.response.url().clone())
    }
}
