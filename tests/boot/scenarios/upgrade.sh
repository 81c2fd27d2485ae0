# Upgrades of a sealed runner: by hand, by the timer, rolled back, and between jobs.

upgrade_unit=runup-actions-runner-upgrade.service
upgrade_timer=runup-actions-runner-upgrade.timer

# Makes a newer version available.
offer() { control POST versions "{\"version\":\"$1\"}"; }

# The runner is sealed, and no other tree is left next to it.
sealed_alone() {
    same "root:actions-runner 750" "$(inside stat --format='%U:%G %a' $tree)" "the owner and mode of the runner's directory"
    same actions-runner "$(ls --almost-all --ignore=.runup-store "$root/opt")" "what is in /opt"
    same "" "$(inside find $tree -maxdepth 1 -mindepth 1 -user actions-runner ! -name _diag ! -name _work -print)" \
        "what the runner's user owns at the top of its tree"
}

scenario_upgrade_by_hand() {
    with_service
    local id from job
    id=$(runner_id)
    must enabled $upgrade_timer
    must active $upgrade_timer
    exits 0 inside systemd-analyze verify --man=no "/etc/systemd/system/$upgrade_unit" "/etc/systemd/system/$upgrade_timer"
    same "" "$(cat "$here/stdout" "$here/stderr")" "what systemd finds fault with in the units"
    exits 0 runup upgrade
    says "is the newest available"
    # Files that root added are kept.
    echo 'MINE=yes' >>"$root$tree/.env"
    echo keep >"$root$tree/_work/cache"
    mkdir "$root$tree/hooks"
    offer 2.340.0
    job=$(held_job)
    within 60 busy
    from=$(now)
    release_once says_to_wait
    exits 0 runup upgrade --json
    released
    note "waited for a job and upgraded in $(since "$from")"
    same true "$(jq .changed "$here/stdout")" "whether it was upgraded"
    must job_done "$job"
    must online_as 2.340.0
    same "$id" "$(runner_id)" "the runner's id"
    registered_once
    sealed_alone
    must grep --quiet MINE=yes "$root$tree/.env"
    must test -e "$root$tree/_work/cache"
    must test -d "$root$tree/hooks"
    must test -e "$root$tree/_diag"
    status_is 0 .version 2.340.0 .guard sealed '.drift | length' 0
    job=$(job 0)
    within 60 job_done "$job"
    exits 0 runup install
    says "nothing to do"
    # A pinned version stays, and status prints how long it is supported.
    exits 0 runup install --runner-version 2.340.0
    offer 2.341.0
    exits 0 runup upgrade
    says "--runner-version 2.340.0"
    exits 0 runup status
    says "support" "2.341.0 is available" "pinned"
    # A timer that was switched off is drift, and so is a missing one.
    inside systemctl disable --now --quiet $upgrade_timer
    status_is 78 '.drift | length' 1
    exits 0 runup remove
    must no_runner
    absent $tree "/etc/systemd/system/$unit" "/etc/systemd/system/$upgrade_unit" "/etc/systemd/system/$upgrade_timer"
    same "" "$(ls -A "$root/opt")" "what is left in /opt"
}

# Sets the last check, and the day when the version was the newest, to so many days ago.
looked_days_ago() { looked "$1 days ago"; }
looked() {
    local journal then
    journal=$(echo "$root"/var/lib/runup/opt-actions-runner-*.json)
    then=$(date --utc --date="$1" +%Y-%m-%dT%H:%M:%SZ)
    jq --arg at "$then" '.looked_at = $at | (.entries[] | select(.step == "place-runner") | .current_at) = $at' \
        "$journal" >"$here/journal.json"
    install --mode=600 "$here/journal.json" "$journal"
}

scenario_upgrade_by_timer() {
    with_service --upgrade-at 02:30 --upgrade-spread 30m
    local id
    id=$(runner_id)
    must grep --quiet '^OnCalendar=\*-\*-\* 02:30:00$' "$root/etc/systemd/system/$upgrade_timer"
    must grep --quiet '^RandomizedDelaySec=1800s$' "$root/etc/systemd/system/$upgrade_timer"
    # The first start of the service has checked, so the next one does not.
    within 60 inactive $upgrade_unit
    offer 2.340.0
    inside systemctl start $upgrade_unit
    must online_as 2.336.0
    # A day later, the timer's service does it, with the token from systemd.
    looked_days_ago 1
    inside systemctl start $upgrade_unit
    must online_as 2.340.0
    must_not grep --quiet runup/token "$root/etc/systemd/system/$unit"
    must grep --quiet '^LoadCredential=runup.token:/etc/runup/token$' "$root/etc/systemd/system/$upgrade_unit"
    # So does the start of the runner's service, without waiting for it.
    looked_days_ago 1
    offer 2.341.0
    inside systemctl restart $unit
    must active $unit
    within 60 online_as 2.341.0
    within 60 inactive $upgrade_unit
    same "$id" "$(runner_id)" "the runner's id"
    registered_once
    sealed_alone
    # A job that takes the whole window: it is retried later, and that is not a failure.
    local job
    looked_days_ago 1
    offer 2.342.0
    job=$(held_job)
    within 60 busy
    exits 75 runup upgrade --window 2s
    says "was not idle"
    must_not failed $upgrade_unit
    release
    within 60 job_done "$job"
    must online_as 2.341.0
    # The operator disables upgrades.
    exits 0 runup install --self-update
    absent "/etc/systemd/system/$upgrade_unit" "/etc/systemd/system/$upgrade_timer"
    same not-found "$(property $upgrade_timer LoadState)" "what systemd knows of the timer"
}

