//! The layers below the command line: the environment and the configuration file.
//!
//! Both are defaults of clap's own parser, so that the same code checks a value from the file and one from the command
//! line, with the same messages.

use super::{Environment, Error, Given, Origin, instances, suggestion};
use crate::host::{account, owner};
use crate::secret;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The configuration file, unless --config names another one.
pub const DEFAULT_FILE: &str = "/etc/runup/config.toml";

/// The ids of options that make no sense in a file or a variable. A person confirms a name; what a machine's configuration
/// calls its next runner confirms nothing.
const COMMAND_LINE_ONLY: [&str; 6] =
    ["help", "version", "confirmed_name", "as_recorded", "every_runner", instances::TABLE];

/// Filters of `runners list` share their names with properties of a runner, and `name` in a machine's file must not hide
/// the other runners from the list. The ids of filters begin with this, and so do their keys and variables.
const FILTER: &str = "filter_";

/// Where this user's configuration file is, unless one is named: an ordinary user has one of their own, because the
/// machine's is for root's runners.
#[must_use]
pub fn default_file(environment: &Environment) -> PathBuf {
    if account::is_root() || cfg!(windows) {
        return PathBuf::from(DEFAULT_FILE);
    }
    let home =
        || environment.get("HOME").map_or_else(|| account::current().home, PathBuf::from).join(".config");
    environment.get("XDG_CONFIG_HOME").map_or_else(home, PathBuf::from).join("runup/config.toml")
}

/// The arguments without `--SWITCH=false` and `--no-SWITCH`, and the switches of the chosen command that these switch off;
/// `--SWITCH=true` is `--SWITCH`, and `--no-OPTION` is `--OPTION=false` for an option that can also be used without a
/// value. The last one counts.
#[must_use]
pub fn switches(arguments: &[OsString], command: &Command) -> (Vec<OsString>, BTreeSet<String>) {
    let chosen = chosen(arguments, command);
    let (mut known, mut optional) = (BTreeSet::new(), BTreeSet::new());
    for argument in chosen.iter().flat_map(|command| command.get_arguments()) {
        if is_switch(argument) {
            known.extend(key(argument));
        } else if has_optional_value(argument) {
            optional.extend(key(argument));
        }
    }
    let (mut kept, mut off): (Vec<OsString>, _) = (Vec::new(), BTreeSet::new());
    for (at, argument) in arguments.iter().enumerate() {
        let text = argument.to_string_lossy();
        if text == "--" {
            kept.extend_from_slice(&arguments[at..]);
            break;
        }
        let long = text.strip_prefix("--").unwrap_or_default();
        let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
        let negated = name.strip_prefix("no-").filter(|_| value.is_none());
        let said = match value {
            None | Some("true" | "yes" | "on" | "1") if known.contains(name) => Some((name, true)),
            None => negated.filter(|name| known.contains(*name)).map(|name| (name, false)),
            Some("false" | "no" | "off" | "0") if known.contains(name) => Some((name, false)),
            Some(_) => None,
        };
        match said {
            Some((name, true)) => {
                off.remove(name);
                kept.push(format!("--{name}").into());
            }
            Some((name, false)) => {
                kept.retain(|kept| *kept != *format!("--{name}"));
                off.insert(name.to_owned());
            }
            None => {
                let is_off = negated.filter(|name| optional.contains(*name));
                if let Some(name) = is_off.or(Some(name).filter(|name| optional.contains(*name))) {
                    let (flag, joined) = (format!("--{name}"), format!("--{name}="));
                    kept.retain(|kept| *kept != *flag && !kept.to_string_lossy().starts_with(&joined));
                }
                kept.push(is_off.map_or_else(|| argument.clone(), |name| format!("--{name}=false").into()));
            }
        }
    }
    (kept, off)
}

/// The commands that the arguments choose, from `root` on. Their options are known before the rest can be parsed.
#[must_use]
pub fn chosen<'a>(arguments: &[OsString], root: &'a Command) -> Vec<&'a Command> {
    let mut chosen = vec![root];
    let mut is_value = false;
    for argument in arguments.iter().skip(1) {
        let text = argument.to_string_lossy();
        if text == "--" {
            break;
        }
        if let Some(long) = text.strip_prefix("--") {
            let takes = |one: &Arg| {
                one.get_long() == Some(long) && one.get_action().takes_values() && !has_optional_value(one)
            };
            is_value = chosen.iter().any(|command| command.get_arguments().any(takes));
        } else if !std::mem::take(&mut is_value)
            && let Some(next) = chosen.last().and_then(|command| command.find_subcommand(&*text))
        {
            chosen.push(next);
        }
    }
    chosen
}

