//! What to do about a refused call, by what the answer tells of the credential.

use super::error::{Error, Reply};
use super::sent::{Sent, TokenForm};

/// What to do about a call that the server has refused.
pub(super) fn of_refusal(error: &Error) -> Option<String> {
    match error {
        Error::Unauthorized(reply) => Some(format!(
                "{}The token is wrong, expired or revoked, or belongs to another GitHub server. Create a new one.{}",
                kind_hint(reply).unwrap_or_default(),
                ambient_hint(reply)
            )),
        Error::SignOnRequired { reply, page } => Some(sign_on(reply, page.as_deref())),
        Error::AddressNotAllowed(_) => Some(
                "An owner can add the address that the server sees, which may be that of a proxy, to the IP allow list of \
                 the organization or enterprise."
                    .to_owned(),
            ),
        Error::TokenNotAllowed(reply) => Some(format!(
                "Use a fine-grained token or a GitHub App, or one that expires as soon as the message requires.{}",
                ambient_hint(reply)
            )),
        Error::RunnersDisabled { scope, .. } => Some(format!(
                "An owner can allow them in the settings of the {}, under Actions, General or Policies; no credential \
                 can change it.{}",
                if scope.starts_with("enterprise") { "enterprise" } else { "organization or enterprise" },
                if scope.starts_with("repository") {
                    " A runner of the organization may be allowed instead."
                } else {
                    ""
                }
        )),
        Error::Forbidden { reply, needed } => Some(permission(needed, reply)),
        Error::NotFound { reply, scope, needed } => Some(format!(
                "404 means one of three things: the {scope} does not exist (check the spelling of the URL), the \
                 credential may not see it, or the credential is for another scope. {}",
                permission(needed, reply)
            )),
        _ => None,
    }
}

/// The end of an error: which credential it is about.
pub(super) fn what_was_sent(reply: &Reply) -> String {
    reply.sent.as_ref().map(|sent| format!("; it is {sent}")).unwrap_or_default()
}

/// The sentences that name the permission that a call needs, and what the server says about it.
fn permission(needed: &str, reply: &Reply) -> String {
    let accepted = reply.accepted.as_deref();
    let accepted = accepted.map(|a| format!(" The server accepts a token with: {a}.")).unwrap_or_default();
    // Those that the sentence before has named are not repeated.
    let is_news = |scopes: &&str| scopes.split(',').any(|scope| !needed.contains(scope.trim()));
    let scopes = reply.accepted_scopes.as_deref().filter(|_| has_scopes(reply)).filter(is_news);
    let scopes =
        scopes.map(|a| format!(" The server accepts a token with the scope: {a}.")).unwrap_or_default();
    format!(
        "{}The call needs {needed}, created by an administrator of that scope.{accepted}{scopes}{}",
        kind_hint(reply).unwrap_or_default(),
        ambient_hint(reply)
    )
}

fn has_scopes(reply: &Reply) -> bool {
    reply.sent.as_ref().is_some_and(|sent| sent.scopes.is_some())
}

/// What the form of the token tells about why it is refused.
fn kind_hint(reply: &Reply) -> Option<&'static str> {
    let sent = reply.sent.as_ref().filter(|sent| !sent.of_app)?;
    match sent.kind {
        TokenForm::Runner => Some(
            "A registration token is passed with --registration-token-file, and a remove token with \
             --remove-token-file. ",
        ),
        TokenForm::Refresh => Some("A refresh token is only good for getting another token. "),
        TokenForm::Installation => Some("A workflow's GITHUB_TOKEN can never manage runners. "),
        _ => None,
    }
}

/// What to do about a credential that may not be the one that was meant.
fn ambient_hint(reply: &Reply) -> String {
    let ambient = reply.sent.as_ref().filter(|sent| sent.is_ambient());
    let hint = |sent: &Sent| {
        format!(
            " {0} is used because no other credential for the REST API was passed: unset it, or pass the right one \
             with --token-file, --token-command, --app-id or RUNUP_TOKEN.",
            sent.source
        )
    };
    ambient.map(hint).unwrap_or_default()
}

/// How to authorize a credential for single sign-on.
fn sign_on(reply: &Reply, page: Option<&str>) -> String {
    let ambient = ambient_hint(reply);
    match page {
        Some(page) => {
            format!("Its owner can authorize it on this page within the next hour: {page}{ambient}")
        }
        None => format!(
            "Its owner can authorize it in the settings of the token, under \"Configure SSO\"; a GitHub App needs no \
             such step.{ambient}"
        ),
    }
}
