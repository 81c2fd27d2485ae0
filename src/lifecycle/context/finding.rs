//! What must not be in an image, but was found there.

use serde::Serialize;

/// What must not be in an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was found, and where.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}
