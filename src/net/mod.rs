//! The HTTP client: retries, redirects, proxies, TLS, time limits, and the redaction of URLs.
//!
//! It sends a credential to one host only, and decides which failures are retried and how long to wait. It does not
//! know GitHub's API, files or archives, and does not read the environment: [`HttpOptions`] has everything that it needs.

mod body;
mod error;
mod pause;
mod proxy;
pub mod reach;
mod redact;
mod redirect;
mod situations;
mod tls;
mod trouble;
mod verdict;

pub use body::{Body, Range};
pub use error::Error;
pub use proxy::{ProxyInUse, ProxyProblem, ProxyRules, ignored};
pub use redact::redact;
pub use reqwest::Method;
pub use reqwest::header::HeaderMap;
pub use trouble::Trouble;
pub use url::Url;
pub use verdict::{Backoff, Outcome, Verdict, answered_at, verdict};

use crate::deadline::Deadline;
use crate::secret::Secret;
use jiff::Timestamp;
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, HeaderName, HeaderValue};
use reqwest::{Client, Proxy, Response};
use rustls::pki_types::CertificateDer;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The largest body that [`Http::call`] accepts, in bytes: API answers have a few hundred kilobytes at most. The body
/// is held in memory, so it counts against the memory budget of the program.
pub const BODY_LIMIT: usize = 4 << 20;

/// How the client behaves.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// The `User-Agent`, which GitHub requires.
    pub user_agent: String,
    /// The timeout for name resolution, connection and TLS handshake; 10 s by default.
    pub connect_timeout: Duration,
    /// The longest time without any byte from the server; 30 s by default. There is no total limit.
    pub stall_timeout: Duration,
    /// A PEM file with root certificates to trust in addition to the machine's.
    pub ca_file: Option<PathBuf>,
    /// Which proxy to use for which URL.
    pub proxy: ProxyRules,
    /// Whether a bearer token may be sent over plain HTTP to another machine.
    pub allow_http: bool,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            user_agent: concat!("runup/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            ca_file: None,
            proxy: ProxyRules::default(),
            allow_http: false,
        }
    }
}

/// The client. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Http {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: HttpOptions,
    extra_roots: Vec<CertificateDer<'static>>,
    plain: Client,
    /// Created for the first https URL, because reading the machine's root certificates takes milliseconds.
    tls: OnceLock<Client>,
    /// What was called first and answered.
    answered: OnceLock<Url>,
}

/// A request to the API: small, and retried until its answer is final or its deadline passes.
#[derive(Debug, Clone)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// The URL.
    pub url: Url,
    /// Sent as `Authorization: Bearer`, to this URL's host only.
    pub bearer: Option<Secret>,
    /// Further headers. They are sent to the host of a redirect too, so they must not hold credentials.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Option<Vec<u8>>,
    /// When to give up, all attempts included.
    pub deadline: Deadline,
}

impl Call {
    /// A call without credentials, headers or body.
    #[must_use]
    pub fn new(method: Method, url: Url, deadline: Deadline) -> Self {
        Self { method, url, bearer: None, headers: Vec::new(), body: None, deadline }
    }
}

/// A final answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Vec<u8>,
    /// The URL that answered: the target of the last redirect.
    pub url: Url,
    /// How many requests it took, refused ones included.
    pub attempts: u32,
}

impl Answer {
    /// A header's value, if it exists and is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Http {
    /// A client. Reads `ca_file` if it is set; the machine's root certificates are read when they are needed.
    pub fn new(options: HttpOptions) -> Result<Self, Error> {
        let extra_roots = options.ca_file.as_deref().map(tls::read_ca_file).transpose()?.unwrap_or_default();
        let plain = client(&options, &tls::Roots::None)?;
        Ok(Self {
            inner: Arc::new(Inner {
                options,
                extra_roots,
                plain,
                tls: OnceLock::new(),
                answered: OnceLock::new(),
            }),
        })
    }

