//! `runup downloads`

use super::args::DownloadsFlags;
use super::output::{Failed, Output, table};
use super::{Session, jobs, request};
use crate::deadline::Deadline;
use crate::github::{Application, Client};
use crate::host::{self, Root};
use crate::lifecycle::{KnownDigest, Verify, verify};
use crate::settings::{Error, Origin, layers};
use serde_json::json;

/// The columns; the last one only with `--verify`.
const HEAD: [&str; 5] = ["OS", "ARCHITECTURE", "FILE", "SHA256", "CONFIRMED BY"];

pub(super) async fn run(flags: DownloadsFlags, session: Session) -> Result<Output, Failed> {
    let by_flag =
        |key: &str| session.given.iter().any(|given| given.key == key && given.origin == Origin::Flag);
    if !flags.verify && by_flag("sha256") {
        return Err(Error::Contradiction("--sha256 needs --verify".into()).into());
    }
    let client = request::client(&flags.server, &session)?;
    let applications = session.or_stop(client.downloads()).await??;
    let confirmed = if flags.verify {
        Box::pin(session.or_stop(confirm(&flags, &session, &client, &applications))).await??
    } else {
        vec![Vec::new(); applications.len()]
    };
    let rows = applications.iter().zip(&confirmed).map(|(application, confirmed)| {
        let digest = application.sha256_checksum.clone().filter(|digest| !digest.is_empty());
        let mut row = vec![
            application.os.clone(),
            application.architecture.clone(),
            application.filename.clone(),
            digest.unwrap_or_else(|| "-".into()),
        ];
        if flags.verify {
            row.push(if confirmed.is_empty() { "nothing else".to_owned() } else { confirmed.join(", ") });
        }
        row
    });
    let rows: Vec<Vec<String>> = rows.collect();
    // The temporary download token is a secret, so only its existence is shown.
    let one = |(application, confirmed): (&Application, &Vec<String>)| {
        json!({
            "os": application.os,
            "architecture": application.architecture,
            "filename": application.filename,
            "download_url": application.download_url.as_str(),
            "sha256_checksum": application.sha256_checksum,
            "needs_download_token": application.temp_download_token.is_some(),
            "confirmed_by": confirmed,
        })
    };
    let document: Vec<_> = applications.iter().zip(&confirmed).map(one).collect();
    let columns = if flags.verify { HEAD.len() } else { HEAD.len() - 1 };
    Ok(Output::new(table(&HEAD[..columns], &rows), &json!({ "downloads": document })))
}

/// The sources that say the same as the list, for each archive.
async fn confirm(
    flags: &DownloadsFlags,
    session: &Session,
    client: &Client,
    applications: &[Application],
) -> Result<Vec<Vec<String>>, Failed> {
    let http = request::http(&flags.server, &jobs::reach(&session.environment, &flags.server, None))?;
    let asked = Verify {
        known: known(flags, session)?,
        platform: host::detect(&Root::host())?.platform,
        mirror: flags.mirror.clone(),
        deadline: Deadline::after(flags.server.deadline),
    };
    let claims = verify(client, &http, &asked, applications).await?;
    let others = |claims: Vec<crate::lifecycle::DigestClaim>| {
        claims.into_iter().skip(1).map(|claim| claim.source).collect::<Vec<_>>()
    };
    Ok(claims.into_iter().map(others).collect())
}

/// The digests on the command line, or in the environment, and in the configuration file. One does not replace the other
/// here.
fn known(flags: &DownloadsFlags, session: &Session) -> Result<Vec<KnownDigest>, Failed> {
    let mut known = Vec::new();
    let is_of_file = |key: &str| {
        session.given.iter().any(|given| given.key == key && matches!(given.origin, Origin::File(_)))
    };
    if let Some(digest) = flags.sha256.filter(|_| !is_of_file("sha256")) {
        let version = flags.runner_version;
        known.push(KnownDigest { source: "--sha256".to_owned(), digest: digest.to_string(), version });
    }
    let path = session.config.clone().unwrap_or_else(|| layers::default_file(&session.environment));
    let file = layers::File::at(&path)?;
    if let Some(digest) = file.value("sha256") {
        let version = file.value("runner-version").and_then(|version| version.parse().ok());
        known.push(KnownDigest { source: path.display().to_string(), digest: digest.to_owned(), version });
    }
    Ok(known)
}
