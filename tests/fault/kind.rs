//! The kinds of fault with their values, and on which calls each makes sense.

use runup::sandbox::{Fault, FaultKind};
use std::collections::BTreeMap;

/// What a fault demands of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// Once, it is overcome by trying again, or was never a problem.
    Passing,
    /// It may fail the command.
    Final,
    /// It may take all of the deadline.
    Silent,
}

use Nature::{Final, Passing, Silent};

/// For every call. A kind that begins with `json=` is an answer with that body.
const EVERYWHERE: [(&str, Nature); 38] = [
    ("status=400", Final),
    ("status=401", Final),
    ("status=403", Final),
    ("status=404", Final),
    ("status=409", Final),
    ("status=422", Final),
    // Without a time, it is a minute: longer than the deadline.
    ("status=429", Final),
    ("status=500", Passing),
    ("status=502", Passing),
    ("status=503", Passing),
    ("status=504", Passing),
    ("status=204", Final),
    ("status=301", Final),
    ("html=200", Final),
    ("html=404", Final),
    ("html=502", Passing),
    ("not-json", Final),
    ("json=[]", Final),
    ("json={}", Final),
    ("json=null", Final),
    ("json=7", Final),
    ("empty-list", Final),
    ("cut=0", Final),
    ("cut=20", Final),
    ("wrong-length=-3", Final),
    ("wrong-length=3", Final),
    ("redirect", Final),
    ("redirect=http://127.0.0.1:1/", Final),
    ("delay=200", Passing),
    ("delay-after=200", Passing),
    ("clock=3600", Final),
    ("clock=-864000", Final),
    ("rate-limit=1", Passing),
    ("retry-after=1", Passing),
    ("lost-answer", Final),
    ("expired-token", Final),
    ("stall", Silent),
    ("delay=forever", Silent),
];

const OF_DOWNLOADS: [(&str, Nature); 4] = [
    ("no-checksum", Final),
    ("empty-checksum", Final),
    ("malformed-checksum", Final),
    ("wrong-checksum", Final),
];

const OF_ARCHIVE: [(&str, Nature); 6] = [
    ("corrupt=0", Final),
    ("corrupt=5000", Passing),
    ("cut=5000", Passing),
    ("no-range", Passing),
    ("slow=500000", Passing),
    ("stall=5000", Silent),
];

const OF_EXCHANGE: [(&str, Nature); 6] = [
    ("script=hang", Silent),
    ("script=hang-after-register", Silent),
    ("script=fail-after-register", Final),
    ("script=fail-after-runner-file", Final),
    ("script=succeed-without-register", Final),
    ("script=print-secret", Final),
];

const OF_REGISTER: [(&str, Nature); 2] =
    [("unsupported=ephemeral", Final), ("unsupported=disable-update", Final)];

const OF_SESSION: [(&str, Nature); 5] =
    [("exit=0", Final), ("exit=1", Final), ("exit=2", Final), ("exit=3", Final), ("exit=4", Final)];

const OF_MESSAGE: [(&str, Nature); 1] = [("forgotten", Silent)];

/// The kinds for the calls of a route.
pub fn of(route: &str) -> Vec<(&'static str, Nature)> {
    let more: &[(&str, Nature)] = match route {
        "downloads" => &OF_DOWNLOADS,
        "archive" | "mirror" => &OF_ARCHIVE,
        "runner-registration" => &OF_EXCHANGE,
        "register" => &OF_REGISTER,
        "session" => &OF_SESSION,
        "message" => &OF_MESSAGE,
        _ => &[],
    };
    // That the runner is deleted is what this says: nobody can tell that it lies.
    let is_lie = |kind: &str| route == "delete-runner" && kind == "status=204";
    EVERYWHERE.iter().chain(more).copied().filter(|(kind, _)| !is_lie(kind)).collect()
}

/// The fault in the form of the command line, in which `json=BODY` is one more kind.
pub fn parse(text: &str) -> Result<Fault, String> {
    let Some((target, body)) = text.split_once(":json=") else {
        return text.parse().map_err(|error| format!("{error}"));
    };
    let fault: Fault = format!("{target}:not-json").parse().map_err(|error| format!("{error}"))?;
    let kind = FaultKind::Status { code: 200, body: Some(body.to_owned()), headers: BTreeMap::new() };
    Ok(Fault { kind, ..fault })
}
