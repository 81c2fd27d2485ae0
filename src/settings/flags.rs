//! Every option, defined once. The environment twin and the key in the file follow from the long name.

#![expect(clippy::doc_markdown, reason = "these comments are the help texts, printed as they are")]

use super::layers::variable;
use super::{Environment, parse_duration};
use crate::host::{self, Arch, Os, Provider, Root};
use crate::runner::{Labels, NameTemplate, RunnerVersion};
use crate::transfer::Sha256Digest;
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Configuration file; its keys are the long options without dashes [default: /etc/runup/config.toml if there]
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Print the result as one JSON document
    #[arg(long, global = true)]
    pub json: bool,
    /// The form of the log on stderr
    #[arg(long, value_enum, default_value = "text", value_name = "FORM", global = true)]
    pub log_format: LogFormat,
    /// Say more: every request and every line of config.sh
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Say nothing on stderr but warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
}

impl Common {
    /// What holds where the command line cannot be read: only the form of the complaint about that is taken from it.
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

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Which GitHub, as whom.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server")]
pub struct Server {
    /// <https://HOST/ORG>, <https://HOST/OWNER/REPO> or <https://HOST/enterprises/SLUG>
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Base of the REST API, where it does not follow from --url
    #[arg(long, value_name = "URL")]
    pub api_url: Option<String>,
    /// Allow http:// to a host that is not this machine: tokens then travel in the clear
    #[arg(long)]
    pub allow_http: bool,
    /// Certificates to trust besides the machine's own (PEM)
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// File with the token for the REST API, or - for stdin [else: RUNUP_TOKEN, a systemd credential runup.token,
    /// GITHUB_TOKEN, GH_TOKEN]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<String>,
    /// Command that prints the token for the REST API, run by the shell whenever a token is needed: for a secret
    /// manager. It gets the environment, but no token in it
    #[arg(long, value_name = "COMMAND")]
    pub token_command: Option<String>,
    /// Give up when the whole command has taken this long
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = parse_duration)]
    pub deadline: Duration,
}

