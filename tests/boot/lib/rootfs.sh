# The root file system that every machine starts from: Debian with systemd and cloud-init, built once and kept. Its name in
# the cache contains a hash of this file, so a change here rebuilds it.

readonly rootfs_suite=bookworm
readonly rootfs_packages=at,bash,ca-certificates,cloud-init,cron,dbus,iproute2,libicu72,passwd,procps,systemd,systemd-sysv,udev

# Sets `base` to the root file system, and builds it if it does not exist.
rootfs() {
    local key
    key=$(sha256sum "${BASH_SOURCE[0]}" | cut --characters=1-12)
    base=$cache/$rootfs_suite-$key
    [[ ! -d $base ]] || return 0
    local from=$SECONDS building=$cache/building
    echo "building the root file system: $base"
    rm --recursive --force --one-file-system "$building" "$cache/$rootfs_suite"-*
    # No ifupdown, which would wait for a network that is shared and up. Documentation is left out for speed.
    if ! timeout 900 mmdebstrap --quiet --variant=minbase --include="$rootfs_packages" \
        --dpkgopt=path-exclude=/usr/share/doc/* --dpkgopt=path-exclude=/usr/share/man/* \
        --dpkgopt=path-exclude=/usr/share/locale/* "$rootfs_suite" "$building" >"$cache/building.log" 2>&1; then
        tail --lines=20 "$cache/building.log" >&2
        echo "tests/boot: mmdebstrap failed; it needs root and Debian's package server" >&2
        return 1
    fi
    settle "$building"
    mv "$building" "$base"
    echo "built in $((SECONDS - from)) s"
}

# Removes what a test machine does not need: a login prompt, package timers that would use the network, cloud-init (a scenario
# that needs it deletes the file), a volatile journal, and an identity.
settle() {
    local root=$1 unit
    for unit in console-getty.service getty@.service apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer; do
        ln --symbolic --force /dev/null "$root/etc/systemd/system/$unit"
    done
    : >"$root/etc/cloud/cloud-init.disabled"
    mkdir --parents "$root/var/log/journal"
    : >"$root/etc/machine-id"
}
