//! Builds the command lines of `config.sh`, GitHub's own configuration script.
//!
//! The script guesses and ignores errors in ways that show only later, so the command line leaves it nothing to guess:
//! the runner's directory as working directory (its library checks are relative), `remove` first, always
//! `--unattended`, values before flags (a flag takes a bare word behind it), `/dev/null` as standard input, a clean
//! environment whose PATH is that of the jobs (`env.sh` stores it in `.path`), the runner's user, and a deadline. Its
//! output is kept for errors; whether it succeeded is checked by the caller and not by its exit code.

use super::{Labels, RunnerName};
use crate::deadline::Deadline;
use crate::host::{Account, Command, Root};
use crate::secret::Secret;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The timeout of `config.sh`, which retries its own requests for minutes.
pub const TIMEOUT: Duration = Duration::from_secs(600);

/// Marks every process of a run of `config.sh`, so that a later run can find one that outlived runup.
pub const MARKER: &str = "RUNUP_RUNNER_DIR";

/// The PATH of the jobs. That of cloud-init is shorter, and `config.sh` would store it for the service.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The environment input of the token. `config.sh` removes it from its environment after reading.
const TOKEN_INPUT: &str = "ACTIONS_RUNNER_INPUT_TOKEN";

/// The user, directory and environment of the script.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The runner's directory.
    pub dir: PathBuf,
    /// The runner's user.
    pub account: Account,
    /// The root whose group database has the groups of that user.
    pub root: Root,
    /// Groups besides those of that user.
    pub groups: Vec<u32>,
    /// Running as root was requested.
    pub allow_root: bool,
    /// Proxies and certificates.
    pub environment: Vec<(String, String)>,
    /// The token as `--token TOKEN`, readable by every user of the machine, instead of through the environment.
    pub token_on_argv: bool,
}

/// The options of the registration, besides the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigOptions {
    /// Labels besides the default ones.
    pub labels: Option<Labels>,
    /// Omit the default labels.
    pub no_default_labels: bool,
    /// The runner group.
    pub group: Option<String>,
    /// The work directory.
    pub work: String,
    /// The runner takes one job, and is then removed.
    pub ephemeral: bool,
    /// No self-update.
    pub disable_update: bool,
    /// Replace an existing runner with this name, which may be running elsewhere.
    pub replace: bool,
}

impl Default for ConfigOptions {
    fn default() -> Self {
        Self {
            labels: None,
            no_default_labels: false,
            group: None,
            work: "_work".to_owned(),
            ephemeral: false,
            disable_update: false,
            replace: false,
        }
    }
}

/// The command that registers the runner `name` with the enterprise, organization or repository at `url`.
#[must_use]
pub fn configure(
    setting: &Setting,
    url: &str,
    name: &RunnerName,
    options: &ConfigOptions,
    token: &Secret,
    deadline: Deadline,
) -> Command {
    let mut command = script(setting, &[], deadline).arg("--url").arg(url);
    command = with_token(command, setting, token).arg("--name").arg(name.as_str());
    if let Some(labels) = &options.labels {
        command = command.arg("--labels").arg(labels.to_string());
    }
    if let Some(group) = &options.group {
        command = command.arg("--runnergroup").arg(group);
    }
    command = command.arg("--work").arg(&options.work).arg("--unattended");
    let flags = [
        (options.no_default_labels, "--no-default-labels"),
        (options.ephemeral, "--ephemeral"),
        (options.disable_update, "--disableupdate"),
        (options.replace, "--replace"),
    ];
    for (_, flag) in flags.iter().filter(|(requested, _)| *requested) {
        command = command.arg(*flag);
    }
    command
}

/// The command that deregisters. It has no `--unattended`: with a token, it does not prompt.
#[must_use]
pub fn remove(setting: &Setting, token: &Secret, deadline: Deadline) -> Command {
    with_token(script(setting, &["remove"], deadline), setting, token)
}

fn with_token(command: Command, setting: &Setting, token: &Secret) -> Command {
    if setting.token_on_argv {
        command.arg("--token").secret_arg(token.clone())
    } else {
        command.secret_env(TOKEN_INPUT, token.clone())
    }
}

