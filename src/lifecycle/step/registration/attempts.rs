//! Runs `config.sh` until it has registered, or until trying again would not help.
//!
//! The script tries each of its calls three times within seconds, and then gives up. An outage of ten seconds must not
//! cost a machine its runner, so what can pass is tried again until the deadline.

use crate::host::{self, Outcome};
use crate::lifecycle::context::error::{ConfigShError, Error};
use crate::lifecycle::context::site::Site;
use crate::lifecycle::state::checkpoint::{Checkpoint, reach};
use crate::lifecycle::state::journal::Registered;
use crate::lifecycle::state::observed::Seen;
use crate::lifecycle::state::plan::NewRegistration;
use crate::lifecycle::step::registration::deregister;
use crate::lifecycle::step::registration::token::{self, Token};
use crate::net::Backoff;
use crate::runner::{Guard, LocalState, RunnerFile, complaint, config_sh, state};
use std::time::Duration;

/// The pause after a failure, besides a random part: `config.sh` itself has just tried for seconds.
const PAUSE: Duration = Duration::from_secs(1);

/// What `config.sh` left, and how the runner's tree is to be guarded.
pub(crate) struct Configured {
    /// The content of `.runner`.
    pub file: RunnerFile,
    /// The guard that the server's version allows.
    pub kept: Guard,
}

/// What failed attempts, or an earlier run, may have left on the server.
#[derive(Default)]
pub(crate) struct Tried {
    /// A runner may be there.
    pub may_have: bool,
    /// It cannot be told from one of another machine.
    pub left_alone: bool,
}

/// Registers by `config.sh`; what can pass is tried again.
///
/// # Errors
/// The last failure; besides what was `tried` before, that attempt may have registered a runner if `config.sh` got that
/// far.
pub(crate) async fn register(
    site: &Site<'_>,
    new: &NewRegistration,
    seen: &Seen,
    setting: &config_sh::Setting,
    registered: &Registered,
    prepared: Option<Token>,
    tried: &mut Tried,
) -> Result<Configured, Error> {
    let mut token = prepared;
    let mut backoff = Backoff::default();
    let mut earlier: Option<ConfigShError> = None;
    tried.may_have = registered.may_exist;
    let mut replace = new.options.replace || new.reclaim_name;
    loop {
        let usable = match token.take().filter(Token::is_fresh) {
            Some(token) => token,
            None => token::get(site).await?,
        };
        reach(Checkpoint::RegisterTokenMinted);
        let configured = configure(site, new, seen, setting, registered, &usable, replace).await;
        let (outcome, shown, kept) = match (configured, earlier) {
            // The deadline has cut it off: what failed before is the reason.
            (Err(Error::ConfigSh(ConfigShError::Hung { .. })), Some(earlier)) => {
                return Err(earlier.into());
            }
            (configured, _) => configured?,
        };
        let failure = match judge(state::read(&setting.dir)?, &outcome, &shown) {
            Ok(file) => {
                if !outcome.success() {
                    tracing::warn!("config.sh failed ({}), but had registered before it did", outcome.how());
                }
                return Ok(Configured { file, kept });
            }
            Err(failure) => failure,
        };
        let pause = PAUSE + backoff.wait();
        if !failure.may_pass() || site.deadline.left() < pause {
            return Err(failure.into());
        }
        // The request may have arrived although its answer was lost.
        if state::has_key(&setting.dir) {
            match settle(site, registered, &failure, replace).await? {
                Settled::TakenBack => *tried = Tried::default(),
                Settled::LeftAlone => *tried = Tried { may_have: true, left_alone: true },
                Settled::TakeOver => {
                    // Asked to replace whoever has the name, it may be about another machine's.
                    let left_alone = !registered.unique && !new.reclaim_name;
                    *tried = Tried { may_have: true, left_alone };
                    replace = true;
                }
                Settled::Not => return Err(failure.into()),
            }
        }
        if tried.may_have && replace {
            // What shows that a runner of this name is ours outlasts the next attempt, which uses it again, and a kill.
            state::clean_all_but_key(&setting.dir)?;
        } else {
            state::clean_identity(&setting.dir)?;
        }
        crate::event::retry(format_args!("config.sh failed: {}", failure.reason()), pause);
        tracing::warn!("config.sh failed: {}; trying again in {} s", failure.reason(), pause.as_secs());
        site.pause("registering", pause).await?;
        token = Some(usable);
        earlier = Some(failure);
    }
}

