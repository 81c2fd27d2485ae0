//! The SHA-256 digest of an archive.

use std::fmt;
use std::str::FromStr;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha256Digest([u8; 32]);

impl Sha256Digest {
    /// The digest with these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// Why a text is not a digest. The variants mean different things: a list without checksums, and a broken list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// The text is empty.
    #[error("the SHA-256 is empty")]
    Empty,
    /// Not 64 hexadecimal digits.
    #[error("{text:?} is not a SHA-256: it must have 64 hexadecimal digits")]
    Malformed {
        /// The text, shortened.
        text: String,
    },
}

impl FromStr for Sha256Digest {
    type Err = DigestError;

    /// Parses 64 hexadecimal digits in either case, with or without the prefix `sha256:`, ignoring surrounding white
    /// space.
    fn from_str(text: &str) -> Result<Self, DigestError> {
        let trimmed = text.trim();
        let digits = match trimmed.get(..7) {
            Some(prefix) if prefix.eq_ignore_ascii_case("sha256:") => &trimmed[7..],
            _ => trimmed,
        };
        if digits.is_empty() {
            return Err(DigestError::Empty);
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes)
            .map_err(|_| DigestError::Malformed { text: trimmed.chars().take(80).collect() })?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256Digest({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY_FILE: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn case_prefix_and_white_space_do_not_matter() {
        let digest: Sha256Digest = EMPTY_FILE.parse().unwrap();
        assert_eq!(digest.to_string(), EMPTY_FILE);
        assert_eq!(format!("sha256:{EMPTY_FILE}\n").parse(), Ok(digest));
        assert_eq!(format!(" SHA256:{}", EMPTY_FILE.to_uppercase()).parse(), Ok(digest));
    }

    #[test]
    fn empty_and_malformed_are_told_apart() {
        for empty in ["", " \n", "sha256:"] {
            assert_eq!(empty.parse::<Sha256Digest>(), Err(DigestError::Empty));
        }
        let malformed =
            ["x", &EMPTY_FILE[1..], &format!("{EMPTY_FILE}0"), &"g".repeat(64), "sha512:00", "ééé€"];
        for text in malformed {
            assert!(matches!(text.parse::<Sha256Digest>(), Err(DigestError::Malformed { .. })), "{text}");
        }
    }
}
