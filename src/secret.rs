//! The only type that holds credentials.
//!
//! A [`Secret`] has no `Display`, prints itself as `[secret]`, and is wiped from memory when dropped.
//! [`Secret::expose`] is the only way to read it: search for it to see every place where a credential is used. Text from
//! outside goes through [`scrub`] before it is printed, and text that a user may have mistyped goes through [`mask`].

mod known;
mod shape;

pub use known::{remember, scrub};
pub use shape::mask;

use secrecy::{ExposeSecret, SecretString};
use std::fmt;

/// Printed in place of a secret.
pub const MARK: &str = "[secret]";

/// A token, which can be used but not printed.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Takes the token without the surrounding white space that files and commands leave; `None` if nothing is left, or
    /// if it has a character that is not allowed in an HTTP header.
    #[must_use]
    pub fn new(token: &str) -> Option<Self> {
        let token = token.trim();
        let usable = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        usable.then(|| {
            remember(token);
            Self(SecretString::from(token))
        })
    }

    /// The token itself. The receiver must not print, log or store it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// `text` with every occurrence of this secret replaced by [`MARK`].
    #[must_use]
    pub fn scrub(&self, text: &str) -> String {
        text.replace(self.expose(), MARK)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MARK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print_itself() {
        let secret = Secret::new(" ghp_canary\n").unwrap();
        assert_eq!(secret.expose(), "ghp_canary");
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)), "[secret] Some(\n    [secret],\n)");
        assert_eq!(secret.scrub("token ghp_canary!"), "token [secret]!");
    }

    #[test]
    fn what_no_header_can_carry_is_no_secret() {
        assert!(Secret::new("").is_none());
        assert!(Secret::new(" \n").is_none());
        assert!(Secret::new("two words").is_none());
        assert!(Secret::new("line\nbreak").is_none());
    }
}