/// What becomes of the runner that a failed attempt may have registered.
enum Settled {
    TakenBack,
    LeftAlone,
    TakeOver,
    /// Another attempt could only fail, or leave a second one.
    Not,
}

async fn settle(
    site: &Site<'_>,
    registered: &Registered,
    failure: &ConfigShError,
    replace: bool,
) -> Result<Settled, Error> {
    Ok(match site.eyes() {
        _ if replace => Settled::TakeOver,
        // The name was free moments ago: config.sh had looked. If all that is known is that the server failed, another
        // machine may have a name since then that is not this one's alone.
        Some(_) if registered.unique || failure.is_conflict() => {
            match Box::pin(deregister::take_back(site, registered)).await {
                Err(error) if error.is_stop() && site.stop.is_cancelled() => return Err(error),
                Err(error) => {
                    tracing::warn!("{}", crate::error::chain(&error));
                    Settled::Not
                }
                Ok(()) => Settled::TakenBack,
            }
        }
        Some(_) => Settled::LeftAlone,
        None if registered.unique => Settled::TakeOver,
        None => Settled::Not,
    })
}

/// Runs config.sh; returns how it ended, its command line for people, and how the runner's tree is to be guarded.
async fn configure(
    site: &Site<'_>,
    new: &NewRegistration,
    seen: &Seen,
    setting: &config_sh::Setting,
    registered: &Registered,
    token: &Token,
    replace: bool,
) -> Result<(Outcome, String, Guard), Error> {
    let (wanted, name) = (&new.options, &new.name.name);
    let mut kept = seen.wanted_guard;
    let mut options = config_sh::ConfigOptions {
        replace,
        disable_update: wanted.disable_update || kept != Guard::Open,
        ..wanted.clone()
    };
    let url = registered.url.trim_end_matches('/');
    loop {
        let command = config_sh::configure(setting, url, name, &options, &token.token, site.deadline);
        let shown = command.render();
        tracing::debug!(command = shown, "running config.sh");
        let outcome = command.run(&site.stop, &mut |stream, line| site.watch.line(stream, line)).await;
        reach(Checkpoint::RegisterConfigured);
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(host::Error::Deadline { tail, total, .. }) => {
                return Err(ConfigShError::Hung { command: shown, after: total, tail }.into());
            }
            Err(error) => return Err(error.into()),
        };
        let refused = complaint::refuses_disable_update(&outcome.tail);
        if !refused || wanted.disable_update || !options.disable_update {
            return Ok((outcome, shown, kept));
        }
        // An older server refuses it after it has added the runner, or replaced one, which is ours by now.
        tracing::warn!("the server does not support --disable-update: the runner will update itself");
        kept = Guard::Open;
        options.disable_update = false;
        options.replace = true;
        state::clean_all_but_key(&setting.dir)?;
    }
}

/// What `config.sh` left behind decides; its exit code and output only explain.
fn judge(state: LocalState, outcome: &Outcome, command: &str) -> Result<RunnerFile, ConfigShError> {
    let command = command.to_owned();
    match state {
        LocalState::Configured(file) => Ok(file),
        _ if outcome.success() => Err(ConfigShError::Lied {
            command,
            missing: ".runner is missing",
            tail: outcome.tail.clone(),
            log: None,
        }),
        _ => Err(ConfigShError::Failed {
            command,
            status: outcome.how(),
            cause: complaint::recognise(&outcome.tail),
            tail: outcome.tail.clone(),
            log: None,
        }),
    }
}
