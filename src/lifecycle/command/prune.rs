//! Ghosts: runners on the server whose machine, or whose earlier installation on this machine, is gone.
//!
//! Only what is provably ours is deleted, and only while it is offline and idle. When in doubt a runner is kept: a
//! ghost only clutters a list, but deleting a live runner costs a user's job.

use crate::deadline::Deadline;
use crate::error::chain;
use crate::github::{self, Client, Deletion, Runner, RunnerStatus};
use crate::lifecycle::context::error::Error;
use crate::lifecycle::state::journal::{Journal, Registered};
use crate::runner::Label;
use serde::Serialize;
use std::path::PathBuf;
use std::str::FromStr;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// The labels that `config.sh` sets by itself: they do not identify a runner's owner.
const DEFAULT_LABELS: [&str; 8] = ["self-hosted", "linux", "macos", "osx", "windows", "x64", "arm64", "arm"];
/// The shortest prefix that can tell one owner's names from another's, in characters.
const PREFIX_LEAST: usize = 3;

/// A label that only our runners have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnershipLabel(Label);

impl FromStr for OwnershipLabel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let label: Label = text.parse().map_err(|error| chain(&error))?;
        if DEFAULT_LABELS.iter().any(|default| label.as_str().eq_ignore_ascii_case(default)) {
            return Err(format!(
                "GitHub gives {label} to every such runner, so it does not say whose one is"
            ));
        }
        Ok(Self(label))
    }
}

/// The beginning of our runners' names, in its original case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePrefix(String);

impl FromStr for NamePrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().chars().count() < PREFIX_LEAST {
            return Err(format!("it must have {PREFIX_LEAST} characters at least"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// What makes a runner ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// This machine generated the name: it contains this machine's fingerprint, as `{machine-id}` renders.
    Machine(String),
    /// The operator says so, whatever the machine. If both are set, both must match.
    Operator {
        /// Runners with this label.
        label: Option<OwnershipLabel>,
        /// Runners whose names begin with this.
        prefix: Option<NamePrefix>,
    },
}

impl Claim {
    fn covers(&self, runner: &Runner) -> bool {
        match self {
            Self::Machine(fingerprint) => has_word(&runner.name, fingerprint),
            // Without either, everything would be ours.
            Self::Operator { label: None, prefix: None } => false,
            Self::Operator { label, prefix } => {
                label.as_ref().is_none_or(|label| runner.has_label(label.0.as_str()))
                    && prefix.as_ref().is_none_or(|prefix| runner.name.starts_with(&prefix.0))
            }
        }
    }
}

/// Whether `word` occurs in `name` by itself, and not as a part of a longer number or word.
fn has_word(name: &str, word: &str) -> bool {
    !word.is_empty()
        && name.match_indices(word).any(|(at, _)| {
            let before = name[..at].chars().next_back();
            let after = name[at + word.len()..].chars().next();
            ![before, after].into_iter().flatten().any(char::is_alphanumeric)
        })
}

/// What to prune, and where.
pub struct Prune<'a> {
    /// The server's scope.
    pub client: &'a Client,
    /// What makes a runner ours.
    pub claim: Claim,
    /// The state directories with the journals of this machine's runners, which are kept.
    pub states: Vec<PathBuf>,
    /// Only report what would be deleted.
    pub dry_run: bool,
    /// When to give up.
    pub deadline: Deadline,
}

/// The result of pruning.
#[derive(Debug, Clone, Serialize)]
pub struct Pruned {
    /// What is gone, or would be.
    pub deleted: Vec<Gone>,
    /// What is ours, and stays.
    pub kept: Vec<Kept>,
    /// Whether nothing was done.
    pub dry_run: bool,
}

/// A runner that is gone.
#[derive(Debug, Clone, Serialize)]
pub struct Gone {
    /// As it was last seen.
    #[serde(flatten)]
    pub runner: Runner,
    /// It was deleted by other means meanwhile.
    pub already_gone: bool,
}

/// A runner that stays.
#[derive(Debug, Clone, Serialize)]
pub struct Kept {
    /// As it was last seen.
    pub runner: Runner,
    /// Why, as a sentence about it.
    pub why: String,
}

/// Deletes the runners that are ours, offline and idle. What was deleted before an error is in the log.
///
/// # Errors
/// The server or a journal cannot be read, a deletion is refused for another reason than a job, the deadline passes,
/// or a signal asks to stop.
pub async fn prune(order: &Prune<'_>, stop: &CancellationToken) -> Result<Pruned, Error> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(Error::Stopped),
        result = each(order) => result,
        () = tokio::time::sleep_until(order.deadline.instant()) => {
            Err(Error::DeadlinePassed { doing: "pruning runners".to_owned(), total: order.deadline.total() })
        }
    }
}

async fn each(order: &Prune<'_>) -> Result<Pruned, Error> {
    let mut pruned = Pruned { deleted: Vec::new(), kept: Vec::new(), dry_run: order.dry_run };
    let ours = order.client.runners_where(None, |runner| order.claim.covers(runner)).await?;
    for runner in ours {
        match one(order, runner).await? {
            Fate::Gone(gone) => pruned.deleted.push(gone),
            Fate::Kept(kept) => pruned.kept.push(kept),
        }
    }
    Ok(pruned)
}

/// What happened to a runner.
enum Fate {
    Gone(Gone),
    Kept(Kept),
}

