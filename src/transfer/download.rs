//! A download that is resumed where it broke off.

use super::error::Error;
use crate::deadline::Deadline;
use crate::net::{self, Backoff, Body, Http, Method, Outcome, Range, Url, Verdict, redact, verdict};
use crate::secret::Secret;
use bytes::{Buf, Bytes};
use jiff::Timestamp;
use std::time::{Duration, Instant};

/// After this many received bytes, earlier failures no longer count.
const PROGRESS: u64 = 1 << 20;
/// How long a host may be out of reach while the API is not. A network that comes up late has both out of reach.
const BLOCKED: Duration = if cfg!(test) { Duration::from_millis(600) } else { Duration::from_secs(30) };
/// How much of a refusal is read to find out whether it is a rate limit.
const REFUSAL_LIMIT: usize = 4096;

/// A download that survives broken connections.
pub(super) struct Download<'a> {
    http: &'a Http,
    url: &'a Url,
    bearer: Option<&'a Secret>,
    retry_timeout: Duration,
    /// Whether the digest is compared afterwards, which detects parts of different files.
    verified: bool,
    body: Option<Body>,
    received: u64,
    /// The most bytes of a body.
    pub limit: u64,
    /// Bytes at the start of the current body that were received before.
    skip: u64,
    total: Option<u64>,
    /// The body is compressed for the transfer, by its headers: then ranges are those of another file.
    pub compressed: bool,
    /// The headers said so of the first body, and that may not be true.
    labelled: bool,
    etag: Option<String>,
    modified: Option<String>,
    resumed: u32,
    backoff: Backoff,
    trouble: Option<Trouble>,
    /// Since when no connection could be made.
    unreached: Option<Instant>,
}

/// A sequence of failures without enough progress in between.
struct Trouble {
    until: Deadline,
    at: u64,
    cause: Option<net::Error>,
}

/// What an answer means for the download.
enum Step {
    Flowing,
    Again,
}

impl<'a> Download<'a> {
    pub fn new(
        http: &'a Http,
        url: &'a Url,
        bearer: Option<&'a Secret>,
        retry_timeout: Duration,
        verified: bool,
    ) -> Self {
        Self {
            http,
            url,
            bearer,
            retry_timeout,
            verified,
            body: None,
            received: 0,
            limit: u64::MAX,
            skip: 0,
            total: None,
            compressed: false,
            labelled: false,
            etag: None,
            modified: None,
            resumed: 0,
            backoff: Backoff::default(),
            trouble: None,
            unreached: None,
        }
    }

    pub fn total(&self) -> Option<u64> {
        self.total
    }