fn is_switch(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::SetTrue)
}

fn has_optional_value(argument: &Arg) -> bool {
    argument.get_num_args().is_some_and(|range| range.min_values() == 0) && !is_switch(argument)
}

/// The environment variable of a long option or of a key.
#[must_use]
pub fn variable(option: &str) -> String {
    format!("RUNUP_{}", option.replace('-', "_").to_uppercase())
}

/// The key of an option in the file, from which the name of its variable follows; `None` if it has neither.
#[must_use]
pub fn key(argument: &Arg) -> Option<String> {
    let id = argument.get_id().as_str();
    let option = argument.get_long().filter(|_| !COMMAND_LINE_ONLY.contains(&id))?;
    Some(if id.starts_with(FILTER) { id.replace('_', "-") } else { option.to_owned() })
}

/// The configuration file's content: option to text.
#[derive(Debug, Clone, Default)]
pub struct File {
    path: PathBuf,
    values: BTreeMap<String, String>,
    /// What it sets for single instances.
    instances: instances::Tables,
    /// The keys that the chosen instance has for itself.
    own: BTreeSet<String>,
    /// The line of each key.
    lines: BTreeMap<String, usize>,
    /// Switches that the command line switches off, whatever a variable or the file says.
    off: BTreeSet<String>,
}

impl File {
    /// Reads the file that `arguments` or the environment name, or else the default one of this user if it exists.
    ///
    /// # Errors
    /// It cannot be read, is not TOML, or has values of a type that no option takes.
    pub fn find(arguments: &[OsString], environment: &Environment) -> Result<Self, Error> {
        let variable = environment.get(&variable("config")).map(PathBuf::from);
        match named(arguments).or(variable) {
            Some(path) => Self::read(&path),
            None => Self::at(&default_file(environment)),
        }
    }

    /// The same without these switches.
    #[must_use]
    pub fn without(self, off: BTreeSet<String>) -> Self {
        Self { off, ..self }
    }

    /// The same for one instance: what is set for it alone comes before what is set for all.
    #[must_use]
    pub fn of_instance(&self, number: u32) -> Self {
        let mut file = self.clone();
        if let Some(table) = self.instances.get(&number) {
            file.own = table.keys().cloned().collect();
            file.values.extend(table.clone());
        }
        file
    }

    /// The numbers of the instances for which it sets something.
    pub fn instances(&self) -> impl Iterator<Item = u32> + '_ {
        self.instances.keys().copied()
    }

    /// The keys that it sets for the chosen instance alone.
    #[must_use]
    pub fn own(&self) -> &BTreeSet<String> {
        &self.own
    }

    /// Refuses a key that no option has.
    ///
    /// # Errors
    /// `Error::FileUnknownKey`.
    pub fn check(&self, known: &BTreeSet<String>) -> Result<(), Error> {
        let mut keys = self.values.keys().chain(self.instances.values().flat_map(BTreeMap::keys));
        let Some(key) = keys.find(|key| !known.contains(*key)) else { return Ok(()) };
        let known: Vec<&str> = known.iter().map(String::as_str).filter(|key| *key != "config").collect();
        let similar = suggestion::option(key, &known).map(str::to_owned);
        let line = self.lines.get(key).copied();
        Err(Error::FileUnknownKey { path: self.path.clone(), key: key.clone(), line, similar })
    }

    fn sets(&self, key: &str) -> Option<&String> {
        self.values.get(key).filter(|_| !self.off.contains(key))
    }

    /// Reads the file at `path`; a missing one is empty.
    ///
    /// # Errors
    /// As for [`File::find`].
    pub fn at(path: &Path) -> Result<Self, Error> {
        if path.exists() { Self::read(path) } else { Ok(Self::default()) }
    }

    fn read(path: &Path) -> Result<Self, Error> {
        let unreadable = |source| Error::FileUnreadable { path: path.to_owned(), source };
        let mut file = std::fs::File::open(path).map_err(unreadable)?;
        if is_open_to_all(&file) {
            return Err(Error::FileOpenToAll { path: path.to_owned() });
        }
        // It sets the token-command that runs as root, and where the runner is downloaded from.
        if account::is_root() {
            let found = owner::who_else_can_change(path, &file)
                .map_err(|source| Error::FileUnchecked { path: path.to_owned(), source: Box::new(source) })?;
            if let Some(found) = found {
                return Err(Error::FileOfOthers { path: path.to_owned(), at: found.path, why: found.why });
            }
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(unreadable)?;
        let malformed = |text: &str, at: usize, message: String| Error::FileMalformed {
            path: path.to_owned(),
            place: place(text, at),
            message,
        };
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            malformed(&String::from_utf8_lossy(error.as_bytes()), at, "this is not UTF-8".to_owned())
        })?;
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let message = error.message().trim_end().replace('\n', ", ");
            malformed(&text, error.span().map_or(0, |span| span.start), message)
        })?;
        let mut values = BTreeMap::new();
        let mut instances = instances::Tables::new();
        for (key, value) in table {
            if key == instances::TABLE {
                instances = instances::read(path, &value, as_text)?;
                continue;
            }
            let Some(value) = as_text(&key, &value) else {
                return Err(Error::FileValue { path: path.to_owned(), key });
            };
            values.insert(key, value);
        }
        let line_of = |key: &String| {
            let is_it = |line: &str| {
                line.trim_start()
                    .strip_prefix(key.as_str())
                    .is_some_and(|rest| rest.trim_start().starts_with('='))
            };
            Some((key.clone(), text.lines().position(is_it)? + 1))
        };
        let lines =
            values.keys().chain(instances.values().flat_map(BTreeMap::keys)).filter_map(line_of).collect();
        Ok(Self { path: path.to_owned(), values, instances, lines, ..Self::default() })
    }

    /// Whether the file set this option.
    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        self.sets(option).is_some()
    }

    /// What the file sets this option to.
    #[must_use]
    pub fn value(&self, option: &str) -> Option<&str> {
        self.sets(option).map(String::as_str)
    }

    /// The file's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The line at an offset. It can hold a secret, so only its number is shown; what has the form of a token is marked in
