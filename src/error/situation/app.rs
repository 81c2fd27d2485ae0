//! GitHub Apps as credentials.

use super::situations;

situations! {
    APP_KEY [Config]:
        "The private key of the GitHub App cannot sign: it is empty, damaged, encrypted, shorter than 2048 bits, or not an RSA key in PEM format.",
        "Use the .pem file that GitHub created under \"Private keys\" in the settings of the App, as it is. For a key that must not leave a KMS, an HSM or a TPM, use --app-sign-command.";
    APP_COMMAND [TempFail, Config, NoPerm, Os, NoInput, Io, CantCreate]:
        "The command that prints the key of the GitHub App, or that signs for it, could not be started, failed, or did not end in time.",
        "Run it by hand as the user who runs runup: it must exit 0 and print nothing but the key, or the signature of its standard input.";
    APP_SIGNATURE [Config]:
        "What --app-sign-command printed has not the length of an RSA signature.",
        "It must print the PKCS#1 v1.5 SHA-256 signature of its standard input, raw or in base64, and nothing else: `openssl dgst -sha256 -sign KEY` does.";
    APP_ENTERPRISE [Usage]:
        "GitHub's API for the runners of an enterprise takes no GitHub App.",
        "Use a classic token with the scope manage_runners:enterprise, or install the runner in an organization.";
    APP_REFUSED [NoPerm]:
        "The server does not accept the GitHub App itself: there is none with this id, or the signature is not by one of its keys.",
        "Check --app-id, and that the key is one of this App on this server. \"Private keys\" in the settings of the App shows their fingerprints.";
    APP_NOT_INSTALLED [NoPerm]:
        "The GitHub App is not installed in the organization or repository, or has no installation of this id.",
        "Let an owner install it, with this repository among the selected ones. Check the spelling of --url, and omit --app-installation-id.";
    APP_SUSPENDED [NoPerm]:
        "An owner of the organization has suspended the installation of the GitHub App.",
        "Let an owner unsuspend it: Settings, GitHub Apps, Configure, Unsuspend.";
    APP_NOT_PERMITTED [NoPerm]:
        "The installation of the GitHub App lacks the permission to manage runners, or has no access to the repository.",
        "Grant \"Self-hosted runners: read and write\" of the organization, or \"Administration: read and write\" of the repository, in the settings of the App, and let an owner accept it.";
}
