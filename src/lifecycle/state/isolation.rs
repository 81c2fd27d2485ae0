//! Whether jobs are kept from what is root's: a runner's user who can become root counts as root.

use crate::error::chain;
use crate::host::account::{self, Account};
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::Journal;
use crate::lifecycle::state::service;

/// Why jobs can become root: by their user, and by the groups that the runner's unit adds.
///
/// # Errors
/// systemd cannot be asked.
pub(crate) async fn ways(
    site: &Site<'_>,
    journal: &Journal,
    account: &Account,
) -> Result<Vec<String>, Error> {
    let more = service::groups_of_unit(site, journal.unit()).await?;
    Ok(account::ways_to_root(&site.request.root, account, &more))
}

/// Whether the runner's user is kept from what is root's; one that can become root is not, and a warning says how.
pub(crate) async fn look(site: &Site<'_>, journal: &Journal) -> Option<bool> {
    let account = site.account().ok().flatten()?;
    if !site.isolates(&account) {
        return None;
    }
    let ways = ways(site, journal, &account).await.unwrap_or_else(|error| {
        tracing::debug!("{}", chain(&error));
        account::ways_to_root(&site.request.root, &account, &[])
    });
    if !ways.is_empty() {
        tracing::warn!("{}", not_isolated(&account, &ways));
    }
    Some(ways.is_empty())
}

/// For people.
fn not_isolated(account: &Account, ways: &[String]) -> String {
    format!(
        "jobs are not isolated: the user {} can become root ({}); a rootless engine needs none of that",
        account.name,
        ways.join(", ")
    )
}
