//! Faults, for testing: which route, how often, and what happens instead.

use super::route;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::str::FromStr;

/// A fault. Faults are tried in the order in which they were added; all that match a request apply to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// A route's name, or `*` for every route.
    pub route: String,
    /// How many requests are served normally first.
    #[serde(default)]
    pub skip: u32,
    /// How many requests are affected; `None` means all of them.
    #[serde(default)]
    pub count: Option<u32>,
    /// What happens.
    #[serde(flatten)]
    pub kind: FaultKind,
}

/// What happens to a request. Numbers of bytes are those of the body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum FaultKind {
    /// Answers with this status; the request is not carried out.
    Status {
        /// The status.
        code: u16,
        /// The body; GitHub's error document if there is none.
        #[serde(default)]
        body: Option<String>,
        /// More headers.
        #[serde(default)]
        headers: BTreeMap<String, String>,
    },
    /// Waits for this time before the request is carried out and answered.
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// Carries out the request at once, and answers later: a client that gave up does not know that it was carried out.
    DelayAfter {
        /// Milliseconds.
        ms: u64,
    },
    /// Sends the headers and this number of bytes, and then stalls for ever.
    Stall {
        /// Bytes.
        #[serde(default)]
        after: usize,
    },
    /// Closes the connection after this number of bytes.
    Cut {
        /// Bytes.
        after: usize,
    },
    /// Sends the body at this speed.
    Slow {
        /// Bytes a second.
        bytes_per_second: u64,
    },
    /// Flips the bits of the byte at this offset of the document.
    Corrupt {
        /// Offset from the start of the whole document, whatever range was requested.
        at: usize,
    },
    /// Announces a length that is wrong by this number of bytes.
    WrongLength {
        /// Bytes, more or fewer.
        by: i64,
    },
    /// Ignores `Range` and sends everything.
    NoRange,
    /// Redirects the client; without a URL, to the same archive under another host name.
    Redirect {
        /// Where to.
        #[serde(default)]
        url: Option<String>,
    },
    /// Issues a token that has already expired; on routes that take tokens, refuses them as expired.
    ExpiredToken,
    /// An HTML page instead of JSON.
    Html {
        /// Its status.
        status: u16,
    },
    /// A list without entries.
    EmptyList,
    /// Downloads without `sha256_checksum`.
    NoChecksum,
    /// Downloads with an empty `sha256_checksum`.
    EmptyChecksum,
    /// Downloads with an invalid `sha256_checksum`.
    MalformedChecksum,
    /// Downloads with a wrong checksum.
    WrongChecksum,
    /// Half a JSON document.
    NotJson,
    /// A wrong `Date`.
    Clock {
        /// Seconds, ahead or behind.
        seconds: i64,
    },
    /// 403, with a primary rate limit that is exceeded for this time.
    RateLimit {
        /// Seconds.
        seconds: u64,
    },
    /// 429, a secondary rate limit, with `Retry-After`.
    RetryAfter {
        /// Seconds.
        seconds: u64,
    },
    /// Carries out the request, and answers 502 like a gateway that has lost the answer: a retry meets the result.
    LostAnswer,
    /// Only for `register`: an older server, which adds the runner without a feature that it does not support. The fake
    /// `config.sh` then fails, and the runner is kept.
    Unsupported {
        /// The feature.
        flag: Unsupported,
    },
    /// Only for `message`: the token service says of a deleted runner that its registration was not found, and the fake
    /// listener retries for ever, as GitHub's can.
    Forgotten,
    /// Only for `session`: tells the fake listener to exit with this code.
    Exit {
        /// The code.
        code: u8,
    },
    /// Only for `runner-registration`: tells the fake `config.sh` to misbehave.
    Script {
        /// How.
        act: Act,
    },
}

/// A feature that older servers do not support.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unsupported {
    /// `--ephemeral`
    Ephemeral,
    /// `--disableupdate`
    DisableUpdate,
}

impl Unsupported {
    /// Its name in the error message of `config.sh`.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ephemeral => "Ephemeral",
            Self::DisableUpdate => "DisableUpdate",
        }
    }
}

/// How the fake `config.sh` misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Sleeps for ever before it registers.
    Hang,
    /// Sleeps for ever between registration and `.runner`.
    HangAfterRegister,
    /// Exits 1 between registration and `.runner`.
    FailAfterRegister,
    /// Exits 1 after `.runner` was written.
    FailAfterRunnerFile,
    /// Exits 0 and does nothing.
    SucceedWithoutRegister,
    /// Prints its token, and continues.
    PrintSecret,
}

impl Act {
    const ALL: [(&'static str, Self); 6] = [
        ("hang", Self::Hang),
        ("hang-after-register", Self::HangAfterRegister),
        ("fail-after-register", Self::FailAfterRegister),
        ("fail-after-runner-file", Self::FailAfterRunnerFile),
        ("succeed-without-register", Self::SucceedWithoutRegister),
        ("print-secret", Self::PrintSecret),
    ];

    /// Its word in the script.
    pub(super) fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, act)| *act == self).map_or("", |(word, _)| *word)
    }
}

