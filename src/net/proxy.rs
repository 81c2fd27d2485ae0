//! Which proxy a request goes through, by exactly the rules of GitHub's runner: if the two disagreed, an installation
//! could succeed and its runner never come online, or the other way round.
//!
//! The variables come in as a value; nobody here reads the environment.

use std::collections::HashMap;
use std::fmt;
use url::{Host, Url};

/// The proxies of a set of environment variables, and the hosts that are reached directly.
#[derive(Clone, Default)]
pub struct ProxyRules {
    http: Option<Url>,
    https: Option<Url>,
    direct: Vec<Bypass>,
}

/// One element of `no_proxy`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Bypass {
    All,
    Host { suffix: String, port: Option<String> },
}

impl ProxyRules {
    /// The rules in `vars`: `https_proxy` for https only and `http_proxy` for http only, lower case before upper case,
    /// `http://` where a scheme is missing; `no_proxy` is a list of host suffixes with an optional port, or `*`, in
    /// which literal IPv4 addresses are ignored. A proxy that is not a URL is ignored too, with a warning.
    pub fn from_vars(vars: impl IntoIterator<Item = (String, String)>) -> Self {
        let vars: HashMap<String, String> = vars.into_iter().collect();
        let value = |name: &str| {
            [name.to_owned(), name.to_ascii_uppercase()]
                .iter()
                .filter_map(|name| vars.get(name))
                .map(|value| value.trim().to_owned())
                .find(|value| !value.is_empty())
        };
        Self {
            http: value("http_proxy").and_then(|text| proxy_url("http_proxy", &text)),
            https: value("https_proxy").and_then(|text| proxy_url("https_proxy", &text)),
            direct: value("no_proxy").map(|list| bypasses(&list)).unwrap_or_default(),
        }
    }

    /// The proxy for `url`, with its credentials as user information; `None` is a direct connection. Loopback is
    /// always direct.
    #[must_use]
    pub fn proxy_for(&self, url: &Url) -> Option<&Url> {
        let proxy = match url.scheme() {
            "https" => self.https.as_ref(),
            "http" => self.http.as_ref(),
            _ => None,
        }?;
        let direct = is_loopback(url) || self.direct.iter().any(|bypass| bypass.covers(url));
        (!direct).then_some(proxy)
    }
}

impl fmt::Debug for ProxyRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyRules")
            .field("http", &self.http.as_ref().map(super::redact))
            .field("https", &self.https.as_ref().map(super::redact))
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

fn proxy_url(name: &str, text: &str) -> Option<Url> {
    let lower = text.to_ascii_lowercase();
    let text = if lower.starts_with("http://") || lower.starts_with("https://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let url = Url::parse(&text).ok().filter(Url::has_host);
    if url.is_none() {
        tracing::warn!(variable = name, "ignoring a proxy that is not a URL");
    }
    url
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

fn is_loopback(url: &Url) -> bool {
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
        let rules =
            ProxyRules::from_vars(vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
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
        assert_eq!(through(&[("http_proxy", "http://:x:/")], url), None);
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
        let rules = ProxyRules::from_vars([("http_proxy".to_owned(), "http://u:canary@p".to_owned())]);
        assert!(!format!("{rules:?}").contains("canary"));
    }
}
