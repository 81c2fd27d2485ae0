//! The machine: files, disks, programs, processes.

use super::situations;

situations! {
    FILE_FAILED [NoInput, Os, CantCreate, Io, TempFail]:
        "An operation on the file or directory in the message failed, for the reason that the operating system gives there.",
        "Remove the reason: see whether the path exists and is what it should be, and `dmesg` for errors of the disk.";
    FILE_PERMISSION [NoPerm]:
        "runup may not read or write the file or directory in the message.",
        "Run runup as root, or change the permissions. Security modules (SELinux, AppArmor) refuse too: see `journalctl -t audit`.";
    READ_ONLY [CantCreate]:
        "The file system is mounted read-only. The kernel does that too, after an error of the disk.",
        "Pass another --dir, or mount it writable; `dmesg` shows whether the disk failed.";
    DISK_FULL [Io]:
        "The disk, a quota, or the number of files that the file system can have is used up. Nothing incomplete is left.",
        "Free some space, or pass another --dir: a runner takes about 700 MB while it is installed. `df -h` and `df -i` show what is free.";
    OUT_OF_MEMORY [Os]:
        "The operating system had no memory left for this.",
        "Free some memory, or use a machine with more: GitHub's runner itself needs about 512 MB.";
    FILE_UNEXPECTED [Config, Software]:
        "A file or directory is not what it must be: a link instead of a file, too large, or of another user. As root, runup does not follow links that others can make.",
        "Look at the path in the message, and move it away if it does not belong there.";
    PARENT_UNSAFE [Config]:
        "A user who is not root can change a directory above the runner, or a file that root uses at every start. That user could become root.",
        "Remove the write access, make root the owner, or pass another --dir.";
    PROGRAM_MISSING [Os, Config, NoPerm]:
        "A program that is needed is not installed, is not executable, or its interpreter is missing.",
        "Install it. The message names it, and often the package.";
    PROGRAM_FAILED [Os, NoPerm, CantCreate, Io]:
        "A program that runup has started failed. The message ends with what it printed.",
        "Run the command in the message by hand as the same user to see more.";
    PROGRAM_HUNG [TempFail]:
        "A program that runup has started did not end in time, and was killed.",
        "Run the command in the message by hand. A hung name service or network file system is the usual reason.";
    NEEDS_ROOT [NoPerm]:
        "This needs root.",
        "Run the same command as root, for example with sudo.";
    LOCKED [TempFail]:
        "Another run of runup, or another program that changes the users of this machine, holds a lock.",
        "Wait for it, or stop it if it is `run`, which runs as long as its runner; the message names its process. What a killed program has left behind is recognized, and not waited for.";
    STILL_RUNNING [TempFail]:
        "Processes do not end, although they were killed: they wait for a disk or a network file system.",
        "Look at them with `ps -o pid,stat,wchan,args`, mend what they wait for, or restart the machine.";
    DEADLINE [TempFail]:
        "The time that the whole run may take is used up. What was begun is undone or recorded.",
        "Run the same command again: it continues. If that is not enough, pass a longer --deadline.";
    STOPPED [Signal(15)]:
        "A signal ended the run: Ctrl-C, a shutdown, or a service manager's timeout. What was begun is undone or recorded.",
        "Run the same command again: it continues.";
    UNSUPPORTED_MACHINE [Unavailable]:
        "GitHub offers no runner for this machine: its operating system, architecture, C library or age is unsupported.",
        "Use another distribution. GitHub's runner needs glibc 2.28 or newer on Linux; musl is unsupported.";
    LIBRARIES_MISSING [Os]:
        "Libraries or programs that GitHub's runner needs are not installed.",
        "Run the same command with --deps, or install the packages in the message.";
    PACKAGES_NOT_INSTALLED [Os, TempFail, NoPerm, Unavailable, Signal(15), Io, CantCreate, Config]:
        "The packages that the runner needs could not be installed: the package manager failed, is locked, unknown, or may only be used by root.",
        "Run the command in the message by hand as root, then the same command of runup again.";
    DIRECTORY_ABOVE_UNREADABLE [NoPerm]:
        "The runner's user cannot read every directory above the runner, which GitHub's runner must.",
        "Give it read and execute permission there, or pass another --dir.";
    JOURNAL_MALFORMED [Config]:
        "The journal, in which runup records what it has changed, cannot be read.",
        "Restore it from a backup if there is one. Otherwise move it away and pass --adopt, or remove the runner by hand.";
    JOURNAL_NEWER [Config]:
        "The journal was written by a newer runup, whose format this one does not know.",
        "Use that runup, or a newer one.";
    METADATA_NOT_DENIED [Os]:
        "Jobs could reach the cloud's metadata service, and so the credentials of this machine, and runup could not prevent it.",
        "Deny it outside (IMDSv2 with a hop limit of 1, a network policy), and pass --allow-metadata.";
    BUG [Software]:
        "runup has a bug.",
        "Report it at the address that `runup --help` ends with, with the whole message.";
}
