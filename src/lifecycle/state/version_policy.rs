//! Whether a placed runner is new enough to register. Pure: it judges what was observed.
//!
//! A baked image ages. GitHub wants every release installed within 30 days of its publication, and some servers tell
//! the dates; a version that is too old is refused when it registers, or never gets jobs afterwards.

use crate::github::{Application, Deprecation};
use crate::runner::{INSTALL_WITHIN_HOURS, REGISTRATION_FLOOR, RunnerVersion};
use jiff::{SignedDuration, Timestamp};

/// Support that ends sooner than this is worth a warning.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What the server offers and says, at the moment of a registration.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Every runner application, so that they are not fetched again.
    pub applications: Vec<Application>,
    /// The newest version for the platform; `None` if none has a known version.
    pub newest: Option<RunnerVersion>,
    /// What the server says of the placed version.
    pub told: Told,
    /// The time by the server's clock.
    pub now: Timestamp,
    /// Whether it is github.com or GHE.com: there, nothing below a certain version registers.
    pub hosted: bool,
}

/// What the server says of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// It was not needed.
    NotAsked,
    /// The server does not tell.
    Nothing,
    /// Its dates.
    Dates(Deprecation),
}

/// Whether a version is good enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It can register.
    Good,
    /// It can, but its support ends soon: the warning.
    Ending(String),
    /// It can probably not.
    TooOld {
        /// Why, as a clause.
        why: String,
        /// The server says so, or a rule without exceptions; otherwise it is only not known to be good.
        proven: bool,
    },
}

/// Whether the tree may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It may.
    Free,
    /// It must not: what is too old is refused.
    Never,
    /// This version or archive was requested: it is kept unless it is known to be too old.
    Chosen,
}

/// What happens to the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It stays.
    Keep,
    /// It is replaced by the newest version.
    Refresh {
        /// Why, as a clause.
        why: String,
    },
    /// Nothing is done.
    Refuse {
        /// Why, as a clause.
        why: String,
    },
}

/// Derives the decision from a verdict.
#[must_use]
pub fn decide(verdict: Verdict, hold: Hold) -> Decision {
    match (verdict, hold) {
        (Verdict::Good | Verdict::Ending(_), _) | (Verdict::TooOld { proven: false, .. }, Hold::Chosen) => {
            Decision::Keep
        }
        (Verdict::TooOld { why, .. }, Hold::Free) => Decision::Refresh { why },
        (Verdict::TooOld { why, .. }, Hold::Never | Hold::Chosen) => Decision::Refuse { why },
    }
}

/// Judges the version `here`, which was the newest at `current_at`.
#[must_use]
pub fn judge(here: RunnerVersion, current_at: Option<Timestamp>, offer: &Offer) -> Verdict {
    match offer.newest {
        Some(newest) if newest > here => {}
        // Nothing newer is available.
        _ => return Verdict::Good,
    }
    let too_old = |why: String| Verdict::TooOld { why, proven: true };
    match &offer.told {
        Told::Dates(dates) => of_dates(here, dates, offer.now),
        Told::Nothing | Told::NotAsked if offer.hosted && here < REGISTRATION_FLOOR => {
            too_old(format!("nothing older than {REGISTRATION_FLOOR} can register"))
        }
        Told::Nothing | Told::NotAsked => of_age(current_at, offer.now),
    }
}

fn of_dates(here: RunnerVersion, dates: &Deprecation, now: Timestamp) -> Verdict {
    let ends = [(dates.registration_at, "can register"), (dates.runtime_at, "gets jobs")];
    let ends = ends.into_iter().filter_map(|(at, what)| Some((at?, what)));
    let Some((first, what)) = ends.min_by_key(|(at, _)| *at) else { return Verdict::Good };
    let day = first.strftime("%Y-%m-%d");
    if first <= now {
        let not = if what == "can register" { "cannot register" } else { "gets no jobs" };
        return Verdict::TooOld { why: format!("by its server, {here} {not} since {day}"), proven: true };
    }
    if now.duration_until(first) < SOON {
        return Verdict::Ending(format!("runner {here} {what} only until {day}, according to its server"));
    }
    Verdict::Good
}

