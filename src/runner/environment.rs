//! What the operator sets for the runner and its jobs: proxies, certificates, variables, hooks and PATH.
//!
//! One record, beside the journal, is the truth. `config.sh` and `runup run` pass it on, systemd reads it by
//! `EnvironmentFile=`, and the files that GitHub's listener reads at each start, `.env` and `.path`, are written from it.
//! The values can be secrets: they are in these files only, and messages have the names.

use super::config_sh;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The certificates that the runner trusts, in its directory: those of the system and those of `--ca-file`, because
/// some programs know one file only.
pub const CA_BUNDLE: &str = ".ca-bundle.pem";

/// The variables from which programs take that file: OpenSSL and .NET, Node.js, curl, git.
const CA_VARIABLES: [&str; 4] = ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"];

/// The variables of the hooks of GitHub's runner, before and after each job.
pub const HOOKS: [&str; 2] = ["ACTIONS_RUNNER_HOOK_JOB_STARTED", "ACTIONS_RUNNER_HOOK_JOB_COMPLETED"];

/// The name of the directory with tools, which is no variable: jobs get links to it.
const TOOL_CACHE: &str = "tool-cache";

/// The variables by which an operator moves a runner's tool cache elsewhere.
pub const TOOL_CACHE_VARIABLES: [&str; 2] = ["RUNNER_TOOL_CACHE", "AGENT_TOOLSDIRECTORY"];

/// The variables that decide how GitHub is reached.
const NETWORK: [&str; 7] =
    ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_DIR"];

/// Takes a setting back, in the place of its value.
pub const NONE: &str = "none";

/// The lines around what runup writes to `.env`. The listener would read a comment with a `=` as a variable.
const BEGIN: &str = "# Written by runup: change it with the options of runup install.";
const END: &str = "# Add lines below this one: they win, and runup keeps them.";

/// Begins the lines of the record that are no variables.
const EXTRA: &str = "#:";

/// What is set for a runner and its jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunnerEnvironment {
    variables: BTreeMap<String, String>,
    path: Option<String>,
    ca_file: Option<PathBuf>,
    tool_cache: Option<PathBuf>,
}

/// What one run asks for.
#[derive(Debug, Clone, Default)]
pub struct WantedEnvironment {
    /// The proxies and certificates of runup's own environment, for what this run starts.
    pub own: Vec<(String, String)>,
    /// Those that the runner is to have; `None` keeps what was set before.
    pub network: Option<Vec<(String, String)>>,
    /// What every program on Windows needs of it.
    pub system: Vec<(String, String)>,
    /// The file of certificates to trust besides the system's.
    pub ca_file: Requested<PathBuf>,
    /// The variables of the jobs; `None` keeps what was set before.
    pub jobs: Option<Vec<(String, String)>>,
    /// The hooks before and after each job.
    pub hooks: [Requested<String>; 2],
    /// The PATH of the jobs.
    pub path: Requested<String>,
    /// The directory with tools for the jobs of all runners.
    pub tool_cache: Requested<PathBuf>,
}

/// What a request says of one setting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Requested<T> {
    /// Nothing: it stays as it was set before.
    #[default]
    Kept,
    /// It is taken back.
    Unset,
    /// It is this.
    Set(T),
}

impl<T: Clone> Requested<T> {
    /// What an option says, from whose text a value is made; [`NONE`] takes it back.
    ///
    /// # Errors
    /// Those of `value`.
    pub fn of<E>(option: Option<&str>, value: impl FnOnce(&str) -> Result<T, E>) -> Result<Self, E> {
        match option {
            None => Ok(Self::Kept),
            Some(NONE) => Ok(Self::Unset),
            Some(text) => value(text).map(Self::Set),
        }
    }

    /// The value, if it is set.
    #[must_use]
    pub fn value(&self) -> Option<&T> {
        if let Self::Set(value) = self { Some(value) } else { None }
    }

