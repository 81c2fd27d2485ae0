//! `runup token`: prints a secret, because that is its purpose.

use super::args::{TokenFlags, TokenKind};
use super::output::{Failed, Output};
use super::{Session, request};
use serde_json::json;

pub(super) async fn run(flags: TokenFlags, session: Session) -> Result<Output, Failed> {
    let client = request::client(&flags.server, &session)?;
    let token = match flags.kind {
        TokenKind::Registration => session.or_stop(client.registration_token()).await??,
        TokenKind::Remove => session.or_stop(client.remove_token()).await??,
    };
    tracing::info!("expires at {}", token.expires_at);
    let document = json!({"token": token.token.expose(), "expires_at": token.expires_at.to_string()});
    Ok(Output::new(token.token.expose(), &document).with_secret())
}
