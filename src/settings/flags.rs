//! Every option, defined once. Its environment variable and its key in the configuration file follow from the long name.
//!
//! A first paragraph that ends with `[default: …]` names a default that is not a plain value. `cli::interface` reads it from
//! there, and adds the variable and the key.

#![expect(clippy::doc_markdown, reason = "these comments are the help texts, printed as they are")]

pub mod cloud;
pub mod monitoring;

pub use self::cloud::{Cloud, CloudChoice, Metadata};
pub use self::monitoring::{Destination, EventStream, MetricsDir};
use super::app::AppOptions;
use super::layers::variable;
use super::{Environment, parse_duration};
use crate::host::{Arch, Os};
use crate::runner::{Labels, NameTemplate, RunnerVersion};
use crate::transfer::Sha256Digest;
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// The help of `--url`; as a doc comment, its URLs would need brackets.
const URL_HELP: &str = "Organization, repository or enterprise: https://HOST/ORG, https://HOST/OWNER/REPO or https://HOST/enterprises/SLUG";

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Common {
    /// Configuration file; its keys are the long options without the dashes [default: /etc/runup/config.toml as root, ~/.config/runup/config.toml otherwise]
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Print the result as one JSON document
    #[arg(long, global = true)]
    pub json: bool,
    /// Format of the log on stderr
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT", global = true)]
    pub log_format: LogFormat,
    /// Log every request and every line that config.sh prints
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Log warnings and errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
}

impl Common {
    /// The options to report an error with if the command line cannot be parsed: only the output formats are read from it.
    #[must_use]
    pub fn of_broken(arguments: &[OsString], environment: &Environment) -> Self {
        let set = |option: &str, value: &str| {
            let given = environment.get(&variable(option)).is_some_and(|given| given == value);
            let mut pairs = arguments.iter().zip(arguments.iter().skip(1));
            let (flag, joined) = (format!("--{option}"), format!("--{option}={value}"));
            given
                || arguments.iter().any(|argument| *argument == *joined)
                || pairs.any(|(left, right)| *left == *flag && *right == *value)
        };
        let json = arguments.iter().any(|argument| argument == "--json") || set("json", "true");
        let log_format = if set("log-format", "json") { LogFormat::Json } else { LogFormat::Text };
        Self { config: None, json, log_format, verbose: false, quiet: false }
    }
}

/// The format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Plain text
    Text,
    /// One JSON object per line
    Json,
}

/// Which GitHub, and which credential.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server options")]
pub struct Server {
    /// The organization, repository or enterprise.
    #[arg(long, value_name = "URL", help = URL_HELP)]
    pub url: Option<String>,
    /// Base URL of the REST API [default: derived from --url]
    #[arg(long, value_name = "URL")]
    pub api_url: Option<String>,
    /// Allow http:// to other machines: tokens are then sent unencrypted
    #[arg(long)]
    pub allow_http: bool,
    /// PEM file with certificates to trust in addition to the system's; none for no such file
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<String>,
    /// Proxy of all connections, those of the runner and its jobs as well; none for no proxy [default: https_proxy and
    /// http_proxy, or what the runner was installed with]
    ///
    /// http:// or https://, with USER:PASSWORD@ if it needs that.
    #[arg(long, value_name = "URL")]
    pub proxy: Option<String>,
    /// Hosts to reach without the proxy, separated by commas [default: no_proxy]
    ///
    /// A host also stands for all hosts below it. The runner ignores IP addresses and patterns.
    #[arg(long, value_name = "HOSTS")]
    pub no_proxy: Option<String>,
    /// File with the token for the REST API, or - for stdin [default: the token in RUNUP_TOKEN, the systemd credential
    /// runup.token, GITHUB_TOKEN or GH_TOKEN]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<String>,
    /// Shell command that prints the token for the REST API, run each time a token is needed
    ///
    /// It gets the environment of runup, without the variables that hold tokens.
    #[arg(long, value_name = "COMMAND")]
    pub token_command: Option<String>,
    /// A GitHub App instead of a token.
    #[command(flatten)]
    pub app: AppOptions,
    /// Time limit for the whole command
    ///
    /// `install` needs at least 20s. `install`, `bake` and `run` keep a quarter of it, a minute at most, for undoing what
    /// fails. A service that ran before a run that failed is started again even after that. With several runners, it
    /// applies to each.
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = parse_duration)]
    pub deadline: Duration,
}

