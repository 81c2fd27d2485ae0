# Changed options: `install` with other options, on a machine with a running service.

# The same runner is online, its service runs, and no other runner was registered.
undisturbed() {
    within 60 online
    must active $unit
    same "$before" "$(runner_id)" "the runner's id"
    same 1 "$(runners)" "the number of runners"
    status_is 0 .state registered '.drift | length' 0
}

scenario_change_of_mind() {
    with_service
    local before pid work looks helped
    before=$(runner_id)
    pid=$(property $unit MainPID)
    as_root useradd --system --no-create-home other

    # Unsupported changes are refused before anything happens, and the service keeps running as the same process.
    exits 78 runup install --user other
    says "belongs to the user actions-runner, but other was requested" "--user actions-runner"
    exits 78 runup install --user nobody-yet
    must_not as_root id nobody-yet
    exits 78 runup install --group no-such
    says 'the runner group "no-such" does not exist'
    exits 78 runup install --name another
    says "is registered as" "runup remove"
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

    # The server refuses between deregistering and re-registering: status reports it, and the next install fixes it.
    fault '{"route":"register","kind":"status","code":403}'
    exits 79 runup install --drain 7m --work elsewhere
    no_faults
    says "$unit stays off"
    status_is 79 .state stopped
    exits 79 runup status
    says "not registered" "run install again"
    exits 0 runup install --drain 7m --work elsewhere
    within 60 online
    before=$(runner_id)
    undisturbed
    registered_as elsewhere

    # The same while the service had to be stopped for another reason, and the server refuses to delete the runner.
    fault '{"route":"delete-runner","kind":"status","code":403}'
    exits 77 runup install --drain 8m --work third
    no_faults
    undisturbed
    registered_as elsewhere

    # Nothing changed, but the server does not report the runner as online: that is not "nothing to do".
    fault '{"route":"session","kind":"status","code":503}'
    control PATCH "runners/$(runner_id)" '{"online":false}'
    inside systemctl restart $unit
    must offline
    looks=$(looks)
    { within 60 looked_more_than $((looks + 1)) && no_faults; } &
    helped=$!
    exits 0 runup install --drain 7m --work elsewhere
    wait "$helped"
    says "the server says online"
    must online
    undisturbed

    # A runner started by hand next to the service.
    exits 78 runup run --work elsewhere
    says "$unit"
    undisturbed

    exits 0 runup remove
    must no_runner
    must as_root id other
    absent $tree "/etc/systemd/system/$unit"
}

# How often runup has looked for runners on the server.
looks() { control GET requests | jq '[.[] | select(.route == "get-runner" or .route == "list-runners")] | length'; }
looked_more_than() { (($(looks) > $1)); }

registered_as() { same "$1" "$(jq --raw-output .workFolder <(sed '1s/^\xef\xbb\xbf//' "$root$tree/.runner"))" "the work directory"; }

# A power cut interrupts a run while it waits for its service. The next run finishes it, although all that is left to do is to
# wait for the server.
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
    within 60 waits_for_it "$file"
    must offline
    inside pkill --signal=CONT --full "^/bin/bash $tree/bin/Runner.Listener run"
    within 60 inactive converge
    undisturbed
}

# The journal records that the service was started, and the run that recorded it has not ended.
waits_for_it() {
    [[ $(jq --raw-output '.entries[] | select(.step == "start-service") | .state' "$1") == "done" ]] && active converge
}
