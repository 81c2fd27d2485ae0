//! Denies the cloud's metadata services to a user's processes, because they give out the machine's credentials.
//!
//! It uses the kernel's policy routing (`ip rule`) by the owner of a socket: no tool is needed, and a flush of nftables
//! or a restart of firewalld does not remove the rules. A reboot does, so they are set at each start. Packets from a
//! container with its own network are forwarded, have no owner, and are not affected: against these, set a hop limit of
//! 1 at the cloud.

use super::netlink::{ACK, CREATE, EXCL, Message, Socket};
use super::{Error, MetadataError, Root, account};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The services: address and TCP port. Port 53 is not included, because some of these addresses are name servers.
pub const SERVICES: [(IpAddr, u16); 13] = [
    // AWS, Azure, Google Cloud, Oracle, IBM, OpenStack, DigitalOcean, Hetzner, Akamai and others.
    (IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), 80),
    // AWS.
    (IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)), 80),
    // Google Cloud.
    (IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)), 80),
    // OpenStack.
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe)), 80),
    // Akamai.
    (IpAddr::V6(Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1)), 80),
    // The credentials of an ECS task, and of an EKS pod.
    (IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)), 80),
    (IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)), 80),
    (IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)), 80),
    // Azure's wire server: the settings and certificates of the machine's extensions.
    (IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)), 80),
    (IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)), 32526),
    // Scaleway.
    (IpAddr::V4(Ipv4Addr::new(169, 254, 42, 42)), 80),
    (IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)), 80),
    // Tencent Cloud.
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 23)), 80),
];

/// The priority of the rules: right behind that of the machine's own addresses (0), before all others.
pub const PRIORITY: u32 = 1;

/// Denies the services to the user's sockets, and to those of its subordinate user ids (`/etc/subuid`), which its
/// processes can take on in a user namespace. Existing rules are kept. Afterwards it queries the kernel whether the
/// rules are in effect.
///
/// # Errors
/// [`MetadataError::NotPermitted`] without `CAP_NET_ADMIN` in this network namespace; [`MetadataError::Unsupported`] by
/// a kernel older than 4.18 or without policy routing; [`MetadataError::Rule`]; [`MetadataError::StillReachable`] where
/// another rule or an address of this machine comes first. For uid 0 [`MetadataError::Unsupported`]: root needs the
/// services.
pub fn deny(uid: u32) -> Result<(), Error> {
    if uid == 0 {
        return Err(MetadataError::Unsupported { why: "root is not held by rules".into() }.into());
    }
    check_release()?;
    let mut socket = Socket::open().map_err(failure)?;
    for range in ranges(uid)? {
        for (address, port) in services() {
            match socket.ask(rule(NEW_RULE, ACK | CREATE | EXCL, address, port, range)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => drop(result.map_err(failure)?),
            }
        }
    }
    match open_service(uid)? {
        Some(address) => Err(MetadataError::StillReachable { uid, address }.into()),
        None => Ok(()),
    }
}

/// Removes the user's rules; missing ones are not an error. Call it before the user is deleted, because its subordinate
/// user ids are not known afterwards.
///
/// # Errors
/// As [`deny`], but for [`MetadataError::StillReachable`].
pub fn allow(uid: u32) -> Result<(), Error> {
    let mut socket = Socket::open().map_err(failure)?;
    for range in ranges(uid)? {
        for (address, port) in services() {
            match socket.ask(rule(DELETE_RULE, ACK, address, port, range)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => drop(result.map_err(failure)?),
            }
        }
    }
    Ok(())
}

/// Checks whether [`deny`] can work, as far as that can be determined without a user, for an early refusal.
///
/// # Errors
/// As [`deny`], but for [`MetadataError::StillReachable`].
pub fn check() -> Result<(), Error> {
    check_release()?;
    let mut socket = Socket::open().map_err(failure)?;
    for (address, _) in services() {
        // Deleting a missing rule needs the same permission, and changes nothing. runup has no rules for root.
        match socket.ask(rule(DELETE_RULE, ACK, address, 9, (0, 0))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => drop(result.map_err(failure)?),
        }
    }
    Ok(())
}

