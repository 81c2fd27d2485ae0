//! Scopes: the enterprise, organization or repository that runners belong to.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::fmt;
use std::str::FromStr;

/// The characters that are not encoded in a path segment: RFC 3986's unreserved ones.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `segment`, percent-encoded for a path.
fn encoded(segment: &str) -> impl fmt::Display + '_ {
    utf8_percent_encode(segment, SEGMENT)
}

/// The name of an enterprise, an organization or a user: letters, digits, `-` and `_`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Slug(String);

/// The name of a repository: letters, digits, `-`, `_` and `.`, but neither `.` nor `..`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RepositoryName(String);

/// A name that GitHub does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("has {} where only letters, digits and {allowed} are allowed", Culprit(*.culprit))]
pub struct NameError {
    /// The first character that is not allowed; `None` if the name as a whole is not allowed.
    culprit: Option<char>,
    /// The characters that are allowed besides letters and digits.
    allowed: &'static str,
}

struct Culprit(Option<char>);

impl fmt::Display for Culprit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(character) => write!(f, "{character:?}"),
            None => f.write_str("nothing, or only dots,"),
        }
    }
}

fn check(name: &str, extra: &[char], allowed: &'static str) -> Result<(), NameError> {
    let stranger = name.chars().find(|c| !c.is_ascii_alphanumeric() && !extra.contains(c));
    if stranger.is_some() || name.is_empty() || matches!(name, "." | "..") {
        return Err(NameError { culprit: stranger, allowed });
    }
    Ok(())
}

impl FromStr for Slug {
    type Err = NameError;
    fn from_str(name: &str) -> Result<Self, NameError> {
        check(name, &['-', '_'], "`-`, `_`")?;
        Ok(Self(name.to_owned()))
    }
}

impl FromStr for RepositoryName {
    type Err = NameError;
    fn from_str(name: &str) -> Result<Self, NameError> {
        check(name, &['-', '_', '.'], "`-`, `_`, `.`")?;
        Ok(Self(name.to_owned()))
    }
}

impl Slug {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl RepositoryName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the runners belong to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// All organizations of an enterprise.
    Enterprise(Slug),
    /// All repositories of an organization.
    Organization(Slug),
    /// One repository.
    Repository {
        /// The user or organization that owns it.
        owner: Slug,
        /// Its name.
        name: RepositoryName,
    },
}

impl Scope {
    /// The part before `/actions/runners` in the API's paths, percent-encoded: `/orgs/octo-org`.
    #[must_use]
    pub fn prefix(&self) -> String {
        match self {
            Self::Enterprise(slug) => format!("/enterprises/{}", encoded(slug.as_str())),
            Self::Organization(slug) => format!("/orgs/{}", encoded(slug.as_str())),
            Self::Repository { owner, name } => {
                format!("/repos/{}/{}", encoded(owner.as_str()), encoded(name.as_str()))
            }
        }
    }

    /// The path of its web page, percent-encoded: `/octo-org`.
    #[must_use]
    pub fn page(&self) -> String {
        match self {
            Self::Enterprise(slug) => format!("/enterprises/{}", encoded(slug.as_str())),
            Self::Organization(slug) => format!("/{}", encoded(slug.as_str())),
            Self::Repository { owner, name } => {
                format!("/{}/{}", encoded(owner.as_str()), encoded(name.as_str()))
            }
        }
    }

    /// `enterprise`, `organization` or `repository`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Enterprise(_) => "enterprise",
            Self::Organization(_) => "organization",
            Self::Repository { .. } => "repository",
        }
    }

    /// Its name: `octo-org`, `octo-org/hello`.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Enterprise(slug) | Self::Organization(slug) => slug.to_string(),
            Self::Repository { owner, name } => format!("{owner}/{name}"),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scope_has_its_prefix_and_page() {
        let octo: Slug = "octo-org".parse().unwrap();
        let repository = Scope::Repository { owner: octo.clone(), name: "hello.world".parse().unwrap() };
        let cases = [
            (Scope::Enterprise(octo.clone()), "/enterprises/octo-org", "/enterprises/octo-org"),
            (Scope::Organization(octo), "/orgs/octo-org", "/octo-org"),
            (repository, "/repos/octo-org/hello.world", "/octo-org/hello.world"),
        ];
        for (scope, prefix, page) in cases {
            assert_eq!((scope.prefix().as_str(), scope.page().as_str()), (prefix, page), "{scope}");
        }
    }

    #[test]
    fn a_refused_name_says_which_character_it_was() {
        let error = "octo.org".parse::<Slug>().unwrap_err();
        assert_eq!(error.to_string(), "has '.' where only letters, digits and `-`, `_` are allowed");
        for name in ["", ".", "..", "a/b", "a b", "é", "a\0"] {
            assert!(name.parse::<RepositoryName>().is_err(), "{name:?}");
        }
    }
}
