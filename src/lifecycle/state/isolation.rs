//! Whether jobs are kept from what is root's: a runner's user who can become root counts as root.

use crate::host::account;
use crate::lifecycle::context::site::Site;

/// Whether the runner's user is kept from what is root's; one that can become root is not, and a warning says how.
pub(crate) fn look(site: &Site<'_>) -> Option<bool> {
    let account = site.account().ok().flatten()?;
    if !site.isolates(&account) {
        return None;
    }
    let ways = account::ways_to_root(&site.request.root, &account);
    if !ways.is_empty() {
        tracing::warn!("{}", not_isolated(&account, &ways));
    }
    Some(ways.is_empty())
}

/// For people.
fn not_isolated(account: &account::Account, ways: &[String]) -> String {
    format!(
        "jobs are not isolated: the user {} can become root ({}); a rootless engine needs none of that",
        account.name,
        ways.join(", ")
    )
}
