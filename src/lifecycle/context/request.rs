//! What was requested, as plain values, merged from the command line, the environment and the file.

use crate::cloud::Identity;
use crate::github::{Shared, Target};
use crate::host::account::WantedIds;
use crate::host::{Arch, Os, Root};
use crate::runner::unit::{Main, Upgrades};
use crate::runner::{NameTemplate, RunnerVersion, WantedEnvironment, config_sh};
use crate::settings::Credentials;
use crate::transfer::Sha256Digest;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// One of several runners that one configuration describes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its number, from 1.
    pub number: u32,
    /// The directory of the first one.
    pub first: PathBuf,
}

/// A whole request.
#[derive(Debug, Clone)]
pub struct Request {
    /// The root file system to work on.
    pub root: Root,
    /// The runner's directory, as the machine that boots from `root` will see it.
    pub dir: PathBuf,
    /// No directory was set: a runner in another one may be meant.
    pub dir_is_default: bool,
    /// Where journals live, as that machine will see it.
    pub state: PathBuf,
    /// Which of several runners it is.
    pub instance: Option<Instance>,
    /// The runner's user, if it is not the one who runs this.
    pub user: Option<String>,
    /// No user was set: a runner that is not known yet gets the first free name that begins with the default one.
    pub user_is_default: bool,
    /// The groups that a user that runup creates also gets.
    pub groups: Vec<String>,
    /// The ids of that user.
    pub ids: WantedIds,
    /// The runner updates itself, in a tree that its user owns.
    pub self_update: bool,
    /// `run` supervises the runner.
    pub supervised: bool,
    /// The credential is available at every later start too: a file that stays, or a command.
    pub credential_lasts: bool,
    /// The name that confirms which runner is meant, if only files that its jobs could write say so.
    pub confirmed_name: Option<String>,
    /// A runner that was set up by hand is taken over.
    pub adopt: bool,
    /// Programs of a tree that jobs could change may get a remove token.
    pub trust_tree: bool,
    /// What is asked only once for several runners that are installed together.
    pub shared: Option<Arc<Shared>>,
    /// Which enterprise, organization or repository.
    pub target: Option<Target>,
    /// The credentials that were found.
    pub credentials: Credentials,
    /// The files that hold tokens by the configuration, as this process sees them; only an image is checked for them.
    pub token_files: Vec<PathBuf>,
    /// Which runner application.
    pub archive: Archive,
    /// What to register; `None` for an image.
    pub registration: Option<Registration>,
    /// The server creates a runner of the placed tree right afterwards, without the registration step.
    pub jit: bool,
    /// The service that runs it; `None` if it is run by other means.
    pub service: Option<WantedService>,
    /// The service was set to `none`.
    pub no_service: bool,
    /// Install the libraries that the runner needs and the machine lacks.
    pub deps: bool,
    /// Keep what was done when a later step fails.
    pub keep_on_failure: bool,
    /// Pass the token on `config.sh`'s command line.
    pub token_on_argv: bool,
    /// Allow `http://` to a host that is not this machine.
    pub allow_http: bool,
    /// Jobs may use the identity of the machine in its cloud.
    pub allow_metadata: bool,
    /// This machine in its cloud, if its name or its labels need that.
    pub cloud: Option<Identity>,
    /// What is to be set for the runner and its jobs.
    pub environment: WantedEnvironment,
    /// How long the whole may take.
    pub deadline: Duration,
}

impl Request {
    /// Whether the requested service registers its runner by itself at each start, and takes it off the server.
    #[must_use]
    pub fn registers_by_itself(&self) -> bool {
        self.service.as_ref().is_some_and(|service| matches!(service.main, Main::Supervisor { .. }))
    }

    /// Whether its runner is for one job.
    #[must_use]
    pub fn is_ephemeral(&self) -> bool {
        self.jit || self.registration.as_ref().is_some_and(|wanted| wanted.options.ephemeral)
    }

    /// The same request for a runner that the server creates once its tree is placed.
    pub(crate) fn without_registration(&self, archive: Archive) -> Self {
        Self { registration: None, jit: true, archive, ..self.clone() }
    }

    /// Whether this is for an image: nothing is registered.
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
    /// Take it from GitHub's public releases instead of from the server's list.
    pub from_release: bool,
    /// Proceed although no digest is known.
    pub accept_unverified: bool,
    /// A tree that is too old to register is refused, not replaced.
    pub no_refresh: bool,
    /// When a verified copy is kept beside the runner.
    pub keep_copy: KeepCopy,
    /// Another operating system than this one's.
    pub os: Option<Os>,
    /// Another architecture than this one's.
    pub arch: Option<Arch>,
}

/// When a verified copy is kept beside a runner, from which more trees are made without a download.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeepCopy {
    /// If the runner is not the only one there.
    #[default]
    WithOthers,
    /// Also if it takes no space.
    IfFree,
    /// Always: more trees will be made from it.
    Always,
}

/// The service that runs the runner.
#[derive(Debug, Clone)]
pub struct WantedService {
    /// Our own program, which the unit calls.
    pub program: PathBuf,
    /// What the unit starts.
    pub main: Main,
    /// How long a stop waits for a running job.
    pub drain: Duration,
    /// When and how runup upgrades the runner, if it does.
    pub upgrades: Option<Upgrades>,
    /// Its units pass the number of the instance, and so read what is set for it alone.
    pub by_number: bool,
    /// It starts and stops with the other instances of the machine.
    pub in_target: bool,
}

/// What to register.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The name's template.
    pub name: NameTemplate,
    /// Labels, group and so on.
    pub options: config_sh::ConfigOptions,
    /// A runner of the same name is replaced if it is offline.
    pub replace_offline: bool,
}

/// What a removal covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoveScope {
    /// The server's entry too.
    Server,
    /// This machine only.
    Local,
}
