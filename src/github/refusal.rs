//! Why a call was refused: the error for an answer that is not a success.
//!
//! Everything is judged from the one answer, so that it costs no further call. GitHub says 403 for a credential that is
//! too weak, and for several things that no stronger one would change.

use super::access::{Access, needed};
use super::answer::{header, is_rate_limit, message, start, until};
use super::client::Client;
use super::credential::Credential;
use super::error::{Error, Reply};
use super::sent::{self, Sent};
use crate::net::{Answer, redact};
use crate::secret::Secret;
use reqwest::Method;
use url::Url;

/// The longest address of a page that is shown, in bytes.
const LONGEST_PAGE: usize = 1000;

/// A request, as far as its refusal depends on it.
pub(super) struct SentRequest<'a> {
    pub method: &'a Method,
    pub url: &'a Url,
    pub access: Access,
    /// The token that was sent.
    pub token: &'a Secret,
    /// The credential that it is of; `None` for the token of an App itself.
    pub credential: Option<&'a Credential>,
}

impl Client {
    /// The error for an answer that is not a success.
    pub(super) fn failure(&self, asked: &SentRequest<'_>, answer: &Answer) -> Error {
        let (status, token) = (answer.status, asked.token);
        let message = message(&answer.body);
        // All of GitHub's errors are JSON; only these statuses mean the same if a proxy sends them.
        if message.is_none() && !answer.body.is_empty() && !matches!(status, 401 | 403 | 429) {
            return Error::NotJson {
                method: asked.method.to_string(),
                url: redact(asked.url),
                status,
                start: token.scrub(&start(&answer.body)),
            };
        }
        let owned = |name| header(answer, name).map(sent::shown);
        let reply = Box::new(Reply {
            method: asked.method.to_string(),
            url: redact(asked.url),
            status,
            message: token.scrub(&message.unwrap_or_else(|| start(&answer.body))),
            request_id: owned("x-github-request-id"),
            accepted: owned("x-accepted-github-permissions").filter(|accepted| !accepted.is_empty()),
            accepted_scopes: owned("x-accepted-oauth-scopes").filter(|scopes| !scopes.is_empty()),
            sent: asked.credential.map(|credential| Sent::of(credential, token, answer)),
            attempts: answer.attempts,
        });
        let scope = &self.target().scope;
        let needed = || needed(scope, asked.access);
        match status {
            401 => Error::Unauthorized(reply),
            429 => Error::RateLimited { reply, until: until(answer) },
            403 if is_rate_limit(answer, &reply) => Error::RateLimited { reply, until: until(answer) },
            403 | 409 if runners_are_off(&reply.message) => {
                Error::RunnersDisabled { reply, scope: scope.to_string() }
            }
            403 => match forbidden(answer, &reply.message) {
                Some(PolicyRefusal::SignOn { page }) => Error::SignOnRequired { reply, page },
                Some(PolicyRefusal::Address) => Error::AddressNotAllowed(reply),
                Some(PolicyRefusal::Kind) => Error::TokenNotAllowed(reply),
                None => Error::Forbidden { reply, needed: needed() },
            },
            404 => Error::NotFound { reply, scope: scope.to_string(), needed: needed() },
            422 => Error::Unprocessable(reply),
            _ => Error::Odd(reply),
        }
    }
}

/// Why a credential is refused that may be strong enough.
#[derive(Debug, PartialEq, Eq)]
enum PolicyRefusal {
    /// It was not authorized for the organization's single sign-on; the page where its owner can do so.
    SignOn { page: Option<String> },
    /// The request does not come from an address that the organization allows.
    Address,
    /// The organization does not accept this kind of token, or one that lives as long.
    Kind,
}

fn forbidden(answer: &Answer, message: &str) -> Option<PolicyRefusal> {
    let said = message.to_ascii_lowercase();
    let sso = header(answer, "x-github-sso").map(str::trim);
    if let Some(sso) = sso.filter(|sso| sso.split(';').next().is_some_and(|word| word.trim() == "required")) {
        return Some(PolicyRefusal::SignOn { page: page(sso) });
    }
    if said.contains("saml enforcement") {
        return Some(PolicyRefusal::SignOn { page: None });
    }
    if said.contains("ip allow list") {
        return Some(PolicyRefusal::Address);
    }
    said.contains("forbids access via a").then_some(PolicyRefusal::Kind)
}

/// The page in `required; url=PAGE`.
fn page(sso: &str) -> Option<String> {
    let text = sso.split(';').find_map(|part| part.trim().strip_prefix("url="))?;
    let url = Url::parse(text.trim().trim_matches('"')).ok()?;
    let shown = matches!(url.scheme(), "http" | "https") && url.as_str().len() <= LONGEST_PAGE;
    shown.then(|| url.to_string())
}

/// Whether the owner has switched off self-hosted runners, or all of Actions. GitHub says so in `errors`, which is a
/// text here and not a list.
fn runners_are_off(message: &str) -> bool {
    let said = message.to_ascii_lowercase();
    said.contains("self-hosted runners are disabled") || said.contains("actions is disabled")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_web_page_is_shown_as_the_page_for_single_sign_on() {
        let url = "https://github.com/orgs/acme/sso?authorization_request=AB12";
        assert_eq!(page(&format!("required; url={url}")).as_deref(), Some(url));
        assert_eq!(page(&format!("required;url=\"{url}\"")).as_deref(), Some(url));
        for none in ["required", "required; url=", "required; url=javascript:alert(1)", "required; url=x y"] {
            assert_eq!(page(none), None, "{none}");
        }
        assert_eq!(page(&format!("required; url={url}{}", "x".repeat(LONGEST_PAGE))), None);
    }

    #[test]
    fn what_the_owner_switched_off_is_recognised_by_github_s_words() {
        for said in [
            "Forbidden; Repository level self-hosted runners are disabled on this repository",
            "GitHub Actions is disabled on this repository",
        ] {
            assert!(runners_are_off(said), "{said}");
        }
        assert!(!runners_are_off("Already exists - A runner with the name disabled already exists."));
    }
}