    /// What is set after this, if that was set before.
    fn after(&self, before: Option<&T>) -> Option<T> {
        match self {
            Self::Kept => before.cloned(),
            Self::Unset => None,
            Self::Set(value) => Some(value.clone()),
        }
    }
}

impl RunnerEnvironment {
    /// What is set after this request, for a runner in `dir`.
    #[must_use]
    pub fn with(&self, wanted: &WantedEnvironment, dir: &Path) -> Self {
        let mut variables: BTreeMap<String, String> = match &wanted.jobs {
            Some(jobs) => jobs.iter().cloned().collect(),
            None => self.variables.clone(),
        };
        for (name, asked) in HOOKS.into_iter().zip(&wanted.hooks) {
            variables.remove(name);
            if let Some(value) = asked.after(self.variables.get(name)) {
                variables.insert(name.to_owned(), value);
            }
        }
        let is_network = |name: &str| NETWORK.contains(&name) || CA_VARIABLES.contains(&name);
        variables.retain(|name, _| !is_network(name));
        match &wanted.network {
            Some(network) => variables.extend(network.iter().cloned()),
            None => variables.extend(self.network()),
        }
        let ca_file = wanted.ca_file.after(self.ca_file.as_ref());
        let bundle = dir.join(CA_BUNDLE).display().to_string();
        variables.retain(|_, value| *value != bundle);
        if ca_file.is_some() {
            variables.extend(CA_VARIABLES.map(|name| (name.to_owned(), bundle.clone())));
        } else if let Some(file) = variables.get("SSL_CERT_FILE").cloned() {
            // The Node.js of actions does not use the system's certificates.
            variables.entry("NODE_EXTRA_CA_CERTS".to_owned()).or_insert(file);
        }
        let path = match &wanted.path {
            // The runner would keep the one that its files have.
            Requested::Unset => Some(config_sh::PATH.to_owned()),
            wanted => wanted.after(self.path.as_ref()),
        };
        let tool_cache = wanted.tool_cache.after(self.tool_cache.as_ref());
        Self { variables, path, ca_file, tool_cache }
    }

    /// All variables, for the listener and its jobs.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, String)> {
        self.variables.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// The variables that decide how GitHub is reached, for `config.sh`.
    #[must_use]
    pub fn network(&self) -> Vec<(String, String)> {
        let mut variables = self.variables();
        variables
            .retain(|(name, _)| NETWORK.contains(&name.as_str()) || CA_VARIABLES.contains(&name.as_str()));
        variables
    }

    /// The hooks that are set: the variable, and the program.
    pub fn hooks(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        HOOKS.into_iter().filter_map(|name| Some((name, Path::new(self.variables.get(name)?))))
    }