/// Whether the user can reach none of the services: because of the rules, or because there is no route at all.
///
/// # Errors
/// The kernel cannot be queried.
pub fn is_denied(uid: u32) -> Result<bool, Error> {
    Ok(open_service(uid)?.is_none())
}

/// The first service that the user, or one of its subordinate ids, can reach.
fn open_service(uid: u32) -> Result<Option<IpAddr>, Error> {
    let mut socket = Socket::open().map_err(failure)?;
    for (first, _) in ranges(uid)? {
        for (address, port) in services() {
            if is_open(&mut socket, address, port, first).map_err(failure)? {
                return Ok(Some(address));
            }
        }
    }
    Ok(None)
}

// What follows is from <linux/rtnetlink.h>, <linux/fib_rules.h> and <linux/in.h>.
const NEW_RULE: u16 = 32;
const DELETE_RULE: u16 = 33;
const GET_ROUTE: u16 = 26;
const TCP: u8 = 6;

/// The services that can have a route: without IPv6 in the kernel, its addresses need not be denied.
fn services() -> impl Iterator<Item = (IpAddr, u16)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let ipv6 = socket_with(AddressFamily::INET6, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let ipv6 = !matches!(ipv6, Err(rustix::io::Errno::AFNOSUPPORT));
    SERVICES.into_iter().filter(move |(address, _)| ipv6 || address.is_ipv4())
}

/// The address in the kernel's format: its family, its length in bits, its bytes.
fn packed(address: IpAddr) -> (u8, u8, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (2, 32, address.octets().to_vec()),
        IpAddr::V6(address) => (10, 128, address.octets().to_vec()),
    }
}

/// The request for a rule for one service and one range of user ids (both ends included).
fn rule(kind: u16, flags: u16, address: IpAddr, port: u16, (first, last): (u32, u32)) -> Message {
    /// `FR_ACT_PROHIBIT`: connecting fails at once, with `EACCES`.
    const PROHIBIT: u8 = 8;
    /// `RTPROT_KERNEL`. When systemd-networkd starts, it deletes all rules that it does not know, except these.
    const KERNEL: u8 = 2;
    let (family, bits, bytes) = packed(address);
    // struct fib_rule_hdr: family, dst_len, src_len, tos, table, two reserved, action, flags (4).
    let header = [family, bits, 0, 0, 0, 0, 0, PROHIBIT, 0, 0, 0, 0];
    Message::new(kind, flags, &header)
        .attribute(1, &bytes) // FRA_DST
        .attribute(6, &PRIORITY.to_ne_bytes()) // FRA_PRIORITY
        .attribute(20, &[first.to_ne_bytes(), last.to_ne_bytes()].concat()) // FRA_UID_RANGE
        .attribute(21, &[KERNEL]) // FRA_PROTOCOL
        .attribute(22, &[TCP]) // FRA_IP_PROTO
        .attribute(24, &[port.to_ne_bytes(), port.to_ne_bytes()].concat()) // FRA_DPORT_RANGE
}

