//! The registration token, and the credential that creates one.

use crate::github::Client;
use crate::lifecycle::context::error::{Error, RegistrationError};
use crate::lifecycle::context::site::Site;
use crate::secret::Secret;
use std::time::{Duration, Instant};

/// How old a registration token may be: it is valid for an hour, and `config.sh` takes minutes at most.
const FRESH: Duration = Duration::from_secs(30 * 60);

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
/// `RegistrationError::CredentialMissing`.
pub(crate) fn check_credential<'a>(site: &'a Site<'_>) -> Result<Option<&'a Client>, Error> {
    if site.request.credentials.registration.is_some() {
        return Ok(site.eyes());
    }
    let purpose = "registering a runner";
    site.eyes().map(Some).ok_or(Error::Registration(RegistrationError::CredentialMissing { purpose }))
}

/// A registration token: the one that was passed, or a new one.
///
/// # Errors
/// Neither is available; the credential may not create one.
pub(crate) async fn get(site: &Site<'_>) -> Result<Token, Error> {
    if let Some(token) = &site.request.credentials.registration {
        return Ok(Token { token: token.clone(), created: None });
    }
    let client = check_credential(site)?.ok_or(crate::settings::Error::UrlMissing)?;
    let phase = site.phase("token");
    let token = site.within("asking for a registration token", client.registration_token()).await?;
    site.check_clock()?;
    phase.end(format!("registration token, good until {}", token.expires_at));
    Ok(Token { token: token.token, created: Some(Instant::now()) })
}
