//! What the journal says of how the runner changes its version: when runup looked for a newer one, and when it updated itself.

use crate::lifecycle::state::journal::{Error, Journal};

impl Journal {
    /// When a newer version was last looked for.
    #[must_use]
    pub fn looked_at(&self) -> Option<jiff::Timestamp> {
        self.record.looked_at.as_deref()?.parse().ok()
    }

    /// Makes it durable that a newer version was looked for.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_looked_at(&mut self, at: jiff::Timestamp) -> Result<(), Error> {
        self.record.looked_at = Some(at.to_string());
        self.write()
    }

    /// When the runner updated itself before a run ended because of that, in order.
    #[must_use]
    pub fn updates(&self) -> Vec<jiff::Timestamp> {
        self.record.updates.iter().filter_map(|at| at.parse().ok()).collect()
    }

    /// Makes durable when the runner has updated itself, for a run that ends because of that.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_updates(&mut self, lately: &[jiff::Timestamp]) -> Result<(), Error> {
        self.record.updates = lately.iter().map(ToString::to_string).collect();
        self.write()
    }
}