impl Fault {
    /// A fault for every request of `route`.
    pub fn new(route: impl Into<String>, kind: FaultKind) -> Self {
        Self { route: route.into(), skip: 0, count: None, kind }
    }

    /// The same, only for the first `count` requests.
    #[must_use]
    pub fn times(self, count: u32) -> Self {
        Self { count: Some(count), ..self }
    }

    /// The same, after `skip` requests have passed.
    #[must_use]
    pub fn skipping(self, skip: u32) -> Self {
        Self { skip, ..self }
    }

    /// Whether it affects this request of the route `name`; counts the request.
    pub(super) fn strikes(&mut self, name: &str) -> bool {
        if self.route != "*" && self.route != name {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        match &mut self.count {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }
}

/// Why the text of a fault is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultTextError {
    /// The format is wrong.
    #[error("{text:?} is not in the format ROUTE[+SKIP][:COUNT]:KIND[=VALUE]")]
    Format {
        /// The text.
        text: String,
    },
    /// The route does not exist.
    #[error("{route:?} is not a route of the sandbox; use one of {}, *", route::NAMES.join(", "))]
    Route {
        /// The route.
        route: String,
    },
    /// The kind does not exist.
    #[error("{kind:?} is not a kind of fault; use one of {KINDS}")]
    Kind {
        /// The kind.
        kind: String,
    },
    /// The value is not valid for the kind.
    #[error("the fault {kind:?} does not accept the value {value:?}")]
    Value {
        /// The kind.
        kind: String,
        /// The value.
        value: String,
    },
}

const KINDS: &str = "status=CODE, delay=MS, delay-after=MS, stall[=BYTES], cut=BYTES, slow=BYTES_PER_SECOND, \
                     corrupt=OFFSET, wrong-length=BYTES, no-range, redirect[=URL], expired-token, html[=STATUS], \
                     empty-list, no-checksum, empty-checksum, malformed-checksum, wrong-checksum, not-json, \
                     clock=SECONDS, rate-limit=SECONDS, retry-after=SECONDS, lost-answer, forgotten, unsupported=FLAG, exit=CODE, script=ACT";

impl FromStr for Fault {
    type Err = FaultTextError;

    /// Parses `ROUTE[+SKIP][:COUNT]:KIND[=VALUE]`, for example `archive:1:cut=2000` or `*:delay=200`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || FaultTextError::Format { text: text.to_owned() };
        let (target, rest) = text.split_once(':').ok_or_else(form)?;
        let (route, skip) = match target.split_once('+') {
            None => (target, 0),
            Some((route, skip)) => (route, skip.parse().map_err(|_| form())?),
        };
        // The value can be a URL, so only a colon before the `=` of the kind separates a count.
        let head = rest.split('=').next().unwrap_or(rest);
        let (count, kind) = match head.split_once(':') {
            None => (None, rest),
            Some((count, _)) => (Some(count.parse().map_err(|_| form())?), &rest[count.len() + 1..]),
        };
        let fault = Self { route: route.to_owned(), skip, count, kind: kind.parse()? };
        fault.check()?;
        Ok(fault)
    }
}

impl Fault {
    /// Refuses a route that does not exist: the fault would never apply, and a test would prove nothing.
    pub(super) fn check(&self) -> Result<(), FaultTextError> {
        if self.route == "*" || route::NAMES.contains(&self.route.as_str()) {
            return Ok(());
        }
        Err(FaultTextError::Route { route: self.route.clone() })
    }
}