    /// Calls the API until the answer is final ([`verdict`]), and returns that answer whatever its status. Fails if
    /// there is no final answer before the deadline, or if its body exceeds [`BODY_LIMIT`].
    pub async fn call(&self, call: Call) -> Result<Answer, Error> {
        let mut backoff = Backoff::default();
        let mut attempts = 0;
        let mut last = None;
        loop {
            pause::wait(&call, &mut backoff).await;
            attempts += 1;
            let attempt = tokio::time::timeout_at(call.deadline.instant(), self.attempt(&call)).await;
            let Ok(outcome) = attempt else { return Err(gave_up(&call, attempts, last)) };
            let (verdict, failure) = match outcome {
                Ok(answer) => {
                    let outcome = Outcome::Answered {
                        status: answer.status,
                        headers: &answer.headers,
                        body: &answer.body,
                        now: answered_at(&answer.headers),
                    };
                    match verdict(&call.method, &outcome) {
                        Verdict::Done | Verdict::Fatal => return Ok(Answer { attempts, ..answer }),
                        verdict => (verdict, status_error(&call.method, &answer.url, answer.status)),
                    }
                }
                Err(error) => match verdict(&call.method, &Outcome::Failed(&error)) {
                    Verdict::Done | Verdict::Fatal => return Err(error),
                    verdict => (verdict, error),
                },
            };
            let (wait, asked) = backoff.obey(verdict);
            if asked {
                pause::note(&call, wait);
            }
            if wait >= call.deadline.left() {
                return Err(match failure.status() {
                    Some(status) if asked => rate_limited(&call, status, wait),
                    _ => gave_up(&call, attempts, Some(failure)),
                });
            }
            let pause =
                if asked { backoff.spread(wait).min(wait.max(call.deadline.left() / 2)) } else { wait };
            let seconds = pause.as_secs_f32();
            crate::event::retry(&failure, pause);
            if asked {
                tracing::warn!("{failure}; trying again in {seconds:.0} s, as the server requested");
            } else {
                tracing::info!("{failure}; trying again in {seconds:.1} s");
            }
            last = Some(failure);
            tokio::time::sleep(pause).await;
        }
    }

    /// Calls once and returns the answer whatever its status, for callers that poll. Fails like [`Http::call`].
    pub async fn call_once(&self, call: &Call) -> Result<Answer, Error> {
        let attempt = tokio::time::timeout_at(call.deadline.instant(), self.attempt(call)).await;
        attempt.unwrap_or_else(|_| Err(gave_up(call, 1, None)))
    }

    /// Requests `url` once and returns its body to be read, whatever the status. Redirects are followed; `bearer` is
    /// sent to the URL's own scheme, host and port only.
    pub async fn open(
        &self,
        url: &Url,
        bearer: Option<&Secret>,
        range: Option<Range>,
    ) -> Result<Body, Error> {
        let mut headers = HeaderMap::new();
        if let Some(range) = range {
            range.write(&mut headers, url)?;
        }
        let response = self.follow(Method::GET, url, bearer, &headers, None).await?;
        Ok(Body::new(response, Method::GET))
    }

    async fn attempt(&self, call: &Call) -> Result<Answer, Error> {
        let mut headers = HeaderMap::new();
        for (name, value) in &call.headers {
            let unsendable = || Error::Header { name: (*name).to_owned(), url: redact(&call.url) };
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unsendable())?;
            headers.insert(name, HeaderValue::from_str(value).map_err(|_| unsendable())?);
        }
        let body = call.body.as_deref();
        let response =
            self.follow(call.method.clone(), &call.url, call.bearer.as_ref(), &headers, body).await?;
        if response.status().as_u16() < 500 {
            self.inner.answered.get_or_init(|| call.url.clone());
        }
        let mut body = Body::new(response, call.method.clone());
        let mut bytes = Vec::new();
        loop {
            let chunk = match body.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                // A server that requests a wait in its headers gets it.
                Err(_) if asks_to_wait(&call.method, &body) => break,
                Err(error) => return Err(error),
            };
            if bytes.len() + chunk.len() > BODY_LIMIT {
                return Err(Error::BodyTooLarge {
                    method: call.method.to_string(),
                    url: redact(body.url()),
                    limit: BODY_LIMIT,
                });
            }
            bytes.extend_from_slice(&chunk);
        }
        let (status, headers, url) = body.into_parts();
        if let Some(plain) = unpacked(&bytes, &headers) {
            if plain.len() > BODY_LIMIT {
                let method = call.method.to_string();
                return Err(Error::BodyTooLarge { method, url: redact(&url), limit: BODY_LIMIT });
            }
            bytes = plain;
        }
        Ok(Answer { status, headers, body: bytes, url, attempts: 1 })
    }

    /// Sends a request and follows its redirects.
    async fn follow(
        &self,
        method: Method,
        url: &Url,
        bearer: Option<&Secret>,
        headers: &HeaderMap,
        body: Option<&[u8]>,
    ) -> Result<Response, Error> {
        let mut hop = redirect::Hop::first(method, url.clone());
        loop {
            let mut request = self
                .client_for(&hop.url)?
                .request(hop.method.clone(), hop.url.clone())
                .headers(headers.clone());
            if let Some(secret) = bearer.filter(|_| hop.may_authorize) {
                self.check_bearer(&hop.url)?;
                let mut value = HeaderValue::try_from(format!("Bearer {}", secret.expose()))
                    .expect("a secret has only characters that a header can carry");
                value.set_sensitive(true);
                request = request.header(AUTHORIZATION, value);
            }
            if let Some(body) = body.filter(|_| hop.sends_body) {
                request = request.body(body.to_vec());
            }
            let proxy = || self.inner.options.proxy.proxy_in_use(&hop.url);
            let sent = request.send().await;
            let response = sent.map_err(|source| transport_error(&hop.method, &hop.url, proxy(), source))?;
            if let (407, Some(proxy)) = (response.status().as_u16(), proxy()) {
                return Err(proxy_refused(&hop.method, &hop.url, proxy));
            }
            match hop.next(response.status().as_u16(), response.headers())? {
                Some(next) => {
                    tracing::debug!(from = redact(&hop.url), to = redact(&next.url), "following a redirect");
                    hop = next;
                }
                None => return Ok(response),
            }
        }
    }

    /// Refuses to send a bearer token over plain HTTP to another machine, where anyone on the network could read it,
    /// unless [`HttpOptions::allow_http`] is set. Nothing is sent.
    pub fn check_bearer(&self, url: &Url) -> Result<(), Error> {
        if url.scheme() != "http" || self.inner.options.allow_http || proxy::is_loopback(url) {
            return Ok(());
        }
        Err(Error::PlainBearer { url: redact(url) })
    }

    fn client_for(&self, url: &Url) -> Result<&Client, Error> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::Scheme { url: redact(url) });
        }
        let Inner { options, extra_roots, plain, tls, .. } = &*self.inner;
        let secure = |url: &Url| url.scheme() == "https";
        if !secure(url) && !options.proxy.proxy_for(url).is_some_and(secure) {
            return Ok(plain);
        }
        if let Some(client) = tls.get() {
            return Ok(client);
        }
        let client = client(options, &tls::Roots::Platform(extra_roots))?;
        Ok(tls.get_or_init(|| client))
    }
}