/// Where the runner is on this machine.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Machine options")]
pub struct Place {
    /// Directory of the runner [default: /opt/actions-runner as root, ~/actions-runner otherwise]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// User that runs the jobs, created if it does not exist; needs root [default: actions-runner]
    ///
    /// With the value root, jobs run as root.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Root directory of an image to work on: every absolute path is below it [default: /]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Directory of the journals, which record what to undo [default: /var/lib/runup as root, ~/.local/state/runup
    /// otherwise]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// Which runner application.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Archive options")]
pub struct Archive {
    /// Version of the runner to install [default: the newest that GitHub offers]
    #[arg(long, value_name = "VERSION")]
    pub runner_version: Option<RunnerVersion>,
    /// Archive of the runner to install [default: the one that GitHub offers]
    ///
    /// Needs --sha256.
    #[arg(long, value_name = "FILE|URL")]
    pub archive: Option<String>,
    /// SHA-256 digest that the archive must have [default: the one that GitHub publishes]
    #[arg(long, value_name = "HEX")]
    pub sha256: Option<Sha256Digest>,
    /// Download the archive from URL/FILENAME instead of from GitHub
    #[arg(long, value_name = "URL")]
    pub mirror: Option<String>,
    /// Take the archive from the public releases of actions/runner instead of from the list for --url; needs no token
    ///
    /// A release may be ahead of what GitHub offers to this organization, because it reaches them over some days.
    #[arg(long)]
    pub from_release: bool,
    /// Install an archive without verification if no SHA-256 digest is known for it
    #[arg(long)]
    pub accept_unverified: bool,
    /// Operating system of the runner: linux, osx or win [default: this machine's]
    #[arg(long, value_name = "OS")]
    pub os: Option<Os>,
    /// Architecture of the runner: x64, arm64 or arm [default: this machine's]
    #[arg(long, value_name = "ARCH")]
    pub arch: Option<Arch>,
}

/// The libraries that the machine lacks.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Machine options")]
pub struct Libraries {
    /// Install the libraries that the runner needs, with the system's package manager
    ///
    /// Works on Debian, Ubuntu, Fedora, RHEL and their relatives, Amazon Linux 2023 and SUSE. Without root, the command is
    /// printed on stdout instead, and the exit code is 77. With --root the package manager runs by chroot, with the image's
    /// /etc/resolv.conf and package sources. The packages stay when the runner is removed, because other programs may need
    /// them by then.
    #[arg(long)]
    pub deps: bool,
}

/// What the runner is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Runner options")]
pub struct Runner {
    /// Name of the runner; may contain {hostname}, {machine-id}, {random}, {os}, {arch}, {dir}, {index}, {instance-id} and
    /// {region}
    ///
    /// {instance-id} and {region} come from the cloud's metadata service. {dir} is the last part of the runner's
    /// directory. {index} is the number of the runner on this machine: 1 in the default directory, N in the same with
    /// -N at the end, otherwise the first one that is free.
    #[arg(long, value_name = "TEMPLATE", default_value = "{hostname}-{machine-id}")]
    pub name: NameTemplate,
    /// Labels in addition to the default ones, separated by commas
    #[arg(long, value_name = "LABELS")]
    pub labels: Option<Labels>,
    /// Add labels for the cloud, the region, the zone and the instance type, such as aws, eu-west-1, eu-west-1a, m7g.large
    ///
    /// They come from the metadata service of AWS, Azure or Google Cloud. Such a label is a word of letters, digits, ".", "_"
    /// and "-".
    #[arg(long, value_enum, value_name = "SOURCE")]
    pub label_from: Option<LabelSource>,
    /// Omit the default labels (self-hosted, system, architecture); needs --labels
    #[arg(long)]
    pub no_default_labels: bool,
    /// Runner group to join (organizations and enterprises)
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// Work directory of the jobs, below the runner's directory
    #[arg(long, value_name = "DIR", default_value = "_work")]
    pub work: String,
    /// Run one job, then deregister
    #[arg(long)]
    pub ephemeral: bool,
    /// Never update the runner; GitHub stops sending it jobs 30 days after the next release
    #[arg(long)]
    pub disable_update: bool,
    /// Let the runner update itself, as GitHub's scripts do, instead of upgrading it with runup
    ///
    /// The runner's user then owns its programs, jobs can change them, and runup never passes them a token.
    #[arg(long)]
    pub self_update: bool,
    /// Replace a registered runner of the same name, even if it is online on another machine; with if-offline, only if it
    /// is offline
    ///
    /// An offline one is then deleted just before this one is registered. One that is online or has a job stays, and the
    /// exit code is 75. if-offline needs a token for the REST API.
    #[arg(long, value_enum, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_value = "false",
        default_missing_value = "true", ignore_case = true)]
    pub replace: Replace,
    /// How config.sh gets its token; every user of the machine can read argv
    #[arg(long, value_enum, default_value = "env", value_name = "WAY")]
    pub token_via: TokenVia,
    /// File with a registration token, or - for stdin [default: the token in RUNUP_REGISTRATION_TOKEN or the systemd
    /// credential runup.registration-token]
    #[arg(long, value_name = "FILE")]
    pub registration_token_file: Option<String>,
}

