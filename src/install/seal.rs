//! Proof that an image holds nothing that makes a runner one particular runner, and no secret.

use super::Error;
use super::journal::Journal;
use super::site::Site;
use crate::runner::state;

/// Looks for everything that must not be in an image: a configured runner's files, its logs and work, a registration in
/// the journal.
///
/// # Errors
/// [`Error::NotSealed`], with all that was found.
pub fn check(site: &Site<'_>, journal: &Journal) -> Result<(), Error> {
    let dir = site.dir();
    let shown = |name: &str| site.request.dir.join(name).display().to_string();
    let mut found: Vec<String> = state::personal_files()
        .filter(|name| std::fs::symlink_metadata(dir.join(name)).is_ok())
        .map(shown)
        .collect();
    if let Some((_, registered)) = journal.registered() {
        found.push(format!("the registration of {} in {}", registered.name, journal.path().display()));
    }
    if found.is_empty() { Ok(()) } else { Err(Error::NotSealed { found }) }
}
