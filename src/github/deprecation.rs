//! How long a version of the runner is supported, on servers that tell.

use super::answer::{bad_document, read};
use super::client::Client;
use super::document::non_empty;
use super::error::Error;
use reqwest::Method;
use serde::Deserialize;

/// When GitHub ends its support of a version; `None` where no date is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deprecation {
    /// From then on it can no longer register.
    pub registration_at: Option<jiff::Timestamp>,
    /// From then on it no longer gets jobs.
    pub runtime_at: Option<jiff::Timestamp>,
}

#[derive(Deserialize)]
struct RawDeprecation {
    #[serde(default, deserialize_with = "non_empty")]
    registration_deprecates_at: Option<String>,
    #[serde(default, deserialize_with = "non_empty")]
    runtime_deprecates_at: Option<String>,
}

impl TryFrom<RawDeprecation> for Deprecation {
    type Error = serde_json::Error;

    fn try_from(raw: RawDeprecation) -> Result<Self, serde_json::Error> {
        use serde::de::Error as _;
        let time = |field: &str, text: Option<String>| {
            let read = |text: String| {
                text.parse().map_err(|_| {
                    serde_json::Error::custom(format_args!("`{field}` is not an RFC 3339 time: {text:?}"))
                })
            };
            text.map(read).transpose()
        };
        Ok(Self {
            registration_at: time("registration_deprecates_at", raw.registration_deprecates_at)?,
            runtime_at: time("runtime_deprecates_at", raw.runtime_deprecates_at)?,
        })
    }
}

impl Client {
    /// When the support of `version` ends; `None` if this server does not tell, like github.com and Enterprise Server.
    pub async fn deprecation(&self, version: &str) -> Result<Option<Deprecation>, Error> {
        let answer = match self.get(&format!("/actions/runners/deprecations/{version}"), &[]).await {
            // A credential that can list the runner applications can see the scope, so it is the call that is missing.
            Err(Error::NotFound { .. }) => return Ok(None),
            answer => answer?,
        };
        let what = "deprecation of a version";
        let raw: RawDeprecation = read(&Method::GET, &answer, what)?;
        let told = Deprecation::try_from(raw);
        told.map(Some).map_err(|source| bad_document(&Method::GET, &answer, what, source))
    }
}
