//! The operator's commands: one prints a token, one the key of an App, one signs.

use super::error::Error;
use crate::deadline::{Deadline, Stop};
use crate::error::{Class, Failure as _};
use crate::host::{self, CUT, Command, Stream};
use crate::secret::{MARK, Secret};
use secrecy::zeroize::Zeroizing;
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// How long a failing command is retried: at boot, the network that it needs may not be up yet.
const ALL_RUNS: Duration = Duration::from_secs(180);
/// The longest pause between two runs; the first is one second.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How many of the last lines of its standard error are kept for the log.
const MOST_SAID: usize = 100;
/// The fewest characters of a word that is masked: a shorter one can be part of any other word.
const SHORTEST: usize = 8;

/// What a command is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandKind {
    /// It prints a token for the REST API.
    Token,
    /// It prints the private key of a GitHub App.
    AppKey,
    /// It signs for a GitHub App.
    AppSign,
}

impl CommandKind {
    /// How long one run may take.
    fn one_run(self) -> Duration {
        match self {
            Self::Token | Self::AppKey => Duration::from_secs(60),
            Self::AppSign => Duration::from_secs(30),
        }
    }

    /// What it must print, for a hint.
    pub(super) fn prints(self) -> &'static str {
        match self {
            Self::Token => "the token",
            Self::AppKey => "the private key of the App (PEM)",
            Self::AppSign => "the PKCS#1 v1.5 SHA-256 signature of its standard input, raw or in base64",
        }
    }
}

impl fmt::Display for CommandKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token => "token command",
            Self::AppKey => "App key command",
            Self::AppSign => "App sign command",
        })
    }
}

/// A shell command with its environment.
#[derive(Clone)]
pub struct ShellCommand {
    kind: CommandKind,
    text: String,
    environment: Vec<(String, String)>,
}

impl ShellCommand {
    /// A command with the environment that it gets.
    #[must_use]
    pub fn new(kind: CommandKind, text: &str, environment: Vec<(String, String)>) -> Self {
        Self { kind, text: text.to_owned(), environment }
    }

    /// The command, as the operator wrote it.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Runs it, with pauses, until it succeeds or the deadline passes; returns what it printed. A command that signs may
    /// send a PIN, and a token locks itself after a few wrong ones: only a run that timed out is repeated, once.
    pub(super) async fn persist(
        &self,
        input: Option<&[u8]>,
        deadline: Deadline,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let deadline = deadline.within(ALL_RUNS);
        let mut pause = Duration::from_secs(1);
        let mut runs = 0;
        loop {
            runs += 1;
            let error = match self.once(input, deadline).await {
                Err(error) if self.may_pass(&error, runs) && deadline.left() > pause => error,
                result => return result,
            };
            tracing::warn!("{}; trying again in {} s", crate::error::chain(&error), pause.as_secs());
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn once(&self, input: Option<&[u8]>, deadline: Deadline) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (shell, flag) = if cfg!(windows) { ("cmd.exe", "/C") } else { ("/bin/sh", "-c") };
        let mut command = Command::new(shell).arg(flag).arg(&self.text);
        command = self.environment.iter().fold(command, |command, (key, value)| command.env(key, value));
        if let Some(input) = input {
            command = command.input(input.to_vec());
        }
        // Logged only after the secret is known and removed: a tracing shell (`set -x`) writes it before it prints it.
        let mut said = VecDeque::new();
        let mut listen = |_: Stream, line: &str| {
            said.push_back(line.to_owned());
            if said.len() > MOST_SAID {
                said.pop_front();
            }
        };
        // A caller that stops waiting drops this future, which kills the command.
        let stop = Stop::never();
        let limited = command.deadline(deadline.within(self.kind.one_run()));
        let (outcome, printed) = Box::pin(limited.capture(&stop, &mut listen)).await;
        let words = words(&printed);
        for line in &said {
            tracing::debug!("{}", scrub(line, &words));
        }
        let failed = |how, code, timed_out, tail: String| {
            let (command, tail) = (self.text.clone(), scrub(&tail, &words));
            Error::CommandFailed { kind: self.kind, command, how, code, timed_out, tail }
        };
        match outcome {
            Ok(outcome) if !outcome.success() => {
                Err(failed(outcome.how(), outcome.code, false, outcome.tail))
            }
            Ok(_) => Ok(printed),
            Err(host::Error::Deadline { total, tail, .. }) => {
                Err(failed(format!("timed out after {} s", total.as_secs()), None, true, tail))
            }
            Err(source) => Err(Error::CommandNotRun { kind: self.kind, command: self.text.clone(), source }),
        }
    }
}

/// The lines that could be tokens.
pub(super) fn lines(printed: &[u8]) -> impl Iterator<Item = Secret> + '_ {
    printed.split(|byte| *byte == b'\n').filter_map(|line| Secret::new(std::str::from_utf8(line).ok()?))
}

