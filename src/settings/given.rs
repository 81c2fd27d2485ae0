//! The credentials that were passed, with what is known of a token besides its value.

use super::Error;
use super::credential::text;
use crate::github::Credential;
use crate::secret::Secret;
use jiff::{SignedDuration, Timestamp};

/// The clock of a machine may be off by as much before GitHub's runner refuses to work.
const CLOCK_LIMIT: SignedDuration = SignedDuration::from_secs(300);
/// How long a registration or remove token is valid.
const LIFE: SignedDuration = SignedDuration::from_hours(1);
/// What the API calls the token itself; no other credential may be JSON.
const API: &str = "token";

/// The credentials that were found.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// For the REST API.
    pub api: Option<Credential>,
    /// A registration token issued elsewhere.
    pub registration: Option<GivenToken>,
    /// A remove token issued elsewhere.
    pub remove: Option<GivenToken>,
}

/// A token that was issued elsewhere.
#[derive(Debug, Clone)]
pub struct GivenToken {
    /// The token.
    pub token: Secret,
    /// Where it came from, in words that follow "from".
    pub source: String,
    /// When it expires, if that was passed with it.
    pub expires_at: Option<Timestamp>,
    /// When its file was written.
    pub written: Option<Timestamp>,
}

impl GivenToken {
    /// Since when it has expired, at this time by the local clock; `None` if it has not, or if that is not known. What
    /// a wrong clock could be the reason of does not count.
    #[must_use]
    pub fn expired(&self, now: Timestamp) -> Option<Timestamp> {
        self.expires_at.filter(|at| now.duration_since(*at) > CLOCK_LIMIT)
    }

    /// How old its file is, if it is so old that a token that was new then has expired.
    #[must_use]
    pub fn too_old(&self, now: Timestamp) -> Option<SignedDuration> {
        self.written.map(|written| now.duration_since(written)).filter(|age| *age > LIFE)
    }
}

/// Where a credential is read from, for messages.
pub(super) struct TokenPlace<'a> {
    /// Which credential.
    pub what: &'static str,
    /// A path, `-`, or a variable's name.
    pub name: &'a str,
    /// The same in words that follow "from".
    pub source: String,
}

impl<'a> TokenPlace<'a> {
    pub fn file(what: &'static str, path: &'a str) -> Self {
        let source = if path == "-" { "standard input".to_owned() } else { format!("the file {path}") };
        Self { what, name: path, source }
    }

    pub fn variable(what: &'static str, name: &'a str) -> Self {
        Self { what, name, source: name.to_owned() }
    }

    /// Reads the token there.
    pub fn take(self, from: impl std::io::Read) -> Result<GivenToken, Error> {
        let text = text(self.what, self.name, from)?;
        self.token(&text)
    }

    /// Reads the token in an open file, and when that was written.
    pub fn take_file(self, file: std::fs::File) -> Result<GivenToken, Error> {
        let written = file.metadata().ok().filter(std::fs::Metadata::is_file);
        let written = written.and_then(|metadata| Timestamp::try_from(metadata.modified().ok()?).ok());
        Ok(GivenToken { written, ..self.take(file)? })
    }

    /// The token in a text. What only looks like one would be refused by the server later, and less clearly.
    pub fn token(self, text: &str) -> Result<GivenToken, Error> {
        let Self { what, name, source } = self;
        let malformed = |why| Error::CredentialMalformed { what, place: name.to_owned(), why };
        // Some editors begin a file with it.
        let text = text.trim_start_matches('\u{feff}').trim();
        let (token, expires_at) = if what != API && text.starts_with('{') {
            document(text).ok_or_else(|| malformed("is JSON, but not that of `runup token --json`"))?
        } else {
            (word(text).map_err(malformed)?, None)
        };
        Ok(GivenToken { token, source, expires_at, written: None })
    }
}

/// The token and its end in what `runup token --json` prints, which is what GitHub's API answers.
fn document(text: &str) -> Option<(Secret, Option<Timestamp>)> {
    #[derive(serde::Deserialize)]
    struct Document<'a> {
        #[serde(borrow)]
        token: std::borrow::Cow<'a, str>,
        expires_at: Option<&'a str>,
    }
    let document: Document<'_> = serde_json::from_str(text).ok()?;
    let expires_at = document.expires_at.map(str::parse).transpose().ok()?;
    Some((word(&document.token).ok()?, expires_at))
}

fn word(text: &str) -> Result<Secret, &'static str> {
    let name = text.split_once('=').map_or("", |(name, _)| name.trim_start_matches("export "));
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    if text.is_empty() {
        Err("is empty")
    } else if text.starts_with(['{', '[']) {
        Err("is JSON, and not the token itself")
    } else if text.starts_with(['"', '\'']) {
        Err("is in quotation marks")
    } else if is_name {
        Err("has the form NAME=value, and is not the token itself")
    } else {
        Secret::new(text).ok_or("is malformed (expected one word of printable characters)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(what: &'static str, text: &str) -> Result<GivenToken, Error> {
        TokenPlace::variable(what, "VARIABLE").token(text)
    }

    #[test]
    fn the_document_of_runup_token_is_a_token_with_its_end() {
        let text = r#"{"expires_at": "2026-01-22T12:13:35.123-08:00", "token": "canary-token"}"#;
        let given = read("registration token", &format!("\u{feff}{text}\n")).unwrap();
        assert_eq!(given.token.expose(), "canary-token");
        let end: Timestamp = "2026-01-22T20:13:35.123Z".parse().unwrap();
        assert_eq!(given.expires_at, Some(end));
        // A clock that is a little ahead expires nothing.
        let after = |seconds| given.expired(end + SignedDuration::from_secs(seconds));
        assert_eq!((after(-1), after(299), after(301)), (None, None, Some(end)));

        assert!(read("registration token", r#"{"token": "canary-token"}"#).unwrap().expires_at.is_none());
        assert!(read("registration token", "canary-token").unwrap().expires_at.is_none());
        for broken in [
            r#"{"token": "two words"}"#,
            r#"{"token": ""}"#,
            r#"{"expires_at": "2026-01-22T12:13:35Z"}"#,
            r#"{"token": "canary-token", "expires_at": "soon"}"#,
            r#"{"token": "canary-token"}{}"#,
        ] {
            let error = read("remove token", broken).unwrap_err().to_string();
            assert!(error.contains("runup token --json") && !error.contains("canary"), "{broken}: {error}");
        }
        let error = read(API, text).unwrap_err().to_string();
        assert!(error.contains("is JSON, and not the token itself"), "{error}");
    }

    #[test]
    fn a_file_is_too_old_when_a_token_that_was_new_has_expired() {
        let now = Timestamp::now();
        let aged = |minutes| GivenToken {
            written: Some(now - SignedDuration::from_mins(minutes)),
            ..read("registration token", "word").unwrap()
        };
        assert!(aged(59).too_old(now).is_none());
        assert_eq!(aged(61).too_old(now), Some(SignedDuration::from_mins(61)));
        assert!(read("registration token", "word").unwrap().too_old(now).is_none());
    }
}
