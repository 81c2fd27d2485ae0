//! `runup runners`

use super::args::{RunnersCommand, RunnersFlags, RunnersOneFlags};
use super::output::{Failed, Output, table};
use super::{Session, request};
use crate::error::{Class, Failure};
use crate::github::{Client, Deletion, Filter, Runner, Status};
use serde_json::json;

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{url} has no runner {runner}")]
    NoSuchRunner { runner: String, url: String },
    #[error("--status {status} is neither online nor offline")]
    NoSuchStatus { status: String },
}

impl Failure for Error {
    fn class(&self) -> Class {
        match self {
            Self::NoSuchRunner { .. } => Class::Unavailable,
            Self::NoSuchStatus { .. } => Class::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoSuchRunner { url, .. } => {
                Some(format!("`runup runners list --url {url}` shows those that are there."))
            }
            Self::NoSuchStatus { .. } => None,
        }
    }
}

pub(super) async fn run(flags: RunnersFlags, session: Session) -> Result<Output, Failed> {
    match flags.command {
        RunnersCommand::List(flags) => {
            let status = match flags.status.as_deref() {
                None => None,
                Some("online") => Some(Status::Online),
                Some("offline") => Some(Status::Offline),
                Some(status) => return Err(Error::NoSuchStatus { status: status.to_owned() }.into()),
            };
            let client = request::client(&flags.server, &session)?;
            let filter = Filter { name: flags.name, status, label: flags.label };
            let runners = session.or_stop(client.runners(&filter)).await??;
            Ok(Output::new(list(&runners), &runners))
        }
        RunnersCommand::Show(flags) => {
            let (_, runner) = one(&flags, &session).await?;
            Ok(Output::new(list(std::slice::from_ref(&runner)), &runner))
        }
        RunnersCommand::Delete(flags) => {
            let (client, runner) = one(&flags, &session).await?;
            let deletion = session.or_stop(client.delete(runner.id)).await??;
            let verb = match deletion {
                Deletion::Deleted => "deleted",
                Deletion::AlreadyGone => "gone already",
            };
            let text = format!("{verb}: {} (id {})", runner.name, runner.id);
            Ok(Output::new(
                text,
                &json!({"deleted": runner, "already_gone": deletion == Deletion::AlreadyGone}),
            ))
        }
    }
}

/// By id if it is a number that some runner has, by name otherwise: names can be numbers too.
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

fn list(runners: &[Runner]) -> String {
    let rows: Vec<Vec<String>> = runners
        .iter()
        .map(|runner| {
            let labels: Vec<&str> = runner.labels.iter().map(|label| label.name.as_str()).collect();
            vec![
                runner.id.to_string(),
                runner.name.clone(),
                runner.os.clone(),
                runner.status.to_string(),
                if runner.busy { "busy" } else { "idle" }.to_owned(),
                labels.join(","),
            ]
        })
        .collect();
    table(&["ID", "NAME", "OS", "STATUS", "JOB", "LABELS"], &rows)
}
