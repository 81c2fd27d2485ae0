//! `runup generate`: man pages, completions and the reference, from the definitions of the program itself.

use super::manual::Page;
use super::output::{Failed, Output};
use super::{interface, man, reference};
use crate::error::situation::{self, Situation};
use crate::error::{Class, Failure};
use crate::host::umask;
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Args)]
pub(super) struct GenerateFlags {
    #[command(subcommand)]
    pub what: GenerateWhat,
}

#[derive(Debug, Clone, Subcommand)]
pub(super) enum GenerateWhat {
    /// Write the man pages into a directory
    Man {
        /// Directory, created if it does not exist
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Print a completion script for a shell
    Completions {
        /// Shell that the script is for
        shell: clap_complete::Shell,
    },
    /// Write the reference in Markdown into a directory
    #[command(hide = true)]
    Reference {
        /// Directory, created if it does not exist
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

pub(super) const MAN_PAGE: Page = Page {
    path: "generate man",
    notes: &["The pages of the commands belong into section 1, and runup.toml.5 into section 5."],
    exit: &[],
    examples: &[
        ("Write the man pages into a directory", "runup generate man target/man"),
        ("Write them where man finds them", "sudo runup generate man /usr/local/share/man/man1"),
    ],
};

pub(super) const COMPLETIONS_PAGE: Page = Page {
    path: "generate completions",
    notes: &[],
    exit: &[],
    examples: &[
        (
            "Install completions for bash",
            "runup generate completions bash | sudo tee /etc/bash_completion.d/runup",
        ),
        ("Print completions for fish", "runup generate completions fish"),
    ],
};

#[derive(Debug, thiserror::Error)]
#[error("failed to write the {what} to {}", dir.display())]
struct Error {
    what: &'static str,
    dir: PathBuf,
    #[source]
    source: std::io::Error,
}

impl Failure for Error {
    fn class(&self) -> Class {
        Class::of_io(&self.source, Class::CantCreate)
    }

    fn situation(&self) -> &'static Situation {
        situation::of_io(&self.source, &situation::FILE_FAILED)
    }
}

pub(super) fn run(flags: &GenerateFlags) -> Result<Output, Failed> {
    match &flags.what {
        GenerateWhat::Man { dir } => {
            write("man pages", dir, man::write)?;
            let text =
                format!("man pages in {dir}; read one with: man -l {dir}/runup.1", dir = dir.display());
            Ok(Output::new(text, &json!({"dir": dir})))
        }
        GenerateWhat::Reference { dir } => {
            write("reference", dir, reference::write)?;
            Ok(Output::new(format!("reference in {}", dir.display()), &json!({"dir": dir})))
        }
        GenerateWhat::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut interface::command(), "runup", &mut script);
            let script = String::from_utf8_lossy(&script).into_owned();
            Ok(Output::new(script.clone(), &json!({"shell": shell.to_string(), "script": script})))
        }
    }
}

/// Writes files that other users may read into a directory, which is created if it does not exist.
fn write(
    what: &'static str,
    dir: &Path,
    pages: impl FnOnce(&Path) -> std::io::Result<()>,
) -> Result<(), Error> {
    let failed = |source| Error { what, dir: dir.to_owned(), source };
    umask::for_others(|| fs_err::create_dir_all(dir).and_then(|()| pages(dir))).map_err(failed)
}