fn script(setting: &Setting, first: &[&str], deadline: Deadline) -> Command {
    let mut command = if cfg!(windows) {
        Command::new("cmd.exe").arg("/d").arg("/c").arg("config.cmd")
    } else {
        Command::new(setting.dir.join("config.sh"))
    };
    for word in first {
        command = command.arg(*word);
    }
    surroundings(command, setting, PATH)
        .deadline(deadline.within(TIMEOUT))
        .env(MARKER, setting.dir.display().to_string())
}

/// A command in the runner's directory, as its user, with an environment that has only proxies and certificates from
/// runup's own.
pub(super) fn surroundings(command: Command, setting: &Setting, path: &str) -> Command {
    let account = &setting.account;
    let mut command =
        command.cwd(&setting.dir).account(account).groups_of(&setting.root).more_groups(&setting.groups);
    if cfg!(windows) {
        // Programs on Windows do not start without these.
        for name in ["SystemRoot", "PATH", "PATHEXT", "TEMP", "USERPROFILE", "ProgramFiles", "ComSpec"] {
            if let Some((_, value)) = setting.environment.iter().find(|(key, _)| key == name) {
                command = command.env(name, value);
            }
        }
    } else {
        command = command
            .env("PATH", path)
            .env("HOME", account.home.display().to_string())
            .env("USER", &account.name)
            .env("LOGNAME", &account.name)
            .env("LANG", "C.UTF-8");
        for (key, value) in &setting.environment {
            command = command.env(key, value);
        }
    }
    if setting.allow_root {
        command = command.env("RUNNER_ALLOW_RUNASROOT", "1");
    }
    command
}

/// The script's path in a runner's directory.
#[must_use]
pub fn path(dir: &Path) -> PathBuf {
    dir.join(if cfg!(windows) { "config.cmd" } else { "config.sh" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(token_on_argv: bool) -> Setting {
        Setting {
            dir: "/opt/actions-runner".into(),
            account: Account { name: "runner".into(), uid: 990, gid: 990, home: "/home/runner".into() },
            root: Root::host(),
            groups: vec![],
            allow_root: false,
            environment: vec![("https_proxy".into(), "http://proxy:3128".into())],
            token_on_argv,
        }
    }

    fn options() -> ConfigOptions {
        ConfigOptions {
            labels: Some("gpu,fast disk".parse().unwrap()),
            no_default_labels: true,
            group: Some("my group".into()),
            ephemeral: true,
            disable_update: true,
            replace: true,
            ..ConfigOptions::default()
        }
    }

    fn rendered(token_on_argv: bool) -> String {
        let name = "box-1".parse().unwrap();
        let url = "https://github.com/octo-org";
        configure(&setting(token_on_argv), url, &name, &options(), &token(), Deadline::after(TIMEOUT))
            .render()
    }

    fn token() -> Secret {
        Secret::new("CANARY").unwrap()
    }

    #[test]
    #[cfg(unix)]
    fn values_come_before_flags_and_the_token_is_not_among_them() {
        let command = rendered(false);
        assert!(
            command.ends_with(
                "/opt/actions-runner/config.sh --url https://github.com/octo-org --name box-1 --labels \
                 'gpu,fast disk' --runnergroup 'my group' --work _work --unattended --no-default-labels \
                 --ephemeral --disableupdate --replace"
            ),
            "{command}"
        );
        assert!(command.contains("ACTIONS_RUNNER_INPUT_TOKEN=[secret]"), "{command}");
        assert!(!command.contains("CANARY"));
    }

    #[test]
    #[cfg(unix)]
    fn the_literal_form_is_that_of_github_s_documentation() {
        let command = rendered(true);
        assert!(
            command.contains("config.sh --url https://github.com/octo-org --token [secret] --name"),
            "{command}"
        );
        assert!(!command.contains("INPUT_TOKEN") && !command.contains("CANARY"), "{command}");
    }

    #[test]
    #[cfg(unix)]
    fn remove_is_the_first_word() {
        let command = remove(&setting(false), &token(), Deadline::after(TIMEOUT)).render();
        assert!(command.ends_with("config.sh remove"), "{command}");
    }
}
