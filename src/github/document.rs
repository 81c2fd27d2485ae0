//! The documents in GitHub's answers. Unknown fields are ignored; optional fields may be missing, null or empty.

use super::listing::few;
use crate::secret::{MARK, Secret};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use url::Url;

/// A runner archive that GitHub offers.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Application {
    /// GitHub's word for the system: `linux`, `osx`, `win`, or something newer.
    #[serde(deserialize_with = "present")]
    pub os: String,
    /// GitHub's word for the processor: `x64`, `arm64`, `arm`, or something newer.
    #[serde(deserialize_with = "present")]
    pub architecture: String,
    /// The address of the archive. On Enterprise Server it has neither a file name nor an extension.
    #[serde(deserialize_with = "address", serialize_with = "text")]
    pub download_url: Url,
    /// The archive's name, which determines its format.
    #[serde(deserialize_with = "present")]
    pub filename: String,
    /// A short-lived bearer token for the host of `download_url` only. It is serialized as [`MARK`].
    #[serde(default, deserialize_with = "secret", serialize_with = "marked")]
    pub temp_download_token: Option<Secret>,
    /// The archive's SHA-256 in hexadecimal, as the server sent it: an empty one is kept, so that it differs from none.
    #[serde(default)]
    pub sha256_checksum: Option<String>,
}

/// A just-in-time runner, which exists on the server, and the configuration with which one listener can be this runner.
#[derive(Debug, Clone)]
pub struct JitConfig {
    /// The runner.
    pub runner: Runner,
    /// The value of the listener's input `jitconfig`.
    pub encoded: Secret,
}

#[derive(Deserialize)]
pub(super) struct RawJitConfig {
    runner: Runner,
    encoded_jit_config: String,
}

impl TryFrom<RawJitConfig> for JitConfig {
    type Error = serde_json::Error;

    fn try_from(raw: RawJitConfig) -> Result<Self, Self::Error> {
        let encoded = Secret::new(&raw.encoded_jit_config)
            .ok_or_else(|| <serde_json::Error as serde::de::Error>::custom("the configuration is empty"))?;
        Ok(Self { runner: raw.runner, encoded })
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Group {
    pub id: u64,
    pub name: String,
}

/// A registration or remove token, valid for one hour.
#[derive(Debug, Clone)]
pub struct RunnerToken {
    /// The token.
    pub token: Secret,
    /// When it expires.
    pub expires_at: jiff::Timestamp,
}

#[derive(Deserialize)]
pub(super) struct RawToken {
    #[serde(deserialize_with = "secret")]
    token: Option<Secret>,
    expires_at: String,
}

impl TryFrom<RawToken> for RunnerToken {
    type Error = serde_json::Error;

    fn try_from(raw: RawToken) -> Result<Self, serde_json::Error> {
        use serde::de::Error as _;
        let token = raw.token.ok_or_else(|| serde_json::Error::custom("`token` is empty"))?;
        let expires_at = raw.expires_at.parse().map_err(|_| {
            serde_json::Error::custom(format_args!(
                "`expires_at` is not an RFC 3339 time: {:?}",
                raw.expires_at
            ))
        })?;
        Ok(Self { token, expires_at })
    }
}

/// Whether a runner is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunnerStatus {
    /// It is connected, and waits for a job or runs one.
    Online,
    /// It is not connected.
    Offline,
    /// A status that this version of runup does not know.
    Other(String),
}

impl RunnerStatus {
    /// GitHub's word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Other(word) => word,
        }
    }
}

impl From<String> for RunnerStatus {
    fn from(word: String) -> Self {
        match word.to_ascii_lowercase().as_str() {
            "online" => Self::Online,
            "offline" => Self::Offline,
            _ => Self::Other(word),
        }
    }
}

impl FromStr for RunnerStatus {
    type Err = std::convert::Infallible;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Ok(word.trim().to_owned().into())
    }
}

impl fmt::Display for RunnerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for RunnerStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

impl Serialize for RunnerStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A label of a runner.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Label {
    /// Its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// Its name, which is case-insensitive.
    pub name: String,
    /// `read-only` for labels that GitHub sets, `custom` for the others.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

impl Label {
    /// Whether GitHub sets it itself, so that it cannot be removed.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.kind.as_deref() == Some("read-only")
    }
}

