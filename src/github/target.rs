//! What `--url` stands for: the scope, the URL that `config.sh` gets, and the REST API that serves it.

use super::error::Error;
use super::scope::{NameError, RepositoryName, Scope, Slug};
use crate::error::situation::{self, Situation};
use crate::error::{Class, Failure};
use percent_encoding::percent_decode_str;
use std::fmt;
use url::{Host, Url};

/// A scope on a GitHub server.
///
/// The URL is normalised because GitHub's runner does not do it: for a URL with `www.` it calls `api.www.github.com`,
/// and for one with `.git` it finds nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The normalised URL of the scope's page, for `config.sh --url`.
    pub url: Url,
    /// What the runners belong to.
    pub scope: Scope,
    /// The base URL of the REST API, without a trailing slash if it has a path.
    pub api: Url,
}

/// Why a URL is not that of a scope. The quoted part holds neither credentials nor a query.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// It is not a URL.
    #[error("{given:?} is not a URL")]
    Malformed {
        /// The URL, redacted.
        given: String,
        /// What the parser said.
        #[source]
        source: url::ParseError,
    },
    /// It has white space, control characters or `..` in its path.
    #[error("{given:?} is not a usable URL: it has {what}")]
    Unclean {
        /// The URL, redacted.
        given: String,
        /// What it has.
        what: &'static str,
    },
    /// `github.com/octo-org`.
    #[error("the URL {given:?} has no scheme")]
    NoScheme {
        /// The URL, redacted.
        given: String,
        /// The URL that was probably meant.
        suggestion: String,
    },
    /// `ssh://…`, `git@…`, `ftp://…`.
    #[error("the URL {given:?} does not begin with https://")]
    NotHttp {
        /// The URL, redacted.
        given: String,
        /// The URL that was probably meant.
        suggestion: Option<String>,
    },
    /// Plain HTTP to another machine.
    #[error("refused to send credentials to {given} without encryption")]
    Plain {
        /// The URL, redacted.
        given: String,
    },
    /// `https://user:password@…`.
    #[error("the URL for {host} contains credentials")]
    Credentials {
        /// The host.
        host: String,
    },
    /// `https://api.github.com/orgs/octo-org`.
    #[error("{given} is a URL of the REST API, not of an enterprise, organization or repository")]
    ApiAddress {
        /// The URL, redacted.
        given: String,
        /// The URL that was probably meant.
        suggestion: String,
    },
    /// No path, a path that is too long, or one that GitHub uses for pages of its own.
    #[error("{given} is not the URL of an enterprise, organization or repository")]
    NoScope {
        /// The URL, redacted.
        given: String,
        /// The URL that was probably meant.
        suggestion: Option<String>,
    },
    /// A name that GitHub does not allow.
    #[error("the {kind} name {name:?} in {given} is not valid")]
    BadName {
        /// `enterprise`, `organization`, `owner` or `repository`.
        kind: &'static str,
        /// The name.
        name: String,
        /// The URL, redacted.
        given: String,
        /// What is wrong with it.
        #[source]
        source: NameError,
    },
}

impl Failure for TargetError {
    fn class(&self) -> Class {
        Class::Usage
    }

    fn hint(&self) -> Option<String> {
        let suggested = |suggestion: &str| Some(format!("Did you mean {suggestion} ?"));
        match self {
            Self::NoScheme { suggestion, .. }
            | Self::ApiAddress { suggestion, .. }
            | Self::NotHttp { suggestion: Some(suggestion), .. }
            | Self::NoScope { suggestion: Some(suggestion), .. } => suggested(suggestion),
            Self::Plain { .. } => Some(
                "Use https://. On a trusted network, pass --allow-http: anyone on the network can then read the token."
                    .to_owned(),
            ),
            Self::Credentials { .. } => Some(
                "Remove them from the URL, and pass the token with RUNUP_TOKEN or --token-file.".to_owned(),
            ),
            _ => Some("Use https://HOST/ORG, https://HOST/OWNER/REPO or https://HOST/enterprises/SLUG.".to_owned()),
        }
    }