/// every message, and is shown as such.
fn place(text: &str, offset: usize) -> String {
    let number = text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
    match text.lines().nth(number - 1) {
        Some(line) if matches!(secret::mask(line), Cow::Owned(_)) => format!("line {number} ({line})"),
        _ => format!("line {number}"),
    }
}

/// Whether every user can write it: it sets a command to run, and where the runner is downloaded from.
#[cfg(unix)]
fn is_open_to_all(file: &std::fs::File) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o002 != 0)
}

#[cfg(not(unix))]
fn is_open_to_all(_: &std::fs::File) -> bool {
    false
}

fn named(arguments: &[OsString]) -> Option<PathBuf> {
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy();
        if text == "--config" {
            return arguments.next().map(PathBuf::from);
        }
        if let Some(path) = text.strip_prefix("--config=") {
            return Some(PathBuf::from(path));
        }
    }
    None
}

fn as_text(key: &str, value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(truth) => Some(truth.to_string()),
        toml::Value::Array(items) => {
            let texts: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
            texts.map(|texts| texts.join(if key == "env" { "\n" } else { "," }))
        }
        _ => None,
    }
}

/// `command` with the environment and the file as the defaults of every option of every subcommand.
#[must_use]
pub fn lay_under(command: Command, file: &File) -> Command {
    let command = command.mut_args(|argument| {
        let Some(key) = key(&argument) else { return argument };
        let is_switch = is_switch(&argument);
        let variable = variable(&key);
        // Templates leave a variable empty when its value is unset, so an empty one counts as unset, as it does for tokens.
        let is_empty = std::env::var_os(&variable).is_some_and(|value| value.is_empty());
        let is_ignored = is_empty || file.off.contains(&key);
        let mut argument = if is_ignored { argument } else { argument.env(variable).hide_env(true) };
        if is_switch {
            argument = argument.value_parser(clap::builder::BoolishValueParser::new());
        }
        if key != "config"
            && let Some(value) = file.sets(&key)
        {
            argument = argument.default_value(value.clone());
        }
        argument
    });
    command.mut_subcommands(|subcommand| lay_under(subcommand, file))
}

/// The keys of all options of a command and of those below it.
#[must_use]
pub fn keys(command: &Command) -> BTreeSet<String> {
    let below = command.get_subcommands().flat_map(keys);
    command.get_arguments().filter_map(key).chain(below).collect()
}

/// The value of an option as it may be shown: variables of jobs can hold secrets, and so can the address of a proxy.
fn shown(key: &str, values: &[String]) -> String {
    let names = |value: &String| {
        let lines = value.lines().map(|line| line.split('=').next().unwrap_or_default().to_owned());
        lines.collect::<Vec<_>>().join(",")
    };
    match key {
        "env" => values.iter().map(names).collect::<Vec<_>>().join(","),
        "proxy" => values.iter().map(|value| without_user(value)).collect::<Vec<_>>().join(","),
        _ => values.join(","),
    }
}

