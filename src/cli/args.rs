//! The commands and the options of single commands; options of several commands are in [`crate::settings::flags`].
//!
//! [`super::interface`] adds the environment variables, and [`super::manual`] the notes and examples.

#![expect(clippy::doc_markdown, reason = "these comments are the help texts, printed as they are")]

use crate::host::{Arch, Os};
use crate::lifecycle::{NamePrefix, OwnershipLabel};
use crate::runner::{Labels, NameTemplate};
use crate::settings::flags::{
    Archive, Cloud, Common, EventStream, Jobs, Libraries, Metadata, MetricsDir, Place, Run, Runner, Server,
    ServiceOptions,
};
use crate::settings::instances::{Choice, Chosen, Count};
use crate::settings::parse_duration;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Install GitHub Actions self-hosted runners, and remove them without a trace.
#[derive(Debug, Parser)]
#[command(name = "runup", version, max_term_width = 110)]
pub(super) struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Install and register a runner, and start its service
    Install(Box<InstallFlags>),
    /// Install and register a runner, and run it in the foreground
    Run(Box<RunFlags>),
    /// Prepare the runner's directories before its service starts
    #[command(hide = true)]
    PrepareStart(PrepareStartFlags),
    /// Link the tools that all runners share, as the runner's user
    #[command(hide = true)]
    LinkTools(LinkToolsFlags),
    /// Wait until the runner on this machine is idle
    Drain(DrainFlags),
    /// Install a runner into a machine image, without registering it
    Bake(Box<BakeFlags>),
    /// Upgrade the runner to a newer version, between two jobs
    Upgrade(Box<UpgradeFlags>),
    /// Remove the runner: service, registration, files, user
    Remove(Box<RemoveFlags>),
    /// Show the runner's state here and on GitHub
    Status(Box<StatusFlags>),
    /// Show the logs of the service, the listener and the last job
    Logs(LogsFlags),
    /// Show what install would do
    Plan(Box<InstallFlags>),
    /// Show what would keep a runner from working here
    Doctor(Box<InstallFlags>),
    /// List, show, create, delete or prune runners on GitHub
    Runners(RunnersFlags),
    /// List the runner archives that GitHub offers
    Downloads(DownloadsFlags),
    /// Print a registration token or a remove token
    Token(TokenFlags),
    /// Run a fake GitHub for testing
    #[cfg(feature = "sandbox")]
    Sandbox(super::sandbox::SandboxFlags),
    /// Install, check and remove a runner, against a fake GitHub
    #[cfg(feature = "sandbox")]
    Demo,
    /// Explain an error or an exit code
    Explain(super::explain::ExplainFlags),
    /// Generate man pages or shell completions
    Generate(super::generate::GenerateFlags),
}

/// What `install`, `plan` and `run` have in common.
#[derive(Debug, Clone, Args)]
pub(super) struct ConvergeFlags {
    #[command(flatten)]
    pub server: Server,
    #[command(flatten)]
    pub runner: Runner,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub jobs: Jobs,
    #[command(flatten)]
    pub archive: Archive,
    #[command(flatten)]
    pub metadata: Metadata,
    #[command(flatten)]
    pub cloud: Cloud,
    /// Fail with exit code 80 if the installed runner is too old to register, instead of replacing it
    #[arg(long, help_heading = "Archive options")]
    pub no_refresh: bool,
    /// Do not undo the earlier steps if a step fails
    #[arg(long, help_heading = "Machine options")]
    pub keep_on_failure: bool,
    /// If GitHub's rate limit is used up, wait until it is lifted, even beyond --deadline
    #[arg(long, help_heading = "Server options")]
    pub wait_for_limit: bool,
    /// Wait for a random part of this time before the first request, so that machines that boot together do not ask together
    ///
    /// --deadline begins after it.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration, help_heading = "Server options")]
    pub start_spread: Duration,
}

#[derive(Debug, Clone, Args)]
pub(super) struct InstallFlags {
    #[command(flatten)]
    pub converge: ConvergeFlags,
    #[command(flatten)]
    pub count: Count,
    /// Take over the runner that was set up by hand in --dir, with its service
    ///
    /// It keeps its id, name, labels, group, work directory, user and the variables of its jobs; its programs are replaced by
    /// verified ones. A job that runs gets the time of --drain. Until the new runner is registered, a failure leaves the old
    /// one running.
    #[arg(long, help_heading = "Runner options")]
    pub adopt: bool,
    #[command(flatten)]
    pub libraries: Libraries,
    #[command(flatten)]
    pub service: ServiceOptions,
    #[command(flatten)]
    pub stream: EventStream,
    #[command(flatten)]
    pub metrics: MetricsDir,
}

#[derive(Debug, Clone, Args)]
pub(super) struct RunFlags {
    // First, because a heading holds for every option that follows and has none.
    #[command(flatten)]
    pub run: Run,
    #[command(flatten)]
    pub converge: ConvergeFlags,
    #[command(flatten)]
    pub chosen: Chosen,
    #[command(flatten)]
    pub stream: EventStream,
    #[command(flatten)]
    pub metrics: MetricsDir,
}

