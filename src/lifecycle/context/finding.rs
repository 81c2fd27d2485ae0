//! What is found in an image that must not be in it.

use serde::Serialize;

/// What must not be in an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was found, and where.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}
