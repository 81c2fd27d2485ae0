//! What jobs need of the network: the hosts that the server names, and calls that are left.

use crate::deadline::Deadline;
use crate::error::{chain, few};
use crate::github::Client;
use crate::lifecycle::command::doctor::Check;
use crate::lifecycle::context::site::Site;
use crate::net::{self, Http, Url, reach};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{timeout, timeout_at};

const ID: &str = "job-hosts";

/// Of one answer.
const ANSWERING: Duration = Duration::from_secs(2);

/// How many hosts are asked, and how many a message names: of those for which the machine lacks IPv4, it names more.
const MOST: usize = 64;
const FEW: usize = 5;
const SOME: usize = 20;

/// A host that did not answer.
struct Blocked {
    host: String,
    /// It has no IPv6 address, and this machine has no IPv4.
    lacks_ipv4: bool,
    /// `None`: no answer in time.
    error: Option<net::Error>,
}

/// The hosts that the server says jobs need, each asked as the runner would, through the proxy if there is one.
pub(super) async fn check(site: &Site<'_>, client: &Client, limit: Deadline) -> Check {
    let hosts = match timeout_at(limit.instant(), client.job_hosts()).await {
        Ok(Ok(hosts)) => hosts,
        Ok(Err(error)) => {
            return Check::unknown(
                ID,
                format!("the server did not name the hosts that jobs need: {}", chain(&error)),
            );
        }
        Err(_) => return Check::unknown(ID, "the server did not name the hosts that jobs need in time"),
    };
    if hosts.named.is_empty() && hosts.patterns.is_empty() {
        return Check::fine(ID, "jobs need no host besides the server");
    }
    let scheme = client.target().api.scheme();
    let has_ipv4 = reach::has_ipv4();
    let mut asked = JoinSet::new();
    let mut count = 0;
    for name in hosts.named.iter().take(MOST) {
        let Some(url) = url_of(scheme, name) else { continue };
        count += 1;
        asked.spawn(ask(site.http.clone(), url, has_ipv4));
    }
    let Ok(mut blocked) = timeout_at(limit.instant(), collect(asked)).await else {
        return Check::unknown(ID, format!("not all of {count} hosts answered in time"));
    };
    blocked.sort_by(|one, other| one.host.cmp(&other.host));
    let rest = match hosts.patterns.len() {
        0 => String::new(),
        _ => format!("; {} could not be tried", few(&hosts.patterns, FEW)),
    };
    if blocked.is_empty() {
        return Check::fine(ID, format!("{count} of {count} hosts that jobs need answer{rest}"));
    }
    let detail =
        format!("{} of {count} hosts that jobs need did not answer: {}{rest}", blocked.len(), why(&blocked));
    let allow = "Allow connections from this machine to them.";
    let family = "Give this machine IPv4, or NAT64 with DNS64, or set a proxy: GitHub's runner needs hosts that have no IPv6 address.";
    let fix = if blocked.iter().any(|one| one.lacks_ipv4) { family } else { allow };
    let fix = format!("{fix} A runner works without some of them, but its jobs may fail.");
    Check { fix: Some(fix), ..Check::unknown(ID, detail) }
}

/// Asks one host; meanwhile its addresses are looked up where that matters.
async fn ask(http: Http, url: Url, has_ipv4: bool) -> Option<Blocked> {
    let lacks_ipv4 = async {
        if has_ipv4 || http.proxy_for(&url).is_some() {
            return false;
        }
        let (host, port) = http.first_hop(&url);
        let found = timeout(ANSWERING, reach::addresses(&host, port)).await;
        matches!(found, Ok(Ok(addresses)) if reach::lacks_ipv4(&addresses))
    };
    let (answer, lacks_ipv4) = tokio::join!(timeout(ANSWERING, http.open(&url, None, None)), lacks_ipv4);
    let error = match answer {
        // Whatever it answers, it answers.
        Ok(Ok(_)) => return None,
        Ok(Err(error)) => Some(error),
        Err(_) => None,
    };
    Some(Blocked { host: url.authority().to_owned(), lacks_ipv4, error })
}

/// The hosts with the reason, those first for which it is certain.
fn why(blocked: &[Blocked]) -> String {
    let (stranded, others): (Vec<&Blocked>, Vec<&Blocked>) = blocked.iter().partition(|one| one.lacks_ipv4);
    let names = |of: &[&Blocked]| of.iter().map(|one| one.host.clone()).collect::<Vec<_>>();
    let mut parts = Vec::new();
    if !stranded.is_empty() {
        let hosts = few(&names(&stranded), SOME);
        parts.push(format!("{hosts} (no IPv6 address, and this machine has no route to IPv4)"));
    }
    if !others.is_empty() {
        let error = others.iter().find_map(|one| one.error.as_ref()).map(|error| chain(error));
        let error = error.unwrap_or_else(|| format!("no answer within {} s", ANSWERING.as_secs()));
        parts.push(format!("{} ({error})", few(&names(&others), FEW)));
    }
    parts.join("; ")
}

/// Of a name, or of a name and a port.
fn url_of(scheme: &str, name: &str) -> Option<Url> {
    let name = name.strip_suffix(":443").unwrap_or(name);
    let url = Url::parse(&format!("{scheme}://{name}/")).ok()?;
    (url.authority() == name.to_ascii_lowercase() && url.username().is_empty()).then_some(url)
}

async fn collect(mut asked: JoinSet<Option<Blocked>>) -> Vec<Blocked> {
    let mut blocked = Vec::new();
    while let Some(one) = asked.join_next().await {
        blocked.extend(one.ok().flatten());
    }
    blocked
}

/// The calls that are left in this hour, by the answers so far.
pub(super) fn limit(client: &Client) -> Check {
    const ID: &str = "rate-limit";
    // An installation makes up to six; some room for the other machines that use the credential.
    const ENOUGH: u64 = 100;
    match client.calls_left() {
        None => Check::unknown(ID, "the server did not say how many calls are left"),
        Some(calls) if calls.left < ENOUGH => {
            let detail = format!("{} of {} calls are left in this hour", calls.left, calls.limit);
            let fix = "Wait, or use a credential of its own for these machines: an installation makes up to six calls.";
            Check { fix: Some(fix.to_owned()), ..Check::unknown(ID, detail) }
        }
        Some(calls) => {
            Check::fine(ID, format!("{} of {} calls are left in this hour", calls.left, calls.limit))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_without_an_ipv6_address_are_all_named_and_come_first() {
        let one = |host: &str, lacks_ipv4| Blocked { host: host.to_owned(), lacks_ipv4, error: None };
        let stranded = (1..=6).map(|number| one(&format!("results{number}.test"), true));
        let said = why(&[one("a.test", false)].into_iter().chain(stranded).collect::<Vec<_>>());
        assert!(said.starts_with("results1.test, results2.test"), "{said}");
        assert!(said.contains("results6.test (no IPv6 address"), "{said}");
        assert!(said.ends_with("; a.test (no answer within 2 s)"), "{said}");
    }
}
