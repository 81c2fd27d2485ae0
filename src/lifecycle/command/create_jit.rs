//! Creates a just-in-time runner for another machine or container, and deletes it at the end: for a machine that holds
//! the token and runs no jobs.
//!
//! The receipt is written ahead, like the journal: after any interruption, the runner that the server may have is known
//! by its name, which was unused before, and soon by its id.

use crate::deadline::Deadline;
use crate::github::{self, Client, Deletion, JitConfig, NewJitRunner, RunnerStatus};
use crate::host::file::{read_untrusted, remove_if_present, write_atomic};
use crate::host::{self, Platform};
use crate::lifecycle::command::run::jit::{DEFAULT_GROUP, labels};
use crate::lifecycle::context::error::{Error, ReceiptError, RegistrationError};
use crate::lifecycle::step::registration::deregister::BUSY_POLL;
use crate::net;
use crate::runner::{RunnerName, config_sh};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The version of the receipt that this build writes and reads.
const VERSION: u32 = 1;
const LIMIT: u64 = 64 * 1024;

/// How long deleting a runner after an interrupted creation may take.
const UNWINDING: Duration = Duration::from_secs(60);

/// What is known of a runner that was created for another machine. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    version: u32,
    /// Where it is registered, as in `--url`.
    pub url: String,
    /// Its name.
    pub name: String,
    /// Its id, once the server has returned it.
    pub id: Option<u64>,
}

impl Receipt {
    /// Reads the receipt at `path`; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, or is not a receipt.
    pub fn read(path: &Path) -> Result<Option<Self>, Error> {
        let Some(bytes) = read_untrusted(path, LIMIT)? else { return Ok(None) };
        let malformed = |message: String| {
            Error::Receipt(ReceiptError::ReceiptMalformed { path: path.to_owned(), message })
        };
        let receipt: Self = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
        if receipt.version != VERSION {
            return Err(malformed(format!("it has version {}, not {VERSION}", receipt.version)));
        }
        Ok(Some(receipt))
    }

    fn write(&self, path: &Path) -> Result<(), Error> {
        let mut text = serde_json::to_vec(self).expect("a receipt of texts and numbers is JSON");
        text.push(b'\n');
        Ok(write_atomic(path, &text, 0o600)?)
    }
}

/// What is to be created, and where it is recorded.
pub struct CreateJit<'a> {
    /// The server.
    pub client: &'a Client,
    /// The runner's name.
    pub name: RunnerName,
    /// Its labels, group and work directory.
    pub options: &'a config_sh::ConfigOptions,
    /// The machine that will run it; its default labels follow from that.
    pub platform: Platform,
    /// The path of the receipt for [`delete_by_receipt`].
    pub receipt: Option<PathBuf>,
    /// When all waiting ends.
    pub deadline: Deadline,
}

/// Lets the server create the runner. A runner that the receipt already records is deleted first.
///
/// # Errors
/// The server has no runner of this run then, unless the error says so.
pub async fn create_jit(order: &CreateJit<'_>, stop: &CancellationToken) -> Result<JitConfig, Error> {
    if let Some(path) = &order.receipt
        && let Some(earlier) = Receipt::read(path)?
    {
        delete_receipt(order.client, &earlier, path, order.deadline, stop).await?;
    }
    let options = order.options;
    let group = match options.group.as_deref() {
        None => DEFAULT_GROUP,
        Some(name) => within(order.deadline, stop, order.client.group_named(name))
            .await?
            .ok_or_else(|| Error::Registration(RegistrationError::NoSuchGroup { name: name.to_owned() }))?,
    };
    let new = NewJitRunner {
        name: order.name.to_string(),
        runner_group_id: group,
        labels: labels(order.platform, options),
        work_folder: options.work.clone(),
    };
    let url = order.client.target().url.as_str().trim_end_matches('/').to_owned();
    let mut receipt = Receipt { version: VERSION, url, name: new.name.clone(), id: None };
    let Some(path) = &order.receipt else {
        return within(order.deadline, stop, order.client.generate_jitconfig(&new)).await;
    };
    receipt.write(path)?;
    match within(order.deadline, stop, order.client.generate_jitconfig(&new)).await {
        Ok(created) => {
            receipt.id = Some(created.runner.id);
            receipt.write(path)?;
            Ok(created)
        }
        // The server refused: a runner of that name is not this run's.
        Err(Error::Github(error)) if error.is_refusal() => {
            remove_if_present(path)?;
            Err(error.into())
        }
        Err(error) => {
            // It may have been created all the same.
            if let Err(why) = undo(order.client, &receipt, path, &error).await {
                tracing::warn!(
                    "{} may be left on the server: {}; run this again with --receipt {} to delete it",
                    receipt.name,
                    crate::error::chain(&why),
                    path.display()
                );
            }
            Err(error)
        }
    }
}

