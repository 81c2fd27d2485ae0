//! Prepares a child's output for display and logs: lines of limited length, without secrets and control characters.

use super::Stream;
use crate::secret::Secret;
use secrecy::zeroize::{Zeroize as _, Zeroizing};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The longest line that is passed on, in bytes.
pub const LINE_LIMIT: usize = 8 * 1024;

/// The most lines, and bytes, that are passed on per second, so that a child that prints without end does not fill the
/// log.
const LINES_A_SECOND: usize = 2000;
const BYTES_A_SECOND: usize = 1024 * 1024;

/// How much output is kept for error messages, in bytes.
pub const TAIL_LIMIT: usize = 4 * 1024;

/// Marks the end of a line that was cut, and the beginning of a tail that was cut.
pub const CUT: &str = "[...]";

/// Masks secrets.
pub struct Scrubber {
    secrets: Vec<Secret>,
}

impl Scrubber {
    pub fn new(secrets: impl Iterator<Item = Secret>) -> Self {
        let mut secrets: Vec<Secret> = secrets.collect();
        // A secret that contains another one is masked first, or the rest of it would remain.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
        Self { secrets }
    }

    pub fn scrub(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| secret.scrub(&text))
    }

    fn longest(&self) -> usize {
        self.secrets.first().map_or(0, |secret| secret.expose().len())
    }
}

/// Cuts bytes into lines.
pub struct Lines<'a> {
    scrubber: &'a Scrubber,
    line: Vec<u8>,
    too_long: bool,
}

impl<'a> Lines<'a> {
    pub fn new(scrubber: &'a Scrubber) -> Self {
        Self { scrubber, line: Vec::new(), too_long: false }
    }

    pub fn feed(&mut self, bytes: &[u8], print: &mut impl FnMut(&str)) {
        // A secret that begins before the limit is kept whole, so that it is recognised.
        let capacity = LINE_LIMIT + self.scrubber.longest();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            let space = capacity.saturating_sub(self.line.len());
            self.too_long |= text.len() > space;
            self.line.extend_from_slice(&text[..text.len().min(space)]);
            if ended {
                self.emit(print);
            }
        }
    }

    /// The last line, which may have no line break.
    pub fn finish(&mut self, print: &mut impl FnMut(&str)) {
        if !self.line.is_empty() {
            self.emit(print);
        }
    }

    fn emit(&mut self, print: &mut impl FnMut(&str)) {
        // Control characters are removed before masking, because one could hide a secret, and could control the
        // terminal.
        let text = String::from_utf8_lossy(&self.line).replace(|c: char| c.is_control() && c != '\t', "");
        let mut text = self.scrubber.scrub(&text);
        if self.too_long || text.len() > LINE_LIMIT {
            text.truncate((0..=LINE_LIMIT).rfind(|at| text.is_char_boundary(*at)).unwrap_or(0));
            text.push_str(CUT);
        }
        print(&text);
        self.line.clear();
        self.too_long = false;
    }
}

/// One of the child's output streams, until it is closed.
pub struct Pipe<'a, R> {
    source: Option<R>,
    stream: Stream,
    lines: Lines<'a>,
    buffer: Box<[u8]>,
    /// Takes the bytes instead of the lines.
    captured: Option<Captured>,
}

/// The bytes that a child printed, up to [`CAPTURE_LIMIT`], which are wiped when the last owner drops them.
pub type Captured = Arc<Mutex<Zeroizing<Vec<u8>>>>;

/// The most bytes that are captured; the rest is read and dropped.
pub const CAPTURE_LIMIT: usize = 64 * 1024;

impl<'a, R: AsyncRead + Unpin> Pipe<'a, R> {
    pub fn new(source: Option<R>, stream: Stream, scrubber: &'a Scrubber) -> Self {
        Self { source, stream, lines: Lines::new(scrubber), buffer: vec![0; 8192].into(), captured: None }
    }

    /// The same, with its bytes as they are for one receiver, and no lines.
    pub fn into(self, captured: Option<Captured>) -> Self {
        Self { captured, ..self }
    }

    pub fn open(&self) -> bool {
        self.source.is_some()
    }

    /// Reads once into the buffer; 0 is the end. Cancelled, it has read nothing.
    pub async fn read(&mut self) -> io::Result<usize> {
        match &mut self.source {
            Some(source) => source.read(&mut self.buffer).await,
            None => Ok(0),
        }
    }

    /// Passes on what was read.
    pub fn take(&mut self, count: usize, print: &mut impl FnMut(Stream, &str)) {
        if count == 0 {
            self.source = None;
        }
        if let Some(captured) = &self.captured {
            let mut bytes = captured.lock().unwrap_or_else(PoisonError::into_inner);
            let space = CAPTURE_LIMIT - bytes.len();
            bytes.extend_from_slice(&self.buffer[..count.min(space)]);
            self.buffer[..count].zeroize();
            return;
        }
        let stream = self.stream;
        self.lines.feed(&self.buffer[..count], &mut |line| print(stream, line));
    }

    pub fn finish(&mut self, print: &mut impl FnMut(Stream, &str)) {
        let stream = self.stream;
        self.lines.finish(&mut |line| print(stream, line));
    }
}

/// Passes lines on, with a rate limit, and adds them to the tail.
pub struct Sink<'a> {
    on_line: &'a mut (dyn FnMut(Stream, &str) + Send),
    /// Whether every line is passed on, without a rate limit.
    all: bool,
    tail: Tail,
    window: Instant,
    lines: usize,
    bytes: usize,
    left_out: Option<(Stream, u64)>,
}

