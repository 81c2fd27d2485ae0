//! Which credential is held while jobs run, and what a job of our own user could do about it.
//!
//! If runup is root and its jobs are not, a job cannot reach our memory or our files. If both run as the same user, a
//! credential is dropped as soon as it is no longer needed; our memory cannot be read (see
//! [`memory`](crate::host::memory)), but the source of the credential may be.

use crate::host::account;
use crate::lifecycle::command::run::running::{AfterJob, RunnerSource, Running};
use crate::lifecycle::context::site::Site;

/// Whether jobs run as our own user.
///
/// # Errors
/// The user database cannot be read.
pub(crate) fn is_shared(site: &Site<'_>) -> Result<bool, crate::lifecycle::context::error::Error> {
    Ok(site.account()?.is_some_and(|account| account.uid == account::current().uid))
}

/// The options that require the token while jobs run.
pub(crate) fn needed_for(running: &Running) -> Vec<&'static str> {
    let needs = [
        (running.after_job == AfterJob::Again, "--after-job again"),
        (matches!(running.source, RunnerSource::Jit), "--jit"),
        (running.remove_on_shutdown, "--remove-on-shutdown"),
    ];
    needs.into_iter().filter(|(needed, _)| *needed).map(|(_, option)| option).collect()
}

/// Warns once about what a job could take; silent if it could take nothing.
pub(crate) fn warn(site: &Site<'_>, running: &Running) {
    if site.request.credentials.api.is_none() {
        return;
    }
    let needed = needed_for(running);
    if let Some(warning) = warning(&account::current().name, &needed, running.credential.stays_at.as_deref())
    {
        tracing::warn!("{warning}");
    }
}

fn warning(user: &str, needed: &[&str], stays_at: Option<&str>) -> Option<String> {
    const WAY_OUT: &str = "for untrusted jobs use --jit-config-file, or run runup as root";
    let same = format!("jobs run as {user}, as runup itself does");
    let stays = stays_at.map(|place| format!("can read {place}"));
    match (needed, stays) {
        ([], None) => None,
        ([], Some(reads)) => Some(format!("{same}, and {reads}; {WAY_OUT}")),
        (needed, stays) => {
            let verb = if needed.len() == 1 { "needs" } else { "need" };
            let reads = stays.map(|reads| format!(", and {reads}")).unwrap_or_default();
            Some(format!(
                "{same}{reads}; {} {verb} the API token for as long as jobs run; {WAY_OUT}",
                needed.join(" and ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_sentence_and_none_where_a_job_can_take_nothing() {
        assert_eq!(warning("u", &[], None), None);
        let text = warning("u", &[], Some("--token-file /t")).unwrap();
        assert!(
            text.starts_with("jobs run as u, as runup itself does, and can read --token-file /t;"),
            "{text}"
        );
        let text = warning("u", &["--jit", "--remove-on-shutdown"], None).unwrap();
        assert!(text.contains("; --jit and --remove-on-shutdown need the API token"), "{text}");
        assert!(text.contains("--jit-config-file"), "{text}");
    }
}