#[derive(Debug, Clone, Args)]
pub(super) struct LinkToolsFlags {
    /// Directory with the tools
    pub cache: PathBuf,
    /// Tool cache of the runner
    pub own: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub(super) struct PrepareStartFlags {
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub chosen: Chosen,
    #[command(flatten)]
    pub metadata: Metadata,
}

#[derive(Debug, Clone, Args)]
pub(super) struct DrainFlags {
    /// Time to wait for a running job
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = parse_duration)]
    pub deadline: Duration,
    #[command(flatten)]
    pub chosen: Chosen,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, Clone, Args)]
pub(super) struct BakeFlags {
    /// Only check that the image holds no identity, log, token or machine id
    ///
    /// Exit code 78 if it does, 69 if it holds no runner.
    #[arg(long)]
    pub check: bool,
    /// Do not undo the earlier steps if a step fails
    #[arg(long)]
    pub keep_on_failure: bool,
    #[command(flatten)]
    pub server: Server,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub jobs: Jobs,
    #[command(flatten)]
    pub archive: Archive,
    #[command(flatten)]
    pub libraries: Libraries,
    #[command(flatten)]
    pub stream: EventStream,
    /// Keep the runner of the image although a newer one is available; exit code 80 if it is too old to register
    #[arg(long, help_heading = "Archive options")]
    pub no_refresh: bool,
}

#[derive(Debug, Clone, Args)]
pub(super) struct RemoveFlags {
    /// Contact no server: clean up this machine, and print what stays registered
    #[arg(long)]
    pub local: bool,
    #[command(flatten)]
    pub choice: Choice,
    /// Time that a running job gets to finish before it is cancelled, if runup's own service runs it
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration)]
    pub drain: Duration,
    /// Name of the runner, to confirm the removal of one that runup did not install
    #[arg(long = "name", value_name = "NAME", id = "confirmed_name")]
    pub name: Option<String>,
    /// Pass the remove token to the installed config.sh, although jobs could have changed it
    #[arg(long)]
    pub trust_tree: bool,
    /// Archive with a config.sh to pass the remove token to, if jobs could have changed the installed one
    ///
    /// Needs --sha256.
    #[arg(long, value_name = "FILE|URL")]
    pub archive: Option<String>,
    /// SHA-256 digest that the archive must have
    #[arg(long, value_name = "HEX")]
    pub sha256: Option<crate::transfer::Sha256Digest>,
    /// File with a remove token, or - for stdin [default: the token in RUNUP_REMOVE_TOKEN or the systemd credential
    /// runup.remove-token]
    #[arg(long, value_name = "FILE")]
    pub remove_token_file: Option<String>,
    /// How config.sh gets its token; every user of the machine can read argv
    #[arg(long, value_enum, default_value = "env", value_name = "WAY")]
    pub token_via: crate::settings::flags::TokenVia,
    #[command(flatten)]
    pub server: Server,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub stream: EventStream,
    #[command(flatten)]
    pub metrics: MetricsDir,
}

#[derive(Debug, Clone, Args)]
pub(super) struct UpgradeFlags {
    /// Time to wait until the runner is idle [default: until --deadline]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub window: Option<Duration>,
    /// Download the archive from URL/FILENAME instead of from GitHub
    #[arg(long, value_name = "URL")]
    pub mirror: Option<String>,
    /// Do nothing if the last check was less than a day ago: the timer sets this
    #[arg(long, hide = true)]
    pub daily: bool,
    #[command(flatten)]
    pub choice: Choice,
    #[command(flatten)]
    pub server: Server,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub stream: EventStream,
    #[command(flatten)]
    pub metrics: MetricsDir,
}

#[derive(Debug, Clone, Args)]
pub(super) struct StatusFlags {
    /// Ask no server, and check that the listener of the runner is alive: exit code 79 if it is not
    #[arg(long)]
    pub local: bool,
    #[command(flatten)]
    pub server: Server,
    #[command(flatten)]
    pub chosen: Chosen,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub metrics: MetricsDir,
}

#[derive(Debug, Clone, Args)]
pub(super) struct LogsFlags {
    /// Go on with what is added, until a signal ends it
    #[arg(long)]
    pub follow: bool,
    #[command(flatten)]
    pub chosen: Chosen,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, Clone, Args)]
pub(super) struct DownloadsFlags {
    /// Compare the SHA-256 digests with those of the public releases and their notes; exit code 65 if any differ
    ///
    /// The releases are asked without a credential. --sha256, the configuration file, and SHA256SUMS of --mirror are compared
    /// as well.
    #[arg(long)]
    pub verify: bool,
    /// SHA-256 digest of the archive for this machine, to compare; needs --verify
    #[arg(long, value_name = "HEX")]
    pub sha256: Option<crate::transfer::Sha256Digest>,
    /// Version of the runner that --sha256 is of [default: the newest]
    #[arg(long, value_name = "VERSION")]
    pub runner_version: Option<crate::runner::RunnerVersion>,
    /// Mirror whose SHA256SUMS to compare
    #[arg(long, value_name = "URL")]
    pub mirror: Option<String>,
    #[command(flatten)]
    pub server: Server,
}

