# Upgrades of a sealed runner: by hand, by the timer, back again, and between jobs.

upgrade_unit=runup-actions-runner-upgrade.service
upgrade_timer=runup-actions-runner-upgrade.timer

# Puts a newer version on offer.
offer() { control POST versions "{\"version\":\"$1\"}"; }

# The runner is sealed, and nothing of another tree lies beside it.
sealed_alone() {
    same "root:actions-runner 750" "$(inside stat --format='%U:%G %a' $tree)" "the owner and mode of the runner's directory"
    same actions-runner "$(ls -A "$root/opt")" "what is in /opt"
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
    # What root has put there goes along.
    echo 'MINE=yes' >>"$root$tree/.env"
    echo keep >"$root$tree/_work/cache"
    mkdir "$root$tree/hooks"
    offer 2.340.0
    job=$(job 4)
    within 10 busy
    from=$(now)
    exits 0 runup upgrade --json
    note "waited for a job of 4 s and upgraded in $(since "$from")"
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
    within 20 job_done "$job"
    exits 0 runup install
    says "nothing to do"
    # A pinned one stays, and is told how long it may.
    exits 0 runup install --runner-version 2.340.0
    offer 2.341.0
    exits 0 runup upgrade
    says "--runner-version 2.340.0"
    exits 0 runup status
    says "support" "2.341.0 is available" "pinned"
    # A timer that somebody has switched off is drift, and so is a missing one.
    inside systemctl disable --now --quiet $upgrade_timer
    status_is 78 '.drift | length' 1
    exits 0 runup remove
    must no_runner
    absent $tree "/etc/systemd/system/$unit" "/etc/systemd/system/$upgrade_unit" "/etc/systemd/system/$upgrade_timer"
    same "" "$(ls -A "$root/opt")" "what is left in /opt"
}
