//! What GitHub answers.

use super::situations;

situations! {
    NO_CREDENTIAL [NoPerm]:
        "This needs a token, and none was passed.",
        "Pass one with --token-file, RUNUP_TOKEN or --token-command, or a GitHub App with --app-id. A registration token is enough to register, a remove token to remove.";
    TOKEN_COMMAND [TempFail, Config, NoPerm, Os, NoInput, Io, CantCreate]:
        "The token command could not be started, failed, did not end in time, or printed something other than one token.",
        "Run it by hand as the user who runs runup: it must exit 0 and print the token, and nothing else, on standard output.";
    UNAUTHORIZED [NoPerm]:
        "The server does not accept the credential (401): it is wrong, expired or revoked, or belongs to another GitHub server.",
        "Create a new one. Registration and remove tokens expire after one hour.";
    TOKEN_EXPIRED [NoPerm]:
        "The registration or remove token that was passed has expired: the time when it does was passed with it.",
        "Create another one with `runup token registration --json` or `runup token remove --json`. It is valid for an hour.";
    TOKEN_REFUSED [NoPerm]:
        "GitHub does not accept the registration or remove token that was passed (404). It says the same for a token that has expired, one for another enterprise, organization or repository, a wrong URL, and an account that has lost access.",
        "Compare --url with where the token was created, and create another one: `runup token registration --json` also tells when it expires.";
    FORBIDDEN [NoPerm]:
        "The credential is valid, but may not do this (403): it lacks a scope or permission, or its owner does not administer the enterprise, organization or repository.",
        "Use a token of an administrator. A classic token needs manage_runners:enterprise, admin:org or repo; a fine-grained one needs write access to self-hosted runners of the organization, or to administration of the repository.";
    SINGLE_SIGN_ON [NoPerm]:
        "The organization requires single sign-on (SAML), and the token was not authorized for it. It may be valid and strong enough otherwise.",
        "The owner of the token opens the page in the message, or authorizes it in the settings of the token. A GitHub App needs no such step.";
    ADDRESS_NOT_ALLOWED [Config]:
        "The organization or enterprise has an IP allow list, and the address of this machine, or of the proxy that it uses, is not on it. The credential may be good.",
        "An owner adds the address to the list, or the machine uses a proxy that is on it. Another credential does not help.";
    TOKEN_NOT_ALLOWED [NoPerm]:
        "The organization or enterprise does not accept classic tokens, or no fine-grained ones that are valid for as long as this one.",
        "Use a kind of credential that it accepts: the message says which it refuses. A GitHub App is always accepted once it is installed.";
    RUNNERS_DISABLED [Unavailable]:
        "The owner has disabled self-hosted runners, or GitHub Actions, for this repository, organization or enterprise. The credential may be good.",
        "An owner of the organization or enterprise allows them in its settings (Actions). Instead of for a repository, the runner may be registered for the organization.";
    NOT_FOUND [NoPerm]:
        "The server does not know the enterprise, organization or repository, or hides it from this credential (404). It answers the same in both cases.",
        "Check the spelling of --url, and that the token belongs to an account that can see it, with the permission that the message names.";
    RATE_LIMITED [TempFail]:
        "The server's rate limit is used up, for this token or for this address. Machines that boot at once share it if they share a token.",
        "Run the same command again after the time in the message. For many machines, see docs/fleets.md: --start-spread, or one registration token for all.";
    RELEASE_LIMITED [TempFail]:
        "GitHub's public releases were asked without a credential, which it allows 60 times an hour for all machines behind one address.",
        "Serve the archive from a mirror (--mirror with --runner-version and --sha256), pass --archive with --sha256, or a token for the list.";
    RUNNER_BUSY [TempFail]:
        "The runner has a job, and cannot be deleted or changed until it has ended.",
        "Wait for the job, or cancel it, and run the same command again. `runup drain` waits for it.";
    NAME_TAKEN [Config, TempFail]:
        "Another runner has this name, in the same enterprise, organization or repository.",
        "Pass another --name, for example with {random} in it, delete the other runner, or replace it with --replace.";
    JIT_UNSUPPORTED [Unavailable]:
        "The server does not have the call that creates just-in-time runners. Enterprise Server has it since 3.10.",
        "Use --ephemeral instead of --jit.";
    NO_SUCH_RUNNER [Unavailable]:
        "The server does not have this runner.",
        "See `runup runners list`. A name is written as it is there; an id must be of the same enterprise, organization or repository.";
    NO_SUCH_GROUP [Config]:
        "The runner group does not exist. Repositories have no groups, and an organization sees only those that it may use.",
        "Create the group, or correct --group.";
    REQUEST_REFUSED [Protocol]:
        "The server understood the request and refused it (422). Its message says why.",
        "Change what the message names: usually a label, a group or a name.";
    NOT_GITHUB [Protocol, TempFail]:
        "The answer is not one of GitHub's REST API: the sign-in page of a network (a captive portal), a proxy's error page, or another service.",
        "Sign in to the network if it has a captive portal. Check the host of --url and --api-url, and any proxy in between.";
    UNEXPECTED_ANSWER [Protocol, TempFail]:
        "The server answered with a status or a document that its documentation does not have for this call.",
        "Run the same command again later. If it stays, check --api-url, and report it with the request id in the message.";
    LIST_TOO_LONG [Protocol]:
        "A list of the server has no end, or more elements than runup reads.",
        "Narrow the list with --status, --label or --name; check --api-url and any proxy if it should be short.";
    NOT_OFFERED [Unavailable]:
        "GitHub offers no runner for this operating system and architecture, or not in this version.",
        "Omit --runner-version, or pass the archive with --archive and --sha256. GitHub builds runners for Linux (glibc; x64, arm64, arm), macOS and Windows.";
    RUNNER_NOT_ON_SERVER [Runner]:
        "config.sh says that it registered a runner, but the server does not have it, or a runner that was removed is still there.",
        "Run the same command again. If it stays, see `runup runners list` and delete what is left there.";
    MAY_REMAIN [Runner]:
        "A registration was undone on this machine only: there was no token to look for it on the server, or a runner of its name there may be another machine's.",
        "Find it with `runup runners list`. If it does not belong to another machine, delete it with `runup runners delete`, or take it over with `runup install --replace`.";
    LISTENER_ELSEWHERE [TempFail]:
        "Another machine has the session of this runner: a copy of this disk, or a just-in-time configuration that was used twice.",
        "Stop the other machine, or give this one a runner of its own: images are made with `runup bake`, without an identity.";
    JIT_USED [Unavailable]:
        "The just-in-time configuration was used before, or its runner was deleted. It is good for one job.",
        "Create a new one with `runup runners create-jit`.";
    DELETED_AGAIN [Runner]:
        "The server deleted the runner again and again after it was registered. Another machine may replace it by its name, or a clean-up job may delete it.",
        "Look for another runner of the same name, and in the organization's audit log for what deletes it.";
    REGISTRATION_DROPPED [TempFail]:
        "The server has deleted the runner, and this machine holds no credential to register it again.",
        "Pass --token-file or --token-command, and run the same command again. A runner that is offline for 14 days is deleted, an ephemeral one after a day.";
    JIT_CONFIG [Data]:
        "The just-in-time configuration is incomplete, or not what GitHub creates.",
        "Pass the value of encoded_jit_config as it is, on one line, or create a new one with `runup runners create-jit`.";
}
