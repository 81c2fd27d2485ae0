//! `runup sandbox`

use super::Session;
use super::args::SandboxFlags;
use super::output::{Failed, Output};
use crate::github::Credential;
use crate::sandbox::{Options, start};
use crate::settings::credential::{Files, find};
use std::io::Write as _;

pub(super) async fn run(flags: SandboxFlags, session: Session) -> Result<Output, Failed> {
    let files = Files { api: flags.token_file.as_deref(), ..Files::default() };
    // Only the token from --token-file: a credential for the real GitHub must not be used here.
    let token = match files.api {
        Some(_) => find(files, &session.environment)?.api,
        None => None,
    };
    let token = token.and_then(|credential| match credential {
        Credential::Token(token) => Some(token.expose().to_owned()),
        Credential::Command(_) => None,
    });
    let defaults = Options::default();
    let options = Options {
        listen: flags.listen,
        allow_remote: flags.allow_remote,
        token,
        runner_version: flags.runner_version.map_or(defaults.runner_version, |version| version.to_string()),
        require_libicu: flags.require_libicu,
        faults: flags.faults,
        limit_window: flags.limit_window,
        ..Options::default()
    };
    let sandbox = start(options).await?;
    let ready = format!("{}\n", sandbox.ready());
    // The caller waits for this line; if it has exited, the line is not needed.
    let _ = std::io::stdout().write_all(ready.as_bytes()).and_then(|()| std::io::stdout().flush());
    session.signals.stop().cancelled().await;
    sandbox.shutdown().await;
    Ok(Output::silent())
}
