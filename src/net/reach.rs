//! How far a connection gets, without a request: the name, and then each address.

use super::{Http, ProxyInUse, Url};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

impl Http {
    /// The proxy for `url`, without its password.
    #[must_use]
    pub fn proxy_for(&self, url: &Url) -> Option<ProxyInUse> {
        self.inner.options.proxy.proxy_in_use(url)
    }

    /// What a connection for `url` is made to: the host and port of its proxy, or its own.
    #[must_use]
    pub fn first_hop(&self, url: &Url) -> (String, u16) {
        let hop = self.inner.options.proxy.proxy_for(url).unwrap_or(url);
        let host = hop.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        (host.to_owned(), hop.port_or_known_default().unwrap_or(443))
    }

    /// The server that has answered calls, if it answers now too, although the host of `url` cannot be reached: a
    /// firewall or a proxy lets the one through and not the other.
    pub async fn reached_instead(&self, url: &Url) -> Option<&Url> {
        let api = self.inner.answered.get()?;
        let place = |url: &Url| (url.host_str().map(str::to_owned), url.port_or_known_default());
        if place(api) == place(url) {
            return None;
        }
        let answer = timeout(ANSWERING, Box::pin(self.open(api, None, None))).await;
        matches!(answer, Ok(Ok(body)) if body.status() < 500).then_some(api)
    }
}

const ANSWERING: Duration = Duration::from_secs(5);

/// The addresses of a host.
///
/// # Errors
/// It has none, or no name server answered.
pub async fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let mut found: Vec<SocketAddr> = lookup_host((host, port)).await?.collect();
    found.dedup();
    if found.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(found) }
}

/// Connects to an address, and closes the connection.
///
/// # Errors
/// As the operating system says.
pub async fn connects(address: SocketAddr) -> io::Result<()> {
    TcpStream::connect(address).await.map(drop)
}

/// An address of github.com. Any other public one would do.
const PUBLIC: IpAddr = IpAddr::V4(Ipv4Addr::new(140, 82, 112, 3));

/// Whether this machine has a route to public IPv4 addresses.
#[must_use]
pub fn has_ipv4() -> bool {
    has_route(PUBLIC)
}

/// Whether this machine has a route to the address, and no rule that rejects it: so the C library finds out which
/// addresses to try last.
#[must_use]
pub fn has_route(to: IpAddr) -> bool {
    find_route(to).is_ok()
}

/// A UDP socket is connected, which sends nothing.
fn find_route(to: IpAddr) -> io::Result<()> {
    let from: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // It fails on a machine where the family is off.
    let socket = UdpSocket::bind((from, 0)).map_err(|_| io::ErrorKind::NetworkUnreachable)?;
    socket.connect((to, 443))
}

/// Whether a host with these addresses cannot be reached because it has no IPv6 address and this machine no IPv4.
#[must_use]
pub fn lacks_ipv4(addresses: &[SocketAddr]) -> bool {
    // What a rule rejects is not missing.
    let missing =
        [io::ErrorKind::NetworkUnreachable, io::ErrorKind::HostUnreachable, io::ErrorKind::AddrNotAvailable];
    let stranded = |address: &SocketAddr| {
        address.is_ipv4() && find_route(address.ip()).is_err_and(|error| missing.contains(&error.kind()))
    };
    !has_ipv4() && addresses.iter().all(stranded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_route_to_itself() {
        assert!(has_route(Ipv4Addr::LOCALHOST.into()));
        assert!(!lacks_ipv4(&[(Ipv4Addr::LOCALHOST, 443).into()]));
        assert!(!lacks_ipv4(&[(Ipv6Addr::LOCALHOST, 443).into()]));
    }
}
