//! Several runners of one machine: how many, which one, and what the configuration file sets for one alone.

use super::Error;
use clap::Args;
use std::collections::BTreeMap;
use std::path::Path;

/// The most runners that one configuration can have.
pub const MOST: u32 = 64;

/// The key of the tables in the configuration file.
pub const TABLE: &str = "instance";

/// Keys that cannot differ between instances: the machine, and this run.
const FOR_ALL: [&str; 9] =
    ["count", "config", "root", "state-dir", "deps", "json", "log-format", "quiet", "verbose"];

/// How many.
#[derive(Debug, Clone, Args)]
pub struct Count {
    /// Number of runners on this machine, 64 at most [default: as many as there are]
    ///
    /// The first one has the directory, user and name that are set, and each further one the same with -2, -3 and so on at
    /// the end; a name with {index} stays as it is. In the configuration file, [instance.3] sets what differs for the third.
    /// A lower number removes runners, the last one first, each in its first idle moment; one that is still busy after
    /// --drain stays, and the exit code is 75.
    #[arg(long, help_heading = "Machine options", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST)))]
    pub count: Option<u32>,
}

/// Which one.
#[derive(Debug, Clone, Default, Args)]
pub struct Chosen {
    /// Only the runner with this number, of those that install --count created
    #[arg(long, help_heading = "Machine options", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST)))]
    pub instance: Option<u32>,
}

/// Which ones, for a command that does not choose by itself.
#[derive(Debug, Clone, Default, Args)]
pub struct Choice {
    /// Every runner of this machine
    #[arg(long = "all", id = "every_runner", conflicts_with = "instance")]
    pub all: bool,
    /// One of the instances.
    #[command(flatten)]
    pub chosen: Chosen,
}

/// What the file sets for single instances.
pub(super) type Tables = BTreeMap<u32, BTreeMap<String, String>>;

/// Reads the tables.
pub(super) fn read(
    path: &Path,
    value: &toml::Value,
    as_text: fn(&str, &toml::Value) -> Option<String>,
) -> Result<Tables, Error> {
    let refused = |key: String| Error::FileInstance { path: path.to_owned(), key };
    let Some(tables) = value.as_table() else { return Err(refused(TABLE.to_owned())) };
    let mut read = Tables::new();
    for (name, table) in tables {
        let number =
            name.parse().ok().filter(|number| (1..=MOST).contains(number) && number.to_string() == *name);
        let (Some(number), Some(table)) = (number, table.as_table()) else {
            return Err(refused(format!("{TABLE}.{name}")));
        };
        let mut values = BTreeMap::new();
        for (key, value) in table {
            if FOR_ALL.contains(&key.as_str()) {
                return Err(Error::FileKeyForAll { path: path.to_owned(), number, key: key.clone() });
            }
            let Some(value) = as_text(key, value) else {
                return Err(Error::FileValue { path: path.to_owned(), key: format!("{TABLE}.{name}.{key}") });
            };
            values.insert(key.clone(), value);
        }
        read.insert(number, values);
    }
    Ok(read)
}
