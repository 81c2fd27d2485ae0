# First boots with cloud-init, with the user-data and the unit in packaging/.

# The file that the user-data's token command reads, in place of a cloud's secret manager.
vault=/root/vault

# The output of the user-data's commands; it is also on the console.
output=/var/log/cloud-init-output.log

# Gives the machine the user-data on stdin, as a cloud would.
user_data() {
    local seed=$root/var/lib/cloud/seed/nocloud
    rm --force "$root/etc/cloud/cloud-init.disabled"
    mkdir --parents "$seed"
    cat >"$seed/user-data"
    instance "$machine"
    # No other data source is tried, and what is shared with the host is not touched.
    printf 'datasource_list: [NoCloud, None]\nnetwork: {config: disabled}\nmanage_etc_hosts: false\nlocale: false\n' \
        >"$root/etc/cloud/cloud.cfg.d/99-boot.cfg"
}

# Sets the instance id: with a new one, the next boot is a first boot.
instance() {
    printf 'instance-id: %s\nlocal-hostname: %s\n' "$1" "$machine" >"$root/var/lib/cloud/seed/nocloud/meta-data"
}

# The user-data NAME of packaging/, with its placeholders replaced; runup is already in the machine.
shipped() {
    local file=$project/packaging/cloud-init/$1.yaml
    sed --expression "s|REPLACE-WITH-TOKEN-COMMAND|cat $vault|" \
        --expression "s|https://github.com/octo-org|$org_url|" \
        --expression '/REPLACE these three/,+3d' "$file" >"$here/user-data"
    must_not grep --quiet '^[^#]*REPLACE-WITH' "$here/user-data"
    must_not grep --quiet 'runup.deb' "$here/user-data"
    same 1 "$(grep --count --fixed-strings "url = \"$org_url\"" "$here/user-data")" "how often the URL is in $1.yaml"
    cat "$here/user-data"
}

# Adds lines to the configuration file in the user-data on stdin.
configured() {
    local line edits=()
    for line in "$@"; do edits+=(--expression "/^      url = /a\\      $line"); done
    sed "${edits[@]}"
}

# Installs the files of the package, and puts a token into the secret manager.
packaged() {
    install -D --mode=644 "$project/packaging/systemd/runup.service" "$root/usr/lib/systemd/system/runup.service"
    keep_secret "$api_token"
}

keep_secret() { install --mode=600 /dev/stdin "$root$vault" <<<"$1"; }

# A machine before its first boot, with the user-data NAME.
provisioned() {
    server
    machine
    packaged
    shipped "$1" | user_data
}

# Waits until cloud-init has finished, with this status: done, error.
cloud_init() {
    inside cloud-init status --wait >"$here/cloud-init" || true
    same "status: $1" "$(grep '^status:' "$here/cloud-init")" "what cloud-init says"
}

# What runup printed on the console since the last `console_from_here`.
console_from_here() { console_start=$(($(wc --bytes <"$here/console.log") + 1)); }
console() {
    tail --bytes="+${console_start:-1}" "$here/console.log" | tr --delete '\r' |
        sed --quiet --regexp-extended 's/^\[ *[0-9.]+\] (cloud-init|runup)\[[0-9]+\]: //p'
}

# on_the_console TEXT…: each is in a line there, and in cloud-init's log.
on_the_console() {
    local text
    console >"$here/said"
    for text in "$@"; do
        must grep --quiet --fixed-strings -- "$text" "$here/said"
        must grep --quiet --fixed-strings -- "$text" "$root$output"
    done
}

# Plain lines: no colours, no progress bar, no control characters, no endless lines.
plain() { must_not grep --quiet --perl-regexp '[\x00-\x08\x0b-\x1f\x7f]|.{400}' "$1"; }

# runup.service, which runs at every boot, has succeeded.
converged() {
    within "${1:-60}" ended runup.service
    same success "$(property runup.service Result)" "how runup.service ended"
}

scenario_cloud_init_to_online() {
    provisioned persistent
    local from
    from=$(now)
    switch_on_at_once
    within 90 online
    note "online $(since "$from") after power-on"
    within 60 is_up
    cloud_init "done"
    on_the_console 'the server says online' 'config.sh'
    plain "$here/said"
    plain "$root$output"
    must_not grep --quiet --fixed-strings "$api_token" "$root$output"
    must_not grep --recursive --quiet --fixed-strings "$api_token" "$root/var/lib/cloud" "$root/var/log"
    registered_once
    must enabled runup.service
    exits 0 inside cloud-init schema --system
    exits 0 inside systemd-analyze verify --man=no /usr/lib/systemd/system/runup.service
    same "" "$(cat "$here/stdout" "$here/stderr")" "what systemd finds fault with in the unit"
    local fetched
    fetched=$(requests archive)
    # The second boot changes nothing.
    reboot
    within 60 sessions 2
    cloud_init "done"
    converged
    registered_once
    same "$fetched" "$(requests archive)" "the number of downloads"
    note "second boot: off in $off_seconds, up in $boot_seconds"
}

