# Debian's own programs beside a runner: a container engine, which jobs use, and needrestart, which restarts services.

# The machine, with the extra packages and Docker, which is off. Docker needs more of a machine than runup: control groups that it can
# change, keyrings, settings of the network, and a file system for its layers, because it cannot stack them on those of the machine.
machine_with_docker() {
    controllers=yes
    nspawn_options+=(--capability=all --system-call-filter="@keyring bpf")
    machine_with_extras
    install --directory "$root/etc/systemd/system/docker.service.d" "$root/var/lib/docker"
    cat >"$root/usr/local/sbin/for-docker" <<'MOUNTS'
#!/bin/sh
mount -t tmpfs tmpfs /var/lib/docker
mount -o remount,bind,rw /proc/sys
awk '$3 == "cgroup" { print $2 }' /proc/mounts | while read -r dir; do mount -o remount,bind,rw "$dir"; done
MOUNTS
    chmod 755 "$root/usr/local/sbin/for-docker"
    printf '[Service]\nExecStartPre=/usr/local/sbin/for-docker\n' >"$root/etc/systemd/system/docker.service.d/machine.conf"
}

# Starts Docker now and at each boot, with the image "tiny", which has busybox only.
docker_on() {
    inside systemctl enable --quiet docker
    exits 0 inside systemctl start docker
    tiny_image
}

tiny_image() {
    local dir=$root/root/tiny name
    mkdir --parents "$dir/bin"
    cp "$root/bin/busybox" "$dir/bin/busybox"
    for name in sh mkdir cp chmod; do ln --symbolic --force busybox "$dir/bin/$name"; done
    exits 0 inside sh -c 'tar --create --directory=/root/tiny . | docker import - tiny'
}

# Jobs reach the engine as members of its group, which a drop-in names, or an option of runup for its user. At a shutdown, a job keeps its engine until it is done.
scenario_container_engine() {
    local probe turn first
    server
    machine_with_docker
    credentials
    switch_on
    docker_on
    probe="docker run --rm --network none tiny /bin/busybox echo from the container
        grep . /proc/1/cgroup && echo cgroups can be read"
    # Not a member of any group that runup was not told of.
    exits 0 runup install
    within 30 online
    finished "$(script "$probe")"
    job_does_not_say "from the container"
    install -D --mode=644 /dev/stdin "$root/etc/systemd/system/$unit.d/docker.conf" <<<$'[Service]\nSupplementaryGroups=docker'
    inside systemctl daemon-reload
    inside systemctl restart $unit
    within 30 online
    finished "$(script "$probe")"
    job_says "from the container"
    job_says "cgroups can be read"
    exits 0 runup remove
    must no_runner
    rm --recursive "$root/etc/systemd/system/$unit.d"
    inside systemctl daemon-reload
    exits 0 runup install --ephemeral --groups docker
    says "jobs are not isolated"
    for turn in 1 2; do
        within 60 online
        first=$(runner_id)
        finished "$(script "$probe")"
        job_says "from the container"
        job_says "cgroups can be read"
        within 60 fresh_runner "$first"
    done
    exits 0 runup remove
    must_not grep --quiet '^docker:.*actions-runner' "$root/etc/group"

    exits 0 runup install --groups docker
    within 30 online
    install --directory --mode=1777 "$root/srv/jobs"
    script 'for i in 1 2 3 4 5; do docker run --rm --network none tiny /bin/busybox sleep 1 || exit 1; done; echo to the end >/srv/jobs/last'
    within 10 busy
    within 10 inside sh -c 'docker ps --quiet | grep .'
    switch_off
    note "off after a job of five containers in $off_seconds"
    # The job's own word: the fake runner may be stopped between the end of a job and its report.
    same "to the end" "$(<"$root/srv/jobs/last")" "how far the job came in the shutdown"
    switch_on
    within 30 online
    exits 0 runup remove
    must no_runner
}

# Installs a higher version of the package $1, which is the same otherwise, with the real dpkg and all hooks of apt.
upgrade_library() {
    local package=$1 version dir=$root/root/library
    version=$(inside dpkg-query --show --showformat='${Version}' "$package")
    rm --recursive --force "$dir"
    install --directory "$dir/DEBIAN"
    # Packages of the same source demand exactly the version that Debian has.
    inside dpkg-query --status "$package" |
        sed "/^Status:/d; /^Provides:/d; s/^Version: .*/Version: $version+local\nProvides: $package (= ${version%%+local*})/" \
            >"$dir/DEBIAN/control"
    # Not cp --parents, which would copy the link /lib too.
    inside sh -c "dpkg-query --listfiles $package | while read -r file; do
            [ -d \$file ] || [ ! -e \$file ] || { mkdir --parents /root/library\${file%/*} && cp --archive \$file /root/library\$file; }
        done
        dpkg-deb --build --root-owner-group /root/library /root/library.deb" >"$here/library.log"
    exits 0 inside env DEBIAN_FRONTEND=noninteractive apt-get --yes install /root/library.deb
    same "$version+local" "$(inside dpkg-query --show --showformat='${Version}' "$package")" "the library's version"
}

# An unattended upgrade of a library that all programs of a runner use, while it runs a job. needrestart, which restarts services then,
# leaves the runner alone; without the setting that runup writes, it would not.
scenario_library_upgrade_during_a_job() {
    local job ours control
    server
    machine_with_extras
    credentials
    echo "\$nrconf{restart} = 'a';" >"$root/etc/needrestart/conf.d/automatic.conf"
    printf '[Service]\nExecStart=/bin/bash -c "while :; do sleep 1; done"\n' >"$root/etc/systemd/system/control.service"
    switch_on
    exits 0 runup install
    within 30 online
    inside systemctl start control
    ours=$(property $unit MainPID) control=$(property control MainPID)
    job=$(script 'until [ -e /srv/upgraded ]; do sleep 0.2; done; echo it was not disturbed')
    within 10 busy
    upgrade_library libtinfo6
    must another_process control "$control"
    must same_process $unit "$ours"
    must busy
    touch "$root/srv/upgraded"
    finished "$job"
    job_says "it was not disturbed"
    # The reason is that setting.
    rm "$root/etc/needrestart/conf.d/runup.conf"
    upgrade_library libtinfo6
    must another_process $unit "$ours"
    # The next install brings it back, and a removal takes it away.
    exits 0 runup install
    must test -s "$root/etc/needrestart/conf.d/runup.conf"
    exits 0 runup remove
    absent /etc/needrestart/conf.d/runup.conf
}
same_process() { [[ $(property "$1" MainPID) == "$2" ]]; }
another_process() { [[ $(property "$1" MainPID) =~ ^[1-9] ]] && ! same_process "$@"; }
