//! When GitHub ends its support of a runner version.

use super::clock;
use serde_json::{Value, json};

/// The end of a version's support.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct Deprecation {
    /// Which version.
    pub version: String,
    /// From then on it can no longer register, RFC 3339.
    #[serde(default)]
    pub registration_deprecates_at: Option<String>,
    /// From then on it no longer gets jobs, RFC 3339.
    #[serde(default)]
    pub runtime_deprecates_at: Option<String>,
    /// The sandbox enforces the dates but does not tell them, like github.com.
    #[serde(default)]
    pub silent: bool,
}

impl Deprecation {
    /// Refuses invalid dates: they would never pass, and a test would prove nothing.
    pub(super) fn check(&self) -> Result<(), String> {
        let dates = [&self.registration_deprecates_at, &self.runtime_deprecates_at];
        let wrong = dates.into_iter().flatten().find(|at| at.parse::<jiff::Timestamp>().is_err());
        wrong.map_or(Ok(()), |at| Err(format!("{at:?} is not an RFC 3339 time")))
    }

    pub(super) fn passed(at: Option<&str>) -> bool {
        at.and_then(|at| at.parse().ok()).is_some_and(|at: jiff::Timestamp| at <= clock::now(0))
    }

    /// The document of the REST API.
    pub(super) fn to_api(&self) -> Value {
        let mut document = json!({"runner_version": self.version});
        let dates = [
            ("registration_deprecates_at", &self.registration_deprecates_at),
            ("runtime_deprecates_at", &self.runtime_deprecates_at),
        ];
        for (field, at) in dates {
            if let Some(at) = at {
                document[field] = json!(at);
            }
        }
        document
    }
}
