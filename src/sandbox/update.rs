//! Self-updates that the server requests, as GitHub does for an idle runner that is not the newest version.

use super::archive::Platform;
use super::server::Shared;
use super::world::World;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

/// A version to which listeners are told to update themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// The version.
    pub version: String,
    /// The update of the next listener is interrupted: the old `bin` is moved away, and the new one is missing.
    #[serde(default)]
    pub cut_off: bool,
}

impl Update {
    /// To this version.
    #[must_use]
    pub fn to(version: &str) -> Self {
        Self { version: version.to_owned(), cut_off: false }
    }

    /// The same, interrupted once.
    #[must_use]
    pub fn cut_off(self) -> Self {
        Self { cut_off: true, ..self }
    }

    pub(super) fn is_valid(&self) -> bool {
        super::is_version(&self.version)
    }
}

/// The message for the listener of this runner: version, URL and digest; `None` if there is nothing newer, or if it
/// disabled updates. Like GitHub's, the URL needs no credential.
pub(super) fn message(shared: &Shared, world: &mut World, id: u64, base: &Url) -> Option<Value> {
    let runner = world.runner_by_id(id)?;
    if runner.record.disable_update {
        return None;
    }
    let version = runner.record.version.clone();
    let platform = runner.platform.clone()?;
    let platform = Platform::ALL.into_iter().find(|known| known.id == platform)?;
    let update = world.updates.last_mut().filter(|update| is_older(&version, &update.version))?;
    let archive = shared.archives.get(platform, &update.version);
    let message = json!({
        "update_version": update.version,
        "update_url": format!("{base}_sandbox/mirror/{}/{}", platform.id, update.version),
        "update_sha256": archive.sha256,
        "sandbox_cut_off": update.cut_off,
    });
    update.cut_off = false;
    Some(message)
}

fn is_older(one: &str, other: &str) -> bool {
    let numbers = |version: &str| version.split('.').map(|n| n.parse().unwrap_or(0)).collect::<Vec<u64>>();
    numbers(one) < numbers(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(is_older("2.99.0", "2.336.0") && is_older("2.336.0", "2.336.1"));
        assert!(!is_older("2.336.0", "2.336.0") && !is_older("2.336.0", "2.99.9"));
    }
}
