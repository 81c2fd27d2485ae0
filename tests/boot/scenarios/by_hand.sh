# Runners that were set up as GitHub's page says: config.sh as an ordinary user, then `sudo ./svc.sh install`.

hand=/opt/hand
hand_unit=actions.runner._services.build-7.service
new_unit=runup-opt-hand.service
dropin=/etc/systemd/system/$new_unit.d

# A machine with such a runner, and with the service of another runner, which nothing here may touch.
set_up_by_hand() {
    server
    machine
    credentials
    switch_on
    exits 0 runup bake --dir /opt/template
    as_root cp --archive /opt/template $hand
    exits 0 runup remove --dir /opt/template
    as_root rm --recursive --force $hand/.env $hand/.path $hand/.setup_info $hand/run-helper.sh
    as_root useradd --create-home alice
    as_root chown --recursive alice:alice $hand
    as_root chmod --recursive u+w,o-t $hand
    as_alice ./config.sh --url "$org_url" --name build-7 --labels gpu --unattended --token "$(runup token registration)"
    as_root sh -c "cd $hand && SUDO_USER=alice ./svc.sh install && ./svc.sh start"
    within 60 online
    other=$root/etc/systemd/system/actions.runner._services.other.service
    sed "s|$hand|/opt/other|" "$root/etc/systemd/system/$hand_unit" >"$other"
    cp "$other" "$here/other"
    before=$(runner_id)
}

as_alice() { as_root setpriv --reuid=alice --regid=alice --init-groups env --chdir=$hand HOME=/home/alice "$@"; }

# What a job leaves running without the marks by which a runner ends it. It has them until it is another program, and only then
# closes the pipe for which the job waits.
hidden=': "$(env --ignore-environment PATH="$PATH" setsid sh -c "exec sleep 600 </dev/null >/dev/null 2>&1" &)"'

# A job that runs SCRIPT; prints its number.
script_job() { jq --null-input --arg script "$1" '{scope: "orgs/acme", script: $script}' >"$here/job.json" && control POST jobs "@$here/job.json" | jq .id; }
of_job() { state --argjson id "$1" ".jobs[] | select(.id == \$id) | $2"; }

