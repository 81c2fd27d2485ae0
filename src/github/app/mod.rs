//! A GitHub App: signs the short-lived tokens (JWT) with which its installation tokens are requested.
//!
//! The key is read when it is needed and dropped after one signature, so that it is neither in the memory of a process that
//! runs for months nor outdated there.

mod error;
mod key;
mod signature;

pub use error::AppError;
use key::Key;

use super::error::Error;
use super::shell::{ShellCommand, words};
use crate::deadline::Deadline;
use crate::error::Failure;
use crate::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use secrecy::zeroize::Zeroizing;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use tokio::sync::Mutex;

/// How far back a token is dated, and the clock difference that needs no mention: GitHub documents a minute.
pub(super) const LEEWAY: SignedDuration = SignedDuration::from_secs(60);
/// How long a token is valid, from the date that it bears: ten minutes is the most.
const LIFE: SignedDuration = SignedDuration::from_secs(600);

/// Reads the key, with what is wrong if it cannot be used.
pub type KeyReader = Arc<dyn Fn() -> Result<Zeroizing<String>, Box<dyn Failure>> + Send + Sync>;

/// What signs for an App.
pub enum Signer {
    /// A key that is read again for each signature.
    Key {
        /// Where it is, for messages.
        place: String,
        /// Reads it.
        read: KeyReader,
    },
    /// A command that prints the key.
    KeyCommand(ShellCommand),
    /// A command that signs.
    SignCommand(ShellCommand),
}

/// A GitHub App, with what is known of its installations.
pub struct App {
    pub(super) id: String,
    /// The installation that the operator named.
    pub(super) installation: Option<u64>,
    signer: Signer,
    /// By scope. Several clients that need a token at once request one.
    grants: std::sync::Mutex<BTreeMap<String, Arc<Mutex<Grant>>>>,
    warned: AtomicBool,
}

/// What is known of one installation.
#[derive(Default)]
pub(super) struct Grant {
    /// Its id, if it was looked up.
    pub found: Option<u64>,
    /// Its token, and when to replace it, by the server's clock.
    pub token: Option<(Secret, Timestamp)>,
}

impl App {
    /// An App by its id or client id.
    #[must_use]
    pub fn new(id: &str, installation: Option<u64>, signer: Signer) -> Self {
        let (grants, warned) = (std::sync::Mutex::default(), AtomicBool::default());
        Self { id: id.to_owned(), installation, signer, grants, warned }
    }

    /// What is known of the installation for this scope, for one client at a time.
    pub(super) fn grant(&self, scope: String) -> Arc<Mutex<Grant>> {
        let mut grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(grants.entry(scope).or_default())
    }

    /// Whether a command signs.
    pub(super) fn signs_elsewhere(&self) -> bool {
        matches!(self.signer, Signer::SignCommand(_))
    }

    /// A token of the App itself, dated by the server's clock, of which the local one differs by `skew`.
    pub(super) async fn jwt(&self, skew: SignedDuration, deadline: Deadline) -> Result<Secret, Error> {
        let (seconds, direction) =
            (skew.abs().as_secs(), if skew.is_negative() { "behind" } else { "ahead of" });
        if skew.abs() > LEEWAY && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the clock of this machine is {seconds} s {direction} the server's: tokens of the App are dated by the \
                 server's; synchronise the clock"
            );
        }
        let now = Timestamp::now();
        let from = now.checked_sub(skew).unwrap_or(now).as_second() - LEEWAY.as_secs();
        let claims = serde_json::json!({"iat": from, "exp": from + LIFE.as_secs(), "iss": self.id});
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","typ":"JWT"}"#);
        let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.sign(message.as_bytes(), deadline).await?;
        let jwt = format!("{message}.{}", URL_SAFE_NO_PAD.encode(&signature));
        Ok(Secret::new(&jwt).expect("base64 and dots fit in a header"))
    }

    async fn sign(&self, message: &[u8], deadline: Deadline) -> Result<Vec<u8>, Error> {
        match &self.signer {
            Signer::Key { place, read } => {
                let text = read().map_err(AppError::KeyUnreadable)?;
                Ok(with_key(&text, place, message)?)
            }
            Signer::KeyCommand(command) => {
                let printed = command.persist(None, deadline).await?;
                let place = format!("the output of `{}`", command.text());
                let malformed = |_| AppError::key(&place, "is not text");
                Ok(with_key(std::str::from_utf8(&printed).map_err(malformed)?, &place, message)?)
            }
            Signer::SignCommand(command) => {
                let printed = command.persist(Some(message), deadline).await?;
                Ok(signature::read(&printed).ok_or_else(|| AppError::Signature {
                    command: command.text().to_owned(),
                    bytes: printed.len(),
                })?)
            }
        }
    }
}

/// Signs with the key in `text`, no part of which is printed from then on.
fn with_key(text: &str, place: &str, message: &[u8]) -> Result<Vec<u8>, AppError> {
    words(text.as_bytes());
    Key::parse(text).and_then(|key| key.sign(message)).map_err(|why| AppError::key(place, why))
}

impl App {
    /// Refuses a key that cannot sign, before anything depends on it; a command is not run for that.
    ///
    /// # Errors
    /// The key cannot be read, or is not an RSA key that can sign.
    pub fn check(&self) -> Result<(), AppError> {
        let Signer::Key { place, read } = &self.signer else { return Ok(()) };
        with_key(&read().map_err(AppError::KeyUnreadable)?, place, b"").map(drop)
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signer = match &self.signer {
            Signer::Key { place, .. } => place.as_str(),
            Signer::KeyCommand(command) | Signer::SignCommand(command) => command.text(),
        };
        f.debug_struct("App").field("id", &self.id).field("signer", &signer).finish_non_exhaustive()
    }
}
