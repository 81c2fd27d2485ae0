//! The versions of GitHub's runner, and their features.

use super::error::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The oldest version that can register with github.com; Enterprise Server may accept older ones.
pub const REGISTRATION_FLOOR: RunnerVersion = RunnerVersion::new(2, 329, 0);

/// How many hours after the publication of a release GitHub requires it: a runner that is older than a release of that
/// age gets no more jobs. GitHub's documentation of the runners' updates, and its enforcement of 2026 (community
/// discussion 194762).
pub const INSTALL_WITHIN_HOURS: i64 = 30 * 24;

/// The version of a runner: three numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunnerVersion {
    major: u32,
    minor: u32,
    patch: u32,
}

impl RunnerVersion {
    /// This version.
    #[must_use]
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// The last version in `text`, which is a file name or the path of a URL.
    #[must_use]
    pub fn find_in(text: &str) -> Option<Self> {
        text.rsplit(|c: char| !c.is_ascii_digit() && c != '.')
            .find_map(|piece| three_numbers(piece.trim_matches('.')))
    }

    /// Whether a runner of this version supports `feature`. An older one prints a warning and continues without it, so
    /// it must not be used there.
    #[must_use]
    pub fn supports(self, feature: Feature) -> bool {
        self >= feature.since()
    }
}

fn three_numbers(text: &str) -> Option<RunnerVersion> {
    let mut numbers = text.split('.').map(|number| {
        // `parse` alone would accept a sign.
        number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok()).flatten()
    });
    let version = RunnerVersion::new(numbers.next()??, numbers.next()??, numbers.next()??);
    numbers.next().is_none().then_some(version)
}

impl FromStr for RunnerVersion {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bare = text.trim();
        let bare = bare.strip_prefix(['v', 'V']).unwrap_or(bare);
        three_numbers(bare).ok_or_else(|| Error::BadVersion { given: text.to_owned() })
    }
}

impl TryFrom<String> for RunnerVersion {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<RunnerVersion> for String {
    fn from(version: RunnerVersion) -> Self {
        version.to_string()
    }
}

impl fmt::Display for RunnerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `pad` lets tables align it.
        f.pad(&format!("{}.{}.{}", self.major, self.minor, self.patch))
    }
}

/// The features that only newer runners have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Feature {
    /// `config.sh --ephemeral`.
    Ephemeral,
    /// `config.sh --disableupdate`.
    DisableUpdate,
    /// `run.sh --jitconfig`.
    JitConfig,
    /// `config.sh --generateServiceConfig`.
    GenerateServiceConfig,
    /// `config.sh remove --local`.
    RemoveLocal,
    /// Treats `*.ghe.com` as hosted by GitHub.
    DataResidency,
    /// `config.sh --no-default-labels`.
    NoDefaultLabels,
    /// Exits with code 7 when its version is deprecated, if requested.
    DeprecatedExitCode,
    /// Deletes its files when the server has deleted it.
    SelfClean,
}

impl Feature {
    /// Every feature.
    pub const ALL: [Self; 9] = [
        Self::Ephemeral,
        Self::DisableUpdate,
        Self::JitConfig,
        Self::GenerateServiceConfig,
        Self::RemoveLocal,
        Self::DataResidency,
        Self::NoDefaultLabels,
        Self::DeprecatedExitCode,
        Self::SelfClean,
    ];

    /// The first version that has it, by the tags of GitHub's runner repository.
    #[must_use]
    pub const fn since(self) -> RunnerVersion {
        let minor = match self {
            Self::Ephemeral => 282,
            Self::DisableUpdate => 287,
            Self::JitConfig => 294,
            Self::GenerateServiceConfig => 299,
            Self::RemoveLocal => 301,
            Self::DataResidency => 302,
            Self::NoDefaultLabels => 305,
            Self::DeprecatedExitCode => 333,
            Self::SelfClean => 336,
        };
        RunnerVersion::new(2, minor, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_three_numbers_in_numeric_order() {
        let parse = |text: &str| text.parse::<RunnerVersion>();
        assert_eq!(parse(" v2.336.0\n").unwrap().to_string(), "2.336.0");
        assert!(parse("2.99.0").unwrap() < parse("2.277.1").unwrap());
        for text in
            ["", "2", "2.1", "2.1.3.4", "2.1.x", "2..3", "-2.1.3", "+2.1.3", "2.1.99999999999", "vv2.1.3"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(serde_json::to_string(&REGISTRATION_FLOOR).unwrap(), "\"2.329.0\"");
    }

    #[test]
    fn a_version_is_found_in_file_names_and_paths() {
        let cases = [
            ("actions-runner-linux-x64-2.277.1.tar.gz", Some("2.277.1")),
            ("actions-runner-win-arm64-2.336.0.zip", Some("2.336.0")),
            ("/_apis/distributedtask/packagedownload/agent/linux-x64/2.317.0", Some("2.317.0")),
            ("/10.0.0.1/v2.300.0/a-2.301.2.tar.gz", Some("2.301.2")),
            ("/10.0.0.1/agent/linux-x64", None),
            ("", None),
        ];
        for (text, version) in cases {
            assert_eq!(RunnerVersion::find_in(text).map(|v| v.to_string()).as_deref(), version, "{text}");
        }
    }

    #[test]
    fn features_begin_with_their_version() {
        for feature in Feature::ALL {
            let since = feature.since();
            assert!(since.supports(feature));
            assert!(!RunnerVersion::new(2, since.minor - 1, 99).supports(feature), "{feature:?}");
        }
        assert!(!RunnerVersion::new(2, 277, 1).supports(Feature::Ephemeral));
    }
}
