//! Selects the proxy for a request by exactly the rules of GitHub's runner: otherwise an installation could succeed and
//! its runner never come online, or the other way round.
//!
//! The variables are passed in; this module does not read the environment.

use super::Error;
use crate::secret;
use std::collections::HashMap;
use std::fmt;
use url::{Host, Url};

/// The proxies in a set of environment variables, and the hosts that are reached directly.
#[derive(Clone, Default)]
pub struct ProxyRules {
    http: Option<Setting>,
    https: Option<Setting>,
    direct: Vec<Bypass>,
}

/// A proxy, and the environment variable or the option that sets it.
#[derive(Clone)]
struct Setting {
    url: Url,
    variable: String,
}

/// A proxy as messages show it: `proxy http://proxy:3128 (from https_proxy)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyInUse {
    /// Its URL, redacted.
    pub url: String,
    /// The environment variable or the option that sets it.
    pub variable: String,
}

impl fmt::Display for ProxyInUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "proxy {} (from {})", self.url, self.variable)
    }
}

/// One element of `no_proxy`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Bypass {
    All,
    Host { suffix: String, port: Option<String> },
}

impl ProxyRules {
    /// Reads the rules in `vars`: `https_proxy` for https only and `http_proxy` for http only, lower case before upper
    /// case, with `http://` if a scheme is missing; `no_proxy` is a list of host suffixes with an optional port, or
    /// `*`, in which literal IPv4 addresses are ignored. An empty variable counts as unset.
    ///
    /// # Errors
    /// [`Error::Proxy`]: a proxy that neither runup nor the runner can use. If it were ignored, requests would bypass
    /// the proxy, or the runner would fail later.
    pub fn from_vars(vars: impl IntoIterator<Item = (String, String)>) -> Result<Self, Error> {
        let vars: HashMap<String, String> = vars.into_iter().collect();
        let value = |name: &str| {
            [name.to_owned(), name.to_ascii_uppercase()]
                .into_iter()
                .filter_map(|name| vars.get(&name).map(|value| (name, value.trim().to_owned())))
                .find(|(_, value)| !value.is_empty())
        };
        let proxy = |name| {
            let Some((variable, text)) = value(name) else { return Ok(None) };
            match proxy_url(&text) {
                Ok(url) => Ok(Some(Setting { url, variable })),
                Err(problem) => Err(Error::Proxy { variable, problem }),
            }
        };
        Ok(Self {
            http: proxy("http_proxy")?,
            https: proxy("https_proxy")?,
            direct: value("no_proxy").map(|(_, list)| bypasses(&list)).unwrap_or_default(),
        })
    }

    /// The same for variables that an option has set: messages name the option.
    ///
    /// # Errors
    /// [`Error::Proxy`].
    pub fn from_option(
        option: &str,
        vars: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        let named = |setting: Setting| Setting { variable: option.to_owned(), ..setting };
        match Self::from_vars(vars) {
            Ok(rules) => Ok(Self { http: rules.http.map(named), https: rules.https.map(named), ..rules }),
            Err(Error::Proxy { problem, .. }) => Err(Error::Proxy { variable: option.to_owned(), problem }),
            Err(error) => Err(error),
        }
    }

    /// The proxy for `url`, with its credentials as user information; `None` is a direct connection. Loopback is always
    /// direct.
    #[must_use]
    pub fn proxy_for(&self, url: &Url) -> Option<&Url> {
        self.setting_for(url).map(|setting| &setting.url)
    }

    /// The proxy for `url` as messages show it.
    pub(super) fn proxy_in_use(&self, url: &Url) -> Option<ProxyInUse> {
        let Setting { url, variable } = self.setting_for(url)?;
        let url = super::redact(url).trim_end_matches('/').to_owned();
        Some(ProxyInUse { url, variable: variable.clone() })
    }

    fn setting_for(&self, url: &Url) -> Option<&Setting> {
        let setting = match url.scheme() {
            "https" => self.https.as_ref(),
            "http" => self.http.as_ref(),
            _ => None,
        }?;
        let direct = is_loopback(url) || self.direct.iter().any(|bypass| bypass.covers(url));
        (!direct).then_some(setting)
    }
}

