//! The registration token, and the credential that creates one.

use crate::github::Client;
use crate::lifecycle::context::error::{ConfigShError, Error, RegistrationError};
use crate::lifecycle::context::site::Site;
use crate::secret::Secret;
use crate::settings::GivenToken;
use jiff::Timestamp;
use std::time::{Duration, Instant};

/// How old a registration token may be: it is valid for an hour, and `config.sh` takes minutes at most.
const FRESH: Duration = Duration::from_secs(30 * 60);

/// What a token is for, in messages.
pub(crate) const REGISTRATION: &str = "registration token";
/// The same for the token that removes a runner.
pub(crate) const REMOVE: &str = "remove token";

/// A registration token, and when it was created, if that is known.
pub(crate) struct Token {
    /// The token.
    pub token: Secret,
    created: Option<Instant>,
}

impl Token {
    /// Whether it stays valid for long enough for `config.sh`.
    pub fn is_fresh(&self) -> bool {
        self.created.is_none_or(|created| created.elapsed() < FRESH)
    }
}

/// The client that can request a registration token; `None` if there is a token already.
///
/// # Errors
/// `RegistrationError::CredentialMissing`; the token that was passed has expired.
pub(crate) fn check_credential<'a>(site: &'a Site<'_>) -> Result<Option<&'a Client>, Error> {
    if let Some(given) = &site.request.credentials.registration {
        if let Some(at) = given.expired(now(site)) {
            return Err(expired(REGISTRATION, given, at).into());
        }
        return Ok(site.eyes());
    }
    let purpose = "registering a runner";
    site.eyes().map(Some).ok_or(Error::Registration(RegistrationError::CredentialMissing { purpose }))
}

/// Refuses a remove token that was passed and has expired, before anything is done with it.
///
/// # Errors
/// `RegistrationError::TokenExpired`.
pub(crate) fn check_remove(site: &Site<'_>) -> Result<(), RegistrationError> {
    let given = site.request.credentials.remove.as_ref();
    match given.and_then(|given| Some((given, given.expired(now(site))?))) {
        Some((given, at)) => Err(expired(REMOVE, given, at)),
        None => Ok(()),
    }
}

/// A registration token: the one that was passed, or a new one.
///
/// # Errors
/// Neither is available; the credential may not create one.
pub(crate) async fn get(site: &Site<'_>) -> Result<Token, Error> {
    if let Some(given) = &site.request.credentials.registration {
        check_credential(site)?;
        if let Some(end) = given.expires_at {
            let phase = site.phase("token");
            phase.end(format!(
                "{REGISTRATION} from {}, good until {end} ({})",
                given.source,
                left(end, now(site))
            ));
        }
        return Ok(Token { token: given.token.clone(), created: None });
    }
    let client = check_credential(site)?.ok_or(crate::settings::Error::UrlMissing)?;
    let phase = site.phase("token");
    let token = site.within("asking for a registration token", client.registration_token()).await?;
    site.check_clock()?;
    phase.end(format!("registration token, good until {}", token.expires_at));
    Ok(Token { token: token.token, created: Some(Instant::now()) })
}

/// What the refusal of a token that was passed means; `None` if `config.sh` failed for another reason, or if runup has
/// created the token.
pub(crate) fn refusal(
    site: &Site<'_>,
    kind: &'static str,
    given: Option<&GivenToken>,
    url: &str,
    failed: &ConfigShError,
) -> Option<RegistrationError> {
    let given = given.filter(|_| failed.is_about_the_token())?;
    let now = now(site);
    // Only what is known of its end makes it expired; everything else is a guess.
    if let Some(at) = given.expires_at.filter(|at| *at <= now) {
        return Some(expired(kind, given, at));
    }
    Some(RegistrationError::TokenRefused {
        kind,
        place: given.source.clone(),
        url: url.trim_end_matches('/').to_owned(),
        age: given.too_old(now),
        valid_until: given.expires_at,
    })
}

/// The time by the server's clock, if it has answered.
fn now(site: &Site<'_>) -> Timestamp {
    site.client.as_deref().map_or_else(Timestamp::now, Client::now)
}

/// The rest of a token's life, in words.
fn left(end: Timestamp, now: Timestamp) -> String {
    match end.duration_since(now).as_mins() {
        minutes @ 1.. => format!("{minutes} min left"),
        _ => "less than a minute left".to_owned(),
    }
}

fn expired(kind: &'static str, given: &GivenToken, at: Timestamp) -> RegistrationError {
    RegistrationError::TokenExpired { kind, place: given.source.clone(), at }
}