async fn one(order: &Prune<'_>, listed: Runner) -> Result<Fate, Error> {
    if let Some(why) = reason_to_keep(order, &listed)? {
        return Ok(Fate::Kept(Kept { runner: listed, why }));
    }
    if order.dry_run {
        return Ok(Fate::Gone(Gone { runner: listed, already_gone: false }));
    }
    // The list may be minutes old by now: the runner may have come back, or been taken over by an `install`.
    let Some(runner) = order.client.runner(listed.id).await? else {
        return Ok(Fate::Gone(Gone { runner: listed, already_gone: true }));
    };
    if !order.claim.covers(&runner) {
        return Ok(Fate::Kept(Kept { runner, why: "it is not ours any more".to_owned() }));
    }
    if let Some(why) = reason_to_keep(order, &runner)? {
        return Ok(Fate::Kept(Kept { runner, why }));
    }
    match order.client.delete(runner.id).await {
        Ok(deletion) => {
            let already_gone = deletion == Deletion::AlreadyGone;
            info!(runner = runner.name, id = runner.id, already_gone, "deleted from the server");
            Ok(Fate::Gone(Gone { runner, already_gone }))
        }
        Err(github::Error::Busy { .. }) => {
            Ok(Fate::Kept(Kept { runner, why: "it took a job just now".to_owned() }))
        }
        Err(error @ github::Error::Unprocessable(_)) => {
            Ok(Fate::Kept(Kept { runner, why: format!("the server refused: {}", chain(&error)) }))
        }
        Err(error) => Err(error.into()),
    }
}

/// Why a runner of ours must stay. The journals are read each time: they must be newer than the server's answer.
fn reason_to_keep(order: &Prune<'_>, runner: &Runner) -> Result<Option<String>, Error> {
    if runner.busy {
        return Ok(Some("it is running a job".to_owned()));
    }
    match &runner.status {
        RunnerStatus::Offline => {}
        RunnerStatus::Online => return Ok(Some("it is online".to_owned())),
        RunnerStatus::Other(word) => return Ok(Some(format!("its status is {word:?}"))),
    }
    for state in &order.states {
        for journal in Journal::all(state)? {
            if journal
                .registered()
                .is_some_and(|(_, registered)| is_the_one(order.client, registered, runner))
            {
                return Ok(Some(format!("it is the runner in {}", journal.dir().display())));
            }
        }
    }
    Ok(None)
}

/// Whether a journal's registration, begun or done, is that of `runner`. Names are unique in a scope, and the id is not
/// known yet while a registration has only begun.
fn is_the_one(client: &Client, registered: &Registered, runner: &Runner) -> bool {
    runner.is_named(&registered.name) && client.target().is_same_as(&registered.url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner(name: &str, labels: &[&str]) -> Runner {
        let labels: Vec<_> = labels.iter().map(|name| serde_json::json!({"name": name})).collect();
        let document = serde_json::json!({"id": 1, "name": name, "status": "offline", "labels": labels});
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn a_machine_claims_the_names_that_it_made_and_none_that_look_similar() {
        let claim = Claim::Machine("0a1b2c3d".to_owned());
        for name in ["box-0a1b2c3d", "0a1b2c3d", "0a1b2c3d-x7k2p9", "a_0a1b2c3d_b", "0a1b2c3d0-0a1b2c3d"] {
            assert!(claim.covers(&runner(name, &[])), "{name}");
        }
        for name in
            ["box-0a1b2c3d4", "f0a1b2c3d", "box-0A1B2C3D", "box-0a1b2c3", "box-0a1b-2c3d", "é0a1b2c3d", ""]
        {
            assert!(!claim.covers(&runner(name, &[])), "{name}");
        }
        assert!(!Claim::Machine(String::new()).covers(&runner("box", &[])));
    }

    #[test]
    fn an_operator_claims_by_label_and_prefix_and_never_everything() {
        let label = Some("fleet-7".parse().unwrap());
        let prefix: Option<NamePrefix> = Some("ci-eu".parse().unwrap());
        let by_label = Claim::Operator { label: label.clone(), prefix: None };
        let by_prefix = Claim::Operator { label: None, prefix: prefix.clone() };
        let by_both = Claim::Operator { label, prefix };
        let nothing = Claim::Operator { label: None, prefix: None };
        for (name, labels, expected) in [
            ("ci-eu-1", &["self-hosted", "Fleet-7"][..], [true, true, true, false]),
            ("ci-eu-1", &["fleet-77"][..], [false, true, false, false]),
            ("CI-EU-1", &["fleet-7"][..], [true, false, false, false]),
            ("a-ci-eu", &["fleet"][..], [false, false, false, false]),
        ] {
            let one = runner(name, labels);
            let got = [&by_label, &by_prefix, &by_both, &nothing].map(|claim| claim.covers(&one));
            assert_eq!(got, expected, "{name} {labels:?}");
        }
    }

    #[test]
    fn what_everybody_has_is_no_sign_of_ownership() {
        for label in ["self-hosted", "Linux", "X64", " arm64 ", "", "a,b"] {
            assert!(label.parse::<OwnershipLabel>().is_err(), "{label:?}");
        }
        for prefix in ["", "ab", "  a  "] {
            assert!(prefix.parse::<NamePrefix>().is_err(), "{prefix:?}");
        }
        assert!("ci-".parse::<NamePrefix>().is_ok() && "gpu".parse::<OwnershipLabel>().is_ok());
    }
}
