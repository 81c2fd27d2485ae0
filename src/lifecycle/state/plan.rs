//! What is going to be done, step by step, before anything of it is.

use crate::lifecycle::context::request::Request;
use crate::lifecycle::state::record::Step;
use serde::Serialize;

/// The steps, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// One for each step of the request.
    pub steps: Vec<Planned>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// Which.
    pub step: Step,
    /// What is done about it.
    pub action: Action,
    /// To what, in words.
    pub detail: String,
}

/// What is done about a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "action")]
pub enum Action {
    /// It is as it should be.
    Keep,
    /// The step is taken.
    Do(Care),
}

/// What has to be put right before the step is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Care {
    /// Replace the old tree, which is ours and incomplete, of another version or platform, or too old to register. It
    /// stays until the new one is verified.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub remove_tree: bool,
    /// Put a new tree in the place of an incomplete one, and the registration's files into it: the runner stays the
    /// runner that it is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keep_identity: bool,
    /// Delete what an earlier registration left in the folder.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub clean_identity: bool,
    /// Delete these as well: the runner of the machine that the image was made of left them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub traces: Vec<&'static str>,
    /// Delete this runner on the server: it is ours, and nobody can be it any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ghost: Option<u64>,
    /// Only `config.sh --replace` can take the name back: an earlier run of ours may have registered it, and there is
    /// no credential to look.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reclaim_name: bool,
    /// Nothing but the labels of the runner with this id: it stays registered, and goes on running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relabel: Option<u64>,
    /// The service runs as it should, and the server does not see its runner yet: that is waited for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub await_online: bool,
    /// The tree that jobs could change gives way to one that they cannot, and the registration to a new one under the same name
    /// and id. What is there works until then, and comes back if it fails.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub converts: bool,
}

impl Planned {
    /// Whether what is there already is as the step would leave it, though it may have to be waited for.
    pub(crate) fn stands(&self) -> bool {
        match &self.action {
            Action::Keep => true,
            Action::Do(care) => care.await_online,
        }
    }

    /// Whether a service that runs has to be started again for it.
    pub(crate) fn restarts(&self) -> bool {
        matches!(&self.action, Action::Do(care) if care.relabel.is_none() && !care.await_online)
    }
}

impl Plan {
    /// Whether it takes this step.
    #[must_use]
    pub fn takes(&self, step: Step) -> bool {
        self.steps.iter().any(|planned| planned.step == step && planned.action != Action::Keep)
    }

    /// Whether a runner will be made on the server.
    #[must_use]
    pub fn registers(&self, request: &Request) -> bool {
        request.jit || self.steps.iter().any(|planned| planned.step == Step::Register && planned.restarts())
    }

    /// Whether the service is started, or started again, and not only waited for.
    #[must_use]
    pub fn starts_service(&self) -> bool {
        self.steps.iter().any(|planned| planned.step == Step::StartService && planned.restarts())
    }

    /// Whether a runner that works goes, because only a new one can be as it is asked for.
    #[must_use]
    pub fn replaces_registration(&self) -> bool {
        self.steps.iter().any(|planned| {
            matches!(&planned.action, Action::Do(care) if planned.step == Step::Register && care.ghost.is_some())
        })
    }

    /// Whether it only makes a runner that works safer, which must not take it down.
    #[must_use]
    pub fn converts(&self) -> bool {
        self.steps.iter().any(|planned| matches!(&planned.action, Action::Do(care) if care.converts))
    }

    /// Whether there is anything to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.iter().all(|planned| planned.action == Action::Keep)
    }
}
