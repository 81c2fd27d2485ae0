//! The situation of each error of a request.

use super::error::Error;
use super::trouble::Trouble;
use crate::error::situation::{self, Situation};

pub(super) fn of(error: &Error) -> &'static Situation {
    match error {
        Error::CaFile { .. } | Error::CaFileEmpty { .. } => &situation::CA_FILE,
        Error::Client(_) => &situation::HTTP_CLIENT,
        Error::Scheme { .. } | Error::Header { .. } => &situation::REQUEST_INVALID,
        Error::Proxy { .. } => &situation::PROXY,
        Error::PlainBearer { .. } => &situation::NOT_ENCRYPTED,
        Error::Transport { trouble, .. } => of_trouble(*trouble),
        Error::ProxyRefused { .. } => &situation::PROXY_REFUSED,
        Error::Status { .. } => &situation::SERVER_FAILED,
        // Each of its attempts ended in the same class.
        Error::Deadline { last: Some(last), .. } => match of(last) {
            found if found.ends_with(crate::error::Class::TempFail) => found,
            _ => &situation::NOT_REACHED,
        },
        Error::Deadline { last: None, .. } => &situation::NOT_REACHED,
        Error::RateLimited { .. } => &situation::RATE_LIMITED,
        Error::BodyTooLarge { .. } => &situation::ANSWER_TOO_LARGE,
        Error::RedirectLoop { .. } | Error::RedirectInsecure { .. } | Error::RedirectBroken { .. } => {
            &situation::REDIRECT
        }
    }
}

fn of_trouble(trouble: Trouble) -> &'static Situation {
    match trouble {
        Trouble::Dns => &situation::NAME_NOT_RESOLVED,
        Trouble::Refused | Trouble::ConnectTimeout | Trouble::NoTunnel | Trouble::Connect => {
            &situation::NOT_REACHED
        }
        Trouble::Stalled | Trouble::Cut => &situation::CONNECTION_CUT,
        Trouble::Certificate => &situation::CERTIFICATE,
        Trouble::NotYetValid => &situation::CERTIFICATE_NOT_YET_VALID,
        Trouble::Tls => &situation::TLS,
        Trouble::NotHttp => &situation::NOT_HTTP,
        Trouble::Request => &situation::REQUEST_INVALID,
    }
}