/// Whether the kernel would route a TCP connection of this user to the service.
fn is_open(socket: &mut Socket, address: IpAddr, port: u16, uid: u32) -> io::Result<bool> {
    /// Where `struct rtmsg` has the route's type.
    const TYPE: usize = 7;
    /// `RTN_BLACKHOLE`, `RTN_UNREACHABLE`, `RTN_PROHIBIT`.
    const CLOSED: [u8; 3] = [6, 7, 8];
    let (family, bits, bytes) = packed(address);
    // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags (4).
    let request = Message::new(GET_ROUTE, 0, &[family, bits, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        .attribute(1, &bytes) // RTA_DST
        .attribute(25, &uid.to_ne_bytes()) // RTA_UID
        .attribute(27, &[TCP]) // RTA_IP_PROTO
        .attribute(29, &port.to_be_bytes()); // RTA_DPORT, in the network's byte order
    match socket.ask(request) {
        Ok(route) => Ok(!route.get(TYPE).is_some_and(|kind| CLOSED.contains(kind))),
        Err(error) => match error.kind() {
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable => Ok(false),
            _ => Err(error),
        },
    }
}

fn failure(source: io::Error) -> Error {
    use rustix::io::Errno;
    let error = match Errno::from_io_error(&source) {
        Some(Errno::PERM | Errno::ACCESS) => MetadataError::NotPermitted { source },
        Some(Errno::OPNOTSUPP | Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT) => {
            let why = format!("the kernel does not support policy routing ({source})");
            MetadataError::Unsupported { why }
        }
        _ => MetadataError::Rule { source },
    };
    error.into()
}

/// The user id itself and its subordinate ids, as far as they exist in this user namespace.
pub(super) fn ranges(uid: u32) -> Result<Vec<(u32, u32)>, Error> {
    let read = |path: &str| match fs_err::read_to_string(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::File(error)),
        text => Ok(text.unwrap_or_default()),
    };
    let name = account::find_by_id(&Root::host(), uid)?.map(|account| account.name);
    let subordinate = subordinate(&read("/etc/subuid")?, name.as_deref(), uid);
    let mapped = mapped(&read("/proc/self/uid_map")?);
    let mut ranges = vec![(uid, uid)];
    for (first, last) in subordinate {
        // A valid range does not include root's id, for which a rule would deny the services to runup itself.
        let parts = mapped.iter().map(|(low, high)| (first.max(*low).max(1), last.min(*high)));
        ranges.extend(parts.filter(|(first, last)| first <= last));
    }
    Ok(ranges)
}

/// The ranges that subuid(5) gives to the user, by name or number.
fn subordinate(subuid: &str, name: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        if owner != number && Some(owner) != name {
            return None;
        }
        let first: u32 = fields.next()?.parse().ok()?;
        let count: u32 = fields.next()?.parse().ok()?;
        // The last number is not a valid user id.
        Some((first, first.saturating_add(count.checked_sub(1)?).min(u32::MAX - 1)))
    };
    subuid.lines().filter_map(range).collect()
}

/// The user ids that exist in a user namespace with this `uid_map`: first and last of each range.
fn mapped(uid_map: &str) -> Vec<(u32, u32)> {
    let range = |line: &str| {
        let mut fields = line.split_whitespace();
        let first: u32 = fields.next()?.parse().ok()?;
        let count: u32 = fields.nth(1)?.parse().ok()?;
        Some((first, first.saturating_add(count.checked_sub(1)?)))
    };
    uid_map.lines().filter_map(range).collect()
}

fn check_release() -> Result<(), Error> {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    if !is_new_enough(&release) {
        // Older kernels ignore the parts of a rule that they do not know, so it would apply to every port.
        return Err(MetadataError::Unsupported { why: format!("Linux {release} is older than 4.18") }.into());
    }
    Ok(())
}

