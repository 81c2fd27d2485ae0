# The packages: what they install, what an upgrade does not disturb, and what a removal deletes.

# Sets `package` to the output of packaging/release whose name matches $1. Without any packages, the scenario is skipped with a
# note, unless RUNUP_PACKAGES is set.
package() {
    local dir=${RUNUP_PACKAGES:-$project/target/dist} found
    found=("$dir"/$1)
    if [[ ! -e ${found[0]} ]]; then
        [[ -z ${RUNUP_PACKAGES:-} ]] || fail "RUNUP_PACKAGES: $dir contains no $1"
        note "SKIPPED: $dir contains no $1; build it with packaging/release"
        exit 0
    fi
    package=${found[0]}
}

# A machine without runup, whose dpkg does not leave out documentation.
machine_without_runup() {
    machine
    rm "$root/usr/bin/runup" "$root"/etc/dpkg/dpkg.cfg.d/*
    files >"$here/before"
}

# Everything on the machine's disk except logs, caches, and the state of package managers and systemd.
files() {
    local dir left_out=()
    for dir in var/log var/cache var/lib/dpkg var/lib/apt var/lib/rpm var/lib/systemd var/tmp tmp run proc sys dev; do
        left_out+=(-path "./$dir" -prune -o)
    done
    (cd "$root" && find . -xdev "${left_out[@]}" -print | sort)
}

# Files that were added or removed, except those that the first boot of a machine creates.
changed() {
    files | diff "$here/before" - | sed --quiet 's/^[<>] //p' | grep --invert-match --line-regexp --extended-regexp \
        './(etc/\.(pwd\.lock|updated)|var/\.updated|etc/(passwd|group|shadow|gshadow|subuid|subgid)-|root/.*|var/lib/private|var/lib/dbus/machine-id|etc/machine-id|etc/resolv.conf|etc/(ssh|systemd/system/.*\.wants)|usr/share/.*\.cache)' || true
}

dpkg() { as_root env DEBIAN_FRONTEND=noninteractive dpkg "$@"; }

not_enabled() { [[ $(inside systemctl is-enabled runup.service) == disabled ]]; }

# A runner without runup does not start: nothing would keep the cloud's metadata from its jobs.
does_not_start() {
    within 60 started_in_vain
    must_not online
    same 1 "$(runners)" "the number of runners"
}
started_in_vain() { inside journalctl --boot --unit $unit --grep 'Failed to locate executable /usr/bin/runup' >/dev/null; }

# Copies the package into the machine, as NAME.
hand_over() { cp "$1" "$root/root/$2"; }

scenario_package_to_online() {
    package 'runup_*_amd64.deb'
    server
    machine_without_runup
    switch_on
    hand_over "$package" runup.deb
    exits 0 as_root env DEBIAN_FRONTEND=noninteractive apt-get --yes --no-install-recommends install /root/runup.deb
    exits 0 runup --version
    must test -s "$root/usr/share/man/man1/runup-install.1.gz"
    must test -s "$root/usr/share/man/man5/runup.toml.5.gz"
    must test -s "$root/usr/share/bash-completion/completions/runup"
    same 700 "$(stat --format=%a "$root/var/lib/runup")" "the mode of /var/lib/runup"
    same 755 "$(stat --format=%a "$root/etc/runup")" "the mode of /etc/runup"
    exits 0 inside systemd-analyze verify --man=no runup.service
    same "" "$(cat "$here/stdout" "$here/stderr")" "what systemd finds fault with in runup.service"
    # Only installed: no runner, nothing enabled, nothing started.
    must not_enabled
    must inactive runup.service
    must no_runner
    # Enabled, but without a configuration, it does nothing.
    inside systemctl enable --quiet runup.service
    reboot
    must inactive runup.service
    must no_runner
    # The sample sets nothing.
    as_root cp /usr/share/doc/runup/examples/config.toml /etc/runup/config.toml
    exits 64 runup install
    says --url
    credentials
    local from
    from=$(now)
    reboot
    within 60 online
    note "online by runup.service $(since "$from") after the start of a reboot"
    registered_once
    # Interrupted while it still waits, it would undo what it did, as `install` does.
    within 60 inactive runup.service
    # A machine with a runner does not get another.
    reboot
    within 60 online
    within 60 inactive runup.service
    same success "$(property runup.service Result)" "how runup.service ended"
    registered_once
    status_is 0 .state registered

    # Removing the package reports the runner that is left.
    exits 0 dpkg --remove runup
    says "A RUNNER STAYS" "does not start" "runup remove --dir $tree"
    absent /usr/bin/runup /usr/lib/systemd/system/runup.service /etc/systemd/system/multi-user.target.wants/runup.service
    must online
    must active $unit
    exits 0 dpkg --purge runup
    says "still has a runner" "runup remove --dir $tree"
    must test -e "$root/etc/runup/token"
    must test -e "$root/var/lib/runup"
    reboot
    does_not_start
    # The runner works again once the package is installed again.
    exits 0 dpkg --install /root/runup.deb
    inside systemctl start $unit
    within 60 online
    registered_once
    # As the message says.
    exits 0 runup remove --dir $tree
    must no_runner
    exits 0 dpkg --remove runup
    must_not grep --quiet STAYS "$here/stderr"
    must test -e "$root/etc/runup/config.toml"
    exits 0 dpkg --purge runup
    same "" "$(changed)" "what a purge leaves or takes"
}

# The same package with a higher version.
newer() {
    local dir=$here/newer
    dpkg-deb --raw-extract "$package" "$dir"
    sed --in-place 's/^Version: .*/Version: 99.0.0-1/' "$dir/DEBIAN/control"
    dpkg-deb --root-owner-group --build "$dir" "$here/newer.deb" >/dev/null
}

