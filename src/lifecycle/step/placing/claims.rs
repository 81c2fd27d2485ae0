//! What several sources say of the digest of one archive. They must agree: if one of them was changed, the others show it.

use crate::deadline::Deadline;
use crate::lifecycle::context::error::ArchiveError;
use crate::net::{Call, Http, redact};
use crate::transfer::Sha256Digest;
use reqwest::Method;
use std::time::Duration;
use url::Url;

/// The list for `--url`, in messages.
pub(crate) const LIST: &str = "the list of runner applications";
/// The digest that the operator has passed, in messages.
pub(crate) const OPTION: &str = "--sha256";

/// The file of a mirror that tells the digests of its archives, in the format of `sha256sum`.
const SUMS: &str = "SHA256SUMS";
/// How long a mirror may take for it.
const PATIENCE: Duration = Duration::from_secs(3);
/// The most bytes of it that are read.
const MOST_SUMS: usize = 256 << 10;

/// What one source says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestClaim {
    /// The source, in words that "says" can follow.
    pub source: String,
    /// The digest, as the source writes it.
    pub digest: String,
}

impl DigestClaim {
    /// What `source` says; `None` if it says nothing.
    pub(crate) fn new(source: &str, digest: &str) -> Option<Self> {
        let digest = digest.trim();
        let shown: String = digest.chars().filter(|c| !c.is_control()).take(80).collect();
        (!digest.is_empty()).then(|| Self { source: source.to_owned(), digest: shown })
    }

    fn parsed(&self) -> Option<Sha256Digest> {
        self.digest.parse().ok()
    }
}

/// Refuses sources that say different things; what is no digest agrees with none.
///
/// # Errors
/// `ArchiveError::SourcesDisagree`, with what each says.
pub(crate) fn agree(filename: &str, claims: &[DigestClaim]) -> Result<(), ArchiveError> {
    let differs = |pair: &[DigestClaim]| pair[0].parsed().is_none() || pair[0].parsed() != pair[1].parsed();
    if !claims.windows(2).any(differs) {
        return Ok(());
    }
    let claims = claims.iter().map(|claim| (claim.source.clone(), claim.digest.clone())).collect();
    Err(ArchiveError::SourcesDisagree { filename: filename.to_owned(), claims })
}

/// The mirror's own list of digests. A mirror need not have one, and it proves nothing alone: who can change an archive
/// there can change it as well.
pub(crate) struct MirrorSums {
    source: String,
    text: String,
}

impl MirrorSums {
    /// Asks once, and not for long: most mirrors have none.
    ///
    /// # Errors
    /// Why it tells nothing, in words.
    pub(crate) async fn ask(http: &Http, mirror: &str, end: Deadline) -> Result<Self, String> {
        let url = format!("{}/{SUMS}", mirror.trim_end_matches('/'));
        let url: Url = url.parse().map_err(|error| format!("--mirror is not a URL: {error}"))?;
        let source = redact(&url);
        match http.call_once(&Call::new(Method::GET, url, end.within(PATIENCE))).await {
            Ok(answer) if answer.status == 200 => {
                let end = answer.body.len().min(MOST_SUMS);
                Ok(Self { source, text: String::from_utf8_lossy(&answer.body[..end]).into_owned() })
            }
            Ok(answer) => Err(format!("{source} answers {}", answer.status)),
            Err(error) => Err(crate::error::chain(&error)),
        }
    }

    /// What it says of the file.
    pub(crate) fn of(&self, filename: &str) -> Option<DigestClaim> {
        DigestClaim::new(&self.source, listed(&self.text, filename)?)
    }
}

/// The digest of a file in the output of `sha256sum`.
fn listed<'a>(sums: &'a str, filename: &str) -> Option<&'a str> {
    sums.lines().find_map(|line| {
        let (digest, name) = line.trim().split_once(' ')?;
        let name = name.trim_start().trim_start_matches('*').trim_start_matches("./");
        (name == filename).then_some(digest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(source: &str, digest: &str) -> DigestClaim {
        DigestClaim::new(source, digest).unwrap()
    }

    #[test]
    fn sources_agree_whatever_their_spelling_and_a_disagreement_names_all_of_them() {
        let (a, b) = ("ab".repeat(32), "cd".repeat(32));
        let upper = format!("SHA256:{}", a.to_uppercase());
        assert!(agree("x", &[]).is_ok() && agree("x", &[claim("one", &a)]).is_ok());
        assert!(agree("x", &[claim("one", &a), claim("two", &upper), claim("three", &a)]).is_ok());
        let error = agree("x.zip", &[claim("one", &a), claim("two", &a), claim("three", &b)]).unwrap_err();
        let expected = format!(
            "the sources disagree on the sha256 of x.zip: one says {a}, two says {a}, three says {b}"
        );
        assert_eq!(error.to_string(), expected);
        assert!(agree("x", &[claim("one", "soon"), claim("two", "soon")]).is_err(), "that is no digest");
        assert_eq!(DigestClaim::new("one", " \n"), None);
    }

    #[test]
    fn the_sums_of_a_mirror_are_read_as_sha256sum_writes_them() {
        let (a, b, c) = ("aa", "bb", "cc");
        let sums = format!("{a}  x.tar.gz\n{b} *y.zip\r\n\n{c}  ./z.zip\nnonsense\n");
        let of = |name| listed(&sums, name);
        assert_eq!(
            (of("x.tar.gz"), of("y.zip"), of("z.zip"), of("nonsense")),
            (Some(a), Some(b), Some(c), None)
        );
    }
}
