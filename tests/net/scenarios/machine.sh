# shellcheck shell=bash
# The machine lacks something.

# An image with a C library that GitHub has no runner for.
scenario_platform() {
    local root=$layers/image
    mkdir --parents "$root"/{etc,lib}
    printf 'ID=alpine\nPRETTY_NAME="Alpine Linux v3.20"\n' >"$root/etc/os-release"
    touch "$root/lib/ld-linux-$(uname --machine).so.1"
    doctor 0 --root "$root"
    fine platform Alpine
    rm "$root"/lib/*
    touch "$root/lib/ld-musl-$(uname --machine).so.1"
    doctor 69 --root "$root"
    fails platform unsupported-machine 69 "Alpine Linux v3.20" musl "Use a distribution with glibc"
    fine directory
}

# An ordinary user cannot have another one created.
scenario_user() {
    doctor 0 --user builder
    fine user "builder does not exist yet, and can be created"
    useradd --create-home bob
    inside=(setpriv --reuid=bob --regid=bob --init-groups env HOME=/home/bob)
    doctor 0
    fine user "bob (uid"
    doctor 77 --user builder
    fails user needs-root 77 builder "as root"
}

# A mount option that hardening guides recommend.
scenario_directory() {
    doctor 0
    fine directory "/opt/actions-runner can be created"
    mount -t tmpfs -o noexec,mode=755 tmpfs /opt
    doctor 71
    fails directory program-missing 71 /opt/actions-runner noexec --dir
    doctor 0 --dir /usr/local/actions-runner
    fine directory
}

# An ordinary user cannot write to root's directories, and root not to a filesystem that is read-only.
scenario_directory_that_is_not_writable() {
    useradd --create-home bob
    inside=(setpriv --reuid=bob --regid=bob --init-groups env HOME=/home/bob)
    doctor 0
    fine directory "/home/bob/actions-runner can be created"
    doctor 77 --dir /opt/actions-runner
    fails directory file-permission 77 "write to /opt" "as root"
    inside=()
    mount -t tmpfs -o ro,mode=755 tmpfs /opt
    doctor 73
    fails directory read-only 73 "write to /opt" "writable filesystem"
}

# Another user could swap the runner.
scenario_directory_that_others_can_write() {
    chmod 777 /opt
    doctor 78
    fails directory parent-unsafe 78 "any user can write" "let only root write /opt"
    chmod 755 /opt
    doctor 0
    fine directory
}

scenario_disk() {
    mount -t tmpfs -o size=1G,mode=755 tmpfs /opt
    doctor 0
    fine disk "MB are free in /opt"
    mount -o remount,size=400M /opt
    doctor 0
    unknown disk "may not be enough"
    mount -o remount,size=1G /opt
    head --bytes=900M /dev/zero >/opt/data
    doctor 74
    fails disk disk-full 74 /opt
}

scenario_disk_without_inodes() {
    mount -t tmpfs -o size=1G,nr_inodes=1000,mode=755 tmpfs /opt
    doctor 0
    unknown disk "more files in /opt"
}

# A small machine.
scenario_memory() {
    doctor 0
    fine memory MB
    sed 's/^MemTotal: .*/MemTotal: 300000 kB/' /proc/meminfo >"$here/meminfo"
    mount --bind "$here/meminfo" /proc/meminfo
    doctor 0
    unknown memory "307 MB may not be enough for jobs"
    umount /proc/meminfo
    mount --bind /dev/null /proc/meminfo
    doctor 0
    unknown memory "could not be read"
}

scenario_libraries() {
    local library
    # What this machine may lack, too: a library is known by its name and its architecture.
    for library in libicuuc.so.72 libgssapi_krb5.so.2; do
        [[ -n $(library_path "${library%%.*}") ]] || cp "$(library_path libc)" "$(dirname "$(library_path libc)")/$library"
    done
    touch /etc/ssl/certs/ca-certificates.crt
    doctor 0
    fine libraries "all that the runner needs are installed"
    for library in libicuuc libgssapi_krb5; do rm "$(dirname "$(library_path "$library")")/$library".so*; done
    doctor 71
    fails libraries libraries-missing 71 libicu Kerberos apt-get "--deps"
    doctor 0 --deps
    unknown libraries "--deps would install" libicu
    github
    doctor 0 --url "$org_url" --deps
    unknown libraries "--deps would install" libicu
}
library_path() { find -L /usr/lib /usr/lib64 -maxdepth 2 -name "$1.so*" -print -quit 2>/dev/null; }

# A distribution of long ago.
scenario_libraries_too_old() {
    rm --force /etc/os-release
    printf 'ID=debian\nVERSION_ID="9"\nPRETTY_NAME="Debian GNU/Linux 9 (stretch)"\n' >/etc/os-release
    doctor 69
    fails libraries unsupported-machine 69 "2.28" stretch
}

