# The runner's user: one of a directory service, and the groups that a drop-in adds.

# A source of users that a static program does not see: Debian's libnss-extrausers has them in a directory of its own.
with_another_source() {
    local kept=${base%/*}/debs-extrausers-${base##*-} database
    (
        exec {debs_lock}>"${base%/*}/debs.lock"
        flock --wait 600 "$debs_lock"
        [[ -d $kept ]] || fetch_debs "$kept" libnss-extrausers
    )
    cp "$kept"/libnss-extrausers_*.deb "$root/extrausers.deb"
    chroot "$root" dpkg --install /extrausers.deb >"$here/extrausers.log" 2>&1
    for database in passwd group; do
        sed --in-place "s/^$database:.*/$database: files systemd extrausers/" "$root/etc/nsswitch.conf"
    done
    mkdir --parents "$root/var/lib/extrausers"
    printf 'ci:x:7001:\nbuilders:x:7002:ci\n' >"$root/var/lib/extrausers/group"
    : >"$root/var/lib/extrausers/passwd"
}

# job_prints COMMAND: the words that a job's command prints.
job_prints() {
    local job
    job=$(control POST jobs "$(jq --null-input --arg script "echo \"job: \$($1 | xargs)\"" '{scope: "orgs/acme", script: $script}')" | jq .id)
    within 60 job_done "$job"
    state --argjson id "$job" '.jobs[] | select(.id == $id) | .log' | sed --quiet 's/^job: //p'
}

says_waiting() { inside journalctl --quiet --unit="$1" --output=cat | grep "waiting for it" >/dev/null; }

# A user of a directory service is waited for, used with its groups, and neither created nor deleted.
scenario_user_of_a_service() {
    local kind first
    server
    machine
    with_another_source
    credentials
    switch_on
    as_root install --directory --owner=7001 --group=7001 --mode=700 /home/ci
    exits 75 runup plan --user ci
    says "the user ci" extrausers /etc/nsswitch.conf
    exits 75 runup install --user ci --deadline 20s
    says "the user ci" extrausers "getent passwd ci"
    absent $tree /var/spool/mail/ci
    must_not grep '^ci:' "$root/etc/passwd"
    # The service appears while it is waited for.
    in_background converge /usr/bin/runup install --user ci
    within 60 says_waiting converge
    must no_runner
    echo 'ci:x:7001:7001::/home/ci:/bin/sh' >"$root/var/lib/extrausers/passwd"
    within 60 online
    within 60 inactive converge
    same ci "$(inside ps -o user:32= --pid "$(property $unit MainPID)")" "the service's user"
    for kind in "" --ephemeral; do
        exits 0 runup install --user ci $kind
        within 60 online
        first=$(runner_id)
        same "ci 7001 7002" "$(job_prints '{ id -un; id -G | tr " " "\n" | sort -n; }')" "the user and the groups of a job of a service $kind"
        [[ -z $kind ]] || within 60 fresh_runner "$first"
    done
    status_is 0 .user ci .isolated true
    # Its own group of the service is nobody else's, and no local one was created.
    must_not grep '^runup-ci:' "$root/etc/group"
    # The default user is still a local one.
    exits 0 runup remove
    must no_runner
    absent $tree "/etc/systemd/system/$unit"
    same /home/ci "$(inside getent passwd ci | cut -d: -f6)" "that user's home"
    must test -d "$root/home/ci"
    exits 0 runup install
    must grep --quiet '^actions-runner:' "$root/etc/passwd"
    exits 0 runup remove
    must_not grep '^actions-runner:' "$root/etc/passwd"
}

# What a drop-in adds to the groups of a supervisor, which is root, is the runner's; root's own groups are not.
scenario_groups_of_a_drop_in() {
    local first
    server
    machine
    credentials
    switch_on
    as_root sh -c 'groupadd --gid 7010 device && groupadd --gid 7011 docker'
    exits 0 runup install --ephemeral
    within 60 online
    first=$(runner_id)
    same "$(inside id -g actions-runner)" "$(job_prints 'id -G')" "the groups of a job without a drop-in"
    within 60 fresh_runner "$first"
    install -D --mode=644 /dev/stdin "$root/etc/systemd/system/$unit.d/groups.conf" <<<$'[Service]\nSupplementaryGroups=root device\nSupplementaryGroups=docker'
    inside systemctl daemon-reload
    first=$(runner_id)
    inside systemctl restart $unit
    within 60 fresh_runner "$first"
    same "7010 7011 $(inside id -g actions-runner)" "$(job_prints 'id -G | tr " " "\n" | sort -n')" "the groups of a job"
    within 60 journal_says $unit "jobs do not get the group root"
    within 60 online
    status_is 0 .isolated false '.ways_to_root[0]' "member of the group docker"
    exits 0 runup install --ephemeral
    says "jobs are not isolated" "member of the group docker"
    exits 0 runup remove
    must no_runner
}

# An image that is baked for group 0 runs as any user of that group, as in OpenShift: it has no entry in the user database, no
# home directory, and may write what the group may.
scenario_any_user_of_group_0() {
    local anyone
    server
    machine
    credentials
    switch_on
    anyone=(setpriv --reuid=1000650000 --regid=0 --clear-groups)
    # A container gets its settings by variables; the token of a mounted secret can be read by its group.
    printf '%s\n' "$api_token" >"$root/etc/anyone-token"
    chmod 440 "$root/etc/anyone-token"
    anyone+=(env RUNUP_DIR=/opt/runner/actions-runner "RUNUP_URL=$org_url" RUNUP_TOKEN_FILE=/etc/anyone-token)
    exits 0 runup bake --user root --dir /opt/runner/actions-runner
    exits 0 runup bake --user root --dir /opt/runner/actions-runner
    says "nothing to do"
    # It is too old by now, and replaced by the user of the container.
    control POST versions '{"version":"2.340.0"}'
    control POST deprecations '{"version":"2.336.0","registration_deprecates_at":"2020-01-01T00:00:00Z"}'
    in_background anyone "${anyone[@]}" /usr/bin/runup run --ephemeral --after-job stop
    within 60 online
    same 2.340.0 "$(state '.runners[0].version')" "the version on the server"
    same "1000650000 0" "$(job_prints 'echo $(id -u) $(id -G)')" "the user and the groups of a job"
    within 60 inactive anyone
    must no_runner
    # A user of no group of root's may do nothing there.
    must_not inside setpriv --reuid=1000650000 --regid=1000 --clear-groups ls /var/lib/runup
    exits 0 runup remove --user root --dir /opt/runner/actions-runner
    absent /opt/runner/actions-runner
}
