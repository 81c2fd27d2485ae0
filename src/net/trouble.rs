//! What happened to a connection.

use rustls::CertificateError;
use std::fmt;

/// What happened to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Trouble {
    /// The host name has no address, or no name server answered.
    Dns,
    /// No process listens on the port.
    Refused,
    /// No connection within the connect timeout.
    ConnectTimeout,
    /// The proxy did not open a tunnel to the server.
    NoTunnel,
    /// The connection could not be made for another reason.
    Connect,
    /// Connected, but no byte for the stall timeout.
    Stalled,
    /// The connection ended or was reset before the answer was complete.
    Cut,
    /// The server's certificate is not trusted.
    Certificate,
    /// The server's certificate is not valid yet, by this machine's clock.
    NotYetValid,
    /// The TLS handshake failed.
    Tls,
    /// The answer is not HTTP.
    NotHttp,
    /// The request itself cannot be sent.
    Request,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dns => "the host name could not be resolved",
            Self::Refused => "connection refused",
            Self::ConnectTimeout => "connection timed out",
            Self::NoTunnel => "it did not open a connection to this host",
            Self::Connect => "connection failed",
            Self::Stalled => "the server stopped sending",
            Self::Cut => "the connection was cut before the answer was complete",
            Self::Certificate => "the server's certificate is not trusted",
            Self::NotYetValid => "the server's certificate is not valid yet by this machine's clock",
            Self::Tls => "the TLS handshake failed",
            Self::NotHttp => "the answer is not HTTP",
            Self::Request => "the request cannot be sent",
        })
    }
}

impl Trouble {
    /// Whether a retry may succeed.
    #[must_use]
    pub fn passes(self) -> bool {
        match self {
            Self::Dns
            | Self::Refused
            | Self::ConnectTimeout
            | Self::NoTunnel
            | Self::Connect
            | Self::Stalled
            | Self::Cut
            // A clock that is set over the network is right soon after boot.
            | Self::NotYetValid => true,
            Self::Certificate | Self::Tls | Self::NotHttp | Self::Request => false,
        }
    }

    /// Whether it happened while connecting, which with a proxy is about the proxy and not about the server.
    #[must_use]
    pub fn is_connecting(self) -> bool {
        matches!(self, Self::Dns | Self::Refused | Self::ConnectTimeout | Self::NoTunnel | Self::Connect)
    }

    /// Classifies `error` by its whole chain of causes.
    pub(super) fn of(error: &reqwest::Error) -> Self {
        let causes = Causes::of(error);
        if causes.not_yet_valid {
            Self::NotYetValid
        } else if causes.certificate {
            Self::Certificate
        } else if causes.tls {
            Self::Tls
        } else if error.is_dns() {
            Self::Dns
        } else if error.is_connect() {
            match causes.io {
                _ if error.is_timeout() => Self::ConnectTimeout,
                Some(std::io::ErrorKind::ConnectionRefused) => Self::Refused,
                Some(std::io::ErrorKind::TimedOut) => Self::ConnectTimeout,
                _ if ends_with(error, "tunnel error: unsuccessful") => Self::NoTunnel,
                _ => Self::Connect,
            }
        } else if error.is_builder() {
            Self::Request
        } else if error.is_timeout() {
            Self::Stalled
        } else if causes.not_http {
            Self::NotHttp
        } else {
            Self::Cut
        }
    }
}

/// What a chain of causes contains. An `io::Error` that wraps another error reports the source of that error as its
/// own, so the wrapped error is examined too.
#[derive(Default)]
pub(super) struct Causes {
    certificate: bool,
    /// What is wrong with it.
    pub fault: Option<CertificateError>,
    not_yet_valid: bool,
    tls: bool,
    not_http: bool,
    io: Option<std::io::ErrorKind>,
}

impl Causes {
    pub fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut causes = Self::default();
        let mut next = Some(error);
        while let Some(cause) = next {
            causes.note(cause);
            next = cause.source();
        }
        causes
    }

    fn note(&mut self, cause: &(dyn std::error::Error + 'static)) {
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            self.tls = true;
            self.certificate |=
                matches!(tls, rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented);
            if let rustls::Error::InvalidCertificate(fault) = tls {
                self.fault = Some(fault.clone());
            }
            self.not_yet_valid |= matches!(
                tls,
                rustls::Error::InvalidCertificate(
                    CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }
                )
            );
        } else if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            self.io = Some(io.kind());
            if let Some(inner) = io.get_ref() {
                self.note(inner);
            }
        } else if cause.to_string().starts_with("invalid HTTP") {
            // reqwest does not expose a type for hyper's parse errors.
            self.not_http = true;
        }
    }
}

/// Whether the proxy answered a request for a tunnel with 407.
pub(super) fn is_refused_by_proxy(error: &reqwest::Error) -> bool {
    ends_with(error, "proxy authorization required")
}

/// Whether this is what the last cause says. reqwest does not expose the types of a proxy's refusals.
fn ends_with(error: &reqwest::Error, text: &str) -> bool {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.last().is_some_and(|last| last.to_string().ends_with(text))
}
