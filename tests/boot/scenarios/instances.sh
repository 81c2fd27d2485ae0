# Several runners of one configuration, and the target that they belong to.

# A machine with that many runners, which are online; the rest are flags of `install`.
with_instances() {
    local number=$1
    shift
    server
    machine
    credentials
    printf 'name = "box"\n' >>"$root/etc/runup/config.toml"
    switch_on
    exits 0 runup install --count "$number" "$@"
    within 60 online "$number"
}

# The unit of the instance with this number.
unit_of() { if (($1 == 1)); then echo runup-actions-runner.service; else echo "runup-opt-actions\\x2drunner\\x2d$1.service"; fi; }
main_of() { property "$(unit_of "$1")" MainPID; }
all_active() { local number; for number in $(seq "$1"); do active "$(unit_of "$number")" || return; done; }
none_active() { local number; for number in $(seq "$1"); do inactive "$(unit_of "$number")" || return; done; }
busy_runner() { [[ $(state --arg name "$1" '.runners[] | select(.name == $name) | .busy') == true ]]; }
# The user of the instance cannot reach the cloud's metadata.
denied() { [[ $(ip rule list priority 1) == *"uidrange $(inside id --user "actions-runner-$1")-"* ]]; }
names() { state '[.runners[].name] | sort | join(" ")'; }

scenario_four_instances() {
    with_instances 1
    # A count of one is what was there before, and more of them do not touch it.
    absent /etc/systemd/system/runup.target
    local before from number
    before=$(main_of 1)
    cat >>"$root/etc/runup/config.toml" <<'CONFIG'
count = 4
[instance.3]
labels = ["gpu"]
allow-metadata = true
CONFIG
    from=$(now)
    exits 0 runup install
    note "three more online after $(since "$from")"
    must online 4
    same "$before" "$(main_of 1)" "the process of the first runner"
    same "box box-2 box-3 box-4" "$(names)" "the runners"
    same "box-3" "$(state '.runners[] | select([.labels[] | .name? // .] | index("gpu")) | .name')" "the runner with the label"
    must all_active 4
    for number in 2 3 4; do
        must inside id "actions-runner-$number"
        same "actions-runner-$number" "$(property "$(unit_of "$number")" User)" "the user of the unit"
    done
    # What one sets for itself holds for it alone, also in the commands of its unit.
    must_not denied 3
    must denied 4
    # All stop and start together.
    exits 0 inside systemctl stop runup.target
    within 60 none_active 4
    within 60 offline 4
    exits 0 inside systemctl start runup.target
    within 60 online 4
    reboot
    within 60 online 4
    must active runup.target
    same 4 "$(runners)" "the number of runners"
    exits 0 runup status
    says actions-runner-4 box-4
    exits 78 runup remove
    says "4 runners"
    exits 0 runup remove --instance 4
    same "box box-2 box-3" "$(names)" "the runners"
    must active runup.target
    exits 0 runup remove --all
    must no_runner
    absent /etc/systemd/system/runup.target /etc/systemd/system/runup.target.wants \
        /etc/systemd/system/multi-user.target.wants/runup.target
    absent /opt/actions-runner /opt/actions-runner-2 /opt/actions-runner-3
    must_not inside id actions-runner-3
    exits 0 inside systemctl daemon-reload
}

scenario_lower_count() {
    with_instances 3
    local short long asked
    short=$(held_job box-3)
    long=$(script "sleep 600" box-2)
    within 60 busy_runner box-3
    within 60 busy_runner box-2
    # One ends its job in time; the other one has it for longer, and goes on with it. Whether they are idle shows when the server is
    # asked to delete them.
    asked=$(asked delete-runner)
    release_once asked_more_than $((asked + 1)) delete-runner
    exits 75 runup install --count 1 --drain 25s
    released
    says "box-2" "still running a job, and stays"
    must job_done "$short"
    same Succeeded "$(job_of "$short" .result)" "the result of the short job"
    same "box box-2" "$(names)" "the runners"
    must active "$(unit_of 2)"
    must busy_runner box-2
    absent /opt/actions-runner-3
    must_not inside id actions-runner-3
    must online 2
    exits 0 runup remove --instance 2
    same "box" "$(names)" "the runners"
    absent /opt/actions-runner-2 /etc/systemd/system/runup.target
    echo "the long job was $long"

    # One that registers by itself must not come back once it is off the server.
    exits 0 runup remove
    exits 0 runup install --ephemeral --count 2
    within 60 online 2
    short=$(held_job box-2)
    within 60 busy_runner box-2
    asked=$(asked delete-runner)
    release_once asked_more_than "$asked" delete-runner
    exits 0 runup install --ephemeral --count 1 --drain 60s
    released
    within 60 job_done "$short"
    same Succeeded "$(job_of "$short" .result)" "the result of the job"
    absent /opt/actions-runner-2
    same "box" "$(names)" "the runners"
    exits 0 runup remove
    must no_runner
}
