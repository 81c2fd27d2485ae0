//! What the units of all runners on a machine have in common. It goes with the last of them.

use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::Journal;
use crate::lifecycle::step::service::{needrestart, target};

/// Writes it.
///
/// # Errors
/// It cannot be written.
pub(crate) async fn write(site: &Site<'_>) -> Result<(), Error> {
    needrestart::write(site)?;
    target::write(site).await
}

/// Deletes it, unless another runner needs it. Of two that are removed side by side, each sees the other's unit until the
/// journal has forgotten it, so this is due before that, for a run that is killed, and again after it.
///
/// # Errors
/// Something of it stays.
pub(crate) async fn delete_with_the_last(site: &Site<'_>, journal: &Journal) -> Result<(), Error> {
    needrestart::delete_with_the_last(site, journal)?;
    target::delete_with_the_last(site, journal).await
}
