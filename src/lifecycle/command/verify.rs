//! Compares what the list of runner applications says of its archives with other sources of their digests.
//!
//! The public releases of the runner are asked without a credential: that of another server is none of their business.

use crate::deadline::Deadline;
use crate::github::{Application, Client, Release};
use crate::host::Platform;
use crate::lifecycle::context::error::{ArchiveError, Error};
use crate::lifecycle::state::limit;
use crate::lifecycle::step::placing::claims::{self, DigestClaim};
use crate::net::Http;
use crate::runner::{RunnerVersion, asset};
use std::collections::BTreeMap;

/// The most releases that are asked for: a server offers one version, or a few.
const MOST_RELEASES: usize = 5;

/// A digest that the operator has.
#[derive(Debug, Clone)]
pub struct KnownDigest {
    /// Where it is, in words that "says" can follow.
    pub source: String,
    /// The digest.
    pub digest: String,
    /// The version that it is of; `None` is the newest.
    pub version: Option<RunnerVersion>,
}

/// What is compared with the list.
#[derive(Debug, Clone)]
pub struct Verify {
    /// The digests that the operator has for the archive of a platform.
    pub known: Vec<KnownDigest>,
    /// That platform.
    pub platform: Platform,
    /// A mirror that may tell digests as well.
    pub mirror: Option<String>,
    /// When to give up.
    pub deadline: Deadline,
}

/// What each source says of each archive of the list, in its order; the list comes first.
///
/// # Errors
/// Sources disagree; the public releases cannot be asked.
pub async fn verify(
    client: &Client,
    http: &Http,
    asked: &Verify,
    list: &[Application],
) -> Result<Vec<Vec<DigestClaim>>, Error> {
    let releases = releases(client, list).await?;
    let newest = asset::choose(list, asked.platform, None).ok().and_then(|choice| choice.version);
    let platform = asked.platform.to_string();
    let mut all = Vec::new();
    for one in list {
        let version = asset::version_of(one);
        let here = format!("{}-{}", one.os, one.architecture);
        let listed = one.sha256_checksum.as_deref().unwrap_or_default();
        let mut claims: Vec<DigestClaim> = DigestClaim::new(claims::LIST, listed).into_iter().collect();
        if let Some(release) = version.and_then(|version| releases.get(&version)) {
            claims.extend(of_release(release, one, &here));
        }
        for known in
            asked.known.iter().filter(|known| here == platform && known.version.or(newest) == version)
        {
            claims.extend(DigestClaim::new(&known.source, &known.digest));
        }
        if let Some(mirror) = &asked.mirror {
            claims.extend(claims::of_mirror(http, mirror, &one.filename, asked.deadline).await);
        }
        claims::agree(&one.filename, &claims)?;
        all.push(claims);
    }
    Ok(all)
}

/// The public releases of the versions in the list.
async fn releases(client: &Client, list: &[Application]) -> Result<BTreeMap<RunnerVersion, Release>, Error> {
    let mut versions: Vec<RunnerVersion> = list.iter().filter_map(asset::version_of).collect();
    versions.sort_unstable();
    versions.dedup();
    let mut found = BTreeMap::new();
    for version in versions.into_iter().rev().take(MOST_RELEASES) {
        let asked = client.release(Some(&version.to_string())).await.map_err(Error::from);
        let asked = asked.map_err(|error| match limit::asked(&error) {
            Some(_) => ArchiveError::ReleaseLimited { source: Box::new(error) }.into(),
            None => error,
        })?;
        if let Some(release) = asked {
            found.insert(version, release);
        } else {
            tracing::warn!("github.com/actions/runner has no release {version}");
        }
    }
    Ok(found)
}

/// What a release says twice: GitHub's digest of the asset, and the one in the notes.
fn of_release(release: &Release, one: &Application, platform: &str) -> Vec<DigestClaim> {
    let asset = release.applications.iter().find(|asset| asset.filename == one.filename);
    let asset = asset.and_then(|asset| asset.sha256_checksum.as_deref());
    let noted = release.noted.iter().find(|(of, _)| of == platform).map(|(_, digest)| digest.as_str());
    let claims = [("the asset of the release", asset), ("the notes of the release", noted)];
    claims.into_iter().filter_map(|(source, digest)| DigestClaim::new(source, digest?)).collect()
}
