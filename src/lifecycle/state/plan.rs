//! What is going to be done, step by step, before any of it is.

use crate::lifecycle::context::request::Request;
use crate::lifecycle::state::observed::WantedName;
use crate::lifecycle::state::record::Step;
use crate::lifecycle::state::service::SeenService;
use crate::runner::config_sh;
use serde::Serialize;

/// The steps, in their order.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// One for each step of the request.
    pub steps: Vec<Planned>,
}

/// One step.
#[derive(Debug, Clone, Serialize)]
pub struct Planned {
    /// Which step.
    pub step: Step,
    /// What is done about it.
    pub action: Action,
    /// A description for people.
    pub detail: String,
}

/// What is done about a step.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case", tag = "action")]
pub enum Action {
    /// It is as it should be.
    Keep,
    /// The step is applied.
    Do(Change),
}

/// What a step changes, with all the data that it needs for that.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case", tag = "change")]
pub enum Change {
    /// The user is created.
    CreateUser {
        /// Its name.
        #[serde(skip)]
        name: String,
    },
    /// The user that runup created gets more groups.
    JoinGroups {
        /// Which.
        #[serde(skip)]
        groups: Vec<String>,
    },
    /// A runner is placed where none exists.
    Place,
    /// The existing runner is replaced by a new one: it is incomplete, of another version or platform, or too old to
    /// register. It stays until the new one is verified.
    Replace {
        /// It works, and is replaced by one that its jobs cannot change. It comes back if that fails.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        converts: bool,
    },
    /// A complete runner replaces an incomplete one and gets its identity: it stays the same runner.
    Repair,
    /// What is set for the runner and its jobs is written.
    WriteEnvironment {
        /// The runner reads it at its next start, and is restarted for it.
        restarts: bool,
    },
    /// `config.sh` registers the runner.
    Register(Box<NewRegistration>),
    /// Only the labels of the registered runner change; it keeps running.
    Relabel {
        /// Its id.
        id: u64,
    },
    /// The unit files are written.
    WriteService {
        /// Their content.
        #[serde(skip)]
        service: Box<SeenService>,
    },
    /// The service is enabled, and started or restarted.
    StartService {
        /// Which service.
        #[serde(skip)]
        service: Box<SeenService>,
    },
    /// A runner that was set up by hand is taken over, and its own service goes.
    Adopt,
    /// The service runs as it should, but the server does not see its runner yet: wait for that.
    AwaitOnline,
}

/// A registration by `config.sh`.
#[derive(Debug, Clone, Serialize)]
pub struct NewRegistration {
    /// The name.
    #[serde(skip)]
    pub name: WantedName,
    /// The options, as requested.
    #[serde(skip)]
    pub options: config_sh::ConfigOptions,
    /// Delete what an earlier registration left in the directory.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub clean_identity: bool,
    /// Delete these as well: left by the runner of the machine that the image was created from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub traces: Vec<&'static str>,
    /// Delete this runner on the server: it is this machine's, and no listener can be it any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ghost: Option<u64>,
    /// Only `config.sh --replace` can take the name back: an earlier run may have registered it, and without a
    /// credential this cannot be checked.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reclaim_name: bool,
    /// Takes over the name and the id of a working runner, which comes back if this fails.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub converts: bool,
}

impl NewRegistration {
    /// A registration with nothing to correct first.
    #[must_use]
    pub fn of(name: WantedName, options: config_sh::ConfigOptions) -> Self {
        let (clean_identity, reclaim_name, converts) = (false, false, false);
        Self { name, options, clean_identity, traces: Vec::new(), ghost: None, reclaim_name, converts }
    }

    /// Whether something is deleted or stopped before `config.sh` registers.
    #[must_use]
    pub fn loses(&self) -> bool {
        self.clean_identity || !self.traces.is_empty() || self.ghost.is_some() || self.converts
    }
}

impl Planned {
    /// A step that changes something.
    #[must_use]
    pub fn to_do(step: Step, change: Change, detail: String) -> Self {
        Self { step, action: Action::Do(change), detail }
    }

    /// A step whose result is there already.
    #[must_use]
    pub fn keep(step: Step, detail: String) -> Self {
        Self { step, action: Action::Keep, detail }
    }

    /// What changes, if anything does.
    #[must_use]
    pub fn change(&self) -> Option<&Change> {
        if let Action::Do(change) = &self.action { Some(change) } else { None }
    }

    /// Whether what is there is already as the step would leave it, though it may have to be waited for.
    pub(crate) fn stands(&self) -> bool {
        matches!(self.action, Action::Keep | Action::Do(Change::AwaitOnline))
    }

    /// Whether it registers a runner without taking over the name and id of the one that works.
    pub(crate) fn registers_anew(&self) -> bool {
        matches!(self.change(), Some(Change::Register(new)) if !new.converts)
    }

    /// A tree that it replaces does not come back if a later step fails.
    pub(crate) fn replaces_for_good(&mut self) {
        if let Action::Do(Change::Replace { converts }) = &mut self.action {
            *converts = false;
        }
    }

    /// Whether a running service has to be restarted for it.
    pub(crate) fn restarts(&self) -> bool {
        let without = |change: &Change| {
            matches!(
                change,
                Change::Relabel { .. }
                    | Change::Adopt
                    | Change::CreateUser { .. }
                    | Change::WriteEnvironment { restarts: false }
            )
        };
        !self.stands() && !self.change().is_some_and(without)
    }
}

impl Plan {
    /// Whether it applies this step.
    #[must_use]
    pub fn takes(&self, step: Step) -> bool {
        self.steps.iter().any(|planned| planned.step == step && planned.change().is_some())
    }

    /// Whether a runner will be created on the server.
    #[must_use]
    pub fn registers(&self, request: &Request) -> bool {
        request.jit || self.steps.iter().any(|planned| matches!(planned.change(), Some(Change::Register(_))))
    }

    /// Whether the service is started or restarted, and not only waited for.
    #[must_use]
    pub fn starts_service(&self) -> bool {
        self.steps.iter().any(|planned| matches!(planned.change(), Some(Change::StartService { .. })))
    }

    /// Whether it only makes a working runner safer, which must not take it down.
    #[must_use]
    pub fn converts(&self) -> bool {
        self.steps.iter().any(|planned| match planned.change() {
            Some(Change::Replace { converts }) => *converts,
            Some(Change::Register(new)) => new.converts,
            _ => false,
        })
    }

    /// The options of `config.sh`, if it is to be run.
    #[must_use]
    pub fn options(&self) -> Option<config_sh::ConfigOptions> {
        let new = self.steps.iter().find_map(|planned| match planned.change() {
            Some(Change::Register(new)) => Some(new),
            _ => None,
        })?;
        Some(config_sh::ConfigOptions {
            replace: new.options.replace || new.reclaim_name,
            ..new.options.clone()
        })
    }

    /// Whether there is anything to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.iter().all(|planned| planned.change().is_none())
    }
}
