//! GitHub Apps: their installations, and the tokens of those. Signatures are verified.

use super::clock;
use super::fault::FaultKind;
use super::reply::Reply;
use super::request::Request;
use super::route::Route;
use super::scope::Scope;
use super::token::CredentialKind;
use super::world::World;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use webpki::RawPublicKeyEntity;

/// The longest time between now and the end of an App's own token.
const LONGEST: i64 = 600;

/// A GitHub App with one installation.
#[derive(Debug, Clone)]
pub struct App {
    /// Its id.
    pub id: u64,
    /// Its client id.
    pub client_id: String,
    /// Its public key (PEM, `PUBLIC KEY`).
    pub public_key: String,
    /// The id of the installation.
    pub installation: u64,
    /// The organization or user where it is installed; `None` for everywhere.
    pub owner: Option<String>,
    /// The repositories that it may access; `None` for all of the owner.
    pub repositories: Option<Vec<String>>,
    /// Its permissions.
    pub permissions: BTreeMap<String, String>,
    /// Whether an owner suspended it.
    pub suspended: bool,
}

impl App {
    /// An App that is installed everywhere, and may manage runners.
    #[must_use]
    pub fn everywhere(public_key: &str) -> Self {
        let write = |name: &str| (name.to_owned(), "write".to_owned());
        Self {
            id: 4711,
            client_id: "Iv23liSandbox".to_owned(),
            public_key: public_key.to_owned(),
            installation: 815,
            owner: None,
            repositories: None,
            permissions: ["organization_self_hosted_runners", "administration"].map(write).into(),
            suspended: false,
        }
    }

    /// Whether its public key can verify signatures.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let key = SubjectPublicKeyInfoDer::from_pem_slice(self.public_key.as_bytes());
        key.is_ok_and(|key| RawPublicKeyEntity::try_from(&key).is_ok())
    }

    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(key) = SubjectPublicKeyInfoDer::from_pem_slice(self.public_key.as_bytes()) else {
            return false;
        };
        let algorithm = webpki::ring::RSA_PKCS1_2048_8192_SHA256;
        RawPublicKeyEntity::try_from(&key)
            .is_ok_and(|key| key.verify_signature(algorithm, message, signature).is_ok())
    }

    fn covers(&self, scope: &Scope) -> bool {
        let owns = |owner: &str| self.owner.as_deref().is_none_or(|own| own.eq_ignore_ascii_case(owner));
        match scope {
            Scope::Enterprise(_) => false,
            Scope::Org(owner) => owns(owner),
            Scope::Repo(owner, name) => owns(owner) && self.may_access(name),
        }
    }

    fn may_access(&self, repository: &str) -> bool {
        let same = |own: &String| own.eq_ignore_ascii_case(repository);
        self.repositories.as_ref().is_none_or(|repositories| repositories.iter().any(same))
    }
}

/// Answers the calls that an App makes as itself.
pub(super) fn answer(world: &mut World, route: &Route, request: &Request, faults: &[FaultKind]) -> Reply {
    let skew = faults.iter().find_map(|fault| match fault {
        FaultKind::Clock { seconds } => Some(*seconds),
        _ => None,
    });
    let header = request.header("authorization").unwrap_or_default();
    let apps = match identify(&world.apps, header, clock::now(skew.unwrap_or(0)).as_second()) {
        Ok(apps) => apps,
        Err(reply) => return reply,
    };
    match route {
        Route::Installation(scope) if !scope.is_missing() => {
            match apps.iter().find(|app| app.covers(scope)) {
                Some(app) => Reply::json(200, &document(app)),
                None => Reply::not_found(),
            }
        }
        Route::AccessTokens(id) => match apps.into_iter().find(|app| app.installation == *id) {
            Some(app) => access_token(world, &app, request, faults),
            None => Reply::not_found(),
        },
        _ => Reply::not_found(),
    }
}

fn document(app: &App) -> Value {
    let suspended_at = app.suspended.then_some("2026-01-01T00:00:00Z");
    let selection = if app.repositories.is_some() { "selected" } else { "all" };
    json!({
        "id": app.installation, "app_id": app.id, "client_id": app.client_id, "permissions": app.permissions,
        "account": {"login": app.owner.as_deref().unwrap_or("everywhere"), "type": "Organization"},
        "repository_selection": selection, "suspended_at": suspended_at, "events": [],
    })
}

fn access_token(world: &mut World, app: &App, request: &Request, faults: &[FaultKind]) -> Reply {
    if app.suspended {
        return Reply::message(403, "This installation has been suspended");
    }
    let body = request.json::<Value>().unwrap_or_default();
    let asked: BTreeMap<String, String> =
        serde_json::from_value(body["permissions"].clone()).unwrap_or_else(|_| app.permissions.clone());
    if asked
        .iter()
        .any(|(name, level)| app.permissions.get(name).is_none_or(|own| own != "write" && own != level))
    {
        return Reply::message(422, "The permissions requested are not granted to this installation.");
    }
    let repositories: Vec<String> = serde_json::from_value(body["repositories"].clone()).unwrap_or_default();
    if repositories.iter().any(|name| !app.may_access(name)) {
        return Reply::message(
            422,
            "There is at least one repository that does not exist or is not accessible to the parent installation.",
        );
    }
    let owner = app.owner.clone().unwrap_or_else(|| Scope::ANY.to_owned()).to_lowercase();
    let scope = match repositories.as_slice() {
        [one] => Scope::Repo(owner, one.to_lowercase()),
        _ => Scope::Org(owner),
    };
    if asked.len() != 1 || matches!(scope, Scope::Repo(..)) != asked.contains_key("administration") {
        world.conduct.note(format!("asked for more than it needs: {body}"));
    }
    let dead = faults.contains(&FaultKind::ExpiredToken);
    let (token, expires_at) = world.tokens.issue(CredentialKind::Installation, scope, dead);
    Reply::json(201, &json!({"token": token.expose(), "expires_at": expires_at, "permissions": asked}))
}

/// The installations of the App that signed the token in this header.
fn identify(apps: &[App], header: &str, now: i64) -> Result<Vec<App>, Reply> {
    let undecodable = || Reply::message(401, "A JSON web token could not be decoded");
    let token = header.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let token = token.map_or("", |(_, token)| token.trim());
    let (message, signature) = token.rsplit_once('.').ok_or_else(undecodable)?;
    let (head, claims) = message.split_once('.').ok_or_else(undecodable)?;
    let json =
        |part: &str| -> Option<Value> { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok() };
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| undecodable())?;
    let (head, claims) = json(head).zip(json(claims)).ok_or_else(undecodable)?;
    let issuer = match &claims["iss"] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut found = apps.to_vec();
    found.retain(|app| app.client_id == issuer || app.id.to_string() == issuer);
    let Some(app) = found.first() else { return Err(Reply::message(404, "Integration not found")) };
    if head["alg"] != "RS256" || !app.has_signed(message.as_bytes(), &signature) {
        return Err(undecodable());
    }
    let refusal = match (claims["iat"].as_i64(), claims["exp"].as_i64()) {
        (Some(from), Some(_)) if from > now => {
            "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued"
        }
        (Some(_), Some(end)) if end <= now => {
            "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion \
             expires"
        }
        (Some(_), Some(end)) if end > now + LONGEST => {
            "'Expiration time' claim ('exp') is too far in the future"
        }
        (Some(_), Some(_)) => return Ok(found),
        _ => return Err(undecodable()),
    };
    Err(Reply::message(401, refusal))
}
