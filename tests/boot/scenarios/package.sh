# The packages: what they bring to a machine, what an upgrade leaves alone, and what goes with them.

# Sets `package` to the one that packaging/release made whose name matches $1. Where nobody made any, the scenario has
# nothing to show, and says so; where somebody says where they are, they must be there.
package() {
    local folder=${RUNUP_PACKAGES:-$project/target/dist} found
    found=("$folder"/$1)
    if [[ ! -e ${found[0]} ]]; then
        [[ -z ${RUNUP_PACKAGES:-} ]] || fail "RUNUP_PACKAGES: there is no $1 in $folder"
        note "SKIPPED: there is no $1 in $folder; packaging/release makes it"
        exit 0
    fi
    package=${found[0]}
}

# A machine without our program, and with the documentation that its dpkg would leave out for the sake of size.
machine_without_runup() {
    machine
    rm "$root/usr/bin/runup" "$root"/etc/dpkg/dpkg.cfg.d/*
    files >"$here/before"
}

# Everything on the machine's disk but logs, caches, and what package managers and systemd note for themselves.
files() {
    local folder left_out=()
    for folder in var/log var/cache var/lib/dpkg var/lib/apt var/lib/rpm var/lib/systemd var/tmp tmp run proc sys dev; do
        left_out+=(-path "./$folder" -prune -o)
    done
    (cd "$root" && find . -xdev "${left_out[@]}" -print | sort)
}

# What is there now and was not before, or the other way round; but what booting a fresh machine makes.
changed() {
    files | diff "$here/before" - | sed --quiet 's/^[<>] //p' | grep --invert-match --line-regexp --extended-regexp \
        './(etc/\.(pwd\.lock|updated)|var/\.updated|etc/(passwd|group|shadow|gshadow|subuid|subgid)-|root/.*|var/lib/private|var/lib/dbus/machine-id|etc/machine-id|etc/resolv.conf|etc/(ssh|systemd/system/.*\.wants)|usr/share/.*\.cache)' || true
}

dpkg() { as_root env DEBIAN_FRONTEND=noninteractive dpkg "$@"; }

not_enabled() { [[ $(inside systemctl is-enabled runup.service) == disabled ]]; }

# A runner without our program: no job runs where nothing keeps the cloud's metadata from it.
does_not_start() {
    within 60 started_in_vain
    must_not online
    same 1 "$(runners)" "the number of runners"
}
started_in_vain() { inside journalctl --boot --unit $unit --grep 'Failed to locate executable /usr/bin/runup' >/dev/null; }

# Hands the package to the machine, as NAME.
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
    # Installed, and nothing more: no runner, nothing enabled, nothing started.
    must not_enabled
    must inactive runup.service
    must no_runner
    # Enabled and without a configuration it does nothing.
    inside systemctl enable --quiet runup.service
    reboot
    must inactive runup.service
    must no_runner
    # The sample says nothing.
    as_root cp /usr/share/doc/runup/examples/config.toml /etc/runup/config.toml
    exits 64 runup install
    says --url
    credentials
    local from
    from=$(now)
    reboot
    within 60 online
    note "online by runup.service $(since "$from") after a reboot was asked for"
    registered_once
    # Cut off while it still waits, it would take back what it did, as `install` does.
    within 30 inactive runup.service
    # A machine that has a runner is not made another.
    reboot
    within 60 online
    within 30 inactive runup.service
    same success "$(property runup.service Result)" "how runup.service ended"
    registered_once
    status_is 0 .state registered

    # The package goes, and the runner does not go unsaid.
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
    # It is what it was as soon as the package is back.
    exits 0 dpkg --install /root/runup.deb
    inside systemctl start $unit
    within 60 online
    registered_once
    # The way that it named.
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
    local folder=$here/newer
    dpkg-deb --raw-extract "$package" "$folder"
    sed --in-place 's/^Version: .*/Version: 99.0.0-1/' "$folder/DEBIAN/control"
    dpkg-deb --root-owner-group --build "$folder" "$here/newer.deb" >/dev/null
}