    fn situation(&self) -> &'static Situation {
        match self {
            Self::Malformed { .. }
            | Self::Unclean { .. }
            | Self::NoScheme { .. }
            | Self::NotHttp { .. }
            | Self::Credentials { .. }
            | Self::ApiAddress { .. }
            | Self::NoScope { .. }
            | Self::BadName { .. } => &situation::URL_INVALID,
            Self::Plain { .. } => &situation::NOT_ENCRYPTED,
        }
    }
}

impl Target {
    /// Parses `--url`, and `--api-url` if it is set.
    ///
    /// `allow_http` accepts plain HTTP to a host that is not this machine.
    pub fn parse(url: &str, api_url: Option<&str>, allow_http: bool) -> Result<Self, Error> {
        let mut page = web_address(url, allow_http)?;
        let host = page.host_str().unwrap_or_default().trim_end_matches('.').to_owned();
        let host = match host.strip_prefix("www.") {
            Some(bare) if is_hosted(bare) => bare.to_owned(),
            _ => host,
        };
        let given = redacted(url);
        if page.set_host(Some(&host)).is_err() {
            return Err(TargetError::NoScope { given, suggestion: None }.into());
        }
        let segments = segments(&page);
        let words: Vec<&str> = segments.iter().map(String::as_str).collect();
        refuse_api_address(&host, &words, &page, &given)?;
        let scope = scope(&words, &page, &given)?;

        if is_hosted(&host) {
            // GitHub serves HTTPS only.
            let _ = page.set_scheme("https");
        }
        page.set_path(&scope.page());
        let api = match api_url {
            Some(api_url) => without_slash(web_address(api_url, allow_http)?),
            None => api_of(&page, &host),
        };
        Ok(Self { url: page, scope, api })
    }

    /// The URL of a call: `tail` follows the scope's prefix and begins with `/`.
    #[must_use]
    pub fn call(&self, tail: &str) -> Url {
        self.endpoint(&format!("{}{tail}", self.scope.prefix()))
    }

    /// The URL of a call that belongs to no scope, or to one that `path` begins with.
    #[must_use]
    pub fn endpoint(&self, path: &str) -> Url {
        let mut url = self.api.clone();
        let base = self.api.path().trim_end_matches('/');
        url.set_path(&format!("{base}{path}"));
        url
    }

    /// The URL of one of GitHub's public releases of the runner, `latest` or `tags/vVERSION`. They are on github.com only:
    /// neither a GHE.com tenant nor an Enterprise Server has the repository. An operator who names the API means one that
    /// has, and so does a server on this machine.
    #[must_use]
    pub fn release(&self, which: &str) -> Url {
        let host = self.url.host_str().unwrap_or_default();
        let mut url = self.api.clone();
        if self.api == api_of(&self.url, host) && !is_loopback(&self.url) {
            url = Url::parse("https://api.github.com/").unwrap_or(url);
        }
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}/repos/actions/runner/releases/{which}"));
        url
    }

    /// The URL of what the server says of itself.
    #[must_use]
    pub fn meta(&self) -> Url {
        let mut url = self.api.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}/meta"));
        url
    }

    /// Whether `other`, as stored by a configured runner, is the same scope on the same server. The names of hosts,
    /// owners and repositories are compared without case.
    #[must_use]
    pub fn is_same_as(&self, other: &str) -> bool {
        let plain = |url: &str| url.trim_end_matches('/').to_ascii_lowercase();
        if plain(other) == plain(self.url.as_str()) {
            return true;
        }
        Self::parse(other, None, true).is_ok_and(|other| {
            let server = |target: &Self| {
                let url = &target.url;
                // Without encryption, it could be any server.
                (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port_or_known_default())
            };
            server(self) == server(&other)
                && self.scope.kind() == other.scope.kind()
                && self.scope.name().eq_ignore_ascii_case(&other.scope.name())
        })
    }

    /// The warning for a URL with a port, which GitHub's runner drops when it registers. `None` without a port, and for
    /// this machine, where only a fake GitHub server listens.
    #[must_use]
    pub fn port_warning(&self) -> Option<String> {
        let port = self.url.port()?;
        if is_loopback(&self.url) {
            return None;
        }
        let host = self.url.host_str().unwrap_or_default();
        Some(format!(
            "GitHub's runner drops the port of {host}:{port} when it registers, and connects to {host} on the default port"
        ))
    }

    /// Whether this is github.com or a `*.ghe.com`, not an Enterprise Server.
    #[must_use]
    pub fn is_hosted(&self) -> bool {
        self.url.host_str().is_some_and(is_hosted)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str().trim_end_matches('/'))
    }
}