/// Deletes what may have been created before `failed`; after a refusal until some time, not before that.
async fn undo(client: &Client, receipt: &Receipt, path: &Path, failed: &Error) -> Result<(), Error> {
    let (deadline, stop) = (Deadline::after(UNWINDING), CancellationToken::new());
    if let Error::Github(github::Error::Transport(net::Error::RateLimited { wait, .. })) = failed {
        if *wait >= deadline.left() {
            let doing = "deleting it: the rate limit is lifted later".to_owned();
            return Err(Error::DeadlinePassed { doing, total: UNWINDING });
        }
        tokio::time::sleep(*wait).await;
    }
    delete_receipt(client, receipt, path, deadline, &stop).await.map(drop)
}

/// The result of a deletion by receipt.
#[derive(Debug, Clone, Serialize)]
pub struct DeletedByReceipt {
    /// The receipt; `None` if there was none, so that nothing was created.
    pub runner: Option<Receipt>,
    /// The server had no such runner any more: its job is done.
    pub already_gone: bool,
}

/// Deletes the runner of the receipt at `path`, and the receipt. A busy one is retried until the deadline: the server
/// needs a moment to see that its listener has ended.
///
/// # Errors
/// The server may still have it; the receipt is for another server.
pub async fn delete_by_receipt(
    client: &Client,
    path: &Path,
    deadline: Deadline,
    stop: &CancellationToken,
) -> Result<DeletedByReceipt, Error> {
    let Some(receipt) = Receipt::read(path)? else {
        return Ok(DeletedByReceipt { runner: None, already_gone: false });
    };
    let deletion = delete_receipt(client, &receipt, path, deadline, stop).await?;
    Ok(DeletedByReceipt { runner: Some(receipt), already_gone: deletion == Deletion::AlreadyGone })
}

async fn delete_receipt(
    client: &Client,
    receipt: &Receipt,
    path: &Path,
    deadline: Deadline,
    stop: &CancellationToken,
) -> Result<Deletion, Error> {
    if !client.target().is_same_as(&receipt.url) {
        // The token goes where the operator says.
        let given = client.target().url.as_str().trim_end_matches('/').to_owned();
        return Err(ReceiptError::OtherReceipt {
            path: path.to_owned(),
            given,
            receipt: receipt.url.clone(),
        }
        .into());
    }
    let found = match receipt.id {
        Some(id) => within(deadline, stop, client.runner_unless_gone(id, &receipt.name)).await?,
        // The name was unused before: a runner that has it now and is not online yet is from the interrupted call.
        None => within(deadline, stop, client.runner_named(&receipt.name))
            .await?
            .filter(|runner| runner.status != RunnerStatus::Online),
    };
    let deletion = match found {
        Some(runner) if !runner.is_named(&receipt.name) => {
            return Err(ReceiptError::ReceiptName {
                path: path.to_owned(),
                id: runner.id,
                name: runner.name,
                receipt: receipt.name.clone(),
            }
            .into());
        }
        Some(runner) => delete(client, runner.id, deadline, stop).await?,
        None => Deletion::AlreadyGone,
    };
    remove_if_present(path)?;
    Ok(deletion)
}

async fn delete(
    client: &Client,
    id: u64,
    deadline: Deadline,
    stop: &CancellationToken,
) -> Result<Deletion, Error> {
    loop {
        match within(deadline, stop, client.delete(id)).await {
            Err(Error::Github(github::Error::Busy { .. })) if !deadline.passed() => {
                tokio::select! {
                    () = stop.cancelled() => return Err(Error::Stopped),
                    () = tokio::time::sleep(BUSY_POLL.min(deadline.left())) => {}
                }
            }
            other => return other,
        }
    }
}

async fn within<T>(
    deadline: Deadline,
    stop: &CancellationToken,
    work: impl Future<Output = Result<T, github::Error>>,
) -> Result<T, Error> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(Error::Stopped),
        result = work => Ok(result?),
        () = tokio::time::sleep_until(deadline.instant()) => {
            Err(Error::DeadlinePassed { doing: "asking GitHub".to_owned(), total: deadline.total() })
        }
    }
}

/// Writes a configuration to `path`: 0600, or 0640 in a directory that passes on its group (setgid), such as a volume
/// that two containers of different users share.
///
/// # Errors
/// The file cannot be written.
pub fn write_jit_config(config: &JitConfig, path: &Path) -> Result<(), Error> {
    let directory =
        path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mode = if hands_group_on(directory)? { 0o640 } else { 0o600 };
    Ok(write_atomic(path, config.encoded.expose().as_bytes(), mode)?)
}

#[cfg(unix)]
fn hands_group_on(directory: &Path) -> Result<bool, Error> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(fs_err::metadata(directory).map_err(host::Error::from)?.mode() & 0o2000 != 0)
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "there are no groups on Windows")]
fn hands_group_on(_: &Path) -> Result<bool, Error> {
    Ok(false)
}