    /// The PATH of the jobs, if one is set.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// The file of the certificates that are trusted besides the system's. It may be gone; their copy is not.
    #[must_use]
    pub fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_deref()
    }

    /// The directory with tools for the jobs of all runners.
    #[must_use]
    pub fn tool_cache(&self) -> Option<&Path> {
        self.tool_cache.as_deref()
    }

    /// The names of what is set; the values can be secrets.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let path = self.path.is_some().then_some("PATH");
        let tools = self.tool_cache.is_some().then_some(TOOL_CACHE);
        self.variables.keys().map(String::as_str).chain(path).chain(tools).map(str::to_owned).collect()
    }

    /// The names of what differs.
    #[must_use]
    pub fn differs(&self, other: &Self) -> Vec<String> {
        let mut names: Vec<String> = self.names();
        names.extend(other.names());
        names.sort();
        names.dedup();
        names.retain(|name| match name.as_str() {
            "PATH" => self.path != other.path,
            TOOL_CACHE => self.tool_cache != other.tool_cache,
            _ => self.variables.get(name) != other.variables.get(name),
        });
        if self.ca_file != other.ca_file && names.is_empty() {
            names.push("SSL_CERT_FILE".to_owned());
        }
        names
    }

    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The record, which is also a file for systemd's `EnvironmentFile=`.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text =
            String::from("# Written by runup; readable by root only, for the values can be secrets.\n");
        let extra = [
            ("path", self.path.clone()),
            ("ca-file", self.ca_file.as_ref().map(|file| file.display().to_string())),
            (TOOL_CACHE, self.tool_cache.as_ref().map(|dir| dir.display().to_string())),
        ];
        for (key, value) in extra {
            if let Some(value) = value {
                let _ = writeln!(text, "{EXTRA}{key}={}", quoted(&value));
            }
        }
        for (name, value) in &self.variables {
            let _ = writeln!(text, "{name}={}", quoted(value));
        }
        text
    }

    /// Reads a record; `None` if runup did not write it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut environment = Self::default();
        for line in text.lines() {
            if let Some(extra) = line.strip_prefix(EXTRA) {
                let (key, value) = extra.split_once('=')?;
                match key {
                    "path" => environment.path = Some(unquoted(value)?),
                    "ca-file" => environment.ca_file = Some(unquoted(value)?.into()),
                    TOOL_CACHE => environment.tool_cache = Some(unquoted(value)?.into()),
                    _ => {}
                }
            } else if !line.starts_with('#') && !line.is_empty() {
                let (name, value) = line.split_once('=')?;
                environment.variables.insert(name.to_owned(), unquoted(value)?);
            }
        }
        Some(environment)
    }

    /// The text of `.env`: what runup sets, and then the operator's own lines of `now`, which win. `before` was recorded when
    /// runup wrote that.
    #[must_use]
    pub fn dot_env(&self, now: Option<&str>, before: &Self) -> String {
        let mut text = format!("{BEGIN}\n");
        if !self.variables.contains_key("LANG") {
            text.push_str("LANG=C.UTF-8\n");
        }
        for (name, value) in &self.variables {
            let _ = writeln!(text, "{name}={value}");
        }
        let _ = writeln!(text, "{END}");
        for line in own_lines(now.unwrap_or_default(), before) {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

/// The operator's own lines in a `.env`: those around runup's block. Where a line that begins or ends the block was
/// deleted, or an older runup wrote none, all lines but those that follow from what was recorded `before`.
#[must_use]
pub fn own_lines<'a>(text: &'a str, before: &RunnerEnvironment) -> Vec<&'a str> {
    let lines: Vec<&str> = text.lines().collect();
    if let Some(begin) = lines.iter().position(|line| *line == BEGIN)
        && let Some(end) = lines.iter().skip(begin).position(|line| *line == END)
    {
        let above = lines[..begin].iter();
        return above.chain(&lines[begin + end + 1..]).copied().collect();
    }
    let is_ours = |line: &str| {
        let variable = line.split_once('=');
        [BEGIN, END, "LANG=C.UTF-8"].contains(&line)
            || variable.is_some_and(|(name, value)| before.variables.get(name).is_some_and(|it| it == value))
    };
    lines.into_iter().filter(|line| !is_ours(line)).collect()
}

/// A value in double quotes, in which systemd takes a backslash as an escape and nothing as a variable.
fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for letter in value.chars() {
        if matches!(letter, '"' | '\\' | '`' | '$') {
            text.push('\\');
        }
        text.push(letter);
    }
    text.push('"');
    text
}