/// Whether GitHub runs this host, whose API then has a host name of its own.
fn is_hosted(host: &str) -> bool {
    host == "github.com" || host.strip_suffix(".ghe.com").is_some_and(|sub| !sub.is_empty())
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn api_of(page: &Url, host: &str) -> Url {
    let mut api = page.clone();
    if is_hosted(host) {
        let changed = api.set_host(Some(&format!("api.{host}")));
        debug_assert!(changed.is_ok(), "a valid host stays valid with a label before it");
        api.set_path("");
    } else {
        api.set_path("/api/v3");
    }
    api
}

fn without_slash(mut url: Url) -> Url {
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    url
}

/// Parses an HTTP URL, and refuses one to which no credential may be sent. Query and fragment are dropped.
fn web_address(text: &str, allow_http: bool) -> Result<Url, TargetError> {
    let text = text.trim();
    let given = redacted(text);
    // The URL parser drops these silently.
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(TargetError::Unclean { given, what: "white space or control characters" });
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(without_scheme(text, given));
    };
    if !matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https") {
        let meant = git_address(rest).filter(|_| scheme.eq_ignore_ascii_case("ssh"));
        return Err(TargetError::NotHttp { given, suggestion: meant });
    }
    let mut url =
        Url::parse(text).map_err(|source| TargetError::Malformed { given: given.clone(), source })?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(TargetError::Credentials { host: url.host_str().unwrap_or_default().to_owned() });
    }
    if text.contains('@') {
        // It may be a password with a `#` or `?`, which the parser takes for the end of the host.
        return Err(TargetError::Unclean { given, what: "an `@`" });
    }
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let climbs = |segment: &str| matches!(&*percent_decode_str(segment).decode_utf8_lossy(), "." | "..");
    if path.split(['/', '\\']).any(climbs) {
        return Err(TargetError::Unclean { given, what: "`.` or `..` as a name" });
    }
    if url.scheme() == "http" && !allow_http && !is_loopback(&url) {
        return Err(TargetError::Plain { given });
    }
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

/// The HTTPS URL for a `git@` address; `None` for any other user, and where the text may hide a password.
fn git_address(text: &str) -> Option<String> {
    let rest = text.strip_prefix("git@")?;
    (!rest.contains(['@', '?', '#'])).then(|| format!("https://{}", rest.replacen(':', "/", 1)))
}

fn without_scheme(text: &str, given: String) -> TargetError {
    if text.contains('@') {
        return TargetError::NotHttp { given, suggestion: git_address(text) };
    }
    let text = text.split(['?', '#']).next().unwrap_or_default();
    // `https:/HOST`: a slash is missing.
    let (has_scheme, text) = match text.split_once(":/") {
        Some((scheme, rest)) if scheme.chars().all(|c| c.is_ascii_alphabetic()) => (true, rest),
        _ => (false, text),
    };
    let text = text.trim_start_matches('/');
    let first = text.split('/').next().unwrap_or_default();
    let is_host = first.contains(['.', ':']) || first.eq_ignore_ascii_case("localhost");
    let host = if is_host { "" } else { "github.com/" };
    let suggestion = format!("https://{host}{text}");
    if has_scheme {
        return TargetError::NotHttp { given, suggestion: Some(suggestion) };
    }
    TargetError::NoScheme { given, suggestion }
}