/// A runner on the server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Runner {
    /// Its id, unique on this server.
    pub id: u64,
    /// Its name, unique in its scope and case-insensitive.
    pub name: String,
    /// The operating system that it reported, in its own words (`Linux`, `macos`, `unknown`).
    #[serde(default, deserialize_with = "or_empty")]
    pub os: String,
    /// Whether it is connected.
    pub status: RunnerStatus,
    /// Whether it has a job.
    #[serde(default)]
    pub busy: bool,
    /// The id of its runner group, on servers with groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_group_id: Option<u64>,
    /// Its labels.
    #[serde(default, deserialize_with = "few")]
    pub labels: Vec<Label>,
    /// Its version; newer servers only.
    #[serde(default, deserialize_with = "non_empty", skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether it takes one job only; newer servers only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral: Option<bool>,
}

impl Runner {
    /// Whether it has this name, ignoring case.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        same(&self.name, name)
    }

    /// Whether it has this label, ignoring case.
    #[must_use]
    pub fn has_label(&self, name: &str) -> bool {
        self.labels.iter().any(|label| same(&label.name, name))
    }
}

fn same(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

fn or_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

fn text<S: Serializer>(url: &Url, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(url.as_str())
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.trim().is_empty() {
        return Err(serde::de::Error::custom("an empty string where a value is required"));
    }
    Ok(text)
}

pub(super) fn non_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()))
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.filter(|text| !text.trim().is_empty());
    text.map(|text| {
        Secret::new(&text).ok_or_else(|| {
            serde::de::Error::custom("a token with characters that are not allowed in an HTTP header")
        })
    })
    .transpose()
}

#[expect(clippy::ref_option, reason = "serde gives a reference to the field")]
fn marked<S: Serializer>(token: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    token.as_ref().map(|_| MARK).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOWNLOADS: &str = include_str!("../../tests/fixtures/downloads.json");
    const RUNNERS: &str = include_str!("../../tests/fixtures/runners.json");
    const RUNNER: &str = include_str!("../../tests/fixtures/runner.json");

    #[test]
    fn the_documented_examples_are_read() {
        #[derive(Deserialize)]
        struct Page {
            runners: Vec<Runner>,
        }
        let page: Page = serde_json::from_str(RUNNERS).unwrap();
        assert_eq!(page.runners.len(), 2);
        assert_eq!(page.runners[0].status, RunnerStatus::Online);
        assert!(page.runners[0].busy);
        assert_eq!(page.runners[1].labels[3].kind.as_deref(), Some("custom"));
        assert!(page.runners[1].has_label("NO-GPU") && page.runners[1].is_named("Mac_Runner"));

        let runner: Runner = serde_json::from_str(RUNNER).unwrap();
        assert_eq!((runner.id, runner.name.as_str(), runner.os.as_str()), (23, "MBP", "macos"));

        let list: Vec<Application> = serde_json::from_str(DOWNLOADS).unwrap();
        assert_eq!(list.len(), 5);
        assert!(list.iter().all(|one| one.temp_download_token.is_some() && one.sha256_checksum.is_some()));

        let raw: RawToken =
            serde_json::from_str(include_str!("../../tests/fixtures/registration-token.json")).unwrap();
        let token = RunnerToken::try_from(raw).unwrap();
        assert_eq!(token.token.expose(), "LLBF3JGZDX3P5PMEXLND6TS6FCWO6");
        assert_eq!(token.expires_at.to_string(), "2020-01-22T20:13:35.123Z");
    }

    #[test]
    fn what_is_optional_may_be_absent_null_or_empty() {
        let text = r#"{"os":"linux","architecture":"x64","download_url":"https://h/x","filename":"f.zip","#
            .to_owned()
            + r#""temp_download_token":"","sha256_checksum":" ","new":[1]}"#;
        let one: Application = serde_json::from_str(&text).unwrap();
        assert!(one.temp_download_token.is_none());
        assert_eq!(one.sha256_checksum.as_deref(), Some(" "));
        let text = r#"{"id":1,"name":"a","status":"Idle","os":null,"labels":null}"#;
        let runner: Runner = serde_json::from_str(text).unwrap();
        assert_eq!(runner.status, RunnerStatus::Other("Idle".to_owned()));
        assert_eq!(serde_json::to_value(&runner).unwrap()["status"], "Idle");
    }

    #[test]
    fn a_download_token_does_not_reach_json_or_debug() {
        let list: Vec<Application> = serde_json::from_str(DOWNLOADS).unwrap();
        let token = list[0].temp_download_token.as_ref().unwrap().expose().to_owned();
        assert!(!serde_json::to_string(&list).unwrap().contains(&token));
        assert!(!format!("{list:?}").contains(&token));
        assert_eq!(serde_json::to_value(&list).unwrap()[0]["temp_download_token"], MARK);
    }
}
