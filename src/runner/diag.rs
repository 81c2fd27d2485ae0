//! The logs of GitHub's programs, in `_diag`: one file for each start of the listener, and one for each job. Those of
//! jobs that are over can be [kept elsewhere](super::kept_logs).
//!
//! Jobs can write there. No link is followed, only regular files that the runner's user could read are read, and never
//! more than a part of a large one. The text is a job's: it is for display only.

use super::state::LOG_DIR;
use crate::host::{self, Account, file};
use jiff::Timestamp;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How much is read at once, and so the most that is read of what a file had before.
const CHUNK: u64 = 256 * 1024;
/// The longest line, in bytes.
const LONGEST: usize = 8 * 1024;
/// How many entries of the directory are looked at.
const MOST_ENTRIES: usize = 20_000;
/// The longest name of a log; the real ones have about 40 bytes.
const LONGEST_NAME: usize = 100;
/// Stands where something was left out.
const CUT: &str = "[...]";

/// Whose log it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The listener, which waits for jobs.
    Listener,
    /// The worker, which runs one.
    Worker,
}

impl Program {
    const ALL: [Self; 2] = [Self::Listener, Self::Worker];

    fn prefix(self) -> &'static str {
        match self {
            Self::Listener => "Runner_",
            Self::Worker => "Worker_",
        }
    }
}

/// Whether GitHub's programs could have given a file this name.
pub(super) fn is_log(name: &str) -> bool {
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    name.len() <= LONGEST_NAME
        && name.bytes().all(usual)
        && name.strip_suffix(".log").is_some()
        && Program::ALL.iter().any(|program| name.starts_with(program.prefix()))
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiagLine {
    /// When it was written; the time of the line above if it has none.
    pub at: Option<Timestamp>,
    /// Its text without the time.
    pub text: String,
}

/// The newest log of a program, and the next ones.
#[derive(Debug)]
pub struct DiagLogs {
    dir: PathBuf,
    /// Where those of jobs that are over are kept.
    kept: Option<PathBuf>,
    program: Program,
    reader: Option<Account>,
    open: Option<Log>,
    /// A file that cannot be read: it is reported once.
    refused: Option<String>,
}

impl DiagLogs {
    /// Those of the runner in `dir`, whose user is `reader`; also those in the directory `kept`, which is root's.
    #[must_use]
    pub fn of(dir: &Path, kept: Option<PathBuf>, program: Program, reader: Option<Account>) -> Self {
        Self { dir: dir.join(LOG_DIR), kept, program, reader, open: None, refused: None }
    }

    /// The lines that were added since the last call, and of a newer file if there is one. The first call reads the end
    /// of the newest file.
    ///
    /// # Errors
    /// The file is not one that can be trusted, or cannot be read. The next call goes on.
    pub fn read(&mut self) -> Result<Vec<DiagLine>, host::Error> {
        let failed =
            |name: &str, source| host::Error::Path { doing: "read", path: self.dir.join(name), source };
        let mut lines = Vec::new();
        if let Some(log) = &mut self.open {
            log.read(&mut lines).map_err(|error| failed(&log.name, error))?;
        }
        let newest_kept = self.kept.as_ref().and_then(|kept| newest(kept, self.program));
        let newest = newest(&self.dir, self.program);
        let is_kept = newest_kept > newest;
        let newest = newest_kept.max(newest).map(|(_, name)| name);
        let is_open = |name: &String| self.open.as_ref().is_some_and(|log| log.name == *name);
        let Some(name) = newest.filter(|name| !is_open(name) && self.refused.as_ref() != Some(name)) else {
            return Ok(lines);
        };
        self.refused = Some(name.clone());
        let (dir, reader) = match &self.kept {
            Some(kept) if is_kept => (kept, None),
            _ => (&self.dir, self.reader.as_ref()),
        };
        if let Some(opened) = file::open_untrusted_for(reader, dir, &name)? {
            let mut log = Log { file: opened, name, at: None, read: 0, line: Vec::new(), is_cut: false };
            log.read(&mut lines).map_err(|error| failed(&log.name, error))?;
            self.open = Some(log);
        }
        self.refused = None;
        Ok(lines)
    }
}

/// The file that was written last, with that time. Any of them can be a job's.
fn newest(dir: &Path, program: Program) -> Option<(SystemTime, String)> {
    if !std::fs::symlink_metadata(dir).ok()?.is_dir() {
        return None;
    }
    let names = std::fs::read_dir(dir).ok()?.take(MOST_ENTRIES).flatten();
    let logs = names.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let is_log = name.strip_suffix(".log").is_some_and(|name| name.starts_with(program.prefix()));
        let written = entry.metadata().ok().filter(|_| is_log)?.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        Some((written, name))
    });
    logs.max()
}