/// The segments of the path, decoded, without empty ones and without `.git` at the end.
fn segments(page: &Url) -> Vec<String> {
    let mut segments: Vec<String> = page
        .path()
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
        .collect();
    if let Some(last) = segments.last_mut() {
        // No repository's name ends with it.
        last.truncate(last.trim_end_matches(".git").len());
    }
    segments
}

fn origin(page: &Url) -> String {
    page.origin().ascii_serialization()
}

fn refuse_api_address(host: &str, words: &[&str], page: &Url, given: &str) -> Result<(), TargetError> {
    let (site, words) = match (host.strip_prefix("api."), words) {
        (Some(bare), words) if is_hosted(bare) => (format!("https://{bare}"), words),
        (_, ["api", "v3", words @ ..]) => (origin(page), words),
        _ => return Ok(()),
    };
    let path = match words {
        ["orgs", org, ..] => (*org).to_owned(),
        ["repos", owner, name, ..] => format!("{owner}/{name}"),
        ["enterprises", slug, ..] => format!("enterprises/{slug}"),
        _ => "ORG".to_owned(),
    };
    Err(TargetError::ApiAddress { given: given.to_owned(), suggestion: format!("{site}/{path}") })
}

fn scope(words: &[&str], page: &Url, given: &str) -> Result<Scope, TargetError> {
    let no_scope = |path: Option<String>| TargetError::NoScope {
        given: given.to_owned(),
        suggestion: path.map(|path| format!("{}/{path}", origin(page))),
    };
    let slug = |kind: &'static str, name: &str| {
        name.parse::<Slug>().map_err(|source| bad_name(kind, name, given, source))
    };
    match words {
        // GitHub uses these words for its own pages, whose URLs users copy from the address bar.
        ["orgs" | "organizations", org, ..] => Err(no_scope(Some((*org).to_owned()))),
        [] | ["enterprises" | "orgs" | "organizations" | "settings"] => Err(no_scope(None)),
        ["enterprises", name] => Ok(Scope::Enterprise(slug("enterprise", name)?)),
        [org] => Ok(Scope::Organization(slug("organization", org)?)),
        [owner, name] => {
            let owner = slug("owner", owner)?;
            let parsed: Result<RepositoryName, _> = name.parse();
            let name = parsed.map_err(|source| bad_name("repository", name, given, source))?;
            Ok(Scope::Repository { owner, name })
        }
        ["enterprises", name, ..] => Err(no_scope(Some(format!("enterprises/{name}")))),
        [owner, name, ..] => Err(no_scope(Some(format!("{owner}/{name}")))),
    }
}

fn bad_name(kind: &'static str, name: &str, given: &str, source: NameError) -> TargetError {
    TargetError::BadName { kind, name: name.to_owned(), given: given.to_owned(), source }
}

/// `text` without user name, password and query, so that it can be shown. It need not be a URL.
fn redacted(text: &str) -> String {
    let text = text.trim();
    // The user name in `git@HOST:OWNER/REPO` is public, and the format has no password.
    let is_git = text.strip_prefix("git@").is_some_and(|rest| !rest.contains(['@', '?', '#']));
    if text.contains('@') && !is_git {
        // In text that may not be a URL, the end of a password cannot be determined, so nothing of it is shown.
        let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
        let scheme = if scheme.contains('@') { "" } else { scheme };
        let mark = crate::secret::MARK;
        return if scheme.is_empty() { mark.to_owned() } else { format!("{scheme}://{mark}") };
    }
    text.split(['?', '#']).next().unwrap_or_default().to_owned()
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
