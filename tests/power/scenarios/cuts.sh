# The power fails at random instants of the first boots, and while the runner is removed. The programs of the runner must be
# whole afterwards: a file that was renamed before its bytes were durable is empty after a power cut.

# What a runner's programs are: names, sizes and content.
programs() { inside sh -c "cd $tree && find . -path ./_diag -prune -o -type f -path '*/*/*' -print0 | sort --zero-terminated | xargs --null sha256sum"; }

# A server, a disk, and how long it takes from power-on until the runner is online.
virtual_machine() {
    seed=$((${RUNUP_BOOT_SEED:-$(od --address-radix=n --format=u2 --read-bytes=2 /dev/urandom)}))
    note "RUNUP_BOOT_SEED=$seed"
    server
    machine
    # As an image is made, without cloud-init: that takes most of the time, and its own scenarios are in tests/boot.
    packaged
    credentials
    chroot "$root" systemctl --quiet enable runup.service
    disk_of_machine
    local from
    slow_server
    new_disk
    from=$(now)
    switch_on_at_once
    if [[ -n $start ]]; then
        within 300 installed
    else
        within 300 online
    fi
    whole=$((($(now) - from) / 1000000))
    [[ -n $start ]] || within 60 has_booted
    good=$(programs)
    must test -n "$good"
    note "a first boot without a cut: $whole ms"
    power_cut
}

installed() { inside_deadline=1 inside test -e /run/installed; }
has_booted() { inside_deadline=3 is_up; }

# config.sh and the server are as slow as real ones.
slow_server() {
    fault '{"route":"runner-registration","kind":"delay","ms":150}'
    fault '{"route":"register","kind":"delay-after","ms":300}'
    fault '{"route":"archive","kind":"slow","bytes_per_second":400000}'
}

# Another machine: its server knows no runner.
another_virtual_machine() {
    server_off
    server_on
    slow_server
    new_disk
}

sleep_ms() { sleep "$(awk -v ms="$1" 'BEGIN { print ms / 1000 }')"; }

one_whole_runner() {
    if [[ -n $start ]]; then
        within 300 installed
    else
        within 300 online
        within 60 has_booted
        converged
    fi
    same 1 "$(runners)" "the number of runners"
    inside runup status --json --dir $tree >"$here/status" || true
    same registered "$(jq --raw-output '.state' "$here/status")" "the state that status prints"
    same actions-runner "$(inside ls --almost-all --ignore=.runup-store /opt)" "what is in /opt"
    same "" "$(inside find /var/lib/runup -type f ! -name '*.json' ! -name '*.lock' -printf '%f ')" "what else is beside the journal"
    same "" "$(inside find /etc -maxdepth 1 '(' -name '*.lock' ! -name .pwd.lock -o -name '*+' ')')" "the locks of useradd"
    same "$good" "$(programs)" "what the programs are"
}

scenario_power_cuts_of_a_virtual_machine() { power_cuts; }

# Ten times as fast, because nothing else is started.
scenario_power_cuts_without_systemd() {
    start=/usr/local/sbin/small
    power_cuts
}

power_cuts() {
    local seed whole good number cuts ms story
    virtual_machine
    for ((number = 0; number < ${RUNUP_POWER_CUTS:-20}; number++)); do
        RANDOM=$((seed + number))
        another_virtual_machine
        story=""
        for ((cuts = RANDOM % 3; cuts >= 0; cuts--)); do
            # Nothing of ours happens in the first quarter, while the kernel starts.
            ms=$((whole / 4 + RANDOM % (whole * 7 / 8)))
            switch_on_at_once
            sleep_ms $ms
            power_cut
            story+=" $ms ms ($(runners) on the server)"
            (($(runners) <= 1)) || fail "two runners after:$story"
            no_runner || forget_session
        done
        echo "machine $number: cut after$story"
        switch_on_at_once
        one_whole_runner
        note "$number: cut after$story: one runner"
        power_cut
    done
}

scenario_power_cuts_of_a_virtual_machine_while_it_removes() {
    local seed whole good number ms
    virtual_machine
    for ((number = 0; number < ${RUNUP_POWER_CUTS:-20}; number++)); do
        RANDOM=$((seed + number))
        another_virtual_machine
        switch_on_at_once
        one_whole_runner
        in_background removing /usr/bin/runup remove
        ms=$((RANDOM % 1500))
        sleep_ms $ms
        power_cut
        no_runner || forget_session
        switch_on_at_once
        within 120 has_booted
        inside_deadline=100 exits 0 runup remove
        must no_runner
        same "" "$(inside ls --almost-all /opt)" "what is in /opt"
        same "" "$(inside find /etc/systemd/system -name '*actions*')" "the units"
        must_not inside id actions-runner
        note "$number: cut $ms ms after the beginning: no runner"
        power_cut
    done
}
