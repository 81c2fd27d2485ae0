//! Azure: scheduled events of the kinds that end a machine.

use crate::cloud::{Metadata, Method, Notice, Oddity, Source, left_until};
use serde::Deserialize;
use std::time::Duration;

/// The shortest notice of an eviction, used if the event does not state a time (any more).
const SHORTEST: Duration = Duration::from_secs(30);
/// Azure requires it: it cannot be sent by accident, through a proxy or a link.
pub(crate) const HEADERS: [(&str, &str); 1] = [("metadata", "true")];

/// The instance metadata service.
#[derive(Default)]
pub(crate) struct Azure {
    /// This machine's name in events; requested when an event first needs it.
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Events {
    events: Vec<Event>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    /// `Preempt` and `Terminate` end the machine; `Freeze`, `Reboot` and `Redeploy` do not.
    #[serde(rename = "EventType")]
    kind: Option<String>,
    /// The machines that it is about.
    #[serde(default)]
    resources: Vec<String>,
    /// `Mon, 19 Sep 2016 18:29:47 GMT`; empty once the event has started.
    not_before: Option<String>,
}

impl Event {
    fn ends_the_machine(&self) -> bool {
        matches!(self.kind.as_deref(), Some("Preempt" | "Terminate"))
    }

    fn left(&self) -> Duration {
        let text = self.not_before.as_deref().unwrap_or_default().trim();
        let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text);
        time.map_or(SHORTEST, left_until)
    }
}

impl Azure {
    /// Whether it is about this machine: every machine of a scale set or availability set sees the events of all.
    async fn is_ours(&mut self, event: &Event, metadata: &Metadata<'_>) -> Result<bool, Oddity> {
        if event.resources.is_empty() {
            return Ok(true);
        }
        let name = if let Some(name) = &self.name {
            name
        } else {
            let query = Some("api-version=2021-02-01&format=text");
            let path = "/metadata/instance/compute/name";
            // A service without names has no other machines either.
            let Some(name) = metadata.ask(Method::GET, path, query, &HEADERS).await? else { return Ok(true) };
            self.name.insert(name.word()?.to_owned())
        };
        Ok(event.resources.iter().any(|resource| resource.eq_ignore_ascii_case(name)))
    }
}

impl Source for Azure {
    async fn ask(&mut self, metadata: &Metadata<'_>) -> Result<Option<Notice>, Oddity> {
        let query = Some("api-version=2020-07-01");
        let answer = metadata.ask(Method::GET, "/metadata/scheduledevents", query, &HEADERS).await?;
        let Some(document) = answer else { return Ok(None) };
        let Events { events } = document.json("scheduled events")?;
        let mut soonest: Option<Notice> = None;
        for event in events.iter().filter(|event| event.ends_the_machine()) {
            let left = event.left();
            if soonest.as_ref().is_none_or(|notice| left < notice.left)
                && self.is_ours(event, metadata).await?
            {
                let kind = event.kind.as_deref().unwrap_or_default();
                soonest = Some(Notice { provider: "azure", what: format!("scheduled event {kind}"), left });
            }
        }
        Ok(soonest)
    }
}
