# The power fails during the first boot with cloud-init, anywhere between power-on and a while after the runner is online. After
# the next boot there must be exactly one runner.
#
# The instants are random: two fifths of them until runup starts, the rest while runup works, as long as the two take today.
# RUNUP_BOOT_SEED repeats the same fractions.

# Four cuts of the twenty: $1, $1 + 5, $1 + 10 and $1 + 15, so that the five scenarios can run in parallel.
power_cuts_in_the_first_boot() {
    local cut seed=${RUNUP_BOOT_SEED:-$(od --address-radix=n --format=u2 --read-bytes=2 /dev/urandom)}
    # Milliseconds. The first cut is an early one: what follows it is as good as a first boot, and is measured.
    local before=3000 during="" from ms places=()
    seed=$((seed))
    note "RUNUP_BOOT_SEED=$seed"
    for ((cut = $1; cut < 20; cut += 5)); do
        RANDOM=$((seed + cut))
        start_of_first_boot
        switch_on_at_once
        if ((cut < 8)); then
            ms=$(((cut * 1000 + RANDOM % 1000) * before / 8000))
        else
            within 90 runup_has_started
            # Until some time after the end.
            ms=$((((cut - 8) * 1000 + RANDOM % 1000) * during / 11000))
        fi
        sleep "$(awk -v ms=$ms 'BEGIN { print ms / 1000 }')"
        power_cut
        places+=("$cut: $(how_far)")
        echo "cut ${places[-1]}"
        (($(runners) <= 1)) || fail "two runners after cut $cut"
        no_runner || forget_session
        # The next boot converges by itself.
        from=$(now)
        switch_on_at_once
        if [[ -z $during ]]; then
            within 90 runup_has_started
            before=$((($(now) - from) / 1000000))
        fi
        within 90 online
        if [[ -z $during ]]; then
            during=$((($(now) - from) / 1000000 - before))
            note "a first boot: $before ms and $during ms"
        fi
        within 60 is_up
        converged
        one_runner_and_no_litter
        end_of_first_boot
    done
    for ms in "${places[@]}"; do note "$ms"; done
}

runup_has_started() { [[ -e $root/var/lib/runup ]]; }

# A server, and a machine before its first boot. config.sh and the server are as slow as real ones, so that a cut can happen
# between the server's state and the disk's.
start_of_first_boot() {
    server
    machine
    packaged
    shipped persistent | user_data
    fault '{"route":"runner-registration","kind":"delay","ms":150}'
    fault '{"route":"register","kind":"delay-after","ms":300}'
    fault '{"route":"archive","kind":"slow","bytes_per_second":400000}'
}

end_of_first_boot() {
    power_cut
    forget_machine
    server_off
}

# How far the interrupted boot had come, judging by the disk and the server.
how_far() {
    local journal begun
    journal=$(find "$root/var/lib/runup" -name '*.json' 2>/dev/null | head --lines=1)
    if [[ -n $journal ]]; then
        begun=$(jq --raw-output '[.entries[] | select(.state == "begun") | .step] | join(", ")' "$journal")
        echo "in ${begun:-between steps}, $(runners) on the server"
    elif runup_has_started; then
        echo "runup had started"
    elif [[ -e $root/var/lib/cloud/instances/$machine/sem/config_scripts_user ]]; then
        echo "user-data ran"
    elif [[ -e $root/var/lib/cloud/instances ]]; then
        echo "cloud-init ran"
    else
        echo "systemd started"
    fi
}

scenario_power_cuts_in_the_first_boot_1() { power_cuts_in_the_first_boot 0; }
scenario_power_cuts_in_the_first_boot_2() { power_cuts_in_the_first_boot 1; }
scenario_power_cuts_in_the_first_boot_3() { power_cuts_in_the_first_boot 2; }
scenario_power_cuts_in_the_first_boot_4() { power_cuts_in_the_first_boot 3; }
scenario_power_cuts_in_the_first_boot_5() { power_cuts_in_the_first_boot 4; }

# cloud-init considers an interrupted step done. Everything that the user-data does before it enables the unit, such as
# downloading runup, is still repeated by the next boot.
scenario_power_cut_before_the_unit_is_enabled() {
    server
    machine
    packaged
    shipped persistent | sed 's/^  - set -e$/&\n  - test ! -e \/root\/slow || sleep 600/' | user_data
    touch "$root/root/slow"
    switch_on_at_once
    within 60 processes 'sleep 600'
    power_cut
    rm "$root/root/slow"
    switch_on
    within 60 online
    cloud_init "done"
    registered_once
    reboot
    within 60 sessions 2
    converged
    registered_once
}