/// Every release that is newer than the newest one at `current_at` was published after that.
fn of_age(current_at: Option<Timestamp>, now: Timestamp) -> Verdict {
    const RULE: &str = "GitHub wants each release installed within 30 days";
    let why = match current_at {
        None => format!("it is unknown since when there is a newer version, and {RULE}"),
        // A date in the future proves nothing.
        Some(then) if then > now => format!("the date at which it was the newest is wrong, and {RULE}"),
        Some(then) => {
            let age = then.duration_until(now);
            if age <= SignedDuration::from_hours(INSTALL_WITHIN_HOURS) {
                return Verdict::Good;
            }
            format!("it was the newest {} days ago, and {RULE}", age.as_hours() / 24)
        }
    };
    Verdict::TooOld { why, proven: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: RunnerVersion = RunnerVersion::new(2, 335, 0);
    const NEWER: RunnerVersion = RunnerVersion::new(2, 336, 0);
    const FLOORED: RunnerVersion = RunnerVersion::new(2, 328, 0);

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn offer(told: Told) -> Offer {
        let now = at("2026-11-24T12:00:00Z");
        Offer { applications: Vec::new(), newest: Some(NEWER), told, now, hosted: true }
    }

    fn dates(registration: Option<&str>, runtime: Option<&str>) -> Told {
        Told::Dates(Deprecation { registration_at: registration.map(at), runtime_at: runtime.map(at) })
    }

    fn why(verdict: &Verdict) -> (&str, bool) {
        match verdict {
            Verdict::TooOld { why, proven } => (why, *proven),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_as_new_as_can_be_had_is_good_whatever_its_age() {
        let offer = offer(Told::NotAsked);
        assert_eq!(judge(NEWER, None, &offer), Verdict::Good);
        assert_eq!(judge(RunnerVersion::new(3, 0, 0), None, &offer), Verdict::Good);
        assert_eq!(judge(HERE, None, &Offer { newest: None, ..offer }), Verdict::Good);
    }

    #[test]
    fn the_dates_of_a_server_that_tells_decide_alone() {
        let ago = Some(at("2020-01-01T00:00:00Z"));
        let judged = |told| judge(FLOORED, ago, &offer(told));
        assert_eq!(judged(dates(None, None)), Verdict::Good);
        assert_eq!(judged(dates(Some("2027-01-01T00:00:00Z"), Some("2027-02-01T00:00:00Z"))), Verdict::Good);
        let gone = judged(dates(Some("2026-11-24T12:00:00Z"), None));
        assert_eq!(why(&gone), ("by its server, 2.328.0 cannot register since 2026-11-24", true));
        let gone = judged(dates(Some("2027-01-01T00:00:00Z"), Some("2026-11-01T00:00:00Z")));
        assert_eq!(why(&gone), ("by its server, 2.328.0 gets no jobs since 2026-11-01", true));
    }

    #[test]
    fn an_end_within_a_week_is_good_and_warned_of() {
        let judged = |text| judge(HERE, None, &offer(dates(None, Some(text))));
        let soon = judged("2026-11-30T00:00:00Z");
        assert_eq!(
            soon,
            Verdict::Ending("runner 2.335.0 gets jobs only until 2026-11-30, according to its server".into())
        );
        assert_eq!(judged("2026-12-01T12:00:00Z"), Verdict::Good);
    }

    #[test]
    fn without_dates_the_day_on_which_it_was_the_newest_decides() {
        let judged = |text: &str| judge(HERE, Some(at(text)), &offer(Told::Nothing));
        assert_eq!(judged("2026-11-24T12:00:00Z"), Verdict::Good);
        assert_eq!(judged("2026-10-25T12:00:00Z"), Verdict::Good, "30 days to the second");
        let (old, future) = (judged("2026-10-25T11:59:59Z"), judged("2026-11-24T12:00:01Z"));
        assert_eq!(
            why(&old),
            ("it was the newest 30 days ago, and GitHub wants each release installed within 30 days", false)
        );
        assert!(why(&future).0.contains("is wrong"));
        let unknown = judge(HERE, None, &offer(Told::Nothing));
        assert!(why(&unknown).0.starts_with("it is unknown") && !why(&unknown).1);
    }

    #[test]
    fn a_tree_is_replaced_unless_somebody_forbade_it_or_chose_it() {
        let too_old = |proven| Verdict::TooOld { why: "so".into(), proven };
        let refresh = || Decision::Refresh { why: "so".into() };
        let refuse = || Decision::Refuse { why: "so".into() };
        for (verdict, free, never, chosen) in [
            (Verdict::Good, Decision::Keep, Decision::Keep, Decision::Keep),
            (Verdict::Ending("soon".into()), Decision::Keep, Decision::Keep, Decision::Keep),
            (too_old(false), refresh(), refuse(), Decision::Keep),
            (too_old(true), refresh(), refuse(), refuse()),
        ] {
            assert_eq!(decide(verdict.clone(), Hold::Free), free, "{verdict:?}");
            assert_eq!(decide(verdict.clone(), Hold::Never), never, "{verdict:?}");
            assert_eq!(decide(verdict.clone(), Hold::Chosen), chosen, "{verdict:?}");
        }
    }

    #[test]
    fn nothing_below_the_floor_registers_at_github_whatever_its_age() {
        let now = Some(at("2026-11-24T12:00:00Z"));
        let hosted = judge(FLOORED, now, &offer(Told::Nothing));
        assert_eq!(why(&hosted), ("nothing older than 2.329.0 can register", true));
        assert_eq!(judge(REGISTRATION_FLOOR, now, &offer(Told::Nothing)), Verdict::Good);
        let own = Offer { hosted: false, ..offer(Told::Nothing) };
        assert_eq!(judge(FLOORED, now, &own), Verdict::Good, "an Enterprise Server has no floor");
    }
}
