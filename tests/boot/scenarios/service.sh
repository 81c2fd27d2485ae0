# The service that `install` creates as root on a machine with systemd.

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

# Only one registration took place.
registered_once() {
    same 1 "$(runners)" "the number of runners"
    same 1 "$(requests register)" "the number of registrations"
}

# The server keeps the session of a killed listener for twenty seconds; this shortens it.
forget_session() { control PATCH "runners/$(runner_id)" '{"online":false}'; }

# Kills the listener, which the fake runner implements with two processes.
kill_listener() { inside pkill --signal=KILL --full "^/bin/bash $tree/bin/Runner.Listener run"; }

# The listener's process, with its number in the machine.
listener() { inside pgrep --oldest --full "^/bin/bash $tree/bin/Runner.Listener run"; }
another_listener_than() {
    local found
    found=$(listener) && [[ $found != "$1" ]]
}
sessions() { (($(requests session) >= $1)); }

# Every failure has an exit code of its own; success is 0.
status_is() {
    exits "$1" runup status --json --dir $tree
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
    # All processes of the service run as the runner's user.
    same actions-runner "$(inside ps -o user:32= --ppid "$(property $unit MainPID)" --pid "$(property $unit MainPID)" | sort --unique)" \
        "the user of the service's processes"
    exits 0 inside systemd-analyze verify --man=no "/etc/systemd/system/$unit"
    same "" "$(cat "$here/stdout" "$here/stderr")" "what systemd finds fault with in the unit"
    status_is 0 .name "$(state '.runners[0].name')" .id "$(runner_id)"

    # Again: nothing to do, and nothing changes.
    local pid
    pid=$(property $unit MainPID)
    exits 0 runup install --json
    same "$pid" "$(property $unit MainPID)" "the service's process after a second install"
    registered_once
    # The operator's drop-in is kept.
    install -D --mode=644 /dev/stdin "$root/etc/systemd/system/$unit.d/nice.conf" <<<$'[Service]\nNice=5\nUMask=0077'
    exits 0 runup install
    same "$pid" "$(property $unit MainPID)" "the service's process after an install with a drop-in"
    must test -e "$root/etc/systemd/system/$unit.d/nice.conf"
    # What it means for jobs is said.
    inside systemctl daemon-reload
    exits 0 runup doctor --json
    same "the drop-ins of $unit give its jobs 077" "$(jq --raw-output '.checks[] | select(.id == "umask") | .detail | split(":")[0]' "$here/stdout")" "the umask that doctor tells"
}

scenario_reboot_to_online() {
    with_service
    local from
    reboot
    from=$(now)
    within 60 sessions 2
    must online
    note "off in $off_seconds, up in $boot_seconds, session after $(since "$from") more"
    registered_once
    # And after a power cut.
    power_cut
    forget_session
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
    kill_listener
    within 60 another_listener_than "$pid"
    # Only now does the server end the old session.
    within 60 sessions 2
    note "listener: $(since "$from")"
    # Kills the whole service, which systemd restarts.
    from=$(now)
    inside systemctl kill --signal=KILL $unit
    forget_session
    within 60 sessions 3
    must active $unit
    must online
    note "service: $(since "$from")"
    (($(property $unit NRestarts) >= 1)) || fail "systemd did not restart it"
    registered_once
    status_is 0
}

# Tells idle runners to update themselves, as GitHub does.
update_to() { control POST updates "{\"version\":\"$1\"${2:+,\"cut_off\":$2}}"; }
# The server reports the runner as online, with this version.
online_as() { [[ $(state '.runners[0] | "\(.online) \(.version)"') == "true $1" ]]; }
half_moved() { [[ ! -e $root$tree/bin && ! -L $root$tree/bin ]]; }

