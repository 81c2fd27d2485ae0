# One machine: a copy of the root file system, and systemd as its process 1.

# Creates the machine, with its files below `root`. Nothing is copied: changes go to a layer above the base.
machine() { machine_in "$here" "boot-$$"; }

# machine_in DIR NAME [IMAGE]: another machine of the same scenario, as a copy of an IMAGE; all other functions are about
# it from now on. The previous one keeps running.
machine_in() {
    [[ -z ${nspawn:-} ]] || helpers+=" $nspawn"
    nspawn="" leader="" machine=$2 root=$1/root
    : >>"$here/console.log"
    copy_in "$1" "${3:-}"
    echo "$machine" >"$root/etc/hostname"
    install --mode=755 "$bin" "$root/usr/bin/runup"
    cgroup_of_its_own
}

# copy_in DIR [IMAGE]: a copy of the root file system, or of an IMAGE that is a layer above it, in DIR/root.
copy_in() {
    local dir=$1 layers=lower
    mkdir --parents "$dir/root" "$dir/upper" "$dir/work"
    # Relative paths, because these options cannot contain a comma or a colon.
    ln --symbolic "$base" "$dir/lower"
    if [[ -n ${2:-} ]]; then
        ln --symbolic "$2" "$dir/image"
        layers=image:lower
    fi
    (cd "$dir" && mount -t overlay overlay --options lowerdir=$layers,upperdir=upper,workdir=work root) 2>/dev/null ||
        cp --archive --reflink=auto "${2:-$base}/." "$dir/root"
}

# Turns the disk of the machine, which is off, into the image NAME; sets `image`.
image() {
    [[ -z $nspawn ]] || fail "the machine is on: it cannot become an image"
    image=$here/images/$1
    mkdir --parents "$here/images"
    if umount "$root" 2>/dev/null; then mv "${root%/root}/upper" "$image"; else mv "$root" "$image"; fi
    forget_machine
}

# Deletes the machine, which is off, to make way for the next one in the same directory.
forget_machine() {
    umount "$root" 2>/dev/null || true
    rm --recursive --force --one-file-system "${root%/root}"/{root,upper,work,lower,image}
    root=""
}

# Configures `runup` in the machine: the server and its token.
credentials() {
    install --directory --mode=755 "$root/etc/runup"
    (umask 077 && printf '%s\n' "$api_token" >"$root/etc/runup/token")
    printf 'url = "%s"\ntoken-file = "/etc/runup/token"\n' "$org_url" >"$root/etc/runup/config.toml"
    # For scenarios in which the runner updates itself.
    [[ -z ${self_update:-} ]] || echo 'self-update = true' >>"$root/etc/runup/config.toml"
}

# hook NAME: a script of root that the runner can run for each job.
hook() {
    install --directory "$root/usr/local/bin"
    printf '#!/bin/sh\necho "the hook %s has run"\n' "$1" >"$root/usr/local/bin/$1.sh"
    chmod 755 "$root/usr/local/bin/$1.sh"
}

# Two machines in one control group would kill each other's processes. Without systemd outside, nothing else keeps them
# apart. With `controllers`, it gets one for each controller too, so that it can create others below.
cgroup_of_its_own() {
    local hierarchy dir file
    cgroups=()
    while IFS=: read -r _ hierarchy dir; do
        case $hierarchy in
        name=systemd) dir=/sys/fs/cgroup/systemd$dir ;;
        "") if [[ -d /sys/fs/cgroup/unified ]]; then dir=/sys/fs/cgroup/unified$dir; else dir=/sys/fs/cgroup$dir; fi ;;
        *) if [[ -n ${controllers:-} ]]; then dir=/sys/fs/cgroup/$hierarchy$dir; else continue; fi ;;
        esac
        cgroups+=("${dir%/}/runup-$machine")
    done </proc/self/cgroup
    printf '%s\n' "${cgroups[@]}" >>"$here/cgroups"
    mkdir --parents "${cgroups[@]}"
    # A new group of this controller has no processor and no memory.
    for dir in "${cgroups[@]}"; do
        for file in cpuset.cpus cpuset.mems; do
            [[ ! -e $dir/$file || -e $dir/cgroup.controllers ]] || cat "${dir%/*}/$file" >"$dir/$file"
        done
    done
}

