//! `runup runners`

use super::args::{RunnersCommand, RunnersFlags, RunnersOneFlags, RunnersPruneFlags};
use super::output::{Failed, Output, table};
use super::{Session, create_jit, request, visible, whereabouts};
use crate::deadline::Deadline;
use crate::error::situation::{self, Situation};
use crate::error::{Class, Failure};
use crate::github::{Client, Deletion, Filter, Runner, RunnerStatus};
use crate::host::{self, Root};
use crate::lifecycle::{Claim, Prune, Pruned, prune};
use crate::runner::name::fingerprint;
use serde_json::json;

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{url} has no runner {runner}")]
    NoSuchRunner { runner: String, url: String },
    #[error("invalid --status {status}: expected online or offline")]
    NoSuchStatus { status: String },
    #[error("cannot tell which runners belong to this machine: it has no id in {}", root.join("/etc/machine-id".as_ref()).display())]
    MachineUnknown { root: Root },
}

impl Failure for Error {
    fn class(&self) -> Class {
        match self {
            Self::NoSuchRunner { .. } => Class::Unavailable,
            Self::NoSuchStatus { .. } => Class::Usage,
            Self::MachineUnknown { .. } => Class::Config,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoSuchRunner { url, .. } => {
                Some(format!("`runup runners list --url {url}` shows the runners."))
            }
            Self::NoSuchStatus { .. } => None,
            Self::MachineUnknown { .. } => {
                Some("Select your runners with --label LABEL or --prefix TEXT.".to_owned())
            }
        }
    }

    fn situation(&self) -> &'static Situation {
        match self {
            Self::NoSuchRunner { .. } => &situation::NO_SUCH_RUNNER,
            Self::NoSuchStatus { .. } | Self::MachineUnknown { .. } => &situation::COMMAND_LINE,
        }
    }
}

pub(super) async fn run(flags: RunnersFlags, session: Session) -> Result<Output, Failed> {
    match flags.command {
        RunnersCommand::List(flags) => {
            let status = match flags.status.as_deref() {
                None => None,
                Some("online") => Some(RunnerStatus::Online),
                Some("offline") => Some(RunnerStatus::Offline),
                Some(status) => return Err(Error::NoSuchStatus { status: status.to_owned() }.into()),
            };
            let client = request::client(&flags.server, &session)?;
            let filter = Filter { name: flags.name, status, label: flags.label };
            let runners = session.or_stop(client.runners(&filter)).await??;
            Ok(Output::list("runners", runners, session.screen.is_json(), &HEAD, row))
        }
        RunnersCommand::Show(flags) => {
            let (_, runner) = one(&flags, &session).await?;
            Ok(Output::new(table(&HEAD, &[row(&runner)]), &runner))
        }
        RunnersCommand::Delete(flags) => {
            let (client, runner) = one(&flags, &session).await?;
            let deletion = session.or_stop(client.delete(runner.id)).await??;
            let verb = match deletion {
                Deletion::Deleted => "deleted",
                Deletion::AlreadyGone => "already gone",
            };
            let text = format!("{verb}: {} (id {})", visible::line(&runner.name), runner.id);
            Ok(Output::new(
                text,
                &json!({"deleted": runner, "already_gone": deletion == Deletion::AlreadyGone}),
            ))
        }
        RunnersCommand::CreateJit(flags) => create_jit::create(&flags, &session).await,
        RunnersCommand::DeleteOnStop(flags) => create_jit::delete_on_stop(&flags, &session).await,
        RunnersCommand::Prune(flags) => prune_stale(&flags, &session).await,
    }
}

async fn prune_stale(flags: &RunnersPruneFlags, session: &Session) -> Result<Output, Failed> {
    let client = request::client(&flags.server, session)?;
    let root = whereabouts::root(flags.root.as_deref())?;
    let claim = if flags.label.is_some() || flags.prefix.is_some() {
        Claim::Operator { label: flags.label.clone(), prefix: flags.prefix.clone() }
    } else {
        let id = host::machine_id(&root).ok_or(Error::MachineUnknown { root: root.clone() })?;
        Claim::Machine(fingerprint(&id))
    };
    let order = Prune {
        client: &client,
        claim,
        states: whereabouts::states(flags.root.as_deref(), flags.state_dir.as_deref(), &session.environment)?,
        dry_run: flags.dry_run,
        deadline: Deadline::after(flags.server.deadline),
    };
    let pruned = prune(&order, session.signals.stop()).await?;
    Ok(Output::new(pruned_text(&pruned), &pruned))
}

fn pruned_text(pruned: &Pruned) -> String {
    let mut lines = Vec::new();
    for gone in &pruned.deleted {
        let verb = match (pruned.dry_run, gone.already_gone) {
            (true, _) => "would delete",
            (false, true) => "already gone",
            (false, false) => "deleted",
        };
        lines.push(format!("{verb}: {} (id {})", visible::line(&gone.runner.name), gone.runner.id));
    }
    for kept in &pruned.kept {
        let (name, why) = (visible::line(&kept.runner.name), visible::line(&kept.why));
        lines.push(format!("kept: {name} (id {}): {why}", kept.runner.id));
    }
    if pruned.deleted.is_empty() {
        lines.push("nothing to prune".to_owned());
    }
    lines.join("\n")
}

/// The runner with that id, or else with that name: a name can be a number.
async fn one(flags: &RunnersOneFlags, session: &Session) -> Result<(Client, Runner), Failed> {
    let client = request::client(&flags.server, session)?;
    let find = async {
        if let Ok(id) = flags.runner.parse::<u64>()
            && let Some(runner) = client.runner(id).await?
        {
            return Ok(Some(runner));
        }
        client.runner_named(&flags.runner).await
    };
    let found: Result<Option<Runner>, crate::github::Error> = session.or_stop(find).await?;
    let Some(runner) = found? else {
        let url = client.target().url.as_str().trim_end_matches('/').to_owned();
        return Err(Error::NoSuchRunner { runner: flags.runner.clone(), url }.into());
    };
    Ok((client, runner))
}

const HEAD: [&str; 6] = ["ID", "NAME", "OS", "STATUS", "JOB", "LABELS"];

fn row(runner: &Runner) -> Vec<String> {
    let labels: Vec<&str> = runner.labels.iter().map(|label| label.name.as_str()).collect();
    vec![
        runner.id.to_string(),
        runner.name.clone(),
        runner.os.clone(),
        runner.status.to_string(),
        if runner.busy { "busy" } else { "idle" }.to_owned(),
        labels.join(","),
    ]
}