#[derive(Debug, Clone, Args)]
pub(super) struct TokenFlags {
    /// Kind of token
    pub kind: TokenKind,
    #[command(flatten)]
    pub server: Server,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum TokenKind {
    /// For config.sh --token
    Registration,
    /// For config.sh remove --token
    Remove,
}

#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = false)]
pub(super) struct RunnersFlags {
    #[command(subcommand)]
    pub command: RunnersCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(super) enum RunnersCommand {
    /// List all runners, or those that match
    List(RunnersListFlags),
    /// Show one runner
    Show(RunnersOneFlags),
    /// Delete a runner from GitHub whose machine no longer exists
    Delete(RunnersOneFlags),
    /// Create a just-in-time runner for another machine or container
    CreateJit(Box<CreateJitFlags>),
    /// Wait for a stop signal, then delete the runner of create-jit
    DeleteOnStop(DeleteOnStopFlags),
    /// Delete stale runners: offline, idle, and named by this machine
    Prune(RunnersPruneFlags),
}

#[derive(Debug, Clone, Args)]
pub(super) struct CreateJitFlags {
    /// New file for the just-in-time configuration, or - for stdout
    ///
    /// Its mode is 0600, or 0640 in a setgid directory.
    #[arg(long, value_name = "FILE")]
    pub jit_config_out: String,
    /// File that records the created runner, for delete-on-stop; a runner that it already records is deleted first
    #[arg(long, value_name = "FILE")]
    pub receipt: Option<PathBuf>,
    #[command(flatten)]
    pub server: Server,
    /// Name of the runner; may contain {hostname}, {machine-id}, {random}, {os} and {arch}
    #[arg(
        long,
        value_name = "TEMPLATE",
        default_value = "{hostname}-{random}",
        help_heading = "Runner options"
    )]
    pub name: NameTemplate,
    /// Labels in addition to the default ones, separated by commas
    #[arg(long, value_name = "LABELS", help_heading = "Runner options")]
    pub labels: Option<Labels>,
    /// Omit the default labels (self-hosted, system, architecture); needs --labels
    #[arg(long, help_heading = "Runner options")]
    pub no_default_labels: bool,
    /// Runner group to join (organizations and enterprises)
    #[arg(long, value_name = "NAME", help_heading = "Runner options")]
    pub group: Option<String>,
    /// Work directory of the jobs, below the runner's directory
    #[arg(long, value_name = "DIR", default_value = "_work", help_heading = "Runner options")]
    pub work: String,
    /// Operating system of the runner: linux, osx or win [default: this machine's]
    #[arg(long, value_name = "OS", help_heading = "Runner options")]
    pub os: Option<Os>,
    /// Architecture of the runner: x64, arm64 or arm [default: this machine's]
    #[arg(long, value_name = "ARCH", help_heading = "Runner options")]
    pub arch: Option<Arch>,
}

#[derive(Debug, Clone, Args)]
pub(super) struct DeleteOnStopFlags {
    /// File in which create-jit recorded the runner; if it does not exist, there is nothing to delete
    #[arg(long, value_name = "FILE")]
    pub receipt: PathBuf,
    #[command(flatten)]
    pub server: Server,
}

#[derive(Debug, Clone, Args)]
pub(super) struct RunnersListFlags {
    /// Show only the runner with this name
    #[arg(long = "name", value_name = "NAME", id = "filter_name")]
    pub name: Option<String>,
    /// Show only runners with this status: online or offline
    #[arg(long = "status", value_name = "STATUS", id = "filter_status")]
    pub status: Option<String>,
    /// Show only runners with this label
    #[arg(long = "label", value_name = "LABEL", id = "filter_label")]
    pub label: Option<String>,
    #[command(flatten)]
    pub server: Server,
}

#[derive(Debug, Clone, Args)]
pub(super) struct RunnersOneFlags {
    /// Id or name of the runner
    pub runner: String,
    #[command(flatten)]
    pub server: Server,
}

#[derive(Debug, Clone, Args)]
pub(super) struct RunnersPruneFlags {
    /// Prune the runners with this label, on all machines; no other runners may have it
    #[arg(long, value_name = "LABEL")]
    pub label: Option<OwnershipLabel>,
    /// Prune the runners whose names start with this, on all machines: 3 characters or more, with which no others start
    #[arg(long, value_name = "TEXT")]
    pub prefix: Option<NamePrefix>,
    /// Print what would be deleted, and delete nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub server: Server,
    /// Root directory of the image whose machine id and runners count [default: /]
    #[arg(long, value_name = "DIR", help_heading = "Machine options")]
    pub root: Option<PathBuf>,
    /// Another directory whose journals name runners of this machine
    #[arg(long, value_name = "DIR", help_heading = "Machine options")]
    pub state_dir: Option<PathBuf>,
}
