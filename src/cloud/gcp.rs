//! Google Cloud: preemption of spot machines.

use crate::cloud::{Metadata, Method, Notice, Oddity, Source};
use std::time::Duration;

/// From the notice to the end: "up to 30 seconds", by the documentation of preemption, less what may have passed before
/// it was requested.
const PREEMPTION: Duration =
    Duration::from_secs(30).saturating_sub(crate::cloud::EVERY).saturating_sub(crate::cloud::PATIENCE);

/// Google requires it: it cannot be sent by accident, through a link.
pub(crate) const HEADERS: [(&str, &str); 1] = [("metadata-flavor", "Google")];

/// The metadata server.
pub(crate) struct Gcp;

impl Source for Gcp {
    async fn ask(&mut self, metadata: &Metadata<'_>) -> Result<Option<Notice>, Oddity> {
        let path = "/computeMetadata/v1/instance/preempted";
        let answer = metadata.ask(Method::GET, path, None, &HEADERS).await?;
        let Some(document) = answer else { return Ok(None) };
        match document.word()? {
            "TRUE" => Ok(Some(Notice {
                provider: "gcp",
                what: "the instance is being preempted".to_owned(),
                left: PREEMPTION,
            })),
            "FALSE" => Ok(None),
            _ => Err(document.nonsense("TRUE or FALSE")),
        }
    }
}