impl fmt::Debug for ProxyRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyRules")
            .field("http", &self.http.as_ref().map(|setting| super::redact(&setting.url)))
            .field("https", &self.https.as_ref().map(|setting| super::redact(&setting.url)))
            .field("direct", &self.direct)
            .finish()
    }
}

impl Bypass {
    fn covers(&self, url: &Url) -> bool {
        let Self::Host { suffix, port } = self else { return true };
        let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
        let host_matches = match suffix.strip_prefix('.') {
            Some(_) => host.ends_with(suffix.as_str()),
            None => host == *suffix || host.ends_with(&format!(".{suffix}")),
        };
        let port_matches = port
            .as_ref()
            .is_none_or(|port| url.port_or_known_default().is_some_and(|number| number.to_string() == *port));
        host_matches && port_matches
    }
}

/// What is wrong with the URL of a proxy. It does not quote the URL, which may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyProblem {
    /// `socks5://…`, `ftp://…`.
    #[error("its scheme is not http or https")]
    Scheme,
    /// `http://`, `:3128`.
    #[error("it has no host")]
    NoHost,
    /// `proxy:0`, `proxy:99999`, `proxy:port`.
    #[error("its port is not a number from 1 to 65535")]
    Port,
    /// White space, or another error of the URL parser.
    #[error("it is not a URL")]
    NotUrl,
}

fn proxy_url(text: &str) -> Result<Url, ProxyProblem> {
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(ProxyProblem::NotUrl);
    }
    let whole = match text.split_once("://") {
        Some((scheme, _)) if ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) => {
            text.to_owned()
        }
        Some(_) => return Err(ProxyProblem::Scheme),
        None => format!("http://{text}"),
    };
    // The parser skips further slashes, and would take the first segment of a path for the host.
    let rest = whole.split_once("://").map_or("", |(_, rest)| rest);
    if rest.is_empty() || rest.starts_with(['/', '\\', '?', '#', ':']) {
        return Err(ProxyProblem::NoHost);
    }
    let url = Url::parse(&whole).map_err(|error| match error {
        url::ParseError::EmptyHost => ProxyProblem::NoHost,
        url::ParseError::InvalidPort => ProxyProblem::Port,
        _ => ProxyProblem::NotUrl,
    })?;
    if let Some(password) = url.password() {
        // A proxy may send the password back in an answer.
        secret::remember(password);
        secret::remember(&percent_encoding::percent_decode_str(password).decode_utf8_lossy());
    }
    match url.port() {
        Some(0) => Err(ProxyProblem::Port),
        _ if url.has_host() => Ok(url),
        _ => Err(ProxyProblem::NoHost),
    }
}

/// The hosts of a `no_proxy` that the runner ignores: IP addresses, networks and patterns.
#[must_use]
pub fn ignored(no_proxy: &str) -> Vec<&str> {
    let pieces = no_proxy.split(',').map(str::trim).filter(|piece| !piece.is_empty() && *piece != "*");
    let odd =
        |piece: &&str| piece.parse::<std::net::IpAddr>().is_ok() || piece.contains(['/', '*', ';', ' ']);
    pieces.filter(odd).collect()
}

fn bypasses(list: &str) -> Vec<Bypass> {
    list.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty() && item.parse::<std::net::Ipv4Addr>().is_err())
        .map(|item| match item.split_once(':') {
            _ if item == "*" => Bypass::All,
            Some((host, port)) => {
                Bypass::Host { suffix: host.to_ascii_lowercase(), port: Some(port.to_owned()) }
            }
            None => Bypass::Host { suffix: item.to_ascii_lowercase(), port: None },
        })
        .collect()
}

