//! The errors of requests.

use super::trouble::Causes;
use super::{ProxyInUse, ProxyProblem, Trouble, Url, tls};
use crate::error::situation::Situation;
use crate::error::{Class, Failure};
use std::path::PathBuf;
use std::time::Duration;

/// A request that got no usable answer. URLs in it are redacted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file with additional root certificates cannot be read.
    #[error("failed to read the root certificates in {}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file with additional root certificates has none.
    #[error("{} does not contain a PEM certificate", path.display())]
    CaFileEmpty {
        /// The file.
        path: PathBuf,
    },
    /// The HTTP client cannot be created from these options.
    #[error("failed to set up the HTTP client")]
    Client(#[source] reqwest::Error),
    /// Not `http` or `https`.
    #[error("{url} is not an http or https URL")]
    Scheme {
        /// The URL.
        url: String,
    },
    /// A proxy that neither runup nor the runner can use. The URL is not shown: it may hold a password.
    #[error("the proxy in {variable} cannot be used: {problem}")]
    Proxy {
        /// The environment variable or the option that sets it.
        variable: String,
        /// What is wrong with it.
        problem: ProxyProblem,
    },
    /// A bearer token for plain HTTP to another machine; nothing was sent.
    #[error("refused to send a credential to {url} without encryption")]
    PlainBearer {
        /// The URL.
        url: String,
    },
    /// A header that cannot be sent.
    #[error("the value of header {name} for {url} cannot be sent")]
    Header {
        /// The header's name.
        name: String,
        /// The URL.
        url: String,
    },
    /// The connection, or the transfer over it, failed.
    #[error("{method} {url}: {}", self.brief())]
    Transport {
        /// The method.
        method: String,
        /// The URL.
        url: String,
        /// What happened.
        trouble: Trouble,
        /// The proxy that the connection was to go through.
        proxy: Option<ProxyInUse>,
        /// The client's error, of whose causes only the last is shown.
        cause: reqwest::Error,
    },
    /// Status 407: the proxy demands credentials, or refuses those in its URL.
    #[error("{method} {url}: {proxy} refused to connect without a valid user and password (407)")]
    ProxyRefused {
        /// The method.
        method: String,
        /// The URL.
        url: String,
        /// The proxy.
        proxy: ProxyInUse,
    },
    /// A status that is worth a retry, until there was no time left.
    #[error("{method} {url} answered {status}")]
    Status {
        /// The method.
        method: String,
        /// The URL.
        url: String,
        /// The status code.
        status: u16,
    },
    /// The call did not succeed within its deadline.
    #[error("{method} {url}: gave up after {attempts} attempt{} in {} s{}", if *attempts == 1 { "" } else { "s" }, total.as_secs_f32().ceil(), after(last.as_deref()))]
    Deadline {
        /// The method.
        method: String,
        /// The URL.
        url: String,
        /// How long the call was allowed to take.
        total: Duration,
        /// How many requests were started.
        attempts: u32,
        /// How the last complete attempt failed.
        last: Option<Box<Error>>,
    },
    /// The server requested a wait that is longer than the call may take.
    #[error("{method} {url} answered {status}: rate limited until {until}")]
    RateLimited {
        /// The method.
        method: String,
        /// The URL.
        url: String,
        /// The status code, 403 or 429 as a rule.
        status: u16,
        /// When the server accepts calls again, RFC 3339 in UTC.
        until: String,
        /// How long that is, counted from the answer.
        wait: Duration,
    },
    /// The body of an answer is larger than any answer of the API.
    #[error("{method} {url}: the answer is larger than {limit} bytes")]
    BodyTooLarge {
        /// The method.
        method: String,
        /// The URL.
        url: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// Too many redirects.
    #[error("{url}: more than {limit} redirects")]
    RedirectLoop {
        /// The first URL.
        url: String,
        /// The limit.
        limit: usize,
    },
    /// A redirect from https to http.
    #[error("{from} redirects to {to}, which is not https")]
    RedirectInsecure {
        /// The URL that redirects.
        from: String,
        /// Where it redirects to.
        to: String,
    },
    /// A redirect without a usable URL.
    #[error("{url} redirects ({status}) without a usable Location header")]
    RedirectBroken {
        /// The URL that redirects.
        url: String,
        /// The status code.
        status: u16,
    },
}

/// How the last attempt failed, as the end of a message.
fn after(last: Option<&Error>) -> String {
    last.map(|error| format!(": {}", error.brief())).unwrap_or_default()
}

impl Error {
    /// What happened, without method and URL. Of the client's long chain of causes only the last is shown, and none
    /// where the trouble says it all.
    #[must_use]
    pub fn brief(&self) -> String {
        match self {
            Self::Transport { trouble, proxy, cause, .. } => {
                let mut last: &dyn std::error::Error = cause;
                while let Some(source) = last.source() {
                    last = source;
                }
                let says_it_all =
                    matches!(trouble, Trouble::Refused | Trouble::NoTunnel | Trouble::NotYetValid);
                let what = if says_it_all { trouble.to_string() } else { format!("{trouble} ({last})") };
                match proxy {
                    None => what,
                    Some(proxy) if trouble.is_connecting() => format!("{proxy}: {what}"),
                    Some(proxy) => format!("{what}, through {proxy}"),
                }
            }
            Self::Status { status, .. } => format!("the server answered {status}"),
            other => other.to_string(),
        }
    }

    /// The trouble with the connection, if the last attempt failed with one.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::Transport { trouble, .. } => Some(*trouble),
            Self::Deadline { last: Some(last), .. } => last.trouble(),
            _ => None,
        }
    }

    /// What was asked when the request failed on the way: after a redirect, not the URL that was asked first.
    #[must_use]
    pub fn url(&self) -> Option<Url> {
        let Self::Transport { url, .. } = self else { return None };
        Url::parse(url).ok()
    }

    /// The status code, if the last attempt failed with one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } | Self::RateLimited { status, .. } => Some(*status),
            Self::Deadline { last: Some(last), .. } => last.status(),
            _ => None,
        }
    }
}

