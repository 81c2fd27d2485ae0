//! What differs between what was requested and what is there.

use crate::github;
use crate::lifecycle::context::request::Request;
use crate::lifecycle::state::journal::Asked;
use crate::runner::{RunnerFile, RunnerVersion};

impl Asked {
    /// What is requested of a registration; `None` if the request registers nothing.
    pub(crate) fn of(request: &Request) -> Option<Self> {
        let options = &request.registration.as_ref()?.options;
        Some(Self {
            labels: options.labels.as_ref().map(|labels| labels.iter().map(ToString::to_string).collect()),
            group: options.group.clone(),
            work: options.work.clone(),
            ephemeral: options.ephemeral,
            disable_update: options.disable_update,
            self_update: request.self_update,
            version: request.archive.version.map(|version| version.to_string()),
            held: request.archive.archive.is_some() || request.archive.no_refresh,
        })
    }

    /// What holds of a registration that stays: an option that is not set now keeps its earlier value.
    pub(crate) fn since(self, then: &Self) -> Self {
        Self {
            labels: self.labels.or_else(|| then.labels.clone()),
            group: self.group.or_else(|| then.group.clone()),
            version: self.version.or_else(|| then.version.clone()),
            held: self.held || then.held,
            ..self
        }
    }

    /// Whether labels are set now, and differ from the earlier ones.
    pub(crate) fn asks_other_labels(&self, then: &Self) -> bool {
        let sorted = |labels: &[String]| {
            let mut labels: Vec<String> = labels.iter().map(|label| label.to_lowercase()).collect();
            labels.sort();
            labels
        };
        let then = sorted(then.labels.as_deref().unwrap_or_default());
        self.labels.as_deref().is_some_and(|labels| sorted(labels) != then)
    }

    /// The options that have changed and that only a new registration can change. A group that is not set is not a
    /// request for the default one.
    pub(crate) fn changed(&self, now: &Self) -> Vec<&'static str> {
        let group = |asked: &Option<String>| asked.as_deref().unwrap_or("Default").to_lowercase();
        [
            ("--ephemeral", self.ephemeral != now.ephemeral),
            ("--disable-update", self.disable_update != now.disable_update),
            ("--work", self.work != now.work),
            ("--group", now.group.is_some() && group(&self.group) != group(&now.group)),
        ]
        .into_iter()
        .filter_map(|(option, changed)| changed.then_some(option))
        .collect()
    }
}

/// Whether the runner's own labels on the server differ from these. Case and order do not matter.
pub(crate) fn labels_differ(wanted: &[String], runner: &github::Runner) -> bool {
    let lower = |labels: Vec<&str>| {
        let mut labels: Vec<String> = labels.into_iter().map(str::to_lowercase).collect();
        labels.sort();
        labels.dedup();
        labels
    };
    // A default label of the runner may be requested as well, and is not one of its own then.
    let default = |label: &&str| {
        runner.labels.iter().any(|own| own.is_read_only() && own.name.eq_ignore_ascii_case(label))
    };
    let wanted = wanted.iter().map(String::as_str).filter(|label| !default(label)).collect();
    lower(wanted) != lower(own(runner))
}

fn own(runner: &github::Runner) -> Vec<&str> {
    runner.labels.iter().filter(|label| !label.is_read_only()).map(|label| label.name.as_str()).collect()
}

/// For people.
pub(crate) fn listed<S: AsRef<str>>(labels: &[S]) -> String {
    if labels.is_empty() {
        return "none but the default ones".to_owned();
    }
    labels.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(",")
}