/// Where the runner lives.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Place")]
pub struct Place {
    /// The runner's folder [default: /opt/actions-runner as root, ~/actions-runner else]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The runner's user, made if missing; only as root. `root` runs jobs as root [default: actions-runner]
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Work inside this root file system, as image builds do: every absolute path is below it
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// Which runner application.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Archive")]
pub struct Archive {
    /// This version instead of the newest on offer
    #[arg(long, value_name = "VERSION")]
    pub runner_version: Option<RunnerVersion>,
    /// This archive instead of the one on offer; needs --sha256
    #[arg(long, value_name = "FILE|URL")]
    pub archive: Option<String>,
    /// The sha256 that the archive must have; also where the server names none
    #[arg(long, value_name = "HEX")]
    pub sha256: Option<Sha256Digest>,
    /// Fetch the archive from URL/FILENAME instead of from where the list says
    #[arg(long, value_name = "URL")]
    pub mirror: Option<String>,
    /// Install an archive for which nobody gives a sha256. It runs as whatever it is
    #[arg(long)]
    pub accept_unverified: bool,
    /// Pretend this operating system: linux, osx, win
    #[arg(long, value_name = "OS")]
    pub os: Option<Os>,
    /// Pretend this architecture: x64, arm64, arm
    #[arg(long, value_name = "ARCH")]
    pub arch: Option<Arch>,
}

/// What the machine lacks.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Machine")]
pub struct Libraries {
    /// Install the libraries that the runner needs and the machine lacks, by the distribution's package manager (Debian,
    /// Ubuntu, Fedora, RHEL and their relatives, Amazon Linux 2023, SUSE)
    ///
    /// Only as root; anybody else gets the command on stdout, and exit code 77. With --root it runs by chroot, where the
    /// image's own /etc/resolv.conf and package sources count. The packages stay when the runner is removed: others may
    /// use them by then.
    #[arg(long)]
    pub deps: bool,
}

/// What the runner is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Runner")]
pub struct Runner {
    /// Its name: text with {hostname}, {machine-id}, {random}, {os}, {arch}
    #[arg(long, value_name = "TEMPLATE", default_value = "{hostname}-{machine-id}")]
    pub name: NameTemplate,
    /// Labels besides the default ones, separated by commas
    #[arg(long, value_name = "LABELS")]
    pub labels: Option<Labels>,
    /// Without self-hosted and the labels for system and architecture; needs --labels
    #[arg(long)]
    pub no_default_labels: bool,
    /// Runner group (organizations and enterprises)
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// Where jobs work, below the runner's folder
    #[arg(long, value_name = "DIR", default_value = "_work")]
    pub work: String,
    /// One job, then gone from the server
    #[arg(long)]
    pub ephemeral: bool,
    /// The runner does not update itself: GitHub sends it no jobs 30 days after the next release
    #[arg(long)]
    pub disable_update: bool,
    /// The runner updates itself, as GitHub's own scripts set it up: then its user owns its programs, jobs can change
    /// them, and runup gives them no token. Without it, runup updates the runner wherever it can
    #[arg(long)]
    pub self_update: bool,
    /// Take over a runner of the same name, even one that is alive elsewhere
    #[arg(long)]
    pub replace: bool,
    /// How config.sh gets its token: argv can be read by every user of the machine
    #[arg(long, value_enum, default_value = "env", value_name = "WAY")]
    pub token_via: TokenVia,
    /// File with a registration token issued elsewhere, or - for stdin [else: RUNUP_REGISTRATION_TOKEN]
    #[arg(long, value_name = "FILE")]
    pub registration_token_file: Option<String>,
}

/// The service that runs the runner.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Service")]
pub struct Service {
    /// What keeps the runner running: auto is systemd for root where it runs the machine, else none
    #[arg(long, value_enum, default_value = "auto", value_name = "KIND")]
    pub service: ServiceKind,
    /// When the service is stopped, let a running job go on for so long before it is cancelled
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
    pub drain: Duration,
    /// When the service is stopped, take the runner off the server, and register it anew when it is started. Needs a
    /// --token-file that stays [default: true with --ephemeral, else false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub remove_on_shutdown: Option<bool>,
    /// After the one job of an ephemeral runner: end, register again for the next job, or switch the machine off
    #[arg(long, value_enum, default_value = "again", value_name = "WHAT")]
    pub after_job: AfterJob,
    /// The time of day at which a timer looks for a newer runner, by the machine's clock
    #[arg(long, value_name = "HH:MM", default_value = "03:00", value_parser = parse_time_of_day)]
    pub upgrade_at: String,
    /// Spread the looks of many machines over this long after --upgrade-at
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
    /// systemd where it is and we are root.
    Auto,
    /// A systemd unit.
    Systemd,
    /// Somebody else.
    None,
}

/// How the runner is run in the foreground.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Run")]
pub struct Run {
    /// After a stop signal, let a running job go on for so long before it is cancelled
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration)]
    pub drain: Duration,
    /// After a stop signal, take the runner off the server [default: true with --ephemeral and --jit, else false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub remove_on_shutdown: Option<bool>,
    /// After the one job of an ephemeral runner: end, register again for the next job, or switch the machine off
    #[arg(long, value_enum, default_value = "stop", value_name = "WHAT")]
    pub after_job: AfterJob,
    /// Let the server make the runner, for one job, without config.sh (Enterprise Server: 3.10 and newer)
    #[arg(long)]
    pub jit: bool,
    /// Run the runner of this just-in-time configuration, which was created elsewhere: no token is needed here. Its file,
    /// or - for stdin [else: a systemd credential runup.jit-config]
    #[arg(long, value_name = "FILE")]
    pub jit_config_file: Option<String>,
}

/// What follows the one job of an ephemeral runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AfterJob {
    /// The end.
    Stop,
    /// The next registration and job.
    Again,
    /// `systemctl poweroff`.
    Poweroff,
}

