//! Windows has no store.
#![expect(clippy::unused_async, clippy::unnecessary_wraps, reason = "they do something elsewhere")]

use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::finding::Finding;
use crate::lifecycle::context::site::Site;
use crate::runner::RunnerVersion;
use crate::transfer::{Owner, Sha256Digest};
use serde::Serialize;
use std::path::{Path, PathBuf};

pub(crate) fn find(_: &Site<'_>, _: Sha256Digest) -> Option<PathBuf> {
    None
}

#[derive(Debug, Clone, Serialize)]
pub struct StoredCopies {
    pub dir: PathBuf,
    pub versions: Vec<String>,
    pub bytes: u64,
}

#[derive(Debug, Clone, Default)]
pub struct Stores;

pub(crate) fn copies(_: &Site<'_>, _: &Stores) -> Option<StoredCopies> {
    None
}

pub(crate) async fn make(
    _: &Site<'_>,
    _: Sha256Digest,
    _: &Path,
    _: Option<Owner>,
    _: bool,
) -> Result<Option<(PathBuf, u64)>, Error> {
    Ok(None)
}

pub(crate) async fn keep(
    _: &Site<'_>,
    _: &Turn,
    _: &Path,
    _: Option<RunnerVersion>,
    _: Sha256Digest,
) -> Result<(), Error> {
    Ok(())
}

pub(crate) struct Released {
    pub has_deleted: bool,
}

pub(crate) async fn release(_: &Site<'_>) -> Result<Released, Error> {
    Ok(Released { has_deleted: false })
}

pub(crate) struct Turn;

pub(crate) async fn take_turn(_: &Site<'_>) -> Result<Option<Turn>, Error> {
    Ok(None)
}

pub(crate) async fn sweep(_: &Site<'_>) -> Result<(), Error> {
    Ok(())
}

pub(crate) fn inspect(_: &Site<'_>) -> Result<(Vec<PathBuf>, Vec<Finding>), Error> {
    Ok((Vec::new(), Vec::new()))
}

pub(crate) async fn inspect_beside(_: &Site<'_>) -> Result<(Vec<PathBuf>, Vec<Finding>), Error> {
    Ok((Vec::new(), Vec::new()))
}