/// Where labels come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LabelSource {
    /// The metadata service of this machine's cloud
    Cloud,
}

/// What the jobs find.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Job options")]
pub struct Jobs {
    /// Variable of the runner and its jobs; may be repeated, and replaces all that were set before
    #[arg(long, value_name = "KEY=VALUE")]
    pub env: Vec<String>,
    /// File with such variables, one a line
    #[arg(long, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
    /// Script that the runner runs before each job; none for no script
    #[arg(long, value_name = "FILE")]
    pub hook_job_started: Option<String>,
    /// Script that the runner runs after each job; none for no script
    #[arg(long, value_name = "FILE")]
    pub hook_job_completed: Option<String>,
    /// Directory with tools for the jobs of all runners, as in `_work/_tool`, such as /opt/hostedtoolcache; none for no such
    /// directory
    ///
    /// Only root may be able to change it. Before a runner starts, its own tool cache gets links to the complete tools, and
    /// jobs add there what is missing.
    #[arg(long, value_name = "DIR")]
    pub tool_cache: Option<String>,
    /// Groups of the machine that the user that runup creates also gets, such as docker, separated by commas
    ///
    /// Members of some groups can become root: with docker, jobs are not isolated from the machine.
    #[arg(long, value_name = "GROUPS", value_delimiter = ',')]
    pub groups: Vec<String>,
    /// Id of the user that runup creates [default: a free one that images do not use]
    ///
    /// A process in a container that has this id can do what the user can, if it gets out.
    #[arg(long, value_name = "ID")]
    pub user_id: Option<u64>,
    /// Id of the group that runup creates with it
    #[arg(long, value_name = "ID")]
    pub group_id: Option<u64>,
    /// PATH of the jobs; none for the usual one
    #[arg(long, value_name = "PATH")]
    pub path: Option<String>,
}

