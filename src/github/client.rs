//! The REST calls for one scope.

use super::access::{Access, needed};
use super::answer::{bad_document, header, is_rate_limit, message, read, start, until};
use super::credential::Credential;
use super::document::{Application, RawToken, Runner, RunnerStatus, RunnerToken};
use super::error::{Error, Reply};
use super::listing::{each, parse};
use super::meta::CallsLeft;
use super::refusal::SentRequest;
use super::sent::Sent;
use super::shared::Shared;
use super::target::Target;
use crate::deadline::Deadline;
use crate::net::{Answer, Call, Http, redact};
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::value::RawValue;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::debug;
use url::Url;

/// The media type that GitHub recommends.
pub(super) const ACCEPT: &str = "application/vnd.github+json";
/// The requested version of the API. Enterprise Servers before 3.9 ignore it.
pub(super) const API_VERSION: &str = "2022-11-28";
/// The longest URL of an archive, in bytes. Signed ones have about two thousand.
const LONGEST_ADDRESS: usize = 16 << 10;
/// The largest page size.
pub(super) const PER_PAGE: &str = "100";

/// Selects runners of a list; the default selects all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only the runner with this name, whatever its case.
    pub name: Option<String>,
    /// Only runners with this status.
    pub status: Option<RunnerStatus>,
    /// Only runners with this label, whatever its case.
    pub label: Option<String>,
}

impl Filter {
    /// Whether it selects `runner`.
    #[must_use]
    pub fn admits(&self, runner: &Runner) -> bool {
        self.name.as_deref().is_none_or(|name| runner.is_named(name))
            && self.status.as_ref().is_none_or(|status| runner.status == *status)
            && self.label.as_deref().is_none_or(|label| runner.has_label(label))
    }
}

/// The result of a deletion. Both are success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// The runner was deleted.
    Deleted,
    /// The runner did not exist.
    AlreadyGone,
}

/// The REST calls for the runners of one scope. Clones count their calls together.
#[derive(Clone)]
pub struct Client {
    pub(super) http: Http,
    target: Target,
    credential: Option<Credential>,
    timeout: Duration,
    end: Option<Deadline>,
    calls: Arc<AtomicU32>,
    skew: Arc<Mutex<Option<SignedDuration>>>,
    left: Arc<Mutex<Option<CallsLeft>>>,
    accepted: Arc<Mutex<Option<Sent>>>,
    shared: Option<Arc<Shared>>,
}

impl Client {
    /// A client for `target`. `timeout` limits each call, retries included.
    #[must_use]
    pub fn new(http: Http, target: Target, credential: Option<Credential>, timeout: Duration) -> Self {
        Self {
            http,
            target,
            credential,
            timeout,
            end: None,
            calls: Arc::default(),
            skew: Arc::default(),
            left: Arc::default(),
            accepted: Arc::default(),
            shared: None,
        }
    }

    pub(super) fn shared(&self) -> Option<&Shared> {
        self.shared.as_deref()
    }

    /// The same client, which shares some of its answers with others.
    #[must_use]
    pub fn sharing(self, shared: Option<Arc<Shared>>) -> Self {
        Self { shared, ..self }
    }

    /// The same client with an additional deadline for all of its calls.
    #[must_use]
    pub fn until(self, end: Deadline) -> Self {
        Self { end: Some(end), ..self }
    }

    /// The deadline of a call that begins now.
    pub(super) fn call_deadline(&self) -> Deadline {
        self.end.map_or_else(|| Deadline::after(self.timeout), |end| end.within(self.timeout))
    }

    /// The scope of the calls.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Whether the client has a credential.
    #[must_use]
    pub fn has_token(&self) -> bool {
        self.credential.is_some()
    }

