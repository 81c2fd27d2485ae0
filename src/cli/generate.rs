//! `runup generate`: the man pages and completions, from the binary itself, so that they cannot lag behind.

use super::args::{Cli, GenerateFlags, GenerateWhat};
use super::output::{Failed, Output};
use crate::error::{Class, Failure};
use crate::host::umask;
use clap::CommandFactory as _;
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
#[error("failed to write the man pages to {}", dir.display())]
struct Error {
    dir: PathBuf,
    #[source]
    source: std::io::Error,
}

impl Failure for Error {
    fn class(&self) -> Class {
        Class::of_io(&self.source, Class::CantCreate)
    }
}

pub(super) fn run(flags: &GenerateFlags) -> Result<Output, Failed> {
    match &flags.what {
        GenerateWhat::Man { dir } => {
            let failed = |source| Error { dir: dir.clone(), source };
            umask::for_others(|| {
                fs_err::create_dir_all(dir)?;
                clap_mangen::generate_to(Cli::command(), dir)
            })
            .map_err(failed)?;
            let text = format!("man pages in {}: man -l {}/runup.1", dir.display(), dir.display());
            Ok(Output::new(text, &json!({"dir": dir})))
        }
        GenerateWhat::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "runup", &mut script);
            let script = String::from_utf8_lossy(&script).into_owned();
            Ok(Output::new(script.clone(), &json!({"shell": shell.to_string(), "script": script})))
        }
    }
}
