//! Which archive is placed, where it comes from, and its digest: from the server's list, GitHub's public releases, a
//! mirror, or the operator.

use crate::github::{Application, Client};
use crate::host::{Os, Platform};
use crate::lifecycle::context::error::{ArchiveError, Error, RegistrationError};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::limit;
use crate::lifecycle::step::placing::claims::{self, DigestClaim, MirrorSums};
use crate::runner::{RunnerVersion, asset};
use crate::transfer::{DigestError, Expect, Sha256Digest, Source};
use std::path::PathBuf;

/// A public release, in messages.
const RELEASE: &str = "the release of github.com/actions/runner";
/// What is done when the archives are looked up.
const DOING: &str = "asking for the runner applications";

/// What is fetched, from where, and its digest.
pub(crate) struct Choice {
    /// Determines the archive's format.
    pub filename: String,
    /// Where it is fetched from.
    pub source: Source,
    /// The digest that it must have.
    pub expect: Expect,
    /// When it was the newest version, if that is why it was chosen.
    pub current_at: Option<jiff::Timestamp>,
}

/// Chooses the archive; `listed` is the server's list, if it was fetched already.
///
/// # Errors
/// No archive may be placed.
pub(crate) async fn choose(site: &Site<'_>, listed: Option<&[Application]>) -> Result<Choice, Error> {
    let asked = &site.request.archive;
    if let Some(archive) = &asked.archive {
        return chosen_by_hand(site, archive);
    }
    if let Some(archive) = without_list(site).filter(|_| listed.is_none() && site.eyes().is_none()) {
        let choice = chosen_by_hand(site, &archive)?;
        if let Some(mirror) = &asked.mirror {
            check_mirror(site, mirror, &choice.filename, &choice.expect).await?;
        }
        return Ok(choice);
    }
    let client = site.client.as_ref().ok_or(crate::settings::Error::UrlMissing)?;
    let asked_now;
    let applications = match listed.filter(|_| !asked.from_release) {
        Some(listed) => listed,
        None if takes_release(site, client) => {
            asked_now = released(site, client, asked.version.as_ref()).await?;
            &asked_now
        }
        None => {
            asked_now = list(site, client).await?;
            &asked_now
        }
    };

    let phase = site.phase("pick");
    let picked = asset::choose(applications, site.platform(), asked.version.as_ref())?;
    if let Some(note) = picked.note {
        tracing::warn!("{note}");
    }
    let application = picked.application.clone();
    let expect = expected(site, &application)?;
    let source = match &asked.mirror {
        Some(mirror) => {
            check_mirror(site, mirror, &application.filename, &expect).await?;
            let url = format!("{}/{}", mirror.trim_end_matches('/'), application.filename);
            Source::Http { url: parse_url(&url)?, bearer: None }
        }
        None => Source::Http {
            url: application.download_url.clone(),
            bearer: application.temp_download_token.clone(),
        },
    };
    if let Source::Http { url, bearer: Some(_) } = &source {
        site.http.check_bearer(url)?;
    }
    phase.end(format!("{} for {}", application.filename, site.platform()));
    let current_at = asked.version.is_none().then(|| client.now());
    Ok(Choice { filename: application.filename, source, expect, current_at })
}

/// The available runner applications: the server's list, or GitHub's public releases without a credential for that.
///
/// # Errors
/// Neither is available.
pub(crate) async fn list(site: &Site<'_>, client: &Client) -> Result<Vec<Application>, Error> {
    if takes_release(site, client) {
        return released(site, client, None).await;
    }
    if !client.has_token() {
        return Err(
            RegistrationError::CredentialMissing { purpose: "listing the runner applications" }.into()
        );
    }
    let phase = site.phase("list");
    let listed = site.within(DOING, client.downloads()).await?;
    site.check_clock()?;
    phase.end(format!("{} runner applications available at {}", listed.len(), client.target().url));
    Ok(listed)
}

/// Whether GitHub's public releases are asked instead of the server's list.
fn takes_release(site: &Site<'_>, client: &Client) -> bool {
    site.request.archive.from_release || !client.has_token() && client.target().is_hosted()
}

/// The archives of a public release: of this version, or the latest.
async fn released(
    site: &Site<'_>,
    client: &Client,
    version: Option<&RunnerVersion>,
) -> Result<Vec<Application>, Error> {
    let phase = site.phase("list");
    let version = version.map(ToString::to_string);
    let asked = site.within(DOING, client.release(version.as_deref())).await;
    let found = asked.map_err(|error| match limit::asked(&error) {
        Some(_) => ArchiveError::ReleaseLimited { source: Box::new(error) }.into(),
        None => error,
    })?;
    site.check_clock()?;
    let Some(release) = found else {
        return Err(ArchiveError::NotReleased { version: version.unwrap_or_default() }.into());
    };
    if version.is_none() {
        tracing::info!(
            "taking the latest release of github.com/actions/runner, which may be ahead of what GitHub offers to {}",
            client.target().scope.name()
        );
    }
    phase.end(format!("{} archives in the release of github.com/actions/runner", release.applications.len()));
    Ok(release.applications)
}

