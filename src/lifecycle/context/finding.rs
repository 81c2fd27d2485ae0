//! What must not be in an image, but was found there.

use crate::error;
use serde::Serialize;
use std::path::PathBuf;

/// What must not be in an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was found, and where.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

/// How many paths a message names.
const FEW: usize = 5;

/// Paths, for people; a job may have chosen the names.
#[must_use]
pub(crate) fn few(paths: &[PathBuf]) -> String {
    let shown = |path: &PathBuf| path.display().to_string().escape_debug().to_string();
    error::few(&paths.iter().map(shown).collect::<Vec<_>>(), FEW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_few_paths_and_no_escapes() {
        let paths: Vec<PathBuf> = (0..7).map(|number| PathBuf::from(format!("bin/{number}\u{1b}"))).collect();
        let expected = r"bin/0\u{1b}, bin/1\u{1b}, bin/2\u{1b}, bin/3\u{1b}, bin/4\u{1b} and 2 more";
        assert_eq!(few(&paths), expected);
        assert_eq!(few(&[PathBuf::from("run.sh")]), "run.sh");
    }
}
