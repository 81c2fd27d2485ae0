//! What is known of a credential without looking at more than its form: its kind, where it came from, and its scopes.

use super::answer::header;
use super::credential::Credential;
use super::scope::Scope;
use crate::net::Answer;
use crate::secret::Secret;
use std::fmt;

/// The most characters of a list of scopes that is shown.
const MOST_SCOPES: usize = 300;

/// The kind of a token, by the prefix that GitHub gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenForm {
    /// A classic personal access token, whose scopes hold for all that its owner can reach.
    Classic,
    /// A fine-grained personal access token.
    FineGrained,
    /// A token of an OAuth App, such as that of `gh auth login`.
    OAuth,
    /// A token of a user by way of a GitHub App.
    UserOfApp,
    /// A token of a GitHub App's installation. A workflow's `GITHUB_TOKEN` is one as well.
    Installation,
    /// A token that is only good for getting another one.
    Refresh,
    /// A registration or remove token.
    Runner,
    /// Its form tells nothing, as that of a token of an Enterprise Server or of another service.
    Unknown,
}

impl TokenForm {
    fn of(token: &Secret) -> Self {
        let text = token.expose();
        let is_old = text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_runner = text.len() == 29
            && text.starts_with('A')
            && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        match text.split_once('_').map(|(prefix, _)| prefix) {
            Some("ghp") => Self::Classic,
            Some("github") if text.starts_with("github_pat_") => Self::FineGrained,
            Some("gho") => Self::OAuth,
            Some("ghu") => Self::UserOfApp,
            Some("ghs") => Self::Installation,
            Some("ghr") => Self::Refresh,
            None if is_old => Self::Classic,
            None if is_runner => Self::Runner,
            _ => Self::Unknown,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Classic => "a classic personal access token",
            Self::FineGrained => "a fine-grained personal access token",
            Self::OAuth => "an OAuth token",
            Self::UserOfApp => "a user's token of a GitHub App",
            Self::Installation => "an installation token of a GitHub App or a workflow's GITHUB_TOKEN",
            Self::Refresh => "a refresh token",
            Self::Runner => "a registration or remove token",
            Self::Unknown => "a token",
        }
    }
}

/// A credential that was sent, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Its kind.
    pub kind: TokenForm,
    /// Where it came from: a file, a variable, a command, an App.
    pub source: String,
    /// `X-OAuth-Scopes`: what a classic token or an OAuth token may do; `None` for another token.
    pub scopes: Option<String>,
    /// Whether it is the token of an App whose id and key runup has.
    pub of_app: bool,
}

impl Sent {
    pub(super) fn of(credential: &Credential, token: &Secret, answer: &Answer) -> Self {
        let scopes = header(answer, "x-oauth-scopes").map(shown);
        let kind = match TokenForm::of(token) {
            // Only these have scopes.
            TokenForm::Unknown if scopes.is_some() => TokenForm::Classic,
            kind => kind,
        };
        Self { kind, source: credential.source(), scopes, of_app: matches!(credential, Credential::App(_)) }
    }

    /// The scope that registering a runner takes, according to GitHub's documentation, if it has other ones only.
    #[must_use]
    pub fn lacks(&self, scope: &Scope) -> Option<&'static str> {
        let enough: &[&'static str] = match scope {
            Scope::Enterprise(_) => &["manage_runners:enterprise", "admin:enterprise"],
            Scope::Organization(_) => &["admin:org"],
            Scope::Repository { .. } => &["repo"],
        };
        let has = |scopes: &str| scopes.split(',').any(|scope| enough.contains(&scope.trim()));
        enough.first().copied().filter(|_| self.scopes.as_deref().is_some_and(|scopes| !has(scopes)))
    }

    /// Whether it came from a variable that is set for other programs.
    #[must_use]
    pub fn is_ambient(&self) -> bool {
        matches!(self.source.as_str(), "GITHUB_TOKEN" | "GH_TOKEN")
    }
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.of_app {
            return f.write_str(&self.source);
        }
        write!(f, "{} from {}", self.kind.words(), self.source)?;
        match self.scopes.as_deref() {
            None => Ok(()),
            Some("") => f.write_str(" without any scope"),
            Some(scopes) if scopes.contains(',') => write!(f, " with the scopes {scopes}"),
            Some(scope) => write!(f, " with the scope {scope}"),
        }
    }
}

/// A list of scopes as it is printed: the header's value is the server's.
pub(super) fn shown(scopes: &str) -> String {
    scopes.trim().chars().filter(|c| !c.is_control()).take(MOST_SCOPES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_a_token_tells_its_kind() {
        let old = "0123456789abcdef0123456789abcdef01234567";
        for (text, kind) in [
            ("ghp_0123456789", TokenForm::Classic),
            (old, TokenForm::Classic),
            ("github_pat_0123456789", TokenForm::FineGrained),
            ("github_0123456789", TokenForm::Unknown),
            ("gho_0123456789", TokenForm::OAuth),
            ("ghu_0123456789", TokenForm::UserOfApp),
            ("ghs_0123456789", TokenForm::Installation),
            ("ghr_0123456789", TokenForm::Refresh),
            ("AABF3JGZDX3P5PMEXLND6TS6FCWO6", TokenForm::Runner),
            ("AABF3JGZDX3P5PMEXLND6TS6FCWO", TokenForm::Unknown),
            ("word", TokenForm::Unknown),
        ] {
            assert_eq!(TokenForm::of(&Secret::new(text).unwrap()), kind, "{text}");
        }
    }

    #[test]
    fn what_was_sent_is_described_without_its_value() {
        let sent = |scopes: Option<&str>, of_app| Sent {
            kind: TokenForm::Classic,
            source: "RUNUP_TOKEN".to_owned(),
            scopes: scopes.map(str::to_owned),
            of_app,
        };
        let classic = "a classic personal access token from RUNUP_TOKEN";
        assert_eq!(sent(None, false).to_string(), classic);
        assert_eq!(sent(Some(""), false).to_string(), format!("{classic} without any scope"));
        assert_eq!(sent(Some("repo"), false).to_string(), format!("{classic} with the scope repo"));
        assert_eq!(
            sent(Some("repo, user"), false).to_string(),
            format!("{classic} with the scopes repo, user")
        );
        assert_eq!(sent(None, true).to_string(), "RUNUP_TOKEN");
        let organization = Scope::Organization("octo".parse().unwrap());
        assert_eq!(sent(Some("repo, admin:org"), false).lacks(&organization), None);
        assert_eq!(sent(Some("repo, read:org"), false).lacks(&organization), Some("admin:org"));
        assert_eq!(sent(None, false).lacks(&organization), None, "a fine-grained token has no scopes");
        assert_eq!(shown(" a\u{1b}b ").as_str(), "ab");
    }
}