impl FromStr for FaultKind {
    type Err = FaultTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, value) = match text.split_once('=') {
            None => (text, None),
            Some((kind, value)) => (kind, Some(value)),
        };
        let bad =
            || FaultTextError::Value { kind: kind.to_owned(), value: value.unwrap_or_default().to_owned() };
        let simple = |it: Self| if value.is_none() { Ok(it) } else { Err(bad()) };
        match kind {
            "status" => Ok(Self::Status {
                code: number(value).ok_or_else(bad)?,
                body: None,
                headers: BTreeMap::new(),
            }),
            "delay" => Ok(Self::Delay { ms: wait(value).ok_or_else(bad)? }),
            "delay-after" => Ok(Self::DelayAfter { ms: wait(value).ok_or_else(bad)? }),
            "stall" => Ok(Self::Stall { after: number(value.or(Some("0"))).ok_or_else(bad)? }),
            "cut" => Ok(Self::Cut { after: number(value).ok_or_else(bad)? }),
            "slow" => match number(value).ok_or_else(bad)? {
                0 => Err(bad()),
                bytes_per_second => Ok(Self::Slow { bytes_per_second }),
            },
            "corrupt" => Ok(Self::Corrupt { at: number(value).ok_or_else(bad)? }),
            "wrong-length" => Ok(Self::WrongLength { by: number(value).ok_or_else(bad)? }),
            "no-range" => simple(Self::NoRange),
            "redirect" => Ok(Self::Redirect { url: value.map(str::to_owned) }),
            "expired-token" => simple(Self::ExpiredToken),
            "html" => Ok(Self::Html { status: number(value.or(Some("200"))).ok_or_else(bad)? }),
            "empty-list" => simple(Self::EmptyList),
            "no-checksum" => simple(Self::NoChecksum),
            "empty-checksum" => simple(Self::EmptyChecksum),
            "malformed-checksum" => simple(Self::MalformedChecksum),
            "wrong-checksum" => simple(Self::WrongChecksum),
            "not-json" => simple(Self::NotJson),
            "clock" => Ok(Self::Clock { seconds: number(value).ok_or_else(bad)? }),
            "rate-limit" => Ok(Self::RateLimit { seconds: number(value).ok_or_else(bad)? }),
            "retry-after" => Ok(Self::RetryAfter { seconds: number(value).ok_or_else(bad)? }),
            "lost-answer" => simple(Self::LostAnswer),
            "forgotten" => simple(Self::Forgotten),
            "unsupported" => match value {
                Some("ephemeral") => Ok(Self::Unsupported { flag: Unsupported::Ephemeral }),
                Some("disable-update") => Ok(Self::Unsupported { flag: Unsupported::DisableUpdate }),
                _ => Err(bad()),
            },
            "exit" => Ok(Self::Exit { code: number(value).ok_or_else(bad)? }),
            "script" => {
                let act = Act::ALL.iter().find(|(word, _)| Some(*word) == value).ok_or_else(bad)?;
                Ok(Self::Script { act: act.1 })
            }
            _ => Err(FaultTextError::Kind { kind: kind.to_owned() }),
        }
    }
}

fn number<T: FromStr>(value: Option<&str>) -> Option<T> {
    value?.parse().ok()
}

/// Milliseconds, or `forever`.
fn wait(value: Option<&str>) -> Option<u64> {
    if value == Some("forever") { Some(u64::MAX) } else { number(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Fault {
        text.parse().unwrap()
    }

    #[test]
    fn the_command_line_form_is_read() {
        assert_eq!(
            read("archive:1:cut=2000"),
            Fault::new("archive", FaultKind::Cut { after: 2000 }).times(1)
        );
        assert_eq!(read("*:delay=5"), Fault::new("*", FaultKind::Delay { ms: 5 }));
        assert_eq!(
            read("register+2:3:delay-after=forever"),
            Fault::new("register", FaultKind::DelayAfter { ms: u64::MAX }).times(3).skipping(2)
        );
        assert_eq!(
            read("archive:redirect=http://h:1/x?a=b"),
            Fault::new("archive", FaultKind::Redirect { url: Some("http://h:1/x?a=b".to_owned()) })
        );
        assert_eq!(read("meta:wrong-length=-3").kind, FaultKind::WrongLength { by: -3 });
        assert_eq!(
            read("runner-registration:script=print-secret").kind,
            FaultKind::Script { act: Act::PrintSecret }
        );
    }

    #[test]
    fn what_would_never_strike_is_refused() {
        let refused = |text: &str| text.parse::<Fault>().unwrap_err();
        assert!(matches!(refused("archive"), FaultTextError::Format { .. }));
        assert!(matches!(refused("archiv:cut=1"), FaultTextError::Route { .. }));
        assert!(matches!(refused("archive:bite"), FaultTextError::Kind { .. }));
        assert!(matches!(refused("archive:cut=many"), FaultTextError::Value { .. }));
        assert!(matches!(refused("archive:no-range=1"), FaultTextError::Value { .. }));
        assert!(matches!(refused("archive:slow=0"), FaultTextError::Value { .. }));
    }

    #[test]
    fn every_kind_in_the_help_is_read() {
        for kind in KINDS.split(", ") {
            let text = kind
                .replace("[=", "=")
                .replace(']', "")
                .replace("=ACT", "=hang")
                .replace("=FLAG", "=ephemeral");
            let text = text.split_once('=').map_or(text.clone(), |(name, value)| {
                let value =
                    if value.chars().all(|c| c.is_ascii_uppercase() || c == '_') { "7" } else { value };
                format!("{name}={value}")
            });
            text.parse::<FaultKind>().unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }

    #[test]
    fn skip_and_count_choose_the_requests() {
        let mut fault = read("meta+1:2:not-json");
        let struck: Vec<bool> = (0..5).map(|_| fault.strikes("meta")).collect();
        assert_eq!(struck, [false, true, true, false, false]);
        assert!(!read("meta:not-json").strikes("archive"));
        assert!(read("*:not-json").strikes("archive"));
    }

    #[test]
    fn json_has_the_kind_beside_the_route() {
        let fault: Fault =
            serde_json::from_str(r#"{"route":"archive","count":1,"kind":"cut","after":9}"#).unwrap();
        assert_eq!(fault, Fault::new("archive", FaultKind::Cut { after: 9 }).times(1));
        let text = serde_json::to_string(&fault).unwrap();
        assert_eq!(serde_json::from_str::<Fault>(&text).unwrap(), fault);
    }
}
