//! What was requested: the command line, the environment, and files of the operator.

use super::situations;

situations! {
    COMMAND_LINE [Usage, Config, NoPerm]:
        "The command line, a RUNUP_ variable or a key of the configuration file sets something that does not exist, has no such value, or contradicts another option.",
        "See `runup COMMAND --help`. The message says where the value was set.";
    URL_MISSING [Usage]:
        "This needs the enterprise, organization or repository of the runner.",
        "Pass --url, or set url in the configuration file.";
    URL_INVALID [Usage]:
        "--url or --api-url is not the address of an enterprise, organization or repository, or of a REST API.",
        "Pass it as the browser shows it: https://github.com/ORGANIZATION, …/OWNER/REPOSITORY, …/enterprises/ENTERPRISE. The API of Enterprise Server is found below it.";
    NAME_INVALID [Usage, Config]:
        "The name, a label or a version cannot be used: GitHub or its runner refuses or ignores it, or a placeholder in it is unknown or cannot be filled in.",
        "Change what the message names. Names have at most 64 characters.";
    CONFIG_FILE [NoInput, Io, NoPerm, Os, CantCreate, Config, TempFail]:
        "The configuration file cannot be read or is not valid: TOML is required, and every key must be known.",
        "Correct the line in the message; docs/reference/configuration.md and runup.toml(5) list the keys.";
    CONFIG_FILE_UNSAFE [Config]:
        "The configuration file, or a directory above it, can be changed by a user who is not root. It can set commands that root runs.",
        "Make root its owner, and remove write access: `chown root:root FILE; chmod go-w FILE`.";
    CREDENTIAL_FILE [NoInput, Io, NoPerm, Os, CantCreate, Config]:
        "The file or variable with a credential cannot be read, holds something other than one line with a token, or can be read by every user.",
        "Write the token alone into the file, and run `chmod 600 FILE`.";
    ENV_FILE [NoInput, Io, NoPerm, Os, CantCreate, Usage]:
        "A variable for the runner's jobs cannot be set, or the file with them cannot be read.",
        "Write NAME=VALUE, one in a line. Variables that the runner sets itself cannot be set.";
    STATE_DIR_UNSAFE [Config]:
        "A user who is not root can change the directory that runup keeps its journals in.",
        "Omit --state-dir, or pass a directory of which only root can change each part.";
    ID_UNUSABLE [Config]:
        "The user or group id that was requested is reserved, taken, or not the one of the user that exists.",
        "Pass another --uid or --gid, or omit it.";
    ARCHIVE_MISSING [NoInput]:
        "The file that --archive names does not exist, or is not a regular file.",
        "Check the path.";
    ARCHIVE_UNVERIFIED [Usage, Data]:
        "Nothing says what the sha256 of the archive must be, or what says it is malformed. runup unpacks nothing unverified.",
        "Pass --sha256. The notes of the release at https://github.com/actions/runner/releases have it.";
    DIGESTS_DISAGREE [Data]:
        "Sources of the sha256 of one archive say different things: GitHub's list, a public release and its notes, --sha256, the configuration, or a mirror's SHA256SUMS.",
        "Find out which is right before anything is installed: `runup downloads --verify` asks all of them. Omit --sha256 to follow GitHub's list.";
    NOTHING_TO_COMPARE [Data]:
        "`runup downloads --verify` has a sha256 from --sha256 or the configuration, and nothing else tells the digest of that version: neither GitHub's list, nor a public release, nor a mirror.",
        "Check the version that it is for (runner-version), or pass a --mirror whose SHA256SUMS has it.";
    ARCHIVE_OPTION [Usage, Data]:
        "--archive is neither a file nor an http(s) URL, or its name does not tell its format.",
        "Pass a path or URL that ends in .tar.gz or .zip.";
    NOTHING_TO_INSTALL [Usage]:
        "The directory has no runner, and neither an archive nor a token to get one with was passed.",
        "Pass --token-file, or --archive with --sha256.";
    RECEIPT [Config, NoInput, Io]:
        "The file is not the receipt of a runner, or of another runner than the one that was requested.",
        "Pass the file that `runup runners create-jit --receipt` has written, with the same --url.";
    WORK_UNUSABLE [Config]:
        "The work directory cannot be used: the runner's user must own it, and it must not be part of the system.",
        "Pass another --work, or omit it.";
    HOOK_UNUSABLE [Config]:
        "The hook cannot be used: jobs could change it, or the runner's user cannot execute it.",
        "Make root its owner, and everyone able to read and execute it.";
    TOOL_CACHE_UNUSABLE [Config]:
        "The shared tool cache cannot be used: it is not a directory, or jobs could change it for each other.",
        "Make root the owner of everything in it, and the only one who can write there; or omit --tool-cache.";
    UNIT_PATH [Config]:
        "A path contains a character that cannot be written to a unit file.",
        "Pass a --dir without spaces, quotes, $ and \\.";
    NO_SYSTEMD [Config]:
        "The service needs systemd, and this machine does not run it.",
        "Pass --service none, and start `runup run` by the init system of the machine.";
}
