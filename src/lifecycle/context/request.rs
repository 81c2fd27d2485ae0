//! What was asked for, as plain values: what the command line, the environment and the file come down to.

use crate::github::Target;
use crate::host::{Arch, Os, Root};
use crate::runner::unit::{Main, Upgrades};
use crate::runner::{NameTemplate, RunnerVersion, config_sh};
use crate::settings::Credentials;
use crate::transfer::Sha256Digest;
use std::path::PathBuf;
use std::time::Duration;

/// A whole request.
#[derive(Debug, Clone)]
pub struct Request {
    /// The root file system that is worked on.
    pub root: Root,
    /// The runner's folder, as the machine that boots from `root` will see it.
    pub dir: PathBuf,
    /// Where journals live, as that machine will see it.
    pub state: PathBuf,
    /// The runner's user, if it is to be another than the one who runs this.
    pub user: Option<String>,
    /// Nobody named the user: a runner that is not known yet gets the first free name of those that begin with it.
    pub user_is_default: bool,
    /// The runner updates itself, in a tree that its user owns.
    pub self_update: bool,
    /// `run` sees to the runner.
    pub supervised: bool,
    /// The credential is there at every later start too: a file that stays, or a command.
    pub credential_lasts: bool,
    /// The name that confirms which runner is meant, where only files that its jobs could write say so.
    pub confirmed_name: Option<String>,
    /// Programs of a tree that jobs could change may get a remove token.
    pub trust_tree: bool,
    /// Which enterprise, organization or repository.
    pub target: Option<Target>,
    /// The credentials that were found.
    pub credentials: Credentials,
    /// The files that hold tokens by the configuration, as this process sees them; only an image is looked at for them.
    pub token_files: Vec<PathBuf>,
    /// Which runner application.
    pub archive: Archive,
    /// What to register; `None` for an image.
    pub registration: Option<Registration>,
    /// The server makes a runner of the placed tree right afterwards, without the step that registers one.
    pub jit: bool,
    /// The service that runs it; `None` for those who have their own.
    pub service: Option<Service>,
    /// Somebody said that there is to be none.
    pub no_service: bool,
    /// Install the libraries that the runner needs and the machine lacks.
    pub deps: bool,
    /// Leave what was done where it is when a later step fails.
    pub keep_on_failure: bool,
    /// The token on `config.sh`'s command line.
    pub token_on_argv: bool,
    /// `http://` to a host that is not this machine was allowed.
    pub allow_http: bool,
    /// Jobs may use the identity of the machine in its cloud.
    pub allow_metadata: bool,
    /// What of our environment `config.sh` gets.
    pub environment: Vec<(String, String)>,
    /// How long the whole may take.
    pub deadline: Duration,
}

impl Request {
    /// Whether all of it is an image's: nothing is registered.
    #[must_use]
    pub fn bakes(&self) -> bool {
        self.registration.is_none() && !self.jit
    }
}

/// Which runner application to place.
#[derive(Debug, Clone, Default)]
pub struct Archive {
    /// This version instead of the newest.
    pub version: Option<RunnerVersion>,
    /// A file or URL instead of the list.
    pub archive: Option<String>,
    /// The digest that it must have.
    pub sha256: Option<Sha256Digest>,
    /// Fetch from here instead of from where the list says.
    pub mirror: Option<String>,
    /// Go on although nobody names a digest.
    pub accept_unverified: bool,
    /// A tree that is too old to register is refused, not replaced.
    pub no_refresh: bool,
    /// Another operating system than this one's.
    pub os: Option<Os>,
    /// Another architecture than this one's.
    pub arch: Option<Arch>,
}

/// The service that runs the runner.
#[derive(Debug, Clone)]
pub struct Service {
    /// Our own program, which the unit calls.
    pub program: PathBuf,
    /// What the unit starts.
    pub main: Main,
    /// How long a stop waits for a running job.
    pub drain: Duration,
    /// When and how the runner is upgraded, where that is runup's affair.
    pub upgrades: Option<Upgrades>,
}

/// What to register.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The name's template.
    pub name: NameTemplate,
    /// Labels, group and so on.
    pub options: config_sh::Options,
}

/// How far removing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoveScope {
    /// The server's entry too.
    Server,
    /// This machine only.
    Local,
}
