//! Requests to the kernel's routing tables: rtnetlink(7) messages and their answers.
//!
//! It knows the format of netlink(7): header, attributes, sequence numbers, errors. The modules that send the messages
//! know their content. All numbers are in the machine's byte order.

use rustix::fd::OwnedFd;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink::SocketAddrNetlink, recv, sendto,
    socket_with, sockopt,
};
use std::io;
use std::time::Duration;

/// `NLM_F_REQUEST`, of every request.
const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`: answer with an error number, 0 for success.
pub(super) const ACK: u16 = 0x4;
/// `NLM_F_EXCL`: refuse if it exists (`EEXIST`).
pub(super) const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`: create it if it does not exist.
pub(super) const CREATE: u16 = 0x400;

/// `NLMSG_ERROR`: a message that holds an error number.
const ERROR: u16 = 0x2;
/// The length of `struct nlmsghdr`: length (4), type (2), flags (2), sequence number (4), port (4).
const HEADER: usize = 16;
/// Messages and attributes begin at multiples of this.
const ALIGNMENT: usize = 4;
/// The kernel answers before the send call returns, so a missing answer is a bug in runup or the kernel.
const ANSWER: Duration = Duration::from_secs(5);

/// A request that is being built.
#[derive(Debug, Clone)]
pub(super) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A request of the type `kind` (`RTM_…`), whose body begins with the fixed structure `body`.
    pub(super) fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(body);
        Self { bytes }
    }

    /// The same with one more attribute: `struct nlattr` (length and type, 2 bytes each), then the value.
    pub(super) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        let length = u16::try_from(ALIGNMENT + value.len()).expect("every value is an address or a number");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self
    }

    fn into_bytes(mut self, sequence: u32) -> Vec<u8> {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        let length = u32::try_from(self.bytes.len()).expect("a message has a few attributes");
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// A connection to the kernel.
#[derive(Debug)]
pub(super) struct Socket {
    socket: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// Opens one in the network namespace of the calling thread.
    pub(super) fn open() -> io::Result<Self> {
        // NETLINK_ROUTE is protocol 0, the default.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(ANSWER))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends a request and returns the body of the answer; an acknowledgement has none.
    ///
    /// # Errors
    /// The kernel's error number, or `InvalidData` if the answer is malformed.
    pub(super) fn ask(&mut self, message: Message) -> io::Result<Vec<u8>> {
        self.sequence += 1;
        let bytes = message.into_bytes(self.sequence);
        // Port 0 is the kernel. No other process can answer without CAP_NET_ADMIN.
        sendto(&self.socket, &bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut buffer = [0; 8192];
        loop {
            let (_, length) = recv(&self.socket, &mut buffer, RecvFlags::TRUNC)?;
            let received = buffer.get(..length).ok_or_else(not_understood)?;
            if let Some(answer) = answer_to(self.sequence, received)? {
                return Ok(answer);
            }
        }
    }
}

/// The body of the message with this sequence number, if it is among those received.
fn answer_to(sequence: u32, mut received: &[u8]) -> io::Result<Option<Vec<u8>>> {
    while !received.is_empty() {
        let header = received.first_chunk::<HEADER>().ok_or_else(not_understood)?;
        let [l0, l1, l2, l3, t0, t1, _, _, s0, s1, s2, s3, ..] = *header;
        let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).map_err(|_| not_understood())?;
        let body = received.get(HEADER..length).ok_or_else(not_understood)?;
        if u32::from_ne_bytes([s0, s1, s2, s3]) == sequence {
            if u16::from_ne_bytes([t0, t1]) != ERROR {
                return Ok(Some(body.to_vec()));
            }
            let code = i32::from_ne_bytes(*body.first_chunk().ok_or_else(not_understood)?);
            return match code.checked_neg() {
                Some(0) => Ok(Some(Vec::new())),
                Some(error) => Err(io::Error::from_raw_os_error(error)),
                None => Err(not_understood()),
            };
        }
        received = received.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
    }
    Ok(None)
}

fn not_understood() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer over rtnetlink is malformed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut message = Message::new(kind, 0, body);
        message.bytes.resize(message.bytes.len().next_multiple_of(ALIGNMENT), 0);
        message.into_bytes(sequence)
    }

    #[test]
    fn a_message_is_packed_as_the_kernel_reads_it() {
        let bytes = Message::new(32, ACK, &[9; 12]).attribute(21, &[2]).attribute(6, &1_u32.to_ne_bytes());
        let bytes = bytes.into_bytes(7);
        assert_eq!(bytes.len(), 16 + 12 + 8 + 8);
        assert_eq!(bytes[0..4], 44_u32.to_ne_bytes());
        assert_eq!(bytes[4..6], 32_u16.to_ne_bytes());
        assert_eq!(bytes[6..8], 5_u16.to_ne_bytes());
        assert_eq!(bytes[8..12], 7_u32.to_ne_bytes());
        // Without its padding.
        assert_eq!(bytes[28..30], 5_u16.to_ne_bytes());
        assert_eq!(bytes[32..36], [2, 0, 0, 0]);
        assert_eq!(bytes[36..38], 8_u16.to_ne_bytes());
    }

    #[test]
    fn an_answer_is_found_by_its_number_and_an_error_is_one() {
        let mut received = message(24, 1, &[1, 2, 3, 4]);
        received.extend(message(24, 2, &[5, 6, 7, 8]));
        received.extend(message(ERROR, 3, &(-13_i32).to_ne_bytes()));
        received.extend(message(ERROR, 4, &0_i32.to_ne_bytes()));
        assert_eq!(answer_to(2, &received).unwrap().unwrap(), [5, 6, 7, 8]);
        assert_eq!(answer_to(3, &received).unwrap_err().raw_os_error(), Some(13));
        assert!(answer_to(4, &received).unwrap().unwrap().is_empty());
        assert_eq!(answer_to(5, &received).unwrap(), None);
    }

    #[test]
    fn a_malformed_answer_is_an_error_whatever_it_is() {
        let mut short = message(ERROR, 1, &[]);
        for length in [0_u32, 15, 17, u32::MAX] {
            short[0..4].copy_from_slice(&length.to_ne_bytes());
            assert!(answer_to(1, &short).is_err(), "{length}");
        }
        assert!(answer_to(1, &[0; 15]).is_err());
        assert!(answer_to(1, &message(ERROR, 1, &[1, 2])[..18]).is_err());
        assert!(answer_to(1, &message(ERROR, 1, &i32::MIN.to_ne_bytes())).is_err());
    }
}
