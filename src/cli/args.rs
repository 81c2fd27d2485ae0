//! The command line. The options themselves are defined in [`crate::settings::flags`].

#![expect(clippy::doc_markdown, reason = "these comments are the help texts, printed as they are")]

use crate::error::Class;
use crate::host::{Arch, Os};
use crate::lifecycle::{NamePrefix, OwnershipLabel};
use crate::runner::{Labels, NameTemplate};
use crate::settings::flags::{
    Archive, Cloud, Common, Libraries, Metadata, Place, Run, Runner, Server, Service,
};
use crate::settings::parse_duration;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

/// Takes a machine from bare to a GitHub Actions self-hosted runner, and back.
#[derive(Debug, Parser)]
#[command(name = "runup", version, max_term_width = 110, after_long_help = after_help())]
pub(super) struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Converge this machine to a registered runner, with a service where systemd runs it
    Install(Box<InstallFlags>),
    /// Converge, then run the runner in the foreground: in a container, or as a service
    #[command(after_long_help = RUN_HELP)]
    Run(Box<RunFlags>),
    /// Prepare the runner's directories before it starts; the service does this
    #[command(hide = true)]
    PrepareStart(PrepareStartFlags),
    /// Wait until no job of this runner runs on this machine: 0 when it is idle, 75 if it is not in time
    Drain(DrainFlags),
    /// Place the runner and seal: for an image, without registration
    Bake(Box<BakeFlags>),
    /// Replace the runner by a newer version, between two jobs
    #[command(after_long_help = UPGRADE_HELP)]
    Upgrade(Box<UpgradeFlags>),
    /// Take it all back
    Remove(Box<RemoveFlags>),
    /// What is here, and what the server says of it
    Status(Box<StatusFlags>),
    /// What install would do
    Plan(Box<InstallFlags>),
    /// The runners on the server: list, show, delete, prune, create
    Runners(RunnersFlags),
    /// The runner applications on offer
    Downloads(DownloadsFlags),
    /// A registration or remove token
    Token(TokenFlags),
    /// A GitHub to rehearse against
    #[cfg(feature = "sandbox")]
    Sandbox(SandboxFlags),
    /// The whole life of a runner in seconds, without an account
    #[cfg(feature = "sandbox")]
    Demo,
    /// The man page or a shell's completions
    Generate(GenerateFlags),
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
    pub archive: Archive,
    #[command(flatten)]
    pub metadata: Metadata,
    /// Refuse a placed runner that is too old to register, with exit code 80, instead of replacing it by the newest
    #[arg(long, help_heading = "Archive")]
    pub no_refresh: bool,
    /// When a step fails, leave what the earlier ones did
    #[arg(long)]
    pub keep_on_failure: bool,
}

#[derive(Debug, Clone, Args)]
pub(super) struct InstallFlags {
    #[command(flatten)]
    pub converge: ConvergeFlags,
    #[command(flatten)]
    pub libraries: Libraries,
    #[command(flatten)]
    pub service: Service,
}

/// What the exit code of `run` means beyond the table.
const RUN_HELP: &str = "Exit code:
  0 after the one job of an ephemeral runner, when the listener ended by itself, and after a stop signal that
  was obeyed: idle, or the job was waited for, and the runner taken off the server where that was requested and there
  is a token for it; otherwise the runner that stays is named.
  128+n only if that signal cut something short: a job, or the installation.
  65 the just-in-time configuration is none, 69 it was used before, and 75 it is in use elsewhere.
  75 another machine has this runner's session; 79 the listener fails again and again; 80 its version is too old.

The first SIGTERM or SIGINT drains for --drain; a second one ends that. What a shutdown could not take off the
server, the next run finds and finishes.";

#[derive(Debug, Clone, Args)]
pub(super) struct RunFlags {
    #[command(flatten)]
    pub converge: ConvergeFlags,
    #[command(flatten)]
    pub run: Run,
    #[command(flatten)]
    pub cloud: Cloud,
}

#[derive(Debug, Clone, Args)]
pub(super) struct PrepareStartFlags {
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub metadata: Metadata,
}

#[derive(Debug, Clone, Args)]
pub(super) struct DrainFlags {
    #[command(flatten)]
    pub place: Place,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = parse_duration)]
    pub deadline: Duration,
}

#[derive(Debug, Clone, Args)]
pub(super) struct BakeFlags {
    #[command(flatten)]
    pub server: Server,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub archive: Archive,
    #[command(flatten)]
    pub libraries: Libraries,
    /// Keep the runner that the image holds, though a newer one is on offer; exit code 80 if it is too old to register
    #[arg(long, help_heading = "Archive")]
    pub no_refresh: bool,
    /// Bake nothing: prove that the image holds no identity, log, token or machine id. 78 if it does, 69 without a runner
    #[arg(long)]
    pub check: bool,
    /// When a step fails, leave what the earlier ones did
    #[arg(long)]
    pub keep_on_failure: bool,
}