fn unquoted(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let mut value = String::new();
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        value.push(if letter == '\\' { letters.next()? } else { letter });
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn dir() -> &'static Path {
        Path::new("/opt/runner")
    }

    #[test]
    fn a_record_is_read_as_it_was_written_whatever_the_values_are() {
        let odd = "a \"b\" \\ $HOME `id` 'c' = # ü";
        let wanted = WantedEnvironment {
            network: Some(pairs(&[("https_proxy", "http://user:p%40ss@proxy:3128")])),
            ca_file: Requested::Set("/etc/my ca.pem".into()),
            jobs: Some(pairs(&[("ODD", odd), ("EMPTY", "")])),
            hooks: [Requested::Set("/usr/local/bin/started.sh".into()), Requested::Kept],
            path: Requested::Set("/opt/bin:/usr/bin".into()),
            ..WantedEnvironment::default()
        };
        let environment = RunnerEnvironment::default().with(&wanted, dir());
        assert_eq!(RunnerEnvironment::parse(&environment.render()), Some(environment.clone()));
        assert_eq!(environment.variables["SSL_CERT_FILE"], "/opt/runner/.ca-bundle.pem");
        assert_eq!(RunnerEnvironment::parse("no record"), None);
    }

    #[test]
    fn what_is_not_asked_for_stays_and_what_is_replaces_its_kind() {
        let first = WantedEnvironment {
            network: Some(pairs(&[("https_proxy", "http://one")])),
            jobs: Some(pairs(&[("A", "1"), ("B", "2")])),
            ca_file: Requested::Set("/ca.pem".into()),
            hooks: [Requested::Set("/a.sh".into()), Requested::Set("/b.sh".into())],
            path: Requested::Set("/x".into()),
            ..WantedEnvironment::default()
        };
        let first = RunnerEnvironment::default().with(&first, dir());
        let nothing = WantedEnvironment {
            network: Some(pairs(&[("https_proxy", "http://one")])),
            ..WantedEnvironment::default()
        };
        assert_eq!(first.with(&nothing, dir()), first);
        let second = WantedEnvironment {
            network: Some(Vec::new()),
            jobs: Some(pairs(&[("C", "3")])),
            ca_file: Requested::Unset,
            hooks: [Requested::Unset, Requested::Kept],
            path: Requested::Unset,
            ..WantedEnvironment::default()
        };
        let second = first.with(&second, dir());
        assert_eq!(second.names(), [HOOKS[1], "C", "PATH"]);
        assert_eq!((second.ca_file(), second.path()), (None, Some(config_sh::PATH)));
        let mut names = vec!["A", HOOKS[0], "B", "C", "PATH", "https_proxy"];
        names.extend(CA_VARIABLES);
        names.sort_unstable();
        assert_eq!(second.differs(&first), names);
        // Also if nothing is known of the network, as in an image.
        let unset = WantedEnvironment { ca_file: Requested::Unset, ..WantedEnvironment::default() };
        assert_eq!(first.with(&unset, dir()).network(), pairs(&[("https_proxy", "http://one")]));
        // `config.sh` gets no variable of the jobs.
        assert!(first.network().iter().all(|(name, _)| name != "A"));
    }

    #[test]
    fn the_operator_s_own_lines_stay_after_runup_s() {
        let wanted = WantedEnvironment { jobs: Some(pairs(&[("A", "1")])), ..WantedEnvironment::default() };
        let environment = RunnerEnvironment::default().with(&wanted, dir());
        let none = RunnerEnvironment::default();
        // As an older runup wrote it, with a line of the operator.
        let first = environment.dot_env(Some("LANG=C.UTF-8\nMINE=x=y\n"), &none);
        assert_eq!(first, format!("{BEGIN}\nLANG=C.UTF-8\nA=1\n{END}\nMINE=x=y\n"));
        let second = format!("{BEGIN}\nLANG=C.UTF-8\n{END}\nMINE=x=y\n");
        assert_eq!(none.dot_env(Some(&first), &environment), second);
        // What runup wrote stays its own if a line around it is deleted.
        for line in [BEGIN, END] {
            let torn = first.replace(&format!("{line}\n"), "");
            assert_eq!(none.dot_env(Some(&torn), &environment), second, "{line}");
            let changed = torn.replace("A=1", "A=mine");
            assert!(none.dot_env(Some(&changed), &environment).ends_with("A=mine\nMINE=x=y\n"), "{line}");
        }
        assert!(!BEGIN.contains('=') && !END.contains('='), "the listener would set a variable");
    }
}