impl<'a> Sink<'a> {
    pub fn new(on_line: &'a mut (dyn FnMut(Stream, &str) + Send), all: bool) -> Self {
        let (tail, window) = (Tail::default(), Instant::now());
        Self { on_line, all, tail, window, lines: 0, bytes: 0, left_out: None }
    }

    pub fn take(&mut self, stream: Stream, line: &str) {
        self.take_at(Instant::now(), stream, line);
    }

    fn take_at(&mut self, now: Instant, stream: Stream, line: &str) {
        self.tail.push(line);
        if now.saturating_duration_since(self.window) >= Duration::from_secs(1) {
            self.sum_up();
            (self.window, self.lines, self.bytes) = (now, 0, 0);
        }
        self.lines += 1;
        self.bytes += line.len();
        if self.all || (self.lines <= LINES_A_SECOND && self.bytes <= BYTES_A_SECOND) {
            (self.on_line)(stream, line);
        } else {
            let before = self.left_out.map_or(0, |(_, count)| count);
            self.left_out = Some((stream, before + 1));
        }
    }

    /// Passes on a line that tells how many lines were omitted.
    fn sum_up(&mut self) {
        if let Some((stream, count)) = self.left_out.take() {
            let lines = if count == 1 { "line" } else { "lines" };
            (self.on_line)(stream, &format!("{CUT} {count} {lines} left out"));
        }
    }

    pub fn finish(mut self) -> String {
        self.sum_up();
        self.tail.into_text()
    }
}

/// The last lines, up to [`TAIL_LIMIT`].
#[derive(Default)]
pub struct Tail {
    text: String,
    cut: bool,
}

impl Tail {
    pub fn push(&mut self, line: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(line);
        let excess = self.text.len().saturating_sub(TAIL_LIMIT - CUT.len());
        if excess > 0 {
            let end = self.text.len();
            let from = (excess..end).find(|at| self.text.is_char_boundary(*at)).unwrap_or(end);
            self.text.drain(..from);
            self.cut = true;
        }
    }

    pub fn into_text(self) -> String {
        if self.cut { format!("{CUT}{}", self.text) } else { self.text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(secrets: &[&str], pieces: &[&[u8]]) -> Vec<String> {
        let scrubber = Scrubber::new(secrets.iter().filter_map(|secret| Secret::new(secret)));
        let mut lines = Lines::new(&scrubber);
        let mut seen = Vec::new();
        for piece in pieces {
            lines.feed(piece, &mut |line| seen.push(line.to_owned()));
        }
        lines.finish(&mut |line| seen.push(line.to_owned()));
        seen
    }

    #[test]
    fn lines_are_joined_across_reads_and_the_last_one_needs_no_end() {
        assert_eq!(lines_of(&[], &[b"a\r\nb", b"c\n\nd"]), ["a", "bc", "", "d"]);
        assert_eq!(lines_of(&[], &[b"\xff\n"]), ["\u{fffd}"]);
    }

    #[test]
    fn a_secret_is_found_across_reads_and_behind_control_characters() {
        assert_eq!(lines_of(&["hunter22"], &[b"x hunt", b"er22 y\n"]), ["x [secret] y"]);
        assert_eq!(lines_of(&["hunter22"], &[b"hun\x1b\0ter22\n"]), ["[secret]"]);
        assert_eq!(lines_of(&["hunter", "hunter22"], &[b"hunter22 hunter\n"]), ["[secret] [secret]"]);
    }

    #[test]
    fn a_secret_is_found_wherever_a_long_line_is_cut() {
        for offset in LINE_LIMIT - 12..LINE_LIMIT + 4 {
            let line = format!("{}hunter22 and more\nnext\n", "x".repeat(offset));
            let seen = lines_of(&["hunter22"], &[line.as_bytes()]);
            assert!(!seen[0].contains("hunter22") && seen[0].len() <= LINE_LIMIT + CUT.len(), "{offset}");
            // Nor a part of the secret.
            assert!(!seen[0].contains("hunte"), "{offset}: {}", &seen[0][LINE_LIMIT - 20..]);
            assert_eq!(seen[1], "next");
        }
    }

    #[test]
    fn what_a_second_cannot_take_is_left_out_and_counted() {
        let mut seen: Vec<String> = Vec::new();
        let mut on_line = |_: Stream, line: &str| seen.push(line.to_owned());
        let mut sink = Sink::new(&mut on_line, false);
        let begin = Instant::now();
        let at = |milliseconds| begin + Duration::from_millis(milliseconds);
        for number in 0..LINES_A_SECOND + 3 {
            sink.take_at(at(500), Stream::Err, &format!("{number}"));
        }
        sink.take_at(at(1700), Stream::Out, "next");
        for _ in 0..=BYTES_A_SECOND / LINE_LIMIT {
            sink.take_at(at(1800), Stream::Out, &"x".repeat(LINE_LIMIT));
        }
        let tail = sink.finish();
        assert!(tail.ends_with("xxx"), "the tail is the true end: {tail}");
        assert_eq!(seen[LINES_A_SECOND..LINES_A_SECOND + 2], ["[...] 3 lines left out", "next"]);
        assert_eq!(seen.last().map(String::as_str), Some("[...] 2 lines left out"));
        assert_eq!(seen.len(), LINES_A_SECOND + 3 + BYTES_A_SECOND / LINE_LIMIT - 1);
    }

    #[test]
    fn a_tail_keeps_the_end() {
        let mut tail = Tail::default();
        for number in 0..2000 {
            tail.push(&format!("line {number} é"));
        }
        let text = tail.into_text();
        assert!(text.len() <= TAIL_LIMIT && text.ends_with("line 1998 é\nline 1999 é"));
        assert!(text.starts_with(CUT));
        let mut short = Tail::default();
        short.push("a");
        short.push("b");
        assert_eq!(short.into_text(), "a\nb");
    }
}
