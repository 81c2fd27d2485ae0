//! How a command is ended before it ends by itself.

use std::time::Duration;
use tokio::time::Instant;

/// Why.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cut {
    Deadline,
    Stop,
}

/// How far that is.
pub(super) struct Ending {
    pub(super) cut: Option<Cut>,
    /// When it is asked again; of use only once it is cut.
    pub(super) ask_at: Instant,
    /// When it is killed; of use only once it is cut.
    pub(super) kill_at: Instant,
    pub(super) killed: bool,
}

impl Ending {
    /// It goes on.
    pub(super) fn none() -> Self {
        let now = Instant::now();
        Self { cut: None, ask_at: now, kill_at: now, killed: false }
    }

    /// It is asked now, and killed after `grace`.
    pub(super) fn of(cut: Cut, grace: Duration) -> Self {
        let now = Instant::now();
        Self { cut: Some(cut), ask_at: now, kill_at: now + grace, killed: false }
    }

    /// Whether it was asked, and is not killed yet.
    pub(super) fn goes_on(&self) -> bool {
        self.cut.is_some() && !self.killed
    }
}