/// An open file.
#[derive(Debug)]
struct Log {
    file: File,
    name: String,
    /// The time of the last line that had one.
    at: Option<Timestamp>,
    /// How far it was read.
    read: u64,
    /// The beginning of a line without an end.
    line: Vec<u8>,
    is_cut: bool,
}

impl Log {
    fn read(&mut self, lines: &mut Vec<DiagLine>) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        if length < self.read {
            // It was emptied.
            self.read = 0;
        }
        if length - self.read > CHUNK {
            self.read = length - CHUNK;
            self.line.clear();
            self.is_cut = false;
            lines.push(DiagLine { at: self.at, text: CUT.to_owned() });
        }
        self.file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = Vec::new();
        self.read += (&self.file).take(CHUNK).read_to_end(&mut bytes)? as u64;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            let space = LONGEST - self.line.len();
            self.is_cut |= text.len() > space;
            self.line.extend_from_slice(&text[..text.len().min(space)]);
            if ended {
                lines.push(self.end_line());
            }
        }
        Ok(())
    }

    fn end_line(&mut self) -> DiagLine {
        let text = String::from_utf8_lossy(&self.line);
        let (at, text) = parted(text.trim_end_matches('\r'));
        self.at = at.or(self.at);
        let cut = if self.is_cut { CUT } else { "" };
        let line = DiagLine { at: self.at, text: format!("{text}{cut}") };
        self.line.clear();
        self.is_cut = false;
        line
    }
}

/// Takes the time out of `[2026-01-31 12:00:00Z INFO Listener] text`.
fn parted(line: &str) -> (Option<Timestamp>, String) {
    let time = line.strip_prefix('[').and_then(|rest| rest.split_at_checked("2026-01-31 12:00:00Z".len()));
    let parsed = time.and_then(|(time, rest)| Some((time.replacen(' ', "T", 1).parse().ok()?, rest)));
    match parsed {
        Some((at, rest)) => (Some(at), format!("[{}", rest.trim_start())),
        None => (None, line.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    fn tree() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let diag = dir.path().join(LOG_DIR);
        std::fs::create_dir(&diag).unwrap();
        (dir, diag)
    }

    fn texts(logs: &mut DiagLogs) -> Vec<String> {
        logs.read().unwrap().into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn a_line_has_its_time_or_the_one_above() {
        let (dir, diag) = tree();
        let text =
            "at the top\n[2026-01-31 12:00:00Z INFO Listener] one\r\n   at Somewhere()\n[not a time] x\n";
        std::fs::write(diag.join("Runner_1.log"), text).unwrap();
        let lines = DiagLogs::of(dir.path(), None, Program::Listener, None).read().unwrap();
        let noon: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let found: Vec<_> = lines.iter().map(|line| (line.at, line.text.as_str())).collect();
        let expected = [
            (None, "at the top"),
            (Some(noon), "[INFO Listener] one"),
            (Some(noon), "   at Somewhere()"),
            (Some(noon), "[not a time] x"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_added_is_read_once_and_the_next_file_is_found() {
        let (dir, diag) = tree();
        let mut logs = DiagLogs::of(dir.path(), None, Program::Worker, None);
        assert!(texts(&mut logs).is_empty());
        let first = diag.join("Worker_1.log");
        std::fs::write(&first, "one\ntw").unwrap();
        assert_eq!(texts(&mut logs), ["one"]);
        std::fs::write(&first, "one\ntwo\nthree\n").unwrap();
        assert_eq!(texts(&mut logs), ["two", "three"]);
        std::fs::write(&first, "again\n").unwrap();
        assert_eq!(texts(&mut logs), ["again"], "it was emptied");
        let second = diag.join("Worker_2.log");
        std::fs::write(&second, "of the next\n").unwrap();
        let later = SystemTime::now() + std::time::Duration::from_secs(9);
        File::options().write(true).open(&second).unwrap().set_modified(later).unwrap();
        assert_eq!(texts(&mut logs), ["of the next"]);
        assert!(texts(&mut logs).is_empty());
    }

    #[test]
    fn a_log_of_any_size_is_read_in_part() {
        let (dir, diag) = tree();
        let mut text = "x".repeat(3_000_000);
        let _ = write!(text, "\nlast\n{}\n", "y".repeat(LONGEST + 9));
        std::fs::write(diag.join("Runner_1.log"), text).unwrap();
        let lines = texts(&mut DiagLogs::of(dir.path(), None, Program::Listener, None));
        assert_eq!(lines[0], CUT);
        assert_eq!(lines[2], "last");
        assert!(lines.iter().all(|line| line.len() <= LONGEST + CUT.len()));
        assert!(lines[3].ends_with(CUT));
    }
}
