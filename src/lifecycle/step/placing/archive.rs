//! Which archive is placed, where it comes from, and its digest: from the server's list, a mirror, or the operator.

use crate::github::{Application, Client};
use crate::lifecycle::context::error::{ArchiveError, Error, RegistrationError};
use crate::lifecycle::context::site::Site;
use crate::runner::asset;
use crate::transfer::{DigestError, Expect, Sha256Digest, Source};
use std::path::PathBuf;

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
    let client = site.client.as_ref().ok_or(crate::settings::Error::UrlMissing)?;
    let asked_now;
    let applications = if let Some(listed) = listed {
        listed
    } else {
        asked_now = list(site, client).await?;
        &asked_now
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
    let doing = "asking for the runner applications";
    let phase = site.phase("list");
    let (listed, place) = if client.has_token() {
        (site.within(doing, client.downloads()).await?, client.target().url.to_string())
    } else if client.target().is_hosted() {
        let release = site.within(doing, client.latest_release()).await?;
        (release.applications, "github.com/actions/runner".to_owned())
    } else {
        return Err(
            RegistrationError::CredentialMissing { purpose: "listing the runner applications" }.into()
        );
    };
    site.check_clock()?;
    phase.end(format!("{} runner applications available at {place}", listed.len()));
    Ok(listed)
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
    match (&asked.sha256, listed) {
        (Some(given), Ok(listed)) if *given != listed => {
            Err(Error::Archive(ArchiveError::ChecksumsDisagree {
                filename,
                given: given.to_string(),
                listed: listed.to_string(),
            }))
        }
        (Some(given), _) => Ok(Expect::Sha256(*given)),
        (None, Ok(listed)) => Ok(Expect::Sha256(listed)),
        (None, Err(_)) if asked.accept_unverified => Ok(unverified(&filename)),
        (None, Err(error)) => Err(error),
    }
}

fn unverified(filename: &str) -> Expect {
    tracing::warn!(
        "{filename} is NOT VERIFIED, as --accept-unverified asks: whoever can change it on its way can run anything here"
    );
    Expect::Unverified
}
