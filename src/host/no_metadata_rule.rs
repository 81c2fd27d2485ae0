//! The stub of `metadata_rule.rs` for systems without rules for a user's sockets: all except Linux.

use super::{Error, MetadataError};

/// Denies nothing.
///
/// # Errors
/// [`MetadataError::Unsupported`], always.
pub fn deny(_: u32) -> Result<(), Error> {
    check()
}

/// Fails, because it is not supported here.
///
/// # Errors
/// [`MetadataError::Unsupported`], always.
pub fn check() -> Result<(), Error> {
    let why = "only Linux has rules for a user's sockets".into();
    Err(MetadataError::Unsupported { why }.into())
}

/// Nothing was denied.
///
/// # Errors
/// None.
pub fn allow(_: u32) -> Result<(), Error> {
    Ok(())
}

/// Nothing is denied.
///
/// # Errors
/// None.
pub fn is_denied(_: u32) -> Result<bool, Error> {
    Ok(false)
}
