# The power fails during the first boot by cloud-init, anywhere between power-on and a while after the runner is online;
# the next boot must make exactly one runner of it, by itself.
#
# The instants are random: two fifths of them spread over the time until runup starts, the rest over what runup does, as
# long as the two take on this day. RUNUP_BOOT_SEED gives the same fractions again.

# Four cuts of the twenty: $1, $1 + 5, $1 + 10 and $1 + 15, so that the five scenarios can run side by side.
power_cuts_in_the_first_boot() {
    local cut seed=${RUNUP_BOOT_SEED:-$(od --address-radix=n --format=u2 --read-bytes=2 /dev/urandom)}
    # Milliseconds. The first cut is one of the early ones: what comes after it is as good as a first boot, and is measured.
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
            # To some time after the end.
            ms=$((((cut - 8) * 1000 + RANDOM % 1000) * during / 11000))
        fi
        sleep "$(awk -v ms=$ms 'BEGIN { print ms / 1000 }')"
        power_cut
        places+=("$cut: $(how_far)")
        echo "cut ${places[-1]}"
        (($(runners) <= 1)) || fail "two runners after cut $cut"
        no_runner || forget_session
        # What must come of it, by itself.
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

# A server and a machine that were never on. config.sh and the server take their time, as they do in life, so that a cut
# can fall between what the server knows and what is on disk.
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

# What the cut boot had come to, by what is on the disk and on the server.
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

# cloud-init takes a step that was cut off for done. What the user-data was to do before the unit was enabled, fetching
# runup for instance, is done by the next boot all the same.
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
    within 30 sessions 2
    converged
    registered_once
}