/// The parts of a text that could be secrets, longest first, which nothing prints from then on. A key is printed in lines,
/// in one line with `\n` in place of line breaks, or with spaces.
pub(super) fn words(printed: &[u8]) -> Vec<Secret> {
    let Ok(text) = std::str::from_utf8(printed) else { return Vec::new() };
    let whole = text.lines().filter_map(token);
    let lines = text.split('\n').flat_map(|line| line.split("\\n"));
    let parts = lines.flat_map(str::split_whitespace).filter(|part| !is_prose(part)).filter_map(token);
    let mut words: Vec<Secret> = whole.chain(parts).collect();
    // One that contains another is masked first, or the rest of it would remain.
    words.sort_by_key(|word| std::cmp::Reverse(word.expose().len()));
    words
}

fn token(text: &str) -> Option<Secret> {
    let text = text.trim();
    let is_frame = text.starts_with("-----") && text.ends_with("-----");
    (text.len() >= SHORTEST && !is_frame).then(|| Secret::new(text)).flatten()
}

/// Whether it is a word of a message, or of the frame of a key: masking it would garble what is printed later.
fn is_prose(part: &str) -> bool {
    let word = part.trim_matches(|c: char| c.is_ascii_punctuation());
    let is_word = word.chars().all(char::is_alphabetic) && word.chars().skip(1).all(char::is_lowercase);
    (is_word && word.len() < 20) || matches!(word, "BEGIN" | "END" | "KEY" | "ENCRYPTED")
}

/// The text without these words, and without what is left of one at either end of a text that was cut.
fn scrub(text: &str, words: &[Secret]) -> String {
    let mut text = words.iter().fold(text.to_owned(), |text, word| word.scrub(&text));
    for word in words.iter().map(Secret::expose) {
        let ends = (1..word.len()).filter(|at| word.is_char_boundary(*at));
        let (heads, tails) = (ends.clone().rev().map(|at| &word[..at]), ends.map(|at| &word[at..]));
        let is_long = |part: &&str| part.len() >= SHORTEST;
        if let Some(at) = text.starts_with(CUT).then_some(CUT.len())
            && let Some(rest) = tails.filter(is_long).find(|part| text[at..].starts_with(part))
        {
            text.replace_range(at..at + rest.len(), MARK);
        }
        let cuts: Vec<usize> = text.rmatch_indices(CUT).map(|(at, _)| at).collect();
        for at in cuts {
            if let Some(rest) = heads.clone().filter(is_long).find(|part| text[..at].ends_with(part)) {
                text.replace_range(at - rest.len()..at, MARK);
            }
        }
    }
    text
}

impl ShellCommand {
    /// Whether another run may succeed, and does no harm.
    fn may_pass(&self, error: &Error, runs: u32) -> bool {
        match error {
            Error::CommandFailed { timed_out, .. } if self.kind == CommandKind::AppSign => {
                *timed_out && runs == 1
            }
            Error::CommandFailed { .. } => error.class() == Class::TempFail,
            _ => false,
        }
    }
}

impl fmt::Debug for ShellCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ShellCommand").field(&self.text).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_any_form_is_masked_also_where_it_was_cut_and_words_of_a_message_are_not() {
        let lines = ["MIIEpAIBAAKCAQEAwx0", "8Qm1zK9f+a/0Lw3Vb7Te", "q2Zt9aXY=="];
        for between in ["\n", "\\n", " ", "\r\n"] {
            let key =
                format!("-----BEGIN RSA PRIVATE KEY-----{between}{}{between}-----END", lines.join(between));
            let words = words(key.as_bytes());
            let text = scrub(&format!("+ printf %s {key}"), &words);
            assert!(!lines.iter().any(|line| text.contains(line)), "{text}");
            assert!(text.starts_with("+ printf %s -----BEGIN RSA PRIVATE KEY-----"), "{text}");
            let cut = format!("{CUT}{} is {}{CUT}\nnext", &lines[0][5..], &lines[1][..9]);
            assert_eq!(scrub(&cut, &words), format!("{CUT}{MARK} is {MARK}{CUT}\nnext"));
        }
        let said = words(b"Permission denied: the credentials of (secrets) expired\n");
        assert!(said.is_empty(), "{}", said.len());
    }
}