scenario_init() {
    github
    doctor 0 --url "$org_url" --service none
    no_check init
    # What systemd itself goes by. Nothing answers here, which is another check's.
    mkdir --parents /run/systemd/system
    doctor 71 --url "$org_url" --service systemd
    fine init "systemd runs this machine"
    verdict install fails systemctl "Failed to connect to" D-Bus "--service none"
    rmdir /run/systemd/system
    doctor 78 --url "$org_url" --service systemd
    fails init no-systemd 78 "runs systemd" "--service none"
    fine server
    fine install
    asked_only
}

# The kernel's answer is a stand-in here: it has one policy for all.
scenario_selinux() {
    doctor 0
    fine selinux "does not enforce"
    mount -t tmpfs -o mode=755 tmpfs /sys/fs
    mkdir /sys/fs/selinux
    echo 1 >/sys/fs/selinux/enforce
    rm --force /usr/{,s}bin/restorecon
    doctor 0
    unknown selinux "without restorecon" "Install policycoreutils"
    install /dev/stdin /usr/sbin/restorecon <<<'#!/bin/sh'
    doctor 0
    fine selinux "restorecon gives files its labels"
}

scenario_journal() {
    mkdir --parents /var/lib/runup
    doctor 0
    fine journal "0 runners are recorded in /var/lib/runup"
    echo '{"version": 1, "dir": "/opt/act' >/var/lib/runup/opt-actions-runner.json
    doctor 78
    fails journal journal-malformed 78 /var/lib/runup/opt-actions-runner.json "Move the file away"
}

# By a later version of the program.
scenario_journal_of_tomorrow() {
    mkdir --parents /var/lib/runup
    echo '{"version": 999}' >/var/lib/runup/opt-actions-runner.json
    doctor 78
    fails journal journal-newer 78 /var/lib/runup/opt-actions-runner.json "Use the newer runup"
}

# Root's, read by another user.
scenario_journal_of_another_user() {
    useradd --create-home bob
    install --directory --mode=700 /var/lib/runup
    inside=(setpriv --reuid=bob --regid=bob --init-groups env HOME=/home/bob)
    doctor 77 --state-dir /var/lib/runup
    fails journal file-permission 77 /var/lib/runup "as root"
    fine directory
    no_check store
    no_check runner
}

# Whatever it is here, jobs get the usual one; a drop-in of a service that changes it is in tests/boot.
scenario_umask() {
    github
    umask 077
    doctor 0 --url "$org_url"
    fine umask "jobs get 022, and not the 077"
    umask 022
    doctor 0 --url "$org_url"
    same "jobs get 022" "$(of umask detail)" "the umask"
}

scenario_engine() {
    rm --force /usr/bin/{docker,podman}
    doctor 0
    unknown engine "no container engine"
    # What doctor looks for: a program, a socket that a process listens to, and its group.
    install /dev/stdin /usr/bin/docker <<<'#!/bin/sh'
    doctor 0
    unknown engine docker "once actions-runner exists"
    useradd --system actions-runner
    getent group docker >/dev/null || groupadd --system docker
    doctor 0 --user actions-runner
    unknown engine docker /var/run/docker.sock "does not exist"
    # shellcheck disable=SC2016 # Perl's variables.
    beside engine perl -MIO::Socket::UNIX -e '
        my $listens = IO::Socket::UNIX->new(Local => "/run/docker.sock", Listen => 1) or die $!; sleep'
    within 60 test -S /run/docker.sock
    chgrp docker /run/docker.sock
    chmod 660 /run/docker.sock
    doctor 0 --user actions-runner
    fine engine "docker runs" "cannot use it" "--groups docker"
    usermod --append --groups docker actions-runner
    doctor 0 --user actions-runner
    fine engine "docker runs" "become root with it"
}

# systemd's answer is a stand-in here, because the kernel has one clock for all.
scenario_time_sync() {
    doctor 0
    unknown time-sync "only systemd can be asked"
    mkdir --parents /run/systemd/system
    # Without the bus.
    doctor 0
    unknown time-sync "systemd did not say"
    rm --force /usr/bin/timedatectl
    install /dev/stdin /usr/bin/timedatectl <<<$'#!/bin/sh\necho yes'
    doctor 0
    fine time-sync
    install /dev/stdin /usr/bin/timedatectl <<<$'#!/bin/sh\necho no'
    doctor 0
    unknown time-sync "not synchronized" "timedatectl set-ntp true"
    # It hangs.
    install /dev/stdin /usr/bin/timedatectl <<<$'#!/bin/sh\nexec sleep 100'
    doctor 0
    unknown time-sync "systemd did not say"
}

# One byte of a program, as a bad disk changes it.
scenario_store() {
    local root=$layers/image program
    mkdir --parents "$root/etc"
    github
    exits 0 env "${environment[@]}" "$bin" bake --root "$root" --url "$org_url"
    doctor 0 --root "$root" --url "$org_url"
    fine store /opt/.runup-store whole
    program=$(find "$root/opt/.runup-store" -name Runner.Worker -print -quit)
    printf '\377' | dd of="$program" bs=1 seek=10 conv=notrunc status=none
    doctor 0 --root "$root" --url "$org_url"
    unknown store "which is damaged" /opt/.runup-store "Delete it"
}