/// The address of a proxy without user and password.
fn without_user(proxy: &str) -> String {
    let (scheme, rest) = proxy.split_once("://").map_or(("", proxy), |(scheme, rest)| (scheme, rest));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") }
}

/// Every option of the chosen command that has a value, in the order of its definition.
#[must_use]
pub fn given(command: &Command, matches: &ArgMatches, file: &File) -> Vec<Given> {
    let mut list = Vec::new();
    for argument in command.get_arguments() {
        let (Some(key), id) = (key(argument), argument.get_id().as_str()) else { continue };
        if matches.try_contains_id(id).is_err() {
            continue;
        }
        let Some(raw) = matches.get_raw(id) else { continue };
        let value: Vec<String> = raw.map(|value| value.to_string_lossy().into_owned()).collect();
        let origin = match matches.value_source(id) {
            _ if file.off.contains(&key) => Origin::Flag,
            Some(ValueSource::CommandLine) => Origin::Flag,
            Some(ValueSource::EnvVariable) => Origin::Variable(variable(&key)),
            _ if file.has(&key) => Origin::File(file.path.clone()),
            _ => Origin::Default,
        };
        let value = if value.is_empty() { "true".to_owned() } else { shown(&key, &value) };
        let switch = is_switch(argument);
        list.push(Given { key, value, origin, switch });
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    fn command() -> Command {
        Command::new("x").subcommand(
            Command::new("y")
                .arg(Arg::new("runner_size").long("runner-size").default_value("small"))
                .arg(Arg::new("loud").long("loud").action(ArgAction::SetTrue)),
        )
    }

    fn file(text: impl AsRef<[u8]>) -> Result<File, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        File::read(&path)
    }

    fn origins(arguments: &[&str], file: &File) -> Vec<(String, String, Origin)> {
        let command = lay_under(command(), file);
        let matches = command.clone().try_get_matches_from(arguments).unwrap();
        let (name, matches) = matches.subcommand().unwrap();
        given(command.find_subcommand(name).unwrap(), matches, file)
            .into_iter()
            .map(|given| (given.key, given.value, given.origin))
            .collect()
    }

    #[test]
    fn the_flag_wins_over_the_file_over_the_default_and_each_says_so() {
        let empty = File::default();
        let set = file("runner-size = \"big\"\nloud = true\n").unwrap();
        let size = |arguments: &[&str], file| origins(arguments, file).remove(0);

        assert_eq!(size(&["x", "y"], &empty), ("runner-size".into(), "small".into(), Origin::Default));
        assert_eq!(size(&["x", "y"], &set).1, "big");
        assert!(matches!(size(&["x", "y"], &set).2, Origin::File(_)));
        let flag = size(&["x", "y", "--runner-size", "huge"], &set);
        assert_eq!(flag, ("runner-size".into(), "huge".into(), Origin::Flag));
        assert_eq!(origins(&["x", "y"], &set)[1].1, "true");
    }

    #[test]
    fn an_unknown_key_is_refused_by_name_with_the_one_that_was_meant() {
        use crate::error::Failure as _;
        let error = file("runer-size = 1").unwrap().check(&keys(&command())).unwrap_err();
        assert!(error.to_string().contains("runer-size"), "{error}");
        assert!(error.hint().unwrap().contains("runner-size ="), "{:?}", error.hint());
        assert!(matches!(file("a = { b = 1 }").unwrap_err(), Error::FileValue { .. }));
        assert!(matches!(file("a = ").unwrap_err(), Error::FileMalformed { .. }));
    }

    #[test]
    fn a_line_that_is_not_toml_is_named_by_its_number_and_not_shown() {
        let error = file("url = \"u\"\ntoken-file = hunter2\n").unwrap_err().to_string();
        assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
        for text in [&b"a = 1\na = 2\n"[..], b"a = 1\nname = \"M\xfcnchen\"\n"] {
            let error = file(text).unwrap_err();
            assert!(
                matches!(&error, Error::FileMalformed { .. }) && error.to_string().contains("line 2"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_file_is_named_in_either_form() {
        let arguments = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
        assert_eq!(named(&arguments(&["install", "--config", "/a"])), Some("/a".into()));
        assert_eq!(named(&arguments(&["--config=/b", "install"])), Some("/b".into()));
        assert_eq!(named(&arguments(&["install"])), None);
    }
}