# An upgrade while a job runs: neither kind of service notices, nor does the server; and one that was removed from under the
# service comes back.
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
        job=$(job 6)
        within 10 busy
        exits 0 dpkg --install /root/newer.deb
        must busy
        same "$pid" "$(property $unit MainPID)" "the service's process after an upgrade"
        same "$id" "$(runner_id)" "the runner after an upgrade"
        must enabled runup.service
        must inactive runup.service
        [[ $inode != "$(stat --format=%i "$root/usr/bin/runup")" ]] || fail "the program was not replaced"
        same 99.0.0-1 "$(inside dpkg-query --show --showformat='${Version}' runup)" "the package's version"
        within 20 job_done "$job"
        must online
        same 1 "$(runners)" "the number of runners"
        status_is 0 .state registered '.drift | length' 0
        # Back again, for the next kind.
        exits 0 dpkg --install /root/runup.deb
        must online
    done
    # The supervisor's program is gone while it runs: it still takes its runner off the server, as it must.
    exits 0 dpkg --remove runup
    says "A RUNNER STAYS"
    must online
    inside systemctl stop $unit
    must no_runner
    exits 0 dpkg --install /root/newer.deb
    inside systemctl start $unit
    within 30 online
    exits 0 runup remove
    must no_runner
    exits 0 dpkg --purge runup
    same "" "$(changed)" "what a purge leaves or takes"
}

# Debian's rpm puts the rpm into a Debian that is switched off: there is no Fedora to be had. The files, their modes and the
# scriptlets are the package's own all the same.
scenario_package_by_rpm() {
    package 'runup-*.x86_64.rpm'
    source "$project/.ci/lib"
    need_command rpm rpm
    server
    machine_without_runup
    note "by Debian's rpm into a Debian: not tried on Fedora or RHEL"
    local rpm=(rpm --root "$root" --dbpath /var/lib/rpm) listed
    same "/bin/sh" "$(rpm --query --package --requires "$package" 2>/dev/null | grep --invert-match '^rpmlib(' | sort --unique)" \
        "what the package requires"
    # --nodeps, as Debian's shell is no rpm.
    exits 0 "${rpm[@]}" --install --nodeps "$package"
    # Debian's rpm always says that it is not Debian's way.
    same "" "$(cat "$here/stdout" "$here/stderr" | grep --invert-match '^rpm: ')" "what rpm says"
    exits 0 "${rpm[@]}" --verify --nodeps runup
    listed=$("${rpm[@]}" --query --queryformat '[%{FILEMODES:perms} %{FILEUSERNAME} %{FILENAMES}\n]' runup)
    for line in "-rwxr-xr-x root /usr/bin/runup" "-rwxr-xr-x root /usr/libexec/runup/before-removal" \
        "-rw-r--r-- root /usr/lib/systemd/system/runup.service" "-rw-r--r-- root /usr/lib/tmpfiles.d/runup.conf" \
        "-rw-r--r-- root /usr/share/man/man1/runup.1.gz" "-rw-r--r-- root /usr/share/zsh/site-functions/_runup" \
        "-rw-r--r-- root /usr/share/man/man5/runup.toml.5.gz" \
        "-rw-r--r-- root /usr/share/licenses/runup/LICENSE-MIT"; do
        grep --quiet --line-regexp --fixed-strings -- "$line" <<<"$listed" || fail "the rpm has no \"$line\": $listed"
    done
    same 700 "$(stat --format=%a "$root/var/lib/runup")" "the mode of /var/lib/runup"
    same 755 "$(stat --format=%a "$root/etc/runup")" "the mode of /etc/runup"
    credentials
    switch_on
    must not_enabled
    inside systemctl enable --now --quiet runup.service
    within 60 online
    within 30 inactive runup.service
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
    # There is no purge: what an administrator wrote is for an administrator to delete.
    must test -e "$root/etc/runup/token"
    rm --recursive "$root/etc/runup"
    # What is left belongs to other packages where there are rpms.
    same "" "$(changed | grep --invert-match --line-regexp --extended-regexp \
        './usr/share/(fish(/vendor_completions.d)?|licenses|man/man[15]|zsh/site-functions)')" "what an erasure leaves or takes"
}
