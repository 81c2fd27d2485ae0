//! Installation tokens of a GitHub App: the installation is found by the scope, and its token may do one thing in one
//! place.

use super::access::{Access, app_permission};
use super::answer::{bad_document, read};
use super::app::{App, AppError, Grant};
use super::client::{ACCEPT, API_VERSION, Client};
use super::credential::Credential;
use super::document::{RawToken, RunnerToken};
use super::error::{Error, Reply};
use super::refusal::SentRequest;
use super::scope::Scope;
use crate::deadline::Deadline;
use crate::net::Call;
use crate::secret::Secret;
use jiff::SignedDuration;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How long before its end a token is replaced.
const MARGIN: SignedDuration = SignedDuration::from_secs(120);

/// The installation of an App in a scope.
#[derive(serde::Deserialize)]
struct Installation {
    id: u64,
    #[serde(default)]
    suspended_at: Option<Value>,
    #[serde(default)]
    permissions: Option<BTreeMap<String, Value>>,
}

impl Client {
    /// The token to send.
    pub(crate) async fn bearer(&self, credential: &Credential, deadline: Deadline) -> Result<Secret, Error> {
        match credential {
            Credential::Token(token, _) => Ok(token.clone()),
            Credential::Command(command) => Box::pin(command.token(deadline)).await,
            Credential::App(app) => Box::pin(self.installation_token(app, None, deadline)).await,
        }
    }

    /// Another token than `refused`, which the server no longer accepts; `None` if there is none.
    pub(super) async fn renewed(
        &self,
        credential: &Credential,
        refused: &Secret,
        deadline: Deadline,
    ) -> Result<Option<Secret>, Error> {
        match credential {
            Credential::Token(..) => Ok(None),
            Credential::Command(command) => Box::pin(command.renewed(refused, deadline)).await,
            Credential::App(app) => {
                Box::pin(self.installation_token(app, Some(refused), deadline)).await.map(Some)
            }
        }
    }

    async fn installation_token(
        &self,
        app: &App,
        refused: Option<&Secret>,
        deadline: Deadline,
    ) -> Result<Secret, Error> {
        let target = self.target();
        let shared = app.grant(format!("{}{}", target.api, target.scope.prefix()));
        // Another client is waited for no longer than a request would be.
        let Ok(mut grant) = tokio::time::timeout_at(deadline.instant(), shared.lock()).await else {
            return Err(crate::net::Error::Deadline {
                method: Method::POST.to_string(),
                url: crate::net::redact(&target.endpoint("/app/installations")),
                total: deadline.total(),
                attempts: 0,
                last: None,
            }
            .into());
        };
        let grant = &mut *grant;
        if let Some((token, until)) = &grant.token
            && refused.is_none_or(|refused| refused.expose() != token.expose())
            && self.now() < *until
        {
            return Ok(token.clone());
        }
        grant.token = None;
        let assumed = self.clock_skew().unwrap_or_default();
        let jwt = app.jwt(assumed, deadline).await?;
        match self.granted(app, grant, &jwt, deadline).await {
            // The refusal told the server's time.
            Err(Error::App(AppError::Refused { .. })) if self.is_off(assumed) => {
                let jwt = app.jwt(self.clock_skew().unwrap_or_default(), deadline).await?;
                self.granted(app, grant, &jwt, deadline).await
            }
            result => result,
        }
    }

    /// Whether the clocks differ from what was assumed by more than a token allows for.
    fn is_off(&self, assumed: SignedDuration) -> bool {
        let difference = self.clock_skew().unwrap_or_default() - assumed;
        difference.abs() > SignedDuration::from_secs(30)
    }

    async fn granted(
        &self,
        app: &App,
        grant: &mut Grant,
        jwt: &Secret,
        deadline: Deadline,
    ) -> Result<Secret, Error> {
        let known = app.installation.or(grant.found);
        let installation = match known {
            Some(id) => id,
            None => *grant.found.insert(self.installation(app, jwt, deadline).await?),
        };
        let token = match self.access_token(app, installation, jwt, deadline).await {
            // The App was installed anew since.
            Err(Error::App(AppError::NoInstallation { .. }))
                if known.is_some() && app.installation.is_none() =>
            {
                let installation = *grant.found.insert(self.installation(app, jwt, deadline).await?);
                self.access_token(app, installation, jwt, deadline).await?
            }
            result => result?,
        };
        let until = token.expires_at.checked_sub(MARGIN).unwrap_or(token.expires_at);
        Ok(grant.token.insert((token.token, until)).0.clone())
    }