# A machine for one job: deregistered and off when the job is done; with "again", the next job gets a new runner.
scenario_cloud_init_ephemeral() {
    provisioned ephemeral
    local job first
    switch_on_at_once
    within 90 online
    within 60 is_up
    cloud_init "done"
    job=$(job 1)
    within 60 is_off
    wait "$nspawn" || fail "systemd-nspawn exited with $?"
    leader="" nspawn=""
    must job_done "$job"
    must no_runner
    # If such a machine is not deleted, it becomes a new runner when it is switched on.
    switch_on
    within 60 online
    same 1 "$(runners)" "the number of runners"
    converged
    cloud_init "done"
    switch_off
    must no_runner

    shipped ephemeral | sed 's/after-job = "poweroff"/after-job = "again"/' >"$here/again"
    user_data <"$here/again"
    instance another
    switch_on
    within 60 online
    cloud_init "done"
    for _ in 1 2; do
        first=$(runner_id)
        job=$(job 1)
        within 60 job_done "$job"
        within 60 fresh_runner "$first"
        same 1 "$(runners)" "the number of runners"
    done
}

# The server is not reachable at first: its name does not resolve, then nothing listens, then it is up.
scenario_cloud_init_before_the_network() {
    local absence=${RUNUP_BOOT_ABSENCE:-20} from address
    server
    machine
    packaged
    # The name does not resolve until it is in /etc/hosts.
    rm --force "$root/etc/resolv.conf"
    address=$server_url org_url=${org_url/127.0.0.1/github.test}
    shipped persistent | configured 'allow-http = true' | user_data
    server_off
    switch_on_at_once
    within 60 grep --quiet github.test "$root$output"
    from=$(now)
    sleep "$((absence / 2))"
    sh -c "echo '127.0.0.1 github.test' >>'$root/etc/hosts'"
    sleep "$((absence - absence / 2))"
    must_not test -e "$root$tree/.runner"
    server_url=$address
    server_on
    note "no network for $(since "$from")"
    from=$(now)
    within 90 online
    note "online $(since "$from") after the network came up"
    within 60 is_up
    cloud_init "done"
    registered_once
    on_the_console 'github.test'
    plain "$here/said"
    reboot
    within 60 sessions 2
    converged
    registered_once
}

# Two runs of the user-data's last command and the unit, all in parallel: one of them registers, all succeed.
scenario_cloud_init_twice_at_once() {
    server
    machine
    packaged
    shipped persistent | sed 's/^  - runup install$/  - runup install \& one=$!; runup install \& two=$!; systemctl start runup.service; wait $one; wait $two; echo both ended well/' |
        user_data
    must grep --quiet 'wait \$one' "$root/var/lib/cloud/seed/nocloud/user-data"
    switch_on
    within 60 online
    cloud_init "done"
    on_the_console 'both ended well' 'waiting for the lock /var/lib/runup/' 'holds it'
    plain "$here/said"
    converged
    registered_once
    same 1 "$(requests archive)" "the number of downloads"
    # The same on a machine that is already a runner.
    as_root sh -c 'for i in 1 2 3; do runup install & done; systemctl restart runup.service; wait'
    converged
    registered_once
}

# Rebooted while the runner is downloaded, and switched off while config.sh runs, before and after the server has registered it:
# whatever was begun is undone or finished, and after the next boot there is one runner.
scenario_cloud_init_switched_off_in_the_middle() {
    provisioned persistent
    local middle route act from
    for middle in \
        'reboot archive {"kind":"stall","after":20000}' \
        'poweroff runner-registration {"kind":"delay","ms":3000}' \
        'poweroff register {"kind":"delay-after","ms":3000}'; do
        read -r act route middle <<<"$middle"
        instance "$route"
        fault "$(jq --arg route "$route" '. + {route: $route}' <<<"$middle")"
        from=$(asked "$route")
        switch_on_at_once
        within 60 asked_more_than "$from" "$route"
        leave "$act" 90
        note "$act at $route: off in $off_seconds with $(runners) runners left"
        no_faults
        switch_on
        within 60 online
        converged
        one_runner_and_no_litter
        exits 0 runup remove
        must no_runner
        switch_off
    done
}

# Number of requests of the route $1, whatever the answer.
asked() { control GET requests | jq --arg route "$1" '[.[] | select(.route == $route)] | length'; }
asked_more_than() { (($(asked "$2") > $1)); }

# One runner, online, and no litter of an interrupted run next to its directory or its journal.
one_runner_and_no_litter() {
    same 1 "$(runners)" "the number of runners"
    must online
    status_is 0 .state registered
    same actions-runner "$(ls --almost-all --ignore=.runup-store "$root/opt")" "what is in /opt"
    same "" "$(find "$root/var/lib/runup" -type f ! -name '*.json' ! -name '*.lock' -printf '%f ')" "what else is beside the journal"
}
