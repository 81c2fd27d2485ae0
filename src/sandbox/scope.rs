//! Scopes: the enterprise, organization or repository that runners belong to.

use serde::{Serialize, Serializer};
use std::fmt;

/// One of GitHub's three scopes. Names are compared without case, as GitHub does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// `/enterprises/{enterprise}`
    Enterprise(String),
    /// `/orgs/{org}`
    Org(String),
    /// `/repos/{owner}/{repo}`
    Repo(String, String),
}

/// What the owner of a scope forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    /// Credentials that were not authorized for its single sign-on.
    SignOn,
    /// Requests from addresses that are not on its list.
    Addresses,
    /// Classic personal access tokens.
    NoClassic,
    /// Runners of the repository.
    NoRunners,
}

impl Scope {
    /// The owner of an installation that is everywhere.
    pub(super) const ANY: &str = "*";

    /// Whether the token of an installation with this scope reaches `other`.
    pub(super) fn reaches(&self, other: &Self) -> bool {
        let same = |own: &str, other: &str| own == Self::ANY || own == other;
        match (self, other) {
            (Self::Org(own), Self::Org(other)) => same(own, other),
            (Self::Repo(own, repo), Self::Repo(other, name)) => same(own, other) && repo == name,
            _ => false,
        }
    }

    /// The scope in the first segments of a path (`["orgs", "acme"]`), and the segments after it.
    pub(super) fn of_api_path<'a, 'b>(segments: &'a [&'b str]) -> Option<(Self, &'a [&'b str])> {
        match segments {
            ["enterprises", name, rest @ ..] => Some((Self::Enterprise(lower(name)), rest)),
            ["orgs", name, rest @ ..] => Some((Self::Org(lower(name)), rest)),
            ["repos", owner, repo, rest @ ..] => Some((Self::Repo(lower(owner), lower(repo)), rest)),
            _ => None,
        }
    }

    /// The scope of the URL that a runner is configured with: `HOST/ORG`, `HOST/OWNER/REPO`,
    /// `HOST/enterprises/SLUG`.
    pub(super) fn of_runner_url(url: &str) -> Option<Self> {
        let url = url::Url::parse(url).ok()?;
        let segments: Vec<&str> = url.path_segments()?.filter(|segment| !segment.is_empty()).collect();
        match segments.as_slice() {
            [org] => Some(Self::Org(lower(org))),
            ["enterprises", name] => Some(Self::Enterprise(lower(name))),
            [owner, repo] => Some(Self::Repo(lower(owner), lower(repo))),
            _ => None,
        }
    }

    /// Whether the sandbox treats the scope as hidden: any name that starts with `missing`.
    pub(super) fn is_missing(&self) -> bool {
        match self {
            Self::Enterprise(name) | Self::Org(name) => name.starts_with("missing"),
            Self::Repo(owner, repo) => owner.starts_with("missing") || repo.starts_with("missing"),
        }
    }

    /// What its owner has forbidden, by how its last name starts.
    pub(super) fn policy(&self) -> Option<Policy> {
        let (owner, repository) = self.names();
        let name = repository.unwrap_or(owner);
        let starts = |word: &str| name.starts_with(word);
        [
            ("sso-", Policy::SignOn),
            ("walled-", Policy::Addresses),
            ("modern-", Policy::NoClassic),
            ("closed-", Policy::NoRunners),
        ]
        .into_iter()
        .find_map(|(word, policy)| starts(word).then_some(policy))
    }

    /// The owner, and the repository if it is one.
    pub(super) fn names(&self) -> (&str, Option<&str>) {
        match self {
            Self::Enterprise(name) | Self::Org(name) => (name, None),
            Self::Repo(owner, repo) => (owner, Some(repo)),
        }
    }

    /// The fine-grained permission that GitHub requires here; there is none for enterprises.
    pub(super) fn permission(&self, write: bool) -> Option<String> {
        let level = if write { "write" } else { "read" };
        match self {
            Self::Enterprise(_) => None,
            Self::Org(_) => Some(format!("organization_self_hosted_runners={level}")),
            Self::Repo(..) => Some(format!("administration={level}")),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enterprise(name) => write!(f, "enterprises/{name}"),
            Self::Org(name) => write!(f, "orgs/{name}"),
            Self::Repo(owner, repo) => write!(f, "repos/{owner}/{repo}"),
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = String;

    /// Parses the format that [`Scope`] displays.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let segments: Vec<&str> = text.trim_matches('/').split('/').collect();
        match Self::of_api_path(&segments) {
            Some((scope, [])) => Ok(scope),
            _ => Err(format!("{text:?} is not one of enterprises/NAME, orgs/NAME, repos/OWNER/NAME")),
        }
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn lower(name: &str) -> String {
    name.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_a_runner_names_its_scope() {
        let scope = |url: &str| Scope::of_runner_url(url).map(|scope| scope.to_string());
        assert_eq!(scope("http://h:1/Acme").unwrap(), "orgs/acme");
        assert_eq!(scope("http://h/acme/tools").unwrap(), "repos/acme/tools");
        assert_eq!(scope("http://h/enterprises/big").unwrap(), "enterprises/big");
        assert!(scope("http://h/").is_none());
        assert!(scope("http://h/a/b/c").is_none());
        assert_eq!("repos/a/b".parse::<Scope>().unwrap().to_string(), "repos/a/b");
        assert!("orgs".parse::<Scope>().is_err());
    }
}
