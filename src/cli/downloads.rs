//! `runup downloads`

use super::args::DownloadsFlags;
use super::output::{Failed, Output, table};
use super::{Session, request};
use serde_json::json;

pub(super) async fn run(flags: DownloadsFlags, session: Session) -> Result<Output, Failed> {
    let client = request::client(&flags.server, &session)?;
    let applications = session.or_stop(client.downloads()).await??;
    let rows: Vec<Vec<String>> = applications
        .iter()
        .map(|application| {
            vec![
                application.os.clone(),
                application.architecture.clone(),
                application.filename.clone(),
                application
                    .sha256_checksum
                    .clone()
                    .filter(|digest| !digest.is_empty())
                    .unwrap_or_else(|| "-".into()),
            ]
        })
        .collect();
    // The temporary download token is a secret, so only its existence is shown.
    let document: Vec<_> = applications
        .iter()
        .map(|application| {
            json!({
                "os": application.os,
                "architecture": application.architecture,
                "filename": application.filename,
                "download_url": application.download_url.as_str(),
                "sha256_checksum": application.sha256_checksum,
                "needs_download_token": application.temp_download_token.is_some(),
            })
        })
        .collect();
    Ok(Output::new(
        table(&["OS", "ARCHITECTURE", "FILE", "SHA256"], &rows),
        &json!({ "downloads": document }),
    ))
}