/// The archive at a mirror, which needs no list if version and digest are known: its name follows from them.
pub(crate) fn without_list(site: &Site<'_>) -> Option<String> {
    let asked = &site.request.archive;
    let (Some(mirror), Some(version), Some(_)) = (&asked.mirror, &asked.version, &asked.sha256) else {
        return None;
    };
    Some(format!("{}/{}", mirror.trim_end_matches('/'), filename(site.platform(), &version.to_string())))
}

/// The name of GitHub's archive (contract, section 1.1).
pub(crate) fn filename(platform: Platform, version: &str) -> String {
    let suffix = if platform.os == Os::Win { "zip" } else { "tar.gz" };
    format!("actions-runner-{platform}-{version}.{suffix}")
}

fn chosen_by_hand(site: &Site<'_>, archive: &str) -> Result<Choice, Error> {
    let asked = &site.request.archive;
    let filename = archive.split(['?', '#']).next().unwrap_or(archive);
    let filename = filename.rsplit(['/', '\\']).next().unwrap_or(filename).to_owned();
    let expect = match &asked.sha256 {
        Some(digest) => Expect::Sha256(*digest),
        None if asked.accept_unverified => unverified(&filename),
        None => {
            return Err(ArchiveError::ArchiveWithoutDigest { archive: archive.to_owned() }.into());
        }
    };
    let source = if archive.starts_with("http://") || archive.starts_with("https://") {
        Source::Http { url: parse_url(archive)?, bearer: None }
    } else if archive.contains("://") {
        return Err(ArchiveError::ArchiveUnclear { archive: archive.to_owned() }.into());
    } else {
        let path = PathBuf::from(archive);
        if !path.exists() {
            return Err(ArchiveError::ArchiveMissing { path }.into());
        }
        Source::File(path)
    };
    Ok(Choice { filename, source, expect, current_at: None })
}

fn parse_url(text: &str) -> Result<url::Url, Error> {
    text.parse().map_err(|_| Error::Archive(ArchiveError::ArchiveUnclear { archive: text.to_owned() }))
}

/// The digest that the archive must have: the operator's or the list's; if both are known they must agree.
fn expected(site: &Site<'_>, application: &Application) -> Result<Expect, Error> {
    let asked = &site.request.archive;
    let filename = application.filename.clone();
    let listed = match application.sha256_checksum.as_deref() {
        None => Err(Error::Archive(ArchiveError::ChecksumAbsent { filename: filename.clone() })),
        Some(text) => text.parse::<Sha256Digest>().map_err(|error| match error {
            DigestError::Empty => Error::Archive(ArchiveError::ChecksumEmpty { filename: filename.clone() }),
            DigestError::Malformed { .. } => Error::Archive(ArchiveError::ChecksumMalformed {
                filename: filename.clone(),
                found: text.chars().take(80).collect(),
            }),
        }),
    };
    if let (Some(given), Ok(listed)) = (&asked.sha256, &listed) {
        let of = |source, digest: &Sha256Digest| DigestClaim::new(source, &digest.to_string());
        let list = if asked.from_release { RELEASE } else { claims::LIST };
        let claims: Vec<DigestClaim> =
            of(claims::OPTION, given).into_iter().chain(of(list, listed)).collect();
        claims::agree(&filename, &claims)?;
    }
    match (&asked.sha256, listed) {
        (Some(given), _) => Ok(Expect::Sha256(*given)),
        (None, Ok(listed)) => Ok(Expect::Sha256(listed)),
        (None, Err(_)) if asked.accept_unverified => Ok(unverified(&filename)),
        (None, Err(error)) => Err(error),
    }
}

/// Compares the digest with that in the mirror's own list, if it has one.
async fn check_mirror(site: &Site<'_>, mirror: &str, filename: &str, expect: &Expect) -> Result<(), Error> {
    let Expect::Sha256(digest) = expect else { return Ok(()) };
    let asking = async { Ok::<_, Error>(MirrorSums::ask(&site.http, mirror, site.deadline).await) };
    let sums = site.within("asking the mirror for its digests", asking).await?;
    let sums = sums.inspect_err(|why| tracing::debug!("the mirror does not tell its digests: {why}"));
    let Some(theirs) = sums.ok().and_then(|sums| sums.of(filename)) else { return Ok(()) };
    let asked = &site.request.archive;
    let source = match (&asked.sha256, asked.from_release) {
        (Some(_), _) => claims::OPTION,
        (None, true) => RELEASE,
        (None, false) => claims::LIST,
    };
    let ours = DigestClaim::new(source, &digest.to_string());
    let claims: Vec<DigestClaim> = ours.into_iter().chain([theirs]).collect();
    Ok(claims::agree(filename, &claims)?)
}

fn unverified(filename: &str) -> Expect {
    tracing::warn!(
        "{filename} is NOT VERIFIED, as --accept-unverified asks: whoever can change it on its way can run anything here"
    );
    Expect::Unverified
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Arch;

    #[test]
    fn archives_are_named_as_github_names_them() {
        let named = |os, arch| filename(Platform { os, arch }, "2.336.0");
        assert_eq!(named(Os::Linux, Arch::X64), "actions-runner-linux-x64-2.336.0.tar.gz");
        assert_eq!(named(Os::Osx, Arch::Arm64), "actions-runner-osx-arm64-2.336.0.tar.gz");
        assert_eq!(named(Os::Win, Arch::X64), "actions-runner-win-x64-2.336.0.zip");
    }
}