#[derive(Debug, Clone, Args)]
pub(super) struct RemoveFlags {
    #[command(flatten)]
    pub server: Server,
    #[command(flatten)]
    pub place: Place,
    /// Touch no server: clean this machine, and print what stays registered
    #[arg(long)]
    pub local: bool,
    /// How long a running job may go on before it is cancelled, where runup's own service runs it
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = parse_duration)]
    pub drain: Duration,
    /// The runner's name, to confirm what the files of a runner say that runup did not set up
    #[arg(long = "name", value_name = "NAME", id = "confirmed_name")]
    pub name: Option<String>,
    /// Give the remove token to the config.sh that is there, though jobs could have changed it
    #[arg(long)]
    pub trust_tree: bool,
    /// An archive of the runner, whose config.sh may get the remove token where jobs could have changed the one that is
    /// there; needs --sha256
    #[arg(long, value_name = "FILE|URL")]
    pub archive: Option<String>,
    /// The sha256 that the archive must have
    #[arg(long, value_name = "HEX")]
    pub sha256: Option<crate::transfer::Sha256Digest>,
    /// File with a remove token issued elsewhere, or - for stdin [else: RUNUP_REMOVE_TOKEN]
    #[arg(long, value_name = "FILE")]
    pub remove_token_file: Option<String>,
    /// How config.sh gets its token: argv can be read by every user of the machine
    #[arg(long, value_enum, default_value = "env", value_name = "WAY")]
    pub token_via: crate::settings::flags::TokenVia,
}

/// What `upgrade` does and what it leaves.
const UPGRADE_HELP: &str = "A runner that runup keeps from its jobs cannot update itself. `runup upgrade` looks for a newer
version, verifies it, waits until no job runs, stops the service, replaces the runner and starts it. The
registration stays. If the new version does not come online, the old one comes back.

Exit code:
  0 it is upgraded, or there was nothing to do; 75 a job ran all the time: try again; 79 the new version did not
  come online, and the old one is back.

`runup install` sets up a timer that does this once a day (--upgrade-at, --upgrade-spread). From 25 days after the
version stopped being the newest, the timer waits for the end of the job, however long it takes. What was installed
with --runner-version, --archive or --no-refresh stays as it is.";

#[derive(Debug, Clone, Args)]
pub(super) struct UpgradeFlags {
    #[command(flatten)]
    pub server: Server,
    #[command(flatten)]
    pub place: Place,
    /// How long to wait until no job runs [default: what --deadline leaves]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub window: Option<Duration>,
    /// Fetch the archive from URL/FILENAME instead of from where the list says
    #[arg(long, value_name = "URL", help_heading = "Archive")]
    pub mirror: Option<String>,
    /// Do nothing if the last look was less than a day ago: what the timer starts
    #[arg(long, hide = true)]
    pub daily: bool,
}

#[derive(Debug, Clone, Args)]
pub(super) struct StatusFlags {
    #[command(flatten)]
    pub server: Server,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, Clone, Args)]
pub(super) struct DownloadsFlags {
    #[command(flatten)]
    pub server: Server,
}

