//! Every key of the configuration file, for runup.toml(5) and the reference.

use super::interface::{self, Documented};
use clap::Command;

/// What the file is.
pub(super) const INTRODUCTION: [&str; 4] = [
    "runup reads its settings from a TOML file: /etc/runup/config.toml as root, ~/.config/runup/config.toml as any other user, or the file that --config or \
     RUNUP_CONFIG names. A relative path in it is relative to the current directory.",
    "The keys are the long options without their dashes. An option takes precedence over the environment, which takes \
     precedence over the file. One file serves all commands: each command uses the keys of its own options, and an \
     unknown key is an error.",
    "A boolean is true or false. A duration is a string such as \"30s\", \"5m\" or \"1h30m\", or a number of seconds. \
     A list is an array of strings, or one string with commas.",
    "The file must not be writable by other users, because it can set commands to run. As root, runup refuses a file \
     that another user can change, or that lies below a directory that another user can change. Tokens do not belong \
     into the file: token-file and token-command say where to get them.",
];

/// A whole file.
pub(super) const EXAMPLE: &str = "url = \"https://github.com/octo-org\"\n\
                                  token-file = \"/etc/runup/token\"\n\
                                  labels = [\"gpu\", \"large\"]\n\
                                  ephemeral = true\n\
                                  drain = \"10m\"\n";

/// More commands than this are not listed.
const MOST_COMMANDS: usize = 8;

/// One key.
pub(super) struct Key {
    /// Its name.
    pub name: String,
    /// The type of its value.
    pub kind: &'static str,
    /// The option that it stands for.
    pub option: String,
    /// The environment variable of the same meaning.
    pub variable: String,
    /// What it means to which commands.
    pub uses: Vec<Use>,
}

/// What a key means to some commands.
pub(super) struct Use {
    /// The commands; only `all commands` for global options.
    pub commands: Vec<String>,
    /// The option of those commands.
    pub documented: Documented,
    /// What holds if the key is not set and has no default.
    pub without_default: &'static str,
}

/// Every key of the command line `root`, which is built, in alphabetical order.
pub(super) fn all(root: &Command) -> Vec<Key> {
    let global: Vec<String> = interface::options(root).into_iter().filter_map(|option| option.key).collect();
    let mut keys: Vec<Key> = Vec::new();
    for (path, command) in interface::commands(root) {
        for documented in interface::options(command) {
            let (Some(name), Some(variable)) = (documented.key.clone(), documented.variable.clone()) else {
                continue;
            };
            let is_global = global.contains(&name);
            if is_global && !path.is_empty() {
                continue;
            }
            let command = if is_global { "all commands".to_owned() } else { path.clone() };
            let index = keys.iter().position(|key| key.name == name).unwrap_or_else(|| {
                let (kind, option) = (kind(&documented), documented.usage());
                keys.push(Key { name, kind, option, variable, uses: Vec::new() });
                keys.len() - 1
            });
            let (kind, uses) = (keys[index].kind, &mut keys[index].uses);
            if let Some(known) = uses.iter_mut().find(|known| known.documented == documented) {
                known.commands.push(command);
            } else {
                let without_default = if kind == "boolean" { "false" } else { "not set" };
                uses.push(Use { commands: vec![command], documented, without_default });
            }
        }
    }
    keys.sort_by(|left, right| left.name.cmp(&right.name));
    keys
}

fn kind(documented: &Documented) -> &'static str {
    match documented.value.as_deref() {
        None | Some("BOOL") => "boolean",
        Some("DURATION") => "duration",
        Some("LABELS") => "list",
        Some(_) => "string",
    }
}

/// Values with their meanings, as a sentence.
pub(super) fn values(values: &[(String, String)]) -> Option<String> {
    let one = |(value, meaning): &(String, String)| {
        if meaning.is_empty() { value.clone() } else { format!("{value} = {meaning}") }
    };
    let all: Vec<String> = values.iter().map(one).collect();
    (!all.is_empty()).then(|| format!("Values: {}.", all.join("; ")))
}

impl Use {
    /// The commands, if they are few.
    pub(super) fn few_commands(&self) -> Vec<String> {
        if self.commands.len() > MOST_COMMANDS {
            vec!["most commands".to_owned()]
        } else {
            self.commands.clone()
        }
    }
}