scenario_self_update() {
    local self_update=yes
    with_service
    local job from before
    before=$(runner_id)
    from=$(now)
    update_to 2.337.0
    within 60 online_as 2.337.0
    note "2.337.0 online after $(since "$from")"
    same "$tree/bin.2.337.0" "$(readlink "$root$tree/bin")" "where bin leads to"
    status_is 0 .state registered .version 2.337.0 '.drift | length' 0
    exits 0 runup install
    says "nothing to do"
    job=$(job 1)
    within 60 job_done "$job"
    reboot
    within 60 online_as 2.337.0
    status_is 0 .version 2.337.0
    # Another update, which deletes the oldest version.
    update_to 2.338.0
    within 60 online_as 2.338.0
    absent $tree/bin.2.336.0 $tree/externals.2.336.0
    inside systemctl restart $unit
    within 60 online_as 2.338.0
    status_is 0 .version 2.338.0 '.drift | length' 0
    # An interrupted update: the service keeps starting a program that does not exist, and status reports it.
    update_to 2.339.0 true
    within 60 half_moved
    within 60 offline
    status_is 78 '.drift | length' 1
    exits 0 runup install
    says "registration kept"
    within 60 online_as 2.339.0
    status_is 0 .state registered '.drift | length' 0
    same "$before" "$(runner_id)" "the runner's id"
    registered_once
    exits 0 runup remove
    must no_runner
    absent $tree "/etc/systemd/system/$unit"
    same "" "$(ls -A "$root/opt")" "what is left in /opt"
}

# The same for the service that registers by itself: between jobs, before its one job, and interrupted.
scenario_self_update_supervised() {
    local self_update=yes
    with_service --remove-on-shutdown
    local job from
    from=$(now)
    update_to 2.337.0
    within 60 online_as 2.337.0
    note "2.337.0 online after $(since "$from")"
    status_is 0 .state registered .version 2.337.0 '.drift | length' 0
    exits 0 runup install --remove-on-shutdown
    says "nothing to do"
    job=$(job 1)
    within 60 job_done "$job"
    from=$(now)
    update_to 2.338.0 true
    within 60 online_as 2.338.0
    note "interrupted, repaired and 2.338.0 online after $(since "$from")"
    registered_once
    must active $unit
    reboot
    within 60 online_as 2.338.0
    same 1 "$(runners)" "the number of runners"
    exits 0 runup install --ephemeral
    update_to 2.339.0
    within 60 online_as 2.339.0
    job=$(job 1)
    within 60 job_done "$job"
    within 60 online_as 2.339.0
    status_is 0 .version 2.339.0 '.drift | length' 0
    exits 0 runup remove
    must no_runner
    absent $tree "/etc/systemd/system/$unit"
    same "" "$(ls -A "$root/opt")" "what is left in /opt"
}

scenario_stop_drains() {
    with_service
    local job from
    job=$(held_job)
    within 60 busy
    from=$(now)
    release_once stopping $unit
    inside systemctl stop $unit
    released
    note "with a job, stopped after $(since "$from")"
    must job_done "$job"
    # The server would keep a session that is not ended for twenty seconds.
    within 15 offline
    same 1 "$(runners)" "the number of runners"
    inside systemctl start $unit
    within 60 online
    registered_once
}

# The machine as it was before: its files, users and units. The lock of a runner's directory is never deleted, because another
# run may hold it.
portrait() {
    find "$root" -xdev \( -path "$root/var/log" -o -path "$root/run" -o -path "$root/tmp" -o -path "$root/var/tmp" \
        -o -path "$root/var/lib/systemd" -o -path "$root/var/cache" \
        -o -path "$root/var/lib/runup/*.lock" \) -prune -o -printf '%y %m %U:%G %P %l\n' | sort
    sort "$root/etc/passwd" "$root/etc/group" "$root/etc/shadow" "$root/etc/gshadow"
}

scenario_remove_leaves_nothing() {
    server
    machine
    credentials
    switch_on
    # The tools that add users leave lock files and backups, the first time only.
    as_root useradd --system probe
    as_root userdel probe
    install --directory --mode=700 "$root/var/lib/runup"
    portrait >"$here/before"
    exits 0 runup install
    must online
    local from
    from=$(now)
    exits 0 runup remove
    note "$(since "$from")"
    must no_runner
    portrait >"$here/after"
    diff "$here/before" "$here/after" || fail "remove left something, or deleted something else"
    same not-found "$(property $unit LoadState)" "what systemd knows of the unit"
    must_not processes "$tree/"
    # Again: nothing to do.
    exits 0 runup remove
    # Another install works like the first.
    exits 0 runup install
    must online
    same 1 "$(runners)" "the number of runners"
    exits 0 runup remove
    must no_runner
}

