//! `runup sandbox`

use super::Session;
use super::output::{Failed, Output, stamped};
use crate::github::Credential;
use crate::sandbox::{App, Fault, Options, start};
use crate::settings::Error;
use crate::settings::credential::{Files, find};
use crate::settings::parse_duration;
use clap::Args;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, Clone, Args)]
pub(super) struct SandboxFlags {
    /// Address to listen on; port 0 picks a free port
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    pub listen: std::net::SocketAddr,
    /// Allow an address that other machines can reach: the server is fake, but access to this machine is not
    #[arg(long)]
    pub allow_remote: bool,
    /// File with the token that the API accepts [default: a random token, printed when the server is ready]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<String>,
    /// File with the public key (PEM) of a GitHub App with the id 4711, which is installed everywhere
    #[arg(long, value_name = "FILE")]
    pub app_public_key: Option<PathBuf>,
    /// Newest runner version to offer
    #[arg(long, value_name = "VERSION")]
    pub runner_version: Option<crate::runner::RunnerVersion>,
    /// Make config.sh require libicu, as GitHub's does
    #[arg(long)]
    pub require_libicu: bool,
    /// Fault to inject: ROUTE[:COUNT]:KIND[=ARG]; can be repeated
    #[arg(long = "fault", value_name = "FAULT")]
    pub faults: Vec<Fault>,
    /// Enforce GitHub's rate limits, with a minute of this length and an hour of sixty of them: 60s is what GitHub does
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub limit_window: Option<Duration>,
}

pub(super) async fn run(flags: SandboxFlags, session: Session) -> Result<Output, Failed> {
    let files = Files { api: flags.token_file.as_deref(), ..Files::default() };
    // Only the token from --token-file: a credential for the real GitHub must not be used here.
    let token = match files.api {
        Some(_) => find(files, &session.environment)?.api,
        None => None,
    };
    let token = token.and_then(|credential| match credential {
        Credential::Token(token, _) => Some(token.expose().to_owned()),
        Credential::Command(_) | Credential::App(_) => None,
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
    let app = flags.app_public_key.as_deref().map(app).transpose()?;
    let sandbox = start(options).await?;
    if let Some(app) = app {
        sandbox.add_app(app);
    }
    let ready = format!("{}\n", stamped(sandbox.ready()));
    // The caller waits for this line; if it has exited, the line is not needed.
    let _ = std::io::stdout().write_all(ready.as_bytes()).and_then(|()| std::io::stdout().flush());
    session.signals.stop().cancelled().await;
    sandbox.shutdown().await;
    Ok(Output::silent())
}

/// The App whose public key is in this file.
fn app(path: &Path) -> Result<App, Failed> {
    let unreadable =
        |source| Error::CredentialUnreadable { what: "public key", path: path.display().to_string(), source };
    let app = App::everywhere(&std::fs::read_to_string(path).map_err(unreadable)?);
    if app.is_valid() {
        return Ok(app);
    }
    let message = format!("--app-public-key {}: not a public key in PEM format", path.display());
    Err(Error::Contradiction(message).into())
}