    /// The number of requests so far, retried ones included; of a call that failed, one.
    #[must_use]
    pub fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    /// The local clock minus the server's, by the `Date` of the last answer (whole seconds); `None` before the first.
    #[must_use]
    pub fn clock_skew(&self) -> Option<SignedDuration> {
        *self.skew.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is left of the credential's calls, by the answer that said the fewest.
    #[must_use]
    pub fn calls_left(&self) -> Option<CallsLeft> {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the credential that the server accepted last; `None` before that.
    #[must_use]
    pub fn accepted(&self) -> Option<Sent> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember(&self, sent: Sent) {
        *self.accepted.lock().unwrap_or_else(PoisonError::into_inner) = Some(sent);
    }

    /// The runner applications that GitHub offers. An element that cannot be read is left out: it may be for a system
    /// that this version of runup does not know. A list of nothing else is an error.
    pub async fn downloads(&self) -> Result<Vec<Application>, Error> {
        match &self.shared {
            Some(shared) => shared.downloads(self).await,
            None => self.downloads_now().await,
        }
    }

    pub(super) async fn downloads_now(&self) -> Result<Vec<Application>, Error> {
        let answer = self.get("/actions/runners/downloads", &[]).await?;
        let what = "list of runner applications";
        let list: &RawValue = parse(&answer, what)?;
        let (mut applications, mut ignored) = (Vec::new(), None);
        let bad = |source| bad_document(&Method::GET, &answer, what, source);
        each(list.get().as_bytes(), |one: &RawValue| match application(one) {
            Ok(one) => applications.push(one),
            Err(error) => {
                debug!(%error, "ignored a runner application");
                ignored = Some(error);
            }
        })
        .map_err(bad)?;
        match ignored {
            Some(error) if applications.is_empty() => Err(bad(error)),
            _ => Ok(applications),
        }
    }

    /// The time by the server's clock; the local time before the first answer.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let ours = Timestamp::now();
        self.clock_skew().and_then(|skew| ours.checked_sub(skew).ok()).unwrap_or(ours)
    }

    /// A token with which `config.sh` can register a runner.
    pub async fn registration_token(&self) -> Result<RunnerToken, Error> {
        match &self.shared {
            Some(shared) => shared.registration_token(self).await,
            None => self.registration_token_now().await,
        }
    }

    pub(super) async fn registration_token_now(&self) -> Result<RunnerToken, Error> {
        self.runner_token("/actions/runners/registration-token", "registration token").await
    }

    /// A token with which `config.sh remove` can remove a runner.
    pub async fn remove_token(&self) -> Result<RunnerToken, Error> {
        self.runner_token("/actions/runners/remove-token", "remove token").await
    }

    /// The runners of the scope that `filter` selects, from all pages. All pages together have the timeout of one call.
    pub async fn runners(&self, filter: &Filter) -> Result<Vec<Runner>, Error> {
        self.runners_where(filter.name.as_deref(), |runner| filter.admits(runner)).await
    }

    /// The runner with this id; `None` if the scope can be seen and does not show it now, which one that is there may
    /// meet as well: see [`Client::runner_unless_gone`].
    pub async fn runner(&self, id: u64) -> Result<Option<Runner>, Error> {
        match self.runner_at_once(id).await? {
            None => self.prove_visible().await.map(|()| None),
            found => Ok(found),
        }
    }

    /// The same, but the 404 may be about the scope.
    pub(super) async fn runner_at_once(&self, id: u64) -> Result<Option<Runner>, Error> {
        match self.get(&format!("/actions/runners/{id}"), &[]).await {
            Ok(answer) => read(&Method::GET, &answer, "runner").map(Some),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The runner with this name, ignoring case.
    pub async fn runner_named(&self, name: &str) -> Result<Option<Runner>, Error> {
        let filter = Filter { name: Some(name.to_owned()), ..Filter::default() };
        Ok(self.runners(&filter).await?.into_iter().next())
    }

    /// Replaces the runner's custom labels by `labels`.
    pub async fn set_labels(&self, id: u64, labels: &[String]) -> Result<(), Error> {
        let body = serde_json::json!({ "labels": labels }).to_string().into_bytes();
        let tail = format!("/actions/runners/{id}/labels");
        self.send(Method::PUT, &tail, &[], Access::Write, Some(body)).await.map(drop)
    }

    /// Lists the scope's runners, which tells whether a 404 for a runner is about the runner or about its scope.
    pub(super) async fn prove_visible(&self) -> Result<(), Error> {
        self.get("/actions/runners", &[("per_page", "1")]).await.map(drop)
    }

    async fn runner_token(&self, tail: &str, what: &'static str) -> Result<RunnerToken, Error> {
        let answer = self.call(Method::POST, tail, &[], Access::Write).await?;
        let raw: RawToken = read(&Method::POST, &answer, what)?;
        RunnerToken::try_from(raw).map_err(|source| bad_document(&Method::POST, &answer, what, source))
    }

    pub(super) async fn get(&self, tail: &str, query: &[(&str, &str)]) -> Result<Answer, Error> {
        self.call(Method::GET, tail, query, Access::Read).await
    }

    pub(super) async fn call(
        &self,
        method: Method,
        tail: &str,
        query: &[(&str, &str)],
        access: Access,
    ) -> Result<Answer, Error> {
        self.send(method, tail, query, access, None).await
    }

    /// A call of a public endpoint, without the credential.
    pub(super) async fn get_public(&self, url: Url) -> Result<Answer, Error> {
        let headers = vec![("accept", ACCEPT.to_owned()), ("x-github-api-version", API_VERSION.to_owned())];
        let deadline = Deadline::after(self.timeout);
        let call = Call { headers, ..Call::new(Method::GET, url.clone(), deadline) };
        self.count();
        let answer = self.http.call(call).await?;
        self.note(&answer);
        debug!(url = redact(&url), status = answer.status, "called GitHub without a credential");
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        let reply = Box::new(Reply {
            method: Method::GET.to_string(),
            url: redact(&url),
            status: answer.status,
            message: message(&answer.body).unwrap_or_else(|| start(&answer.body)),
            request_id: header(&answer, "x-github-request-id").map(str::to_owned),
            accepted: None,
            accepted_scopes: None,
            sent: None,
            attempts: answer.attempts,
        });
        let limited = answer.status == 429 || answer.status == 403 && is_rate_limit(&answer, &reply);
        Err(if limited { Error::RateLimited { reply, until: until(&answer) } } else { Error::Odd(reply) })
    }

    /// A GET with the caller's deadline.
    pub(super) async fn get_by(
        &self,
        deadline: Deadline,
        tail: &str,
        query: &[(&str, &str)],
    ) -> Result<Answer, Error> {
        self.send_by(deadline, Method::GET, tail, query, Access::Read, None).await
    }

    /// One call; only an answer that says that it was done is `Ok`.
    pub(super) async fn send(
        &self,
        method: Method,
        tail: &str,
        query: &[(&str, &str)],
        access: Access,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, Error> {
        self.send_by(self.call_deadline(), method, tail, query, access, body).await
    }

    async fn send_by(
        &self,
        deadline: Deadline,
        method: Method,
        tail: &str,
        query: &[(&str, &str)],
        access: Access,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, Error> {
        let mut url = self.target.call(tail);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let Some(credential) = &self.credential else {
            return Err(Error::MissingCredential {
                method: method.to_string(),
                url: redact(&url),
                needed: needed(&self.target.scope, access),
            });
        };
        let mut headers =
            vec![("accept", ACCEPT.to_owned()), ("x-github-api-version", API_VERSION.to_owned())];
        if body.is_some() {
            headers.push(("content-type", "application/json".to_owned()));
        }
        let mut token = self.bearer(credential, deadline).await?;
        let mut renewed = false;
        loop {
            let call = Call {
                method: method.clone(),
                url: url.clone(),
                bearer: Some(token.clone()),
                headers: headers.clone(),
                body: body.clone(),
                deadline,
            };
            self.count();
            let answer = self.http.call(call).await?;
            self.note(&answer);
            self.note_limit(&answer);
            debug!(%method, url = redact(&url), status = answer.status, "called GitHub");
            if is_success(&method, answer.status) {
                self.remember(Sent::of(credential, &token, &answer));
                return Ok(answer);
            }
            if answer.status == 401
                && !renewed
                && let Some(other) = self.renewed(credential, &token, deadline).await?
            {
                // The first token has expired.
                (token, renewed) = (other, true);
                continue;
            }
            let (token, credential) = (&token, Some(credential));
            let asked = SentRequest { method: &method, url: &url, access, token, credential };
            return Err(self.failure(&asked, &answer));
        }
    }

    /// Counts a request that is about to be sent.
    pub(super) fn count(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts its attempts, and compares the clocks.
    pub(super) fn note(&self, answer: &Answer) {
        self.calls.fetch_add(answer.attempts.saturating_sub(1), Ordering::Relaxed);
        let Some(theirs) = header(answer, "date").and_then(|date| jiff::fmt::rfc2822::parse(date).ok())
        else {
            return;
        };
        // The header has whole seconds.
        let ours = Timestamp::now().as_second();
        let skew = SignedDuration::from_secs(ours - theirs.timestamp().as_second());
        *self.skew.lock().unwrap_or_else(PoisonError::into_inner) = Some(skew);
    }

    /// Notes how many calls are left.
    fn note_limit(&self, answer: &Answer) {
        let number = |name| header(answer, name)?.trim().parse().ok();
        if let (Some(left), Some(limit)) = (number("x-ratelimit-remaining"), number("x-ratelimit-limit")) {
            let mut known = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            if known.is_none_or(|known| left < known.left) {
                *known = Some(CallsLeft { left, limit });
            }
        }
    }
}

/// Whether the status says that the call was done. Only 204 is a deletion: a proxy or a portal answers 200 with a page.
fn is_success(method: &Method, status: u16) -> bool {
    if *method == Method::DELETE { status == 204 } else { (200..300).contains(&status) }
}

fn application(document: &RawValue) -> Result<Application, serde_json::Error> {
    let one: Application = serde_json::from_str(document.get())?;
    let url = &one.download_url;
    if matches!(url.scheme(), "http" | "https") && url.as_str().len() <= LONGEST_ADDRESS {
        return Ok(one);
    }
    Err(serde::de::Error::custom(format_args!("the URL of {:?} is not an HTTP URL", one.filename)))
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