    pub fn resumed(&self) -> u32 {
        self.resumed
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let Some(body) = &mut self.body else {
                self.connect().await?;
                continue;
            };
            match body.chunk().await {
                Ok(Some(piece)) => {
                    let piece = self.take(piece);
                    // What is decoded counts by itself, and may be nothing.
                    if self.received > self.limit {
                        return Err(Error::TooLong { limit: self.limit });
                    }
                    if let Some(piece) = piece {
                        return Ok(Some(piece));
                    }
                }
                Ok(None) => return Ok(None),
                Err(error) => {
                    self.body = None;
                    self.endure(error).await?;
                }
            }
        }
    }

    /// Counts a piece, without the bytes that were received before.
    fn take(&mut self, mut piece: Bytes) -> Option<Bytes> {
        let known = usize::try_from(self.skip).unwrap_or(usize::MAX).min(piece.len());
        piece.advance(known);
        self.skip -= known as u64;
        self.received += piece.len() as u64;
        if self.trouble.as_ref().is_some_and(|trouble| self.received - trouble.at >= PROGRESS) {
            self.trouble = None;
            self.backoff.reset();
        }
        (!piece.is_empty()).then_some(piece)
    }

    /// Requests the original URL until there is a body that continues where the last one broke off.
    pub async fn connect(&mut self) -> Result<(), Error> {
        loop {
            let range = self.range()?;
            match self.http.open(self.url, self.bearer, range).await {
                Ok(body) => {
                    self.unreached = None;
                    if let Step::Flowing = self.judge(body).await? {
                        return Ok(());
                    }
                }
                Err(error) => self.endure(error).await?,
            }
        }
    }

    /// The range to request: none at the start.
    fn range(&mut self) -> Result<Option<Range>, Error> {
        if self.received == 0 {
            return Ok(None);
        }
        let if_range = self.etag.clone().or_else(|| self.modified.clone());
        // Without a validator and a digest, nothing would show that the rest belongs to another file.
        if self.compressed || if_range.is_none() && !self.verified {
            return Err(self.not_resumed());
        }
        Ok(Some(Range { from: self.received, if_range }))
    }

    async fn judge(&mut self, body: Body) -> Result<Step, Error> {
        match body.status() {
            200 if self.received == 0 => {
                self.labelled = net::is_gzip(body.headers());
                self.compressed = self.labelled;
                self.total = body.length().filter(|_| !self.compressed);
                self.etag = strong_etag(&body);
                self.modified = body.header("last-modified").map(ToOwned::to_owned);
            }
            // The rest, compressed by itself.
            200 | 206 if net::is_gzip(body.headers()) && !self.labelled => return Err(self.not_resumed()),
            206 if self.received > 0 && self.fits(&body) => self.resumed += 1,
            // The whole file again. If it is certainly the same file, the bytes received before can be skipped.
            200 if self.etag.is_some() && self.etag == strong_etag(&body) => {
                self.skip = self.received;
                self.resumed += 1;
            }
            416 if content_range(&body).is_some_and(|range| range == (None, Some(self.received))) => {
                return Err(Error::Length {
                    url: redact(self.url),
                    promised: self.total.unwrap_or_default(),
                    received: self.received,
                });
            }
            200 | 206 | 416 if self.received > 0 => return Err(self.not_resumed()),
            _ => return self.refusal(body).await,
        }
        if self.received > 0 {
            tracing::info!(url = redact(self.url), from = self.received, "resumed the download");
        }
        self.body = Some(body);
        Ok(Step::Flowing)
    }

    /// Whether a partial body continues the received bytes.
    fn fits(&self, body: &Body) -> bool {
        match content_range(body) {
            Some((Some((from, to)), total)) => {
                from == self.received
                    && (total.is_none() || self.total.is_none() || total == self.total)
                    && total.is_none_or(|total| to.checked_add(1) == Some(total))
            }
            _ => false,
        }
    }

    async fn refusal(&mut self, mut body: Body) -> Result<Step, Error> {
        let mut start = Vec::new();
        while let Ok(Some(piece)) = body.chunk().await {
            start.extend_from_slice(&piece);
            if start.len() >= REFUSAL_LIMIT {
                break;
            }
        }
        let status = body.status();
        let url = redact(body.url());
        let outcome =
            Outcome::Answered { status, headers: body.headers(), body: &start, now: Timestamp::now() };
        match verdict(&Method::GET, &outcome) {
            Verdict::Done | Verdict::Fatal => Err(Error::Status { url, status }),
            Verdict::Retry => {
                self.endure(net::Error::Status { method: Method::GET.to_string(), url, status }).await?;
                Ok(Step::Again)
            }
            verdict @ Verdict::RetryAfter(_) => {
                let (wait, _) = self.backoff.obey(verdict);
                if wait >= self.trouble(None).until.left() {
                    return Err(Error::AskedToWait { url, status, wait_seconds: wait.as_secs() });
                }
                crate::event::wait("the server of the archive requested it", Some(wait));
                tracing::warn!(url, status, ?wait, "waiting, as the server requested");
                tokio::time::sleep(wait).await;
                Ok(Step::Again)
            }
        }
    }

    /// Waits after a failure that a retry may solve; fails for any other failure, and after the timeout.
    async fn endure(&mut self, error: net::Error) -> Result<(), Error> {
        let url = redact(self.url);
        let received = self.received;
        let passes = error.trouble().is_some_and(net::Trouble::passes) || error.status().is_some();
        let wait = self.backoff.wait();
        if !passes || wait >= self.trouble(None).until.left() {
            return Err(Error::Download { url, received, source: Box::new(error) });
        }
        let connects = !error.trouble().is_some_and(net::Trouble::is_connecting);
        self.unreached = if connects { None } else { Some(self.unreached.unwrap_or_else(Instant::now)) };
        let unreached = self.unreached.map_or(Duration::ZERO, |since| since.elapsed());
        if unreached >= BLOCKED
            && let Some(asked) = error.url()
            && let Some(api) = self.http.reached_instead(&asked).await
        {
            let host = |url: &Url| url.host_str().unwrap_or_default().to_owned();
            let (host, api) = (host(&asked), host(api));
            return Err(Error::Blocked { host, api, seconds: unreached.as_secs(), source: Box::new(error) });
        }
        let cause = crate::error::chain(&error);
        crate::event::retry(&cause, wait);
        tracing::info!(cause, ?wait, received, "resuming the download");
        self.trouble(Some(error));
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// The current sequence of failures, which begins now if there is none.
    fn trouble(&mut self, cause: Option<net::Error>) -> &mut Trouble {
        let (retry_timeout, at) = (self.retry_timeout, self.received);
        let trouble = self.trouble.get_or_insert_with(|| Trouble {
            until: Deadline::after(retry_timeout),
            at,
            cause: None,
        });
        if cause.is_some() {
            trouble.cause = cause;
        }
        trouble
    }

    fn not_resumed(&mut self) -> Error {
        let source = self.trouble.take().and_then(|trouble| trouble.cause).map(Box::new);
        Error::NotResumed { url: redact(self.url), received: self.received, source }
    }
}

/// A validator that guarantees the same bytes, which a weak one does not.
fn strong_etag(body: &Body) -> Option<String> {
    body.header("etag").filter(|tag| tag.starts_with('"')).map(ToOwned::to_owned)
}

/// The `Content-Range`: first and last byte, and the total; each is `None` for `*`.
type ContentRange = (Option<(u64, u64)>, Option<u64>);

fn content_range(body: &Body) -> Option<ContentRange> {
    parse_content_range(body.header("content-range")?)
}

fn parse_content_range(text: &str) -> Option<ContentRange> {
    let (part, total) = text.trim().strip_prefix("bytes ")?.trim().split_once('/')?;
    let total = match total {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    let part = match part {
        "*" => None,
        part => {
            let (from, to) = part.split_once('-')?;
            Some((from.parse().ok()?, to.parse().ok()?))
        }
    };
    Some((part, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_as_they_are_written() {
        assert_eq!(parse_content_range("bytes 5-9/10"), Some((Some((5, 9)), Some(10))));
        assert_eq!(parse_content_range("bytes 5-9/*"), Some((Some((5, 9)), None)));
        assert_eq!(parse_content_range("bytes */10"), Some((None, Some(10))));
        for odd in ["", "5-9/10", "bytes 5-9", "bytes -9/10", "bytes a-b/c", "bytes 5-9/18446744073709551616"]
        {
            assert_eq!(parse_content_range(odd), None, "{odd}");
        }
    }
}