/// How a token reaches `config.sh`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TokenVia {
    /// As `ACTIONS_RUNNER_INPUT_TOKEN`.
    Env,
    /// As `--token TOKEN`, the form of GitHub's documentation.
    Argv,
}

/// What jobs may have of this machine's cloud.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Cloud")]
pub struct Metadata {
    /// Let jobs reach the cloud's metadata, and with it use the identity of this machine
    ///
    /// As root, runup denies it to the runner's user at each start, by routing rules for TCP port 80 of 169.254.169.254,
    /// fd00:ec2::254 and their like, and refuses to start where it cannot set them. Containers that a job starts need a
    /// hop limit of 1 at the cloud as well.
    #[arg(long)]
    pub allow_metadata: bool,
}

/// Who may take this machine away.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Cloud")]
pub struct Cloud {
    /// Whose notice to watch for, before a spot machine is taken away; auto asks the machine's firmware
    #[arg(long, value_enum, default_value = "auto", value_name = "CLOUD")]
    pub cloud: CloudChoice,
    /// Where its metadata is [default: http://169.254.169.254]
    #[arg(long, value_name = "URL", value_parser = parse_metadata_url)]
    pub metadata_url: Option<Url>,
}

impl Cloud {
    /// Whose notice to watch for. Where somebody says where the metadata is, but nothing says whose it is, all are
    /// asked.
    #[must_use]
    pub fn providers(&self, root: &Root) -> Vec<Provider> {
        match self.cloud {
            CloudChoice::Auto => match host::cloud(root) {
                Some(provider) => vec![provider],
                None if self.metadata_url.is_some() => Provider::ALL.to_vec(),
                None => Vec::new(),
            },
            CloudChoice::Aws => vec![Provider::Aws],
            CloudChoice::Azure => vec![Provider::Azure],
            CloudChoice::Gcp => vec![Provider::Gcp],
            CloudChoice::None => Vec::new(),
        }
    }
}

fn parse_metadata_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error: url::ParseError| error.to_string())?;
    if matches!(url.scheme(), "http" | "https") { Ok(url) } else { Err("expected an http(s) URL".to_owned()) }
}

/// A cloud, or how to find out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CloudChoice {
    /// What the machine's firmware says.
    Auto,
    /// Amazon EC2.
    Aws,
    /// Microsoft Azure.
    Azure,
    /// Google Compute Engine.
    Gcp,
    /// Nobody gives notice.
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cloud_is_the_one_that_is_named_else_the_firmwares_else_none() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::at(folder.path().to_owned());
        let metadata_url = || Some("http://127.0.0.1:1".parse().unwrap());
        let of = |cloud, metadata_url| Cloud { cloud, metadata_url }.providers(&root);
        assert_eq!(of(CloudChoice::Auto, None), []);
        assert_eq!(of(CloudChoice::Auto, metadata_url()), Provider::ALL);
        assert_eq!(of(CloudChoice::None, metadata_url()), []);
        let firmware = folder.path().join("sys/class/dmi/id");
        fs_err::create_dir_all(&firmware).unwrap();
        fs_err::write(firmware.join("sys_vendor"), "Amazon EC2\n").unwrap();
        assert_eq!(of(CloudChoice::Auto, metadata_url()), [Provider::Aws]);
        assert_eq!(of(CloudChoice::Gcp, None), [Provider::Gcp]);
        assert_eq!(of(CloudChoice::None, None), []);
    }

    #[test]
    fn a_time_of_day_is_one() {
        assert_eq!(parse_time_of_day("3:05").as_deref(), Ok("03:05"));
        assert_eq!(parse_time_of_day(" 23:59 ").as_deref(), Ok("23:59"));
        for wrong in ["", "3", "24:00", "12:60", "12:3:0", "+1:00", "noon", "3:5", "003:00"] {
            assert!(parse_time_of_day(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn metadata_is_asked_for_by_http_only() {
        assert!(parse_metadata_url("http://169.254.169.254").is_ok());
        assert!(parse_metadata_url("file:///etc/passwd").is_err());
        assert!(parse_metadata_url("169.254.169.254").is_err());
    }
}
