//! What happens to a runner on this machine, from its installation to its removal: what was requested becomes planned
//! changes, each change is a step, and each step is recorded before it happens (`step/recorded`), so that it can be undone
//! whatever interrupts it.
//!
//! Four layers, of which each may use those below it: `command` (one file or directory per command) -> `step` (one per step:
//! user, libraries, placing, registration, service) -> `state` (the journal, what was observed, the plan, ownership) ->
//! `context` (the request, the machine, the clients, the deadline, errors). No two files import each other.
//!
//! | where does this go? | here |
//! |---|---|
//! | a step between registration and service | a file in `step`, its `Step`, `Act` and `Change` in `state/record` and `state/plan`, its place in `step/sequence` |
//! | another service manager | beside `host/systemd` and `runner/unit`, chosen by `step/service` |
//! | another kind of credential | `github::Credential`, found by `settings/credential` |
//! | one more check before installing | `step/precheck` |
//! | one more occasion to take a runner off the server | the table in `step/registration/deregister` |

mod command;
mod context;
mod state;
mod step;

pub use command::adoption::{install, plan};
pub use command::create_jit::{
    CreateJit, DeletedByReceipt, Receipt, create_jit, delete_by_receipt, write_jit_config,
};
pub use command::doctor::{Check, Verdict, doctor, last_failure, worst};
pub use command::facts::{Facts, facts, unique_name, unit_state};
pub use command::install::{Installed, RegisteredRunner, bake};
pub use command::limit::wait_for_limit;
pub use command::logs::{LogLine, LogSource, logs};
pub use command::prepare_start::prepare as prepare_start;
pub use command::prune::{Claim, Gone, Kept, NamePrefix, OwnershipLabel, Prune, Pruned, prune};
pub use command::remove::{LeftOnServer, Removed, Why, remove};
pub use command::run::running::{
    AfterJob, CredentialSource, ExitReason, LeftRunner, RunResult, RunnerSource, Running, Surroundings,
};
pub use command::run::{drain, run};
pub use command::seal;
pub use command::status::{Looking, RunnerState, ServiceStatus, Status, status};
pub use command::surplus::{lock_instances, remove_surplus, start_target};
pub use command::upgrade::conclude::Upgraded;
pub use command::upgrade::offer::Upgrading;
pub use command::upgrade::support::Support;
pub use command::upgrade::upgrade;
pub use command::verify::{KnownDigest, Verify, verify};
pub use context::error::Error;
pub(crate) use context::error::{RegistrationError, ServiceError};
pub use context::request::{Archive, Instance, KeepCopy, Registration, RemoveScope, Request, WantedService};
pub use context::site::Site;
pub use context::watch::Watch;
pub use state::checkpoint;
pub use state::instances::{Instances, Wanted};
pub use state::journal;
pub use state::machine::{LocalRunner, LocalRunners, refuse_elsewhere};
pub use state::observed::Seen;
pub use state::plan::{Action, Plan, Planned};
pub use step::libraries::command as libraries_command;
pub use step::placing::claims::DigestClaim;
pub use step::placing::stored::StoredCopies;