# Switches it on, and returns when systemd has started everything.
switch_on() {
    local from
    from=$(now)
    switch_on_at_once
    within 180 is_up
    boot_seconds=$(since "$from")
    echo "up in $boot_seconds"
}

# The same, but returns as soon as process 1 exists.
switch_on_at_once() {
    (
        for dir in "${cgroups[@]}"; do echo "$BASHPID" >"$dir/cgroup.procs"; done
        # If the scenario is killed, so is the machine.
        exec setpriv --pdeathsig KILL systemd-nspawn --quiet --directory="$root" --boot --register=no --keep-unit \
            --capability=CAP_NET_ADMIN "${nspawn_options[@]}" --machine="$machine" --hostname="$machine" --link-journal=no --resolv-conf=off --timezone=off
    ) </dev/null >>"$here/console.log" 2>&1 &
    nspawn=$!
    leader=""
    within 60 find_leader
}

find_leader() {
    local child
    for child in $(pgrep --parent "$nspawn"); do
        [[ $(awk '/^NSpid:/ { print $NF }' "/proc/$child/status") == 1 ]] || continue
        leader=$child
        return
    done
    return 1
}

is_up() {
    [[ $(inside systemctl is-system-running) =~ ^(running|degraded)$ ]]
}

# inside COMMAND…: runs it in the machine directly, to look at something. Past the time limit, what it started there goes on.
inside() {
    timeout --kill-after=5 "${inside_deadline:-180}" nsenter --target "$leader" --mount --uts --ipc --pid -- \
        env --ignore-environment PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "$@"
}

# as_root COMMAND…: runs it in the machine as a systemd unit: as root, without a terminal, with a minimal environment, as
# cloud-init or a provisioner would.
as_root() {
    inside systemd-run --quiet --wait --pipe --collect -- "$@"
}

runup() { as_root /usr/bin/runup "$@"; }

# in_background NAME COMMAND…: the same without waiting, as NAME.service.
in_background() {
    local name=$1
    shift
    inside systemd-run --quiet --collect --unit="$name" -- "$@"
}

active() { [[ $(inside systemctl is-active "$1") == active ]]; }
inactive() { [[ $(inside systemctl is-active "$1") =~ ^(inactive|unknown)$ ]]; }
stopping() { [[ $(inside systemctl is-active "$1") == deactivating ]]; }
failed() { [[ $(inside systemctl is-failed "$1") == failed ]]; }
enabled() { [[ $(inside systemctl is-enabled "$1") == enabled ]]; }
# A unit's property.
property() { inside systemctl show --property="$2" --value "$1"; }

# The processes whose command lines contain $1, by their numbers in the machine; without this one.
processes() { inside pgrep --full -- "$1"; }

# Tells systemd to power off or reboot, and returns when the machine is off, within the time limit in seconds.
switch_off() { leave poweroff "${1:-60}"; }
reboot() {
    leave reboot "${1:-60}"
    switch_on
}

leave() {
    local from code=0
    from=$(now)
    inside systemctl --no-block "$1"
    within "$2" is_off
    wait "$nspawn" || code=$?
    # systemd-nspawn exits with 133 if the machine wants to be restarted.
    [[ $1 == poweroff && $code == 0 ]] || [[ $1 == reboot && $code == 133 ]] || fail "systemd-nspawn exited with $code"
    off_seconds=$(since "$from")
    leader="" nspawn=""
    echo "off in $off_seconds"
}

is_off() { [[ ! -e /proc/$nspawn || $(awk '/^State:/ { print $2 }' "/proc/$nspawn/status") == Z ]]; }

# The power fails: every process ends, between any two instructions.
power_cut() {
    kill -KILL "$leader"
    within 60 is_off
    wait "$nspawn" || true
    leader="" nspawn=""
}

# The machine's own log, of all boots.
journal() {
    journalctl --quiet --directory="$root/var/log/journal" --output=short-precise --no-hostname "$@"
}

# Leaves no process on the host; called in any case.
tear_down() {
    local pid
    set +e
    trap - ERR
    for pid in ${nspawn:-} ${server_pid:-} ${helpers:-}; do
        kill -KILL "$pid" && wait "$pid"
    done 2>/dev/null
    return 0
}
