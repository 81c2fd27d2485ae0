//! What an installation and the runner need, checked side by side. Nothing is changed: `install` converges.

mod hosts;
mod jobs;
mod last_failure;
mod machine;
mod network;
mod reached;
mod umask;

use crate::deadline::Deadline;
use crate::error::situation::{self, Situation};
use crate::error::{Class, Failure, chain};
use crate::lifecycle::context::site::Site;
pub use last_failure::last_failure;
use serde::Serialize;
use std::time::Duration;

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(5);

/// The result of a check.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// Its id, which stays the same.
    pub id: &'static str,
    /// The result.
    pub verdict: Verdict,
    /// What was found.
    pub detail: String,
    /// What to do, if it fails.
    pub fix: Option<String>,
    /// The name of the error, for `runup explain`.
    pub name: Option<String>,
    /// The exit code with which `install` would end.
    pub exit_code: Option<u8>,
    #[serde(skip)]
    class: Option<Class>,
}

/// Whether it is fine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is.
    Fine,
    /// An installation, or the runner, would fail.
    Fails,
    /// It could not be seen from here, or not in time.
    Unknown,
}

impl Check {
    /// A check that is fine.
    #[must_use]
    pub fn fine(id: &'static str, detail: impl Into<String>) -> Self {
        Self::new(id, Verdict::Fine, detail.into())
    }

    /// A check without a result.
    #[must_use]
    pub fn unknown(id: &'static str, detail: impl Into<String>) -> Self {
        Self::new(id, Verdict::Unknown, detail.into())
    }

    fn new(id: &'static str, verdict: Verdict, detail: String) -> Self {
        Self { id, verdict, detail, fix: None, name: None, exit_code: None, class: None }
    }

    /// A check that ends with this error.
    #[must_use]
    pub fn fails(id: &'static str, error: &dyn Failure) -> Self {
        if std::ptr::eq(error.situation(), &raw const situation::DEADLINE) {
            return Self::unknown(id, "no answer in time");
        }
        let class = error.class();
        Self {
            fix: error.hint(),
            name: Some(error.situation().name()),
            exit_code: Some(class.exit_code()),
            class: Some(class),
            ..Self::new(id, Verdict::Fails, chain(error))
        }
    }

    /// A check that fails without an error of its own.
    #[must_use]
    pub fn ends(id: &'static str, detail: String, class: Class, fix: String) -> Self {
        let exit_code = Some(class.exit_code());
        Self { fix: Some(fix), exit_code, class: Some(class), ..Self::new(id, Verdict::Fails, detail) }
    }

    /// The same for a failure that no error describes.
    fn named(self, situation: &'static Situation) -> Self {
        let class = situation.classes.first().copied();
        let exit_code = class.map(Class::exit_code);
        Self { name: Some(situation.name()), exit_code, class, ..self }
    }

    /// What a function of `install` found.
    fn of<E: Failure>(id: &'static str, found: Result<String, E>) -> Self {
        match found {
            Ok(detail) => Self::fine(id, detail),
            Err(error) => Self::fails(id, &error),
        }
    }

    /// How `install` would end, if this fails.
    #[must_use]
    pub fn class(&self) -> Option<Class> {
        self.class
    }
}

/// What an installation would find, and how it would end: the first check that fails, in the order in which `install`
/// would meet it.
#[must_use]
pub fn worst(checks: &[Check]) -> Option<Class> {
    checks.iter().find(|check| check.verdict == Verdict::Fails).and_then(Check::class)
}

/// Checks everything, in the order in which `install` would meet it.
pub async fn doctor(site: &Site<'_>) -> Vec<Check> {
    let site = &site.until(site.deadline.within(LIMIT), site.stop.clone());
    let limit = Deadline::after(LIMIT);
    let (mut checks, network) =
        tokio::join!(Box::pin(machine::checks(site, limit)), Box::pin(network::checks(site, limit)));
    checks.extend(network);
    checks
}
