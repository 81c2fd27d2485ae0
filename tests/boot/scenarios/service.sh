# The service: what `install` as root leaves on a machine that systemd runs.

unit=runup-actions-runner.service
tree=/opt/actions-runner

# A machine with a runner that is online.
with_service() {
    server
    machine
    credentials
    switch_on
    local from
    from=$(now)
    exits 0 runup install "$@"
    must online
    echo "installed and online in $(since "$from")"
}

# Nothing was registered but once.
registered_once() {
    same 1 "$(runners)" "the number of runners"
    same 1 "$(requests register)" "the number of registrations"
}

# The listener's process, as numbered in the machine.
listener() { inside pgrep --oldest --full "^/bin/bash $tree/bin/Runner.Listener run"; }
another_listener_than() {
    local found
    found=$(listener) && [[ $found != "$1" ]]
}
sessions() { (($(requests session) >= $1)); }

# Kinds of not-fine have codes of their own; fine is 0.
status_is() {
    exits "$1" runup status --json
    shift
    while (($#)); do
        same "$2" "$(jq --raw-output "$1" "$here/stdout")" "$1 of status"
        shift 2
    done
}

scenario_install_to_online() {
    local from
    server
    machine
    credentials
    switch_on
    from=$(now)
    exits 0 runup install --json
    note "online after $(since "$from")"
    must online
    registered_once
    must active $unit
    must enabled $unit
    same "$unit" "$(<"$root$tree/.service")" "the unit's name in .service"
    # Everything that the service runs, runs as the runner's user.
    local user
    for user in $(inside ps -o user= --pid "$(inside systemctl show --property=MainPID --value $unit)" --ppid "$(property $unit MainPID)"); do
        same "actions-runner" "$(inside id --user --name "$user")" "the user of the service's processes"
    done
    exits 0 inside systemd-analyze verify "/etc/systemd/system/$unit"
    same "" "$(cat "$here/stdout" "$here/stderr")" "what systemd finds fault with in the unit"
    status_is 0 .name "$(state '.runners[0].name')" .id "$(runner_id)"

    # Again: nothing to do, and nothing done.
    local pid
    pid=$(property $unit MainPID)
    exits 0 runup install --json
    same "$pid" "$(property $unit MainPID)" "the service's process after a second install"
    registered_once
    # A drop-in belongs to the operator, and is kept.
    install -D --mode=644 /dev/stdin "$root/etc/systemd/system/$unit.d/nice.conf" <<<$'[Service]\nNice=5'
    exits 0 runup install
    same "$pid" "$(property $unit MainPID)" "the service's process after an install with a drop-in"
    must test -e "$root/etc/systemd/system/$unit.d/nice.conf"
}

scenario_reboot_to_online() {
    with_service
    local from
    reboot
    from=$(now)
    within 30 sessions 2
    must online
    note "off in $off_seconds, up in $boot_seconds, session after $(since "$from") more"
    registered_once
    # And after one that nobody announced. The server believes in the old session for twenty seconds.
    power_cut
    switch_on
    within 60 sessions 3
    must online
    registered_once
    status_is 0 .state registered
}

scenario_runner_killed() {
    with_service
    local pid from
    pid=$(listener)
    from=$(now)
    inside kill -KILL "$pid"
    within 30 another_listener_than "$pid"
    within 60 sessions 2
    note "listener: $(since "$from")"
    # The whole service: systemd's own turn.
    from=$(now)
    inside systemctl kill --signal=KILL $unit
    within 60 sessions 3
    must active $unit
    must online
    note "service: $(since "$from")"
    (($(property $unit NRestarts) >= 1)) || fail "systemd did not restart it"
    registered_once
    status_is 0
}

# What GitHub's update script does: new folders beside the old ones, and links in their place.
self_update() {
    local old=$1 new=$2 part
    for part in bin externals; do
        if [[ -L $root$tree/$part ]]; then
            inside setpriv --reuid=actions-runner --regid=actions-runner --clear-groups sh -c \
                "cp -a $tree/$part.$old $tree/$part.$new && rm $tree/$part && ln -s $tree/$part.$new $tree/$part"
        else
            inside setpriv --reuid=actions-runner --regid=actions-runner --clear-groups sh -c \
                "cp -a $tree/$part $tree/$part.$new && mv $tree/$part $tree/$part.$old && ln -s $tree/$part.$new $tree/$part"
        fi
    done
    sed --in-place "s/^version=.*/version=$new/" "$root$tree/bin.$new/Runner.Listener"
    sed --in-place "s/$old/$new/g" "$root$tree/bin.$new/Runner.Listener.deps.json"
}

scenario_self_update() {
    with_service
    self_update 2.336.0 2.337.0
    local pid
    pid=$(listener)
    inside kill -KILL "$pid"
    within 60 sessions 2
    must test -L "$root$tree/bin"
    status_is 0 .state registered .version 2.337.0
    exits 0 runup install
    registered_once
    must test -L "$root$tree/bin"
    reboot
    within 30 sessions 3
    self_update 2.337.0 2.338.0
    inside systemctl restart $unit
    within 30 sessions 4
    status_is 0 .version 2.338.0
    registered_once
    exits 0 runup remove
    must no_runner
    absent $tree
}

scenario_stop_drains() {
    with_service
    local job from
    job=$(job 6)
    within 10 busy
    from=$(now)
    inside systemctl stop $unit
    note "a job of 6 s, stopped after $(since "$from")"
    must job_done "$job"
    within 5 offline
    same 1 "$(runners)" "the number of runners"
    inside systemctl start $unit
    within 30 online
    registered_once
}

# The machine as it was: its files, users and units.
portrait() {
    find "$root" -xdev \( -path "$root/var/log" -o -path "$root/run" -o -path "$root/tmp" -o -path "$root/var/tmp" \
        -o -path "$root/var/lib/systemd" -o -path "$root/var/cache" \) -prune -o -printf '%y %m %U:%G %P %l\n' | sort
    sort "$root/etc/passwd" "$root/etc/group" "$root/etc/shadow" "$root/etc/gshadow"
}

scenario_remove_leaves_nothing() {
    server
    machine
    credentials
    switch_on
    # The tools that add users leave their lock files and copies: only the first time.
    as_root useradd --system probe
    as_root userdel probe
    portrait >"$here/before"
    exits 0 runup install
    must online
    local from
    from=$(now)
    exits 0 runup remove
    note "$(since "$from")"
    must no_runner
    portrait >"$here/after"
    diff "$here/before" "$here/after" || fail "remove left something, or took something of others along"
    same not-found "$(property $unit LoadState)" "what systemd knows of the unit"
    must_not processes "$tree/"
    # And once more: nothing to do.
    exits 0 runup remove
    # The next one is as good as the first.
    exits 0 runup install
    must online
    same 1 "$(runners)" "the number of runners"
    exits 0 runup remove
    must no_runner
}

scenario_remove_while_a_job_runs() {
    with_service
    local job from
    job=$(job 600)
    within 10 busy
    from=$(now)
    exits 0 runup remove
    note "cancelled and removed in $(since "$from")"
    must no_runner
    must_not job_done "$job"
    absent $tree "/etc/systemd/system/$unit"

    exits 0 runup install
    job=$(job 4)
    within 10 busy
    exits 0 runup remove --drain 30s
    must job_done "$job"
    must no_runner
    absent $tree "/etc/systemd/system/$unit"
}

scenario_unit_not_ours() {
    server
    machine
    credentials
    switch_on
    printf '[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n' \
        >"$root/etc/systemd/system/$unit"
    cp "$root/etc/systemd/system/$unit" "$here/theirs"
    inside systemctl daemon-reload
    inside systemctl enable --now --quiet $unit
    exits 78 runup install
    says "$unit" "did not write it" "--service none"
    must no_runner
    cmp "$here/theirs" "$root/etc/systemd/system/$unit"
    must active $unit
    absent $tree /home/actions-runner
    # The way out that the message names.
    exits 0 runup install --dir /opt/second
    must online
    exits 0 runup remove --dir /opt/second
    cmp "$here/theirs" "$root/etc/systemd/system/$unit"
    must active $unit
    # Theirs gone, it converges.
    inside systemctl disable --now --quiet $unit
    rm "$root/etc/systemd/system/$unit"
    exits 0 runup install
    must online
}

scenario_unit_masked() {
    server
    machine
    credentials
    switch_on
    inside systemctl mask --quiet $unit
    exits 78 runup install
    says "masked" "systemctl unmask $unit"
    must no_runner
    exits 0 inside systemctl unmask $unit
    exits 0 runup install
    must online
    # Masked later, by somebody who wants it off.
    inside systemctl stop $unit
    inside mv "/etc/systemd/system/$unit" /root/
    inside systemctl mask --quiet $unit
    exits 78 runup install
    says "masked"
    exits 0 runup remove
    must no_runner
    absent $tree
}

# A listener that ends at once: systemd gives up after some starts, and whoever asks is told.
scenario_runner_exits_at_once() {
    with_service
    impatient
    inside systemctl stop $unit
    inside sh -c "mv $tree/bin/Runner.Listener $tree/bin/Runner.Listener.good && printf '#!/bin/bash\necho it is broken\nexit 1\n' >$tree/bin/Runner.Listener && chmod 755 $tree/bin/Runner.Listener"
    inside systemctl start --no-block $unit
    within 60 failed $unit
    same start-limit-hit "$(property $unit Result)" "why systemd gave up"
    exits 79 runup install
    says "$unit" "journalctl" "it is broken"
    registered_once
    inside sh -c "mv $tree/bin/Runner.Listener.good $tree/bin/Runner.Listener"
    exits 0 runup install
    must online
    must active $unit
    registered_once
}

# Restarts at once, so that the limit is reached while a test waits.
impatient() {
    install -D --mode=644 /dev/stdin "$root/etc/systemd/system/$unit.d/impatient.conf" <<<$'[Service]\nRestartSec=200ms'
    inside systemctl daemon-reload
}

scenario_deleted_behind_our_back() {
    with_service
    impatient
    control PATCH "runners/$(runner_id)" '{"deleted":true}'
    must no_runner
    within 60 failed $unit
    status_is 78 .state forgotten
    exits 0 runup install
    must online
    same 1 "$(runners)" "the number of runners"
    same 2 "$(requests register)" "the number of registrations"
    must active $unit
    status_is 0 .state registered
    # The same while the machine is off.
    switch_off
    control PATCH "runners/$(runner_id)" '{"deleted":true}'
    switch_on
    exits 0 runup install
    within 30 online
    same 1 "$(runners)" "the number of runners"
}

# Nothing answers while the machine starts: it must come up by itself when something does.
scenario_server_down_at_boot() {
    with_service
    fault '{"route":"*","kind":"cut","after":0}'
    reboot
    sleep 5
    no_faults
    local from
    from=$(now)
    within 90 sessions 2
    note "online $(since "$from") after the network"
    registered_once
    status_is 0 .state registered
}

scenario_no_systemd() {
    server
    machine
    credentials
    alone() {
        timeout 60 systemd-nspawn --quiet --directory="$root" --register=no --keep-unit --as-pid2 --pipe \
            --link-journal=no --resolv-conf=off --timezone=off -- "$@" </dev/null
    }
    exits 78 alone /usr/bin/runup install --service systemd
    says "systemd does not run this machine" "--service none"
    must no_runner
    absent $tree
    exits 0 alone /usr/bin/runup install
    says "no service is installed"
    registered_once
    must offline
    absent "/etc/systemd/system/$unit"
    exits 0 alone /usr/bin/runup install --service none
    registered_once
    # The same disk in a machine with systemd: now there is one.
    switch_on
    exits 0 runup install
    within 10 online
    registered_once
    exits 0 runup remove
    must no_runner
}

scenario_no_service_asked_for() {
    server
    machine
    credentials
    switch_on
    exits 0 runup install --service none
    registered_once
    must offline
    absent "/etc/systemd/system/$unit" $tree/.service
    exits 0 runup remove
    must no_runner
}

# The power fails at random while `install` runs; the next boot finishes what was begun.
scenario_power_cuts_during_install() {
    server
    machine
    credentials
    # What a first boot by whatever provisioner comes to: install at every boot.
    cat >"$root/etc/systemd/system/first-boot.service" <<'UNIT'
[Unit]
Wants=network-online.target
After=network-online.target
[Service]
Type=oneshot
ExecStart=/usr/bin/runup install
TimeoutStartSec=120
[Install]
WantedBy=multi-user.target
UNIT
    mkdir --parents "$root/etc/systemd/system/multi-user.target.wants"
    ln --symbolic ../first-boot.service "$root/etc/systemd/system/multi-user.target.wants/"
    local cut cuts=${RUNUP_BOOT_CUTS:-10} ms from
    for ((cut = 1; cut <= cuts; cut++)); do
        switch_on_at_once
        # From the first instruction of systemd to some time after the runner is online.
        ms=$((RANDOM % 3500 + 300))
        echo "cut $cut: after $ms ms, $(runners) runners"
        sleep "$(awk -v ms=$ms 'BEGIN { print ms / 1000 }')"
        power_cut
        (($(runners) <= 1)) || fail "two runners after cut $cut"
    done
    from=$(now)
    boot_deadline=120 switch_on
    same success "$(property first-boot.service Result)" "how the last boot's install ended"
    within 40 online
    note "$cuts cuts, then online in $(since "$from"), $(requests register) registrations"
    same 1 "$(runners)" "the number of runners"
    status_is 0 .state registered
    exits 0 runup remove
    must no_runner
    absent $tree
}