# The one that was set up by hand runs as before, and runup knows nothing of it.
still_by_hand() {
    within 60 online
    must active $hand_unit
    must enabled $hand_unit
    same "$before" "$(runner_id)" "the runner's id"
    same alice "$(inside stat --format=%U $hand/.runner)" "the owner of its files"
    absent "/etc/systemd/system/$new_unit" "/run/systemd/system/$hand_unit.d"
    must_not ls "$root"/var/lib/runup/*hand*.json
    others_untouched
    local id
    id=$(script_job 'echo still at work')
    within 60 job_done "$id"
    same Succeeded "$(of_job "$id" .result)" "the result of a job"
}

others_untouched() { must cmp "$other" "$here/other"; }

nothing_of_it() {
    within 60 no_runner
    absent $hand "/etc/systemd/system/$hand_unit" "/etc/systemd/system/$new_unit" "/run/systemd/system/$hand_unit.d"
    absent "/etc/systemd/system/multi-user.target.wants/$hand_unit"
    must_not ls "$root"/var/lib/runup/*hand*.json
    # Without those that only wait for process 1.
    must_not inside pgrep --uid alice --runstates D,R,S,T
    others_untouched
}

scenario_made_by_hand_adopted() {
    local id pid before other
    set_up_by_hand
    as_alice sh -c 'echo CACHE=/srv/cache >>.env'
    exits 78 runup install --dir $hand
    says "--adopt"
    exits 0 runup plan --adopt --dir $hand
    says "take over build-7 (id $before)" "$hand_unit" CACHE
    still_by_hand

    # Its job is not cancelled: without enough time, nothing has happened.
    pid=$(property $hand_unit MainPID)
    hold
    id=$(script_job "$held; echo whole; $hidden")
    within 60 busy
    exits 75 runup install --adopt --dir $hand --drain 1s
    says "not idle"
    same "$pid" "$(property $hand_unit MainPID)" "the process of its service"
    release_once says_to_wait
    exits 0 runup install --adopt --dir $hand
    released
    same Succeeded "$(of_job "$id" .result)" "the result of the job that ran"
    must online
    same 1 "$(runners)" "the number of runners"
    same "$before" "$(runner_id)" "the runner's id"
    same gpu "$(state '.runners[0].labels | map(if type == "object" then .name else . end) | map(select(. == "gpu")) | .[]')" "its own label"
    absent "/etc/systemd/system/$hand_unit" "/run/systemd/system/$hand_unit.d"
    must active $new_unit
    must enabled $new_unit
    same alice "$(property $new_unit User)" "the user of its service"
    same root "$(inside stat --format=%U $hand/bin/Runner.Listener)" "the owner of its programs"
    same "root 640" "$(inside stat --format='%U %a' $hand/.credentials)" "its credentials"
    must_not inside pgrep --uid alice --full "sleep 600"
    others_untouched
    exits 0 runup status --dir $hand --json
    same registered "$(jq --raw-output .state "$here/stdout")" "its state"
    same sealed "$(jq --raw-output .guard "$here/stdout")" "its guard"
    same "[]" "$(jq --compact-output .drift "$here/stdout")" "what differs"
    id=$(script_job 'echo "cache=$CACHE user=$(id --user --name)"')
    within 60 job_done "$id"
    of_job "$id" .log | grep "cache=/srv/cache user=alice" >/dev/null || fail "the job printed: $(of_job "$id" .log)"

    exits 0 runup install --dir $hand
    says "nothing to do"
    exits 0 runup plan --dir $hand
    reboot
    within 60 online
    same "$before" "$(runner_id)" "the runner's id"
    exits 0 runup remove --dir $hand
    nothing_of_it
    must inside id alice
}

scenario_made_by_hand_removed() {
    local before other
    set_up_by_hand
    # A job may write any name there.
    as_alice sh -c 'rm --force .service && echo ssh.service >.service'
    exits 78 as_alice /usr/bin/runup remove --dir $hand --url "$org_url"
    says "as root"
    script_job "$hidden" >/dev/null
    within 60 inside pgrep --uid alice --full "sleep 600"
    exits 0 runup remove --dir $hand --url "$org_url" --drain 20s
    says "$hand_unit"
    nothing_of_it
}

# Whatever goes wrong, the runner that was set up by hand works.
scenario_made_by_hand_kept() {
    local before other
    set_up_by_hand
    for broken in '{"route":"archive","kind":"status","code":404}' '{"route":"registration-token","kind":"status","code":403}' \
        '{"route":"runner-registration","kind":"status","code":403}' '{"route":"register","kind":"status","code":500}'; do
        fault "$broken"
        echo "+ with $broken"
        code=0
        runup install --adopt --dir $hand --deadline 60s >"$here/stdout" 2>"$here/stderr" || code=$?
        sed 's/^/  err: /' "$here/stderr"
        ((code != 0 && code != 124)) || fail "it ended with $code with $broken"
        no_faults
        still_by_hand
    done
    # Nor a new service that neither comes online nor ends. With --self-update, the tree and its registration stay.
    as_root install --directory $dropin
    as_root sh -c "printf '[Service]\\nExecStart=\\nExecStart=/bin/sh -c \"trap : TERM INT; while :; do sleep 1; done\"\\n' >$dropin/hang.conf"
    exits 75 runup install --adopt --self-update --dir $hand --deadline 40s
    says "not undone" "$hand_unit is started again"
    must_not enabled $new_unit
    still_by_hand
    inside systemctl kill --signal=KILL $new_unit
    as_root rm --recursive $dropin
    exits 78 runup install --adopt --dir $hand --url "$server_url/other"
    exits 78 runup install --adopt --dir $hand --name other
    says "build-7"
    exits 78 runup install --adopt --dir $hand --service none
    still_by_hand
    # Killed in the middle, and the machine loses its power: the next run finishes it.
    as_root env RUNUP_KILL_AT=place-renamed /usr/bin/runup install --adopt --dir $hand || true
    power_cut
    switch_on
    exits 0 runup install --dir $hand
    within 60 online
    same "$before" "$(runner_id)" "the runner's id"
    absent "/etc/systemd/system/$hand_unit"
    must active $new_unit
    exits 0 runup install --dir $hand
    says "nothing to do"
    exits 0 runup remove --dir $hand
    nothing_of_it
}
