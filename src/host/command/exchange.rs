//! Bytes for a child and from it, exactly as they are: a message to sign, a signature, a key.

use super::{Command, Outcome, Stream};
use crate::deadline::Stop;
use crate::host::Error;
use crate::host::output::{CAPTURE_LIMIT, Captured};
use secrecy::zeroize::Zeroizing;
use std::io::Write as _;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

/// The longest input: what any pipe takes at once, so that a child that does not read holds nothing up.
pub const INPUT_LIMIT: usize = 4096;

/// What a child reads, and who gets what it prints.
#[derive(Debug, Clone, Default)]
pub(super) struct Exchange {
    input: Option<Vec<u8>>,
    pub(super) output: Option<Captured>,
}

impl Exchange {
    /// Its standard input: a pipe that has all of it already, or `/dev/null`.
    pub(super) fn stdin(&self) -> Result<Stdio, Error> {
        let Some(input) = &self.input else { return Ok(Stdio::null()) };
        if input.len() > INPUT_LIMIT {
            let message = format!("{} bytes of input are more than the {INPUT_LIMIT} that fit", input.len());
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, message).into());
        }
        let (reader, mut writer) = std::io::pipe()?;
        writer.write_all(input)?;
        Ok(Stdio::from(reader))
    }
}

impl Command {
    /// Sets its standard input; `/dev/null` by default. With more than `INPUT_LIMIT` bytes, which could block, it is not
    /// started.
    #[must_use]
    pub fn input(mut self, input: Vec<u8>) -> Self {
        self.exchange.input = Some(input);
        self
    }

    /// As [`Command::run`], and returns what it printed on standard output, up to 64 KiB: not as lines, not in
    /// [`Outcome::tail`], and wiped when it is dropped. Only the lines of its standard error go to `on_line`.
    pub async fn capture(
        mut self,
        stop: &Stop,
        on_line: &mut (dyn FnMut(Stream, &str) + Send),
    ) -> (Result<Outcome, Error>, Zeroizing<Vec<u8>>) {
        // Its final size, because a copy that is left when it grows would not be wiped.
        let output: Captured = Arc::new(Mutex::new(Zeroizing::new(Vec::with_capacity(CAPTURE_LIMIT))));
        self.exchange.output = Some(Arc::clone(&output));
        let outcome = self.run(stop, on_line).await;
        let printed = std::mem::take(&mut *output.lock().unwrap_or_else(PoisonError::into_inner));
        (outcome, printed)
    }
}
