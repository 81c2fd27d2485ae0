//! The tokens that the sandbox has issued, and the credentials of requests.

use super::clock;
use super::scope::Scope;
use crate::secret::Secret;
use jiff::Timestamp;
use serde::Serialize;
use std::time::Duration;

/// The kind of a credential, which is logged instead of the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialKind {
    /// No `Authorization` header.
    None,
    /// The API token.
    Api,
    /// The API token without permissions.
    Weak,
    /// A registration token.
    Registration,
    /// A remove token.
    Remove,
    /// A temporary download token.
    Download,
    /// The result of `runner-registration` for a registration or remove token.
    Exchanged,
    /// A token of a GitHub App itself, which counts once its signature was verified.
    App,
    /// A token of an App's installation.
    Installation,
    /// A registered runner's own credential.
    Runner,
    /// A credential that was not issued here.
    Unknown,
}

/// An issued token, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenRecord {
    /// Its kind.
    pub kind: CredentialKind,
    /// Its scope.
    pub scope: Scope,
    /// RFC 3339.
    pub expires_at: String,
    /// Whether it has expired.
    pub expired: bool,
    /// How often it was accepted.
    pub uses: u32,
}

/// The credential of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credential {
    /// `Bearer`, `token`, `RemoteAuth`; lower case.
    pub scheme: String,
    pub kind: CredentialKind,
    /// Its scope, if it has one.
    pub scope: Option<Scope>,
    pub expired: bool,
    /// The runner that it belongs to.
    pub runner: Option<u64>,
}

impl Credential {
    /// Whether the runner sent it: the REST paths that it shares with users answer it differently.
    pub fn by_runner(&self) -> bool {
        self.scheme == "remoteauth"
    }

    /// Whether it is a valid credential of one of these kinds for this scope.
    pub fn is(&self, kinds: &[CredentialKind], scope: &Scope) -> bool {
        !self.expired && kinds.contains(&self.kind) && self.scope.as_ref() == Some(scope)
    }
}

struct Issued {
    value: Secret,
    kind: CredentialKind,
    scope: Scope,
    expires_at: Timestamp,
    uses: u32,
}

/// All issued tokens, and the two API tokens.
pub(super) struct Tokens {
    api: Secret,
    api_revoked: bool,
    weak: Secret,
    life: Duration,
    issued: Vec<Issued>,
}

impl Tokens {
    pub fn new(api: Secret, weak: Secret, life: Duration) -> Self {
        Self { api, api_revoked: false, weak, life, issued: Vec::new() }
    }

    pub fn revoke_api(&mut self) {
        self.api_revoked = true;
    }

    /// Issues a token; a `dead` one has already expired, although its `expires_at` says otherwise.
    pub fn issue(&mut self, kind: CredentialKind, scope: Scope, dead: bool) -> (Secret, String) {
        let value = match kind {
            CredentialKind::Installation => installation_token(),
            _ => random(29),
        };
        let said = clock::after(self.life);
        let expires_at = if dead { clock::now(-1) } else { said };
        self.issued.push(Issued { value: value.clone(), kind, scope, expires_at, uses: 0 });
        (value, clock::expires_at(said))
    }

    /// Every token that was issued.
    pub fn issued(&self) -> Vec<Secret> {
        self.issued.iter().map(|token| token.value.clone()).collect()
    }

    /// Expires every issued token.
    pub fn expire(&mut self) {
        let past = clock::now(-1);
        for token in &mut self.issued {
            token.expires_at = token.expires_at.min(past);
        }
    }

    /// The credential of an `Authorization` header, without those of runners.
    pub fn identify(&self, header: Option<&str>) -> Credential {
        let (scheme, value) = match header {
            None => ("", ""),
            Some(header) => header.split_once(' ').unwrap_or(("", header)),
        };
        let mut found = Credential {
            scheme: scheme.to_ascii_lowercase(),
            kind: if header.is_none() { CredentialKind::None } else { CredentialKind::Unknown },
            scope: None,
            expired: false,
            runner: None,
        };
        let value = value.trim();
        if value == self.api.expose() {
            found.kind = CredentialKind::Api;
            found.expired = self.api_revoked;
        } else if value == self.weak.expose() {
            found.kind = CredentialKind::Weak;
        } else if let Some(token) = self.issued.iter().find(|token| token.value.expose() == value) {
            found.kind = token.kind;
            found.scope = Some(token.scope.clone());
            found.expired = token.expires_at <= clock::now(0);
        } else if value.starts_with("eyJ") {
            found.kind = CredentialKind::App;
        }
        found
    }

    /// Counts one use of the token in this header.
    pub fn used(&mut self, header: Option<&str>) {
        let value = header.and_then(|header| header.split_once(' ')).map_or("", |(_, value)| value.trim());
        if let Some(token) = self.issued.iter_mut().find(|token| token.value.expose() == value) {
            token.uses += 1;
        }
    }

    pub fn records(&self) -> Vec<TokenRecord> {
        let now = clock::now(0);
        let record = |token: &Issued| TokenRecord {
            kind: token.kind,
            scope: token.scope.clone(),
            expires_at: clock::expires_at(token.expires_at),
            expired: token.expires_at <= now,
            uses: token.uses,
        };
        self.issued.iter().map(record).collect()
    }
}

/// GitHub's have begun to be longer than the 40 characters that they had for years.
fn installation_token() -> Secret {
    Secret::new(&format!("ghs_{}", random(132).expose())).expect("letters and digits fit in a header")
}

/// Random characters, as in GitHub's registration tokens. They protect nothing of value.
pub(super) fn random(length: usize) -> Secret {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let text: String = (0..length).map(|_| char::from(ALPHABET[fastrand::usize(..ALPHABET.len())])).collect();
    Secret::new(&text).expect("letters and digits fit in a header")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_counts_in_its_scope_until_it_expires() {
        let mut tokens = Tokens::new(random(9), random(9), Duration::from_secs(3600));
        let org: Scope = "orgs/o".parse().unwrap();
        let (value, _) = tokens.issue(CredentialKind::Registration, org.clone(), false);
        let header = format!("RemoteAuth {}", value.expose());
        let found = tokens.identify(Some(&header));
        assert!(found.by_runner());
        assert!(found.is(&[CredentialKind::Registration], &org));
        assert!(!found.is(&[CredentialKind::Remove], &org));
        assert!(!found.is(&[CredentialKind::Registration], &"orgs/other".parse().unwrap()));
        tokens.expire();
        assert!(!tokens.identify(Some(&header)).is(&[CredentialKind::Registration], &org));
        assert!(tokens.records()[0].expired);
        assert_eq!(tokens.identify(None).kind, CredentialKind::None);
        assert_eq!(tokens.identify(Some("Bearer x")).kind, CredentialKind::Unknown);
    }
}