# A unit that an operator has edited is still this runner's, even one that is not read yet.
scenario_remove_an_edited_unit() {
    server
    machine
    credentials
    switch_on
    local job kind file=/etc/systemd/system/$unit
    for kind in headline comments supervisor not_read; do
        case $kind in
        supervisor) exits 0 runup install --ephemeral ;;
        *) exits 0 runup install ;;
        esac
        within 60 online
        case $kind in
        headline | supervisor) sed --in-place '1i # Ansible managed' "$root$file" ;;
        comments)
            sed --in-place '/^#/d' "$root$file"
            printf '# Stra\337e\n' >>"$root$file"
            ;;
        not_read) printf '[Service]\nExecStart=/bin/sleep infinity\n' >"$root$file" ;;
        esac
        [[ $kind == not_read ]] || inside systemctl daemon-reload
        job=$(held_job)
        within 60 busy
        release_once processes '^/usr/bin/runup remove'
        exits 0 runup remove --drain 60s
        released
        must job_done "$job"
        must no_runner
        must inactive $unit
        absent $tree
        if [[ $kind == not_read ]]; then
            says "stays as it is"
            rm "$root$file"
            inside systemctl daemon-reload
        else
            says "deleted the unit $unit"
            does_not_say svc.sh
            absent "$file" "/etc/systemd/system/multi-user.target.wants/$unit"
        fi
        exits 0 runup remove
    done
}
scenario_remove_while_a_job_runs() {
    with_service
    local job from
    job=$(job 600)
    within 60 busy
    from=$(now)
    exits 0 runup remove
    note "cancelled and removed in $(since "$from")"
    must no_runner
    must_not job_done "$job"
    absent $tree "/etc/systemd/system/$unit"

    exits 0 runup install
    job=$(held_job)
    within 60 busy
    release_once processes '^/usr/bin/runup remove'
    exits 0 runup remove --drain 60s
    released
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
    # As the message suggests.
    exits 0 runup install --dir /opt/second
    must online
    exits 0 runup remove --dir /opt/second
    cmp "$here/theirs" "$root/etc/systemd/system/$unit"
    must active $unit
    # Once the other unit is gone, it converges.
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
    # Masked later, by an operator who wants it off.
    inside systemctl stop $unit
    inside mv "/etc/systemd/system/$unit" /root/
    inside systemctl mask --quiet $unit
    exits 78 runup install
    says "masked"
    exits 0 runup remove
    must no_runner
    absent $tree
}

# Whatever became of the unit: the runner goes, and what is not runup's stays.
scenario_remove_with_each_unit() {
    server
    machine
    credentials
    switch_on
    local state file=/etc/systemd/system/$unit
    for state in running dead masked foreign; do
        exits 0 runup install
        must online
        case $state in
        dead)
            inside systemctl kill --signal=KILL $unit
            inside systemctl disable --now --quiet $unit
            forget_session
            ;;
        masked)
            # It still runs.
            inside mv "$file" /root/
            inside systemctl mask --quiet $unit
            must active $unit
            ;;
        foreign)
            inside systemctl stop $unit
            printf '[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n' | tee "$root$file" >"$here/theirs"
            inside systemctl daemon-reload
            inside systemctl start $unit
            ;;
        esac
        exits 0 runup remove
        must no_runner
        absent $tree
        must_not processes "$tree/"
        case $state in
        running | dead) absent "$file" "/etc/systemd/system/multi-user.target.wants/$unit" ;;
        masked)
            says "stays masked"
            does_not_say "deleted the unit"
            must inactive $unit
            same /dev/null "$(readlink "$root$file")" "what the unit's file is"
            exits 0 inside systemctl unmask --quiet $unit
            ;;
        foreign)
            says "stays as it is" "left $unit alone"
            does_not_say "deleted the unit" "stopped and disabled"
            must active $unit
            cmp "$here/theirs" "$root$file"
            ;;
        esac
        # Again: nothing to do.
        exits 0 runup remove
    done
}

