//! What can be refused before the first step begins: from what is known already, or with one call.
//!
//! One more check before an installation belongs here. What a check has fetched is kept for the step that needs it, so
//! that it is not fetched twice.

use crate::host;
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::observed::Seen;
use crate::lifecycle::state::plan::{Change, Plan, Planned};
use crate::lifecycle::state::record::Step;
use crate::lifecycle::step::environment;
use crate::lifecycle::step::placing::archive::{self, Choice};
use crate::lifecycle::step::registration::check_group;
use crate::lifecycle::step::registration::taken;
use crate::lifecycle::step::registration::token::{self, Token};
use crate::lifecycle::step::work;

/// Less memory than this leaves little for jobs beside the runner's own two processes.
const SMALL: u64 = 512 << 20;

/// What the checks have fetched.
#[derive(Default)]
pub(crate) struct Prepared {
    /// The archive that is to be placed.
    pub choice: Option<Choice>,
    /// The token that the runner is to be registered with.
    pub token: Option<Token>,
}

impl Prepared {
    /// Checks what the plan needs. `self` is what an earlier check of this run has fetched.
    ///
    /// # Errors
    /// A step would fail: no archive can be chosen, no token is available, or the runner group does not exist.
    pub async fn check(mut self, site: &Site<'_>, plan: &Plan, seen: &Seen) -> Result<Self, Error> {
        self = self.look(site, plan, seen).await?;
        if self.token.is_none() && registers(site, plan) {
            // The only way to see whether the credential may register.
            self.token = Some(token::get(site).await?);
        }
        Ok(self)
    }

    /// The same without creating anything on the server, for `plan`.
    ///
    /// # Errors
    /// As for [`check`](Self::check), as far as that can be seen.
    pub async fn look(mut self, site: &Site<'_>, plan: &Plan, seen: &Seen) -> Result<Self, Error> {
        if registers(site, plan) {
            token::check_credential(site)?;
            for change in plan.steps.iter().filter_map(Planned::change) {
                if let Change::Register(new) = change {
                    taken::check(site, new)?;
                }
            }
            check_group(site).await?;
            work::check(site, &site.read_journal()?)?;
        }
        if plan.takes(Step::WriteEnvironment) || registers(site, plan) || site.request.adopt {
            environment::check(site, seen.account.as_ref())?;
        }
        if plan.takes(Step::PlaceRunner) && self.choice.is_none() && site.request.root.is_host() {
            check_memory();
        }
        let must_work = !plan.converts() || site.request.adopt;
        if plan.takes(Step::PlaceRunner) && must_work && self.choice.is_none() {
            let listed = seen.offer.as_ref().map(|offer| offer.applications.as_slice());
            self.choice = Some(archive::choose(site, listed).await?);
        }
        Ok(self)
    }
}

/// Warns of a machine that is too small for jobs, or for the runner itself.
fn check_memory() {
    let memory = host::memory();
    if (1..SMALL).contains(&memory) {
        tracing::warn!(
            "this machine has {} MB of memory, which may not be enough for jobs",
            memory / 1_000_000
        );
    }
}

/// Whether `config.sh` will register a new runner. If it only takes over a working one, a failure leaves that as it is,
/// and nothing needs to be refused; but to be adopted, that one is stopped.
fn registers(site: &Site<'_>, plan: &Plan) -> bool {
    let anew =
        |change: &Change| matches!(change, Change::Register(new) if !new.converts || site.request.adopt);
    !site.request.jit && plan.steps.iter().filter_map(Planned::change).any(anew)
}