# A job that takes the whole window every night: once the support of the version ends within days, its end is waited for.
scenario_upgrade_that_cannot_wait() {
    with_service
    local job
    within 60 inactive $upgrade_unit
    offer 2.340.0
    job=$(held_job)
    within 60 busy
    # GitHub Enterprise Server gives a day, of which some is left.
    looked "21 hours ago"
    exits 75 runup upgrade --daily --window 1s
    must_not job_done "$job"
    looked_days_ago 26
    release_once says_to_wait
    exits 0 runup upgrade --daily --window 1s
    released
    says "ends soon"
    must online_as 2.340.0
    same Succeeded "$(state --argjson id "$job" '.jobs[] | select(.id == $id) | .result')" "the job that was waited for"
    sealed_alone
}

# A runner whose service deregisters it at shutdown: an upgrade is none.
scenario_upgrade_under_a_supervisor() {
    with_service --remove-on-shutdown
    local job
    offer 2.340.0
    job=$(held_job)
    within 60 busy
    release_once says_to_wait
    exits 0 runup upgrade
    released
    must job_done "$job"
    must online_as 2.340.0
    same 1 "$(runners)" "the number of runners"
    status_is 0 .version 2.340.0 .guard sealed '.drift | length' 0
    inside systemctl stop $unit
    within 60 no_runner
    exits 0 runup remove
}

# A new version that the server rejects: the old one is restored, and works.
scenario_upgrade_comes_back() {
    with_service
    local id job from
    id=$(runner_id)
    echo keep >"$root$tree/_work/cache"
    offer 2.340.0
    control POST deprecations '{"version":"2.340.0","runtime_deprecates_at":"2026-01-01T00:00:00Z","silent":true}'
    from=$(now)
    exits 79 runup upgrade
    note "rolled back after $(since "$from")"
    says "2.340.0" "did not come online" "2.336.0 is back and online"
    must online_as 2.336.0
    same "$id" "$(runner_id)" "the runner's id"
    must test -e "$root$tree/_work/cache"
    sealed_alone
    status_is 0 .version 2.336.0 .guard sealed '.drift | length' 0
    job=$(job 0)
    within 60 job_done "$job"
}

# Killed anywhere: the next run finishes the upgrade or keeps the old version, and the runner is the same.
scenario_upgrade_cut_off() {
    # Only a debug build has checkpoints.
    local bin=$project/target/debug/runup
    [[ -x $bin ]] || { note "SKIPPED: $bin does not exist; build it with cargo build"; exit 0; }
    with_service
    local id version=340 at job
    id=$(runner_id)
    for at in begun stopped exchanged started proven; do
        echo "$at" >"$root$tree/_work/cache"
        offer "2.$version.0"
        # systemd-run exits with 255 after a signal.
        must_not as_root env RUNUP_KILL_AT="upgrade-$at" /usr/bin/runup upgrade
        must grep --quiet '"replaces"' "$root"/var/lib/runup/opt-actions-runner-*.json
        if [[ $at == exchanged ]]; then
            # With a power cut: the machine starts whatever is there.
            power_cut
            forget_session
            switch_on
        fi
        exits 0 runup upgrade
        must online_as "2.$version.0"
        same "$at" "$(<"$root$tree/_work/cache")" "what is in the work directory"
        sealed_alone
        status_is 0 .version "2.$version.0" '.drift | length' 0
        version=$((version + 1))
    done
    # The same with install, without a newer version to wait for.
    offer "2.$version.0"
    must_not as_root env RUNUP_KILL_AT=upgrade-stopped /usr/bin/runup upgrade
    exits 0 runup install
    within 60 online
    status_is 0 '.drift | length' 0
    same "$id" "$(runner_id)" "the runner's id"
    registered_once
    job=$(job 0)
    within 60 job_done "$job"
}

some_done() { [[ $(state '[.jobs[] | select(.done)] | length') != 0 ]]; }
left() { state '[.jobs[] | select(.done | not)] | length'; }
all_done() { [[ $(left) == 0 ]]; }

# A queue that is never empty: every job is done exactly once.
scenario_upgrade_between_jobs() {
    with_service
    local id number from helped jobs
    id=$(runner_id)
    offer 2.340.0
    for ((number = 0; number < 25; number++)); do job $((number % 2)) >/dev/null; done
    within 60 some_done
    # A busy machine may need more of them.
    while [[ ! -e $here/upgraded ]]; do (($(left) > 15)) || job 1 >/dev/null; sleep 0.25; done &
    helped=$!
    from=$(now)
    exits 0 runup upgrade
    must_not all_done
    touch "$here/upgraded"
    wait "$helped"
    jobs=$(state '.jobs | length')
    note "between jobs after $(since "$from"), $(left) of $jobs left"
    must online_as 2.340.0
    within 300 all_done
    same "$jobs" "$(state '[.jobs[] | select(.result == "Succeeded")] | length')" "the number of jobs that succeeded"
    same "$jobs" "$(requests job-done)" "how often the end of a job was reported"
    same "$id" "$(runner_id)" "the runner's id"
    registered_once
    sealed_alone
}
