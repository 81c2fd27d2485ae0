//! `runup runners create-jit` and `runup runners delete-on-stop`, for runners that have no token.

use super::args::{CreateJitFlags, DeleteOnStopFlags};
use super::output::{Failed, Output};
use super::{Session, request};
use crate::deadline::Deadline;
use crate::host::{self, Platform, Root};
use crate::lifecycle::{
    CreateJit, DeletedByReceipt, Error, RegistrationError, create_jit, delete_by_receipt, write_jit_config,
};
use crate::runner::{NameContext, config_sh, name};
use crate::settings;
use serde_json::json;
use std::path::Path;

/// Creates a runner, and writes its configuration.
pub(super) async fn create(flags: &CreateJitFlags, session: &Session) -> Result<Output, Failed> {
    let client = request::lasting_client(&flags.server, session)?;
    if !client.has_token() {
        return Err(RegistrationError::CredentialMissing { purpose: "creating a just-in-time runner" }.into());
    }
    if flags.no_default_labels && flags.labels.is_none() {
        return Err(settings::Error::Contradiction("--no-default-labels needs --labels".into()).into());
    }
    let machine = host::detect(&Root::host())?.platform;
    let platform = Platform { os: flags.os.unwrap_or(machine.os), arch: flags.arch.unwrap_or(machine.arch) };
    let context = NameContext {
        hostname: host::hostname(),
        machine_id: Some(host::machine_id(&Root::host()).unwrap_or_else(name::random_word)),
        random: name::random_word(),
        platform,
        // Another machine will run it.
        dir: None,
        index: None,
        instance_id: None,
        region: None,
    };
    let options = config_sh::ConfigOptions {
        labels: flags.labels.clone(),
        no_default_labels: flags.no_default_labels,
        group: request::plain_word("--group", flags.group.as_deref())?,
        work: request::plain_word("--work", Some(&flags.work))?.unwrap_or_default(),
        ..config_sh::ConfigOptions::default()
    };
    let order = CreateJit {
        client: &client,
        name: flags.name.render(&context).map_err(Error::from)?,
        options: &options,
        platform,
        receipt: flags.receipt.clone(),
        deadline: Deadline::after(flags.server.deadline),
    };
    let created = create_jit(&order, session.signals.stop()).await?;
    let runner = &created.runner;
    let text = format!("created: {} (id {}), for one job", runner.name, runner.id);
    if flags.jit_config_out == "-" {
        tracing::info!("{text}");
        let config = created.encoded.expose();
        return Ok(Output::new(config, &json!({"runner": runner, "jit_config": config})).with_secret());
    }
    write_jit_config(&created, Path::new(&flags.jit_config_out))?;
    Ok(Output::new(text, &json!({"runner": runner, "jit_config_out": flags.jit_config_out})))
}

/// Waits for a stop signal, and deletes the runner of the receipt.
pub(super) async fn delete_on_stop(flags: &DeleteOnStopFlags, session: &Session) -> Result<Output, Failed> {
    let client = request::lasting_client(&flags.server, session)?;
    if !client.has_token() {
        return Err(RegistrationError::CredentialMissing { purpose: "deleting the runner" }.into());
    }
    session.signals.stop().cancelled().await;
    let deadline = Deadline::after(flags.server.deadline);
    let deleted = delete_by_receipt(&client, &flags.receipt, deadline, session.signals.again()).await?;
    Ok(Output::new(text(&deleted), &deleted))
}

fn text(deleted: &DeletedByReceipt) -> String {
    let Some(runner) = &deleted.runner else { return "done: no runner was created".to_owned() };
    let verb = if deleted.already_gone { "already gone" } else { "deleted" };
    let id = runner.id.map(|id| format!(" (id {id})")).unwrap_or_default();
    format!("{verb}: {}{id}", runner.name)
}