/// The service that runs the runner.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Service options")]
pub struct ServiceOptions {
    /// Service that runs the runner
    #[arg(long, value_enum, default_value = "auto", value_name = "KIND")]
    pub service: ServiceKind,
    /// Time that a running job gets to finish when the service stops
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
    pub drain: Duration,
    /// Deregister the runner when the service stops, and re-register it when it starts [default: true with --ephemeral,
    /// otherwise false]
    ///
    /// Needs --token-file with a file that stays, or --token-command.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub remove_on_shutdown: Option<bool>,
    /// What to do after the job of an ephemeral runner
    #[arg(long, value_enum, default_value = "again", value_name = "WHAT")]
    pub after_job: AfterJob,
    /// Time of day at which a timer looks for a newer runner, in the machine's time zone
    #[arg(long, value_name = "HH:MM", default_value = "03:00", value_parser = parse_time_of_day)]
    pub upgrade_at: String,
    /// Time over which the timers of many machines are spread, from --upgrade-at on
    #[arg(long, value_name = "DURATION", default_value = "2h", value_parser = parse_duration)]
    pub upgrade_spread: Duration,
}

/// A time of day as systemd's calendar takes it.
fn parse_time_of_day(text: &str) -> Result<String, String> {
    let wrong = || format!("expected a time of day like 03:00 or 23:30, not {text:?}");
    let (hour, minute) = text.trim().split_once(':').ok_or_else(wrong)?;
    let number = |digits: &str, below: u8| {
        let plain = matches!(digits.len(), 1 | 2) && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u8>().ok().filter(|number| plain && *number < below)
    };
    match (number(hour, 24), number(minute, 60)) {
        (Some(hour), Some(minute)) if text.trim().len() > 3 => Ok(format!("{hour:02}:{minute:02}")),
        _ => Err(wrong()),
    }
}

/// What keeps the runner running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ServiceKind {
    /// A systemd unit if systemd runs the machine and runup is root, otherwise none
    Auto,
    /// A systemd unit
    Systemd,
    /// No service
    None,
}

/// How the runner is run in the foreground.
#[derive(Debug, Clone, Args)]
pub struct Run {
    /// Time that a running job gets to finish after a stop signal
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration)]
    pub drain: Duration,
    /// Deregister the runner after a stop signal [default: true with --ephemeral and --jit, otherwise false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub remove_on_shutdown: Option<bool>,
    /// What to do after the job of an ephemeral runner
    #[arg(long, value_enum, default_value = "stop", value_name = "WHAT")]
    pub after_job: AfterJob,
    /// Create a just-in-time runner for one job, without config.sh (Enterprise Server 3.10 or newer)
    #[arg(long)]
    pub jit: bool,
    /// File with the just-in-time configuration of a runner that exists already, or - for stdin [default: the systemd
    /// credential runup.jit-config]
    ///
    /// No token is needed. `runup runners create-jit` creates such a runner.
    #[arg(long, value_name = "FILE")]
    pub jit_config_file: Option<String>,
    /// Options that are as the runner was installed with, whatever the configuration file sets; for the unit
    #[arg(long, value_name = "OPTIONS", value_delimiter = ',', hide = true)]
    pub as_recorded: Vec<String>,
}

/// What follows the one job of an ephemeral runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AfterJob {
    /// Exit
    Stop,
    /// Register again, for the next job
    Again,
    /// Power off the machine
    Poweroff,
}

/// How a token reaches `config.sh`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TokenVia {
    /// In the variable ACTIONS_RUNNER_INPUT_TOKEN
    Env,
    /// As --token TOKEN, as in GitHub's documentation
    Argv,
}

/// Which registered runner of the same name is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Replace {
    /// Any, even one that is online on another machine
    #[value(name = "true", aliases = ["yes", "y", "t", "on", "1"])]
    Always,
    /// One that is offline
    IfOffline,
    /// None
    #[value(name = "false", aliases = ["no", "n", "f", "off", "0"])]
    Never,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_is_one() {
        assert_eq!(parse_time_of_day("3:05").as_deref(), Ok("03:05"));
        assert_eq!(parse_time_of_day(" 23:59 ").as_deref(), Ok("23:59"));
        for wrong in ["", "3", "24:00", "12:60", "12:3:0", "+1:00", "noon", "3:5", "003:00"] {
            assert!(parse_time_of_day(wrong).is_err(), "{wrong}");
        }
    }
}