impl Failure for Error {
    fn class(&self) -> Class {
        match self {
            Self::CaFile { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Class::NoInput,
            Self::CaFile { source, .. } => Class::of_io(source, Class::Io),
            Self::CaFileEmpty { .. } => Class::Data,
            Self::Client(_)
            | Self::Scheme { .. }
            | Self::Proxy { .. }
            | Self::PlainBearer { .. }
            | Self::Header { .. } => Class::Config,
            Self::Transport { trouble, .. } => match trouble {
                // `Request`: a URL that the URL standard allows and HTTP does not; a server may have sent it.
                Trouble::Certificate | Trouble::Tls | Trouble::Request => Class::Config,
                Trouble::NotHttp => Class::Protocol,
                _ => Class::TempFail,
            },
            Self::ProxyRefused { .. } => Class::NoPerm,
            Self::Status { .. } | Self::Deadline { .. } | Self::RateLimited { .. } => Class::TempFail,
            Self::BodyTooLarge { .. }
            | Self::RedirectLoop { .. }
            | Self::RedirectInsecure { .. }
            | Self::RedirectBroken { .. } => Class::Protocol,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::CaFile { .. } | Self::CaFileEmpty { .. } => {
                "Pass a readable file with PEM certificates, or omit the option."
            }
            Self::Proxy { variable, .. } => {
                return Some(format!(
                    "Set {variable} to http://HOST:PORT or https://HOST:PORT, or unset it. GitHub's runner supports no \
                     other kind of proxy."
                ));
            }
            Self::ProxyRefused { proxy, .. } => {
                let variable = &proxy.variable;
                let place = if variable.starts_with('-') { "" } else { "--proxy or " };
                return Some(format!(
                    "Set the user and the password in {place}{variable}, as http://USER:PASSWORD@HOST:PORT, with special \
                     characters as %XX."
                ));
            }
            Self::PlainBearer { .. } => {
                "Use https://. On a trusted network, pass --allow-http: anyone on the network can then read the token."
            }
            Self::Transport { trouble: Trouble::NoTunnel, .. } => {
                "Check that the proxy allows this host, and can reach it; its log says why."
            }
            Self::Transport { trouble, proxy: Some(proxy), .. } if trouble.is_connecting() => {
                return Some(format!(
                    "Check {}: the proxy must be reachable from this machine, and allow the connection.",
                    proxy.variable
                ));
            }
            Self::Transport { trouble: Trouble::Certificate, cause, .. } => {
                tls::certificate_hint(Causes::of(cause).fault.as_ref())
            }
            Self::Transport { trouble: Trouble::NotYetValid, .. } => {
                "Set the clock, for example with `timedatectl set-ntp true`, and try again."
            }
            Self::Transport { trouble: Trouble::Tls, .. } => {
                "Check that the port serves HTTPS, and that no proxy is in between."
            }
            Self::Transport { trouble: Trouble::Dns, .. } => {
                "Check the host name, and this machine's name servers and proxy settings."
            }
            Self::Transport { trouble, .. } if trouble.passes() => {
                "Check that this machine can reach the host, and try again."
            }
            Self::Deadline { last: Some(last), .. } => return last.hint(),
            Self::Status { .. } | Self::Deadline { .. } => "Try again later.",
            Self::RateLimited { until, .. } => return Some(format!("Try again after {until}.")),
            Self::RedirectInsecure { .. } => "Ask the server's administrator to redirect to https only.",
            _ => return None,
        };
        Some(hint.to_owned())
    }

    fn situation(&self) -> &'static Situation {
        super::situations::of(self)
    }
}
