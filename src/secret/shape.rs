//! Recognises GitHub's tokens by their format, for tokens that a user has passed in place of a path or a URL and that the
//! program therefore does not know to be secrets.

use super::MARK;
use std::borrow::Cow;

/// The prefixes of personal, OAuth, user-to-server, server-to-server, refresh and fine-grained personal tokens.
const PREFIXES: [&str; 6] = ["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"];
/// The fewest characters after a prefix; a real token has 36 or more.
const LEAST: usize = 10;
/// The length of a registration or remove token: capital letters and digits, beginning with A.
const RUNNER_TOKEN: usize = 29;
/// The length of a personal token from before 2021: hexadecimal digits.
const OLD_TOKEN: usize = 40;
/// How a signed token (JWT) begins: three such words, separated by dots.
const SIGNED: &str = "eyJ";

/// `text` with everything that looks like a token replaced by [`MARK`].
#[must_use]
pub fn mask(text: &str) -> Cow<'_, str> {
    let mut masked = String::new();
    let mut done = 0;
    let mut at = 0;
    while let Some(length) = text[at..].find(|c| !is_token(c)).or(Some(text.len() - at)) {
        let word = &text[at..at + length];
        if let Some((start, end)) = token_in(word) {
            masked.push_str(&text[done..at + start]);
            masked.push_str(MARK);
            done = at + end;
        }
        let Some(next) = text[at + length..].chars().next() else { break };
        at += length + next.len_utf8();
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    masked.push_str(&text[done..]);
    Cow::Owned(masked)
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// The start and end of a token in a word of such characters.
fn token_in(word: &str) -> Option<(usize, usize)> {
    // A trailing full stop may end a sentence.
    let end = word.trim_end_matches(['.', '-']).len();
    for prefix in PREFIXES {
        let from = word.match_indices(prefix).map(|(start, _)| start).find(|start| {
            let before = word[..*start].chars().next_back();
            let rest = word[start + prefix.len()..].chars();
            before.is_none_or(|c| !c.is_ascii_alphanumeric())
                && rest.take_while(|c| c.is_ascii_alphanumeric() || *c == '_').count() >= LEAST
        });
        if let Some(start) = from {
            return Some((start, end));
        }
    }
    if word.starts_with(SIGNED) && end > 40 && word[..end].matches('.').count() == 2 {
        return Some((0, end));
    }
    let mut start = 0;
    for part in word.split(|c: char| !c.is_ascii_alphanumeric()) {
        let is_runner_token = part.len() == RUNNER_TOKEN
            && part.starts_with('A')
            && part.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        let is_old_token = part.len() == OLD_TOKEN
            && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if is_runner_token || is_old_token {
            return Some((start, start + part.len()));
        }
        start += part.len() + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_known_by_their_form_wherever_they_were_typed() {
        let secret = "0123456789abcdefABCDEF0123456789abcd";
        for prefix in PREFIXES {
            let token = format!("{prefix}{secret}");
            for (before, after) in [
                ("", ""),
                ("https://github.com/", "/x"),
                ("failed to read the token from ", ": no such file"),
                ("invalid value '", "' for '--runner-version <VERSION>'"),
                ("--token-file=", "."),
                ("é", "é"),
            ] {
                assert_eq!(mask(&format!("{before}{token}{after}")), format!("{before}{MARK}{after}"));
            }
        }
        let signed = format!("ghs_1234567890_eyJ{secret}.eyJ{secret}.{secret}-{secret}");
        assert_eq!(mask(&format!("({signed})")), "([secret])");
        assert_eq!(mask(&format!("a {}, b", &signed[15..])), "a [secret], b");
        let (runner, old) = ("AABF3JGZDX3P5PMEXLND6TS6FCWO6", "0123456789abcdef0123456789abcdef01234567");
        assert_eq!(mask(&format!("--url {runner} and v1.{old}")), "--url [secret] and v1.[secret]");
    }

    #[test]
    fn other_words_are_left_alone() {
        let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for text in [
            "",
            "ghp_",
            "ghp_short",
            "xghp_0123456789abcdef",
            digest,
            "actions-runner-linux-x64-2.336.0.tar.gz",
            "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
            "eyJ.a.b",
        ] {
            assert!(matches!(mask(text), Cow::Borrowed(_)), "{text}");
        }
    }
}