    /// The installation for the scope.
    async fn installation(&self, app: &App, jwt: &Secret, deadline: Deadline) -> Result<u64, Error> {
        let scope = &self.target().scope;
        let permission = permission(scope)?;
        let tail = format!("{}/installation", scope.prefix());
        let result = self.call_as_app(Method::GET, &tail, jwt, None, deadline).await;
        let answer = result.map_err(|error| match error {
            Error::Unauthorized(reply) => refused(app, reply),
            Error::NotFound { reply, .. } if is_about_the_app(&reply) => refused(app, reply),
            Error::NotFound { reply, scope, .. } => {
                AppError::NotInstalled { id: app.id.clone(), scope, reply }.into()
            }
            other => other,
        })?;
        let found: Installation = read(&Method::GET, &answer, "installation")?;
        if found.suspended_at.is_some_and(|at| !at.is_null()) {
            return Err(suspended(app, scope));
        }
        let granted = found.permissions.unwrap_or_default();
        if !granted.is_empty()
            && granted.get(permission).is_none_or(|level| level != "write" && level != "admin")
        {
            return Err(not_permitted(app, scope, None));
        }
        Ok(found.id)
    }

    /// A token of the installation, for what runup does and nothing else.
    async fn access_token(
        &self,
        app: &App,
        installation: u64,
        jwt: &Secret,
        deadline: Deadline,
    ) -> Result<RunnerToken, Error> {
        let scope = &self.target().scope;
        let mut body = json!({"permissions": {permission(scope)?: "write"}});
        if let Scope::Repository { name, .. } = scope {
            body["repositories"] = json!([name.as_str()]);
        }
        let tail = format!("/app/installations/{installation}/access_tokens");
        let result = self.call_as_app(Method::POST, &tail, jwt, Some(&body), deadline).await;
        let answer = result.map_err(|error| match error {
            Error::Unauthorized(reply) => refused(app, reply),
            Error::NotFound { reply, .. } if is_about_the_app(&reply) => refused(app, reply),
            Error::NotFound { reply, .. } => {
                AppError::NoInstallation { id: app.id.clone(), installation, reply }.into()
            }
            Error::Forbidden { reply, .. } if reply.message.contains("suspended") => suspended(app, scope),
            Error::Unprocessable(reply) => not_permitted(app, scope, Some(reply)),
            other => other,
        })?;
        let what = "installation token";
        let raw: RawToken = read(&Method::POST, &answer, what)?;
        RunnerToken::try_from(raw).map_err(|source| bad_document(&Method::POST, &answer, what, source))
    }

    /// A call with a token of the App itself.
    async fn call_as_app(
        &self,
        method: Method,
        tail: &str,
        jwt: &Secret,
        body: Option<&Value>,
        deadline: Deadline,
    ) -> Result<crate::net::Answer, Error> {
        let url = self.target().endpoint(tail);
        let mut headers =
            vec![("accept", ACCEPT.to_owned()), ("x-github-api-version", API_VERSION.to_owned())];
        if body.is_some() {
            headers.push(("content-type", "application/json".to_owned()));
        }
        self.count();
        let call = Call {
            bearer: Some(jwt.clone()),
            headers,
            body: body.map(|body| body.to_string().into_bytes()),
            ..Call::new(method.clone(), url.clone(), deadline)
        };
        let answer = self.http.call(call).await?;
        self.note(&answer);
        tracing::debug!(%method, url = crate::net::redact(&url), status = answer.status, "called GitHub as an App");
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        let (access, token) = (Access::Write, jwt);
        let asked = SentRequest { method: &method, url: &url, access, token, credential: None };
        Err(self.failure(&asked, &answer))
    }
}

fn permission(scope: &Scope) -> Result<&'static str, Error> {
    app_permission(scope).ok_or_else(|| AppError::Enterprise { name: scope.name() }.into())
}

/// GitHub answers a number that is no App's with 404 "Integration not found".
fn is_about_the_app(reply: &Reply) -> bool {
    reply.message.contains("Integration")
}

fn refused(app: &App, reply: Box<Reply>) -> Error {
    AppError::Refused { id: app.id.clone(), reply, signed_elsewhere: app.signs_elsewhere() }.into()
}

fn suspended(app: &App, scope: &Scope) -> Error {
    AppError::Suspended { id: app.id.clone(), scope: scope.to_string() }.into()
}

fn not_permitted(app: &App, scope: &Scope, reply: Option<Box<Reply>>) -> Error {
    let needed = match scope {
        Scope::Repository { .. } => "the repository permission \"Administration\"",
        _ => "the organization permission \"Self-hosted runners\"",
    };
    AppError::NotPermitted { id: app.id.clone(), scope: scope.to_string(), needed, reply }.into()
}
