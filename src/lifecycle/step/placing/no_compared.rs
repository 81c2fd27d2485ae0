//! Windows has no store to compare a tree with.
#![expect(clippy::unused_async, clippy::unnecessary_wraps, reason = "they do something elsewhere")]

use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::Journal;

pub(crate) async fn note(_: &Site<'_>, _: &Last) -> Result<(), Error> {
    Ok(())
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Last;

pub(crate) async fn restore(_: &Site<'_>, _: &Journal, _: &Last) -> Result<(), Error> {
    Ok(())
}
