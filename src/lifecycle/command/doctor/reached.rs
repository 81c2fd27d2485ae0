//! How far a connection to the server gets: its name, and each of its addresses.

use crate::deadline::Deadline;
use crate::error::situation;
use crate::github::Client;
use crate::lifecycle::command::doctor::{Check, Verdict};
use crate::lifecycle::context::site::Site;
use crate::net::reach;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{timeout, timeout_at};

const ID: &str = "connection";

/// Of one connection.
const CONNECTING: Duration = Duration::from_secs(2);

/// An address, and why it accepts no connection.
type Tried = (SocketAddr, Result<(), String>);

/// The name and the connection: of the server, or of the proxy in between.
pub(super) async fn checks(site: &Site<'_>, client: &Client, limit: Deadline) -> Vec<Check> {
    let url = &client.target().api;
    let (host, port) = site.http.first_hop(url);
    let proxy = site.http.proxy_for(url);
    let through = proxy.as_ref().map(|proxy| format!(" ({proxy})")).unwrap_or_default();
    let addresses = match timeout_at(limit.instant(), reach::addresses(&host, port)).await {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) => {
            let mut check =
                Check::new("dns", Verdict::Fails, format!("{host}{through} could not be resolved: {error}"));
            check.fix =
                Some("Check the spelling of the host, and the name servers in /etc/resolv.conf.".into());
            return vec![check.named(&situation::NAME_NOT_RESOLVED)];
        }
        Err(_) => return vec![Check::unknown("dns", format!("no name server answered for {host} in time"))],
    };
    let six = addresses.iter().filter(|address| address.is_ipv6()).count();
    let four = addresses.len() - six;
    let dns = Check::fine("dns", format!("{host}{through} has {four} IPv4 and {six} IPv6 addresses"));
    let tried = connect(&addresses).await;
    let connection = if tried.iter().any(|(_, tried)| tried.is_ok()) {
        open(&host, port, &tried)
    } else if reach::lacks_ipv4(&addresses) {
        let detail = format!("{host} has no IPv6 address, and this machine has no route to IPv4");
        let way = if proxy.is_some() { "use a proxy that has an IPv6 address" } else { "set a proxy" };
        let fix = format!("Give this machine IPv4, or NAT64 with DNS64, or {way}.");
        Check { fix: Some(fix), ..Check::new(ID, Verdict::Fails, detail).named(&situation::NOT_REACHED) }
    } else {
        let detail = format!("{host}:{port} was not reached: {}", list(tried.iter()));
        let fix = format!("Allow connections from this machine to {host}:{port}, or set a proxy.");
        Check { fix: Some(fix), ..Check::new(ID, Verdict::Fails, detail).named(&situation::NOT_REACHED) }
    };
    vec![dns, connection]
}

/// A host that accepts connections at one of its addresses at least.
fn open(host: &str, port: u16, tried: &[Tried]) -> Check {
    // An address without a route is tried last, because the C library sorts them.
    let counts = |of: &&Tried| of.1.is_err() && reach::has_route(of.0.ip());
    let closed: Vec<&Tried> = tried.iter().filter(counts).collect();
    if closed.is_empty() {
        return Check::fine(ID, format!("{host}:{port} accepts connections"));
    }
    let works = |v6: bool| tried.iter().any(|(address, tried)| tried.is_ok() && address.is_ipv6() == v6);
    // The first address counts for GitHub's runner (contract, section 5), and IPv6 mostly comes first.
    let fix = if closed.iter().all(|(address, _)| address.is_ipv6()) && works(false) && !works(true) {
        "Repair IPv6 on this machine, or disable it: sysctl -w net.ipv6.conf.all.disable_ipv6=1."
    } else {
        "Allow connections from this machine to these addresses, or remove them from the host's DNS records."
    };
    let detail = format!(
        "{host}:{port} accepts connections at some addresses only, and GitHub's runner does not fall back to \
         them: {}",
        list(closed.into_iter())
    );
    Check { fix: Some(fix.to_owned()), ..Check::unknown(ID, detail) }
}

fn list<'a>(tried: impl Iterator<Item = &'a Tried>) -> String {
    tried.filter_map(|(_, tried)| tried.as_ref().err()).map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Connects to all of them at once.
async fn connect(addresses: &[SocketAddr]) -> Vec<Tried> {
    let mut all = JoinSet::new();
    for (number, address) in addresses.iter().copied().enumerate() {
        all.spawn(async move {
            let tried = match timeout(CONNECTING, reach::connects(address)).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(format!("{address}: {error}")),
                Err(_) => Err(format!("{address}: no answer within {} s", CONNECTING.as_secs())),
            };
            (number, (address, tried))
        });
    }
    let mut tried = all.join_all().await;
    tried.sort_by_key(|(number, _)| *number);
    tried.into_iter().map(|(_, tried)| tried).collect()
}