/// Whether this release of Linux supports all parts of a rule (4.17) and of a route query (4.18).
fn is_new_enough(release: &str) -> bool {
    let mut numbers =
        release.split(|letter: char| !letter.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (4, 18)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Output};

    #[test]
    fn a_kernel_that_would_ignore_half_a_rule_is_too_old() {
        for release in ["4.18.0-553.el8_10.x86_64", "4.19-rc1", "5.4.0", "6.1", "10.0"] {
            assert!(is_new_enough(release), "{release}");
        }
        for release in ["4.17.19", "4.4.0-142-generic", "3.10.0-1160.el7", "2.6.66", "", "x"] {
            assert!(!is_new_enough(release), "{release}");
        }
    }

    #[test]
    fn subordinate_ids_are_found_by_name_and_number() {
        let subuid = "a:100000:65536\nrunner:165536:65536\n990:300000:1\nrunner:broken:1\nrunner:1:0\n\
                      runner:4294967000:65536\nrunners:1:1\n";
        let expected = [(165_536, 231_071), (300_000, 300_000), (4_294_967_000, u32::MAX - 1)];
        assert_eq!(subordinate(subuid, Some("runner"), 990), expected);
        assert_eq!(subordinate(subuid, None, 990), [(300_000, 300_000)]);
        assert_eq!(subordinate("", Some("runner"), 990), []);
    }

    #[test]
    fn the_ids_of_a_user_namespace_are_read() {
        assert_eq!(mapped("         0          0 4294967295\n"), [(0, u32::MAX - 1)]);
        assert_eq!(mapped("0 1000 1\n1 100000 65536\n"), [(0, 0), (1, 65_536)]);
        assert_eq!(mapped("nonsense\n"), []);
    }

    #[test]
    fn root_is_never_held() {
        assert!(matches!(deny(0), Err(Error::Metadata(MetadataError::Unsupported { .. }))));
    }

    /// The user of the tests below, which does not exist on this machine.
    const UID: u32 = 54_321;

    /// Runs this test again in its own network namespace, so that the rules of this machine are not changed.
    fn alone(test: &str) {
        let available = |program: &str, arguments: &[&str]| {
            Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
        };
        if !account::is_root() || !available("unshare", &["--net", "true"]) || !available("ip", &["-V"]) {
            eprintln!("SKIPPED: it takes root, unshare(1), ip(8) and a network namespace");
            return;
        }
        let name = format!("host::metadata_rule::tests::{test}");
        let output = Command::new("unshare")
            .arg("--net")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", &name, "--ignored", "--nocapture"])
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && printed.contains("1 passed"), "{printed}{output:?}");
    }

    fn ip(arguments: &str) -> Output {
        let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
        assert!(output.status.success(), "ip {arguments}: {output:?}");
        output
    }

    fn rules() -> usize {
        let count = |family| {
            let output = ip(&format!("{family} rule list priority {PRIORITY}"));
            String::from_utf8(output.stdout).unwrap().lines().count()
        };
        count("-4") + count("-6")
    }

    fn way_out() {
        ip("link set lo up");
        // The loopback device is enough for a route query. Not every kernel has other devices.
        ip("route add default dev lo");
    }

    #[test]
    fn rules_are_set_once_and_taken_away() {
        alone("in_a_network_of_its_own");
    }

    #[test]
    #[ignore = "changes the rules of the network that it runs in"]
    fn in_a_network_of_its_own() {
        way_out();
        assert!(!is_denied(UID).unwrap(), "there is a way before");
        let services = services().count();
        for _ in 0..2 {
            deny(UID).unwrap();
            assert!(is_denied(UID).unwrap());
            assert_eq!(rules(), services, "each is there once");
        }
        assert!(!is_denied(UID + 1).unwrap(), "another user is not held");
        deny(UID + 1).unwrap();
        let mut socket = Socket::open().unwrap();
        let (address, port) = SERVICES[0];
        assert!(!is_open(&mut socket, address, port, UID).unwrap());
        for (port, uid) in [(53, UID), (443, UID), (port, 0)] {
            assert!(is_open(&mut socket, address, port, uid).unwrap(), "port {port} for {uid}");
        }
        for _ in 0..2 {
            allow(UID).unwrap();
            assert!(!is_denied(UID).unwrap());
            assert_eq!(rules(), services, "those of the other user stay");
        }
    }

    #[test]
    fn a_rule_that_another_one_beats_is_an_error() {
        alone("where_another_rule_comes_first");
    }

    #[test]
    #[ignore = "changes the rules of the network that it runs in"]
    fn where_another_rule_comes_first() {
        way_out();
        ip("rule add to 169.254.169.254 lookup main priority 0");
        let error = deny(UID).unwrap_err();
        assert!(
            matches!(error, Error::Metadata(MetadataError::StillReachable { address, .. }) if address == SERVICES[0].0),
            "{error}"
        );
        ip("rule del to 169.254.169.254 lookup main priority 0");
        deny(UID).unwrap();
        ip("address add 169.254.169.254/32 dev lo");
        assert!(
            matches!(deny(UID), Err(Error::Metadata(MetadataError::StillReachable { .. }))),
            "an address of the machine's own"
        );
    }
}
