//! The permission that a call needs.

use super::scope::Scope;

/// Whether a call changes the server, which determines the permission that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// The permission that a call needs according to GitHub's documentation.
pub(super) fn needed(scope: &Scope, access: Access) -> String {
    let access = if access == Access::Read { "read" } else { "write" };
    match scope {
        Scope::Enterprise(_) => {
            "a classic token with the scope manage_runners:enterprise (admin:enterprise up to \
                                 Enterprise Server 3.2; fine-grained tokens and GitHub Apps cannot do this)"
                .to_owned()
        }
        Scope::Organization(_) => format!(
            "a classic token with the scope admin:org, or a fine-grained token or GitHub App with the organization \
             permission \"Self-hosted runners\": {access}"
        ),
        Scope::Repository { .. } => format!(
            "a classic token with the scope repo, or a fine-grained token or GitHub App with the repository \
             permission \"Administration\": {access}"
        ),
    }
}

/// The one permission that an installation token is asked for, by its name in the API; `None` for an enterprise, whose
/// endpoints take no App.
pub(super) fn app_permission(scope: &Scope) -> Option<&'static str> {
    match scope {
        Scope::Enterprise(_) => None,
        Scope::Organization(_) => Some("organization_self_hosted_runners"),
        Scope::Repository { .. } => Some("administration"),
    }
}
