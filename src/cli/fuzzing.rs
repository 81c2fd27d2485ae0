//! The entry points of `tests/fuzz` that are not public otherwise.

use super::line::{Line, ParseError};
use super::output::Failed;
use crate::error::{Failure as _, chain};
use crate::settings::Environment;
use std::ffi::OsString;
use std::path::Path;

/// Parses `install` with the configuration file at `path`: how many options it has then, or the exit code and the message.
pub fn install_with(path: &Path) -> Result<usize, (u8, String)> {
    let arguments = ["runup", "install", "--config"].map(OsString::from);
    let arguments: Vec<OsString> = arguments.into_iter().chain([path.into()]).collect();
    match Line::new(&arguments).read(&Environment::default(), None) {
        Ok(parsed) => Ok(parsed.given.len()),
        Err(ParseError::Clap(error, _)) => Err((64, error.to_string())),
        Err(ParseError::Settings(error)) => {
            let (code, text) = (error.class().exit_code(), format!("{} {:?}", chain(&error), error.hint()));
            drop(Failed::from(error));
            Err((code, text))
        }
    }
}