/// A body that something on the way has compressed, although that was not accepted; `None` for any other. One byte more
/// than [`BODY_LIMIT`] at most.
fn unpacked(bytes: &[u8], headers: &HeaderMap) -> Option<Vec<u8>> {
    if !is_gzip(headers) {
        return None;
    }
    let mut plain = Vec::new();
    let limit = BODY_LIMIT as u64 + 1;
    flate2::read::MultiGzDecoder::new(bytes).take(limit).read_to_end(&mut plain).ok()?;
    Some(plain)
}

/// Whether the body is compressed for the transfer, by what its headers say.
pub(crate) fn is_gzip(headers: &HeaderMap) -> bool {
    let encoding = headers.get(CONTENT_ENCODING).and_then(|value| value.to_str().ok());
    encoding
        .is_some_and(|encoding| ["gzip", "x-gzip"].iter().any(|known| encoding.eq_ignore_ascii_case(known)))
}

fn client(options: &HttpOptions, roots: &tls::Roots<'_>) -> Result<Client, Error> {
    let rules = options.proxy.clone();
    Client::builder()
        .user_agent(&options.user_agent)
        // A body that was compressed for the transfer could not be compared with the digest of the file.
        .default_headers([(ACCEPT_ENCODING, HeaderValue::from_static("identity"))].into_iter().collect())
        .connect_timeout(options.connect_timeout)
        .read_timeout(options.stall_timeout)
        .tcp_keepalive(Duration::from_secs(15))
        // `Http::follow` follows redirects, because it decides which host gets the credential.
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .http1_only()
        .no_proxy()
        .proxy(Proxy::custom(move |url| rules.proxy_for(url).cloned()))
        .tls_backend_preconfigured(tls::config(roots))
        .build()
        .map_err(Error::Client)
}

/// Whether the status and the headers alone tell when to try again.
fn asks_to_wait(method: &Method, body: &Body) -> bool {
    let (status, headers, now) = (body.status(), body.headers(), answered_at(body.headers()));
    matches!(verdict(method, &Outcome::Answered { status, headers, body: &[], now }), Verdict::RetryAfter(_))
}

fn transport_error(method: &Method, url: &Url, proxy: Option<ProxyInUse>, source: reqwest::Error) -> Error {
    let proxy = match proxy {
        Some(proxy) if trouble::is_refused_by_proxy(&source) => return proxy_refused(method, url, proxy),
        proxy => proxy,
    };
    let trouble = Trouble::of(&source);
    // reqwest's message would repeat the URL without redaction.
    let source = source.without_url();
    Error::Transport { method: method.to_string(), url: redact(url), trouble, proxy, cause: source }
}

fn proxy_refused(method: &Method, url: &Url, proxy: ProxyInUse) -> Error {
    Error::ProxyRefused { method: method.to_string(), url: redact(url), proxy }
}

fn status_error(method: &Method, url: &Url, status: u16) -> Error {
    Error::Status { method: method.to_string(), url: redact(url), status }
}

fn gave_up(call: &Call, attempts: u32, last: Option<Error>) -> Error {
    Error::Deadline {
        method: call.method.to_string(),
        url: redact(&call.url),
        total: call.deadline.total(),
        attempts,
        last: last.map(Box::new),
    }
}

fn rate_limited(call: &Call, status: u16, wait: Duration) -> Error {
    let until = Timestamp::now()
        .checked_add(wait)
        .and_then(|until| until.round(jiff::Unit::Second))
        .unwrap_or(Timestamp::MAX);
    Error::RateLimited {
        method: call.method.to_string(),
        url: redact(&call.url),
        status,
        until: until.to_string(),
        wait,
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;
