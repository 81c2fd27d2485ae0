# One machine: a copy of the root file system, and systemd as its process 1.

# Makes the machine; its files are under `root`. Nothing is copied: what changes goes to a layer above the base.
machine() { machine_in "$here" "boot-$$"; }

# machine_in FOLDER NAME [IMAGE]: another one of the same scenario, as a copy of an IMAGE; from now on the one that all
# the rest is about. The one before it runs on.
machine_in() {
    local folder=$1 layers=lower
    [[ -z ${nspawn:-} ]] || helpers+=" $nspawn"
    nspawn="" leader="" machine=$2 root=$folder/root
    : >>"$here/console.log"
    mkdir --parents "$root" "$folder/upper" "$folder/work"
    # Relative, as these options take no comma and no colon.
    ln --symbolic "$base" "$folder/lower"
    if [[ -n ${3:-} ]]; then
        ln --symbolic "$3" "$folder/image"
        layers=image:lower
    fi
    (cd "$folder" && mount -t overlay overlay --options lowerdir=$layers,upperdir=upper,workdir=work root) 2>/dev/null ||
        cp --archive --reflink=auto "${3:-$base}/." "$root"
    echo "$machine" >"$root/etc/hostname"
    install --mode=755 "$bin" "$root/usr/bin/runup"
    cgroup_of_its_own
}

# The disk of the machine, which is off, becomes the image NAME for others; sets `image`.
image() {
    [[ -z $nspawn ]] || fail "an image of a machine that is on"
    image=$here/images/$1
    mkdir --parents "$here/images"
    if umount "$root" 2>/dev/null; then mv "${root%/root}/upper" "$image"; else mv "$root" "$image"; fi
    forget_machine
}

# Deletes the machine, which is off: for the next one in the same folder.
forget_machine() {
    umount "$root" 2>/dev/null || true
    rm --recursive --force --one-file-system "${root%/root}"/{root,upper,work,lower,image}
    root=""
}

# What `runup` in the machine needs to know: the server and its token.
credentials() {
    install --directory --mode=755 "$root/etc/runup"
    (umask 077 && printf '%s\n' "$api_token" >"$root/etc/runup/token")
    printf 'url = "%s"\ntoken-file = "/etc/runup/token"\n' "$org_url" >"$root/etc/runup/config.toml"
    # For a scenario whose runner updates itself.
    [[ -z ${self_update:-} ]] || echo 'self-update = true' >>"$root/etc/runup/config.toml"
}

# Two machines in one control group would kill each other's processes. Where there is no systemd outside, nobody else
# keeps them apart.
cgroup_of_its_own() {
    local hierarchy folder
    cgroups=()
    while IFS=: read -r _ hierarchy folder; do
        case $hierarchy in
        name=systemd) folder=/sys/fs/cgroup/systemd$folder ;;
        "") if [[ -d /sys/fs/cgroup/unified ]]; then folder=/sys/fs/cgroup/unified$folder; else folder=/sys/fs/cgroup$folder; fi ;;
        *) continue ;;
        esac
        cgroups+=("${folder%/}/runup-$machine")
    done </proc/self/cgroup
    printf '%s\n' "${cgroups[@]}" >>"$here/cgroups"
    mkdir --parents "${cgroups[@]}"
}

# Switches it on, and returns when systemd says that all is started.
switch_on() {
    local from
    from=$(now)
    switch_on_at_once
    within "${boot_deadline:-60}" is_up
    boot_seconds=$(since "$from")
    echo "up in $boot_seconds"
}

# The same, but returns when there is a process 1.
switch_on_at_once() {
    (
        for folder in "${cgroups[@]}"; do echo "$BASHPID" >"$folder/cgroup.procs"; done
        # Should the scenario be killed, so is the machine.
        exec setpriv --pdeathsig KILL systemd-nspawn --quiet --directory="$root" --boot --register=no --keep-unit \
            --capability=CAP_NET_ADMIN --machine="$machine" --hostname="$machine" --link-journal=no --resolv-conf=off --timezone=off
    ) </dev/null >>"$here/console.log" 2>&1 &
    nspawn=$!
    leader=""
    within 30 find_leader
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

# inside COMMAND…: in the machine, at once; for a look.
inside() {
    timeout --kill-after=5 "${inside_deadline:-60}" nsenter --target "$leader" --mount --uts --ipc --pid -- \
        env --ignore-environment PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "$@"
}

# as_root COMMAND…: in the machine, as a unit that systemd starts: root, no terminal, hardly any environment, as
# cloud-init or a provisioner would be.
as_root() {
    inside systemd-run --quiet --wait --pipe --collect -- "$@"
}

runup() { as_root /usr/bin/runup "$@"; }

# in_background NAME COMMAND…: the same without waiting; `systemctl` knows it as NAME.service.
in_background() {
    local name=$1
    shift
    inside systemd-run --quiet --collect --unit="$name" -- "$@"
}

active() { [[ $(inside systemctl is-active "$1") == active ]]; }
inactive() { [[ $(inside systemctl is-active "$1") =~ ^(inactive|unknown)$ ]]; }
failed() { [[ $(inside systemctl is-failed "$1") == failed ]]; }
enabled() { [[ $(inside systemctl is-enabled "$1") == enabled ]]; }
# A unit's property.
property() { inside systemctl show --property="$2" --value "$1"; }

# The process in the machine whose command line has this in it, as numbered in the machine; not ourselves.
processes() { inside pgrep --full -- "$1"; }

# Tells systemd to power off or reboot, and returns when the machine is off. How many seconds that may take: $1.
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
    # 133 is how systemd-nspawn says that the machine asks for a restart.
    [[ $1 == poweroff && $code == 0 ]] || [[ $1 == reboot && $code == 133 ]] || fail "the machine ended with $code"
    off_seconds=$(since "$from")
    leader="" nspawn=""
    echo "off in $off_seconds"
}

is_off() { [[ ! -e /proc/$nspawn || $(awk '/^State:/ { print $2 }' "/proc/$nspawn/status") == Z ]]; }

# The power fails: every process is gone, between any two instructions.
power_cut() {
    kill -KILL "$leader"
    within 10 is_off
    wait "$nspawn" || true
    leader="" nspawn=""
}

# The machine's own log, of all its boots.
journal() {
    journalctl --quiet --directory="$root/var/log/journal" --output=short-precise --no-hostname "$@"
}

# Leaves no process on the host; called whatever happened.
tear_down() {
    local pid
    set +e
    trap - ERR
    for pid in ${nspawn:-} ${server_pid:-} ${helpers:-}; do
        kill -KILL "$pid" && wait "$pid"
    done 2>/dev/null
    return 0
}
