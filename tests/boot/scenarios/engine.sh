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
    tiny_files
    exits 0 inside sh -c 'tar --create --directory=/srv/tiny . | docker import - tiny'
}

# What is in the image "tiny", where every user can read it.
tiny_files() {
    local dir=$root/srv/tiny name
    mkdir --parents "$dir/bin"
    cp "$root/bin/busybox" "$dir/bin/busybox"
    for name in sh mkdir cp chmod; do ln --symbolic --force busybox "$dir/bin/$name"; done
}

# Jobs reach the engine as members of its group, which a drop-in names, or an option of runup for its user. At a shutdown, a job keeps its engine until it is done.
scenario_container_engine() {
    local probe turn first
    server
    machine_with_docker
    credentials
    switch_on
    docker_on
    # The engine takes the path of a job's file for the machine's, so the job's /tmp must be that too.
    probe="docker run --rm --network none tiny /bin/busybox echo from the container
        grep . /proc/1/cgroup && echo cgroups can be read
        own=\$(mktemp --directory /tmp/own.XXXXXX)
        echo of the job >\$own/file
        docker run --rm --network none --volume \$own:/own tiny /bin/busybox sed 's/^/mounted: /' /own/file"
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
    job_says "mounted: of the job"
    exits 0 runup remove
    must no_runner
    rm --recursive "$root/etc/systemd/system/$unit.d"
    inside systemctl daemon-reload
    exits 0 runup install --ephemeral --groups docker
    says "jobs are not isolated"
    must_not grep --quiet PrivateTmp=yes "$root/etc/systemd/system/$unit"
    for turn in 1 2; do
        within 60 online
        first=$(runner_id)
        finished "$(script "$probe")"
        job_says "from the container"
        job_says "cgroups can be read"
        job_says "mounted: of the job"
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

# The machine, with the extra packages, in which a runner's user can start containers of its own. It comes after $1 other users: the
# kernel counts keys by user, over all machines that run at the same time.
machine_with_podman() {
    local other
    nspawn_options+=(--capability=all --system-call-filter=@keyring)
    machine_with_extras
    credentials
    for ((other = 60706; other < 60706 + $1; other++)); do
        echo "user-$other:x:$other:$other::/nonexistent:/usr/sbin/nologin" >>"$root/etc/passwd"
    done
    tiny_files
    # As an operator would: useradd gives none to a user of the system.
    tee "$root/etc/subgid" >"$root/etc/subuid" <<<actions-runner:200000:65536
}

# Fails if Podman does. The last lines would lead it elsewhere: what a job sets for itself is not to protect what it leaves.
leave_in_podman() {
    cat <<'SCRIPT'
podman image exists tiny || tar --create --directory=/srv/tiny . | podman import - tiny
podman network create left-network
podman volume create left-volume
podman run --rm --network none --volume left-volume:/left tiny /bin/sh -c 'echo secret >/left/left-file; busybox chown 1000 /left/left-file'
podman pod create --infra=false left-pod
podman run --detach --name left-in-pod --pod left-pod --network none tiny /bin/busybox sleep 6000
podman run --detach --name left-running --user 1000 --network none --volume left-volume:/left tiny /bin/busybox sleep 6000
podman run --name left-ended --network none tiny /bin/busybox true
echo secret | podman secret create left-secret -
printf 'FROM tiny\nRUN busybox sleep 6000\n' >Containerfile
setsid podman build --network none --file Containerfile /srv/tiny >/dev/null 2>&1 </dev/null &
until podman ps --all --external | grep working-container; do sleep 0.2; done
podman ps --all
ps -eo uid,args | grep 'busybox [s]leep 6000'
ls -ln "$(podman volume inspect --format '{{.Mountpoint}}' left-volume)"
touch ~/left-at-home
mkdir -p ~/.config/containers
printf '[storage]\ndriver = "vfs"\ngraphroot = "%s/left"\nrunroot = "/tmp/left"\n' ~ >~/.config/containers/storage.conf
echo all is left
SCRIPT
}

# What of it is seen from the next job, in directory $1 too, and whether Podman works.
look_in_podman() {
    cat <<SCRIPT
ls -A ~ /tmp
podman ps --all --external
podman pod ps
podman volume ls
podman network ls
podman secret ls
find $1 -name '*left*' || true
ps -eo uid,args | grep 'busybox [s]leep' || true
echo looked
podman image exists tiny || tar --create --directory=/srv/tiny . | podman import - tiny
podman volume create new
podman run --rm --network none --volume new:/new tiny /bin/sh -c 'echo from the container >/new/file; busybox chown 1000 /new/file; busybox cat /new/file'
SCRIPT
}

# Two jobs of an ephemeral runner, whose Podman keeps everything in the directory $1. The first one begins with the line $2.
nothing_is_left_in_podman() {
    local first word
    first=$(runner_id)
    finished "$(script "${2:-}
$(leave_in_podman)")"
    job_says "all is left"
    job_says "left-running"
    # The container's own user.
    job_says "200999 /bin/busybox sleep 6000"
    job_says " 200999 "
    within 60 fresh_runner "$first"
    no_containers_of_jobs
    same "" "$(find "$root$1" -uid +199999)" "what belongs to subordinate ids"
    first=$(runner_id)
    finished "$(script "$(look_in_podman "$1")")"
    job_says looked
    job_says "from the container"
    for word in left working-container podman-run 200999 "sleep 6000"; do job_does_not_say "$word"; done
    within 60 fresh_runner "$first"
}

remove_the_user_of_podman() {
    journal --unit="$unit" >"$here/of-the-runner"
    must grep --quiet "is clean for the next job" "$here/of-the-runner"
    must_not grep "containers or volumes of an earlier one" "$here/of-the-runner"
    exits 0 runup remove
    must no_runner
    no_containers_of_jobs
    must_not inside id actions-runner
    absent /home/actions-runner /opt/actions-runner
    # userdel takes them away.
    same "" "$(cat "$root/etc/subuid" "$root/etc/subgid")" "the subordinate ids"
}
no_containers_of_jobs() {
    same "" "$(inside ps -eo uid=,args= | awk '$1 >= 200000 || /conmon|podman|busybox sleep/')" "what runs of containers"
}

# A rootless engine, whose storage an operator has put where it outlives a home directory.
scenario_podman_of_an_ephemeral_runner() {
    local storage uid
    server
    machine_with_podman 1
    # shellcheck disable=SC2016 # Podman expands it.
    printf '[storage]\ndriver = "vfs"\nrootless_storage_path = "/srv/containers/$USER"\n' >"$root/etc/containers/storage.conf"
    switch_on
    exits 0 runup install --ephemeral
    within 30 online
    storage=/srv/containers/actions-runner
    as_root install --directory --owner=actions-runner --mode=700 $storage
    nothing_is_left_in_podman $storage
    # Images stay for the next job, and nothing else was in the way.
    must grep --quiet localhost/tiny "$root$storage/vfs-images/images.json"
    must_not grep "all that actions-runner has in Podman is deleted" <<<"$(journal --unit="$unit")"
    # Podman keeps where its runtime state was at first, which is gone with the job: the directory of a session.
    uid=$(inside id --user actions-runner)
    as_root install --directory --owner=actions-runner --mode=700 "/run/user/$uid"
    nothing_is_left_in_podman $storage "podman system reset --force || echo forgotten"
    must grep "all that actions-runner has in Podman is deleted" <<<"$(journal --unit="$unit")"
    remove_the_user_of_podman
    # The directory is the operator's.
    same "" "$(ls "$root$storage/volumes")" "the volumes"
}

# The same without that: all is in the home directory, and goes with it.
scenario_podman_in_the_home() {
    server
    machine_with_podman 2
    printf '[storage]\ndriver = "vfs"\n' >"$root/etc/containers/storage.conf"
    switch_on
    exits 0 runup install --ephemeral
    within 30 online
    nothing_is_left_in_podman /home/actions-runner
    remove_the_user_of_podman
}

# The supervisor is killed while it clears Podman; the next start does that again before it registers.
scenario_podman_killed_while_it_clears() {
    local first job
    server
    machine_with_podman 4
    # shellcheck disable=SC2016 # Podman expands it.
    printf '[storage]\ndriver = "vfs"\nrootless_storage_path = "/srv/containers/$USER"\n' >"$root/etc/containers/storage.conf"
    switch_on
    exits 0 runup install --ephemeral
    within 30 online
    as_root install --directory --owner=actions-runner --mode=700 /srv/containers/actions-runner
    first=$(runner_id)
    job=$(script "$(leave_in_podman)")
    # A command of runup's, none of the job's.
    inside timeout 90 sh -c "until pgrep --uid actions-runner --full '^/usr/bin/podman (pod|rm|volume) .*--all --force'; do
            sleep 0.02
        done
        systemctl kill --signal=KILL $unit" || fail "runup has not cleared Podman"
    must job_done "$job"
    # systemd waits for 15 s.
    within 90 fresh_runner "$first"
    no_containers_of_jobs
    finished "$(script "$(look_in_podman /srv/containers/actions-runner)")"
    job_says looked
    job_does_not_say left
    exits 0 runup remove
    must no_runner
    no_containers_of_jobs
}

# The disk with the storage fills up: between two jobs, what is old of it goes.
scenario_podman_on_a_full_disk() {
    local first storage=/srv/containers/actions-runner
    server
    machine_with_podman 3
    # shellcheck disable=SC2016 # Podman expands it.
    printf '[storage]\ndriver = "vfs"\nrootless_storage_path = "/srv/containers/$USER"\n' >"$root/etc/containers/storage.conf"
    switch_on
    as_root install --directory /srv/containers
    as_root mount -t tmpfs -o mode=755,size=200m none /srv/containers
    exits 0 runup install --ephemeral
    within 30 online
    as_root install --directory --owner=actions-runner --mode=700 $storage
    first=$(runner_id)
    finished "$(script 'cd /srv/tiny && tar --create . | podman import - tiny
        cd && head --bytes=30M /dev/zero >large
        printf "FROM tiny\nCOPY large /large\n" >Containerfile
        podman build --network none --timestamp 1000000000 --tag old .
        podman images && echo there are two')"
    job_says localhost/old
    job_says "there are two"
    within 60 fresh_runner "$first"
    first=$(runner_id)
    as_root sh -c 'head --bytes="$(($(df --output=avail --block-size=1 /srv/containers | tail --lines=1) - 10000000))" /dev/zero >/srv/containers/others'
    finished "$(script 'podman image exists old && echo nothing goes during a job')"
    job_says "nothing goes during a job"
    within 60 fresh_runner "$first"
    finished "$(script 'podman images')"
    job_says localhost/tiny
    job_does_not_say localhost/old
    must grep --extended-regexp "images that are older than a day, which has freed [3-9][0-9] MB" <<<"$(journal --unit="$unit")"
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