# A listener that exits at once: systemd gives up after some starts, and status reports it.
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

# Restarts at once, so that the limit is reached within the test.
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
    within 60 online
    same 1 "$(runners)" "the number of runners"
}

# The server does not answer while the machine starts: the runner must come online by itself once it does.
scenario_server_down_at_boot() {
    with_service
    fault '{"route":"*","kind":"cut","after":0}'
    reboot
    sleep 5
    no_faults
    local from
    from=$(now)
    within 90 sessions 2
    note "online $(since "$from") after the network came up"
    registered_once
    status_is 0 .state registered
}

scenario_no_systemd() {
    server
    machine
    credentials
    alone() {
        timeout 180 systemd-nspawn --quiet --directory="$root" --register=no --keep-unit --as-pid2 --pipe \
            --link-journal=no --resolv-conf=off --timezone=off -- "$@" </dev/null
    }
    exits 78 alone /usr/bin/runup install --service systemd
    says "requires a machine that runs systemd" "--service none"
    must no_runner
    absent $tree
    exits 0 alone /usr/bin/runup install
    says "no service is installed"
    registered_once
    must offline
    absent "/etc/systemd/system/$unit"
    exits 0 alone /usr/bin/runup install --service none
    registered_once
    # The same disk in a machine with systemd: now there is a service.
    switch_on
    exits 0 runup install
    within 60 online
    # The runner belonged to its user because runup could not update it. Now it can, so the runner is converted.
    same 2 "$(requests register)" "the number of registrations"
    same 1 "$(runners)" "the number of runners"
    status_is 0 .guard sealed
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

# Lets RANDOM give the instants of the run that printed this seed.
cuts_by_seed() {
    local seed=${RUNUP_BOOT_SEED:-$(od --address-radix=n --format=u2 --read-bytes=2 /dev/urandom)}
    RANDOM=$((seed))
    note "RUNUP_BOOT_SEED=$((seed))"
}

# The power fails at random while `install` runs; the next boot finishes what was begun.
scenario_power_cuts_during_install() {
    server
    machine
    credentials
    # As with any provisioner: install at every boot.
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
    cuts_by_seed
    for ((cut = 1; cut <= cuts; cut++)); do
        switch_on_at_once
        # From systemd's start to some time after the runner is online.
        ms=$((RANDOM % 3500 + 300))
        echo "cut $cut: after $ms ms, $(runners) runners"
        sleep "$(awk -v ms=$ms 'BEGIN { print ms / 1000 }')"
        power_cut
        (($(runners) <= 1)) || fail "two runners after cut $cut"
    done
    from=$(now)
    switch_on
    same success "$(property first-boot.service Result)" "how the last boot's install ended"
    within 60 online
    note "$cuts cuts, then online in $(since "$from"), $(requests register) registrations"
    same 1 "$(runners)" "the number of runners"
    status_is 0 .state registered
    exits 0 runup remove
    must no_runner
    absent $tree
}

# Every failure has an exit code and a state of its own, and `install` fixes what it can.
scenario_status_tells() {
    server
    machine
    credentials
    switch_on
    status_is 69 .state absent
    exits 0 runup bake
    status_is 0 .state placed
    exits 0 runup install
    status_is 0 .state registered .server online .busy false .version 2.336.0 .service.unit $unit .service.active active \
        .service.enabled enabled '.drift | length' 0
    local job
    job=$(held_job)
    within 60 busy
    status_is 0 .busy true .job true .listener true
    release
    within 60 job_done "$job"
    exits 0 runup status --local
    says "waits for jobs"
    # Stopped.
    inside systemctl stop $unit
    status_is 79 .state stopped .listener false
    exits 79 runup status --local
    says "does not run"
    exits 0 runup install
    status_is 0 .state registered
    # Running, but not online.
    fault '{"route":"message","kind":"status","code":503}'
    forget_session
    status_is 75 .state offline
    no_faults
    within 60 online
    status_is 0 .state registered
    # Changed by hand.
    echo '# mine' >>"$root/etc/systemd/system/$unit"
    status_is 78 '.drift | length' 1
    exits 0 runup install
    status_is 0 '.drift | length' 0
    must_not grep --quiet mine "$root/etc/systemd/system/$unit"
    inside systemctl disable --quiet $unit
    status_is 78 '.drift | length' 1
    exits 0 runup install
    must enabled $unit
    status_is 0 '.drift | length' 0
    # Deleted on the server: see also deleted_behind_our_back.
    exits 0 runup remove
    status_is 69 .state absent
    # Only root can see the details, but every user gets an answer.
    exits 0 runup install
    # Another user cannot read root's files.
    exits 77 inside setpriv --reuid=nobody --regid=nogroup --clear-groups /usr/bin/runup --config /dev/null status --dir $tree --json
}

# A service that takes one job per registration: between jobs it deregisters and comes back as a new runner, at a shutdown it
# deregisters, and the next boot brings it back.
scenario_ephemeral_service() {
    with_service --ephemeral
    must enabled $unit
    same 1 "$(requests register)" "the number of registrations after an install"
    local first job from turn
    for turn in 1 2; do
        first=$(runner_id)
        from=$(now)
        job=$(job 1)
        within 60 job_done "$job"
        within 60 fresh_runner "$first"
        note "job $turn and ready again: $(since "$from")"
        same 1 "$(runners)" "the number of runners"
    done
    status_is 0 .state registered .server online
    # Only root can read its token, which is not on any command line.
    must_not inside grep --quiet --fixed-strings "$api_token" "/etc/systemd/system/$unit"
    exits 1 inside sh -c 'cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | grep --text --fixed-strings --file=/etc/runup/token'
    # Again: nothing changes.
    first=$(runner_id)
    exits 0 runup install --ephemeral
    same "$first" "$(runner_id)" "the runner after a second install"
    switch_off
    must no_runner
    note "off and gone from the server in $off_seconds"
    switch_on
    within 60 online
    same 1 "$(runners)" "the number of runners"
    power_cut
    forget_session
    switch_on
    within 60 online
    same 1 "$(runners)" "the number of runners"
    exits 0 runup remove
    must no_runner
    absent $tree "/etc/systemd/system/$unit"
}

# A rate limit that is used up for longer than the deadline: the service waits for it, and is not restarted. Five restarts
# would have ended it for good within 75 seconds.
scenario_rate_limit_that_is_lifted() {
    local first job
    with_service --ephemeral --deadline 60s
    first=$(runner_id)
    fault '{"route":"registration-token","kind":"rate-limit","seconds":90}'
    job=$(job 1)
    within 60 job_done "$job"
    within 60 inside sh -c "journalctl --unit=$unit | grep 'the rate limit is exceeded\|rate limited until'"
    no_faults
    # It asks again at the time that was named, with a spread of half a minute.
    within 240 fresh_runner "$first"
    must active "$unit"
    same 0 "$(property "$unit" NRestarts)" "the number of restarts"
    # A stop does not wait.
    first=$(runner_id)
    fault '{"route":"registration-token","kind":"rate-limit","seconds":2730}'
    job=$(job 1)
    within 60 job_done "$job"
    within 60 inside sh -c "journalctl --unit=$unit | grep 'waiting 27'"
    inside_deadline=60 exits 0 inside systemctl stop "$unit"
    no_faults
    exits 0 runup remove
}

# The unit reads the configuration file at each start. What a flag of the installation set or switched off stays all the same.
scenario_flags_outlast_the_configuration_file() {
    server
    machine
    credentials
    switch_on
    printf 'ephemeral = true\nreplace = true\nself-update = true\nenv = ["WHO=file"]\n' >>"$root/etc/runup/config.toml"
    exits 0 runup install --env WHO=flag --no-replace --no-self-update
    local ran
    for ran in 1 2; do
        within 60 online
        grep --quiet '^WHO=flag$' "$root$tree/.env" || fail "job $ran: $(cat "$root$tree/.env")"
        inside systemctl cat "$unit" >"$here/unit"
        must grep --quiet -- '--as-recorded=env' "$here/unit"
        must grep --quiet -- '--self-update=false' "$here/unit"
        must_not grep --quiet -- 'WHO=' "$here/unit"
        local first job
        first=$(runner_id)
        job=$(job 1)
        within 60 job_done "$job"
        within 60 fresh_runner "$first"
    done
    exits 0 runup remove
}

# The limit is used up just when the service starts. The installation ends with the time, and the service comes up by
# itself; `status` and a second `install` tell of it.
scenario_install_while_the_rate_limit_is_used_up() {
    server
    machine
    credentials
    switch_on
    # The first question is the installation's own.
    fault '{"route":"get-runner","skip":1,"kind":"rate-limit","seconds":70}'
    exits 75 runup install --ephemeral --deadline 30s
    says "rate limit is used up until 2" "stays"
    must active "$unit"
    same enabled "$(inside systemctl is-enabled "$unit")" "the unit"
    exits 75 runup status
    says "waits" "for the server's rate limit, until 2"
    exits 75 runup install --ephemeral --deadline 30s
    says "rate limited until 2"
    must active "$unit"
    no_faults
    within 180 online
    same 0 "$(property "$unit" NRestarts)" "the number of restarts"
    same 1 "$(runners)" "the number of runners"
    exits 0 runup status
    exits 0 runup remove
    must no_runner
}

# The same for a persistent runner: it stays until the machine stops.
scenario_service_leaves_at_shutdown() {
    with_service --remove-on-shutdown
    registered_once
    local job
    job=$(job 1)
    within 60 job_done "$job"
    must online
    switch_off
    must no_runner
    note "off and gone from the server in $off_seconds"
    switch_on
    within 60 online
    same 1 "$(runners)" "the number of runners"
    reboot
    within 60 online
    same 1 "$(runners)" "the number of runners"
    # A running job gets its time, then the runner is deregistered.
    job=$(held_job)
    within 60 busy
    release_once stopping $unit
    switch_off
    released
    must job_done "$job"
    must no_runner
    switch_on
    within 60 online
    exits 0 runup remove
    must no_runner
    absent $tree "/etc/systemd/system/$unit"
}

# From a service that deregisters at shutdown to one that stays, to an ephemeral one, and back: each install changes the unit,
# and afterwards there is one runner, online.
scenario_service_changes_its_kind() {
    with_service --remove-on-shutdown
    local kind
    for kind in "" --ephemeral "" --remove-on-shutdown --ephemeral; do
        exits 0 runup install $kind
        within 60 online
        same 1 "$(runners)" "the number of runners"
        status_is 0 .state registered
    done
    exits 0 runup remove
    must no_runner
    absent $tree "/etc/systemd/system/$unit"
}

# The spot notice of a cloud reaches the service; a drop-in sets the cloud and the address.
scenario_spot_notice_to_a_service() {
    server
    machine
    credentials
    switch_on
    metadata
    install -D --mode=644 /dev/stdin "$root/etc/systemd/system/$unit.d/cloud.conf" <<DROPIN
[Service]
Environment=RUNUP_CLOUD=aws RUNUP_METADATA_URL=$metadata_url
DROPIN
    exits 0 runup install --ephemeral
    local job from
    job=$(held_job)
    within 60 busy
    from=$(now)
    touch "$root/var/lib/metadata/notice"
    within 60 journal_says $unit "waiting for its end"
    release
    within 60 job_done "$job"
    within 60 no_runner
    note "a job done, and gone $(since "$from") after the notice"
    # It must not come back while the machine is being reclaimed.
    sleep 20
    must no_runner
    switch_off
    must no_runner
}

# A second runner in another directory shares the user, and neither can affect the other.
scenario_several_runners() {
    local log
    with_service
    exits 0 runup install --dir /opt/second --name second
    within 60 online 2
    must active runup-opt-second.service
    reboot
    within 60 sessions 4
    within 60 online 2
    same 2 "$(requests register)" "the number of registrations"
    # Without a directory every runner is shown, and none is removed.
    exits 0 runup status
    says "$tree" /opt/second registered online active
    exits 0 runup status --json
    same "/opt/actions-runner /opt/second" "$(jq -r '[.runners[].dir] | join(" ")' "$here/stdout")" "the runners of the machine"
    as_root systemctl stop runup-opt-second.service
    exits 79 runup status
    says stopped
    as_root systemctl start runup-opt-second.service
    within 60 online 2
    exits 78 runup remove
    says "2 runners" /opt/second "--all"
    must online 2
    # The logs of one of them, and what is added, until a signal.
    exits 0 runup logs --dir /opt/second
    says "journal  |" "Listening for Jobs"
    must_not grep -F "$unit" "$here/stdout"
    in_background following sh -c 'trap : INT; /usr/bin/runup logs --follow --dir /opt/second >/root/followed 2>&1; echo $? >/root/code'
    within 60 grep --fixed-strings "Listening for Jobs" "$root/root/followed"
    # The newest file is followed, and the listener may write to its own at any time.
    log=$root/opt/second/_diag/Runner_9.log
    echo "[2026-01-31 12:00:00Z INFO Listener] begun" >"$log.new"
    touch --date="1 hour" "$log.new"
    mv "$log.new" "$log"
    within 60 grep --fixed-strings "listener | [INFO Listener] begun" "$root/root/followed"
    echo "[2026-01-31 12:00:00Z INFO Listener] added" >>"$log"
    within 60 grep --fixed-strings "listener | [INFO Listener] added" "$root/root/followed"
    inside systemctl kill --signal=INT following
    within 60 test -s "$root/root/code"
    same 0 "$(<"$root/root/code")" "the exit code of logs --follow after a signal"
    exits 0 runup remove --dir $tree
    same second "$(state '.runners[].name')" "the runner that is left"
    must active runup-opt-second.service
    # Each had a user of its own.
    must_not inside id actions-runner
    must inside id actions-runner-2
    reboot
    within 60 sessions 5
    within 60 online
    # Nothing is done, or said to be, while there is one elsewhere.
    exits 78 runup remove
    says "runup remove --dir /opt/second"
    exits 0 runup install
    within 60 online 2
    exits 0 runup remove --all
    says "removed the runner in $tree" "removed the runner in /opt/second"
    must no_runner
    must_not inside id actions-runner
    must_not inside id actions-runner-2
    absent /opt/second $tree "/etc/systemd/system/$unit" /etc/systemd/system/runup-opt-second.service
}

# Two directories of one name have a unit each. The name of the second has escapes, which every line of the units and every
# command has to pass on as they are.
scenario_two_runners_of_one_name() {
    local second='runup-srv-a-actions\x2drunner.service'
    with_service
    exits 0 runup install --dir /srv/a/actions-runner --name second
    within 60 online 2
    must active "$second"
    must test -e "$root/etc/systemd/system/$second"
    # Its start has started the check for a newer version, by name.
    within 60 inside sh -c 'journalctl | grep "nothing to do in /srv/a/actions-runner"'
    exits 0 runup upgrade --dir /srv/a/actions-runner
    reboot
    within 60 sessions 4
    must active "$second"
    exits 0 runup status --dir /srv/a/actions-runner
    exits 0 runup remove --dir /srv/a/actions-runner
    must_not test -e "$root/etc/systemd/system/$second"
    must active "$unit"
    within 60 online
}

# A user of that name exists already, with a home of its own: it is used, and it stays. A user with uid 0 is refused.
scenario_user_of_others() {
    server
    machine
    credentials
    switch_on
    as_root useradd --system --create-home --home-dir /srv/ci --shell /bin/bash ci
    as_root sh -c 'echo theirs >/srv/ci/file && useradd --non-unique --uid 0 --no-create-home toor'
    exits 78 runup install --user toor
    says "toor" "root"
    absent $tree
    # A service that runs as root must not run anything that a job could change.
    as_root install --owner=ci --mode=755 /usr/bin/runup /srv/ci/runup
    exits 78 as_root /srv/ci/runup install --user ci --ephemeral
    says "/srv/ci/runup" "the runner's user ci can change"
    as_root rm /srv/ci/runup
    exits 0 runup install --user ci
    must online
    same ci "$(inside ps -o user:32= --pid "$(property $unit MainPID)")" "the service's user"
    reboot
    within 60 sessions 2
    exits 0 runup remove
    must no_runner
    same theirs "$(<"$root/srv/ci/file")" "the file of the user who was there before"
    same /srv/ci "$(inside getent passwd ci | cut -d: -f6)" "that user's home"
    absent $tree "/etc/systemd/system/$unit"
}

# The power fails at random while `remove` runs; the next one finishes it.
scenario_power_cuts_during_remove() {
    server
    machine
    credentials
    switch_on
    local cut ms
    cuts_by_seed
    for cut in 1 2 3 4; do
        exits 0 runup install
        within 60 online
        in_background removing /usr/bin/runup remove
        ms=$((RANDOM % 900 + 20))
        echo "cut $cut: after $ms ms"
        sleep "$(awk -v ms=$ms 'BEGIN { print ms / 1000 }')"
        power_cut
        no_runner || forget_session
        switch_on
        exits 0 runup remove
        must no_runner
        absent $tree "/etc/systemd/system/$unit"
        must_not inside id actions-runner
    done
}

# Killed around the units, and around the start and the stop of the service: the next run finishes it.
scenario_service_cut_off() {
    # Only a debug build has checkpoints.
    local bin=$project/target/debug/runup
    [[ -x $bin ]] || { note "SKIPPED: $bin does not exist; build it with cargo build"; exit 0; }
    server
    machine
    credentials
    switch_on
    local at
    local -A undo=([begun]=deleted [written]=stopped [starting]=deleted [started]=stopped)
    for at in begun written starting started; do
        # systemd-run exits with 255 after a signal.
        must_not as_root env RUNUP_KILL_AT="service-$at" /usr/bin/runup install
        exits 0 runup install
        within 60 online
        status_is 0 .state registered '.drift | length' 0
        same 1 "$(runners)" "the number of runners"
        must_not as_root env RUNUP_KILL_AT="service-${undo[$at]}" /usr/bin/runup remove
        exits 0 runup remove
        must no_runner
        absent $tree "/etc/systemd/system/$unit"
        must_not inside id actions-runner
        # The same, without the second install.
        must_not as_root env RUNUP_KILL_AT="service-$at" /usr/bin/runup install
        exits 0 runup remove
        must no_runner
        absent $tree "/etc/systemd/system/$unit"
    done
}

# Somebody starts the service while it is being stopped, which cancels the stop: an upgrade does that where it finishes what
# a killed run has begun. Only the stop counts.
scenario_start_during_a_stop() {
    with_service
    # Its stop takes until the file is gone.
    as_root mkdir --parents "/run/systemd/system/$unit.d"
    as_root sh -c 'printf "[Service]\nExecStop=/bin/sh -c \"while [ -e /run/keep ]; do sleep 0.1; done\"\n" >"$1"' \
        sh "/run/systemd/system/$unit.d/slow.conf"
    as_root systemctl daemon-reload
    as_root touch /run/keep
    in_background removing sh -c '/usr/bin/runup remove; echo $? >/root/code'
    local start
    for start in 1 2; do
        echo "start $start"
        within 30 being_stopped
        # From here on, a stop that is seen is another one.
        as_root systemctl start --no-block $unit
    done
    within 30 being_stopped
    as_root rm /run/keep
    within 60 test -s "$root/root/code"
    same 0 "$(<"$root/root/code")" "the exit code of remove"
    must no_runner
    absent $tree "/etc/systemd/system/$unit"
}

being_stopped() { inside systemctl list-jobs --no-legend | grep --extended-regexp "$unit +stop "; }

# A removal that cannot succeed leaves the service as it was.
scenario_remove_refused() {
    with_service
    exits 78 runup remove --url "$server_url/another"
    exits 77 runup remove --config /dev/null
    must active $unit
    must online
    status_is 0 .state registered
    exits 0 runup remove
    must no_runner
}
