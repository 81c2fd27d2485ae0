//! Compares what the list of runner applications says of its archives with other sources of their digests.
//!
//! The public releases of the runner are asked without a credential: that of another server is none of their business.

use crate::deadline::Deadline;
use crate::github::{Application, Client, Release};
use crate::host::Platform;
use crate::lifecycle::context::error::{ArchiveError, Error};
use crate::lifecycle::state::limit;
use crate::lifecycle::step::placing::claims::{self, DigestClaim, MirrorSums};
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
/// Sources disagree; nothing else tells a digest that the operator has; the public releases cannot be asked.
pub async fn verify(
    client: &Client,
    http: &Http,
    asked: &Verify,
    list: &[Application],
) -> Result<Vec<Vec<DigestClaim>>, Error> {
    let newest = asset::choose(list, asked.platform, None).ok().and_then(|choice| choice.version);
    let mirror = match &asked.mirror {
        Some(mirror) => {
            let sums = MirrorSums::ask(http, mirror, asked.deadline).await;
            let sums = sums.inspect_err(|why| {
                tracing::warn!("the mirror is not compared, because it does not tell its digests: {why}");
            });
            sums.ok()
        }
        None => None,
    };
    let sources = Sources { asked, newest, releases: releases(client, asked, list).await?, mirror };
    let platform = asked.platform.to_string();
    let mut listed = Vec::new();
    let mut all = Vec::new();
    for one in list {
        let (here, version) = (format!("{}-{}", one.os, one.architecture), asset::version_of(one));
        let digest = one.sha256_checksum.as_deref().unwrap_or_default();
        all.push(sources.compare(&one.filename, &here, version, digest)?);
        if here == platform {
            listed.push(version);
        }
    }
    let mut others: Vec<_> = asked.known.iter().map(|known| known.version.or(newest)).collect();
    others.sort_unstable();
    others.dedup();
    for version in others.into_iter().filter(|version| !listed.contains(version)) {
        let filename = asset::file_name(asked.platform, version);
        let claims = sources.compare(&filename, &platform, version, "")?;
        let names: Vec<&str> = claims.iter().map(|claim| claim.source.as_str()).collect();
        tracing::info!("{filename} is not in the list; these say the same of it: {}", names.join(", "));
    }
    Ok(all)
}

/// Who can say something of an archive beside the list.
struct Sources<'a> {
    asked: &'a Verify,
    newest: Option<RunnerVersion>,
    releases: BTreeMap<RunnerVersion, Release>,
    mirror: Option<MirrorSums>,
}

impl Sources<'_> {
    /// What each says of the archive, if they agree, and if what the operator has was compared with anything.
    fn compare(
        &self,
        filename: &str,
        platform: &str,
        version: Option<RunnerVersion>,
        listed: &str,
    ) -> Result<Vec<DigestClaim>, Error> {
        let mut claims: Vec<DigestClaim> = DigestClaim::new(claims::LIST, listed).into_iter().collect();
        if let Some(release) = version.and_then(|version| self.releases.get(&version)) {
            claims.extend(of_release(release, filename, platform));
        }
        let is_for = |known: &&KnownDigest| {
            platform == self.asked.platform.to_string() && known.version.or(self.newest) == version
        };
        let known = self.asked.known.iter().filter(is_for);
        let known: Vec<_> =
            known.filter_map(|known| DigestClaim::new(&known.source, &known.digest)).collect();
        let mirror = self.mirror.as_ref().and_then(|sums| sums.of(filename));
        if let (Some(known), true) = (known.first(), claims.is_empty() && mirror.is_none()) {
            let (filename, known) = (filename.to_owned(), known.source.clone());
            return Err(ArchiveError::NothingToCompare { filename, known }.into());
        }
        claims.extend(known.into_iter().chain(mirror));
        claims::agree(filename, &claims)?;
        Ok(claims)
    }
}

/// The public releases of the versions in the list, and of those whose digest the operator has.
async fn releases(
    client: &Client,
    asked: &Verify,
    list: &[Application],
) -> Result<BTreeMap<RunnerVersion, Release>, Error> {
    let mut versions: Vec<RunnerVersion> = list.iter().filter_map(asset::version_of).collect();
    versions.sort_unstable();
    versions.dedup();
    let mut versions: Vec<RunnerVersion> = versions.into_iter().rev().take(MOST_RELEASES).collect();
    for pinned in asked.known.iter().filter_map(|known| known.version) {
        if !versions.contains(&pinned) {
            versions.push(pinned);
        }
    }
    let mut found = BTreeMap::new();
    for version in versions {
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
fn of_release(release: &Release, filename: &str, platform: &str) -> Vec<DigestClaim> {
    let asset = release.applications.iter().find(|asset| asset.filename == filename);
    let asset = asset.and_then(|asset| asset.sha256_checksum.as_deref());
    let noted = release.noted.iter().find(|(of, _)| of == platform).map(|(_, digest)| digest.as_str());
    let claims = [("the asset of the release", asset), ("the notes of the release", noted)];
    claims.into_iter().filter_map(|(source, digest)| DigestClaim::new(source, digest?)).collect()
}
