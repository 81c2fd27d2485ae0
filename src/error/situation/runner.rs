//! The runner: its archive, its directory, its registration on this machine, its service.

use super::situations;

situations! {
    DIGEST_MISMATCH [Data]:
        "The archive is not the one that GitHub's list, or --sha256, describes. Nothing of it is installed.",
        "Run the same command again. If it happens again, something between here and the server changes the file: a proxy's error page, or an attack.";
    ARCHIVE_DAMAGED [Data]:
        "The archive is truncated, damaged, or of another format than its name says.",
        "Download it again. For --archive, compare its sha256 with the one on the release's page.";
    ARCHIVE_REFUSED [Data]:
        "The archive has something that no runner's archive has: paths that lead out, devices, too many or too large files, a registration or logs.",
        "Use GitHub's own archive, from https://github.com/actions/runner/releases, and not one that was packed from an installed runner.";
    DIRECTORY_TAKEN [Config]:
        "The directory has something else than a runner that runup has installed.",
        "Pass another --dir, take over the runner that is there with --adopt, or move away what is there.";
    RUNNER_INCOMPLETE [Config]:
        "Files of the runner are missing, and jobs may have changed others.",
        "Run `runup remove` and install it again.";
    OTHER_VERSION [Config]:
        "The directory has another version of the runner than was requested.",
        "Run `runup upgrade`, or omit --runner-version.";
    VERSION_DEPRECATED [Deprecated]:
        "GitHub no longer accepts this version of the runner: it supports a version for 30 days after the next one.",
        "Run `runup upgrade`, omit --runner-version, or bake the image again.";
    OTHER_PLATFORM [Config]:
        "The runner in the directory is for another operating system or architecture.",
        "Run `runup remove` and install it again, or bake the image on the architecture that it is for.";
    NO_RUNNER_HERE [Config, Unavailable]:
        "The directory has no runner, or no baked one, and no journal says that it should.",
        "Pass --dir, or see `runup status` for where the runners of this machine are.";
    SEVERAL_RUNNERS [Config]:
        "This machine has several runners, and the command is for one.",
        "Pass --dir, --instance or --all.";
    MOUNT_INSIDE [Config, TempFail]:
        "Something is mounted in the runner's directory, so it cannot be deleted or exchanged safely.",
        "Unmount it, and run the same command again.";
    IMAGE_NOT_SEALED [Config]:
        "The image has what each machine must have for itself: an identity, a log, a token, a machine id.",
        "Run `runup bake` again as the last command of the image, or delete what the message lists.";
    WORK_LEFTOVERS [TempFail]:
        "What an earlier job has left in the work directory cannot be deleted, so no further job is accepted.",
        "Look at the paths in the message with `lsattr` and `findmnt`, and delete them.";
    INSTANCES_CONFLICT [Config]:
        "Two instances would have the same directory or name, or a directory has a runner that is not the instance.",
        "Change dir or name in [instance.N] of the configuration file, or remove the other runner.";
    NO_SUCH_INSTANCE [Unavailable]:
        "The machine has no instance of this number.",
        "See `runup status` for those that exist.";
    REGISTERED_OTHERWISE [Config]:
        "The runner is registered with another URL, server or name than was requested, or was not registered by runup.",
        "Omit what differs, run `runup remove` first, or take the runner over with --adopt.";
    REGISTRATION_CHANGED [Config]:
        "The runner's own files disagree with the journal or the server. Jobs may have written them, so they are not believed.",
        "Pass a credential for the API, so that runup can ask the server, or look at the files yourself.";
    CREDENTIAL_WITHHELD [Config]:
        "The credential may be for another server than the one that the runner's files name, so it was not sent.",
        "Pass --url.";
    NEEDS_API_TOKEN [NoPerm]:
        "This can only be done with a token for the REST API, and none was passed, or only a registration or remove token.",
        "Pass --token-file with a token of an administrator, or `runup remove --local` to leave the server as it is.";
    CANNOT_ADOPT [Config]:
        "The runner cannot be taken over: it is not registered, its files disagree with the server or the options, or its jobs could have changed the machine.",
        "Remove it as it was installed (`svc.sh uninstall`, `config.sh remove`), and install it with runup.";
    CONFIG_SH_FAILED [Runner, Config, Os, NoPerm, Deprecated, TempFail]:
        "GitHub's config.sh failed, or exited 0 without a registered runner. What it printed is above the message.",
        "Its last lines say why. Known ones are translated into the message and the hint.";
    CONFIG_SH_HUNG [TempFail]:
        "GitHub's config.sh did not end in time. It waits for the server.",
        "Run the same command again. If it stays, compare what runup and config.sh may reach: the runner also connects to *.actions.githubusercontent.com.";
    SERVICE_CONFLICT [Config]:
        "A service that runup did not set up, or was not asked to, runs this runner, or the unit has been masked or written by another.",
        "Take it over with --adopt, remove it with `svc.sh uninstall`, or unmask the unit.";
    SERVICE_FAILED [Runner]:
        "The service of the runner does not stay up.",
        "See `runup logs`, and `journalctl --unit UNIT`.";
    NOT_ONLINE [Runner]:
        "The service runs, but the server does not report the runner as online.",
        "See `runup logs`. The runner connects to other hosts than runup does: *.actions.githubusercontent.com must be allowed.";
    LISTENER_FAILED [Runner, Config, Os, NoPerm, Deprecated, TempFail]:
        "GitHub's listener, which waits for jobs, failed again and again.",
        "See `runup logs`; what is known of its messages is translated into the message and the hint.";
    UPDATES_AGAIN [Runner]:
        "The runner updates itself again and again, so its update may not work here.",
        "Run `runup upgrade`, and pass --self-update=false so that only runup changes the version.";
    NOT_IDLE [TempFail, Signal(15)]:
        "The runner had a job for all the time that runup waited, or a job was cut off by a stop.",
        "Run the same command again later, or pass a longer --drain.";
    UPGRADE_FAILED [Runner, TempFail]:
        "The new version of the runner did not come online, and the old one was restored; or another run changed the runner at the same time.",
        "See `runup logs` for why, and run `runup upgrade` again.";
}
