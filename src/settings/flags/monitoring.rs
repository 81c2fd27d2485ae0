//! The options for programs that watch runup.

#![expect(clippy::doc_markdown, reason = "these comments are the help texts, printed as they are")]

use clap::Args;
use std::path::PathBuf;
use std::str::FromStr;

/// Where to tell what happens.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Monitoring options")]
pub struct EventStream {
    /// Append what happens to this file or FIFO, or to an open descriptor, as one JSON object a line
    ///
    /// The file is created with the mode 0600. A reader that is slow or gone never delays the work: events that it does not
    /// take are lost, and counted in the next one. `plan` and `doctor` write none.
    #[arg(long, value_name = "FILE|fd:N")]
    pub events: Option<Destination>,
}

/// Where to write what is known of the runner.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Monitoring options")]
pub struct MetricsDir {
    /// Directory of node_exporter's textfile collector, for metrics of the runner
    ///
    /// Each runner has files of its own there, which are replaced as a whole; `remove` deletes them. They come from this
    /// machine, and no call is made for them. `plan` and `doctor` write none.
    #[arg(long, value_name = "DIR")]
    pub metrics: Option<PathBuf>,
}

/// Where events go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A file or a FIFO.
    File(PathBuf),
    /// A descriptor that the caller has left open.
    Descriptor(u32),
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("fd:") {
            // Standard output is for the result.
            Some(number) => match number.parse() {
                Ok(number) if number >= 2 => Ok(Self::Descriptor(number)),
                _ => {
                    Err(format!("expected a descriptor such as fd:3, not {text:?}; fd:0 and fd:1 are in use"))
                }
            },
            None if text.is_empty() => Err("expected a file, or a descriptor such as fd:3".to_owned()),
            None => Ok(Self::File(text.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_file_or_a_descriptor_that_is_not_in_use() {
        assert_eq!("/var/log/events".parse(), Ok(Destination::File("/var/log/events".into())));
        assert_eq!("fd:3".parse(), Ok(Destination::Descriptor(3)));
        for wrong in ["", "fd:", "fd:x", "fd:-1", "fd:0", "fd:1"] {
            assert!(wrong.parse::<Destination>().is_err(), "{wrong}");
        }
    }
}