# An upgrade while a job runs affects neither kind of service, nor the server; and a service survives the removal of the package
# until it is stopped.
scenario_package_upgrade() {
    package 'runup_*_amd64.deb'
    server
    machine_without_runup
    newer
    switch_on
    hand_over "$package" runup.deb
    hand_over "$here/newer.deb" newer.deb
    exits 0 dpkg --install /root/runup.deb
    credentials
    inside systemctl enable --quiet runup.service
    local kind pid id job inode
    for kind in "" --remove-on-shutdown; do
        exits 0 runup install $kind
        must online
        pid=$(property $unit MainPID) id=$(runner_id)
        inode=$(stat --format=%i "$root/usr/bin/runup")
        job=$(held_job)
        within 60 busy
        exits 0 dpkg --install /root/newer.deb
        must busy
        same "$pid" "$(property $unit MainPID)" "the service's process after an upgrade"
        same "$id" "$(runner_id)" "the runner after an upgrade"
        must enabled runup.service
        must inactive runup.service
        [[ $inode != "$(stat --format=%i "$root/usr/bin/runup")" ]] || fail "the program was not replaced"
        same 99.0.0-1 "$(inside dpkg-query --show --showformat='${Version}' runup)" "the package's version"
        release
        within 60 job_done "$job"
        hold
        must online
        same 1 "$(runners)" "the number of runners"
        status_is 0 .state registered '.drift | length' 0
        # Downgrade again, for the other kind of service.
        exits 0 dpkg --install /root/runup.deb
        must online
    done
    # The supervisor's program is deleted while it runs: it still deregisters its runner.
    exits 0 dpkg --remove runup
    says "A RUNNER STAYS"
    must online
    inside systemctl stop $unit
    must no_runner
    exits 0 dpkg --install /root/newer.deb
    inside systemctl start $unit
    within 60 online
    exits 0 runup remove
    must no_runner
    exits 0 dpkg --purge runup
    same "" "$(changed)" "what a purge leaves or takes"
}

# Debian's rpm installs the rpm into a Debian that is switched off, because Fedora is not available here. The files, their modes
# and the scriptlets are still those of the package.
scenario_package_by_rpm() {
    package 'runup-*.x86_64.rpm'
    source "$project/.ci/lib"
    need_command rpm rpm
    server
    machine_without_runup
    note "with Debian's rpm on Debian: not tested on Fedora or RHEL"
    local rpm=(rpm --root "$root" --dbpath /var/lib/rpm) listed
    same "/bin/sh" "$(rpm --query --package --requires "$package" 2>/dev/null | grep --invert-match '^rpmlib(' | sort --unique)" \
        "what the package requires"
    # --nodeps, because Debian's shell does not come from an rpm.
    exits 0 "${rpm[@]}" --install --nodeps "$package"
    # Debian's rpm always prints that rpm is not Debian's package manager.
    same "" "$(cat "$here/stdout" "$here/stderr" | grep --invert-match '^rpm: ')" "what rpm says"
    exits 0 "${rpm[@]}" --verify --nodeps runup
    listed=$("${rpm[@]}" --query --queryformat '[%{FILEMODES:perms} %{FILEUSERNAME} %{FILENAMES}\n]' runup)
    for line in "-rwxr-xr-x root /usr/bin/runup" "-rwxr-xr-x root /usr/libexec/runup/before-removal" \
        "-rw-r--r-- root /usr/lib/systemd/system/runup.service" "-rw-r--r-- root /usr/lib/tmpfiles.d/runup.conf" \
        "-rw-r--r-- root /usr/share/man/man1/runup.1.gz" "-rw-r--r-- root /usr/share/zsh/site-functions/_runup" \
        "-rw-r--r-- root /usr/share/man/man5/runup.toml.5.gz" \
        "-rw-r--r-- root /usr/share/licenses/runup/LICENSE-MIT"; do
        grep --quiet --line-regexp --fixed-strings -- "$line" <<<"$listed" || fail "the rpm does not contain \"$line\": $listed"
    done
    same 700 "$(stat --format=%a "$root/var/lib/runup")" "the mode of /var/lib/runup"
    same 755 "$(stat --format=%a "$root/etc/runup")" "the mode of /etc/runup"
    credentials
    switch_on
    must not_enabled
    inside systemctl enable --now --quiet runup.service
    within 60 online
    within 60 inactive runup.service
    registered_once
    switch_off
    exits 0 "${rpm[@]}" --erase --nodeps runup
    says "A RUNNER STAYS" "runup remove --dir $tree"
    absent /usr/bin/runup /etc/systemd/system/multi-user.target.wants/runup.service
    must test -e "$root/etc/runup/token"
    switch_on
    does_not_start
    switch_off
    exits 0 "${rpm[@]}" --install --nodeps "$package"
    switch_on
    within 60 online
    registered_once
    exits 0 runup remove
    must no_runner
    switch_off
    exits 0 "${rpm[@]}" --erase --nodeps runup
    must_not grep --quiet STAYS "$here/stderr"
    # rpm has no purge: the administrator deletes the administrator's files.
    must test -e "$root/etc/runup/token"
    rm --recursive "$root/etc/runup"
    # On a distribution with rpm, other packages own these directories.
    same "" "$(changed | grep --invert-match --line-regexp --extended-regexp \
        './usr/share/(fish(/vendor_completions.d)?|licenses|man/man[15]|zsh/site-functions)')" "what an erasure leaves or takes"
}
