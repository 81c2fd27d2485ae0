//! What the operator sets for the runner and its jobs: proxies, certificates, variables, hooks and PATH.
//!
//! One record, beside the journal, is the truth. `config.sh` and `runup run` pass it on, systemd reads it by
//! `EnvironmentFile=`, and the files that GitHub's listener reads at each start, `.env` and `.path`, are written from it.
//! The values can be secrets: they are in these files only, and messages have the names.

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

/// The variables that decide how GitHub is reached.
const NETWORK: [&str; 7] =
    ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_DIR"];

/// Takes the place of a hook or a PATH that is to be removed.
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
    /// The file of certificates to trust besides the system's; `None` keeps what was set before.
    pub ca_file: Option<PathBuf>,
    /// The variables of the jobs; `None` keeps what was set before.
    pub jobs: Option<Vec<(String, String)>>,
    /// The hooks before and after each job, or [`NONE`]; `None` keeps what was set before.
    pub hooks: [Option<String>; 2],
    /// The PATH of the jobs, or [`NONE`]; `None` keeps what was set before.
    pub path: Option<String>,
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
            let kept = self.variables.get(name).filter(|_| asked.is_none());
            variables.remove(name);
            if let Some(value) = asked.as_ref().filter(|value| *value != NONE).or(kept) {
                variables.insert(name.to_owned(), value.clone());
            }
        }
        let is_network = |name: &str| NETWORK.contains(&name) || CA_VARIABLES.contains(&name);
        variables.retain(|name, _| !is_network(name));
        match &wanted.network {
            Some(network) => variables.extend(network.iter().cloned()),
            None => variables.extend(self.network()),
        }
        let ca_file = wanted.ca_file.clone().or_else(|| self.ca_file.clone());
        if ca_file.is_some() {
            let bundle = dir.join(CA_BUNDLE).display().to_string();
            variables.extend(CA_VARIABLES.map(|name| (name.to_owned(), bundle.clone())));
        } else if let Some(file) = variables.get("SSL_CERT_FILE").cloned() {
            // The Node.js of actions does not use the system's certificates.
            variables.entry("NODE_EXTRA_CA_CERTS".to_owned()).or_insert(file);
        }
        let path = wanted.path.clone().filter(|path| path != NONE);
        let path = path.or_else(|| self.path.clone().filter(|_| wanted.path.is_none()));
        Self { variables, path, ca_file }
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

    /// The names of what is set; the values can be secrets.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let path = self.path.is_some().then_some("PATH");
        self.variables.keys().map(String::as_str).chain(path).map(str::to_owned).collect()
    }

    /// The names of what differs.
    #[must_use]
    pub fn differs(&self, other: &Self) -> Vec<String> {
        let mut names: Vec<String> = self.names();
        names.extend(other.names());
        names.sort();
        names.dedup();
        names.retain(|name| {
            if name == "PATH" {
                self.path != other.path
            } else {
                self.variables.get(name) != other.variables.get(name)
            }
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
                    _ => {}
                }
            } else if !line.starts_with('#') && !line.is_empty() {
                let (name, value) = line.split_once('=')?;
                environment.variables.insert(name.to_owned(), unquoted(value)?);
            }
        }
        Some(environment)
    }

    /// The text of `.env`: what runup sets, and then the operator's own lines of `now`, which win.
    #[must_use]
    pub fn dot_env(&self, now: Option<&str>) -> String {
        let mut text = format!("{BEGIN}\n");
        if !self.variables.contains_key("LANG") {
            text.push_str("LANG=C.UTF-8\n");
        }
        for (name, value) in &self.variables {
            let _ = writeln!(text, "{name}={value}");
        }
        let _ = writeln!(text, "{END}");
        for line in own_lines(now.unwrap_or_default()) {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

/// The operator's own lines in a `.env`: those after runup's block, or all but the one that an older runup wrote.
#[must_use]
pub fn own_lines(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    if let Some(begin) = lines.iter().position(|line| *line == BEGIN)
        && let Some(end) = lines.iter().skip(begin).position(|line| *line == END)
    {
        let above = lines[..begin].iter();
        return above.chain(&lines[begin + end + 1..]).copied().collect();
    }
    lines.into_iter().filter(|line| *line != "LANG=C.UTF-8").collect()
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
            ca_file: Some("/etc/my ca.pem".into()),
            jobs: Some(pairs(&[("ODD", odd), ("EMPTY", "")])),
            hooks: [Some("/usr/local/bin/started.sh".into()), None],
            path: Some("/opt/bin:/usr/bin".into()),
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
            hooks: [Some("/a.sh".into()), Some("/b.sh".into())],
            path: Some("/x".into()),
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
            hooks: [Some(NONE.into()), None],
            path: Some(NONE.into()),
            ..WantedEnvironment::default()
        };
        let second = first.with(&second, dir());
        assert_eq!(second.names(), [HOOKS[1], "C"]);
        let names = ["A", HOOKS[0], "B", "C", "PATH", "https_proxy"];
        let mut differs = second.differs(&first);
        differs.sort_by_key(|name| names.iter().position(|one| one == name));
        assert_eq!(differs, names);
        // `config.sh` gets no variable of the jobs.
        assert_eq!(first.network(), pairs(&[("https_proxy", "http://one")]));
    }

    #[test]
    fn the_operator_s_own_lines_stay_after_runup_s() {
        let wanted = WantedEnvironment { jobs: Some(pairs(&[("A", "1")])), ..WantedEnvironment::default() };
        let environment = RunnerEnvironment::default().with(&wanted, dir());
        // As an older runup wrote it, with a line of the operator.
        let first = environment.dot_env(Some("LANG=C.UTF-8\nMINE=x=y\n"));
        assert_eq!(first, format!("{BEGIN}\nLANG=C.UTF-8\nA=1\n{END}\nMINE=x=y\n"));
        assert_eq!(
            RunnerEnvironment::default().dot_env(Some(&first)),
            format!("{BEGIN}\nLANG=C.UTF-8\n{END}\nMINE=x=y\n")
        );
        assert!(!BEGIN.contains('=') && !END.contains('='), "the listener would set a variable");
    }
}
