# Machines that an older runup set up: their trees belong to the runner's user, and jobs may have changed them.

with_old_service() {
    server
    machine
    credentials
    install --mode=755 "$RUNUP_OLD_BIN" "$root/usr/bin/runup"
    switch_on
    exits 0 runup install "$@"
    must online
}

# As a package upgrade does: another file with the same name.
new_program() {
    install --mode=755 "$bin" "$root/usr/bin/runup.new"
    mv "$root/usr/bin/runup.new" "$root/usr/bin/runup"
}

# What a job in the old tree plants for the next program, without breaking the runner.
old_job() {
    cat <<'OLD'
cd $tree
printf 'EVIL=evil-value\nhttp_proxy=http://127.0.0.1:9\n' >>.env
printf '%s' "/srv/loot/evil:$PATH" >.path
printf '[{"group":"evil","detail":"EVIL"}]' >.setup_info
for program in config.sh env.sh run-helper.sh svc.sh runsvc.sh run.sh; do
    plant $program <<<'#!/bin/bash
(id -u; env) >>/srv/loot/ran
exit 1'
done
cat >$loot/snooper.sh <<'SNOOPER'
while :; do
    cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' '\n' | grep -a "INPUT_TOKEN=." >>/srv/loot/seen
    sleep 0.02
done
SNOOPER
escape 'exec bash /srv/loot/snooper.sh'
OLD
}

scenario_conversion_of_a_machine_of_before() {
    local job
    with_old_service
    hostile "$(old_job)"
    victim
    new_program
    # The running job gets its time.
    hold
    job=$(job_begin "$held; echo whole")
    within 60 busy
    release_once processes '^/usr/bin/runup install'
    attempt runup install
    released
    succeeded
    same Succeeded "$(job_of "$job" .result)" "the result of the job that ran"
    within 60 own_online
    same 1 "$(state '[.runners[] | select(.name != "victim")] | length')" "the number of this machine's runners"
    # The names of the old file's lines are printed, without their values, and the file is kept where only root can read it.
    says EVIL
    must_not grep --quiet evil-value "$here/stdout" "$here/stderr"
    must grep --recursive --quiet evil-value "$root/var/lib/runup" "$root/opt"
    converted
    reboot
    within 60 own_online
    converted
    exits 0 runup install
    says "nothing to do"
    exits 0 runup remove
    victim_lives
    absent $tree
    absent $loot/ran
    nothing_was_taken
}

# A tree like a new one, and nothing of the old jobs in it.
converted() {
    local user
    user=$(inside stat --format=%U $tree/_work)
    only_logs_and_work $tree "$user"
    hostile 'env; cat $tree/.setup_info; echo over'
    job_does_not_say EVIL
    job_does_not_say "$loot/evil"
    absent $loot/ran
    nothing_was_taken
    status_is 0 .state registered
}

# Without a credential nothing can be re-registered: the runner keeps running as it is, and status reports it.
scenario_conversion_without_a_credential() {
    local before
    with_old_service
    before=$(runner_id)
    hostile 'echo FOO=bar >>$tree/.env'
    new_program
    printf 'url = "%s"\n' "$org_url" >"$root/etc/runup/config.toml"
    rm "$root/etc/runup/token"
    attempt runup install
    succeeded
    must online
    attempt runup status
    says "not locked"
    reboot
    within 60 online
    same "$before" "$(runner_id)" "the runner's id"
    hostile 'echo still at work'
    job_says "still at work"
    # With a credential again, it is converted.
    credentials
    exits 0 runup install
    within 60 online
    converted
}

# A server that does not answer, an archive that is not available: the old runner keeps working.
scenario_conversion_that_cannot_be_done() {
    local before
    with_old_service
    before=$(runner_id)
    new_program
    fault '{"route":"archive","kind":"status","code":404}'
    attempt runup install --deadline 40s
    no_faults
    within 60 online
    same "$before" "$(runner_id)" "the runner's id"
    fault '{"route":"registration-token","kind":"status","code":403}'
    attempt runup install --deadline 40s
    no_faults
    within 60 online
    hostile 'echo still at work'
    job_says "still at work"
    exits 0 runup install
    within 60 online
    converted
}

# Two old runners share a user: converting the first one does not stop the second.
scenario_conversion_beside_a_runner_of_the_same_user() {
    local second
    with_old_service
    exits 0 runup install --dir /opt/second --name second
    within 60 online 2
    new_program
    second=$(property runup-second.service MainPID)
    attempt runup install
    succeeded
    within 60 online 2
    same "$second" "$(property runup-second.service MainPID)" "the process of the second runner"
    attempt runup remove --dir /opt/actions-runner --drain 10s
    succeeded
    same "$second" "$(property runup-second.service MainPID)" "the process of the second runner"
    within 60 online
    hostile 'echo still at work' second
    job_says "still at work"
    # Now the only runner of its user, it is converted.
    exits 0 runup install --dir /opt/second --name second
    within 60 online
    only_logs_and_work /opt/second "$(inside stat --format=%U /opt/second/_work)"
    exits 0 runup remove --dir /opt/second
    must no_runner
}

# The server is not reachable at that moment: the service keeps running, or runs again.
scenario_conversion_without_a_server() {
    with_old_service
    new_program
    fault '{"route":"registration-token","kind":"status","code":502}'
    attempt runup install --deadline 30s
    no_faults
    within 60 online
    must active $unit
    exits 0 runup install
    within 60 online
    converted
}

# A runner that was set up by hand, with GitHub's svc.sh, and whose jobs have left programs and processes.
scenario_adoption_of_a_tampered_runner() {
    local before other
    set_up_by_hand
    # In its service's control group, a hidden process does not outlive it; root's other jobs of the same user are another matter.
    hostile "$(old_job | grep --invert-match EVIL=evil-value | sed 's|^escape .*|hide bash /srv/loot/snooper.sh|')"
    exits 0 runup install --adopt --dir $hand
    within 60 online
    same "$before" "$(runner_id)" "the runner's id"
    absent "/etc/systemd/system/$hand_unit" $loot/ran
    only_logs_and_work $hand alice
    # What jobs could have written is shown before it stays.
    says "PATH=/srv/loot/evil"
    nothing_was_taken
    hostile 'cat $tree/.setup_info; echo over'
    job_does_not_say evil
    exits 0 runup remove --dir $hand
    must no_runner
    absent $hand $loot/ran
}
