//! What clap says of a command line that it cannot take, and who wrote what it complains of.

use super::output::{self, Failed};
use super::visible;
use crate::error::{Class, Failure};
use crate::secret;
use crate::settings::flags::{Common, LogFormat};
use crate::settings::{Environment, Origin, layers};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::borrow::Cow;
use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

/// A command line, variable or file that holds what no option takes.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Usage {
    message: String,
    hint: String,
    class: Class,
}

impl Failure for Usage {
    fn class(&self) -> Class {
        self.class
    }

    fn hint(&self) -> Option<String> {
        Some(self.hint.clone())
    }
}

/// Who wrote the value that clap refuses: it knows the option, not the layer.
pub(super) fn origin(
    error: &clap::Error,
    file: &layers::File,
    arguments: &[OsString],
    environment: &Environment,
) -> Origin {
    if !matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue) {
        return Origin::Flag;
    }
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else { return Origin::Flag };
    let option = shown.trim_start_matches('-').split([' ', '=', '[']).next().unwrap_or_default();
    let (flag, joined) = (format!("--{option}"), format!("--{option}="));
    let is_it = |argument: &OsString| *argument == *flag || argument.to_string_lossy().starts_with(&joined);
    let variable = layers::variable(option);
    if arguments.iter().any(is_it) {
        Origin::Flag
    } else if environment.get(&variable).is_some() {
        Origin::Variable(variable)
    } else if file.has(option) {
        Origin::File(file.path().to_owned())
    } else {
        Origin::Flag
    }
}

/// Help and version go to stdout and are fine; anything else is a failure.
pub(super) fn clap_says(error: &clap::Error, origin: &Origin, common: &Common) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let class = if matches!(origin, Origin::File(_)) { Class::Config } else { Class::Usage };
    let source = match origin {
        Origin::File(path) => Some(format!("The value is from the configuration file {}.", path.display())),
        Origin::Variable(name) => Some(format!("The value is from the environment variable {name}.")),
        Origin::Flag | Origin::Default => None,
    };
    if !common.json && common.log_format == LogFormat::Text {
        let said = error.render().to_string();
        match secret::mask(&said) {
            Cow::Borrowed(_) => {
                let _ = error.print();
            }
            // A token in the place of something else is not repeated.
            Cow::Owned(masked) => {
                let _ = write!(std::io::stderr(), "{}", visible::lines(&masked));
            }
        }
        if let Some(hint) = output::hint_for(None, &said) {
            let _ = writeln!(std::io::stderr(), "hint: {hint}");
        }
        if let Some(source) = source {
            let _ = writeln!(std::io::stderr(), "hint: {source}");
        }
        return ExitCode::from(class.exit_code());
    }
    // The first paragraph is the complaint; the others are tips and the usage.
    let text = error.render().to_string();
    let message = text.split("\n\n").next().unwrap_or(&text).trim_start_matches("error: ");
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let hint = source.unwrap_or_else(|| "The same command with --help shows what it takes.".to_owned());
    output::finish(Err(Failed::from(Usage { message, hint, class })), common, None)
}