/// How the registration differs from what was requested, each in a sentence that says how to correct it. `group` is the
/// name of the runner's group on the server, if that is known; only an `open` tree can have updated itself.
pub(crate) fn of_registration(
    asked: &Asked,
    runner: Option<&github::Runner>,
    file: Option<&RunnerFile>,
    version: Option<RunnerVersion>,
    group: Option<&str>,
    open: bool,
) -> Vec<String> {
    let mut drift = Vec::new();
    if let (Some(wanted), Some(runner)) = (&asked.labels, runner)
        && labels_differ(wanted, runner)
    {
        drift.push(format!(
            "its labels on the server are {}, but {} was requested; `runup install` sets them",
            listed(&own(runner)),
            listed(wanted)
        ));
    }
    let one_job = |ephemeral: bool| if ephemeral { "for one job" } else { "for any number of jobs" };
    let ephemeral = runner.and_then(|runner| runner.ephemeral).or(file.map(|file| file.ephemeral));
    if let Some(found) = ephemeral
        && found != asked.ephemeral
    {
        drift.push(format!(
            "it is registered {}, and was asked to be {}; `runup remove`, then install, puts it right",
            one_job(found),
            one_job(asked.ephemeral)
        ));
    }
    if let (Some(wanted), Some(found)) = (&asked.group, group)
        && !wanted.eq_ignore_ascii_case(found)
    {
        drift.push(format!("its group on the server is {found}, but {wanted} was requested: it was moved"));
    }
    if let (Some(wanted), Some(found)) = (&asked.version, version)
        && *wanted != found.to_string()
    {
        let by_itself = wanted.parse::<RunnerVersion>().is_ok_and(|wanted| wanted < found)
            && !asked.disable_update
            && open;
        let how = if by_itself { ": it has updated itself, as it may without --disable-update" } else { "" };
        drift.push(format!("its version is {found}, but {wanted} was requested{how}"));
    }
    drift
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Asked {
        Asked {
            labels: Some(vec!["gpu".into(), "Large".into()]),
            group: None,
            work: "_work".into(),
            ephemeral: false,
            disable_update: false,
            self_update: false,
            version: None,
            held: false,
        }
    }

    fn runner(labels: &str) -> github::Runner {
        let text = format!(
            r#"{{"id": 1, "name": "a", "os": "linux", "status": "online", "labels": [
                {{"name": "self-hosted", "type": "read-only"}}, {labels}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn labels_are_compared_without_case_order_and_the_server_s_own() {
        let wanted = asked().labels.unwrap();
        let same = runner(r#"{"name": "large", "type": "custom"}, {"name": "GPU", "type": "custom"}"#);
        assert!(!labels_differ(&wanted, &same));
        let fewer = runner(r#"{"name": "gpu", "type": "custom"}"#);
        assert!(labels_differ(&wanted, &fewer));
        assert!(!labels_differ(&["gpu".into(), "Self-Hosted".into()], &fewer));
    }

    #[test]
    fn an_update_of_the_runner_by_itself_is_drift_only_where_a_version_was_pinned() {
        let version = Some(RunnerVersion::new(2, 337, 0));
        let of = |asked: &Asked| of_registration(asked, None, None, version, None, true);
        assert_eq!(of(&asked()), [] as [&str; 0]);
        assert_eq!(of(&Asked { version: Some("2.337.0".into()), ..asked() }), [] as [&str; 0]);
        let pinned = Asked { version: Some("2.336.0".into()), ..asked() };
        assert!(of(&pinned)[0].contains("2.337.0") && of(&pinned)[0].contains("has updated itself"));
        let frozen = Asked { disable_update: true, ..pinned };
        assert!(!of(&frozen)[0].contains("updated itself"), "something else has replaced it");
    }

    #[test]
    fn what_nobody_asks_for_any_more_is_no_change_but_a_switch_is() {
        let then = Asked { group: Some("builders".into()), ..asked() };
        assert!(then.changed(&asked()).is_empty(), "a group that is not named");
        let now = Asked { group: Some("Default".into()), ephemeral: true, ..asked() };
        assert_eq!(then.changed(&now), ["--ephemeral", "--group"]);
        assert!(asked().changed(&Asked { group: Some("default".into()), ..asked() }).is_empty());
    }
}
