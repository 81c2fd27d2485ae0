//! `runup prepare-start`, which a unit runs as root before it starts the runner.

use super::args::PrepareStartFlags;
use super::output::{Failed, Output};
use super::{Session, request};
use crate::lifecycle::{Site, prepare_start};

pub(super) async fn run(flags: &PrepareStartFlags, session: &Session) -> Result<Output, Failed> {
    let mut request = request::place(&flags.place, session)?;
    request.allow_metadata = flags.metadata.allow_metadata;
    let http = crate::net::Http::new(crate::net::HttpOptions::default())?;
    let site = Site::new(&request, http, session.signals.stop().clone(), &session.screen)?;
    prepare_start(&site).await?;
    Ok(Output::new(
        format!("done: {} is ready", request.dir.display()),
        &serde_json::json!({ "dir": request.dir }),
    ))
}
