//! AWS: interruptions of spot instances, and what an Auto Scaling group is about to terminate.

use crate::cloud::{Metadata, Method, Notice, Oddity, Source, left_until};
use serde::Deserialize;
use std::time::Duration;

/// "We issue a Spot Instance interruption notice two minutes before": the EC2 user guide.
const SPOT: Duration = Duration::from_secs(120);
/// The shortest time that a lifecycle hook can wait before the group terminates an instance.
const LIFECYCLE_HOOK: Duration = Duration::from_secs(30);
/// The longest life of a session token, in seconds; it is renewed when the service refuses it.
const TOKEN_LIFE: &str = "21600";

/// The instance metadata service, version 2: every request carries the token of a session.
#[derive(Default)]
pub(crate) struct Aws {
    session: Option<String>,
}

#[derive(Deserialize)]
struct InstanceAction {
    /// `terminate`, `stop` or `hibernate`.
    action: String,
    time: Option<String>,
}

impl Aws {
    /// Requests a document in a session; `None` if it does not exist.
    pub(crate) async fn get(
        &mut self,
        metadata: &Metadata<'_>,
        path: &str,
    ) -> Result<Option<crate::cloud::Document>, Oddity> {
        let session = match &self.session {
            Some(session) => session,
            None => self.session.insert(open_session(metadata).await?),
        };
        let headers = [("x-aws-ec2-metadata-token", session.as_str())];
        let answer = metadata.ask(Method::GET, path, None, &headers).await;
        if matches!(answer, Err(Oddity::Status { status: 401, .. })) {
            self.session = None;
        }
        answer
    }
}

async fn open_session(metadata: &Metadata<'_>) -> Result<String, Oddity> {
    let headers = [("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_LIFE)];
    let path = "/latest/api/token";
    match metadata.ask(Method::PUT, path, None, &headers).await? {
        Some(token) => Ok(token.word()?.to_owned()),
        None => Err(Oddity::Status { url: path.to_owned(), status: 404 }),
    }
}

impl Source for Aws {
    async fn ask(&mut self, metadata: &Metadata<'_>) -> Result<Option<Notice>, Oddity> {
        if let Some(document) = self.get(metadata, "/latest/meta-data/spot/instance-action").await? {
            let InstanceAction { action, time } = document.json("an instance action")?;
            let time = time.and_then(|time| time.parse().ok());
            let action: String = action.chars().filter(char::is_ascii_graphic).take(40).collect();
            return Ok(Some(Notice {
                provider: "aws",
                what: format!("spot instance action {action}"),
                left: time.map_or(SPOT, left_until),
            }));
        }
        let target = self.get(metadata, "/latest/meta-data/autoscaling/target-lifecycle-state").await?;
        Ok(target.is_some_and(|target| target.word().is_ok_and(|state| state == "Terminated")).then(|| {
            Notice {
                provider: "aws",
                what: "the Auto Scaling group terminates the instance".to_owned(),
                left: LIFECYCLE_HOOK,
            }
        }))
    }
}
