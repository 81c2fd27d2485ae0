//! GitHub's public releases of the runner: another source of its archives and of their digests than the list of runner
//! applications, which needs no credential.

use super::answer::{bad_document, read};
use super::client::Client;
use super::document::Application;
use super::error::Error;
use super::listing::few;
use reqwest::Method;
use serde::Deserialize;
use url::Url;

/// The most digests that are read from the notes: there is one for each platform, and once there were four.
const MOST_NOTED: usize = 64;
/// The most bytes of the notes that are read.
const MOST_NOTES: usize = 256 << 10;

/// A release of the runner (`GET /repos/actions/runner/releases/latest`, `…/tags/vVERSION`).
#[derive(Debug, Clone)]
pub struct Release {
    /// Its archives, in the format of the list of runner applications. The checksums are GitHub's digests of the
    /// assets.
    pub applications: Vec<Application>,
    /// The digests in its notes, by platform (`linux-x64`), as they are written there.
    pub noted: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct RawRelease {
    tag_name: String,
    #[serde(default, deserialize_with = "few")]
    assets: Vec<RawAsset>,
    #[serde(default)]
    body: Option<String>,
}

#[derive(Deserialize)]
struct RawAsset {
    name: String,
    browser_download_url: String,
    #[serde(default)]
    digest: Option<String>,
}

impl Client {
    /// The release of this version, or the latest one. It needs no credential, and none is sent; GitHub then allows 60
    /// calls per hour and IP address. `None` if there is no release of this version.
    ///
    /// # Errors
    /// A rate limit beyond that; an error if the answer is not a release.
    pub async fn release(&self, version: Option<&str>) -> Result<Option<Release>, Error> {
        let which = version.map_or_else(|| "latest".to_owned(), |version| format!("tags/v{version}"));
        let answer = match self.get_public(self.target().release(&which)).await {
            Err(Error::Odd(reply)) if reply.status == 404 && version.is_some() => return Ok(None),
            answer => answer?,
        };
        let what = "release of the runner";
        let raw: RawRelease = read(&Method::GET, &answer, what)?;
        let version = raw.tag_name.trim_start_matches('v');
        let applications: Vec<Application> =
            raw.assets.iter().filter_map(|asset| application(asset, version)).collect();
        if applications.is_empty() {
            use serde::de::Error as _;
            let source = serde_json::Error::custom(format_args!(
                "the release {:?} has no runner archive with a known name",
                raw.tag_name
            ));
            return Err(bad_document(&Method::GET, &answer, what, source));
        }
        let noted = raw.body.as_deref().map(noted).unwrap_or_default();
        Ok(Some(Release { applications, noted }))
    }
}

/// The digests between `<!-- BEGIN SHA linux-x64 -->` and `<!-- END SHA linux-x64 -->` in the notes of a release.
fn noted(notes: &str) -> Vec<(String, String)> {
    const BEGIN: &str = "<!-- BEGIN SHA ";
    let end = notes.len().min(MOST_NOTES);
    let notes = notes.get(..end).unwrap_or_default();
    let marks = notes.split(BEGIN).skip(1).filter_map(|rest| {
        let (platform, rest) = rest.split_once(" -->")?;
        let (digest, _) = rest.split_once(&format!("<!-- END SHA {platform} -->"))?;
        let is_word = |text: &str| {
            (1..=80).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let digest = digest.trim();
        (is_word(platform) && is_word(digest)).then(|| (platform.to_owned(), digest.to_owned()))
    });
    marks.take(MOST_NOTED).collect()
}

/// An asset as a runner application; `None` if it is not a complete archive for a platform.
fn application(asset: &RawAsset, version: &str) -> Option<Application> {
    let rest = asset.name.strip_prefix("actions-runner-")?;
    let rest = rest.strip_suffix(".tar.gz").or_else(|| rest.strip_suffix(".zip"))?;
    let (os, rest) = rest.split_once('-')?;
    let (architecture, found) = rest.split_once('-')?;
    let url: Url = asset.browser_download_url.parse().ok()?;
    if found != version || !matches!(url.scheme(), "http" | "https") {
        return None;
    }
    Some(Application {
        os: os.to_owned(),
        architecture: architecture.to_owned(),
        download_url: url,
        filename: asset.name.clone(),
        temp_download_token: None,
        sha256_checksum: asset
            .digest
            .as_deref()
            .map(|digest| digest.strip_prefix("sha256:").unwrap_or(digest).to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::github::Target;

    fn asset(name: &str, digest: Option<&str>) -> RawAsset {
        RawAsset {
            name: name.into(),
            browser_download_url: format!(
                "https://github.com/actions/runner/releases/download/v2.340.0/{name}"
            ),
            digest: digest.map(str::to_owned),
        }
    }

    #[test]
    fn the_assets_of_a_release_are_runner_applications() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let linux = asset("actions-runner-linux-x64-2.340.0.tar.gz", Some(&digest));
        let found = application(&linux, "2.340.0").unwrap();
        assert_eq!((found.os.as_str(), found.architecture.as_str()), ("linux", "x64"));
        assert_eq!(found.sha256_checksum.as_deref(), Some("ab".repeat(32).as_str()));
        assert!(found.temp_download_token.is_none());
        let windows = application(&asset("actions-runner-win-arm64-2.340.0.zip", None), "2.340.0").unwrap();
        assert_eq!((windows.os.as_str(), windows.sha256_checksum), ("win", None));
        for other in [
            "actions-runner-linux-x64-2.340.0-noexternals.tar.gz",
            "actions-runner-linux-x64-2.339.0.tar.gz",
            "actions-runner-linux-x64-2.340.0.tar.gz.asc",
            "Source.tar.gz",
        ] {
            assert!(application(&asset(other, None), "2.340.0").is_none(), "{other}");
        }
    }

    #[test]
    fn the_notes_tell_a_digest_for_each_platform() {
        let (linux, win) = ("ab".repeat(32), "cd".repeat(32));
        let notes = format!(
            "## SHA-256 Checksums\n- actions-runner-win-x64-2.340.0.zip <!-- BEGIN SHA win-x64 -->{win}<!-- END SHA win-x64 -->\n\
             - x <!-- BEGIN SHA linux-x64 --> {linux} <!-- END SHA linux-x64 -->\n\
             <!-- BEGIN SHA osx-x64 -->{win}<!-- END SHA osx-arm64 -->\n<!-- BEGIN SHA a b -->c<!-- END SHA a b -->\n\
             <!-- BEGIN SHA linux-arm -->two words<!-- END SHA linux-arm -->"
        );
        let platform = |name: &str, digest: &str| (name.to_owned(), digest.to_owned());
        assert_eq!(noted(&notes), [platform("win-x64", &win), platform("linux-x64", &linux)]);
        assert_eq!(noted(""), []);
    }

    #[test]
    fn the_releases_are_asked_for_at_github_com_or_where_the_operator_says() {
        let of = |url, api| Target::parse(url, api, false).unwrap().release("latest").to_string();
        let public = "https://api.github.com/repos/actions/runner/releases/latest";
        assert_eq!(of("https://github.com/octo-org", None), public);
        assert_eq!(of("https://octo.ghe.com/octo-org", None), public);
        assert_eq!(of("https://ghe.example.com/octo-org", None), public);
        let here = "http://127.0.0.1:9/api/v3/repos/actions/runner/releases/latest";
        assert_eq!(of("http://127.0.0.1:9/octo-org", None), here);
        assert_eq!(of("https://ghe.example.com/octo-org", Some("http://127.0.0.1:9/api/v3")), here);
        assert_eq!(
            of("https://github.com/octo-org", Some("http://127.0.0.1:9/api/v3")),
            "http://127.0.0.1:9/api/v3/repos/actions/runner/releases/latest"
        );
    }
}