/// Whether `url` points to this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(vars: &[(&str, &str)], url: &str) -> Option<String> {
        let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let rules = ProxyRules::from_vars(vars).unwrap();
        rules.proxy_for(&Url::parse(url).unwrap()).map(ToString::to_string)
    }

    #[test]
    fn each_scheme_has_its_own_proxy_and_no_other() {
        let vars = [("http_proxy", "one:3128"), ("HTTPS_PROXY", "https://u:p%40@two:3128")];
        assert_eq!(through(&vars, "http://host/").as_deref(), Some("http://one:3128/"));
        assert_eq!(through(&vars, "https://host/").as_deref(), Some("https://u:p%40@two:3128/"));
        assert_eq!(through(&vars[..1], "https://host/"), None);
        assert_eq!(through(&vars[1..], "http://host/"), None);
    }

    #[test]
    fn lower_case_comes_first_and_an_empty_one_does_not_count() {
        let url = "http://host/";
        assert_eq!(
            through(&[("http_proxy", "low"), ("HTTP_PROXY", "up")], url).as_deref(),
            Some("http://low/")
        );
        assert_eq!(through(&[("http_proxy", " "), ("HTTP_PROXY", "up")], url).as_deref(), Some("http://up/"));
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_refused_by_the_name_of_its_variable() {
        use ProxyProblem as Problem;
        for (text, expected) in [
            ("socks5://proxy:1080", Problem::Scheme),
            ("SOCKS5H://user:canary@proxy", Problem::Scheme),
            ("ftp://proxy", Problem::Scheme),
            ("http://", Problem::NoHost),
            ("http:///proxy", Problem::NoHost),
            ("https://:3128", Problem::NoHost),
            (":3128", Problem::NoHost),
            ("http://user:canary@", Problem::NoHost),
            ("http://user:canary@:3128", Problem::NoHost),
            ("proxy:99999", Problem::Port),
            ("proxy:0", Problem::Port),
            ("http://user:canary@proxy:port", Problem::Port),
            ("http://pro xy:3128", Problem::NotUrl),
            ("http://[::1", Problem::NotUrl),
            ("http://pro<xy", Problem::NotUrl),
        ] {
            for name in ["http_proxy", "HTTPS_PROXY"] {
                let error = ProxyRules::from_vars([(name.to_owned(), text.to_owned())]).unwrap_err();
                let said = format!("{error} {error:?} {:?}", crate::error::Failure::hint(&error));
                let Error::Proxy { variable, problem } = error else { panic!("{said}") };
                assert_eq!((variable.as_str(), problem), (name, expected), "{text}");
                assert!(!said.contains("canary"), "{said}");
            }
        }
        let fine = ["proxy", "proxy:3128", "HTTP://proxy", "http://u:p@[::1]:3128/"];
        for text in fine {
            assert!(ProxyRules::from_vars([("http_proxy".to_owned(), text.to_owned())]).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_proxy_of_an_option_is_shown_with_the_option() {
        let vars = |proxy: &str| [("https_proxy".to_owned(), proxy.to_owned())];
        let rules = ProxyRules::from_option("--proxy", vars("http://p:3128")).unwrap();
        let shown = rules.proxy_in_use(&Url::parse("https://host/").unwrap()).unwrap().to_string();
        assert_eq!(shown, "proxy http://p:3128 (from --proxy)");
        let error = ProxyRules::from_option("--proxy", vars("socks5://p")).unwrap_err().to_string();
        assert!(error.starts_with("the proxy in --proxy cannot be used"), "{error}");
    }

    #[test]
    fn no_proxy_follows_the_runner() {
        let direct = |list: &str, url: &str| {
            through(&[("http_proxy", "p"), ("https_proxy", "p"), ("no_proxy", list)], url).is_none()
        };
        assert!(direct("*", "https://github.com/"));
        assert!(direct("GitHub.com", "https://github.com/"));
        assert!(direct("github.com", "https://api.github.com/"));
        assert!(direct("a, .github.com ,b", "https://api.github.com/"));
        assert!(!direct(".github.com", "https://github.com/"));
        assert!(!direct("github.com", "https://notgithub.com/"));
        assert!(direct("host:8443", "https://host:8443/"));
        assert!(direct("host:443", "https://host/"));
        assert!(!direct("host:8443", "https://host/"));
        assert!(!direct("10.0.0.1", "http://10.0.0.1/"));
    }

    #[test]
    fn loopback_is_always_direct() {
        for url in ["http://localhost:1/", "http://127.0.0.1/", "http://127.9.9.9/", "http://[::1]/"] {
            assert_eq!(through(&[("http_proxy", "p")], url), None);
        }
    }

    #[test]
    fn the_credentials_of_a_proxy_are_not_printed() {
        let rules =
            ProxyRules::from_vars([("http_proxy".to_owned(), "http://u:canary@p".to_owned())]).unwrap();
        assert!(!format!("{rules:?}").contains("canary"));
    }
}
