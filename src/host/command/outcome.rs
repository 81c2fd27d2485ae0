//! How a command ended.

use crate::host::Error;

/// The result of a command that exited by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it, which runup did not send; never on Windows.
    pub signal: Option<i32>,
    /// The end of its output, both streams interleaved, at most 4 KiB, with its secrets masked.
    pub tail: String,
}

impl Outcome {
    /// Whether the exit code is 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// `exit code 3`, `signal 9`.
    #[must_use]
    pub fn how(&self) -> String {
        match (self.code, self.signal) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "an unknown status".into(),
        }
    }

    /// `self` after success; otherwise [`Error::Failed`] with `command`, the result of [`super::Command::render`].
    pub fn into_success(self, command: &str) -> Result<Self, Error> {
        if self.success() {
            return Ok(self);
        }
        Err(Error::Failed { command: command.into(), how: self.how(), tail: self.tail })
    }
}
