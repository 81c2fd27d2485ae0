//! How long the version of a runner that does not update itself is supported.

use crate::github::Target;
use crate::lifecycle::command::upgrade::offer::{at_server, look, pinned};
use crate::lifecycle::context::error::Error;
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::journal::Journal;
use crate::runner::{Guard, INSTALL_WITHIN_HOURS, RunnerVersion};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

/// From this age on, counted from when its version was last known to be the newest, a runner is upgraded in any case.
/// GitHub allows 30 days.
const URGENT: SignedDuration = SignedDuration::from_hours(25 * 24);
/// Enterprise Server wants its runners upgraded soon after itself.
const SERVER: SignedDuration = SignedDuration::from_hours(24);

/// The end of a version's support.
#[derive(Debug, Clone, Serialize)]
pub struct Support {
    /// The newest version that is available.
    pub newest: String,
    /// When the support of the installed version ends, or ended; `None` if unknown since when a newer one exists.
    pub ends_at: Option<String>,
    /// Whole days until then; negative afterwards.
    pub days: Option<i64>,
    /// Why runup leaves the version as it is, if it does.
    pub pinned: Option<String>,
}

impl std::fmt::Display for Support {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let days = |days: i64| if days == 1 { "1 day".to_owned() } else { format!("{days} days") };
        match self.days {
            Some(left) if left >= 0 => write!(f, "ends in {}", days(left))?,
            Some(left) => write!(f, "ended {} ago", days(-left))?,
            None => f.write_str("its end is not known")?,
        }
        write!(f, " ({} is available", self.newest)?;
        if let Some(pin) = &self.pinned {
            write!(f, "; pinned by {pin}")?;
        }
        f.write_str(")")
    }
}

/// Whether the support of a version that was the newest at `current_at` ends too soon to put off its upgrade.
pub(crate) fn is_urgent(site: &Site<'_>, current_at: Option<Timestamp>) -> bool {
    let limit = if hosted(site) { URGENT } else { SERVER };
    current_at.is_none_or(|then| then.duration_until(Timestamp::now()).abs() >= limit)
}

fn hosted(site: &Site<'_>) -> bool {
    site.request.target.as_ref().is_some_and(Target::is_hosted)
}

/// Until when the version is supported at least, as far as this machine knows; `None` if the runner updates itself.
pub(crate) fn supported_until(journal: &Journal) -> Option<Timestamp> {
    let (_, registered) = journal.registered()?;
    let asked = registered.asked.as_ref();
    if journal.guard() == Guard::Open && !asked.is_some_and(|asked| asked.disable_update) {
        return None;
    }
    let hosted =
        Target::parse(&registered.url, Some(&registered.api_url), true).is_ok_and(|it| it.is_hosted());
    let given = if hosted { SignedDuration::from_hours(INSTALL_WITHIN_HOURS) } else { SERVER };
    journal.placed()?.current_at?.checked_add(given).ok()
}

/// The support of the version `here` of a runner without self-update; `None` if it is the newest, or updates itself.
///
/// # Errors
/// The server cannot be asked.
pub(crate) async fn support(
    site: &Site<'_>,
    journal: &Journal,
    here: RunnerVersion,
) -> Result<Option<Support>, Error> {
    let Some((_, registered)) = journal.registered() else { return Ok(None) };
    let asked = registered.asked.as_ref();
    if journal.guard() == Guard::Open && !asked.is_some_and(|asked| asked.disable_update) {
        return Ok(None);
    }
    let site = &at_server(site, journal)?;
    let Some(client) = site.eyes() else { return Ok(None) };
    let Some(newest) = look(site).await?.newest.filter(|newest| *newest > here) else { return Ok(None) };
    let doing = "asking how long the runner's version is supported";
    let told = site.within(doing, client.deprecation(&here.to_string())).await?;
    let told = told.and_then(|dates| dates.runtime_at.or(dates.registration_at));
    let current_at = journal.placed().and_then(|placed| placed.current_at);
    let given = if hosted(site) { SignedDuration::from_hours(INSTALL_WITHIN_HOURS) } else { SERVER };
    let ends = told.or_else(|| current_at.and_then(|then| then.checked_add(given).ok()));
    Ok(Some(Support {
        newest: newest.to_string(),
        ends_at: ends.map(|ends| ends.to_string()),
        days: ends.map(|ends| client.now().duration_until(ends).as_hours().div_euclid(24)),
        pinned: asked.and_then(pinned),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_days_are_counted_to_the_end_and_from_it() {
        let support = |days, pinned: Option<&str>| {
            let pinned = pinned.map(str::to_owned);
            Support { newest: "2.340.0".into(), ends_at: None, days, pinned }.to_string()
        };
        assert_eq!(support(Some(12), None), "ends in 12 days (2.340.0 is available)");
        assert_eq!(
            support(Some(-1), Some("--runner-version 2.336.0")),
            "ended 1 day ago (2.340.0 is available; pinned by --runner-version 2.336.0)"
        );
        assert_eq!(support(None, None), "its end is not known (2.340.0 is available)");
    }
}
