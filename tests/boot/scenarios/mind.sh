# Somebody changes their mind: `install` with other options, on a machine whose service runs.

# The runner of before is online, its service runs, and nobody registered another.
undisturbed() {
    within 30 online
    must active $unit
    same "$before" "$(runner_id)" "the runner's id"
    same 1 "$(runners)" "the number of runners"
    status_is 0 .state registered '.drift | length' 0
}

scenario_change_of_mind() {
    with_service
    local before pid work
    before=$(runner_id)
    pid=$(property $unit MainPID)
    as_root useradd --system --no-create-home other

    # What cannot be, is refused before anything is touched, and the service goes on as the same process.
    exits 78 runup install --user other
    says "belongs to the user actions-runner, and other was asked for" "--user actions-runner"
    exits 78 runup install --user nobody-yet
    must_not as_root id nobody-yet
    exits 78 runup install --group no-such
    says 'no runner group "no-such"'
    exits 78 runup install --name another
    says "configured for" "runup remove"
    exits 78 runup install --url "$server_url/another"
    exits 78 runup install --service none
    says "$unit" "runup remove"
    same "$pid" "$(property $unit MainPID)" "the service's process"
    exits 0 runup install --labels gpu,large
    same "$pid" "$(property $unit MainPID)" "the service's process after other labels"
    undisturbed

    # Another unit.
    exits 0 runup install --drain 7m
    undisturbed
    exits 0 runup install --drain 7m
    says "nothing to do"

    # The network goes between the end of the old registration and the new one: what is left says so, and the next
    # install mends it.
    fault '{"route":"register","kind":"status","code":500}'
    exits 79 runup install --drain 7m --work elsewhere
    no_faults
    says "$unit stays off"
    status_is 79 .state stopped
    exits 79 runup status
    says "not registered" "run install again"
    exits 0 runup install --drain 7m --work elsewhere
    within 30 online
    before=$(runner_id)
    undisturbed
    registered_as elsewhere

    # The same while the service had to be stopped for another reason, and the runner is still what it was: the server
    # does not let go of it.
    fault '{"route":"delete-runner","kind":"status","code":403}'
    exits 77 runup install --drain 8m --work third
    no_faults
    undisturbed
    registered_as elsewhere

    # Nobody changes anything, but the server does not see the runner: that is not "nothing to do".
    fault '{"route":"session","kind":"status","code":503}'
    control PATCH "runners/$(runner_id)" '{"online":false}'
    inside systemctl restart $unit
    must offline
    (sleep 4 && no_faults) &
    exits 0 runup install --drain 7m --work elsewhere
    says "the server says online"
    must online
    undisturbed

    # Run by hand beside the service.
    exits 78 runup run --work elsewhere
    says "$unit"
    undisturbed

    exits 0 runup remove
    must no_runner
    must as_root id other
    absent $tree "/etc/systemd/system/$unit"
}

registered_as() { same "$1" "$(jq --raw-output .workFolder <(sed '1s/^\xef\xbb\xbf//' "$root$tree/.runner"))" "the work folder"; }

# A run that the power cut off while it waited for its service is finished by the next one, though all that is left to do is
# to wait: the server does not see the runner yet.
scenario_cut_off_before_online() {
    with_service
    local before file
    before=$(runner_id)
    file=$(find "$root/var/lib/runup" -name '*.json')
    jq '(.entries[] | select(.step == "start-service")).state = "begun"' "$file" >"$here/journal.json"
    cat "$here/journal.json" >"$file"
    status_is 75 .state unfinished
    inside pkill --signal=STOP --full "^/bin/bash $tree/bin/Runner.Listener run"
    forget_session
    in_background converge /usr/bin/runup install
    within 20 waits_for_it "$file"
    must offline
    inside pkill --signal=CONT --full "^/bin/bash $tree/bin/Runner.Listener run"
    within 60 inactive converge
    undisturbed
}

# The journal says that the service was started, and the run that says so has not ended.
waits_for_it() {
    [[ $(jq --raw-output '.entries[] | select(.step == "start-service") | .state' "$1") == "done" ]] && active converge
}
