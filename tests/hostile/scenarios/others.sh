# Other users of the machine, and their files and processes that root meets.

# A process of another user with the name of the runner's.
scenario_drain_held_up_by_another_user() {
    with_service
    as_root useradd --system --no-create-home other
    in_background decoy setpriv --reuid=other --regid=other --clear-groups bash -c \
        "cd /; exec -a $tree/bin/Runner.Worker tail --follow /dev/null"
    in_background decoy2 setpriv --reuid=other --regid=other --clear-groups bash -c \
        "cd /; exec -a /bin/bash tail $tree/bin/Runner.Worker -F spawnclient"
    in_background decoy3 setpriv --reuid=other --regid=other --clear-groups env RUNUP_LISTENER_DIR=$tree sleep 6000
    within 60 processes Runner.Worker
    attempt as_root timeout 60 /usr/bin/runup drain --deadline 40s
    succeeded
    attempt as_root timeout 170 /usr/bin/runup remove --drain 40s --deadline 120s
    succeeded
    # The other user's processes were not touched.
    must active decoy
    must active decoy3
}

# Another user can change a configuration that the user owns between two runs of root.
scenario_configuration_of_another_user() {
    server
    machine
    credentials
    switch_on
    as_root useradd --system --no-create-home other
    printf 'url = "%s"\ntoken-command = "touch /root/owned"\n' "$org_url" >"$root/etc/runup/config.toml"
    as_root chown other /etc/runup/config.toml
    attempt runup install
    absent /root/owned $tree
    same 78 "$code" "the exit code"
    says "chown root"
    # The same for the directory of the file.
    as_root chown root /etc/runup/config.toml
    as_root chown other /etc/runup
    attempt runup install
    absent /root/owned $tree
    same 78 "$code" "the exit code"
    # And for a directory above, with a path of the operator's choice.
    as_root chown root /etc/runup
    as_root install --directory --owner=other /srv/other /srv/other/below
    as_root cp /etc/runup/config.toml /srv/other/below/config.toml
    as_root chown root /srv/other/below
    attempt runup install --config /srv/other/below/config.toml
    absent /root/owned $tree
    same 78 "$code" "the exit code"
    says "-o root -m 644"
}

# Root's umask allows everyone to write; the files of runup do not.
scenario_umask_of_nothing() {
    local found
    server
    machine
    credentials
    switch_on
    as_root touch /root/before
    exits 0 as_root sh -c 'umask 000; exec runup install'
    must online
    hostile 'umask; touch $RUNNER_TEMP/file; stat --format=%a $RUNNER_TEMP/file; cat $tree/.credentials_rsaparams >/dev/null && echo read'
    job_says 0022
    found=$(find "$root" -xdev -newer "$root/root/before" -perm /o+w -not -type l -not -type s -not -path "$root/proc/*" \
        -not -path "$root/sys/*" -not -path "$root/dev/*" -not -path "$root/run/*" -not -path "$root$loot" -not -path "$root/tmp" \
        -not -path "$root/var/tmp" -not -path "$root/tmp/.*" -print)
    same "" "$found" "what everybody can write"
    # Nor can others read the runner's tree and home directory.
    as_root useradd --system --no-create-home other
    must_not as_root setpriv --reuid=other --regid=other --clear-groups cat $tree/.credentials
    must_not as_root setpriv --reuid=other --regid=other --clear-groups ls $tree
    must_not as_root setpriv --reuid=other --regid=other --clear-groups ls /home/actions-runner
}

# A runner whose user can become root is not isolated, and status reports it.
scenario_member_of_docker() {
    with_service
    same null "$(runup status --json | jq '.runners[0].isolated | if . == false then . else null end')" "isolated, of a runner that is"
    as_root groupadd --system docker
    as_root usermod --append --groups docker actions-runner
    runup status --json >"$here/stdout" || true
    same false "$(jq '.runners[0].isolated' "$here/stdout")" "isolated, of a member of docker"
    attempt runup status
    says docker
    attempt runup install
    says docker
}

# Two runners on one machine have two users, and deleting one does not affect the other.
scenario_two_runners_two_users() {
    local pid name
    with_service
    name=$(state '.runners[0].name')
    exits 0 runup install --dir /opt/second --name second
    within 60 online 2
    [[ $(stat --format=%u "$root/opt/second/_work") != $(stat --format=%u "$root$tree/_work") ]] || fail "both runners have the same user"
    hostile 'cd /opt/second && echo entered; cat /opt/second/.credentials && echo read; touch /opt/second/_work/x && echo written
kill -9 $(pgrep --full /opt/second/bin/Runner.Listener) && echo killed; echo over' "$name"
    for word in entered read written killed; do job_does_not_say $word; done
    pid=$(property runup-opt-second.service MainPID)
    # Deletes the first user, with all of its processes.
    hostile 'hide sleep 6000; escape "exec sleep 6000"; echo over' "$name"
    exits 0 runup remove --dir /opt/actions-runner
    must_not processes "sleep 6000"
    same "$pid" "$(property runup-opt-second.service MainPID)" "the second service's process"
    hostile 'echo still here' second
    job_says "still here"
    only_logs_and_work /opt/second "$(inside stat --format=%U /opt/second/_work)"
    exits 0 runup remove --dir /opt/second
    must no_runner
}

# Two runners that share a user on purpose: the second one gets no token while jobs of the first one could read it.
scenario_a_user_that_is_shared() {
    with_service
    attempt runup install --dir /opt/second --name second --user actions-runner
    same 78 "$code" "the exit code"
    says "the user actions-runner also runs the runner in $tree"
    absent /opt/second
    same 0 "$(requests register | awk '{ print $1 - 1 }')" "registrations beside the first"
    inside systemctl stop $unit
    attempt runup install --dir /opt/second --name second --user actions-runner
    succeeded
    attempt runup remove --dir /opt/second
    succeeded
    must inside id actions-runner
    inside systemctl start $unit
    within 60 online
}

# The group of an existing user has other members: the runner gets a group of its own.
scenario_a_group_with_other_members() {
    server
    machine
    credentials
    switch_on
    as_root sh -c 'useradd --create-home --no-user-group --gid users ci && useradd --create-home --no-user-group --gid users other'
    exits 0 runup install --user ci
    must online
    same "0 runup-ci 750" "$(inside stat --format='%u %G %a' $tree)" "whose the tree is"
    must_not inside setpriv --reuid=other --regid=users --init-groups ls $tree
    hostile 'cat $tree/.runner >/dev/null && echo readable; touch $tree/x 2>&1'
    job_says readable
    job_says denied
    exits 0 runup remove
    must_not inside getent group runup-ci
    must inside id ci
    must no_runner
}