#[derive(Debug, Clone, Args)]
pub(super) struct TokenFlags {
    /// Which token
    pub kind: TokenKind,
    #[command(flatten)]
    pub server: Server,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum TokenKind {
    /// For `config.sh --token`
    Registration,
    /// For `config.sh remove --token`
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
    /// Every runner, or those that match
    List(RunnersListFlags),
    /// One runner
    Show(RunnersOneFlags),
    /// Delete one runner from the server, by force: for a machine that no longer exists
    Delete(RunnersOneFlags),
    /// Create a just-in-time runner for another machine or container, which then needs no token (`run --jit-config-file`)
    CreateJit(Box<CreateJitFlags>),
    /// Wait for a stop signal, then delete the runner that create-jit created: beside a container that has no token
    DeleteOnStop(DeleteOnStopFlags),
    /// Delete the ghosts: offline, idle runners whose names this machine made, but not the ones it has now
    ///
    /// With --label or --prefix it is not the machine that counts but the label or the beginning of the name, on
    /// every machine; a runner that was registered just now and has not started yet is offline too.
    Prune(RunnersPruneFlags),
}

#[derive(Debug, Clone, Args)]
pub(super) struct CreateJitFlags {
    /// Where to write the configuration, or - for stdout: a new file of mode 0600, or 0640 in a directory that hands its
    /// group on (setgid)
    #[arg(long, value_name = "FILE")]
    pub jit_config_out: String,
    /// Where to write down which runner was created, for delete-on-stop; a runner that is written down there already is
    /// deleted first
    #[arg(long, value_name = "FILE")]
    pub receipt: Option<PathBuf>,
    #[command(flatten)]
    pub server: Server,
    /// Its name: text with {hostname}, {machine-id}, {random}, {os}, {arch}
    #[arg(long, value_name = "TEMPLATE", default_value = "{hostname}-{random}", help_heading = "Runner")]
    pub name: NameTemplate,
    /// Labels besides the default ones, separated by commas
    #[arg(long, value_name = "LABELS", help_heading = "Runner")]
    pub labels: Option<Labels>,
    /// Without self-hosted and the labels for system and architecture; needs --labels
    #[arg(long, help_heading = "Runner")]
    pub no_default_labels: bool,
    /// Runner group (organizations and enterprises)
    #[arg(long, value_name = "NAME", help_heading = "Runner")]
    pub group: Option<String>,
    /// Where jobs work, below the runner's directory
    #[arg(long, value_name = "DIR", default_value = "_work", help_heading = "Runner")]
    pub work: String,
    /// The operating system of the machine that runs it: linux, osx, win [default: this one's]
    #[arg(long, value_name = "OS", help_heading = "Runner")]
    pub os: Option<Os>,
    /// The architecture of the machine that runs it: x64, arm64, arm [default: this one's]
    #[arg(long, value_name = "ARCH", help_heading = "Runner")]
    pub arch: Option<Arch>,
}

#[derive(Debug, Clone, Args)]
pub(super) struct DeleteOnStopFlags {
    /// What create-jit has written down; without it there is nothing to delete
    #[arg(long, value_name = "FILE")]
    pub receipt: PathBuf,
    #[command(flatten)]
    pub server: Server,
}

#[derive(Debug, Clone, Args)]
pub(super) struct RunnersListFlags {
    /// Only the one with this name
    #[arg(long = "name", value_name = "NAME", id = "filter_name")]
    pub name: Option<String>,
    /// Only those with this status: online, offline
    #[arg(long = "status", value_name = "STATUS", id = "filter_status")]
    pub status: Option<String>,
    /// Only those with this label
    #[arg(long = "label", value_name = "LABEL", id = "filter_label")]
    pub label: Option<String>,
    #[command(flatten)]
    pub server: Server,
}

#[derive(Debug, Clone, Args)]
pub(super) struct RunnersOneFlags {
    /// Its id or its name
    pub runner: String,
    #[command(flatten)]
    pub server: Server,
}

#[derive(Debug, Clone, Args)]
pub(super) struct RunnersPruneFlags {
    /// Those of every machine that have this label, which no one else's have
    #[arg(long, value_name = "LABEL")]
    pub label: Option<OwnershipLabel>,
    /// Those of every machine whose names begin so, as no one else's do: 3 characters at least
    #[arg(long, value_name = "TEXT")]
    pub prefix: Option<NamePrefix>,
    /// Delete nothing; print what would be deleted
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub server: Server,
    /// Work inside this root file system: whose machine it is, and which runners it has
    #[arg(long, value_name = "DIR", help_heading = "Place")]
    pub root: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(super) struct GenerateFlags {
    #[command(subcommand)]
    pub what: GenerateWhat,
}

#[derive(Debug, Clone, Subcommand)]
pub(super) enum GenerateWhat {
    /// The man pages: one for runup and one for each command, into a folder
    Man {
        /// The folder; made if missing
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Completions for a shell, to stdout
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[cfg(feature = "sandbox")]
#[derive(Debug, Clone, Args)]
pub(super) struct SandboxFlags {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    pub listen: std::net::SocketAddr,
    /// Allow listening on an address that other machines reach: everything here is pretend, the access is not
    #[arg(long)]
    pub allow_remote: bool,
    /// File with the token that the API accepts [else: a random one, printed when ready]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<String>,
    /// The newest runner version on offer
    #[arg(long, value_name = "VERSION")]
    pub runner_version: Option<crate::runner::RunnerVersion>,
    /// config.sh demands libicu, as GitHub's does
    #[arg(long)]
    pub require_libicu: bool,
    /// Misbehave: ROUTE[:COUNT]:KIND[=ARG]; may be repeated
    #[arg(long = "fault", value_name = "FAULT")]
    pub faults: Vec<crate::sandbox::Fault>,
}

/// The table of exit codes, from the one place that defines them.
fn after_help() -> String {
    let mut text = String::from("Exit codes:\n  0    done, or already so\n");
    for class in Class::ALL {
        let _ = writeln!(text, "  {:<4} {}", class.exit_code(), class.meaning());
    }
    text.push_str("  128+n  a signal, after unwinding\n\nEvery option has a twin in the environment (--runner-version: RUNUP_RUNNER_VERSION) and a key in\n/etc/runup/config.toml (runner-version). The flag wins over the environment over the file.");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    /// clap itself looks only at the command that was asked for, and only when it is.
    #[test]
    fn no_command_has_an_option_twice() {
        Cli::command().debug_assert();
    }
}
