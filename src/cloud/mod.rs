//! The cloud's metadata service: which machine this is, and the notice that it is taken away.
//!
//! For a notice of a spot machine's end the service is polled. An endpoint that hangs, refuses or answers nonsense is not a
//! notice and does no harm. What to do about one is decided elsewhere.

mod aws;
mod azure;
mod gcp;
mod identity;

pub use identity::{Error, Identity, identity};

use crate::deadline::Deadline;
use crate::host::Provider;
use crate::net::{self, Answer, Call, Http, Method, Url, redact};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// How long one request may take. The endpoint is on the machine's own host.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often AWS recommends polling; the notices leave 30 s at least.
const EVERY: Duration = Duration::from_secs(5);
/// The metadata address of all three. It is link-local, so it is plain HTTP by design.
const ADDRESS: &str = "http://169.254.169.254/";

/// Which providers to ask, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notices {
    /// The base of AWS's instance metadata service (version 2).
    pub aws: Option<Url>,
    /// The base of Azure's instance metadata service.
    pub azure: Option<Url>,
    /// The base of Google Cloud's metadata server.
    pub gcp: Option<Url>,
    /// The pause between two requests; 5 s.
    pub every: Duration,
}

impl Default for Notices {
    /// No provider is asked.
    fn default() -> Self {
        Self { aws: None, azure: None, gcp: None, every: EVERY }
    }
}

impl Notices {
    /// Asks `providers` at `base`, or at their usual address.
    #[must_use]
    pub fn of(providers: &[Provider], base: Option<&Url>) -> Self {
        let mut notices = Self::default();
        for provider in providers {
            let place = match provider {
                Provider::Aws => &mut notices.aws,
                Provider::Azure => &mut notices.azure,
                Provider::Gcp => &mut notices.gcp,
            };
            *place = Some(base.cloned().unwrap_or_else(address));
        }
        notices
    }

    /// Whether no provider is asked, so that a wait would last until it is stopped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.aws.is_none() && self.azure.is_none() && self.gcp.is_none()
    }
}

fn address() -> Url {
    ADDRESS.parse().expect("the address is a URL")
}

/// This machine will be taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The provider that says so: `aws`, `azure` or `gcp`.
    pub provider: &'static str,
    /// What it says, in a few words.
    pub what: String,
    /// How long the machine has left, as of now; zero if the time has come.
    pub left: Duration,
}

/// A client for metadata: link-local addresses are never behind a proxy, whatever the environment says.
///
/// # Errors
/// The client cannot be created.
pub fn client() -> Result<Http, net::Error> {
    Http::new(net::HttpOptions::default())
}

/// Asks every provider of `options` until one of them says that this machine will be taken away; `None` when stopped.
///
/// `http` must not use a proxy: use [`client`].
pub async fn watch(http: &Http, options: &Notices, stop: &CancellationToken) -> Option<Notice> {
    watch_patiently(http, options, PATIENCE, stop).await
}

async fn watch_patiently(
    http: &Http,
    options: &Notices,
    patience: Duration,
    stop: &CancellationToken,
) -> Option<Notice> {
    let at = |base: &Option<Url>| base.clone().map(|base| Metadata { http, base, patience });
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        notice = poll(aws::Aws::default(), at(&options.aws), options.every) => Some(notice),
        notice = poll(azure::Azure::default(), at(&options.azure), options.every) => Some(notice),
        notice = poll(gcp::Gcp, at(&options.gcp), options.every) => Some(notice),
    }
}

/// Asks one provider until it gives notice; waits for ever without one.
async fn poll(mut source: impl Source, metadata: Option<Metadata<'_>>, every: Duration) -> Notice {
    let Some(metadata) = metadata else { return std::future::pending().await };
    let mut failing = false;
    loop {
        match source.ask(&metadata).await {
            Ok(Some(notice)) => return notice,
            Ok(None) => failing = false,
            Err(oddity) => {
                if !failing {
                    let cause = crate::error::chain(&oddity);
                    debug!(
                        metadata = redact(&metadata.base),
                        cause, "no word on whether this machine will stay"
                    );
                }
                failing = true;
            }
        }
        tokio::time::sleep(every).await;
    }
}

/// How a provider is asked.
trait Source {
    /// Asks once; `None` if the machine stays for now.
    async fn ask(&mut self, metadata: &Metadata<'_>) -> Result<Option<Notice>, Oddity>;
}

/// An endpoint's useless answer, which is only logged.
#[derive(Debug, thiserror::Error)]
enum Oddity {
    #[error(transparent)]
    Net(#[from] net::Error),
    #[error("{url} answered {status}")]
    Status { url: String, status: u16 },
    #[error("{url} answered from elsewhere")]
    Redirected { url: String },
    #[error("{url} did not answer with {expected}")]
    Nonsense { url: String, expected: &'static str },
}

/// A metadata endpoint.
struct Metadata<'a> {
    http: &'a Http,
    base: Url,
    patience: Duration,
}

impl Metadata<'_> {
    /// Requests a document below the base; `None` if it does not exist (404).
    ///
    /// `headers` may hold AWS's session token, which is useless outside this machine.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        query: Option<&str>,
        headers: &[(&'static str, &str)],
    ) -> Result<Option<Document>, Oddity> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url.set_query(query);
        let mut call = Call::new(method, url, Deadline::after(self.patience));
        call.headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let Answer { status, body, url, .. } = self.http.call_once(&call).await?;
        let shown = redact(&call.url);
        match status {
            // No metadata service redirects; a captive portal does.
            _ if url != call.url => Err(Oddity::Redirected { url: shown }),
            200 => Ok(Some(Document { url: shown, body })),
            404 => Ok(None),
            _ => Err(Oddity::Status { url: shown, status }),
        }
    }
}

/// What an endpoint answered.
struct Document {
    url: String,
    body: Vec<u8>,
}

impl Document {
    /// As one short line of printable characters.
    fn word(&self) -> Result<&str, Oddity> {
        let text = std::str::from_utf8(&self.body).unwrap_or_default().trim();
        let is_word =
            (1..=512).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if is_word { Ok(text) } else { Err(self.nonsense("one line of text")) }
    }

    fn json<T: serde::de::DeserializeOwned>(&self, expected: &'static str) -> Result<T, Oddity> {
        serde_json::from_slice(&self.body).map_err(|_| self.nonsense(expected))
    }

    fn nonsense(&self, expected: &'static str) -> Oddity {
        Oddity::Nonsense { url: self.url.clone(), expected }
    }
}

/// From now until `then`; zero if that has passed.
fn left_until(then: jiff::Timestamp) -> Duration {
    Duration::try_from(then.duration_since(jiff::Timestamp::now())).unwrap_or_default()
}

#[cfg(test)]
mod tests;
