//! The user that the runner runs as.

use super::situations;

situations! {
    USER_NAME [Usage]:
        "The name cannot be that of a user.",
        "Pass a --user of at most 32 lower-case letters, digits, - and _, which begins with a letter.";
    USER_EXISTS [Config, TempFail]:
        "A user or group of this name exists already, or was created by another program at the same moment.",
        "Run the same command again: it uses the user that exists. Pass another --user if that is not the one.";
    USER_NOT_FOUND [TempFail, Os, Config]:
        "The user was not found, or a directory service (LDAP, SSSD) that may know it did not answer.",
        "See `getent passwd NAME`. Start the directory service before runup, or pass a local --user.";
    USER_SHARED [Config]:
        "The user already runs another runner. Jobs of one could read the credentials of the other.",
        "Omit --user, so that each runner gets a user of its own.";
    USER_IS_ROOT [Config]:
        "The user is root, under another name. Jobs would own the machine.",
        "Pass another --user. If jobs really should run as root, pass --user root.";
    USER_MISMATCH [Config]:
        "The runner that is there belongs to another user than the one that was requested.",
        "Omit --user, or remove the runner first.";
    GROUP_MISSING [Config]:
        "A group of --groups does not exist, or runup may not change the groups of a user that it did not create.",
        "Create the group, or add the user to it with `usermod --append --groups GROUP USER`.";
    HOME_TAKEN [Config]:
        "The home directory of the new user exists, and belongs to another one, or leads out of the image.",
        "Move it away, or pass another --user.";
    ACCOUNT_TOOLS [Os]:
        "The users of this machine cannot be changed: useradd or userdel is missing, failed, or every id is taken.",
        "Install the package passwd or shadow-utils, and run the command in the message by hand to see more.";
    FILES_LEFT [Os, TempFail]:
        "Files of the user, or of a job, cannot be deleted: they are immutable, mounted, or on a disk that fails.",
        "Look at the paths in the message with `lsattr` and `findmnt`, delete them, and run the same command again.";
    PROCESSES_SPARED [Config]:
        "runup refuses to end every process of this user: it is not one that only runs this runner.",
        "End the runner's processes by hand, or give the runner a user of its own.";
}
