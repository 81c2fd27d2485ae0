//! What `--events` has written, and where the time went by it.

use crate::{Outcome, median};
use jiff::Timestamp;
use serde_json::Value;
use std::path::Path;

/// An event.
pub struct Event {
    /// When it happened, in seconds.
    pub time: f64,
    pub name: String,
    /// Of a phase.
    pub phase: String,
    /// How long the phase took.
    pub seconds: f64,
}

impl Event {
    pub fn ends(&self, phase: &str) -> bool {
        self.name == "phase-end" && self.phase == phase
    }
}

/// Where time went: names and seconds, in their order.
pub type Spent = Vec<(String, f64)>;

pub fn read(file: &Path) -> Outcome<Vec<Event>> {
    let mut events = Vec::new();
    for line in std::fs::read_to_string(file)?.lines() {
        let event: Value = serde_json::from_str(line)?;
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let time: Timestamp = text("time").parse()?;
        events.push(Event {
            time: time.as_duration().as_secs_f64(),
            name: text("event"),
            phase: text("phase"),
            seconds: event["seconds"].as_f64().unwrap_or(0.0),
        });
    }
    Ok(events)
}

/// Now, as in events.
pub fn now() -> f64 {
    Timestamp::now().as_duration().as_secs_f64()
}

/// The time from `start` on: that of the phases, and what went by before each event.
pub fn spent(start: f64, events: &[Event]) -> Spent {
    let (mut last, mut spent) = (start, Vec::new());
    for event in events {
        let label = match event.name.as_str() {
            "phase-end" => event.phase.clone(),
            "phase-begin" => format!("before {}", event.phase),
            other => format!("before the event {other}"),
        };
        spent.push((label, event.time - last));
        last = event.time;
    }
    spent
}

/// Prints the median of everything that took more than a millisecond.
pub fn print_spent(rounds: &[Spent]) {
    let mut labels: Vec<&str> = Vec::new();
    for (label, _) in rounds.iter().flatten() {
        if !labels.contains(&label.as_str()) {
            labels.push(label);
        }
    }
    for label in labels {
        let of =
            |spent: &Spent| spent.iter().filter(|(name, _)| name == label).map(|(_, it)| it).sum::<f64>();
        let seconds = median(rounds.iter().map(of));
        if seconds > 0.001 {
            println!("  {label:<27}{:.0} ms", seconds * 1e3);
        }
    }
}
