# The machines themselves, which the other scenarios rely on.

# systemd is process 1, no unit has failed, runup starts, and the machine survives a reboot and a power cut.
scenario_boot() {
    machine
    switch_on
    same running "$(inside systemctl is-system-running)" "the machine's state"
    same systemd "$(inside cat /proc/1/comm)" "process 1"
    exits 0 runup --version
    says runup
    local id
    id=$(<"$root/etc/machine-id")
    as_root touch /var/lib/kept
    reboot
    must test -e "$root/var/lib/kept"
    as_root sh -c 'touch /var/lib/kept2 && sync'
    power_cut
    switch_on
    must test -e "$root/var/lib/kept2"
    same "$id" "$(<"$root/etc/machine-id")" "the machine's id"
    same 3 "$(journal --list-boots | wc --lines)" "the number of boots"
    switch_off
}

# Without runup's unit: the fake runner, started by hand with GitHub's unit template, goes online under a real systemd, comes
# back after a reboot, and is removed.
scenario_unit_by_hand() {
    server
    machine
    credentials
    switch_on
    exits 0 runup install --service none
    same 1 "$(runners)" "the number of runners"
    must offline
    local unit=$root/etc/systemd/system/by-hand.service
    sed --expression 's|{{Description}}|by hand|; s|{{RunnerRoot}}|/opt/actions-runner|; s|{{User}}|actions-runner|' \
        "$root/opt/actions-runner/bin/actions.runner.service.template" >"$unit"
    cp "$root/opt/actions-runner/bin/runsvc.sh" "$root/opt/actions-runner/runsvc.sh"
    inside systemctl daemon-reload
    inside systemctl enable --now by-hand.service
    within 60 online
    reboot
    within 60 online
    same 1 "$(requests register)" "the number of registrations"
    # Two services would fight for the runner's session.
    exits 78 runup install
    says by-hand.service "--adopt"
    exits 0 runup remove
    must no_runner
    absent /opt/actions-runner /var/lib/runup/journal.json /etc/systemd/system/by-hand.service
    must_not grep '^actions-runner:' "$root/etc/passwd"
}
